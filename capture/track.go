package capture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// ParseOptions reads the options of velosync_track. A key that it does not know is an
// error that names the known ones.
func ParseOptions(text string) (change.Options, error) {
	var o change.Options
	if strings.TrimSpace(text) == "" {
		return o, nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o); err != nil {
		return o, fmt.Errorf(`track options: %w: they are a JSON object with "weight", "groups", "merge" and "ids", such as {"weight":"confidence","groups":[["body","embedding"]],"merge":{"seen_at":"max"}}`, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return o, errors.New("track options: text behind the JSON object")
	}
	return o, nil
}

// Track begins to log a table's mutations, and logs its present rows once, so that they
// are shipped too. Tracking a tracked table again changes its options.
//
// Errors say what to change: no such table, a view, no primary key, an INTEGER PRIMARY
// KEY without the option ids, a column in options that is not there.
func (d *Device) Track(name string, o change.Options) error {
	return d.c.Atomic("velosync_track", func() error { return d.track(name, o, true) })
}

func (d *Device) track(name string, o change.Options, logRows bool) error {
	decl, err := d.c.Describe(name)
	if err != nil {
		return err
	}
	if err := checkOptions(decl, &o); err != nil {
		return err
	}
	if err := d.checkRows(decl, o); err != nil {
		return err
	}
	if err := d.checkUserTriggers(decl); err != nil {
		return err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	var id int64
	var before string
	known, err := d.c.Row(`SELECT id, options FROM _velosync_table WHERE name = ?`, []change.Value{decl.Name}, &id, &before)
	if err != nil {
		return err
	}
	if known && before != string(text) {
		var n int
		if _, err := d.c.Row(`SELECT count(*) FROM _velosync_wal WHERE tbl = ? AND op <> 'X'`, []change.Value{id}, &n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("table %q has %d log rows that are not shipped, made under other options: sync first, then change them", decl.Name, n)
		}
	}
	if _, err := d.c.Exec(`INSERT INTO _velosync_table(name, options) VALUES (?, ?)
		ON CONFLICT(name) DO UPDATE SET options = excluded.options`, decl.Name, string(text)); err != nil {
		return err
	}
	if _, err := d.c.Row(`SELECT id FROM _velosync_table WHERE name = ?`, []change.Value{decl.Name}, &id); err != nil {
		return err
	}
	t, err := d.describe(id, decl.Name, string(text))
	if err != nil {
		return err
	}
	if err := d.installTriggers(t); err != nil {
		return err
	}
	if known || !logRows {
		return nil
	}
	// Of a table that the space has had for a while, others' rows are missed so far.
	space, err := d.space()
	if err != nil {
		return err
	}
	if has(space, t.d.Name) {
		return d.logAll(t, lastSync)
	}
	if _, err := d.c.Exec(`UPDATE _velosync_table SET held = ? WHERE id = ?`, encodeNames(t.names(every(len(t.d.Columns)))), t.id); err != nil {
		return err
	}
	return d.logAll(t, now)
}

// lastSync is the time of rows that were written while no trigger watched: that can't be
// told from what stood there, so all of it gives way to what others wrote since the last
// round.
const lastSync = "coalesce((SELECT last_sync FROM _velosync_sync), " + now + ")"

// TrackExisting tracks those of the named tables that exist and are not tracked yet, with
// default options.
func (d *Device) TrackExisting(names []string) error {
	for _, name := range names {
		var todo bool
		_, err := d.c.Row(`SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1))
			AND NOT EXISTS (SELECT 1 FROM _velosync_table WHERE name = ?1)`, []change.Value{name}, &todo)
		if err == nil && todo {
			err = d.Track(name, change.Options{})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func has(s change.Schema, name string) bool {
	return slices.ContainsFunc(s, func(t change.Table) bool { return equalFold(t.Name, name) })
}

// logAll logs every row of a table as inserted, at a time that is an SQL expression.
func (d *Device) logAll(t *table, at string) error {
	op := "I"
	if t.renumbers() {
		op = "P"
	}
	_, err := d.c.Exec(fmt.Sprintf(`INSERT INTO _velosync_wal(tbl, op, pk, cols, seen, at)
		SELECT %d, '`+op+`', %s, -1, (SELECT seen FROM _velosync_state), %s FROM %s WHERE (%s) IS NOT NULL`,
		t.id, t.d.KeyExpression(""), at, vsql.Quote(t.d.Name), joinKeyKnown(t)))
	if err != nil {
		return fmt.Errorf("log the rows of %q: %w", t.d.Name, err)
	}
	return nil
}

// joinKeyKnown is, before ") IS NOT NULL", the condition that a row has a key.
func joinKeyKnown(t *table) string { return strings.Join(t.keyColumns(), ") IS NOT NULL AND (") }

// checkOptions refuses what can't be synced, and fills in the defaults.
func checkOptions(decl *vsql.Declaration, o *change.Options) error {
	name := decl.Name
	switch {
	case strings.HasPrefix(strings.ToLower(name), "_velosync_") || strings.HasPrefix(strings.ToLower(name), "sqlite_"):
		return fmt.Errorf("%q is an internal table: it can't be tracked", name)
	case !change.ValidIDs(o.IDs):
		return fmt.Errorf(`option ids is %q: want "random" (the app draws its own ids), "local" (only one device inserts) or "renumber" (rows that met get new ids)`, o.IDs)
	case o.IDs == change.RenumberIDs && !decl.IntegerKey:
		return fmt.Errorf(`option ids is "renumber", table %q has no INTEGER PRIMARY KEY: leave it out`, name)
	case decl.IntegerKey && o.IDs == "":
		return fmt.Errorf("table %q has an INTEGER PRIMARY KEY: SQLite gives the next free number, so two devices offline give the same one to "+
			"different rows, and after a sync all count on from the highest. Use a random key (id INT PRIMARY KEY NOT NULL DEFAULT (random()), "+
			`or text), or say that you know: velosync_track(%s, '{"ids":"random"}') if the app draws ids itself, '{"ids":"local"}' if only one device inserts, `+
			`'{"ids":"renumber"}' if rows may get other ids at their first sync`,
			name, vsql.QuoteText(name))
	}
	column := func(option, want string) (string, error) {
		i := -1
		for j, c := range decl.Columns {
			if equalFold(c.Name, want) {
				i = j
			}
		}
		if i < 0 {
			return "", fmt.Errorf("option %s names %q, which is no stored column of %q: it has %s", option, want, name, columnNames(decl))
		}
		for _, k := range decl.Key {
			if k == i {
				return "", fmt.Errorf("option %s names %q, which is in the primary key of %q", option, want, name)
			}
		}
		return decl.Columns[i].Name, nil
	}
	var err error
	if o.Weight != "" {
		if o.Weight, err = column("weight", o.Weight); err != nil {
			return err
		}
	}
	merge := map[string]change.Policy{}
	for name, p := range o.Merge {
		if name, err = column("merge", name); err != nil {
			return err
		}
		merge[name] = p
	}
	if o.Merge = merge; len(merge) == 0 {
		o.Merge = nil
	}
	if o.Groups == nil {
		o.Groups = defaultGroups(decl, o.Merge)
		return checkMerge(decl, o)
	}
	used := map[string]bool{}
	for _, g := range o.Groups {
		for i := range g {
			if g[i], err = column("groups", g[i]); err != nil {
				return err
			}
			if used[g[i]] {
				return fmt.Errorf("option groups names %q twice: a column is in one group", g[i])
			}
			used[g[i]] = true
		}
	}
	return checkMerge(decl, o)
}

func checkMerge(decl *vsql.Declaration, o *change.Options) error {
	t := decl.Table
	t.Options = *o
	if err := t.CheckMerge(); err != nil {
		return err
	}
	return vsql.CheckExpressions(o)
}

func columnNames(decl *vsql.Declaration) string {
	names := make([]string, len(decl.Columns))
	for i, c := range decl.Columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

var (
	vectorType = regexp.MustCompile(`(?i)vector|^f(loat)?(16|32|64)_?blob|^float(8|16|32|64)|^f1bit_blob`)
	vectorName = regexp.MustCompile(`(?i)^(embeddings?|vectors?|vec)$|_(embedding|vector|vec)$`)
)

// defaultGroups makes one group of a table with a vector column: a text must not meet
// another text's embedding. Columns with a policy are merged on their own.
func defaultGroups(decl *vsql.Declaration, merge map[string]change.Policy) [][]string {
	found := false
	for _, c := range decl.Columns {
		blob := c.Type == "" || strings.EqualFold(c.Type, "BLOB")
		found = found || vectorType.MatchString(c.Type) || blob && vectorName.MatchString(c.Name)
	}
	if !found {
		return nil
	}
	key := map[int]bool{}
	for _, k := range decl.Key {
		key[k] = true
	}
	var group []string
	for i, c := range decl.Columns {
		if _, own := merge[c.Name]; !key[i] && !own {
			group = append(group, c.Name)
		}
	}
	return [][]string{group}
}

// checkRows refuses a table whose rows hold a counter, a set or a weight that could not be shipped.
func (d *Device) checkRows(decl *vsql.Declaration, o change.Options) error {
	var n int
	for name, p := range o.Merge {
		col := vsql.Quote(name)
		if p == change.SetPolicy {
			_, err := d.c.Row("SELECT count(*) FROM "+vsql.Quote(decl.Name)+" WHERE "+noSet(col), nil, &n)
			if err == nil && n > 0 {
				err = fmt.Errorf("%d rows of %q have a %s that is not NULL or a JSON array of at most %d bytes, as a set is: mend them first", n, decl.Name, name, change.MaxSet)
			}
			if err != nil {
				return err
			}
		}
		if p != change.Counter {
			continue
		}
		_, err := d.c.Row(fmt.Sprintf(`SELECT count(*) FROM %s WHERE typeof(%s) <> 'integer' OR %s NOT BETWEEN -%d AND %[4]d`, vsql.Quote(decl.Name), col, col, int64(change.MaxCounter)), nil, &n)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d rows of %q have a %s that is no integer within ±%d, as a counter is: mend them first", n, decl.Name, name, int64(change.MaxCounter))
		}
		if err != nil {
			return err
		}
	}
	if o.Weight == "" {
		return nil
	}
	col := vsql.Quote(o.Weight)
	_, err := d.c.Row(fmt.Sprintf(`SELECT count(*) FROM %s WHERE typeof(%s) NOT IN ('null', 'integer', 'real') OR abs(%s) > %d`,
		vsql.Quote(decl.Name), col, col, int64(change.MaxWeight)), nil, &n)
	if err == nil && n > 0 {
		err = fmt.Errorf("%d rows of %q have a %s that is not NULL or a number within ±%g: mend them first", n, decl.Name, o.Weight, float64(change.MaxWeight))
	}
	return err
}

// installTriggers makes the table's triggers, in place of older ones of ours.
func (d *Device) installTriggers(t *table) error {
	if err := d.dropTriggers(t.d.Name); err != nil {
		return err
	}
	for _, tr := range t.triggers() {
		if err := d.c.Script(tr.text); err != nil {
			return fmt.Errorf("make trigger %s: %w", tr.name, err)
		}
	}
	made, err := json.Marshal(t.d.Table)
	if err != nil {
		return err
	}
	got, err := d.ourTriggers(t.d.Name)
	if err != nil {
		return err
	}
	if _, err := d.c.Exec(`UPDATE _velosync_table SET made = ?, texts = ? WHERE id = ?`, string(made), digestOf(got), t.id); err != nil {
		return err
	}
	if _, err := d.c.Exec(`DELETE FROM _velosync_register WHERE tbl = ?`, t.id); err != nil {
		return err
	}
	for r, cols := range t.registers {
		names := make([]string, len(cols))
		for i, c := range cols {
			names[i] = t.d.Columns[c].Name
		}
		if _, err := d.c.Exec(`INSERT INTO _velosync_register(tbl, reg, columns) VALUES (?, ?, ?)`, t.id, int64(r), strings.Join(names, "+")); err != nil {
			return err
		}
	}
	return nil
}

func (d *Device) ourTriggers(table string) (map[string]string, error) {
	got := map[string]string{}
	err := d.c.Query(`SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) = lower(?)
		AND substr(name, 1, 10) = '_velosync_'`, []change.Value{table}, func(v []change.Value) error {
		got[v[0].(string)] = v[1].(string)
		return nil
	})
	return got, err
}

func (d *Device) dropTriggers(table string) error {
	old, err := d.ourTriggers(table)
	if err != nil {
		return err
	}
	for name := range old {
		if err := d.c.Script("DROP TRIGGER " + vsql.Quote(name)); err != nil {
			return fmt.Errorf("drop trigger %s: %w", name, err)
		}
	}
	return nil
}

func sameTriggers(got map[string]string, want []trigger) bool {
	if len(got) != len(want) {
		return false
	}
	for _, w := range want {
		if got[w.name] != w.text {
			return false
		}
	}
	return true
}

// Untrack stops logging a table. Its rows stay; what was not shipped is forgotten.
func (d *Device) Untrack(name string) error {
	return d.c.Atomic("velosync_untrack", func() error {
		var id int64
		var actual string
		found, err := d.c.Row(`SELECT id, name FROM _velosync_table WHERE name = ?`, []change.Value{name}, &id, &actual)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("table %q: %w", name, ErrNotTracked)
		}
		if err := d.dropTriggers(actual); err != nil {
			return err
		}
		var last int64
		if _, err := d.c.Row(`SELECT max(lsn) FROM _velosync_wal`, nil, &last); err != nil {
			return err
		}
		for _, q := range []string{
			`UPDATE _velosync_wal SET op = 'X', cols = 0 WHERE tbl = ?1 AND lsn = ?2`,
			`DELETE FROM _velosync_wal WHERE tbl = ?1 AND lsn <> ?2`,
			`DELETE FROM _velosync_under WHERE tbl = ?1 AND ?2 IS NOT NULL`,
			`DELETE FROM _velosync_parked WHERE tbl = ?1 AND ?2 IS NOT NULL`,
			`DELETE FROM _velosync_register WHERE tbl = ?1 AND ?2 IS NOT NULL`,
			`DELETE FROM _velosync_table WHERE id = ?1 AND ?2 IS NOT NULL`,
		} {
			if _, err := d.c.Exec(q, id, last); err != nil {
				return err
			}
		}
		return d.tellLost()
	})
}

// Touch logs a row by hand, as if all its columns had changed: for writes that no trigger
// sees, such as incremental blob writes. key holds the values of the key columns.
func (d *Device) Touch(name string, key ...change.Value) error {
	t, err := d.find(name)
	if err != nil {
		return err
	}
	pk, err := d.keyOf(t, key)
	if err != nil {
		return err
	}
	_, err = d.c.Exec(`INSERT INTO _velosync_wal(tbl, op, pk, cols, seen, at) SELECT ?, 'T', ?, -1, seen, `+now+` FROM _velosync_state`, t.id, pk)
	return err
}

// keyOf returns the log's name of the row with these key values; the row must exist, since
// only SQLite knows what the values become in the key's columns.
func (d *Device) keyOf(t *table, key []change.Value) (change.Value, error) {
	if len(key) != len(t.d.Key) {
		return nil, fmt.Errorf("table %q has a key of %d columns (%s), got %d values", t.d.Name, len(t.d.Key), strings.Join(t.keyColumns(), ", "), len(key))
	}
	var pk change.Value
	found, err := d.c.Row("SELECT "+plain(t.d.KeyExpression(""))+" FROM "+vsql.Quote(t.d.Name)+" WHERE "+vsql.KeyCondition(&t.d.Table), key, &pk)
	if err == nil && !found {
		err = fmt.Errorf("table %q has no row with the key %v", t.d.Name, key)
	}
	return pk, err
}

// plain keeps go-sqlite3 from converting a column by its declared type: an expression has
// none. Unary plus changes no value.
func plain(column string) string { return "+" + column }

func equalFold(a, b string) bool { return strings.EqualFold(a, b) }

// sameKeyValue compares two key values as the log holds them.
func sameKeyValue(a, b change.Value) bool {
	x, ok := a.([]byte)
	y, ok2 := b.([]byte)
	if ok || ok2 {
		return ok && ok2 && bytes.Equal(x, y)
	}
	return a == b
}
