package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
	"github.com/velosync/velosync/sqlfuncs"
)

// digestRows is the replicator's default.
const digestRows = 256

// digest measures what it takes to find out that a device holds what the master has: whole,
// over HTTP, and then each side alone, since one process has both.
func (b *bench) digest(ctx context.Context) (err error) {
	m, err := startMaster(filepath.Join(b.dir, "master4"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	var d device
	defer func() { err = errors.Join(err, d.close()) }()
	if d.db, err = openDocs(ctx, filepath.Join(b.dir, "compared.db"), true, ""); err != nil {
		return err
	}
	if err := d.db.insert(ctx, b.docs, len(b.docs)); err != nil {
		return err
	}
	if d.r, err = m.replicator(ctx, d.db.path, "docs", "compared"); err != nil {
		return err
	}
	if _, err := d.r.Sync(ctx); err != nil {
		return err
	}
	n := b.size.rows
	ranges := 0
	both, err := measure(func() error {
		v, err := d.r.Verify(ctx)
		if err != nil {
			return err
		}
		if len(v.Tables) != 1 || v.Tables[0].Rows != int64(n) || len(v.Divergences) > 0 {
			return fmt.Errorf("compared %+v of %d rows, and %d ranges differ", v.Tables, n, len(v.Divergences))
		}
		ranges = v.Tables[0].Ranges
		return nil
	})
	if err != nil {
		return err
	}
	var asked [][]byte
	onDevice, err := measure(func() (err error) { asked, err = ask(d.db.path); return err })
	if err != nil {
		return err
	}
	space, err := m.engine.Space(ctx, "docs")
	if err != nil {
		return err
	}
	bytes := 0
	onMaster, err := measure(func() error {
		for _, body := range asked {
			answer, err := answerTo(ctx, space, "compared", body)
			if err != nil {
				return err
			}
			bytes += len(body) + len(answer)
		}
		return nil
	})
	if err != nil {
		return err
	}
	perRow := func(c cost) float64 { return c.cpu.Seconds() * 1e6 / float64(n) }
	all := fmt.Sprintf("digest: all of %s rows", short(n))
	b.add(
		row{Work: all, Figure: both.wall.Seconds(), Unit: "s", Note: fmt.Sprintf("Verify, which is velosync doctor: an empty round, then %d ranges, one after the other, over HTTP on one machine", ranges)},
		row{Work: all, Figure: perRow(both), Unit: "us CPU a row", Note: "device, HTTP and masterd together"},
		row{Work: "digest: device", Figure: perRow(onDevice), Unit: "us CPU a row", Note: "reads and hashes ranges of its own file, and makes the questions"},
		row{Work: "digest: master", Figure: perRow(onMaster), Unit: "us CPU a row", Note: "reads a question, reads and hashes the range, and makes the answer; HTTP left out"},
		row{Work: "digest: traffic", Figure: float64(bytes) / float64(len(asked)), Unit: "bytes a range", Note: fmt.Sprintf("%s, for up to %d rows", wireNote, digestRows)},
	)
	return nil
}

// ask makes the questions of a pass over a file as a device does, and takes the answer to
// each to be that nothing differs.
func ask(path string) (asked [][]byte, err error) {
	c, err := sqlfuncs.Open(path, func(*sqlite3.SQLiteConn) error { return nil })
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	d, err := capture.Open(c, capture.Options{Log: quiet})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for pass := d.Pass(); ; {
		g, err := pass.Next(digestRows)
		if err != nil || g == nil {
			return asked, err
		}
		body, err := wire.EncodePush(g.Request(change.Name{1}, time.Now().UnixMilli()))
		if err != nil {
			return nil, err
		}
		asked = append(asked, body)
		if _, err := g.Finish(&change.Pull{Digest: change.RangeEqual}); err != nil {
			return nil, err
		}
	}
}

// answerTo answers a question as masterd does.
func answerTo(ctx context.Context, space store.Space, owner store.Owner, body []byte) ([]byte, error) {
	push, err := wire.DecodePush(body, wire.Limits{})
	if err != nil {
		return nil, err
	}
	var alone iter.Seq2[*change.Push, error] = func(yield func(*change.Push, error) bool) { yield(push, nil) }
	pull, err := space.Sync(ctx, owner, push, alone)
	if err != nil {
		return nil, err
	}
	if pull.Digest != change.RangeEqual {
		return nil, fmt.Errorf("the answer to a range is %d, want that nothing differs", pull.Digest)
	}
	return wire.EncodePull(pull)
}
