package capture

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/velosync/velosync/capture/change"
)

// A local is a file with the tracked table notes and children of it that are not tracked. With
// SQLite's own enforcement the application could make none of the states that a pull must not.
func local(t *testing.T, script string) *file {
	t.Helper()
	f := newFile(t, `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, slug TEXT COLLATE NOCASE UNIQUE, text);
		SELECT velosync_track('notes', '{"groups":[]}');
		INSERT INTO notes VALUES ('a', 'one', 'x'), ('b', 'two', 'x'), ('c', 'three', 'x'); PRAGMA foreign_keys = ON;`+script)
	f.sync(t, &change.Pull{To: 1})
	return f
}

func gone(keys ...change.Value) change.Block { return change.Block{Delete: true, Keys: keys} }

// state shows the notes, the rows of a child as its query does, and what is parked.
func (f *file) state(t *testing.T, child string) string {
	t.Helper()
	text := dump(t, f.Device, `SELECT coalesce((SELECT group_concat(id || '=' || slug, ' ' ORDER BY id) FROM notes), '-') || '; ' ||
		coalesce((SELECT group_concat(line, ', ' ORDER BY line) FROM (`+child+`)), '-') ||
		coalesce((SELECT '; parked ' || group_concat(pk, ' ' ORDER BY pk) FROM _velosync_parked), '')`)
	if keys := dump(t, f.Device, `PRAGMA foreign_key_check`); keys != "" {
		t.Errorf("keys that do not hold: %s", keys)
	}
	return strings.TrimPrefix(text, "string:")
}

// TestFinish_actions: what a pull does to a row, it does to the row's children that only this
// file has, as SQLite would have.
func TestFinish_actions(t *testing.T) {
	thumbs := func(clause string) string {
		return `CREATE TABLE thumbs(note TEXT ` + clause + `, n INT); INSERT INTO thumbs VALUES ('a', 1), ('a', 2), ('b', 3), (NULL, 4)`
	}
	const (
		ofThumbs = `SELECT coalesce(note, '-') || ' ' || n AS line FROM thumbs`
		slugs    = `CREATE TABLE links(id INTEGER PRIMARY KEY, slug TEXT REFERENCES notes(slug) ON UPDATE CASCADE ON DELETE SET NULL); INSERT INTO links VALUES (1, 'one'), (2, 'TWO')`
		ofSlugs  = `SELECT id || ' ' || coalesce(slug, '-') AS line FROM links`
	)
	for _, c := range []struct {
		name, script, child string
		pages               [][]change.Block
		want                string
		reason              string // of the row that is parked
		free, healed        string // SQL that makes room, and the state then
	}{
		{name: "cascade", script: thumbs(`REFERENCES notes ON DELETE CASCADE`), child: ofThumbs,
			pages: [][]change.Block{{gone("a")}}, want: "b=two c=three; - 4, b 3"},
		{name: "set null", script: thumbs(`REFERENCES notes ON DELETE SET NULL`), child: ofThumbs,
			pages: [][]change.Block{{gone("a")}}, want: "b=two c=three; - 1, - 2, - 4, b 3"},
		{name: "set default", script: thumbs(`DEFAULT 'c' REFERENCES notes ON DELETE SET DEFAULT`), child: ofThumbs,
			pages: [][]change.Block{{gone("a")}}, want: "b=two c=three; - 4, b 3, c 1, c 2"},
		{name: "set default to what is not there", script: thumbs(`DEFAULT 'none' REFERENCES notes ON DELETE SET DEFAULT`), child: ofThumbs,
			pages: [][]change.Block{{gone("a", "c")}}, want: "a=one b=two; - 4, a 1, a 2, b 3; parked a",
			reason: `row a of "thumbs", changed with row a of "notes", refers to a row of "notes" that is not here`,
			free:   `INSERT INTO notes VALUES ('none', NULL, NULL)`, healed: "b=two; - 4, b 3, none 1, none 2"},
		{name: "set default to what is deleted with it", script: thumbs(`DEFAULT 'c' REFERENCES notes ON DELETE SET DEFAULT`), child: ofThumbs,
			pages: [][]change.Block{{gone("a", "c")}}, want: "b=two c=three; - 4, b 3, c 1, c 2; parked c", reason: `row c of "thumbs" refers to row c of "notes"`,
			free: `UPDATE thumbs SET note = 'b' WHERE note = 'c'`, healed: "b=two; - 4, b 1, b 2, b 3"},
		{name: "no action", script: thumbs(`REFERENCES notes`), child: ofThumbs,
			pages: [][]change.Block{{gone("a", "c")}}, want: "a=one b=two; - 4, a 1, a 2, b 3; parked a", reason: `FOREIGN KEY: row a of "thumbs" refers to row a of "notes"`,
			free: `DELETE FROM thumbs WHERE note = 'a'`, healed: "b=two; - 4, b 3"},
		{name: "restrict", script: thumbs(`REFERENCES notes ON DELETE RESTRICT`), child: ofThumbs,
			pages: [][]change.Block{{gone("a")}}, want: "a=one b=two c=three; - 4, a 1, a 2, b 3; parked a", reason: `row a of "thumbs" refers to row a of "notes"`,
			free: `UPDATE thumbs SET note = 'b'`, healed: "b=two c=three; b 1, b 2, b 3, b 4"},
		{name: "deferred, a trigger makes room", child: ofThumbs,
			script: thumbs(`REFERENCES notes DEFERRABLE INITIALLY DEFERRED`) + `; CREATE TRIGGER clear AFTER DELETE ON notes BEGIN DELETE FROM thumbs WHERE note = OLD.id; END`,
			pages:  [][]change.Block{{gone("a")}}, want: "b=two c=three; - 4, b 3"},
		{name: "deleted and back in one pull", script: thumbs(`REFERENCES notes ON DELETE CASCADE`), child: ofThumbs,
			pages: [][]change.Block{{gone("a")}, {block("a", 3, "one", "back")}}, want: "a=one b=two c=three; - 4, a 1, a 2, b 3"},
		{name: "back and deleted in one pull", script: thumbs(`REFERENCES notes ON DELETE CASCADE`), child: ofThumbs,
			pages: [][]change.Block{{block("a", 3, "one", "new")}, {gone("a")}, {block("d", 3, "one", "new")}}, want: "b=two c=three d=one; - 4, b 3"},
		{name: "moved aside for an exchange", script: thumbs(`REFERENCES notes ON DELETE CASCADE`), child: ofThumbs,
			pages: [][]change.Block{{block("a", 1, "two"), block("b", 1, "one")}}, want: "a=two b=one c=three; - 4, a 1, a 2, b 3"},
		{name: "moved aside, and there is no way back", script: thumbs(`REFERENCES notes ON DELETE CASCADE`) + `; INSERT INTO notes VALUES ('mine', 'four', 'x')`, child: ofThumbs,
			pages: [][]change.Block{{block("b", 1, "one"), block("a", 1, "four")}}, want: "a=one b=two c=three mine=four; - 4, a 1, a 2, b 3; parked a b", reason: "UNIQUE",
			free: `DELETE FROM notes WHERE id = 'mine'`, healed: "a=four b=one c=three; - 4, a 1, a 2, b 3"},
		{name: "moved aside, and a trigger is in the way back", script: thumbs(`REFERENCES notes ON DELETE CASCADE`) + `; INSERT INTO notes VALUES ('mine', 'four', 'x'); CREATE TRIGGER strict BEFORE INSERT ON notes WHEN NEW.slug = 'one' BEGIN SELECT RAISE(ABORT, 'no'); END`, child: ofThumbs,
			pages: [][]change.Block{{block("a", 1, "four")}}, want: "a=one b=two c=three mine=four; - 4, a 1, a 2, b 3; parked a", reason: "UNIQUE",
			free: `DELETE FROM notes WHERE id = 'mine'`, healed: "a=four b=two c=three; - 4, a 1, a 2, b 3"},
		{name: "unique values exchanged", script: slugs, child: ofSlugs,
			pages: [][]change.Block{{block("a", 1, "two"), block("b", 1, "one")}}, want: "a=two b=one c=three; 1 two, 2 one"},
		{name: "unique value passed on", script: slugs, child: ofSlugs,
			pages: [][]change.Block{{block("b", 1, "four")}, {block("a", 1, "two")}}, want: "a=two b=four c=three; 1 two, 2 four"},
		{name: "unique value passed on, of children too", script: `CREATE TABLE links(id INTEGER PRIMARY KEY, slug TEXT UNIQUE REFERENCES notes(slug) ON UPDATE CASCADE); INSERT INTO links VALUES (1, 'one'), (2, 'two'), (3, 'three')`, child: ofSlugs,
			pages: [][]change.Block{{block("a", 1, "two"), block("b", 1, "three"), block("c", 1, "four")}}, want: "a=two b=three c=four; 1 two, 2 three, 3 four"},
		{name: "unique value of a deleted row taken", script: slugs, child: ofSlugs,
			pages: [][]change.Block{{gone("a"), block("b", 1, "one")}}, want: "b=one c=three; 1 -, 2 one"},
		{name: "changed by its case only", script: slugs, child: ofSlugs,
			pages: [][]change.Block{{block("b", 1, "Two")}}, want: "a=one b=Two c=three; 1 one, 2 TWO"},
		{name: "deleted, under a collation", script: slugs, child: ofSlugs,
			pages: [][]change.Block{{gone("b")}}, want: "a=one c=three; 1 one, 2 -"},
		{name: "changed to nothing", script: slugs, child: ofSlugs,
			pages: [][]change.Block{{block("b", 1, nil)}}, want: "a=one c=three; 1 one, 2 -"},
		{name: "changed, no action", script: `CREATE TABLE links(id INTEGER PRIMARY KEY, slug TEXT REFERENCES notes(slug) ON DELETE CASCADE); INSERT INTO links VALUES (1, 'ONE')`, child: ofSlugs,
			pages: [][]change.Block{{block("a", 1, "four")}}, want: "a=one b=two c=three; 1 ONE; parked a", reason: `row 1 of "links" refers to row a of "notes"`,
			free: `DELETE FROM links`, healed: "a=four b=two c=three; -"},
		{name: "children of children", child: `SELECT 'thumb ' || id AS line FROM thumbs UNION ALL SELECT 'face ' || id || ' ' || coalesce(thumb, '-') FROM faces`,
			script: `CREATE TABLE thumbs(id INTEGER PRIMARY KEY, note TEXT REFERENCES notes ON DELETE CASCADE); INSERT INTO thumbs VALUES (1, 'a'), (2, 'b');
				CREATE TABLE faces(id TEXT PRIMARY KEY, thumb INTEGER REFERENCES thumbs ON DELETE SET NULL) WITHOUT ROWID; INSERT INTO faces VALUES ('f', 1), ('g', 2)`,
			pages: [][]change.Block{{gone("a")}}, want: "b=two c=three; face f -, face g 2, thumb 2"},
		{name: "a child of a child stands in the way", child: `SELECT 'thumb ' || id AS line FROM thumbs UNION ALL SELECT 'face ' || id || ' ' || thumb FROM faces`,
			script: `CREATE TABLE thumbs(id INTEGER PRIMARY KEY, note TEXT REFERENCES notes ON DELETE CASCADE); INSERT INTO thumbs VALUES (1, 'a'), (2, 'b');
				CREATE TABLE faces(id TEXT PRIMARY KEY, thumb INTEGER REFERENCES thumbs); INSERT INTO faces VALUES ('f', 1)`,
			pages: [][]change.Block{{gone("a", "b")}}, want: "a=one c=three; face f 1, thumb 1; parked a",
			reason: `row f of "faces" refers to row 1 of "thumbs", which goes with row a of "notes"`,
			free:   `DELETE FROM faces`, healed: "c=three; -"},
		{name: "follows through two tables", child: `SELECT 'link ' || slug AS line FROM links UNION ALL SELECT 'hit ' || slug FROM hits`,
			script: `CREATE TABLE links(slug TEXT PRIMARY KEY REFERENCES notes(slug) ON UPDATE CASCADE); INSERT INTO links VALUES ('one'), ('two');
				CREATE TABLE hits(slug TEXT REFERENCES links ON UPDATE CASCADE); INSERT INTO hits VALUES ('one'), ('one'), ('two')`,
			pages: [][]change.Block{{block("a", 1, "four")}}, want: "a=four b=two c=three; hit four, hit four, hit two, link four, link two"},
		{name: "tables in a circle", child: `SELECT 'l ' || slug AS line FROM l UNION ALL SELECT 'm ' || slug FROM m`,
			script: `PRAGMA foreign_keys = OFF; CREATE TABLE l(slug TEXT COLLATE NOCASE UNIQUE REFERENCES notes(slug) ON UPDATE CASCADE ON DELETE CASCADE REFERENCES m(slug) ON UPDATE CASCADE ON DELETE CASCADE);
				CREATE TABLE m(slug TEXT COLLATE NOCASE UNIQUE REFERENCES l(slug) ON UPDATE CASCADE ON DELETE CASCADE);
				INSERT INTO l VALUES ('one'), ('two'), ('three'); INSERT INTO m VALUES ('one'), ('two'), ('three'); PRAGMA foreign_keys = ON`,
			pages: [][]change.Block{{block("a", 1, "four"), gone("b")}}, want: "a=four c=three; l four, l three, m four, m three"},
		{name: "a tree", child: `SELECT id || ' ' || coalesce(up, '-') AS line FROM tree`,
			script: `CREATE TABLE tree(id INTEGER PRIMARY KEY, up INTEGER REFERENCES tree ON DELETE CASCADE, note TEXT REFERENCES notes ON DELETE CASCADE);
				INSERT INTO tree VALUES (1, 1, 'a'), (2, 1, NULL), (3, 2, 'b'), (4, NULL, 'b'), (5, 4, NULL)`,
			pages: [][]change.Block{{gone("a")}}, want: "b=two c=three; 4 -, 5 4"},
		{name: "a tracked row behind one that is not", child: `SELECT 'thumb ' || id AS line FROM thumbs UNION ALL SELECT 'mark ' || id FROM marks`,
			script: `CREATE TABLE thumbs(id TEXT PRIMARY KEY NOT NULL, note TEXT REFERENCES notes ON DELETE CASCADE); INSERT INTO thumbs VALUES ('t', 'a'), ('u', 'b');
				CREATE TABLE marks(id TEXT PRIMARY KEY NOT NULL, thumb TEXT REFERENCES thumbs ON DELETE CASCADE); SELECT velosync_track('marks'); INSERT INTO marks VALUES ('m', 't')`,
			pages: [][]change.Block{{{Table: 1, Delete: true, Keys: []change.Value{"a", "b"}}}}, want: "a=one c=three; mark m, thumb t; parked a",
			reason: `row m of "marks" refers to row t of "thumbs", which goes with row a of "notes"`,
			free:   `DELETE FROM marks`, healed: "c=three; -"},
		{name: "what can't be NULL", script: `CREATE TABLE thumbs(note TEXT NOT NULL REFERENCES notes ON DELETE SET NULL, n INT); INSERT INTO thumbs VALUES ('a', 1), ('b', 2)`, child: ofThumbs,
			pages: [][]change.Block{{gone("a", "c")}}, want: "a=one b=two; a 1, b 2; parked a", reason: `ON DELETE SET NULL of row a of "thumbs", which refers to row a of "notes": NOT NULL`,
			free: `DELETE FROM thumbs WHERE n = 1`, healed: "b=two; b 2"},
		{name: "a trigger of the child refuses", script: thumbs(`REFERENCES notes ON DELETE CASCADE`) + `; CREATE TRIGGER keep BEFORE DELETE ON thumbs WHEN OLD.n = 2 BEGIN SELECT RAISE(ABORT, 'kept'); END`, child: ofThumbs,
			pages: [][]change.Block{{gone("a", "b")}}, want: "a=one c=three; - 4, a 1, a 2; parked a", reason: `ON DELETE CASCADE of row a of "thumbs", which refers to row a of "notes": kept`,
			free: `DROP TRIGGER keep`, healed: "c=three; - 4"},
		{name: "a trigger of the child ignores", script: thumbs(`REFERENCES notes ON DELETE CASCADE`) + `; CREATE TRIGGER keep BEFORE DELETE ON thumbs WHEN OLD.n = 2 BEGIN SELECT RAISE(IGNORE); END`, child: ofThumbs,
			pages: [][]change.Block{{gone("a", "b")}}, want: "a=one c=three; - 4, a 1, a 2; parked a", reason: `row a of "thumbs" refers to row a of "notes"`,
			free: `DROP TRIGGER keep`, healed: "c=three; - 4"},
		{name: "triggers of the child fire", script: thumbs(`REFERENCES notes ON DELETE CASCADE`) + `; CREATE TABLE bin(n); CREATE TRIGGER bins AFTER DELETE ON thumbs BEGIN INSERT INTO bin VALUES (OLD.n); END`, child: `SELECT n AS line FROM bin`,
			pages: [][]change.Block{{gone("a")}}, want: "b=two c=three; 1, 2"},
		{name: "columns called as a row is", script: `CREATE TABLE thumbs(rowid TEXT, note TEXT REFERENCES notes ON DELETE CASCADE, n INT); INSERT INTO thumbs VALUES ('x', 'a', 1), ('x', 'b', 2)`, child: ofThumbs,
			pages: [][]change.Block{{gone("a")}}, want: "b=two c=three; b 2"},
		{name: "a snapshot does not name it", script: thumbs(`REFERENCES notes ON DELETE CASCADE`), child: ofThumbs,
			pages: [][]change.Block{nil, {block("b", 3, "two", "x")}}, want: "b=two; - 4, b 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := local(t, c.script)
			r := f.begin(t)
			pushOf(t, r, Limits{})
			var list []*change.Pull
			full := c.pages[0] == nil
			for i, blocks := range c.pages {
				list = append(list, &change.Pull{To: change.Seq(2 + i), Full: full, Blocks: blocks})
			}
			if _, err := f.Finish(r, pages(list...), true); err != nil {
				t.Fatal(err)
			}
			if got := f.state(t, c.child); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if got := dump(t, f.Device, `SELECT reason FROM _velosync_parked ORDER BY pk LIMIT 1`); !strings.Contains(got, c.reason) {
				t.Errorf("reason %q, want %q", got, c.reason)
			}
			if c.free == "" {
				return
			}
			f.sync(t, &change.Pull{To: 8})
			if got := f.state(t, c.child); got != c.want {
				t.Errorf("tried again: got  %s\nwant %s", got, c.want)
			}
			run(t, f.Device, c.free)
			f.sync(t, &change.Pull{To: 9})
			if got := f.state(t, c.child); got != c.healed {
				t.Errorf("with room: got  %s\nwant %s", got, c.healed)
			}
		})
	}
}

// TestFinish_actionsComposite: a key of two columns, one of them compared as a number.
func TestFinish_actionsComposite(t *testing.T) {
	f := newFile(t, `CREATE TABLE pages(doc TEXT, n INTEGER, text, PRIMARY KEY(doc, n)); SELECT velosync_track('pages', '{"groups":[]}');
		INSERT INTO pages VALUES ('d', 1, 'x'), ('d', 2, 'x'), ('e', 1, 'x');
		CREATE TABLE scans(doc TEXT, page TEXT, name, FOREIGN KEY(doc, page) REFERENCES pages ON DELETE CASCADE);
		INSERT INTO scans VALUES ('d', '1', 'd1'), ('d', '2', 'd2'), ('e', '1.0', 'e1'), ('d', NULL, 'd'), ('gone', NULL, 'none'); PRAGMA foreign_keys = ON`)
	f.sync(t, &change.Pull{To: 1})
	f.sync(t, &change.Pull{To: 2, Blocks: []change.Block{gone(`["td","i1"]`, `["te","i1"]`)}})
	if got, want := dump(t, f.Device, `SELECT group_concat(name, ' ' ORDER BY name), (SELECT count(*) FROM pages) FROM scans`), "string:d d2 none int64:1"; got != want {
		t.Errorf("scans and how many pages: %s, want %s", got, want)
	}
}

// TestFinish_parentNotTracked: a pulled row whose parent is missing in a table that only this
// file has waits for it. Where there is no such table at all, nothing is looked at.
func TestFinish_parentNotTracked(t *testing.T) {
	for _, there := range []bool{true, false} {
		t.Run(fmt.Sprint(there), func(t *testing.T) {
			f := newFile(t, `CREATE TABLE items(id TEXT PRIMARY KEY NOT NULL, kind TEXT REFERENCES kinds); SELECT velosync_track('items')`)
			if there {
				run(t, f.Device, `CREATE TABLE kinds(id TEXT PRIMARY KEY, name); INSERT INTO kinds VALUES ('k1', 'one')`)
			}
			f.sync(t, &change.Pull{To: 1})
			a := f.sync(t, &change.Pull{To: 2, Blocks: []change.Block{{Regs: 1, Keys: []change.Value{"x", "y", "z"}, Columns: [][]change.Value{{"k1", "k2", nil}}}}})
			if !there {
				if got := dump(t, f.Device, `SELECT count(*) FROM items`); got != "int64:3" || a.Parked != 0 {
					t.Errorf("without the parent's table: %s rows, %d parked, want 3 and 0", got, a.Parked)
				}
				return
			}
			if got := dump(t, f.Device, `SELECT group_concat(id, '' ORDER BY id) FROM items`); got != "string:xz" || a.Parked != 1 {
				t.Errorf("rows %s, %d parked, want xz and 1", got, a.Parked)
			}
			if got, want := dump(t, f.Device, `SELECT reason FROM _velosync_parked`), `string:FOREIGN KEY: row y of "items" refers to a row of "kinds" that is not here`; got != want {
				t.Errorf("reason %q, want %q", got, want)
			}
			run(t, f.Device, `INSERT INTO kinds VALUES ('k2', 'two')`)
			if a := f.sync(t, &change.Pull{To: 3}); a.Parked != 0 {
				t.Errorf("%d rows parked, though the parent is there", a.Parked)
			}
			if got := dump(t, f.Device, `SELECT group_concat(id, '' ORDER BY id) FROM items`); got != "string:xyz" {
				t.Errorf("rows %s, want xyz", got)
			}
		})
	}
}

// TestFinish_actionsOfNewTable: a table of children that the application made since the last
// round is known.
func TestFinish_actionsOfNewTable(t *testing.T) {
	f := local(t, ``)
	r := f.begin(t)
	pushOf(t, r, Limits{})
	run(t, f.Device, `CREATE TABLE thumbs(note TEXT REFERENCES notes ON DELETE CASCADE); INSERT INTO thumbs VALUES ('a'), ('b')`)
	f.finish(t, r, &change.Pull{To: 2, Blocks: []change.Block{gone("a")}})
	if got, want := f.state(t, `SELECT note AS line FROM thumbs`), "b=two c=three; b"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestFinish_childTriggerDeletes: a trigger that an action may fire must not delete tracked
// rows, which nobody would log.
func TestFinish_childTriggerDeletes(t *testing.T) {
	f := local(t, `CREATE TABLE thumbs(id INTEGER PRIMARY KEY, note TEXT REFERENCES notes ON DELETE CASCADE); CREATE TABLE faces(thumb INTEGER REFERENCES thumbs ON DELETE CASCADE)`)
	run(t, f.Device, `CREATE TRIGGER up AFTER DELETE ON faces BEGIN DELETE FROM notes WHERE id = 'c'; END`)
	if _, err := f.Mend(); err == nil || !strings.Contains(err.Error(), `trigger "up" on "faces" deletes from a tracked table`) {
		t.Errorf("error = %v, want one about the trigger", err)
	}
}

// TestFinish_actionsEnd: tables may refer to each other by columns that are not unique; SQLite
// refuses to write to them then, but they are there.
func TestFinish_actionsEnd(t *testing.T) {
	f := local(t, `PRAGMA foreign_keys = OFF; CREATE TABLE l(slug TEXT REFERENCES notes(slug) ON UPDATE CASCADE REFERENCES m(slug) ON UPDATE CASCADE);
		CREATE TABLE m(slug TEXT REFERENCES l(slug) ON UPDATE CASCADE); INSERT INTO l VALUES ('one'), ('two'); INSERT INTO m VALUES ('one'), ('two')`)
	f.sync(t, &change.Pull{To: 2, Blocks: []change.Block{block("a", 1, "two"), block("b", 1, "one")}})
	if got, want := dump(t, f.Device, `SELECT (SELECT group_concat(slug ORDER BY rowid) FROM l), (SELECT group_concat(slug ORDER BY rowid) FROM m)`), "string:two,one string:two,one"; got != want {
		t.Errorf("children %s, want %s", got, want)
	}
}

// TestFinish_actionsAsSQLite: random tables around notes come out as where SQLite itself
// enforces the keys, and what it refuses is parked.
func TestFinish_actionsAsSQLite(t *testing.T) {
	const children = `SELECT k, x, y FROM t0 UNION ALL SELECT k, x, y FROM t1 UNION ALL SELECT k, x, y FROM t2 ORDER BY 1, 2, 3`
	const tables, all = 3, `SELECT * FROM (SELECT 'notes', id, slug, NULL FROM notes UNION ALL SELECT 't0', k, x, y FROM t0 UNION ALL SELECT 't1', k, x, y FROM t1 UNION ALL SELECT 't2', k, x, y FROM t2) ORDER BY 1, 2, 3, 4`
	refused, acted := 0, 0
	for seed := range uint64(40) {
		dice := rand.New(rand.NewPCG(seed, 7))
		draw := func(of ...string) string { return of[dice.IntN(len(of))] }
		refers := func(actions ...string) string {
			return " REFERENCES " + draw("notes", "notes(slug)", "notes(slug)", "t0(k)", "t1(k)", "t2(k)") + " ON DELETE " + draw(actions...) + " ON UPDATE " + draw("CASCADE", "CASCADE", "CASCADE", "NO ACTION")
		}
		script := `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, slug TEXT COLLATE NOCASE UNIQUE);`
		fill := `INSERT INTO notes VALUES ('a', 'a'), ('b', 'b'), ('c', 'c'), ('d', 'd');`
		values := []string{"'a'", "'b'", "'c'", "'d'", "'A'", "NULL"}
		for i := range tables {
			key := ""
			if dice.IntN(4) > 0 {
				key = refers("CASCADE", "CASCADE", "NO ACTION")
			}
			script += fmt.Sprintf("CREATE TABLE t%d(k TEXT %s UNIQUE%s, x TEXT DEFAULT %s%s, y%s)%s;", i, draw("", "COLLATE NOCASE"), key, draw(values...),
				refers("CASCADE", "SET NULL", "SET DEFAULT", "NO ACTION"), refers("CASCADE", "SET NULL", "NO ACTION"), draw("", "", fmt.Sprintf("; CREATE INDEX i%d ON t%[1]d(x)", i)))
			for range 4 {
				fill += fmt.Sprintf("INSERT OR IGNORE INTO t%d VALUES (%s, %s, %s);", i, draw(values...), draw(values...), draw(values...))
			}
		}
		for i := range tables { // what SQLite would not have let in
			fill += fmt.Sprintf("DELETE FROM t%d WHERE rowid IN (SELECT rowid FROM pragma_foreign_key_check('t%[1]d'));", i)
		}
		fill = "PRAGMA foreign_keys = OFF;" + fill + strings.Repeat(fill[strings.Index(fill, "DELETE"):], 5) + "PRAGMA foreign_keys = ON;"
		note := draw("a", "b", "c")
		statement, pull := `DELETE FROM notes WHERE id = '`+note+`'`, gone(note)
		if dice.IntN(2) == 0 {
			to := draw("new", strings.ToUpper(note))
			statement, pull = `UPDATE notes SET slug = '`+to+`' WHERE id = '`+note+`'`, block(note, 1, to)
		}
		oracle := newFile(t, script+fill)
		f := newFile(t, script+`SELECT velosync_track('notes', '{"groups":[]}');`+fill)
		f.sync(t, &change.Pull{To: 1})
		before, childrenBefore := dump(t, oracle.Device, all), dump(t, oracle.Device, children)
		want := before
		err := oracle.c.Script(statement)
		if err == nil {
			want = dump(t, oracle.Device, all)
		}
		a := f.sync(t, &change.Pull{To: 2, Blocks: []change.Block{pull}})
		if got := dump(t, f.Device, all); got != want || a.Parked > 0 != (err != nil) {
			t.Errorf("seed %d: %s\n%s\nbefore\n%s\nSQLite: %v\n%s\ngot, %d parked\n%s", seed, statement, script, before, err, want, a.Parked, got)
		}
		if err != nil {
			refused++
		} else if childrenBefore != dump(t, oracle.Device, children) {
			acted++
		}
	}
	if refused < 3 || acted < 3 {
		t.Errorf("SQLite refused %d and acted on %d: too little is tested", refused, acted)
	}
}
