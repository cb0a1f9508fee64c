package replicator

import (
	"context"
	"errors"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/replicator/wire"
)

// digest compares a range of rows with the master, after each Options.DigestEvery-th round.
// The round is complete already: what goes wrong here is told, and the range waits for the
// next time. An error is that of Options.Step.
func (r *Replicator) digest(ctx context.Context, round *Round) error {
	if r.o.DigestEvery < 0 || r.old {
		return nil
	}
	n, err := r.device.Names()
	if err != nil || n%int64(r.o.DigestEvery) != 0 {
		return err
	}
	if err := r.o.Step("digest"); err != nil {
		return err
	}
	found, err := r.compareRange(ctx)
	var p *wire.Problem
	switch {
	case errors.As(err, &p) && p.Code == wire.CodeMalformed:
		r.old = true
		r.log.Debug("the master is from before digests: rows are not compared", "err", err)
	case errors.Is(err, capture.ErrMoved):
	case isDiskError(err): // the next round has to know
		return err
	case err != nil:
		r.log.Warn("rows not compared with the master", "err", err)
	}
	if found.Rows > 0 {
		round.DivergedRows = found.Rows
		r.log.Warn("rows were not what the master has, and no write of them was logged: they are now; what was here is in velosync_conflicts",
			"table", found.Table, "after", found.After, "to", found.To, "rows", found.Rows)
	}
	return nil
}

func (r *Replicator) compareRange(ctx context.Context) (found capture.Divergence, err error) {
	g, err := r.device.Digest(r.o.DigestRows)
	if err != nil || g == nil {
		return found, err
	}
	name, err := r.name()
	if err != nil {
		return found, err
	}
	body, err := wire.EncodePush(g.Request(name, r.o.Now().UnixMilli()))
	if err != nil {
		return found, err
	}
	if body, err = r.client.sync(ctx, body); err != nil {
		return found, err
	}
	pull, err := wire.DecodePull(body, r.o.Limits)
	if err != nil {
		return found, err
	}
	return g.Finish(pull)
}

func isDiskError(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && e.Code == sqlite3.ErrIoErr
}
