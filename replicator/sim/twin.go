package sim

import (
	"context"
	"errors"
	"os"

	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/replicator/wire"
)

// Two processes may sync one file: the lease that keeps them apart is a lock beside it, which
// is lost with a file system that has none, or with the lock's file. So now and then a second
// replicator runs a round on a device's file in the middle of one of the first. The first
// then holds an answer for a file that has moved, or a push that is sent already.

// twin runs a round of a second replicator before a step of the first one's.
func (d *device) twin(step string) {
	w := d.w
	if d.twinned || !w.chance(.015) {
		return
	}
	alone := d.locked && w.chance(.2)
	if !alone { // the lock is lost
		w.must(os.Remove(d.file+"-velosync-lock"), "remove the lock")
		d.locked = false
	}
	w.fault("second replicator before " + step)
	w.say("a second replicator of %s begins", d)
	d.healDisk("") // what has failed for a process that ends, nobody knows to mend
	begun, parts := d.begun, d.parts
	d.twinned = true
	w.depth++
	err := d.twinRound(alone)
	w.depth--
	d.twinned = false
	d.begun, d.parts = begun, parts
	if err != nil {
		w.say("the second replicator of %s gives up: %v", d, err)
	}
	d.look("after a round of a second replicator")
}

// twinRound runs the round. The error is one that a round meets now and then.
func (d *device) twinRound(alone bool) error {
	w := d.w
	r, err := replicator.New(d.file, d.options())
	if err != nil && d.brokenDisk() && isDiskError(err) {
		return err
	}
	w.must(err, "open a second replicator")
	_, err = r.Sync(context.Background())
	if e := r.Close(); e != nil && !(d.brokenDisk() && isDiskError(e)) {
		w.must(e, "close a second replicator")
	}
	var problem *wire.Problem
	switch {
	case alone && !errors.Is(err, replicator.ErrLease):
		w.fail("%s: a second replicator is not kept off by the lease: %v", d, err)
	case alone, err == nil, errors.Is(err, errCrash), errors.Is(err, replicator.ErrOffline), errors.Is(err, wire.ErrDigest),
		errors.As(err, &problem) && refusedNow(problem), d.brokenDisk() && isDiskError(err):
	default:
		w.fail("%s: round of a second replicator: %v", d, err)
	}
	return err
}
