package replicator

import (
	"context"
	"errors"
	"fmt"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

// reconcile finds out what a restored master lacks, and logs it to be pushed back. The
// pages of the comparison wait in a temporary table; the file changes in one transaction
// at the end.
func (r *Replicator) reconcile(ctx context.Context, round *Round, problem *wire.Problem) (err error) {
	c, err := r.device.Compare(change.Seq(problem.Common))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for !c.Done() {
		if err := r.o.Step("compare"); err != nil {
			return err
		}
		name, err := r.name()
		if err != nil {
			return err
		}
		body, err := wire.EncodePush(c.Request(name, r.o.Now().UnixMilli()))
		if err != nil {
			return fmt.Errorf("encode the request to compare: %w", err)
		}
		if body, err = r.client.sync(ctx, body); err != nil {
			return fmt.Errorf("compare with the restored master: %w", err)
		}
		pull, err := wire.DecodePull(body, r.o.Limits)
		if err != nil {
			return fmt.Errorf("read a page of the comparison: %w", err)
		}
		if err := c.Add(pull); err != nil {
			return err
		}
	}
	if err := r.o.Step("reconcile"); err != nil {
		return err
	}
	rows, err := c.Finish()
	if err != nil {
		return err
	}
	round.Restored = true
	round.PushedBackRows += rows
	r.log.Warn("the master was restored from an older copy: what it lacks is pushed back, under a new device id",
		"rows", rows, "seen", problem.Seen, "head", problem.Head, "common", problem.Common)
	return nil
}
