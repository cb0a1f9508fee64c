package capture

import (
	"fmt"

	"github.com/velosync/velosync/capture/change"
)

// exchange writes the rows that met a UNIQUE constraint: rows of one batch may exchange
// unique values, and SQLite refuses the exchange even in one statement. So all of them are
// taken out, then put back. What still meets a constraint meets a row written since the
// push, or a rule that only this file has.
func (a *applier) exchange() error {
	rows := make([]exchangedRow, 0, len(a.retry))
	for _, r := range a.retry {
		all := make([]int, len(r.t.d.Columns))
		for i := range all {
			all[i] = i
		}
		w := exchangedRow{pulledRow: r, new: make([]change.Value, len(all))}
		key, err := change.SplitKey(r.key.value(), len(r.t.d.Key))
		if err != nil {
			return err
		}
		found, _, err := a.d.readColumns(r.t, r.key.value(), all, func(v []change.Value) {
			w.old = append([]change.Value(nil), v...)
			copy(w.new, v)
		})
		if err != nil {
			return err
		}
		if !found && !r.all {
			if err := a.keepPart(r, r.key.value()); err != nil {
				return err
			}
			continue
		}
		for i, k := range r.t.d.Key {
			w.new[k] = key[i]
		}
		for i, c := range r.cols {
			w.new[c] = r.values[i]
		}
		rows = append(rows, w)
	}
	for _, w := range rows {
		if _, err := a.d.deleteRow(w.t, w.key.value()); err != nil {
			return fmt.Errorf("exchange row %v of %q: %w", w.key.value(), w.t.d.Name, err)
		}
	}
	byKey := make(map[rowKey]*exchangedRow, len(rows))
	for i := range rows {
		byKey[rows[i].key] = &rows[i]
	}
	for i := range rows {
		w := &rows[i]
		err := a.d.insertRow(w.t, w.new)
		switch {
		case err == nil:
			a.foreign.after(w.t, w.key.value())
			a.result.Rows++
			if err := a.unpark(w.t, w.key, w.regs); err != nil {
				return err
			}
			continue
		case !isConstraint(err):
			return fmt.Errorf("row %v of %q: %w", w.key.value(), w.t.d.Name, err)
		case len(a.later) > 0 && !a.park:
			return fmt.Errorf("row %v of %q: %v: %w", w.key.value(), w.t.d.Name, err, ErrAgain)
		}
		if err := a.putBack(byKey, w, err); err != nil {
			return err
		}
	}
	return nil
}

// An exchangedRow is a row that was taken out.
type exchangedRow struct {
	*pulledRow
	old, new []change.Value // all columns; old nil: there was no row
	back     bool           // it is parked
}

// putBack parks a row that is out, and puts what it was in its place, though another that was
// taken out may have come in with its values: then that goes back too.
func (a *applier) putBack(rows map[rowKey]*exchangedRow, w *exchangedRow, why error) error {
	w.back = true
	back := []*exchangedRow{w}
	for n := 0; n < len(back); n++ {
		w := back[n]
		if n > 0 {
			if _, err := a.d.deleteRow(w.t, w.key.value()); err != nil {
				return err
			}
		}
		if err := a.parkRow(w.t, w.key.value(), w.regs, w.cols, w.values, "U", why); err != nil {
			return err
		}
		if w.old == nil {
			continue
		}
		holders, err := a.d.holders(w.t, w.key.value(), w.old)
		if err != nil {
			return err
		}
		for _, key := range holders {
			if o := rows[keyFor(w.t.id, key)]; o != nil && !o.back {
				o.back, back = true, append(back, o)
				a.result.Rows--
			}
		}
	}
	for n := len(back) - 1; n >= 0; n-- {
		w := back[n]
		if w.old == nil {
			continue
		}
		switch err := a.d.insertRow(w.t, w.old); {
		case isConstraint(err): // a trigger's doing: the row has to stay as it was
			a.foreign.refuse(touchedRow{w.t, w.key.value()}, err.Error())
		case err != nil:
			return err
		}
	}
	return nil
}
