package store

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/velosync/velosync/capture/change"
)

// A batch is edits of one table that bring values for the same registers.
type batch struct {
	table *table
	regs  change.Bits // the registers that values are for; none for deletes
	fresh []bool      // by column of the table: fresh to the device; nil: none
	edits []rowEdit
	own   string // what the device calls the table
}

// A rowEdit is one edit of a row, its seen cut and its time corrected.
type rowEdit struct {
	key    change.Value
	edit   change.Edit
	values []change.Value // for each column of the batch's registers, in table order; absent{} where the edit brings none
	// doubtful registers hold a column that is fresh to the device, beside others that are
	// not: the edit has seen them, unless that column has a value here.
	doubtful change.Bits
	steps    []change.Step // what it added to counters, by LSN
}

// absent stands in the place of a value that an edit does not bring: its author's table has
// not that column.
type absent struct{}

// batchRows is how many rows are looked up together.
const batchRows = 64

// An outcome says what became of one edit.
type outcome struct {
	seq    change.Seq  // that the edit was given; 0: it was applied before
	before *change.Row // what was known of the row; nil: nothing
	after  *change.Row
	change.Outcome
	reason string // what a constraint said: the edit was rejected
}

// An application applies the edits of one device inside a write transaction.
//
// It passes over them in their order and writes each row at once, optimistically. What
// violates a constraint by itself (CHECK, NOT NULL) is rejected on the spot. A row that
// meets another's unique value is put aside until the end of the pass, since the other
// may be about to give it up; and foreign keys are asked at the end. What fails then is
// rejected, everything is undone, and the pass begins anew without those rows, for
// others may have stood on them: until none fails.
type application struct {
	*tx
	device device
	seen   change.Seq // what the device had seen, cut to what it can have
	last   change.LSN // its log is applied up to here
	copied change.LSN // of steps up to here another copy of the file may have sent the same
	base   change.Seq // head before
	edits  iter.Seq2[*batch, error]
	// report, unless nil, receives an outcome for each edit, in order, once it is settled.
	report func([]outcome) error

	parked   map[rowID]string // rejected before, which the device has not heard: with the reason
	rejected map[rowID]string // in an earlier pass
	clashes  []*change.Clash  // rows that were made here and elsewhere under one number
	pass     int
	merging  time.Duration // spent on merge expressions
	passState
}

// A passState is what one pass gathers.
type passState struct {
	refused  map[rowID]bool // rejected at the end: it begins anew without them
	aside    map[rowID]*asideRow
	children []childCheck
	parents  []parentCheck
	born     map[rowID]bool // rows that are there since this pass, of tables that refer and are referred to
	outcomes []outcome
}

// calmPasses and maxPasses bound the passes that a push can demand: a chain of rows, each
// wanting the value that the next one gives up, takes one a row. After calmPasses no row
// is put aside any more; after maxPasses all rows of tables with foreign keys are
// rejected.
const (
	calmPasses = 8
	maxPasses  = 64
)

var errAgain = errors.New("pass again")

// run applies the edits.
func (a *application) run() error {
	a.base, a.last = a.head, a.device.lsn
	if err := a.loadParked(); err != nil {
		return err
	}
	a.rejected = make(map[rowID]string)
	state, counts := a.tx.state, a.tx.counts
	for a.pass = 0; ; a.pass++ {
		a.passState = passState{refused: make(map[rowID]bool), aside: make(map[rowID]*asideRow), born: make(map[rowID]bool)}
		a.tx.state, a.tx.counts = state, counts
		err := a.attempt("pass", func() error {
			for b, err := range a.edits {
				if err != nil {
					return err
				}
				if err := a.apply(b); err != nil {
					return err
				}
			}
			if len(a.clashes) > 0 {
				return &ClashError{Clashes: a.clashes}
			}
			if err := a.settle(); err != nil {
				return err
			}
			if len(a.refused) > 0 {
				return errAgain
			}
			return nil
		})
		switch {
		case err == nil:
			if a.report != nil {
				return a.report(a.outcomes)
			}
			return nil
		case !errors.Is(err, errAgain):
			return err
		}
	}
}

// apply applies a batch.
func (a *application) apply(b *batch) error {
	for edits := range slices.Chunk(b.edits, batchRows) {
		known, err := a.lookup(b.table, edits)
		if err != nil {
			return err
		}
		for i := range edits {
			if err := a.edit(b, &edits[i], known[i]); err != nil {
				return fmt.Errorf("apply a row of %q: %w", b.table.def.Name, err)
			}
		}
	}
	return nil
}

// A knownRow is what the master knows of a row before an edit. Edits of one batch that
// name the same row share one.
type knownRow struct {
	row   *change.Row // nil: nothing
	trash []byte      // of a deleted row
}

var lookupQuery = `SELECT pk, feed, dots, trash FROM _velosync_row WHERE tbl = ? AND pk IN (` + marks(batchRows) + `)`

// lookup finds the rows of at most batchRows edits.
func (a *application) lookup(t *table, edits []rowEdit) ([]*knownRow, error) {
	known := make([]*knownRow, len(edits))
	rows := make([]knownRow, len(edits))
	at := make(map[rowID]*knownRow, len(edits))
	args := make([]change.Value, 1, batchRows+1)
	args[0] = t.id
	for i := range edits {
		id := idOf(t.id, edits[i].key)
		if known[i] = at[id]; known[i] == nil {
			known[i], at[id] = &rows[i], &rows[i]
		}
		args = append(args, edits[i].key)
	}
	for len(args) <= batchRows {
		args = append(args, nil) // matches nothing
	}
	err := a.Query(lookupQuery, args, func(row []change.Value) error {
		k := at[idOf(t.id, row[0])]
		if k == nil {
			return nil // 1.0 where 1 was asked for
		}
		k.row = new(change.Row)
		if b, ok := row[3].([]byte); ok {
			k.trash = b
		}
		err := t.readDots(row[2].([]byte), change.Seq(row[1].(int64)), a, k.row)
		k.row.Bare = k.row.Deleted() && len(k.trash) == 0
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up rows of %q: %w", t.def.Name, err)
	}
	return known, nil
}

// edit applies one edit.
func (a *application) edit(b *batch, e *rowEdit, k *knownRow) error {
	a.pushed++
	fresh, ok := e.edit.Fresh(a.last)
	if !ok {
		a.duplicates++
		a.tell(outcome{before: k.row, after: k.row})
		return nil
	}
	t := b.table
	met := t.def.Options.IDs == change.RenumberIDs && fresh.Made > a.last && k.row != nil && k.row.Strange(fresh)
	if met && !fresh.Present {
		return a.clash(b, e)
	}
	fresh, ok, err := a.news(b, e, fresh, k)
	if err != nil || !ok {
		return err
	}
	if met {
		return a.clash(b, e)
	}
	seq, err := a.next()
	if err != nil {
		return err
	}
	w := rowWrite{application: a, table: t, batch: b, edit: e, fresh: fresh, seq: seq, known: k}
	if reason := a.refusal(t, e.key); reason != "" {
		return w.reject(reason)
	}
	if err := w.doubt(); err != nil {
		return err
	}
	if w.key, err = change.SplitKey(e.key, len(t.def.Key)); err != nil {
		return err // checked before
	}
	if err := w.tally(); err != nil {
		return err
	}
	reason, err := w.decide()
	if err != nil {
		return err
	}
	if reason != "" {
		return w.reject(reason)
	}
	return w.record()
}

// news drops registers from an edit of a whole row that hold what stands there already: a
// device that found its triggers gone sends all rows again. ok is false when nothing is
// left.
func (a *application) news(b *batch, e *rowEdit, fresh change.Edit, k *knownRow) (_ change.Edit, ok bool, err error) {
	if fresh.Delete || a.report != nil || k.row == nil || k.row.Deleted() || fresh.Bits()|fresh.Lacks != b.table.all {
		return fresh, true, nil
	}
	key, err := change.SplitKey(e.key, len(b.table.def.Key))
	if err != nil {
		return fresh, false, err
	}
	w := rowWrite{application: a, table: b.table, edit: e, key: key}
	row, err := w.current()
	if err != nil {
		return fresh, false, err
	}
	var differs change.Bits
	for i, c := range b.table.columns(b.regs) {
		r := b.table.registerOf[c]
		if v := e.values[i]; v != (absent{}) && (!sameValue(v, row[c]) || e.brings(r)) {
			differs |= change.Bit(b.table.registerOf[c])
		}
	}
	kept := make([]change.RegEdit, 0, len(fresh.Regs))
	for _, g := range fresh.Regs {
		if differs.Has(g.Reg) {
			kept = append(kept, g)
		}
	}
	if len(kept) == 0 {
		a.duplicates++
	}
	fresh.Regs = kept
	return fresh, len(kept) > 0, nil
}

// refusal returns why a row is not to be touched in this pass; "" when it may be.
func (a *application) refusal(t *table, key change.Value) string {
	if len(a.rejected) > 0 || len(a.parked) > 0 {
		id := idOf(t.id, key)
		if reason := a.rejected[id]; reason != "" {
			return reason
		}
		if reason := a.parked[id]; reason != "" {
			return reason
		}
	}
	if a.pass >= maxPasses && (len(t.refers) > 0 || len(t.referred) > 0) {
		return "FOREIGN KEY constraint failed: too many rows of this push stand on rows that were rejected"
	}
	return ""
}

// loadParked reads which rows of this device were rejected in a way that it has not
// heard of: what it edited since stands on the rejected row, and is parked with it.
func (a *application) loadParked() error {
	if a.device.site == 0 {
		return nil
	}
	a.parked = make(map[rowID]string)
	return a.Query(`SELECT tbl, pk, reason FROM _velosync_conflict WHERE site = ? AND seq > ? AND kind = ?`,
		[]change.Value{a.device.site, int64(a.seen), string(change.Rejected)}, func(row []change.Value) error {
			a.parked[idOf(row[0].(int64), row[1])] = row[2].(string)
			return nil
		})
}

// tell keeps an outcome for whoever wants to know.
func (a *application) tell(o outcome) {
	if a.report != nil {
		a.outcomes = append(a.outcomes, o)
	}
}

// siteOf implements sites: nearly all dots are the device's own.
func (a *application) siteOf(id change.DeviceID) int64 {
	if id == a.device.id {
		return a.device.site
	}
	return a.tx.siteOf(id)
}

const (
	insertRow = `INSERT INTO _velosync_row (feed, tbl, pk, deleted, dots, trash) VALUES (?, ?, ?, ?, ?, ?)`
	updateRow = `UPDATE _velosync_row SET feed = ?, pk = ?, deleted = ?, dots = ?, trash = ? WHERE feed = ?`
)
