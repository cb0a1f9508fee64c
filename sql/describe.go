package vsql

import (
	"database/sql/driver"
	"fmt"
	"regexp"
	"sort"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// A Declaration is what a table's own SQL says of it, beyond what travels.
type Declaration struct {
	change.Table
	WithoutRowID bool
	// IntegerKey says that the key is an INTEGER PRIMARY KEY, an alias of the rowid.
	IntegerKey bool
	// Unique says that another constraint than the key can evict or refuse a row.
	Unique bool
	// Uniques lists the unique indexes other than the primary key's BINARY one.
	Uniques []UniqueIndex
	// References says that the table has foreign keys.
	References bool
}

// A UniqueIndex is an index that can make a row unwelcome.
type UniqueIndex struct {
	Name    string
	Columns []string // names; empty for an expression
	// Expressions holds, where Columns has none, the expression as it is written.
	Expressions []string
	Collations  []string
	Where       string // of a partial index
	SQL         string // empty for the index of a constraint
	PrimaryKey  bool
}

// Describe reads how a table of the main schema is declared. The error says so when
// there is no such table, or it is none that could be tracked: a view, a virtual table,
// a table without a primary key.
func (c *Conn) Describe(name string) (*Declaration, error) {
	var kind, text string
	var actual string
	found, err := c.Row(`SELECT type, name, coalesce(sql, '') FROM main.sqlite_schema
		WHERE type IN ('table', 'view') AND lower(name) = lower(?)`, []driver.Value{name}, &kind, &actual, &text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("describe table %q: %w", name, err)
	case !found:
		return nil, fmt.Errorf("no table %q in this database: create it first", name)
	case kind == "view":
		return nil, fmt.Errorf("%q is a view: track the tables that it reads", name)
	case virtualTable.MatchString(text):
		return nil, fmt.Errorf("%q is a virtual table: track the table that it indexes", name)
	}
	d := &Declaration{Table: change.Table{Name: actual, SQL: text}}
	keyType, err := c.describeColumns(d)
	if err != nil {
		return nil, fmt.Errorf("describe table %q: %w", name, err)
	}
	if len(d.Key) == 0 {
		return nil, fmt.Errorf("table %q has no primary key, so its rows have no name that other devices could know: "+
			"add one, such as id TEXT PRIMARY KEY NOT NULL DEFAULT (lower(hex(randomblob(16))))", actual)
	}
	if err := c.describeIndexes(d); err != nil {
		return nil, fmt.Errorf("describe indexes of %q: %w", name, err)
	}
	// The rowid's alias has no index of its own, which tells it from INT PRIMARY KEY and
	// from INTEGER PRIMARY KEY DESC.
	d.IntegerKey = len(d.Key) == 1 && !d.WithoutRowID && strings.EqualFold(keyType, "INTEGER")
	for _, u := range d.Uniques {
		if u.PrimaryKey {
			d.IntegerKey = false
		}
	}
	kept := d.Uniques[:0]
	for _, u := range d.Uniques {
		if u.PrimaryKey && allBinary(u.Collations) {
			continue
		}
		kept = append(kept, u)
	}
	d.Uniques = kept
	d.Unique = len(d.Uniques) > 0
	_, err = c.Row(`SELECT count(*) > 0 FROM pragma_foreign_key_list(?)`, []driver.Value{actual}, &d.References)
	return d, err
}

// describeColumns reads the columns of the table that d names, which of them are its primary
// key, none perhaps, and whether it has a rowid. keyType is of a key of one column.
func (c *Conn) describeColumns(d *Declaration) (keyType string, err error) {
	keyAt := map[int]int{}
	err = c.Query(`SELECT name, type, "notnull", pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid`, []driver.Value{d.Name}, func(row []driver.Value) error {
		if row[4].(int64) != 0 {
			return nil // generated: each end computes it
		}
		col := change.Column{Name: row[0].(string), Type: row[1].(string), NotNull: row[2].(int64) != 0}
		if pk := row[3].(int64); pk > 0 {
			keyAt[int(pk)] = len(d.Columns)
			keyType = col.Type
		}
		d.Columns = append(d.Columns, col)
		return nil
	})
	if err != nil {
		return "", err
	}
	for i := 1; i <= len(keyAt); i++ {
		d.Key = append(d.Key, keyAt[i])
	}
	_, err = c.Row(`SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'`, []driver.Value{d.Name}, &d.WithoutRowID)
	return keyType, err
}

var virtualTable = regexp.MustCompile(`(?is)^\s*CREATE\s+VIRTUAL\s+TABLE\b`)

func allBinary(collations []string) bool {
	for _, c := range collations {
		if !strings.EqualFold(c, "BINARY") {
			return false
		}
	}
	return true
}

func (c *Conn) describeIndexes(d *Declaration) error {
	type index struct {
		name, origin string
		unique       bool
	}
	var list []index
	err := c.Query(`SELECT name, origin, "unique" FROM pragma_index_list(?)`, []driver.Value{d.Name}, func(row []driver.Value) error {
		list = append(list, index{row[0].(string), row[1].(string), row[2].(int64) != 0})
		return nil
	})
	if err != nil {
		return err
	}
	sort.Slice(list, func(i, j int) bool { return list[i].name < list[j].name })
	for _, x := range list {
		var text string
		if _, err := c.Row(`SELECT coalesce(sql, '') FROM main.sqlite_schema WHERE type = 'index' AND name = ?`, []driver.Value{x.name}, &text); err != nil {
			return err
		}
		if text != "" {
			d.Indexes = append(d.Indexes, text)
		}
		if !x.unique {
			continue
		}
		u := UniqueIndex{Name: x.name, SQL: text, PrimaryKey: x.origin == "pk"}
		err := c.Query(`SELECT coalesce(name, ''), coalesce(coll, 'BINARY') FROM pragma_index_xinfo(?) WHERE key = 1 ORDER BY seqno`, []driver.Value{x.name}, func(row []driver.Value) error {
			u.Columns = append(u.Columns, row[0].(string))
			u.Collations = append(u.Collations, row[1].(string))
			return nil
		})
		if err != nil {
			return err
		}
		if text != "" {
			u.Where = indexWhere(text)
			u.Expressions = indexTerms(text)
			if len(u.Expressions) != len(u.Columns) {
				return fmt.Errorf("index %q: its terms can't be told apart in %q", x.name, text)
			}
		}
		d.Uniques = append(d.Uniques, u)
	}
	return nil
}

// bare calls f for each byte of a statement outside quotes, with the depth of parentheses
// around it: of a parenthesis, the depth inside. It stops when f returns false.
func bare(text string, f func(i, depth int) bool) {
	depth := 0
	var quote byte
	for i := 0; i < len(text); i++ {
		ch := text[i]
		switch {
		case quote != 0:
			if ch == quote {
				quote = 0
			}
			continue
		case ch == '\'' || ch == '"' || ch == '`':
			quote = ch
			continue
		case ch == '[':
			quote = ']'
			continue
		case ch == '(':
			depth++
		}
		if !f(i, depth) {
			return
		}
		if ch == ')' {
			depth--
		}
	}
}

// indexTerms returns the terms between the parentheses of a CREATE INDEX, without their
// COLLATE, ASC and DESC.
func indexTerms(text string) []string {
	var terms []string
	start := 0
	bare(text, func(i, depth int) bool {
		if depth != 1 {
			return true
		}
		switch text[i] {
		case '(':
			start = i + 1
		case ',', ')':
			terms = append(terms, termEnd.ReplaceAllString(strings.TrimSpace(text[start:i]), ""))
			start = i + 1
		}
		return text[i] != ')'
	})
	return terms
}

var termEnd = regexp.MustCompile(`(?is)(\s+COLLATE\s+("[^"]*"|\S+))?(\s+(ASC|DESC))?$`)

// indexWhere returns the WHERE clause of a CREATE INDEX, or nothing.
func indexWhere(text string) (where string) {
	bare(text, func(i, depth int) bool {
		if depth > 0 || i == 0 || len(text)-i <= 5 || !strings.EqualFold(text[i:i+5], "WHERE") || wordByte(text[i-1]) || wordByte(text[i+5]) {
			return true
		}
		where = strings.TrimSpace(text[i+5:])
		return false
	})
	return where
}

func wordByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= 0x80
}

// KeyNames returns the names of the key columns, in key order.
func (d *Declaration) KeyNames() []string {
	names := make([]string, len(d.Key))
	for i, k := range d.Key {
		names[i] = d.Columns[k].Name
	}
	return names
}

// KeyExpression returns the SQL that names a row of d: prefix is "NEW.", "OLD." or
// empty. One key column is itself, several make a JSON array; see change.SplitKey.
func (d *Declaration) KeyExpression(prefix string) string {
	if len(d.Key) == 1 {
		return prefix + Quote(d.Columns[d.Key[0]].Name)
	}
	parts := make([]string, len(d.Key))
	for i, k := range d.Key {
		col := prefix + Quote(d.Columns[k].Name)
		parts[i] = "CASE typeof(" + col + ") WHEN 'integer' THEN 'i' || " + col +
			" WHEN 'real' THEN 'r' || printf('%!.17g', " + col + ")" +
			" WHEN 'text' THEN 't' || " + col + " ELSE 'b' || hex(" + col + ") END"
	}
	return "json_array(" + strings.Join(parts, ", ") + ")"
}

// KeyCondition returns "k1 = ? AND k2 = ?" over the key columns of t. The unary plus of
// a value read back is not wanted here: the condition must use the key's index.
func KeyCondition(t *change.Table) string {
	parts := make([]string, len(t.Key))
	for i, k := range t.Key {
		parts[i] = Quote(t.Columns[k].Name) + " = ?"
	}
	return strings.Join(parts, " AND ")
}
