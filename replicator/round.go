package replicator

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

// A Round says what a Sync did.
type Round struct {
	Mutations    int   `json:"mutations"` // log rows that compaction folded into PushedRows
	PushedRows   int   `json:"pushed_rows"`
	PushedBytes  int64 `json:"pushed_bytes"`
	PulledRows   int   `json:"pulled_rows"`
	PulledBytes  int64 `json:"pulled_bytes"`
	Deletes      int   `json:"deletes"`   // of the pulled rows
	EchoRows     int   `json:"echo_rows"` // changed rows that did not come back to their author
	LostRows     int   `json:"lost_rows"` // writes of this device that lost a conflict
	RejectedRows int   `json:"rejected_rows"`
	ParkedRows   int   `json:"parked_rows"` // rows waiting in this file, in all
	// RenumberedRows got other numbers: another device had given theirs to rows of its own.
	RenumberedRows int `json:"renumbered_rows,omitempty"`
	Pages          int `json:"pages"`
	// SnapshotRows is how many of the pulled rows came as a snapshot.
	SnapshotRows int `json:"snapshot_rows,omitempty"`
	Tries        int `json:"tries"` // rounds that it took
	// Restored says that the master had been restored from an older copy and lacked what
	// this device had seen; PushedBackRows, how many rows it then got back from here.
	Restored       bool `json:"restored,omitempty"`
	PushedBackRows int  `json:"pushed_back_rows,omitempty"`
	// DivergedRows were not what the master has although no write of them was logged; they
	// are now, and what was here is in velosync_conflicts.
	DivergedRows int `json:"diverged_rows,omitempty"`
	// Held are pending rows that can't be sent as they are.
	Held      []capture.HeldRow `json:"held,omitempty"`
	NewTables []string          `json:"new_tables,omitempty"`
	Seen      change.Seq        `json:"seen"`
	Acked     change.LSN        `json:"acked"`
	Took      time.Duration     `json:"took_ns"`
	FirstSync bool              `json:"first_sync"`
}

// A HeldError says that rows can't be sent; all else is synced.
type HeldError struct{ Rows []capture.HeldRow }

func (e *HeldError) Error() string {
	h := e.Rows[0]
	return fmt.Sprintf("replicator: %d rows can't be sent, the rest is synced: row %v of %q: %s", len(e.Rows), h.Key, h.Table, h.Reason)
}

const (
	mostTries = 12 // rounds of one Sync
	parkAfter = 4  // tries that met a constraint before rows are parked
	mostNames = 5000
)

// An attempt says how a round is tried.
type attempt struct {
	parts      capture.Limits
	sendTables bool // with the push
	named      bool // the round gets a name of its own, though it has nothing to tell
	park       bool // rows that meet a constraint, rather than try again
}

// errPages says that a round which goes by the name of the last push is answered by more
// than one page: it begins again under a name of its own.
var errPages = errors.New("replicator: the pull has several pages")

// Sync runs a round: it pushes all that is pending, applies what others wrote, and
// acknowledges. It begins again where the file or the master moved meanwhile. A master that
// was restored from an older copy gets back what it lacks and this device has.
//
// Errors: ErrOffline; a *wire.Problem that the master answered; ErrLease; a
// *HeldError beside a complete round; ctx's error; and what SQLite says.
func (r *Replicator) Sync(ctx context.Context) (Round, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return Round{}, ErrClosed
	}
	if err := r.takeLease(); err != nil {
		return Round{}, err
	}
	began := time.Now()
	r.status.begin()
	var round Round
	err := r.tries(ctx, &round)
	if err == nil {
		err = r.digest(ctx, &round)
	}
	round.Took = time.Since(began)
	if err == nil && len(round.Held) > 0 {
		err = &HeldError{Rows: round.Held}
	}
	if err != nil && ctx.Err() == nil {
		if e := r.device.Failed(err); e != nil {
			r.log.Warn("status not written", "err", e)
		}
	}
	r.status.end(round, err, r.o.Now())
	r.log.Debug("round", "pushed", round.PushedRows, "pulled", round.PulledRows, "seen", round.Seen, "took", round.Took, "err", err)
	r.o.Ended(round, err)
	return round, err
}

// tries runs rounds until one is complete.
func (r *Replicator) tries(ctx context.Context, round *Round) error {
	collisions := 0
	try := attempt{parts: r.o.Parts}
	for round.Tries = 1; ; round.Tries++ {
		try.park = collisions >= parkAfter
		cr, err := r.round(ctx, round, try)
		if err == nil {
			return nil
		}
		var problem *wire.Problem
		switch {
		case errors.Is(err, errPages):
			try.named = true
		case errors.Is(err, capture.ErrMoved):
		case errors.Is(err, capture.ErrAgain):
			collisions++
		case !errors.As(err, &problem):
			return err
		case problem.Code == wire.CodeForked, problem.Code == wire.CodeForbidden && problem.Owned:
			id, e := r.device.Fork(cr)
			if errors.Is(e, capture.ErrMoved) {
				err = e // it is neither: another replicator of this file pushed since
				break
			}
			if e != nil {
				return e
			}
			r.log.Info("this file is a copy, or was restored: it has a new device id", "device", id)
		case problem.Code == wire.CodeClash:
			n, e := r.device.Renumber(problem.Clashes)
			if e != nil {
				return e
			}
			if n == 0 {
				return err
			}
			round.RenumberedRows += n
			r.log.Info("rows got other numbers: other devices made rows under theirs", "rows", n)
		case problem.Code == wire.CodeSchemaUnknown && !try.sendTables:
			try.sendTables = true
		case problem.Code == wire.CodePage, problem.Code == wire.CodePart: // the master was restarted, or another round came between
		case (problem.Code == wire.CodeTooLarge || problem.Code == wire.CodeTimeout) && halve(&try.parts):
			r.log.Info("the master takes less at a time", "bytes", try.parts.Bytes)
		case problem.Code == wire.CodeRestored:
			if err := r.device.Abandon(cr); err != nil { // the master has nothing of this push
				return err
			}
			err := r.reconcile(ctx, round, problem)
			if err != nil && !errors.Is(err, capture.ErrMoved) {
				return err
			}
		default:
			return err
		}
		if round.Tries == mostTries {
			return err
		}
	}
}

// halve halves the limits of a part, down to 64 KiB.
func halve(l *capture.Limits) bool {
	if l.Bytes == 0 {
		l.Bytes = 6 << 20
	}
	if l.Rows == 0 {
		l.Rows = 5000
	}
	l.Bytes /= 2
	l.Rows = max(1, l.Rows/2)
	return l.Bytes >= 64<<10
}

// round runs one round. It returns what it began, nil if it did not come to that.
func (r *Replicator) round(ctx context.Context, round *Round, try attempt) (*capture.Round, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := r.o.Step("begin"); err != nil {
		return nil, err
	}
	name, err := r.name()
	if err != nil {
		return nil, err
	}
	if err := r.device.TrackExisting(r.o.Track); err != nil {
		return nil, err
	}
	if folded, err := r.device.Compact(); err != nil {
		return nil, err
	} else if folded > 0 {
		r.log.Info("log compacted in place", "rows", folded)
	}
	cr, err := r.device.Begin(r.reader, name, try.named)
	if err != nil {
		return nil, err
	}
	err = r.exchange(ctx, cr, round, try)
	return cr, errors.Join(err, cr.Release())
}

// exchange does the round that was begun.
func (r *Replicator) exchange(ctx context.Context, cr *capture.Round, round *Round, try attempt) (err error) {
	if len(cr.Names) > mostNames {
		// So many pushes without an answer that their names do not fit: a new id needs none.
		_, err := r.device.Fork(cr)
		return errors.Join(err, capture.ErrMoved)
	}
	round.FirstSync = cr.Space == nil
	// The tables travel when the master can't know them by their digest.
	sendTables := try.sendTables || cr.Space == nil || cr.Space.Digest() != cr.Tables.Digest()
	first, err := r.push(ctx, cr, round, try.parts, sendTables)
	if err != nil {
		if nothingApplied(err) {
			err = errors.Join(err, r.device.Abandon(cr))
		}
		return err
	}
	if err := cr.Release(); err != nil { // the application's log file may shrink again
		return err
	}
	stage, err := r.pull(ctx, cr, first, round)
	defer func() {
		err = errors.Join(err, stage.close())
		if err != nil && !resumes(err) { // else another round, or process, goes on with what came
			r.forgetDownload()
		}
	}()
	if err != nil {
		return err
	}
	if err := r.step("apply"); err != nil {
		return err
	}
	applied, err := r.device.Finish(cr, r.watch(stage.pulls(), round.PulledRows), try.park)
	if err != nil {
		return err
	}
	r.forgetDownload()
	r.tidy()
	round.Seen, round.Acked = applied.Seen, applied.Acked
	round.Deletes, round.LostRows, round.RejectedRows, round.ParkedRows = applied.Deleted, applied.Lost, applied.Rejected, applied.Parked
	round.NewTables, round.Held = applied.NewTables, cr.Held
	if err := r.step("ack"); err != nil {
		return err
	}
	if err := r.client.ack(ctx, cr.Device, applied.Seen, applied.Acked); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}

// outgoing reads the parts of a push, and encodes all but the last.
func (r *Replicator) outgoing(cr *capture.Round, limits capture.Limits) iter.Seq2[outgoing, error] {
	return func(yield func(outgoing, error) bool) {
		for part, err := range cr.Parts(limits) {
			out := outgoing{push: part, rows: cr.Rows}
			if err == nil && part.More {
				err = out.encode(r.o.Now())
			}
			if !yield(out, err) {
				return
			}
		}
	}
}

// push sends the parts of a push, and reads the next while one is sent; the answer to the
// last is the first page of the pull.
func (r *Replicator) push(ctx context.Context, cr *capture.Round, round *Round, limits capture.Limits, sendTables bool) (answer []byte, err error) {
	round.PushedBytes = 0
	parts := r.outgoing(cr, limits)
	if !r.o.Lockstep {
		parts = wire.Ahead(parts)
	}
	began := false
	for part, err := range parts {
		if err != nil {
			return nil, err
		}
		step := "part"
		if !part.push.More {
			step = "push"
			if sendTables {
				part.push.Tables = cr.Tables
				if cr.Tables == nil {
					part.push.Tables = change.Schema{}
				}
			}
		}
		if err := r.o.Step(step); err != nil {
			return nil, err
		}
		if answer, err = r.send(ctx, &part, began); err != nil {
			return nil, fmt.Errorf("push: %w", err)
		}
		began = true
		round.PushedBytes += int64(len(part.body))
		r.o.Progress(Progress{Phase: "push", Rows: int64(part.rows), Bytes: round.PushedBytes})
	}
	round.PushedRows, round.Mutations = cr.Rows, cr.Mutations
	return answer, nil
}

// pull stages the first page and asks for the others, or takes the snapshot that the master
// offers and asks for what came after it.
func (r *Replicator) pull(ctx context.Context, cr *capture.Round, body []byte, round *Round) (*stage, error) {
	round.PulledRows, round.PulledBytes, round.Pages, round.SnapshotRows = 0, 0, 0, 0
	stage := &stage{limits: r.o.Limits}
	var shot *download
	var tables [32]byte // of the space, as the pages name them
	total := int64(0)
	for {
		pull, err := wire.DecodePull(body, r.o.Limits)
		if err != nil {
			return stage, fmt.Errorf("read the pull: %w", err)
		}
		if cr.Idle && !pull.Done {
			return stage, errPages
		}
		of := cr.Space
		if pull.Tables != nil {
			of = pull.Tables
		}
		switch digest := of.Digest(); {
		case round.Pages == 0:
			tables = digest
		case digest != tables:
			return stage, fmt.Errorf("the space's tables changed during the pull: %w", capture.ErrMoved)
		}
		if round.Pages == 0 && offered(pull) {
			if shot, err = r.snapshot(ctx, cr, round); err != nil {
				return stage, err
			}
			if shot != nil && shot.tables != tables {
				return stage, fmt.Errorf("the space's tables changed before the snapshot: %w", capture.ErrMoved)
			}
			stage.shot = shot
		} else if shot != nil && !shot.follows(pull) {
			return stage, fmt.Errorf("a page of another history than the snapshot's: %w", capture.ErrMoved)
		}
		round.Pages++
		round.PulledBytes += int64(len(body))
		round.EchoRows += pull.Saved.EchoRows
		for i := range pull.Blocks {
			round.PulledRows += len(pull.Blocks[i].Keys)
		}
		total = max(total, int64(pull.Rows))
		r.o.Progress(Progress{Phase: "pull", Rows: int64(round.PulledRows), Total: total, Bytes: round.PulledBytes})
		if shot == nil || round.Pages > 1 { // the offer itself brings nothing
			if err := stage.add(pull, body); err != nil {
				return stage, err
			}
		}
		if pull.Done {
			return stage, nil
		}
		if err := r.step("page"); err != nil {
			return stage, err
		}
		page := cr.Page(pull.To, r.o.Now().UnixMilli())
		if shot != nil {
			page.Snapshot = shot.seq
		}
		if body, err = r.send(ctx, &outgoing{push: page}, true); err != nil {
			return stage, fmt.Errorf("pull the page after seq %d: %w", pull.To, err)
		}
	}
}

// watch tells Progress of pages as they are applied.
func (r *Replicator) watch(pulls iter.Seq2[*change.Pull, error], total int) iter.Seq2[*change.Pull, error] {
	return func(yield func(*change.Pull, error) bool) {
		rows := 0
		for pull, err := range pulls {
			if pull != nil {
				for i := range pull.Blocks {
					rows += len(pull.Blocks[i].Keys)
				}
			}
			if !yield(pull, err) {
				return
			}
			r.o.Progress(Progress{Phase: "apply", Rows: int64(rows), Total: int64(total)})
		}
	}
}
