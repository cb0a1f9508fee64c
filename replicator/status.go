package replicator

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/velosync/velosync/capture/change"
)

// Status is what a replicator is doing, and what it has done since New.
type Status struct {
	Syncing   bool       // a round is under way
	Listening bool       // the master's event stream is open
	Offline   bool       // the last round could not reach the master
	LastSync  time.Time  // of the last complete round
	LastError error      // of the last round; nil if it was complete
	Seen      change.Seq // as of the last complete round
	Rounds    int64      // complete ones
	Failures  int64

	PushedRows, PulledRows, LostRows, RejectedRows int64
	// PushedBackRows went back to a master that was restored from an older copy.
	PushedBackRows int64
	// DivergedRows became the master's: they differed, and no write of them was logged.
	DivergedRows             int64
	PushedBytes, PulledBytes int64
}

// Status returns a snapshot. It does not wait for a round under way.
func (r *Replicator) Status() Status {
	r.status.mu.Lock()
	defer r.status.mu.Unlock()
	return r.status.Status
}

// A statusBoard is a Status that rounds write to.
type statusBoard struct {
	mu sync.Mutex
	Status
	ended chan struct{} // closed when a round ends; nil if nobody waits
}

func (b *statusBoard) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Syncing = true
}

func (b *statusBoard) end(r Round, err error, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Syncing, b.LastError = false, err
	b.Offline = errors.Is(err, ErrOffline)
	var held *HeldError
	if err == nil || errors.As(err, &held) {
		b.Rounds++
		b.LastSync, b.Seen = now, r.Seen
	} else {
		b.Failures++
		b.Seen = max(b.Seen, r.Seen)
	}
	b.PushedRows += int64(r.PushedRows)
	b.PulledRows += int64(r.PulledRows)
	b.LostRows += int64(r.LostRows)
	b.RejectedRows += int64(r.RejectedRows)
	b.PushedBackRows += int64(r.PushedBackRows)
	b.DivergedRows += int64(r.DivergedRows)
	b.PushedBytes += r.PushedBytes
	b.PulledBytes += r.PulledBytes
	if b.ended != nil {
		close(b.ended)
		b.ended = nil
	}
}

// diverged counts rows that were healed between rounds.
func (b *statusBoard) diverged(rows int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.DivergedRows += int64(rows)
}

// next returns a channel that is closed when the next round ends.
func (b *statusBoard) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil {
		b.ended = make(chan struct{})
	}
	return b.ended
}

func (b *statusBoard) setListening(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Listening = on
}

func (b *statusBoard) listening() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Listening
}

// behind reports whether the master's head is one that no round has seen, or the last
// round failed.
func (b *statusBoard) behind(seq int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return change.Seq(seq) != b.Seen || b.LastError != nil
}

// levelOf keeps the normal state of being offline out of the log.
func levelOf(err error) slog.Level {
	if errors.Is(err, ErrOffline) || errors.Is(err, context.DeadlineExceeded) {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}
