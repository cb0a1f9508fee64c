package store

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A loss is a conflict that is to be logged.
type loss struct {
	kind       change.Kind
	rule       change.Rule
	reason     string
	regs       change.Bits
	columns    []int // positions of the columns lost
	loser      change.Dot
	winner     change.Dot // zero: nobody
	lostClock  change.Clock
	keptClock  change.Clock
	lost, kept []change.Value // whole rows in table order; nil: a delete, or no row
}

// clockOf returns the clock of a version: what its author had seen, and its own write.
func clockOf(seen change.Seq, d change.Dot) change.Clock {
	return change.Clock{change.Master: uint64(seen), d.Device.String(): uint64(d.LSN)}
}

// recordLoss logs a loss that Merge found.
func (w *rowWrite) recordLoss(l *change.Loss) error {
	x := loss{kind: l.Kind, rule: l.Rule, regs: l.Regs, columns: w.table.columns(l.Regs), loser: l.Loser, winner: l.Winner}
	if l.Kind == change.UpdateLost && l.Regs&w.unmerged != 0 {
		x.reason = w.why
	}
	if l.Incoming {
		x.lostClock = clockOf(w.seenOf(l.Regs), l.Loser)
	} else {
		x.lostClock = clockOf(l.Loser.Seq, l.Loser)
	}
	if l.Winner != (change.Dot{}) {
		x.keptClock = clockOf(l.Winner.Seq, l.Winner)
	}
	switch l.Kind {
	case change.UpdateLost:
		x.lost, x.kept = w.old, w.edited(l.Regs)
		if l.Incoming {
			x.lost, x.kept = x.kept, x.lost
		}
	case change.UpdateLostToDelete:
		x.lost = w.old
		if l.Incoming {
			x.lost = w.edited(l.Regs)
		}
	case change.DeleteLost:
		x.kept = w.old
		if !l.Incoming { // the row as the edit brought it back, or left it under another delete
			x.kept = w.taken(slices.Clone(w.old))
		}
	case change.LostToForgotten:
		x.regs = w.fresh.Bits()
		x.columns = w.table.columns(x.regs)
		x.lost = w.edited(x.regs)
	}
	if l.Incoming || l.Kind == change.UpdateLost {
		x.columns = w.brought(x.columns)
	}
	w.tx.lost++
	return w.log(&x)
}

// recordRejection logs an edit that breaks a constraint.
func (w *rowWrite) recordRejection(reason string) error {
	dot := change.Dot{Seq: w.seq, Device: w.fresh.Device, LSN: w.fresh.LSN, Rank: w.fresh.Rank}
	x := loss{kind: change.Rejected, rule: change.ByConstraint, reason: reason, regs: w.table.all, loser: dot, kept: w.old}
	if !w.fresh.Delete {
		x.regs = w.fresh.Bits()
		x.lost = w.edited(x.regs)
	}
	x.columns = w.table.columns(x.regs)
	if !w.fresh.Delete {
		x.columns = w.brought(x.columns)
	}
	x.lostClock = clockOf(w.seenOf(x.regs), dot)
	if r := w.known.row; r != nil && !r.Deleted() {
		newest := r.Regs[0]
		for _, d := range r.Regs {
			if d.Seq > newest.Seq {
				newest = d
			}
		}
		newest = newest.Author()
		x.winner, x.keptClock = newest, clockOf(newest.Seq, newest)
	}
	return w.log(&x)
}

// seenOf returns what the edit's author had seen of some registers.
func (w *rowWrite) seenOf(regs change.Bits) change.Seq {
	seen := change.Seq(-1)
	for _, g := range w.fresh.Regs {
		if regs.Has(g.Reg) && (seen < 0 || g.Seen < seen) {
			seen = g.Seen
		}
	}
	if seen < 0 {
		return w.fresh.Seen
	}
	return seen
}

// edited returns the edit's values of some registers, in table order.
func (w *rowWrite) edited(regs change.Bits) []change.Value {
	row := make([]change.Value, len(w.table.def.Columns))
	want := w.table.columns(regs & w.batch.regs)
	from, i := w.table.columns(w.batch.regs), 0
	for _, c := range want {
		for from[i] != c {
			i++
		}
		if v := w.edit.values[i]; v != (absent{}) {
			row[c] = v
		}
	}
	return row
}

// brought returns those of some columns that the edit has values for; all for a delete.
func (w *rowWrite) brought(columns []int) []int {
	if w.fresh.Delete {
		return columns
	}
	missing := make(map[int]bool)
	for i, c := range w.table.columns(w.batch.regs) {
		missing[c] = w.edit.values[i] == (absent{})
	}
	return slices.DeleteFunc(slices.Clone(columns), func(c int) bool { return missing[c] })
}

// log writes a conflict.
func (w *rowWrite) log(x *loss) error {
	w.conflict++
	w.conflicts++
	has := func(values []change.Value) int64 {
		if values == nil {
			return 0
		}
		return 1
	}
	keptSite := int64(0)
	if !x.winner.Device.IsZero() {
		keptSite = w.siteOf(x.winner.Device)
	}
	_, err := w.Exec(vsql.Master("put_conflict.sql"), w.conflict, int64(w.seq), w.siteOf(x.loser.Device), w.table.id, w.edit.key,
		string(x.kind), string(x.rule), x.reason, w.now, int64(x.regs), has(x.lost), has(x.kept),
		clockText(x.lostClock), x.loser.Rank.Weight, x.loser.Rank.Time,
		clockText(x.keptClock), x.winner.Rank.Weight, x.winner.Rank.Time, keptSite)
	if err != nil {
		return fmt.Errorf("log a conflict: %w", err)
	}
	for i, c := range x.columns {
		var lost, kept change.Value
		if x.lost != nil {
			lost = x.lost[c]
		}
		if x.kept != nil {
			kept = x.kept[c]
		}
		_, err := w.Exec(`INSERT INTO _velosync_conflict_value VALUES (?, ?, ?, ?, ?)`, w.conflict, int64(i), w.table.def.Columns[c].Name, lost, kept)
		if err != nil {
			return fmt.Errorf("log a conflict: %w", err)
		}
	}
	w.space.log.Info("conflict", "table", w.table.def.Name, "device", x.loser.Device, "kind", x.kind, "rule", x.rule, "reason", x.reason, "seq", w.seq)
	return nil
}

func clockText(c change.Clock) change.Value {
	if c == nil {
		return nil
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("store: a clock does not marshal: %v", err)) // a map of text to integers
	}
	return string(b)
}

// A lostVersion is an entry of the conflict log, for the device that lost.
type lostVersion struct {
	change.Conflict
	table *table
	regs  change.Bits
	size  int64 // of its values, in bytes
}

// readLost reads what a device lost after a seq, oldest first, at most limit entries. The
// values come with readLostValues.
func readLost(c *vsql.Conn, s *schema, at sites, site int64, id change.DeviceID, after change.Seq, limit int) (list []lostVersion, err error) {
	err = c.Query(vsql.Master("lost.sql"), []driver.Value{site, int64(after), int64(limit)}, func(row []driver.Value) error {
		var v lostVersion
		v.ID, v.Seq, v.Device = row[0].(int64), change.Seq(row[1].(int64)), id
		if v.table = s.byID[row[2].(int64)]; v.table == nil {
			return fmt.Errorf("conflict %d is of table %v, which is not there", v.ID, row[2])
		}
		v.Table, v.Key = v.table.def.Name, row[3]
		v.Kind, v.Rule, v.Reason = change.Kind(row[4].(string)), change.Rule(row[5].(string)), row[6].(string)
		v.regs = change.Bits(row[7].(int64))
		if row[8].(int64) != 0 {
			v.Lost = []change.Value{}
		}
		if row[9].(int64) != 0 {
			v.Kept = []change.Value{}
		}
		v.LostRank = change.Rank{Weight: row[11].(float64), Time: row[12].(int64), Device: id}
		v.KeptRank = change.Rank{Weight: row[14].(float64), Time: row[15].(int64)}
		if site := row[16].(int64); site != 0 {
			var err error
			if v.KeptRank.Device, err = at.deviceAt(site); err != nil {
				return err
			}
		}
		for i, clock := range map[int]*change.Clock{10: &v.LostClock, 13: &v.KeptClock} {
			if text, ok := row[i].(string); ok {
				if err := json.Unmarshal([]byte(text), clock); err != nil {
					return fmt.Errorf("conflict %d: its clock: %w", v.ID, err)
				}
			}
		}
		list = append(list, v)
		return nil
	})
	return list, err
}

// readValues reads the values of an entry.
func (v *lostVersion) readValues(c *vsql.Conn) error {
	return c.Query(`SELECT name, lost, kept FROM _velosync_conflict_value WHERE conflict = ? ORDER BY place`, []driver.Value{v.ID}, func(row []driver.Value) error {
		v.Columns = append(v.Columns, row[0].(string))
		v.size += sizeOf(row[0])
		if v.Lost != nil {
			v.Lost = append(v.Lost, row[1])
			v.size += sizeOf(row[1])
		}
		if v.Kept != nil {
			v.Kept = append(v.Kept, row[2])
			v.size += sizeOf(row[2])
		}
		return nil
	})
}

// needs returns the registers of the row that its author needs again.
func (v *lostVersion) needs() change.Bits {
	switch v.Kind {
	case change.DeleteLost, change.Rejected, change.LostToForgotten:
		return v.table.all
	}
	return v.regs
}
