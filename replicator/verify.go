package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/capture/change"
)

// A Verification says what Verify compared, and what it found.
type Verification struct {
	// Round came first; nil where another replicator syncs the file, whose work that is.
	Round  *Round          `json:"round,omitempty"`
	Tables []VerifiedTable `json:"tables"`
	// Divergences are ranges with rows that were not what the master has, although no write
	// of them was logged. Ranges that follow each other are one.
	Divergences []Divergence  `json:"divergences"`
	Took        time.Duration `json:"took_ns"`
}

// A VerifiedTable is what was compared of a table.
type VerifiedTable struct {
	Table  string `json:"table"`
	Rows   int64  `json:"rows"`
	Ranges int    `json:"ranges"`
	// Waiting rows were left out: they have edits that the master has yet to hear of, or
	// can't be written here.
	Waiting int `json:"waiting"`
	// LeftOut says why the rest of the table was not compared; empty: all of it was.
	LeftOut string `json:"left_out,omitempty"`
}

// A Divergence is a range of keys with rows that were not what the master has.
type Divergence struct {
	Table  string       `json:"table"`
	After  change.Value `json:"after"` // the key before the range; nil: it begins with the first
	To     change.Value `json:"to"`    // its last key; nil: it goes to the end
	Rows   int          `json:"rows"`
	Healed int          `json:"healed"` // what was here is in velosync_conflicts
	// Refused says why rows were not healed: this file does not take the master's.
	Refused string `json:"refused,omitempty"`
}

const (
	mostAgain = 6                      // times that Verify asks for a range again
	againWait = 100 * time.Millisecond // for another replicator's round
)

// Verify compares all rows of all tracked tables with the master, range after range, as
// rounds and Run do a range at a time; what differs becomes what the master has. It begins
// with a round, so that both stand at the same place, unless another replicator syncs the
// file. Rounds, and writes, may come between two ranges.
//
// With an error the Verification says how far it came. Errors: those of Sync, but no
// ErrLease and no *HeldError; *capture.UncomparedError where rounds do not mend it.
func (r *Replicator) Verify(ctx context.Context) (v Verification, err error) {
	began := time.Now()
	defer func() { v.Took = time.Since(began) }()
	again := func() error {
		round, err := r.Sync(ctx)
		var held *HeldError
		switch {
		case errors.Is(err, ErrLease):
			return pause(ctx, againWait)
		case err != nil && !errors.As(err, &held):
			return err
		}
		if v.Round == nil {
			v.Round = &round
		}
		return nil
	}
	if err := again(); err != nil {
		return v, err
	}
	pass, total, err := r.pass()
	if err != nil {
		return v, err
	}
	progress := Progress{Phase: "compare", Total: total}
	for tries := 0; ; {
		found, more, err := r.compareInPass(ctx, pass)
		if err == nil && !more {
			return v, nil
		}
		var not *capture.UncomparedError
		var refused *capture.HealError
		switch wait := retryAfter(err); {
		case errors.As(err, &refused) && !isDiskError(err):
		case found.Unknown, errors.As(err, &not), errors.Is(err, capture.ErrMoved):
			if tries++; tries > mostAgain {
				tries = 0
				if not != nil && not.Table == "" {
					return v, err
				}
				pass.Skip()
				if not != nil {
					v.table(not.Table).LeftOut = not.Reason
				} else {
					v.table(found.Table).LeftOut = "the master can't tell: it does not know the table as it is here, or too many rows change meanwhile"
				}
				continue
			}
			if err := again(); err != nil {
				return v, err
			}
			continue
		case err != nil && wait > 0 && tries < mostAgain: // masterd serves so many requests a second
			tries++
			if err := pause(ctx, wait); err != nil {
				return v, err
			}
			continue
		case err != nil:
			return v, fmt.Errorf("compare rows with the master: %w", err)
		}
		tries = 0
		v.add(found, refused)
		progress.Rows += int64(found.Rows)
		r.o.Progress(progress)
	}
}

// pass begins a pass, and says how many rows it is about.
func (r *Replicator) pass() (*capture.Pass, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, 0, ErrClosed
	}
	p := r.device.Pass()
	total, err := p.Rows()
	return p, total, err
}

// compareInPass compares the next range, between two rounds.
func (r *Replicator) compareInPass(ctx context.Context, p *capture.Pass) (found capture.Compared, more bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return found, false, ErrClosed
	}
	if err := r.o.Step("digest"); err != nil {
		return found, false, err
	}
	g, err := p.Next(r.o.DigestRows)
	if err != nil || g == nil {
		return found, false, err
	}
	found, err = r.compare(ctx, g)
	if err != nil && r.old {
		err = fmt.Errorf("the master is from before digests, update it: %w", err)
	}
	r.tell(found)
	r.status.diverged(found.Healed)
	return found, true, err
}

// table returns the table of that name, which it adds if need be.
func (v *Verification) table(name string) *VerifiedTable {
	if n := len(v.Tables); n == 0 || v.Tables[n-1].Table != name {
		v.Tables = append(v.Tables, VerifiedTable{Table: name})
	}
	return &v.Tables[len(v.Tables)-1]
}

// add adds a range.
func (v *Verification) add(found capture.Compared, refused *capture.HealError) {
	t := v.table(found.Table)
	t.Rows += int64(found.Rows)
	t.Ranges++
	t.Waiting = max(t.Waiting, found.Waiting)
	if found.Differed == 0 && refused == nil {
		return
	}
	d := Divergence{Table: found.Table, After: found.After, To: found.To, Rows: found.Differed, Healed: found.Healed}
	if refused != nil {
		d.Refused = refused.Err.Error()
	}
	if n := len(v.Divergences); n > 0 {
		last := &v.Divergences[n-1]
		if last.Table == d.Table && last.Refused == "" && d.Refused == "" && last.To != nil && sameKey(last.To, d.After) {
			last.To, last.Rows, last.Healed = d.To, last.Rows+d.Rows, last.Healed+d.Healed
			return
		}
	}
	v.Divergences = append(v.Divergences, d)
}

// sameKey compares keys, which may be blobs.
func sameKey(a, b change.Value) bool {
	var prints change.Fingerprinter
	return prints.Of([]change.Value{a}) == prints.Of([]change.Value{b})
}

// pause waits, or returns ctx's error.
func pause(ctx context.Context, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}
