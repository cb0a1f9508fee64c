package capture

import (
	"errors"
	"fmt"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// settledKept is how long a settled conflict stays, in milliseconds.
const settledKept = 30 * 24 * 3600 * 1000

// keepConflict writes down a conflict that this device lost, with the row as it stands
// here: if the master's state takes its place, velosync_resolve can bring it back.
func (d *Device) keepConflict(t *table, c *change.Conflict) error {
	var local change.Value
	all := make([]int, len(t.d.Columns))
	for i := range all {
		all[i] = i
	}
	_, _, err := d.readColumns(t, c.Key, all, func(v []change.Value) { local = encodeRow(t.names(all), v) })
	if err != nil {
		return err
	}
	var mine, theirs change.Value
	if c.Lost != nil {
		mine = encodeRow(c.Columns, c.Lost)
	}
	if c.Kept != nil {
		theirs = encodeRow(c.Columns, c.Kept)
	}
	var id change.Value // unique with seq, where the master gave one
	if c.ID != 0 {
		id = c.ID
	}
	_, err = d.c.Exec(`INSERT INTO _velosync_conflict(master_id, seq, tbl, pk, kind, rule, reason, columns, mine, theirs, local,
			mine_clock, theirs_clock, mine_weight, theirs_weight, mine_time, theirs_time, mine_device, theirs_device, at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT(seq, master_id, tbl, pk) DO NOTHING`,
		id, int64(c.Seq), t.d.Name, c.Key, string(c.Kind), string(c.Rule), c.Reason, encodeNames(c.Columns), mine, theirs, local,
		encodeClock(c.LostClock), encodeClock(c.KeptClock), c.LostRank.Weight, c.KeptRank.Weight, c.LostRank.Time, c.KeptRank.Time,
		c.LostRank.Device.String(), c.KeptRank.Device.String(), d.now())
	return err
}

// Resolve settles a conflict of velosync_conflicts. With "theirs" what stands stays; with
// "mine" the lost version is written again, as an ordinary edit that has seen what it
// lost to, so that it is sent like any other.
//
// Errors: no such conflict, one that is settled, a side that is neither, and those of the
// write, such as a UNIQUE constraint that still stands in the way; then nothing changed.
func (d *Device) Resolve(id int64, side string) error {
	if side != "mine" && side != "theirs" {
		return fmt.Errorf("resolve conflict %d: side is %q: want 'mine' or 'theirs'", id, side)
	}
	return d.c.Atomic("velosync_resolve", func() error {
		var name, kind, settled, mine, local string
		var pk change.Value
		found, err := d.c.Row(`SELECT tbl, kind, coalesce(settled, ''), coalesce(mine, ''), coalesce(local, ''), +pk FROM _velosync_conflict WHERE id = ?`,
			[]change.Value{id}, &name, &kind, &settled, &mine, &local, &pk)
		switch {
		case err != nil:
			return err
		case !found:
			return fmt.Errorf("no conflict %d: SELECT id FROM velosync_conflicts WHERE settled IS NULL lists them", id)
		case settled != "":
			return fmt.Errorf("conflict %d is settled already, with %q", id, settled)
		}
		if side == "mine" {
			t, err := d.find(name)
			if err != nil {
				return err
			}
			write := d.writeMine
			if change.Kind(kind) == change.StepInDoubt {
				write = d.addMine
			}
			if err := write(t, change.Kind(kind), pk, mine, local); err != nil {
				return fmt.Errorf("resolve conflict %d: %w", id, err)
			}
		}
		_, err = d.c.Exec(`UPDATE _velosync_conflict SET settled = ?, settled_at = ? WHERE id = ?`, side, d.now(), id)
		return err
	})
}

func (d *Device) writeMine(t *table, kind change.Kind, pk change.Value, mine, local string) error {
	if mine == "" { // mine was a delete
		_, err := d.deleteRow(t, pk)
		return err
	}
	row, err := decodeRow(mine)
	if err != nil {
		return err
	}
	there, err := d.exists(t, pk)
	if err != nil {
		return err
	}
	if !there {
		if local == "" && len(row) < len(t.d.Columns)-len(t.d.Key) {
			return errors.New("the row is gone, and this device holds only some of its columns: insert it again by hand")
		}
		whole := map[string]change.Value{}
		if local != "" {
			if whole, err = decodeRow(local); err != nil {
				return err
			}
		}
		key, err := change.SplitKey(pk, len(t.d.Key))
		if err != nil {
			return err
		}
		for i, k := range t.d.Key {
			whole[t.d.Columns[k].Name] = key[i]
		}
		for n, v := range row {
			whole[n] = v
		}
		values := make([]change.Value, len(t.d.Columns))
		for i, c := range t.d.Columns {
			values[i] = whole[c.Name]
		}
		return d.insertRow(t, values)
	}
	var set []string
	var args []change.Value
	for n, v := range row {
		if t.d.Find(n) < 0 {
			return fmt.Errorf("table %q has no column %q any more", t.d.Name, n)
		}
		set, args = append(set, vsql.Quote(n)+" = ?"), append(args, v)
	}
	if len(set) == 0 {
		return nil
	}
	key, err := t.exactArgs(pk)
	if err != nil {
		return err
	}
	_, err = d.c.Exec("UPDATE "+vsql.Quote(t.d.Name)+" SET "+strings.Join(set, ", ")+" WHERE "+t.exactKey(), append(args, key...)...)
	return err
}

// addMine adds what was in doubt to the counters, if the row is there.
func (d *Device) addMine(t *table, _ change.Kind, pk change.Value, mine, _ string) error {
	row, err := decodeRow(mine)
	if err != nil {
		return err
	}
	key, err := t.exactArgs(pk)
	if err != nil {
		return err
	}
	for name, by := range row {
		if t.d.Find(name) < 0 {
			return fmt.Errorf("table %q has no column %q any more", t.d.Name, name)
		}
		col := vsql.Quote(name)
		n, err := d.c.Exec("UPDATE "+vsql.Quote(t.d.Name)+" SET "+col+" = "+col+" + ? WHERE "+t.exactKey(), append([]change.Value{by}, key...)...)
		if err == nil && n == 0 {
			err = errors.New("the row is gone: there is nothing to add to")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// names returns the names of columns.
func (t *table) names(cols []int) []string {
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = t.d.Columns[c].Name
	}
	return names
}
