package capture

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
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

// A parkedRow is a row of _velosync_parked.
type parkedRow struct {
	t          *table
	key        change.Value
	regs       change.Bits
	op, values string
	reason     string
}

// retryParked tries rows that were parked, now or in an earlier round: first all together,
// since one may need another, then those that did not stand, one by one while some come in.
func (a *applier) retryParked() error {
	d := a.d
	var rows []parkedRow
	err := d.c.Query(`SELECT tbl, pk, cols, op, coalesce(vals, '{}'), reason FROM _velosync_parked`, nil, func(v []change.Value) error {
		k := keyFor(v[0].(int64), v[1])
		t := d.byID(k.tbl)
		if t == nil || a.isLater(k) {
			return nil // a pending edit of the same row goes first
		}
		rows = append(rows, parkedRow{t, k.value(), change.Bits(v[2].(int64)), v[3].(string), v[4].(string), v[5].(string)})
		return nil
	})
	if err != nil {
		return err
	}
	wait := rows
	for came := true; came && len(wait) > 0; {
		if wait, err = a.tryTogether(wait); err != nil {
			return err
		}
		if wait, came, err = a.tryEach(wait); err != nil {
			return err
		}
	}
	for _, r := range wait {
		if _, err := d.c.Exec(`UPDATE _velosync_parked SET reason = ?1 WHERE tbl = ?2 AND pk = ?3 AND reason <> ?1`, r.reason, r.t.id, r.key); err != nil {
			return err
		}
	}
	return nil
}

// tryEach tries rows one by one until none comes in, and returns those that wait on. Who is
// known to wait for a row that came in is next: so a chain of rows takes two tries a row, in
// whatever order they stand. Where a row waits for what is not known, as a trigger's RAISE, it is
// tried after all others, as long as some come in. Rows that are blocked are left out: to try
// each may take as long as to try all of them together, which is next where some came in.
func (a *applier) tryEach(rows []parkedRow) (wait []parkedRow, some bool, err error) {
	waiting := make(map[event][]int)
	in := make([]bool, len(rows))
	for came := true; came; {
		came = false
		for i := range rows {
			if a.blocked[keyFor(rows[i].t.id, rows[i].key)] {
				continue
			}
			for next := []int{i}; len(next) > 0; {
				i := next[len(next)-1]
				next = next[:len(next)-1]
				if in[i] {
					continue
				}
				left, err := a.tryParked(rows[i : i+1])
				if err != nil {
					return nil, false, err
				}
				if len(left) > 0 {
					rows[i] = left[0]
					for _, e := range a.awaited {
						waiting[e] = append(waiting[e], i)
					}
					continue
				}
				in[i], came, some = true, true, true
				events, err := a.events(&rows[i])
				if err != nil {
					return nil, false, err
				}
				for _, e := range events {
					next = append(next, waiting[e]...)
					delete(waiting, e)
				}
			}
		}
	}
	for i := range rows {
		if !in[i] {
			wait = append(wait, rows[i])
		}
	}
	return wait, some, nil
}

// tryTogether writes as many of the rows as stand together, and returns the others.
func (a *applier) tryTogether(rows []parkedRow) (wait []parkedRow, err error) {
	a.blocked = make(map[rowKey]bool)
	for len(rows) > 0 {
		left, err := a.tryParked(rows)
		if err != nil || len(left) == 0 {
			return wait, err
		}
		out := make(map[rowKey]bool)
		for _, r := range left {
			out[keyFor(r.t.id, r.key)] = true
		}
		wait = append(wait, left...)
		rows = slices.DeleteFunc(slices.Clone(rows), func(r parkedRow) bool { return out[keyFor(r.t.id, r.key)] })
	}
	return wait, nil
}

// errStays undoes a try.
var errStays = errors.New("parked rows wait on")

// tryParked writes parked rows, or writes none and returns those that had to wait, with the
// reasons. Only their own foreign keys are looked at: what the rest of the batch breaks is
// not their fault.
func (a *applier) tryParked(rows []parkedRow) (left []parkedRow, err error) {
	noted := a.d.notes.mark()
	var kept map[*vsql.ForeignKey][]lostParent
	a.result.Tried += len(rows)
	a.awaited = nil
	err = a.d.c.Savepoint("velosync_parked", func() error {
		foreign := foreignCheck{d: a.d}
		if len(rows) == 1 {
			foreign.awaited = &a.awaited
		}
		why := make(map[rowKey]string)
		for _, r := range rows {
			if err := foreign.before(r.t, r.key); err != nil {
				return err
			}
			written, err := a.writeParked(&r)
			switch {
			case errors.Is(err, errStays):
				why[keyFor(r.t.id, r.key)] = r.reason
			case isConstraint(err):
				why[keyFor(r.t.id, r.key)] = err.Error()
				if len(rows) == 1 && isUnique(err) {
					if err := a.awaitHolders(&r); err != nil {
						return err
					}
				}
			case err != nil:
				return fmt.Errorf("parked row %v of %q: %w", r.key, r.t.d.Name, err)
			case written:
				foreign.after(r.t, r.key)
			}
		}
		if err := foreign.act(); err != nil {
			return err
		}
		unfit, err := foreign.uproot()
		if err != nil {
			return fmt.Errorf("foreign keys of parked rows: %w", err)
		}
		maps.Copy(why, unfit)
		kept = foreign.kept
		for _, r := range rows {
			if reason := why[keyFor(r.t.id, r.key)]; reason != "" {
				r.reason = reason
				left = append(left, r)
			}
		}
		if len(left) > 0 {
			return errStays
		}
		return nil
	})
	if err == errStays { // and undone
		err = nil
		a.d.notes.cut(noted)
		if len(rows) > 1 {
			err = a.noteBlocked(kept)
		}
		return left, err
	}
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		delete(a.partial, keyFor(r.t.id, r.key))
		a.result.Rows++
		if _, err := a.d.c.Exec(`DELETE FROM _velosync_parked WHERE tbl = ? AND pk = ?`, r.t.id, r.key); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// noteBlocked notes the deletes of rows that a child of theirs refers to as much as it did when all
// were tried together: alone they can't be either.
func (a *applier) noteBlocked(kept map[*vsql.ForeignKey][]lostParent) error {
	for k, list := range kept {
		parents := make([]vsql.Parent, len(list))
		for i, p := range list {
			parents[i].Values = p.was
		}
		err := a.d.c.Children(k, parents, false, func(parent int, _ []change.Value, _ change.Value) error {
			r := list[parent].row
			a.blocked[keyFor(r.t.id, r.key)] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// writeParked reports whether the row is there now.
func (a *applier) writeParked(r *parkedRow) (bool, error) {
	d := a.d
	if r.op == "D" {
		_, err := d.deleteRow(r.t, r.key)
		return false, err
	}
	row, err := decodeRow(r.values)
	if err != nil {
		return false, err
	}
	all := change.AllBits(len(r.t.registers))
	var cols []int
	var vals []change.Value
	for _, c := range change.ColumnsOf(r.t.registers, r.regs) {
		if v, ok := row[r.t.d.Columns[c].Name]; ok { // else the column came after
			cols, vals = append(cols, c), append(vals, v)
		}
	}
	w := newWriter(d, r.t, cols)
	if r.regs&all == all {
		_, err = w.upsert(r.key, vals)
		return err == nil, err
	}
	n, err := w.update(r.key, vals)
	if err == nil && n == 0 {
		err = errStays // the rest of the row has not come
	}
	return err == nil, err
}
