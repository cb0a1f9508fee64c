package sim

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// In some schedules devices add a column, the same one, when they like. Until then they
// write the others, and know nothing of it. Its register is the last one of the model's
// rows: nil where a device has not the column, unset where nobody wrote it.

const (
	laterColumn  = "z"
	laterDefault = "not set"
)

// unset is what a row has in the column that nobody wrote. Everybody knows it.
var unset = &event{id: 1 << 40, text: laterDefault, values: []change.Value{laterDefault}}

// later returns the register of the column that devices add.
func (s shape) later() int { return len(s.regs) - 1 }

// alter adds the column to a device's table.
func (d *device) alter() {
	w := d.w
	d.look("before it gets a column")
	if !w.shape.alters || !d.hasTable || d.hasLater {
		return
	}
	d.healDisk("")
	w.must(d.app.Script(`ALTER TABLE notes ADD COLUMN `+laterColumn+` TEXT DEFAULT '`+laterDefault+`'`), "add a column")
	w.fault("column added")
	w.say("%s gets the column", d)
	d.hasLater, d.mended = true, false
	for key, row := range d.rows {
		if row != nil {
			row = append([]*event(nil), row...)
			row[w.shape.later()] = unset
			d.rows[key] = row
		}
	}
	d.look("with its new column")
}

// mend makes the triggers anew before a round, as the round itself would: what was written
// to the new column since is logged now.
func (d *device) mend() {
	w := d.w
	if (!d.hasLater || d.mended) && !d.tree.stale {
		return
	}
	d.healDisk("") // this is the simulation's doing
	c, err := capture.Open(d.app.Raw(), capture.Options{Random: w.random, Log: slog.New(slog.DiscardHandler)})
	w.must(err, "open the device")
	_, err = c.Mend()
	w.must(err, "mend the triggers")
	w.must(c.Close(), "close the device")
	// What no trigger saw is said to be of the last round.
	_, err = d.app.Exec(`UPDATE _velosync_wal SET at = CASE op WHEN 'I' THEN coalesce((SELECT last_sync FROM _velosync_sync), ?1) ELSE ?1 END WHERE lsn > ?2`, w.now+d.skew, int64(d.last))
	w.must(err, "set the time")
	last := d.last
	if d.hasLater && !d.mended {
		d.mendNotes()
	}
	d.mendTree(last)
}

// mendNotes takes what was logged of the column that came later.
func (d *device) mendNotes() {
	w := d.w
	d.mended = true
	last := d.last
	r := w.shape.later()
	want := make(map[string]bool)
	for key, row := range d.rows {
		if row != nil && row[r] != unset {
			want[key] = true
		}
	}
	err := d.app.Query(`SELECT lsn, op, +pk, cols FROM _velosync_wal WHERE lsn > ?`+notesOnly+` ORDER BY lsn`, []change.Value{int64(last)}, func(v []change.Value) error {
		key, cols := w.name(v[2]), change.Bits(v[3].(int64))
		if v[1].(string) != "U" || cols != change.Bit(r) || !want[key] {
			return fmt.Errorf("the log has %s %s %b, which is not the new column of a row that has a value there", v[1], key, cols)
		}
		delete(want, key)
		d.last = max(d.last, change.LSN(v[0].(int64)))
		d.log = append(d.log, mutation{lsn: change.LSN(v[0].(int64)), key: key, op: "U", cols: cols, at: w.now + d.skew})
		return nil
	})
	w.must(err, d.String()+" with its new column")
	if len(want) > 0 {
		w.fail("%s: the new column of %v is not in the log", d, sortedKeys(want))
	}
}

// filled reports whether a round has brought the new column, which need not move seen.
func (d *device) filled() bool {
	if !d.hasLater || d.held {
		return false
	}
	var n int
	_, err := d.app.Row(`SELECT count(*) FROM _velosync_table WHERE held LIKE '%"`+laterColumn+`"%'`, nil, &n)
	d.w.must(err, "look for the column that is held")
	return n > 0
}

// hasColumn reports whether a file's table has the column.
func (w *world) hasColumn(c *vsql.Conn) bool {
	if !w.shape.alters {
		return false
	}
	var n int
	_, err := c.Row(`SELECT count(*) FROM pragma_table_info('notes') WHERE name = ?`, []change.Value{laterColumn}, &n)
	w.must(err, "look for the column")
	return n > 0
}

// written returns the registers that a device writes with a whole row.
func (d *device) written() change.Bits {
	if d.w.shape.alters && !d.hasLater {
		return d.w.shape.all() &^ change.Bit(d.w.shape.later())
	}
	return d.w.shape.all()
}

// columns returns the columns that a device has, beside the key.
func (d *device) columns() []string {
	if d.hasLater {
		return columns
	}
	return columns[:len(columns)-1]
}

// shown returns a row of the master as a device shows it.
func (d *device) shown(row []*event) []*event {
	if row == nil || !d.w.shape.alters || d.hasLater {
		return row
	}
	row = slices.Clone(row)
	row[d.w.shape.later()] = nil
	return row
}
