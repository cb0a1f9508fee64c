package vsql

import (
	"database/sql/driver"
	"fmt"
	"strings"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// TestChildren_reads: whatever indexes the child has, and however the columns are declared,
// the children of many parents are not found by reading the child once for each.
func TestChildren_reads(t *testing.T) {
	for _, script := range []string{
		`CREATE TABLE p(id TEXT PRIMARY KEY); CREATE TABLE c(x TEXT REFERENCES p)`,
		`CREATE TABLE p(id TEXT PRIMARY KEY); CREATE TABLE c(x TEXT REFERENCES p); CREATE INDEX cx ON c(x)`,
		`CREATE TABLE p(id TEXT PRIMARY KEY COLLATE NOCASE); CREATE TABLE c(x TEXT REFERENCES p); CREATE INDEX cx ON c(x)`,
		`CREATE TABLE p(id TEXT PRIMARY KEY COLLATE NOCASE); CREATE TABLE c(x TEXT COLLATE NOCASE REFERENCES p); CREATE INDEX cx ON c(x)`,
		`CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(x INTEGER PRIMARY KEY REFERENCES p)`,
		`CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(x TEXT REFERENCES p); CREATE INDEX cx ON c(x)`,
		`CREATE TABLE p(id TEXT PRIMARY KEY); CREATE TABLE c(x INTEGER REFERENCES p)`,
		`CREATE TABLE p(id TEXT PRIMARY KEY); CREATE TABLE c(x REFERENCES p)`,
		`CREATE TABLE p(a TEXT, b INTEGER, PRIMARY KEY(a, b)); CREATE TABLE c(x TEXT, y INTEGER, FOREIGN KEY(x, y) REFERENCES p); CREATE INDEX cx ON c(y)`,
		`CREATE TABLE p(a TEXT, b INTEGER, PRIMARY KEY(a, b)); CREATE TABLE c(x TEXT, y TEXT, rowid, FOREIGN KEY(x, y) REFERENCES p)`,
	} {
		raw, err := (&sqlite3.SQLiteDriver{}).Open(":memory:")
		if err != nil {
			t.Fatal(err)
		}
		c := NewConn(raw.(*sqlite3.SQLiteConn))
		if err := c.Script(script); err != nil {
			t.Fatal(err)
		}
		keys, err := c.ForeignKeys("c")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec(keys[0].gone[0]); err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{keys[0].children, keys[0].left} {
			var plan []string
			if err := c.Query("EXPLAIN QUERY PLAN "+q, nil, func(v []driver.Value) error { plan = append(plan, fmt.Sprint(v[3])); return nil }); err != nil {
				t.Fatal(err)
			}
			searches := 0
			for _, line := range plan {
				if strings.HasPrefix(line, "SEARCH c ") || strings.HasPrefix(line, "SEARCH g ") {
					searches++
				}
			}
			if searches != 1 {
				t.Errorf("%s: want one table read and the other searched:\n%s", script, strings.Join(plan, "\n"))
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		raw.Close()
	}
}
