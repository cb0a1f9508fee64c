package store

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

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

// doubt decides what the edit has seen of registers that hold a column which its author's
// table has only now: all of them, unless the row has a value there that it knew not.
func (w *rowWrite) doubt() error {
	if w.edit.doubtful == 0 || w.known.row == nil || w.known.row.Bare {
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

// values writes the row's values. It returns why a constraint refuses them; nothing is
// written then.
func (w *rowWrite) values() (reason string, err error) {
	was, is := w.known.row, w.row
	switch {
	case is == nil: // nothing is kept of a row that is not known
		return "", nil
	case was == nil && is.Deleted():
		return "", nil
	case was == nil:
		row, err := w.blank()
		if err != nil {
			return "", err
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

// blank returns a row that nobody wrote: its key, and defaults where the edit has no values.
func (w *rowWrite) blank() ([]change.Value, error) {
	row := w.table.row(w.key)
	if !w.edit.lacks(w.table.all, w.batch) {
		return row, nil
	}
	values, err := w.table.defaults()
	if err != nil {
		return nil, err
	}
	for _, c := range w.table.rest {
		row[c] = values[c]
	}
	return row, nil
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

func sameValue(a, b change.Value) bool {
	x, ok := a.([]byte)
	y, ok2 := b.([]byte)
	if ok || ok2 {
		return ok && ok2 && bytes.Equal(x, y)
	}
	return a == b
}

// readRow reads a row's values in table order; nil when it is not there.
func readRow(c *vsql.Conn, t *table, key []change.Value) (row []change.Value, err error) {
	err = c.Query(t.read, key, func(values []change.Value) error {
		row = slices.Clone(values)
		return nil
	})
	return row, err
}
