package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

// A Retry says how often a request is sent again in a round that is under way, so that a
// line which is cut now and then does not begin a push of a million rows anew each time.
type Retry struct {
	// Times is how often a request is sent again until the round ends, with what it said
	// last. Zero means 5, less means never.
	Times int
	// Pause is the first pause, about; each later one is longer by half. Zero means 250 ms. A
	// master that is busy says itself how long to wait; more than a minute ends the round.
	Pause time.Duration
}

func (r Retry) defaults() Retry {
	if r.Times == 0 {
		r.Times = 5
	}
	if r.Pause <= 0 {
		r.Pause = 250 * time.Millisecond
	}
	return r
}

// mostWait is how long a round waits for a busy master: meanwhile the log file of the
// database grows with what the application writes.
const mostWait = time.Minute

// A resentError is of a request that was sent before and may have been taken then, whatever
// the master says of it now.
type resentError struct{ error }

func (e *resentError) Unwrap() error { return e.error }

// An outgoing is a push, or a part of one, on its way out.
type outgoing struct {
	push *change.Push
	body []byte // encoded; of a part that others follow, before it is sent
	rows int    // of the parts so far
}

// encode encodes the push, unless it is a part that others follow and was: the master takes
// the skew of the clock from the last part, and sending it may have been put off for minutes.
func (o *outgoing) encode(now time.Time) (err error) {
	if o.push.More && o.body != nil {
		return nil
	}
	o.push.Now = now.UnixMilli()
	if o.body, err = wire.EncodePush(o.push); err != nil {
		return fmt.Errorf("encode the push: %w", err)
	}
	return nil
}

// post sends a push once and returns the body of the answer.
func (r *Replicator) post(ctx context.Context, o *outgoing) ([]byte, error) {
	if err := o.encode(r.o.Now()); err != nil {
		return nil, err
	}
	return r.client.sync(ctx, o.body)
}

// send sends a push and returns the body of the answer. Once the master has answered
// something in this round (began), what fails on the way is sent again: the master takes a
// part, a page's request or a whole push that it has had already as the same one.
func (r *Replicator) send(ctx context.Context, o *outgoing, began bool) ([]byte, error) {
	answer, err := r.post(ctx, o)
	if err == nil || !began || !passes(err) {
		return answer, err
	}
	pause := backoff.NewExponentialBackOff() // jittered
	pause.InitialInterval = r.o.Retry.Pause
	for n := 1; n <= r.o.Retry.Times && passes(err); n++ {
		wait := max(pause.NextBackOff(), retryAfter(err))
		if wait > mostWait {
			break
		}
		r.log.Debug("sent again in this round", "err", err, "wait", wait)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
		if answer, err = r.post(ctx, o); err == nil {
			return answer, nil
		}
	}
	return nil, &resentError{err}
}

// passes reports whether the same request may do better in a moment.
func passes(err error) bool {
	var problem *wire.Problem
	switch {
	case errors.As(err, &problem):
		return problem.Temporary()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false // ours, or the master took longer than Options.Timeout
	}
	return errors.Is(err, ErrOffline) || errors.Is(err, wire.ErrDigest)
}
