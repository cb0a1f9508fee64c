package capture

import (
	"fmt"

	"github.com/velosync/velosync/capture/change"
)

// parkRow keeps a row from the master that this file can't take. It is tried again in each
// round, and never holds the pull up.
func (a *applier) parkRow(t *table, key change.Value, regs change.Bits, cols []int, values []change.Value, op string, why error) error {
	d := a.d
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = t.d.Columns[c].Name
	}
	var before string
	var held int64
	found, err := d.c.Row(`SELECT cols, vals FROM _velosync_parked WHERE tbl = ? AND pk = ? AND op = 'U'`, []change.Value{t.id, key}, &held, &before)
	if err != nil {
		return err
	}
	if found && op == "U" { // what was parked before, under what came now
		old, err := decodeRow(before)
		if err != nil {
			return err
		}
		for _, n := range names {
			delete(old, n)
		}
		for n, v := range old {
			names, values = append(names, n), append(values, v)
		}
		regs |= change.Bits(held)
	}
	d.o.Log.Warn("row parked", "table", t.d.Name, "reason", why)
	a.parked[keyFor(t.id, key)] = true
	_, err = d.c.Exec(`INSERT OR REPLACE INTO _velosync_parked(tbl, pk, cols, op, vals, reason, at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		t.id, key, int64(regs), op, encodeRow(names, values), why.Error(), d.now())
	return err
}

// readParked reads which rows are parked, and forgets of them what was written here since:
// such an edit follows what was parked.
func (a *applier) readParked() error {
	d := a.d
	err := d.c.Query(`SELECT tbl, pk FROM _velosync_parked`, nil, func(v []change.Value) error {
		a.parked[keyFor(v[0].(int64), v[1])] = true
		return nil
	})
	if err != nil || len(a.parked) == 0 {
		return err
	}
	written := make(map[rowKey]change.Bits)
	err = d.c.Query(`SELECT tbl, pk, cols FROM _velosync_wal WHERE lsn > (SELECT acked FROM _velosync_state) AND op NOT IN ('X', 'E')`, nil, func(v []change.Value) error {
		if k := keyFor(v[0].(int64), v[1]); a.parked[k] {
			written[k] |= change.Bits(v[2].(int64))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k, regs := range written {
		if t := d.byID(k.tbl); t != nil {
			if err := a.unpark(t, k, regs); err != nil {
				return err
			}
		}
	}
	return nil
}

// unpark forgets some registers of a parked row: something newer stands in their place.
func (a *applier) unpark(t *table, k rowKey, regs change.Bits) error {
	if !a.parked[k] {
		return nil
	}
	d := a.d
	var held int64
	var values, op string
	found, err := d.c.Row(`SELECT cols, coalesce(vals, '{}'), op FROM _velosync_parked WHERE tbl = ? AND pk = ?`, []change.Value{k.tbl, k.value()}, &held, &values, &op)
	if err != nil || !found {
		return err
	}
	rest := change.Bits(held) & change.AllBits(len(t.registers)) &^ regs
	if rest == 0 || op == "D" {
		delete(a.parked, k)
		_, err := d.c.Exec(`DELETE FROM _velosync_parked WHERE tbl = ? AND pk = ?`, k.tbl, k.value())
		return err
	}
	row, err := decodeRow(values)
	if err != nil {
		return err
	}
	cols := change.ColumnsOf(t.registers, rest)
	left := make([]change.Value, len(cols))
	for i, c := range cols {
		left[i] = row[t.d.Columns[c].Name]
	}
	_, err = d.c.Exec(`UPDATE _velosync_parked SET cols = ?, vals = ? WHERE tbl = ? AND pk = ?`, int64(rest), encodeRow(t.names(cols), left), k.tbl, k.value())
	return err
}

// keepPart parks some registers of a row that this file has not: a later page of the pull
// may bring the others.
func (a *applier) keepPart(row *pulledRow, key change.Value) error {
	a.partial[row.key] = true
	return a.parkRow(row.t, key, row.regs, row.cols, row.values, "U", fmt.Errorf("the row is not in this file: it was deleted while no trigger watched"))
}

// parkPartial leaves rows parked that no page completed; retryParked has tried them.
func (a *applier) parkPartial() error {
	for k := range a.partial {
		t := a.d.byID(k.tbl)
		a.d.o.Log.Warn("row in part only, parked", "table", t.d.Name)
	}
	return nil
}

// retryParked tries rows that were parked, now or in an earlier round.
func (a *applier) retryParked() error {
	type row struct {
		key        rowKey
		regs       change.Bits
		op, values string
	}
	d := a.d
	var rows []row
	err := d.c.Query(`SELECT tbl, pk, cols, op, coalesce(vals, '{}') FROM _velosync_parked`, nil, func(v []change.Value) error {
		rows = append(rows, row{keyFor(v[0].(int64), v[1]), change.Bits(v[2].(int64)), v[3].(string), v[4].(string)})
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range rows {
		t := d.byID(r.key.tbl)
		if t == nil || a.isLater(r.key) {
			continue // a pending edit of the same row goes first
		}
		done, err := a.tryParked(t, r.key.value(), r.regs, r.op, r.values)
		if err != nil {
			return fmt.Errorf("parked row %v of %q: %w", r.key.value(), t.d.Name, err)
		}
		if !done {
			continue
		}
		delete(a.partial, r.key)
		a.result.Rows++
		if _, err := d.c.Exec(`DELETE FROM _velosync_parked WHERE tbl = ? AND pk = ?`, r.key.tbl, r.key.value()); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) tryParked(t *table, key change.Value, regs change.Bits, op, values string) (bool, error) {
	d := a.d
	if op == "D" {
		if err := a.foreign.before(t, key); err != nil {
			return false, err
		}
		_, err := d.deleteRow(t, key)
		if isConstraint(err) {
			return false, nil
		}
		return err == nil, err
	}
	row, err := decodeRow(values)
	if err != nil {
		return false, err
	}
	all := change.AllBits(len(t.registers))
	var cols []int
	var vals []change.Value
	for _, c := range change.ColumnsOf(t.registers, regs) {
		if v, ok := row[t.d.Columns[c].Name]; ok { // else the column came after
			cols, vals = append(cols, c), append(vals, v)
		}
	}
	if err := a.foreign.before(t, key); err != nil {
		return false, err
	}
	w := newWriter(d, t, cols)
	var n int64
	if regs&all == all {
		n, err = w.upsert(key, vals)
	} else {
		n, err = w.update(key, vals)
	}
	if isConstraint(err) {
		return false, nil
	}
	if n > 0 {
		a.foreign.after(t, key)
	}
	return err == nil && n > 0, err
}
