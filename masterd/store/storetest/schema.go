package storetest

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

func testSchema(t *testing.T, c Config) {
	ctx := context.Background()
	t.Run("an unknown digest asks for the tables, once", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a := newClient(t, m.space, 1, notesTables(t))
		parts := a.request(put("notes", "k", note("t", "b")))
		parts[0].Tables = nil
		_, err := a.send(parts)
		if e := errorAs[*store.SchemaError](t, err); !e.Unknown {
			t.Errorf("error %v", e)
		}
		if st := m.stats(); st.Head != 0 || len(st.Devices) != 0 {
			t.Errorf("stats %+v", st)
		}
		parts[0].Tables = a.tables
		if _, err := a.send(parts); err != nil {
			t.Fatal(err)
		}
		m.reopen(a)
		parts = a.request(put("notes", "l", note("t", "b")))
		parts[0].Tables = nil
		if _, err := a.send(parts); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the first device makes the schema, the others get it", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, nil)
		a.sync(put("notes", "k", note("t", "b")))
		if a.known.Digest() != notesTables(t).Digest() {
			t.Errorf("a was told %+v", a.known)
		}
		pull := a.push()
		if pull.Tables != nil {
			t.Error("a knows the tables, and was sent them again")
		}
		b.sync()
		b.has("notes", map[change.Value]values{"k": note("t", "b")})
		got, err := m.space.Schema(ctx)
		if err != nil || got.Digest() != b.known.Digest() {
			t.Errorf("schema %+v, %v", got, err)
		}
	})
	t.Run("an empty space has an empty schema", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a := newClient(t, m.space, 1, nil)
		pull := a.push()
		if pull.Tables == nil || len(pull.Tables) != 0 {
			t.Errorf("tables %+v", pull.Tables)
		}
	})
	t.Run("devices with different tables share a space", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		tags := tables(t, `CREATE TABLE a_tags (id TEXT PRIMARY KEY NOT NULL, name TEXT)`, nil)
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, tags)
		a.sync(put("notes", "k", note("t", "b")))
		b.sync(put("a_tags", "k", values{"name": "n"})) // its table 0 is not the space's
		a.sync(put("notes", "l", note("t", "b")))
		b.sync()
		for _, c := range []*client{a, b} {
			c.has("notes", map[change.Value]values{"k": note("t", "b"), "l": note("t", "b")})
			c.has("a_tags", map[change.Value]values{"k": {"name": "n"}})
		}
	})
	t.Run("white space, comments and the case of words make no difference", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a, b := newClient(t, m.space, 1, tables(t, notes, nil)), newClient(t, m.space, 2, tables(t, "create table  notes\n(id TEXT primary key NOT null, -- the id\n"+
			"title TEXT,body/* */TEXT , \"model\" TEXT)", nil))
		a.sync(put("notes", "k", note("t", "b")))
		b.sync(put("notes", "l", note("t", "b")))
		agree(t, a, b)
		// Nor do indexes that are not unique.
		n := newClient(t, m.space, 3, tables(t, notes+"; CREATE INDEX by_title ON notes (title)", nil))
		n.sync()
	})
	t.Run("a difference is named, with both sides", func(t *testing.T) {
		opts := func(o change.Options) map[string]change.Options { return map[string]change.Options{"notes": o} }
		for _, x := range []struct {
			name, script string
			options      map[string]change.Options
			want         string
		}{
			{"more columns", strings.Replace(notes, ")", ", extra INT UNIQUE)", 1), nil, `the device has column "extra" INT, the space has not: SQLite can't add it`},
			{"more columns without a value", strings.Replace(notes, ")", ", extra INT NOT NULL)", 1), nil, `the device has column "extra" INT NOT NULL, the space has not: rows of other devices would have no value for it`},
			{"type", strings.Replace(notes, "title TEXT", "title BLOB", 1), nil, `"title" TEXT in the space and "title" BLOB on the device`},
			{"not null", strings.Replace(notes, "title TEXT", "title TEXT NOT NULL", 1), nil, `"title" TEXT NOT NULL on the device`},
			{"key", `CREATE TABLE notes (id TEXT NOT NULL, title TEXT, body TEXT, model TEXT, PRIMARY KEY (id, title))`, nil, `its key is ["id"]`},
			{"check", strings.Replace(notes, "title TEXT", "title TEXT CHECK (title <> '')", 1), nil, `CHECK`},
			{"unique", strings.Replace(notes, "title TEXT", "title TEXT UNIQUE", 1), nil, `UNIQUE`},
			{"unique index", notes + "; CREATE UNIQUE INDEX i ON notes (title)", nil, `its unique indexes are [] in the space`},
			{"collation", strings.Replace(notes, "title TEXT", "title TEXT COLLATE NOCASE", 1), nil, `NOCASE`},
			{"options", notes, opts(change.Options{Weight: "title"}), `its options are {} in the space and {"weight":"title"} on the device`},
		} {
			t.Run(x.name, func(t *testing.T) {
				m := newMaster(t, c, store.Options{})
				newClient(t, m.space, 1, tables(t, notes, nil)).sync()
				b := newClient(t, m.space, 2, tables(t, x.script, x.options))
				_, err := b.send(b.request())
				e := errorAs[*store.SchemaError](t, err)
				if e.Unknown || e.Table != "notes" || !strings.Contains(e.Reason, x.want) {
					t.Errorf("error %v\nwant %s", e, x.want)
				}
			})
		}
	})
	t.Run("the operator's tables", func(t *testing.T) {
		m := newMaster(t, c, store.Options{Schema: notes + `; CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, up TEXT REFERENCES notes)`})
		got, err := m.space.Schema(ctx)
		if err != nil || len(got) != 2 || got[0].Name != "notes" || got[1].Name != "t" {
			t.Fatalf("schema %+v, %v", got, err)
		}
		// What the first device says of a table holds from then on.
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, tables(t, notes, nil))
		a.sync(put("notes", "k", note("t", "b")))
		if got := a.known[0].Options.Groups; len(got) != 1 {
			t.Errorf("groups %v", got)
		}
		_, err = b.send(b.request())
		if e := errorAs[*store.SchemaError](t, err); !strings.Contains(e.Reason, "options") {
			t.Errorf("error %v", e)
		}
		n := newClient(t, m.space, 3, tables(t, `CREATE TABLE mine (id TEXT PRIMARY KEY NOT NULL)`, nil))
		_, err = n.send(n.request())
		if e := errorAs[*store.SchemaError](t, err); e.Table != "mine" || !strings.Contains(e.Reason, "--schema") {
			t.Errorf("error %v", e)
		}
		m.reopen()
		if got, err := m.space.Schema(ctx); err != nil || got.Digest() != a.known.Digest() {
			t.Errorf("schema %+v, %v", got, err)
		}
		for _, bad := range []string{`CREATE TABLE x (a)`, `CREATE TABLE`, `SELECT 1`, `CREATE TABLE _velosync_x (id PRIMARY KEY)`} {
			if e, err := c.Open(t.TempDir(), store.Options{Schema: bad}); err == nil {
				t.Errorf("schema %q is accepted", bad)
				e.Close()
			}
		}
	})
	t.Run("a schema that grows between the pages of a pull", func(t *testing.T) {
		m := newMaster(t, c, store.Options{PageRows: 1})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, nil)
		a.sync(put("notes", "k", note("t", "b")), put("notes", "l", note("t", "b")))
		first := b.push()
		n := newClient(t, m.space, 3, tables(t, `CREATE TABLE a_tags (id TEXT PRIMARY KEY NOT NULL, name TEXT)`, nil))
		n.sync(put("a_tags", "k", values{"name": "n"}))
		b.known = first.Tables
		second, err := b.next(first)
		if err != nil || len(second.Tables) != 2 || second.Tables[second.Blocks[0].Table].Name != "notes" {
			t.Fatalf("second page %+v, %v", second, err)
		}
	})
}

func testHostile(t *testing.T, c Config) {
	evil := `we"ird; DROP TABLE x --`
	t.Run("names are quoted", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		quoted := `"we""ird; DROP TABLE x --"`
		s := tables(t, `CREATE TABLE `+quoted+` (`+quoted+` TEXT PRIMARY KEY NOT NULL, "select" TEXT, "a?1" TEXT UNIQUE)`, nil)
		a, b := newClient(t, m.space, 1, s), newClient(t, m.space, 2, s)
		a.sync(put(evil, evil, values{"select": evil, "a?1": "1"}), put(evil, "y", values{"select": evil, "a?1": "2"}))
		b.sync(put(evil, "y", values{"select": "2"}))
		a.sync(del(evil, evil), put(evil, "y", values{"a?1": "1"}))
		agree(t, a, b)
		b.has(evil, map[change.Value]values{"y": {"select": "2", "a?1": "1"}})
	})
	t.Run("tables that are none", func(t *testing.T) {
		good := tables(t, notes, nil)[0]
		for name, x := range map[string]func(*change.Table){
			"two statements":     func(x *change.Table) { x.SQL += "; CREATE TABLE other (id)" },
			"a trigger":          func(x *change.Table) { x.SQL = "CREATE TRIGGER notes AFTER INSERT ON notes BEGIN SELECT 1; END" },
			"a view":             func(x *change.Table) { x.SQL = "CREATE VIEW notes AS SELECT 1" },
			"a virtual table":    func(x *change.Table) { x.SQL = "CREATE VIRTUAL TABLE notes USING fts3(x)" },
			"a temporary table":  func(x *change.Table) { x.SQL = strings.Replace(x.SQL, "TABLE", "TEMP TABLE", 1) },
			"as select":          func(x *change.Table) { x.SQL = "CREATE TABLE notes AS SELECT 1" },
			"another name":       func(x *change.Table) { x.SQL = strings.Replace(x.SQL, "notes", "other", 1) },
			"another schema":     func(x *change.Table) { x.SQL = strings.Replace(x.SQL, "notes", "temp.notes", 1) },
			"no statement":       func(x *change.Table) { x.SQL = "" },
			"a drop":             func(x *change.Table) { x.SQL = "DROP TABLE _velosync_row" },
			"a comment at last":  func(x *change.Table) { x.SQL += "/*" },
			"more columns":       func(x *change.Table) { x.Columns = append(x.Columns[:4:4], change.Column{Name: "x"}) },
			"no key":             func(x *change.Table) { x.Key = nil },
			"key out of range":   func(x *change.Table) { x.Key = []int{7} },
			"an index elsewhere": func(x *change.Table) { x.Indexes = []string{"CREATE INDEX i ON _velosync_row (tbl)"} },
			"an index as a drop": func(x *change.Table) { x.Indexes = []string{"DROP TABLE _velosync_row"} },
			"an index reserved":  func(x *change.Table) { x.Indexes = []string{"CREATE UNIQUE INDEX _velosync_row_pk ON notes (title)"} },
			"our name":           func(x *change.Table) { x.Name = "_velosync_space"; x.SQL = strings.Replace(x.SQL, "notes", x.Name, 1) },
			"SQLite's name":      func(x *change.Table) { x.Name = "sqlite_x"; x.SQL = strings.Replace(x.SQL, "notes", x.Name, 1) },
			"our view": func(x *change.Table) {
				x.Name = "Velosync_Conflicts"
				x.SQL = strings.Replace(x.SQL, "notes", x.Name, 1)
			},
			"an unknown function": func(x *change.Table) {
				x.SQL = strings.Replace(x.SQL, "title TEXT", "title TEXT CHECK (launch(title))", 1)
			},
			"a group of the key":  func(x *change.Table) { x.Options.Groups = [][]string{{"id"}} },
			"a group of nothing":  func(x *change.Table) { x.Options.Groups = [][]string{{"nothing"}} },
			"a column in two":     func(x *change.Table) { x.Options.Groups = [][]string{{"title"}, {"title"}} },
			"a weight of nothing": func(x *change.Table) { x.Options.Weight = "nothing" },
			"ids":                 func(x *change.Table) { x.Options.IDs = "any" },
		} {
			t.Run(name, func(t *testing.T) {
				m := newMaster(t, c, store.Options{})
				bad := good
				x(&bad)
				a := newClient(t, m.space, 1, change.Schema{bad})
				_, err := a.send(a.request())
				errorAs[*store.SchemaError](t, err)
				if got, err := m.space.Schema(context.Background()); err != nil || len(got) != 0 {
					t.Errorf("schema %+v, %v", got, err)
				}
				b := newClient(t, m.space, 2, tables(t, notes, nil))
				b.sync(put("notes", "k", note("t", "b")))
			})
		}
		t.Run("twice", func(t *testing.T) {
			m := newMaster(t, c, store.Options{})
			for _, s := range []change.Schema{{good, good}, {good, renamed(good, "NOTES")}} {
				a := newClient(t, m.space, 1, s)
				_, err := a.send(a.request())
				errorAs[*store.SchemaError](t, err)
			}
		})
		t.Run("another digest", func(t *testing.T) {
			m := newMaster(t, c, store.Options{})
			a := newClient(t, m.space, 1, change.Schema{good})
			parts := a.request()
			parts[0].Schema[0]++
			_, err := a.send(parts)
			errorAs[*store.RequestError](t, err)
		})
	})
	t.Run("pushes that are none", func(t *testing.T) {
		for name, x := range map[string]func(p *change.Push, b *change.Block){
			"table":              func(p *change.Push, b *change.Block) { b.Table = 1 },
			"table below 0":      func(p *change.Push, b *change.Block) { b.Table = -1 },
			"registers":          func(p *change.Push, b *change.Block) { b.Regs |= 1 << 60 },
			"no registers":       func(p *change.Push, b *change.Block) { b.Regs, b.Columns = 0, nil },
			"columns":            func(p *change.Push, b *change.Block) { b.Columns = b.Columns[1:] },
			"rows of a column":   func(p *change.Push, b *change.Block) { b.Columns[1] = nil },
			"stamps":             func(p *change.Push, b *change.Block) { b.Stamps = nil },
			"delete with values": func(p *change.Push, b *change.Block) { b.Delete = true },
			"key":                func(p *change.Push, b *change.Block) { b.Keys[0] = nil },
			"key of a wrong type": func(p *change.Push, b *change.Block) {
				b.Keys[0] = true
			},
			"lsn 0":              func(p *change.Push, b *change.Block) { b.Stamps[0].LSN = 0 },
			"lsn beyond through": func(p *change.Push, b *change.Block) { b.Stamps[0].LSN = p.Through + 1 },
			"seen":               func(p *change.Push, b *change.Block) { b.Stamps[0].Seen = 5 },
			"seen below 0":       func(p *change.Push, b *change.Block) { b.Stamps[0].Seen = -1 },
			"existence":          func(p *change.Push, b *change.Block) { b.Stamps[0].Existence = 5 },
			"weight":             func(p *change.Push, b *change.Block) { b.Stamps[0].Weight = 1e10 },
			"weight infinite":    func(p *change.Push, b *change.Block) { b.Stamps[0].Weight = math.Inf(1) },
			"weight NaN":         func(p *change.Push, b *change.Block) { b.Stamps[0].Weight = math.NaN() },
			"register":           func(p *change.Push, b *change.Block) { b.Stamps[0].Regs = []change.RegEdit{{Reg: 9, LSN: 1}} },
			"register twice": func(p *change.Push, b *change.Block) {
				b.Stamps[0].Regs = []change.RegEdit{{Reg: 0, LSN: 1}, {Reg: 0, LSN: 1}}
			},
			"register's lsn":  func(p *change.Push, b *change.Block) { b.Stamps[0].Regs = []change.RegEdit{{LSN: 9}} },
			"register's seen": func(p *change.Push, b *change.Block) { b.Stamps[0].Regs = []change.RegEdit{{LSN: 1, Seen: 9}} },
			"no name":         func(p *change.Push, b *change.Block) { p.Names = nil },
			"no device":       func(p *change.Push, b *change.Block) { p.Device = change.DeviceID{} },
			"through below 0": func(p *change.Push, b *change.Block) { p.Through = -1 },
		} {
			t.Run(name, func(t *testing.T) {
				m := newMaster(t, c, store.Options{})
				a := newClient(t, m.space, 1, tables(t, notes, nil))
				parts := a.request(put("notes", "k", note("t", "b")))
				x(parts[0], &parts[0].Blocks[0])
				_, err := a.send(parts)
				errorAs[*store.RequestError](t, err)
				if st := m.stats(); st.Head != 0 || len(st.Devices) != 0 {
					t.Errorf("stats %+v", st)
				}
				a.names, a.lsn = nil, 0
				a.sync(put("notes", "k", note("t", "b")))
			})
		}
	})
	t.Run("composite keys that are none", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		two := tables(t, `CREATE TABLE two (a, b, x, PRIMARY KEY (b, a))`, nil)
		for _, key := range []change.Value{"", "[]", `["t1"]`, `["t1","x2"]`, `["t1","i"]`, `["t1",""]`, `["t1","bz"]`, int64(1), `["t1","i2","i3"]`} {
			a := newClient(t, m.space, 1, two)
			_, err := a.send(a.request(put("two", key, values{"x": "x"})))
			errorAs[*store.RequestError](t, err)
		}
	})
	t.Run("names of spaces", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		for _, name := range []string{"", "..", "../x", "a/b", "A", "ä", strings.Repeat("a", 65), "x.db"} {
			if _, err := m.engine.Space(context.Background(), name); err == nil {
				t.Errorf("space %q is accepted", name)
			}
			if _, err := m.engine.Lookup(context.Background(), name); err == nil {
				t.Errorf("space %q is accepted", name)
			}
		}
	})
}

func renamed(x change.Table, name string) change.Table {
	x.SQL = strings.Replace(x.SQL, x.Name, name, 1)
	x.Name = name
	return x
}
