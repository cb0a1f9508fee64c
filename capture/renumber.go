package capture

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// renumbers reports whether rows of the table that two devices made under one number are
// two rows.
func (t *table) renumbers() bool { return t.d.Options.IDs == change.RenumberIDs }

// Renumber gives rows that were made here, and not synced yet, other numbers than those
// named, and returns how many. Rows that refer to them by a foreign key follow. The new
// numbers lie above all that the space has and above all in the file, in the same order.
//
// It is one transaction. The log then says that the rows were made under their new
// numbers, and nothing of the old ones.
func (d *Device) Renumber(clashes []*change.Clash) (rows int, err error) {
	restore, err := d.foreignKeysOff() // children follow in a statement of their own
	if err == nil {
		err = d.c.Tx(func() error { rows, err = d.renumber(clashes); return err })
		err = errors.Join(err, restore())
	}
	if err != nil {
		return 0, fmt.Errorf("give rows other numbers: %w", err)
	}
	return rows, nil
}

func (d *Device) renumber(clashes []*change.Clash) (rows int, err error) {
	if err := d.refresh(); err != nil {
		return 0, err
	}
	s, err := d.State()
	if err != nil {
		return 0, err
	}
	edits, err := d.pending(s.Acked)
	if err != nil {
		return 0, err
	}
	for _, c := range clashes {
		t := d.tracked(c.Table)
		if t == nil || !t.renumbers() {
			return 0, fmt.Errorf("the master names %q, which is no table with the option ids \"renumber\"", c.Table)
		}
		var ids []int64
		for _, e := range edits {
			if id, ok := e.key.pk.(int64); ok && e.key.tbl == t.id && e.made > 0 && c.Has(id) {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		if err := d.assign(t, ids, c.Next); err != nil {
			return 0, fmt.Errorf("table %q: %w", t.d.Name, err)
		}
		rows += len(ids)
	}
	return rows, nil
}

// assign gives rows of a table new numbers, from next on or above all in the table.
func (d *Device) assign(t *table, ids []int64, next int64) error {
	name, id := vsql.Quote(t.d.Name), t.keyColumns()[0]
	var top int64
	if _, err := d.c.Row("SELECT coalesce(max("+id+"), 0) FROM "+name, nil, &top); err != nil {
		return err
	}
	if top == math.MaxInt64 || max(next, top+1) > math.MaxInt64-int64(len(ids)) {
		return errors.New("no numbers are left above the greatest one")
	}
	if err := d.c.Script(`CREATE TEMP TABLE IF NOT EXISTS _velosync_number(old INTEGER PRIMARY KEY, new INTEGER NOT NULL); DELETE FROM temp._velosync_number`); err != nil {
		return err
	}
	for i, old := range ids {
		if _, err := d.c.Exec(`INSERT INTO temp._velosync_number(old, new) VALUES (?, ?)`, old, max(next, top+1)+int64(i)); err != nil {
			return err
		}
	}
	follow := func(table, column string) error {
		_, err := d.c.Exec(fmt.Sprintf(`UPDATE main.%s SET %s = (SELECT new FROM temp._velosync_number WHERE old = %[2]s) WHERE %[2]s IN (SELECT old FROM temp._velosync_number)`,
			table, column))
		return err
	}
	if err := follow(name, id); err != nil {
		return err
	}
	keys, err := d.c.ForeignKeysTo(t.d.Name)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if len(k.To) == 1 && equalFold(vsql.Quote(k.To[0]), id) {
			if err := follow(vsql.Quote(k.Child), vsql.Quote(k.Columns[0])); err != nil {
				return fmt.Errorf("rows of %q that refer to it: %w", k.Child, err)
			}
		}
	}
	// The old numbers were never this device's: their log rows, and the deletes that the
	// triggers just logged, go. The newest log row stays, as ever.
	for _, q := range []string{
		`DELETE FROM _velosync_wal WHERE tbl = ?1 AND pk IN (SELECT old FROM temp._velosync_number) AND lsn < (SELECT max(lsn) FROM _velosync_wal)`,
		`UPDATE _velosync_wal SET op = 'X', cols = 0, weight = NULL WHERE tbl = ?1 AND pk IN (SELECT old FROM temp._velosync_number)`,
		`DELETE FROM _velosync_under WHERE tbl = ?1 AND pk IN (SELECT old FROM temp._velosync_number)`,
	} {
		if _, err := d.c.Exec(q, t.id); err != nil {
			return err
		}
	}
	if err := d.tellLost(); err != nil {
		return err
	}
	return d.c.Script(`DELETE FROM temp._velosync_number`)
}

// forgetTransient takes a row out of the log that came and went here, if that is all that the
// log says of it. It was nobody's; the number is that of a row of another device, which this
// row's delete does not mean.
func (d *Device) forgetTransient(k rowKey) (bool, error) {
	var b birth
	err := d.c.Query(`SELECT lsn, op FROM _velosync_wal WHERE tbl = ? AND pk = ? AND op <> 'X' ORDER BY lsn`, []change.Value{k.tbl, k.value()}, func(v []change.Value) error {
		b.add(logRow{lsn: v[0].(int64), op: v[1].(string)[0]})
		return nil
	})
	if err != nil || !b.went {
		return false, err
	}
	for _, q := range []string{
		`DELETE FROM _velosync_wal WHERE tbl = ?1 AND pk = ?2 AND lsn < (SELECT max(lsn) FROM _velosync_wal)`,
		`UPDATE _velosync_wal SET op = 'X', cols = 0, weight = NULL, sets = NULL WHERE tbl = ?1 AND pk = ?2`,
		`DELETE FROM _velosync_under WHERE tbl = ?1 AND pk = ?2`,
	} {
		if _, err := d.c.Exec(q, k.tbl, k.value()); err != nil {
			return false, err
		}
	}
	return true, nil
}
