package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// An asideRow is a row that met another's unique value. It is not in its table until the
// end of the pass.
type asideRow struct {
	table  *table
	pk     change.Value
	key    []change.Value
	values []change.Value
	lsn    change.LSN
	reason string
}

// A childCheck asks, at the end of a pass, whether a row's parent is there.
type childCheck struct {
	table *table
	refer *foreignKey
	pk    change.Value
	key   []change.Value
}

// A parentCheck asks, at the end of a pass, whether rows still refer to what is gone.
type parentCheck struct {
	table  *table // of the parent
	refer  *foreignKey
	pk     change.Value
	values []change.Value
}

// rowFault tells an error that lies in the row from one that lies elsewhere. unique: the
// row would be welcome if another were not there.
func rowFault(err error) (reason string, unique, ok bool) {
	var e sqlite3.Error
	if !errors.As(err, &e) || fatal(err) {
		return "", false, false
	}
	// All statements were compiled before, so ErrError is a function that does not take a
	// value: malformed JSON in a CHECK, say.
	switch e.ExtendedCode {
	case sqlite3.ErrConstraintUnique, sqlite3.ErrConstraintPrimaryKey, sqlite3.ErrConstraintRowID:
		unique = true
	}
	return strings.TrimSpace(e.Error()), unique, true
}

// write runs a statement that writes one row. reason says why the row can't be; meets
// says that it only meets another, and may be put aside.
func (w *rowWrite) write(q string, args []change.Value) (reason string, meets bool, err error) {
	_, err = w.Exec(q, args...)
	if err == nil {
		return "", false, nil
	}
	reason, unique, ok := rowFault(err)
	if !ok {
		return "", false, err
	}
	return reason, unique && w.pass < calmPasses, nil
}

// putAside keeps a row for the end of the pass.
func (w *rowWrite) putAside(values []change.Value, reason string) {
	w.aside[idOf(w.table.id, w.edit.key)] = &asideRow{table: w.table, pk: w.edit.key, key: w.key, values: values, lsn: w.fresh.LSN, reason: reason}
}

func (p *passState) asideOf(t *table, pk change.Value) *asideRow {
	if len(p.aside) == 0 {
		return nil
	}
	return p.aside[idOf(t.id, pk)]
}

// touchChild asks for the parents of a row that was written; of one that was there
// before only where the edit wrote the columns of the key.
func (w *rowWrite) touchChild(whole bool) error {
	for i := range w.table.refers {
		f := &w.table.refers[i]
		if !whole && f.regs&w.out.Take == 0 {
			continue
		}
		orphan, err := w.Orphan(&f.ForeignKey, w.key)
		if err != nil {
			return err
		}
		// A parent may come later in the push, and so may a row put aside.
		if orphan || w.asideOf(w.table, w.edit.key) != nil {
			w.children = append(w.children, childCheck{w.table, f, w.edit.key, w.key})
		}
	}
	return nil
}

// leaveParent notes what others may refer to in a row that is about to be deleted, or
// to change.
func (w *rowWrite) leaveParent(whole bool) error {
	for i := range w.table.referred {
		f := &w.table.referred[i]
		if !whole && f.regs&w.out.Take == 0 {
			continue
		}
		values, err := w.ParentValues(&f.ForeignKey, w.key)
		if err != nil {
			return err
		}
		if values != nil {
			w.parents = append(w.parents, parentCheck{w.table, f, w.edit.key, values})
		}
	}
	return nil
}

// bear notes a row that is there since this pass, where that may matter to others: it
// goes with its parent.
func (w *rowWrite) bear() {
	if len(w.table.refers) > 0 && len(w.table.referred) > 0 {
		w.born[idOf(w.table.id, w.edit.key)] = true
	}
}

// settle does what had to wait for the end of a pass. It sets refused when rows were
// rejected.
func (a *application) settle() error {
	if err := a.settleAside(); err != nil {
		return err
	}
	for i := range a.children {
		c := &a.children[i]
		orphan, err := a.Orphan(&c.refer.ForeignKey, c.key)
		if err != nil {
			return err
		}
		if orphan {
			if err := a.rejectChild(c.table, c.refer, c.pk, c.key); err != nil {
				return err
			}
		}
	}
	for i := range a.parents {
		if err := a.settleParent(&a.parents[i]); err != nil {
			return err
		}
	}
	return nil
}

// settleAside inserts the rows that were put aside, those first that were written first.
func (a *application) settleAside() error {
	rows := make([]*asideRow, 0, len(a.aside))
	for _, r := range a.aside {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(x, y *asideRow) int {
		return cmp.Or(cmp.Compare(x.lsn, y.lsn), strings.Compare(fmt.Sprint(x.table.id, x.pk), fmt.Sprint(y.table.id, y.pk)))
	})
	for _, r := range rows {
		_, err := a.Exec(r.table.insert, r.values...)
		if err == nil {
			continue
		}
		reason, _, ok := rowFault(err)
		if !ok {
			return err
		}
		a.rejectLater(r.table, r.pk, reason)
	}
	return nil
}

// rejectLater rejects a row from the next pass on.
func (a *application) rejectLater(t *table, pk change.Value, reason string) {
	id := idOf(t.id, pk)
	a.refused[id] = true
	if a.rejected[id] == "" {
		a.rejected[id] = reason
	}
}

// rejectChild rejects a row whose parent is not there. One that came with this push
// takes those with it that came to refer to it, so that a tree takes one pass, not one
// for each of its levels.
func (a *application) rejectChild(t *table, f *foreignKey, pk change.Value, key []change.Value) error {
	a.rejectLater(t, pk, fmt.Sprintf("FOREIGN KEY constraint failed: %s(%s) refers to a row of %s that is not there",
		f.Child, strings.Join(f.Columns, ", "), f.Parent))
	id := idOf(t.id, pk)
	if !a.born[id] {
		return nil
	}
	delete(a.born, id)
	var left []parentCheck
	for i := range t.referred {
		f := &t.referred[i]
		values, err := a.ParentValues(&f.ForeignKey, key)
		if err != nil {
			return err
		}
		if values != nil {
			left = append(left, parentCheck{t, f, pk, values})
		}
	}
	if _, err := a.Exec(t.remove, key...); err != nil { // the pass is undone anyway
		return err
	}
	for i := range left {
		if err := a.settleParent(&left[i]); err != nil {
			return err
		}
	}
	return nil
}

// settleParent asks who still refers to what a row held. A row that came to refer to it
// in this push is rejected; for another, the parent's delete is.
func (a *application) settleParent(p *parentCheck) error {
	var children []change.Value
	err := a.Orphans(&p.refer.ForeignKey, p.values, func(pk change.Value) error {
		children = append(children, pk)
		return nil
	})
	if err != nil {
		return err
	}
	child := a.schema.find(p.refer.Child)
	if child == nil {
		return fmt.Errorf("table %q refers to %q and is not in the space", p.refer.Child, p.refer.Parent)
	}
	for _, pk := range children {
		if a.refused[idOf(child.id, pk)] {
			continue // the next pass will tell
		}
		f := child.refersBy(&p.refer.ForeignKey)
		put, err := a.put(child, f, pk)
		if err != nil {
			return err
		}
		if !put {
			a.rejectLater(p.table, p.pk, fmt.Sprintf("FOREIGN KEY constraint failed: a row of %s(%s) refers to this row",
				f.Child, strings.Join(f.Columns, ", ")))
			continue
		}
		key, err := change.SplitKey(pk, len(child.def.Key))
		if err != nil {
			return err
		}
		if err := a.rejectChild(child, f, pk, key); err != nil {
			return err
		}
	}
	return nil
}

// refersBy returns the table's own entry of a foreign key.
func (t *table) refersBy(k *vsql.ForeignKey) *foreignKey {
	for i := range t.refers {
		if f := &t.refers[i]; f.Parent == k.Parent && slices.Equal(f.Columns, k.Columns) && slices.Equal(f.To, k.To) {
			return f
		}
	}
	return &foreignKey{ForeignKey: *k, regs: t.all}
}

// put reports whether this push put the columns of a foreign key into a row.
func (a *application) put(t *table, f *foreignKey, pk change.Value) (put bool, err error) {
	var r change.Row
	err = a.Query(`SELECT pk, feed, dots FROM _velosync_row WHERE tbl = ? AND pk = ? AND feed > ?`, []change.Value{t.id, pk, int64(a.base)}, func(row []change.Value) error {
		if idOf(t.id, row[0]) != idOf(t.id, pk) {
			return nil
		}
		if err := t.readDots(row[2].([]byte), change.Seq(row[1].(int64)), a, &r); err != nil {
			return err
		}
		put = r.Back > a.base || f.regs == 0 // the key never changes: the row is new
		f.regs.Each(func(i int) { put = put || r.Regs[i].Seq > a.base })
		return nil
	})
	return put, err
}
