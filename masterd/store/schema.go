package store

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
	"github.com/velosync/velosync/sqlfuncs"
)

// A schema is the tables of a space. It does not change: another one takes its place.
type schema struct {
	version int64
	tables  []*table // by name
	byID    map[int64]*table
	list    change.Schema

	mu    sync.Mutex
	views map[[32]byte]*view // by digest of the device's tables
}

// readSchema reads the tables of a space.
func readSchema(c *vsql.Conn) (*schema, error) {
	s := &schema{byID: make(map[int64]*table), views: make(map[[32]byte]*view)}
	if _, err := c.Row(`SELECT version FROM _velosync_space`, nil, &s.version); err != nil {
		return nil, err
	}
	err := c.Query(`SELECT id, definition, open, since, former FROM _velosync_table`, nil, func(row []driver.Value) error {
		var def change.Table
		if err := json.Unmarshal([]byte(row[1].(string)), &def); err != nil {
			return fmt.Errorf("definition of table %d: %w", row[0], err)
		}
		t := newTable(row[0].(int64), def, row[2].(int64) != 0)
		s.tables = append(s.tables, t)
		if err := json.Unmarshal([]byte(row[4].(string)), &t.former); err != nil {
			return fmt.Errorf("former names of table %d: %w", row[0], err)
		}
		return t.readSince(row[3].(string))
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(s.tables, func(a, b *table) int { return strings.Compare(a.def.Name, b.def.Name) })
	s.list = make(change.Schema, len(s.tables))
	for i, t := range s.tables {
		t.place, s.byID[t.id], s.list[i] = i, t, t.def
		if err := t.link(c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// find returns a table by name, or nil.
func (s *schema) find(name string) *table {
	if i := s.list.Find(name); i >= 0 {
		return s.tables[i]
	}
	return nil
}

// called returns a table by its name, or by one that it had before; nil: none.
func (s *schema) called(name string) *table {
	if t := s.find(name); t != nil {
		return t
	}
	for _, t := range s.tables {
		if place, ok := t.former[name]; ok && place == tableItself {
			return t
		}
	}
	return nil
}

// tableItself stands among places of columns for the table.
const tableItself = -1

// maxSchemas is how many digests of devices a space remembers. A device whose digest was
// forgotten sends its tables again.
const maxSchemas = 1000

// The digests of a device without tables.
var noTables = map[[32]byte]bool{{}: true, change.Schema(nil).Digest(): true, change.Schema{}.Digest(): true}

// deviceView returns the space as the device sees it. It makes tables and columns that the
// space lacks. sent returns the tables that came with the push, nil if none did. An error is
// a *SchemaError or a *RequestError, or comes from SQLite.
func (t *tx) deviceView(digest [32]byte, sent func() (change.Schema, error), renames []change.Rename) (*view, error) {
	v, err := viewOf(t.Conn, t.schema, digest)
	if v != nil || err != nil {
		return v, err
	}
	tables, err := sent()
	switch {
	case err != nil:
		return nil, err
	case tables == nil:
		return nil, &SchemaError{Unknown: true}
	case tables.Digest() != digest:
		return nil, &RequestError{Reason: "the digest of the tables is not the one that the push names"}
	}
	if err := t.learnTables(digest, tables, renames); err != nil {
		return nil, err
	}
	return viewOf(t.Conn, t.schema, digest)
}

// learnTables compares a device's tables with the space's, makes tables and columns that
// are new, and remembers the digest.
func (t *tx) learnTables(digest [32]byte, tables change.Schema, renames []change.Rename) error {
	changed := false
	matches := make([]match, len(tables))
	for i := range tables {
		def := &tables[i]
		if tables.Find(def.Name) != i {
			return &SchemaError{Table: def.Name, Reason: "it is listed twice"}
		}
		if err := checkOptions(def); err != nil {
			return err
		}
		matches[i] = t.match(def, i, renames)
		did, err := t.learnTable(def, &matches[i])
		if err != nil {
			return err
		}
		changed = changed || did
	}
	if changed {
		if err := t.reloadSchema(); err != nil {
			return err
		}
	}
	list := make([]deviceTable, len(tables))
	for i := range tables {
		have := t.schema.called(tables[i].Name)
		if matches[i].have != nil {
			have = t.schema.byID[matches[i].have.id]
		}
		list[i] = deviceTable{ID: have.id, Table: tables[i], Columns: matches[i].columns}
		for c, col := range tables[i].Columns {
			if matches[i].columns[c] < 0 {
				matches[i].columns[c] = have.def.Find(col.Name)
			}
		}
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if _, err := t.Exec(`INSERT INTO _velosync_schema (digest, tables) VALUES (?, ?)`, digest[:], string(text)); err != nil {
		return fmt.Errorf("remember a digest: %w", err)
	}
	_, err = t.Exec(`DELETE FROM _velosync_schema WHERE rowid <= (SELECT max(rowid) FROM _velosync_schema) - ?`, int64(maxSchemas))
	return err
}

// A match says which table and columns of the space a device's are.
type match struct {
	have    *table   // nil: none
	renamed bool     // the device renamed the table
	columns []int    // the space's column of each; -1: none yet
	before  []string // the name that the device renamed; empty: none
}

// match finds a device's table and columns, by what the device called them in its last
// round, then by name, then by names that they had before.
func (t *tx) match(def *change.Table, place int, renames []change.Rename) match {
	m := match{columns: slices.Repeat([]int{-1}, len(def.Columns)), before: make([]string, len(def.Columns))}
	for _, r := range renames {
		switch {
		case r.Table != place:
		case r.Column == tableItself:
			if m.have = t.schema.called(r.From); m.have != nil {
				m.renamed = m.have.def.Name == r.From
			}
		case r.Column < len(m.before):
			m.before[r.Column] = r.From
		}
	}
	if m.have == nil {
		if m.have = t.schema.called(def.Name); m.have == nil {
			return m
		}
	}
	taken := make(map[int]bool)
	take := func(i, at int) {
		if m.columns[i] < 0 && at >= 0 && !taken[at] {
			m.columns[i], taken[at] = at, true
		}
	}
	find := func(name string, i int) {
		take(i, m.have.def.Find(name))
		if at, ok := m.have.former[name]; ok {
			take(i, at)
		}
	}
	for i := range def.Columns {
		if m.before[i] != "" {
			find(m.before[i], i)
		}
	}
	for i, c := range def.Columns {
		take(i, m.have.def.Find(c.Name))
	}
	for i, c := range def.Columns {
		find(c.Name, i)
	}
	return m
}

// learnTable compares one table. changed says that the space's is another one now.
func (t *tx) learnTable(def *change.Table, m *match) (changed bool, err error) {
	have := m.have
	if have == nil {
		if t.fixed {
			return false, &SchemaError{Table: def.Name, Reason: "the space has no such table, and its operator gave all that it has (masterd --schema): " +
				"do not track this table, or ask for it to be added"}
		}
		return true, t.addTable(def)
	}
	names := make(map[string]string) // the space's, by the device's
	for i, c := range def.Columns {
		if at := m.columns[i]; at >= 0 && have.def.Columns[at].Name != c.Name {
			names[c.Name] = have.def.Columns[at].Name
		}
	}
	got, err := withColumnNames(def, names)
	if err != nil {
		return false, err
	}
	added, err := compareTables(&have.def, got, !have.open)
	switch {
	case err != nil:
		return false, err
	case len(added) > 0 && t.fixed:
		return false, &SchemaError{Table: def.Name, Reason: fmt.Sprintf("the device has column %q, the space has not, and its operator gave all that it has "+
			"(masterd --schema): ask for the column to be added", def.Columns[added[0]].Name)}
	case have.open:
		return true, t.settle(have, withNames(def.Options, names))
	case len(added) > 0:
		if err := t.addColumns(have, got, added); err != nil {
			return false, err
		}
		changed = true
	}
	renamed, err := t.renameAll(have, def, m)
	return changed || renamed, err
}

// withNames puts other names of columns into options.
func withNames(o change.Options, names map[string]string) change.Options {
	other := func(n string) string {
		if to, ok := names[n]; ok {
			return to
		}
		return n
	}
	o.Weight = other(o.Weight)
	o.Merge = o.RenamedMerge(other)
	groups := o.Groups
	if len(groups) == 0 {
		return o
	}
	o.Groups = nil
	for _, g := range groups {
		list := make([]string, len(g))
		for i, n := range g {
			list[i] = other(n)
		}
		o.Groups = append(o.Groups, list)
	}
	return o
}

// renameAll gives the space's table and columns the names that a device gave them; what
// others call them is remembered. Where another device was first, its name stays, and so
// does that of a space whose operator gave the tables.
func (t *tx) renameAll(have *table, def *change.Table, m *match) (changed bool, err error) {
	if t.fixed {
		return false, nil
	}
	names := make(map[string]string) // the new ones, by the old
	former := make(map[string]int)
	for n, at := range have.former {
		former[n] = at
	}
	for i, c := range def.Columns {
		at := m.columns[i]
		if at < 0 || m.before[i] == "" || have.def.Columns[at].Name != m.before[i] || have.def.Find(c.Name) >= 0 {
			continue
		}
		if err := t.Script("ALTER TABLE " + have.name() + " RENAME COLUMN " + vsql.Quote(m.before[i]) + " TO " + vsql.Quote(c.Name)); err != nil {
			return false, t.refuseRename(def, err)
		}
		names[m.before[i]], former[m.before[i]] = c.Name, at
		delete(former, c.Name)
	}
	name := have.def.Name
	if m.renamed && t.schema.find(def.Name) == nil && !strings.EqualFold(name, V1Table) {
		if err := t.Script("ALTER TABLE " + have.name() + " RENAME TO " + vsql.Quote(def.Name)); err != nil {
			return false, t.refuseRename(def, err)
		}
		former[name] = tableItself
		name = def.Name
	}
	if len(names) == 0 && name == have.def.Name {
		return false, nil
	}
	var before string // with the columns that addColumns brought
	if _, err := t.Row(`SELECT definition FROM _velosync_table WHERE id = ?`, []driver.Value{have.id}, &before); err != nil {
		return false, err
	}
	var old change.Table
	if err := json.Unmarshal([]byte(before), &old); err != nil {
		return false, err
	}
	d, err := t.Describe(name)
	if err != nil {
		return false, err
	}
	made := d.Table
	made.Options = withNames(old.Options, names)
	for _, text := range def.Indexes { // those that are not unique are not here
		if !uniqueIndex(text) {
			made.Indexes = append(made.Indexes, text)
		}
	}
	definition, err := json.Marshal(made)
	if err != nil {
		return false, err
	}
	text, err := json.Marshal(former)
	if err != nil {
		return false, err
	}
	_, err = t.Exec(`UPDATE _velosync_table SET name = ?, definition = ?, former = ? WHERE id = ?`, name, string(definition), string(text), have.id)
	t.space.log.Info("renamed", "table", name, "columns", len(names))
	return true, err
}

func (t *tx) refuseRename(def *change.Table, err error) error {
	var e sqlite3.Error
	if errors.As(err, &e) && !fatal(err) {
		return &SchemaError{Table: def.Name, Reason: "what was renamed on the device can't be renamed in the space: " + e.Error()}
	}
	return err
}

// reloadSchema reads the schema after it changed.
func (t *tx) reloadSchema() error {
	if _, err := t.Exec(`UPDATE _velosync_space SET version = ?`, t.schema.version+1); err != nil {
		return err
	}
	s, err := readSchema(t.Conn)
	if err != nil {
		return err
	}
	t.schema = s
	return nil
}

// settle gives a table of the operator's schema the options of the first device that has it.
func (t *tx) settle(have *table, o change.Options) error {
	def := have.def
	def.Options = o
	text, err := json.Marshal(def)
	if err != nil {
		return err
	}
	_, err = t.Exec(`UPDATE _velosync_table SET definition = ?, open = 0 WHERE id = ?`, string(text), have.id)
	return err
}

// addTable makes a table that a device has and the space lacks.
func (t *tx) addTable(def *change.Table) error {
	if err := checkTable(def); err != nil {
		return err
	}
	err := makeTable(t.Conn, def, false)
	var e sqlite3.Error
	if errors.As(err, &e) && !fatal(err) {
		return &SchemaError{Table: def.Name, Reason: "it can't be made here: " + e.Error()}
	}
	if err == nil {
		t.space.log.Info("table added", "table", def.Name, "columns", len(def.Columns))
	}
	return err
}

// makeTable makes a checked table, its unique indexes, and its entry. Other indexes are
// for devices: nothing here would use them.
func makeTable(c *vsql.Conn, def *change.Table, open bool) error {
	// Names and expressions in the text were compiled by checkTable; main is the only
	// database that there is.
	if err := c.Script(def.SQL); err != nil {
		return err
	}
	for _, text := range def.Indexes {
		if uniqueIndex(text) {
			if err := c.Script(text); err != nil {
				return err
			}
		}
	}
	text, err := json.Marshal(def)
	if err != nil {
		return err
	}
	since, err := json.Marshal(make([]change.Seq, len(def.Columns)))
	if err != nil {
		return err
	}
	_, err = c.Exec(`INSERT INTO _velosync_table (name, definition, open, since) VALUES (?, ?, ?, ?)`, def.Name, string(text), open, string(since))
	return err
}

// uniqueIndex reports whether the SQL of an index makes it unique.
func uniqueIndex(text string) bool {
	tokens, ok := sqlTokens(text)
	return ok && len(tokens) > 1 && tokens[0] == "create" && tokens[1] == "unique"
}

// reserved reports whether a name is SQLite's or ours.
func reserved(name string) bool {
	l := lower(name)
	return name == "" || strings.HasPrefix(l, "_velosync_") || strings.HasPrefix(l, "sqlite_") || strings.HasPrefix(l, "velosync_")
}

// checkTable checks that the SQL of a table that came over the wire makes this table and
// nothing else. It runs it in a database of its own.
func checkTable(def *change.Table) error {
	refuse := func(format string, args ...any) error {
		return &SchemaError{Table: def.Name, Reason: fmt.Sprintf(format, args...)}
	}
	if reserved(def.Name) {
		return refuse("names that begin with _velosync_, velosync_ and sqlite_ are reserved")
	}
	tokens, ok := sqlTokens(def.SQL)
	if !ok || len(tokens) < 5 || tokens[0] != "create" || tokens[1] != "table" || !sameName(tokens[2], def.Name) || tokens[3] != "(" || slices.Contains(tokens, ";") {
		return refuse("want the CREATE TABLE that sqlite_schema holds of it, got %.200q", def.SQL)
	}
	for _, text := range def.Indexes {
		tokens, ok := sqlTokens(text)
		if !ok || len(tokens) == 0 || slices.Contains(tokens, ";") || tokens[0] != "create" {
			return refuse("want the CREATE INDEX that sqlite_schema holds, got %.200q", text)
		}
		tokens = tokens[1:]
		if len(tokens) > 0 && tokens[0] == "unique" {
			tokens = tokens[1:]
		}
		if len(tokens) < 6 || tokens[0] != "index" || reserved(strings.TrimPrefix(tokens[1], `"`)) || tokens[2] != "on" || !sameName(tokens[3], def.Name) || tokens[4] != "(" {
			return refuse("want a CREATE INDEX of this table, got %.200q", text)
		}
	}
	c, err := scratch()
	if err != nil {
		return err
	}
	defer closeConn(c)
	for _, text := range append([]string{def.SQL}, def.Indexes...) {
		if err := c.Script(text); err != nil {
			return refuse("its SQL does not run here: %v", err)
		}
	}
	d, err := c.Describe(def.Name)
	if err != nil {
		return refuse("%v", err)
	}
	d.Table.Options = def.Options
	if got, want := (change.Schema{d.Table}).Digest(), (change.Schema{*def}).Digest(); got != want {
		return refuse("its SQL makes columns, a key or indexes other than the push says")
	}
	return nil
}

// sameName compares a token with a table's name. SQLite keeps the name as it was written.
func sameName(token, name string) bool {
	return lower(strings.TrimPrefix(token, `"`)) == lower(name)
}

// scratch opens an empty database in memory. The caller closes it.
func scratch() (*vsql.Conn, error) {
	conn, err := sqlfuncs.Open("file::memory:", nil)
	if err != nil {
		return nil, fmt.Errorf("open a scratch database: %w", err)
	}
	c := vsql.NewConn(conn)
	if err := c.Script("PRAGMA trusted_schema = 0; PRAGMA foreign_keys = 0"); err != nil {
		closeConn(c)
		return nil, err
	}
	return c, nil
}

func closeConn(c *vsql.Conn) { _, _ = c.Close(), c.Raw().Close() }

// tablesOf returns the tables that a script makes.
func tablesOf(script string) ([]*table, error) {
	c, err := scratch()
	if err != nil {
		return nil, err
	}
	defer closeConn(c)
	if err := c.Script(script); err != nil {
		return nil, err
	}
	var names []string
	err = c.Query(`SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name`, nil, func(row []driver.Value) error {
		names = append(names, row[0].(string))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errors.New("it makes no table")
	}
	var tables []*table
	for _, name := range names {
		d, err := c.Describe(name)
		if err != nil {
			return nil, err
		}
		if err := checkTable(&d.Table); err != nil {
			return nil, err
		}
		tables = append(tables, newTable(0, d.Table, true))
	}
	return tables, nil
}

// checkOptions checks what a device says of its table against the table's columns.
func checkOptions(def *change.Table) error {
	refuse := func(format string, args ...any) error {
		return &SchemaError{Table: def.Name, Reason: fmt.Sprintf(format, args...)}
	}
	for _, k := range def.Key {
		if k < 0 || k >= len(def.Columns) {
			return refuse("key column %d of %d", k, len(def.Columns))
		}
	}
	if w := def.Options.Weight; w != "" && def.Find(w) < 0 {
		return refuse("the weight is in column %q, which it has not", w)
	}
	grouped := make(map[string]bool)
	for _, g := range def.Options.Groups {
		for _, name := range g {
			at := def.Find(name)
			switch {
			case at < 0:
				return refuse("column %q of a group is not there", name)
			case slices.Contains(def.Key, at):
				return refuse("column %q of a group is part of the key", name)
			case grouped[name]:
				return refuse("column %q is in two groups", name)
			}
			grouped[name] = true
		}
	}
	if err := def.CheckMerge(); err != nil {
		return refuse("%v", err)
	}
	if err := vsql.CheckExpressions(&def.Options); err != nil {
		return refuse("%v", err)
	}
	if ids := def.Options.IDs; !change.ValidIDs(ids) {
		return refuse("ids is %q, want local, random or renumber", ids)
	}
	return nil
}

// compareTables returns the columns that a device's table has and the space's has not. An
// error says why the two don't fit. Columns that the space has are called in got as they are
// there.
func compareTables(have, got *change.Table, options bool) (added []int, err error) {
	refuse := func(format string, args ...any) ([]int, error) {
		return nil, &SchemaError{Table: have.Name, Reason: fmt.Sprintf(format, args...) +
			"; make the device's table like the space's, or sync it with another space"}
	}
	a, okA := readTableText(have)
	b, okB := readTableText(got)
	if !okA || !okB {
		return refuse("its SQL is %.500q in the space and %.500q on the device", have.SQL, got.SQL)
	}
	if x, y := keyText(have), keyText(got); x != y {
		return refuse("its key is %s in the space and %s on the device", x, y)
	}
	for i, c := range got.Columns {
		at := have.Find(c.Name)
		switch {
		case at < 0:
			added = append(added, i)
			continue
		case have.Columns[at] != c:
			return refuse("column %q is %s in the space and %s on the device", c.Name, columnText(have.Columns[at]), columnText(c))
		}
		x, y := a.columns[lower(c.Name)], b.columns[lower(c.Name)]
		if !slices.Equal(x.tokens, y.tokens) {
			return refuse("column %q is %.500q in the space and %.500q on the device", c.Name, x.text, y.text)
		}
	}
	for _, c := range have.Columns {
		if got.Find(c.Name) >= 0 {
			continue
		}
		if item := a.columns[lower(c.Name)]; c.NotNull && !slices.Contains(item.tokens, "default") {
			return refuse("the space has column %s without a DEFAULT, the device has not: its rows would have no value for it", columnText(c))
		}
	}
	if !slices.Equal(a.constraints, b.constraints) || a.tail != b.tail {
		return refuse("its SQL is %.500q in the space and %.500q on the device (they differ at %.200q)", have.SQL, got.SQL,
			firstDifference(append(a.constraints, a.tail), append(b.constraints, b.tail)))
	}
	x, y := uniqueTexts(have), uniqueTexts(got)
	if !slices.Equal(x, y) {
		return refuse("its unique indexes are %.500q in the space and %.500q on the device", x, y)
	}
	if x, y := optionsText(have, got), optionsText(got, have); options && x != y {
		return refuse("its options are %s in the space and %s on the device", x, y)
	}
	return added, nil
}

// withColumnNames returns a device's table with other names for its columns, by the names
// that they have. SQLite renames them: a name may be a type's or a word of an expression as
// well, and the column of another table that a foreign key names. An error is a
// *SchemaError, or comes from SQLite.
func withColumnNames(t *change.Table, names map[string]string) (*change.Table, error) {
	if len(names) == 0 {
		return t, nil
	}
	if err := checkTable(t); err != nil {
		return nil, err
	}
	c, err := scratch()
	if err != nil {
		return nil, err
	}
	defer closeConn(c)
	for _, text := range append([]string{t.SQL}, t.Indexes...) {
		if err := c.Script(text); err != nil {
			return nil, err
		}
	}
	rename := func(from, to string) error {
		return c.Script("ALTER TABLE " + vsql.Quote(t.Name) + " RENAME COLUMN " + vsql.Quote(from) + " TO " + vsql.Quote(to))
	}
	between := make(map[string]string, len(names)) // two columns may exchange their names
	for from, to := range names {
		free := fmt.Sprintf("_velosync_column_%d", len(between))
		if err := rename(from, free); err != nil {
			return nil, err
		}
		between[free] = to
	}
	for free, to := range between {
		if err := rename(free, to); err != nil {
			return nil, &SchemaError{Table: t.Name, Reason: fmt.Sprintf("the space calls one of its columns %q, and so it calls another one: %v", to, err)}
		}
	}
	d, err := c.Describe(t.Name)
	if err != nil {
		return nil, err
	}
	d.Table.Options = withNames(t.Options, names)
	return &d.Table, nil
}

func columnText(c change.Column) string {
	text := fmt.Sprintf("%q %s", c.Name, c.Type)
	if c.NotNull {
		text += " NOT NULL"
	}
	return strings.TrimSpace(text)
}

func keyText(t *change.Table) string {
	names := make([]string, len(t.Key))
	for i, k := range t.Key {
		names[i] = t.Columns[k].Name
	}
	return fmt.Sprintf("%q", names)
}

func firstDifference(a, b []string) string {
	for i := range b {
		if i >= len(a) || a[i] != b[i] {
			return b[i]
		}
	}
	return a[len(b)]
}

// uniqueTexts returns the unique indexes of a table, without their names.
func uniqueTexts(t *change.Table) []string {
	var texts []string
	for _, text := range t.Indexes {
		if uniqueIndex(text) {
			tokens, _ := sqlTokens(text)
			texts = append(texts, strings.Join(tokens[min(6, len(tokens)):], " "))
		}
	}
	slices.Sort(texts)
	return texts
}

// optionsText returns a table's options as far as they concern columns that another one
// has too.
func optionsText(t, other *change.Table) string {
	o := t.Options
	o.Groups = nil
	for _, g := range t.Options.Groups {
		var both []string
		for _, c := range g {
			if other.Find(c) >= 0 {
				both = append(both, c)
			}
		}
		if len(both) > 1 || len(both) == 1 && len(g) == 1 {
			slices.SortFunc(both, func(x, y string) int { return t.Find(x) - t.Find(y) })
			o.Groups = append(o.Groups, both)
		}
	}
	slices.SortFunc(o.Groups, func(x, y []string) int { return strings.Compare(x[0], y[0]) })
	o.Merge = nil
	for name, p := range t.Options.Merge {
		if other.Find(name) >= 0 {
			o.SetMerge(name, p)
		}
	}
	b, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("store: options do not marshal: %v", err)) // strings only
	}
	return string(b)
}

// addColumns adds columns that a device has to the space's table, behind all others.
func (t *tx) addColumns(have *table, def *change.Table, added []int) error {
	refuse := func(c change.Column, format string, args ...any) error {
		return &SchemaError{Table: def.Name, Reason: fmt.Sprintf("the device has column %s, the space has not: ", columnText(c)) + fmt.Sprintf(format, args...)}
	}
	if err := checkTable(def); err != nil {
		return err
	}
	text, ok := readTableText(def)
	if !ok {
		return fmt.Errorf("the SQL of %q can't be taken apart", def.Name) // compareTables did
	}
	for _, i := range added {
		c := def.Columns[i]
		if c.NotNull && !slices.Contains(text.columns[lower(c.Name)].tokens, "default") {
			return refuse(c, "rows of other devices would have no value for it; give it a DEFAULT")
		}
		// The text is a part of a CREATE TABLE that checkTable ran.
		err := t.Script("ALTER TABLE " + have.name() + " ADD COLUMN " + text.columns[lower(c.Name)].text)
		var e sqlite3.Error
		switch {
		case errors.As(err, &e) && !fatal(err):
			return refuse(c, "SQLite can't add it to the space's table (%s); give it a DEFAULT, and add it without UNIQUE", e.Error())
		case err != nil:
			return err
		}
	}
	d, err := t.Describe(have.def.Name)
	if err != nil {
		return err
	}
	made := d.Table
	made.Indexes, made.Options = have.def.Indexes, have.def.Options
	made.Options.Groups = slices.Clone(have.def.Options.Groups)
	for _, i := range added {
		c := def.Columns[i]
		if at := made.Find(c.Name); at < 0 || made.Columns[at] != c {
			return refuse(c, "it became another column here")
		}
		joinGroup(&made, def, c.Name)
		if p, ok := def.Options.Merge[c.Name]; ok {
			made.Options.SetMerge(c.Name, p)
		}
	}
	if !slices.Equal(made.Columns[:len(have.def.Columns)], have.def.Columns) {
		return fmt.Errorf("table %q has not the columns that it had", def.Name)
	}
	definition, err := json.Marshal(made)
	if err != nil {
		return err
	}
	since := slices.Clone(have.since)
	for range added {
		since = append(since, t.head)
	}
	when, err := json.Marshal(since)
	if err != nil {
		return err
	}
	if _, err := t.Exec(`UPDATE _velosync_table SET definition = ?, since = ? WHERE id = ?`, string(definition), string(when), have.id); err != nil {
		return err
	}
	t.space.log.Info("columns added", "table", def.Name, "columns", len(added))
	return nil
}

// joinGroup puts a new column into the group that it has on the device, beside the columns
// that the space has already.
func joinGroup(made, def *change.Table, name string) {
	for _, g := range def.Options.Groups {
		if !slices.Contains(g, name) {
			continue
		}
		for i, have := range made.Options.Groups {
			for _, c := range have {
				if slices.Contains(g, c) {
					made.Options.Groups[i] = append(slices.Clone(have), name)
					return
				}
			}
		}
		group := []string{name}
		for _, c := range g {
			if c != name && made.Find(c) >= 0 {
				group = append(group, c)
			}
		}
		made.Options.Groups = append(made.Options.Groups, group)
		return
	}
}
