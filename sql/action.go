package vsql

import (
	"cmp"
	"database/sql/driver"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// What SQLite does to the children of a row that is deleted or changed, it does only while
// foreign_keys is on. Here are the same statements, one row of a child at a time, so that it
// is known which row a constraint or a trigger refuses. The child's triggers fire.

// A Parent is a row that rows of a key's child may refer to, by its values of k.To; none if
// there are no values.
type Parent struct {
	Values []driver.Value
	Stays  bool // none of its children is wanted
}

// statements are what acts on the children of a key.
type statements struct {
	gone     []string // make, empty and fill the table of parents, in the temp schema
	children string
	left     string // of these, those that have no parent

	byRow, byRowNow, now string // k.To of a parent, and whether that is as it was
	orphanRow            string

	remove, setNull, setDefault, cascade string
}

// Children calls f with each row of k.Child that refers to one of these parents, whose place
// it gives: row names it to Act, OrphanOf, ParentValuesOf and ParentOfNow, key to people. row is
// nil where k.Child has no such name. Of parents with equal values the first has the children.
// orphans leaves out the rows that have a parent in k.Parent now.
//
// It reads k.Child once, or less where that has an index on k.Columns.
func (c *Conn) Children(k *ForeignKey, parents []Parent, orphans bool, f func(parent int, row []driver.Value, key driver.Value) error) error {
	if k.Missing || !slices.ContainsFunc(parents, func(p Parent) bool { return p.Values != nil && !p.Stays }) {
		return nil
	}
	for _, s := range k.gone[:2] {
		if _, err := c.Exec(s); err != nil {
			return fmt.Errorf("rows of %q that %q refers to: %w", k.Parent, k.Child, err)
		}
	}
	args := make([]driver.Value, 2, 2+len(k.To))
	for i, p := range parents {
		if p.Values == nil {
			continue
		}
		args[0], args[1] = int64(i), int64(1)
		if p.Stays {
			args[1] = int64(0)
		}
		args = append(args[:2], p.Values...)
		if _, err := c.Exec(k.gone[2], args...); err != nil {
			return fmt.Errorf("rows of %q that %q refers to: %w", k.Parent, k.Child, err)
		}
	}
	query := k.children
	if orphans {
		query = k.left
	}
	type child struct {
		parent int
		row    []driver.Value
		key    driver.Value
	}
	var found []child // f may write
	err := c.Query(query, nil, func(v []driver.Value) error {
		x := child{parent: int(v[0].(int64)), key: v[1]}
		if len(v) > 2 {
			x.row = slices.Clone(v[2:])
		}
		found = append(found, x)
		return nil
	})
	if err != nil {
		return fmt.Errorf("rows of %q that refer to %q: %w", k.Child, k.Parent, err)
	}
	for _, x := range found {
		if err := f(x.parent, x.row, x.key); err != nil {
			return err
		}
	}
	return nil
}

// ParentNow returns what k.Parent holds in k.To in the row with this primary key, and whether
// that equals what it was, as the parent's columns compare. found is false where there is no
// such row.
func (c *Conn) ParentNow(k *ForeignKey, key, was []driver.Value) (now []driver.Value, same, found bool, err error) {
	return c.parentNow(k, k.now, key, was)
}

// ParentOfNow is ParentNow of a row that Children named.
func (c *Conn) ParentOfNow(k *ForeignKey, row, was []driver.Value) (now []driver.Value, same, found bool, err error) {
	return c.parentNow(k, k.byRowNow, row, was)
}

func (c *Conn) parentNow(k *ForeignKey, query string, name, was []driver.Value) (now []driver.Value, same, found bool, err error) {
	if query == "" {
		return nil, false, false, nil
	}
	err = c.Query(query, slices.Concat(was, name), func(row []driver.Value) error {
		found, same, now = true, row[0].(int64) != 0, slices.Clone(row[1:])
		return nil
	})
	if err != nil {
		err = fmt.Errorf("read what %q refers to in %q: %w", k.Child, k.Parent, err)
	}
	return now, same, found, err
}

// ParentValuesOf is ParentValues of a row that Children named, k.Parent being the child there.
func (c *Conn) ParentValuesOf(k *ForeignKey, row []driver.Value) (values []driver.Value, err error) {
	return c.parentValues(k, k.byRow, row)
}

// OrphanOf is Orphan of a row that Children named.
func (c *Conn) OrphanOf(k *ForeignKey, row []driver.Value) (orphan bool, err error) {
	if k.Missing || k.orphanRow == "" {
		return false, nil
	}
	if _, err := c.Row(k.orphanRow, row, &orphan); err != nil {
		return false, fmt.Errorf("check foreign key of %q to %q: %w", k.Child, k.Parent, err)
	}
	return orphan, nil
}

// Act does to a row of k.Child, as Children named it, what an action says, CASCADE being ON
// UPDATE where there are values for k.Columns. It returns the row's name afterwards; nil where it is gone,
// or was not there. An action that does nothing, or that the row has no name for, changes nothing.
func (c *Conn) Act(k *ForeignKey, action string, row, values []driver.Value) (now []driver.Value, err error) {
	var query string
	args := row
	switch {
	case action == "CASCADE" && values == nil:
		query = k.remove
	case action == "CASCADE":
		query, args = k.cascade, slices.Concat(values, row)
	case action == "SET NULL":
		query = k.setNull
	case action == "SET DEFAULT":
		query = k.setDefault
	}
	if query == "" || row == nil {
		return row, nil
	}
	err = c.Query(query, args, func(v []driver.Value) error {
		now = slices.Clone(v)
		return nil
	})
	return now, err
}

// writeActions writes the statements that act on the children of k.
func (c *Conn) writeActions(k *ForeignKey, child *Declaration, to []parentColumn, primary []string) error {
	parent := &Declaration{Table: change.Table{Name: k.Parent}}
	if _, err := c.describeColumns(parent); err != nil {
		return err
	}
	childRow, err := c.rowName(child)
	if err != nil {
		return err
	}
	parentRow, err := c.rowName(parent)
	if err != nil {
		return err
	}
	kinds := make([]string, len(to))
	var columns, names, match, refers, notNull []string
	for i, t := range to {
		kinds[i] = affinity(t.kind)
		if t.collation != "" {
			kinds[i] += " COLLATE " + Quote(t.collation)
		}
		name, col := fmt.Sprintf("v%d", i), "c."+Quote(k.Columns[i])
		names, columns = append(names, name), append(columns, name+" "+kinds[i])
		refers = append(refers, "g."+name+" = "+col)
		match = append(match, "p."+Quote(t.name)+" = +"+col)
		notNull = append(notNull, col+" IS NOT NULL")
	}
	gone := "temp." + Quote("_velosync_gone "+strings.Join(kinds, ", "))
	k.gone = []string{
		fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s(n INTEGER PRIMARY KEY, wanted INTEGER, %s, UNIQUE(%s))", gone, strings.Join(columns, ", "), strings.Join(names, ", ")),
		"DELETE FROM " + gone,
		"INSERT OR IGNORE INTO " + gone + " VALUES (?, ?" + strings.Repeat(", ?", len(names)) + ")",
	}
	// The child's index serves if there is one, else the parents' does: whether a parent is meant
	// is then asked as SQLite asks for a child's parent.
	tables := gone + " g CROSS JOIN main." + Quote(k.Child) + " c"
	if indexed, err := c.indexed(k, child, to); err != nil {
		return err
	} else if !indexed {
		tables = "main." + Quote(k.Child) + " c CROSS JOIN " + gone + " g"
		for i := range refers {
			refers[i] = "g." + names[i] + " = +c." + Quote(k.Columns[i])
		}
	}
	result := "SELECT g.n, +(" + child.rowExpression("c.") + ")"
	for _, n := range childRow {
		result += ", +c." + n
	}
	k.children = result + " FROM " + tables + " WHERE g.wanted AND " + strings.Join(refers, " AND ")
	k.left = k.children + " AND NOT EXISTS (SELECT 1 FROM main." + Quote(k.Parent) + " p WHERE " + strings.Join(match, " AND ") + ")"
	k.writeParent(to, primary, parentRow)
	if childRow == nil {
		return nil
	}
	where := " WHERE " + strings.Join(childRow, " = ? AND ") + " = ?"
	k.orphanRow = "SELECT 1 FROM main." + Quote(k.Child) + " c" + where + " AND " + strings.Join(notNull, " AND ") +
		" AND NOT EXISTS (SELECT 1 FROM main." + Quote(k.Parent) + " p WHERE " + strings.Join(match, " AND ") + ")"
	k.remove = "DELETE FROM main." + Quote(k.Child) + where
	var null, standard, follow []string
	for _, name := range k.Columns {
		if _, stored := child.kind(name); !stored {
			return nil // generated: SQLite can't write it either
		}
		value, err := c.defaultOf(child.Name, name)
		if err != nil {
			return err
		}
		null = append(null, Quote(name)+" = NULL")
		standard = append(standard, Quote(name)+" = ("+value+")")
		follow = append(follow, Quote(name)+" = ?")
	}
	update := "UPDATE main." + Quote(k.Child) + " SET "
	returning := where + " RETURNING +" + strings.Join(childRow, ", +")
	k.setNull = update + strings.Join(null, ", ") + returning
	k.setDefault = update + strings.Join(standard, ", ") + returning
	k.cascade = update + strings.Join(follow, ", ") + returning
	return nil
}

// indexed reports whether an index of the child finds the rows that refer to a parent.
func (c *Conn) indexed(k *ForeignKey, child *Declaration, to []parentColumn) (found bool, err error) {
	usable := make(map[string]bool) // columns that compare as the parent's do, but for the collation
	for i, name := range k.Columns {
		kind, stored := child.kind(name)
		usable[strings.ToLower(name)] = stored && affinity(kind) == affinity(to[i].kind)
		if len(child.Key) == 1 && !child.WithoutRowID && strings.EqualFold(child.Columns[child.Key[0]].Name, name) && strings.EqualFold(kind, "INTEGER") && usable[strings.ToLower(name)] {
			return true, nil // the rowid
		}
	}
	err = c.Query(`SELECT lower(x.name), x.coll FROM pragma_index_list(?) l, pragma_index_xinfo(l.name) x
		WHERE NOT l.partial AND x.seqno = 0 AND x.name IS NOT NULL`, []driver.Value{child.Name}, func(row []driver.Value) error {
		for i, name := range k.Columns {
			if strings.ToLower(name) == row[0] && usable[strings.ToLower(name)] && strings.EqualFold(row[1].(string), cmp.Or(to[i].collation, "BINARY")) {
				found = true
			}
		}
		return nil
	})
	return found, err
}

// writeParent writes the queries for rows of the parent.
func (k *ForeignKey) writeParent(to []parentColumn, primary, row []string) {
	var same, values []string
	for i, t := range to {
		same = append(same, fmt.Sprintf("%s IS ?%d", Quote(t.name), i+1))
		values = append(values, "+"+Quote(t.name))
	}
	list, from := strings.Join(values, ", "), " FROM main."+Quote(k.Parent)+" WHERE "
	now := "SELECT " + strings.Join(same, " AND ") + ", " + list + from
	named := func(names []string) string {
		parts := make([]string, len(names))
		for i, n := range names {
			parts[i] = fmt.Sprintf("%s = ?%d", n, len(to)+i+1)
		}
		return strings.Join(parts, " AND ")
	}
	if len(primary) > 0 {
		quoted := make([]string, len(primary))
		for i, n := range primary {
			quoted[i] = Quote(n)
		}
		k.now = now + named(quoted)
	}
	if row != nil {
		k.byRow = "SELECT " + list + from + strings.Join(row, " = ? AND ") + " = ?"
		k.byRowNow = now + named(row)
	}
}

// rowName returns the quoted columns that name a row: the rowid under a name that no column
// has, or the primary key; nil where neither is there.
func (c *Conn) rowName(d *Declaration) ([]string, error) {
	if !d.WithoutRowID {
		free := []string{"rowid", "_rowid_", "oid"}
		err := c.Query(`SELECT lower(name) FROM pragma_table_xinfo(?)`, []driver.Value{d.Name}, func(row []driver.Value) error {
			free = slices.DeleteFunc(free, func(n string) bool { return n == row[0] })
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(free) > 0 {
			return free[:1], nil
		}
	}
	var names []string
	for _, k := range d.Key {
		names = append(names, Quote(d.Columns[k].Name))
	}
	return names, nil
}

// rowExpression is KeyExpression; of a table without a key, what people may call a row.
func (d *Declaration) rowExpression(prefix string) string {
	if len(d.Key) > 0 {
		return d.KeyExpression(prefix)
	}
	if d.WithoutRowID || len(d.Columns) == 0 {
		return "NULL"
	}
	return prefix + Quote(d.Columns[0].Name)
}

// kind returns the declared type of a column; stored is false of a generated one.
func (d *Declaration) kind(name string) (kind string, stored bool) {
	i := slices.IndexFunc(d.Columns, func(c change.Column) bool { return strings.EqualFold(c.Name, name) })
	if i < 0 {
		return "", false
	}
	return d.Columns[i].Type, true
}

// defaultOf returns a column's default as an expression. A bare word is a text there.
func (c *Conn) defaultOf(table, column string) (string, error) {
	text := "NULL"
	_, err := c.Row(`SELECT coalesce(dflt_value, 'NULL') FROM pragma_table_xinfo(?) WHERE lower(name) = lower(?)`, []driver.Value{table, column}, &text)
	if m := bareWord.FindString(text); m != "" && !keyWord.MatchString(m) {
		text = QuoteText(strings.Trim(m, `"`))
	}
	return text, err
}

var (
	bareWord = regexp.MustCompile(`^([A-Za-z_]\w*|"[^"]*")$`)
	keyWord  = regexp.MustCompile(`(?i)^(NULL|TRUE|FALSE|CURRENT_(TIME|DATE|TIMESTAMP))$`)
)
