package capture

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// adopt makes a table of the space here, if this file has none of that name, and tracks
// it. A table that is here and tracked must fit; one that is here and not tracked is the
// user's, and is left alone with an error.
func (d *Device) adopt(want *change.Table) (made bool, err error) {
	if err := checkTable(want); err != nil {
		return false, err
	}
	var id int64
	tracked, err := d.c.Row(`SELECT id FROM _velosync_table WHERE name = ?`, []change.Value{want.Name}, &id)
	if err != nil {
		return false, err
	}
	if tracked {
		return false, nil // the master compared the columns when it took the push
	}
	var n int
	if _, err := d.c.Row(`SELECT count(*) FROM main.sqlite_schema WHERE lower(name) = lower(?)`, []change.Value{want.Name}, &n); err != nil {
		return false, err
	}
	if n > 0 {
		return false, fmt.Errorf("the space has a table %q, and this file has one of that name that is not tracked: SELECT velosync_track(%s) joins them, "+
			"or rename this one", want.Name, vsql.QuoteText(want.Name))
	}
	if err := d.c.Script(want.SQL); err != nil {
		return false, fmt.Errorf("make the space's table %q: %w", want.Name, err)
	}
	for _, index := range want.Indexes {
		if err := d.c.Script(index); err != nil {
			return false, fmt.Errorf("make an index of the space's table %q: %w", want.Name, err)
		}
	}
	got, err := d.c.Describe(want.Name)
	if err != nil {
		return false, fmt.Errorf("make the space's table: %w", err)
	}
	if !sameColumns(&got.Table, want) {
		return false, fmt.Errorf("the space's table %q is not what its own description says: the master is broken, or it is not one", want.Name)
	}
	o := want.Options
	if o.Groups == nil {
		o.Groups = [][]string{} // the author's choice: no default in its place
	}
	return true, d.track(want.Name, o, false)
}

var (
	createTable = regexp.MustCompile(`(?is)^\s*CREATE\s+TABLE\s+("(?:[^"]|"")*"|` + "`[^`]*`" + `|\[[^\]]*\]|'[^']*'|[^\s("'` + "`" + `\[]+)\s*\(`)
	callsUs     = regexp.MustCompile(`(?i)velosync_\w+["'\x60\]]?\s*\(`)
	createIndex = regexp.MustCompile(`(?is)^\s*CREATE\s+(UNIQUE\s+)?INDEX\s+`)
)

// checkTable refuses a table of the space whose SQL is anything else than one CREATE TABLE
// of that name, and indexes: it comes from outside.
func checkTable(t *change.Table) error {
	lower := strings.ToLower(t.Name)
	if strings.HasPrefix(lower, "_velosync_") || strings.HasPrefix(lower, "velosync_") || strings.HasPrefix(lower, "sqlite_") {
		return fmt.Errorf("the space has a table %q: such names are kept for internal tables", t.Name)
	}
	m := createTable.FindStringSubmatch(t.SQL)
	if m == nil || !oneStatement(t.SQL) || !strings.EqualFold(unquote(m[1]), t.Name) {
		return fmt.Errorf("the space's table %q comes with SQL that is no CREATE TABLE of it: %.80q", t.Name, t.SQL)
	}
	// Our functions change what is tracked: a CHECK or a DEFAULT that calls one would run it
	// whenever the application writes.
	if callsUs.MatchString(t.SQL + "\n" + strings.Join(t.Indexes, "\n")) {
		return fmt.Errorf("the space's table %q calls a velosync_ function in its declaration: such a table is not made here", t.Name)
	}
	for _, index := range t.Indexes {
		if !createIndex.MatchString(index) || !oneStatement(index) {
			return fmt.Errorf("the space's table %q comes with SQL that is no CREATE INDEX: %.80q", t.Name, index)
		}
	}
	return nil
}

func unquote(name string) string {
	if len(name) < 2 {
		return name
	}
	switch q := name[0]; q {
	case '"', '`', '\'':
		return strings.ReplaceAll(name[1:len(name)-1], string(q)+string(q), string(q))
	case '[':
		return name[1 : len(name)-1]
	}
	return name
}

// oneStatement reports whether text holds no semicolon outside quotes and comments.
func oneStatement(text string) bool {
	for i := 0; i < len(text); i++ {
		switch ch := text[i]; {
		case ch == '\'' || ch == '"' || ch == '`' || ch == '[':
			end := ch
			if ch == '[' {
				end = ']'
			}
			j := strings.IndexByte(text[i+1:], end)
			if j < 0 {
				return false
			}
			i += j + 1
		case strings.HasPrefix(text[i:], "--"):
			j := strings.IndexByte(text[i:], '\n')
			if j < 0 {
				return true
			}
			i += j
		case strings.HasPrefix(text[i:], "/*"):
			j := strings.Index(text[i+2:], "*/")
			if j < 0 {
				return true
			}
			i += j + 3
		case ch == ';' || ch == 0:
			return false
		}
	}
	return true
}

func sameColumns(a, b *change.Table) bool {
	x, _ := json.Marshal([]any{a.Columns, a.Key}) // strings and ints always encode
	y, _ := json.Marshal([]any{b.Columns, b.Key})
	return string(x) == string(y)
}
