package replicator

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

// A download is a snapshot as far as it has come. It outlives the round that began it, and
// the process, if it has a file beside the database: the next one asks for the rest.
type download struct {
	place    *snapshotPlace
	schema   [32]byte      // the device's
	device   string        // to which the master has sent the end
	file     *snapshotFile // nil: nothing came yet
	etag     string
	sum      wire.SnapshotSum
	at       int64 // bytes of the snapshot that are in the file, whole records
	size     int64 // of the snapshot; 0: not known
	records  int
	rows     int // of all records
	seq      change.Seq
	tables   [32]byte // digest of the space's, as its records name them
	epochs   []change.Epoch
	complete bool
}

// remove removes the file.
func (d *download) remove() {
	if d != nil && d.file != nil {
		d.file.remove(d.place.log)
	}
}

// leave closes the file; one beside the database stays.
func (d *download) leave() error {
	if d == nil || d.file == nil {
		return nil
	}
	return d.file.leave()
}

// restart forgets what came: the snapshot that it is of is gone.
func (d *download) restart(etag string) {
	d.remove()
	*d = download{place: d.place, schema: d.schema, etag: etag}
}

// add keeps a record that came.
func (d *download) add(record wire.Record, device change.DeviceID, limits wire.Limits) error {
	if err := d.first(record, limits); err != nil {
		return err
	}
	if d.file == nil {
		file, err := d.place.create(d.of(device))
		if err != nil {
			return &keepError{err}
		}
		d.file = file
	}
	if err := d.file.write(record, d.at); err != nil {
		return err
	}
	d.count(record)
	return nil
}

// first reads what the first record says of all of them; the others are read when they are
// applied.
func (d *download) first(record wire.Record, limits wire.Limits) error {
	if d.records > 0 {
		return nil
	}
	pull, err := wire.DecodePull(record.Body(), limits)
	if err != nil {
		return err
	}
	d.seq, d.epochs, d.rows, d.tables = pull.To, pull.Epochs, pull.Rows, pull.Tables.Digest()
	return nil
}

func (d *download) count(record wire.Record) {
	d.at += int64(len(record))
	d.records++
}

// end keeps the record that says that all have come.
func (d *download) end(device change.DeviceID) error {
	var b bytes.Buffer
	if _, err := d.sum.WriteEnd(&b); err != nil {
		return err
	}
	if d.file == nil {
		return errors.New("it has no records")
	}
	if err := d.file.write(b.Bytes(), d.at); err != nil {
		return err
	}
	d.device, d.complete = device.String(), true
	return nil
}

// resume goes on with what an earlier process left: its records to the first that is torn
// or damaged. nil: there are none.
func (r *Replicator) resume(ctx context.Context, schema [32]byte) (*download, error) {
	d := &download{place: r.place, schema: schema}
	file, h := r.place.find(d.of(change.DeviceID{}))
	if file == nil {
		return nil, nil
	}
	d.file, d.etag, d.device = file, h.ETag, h.Device
	records, kept := file.reader(), int64(0)
	var buf []byte
	var why error
	for why == nil {
		if ctx.Err() != nil {
			return nil, errors.Join(ctx.Err(), d.leave())
		}
		var record wire.Record
		if record, why = d.sum.ReadRecord(records, buf, r.o.Limits); why == nil {
			why = d.first(record, r.o.Limits)
		}
		if why == nil {
			d.count(record)
			buf, kept = record, d.at
		}
	}
	if d.complete = why == io.EOF; d.complete {
		kept += wire.SnapshotHeader
	}
	if err := file.cut(kept); err != nil || d.records == 0 {
		r.log.Info("of a snapshot nothing is of use that an earlier process kept", "file", r.place.path, "err", errors.Join(why, err))
		d.remove()
		return nil, nil
	}
	r.log.Info("going on with the snapshot that an earlier process kept", "file", r.place.path, "bytes", d.at, "whole", d.complete, "end", why)
	return d, nil
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
		r.forgetDownload()
	}
	if r.download == nil {
		d, err := r.resume(ctx, schema)
		if err != nil {
			return nil, err
		}
		if d == nil {
			d = &download{place: r.place, schema: schema}
		}
		r.download = d
	}
	d := r.download
	if d.complete && d.device != cr.Device.String() {
		d.complete = false // the end, which the master sends again, is what it knows its devices by
	}
	for !d.complete {
		if err := r.step("snapshot"); err != nil {
			return nil, err
		}
		at := d.at
		err := r.client.snapshot(ctx, cr.Device, d, func() {
			r.o.Progress(Progress{Phase: "pull", Rows: d.come(), Total: int64(d.rows), Bytes: d.at})
		})
		var problem *wire.Problem
		var busy *busyError
		var limit *wire.LimitError
		var keep *keepError
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, err
		case errors.As(err, &limit) && d.at > at: // more likely a damaged length than a record that big
			r.log.Info("the snapshot is damaged, asking for the rest", "bytes", d.at, "of", d.size, "err", err)
		case errors.As(err, &problem) && !errors.As(err, &busy) && problem.Code != wire.CodeUnauthorized && problem.Code != wire.CodeForbidden,
			errors.As(err, &limit):
			r.log.Info("no snapshot, pulling in pages", "err", err)
			r.forgetDownload()
			return nil, nil
		case errors.As(err, &keep) && keep.full():
			// The sum has a record that the file has not.
			err = fmt.Errorf("no room for the snapshot, of which %d of %d bytes are kept: make room, and the next round goes on: %w", d.at, d.size, err)
			return nil, errors.Join(err, r.leaveDownload())
		case errors.Is(err, ErrOffline) && d.at > at, errors.Is(err, wire.ErrDigest) && d.at > at:
			r.log.Info("the snapshot was cut, asking for the rest", "bytes", d.at, "of", d.size, "err", err)
		case errors.Is(err, ErrOffline), busy != nil:
			return nil, fmt.Errorf("get a snapshot: %w", err)
		default: // of what came nothing is of use, where it is the end that does not fit
			r.forgetDownload()
			return nil, fmt.Errorf("get a snapshot: %w", err)
		}
	}
	round.PulledRows, round.PulledBytes, round.SnapshotRows = d.rows, d.at, d.rows
	return d, nil
}

// forgetDownload lets go of what came of a snapshot.
func (r *Replicator) forgetDownload() {
	r.download.remove()
	r.download = nil
}

// leaveDownload lets go of what came of a snapshot, and leaves its file to whoever is next.
func (r *Replicator) leaveDownload() error {
	d := r.download
	r.download, r.tidied = nil, false
	return d.leave()
}

// tidy removes what was left of a snapshot, after a round that needed none.
func (r *Replicator) tidy() {
	if !r.tidied {
		r.tidied = true
		r.place.tidy()
	}
}

// A stepError is what Options.Step returned.
type stepError struct{ error }

func (e *stepError) Unwrap() error { return e.error }

// step calls Options.Step, whose error ends a round as a crash would: files stay as they are.
func (r *Replicator) step(name string) error {
	if err := r.o.Step(name); err != nil {
		return &stepError{err}
	}
	return nil
}

// resumes reports whether a round that ended so leaves a snapshot that the next one, or the
// next process, can go on with.
func resumes(err error) bool {
	var keep *keepError
	var crash *stepError
	var full sqlite3.Error
	return errors.Is(err, ErrOffline) || errors.Is(err, wire.ErrDigest) || errors.Is(err, capture.ErrAgain) || errors.Is(err, errPages) || retryAfter(err) > 0 ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &crash) || errors.As(err, &keep) && keep.full() || isDiskError(err) || errors.As(err, &full) && full.Code == sqlite3.ErrFull
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
			d.restart("")
			return &offlineError{cause: errors.New("the rest of another snapshot came")}
		}
		d.restart(etag)
	}
	if resp.ContentLength >= 0 {
		d.size = d.at + resp.ContentLength
	}
	var buf []byte
	for {
		record, err := d.sum.ReadRecord(resp.Body, buf, c.limits)
		slow.Reset(c.timeout)
		var limit *wire.LimitError
		switch {
		case err == io.EOF:
			return d.end(device)
		case errors.As(err, &limit):
			return err
		case errors.Is(err, wire.ErrDigest):
			return err
		case err != nil:
			return &offlineError{cause: errors.Join(err, context.Cause(ctx))}
		}
		if err := d.add(record, device, c.limits); err != nil {
			return fmt.Errorf("read a snapshot: %w", err)
		}
		buf = record
		staged()
	}
}
