package vsql_test

import (
	"database/sql/driver"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/google/go-cmp/cmp"
	vsql "github.com/velosync/velosync/sql"
)

func memory(t *testing.T, script string) *vsql.Conn {
	t.Helper()
	raw, err := (&sqlite3.SQLiteDriver{}).Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	c := vsql.NewConn(raw.(*sqlite3.SQLiteConn))
	t.Cleanup(func() { c.Close(); raw.Close() })
	if err := c.Script(script); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestForeignKeys(t *testing.T) {
	c := memory(t, `
		CREATE TABLE p(a TEXT COLLATE NOCASE, b INTEGER, PRIMARY KEY(a, b)) WITHOUT ROWID;
		CREATE TABLE c(id TEXT PRIMARY KEY, x TEXT, y, other REFERENCES nowhere, self TEXT REFERENCES c ON DELETE CASCADE,
			FOREIGN KEY (x, y) REFERENCES P)`)
	keys, err := c.ForeignKeys("c")
	if err != nil {
		t.Fatal(err)
	}
	want := []vsql.ForeignKey{
		{Child: "c", Columns: []string{"x", "y"}, Parent: "p", To: []string{"a", "b"}, OnDelete: "NO ACTION", OnUpdate: "NO ACTION"},
		{Child: "c", Columns: []string{"self"}, Parent: "c", To: []string{"id"}, OnDelete: "CASCADE", OnUpdate: "NO ACTION"},
		{Child: "c", Columns: []string{"other"}, Parent: "nowhere", Missing: true, OnDelete: "NO ACTION", OnUpdate: "NO ACTION"},
	}
	plain := cmp.FilterPath(func(p cmp.Path) bool {
		f, ok := p.Last().(cmp.StructField)
		return ok && f.Name()[0] >= 'a'
	}, cmp.Ignore())
	if d := cmp.Diff(want, keys, plain); d != "" {
		t.Errorf("keys (-want +got):\n%s", d)
	}
	to, err := c.ForeignKeysTo("p")
	if err != nil || len(to) != 1 || to[0].Columns[0] != "x" {
		t.Errorf("keys to p: %v, %v", to, err)
	}
}

// TestOrphan compares with what SQLite itself enforces.
func TestOrphan(t *testing.T) {
	const tables = `
		CREATE TABLE nocase(id TEXT PRIMARY KEY COLLATE NOCASE);
		CREATE TABLE number(id INTEGER PRIMARY KEY);
		CREATE TABLE plain(id PRIMARY KEY);
		CREATE TABLE word(id INTEGER PRIMARY KEY, w TEXT UNIQUE);
		CREATE TABLE a(id INT PRIMARY KEY, r TEXT REFERENCES nocase);
		CREATE TABLE b(id INT PRIMARY KEY, r TEXT REFERENCES number);
		CREATE TABLE c(id INT PRIMARY KEY, r TEXT REFERENCES plain);
		CREATE TABLE d(id INT PRIMARY KEY, r INT REFERENCES word(w));
		INSERT INTO nocase VALUES ('Abc');
		INSERT INTO number VALUES (1);
		INSERT INTO plain VALUES (1), ('2');
		INSERT INTO word VALUES (7, '1'), (8, 'x');
	`
	values := []driver.Value{nil, "abc", "ABC", "abcd", "1", int64(1), 1.0, "1.0", "2", int64(2), "x", []byte("x")}
	parents := map[string]string{"a": "nocase", "b": "number", "c": "plain", "d": "word"}
	for _, child := range []string{"a", "b", "c", "d"} {
		for _, v := range values {
			c := memory(t, tables)
			if _, err := c.Exec("INSERT INTO "+child+" VALUES (1, ?)", v); err != nil {
				t.Fatal(err)
			}
			keys, err := c.ForeignKeys(child)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Orphan(&keys[0], []driver.Value{int64(1)})
			if err != nil {
				t.Fatal(err)
			}
			var violations int
			if _, err := c.Row(`SELECT count(*) FROM pragma_foreign_key_check(?)`, []driver.Value{child}, &violations); err != nil {
				t.Fatal(err)
			}
			if want := violations > 0; got != want {
				t.Errorf("%s(%#v): orphan %v, SQLite says %v", child, v, got, want)
			}
			if got || v == nil {
				continue
			}
			var left []driver.Value
			gone(t, c, parents[child], &keys[0], &left)
			if len(left) != 1 || left[0] != int64(1) {
				t.Errorf("%s(%#v): left behind %v, want the child", child, v, left)
			}
		}
	}
}

// gone deletes all rows of a parent and collects the children that they leave behind.
func gone(t *testing.T, c *vsql.Conn, parent string, k *vsql.ForeignKey, left *[]driver.Value) {
	t.Helper()
	var ids []driver.Value
	if err := c.Query("SELECT id FROM "+parent, nil, func(row []driver.Value) error { ids = append(ids, row[0]); return nil }); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		values, err := c.ParentValues(k, []driver.Value{id})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Orphans(k, values, func(driver.Value) error { t.Error("an orphan before the parent is gone"); return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec("DELETE FROM "+parent+" WHERE id = ?", id); err != nil {
			t.Fatal(err)
		}
		if err := c.Orphans(k, values, func(key driver.Value) error { *left = append(*left, key); return nil }); err != nil {
			t.Fatal(err)
		}
	}
}
