package capture

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// Mend makes the triggers of tracked tables again where a change of schema made them
// stale or took them away. It returns the tables that it mended.
//
// Where columns were added, the triggers that stood have logged all but those columns, so
// the rows that have a value there are logged. Where triggers were gone every row is logged:
// writes made meanwhile were not. (The master drops what equals its own.) Rows deleted
// meanwhile are not found: they stay on the other devices.
//
// A user's trigger that would make devices differ, made since its table was tracked, is an
// error: the round ends before it applies anything.
func (d *Device) Mend() ([]string, error) {
	same, err := d.unchanged()
	if same && d.mended || err != nil {
		return nil, err
	}
	d.mended = false
	if err := d.followTables(); err != nil {
		return nil, err
	}
	if err := d.refresh(); err != nil {
		return nil, err
	}
	if d.calm != d.schemaVersion {
		if err := d.checkUserTriggers(nil); err != nil {
			return nil, err
		}
		d.calm = d.schemaVersion
	}
	var mended []string
	for _, t := range d.tables {
		got, err := d.ourTriggers(t.d.Name)
		if err != nil {
			return mended, err
		}
		var was string
		if _, err := d.c.Row(`SELECT made FROM _velosync_table WHERE id = ?`, []change.Value{t.id}, &was); err != nil {
			return mended, err
		}
		if sameTriggers(got, t.triggers()) && t.madeAs(was) {
			continue
		}
		if err := d.c.Atomic("velosync_mend", func() error { return d.mend(t.id) }); err != nil {
			return mended, fmt.Errorf("mend the triggers of %q: %w", t.d.Name, err)
		}
		mended = append(mended, t.d.Name)
	}
	if mended == nil {
		d.mended = true
		return nil, nil
	}
	d.tables = nil // their options may have changed
	return mended, d.refresh()
}

// watched reports whether the triggers stand that Mend has left: since then an application
// may have renamed a table, or rebuilt one and written to it, and nothing was logged.
func (d *Device) watched() (bool, error) {
	var version int64
	if _, err := d.c.Row(`SELECT schema_version FROM pragma_schema_version`, nil, &version); err != nil || version == d.calm {
		return err == nil, err
	}
	for _, t := range d.tables {
		got, err := d.ourTriggers(t.d.Name)
		if err != nil || !sameTriggers(got, t.triggers()) {
			return false, err
		}
	}
	return true, nil
}

// mend makes the triggers of one table again, as it is now that nobody else writes.
func (d *Device) mend(id int64) error {
	var name, options, texts, was string
	if found, err := d.c.Row(`SELECT name, options, texts, made FROM _velosync_table WHERE id = ?`, []change.Value{id}, &name, &options, &texts, &was); err != nil || !found {
		return err
	}
	t, err := d.describe(id, name, options)
	if err != nil {
		return err
	}
	got, err := d.ourTriggers(t.d.Name)
	if err != nil || sameTriggers(got, t.triggers()) && t.madeAs(was) {
		return err // another process was first
	}
	var old change.Table
	if was != "" {
		if err := json.Unmarshal([]byte(was), &old); err != nil {
			return fmt.Errorf("the table as it was: %w", err)
		}
	}
	stood := digestOf(got) == texts // the triggers were there all the time
	renamed := renamedColumns(&old, &t.d.Table)
	if len(renamed) > 0 || !equalFold(old.Name, t.d.Name) {
		// SQLite writes the new names into triggers that stand.
		stood = len(got) == len(t.triggers())
		if t, err = d.follow(t, &old, renamed); err != nil {
			return err
		}
	}
	added := addedColumns(&old, &t.d.Table)
	if len(added) > 0 && wholeRow(&old, t.d.Options) {
		if t, err = d.widen(t, added); err != nil {
			return err
		}
	}
	if err := d.moveRegisters(t, &old); err != nil {
		return err
	}
	if err := d.installTriggers(t); err != nil {
		return err
	}
	if stood && (len(added) > 0 && sameEvictions(got, t.triggers()) || len(renamed) > 0 || !equalFold(old.Name, t.d.Name)) {
		for _, c := range added {
			if err := d.logColumn(t, c); err != nil {
				return err
			}
		}
		d.o.Log.Info("the table was altered", "table", t.d.Name, "added", len(added), "renamed", len(renamed))
		return nil
	}
	d.o.Log.Warn("triggers mended, every row is logged", "table", t.d.Name)
	return d.logAll(t, lastSync)
}

// madeAs reports whether the triggers were made for the columns that the table has.
func (t *table) madeAs(was string) bool {
	var old change.Table
	return json.Unmarshal([]byte(was), &old) == nil && sameColumns(&old, &t.d.Table)
}

// Alter runs ALTER TABLE on a tracked table: what is "ADD COLUMN c INT" or "DROP COLUMN c".
// SQLite refuses to drop a column that a trigger reads, so our triggers leave before and
// come back after, in one transaction; what is logged moves with its columns.
//
// A column that is dropped here stays in the space: devices that have it go on with it.
//
// Errors: the table is not tracked; another ALTER than those two; a column that says how
// the table is tracked; and what SQLite says. Then nothing changed.
func (d *Device) Alter(name, what string) error {
	return d.c.Atomic("velosync_alter", func() error {
		if _, err := d.Mend(); err != nil {
			return err
		}
		t, err := d.find(name)
		if err != nil {
			return err
		}
		m := alterWhat.FindStringSubmatch(what)
		if m == nil || !oneStatement(what) {
			return fmt.Errorf("velosync_alter(%s, %s): want 'ADD COLUMN …' or 'DROP COLUMN …' (a RENAME needs no help: ALTER TABLE does it)", vsql.QuoteText(name), vsql.QuoteText(what))
		}
		if err := d.dropTriggers(t.d.Name); err != nil {
			return err
		}
		if err := d.c.Script("ALTER TABLE " + vsql.Quote(t.d.Name) + " " + what); err != nil {
			return fmt.Errorf("alter table %q: %w", t.d.Name, err)
		}
		return d.altered(t)
	})
}

var alterWhat = regexp.MustCompile(`(?is)^\s*(ADD|DROP)\s+\S`)

// altered makes the triggers of a table that changed while nothing was written to it.
func (d *Device) altered(before *table) error {
	old, o := &before.d.Table, before.d.Options
	now, err := d.c.Describe(old.Name)
	if err != nil {
		return err
	}
	if o.Weight != "" && now.Find(o.Weight) < 0 {
		return fmt.Errorf("column %q holds the weights of %q: track it with another weight, or none, before it is dropped", o.Weight, old.Name)
	}
	groups := [][]string{} // not nil: the choice is made
	for _, g := range o.Groups {
		g = slices.DeleteFunc(slices.Clone(g), func(c string) bool { return now.Find(c) < 0 })
		if len(g) > 0 {
			groups = append(groups, g)
		}
	}
	o.Groups = groups
	for c := range o.Merge {
		if now.Find(c) < 0 {
			o.Merge = maps.Clone(o.Merge)
			delete(o.Merge, c)
		}
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if _, err := d.c.Exec(`UPDATE _velosync_table SET options = ? WHERE id = ?`, string(text), before.id); err != nil {
		return err
	}
	t, err := d.describe(before.id, old.Name, string(text))
	if err != nil {
		return err
	}
	if added := addedColumns(old, &t.d.Table); len(added) > 0 && wholeRow(old, before.d.Options) {
		if t, err = d.widen(t, added); err != nil {
			return err
		}
	}
	if err := d.moveRegisters(t, old); err != nil {
		return err
	}
	d.tables = nil
	return d.installTriggers(t)
}

// addedColumns returns the columns that a table has got; none where it changed otherwise.
func addedColumns(old, now *change.Table) (added []int) {
	for i, c := range now.Columns {
		at := old.Find(c.Name)
		switch {
		case at < 0:
			added = append(added, i)
		case old.Columns[at] != c:
			return nil
		}
	}
	if len(now.Columns)-len(added) != len(old.Columns) {
		return nil
	}
	return added
}

// wholeRow reports whether the groups are one, of all that has no policy: it takes new
// columns in.
func wholeRow(t *change.Table, o change.Options) bool {
	return len(o.Groups) == 1 && len(o.Groups[0]) == len(t.Columns)-len(t.Key)-len(o.Merge) && len(o.Groups[0]) > 1
}

// widen takes new columns into the group of the whole row.
func (d *Device) widen(t *table, added []int) (*table, error) {
	o := t.d.Options
	group := slices.Clone(o.Groups[0])
	for _, c := range added {
		group = append(group, t.d.Columns[c].Name)
	}
	o.Groups = [][]string{group}
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	if _, err := d.c.Exec(`UPDATE _velosync_table SET options = ? WHERE id = ?`, string(text), t.id); err != nil {
		return nil, err
	}
	return d.describe(t.id, t.d.Name, string(text))
}

// sameEvictions reports whether the triggers that stood saw all rows that a REPLACE evicts.
func sameEvictions(got map[string]string, want []trigger) bool {
	for _, w := range want {
		if _, ok := got[w.name]; !ok {
			return false
		}
	}
	return len(got) == len(want)
}

// logColumn logs the rows whose new column is not its default: they were written before
// the triggers knew of it.
func (d *Device) logColumn(t *table, c int) error {
	col := vsql.Quote(t.d.Columns[c].Name)
	value, err := d.defaultOf(t, c)
	if err != nil {
		return fmt.Errorf("the DEFAULT of %q: %w", t.d.Columns[c].Name, err)
	}
	_, err = d.c.Exec(fmt.Sprintf(`INSERT INTO _velosync_wal(tbl, op, pk, cols, seen, at)
		SELECT %d, 'U', %s, %d, (SELECT seen FROM _velosync_state), %s FROM %s WHERE %s AND (%s) IS NOT NULL`,
		t.id, t.d.KeyExpression(""), int64(change.Bit(t.registerOf(c))), now, vsql.Quote(t.d.Name), differ(col, "?1"), joinKeyKnown(t)), value)
	if err != nil {
		return fmt.Errorf("log the rows of %q: %w", t.d.Name, err)
	}
	return nil
}

// defaultOf returns what a row has in a column that nobody gave a value: SQLite gives it
// the column's affinity as it stores it.
func (d *Device) defaultOf(t *table, c int) (v change.Value, err error) {
	var text string
	if _, err := d.c.Row(`SELECT coalesce(dflt_value, '') FROM pragma_table_xinfo(?) WHERE name = ?`, []change.Value{t.d.Name, t.d.Columns[c].Name}, &text); err != nil || text == "" {
		return nil, err
	}
	if err := d.c.Script(fmt.Sprintf(`DROP TABLE IF EXISTS temp._velosync_default; CREATE TEMP TABLE _velosync_default(v %s DEFAULT (%s))`, t.d.Columns[c].Type, text)); err != nil {
		return nil, err
	}
	if err := d.c.Script(`INSERT INTO temp._velosync_default DEFAULT VALUES`); err != nil {
		return nil, err
	}
	if err := d.c.Query(`SELECT +v FROM temp._velosync_default`, nil, func(row []change.Value) error { v = row[0]; return nil }); err != nil {
		return nil, err
	}
	return v, d.c.Script(`DROP TABLE temp._velosync_default`)
}

// registerOf returns the register of a column.
func (t *table) registerOf(c int) int {
	return slices.IndexFunc(t.registers, func(cols []int) bool { return slices.Contains(cols, c) })
}

// moveRegisters turns what is kept by register into the registers that the table has now.
func (d *Device) moveRegisters(t *table, old *change.Table) error {
	was := old.Registers()
	to := make([]change.Bits, len(was))
	moved := len(was) > len(t.registers)
	for r, cols := range was {
		for _, c := range cols {
			if at := t.d.Find(old.Columns[c].Name); at >= 0 && t.registerOf(at) >= 0 {
				to[r] |= change.Bit(t.registerOf(at))
			}
		}
		if len(cols) == 0 {
			to[r] = change.Bit(r)
		}
		moved = moved || to[r] != change.Bit(r)
	}
	if len(old.Columns) == 0 {
		return nil
	}
	if err := d.moveSteps(t, old); err != nil {
		return err
	}
	all, now := change.AllBits(len(was)), change.AllBits(len(t.registers))
	// A parked row that was whole is so still: it is inserted without the new columns.
	if _, err := d.c.Exec(`UPDATE _velosync_parked SET cols = ?1 WHERE tbl = ?2 AND op = 'U' AND cols & ?3 = ?3`, int64(now), t.id, int64(all)); err != nil || !moved {
		return err
	}
	move := func(b change.Bits) (m change.Bits) {
		(b & all).Each(func(r int) { m |= to[r] })
		return m
	}
	for _, name := range []string{"_velosync_wal", "_velosync_parked"} {
		var masks []int64
		err := d.c.Query(`SELECT DISTINCT cols FROM `+name+` WHERE tbl = ? AND cols NOT IN (-1, 0)`, []change.Value{t.id}, func(v []change.Value) error {
			masks = append(masks, v[0].(int64))
			return nil
		})
		if err != nil {
			return err
		}
		// In one statement: a mask may become one that another was before.
		update, args := `UPDATE `+name+` SET cols = CASE cols`, []change.Value{t.id}
		for _, m := range masks {
			args = append(args, int64(move(change.Bits(m))))
			update += fmt.Sprintf(` WHEN %d THEN ?%d`, m, len(args))
		}
		if len(masks) == 0 {
			continue
		}
		if _, err := d.c.Exec(update+` END WHERE tbl = ?1 AND cols NOT IN (-1, 0)`, args...); err != nil {
			return err
		}
	}
	// What wrote columns only that are gone has nothing to say.
	for _, q := range []string{
		`UPDATE _velosync_wal SET op = 'X' WHERE tbl = ? AND op IN ('U', 'T', 'I', 'B') AND cols = 0`,
		`DELETE FROM _velosync_parked WHERE tbl = ? AND op = 'U' AND cols = 0`,
	} {
		if _, err := d.c.Exec(q, t.id); err != nil {
			return err
		}
	}
	type under struct {
		pk        change.Value
		reg, seen int64
	}
	var list []under
	err := d.c.Query(`SELECT +pk, reg, seen FROM _velosync_under WHERE tbl = ?`, []change.Value{t.id}, func(v []change.Value) error {
		list = append(list, under{v[0], v[1].(int64), v[2].(int64)})
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := d.c.Exec(`DELETE FROM _velosync_under WHERE tbl = ?`, t.id); err != nil {
		return err
	}
	for _, u := range list {
		var failed error
		move(change.Bit(int(u.reg))).Each(func(r int) {
			if failed == nil {
				_, failed = d.c.Exec(`INSERT INTO _velosync_under(tbl, pk, reg, seen) VALUES (?, ?, ?, ?)
					ON CONFLICT DO UPDATE SET seen = min(seen, excluded.seen)`, t.id, u.pk, int64(r), u.seen)
			}
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}

// digestOf tells sets of triggers apart.
func digestOf(triggers map[string]string) string {
	names := make([]string, 0, len(triggers))
	for name := range triggers {
		names = append(names, name)
	}
	sort.Strings(names)
	h := sha256.New()
	for _, name := range names {
		fmt.Fprintf(h, "%d %s%d %s", len(name), name, len(triggers[name]), triggers[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}
