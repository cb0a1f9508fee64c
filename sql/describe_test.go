package vsql

import (
	"database/sql/driver"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sqlite3 "github.com/mattn/go-sqlite3"
)

func memory(t *testing.T, script string) *Conn {
	t.Helper()
	raw, err := (&sqlite3.SQLiteDriver{}).Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	c := NewConn(raw.(*sqlite3.SQLiteConn))
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), raw.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := c.Script(script); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDescribe_keys(t *testing.T) {
	tests := []struct {
		table   string
		integer bool
		loose   int // unique indexes that can make a row unwelcome
	}{
		{`t(id INTEGER PRIMARY KEY, a)`, true, 0},
		{`t(id integer primary key autoincrement)`, true, 0},
		{`t(id INT PRIMARY KEY)`, false, 0},
		{`t(id INTEGER PRIMARY KEY DESC, a)`, false, 0},
		{`t(id INTEGER PRIMARY KEY, a) WITHOUT ROWID`, false, 0},
		{`t(id TEXT PRIMARY KEY COLLATE NOCASE)`, false, 1},
		{`t(id TEXT PRIMARY KEY, a UNIQUE, b, UNIQUE(a, b))`, false, 2},
		{`t(a INTEGER, b INTEGER, PRIMARY KEY(a, b))`, false, 0},
	}
	for _, tt := range tests {
		d, err := memory(t, `CREATE TABLE `+tt.table).Describe("T")
		if err != nil {
			t.Errorf("%s: %v", tt.table, err)
			continue
		}
		if d.IntegerKey != tt.integer || len(d.Uniques) != tt.loose || d.Name != "t" {
			t.Errorf("%s: name %q, integer key %t, %d unique indexes; want t, %t, %d", tt.table, d.Name, d.IntegerKey, len(d.Uniques), tt.integer, tt.loose)
		}
	}
}

func TestDescribe_indexTerms(t *testing.T) {
	c := memory(t, `CREATE TABLE t(id TEXT PRIMARY KEY, a, "b,(" , c);
		CREATE UNIQUE INDEX i ON t(lower(a) COLLATE NOCASE DESC, "b,(", coalesce(c, 'x,y') ASC) WHERE a <> 'WHERE (' AND c`)
	d, err := c.Describe("t")
	if err != nil {
		t.Fatal(err)
	}
	u := d.Uniques[0]
	if diff := cmp.Diff([]string{"", "b,(", ""}, u.Columns); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"lower(a)", `"b,("`, "coalesce(c, 'x,y')"}, u.Expressions); diff != "" {
		t.Errorf("expressions (-want +got):\n%s", diff)
	}
	if u.Where != "a <> 'WHERE (' AND c" || u.Collations[0] != "NOCASE" {
		t.Errorf("where %q, collation %q", u.Where, u.Collations[0])
	}
}

func TestConn_between(t *testing.T) {
	c := memory(t, `CREATE TABLE t(a UNIQUE)`)
	boom := errors.New("boom")
	if err := c.Tx(func() error {
		if _, err := c.Exec(`INSERT INTO t VALUES (1)`); err != nil {
			return err
		}
		if err := c.Savepoint("s", func() error {
			_, err := c.Exec(`INSERT INTO t VALUES (2)`)
			return errors.Join(err, boom)
		}); !errors.Is(err, boom) {
			t.Errorf("savepoint: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.Tx(func() error {
		_, err := c.Exec(`INSERT INTO t VALUES (3)`)
		return errors.Join(err, boom)
	}); !errors.Is(err, boom) {
		t.Errorf("tx: %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = c.Tx(func() error { panic("boom") })
	}()
	var n, sum int
	if _, err := c.Row(`SELECT count(*), sum(a) FROM t`, nil, &n, &sum); err != nil || n != 1 || sum != 1 {
		t.Errorf("%d rows, sum %d (%v): want the first alone", n, sum, err)
	}
	if err := c.Query(`SELECT 1`, nil, func([]driver.Value) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("query: %v", err)
	}
	var s string
	if _, err := c.Row(`SELECT 1`, nil, &s); err == nil || !strings.Contains(err.Error(), "column 1") {
		t.Errorf("an integer read as text: %v", err)
	}
}
