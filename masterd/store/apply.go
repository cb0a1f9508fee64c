package store

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
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
		return t.readDots(row[2].([]byte), change.Seq(row[1].(int64)), a, k.row)
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

// decide decides what becomes of the edit, and writes the row's values. Where a column's
// merge expression gives no value that the row can have, its rank decides. reason says why
// the edit is rejected.
func (w *rowWrite) decide() (reason string, err error) {
	w.fresh.Blend = w.table.blend
	for {
		w.row, w.out = change.Merge(w.known.row, w.fresh, w.seq, len(w.table.registers))
		reason, err = w.blend()
		if err == nil && reason == "" && w.unmerged&w.fresh.Blend == 0 {
			reason, err = w.values()
			if reason != "" { // the row by itself, or what an expression made of it
				w.giveUp(w.out.Blend&w.table.expressions, reason)
			}
		}
		if err != nil || w.unmerged&w.fresh.Blend == 0 {
			return reason, err
		}
		w.fresh.Blend &^= w.unmerged
		w.old, w.doubts = nil, nil
	}
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

// doubt decides what the edit has seen of registers that hold a column which its author's
// table has only now: all of them, unless the row has a value there that it knew not.
func (w *rowWrite) doubt() error {
	if w.edit.doubtful == 0 || w.known.row == nil {
		return nil
	}
	key, err := change.SplitKey(w.edit.key, len(w.table.def.Key))
	if err != nil {
		return err
	}
	w.key = key
	var row []change.Value
	if w.known.row.Deleted() {
		row, err = w.table.oldValues(w.known.trash)
	} else {
		row, err = w.current()
	}
	if err != nil {
		return err
	}
	defaults, err := w.table.defaults()
	if err != nil {
		return err
	}
	unseen := change.Bits(0)
	for i, c := range w.table.columns(w.batch.regs) {
		v := w.edit.values[i]
		if w.batch.fresh[c] && v != (absent{}) && !sameValue(v, row[c]) && !sameValue(row[c], defaults[c]) {
			unseen |= change.Bit(w.table.registerOf[c])
		}
	}
	for i := range w.fresh.Regs {
		if unseen.Has(w.fresh.Regs[i].Reg) {
			w.fresh.Regs[i].Seen = 0
		}
	}
	return nil
}

func sameValue(a, b change.Value) bool {
	x, ok := a.([]byte)
	y, ok2 := b.([]byte)
	if ok || ok2 {
		return ok && ok2 && bytes.Equal(x, y)
	}
	return a == b
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

// A rowWrite is the writing of one edit.
type rowWrite struct {
	*application
	table *table
	batch *batch
	edit  *rowEdit
	fresh change.Edit
	seq   change.Seq
	key   []change.Value // of the row, split
	known *knownRow
	row   *change.Row // after; nil: nothing is kept
	out   change.Outcome

	old     []change.Value // the row's values before, in table order, where they were wanted
	mixed   change.Bits    // registers whose value is not the edit's alone
	blended []change.Value // by column, of those
	steps   []change.Step  // that were not applied before
	doubts  []change.Step  // of them, those that do not count
	// unmerged are registers whose merge expression failed, why says how.
	unmerged change.Bits
	why      string
	trash    []byte // after
}

// values writes the row's values. It returns why a constraint refuses them; nothing is
// written then.
func (w *rowWrite) values() (reason string, err error) {
	was, is := w.known.row, w.row
	switch {
	case is == nil: // nothing is kept of a row that is not known
		return "", nil
	case was == nil:
		row := w.table.row(w.key)
		if w.edit.lacks(w.table.all, w.batch) {
			values, err := w.table.defaults()
			if err != nil {
				return "", err
			}
			for _, c := range w.table.rest {
				row[c] = values[c]
			}
		}
		return w.insert(w.taken(row))
	case was.Deleted():
		if err := w.load(); err != nil {
			return "", err
		}
		row := w.taken(slices.Clone(w.old))
		if is.Deleted() {
			w.trash = w.known.trash
			if w.out.Take != 0 || len(w.out.Took) > 0 {
				w.trash = appendValues(nil, row)
			}
			return "", nil
		}
		for i, k := range w.table.def.Key { // as the edit writes it
			row[k] = w.key[i]
		}
		return w.insert(row)
	case is.Deleted():
		if w.old, err = w.current(); err != nil {
			return "", err
		}
		w.trash = appendValues(nil, w.old)
		return "", w.delete()
	}
	if len(w.out.Losses) > 0 || w.edit.lacks(w.out.Take, w.batch) {
		if w.old, err = w.current(); err != nil {
			return "", err
		}
	}
	return w.update()
}

// taken lays the values of the registers that the edit keeps over a row's.
func (w *rowWrite) taken(row []change.Value) []change.Value {
	take := w.out.Take & w.batch.regs
	from, i := w.table.columns(w.batch.regs), 0
	for _, c := range w.table.columns(take) {
		for from[i] != c {
			i++
		}
		switch {
		case w.mixed.Has(w.table.registerOf[c]):
			row[c] = w.blended[c]
		case w.edit.values[i] != (absent{}):
			row[c] = w.edit.values[i]
		}
	}
	return row
}

// lacks reports whether an edit brings not all values of some registers.
func (e *rowEdit) lacks(regs change.Bits, b *batch) bool {
	if regs&^b.regs != 0 {
		return true
	}
	for _, v := range e.values {
		if v == (absent{}) {
			return true
		}
	}
	return false
}

// current reads the row's values, in table order.
func (w *rowWrite) current() ([]change.Value, error) {
	if row := w.asideOf(w.table, w.edit.key); row != nil {
		return slices.Clone(row.values), nil
	}
	row, err := readRow(w.Conn, w.table, w.key)
	if err == nil && row == nil {
		err = fmt.Errorf("row %.100v is listed, its values are not there: the store is damaged", w.edit.key)
	}
	return row, err
}

// insert writes a row that is not there.
func (w *rowWrite) insert(row []change.Value) (reason string, err error) {
	reason, meets, err := w.write(w.table.insert, row)
	if meets {
		w.putAside(row, reason)
		reason = ""
	}
	if reason == "" && err == nil {
		err = w.touchChild(true)
		w.bear()
	}
	return reason, err
}

// update writes the registers that the edit keeps.
func (w *rowWrite) update() (reason string, err error) {
	q := w.table.updateOf(w.out.Take)
	if q == "" {
		return "", nil
	}
	if row := w.asideOf(w.table, w.edit.key); row != nil {
		w.taken(row.values)
		return "", w.touchChild(false)
	}
	if err := w.leaveParent(false); err != nil {
		return "", err
	}
	args := w.edit.values
	if w.out.Take != w.batch.regs || w.mixed != 0 || w.edit.lacks(w.out.Take, w.batch) {
		row := w.table.row(w.key)
		if w.old != nil {
			copy(row, w.old)
		}
		row = w.taken(row)
		args = nil
		for _, c := range w.table.columns(w.out.Take) {
			args = append(args, row[c])
		}
	}
	args = append(args[:len(args):len(args)], w.key...)
	reason, meets, err := w.write(q, args)
	if meets {
		if w.old == nil {
			if w.old, err = w.current(); err != nil {
				return "", err
			}
		}
		if err := w.leaveParent(true); err != nil { // an edit that follows may delete it
			return "", err
		}
		if _, err := w.Exec(w.table.remove, w.key...); err != nil {
			return "", err
		}
		w.putAside(w.taken(slices.Clone(w.old)), reason)
		reason = ""
	}
	if reason == "" && err == nil {
		err = w.touchChild(false)
	}
	return reason, err
}

// delete takes the row away.
func (w *rowWrite) delete() error {
	if w.asideOf(w.table, w.edit.key) != nil {
		delete(w.aside, idOf(w.table.id, w.edit.key))
		return nil
	}
	if err := w.leaveParent(true); err != nil {
		return err
	}
	n, err := w.Exec(w.table.remove, w.key...)
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows have key %.100v: the store is damaged", n, w.edit.key)
	}
	return err
}

const (
	insertRow = `INSERT INTO _velosync_row (feed, tbl, pk, deleted, dots, trash) VALUES (?, ?, ?, ?, ?, ?)`
	updateRow = `UPDATE _velosync_row SET feed = ?, pk = ?, deleted = ?, dots = ?, trash = ? WHERE feed = ?`
)

// record writes what is known of the row now, and the losses.
func (w *rowWrite) record() error {
	was, is := w.known.row, w.row
	for i := range w.out.Losses {
		if err := w.recordLoss(&w.out.Losses[i]); err != nil {
			return err
		}
	}
	if err := w.recordDoubts(); err != nil {
		return err
	}
	w.tell(outcome{seq: w.seq, before: was, after: is, Outcome: w.out})
	if is == nil || was != nil && is.Feed == was.Feed {
		return nil // a delete that lost leaves the row where it is
	}
	var trash change.Value
	if is.Deleted() {
		trash = w.trash
	}
	deleted := int64(0)
	if is.Deleted() {
		deleted = 1
	}
	dots := appendDots(make([]byte, 0, 32), is, w)
	var err error
	if was == nil {
		_, err = w.Exec(insertRow, int64(is.Feed), w.table.id, w.edit.key, deleted, dots, trash)
	} else {
		_, err = w.Exec(updateRow, int64(is.Feed), w.edit.key, deleted, dots, trash, int64(was.Feed))
	}
	if err != nil {
		return fmt.Errorf("record the row: %w", err)
	}
	w.count(was, is)
	w.known.row, w.known.trash = is, w.trash
	return nil
}

// count keeps the counts of live and deleted rows.
func (w *rowWrite) count(was, is *change.Row) {
	add := func(r *change.Row, n int64) {
		switch {
		case r == nil:
		case r.Deleted():
			w.tombstones += n
		default:
			w.live += n
		}
	}
	add(was, -1)
	add(is, 1)
}

// reject leaves the row as it is and logs the edit.
func (w *rowWrite) reject(reason string) error {
	w.tx.counts.rejected++
	w.tell(outcome{seq: w.seq, before: w.known.row, after: w.known.row, reason: reason})
	key, err := change.SplitKey(w.edit.key, len(w.table.def.Key))
	if err != nil {
		return err
	}
	w.key, w.old = key, nil
	if r := w.known.row; r != nil && !r.Deleted() {
		if w.old, err = w.current(); err != nil {
			return err
		}
	}
	return w.recordRejection(reason)
}

// readRow reads a row's values in table order; nil when it is not there.
func readRow(c *vsql.Conn, t *table, key []change.Value) (row []change.Value, err error) {
	err = c.Query(t.read, key, func(values []change.Value) error {
		row = slices.Clone(values)
		return nil
	})
	return row, err
}
