package capture

import (
	"github.com/velosync/velosync/capture/change"
)

// feedNotes are what a round writes down for feeds: which rows it brought, and which log
// rows it takes away. There are none while nobody follows the file.
type feedNotes struct {
	rows []notedRow
	at   map[rowKey]bool
	lost bool // there were more than feedKept
}

type notedRow struct {
	t   *table
	key change.Value
	was bool // the row was there before
}

// followed reports whether a feed follows the file. It forgets those that are gone.
func (d *Device) followed() (bool, error) {
	if made, err := d.feedTables(); err != nil || !made {
		return false, err
	}
	var n int
	if found, err := d.c.Row(`SELECT 1 FROM _velosync_feed_reader WHERE until >= ?`, []change.Value{d.now()}, &n); err != nil || found {
		return found, err
	}
	if found, err := d.c.Row(`SELECT 1 FROM _velosync_feed_reader UNION ALL SELECT 1 FROM _velosync_feed`, nil, &n); err != nil || !found {
		return false, err
	}
	return false, d.c.Script(`DELETE FROM _velosync_feed_reader; DELETE FROM _velosync_feed`)
}

// note is called before a round writes or deletes a row.
func (d *Device) note(t *table, key change.Value) error {
	notes, k := d.notes, keyFor(t.id, key)
	if notes == nil || notes.lost || notes.at[k] {
		return nil
	}
	if len(notes.rows) == feedKept {
		notes.lost, notes.rows, notes.at = true, nil, nil
		return nil
	}
	was, err := d.exists(t, key)
	notes.at[k] = true
	notes.rows = append(notes.rows, notedRow{t, key, was})
	return err
}

// mark returns how many rows are noted.
func (n *feedNotes) mark() int {
	if n == nil {
		return 0
	}
	return len(n.rows)
}

// cut forgets the rows noted since a mark: what was done to them is undone.
func (n *feedNotes) cut(mark int) {
	if n == nil || n.lost {
		return
	}
	for _, r := range n.rows[mark:] {
		delete(n.at, keyFor(r.t.id, r.key))
	}
	n.rows = n.rows[:mark]
}

// tell writes down for feeds what the round did: the log rows that prune takes away, then
// what the round brought.
func (a *applier) tell() error {
	d := a.d
	notes := d.notes
	if notes == nil {
		return nil
	}
	from, through := int64(a.r.acked), int64(a.r.Through)
	if through-from > feedKept {
		notes.lost = true
	}
	if !notes.lost {
		if _, err := d.c.Exec(`INSERT INTO _velosync_feed(lsn, tbl, op, pk)
			SELECT lsn, tbl, op, pk FROM _velosync_wal WHERE lsn > ? AND lsn <= ? ORDER BY lsn`, from, through); err != nil {
			return err
		}
	}
	if err := d.tellRows(); err != nil {
		return err
	}
	_, err := d.c.Exec(`UPDATE _velosync_feed_reader SET seen = ? WHERE seen = ?`, int64(max(a.last.To, a.seen)), int64(a.seen))
	return err
}

// tellRows writes down the rows that were noted.
func (d *Device) tellRows() error {
	notes := d.notes
	if notes == nil {
		return nil
	}
	if !notes.lost {
		for _, r := range notes.rows {
			is, err := d.exists(r.t, r.key)
			if err != nil {
				return err
			}
			op := "U"
			switch {
			case !r.was && !is:
				continue
			case !r.was:
				op = "I"
			case !is:
				op = "D"
			}
			if _, err := d.c.Exec(`INSERT INTO _velosync_feed(tbl, op, pk) VALUES (?, ?, ?)`, r.t.id, op, r.key); err != nil {
				return err
			}
		}
	} else if err := d.tellLost(); err != nil {
		return err
	}
	_, err := d.c.Exec(`DELETE FROM _velosync_feed WHERE n <= (SELECT max(n) FROM _velosync_feed) - ?`, int64(feedKept))
	return err
}

// tellLost tells feeds that rows changed, or left the log, which are not named.
func (d *Device) tellLost() error {
	if made, err := d.feedTables(); err != nil || !made {
		return err
	}
	_, err := d.c.Exec(`INSERT INTO _velosync_feed(tbl, op) SELECT 0, 'L' WHERE EXISTS (SELECT 1 FROM _velosync_feed_reader)`)
	return err
}
