package replicator

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

// A download is a snapshot as far as it has come. It outlives the round that began it: the
// next one asks for the rest.
type download struct {
	schema   [32]byte // the device's
	stage    *stage
	etag     string
	sum      wire.SnapshotSum
	at       int64 // bytes of the file that are staged, whole records
	size     int64 // of the file; 0: not known
	records  int
	rows     int // of all records
	seq      change.Seq
	tables   [32]byte // digest of the space's, as its records name them
	epochs   []change.Epoch
	complete bool
}

func (d *download) close() error {
	if d == nil {
		return nil
	}
	return d.stage.close()
}

// restart forgets what came: the file that it is of is gone.
func (d *download) restart(etag string) error {
	err := d.stage.close()
	*d = download{schema: d.schema, stage: &stage{limits: d.stage.limits}, etag: etag}
	return err
}

// add stages a record. The first one says what all are of; the others are read when they
// are applied.
func (d *download) add(body []byte, limits wire.Limits) error {
	if d.records == 0 {
		pull, err := wire.DecodePull(body, limits)
		if err != nil {
			return err
		}
		d.seq, d.epochs, d.rows, d.tables = pull.To, pull.Epochs, pull.Rows, pull.Tables.Digest()
		d.stage.check = d.check
	}
	if err := d.stage.write(body); err != nil {
		return err
	}
	d.at += wire.SnapshotHeader + int64(len(body))
	d.records++
	return nil
}

// check checks page n of the stage, where it is of the snapshot.
func (d *download) check(n int, pull *change.Pull) error {
	if n < d.records && (!pull.Full || pull.Done || pull.To != d.seq || len(pull.Lost) > 0) {
		return fmt.Errorf("record %d is no page of a snapshot at %d", n, d.seq)
	}
	return nil
}

// come returns how many rows have come, about.
func (d *download) come() int64 {
	if d.size == 0 {
		return 0
	}
	return int64(float64(d.rows) * float64(d.at) / float64(d.size))
}

// follows reports whether a page is of the history that the snapshot is of: else the master
// was restored from an older copy meanwhile.
func (d *download) follows(page *change.Pull) bool {
	n := 0
	for _, e := range page.Epochs {
		if e.First <= d.seq {
			if n == len(d.epochs) || e != d.epochs[n] {
				return false
			}
			n++
		}
	}
	return page.Full && n == len(d.epochs)
}

// offered reports whether a master answers a push with nothing but the offer of a snapshot.
func offered(first *change.Pull) bool {
	return !first.Done && first.To == 0 && first.Rows > 0 && len(first.Blocks) == 0 && len(first.Lost) == 0
}

// snapshot returns the whole snapshot that the master offers, or nil where it can't give it:
// then the pull goes on in pages. A connection that is cut is followed by another one as long
// as each brings something.
func (r *Replicator) snapshot(ctx context.Context, cr *capture.Round, round *Round) (*download, error) {
	schema := cr.Tables.Digest()
	if r.download != nil && r.download.schema != schema {
		if err := r.forgetDownload(); err != nil {
			return nil, err
		}
	}
	if r.download == nil {
		r.download = &download{schema: schema, stage: &stage{limits: r.o.Limits}}
	}
	d := r.download
	d.stage.cut(d.records) // pages that followed it in a round that was not complete
	for !d.complete {
		if err := r.o.Step("snapshot"); err != nil {
			return nil, err
		}
		at := d.at
		err := r.client.snapshot(ctx, cr.Device, d, func() {
			r.o.Progress(Progress{Phase: "pull", Rows: d.come(), Total: int64(d.rows), Bytes: d.at})
		})
		var problem *wire.Problem
		var busy *busyError
		var limit *wire.LimitError
		switch {
		case err == nil:
			d.complete = true
		case ctx.Err() != nil:
			return nil, err
		case errors.As(err, &limit) && d.at > at: // more likely a damaged length than a record that big
			r.log.Info("the snapshot is damaged, asking for the rest", "bytes", d.at, "of", d.size, "err", err)
		case errors.As(err, &problem) && !errors.As(err, &busy) && problem.Code != wire.CodeUnauthorized && problem.Code != wire.CodeForbidden,
			errors.As(err, &limit):
			r.log.Info("no snapshot, pulling in pages", "err", err)
			return nil, r.forgetDownload()
		case errors.Is(err, ErrOffline) && d.at > at, errors.Is(err, wire.ErrDigest) && d.at > at:
			r.log.Info("the snapshot was cut, asking for the rest", "bytes", d.at, "of", d.size, "err", err)
		case errors.Is(err, ErrOffline), busy != nil:
			return nil, fmt.Errorf("get a snapshot: %w", err)
		default: // of what came nothing is of use, where it is the end that does not fit
			return nil, errors.Join(fmt.Errorf("get a snapshot: %w", err), r.forgetDownload())
		}
	}
	round.PulledRows, round.PulledBytes, round.SnapshotRows = d.rows, d.at, d.rows
	return d, nil
}

// forgetDownload lets go of what is staged of a snapshot.
func (r *Replicator) forgetDownload() error {
	d := r.download
	r.download = nil
	return d.close()
}

// snapshot asks for a snapshot, or for the rest of one, and stages each record as it comes.
// The time that the client has is for each record.
func (c *client) snapshot(ctx context.Context, device change.DeviceID, d *download, staged func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(c.timeout, func() { cancel(fmt.Errorf("nothing came in %v", c.timeout)) })
	defer slow.Stop()
	header := make(http.Header)
	if d.at > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", d.at))
		header.Set("If-Range", d.etag)
	}
	query := url.Values{"device": {device.String()}, "schema": {hex.EncodeToString(d.schema[:])}}
	resp, err := c.do(ctx, http.MethodGet, "snapshot?"+query.Encode(), nil, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); kind != wire.SnapshotType {
		return &offlineError{cause: fmt.Errorf("the answer is %q, no snapshot", kind)}
	}
	if etag := resp.Header.Get("ETag"); resp.StatusCode == http.StatusOK || etag != d.etag {
		if resp.StatusCode != http.StatusOK {
			return errors.Join(&offlineError{cause: errors.New("the rest of another snapshot came")}, d.restart(""))
		}
		if err := d.restart(etag); err != nil {
			return err
		}
	}
	if resp.ContentLength >= 0 {
		d.size = d.at + resp.ContentLength
	}
	var buf []byte
	for {
		body, err := d.sum.ReadRecord(resp.Body, buf, c.limits)
		slow.Reset(c.timeout)
		var limit *wire.LimitError
		switch {
		case err == io.EOF:
			return nil
		case errors.As(err, &limit):
			return err
		case errors.Is(err, wire.ErrDigest):
			return err
		case err != nil:
			return &offlineError{cause: errors.Join(err, context.Cause(ctx))}
		}
		if err := d.add(body, c.limits); err != nil {
			return fmt.Errorf("read a snapshot: %w", err)
		}
		buf = body
		staged()
	}
}
