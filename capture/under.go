package capture

import (
	"fmt"
	"slices"

	"github.com/velosync/velosync/capture/change"
)

type underRow struct{ reg, seen int64 }

// A beforeRow is what a row showed before a pull was laid under its pending edits.
type beforeRow struct {
	cols   []int
	values []change.Value
	under  []underRow
}

// layUnder writes down how old a row is that a pulled delete leaves standing.
func (a *applier) layUnder(t *table, k rowKey) error {
	seen := make([]int64, len(t.registers))
	for i := range seen {
		seen[i] = int64(a.seen)
	}
	err := a.d.c.Query(`SELECT cols, seen FROM _velosync_wal WHERE tbl = ? AND pk = ? AND op NOT IN ('X', 'E')`, []change.Value{k.tbl, k.value()}, func(v []change.Value) error {
		(change.Bits(v[0].(int64)) & change.AllBits(len(seen))).Each(func(i int) { seen[i] = min(seen[i], v[1].(int64)) })
		return nil
	})
	if err != nil {
		return err
	}
	if a.laid[k], err = a.under(k); err != nil {
		return err
	}
	for i, s := range seen {
		if _, err := a.d.c.Exec(`INSERT INTO _velosync_under(tbl, pk, reg, seen) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET seen = min(seen, excluded.seen)`, k.tbl, k.value(), int64(i), s); err != nil {
			return err
		}
	}
	return nil
}

// unlay takes layUnder back: a later page of the same pull brings the row after all.
func (a *applier) unlay(k rowKey) error {
	rows := a.laid[k]
	delete(a.laid, k)
	return a.setUnder(k, rows)
}

func (a *applier) under(k rowKey) ([]underRow, error) {
	rows := []underRow{}
	err := a.d.c.Query(`SELECT reg, seen FROM _velosync_under WHERE tbl = ? AND pk = ?`, []change.Value{k.tbl, k.value()}, func(v []change.Value) error {
		rows = append(rows, underRow{v[0].(int64), v[1].(int64)})
		return nil
	})
	return rows, err
}

func (a *applier) setUnder(k rowKey, rows []underRow) error {
	if _, err := a.d.c.Exec(`DELETE FROM _velosync_under WHERE tbl = ? AND pk = ?`, k.tbl, k.value()); err != nil {
		return err
	}
	for _, u := range rows {
		if _, err := a.d.c.Exec(`INSERT INTO _velosync_under(tbl, pk, reg, seen) VALUES (?, ?, ?, ?)`, k.tbl, k.value(), u.reg, u.seen); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) forgetUnder(k rowKey, regs change.Bits) (err error) {
	regs.Each(func(i int) {
		if err == nil {
			_, err = a.d.c.Exec(`DELETE FROM _velosync_under WHERE tbl = ? AND pk = ? AND reg = ?`, k.tbl, k.value(), int64(i))
		}
	})
	return err
}

// remember keeps what a row with something pending shows, before a page is laid under it.
func (a *applier) remember(t *table, k rowKey, cols []int) error {
	b := a.before[k]
	if b == nil {
		under, err := a.under(k)
		if err != nil {
			return err
		}
		b = &beforeRow{under: under}
		a.before[k] = b
	}
	var fresh []int
	for _, c := range cols {
		if !slices.Contains(b.cols, c) {
			fresh = append(fresh, c)
		}
	}
	_, _, err := a.d.readColumns(t, k.value(), fresh, func(v []change.Value) {
		b.cols, b.values = append(b.cols, fresh...), append(b.values, v...)
	})
	return err
}

// restore undoes what pages before this one laid under a row's pending edits: the row was
// deleted in the end, and what it shows stays as old as it is said to be.
func (a *applier) restore(t *table, k rowKey) error {
	b := a.before[k]
	if b == nil {
		return nil
	}
	delete(a.before, k)
	if len(b.cols) > 0 {
		_, err := newWriter(a.d, t, b.cols).update(k.value(), b.values)
		switch {
		case isConstraint(err) && a.park: // it keeps what is newer than it says
		case isConstraint(err):
			return fmt.Errorf("row %v of %q as it was: %v: %w", k.value(), t.d.Name, err, ErrAgain)
		case err != nil:
			return fmt.Errorf("row %v of %q as it was: %w", k.value(), t.d.Name, err)
		}
	}
	return a.setUnder(k, b.under)
}
