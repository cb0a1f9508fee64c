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
	n, err := r.device.Rounds()
	if err != nil || n%int64(r.o.DigestEvery) != 0 {
		return err
	}
	round.DivergedRows, err = r.compareNext(ctx)
	return err
}

// idle compares the next range between rounds, and returns how many rows were healed.
func (r *Replicator) idle(ctx context.Context) (healed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Without the lease no round has begun here, and another replicator may do all this.
	if r.closed || r.old || r.lease == nil {
		return 0
	}
	healed, err := r.compareNext(ctx)
	if err != nil && ctx.Err() == nil {
		r.log.Warn("rows not compared with the master", "err", err)
	}
	r.status.diverged(healed)
	return healed
}

// compareNext compares the next range of the file, as digest says.
func (r *Replicator) compareNext(ctx context.Context) (healed int, err error) {
	if err := r.o.Step("digest"); err != nil {
		return 0, err
	}
	var found capture.Compared
	g, err := r.device.Digest(r.o.DigestRows)
	if err == nil && g != nil {
		found, err = r.compare(ctx, g)
	}
	switch {
	case r.old:
		r.log.Debug("the master is from before digests: rows are not compared", "err", err)
	case errors.Is(err, capture.ErrMoved):
	case isDiskError(err): // the next round has to know
		return 0, err
	case err != nil:
		r.log.Log(ctx, levelOf(err), "rows not compared with the master", "err", err)
	}
	r.tell(found)
	return found.Healed, nil
}

// tell logs rows that were healed.
func (r *Replicator) tell(found capture.Compared) {
	if found.Healed > 0 {
		r.log.Warn("rows were not what the master has, and no write of them was logged: they are now; what was here is in velosync_conflicts",
			"table", found.Table, "after", found.After, "to", found.To, "rows", found.Healed)
	}
}

// compare asks the master about a range, and heals what differs. It notes a master that does
// not know the question.
func (r *Replicator) compare(ctx context.Context, g *capture.Digest) (found capture.Compared, err error) {
	name, err := r.name()
	if err != nil {
		return found, err
	}
	body, err := wire.EncodePush(g.Request(name, r.o.Now().UnixMilli()))
	if err != nil {
		return found, err
	}
	body, err = r.client.sync(ctx, body)
	var p *wire.Problem
	r.old = errors.As(err, &p) && p.Code == wire.CodeMalformed
	if err != nil {
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
