package store

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	digest  [32]byte
}

// readSchema reads the tables of a space.
func readSchema(c *vsql.Conn) (*schema, error) {
	s := &schema{byID: make(map[int64]*table)}
	if _, err := c.Row(`SELECT version FROM _velosync_space`, nil, &s.version); err != nil {
		return nil, err
	}
	err := c.Query(`SELECT id, definition, open FROM _velosync_table`, nil, func(row []driver.Value) error {
		var def change.Table
		if err := json.Unmarshal([]byte(row[1].(string)), &def); err != nil {
			return fmt.Errorf("definition of table %d: %w", row[0], err)
		}
		s.tables = append(s.tables, newTable(row[0].(int64), def, row[2].(int64) != 0))
		return nil
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
	s.digest = s.list.Digest()
	return s, nil
}

// find returns a table by name, or nil.
func (s *schema) find(name string) *table {
	if i := s.list.Find(name); i >= 0 {
		return s.tables[i]
	}
	return nil
}

// maxSchemas is how many digests of devices a space remembers. A device whose digest was
// forgotten sends its tables again.
const maxSchemas = 1000

// The digests of a device without tables.
var noTables = map[[32]byte]bool{{}: true, change.Schema(nil).Digest(): true, change.Schema{}.Digest(): true}

// deviceTables returns the space's tables in the order in which a push names them. It
// makes those that the space lacks. sent returns the tables that came with the push, nil
// if none did. An error is a *SchemaError or a *RequestError, or comes from SQLite.
func (t *tx) deviceTables(digest [32]byte, sent func() (change.Schema, error)) ([]*table, error) {
	if noTables[digest] {
		return nil, nil
	}
	var text string
	found, err := t.Row(`SELECT tables FROM _velosync_schema WHERE digest = ?`, []driver.Value{digest[:]}, &text)
	if err != nil {
		return nil, err
	}
	if found {
		return t.knownTables(text)
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
	return t.learnTables(digest, tables)
}

// knownTables returns the tables of a row of _velosync_schema.
func (t *tx) knownTables(text string) ([]*table, error) {
	var ids []int64
	if err := json.Unmarshal([]byte(text), &ids); err != nil {
		return nil, fmt.Errorf("read the tables of a digest: %w", err)
	}
	list := make([]*table, len(ids))
	for i, id := range ids {
		if list[i] = t.schema.byID[id]; list[i] == nil {
			return nil, fmt.Errorf("a digest names table %d, which is not there: the store is damaged", id)
		}
	}
	return list, nil
}

// learnTables compares a device's tables with the space's, makes those that are new, and
// remembers the digest.
func (t *tx) learnTables(digest [32]byte, tables change.Schema) ([]*table, error) {
	changed := false
	for i := range tables {
		def := &tables[i]
		if tables.Find(def.Name) != i {
			return nil, &SchemaError{Table: def.Name, Reason: "it is listed twice"}
		}
		if err := checkOptions(def); err != nil {
			return nil, err
		}
		have := t.schema.find(def.Name)
		var err error
		switch {
		case have != nil && have.open:
			if err = compareTables(&have.def, def, false); err == nil {
				changed, err = true, t.settle(have, def.Options)
			}
		case have != nil:
			err = compareTables(&have.def, def, true)
		case t.fixed:
			err = &SchemaError{Table: def.Name, Reason: "the space has no such table, and its operator gave all that it has (masterd --schema): " +
				"do not track this table, or ask for it to be added"}
		default:
			changed, err = true, t.addTable(def)
		}
		if err != nil {
			return nil, err
		}
	}
	if changed {
		if err := t.reloadSchema(); err != nil {
			return nil, err
		}
	}
	list := make([]*table, len(tables))
	ids := make([]int64, len(tables))
	for i := range tables {
		list[i] = t.schema.find(tables[i].Name)
		ids[i] = list[i].id
	}
	text, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	if _, err := t.Exec(`INSERT INTO _velosync_schema (digest, tables) VALUES (?, ?)`, digest[:], string(text)); err != nil {
		return nil, fmt.Errorf("remember a digest: %w", err)
	}
	_, err = t.Exec(`DELETE FROM _velosync_schema WHERE rowid <= (SELECT max(rowid) FROM _velosync_schema) - ?`, int64(maxSchemas))
	return list, err
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
	_, err = c.Exec(`INSERT INTO _velosync_table (name, definition, open) VALUES (?, ?, ?)`, def.Name, string(text), open)
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
	if ids := def.Options.IDs; ids != "" && ids != "local" && ids != "random" {
		return refuse("ids is %q, want local or random", ids)
	}
	return nil
}

// compareTables says in what a device's table differs from the space's.
func compareTables(have, got *change.Table, options bool) error {
	refuse := func(format string, args ...any) error {
		return &SchemaError{Table: have.Name, Reason: fmt.Sprintf(format, args...) +
			"; make the device's table like the space's, or sync it with another space"}
	}
	for i := range max(len(have.Columns), len(got.Columns)) {
		switch {
		case i >= len(got.Columns):
			return refuse("the space has column %q, the device has not", have.Columns[i].Name)
		case i >= len(have.Columns):
			return refuse("the device has column %q, the space has not", got.Columns[i].Name)
		case have.Columns[i] != got.Columns[i]:
			return refuse("column %d is %s in the space and %s on the device", i+1, columnText(have.Columns[i]), columnText(got.Columns[i]))
		}
	}
	if !slices.Equal(have.Key, got.Key) {
		return refuse("its key is %s in the space and %s on the device", keyText(have), keyText(got))
	}
	if a, b := sqlText(have), sqlText(got); !slices.Equal(a, b) {
		return refuse("its SQL is %.500q in the space and %.500q on the device (they differ at %.60q)", have.SQL, got.SQL, firstDifference(a, b))
	}
	a, b := uniqueTexts(have), uniqueTexts(got)
	if !slices.Equal(a, b) {
		return refuse("its unique indexes are %.500q in the space and %.500q on the device", a, b)
	}
	if a, b := optionsText(have), optionsText(got); options && a != b {
		return refuse("its options are %s in the space and %s on the device", a, b)
	}
	return nil
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

// sqlText returns the tokens of a table's SQL from its name on: how the name is written
// does not matter, and it is compared as such.
func sqlText(t *change.Table) []string {
	tokens, _ := sqlTokens(t.SQL)
	return tokens[min(3, len(tokens)):]
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

func optionsText(t *change.Table) string {
	o := t.Options
	if len(o.Groups) == 0 {
		o.Groups = nil
	}
	b, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("store: options do not marshal: %v", err)) // strings only
	}
	return string(b)
}
