package vsql

import (
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// A ForeignKey is a REFERENCES clause of a table. What we write while foreign_keys is
// off we check ourselves, row by row: PRAGMA foreign_key_check reads whole tables, and
// with foreign_keys on the actions of a key (ON DELETE CASCADE) would change rows that
// nobody captured.
type ForeignKey struct {
	Child   string   // the table that refers
	Columns []string // of Child
	Parent  string   // the table referred to, spelled as where it is declared; as in the clause when it is not there
	To      []string // columns of Parent, one for each of Columns; nil when Missing
	// Missing says that Parent is not in this database, or has not these columns. Such a
	// key checks nothing here.
	Missing bool
	// OnDelete and OnUpdate are what SQLite would do to a child then: CASCADE, SET NULL, SET
	// DEFAULT, RESTRICT or NO ACTION.
	OnDelete, OnUpdate string

	orphan  string // is the parent of one child row gone?
	orphans string // which children does a parent leave behind?
	values  string // what do children write for the parent named by its key?

	statements
}

// ForeignKeys returns the foreign keys of a table of the main schema, in the order of
// PRAGMA foreign_key_list; none when there is no such table.
func (c *Conn) ForeignKeys(table string) ([]ForeignKey, error) {
	var keys []ForeignKey
	last := int64(-1)
	err := c.Query(`SELECT id, "table", "from", "to", on_delete, on_update FROM pragma_foreign_key_list(?) ORDER BY id, seq`, []driver.Value{table}, func(row []driver.Value) error {
		if id := row[0].(int64); id != last {
			keys = append(keys, ForeignKey{Child: table, Parent: row[1].(string), OnDelete: row[4].(string), OnUpdate: row[5].(string)})
			last = id
		}
		k := &keys[len(keys)-1]
		k.Columns = append(k.Columns, row[2].(string))
		if to, ok := row[3].(string); ok {
			k.To = append(k.To, to)
		}
		return nil
	})
	if err == nil && len(keys) > 0 {
		err = c.resolveForeignKeys(table, keys)
	}
	if err != nil {
		return nil, fmt.Errorf("foreign keys of %q: %w", table, err)
	}
	return keys, nil
}

// Referring returns the tables of the main schema that have foreign keys, and to which tables
// they refer, each spelled as in the clause.
func (c *Conn) Referring() (map[string][]string, error) {
	to := make(map[string][]string)
	err := c.Query(`SELECT DISTINCT t.name, k."table" FROM main.sqlite_schema t, pragma_foreign_key_list(t.name) k
		WHERE t.type = 'table' ORDER BY t.name, k."table"`, nil, func(row []driver.Value) error {
		child := row[0].(string)
		to[child] = append(to[child], row[1].(string))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("which tables have foreign keys: %w", err)
	}
	return to, nil
}

// ForeignKeysTo returns the foreign keys of all tables of the main schema that refer to
// parent, by child.
func (c *Conn) ForeignKeysTo(parent string) ([]ForeignKey, error) {
	referring, err := c.Referring()
	if err != nil {
		return nil, err
	}
	var children []string
	for child, parents := range referring {
		if slices.ContainsFunc(parents, func(p string) bool { return strings.EqualFold(p, parent) }) {
			children = append(children, child)
		}
	}
	slices.Sort(children)
	var to []ForeignKey
	for _, child := range children {
		keys, err := c.ForeignKeys(child)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			if strings.EqualFold(k.Parent, parent) {
				to = append(to, k)
			}
		}
	}
	return to, nil
}

// Orphan reports whether the row of k.Child with this primary key, its values in key
// order, refers to a row that is not there. A row that is not there itself refers to
// nothing, and neither does one with a NULL among k.Columns (MATCH SIMPLE).
func (c *Conn) Orphan(k *ForeignKey, key []driver.Value) (bool, error) {
	if k.Missing || k.orphan == "" {
		return false, nil
	}
	var orphan bool
	if _, err := c.Row(k.orphan, key, &orphan); err != nil {
		return false, fmt.Errorf("check foreign key of %q to %q: %w", k.Child, k.Parent, err)
	}
	return orphan, nil
}

// ParentValues returns what k.Parent holds in k.To in the row with this primary key, its
// values in key order; nil when there is no such row, or one of them is NULL so that
// nothing can refer to it. Read them before the row is deleted or changed, and ask
// Orphans afterwards.
func (c *Conn) ParentValues(k *ForeignKey, key []driver.Value) ([]driver.Value, error) {
	return c.parentValues(k, k.values, key)
}

func (c *Conn) parentValues(k *ForeignKey, query string, key []driver.Value) ([]driver.Value, error) {
	if query == "" {
		return nil, nil
	}
	var values []driver.Value
	err := c.Query(query, key, func(row []driver.Value) error {
		values = append(values, row...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what %q refers to in %q: %w", k.Child, k.Parent, err)
	}
	for _, v := range values {
		if v == nil {
			return nil, nil
		}
	}
	return values, nil
}

// Orphans calls f with the key, as KeyExpression makes it, of each row of k.Child that
// refers to a row of k.Parent with these values of k.To while there is none; none where
// ParentValues returned nil. It stops at f's first error and returns it.
func (c *Conn) Orphans(k *ForeignKey, values []driver.Value, f func(key driver.Value) error) error {
	if k.Missing || len(values) == 0 {
		return nil
	}
	return c.Query(k.orphans, values, func(row []driver.Value) error { return f(row[0]) })
}

// A parentColumn is what decides how a column compares with those that refer to it.
type parentColumn struct{ name, kind, collation string }

// resolveForeignKeys fills in what a clause leaves open, and the statements.
func (c *Conn) resolveForeignKeys(table string, keys []ForeignKey) error {
	child := &Declaration{Table: change.Table{Name: table}}
	if _, err := c.Row(`SELECT name FROM main.sqlite_schema WHERE type = 'table' AND lower(name) = lower(?)`, []driver.Value{table}, &child.Name); err != nil {
		return err
	}
	if _, err := c.describeColumns(child); err != nil {
		return err
	}
	for i := range keys {
		k := &keys[i]
		k.Child = child.Name
		to, primary, err := c.parentColumns(k)
		if err != nil {
			return err
		}
		if to == nil {
			k.Missing, k.To = true, nil
			continue
		}
		k.To = make([]string, len(to))
		for j := range to {
			k.To[j] = to[j].name
		}
		k.write(child, to, primary)
		if err := c.writeActions(k, child, to, primary); err != nil {
			return err
		}
	}
	return nil
}

// parentColumns finds the columns that k refers to, and the names of the parent's own
// key; nil when the parent lacks them. A clause without columns means the primary key.
func (c *Conn) parentColumns(k *ForeignKey) (to []parentColumn, primary []string, err error) {
	if _, err := c.Row(`SELECT name FROM main.sqlite_schema WHERE type = 'table' AND lower(name) = lower(?)`, []driver.Value{k.Parent}, &k.Parent); err != nil {
		return nil, nil, err
	}
	all := map[string]parentColumn{}
	at := map[int64]string{}
	err = c.Query(`SELECT name, type, pk FROM pragma_table_xinfo(?)`, []driver.Value{k.Parent}, func(row []driver.Value) error {
		p := parentColumn{name: row[0].(string), kind: row[1].(string)}
		all[strings.ToLower(p.name)] = p
		if n := row[2].(int64); n > 0 {
			at[n] = p.name
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for n := int64(1); n <= int64(len(at)); n++ {
		primary = append(primary, at[n])
	}
	names := k.To
	if names == nil {
		names = primary
	}
	if len(names) != len(k.Columns) {
		return nil, nil, nil
	}
	for _, name := range names {
		p, ok := all[strings.ToLower(name)]
		if !ok {
			return nil, nil, nil
		}
		to = append(to, p)
	}
	return to, primary, c.parentCollations(k.Parent, to)
}

// parentCollations reads how the parent's columns compare. No pragma tells what a column
// was declared with, but SQLite demands that a parent key has a unique index with the
// collations of its columns.
func (c *Conn) parentCollations(parent string, to []parentColumn) error {
	return c.Query(`SELECT lower(x.name), x.coll FROM pragma_index_list(?) l, pragma_index_xinfo(l.name) x
		WHERE l."unique" AND x.key AND x.name IS NOT NULL`, []driver.Value{parent}, func(row []driver.Value) error {
		for i := range to {
			if strings.ToLower(to[i].name) == row[0].(string) && !strings.EqualFold(row[1].(string), "BINARY") {
				to[i].collation = row[1].(string)
			}
		}
		return nil
	})
}

// write writes the queries of k. Whether a parent is there is asked under the
// affinity and the collation of the parent's column: it stands on the left, and the
// unary plus takes the child's own affinity away (and go-sqlite3's conversions).
func (k *ForeignKey) write(child *Declaration, to []parentColumn, primary []string) {
	var notNull, match, refers, same, values, parentKey []string
	for i, name := range k.Columns {
		col := "c." + Quote(name)
		notNull = append(notNull, col+" IS NOT NULL")
		match = append(match, "p."+Quote(to[i].name)+" = +"+col)
		refers = append(refers, refersTo(col, child, name, to[i], i+1))
		values = append(values, "+"+Quote(to[i].name))
	}
	for _, i := range child.Key {
		same = append(same, "c."+Quote(child.Columns[i].Name)+" = ?")
	}
	for _, name := range primary {
		parentKey = append(parentKey, Quote(name)+" = ?")
	}
	and := func(parts ...[]string) string {
		var all []string
		for _, p := range parts {
			all = append(all, p...)
		}
		return strings.Join(all, " AND ")
	}
	from := " FROM main." + Quote(k.Child) + " c WHERE "
	gone := " AND NOT EXISTS (SELECT 1 FROM main." + Quote(k.Parent) + " p WHERE " + and(match) + ")"
	if len(same) > 0 {
		k.orphan = "SELECT 1" + from + and(same, notNull) + gone
	}
	k.orphans = "SELECT +(" + child.rowExpression("c.") + ")" + from + and(refers, notNull) + gone
	if len(parentKey) > 0 {
		k.values = "SELECT " + strings.Join(values, ", ") + " FROM main." + Quote(k.Parent) + " WHERE " + and(parentKey)
	}
}

// refersTo returns the condition that a child's column could mean parameter n, a value of
// the parent's column. It may hold for a few more rows, never for fewer, and can use the
// child's index in all usual cases.
func refersTo(col string, child *Declaration, name string, to parentColumn, n int) string {
	kind, _ := child.kind(name) // of a generated column: unknown
	equal := fmt.Sprintf("%s = ?%d", col, n)
	if to.collation != "" {
		equal += " COLLATE " + Quote(to.collation)
	}
	if affinity(kind) == affinity(to.kind) {
		return equal
	}
	// 1 in an INTEGER column is what '1.0' in a TEXT column refers to: compare as numbers too.
	return fmt.Sprintf("(%s OR CAST(?%d AS NUMERIC) = CAST(%s AS NUMERIC))", equal, n, col)
}

// affinity returns the affinity of a declared type (SQLite, datatype3.html, 3.1).
func affinity(kind string) string {
	kind = strings.ToUpper(kind)
	for _, rule := range [...]struct{ part, affinity string }{
		{"INT", "INTEGER"}, {"CHAR", "TEXT"}, {"CLOB", "TEXT"}, {"TEXT", "TEXT"}, {"BLOB", "BLOB"}, {"REAL", "REAL"}, {"FLOA", "REAL"}, {"DOUB", "REAL"},
	} {
		if strings.Contains(kind, rule.part) {
			return rule.affinity
		}
	}
	if kind == "" {
		return "BLOB"
	}
	return "NUMERIC"
}
