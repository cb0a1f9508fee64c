package replicator_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/masterd/masterdtest"
)

// TestScenario_21_statements: whatever statement changes rows, each changed row is logged
// and ships once, and no other is, with recursive triggers off and on.
func TestScenario_21_statements(t *testing.T) {
	const tables = `CREATE TABLE p(id TEXT PRIMARY KEY NOT NULL, mail TEXT UNIQUE, n INT, note TEXT);
		CREATE TABLE c(id TEXT PRIMARY KEY NOT NULL, p TEXT REFERENCES p(id) ON DELETE CASCADE ON UPDATE CASCADE, n INT);
		CREATE TABLE audit(id TEXT PRIMARY KEY NOT NULL, what TEXT);
		CREATE TRIGGER audited AFTER UPDATE OF note ON p WHEN (SELECT applying FROM _velosync_state) = 0 BEGIN
			INSERT INTO audit VALUES (NEW.id || ' ' || NEW.note, 'note'); UPDATE p SET n = n + 100 WHERE id = NEW.id; END;
		INSERT INTO p VALUES ('a', 'a@x', 1, ''), ('b', 'b@x', 2, ''), ('c', 'c@x', 3, ''); INSERT INTO c VALUES ('a1', 'a', 1), ('a2', 'a', 2), ('b1', 'b', 3)`
	statements := []struct{ name, do, changed string }{
		{"INSERT OR REPLACE of the same key", `INSERT OR REPLACE INTO p VALUES ('c', 'c2@x', 9, '')`, "p c"},
		{"INSERT OR REPLACE that evicts another row", `INSERT OR REPLACE INTO p VALUES ('d', 'c@x', 9, '')`, "p c\np d"},
		{"UPDATE OR REPLACE that evicts another row", `UPDATE OR REPLACE p SET mail = 'c@x' WHERE id = 'b'`, "p b\np c"},
		{"INSERT OR IGNORE of a row that is there", `INSERT OR IGNORE INTO p VALUES ('new', 'c@x', 9, '')`, ""},
		{"UPSERT that updates", `INSERT INTO p VALUES ('a', 'z@x', 1, '') ON CONFLICT(id) DO UPDATE SET n = n + 1`, "p a"},
		{"UPSERT that inserts", `INSERT INTO p VALUES ('e', 'e@x', 1, '') ON CONFLICT(id) DO UPDATE SET n = n + 1`, "p e"},
		{"UPSERT that does nothing", `INSERT INTO p VALUES ('e', 'a@x', 1, '') ON CONFLICT DO NOTHING`, ""},
		{"UPDATE FROM", `UPDATE p SET n = s.total FROM (SELECT p AS id, sum(n) + 10 AS total FROM c GROUP BY p) s WHERE s.id = p.id`, "p a\np b"},
		{"RETURNING", `INSERT INTO p VALUES ('f', 'f@x', 1, ''), ('g', 'g@x', 2, '') RETURNING id`, "p f\np g"},
		{"DELETE RETURNING", `DELETE FROM c WHERE p = 'a' RETURNING *`, "c a1\nc a2"},
		{"many rows", `UPDATE p SET n = n + 1`, "p a\np b\np c"},
		{"many rows, few of which change", `UPDATE p SET n = 2`, "p a\np c"},
		{"INSERT from SELECT", `INSERT INTO c SELECT 'copy ' || id, p, n FROM c`, "c copy a1\nc copy a2\nc copy b1"},
		{"a trigger that writes", `UPDATE p SET note = 'x' WHERE id = 'a'`, "audit a x\np a"},
		{"ON DELETE CASCADE", `DELETE FROM p WHERE id = 'a'`, "c a1\nc a2\np a"},
		{"ON UPDATE CASCADE", `UPDATE p SET id = 'z' WHERE id = 'a'`, "c a1\nc a2\np a\np z"},
		{"WITH", `WITH x AS (SELECT id FROM p WHERE n > 1) DELETE FROM c WHERE p IN (SELECT id FROM x)`, "c b1"},
		{"one row many times", `UPDATE p SET n = 5 WHERE id = 'a'; UPDATE p SET n = 6 WHERE id = 'a'; UPDATE p SET mail = 'y@x' WHERE id = 'a'`, "p a"},
	}
	m := masterdtest.New(t, masterdtest.Options{Log: quiet})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(tables, `SELECT velosync_track('p'), velosync_track('c'), velosync_track('audit')`)
	settled(t, m, a, b)
	conn, err := a.db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	do := func(script string) {
		t.Helper()
		if _, err := conn.ExecContext(context.Background(), script); err != nil {
			t.Fatalf("%s: %v", script, err)
		}
	}
	for _, recursive := range []string{"OFF", "ON"} {
		do(`PRAGMA recursive_triggers = ` + recursive)
		for _, s := range statements {
			t.Run(s.name+", recursive triggers "+recursive, func(t *testing.T) {
				do(`DELETE FROM c; DELETE FROM p; DELETE FROM audit; INSERT INTO p VALUES ('a', 'a@x', 1, ''), ('b', 'b@x', 2, ''), ('c', 'c@x', 3, ''); INSERT INTO c VALUES ('a1', 'a', 1), ('a2', 'a', 2), ('b1', 'b', 3)`)
				a.sync()
				head := spaceStats(t, m).Head
				do(s.do)
				n := 0
				if s.changed != "" {
					n = strings.Count(s.changed, "\n") + 1
				}
				// A REPLACE announces rows that it may evict: they are listed until they ship.
				if !strings.Contains(s.name, "IGNORE") && !strings.Contains(s.name, "nothing") {
					a.want(`SELECT tbl || ' ' || "key" FROM velosync_pending ORDER BY 1`, s.changed)
				}
				if r := a.sync(); r.PushedRows != n || r.LostRows+r.RejectedRows != 0 {
					t.Errorf("%+v: want %d rows pushed, and nothing lost", r, n)
				}
				if got := int(spaceStats(t, m).Head - head); got != n {
					t.Errorf("the master counts %d changes, want %d", got, n)
				}
				settled(t, m, b, a)
			})
		}
	}
}

// TestScenario_22_rollback: what did not stay is not logged, and the numbers that it used
// are no loss.
func TestScenario_22_rollback(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, threeNotes)
	settled(t, m, a, b)
	const pending = `SELECT group_concat("key") FROM (SELECT "key" FROM velosync_pending ORDER BY "key")`
	a.exec(`BEGIN; INSERT INTO notes VALUES ('gone', 'a', 'a', 1); UPDATE notes SET title = 'gone'; DELETE FROM notes WHERE id = 'y'; ROLLBACK`)
	a.want(pending, "<nil>")
	a.exec(`BEGIN; UPDATE notes SET title = 'one' WHERE id = 'x'; SAVEPOINT s; UPDATE notes SET title = 'gone'; SAVEPOINT deeper; DELETE FROM notes; ROLLBACK TO deeper; RELEASE deeper; ROLLBACK TO s;
		UPDATE notes SET title = 'two' WHERE id = 'y'; RELEASE s; COMMIT`)
	a.want(pending, "x,y")
	// Statements that fail in their middle: undone, kept so far, and with the whole transaction.
	for _, s := range []struct{ script, pending string }{
		{`INSERT INTO notes VALUES ('n1', '', '', 1), ('x', '', '', 1)`, "x,y"},
		{`INSERT OR FAIL INTO notes VALUES ('n2', '', '', 1), ('x', '', '', 1)`, "n2,x,y"},
		{`BEGIN; INSERT INTO notes VALUES ('n3', '', '', 1); INSERT OR ROLLBACK INTO notes VALUES ('x', '', '', 1)`, "n2,x,y"},
		{`UPDATE notes SET score = 'no number' WHERE id = 'z'`, "n2,x,y"},
	} {
		if _, err := a.db.Exec(s.script); err == nil {
			t.Errorf("%s: no error", s.script)
		}
		a.want(pending, s.pending)
	}
	// The application's own error handling, through database/sql.
	tx, err := a.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`DELETE FROM notes`); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if r := a.sync(); r.PushedRows != 3 {
		t.Errorf("%+v: want three rows", r)
	}
	a.exec(`BEGIN; INSERT INTO notes VALUES ('gone', '', '', 1); ROLLBACK`, `UPDATE notes SET body = 'after' WHERE id = 'x'`)
	settled(t, m, a, b)
	b.want(allNotes, "n2   1\nx one after 1\ny two hot 1\nz rice white 1")
}

// shell runs the sqlite3 command, which has none of our functions.
func shell(t *testing.T, file, script string) string {
	t.Helper()
	out, err := exec.Command("sqlite3", file, script).CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3 %s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestScenario_23_otherConnections: what the sqlite3 shell or Python writes is logged, also
// through ATTACH; temporary tables are no tables of the file; VACUUM, VACUUM INTO and the
// backup API leave a file that goes on.
func TestScenario_23_otherConnections(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, threeNotes)
	settled(t, m, a, b)
	settle := func(keys ...string) {
		t.Helper()
		a.want(`SELECT "key" FROM velosync_pending ORDER BY "key"`, strings.Join(keys, "\n"))
		settled(t, m, a, b)
	}
	t.Run("shell", func(t *testing.T) {
		shell(t, a.file, `INSERT INTO notes(id, title) VALUES ('shell', 'one'); UPDATE notes SET title = 'two', body = 'b' WHERE id = 'shell'; DELETE FROM notes WHERE id = 'z'`)
		if got, want := shell(t, a.file, `SELECT tbl, key, op, columns, mutations FROM velosync_pending ORDER BY key`), "notes|shell|update|title,body,score|2\nnotes|z|delete|title,body,score|1"; got != want {
			t.Errorf("velosync_pending:\n%s\nwant:\n%s", got, want)
		}
		if got := shell(t, a.file, `SELECT pending, conflicts, tables FROM velosync_status; SELECT count(*) FROM velosync_conflicts`); got != "2|0|notes\n0" {
			t.Errorf("the views: %s", got)
		}
		a.want(`SELECT count(*) FROM _velosync_wal WHERE at NOT BETWEEN 1600000000000 AND 4000000000000`, "0") // unix ms
		settle("shell", "z")
	})
	t.Run("Python", func(t *testing.T) {
		script := `import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
c.execute("INSERT INTO notes(id, title, score) VALUES (?, ?, ?)", ("python", "snake", 0.5))
c.execute("UPDATE notes SET body = ? WHERE id = 'x'", ("by python",))
c.commit()`
		if out, err := exec.Command("python3", "-c", script, a.file).CombinedOutput(); err != nil {
			t.Fatalf("python3: %v\n%s", err, out)
		}
		settle("python", "x")
	})
	t.Run("attached", func(t *testing.T) {
		shell(t, ":memory:", `ATTACH '`+a.file+`' AS other; INSERT INTO other.notes(id, title) VALUES ('attached', 'shell'); UPDATE other.notes SET body = 'attached' WHERE id = 'y'`)
		conn, err := a.db.Conn(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		aside := filepath.Join(t.TempDir(), "aside.db")
		for _, s := range []string{`ATTACH '` + aside + `' AS aside`, `CREATE TABLE aside.notes(id TEXT PRIMARY KEY NOT NULL, title TEXT)`, `INSERT INTO aside.notes VALUES ('not', 'ours')`,
			`INSERT INTO main.notes(id, title) SELECT 'from aside', title FROM aside.notes`} {
			if _, err := conn.ExecContext(context.Background(), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		if _, err := conn.ExecContext(context.Background(), `SELECT velosync_track('aside.notes')`); err == nil {
			t.Error("a table of an attached file can be tracked: its triggers would be in another file than its log")
		}
		settle("attached", "from aside", "y")
	})
	t.Run("temporary", func(t *testing.T) {
		conn, err := a.db.Conn(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, s := range []string{`CREATE TEMP TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT)`, `INSERT INTO notes VALUES ('only', 'here')`, // hides main.notes
			`INSERT INTO main.notes(id, title) VALUES ('past temp', 'x')`, `CREATE TEMP TRIGGER tt AFTER INSERT ON notes BEGIN UPDATE main.notes SET title = 'by temp' WHERE id = 'x'; END`,
			`INSERT INTO temp.notes VALUES ('fires', 'x')`} {
			if _, err := conn.ExecContext(context.Background(), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		settle("past temp", "x")
		if _, err := conn.ExecContext(context.Background(), `DROP TABLE temp.notes`); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("VACUUM", func(t *testing.T) {
		a.exec(`UPDATE notes SET body = 'before' WHERE id = 'x'`, `VACUUM`)
		shell(t, a.file, `VACUUM; PRAGMA user_version = 7; REINDEX; ANALYZE`)
		a.exec(`UPDATE notes SET body = 'after' WHERE id = 'y'`)
		settle("x", "y")
	})
	for name, copyTo := range map[string]func(t *testing.T, to string){
		"VACUUM INTO": func(t *testing.T, to string) { a.exec(`VACUUM INTO '` + to + `'`) },
		"backup API":  func(t *testing.T, to string) { backupInto(t, a.db, to) },
	} {
		t.Run(name, func(t *testing.T) {
			a.exec(`UPDATE notes SET body = 'pending at ` + name + `' WHERE id = 'x'`)
			to := filepath.Join(t.TempDir(), "copy.db")
			copyTo(t, to)
			c := newDevice(t, m, "c "+name, nil)
			c.restore(to)
			a.exec(`UPDATE notes SET title = 'a ` + name + `' WHERE id = 'y'`)
			c.exec(`UPDATE notes SET body = 'c ` + name + `' WHERE id = 'y'`)
			a.sync()
			c.sync()
			settled(t, m, a, b, c)
			if a.id() == c.id() {
				t.Error("two files go by one id")
			}
			a.want(`SELECT title || ', ' || body FROM notes WHERE id = 'y'`, "a "+name+", c "+name)
		})
	}
}

// backupInto copies a database by SQLite's backup API.
func backupInto(t *testing.T, from *sql.DB, to string) {
	t.Helper()
	db, err := sql.Open("velosync", to)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := context.Background()
	src, err := from.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	err = src.Raw(func(s any) error {
		return dst.Raw(func(d any) error {
			b, err := d.(*sqlite3.SQLiteConn).Backup("main", s.(*sqlite3.SQLiteConn), "main")
			if err != nil {
				return err
			}
			_, err = b.Step(-1)
			return errors.Join(err, b.Finish())
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestScenario_24_userTriggers: while remote changes are applied a trigger that follows
// into a table of its own runs, as a full-text index needs; what one writes to a tracked
// table was written where the change was made, and is not written again.
func TestScenario_24_userTriggers(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	const follow = `CREATE TABLE IF NOT EXISTS words(id, title);
		CREATE TRIGGER follow_insert AFTER INSERT ON notes BEGIN INSERT INTO words VALUES (NEW.id, NEW.title); END;
		CREATE TRIGGER follow_delete AFTER DELETE ON notes BEGIN DELETE FROM words WHERE id = OLD.id; END;
		CREATE TRIGGER follow_update AFTER UPDATE OF title ON notes BEGIN UPDATE words SET title = NEW.title WHERE id = NEW.id; END;
		CREATE TABLE IF NOT EXISTS counter(n); INSERT INTO counter VALUES (0);
		CREATE TRIGGER stamp AFTER UPDATE OF title ON notes WHEN (SELECT applying FROM _velosync_state) = 0 BEGIN
			UPDATE notes SET body = 'stamped ' || hex(randomblob(4)) WHERE id = NEW.id; UPDATE counter SET n = n + 1; END`
	a.exec(notes, trackNotes, follow, threeNotes)
	a.sync()
	b.sync()
	b.exec(follow, `INSERT INTO words SELECT id, title FROM notes`)
	a.exec(`UPDATE notes SET title = 'by a' WHERE id = 'x'`, `DELETE FROM notes WHERE id = 'y'`, `INSERT INTO notes VALUES ('new', 'a''s', '', 1)`)
	a.sync()
	b.sync()
	a.sync()
	const followed = `SELECT (SELECT group_concat(id || title) FROM (SELECT * FROM notes ORDER BY id)) = (SELECT group_concat(id || title) FROM (SELECT * FROM words ORDER BY id))`
	a.want(followed, "1")
	b.want(followed, "1")
	b.want(allNotes, a.rows(allNotes))
	a.want(`SELECT n FROM counter`, "1")
	b.want(`SELECT n FROM counter`, "0") // it did not run again
	if got := a.rows(`SELECT body FROM notes WHERE id = 'x'`); !strings.HasPrefix(got, "stamped ") {
		t.Errorf("the body is %q", got)
	}
	for _, d := range []*device{a, b} {
		if r := d.sync(); r.PushedRows+r.PulledRows != 0 {
			t.Errorf("%s is not at rest: %+v", d.o.Name, r)
		}
	}
	// One that does not ask may write all the same: what it writes to a tracked table is left
	// out while remote changes are applied. Made after tracking, before, and on a table that is tracked too.
	const audit = `CREATE TABLE IF NOT EXISTS audit(id TEXT PRIMARY KEY NOT NULL DEFAULT (hex(randomblob(8))), what TEXT)`
	const restless = `CREATE TRIGGER restless AFTER UPDATE OF title ON notes BEGIN
		UPDATE notes SET body = hex(randomblob(4)) WHERE id = NEW.id; INSERT INTO audit(what) VALUES ('update of ' || NEW.id); INSERT INTO counter VALUES (7); END`
	a.exec(audit, `SELECT velosync_track('audit')`, restless)
	a.sync()
	b.sync()
	b.exec(restless)
	a.exec(`UPDATE notes SET title = 'again' WHERE id = 'x'`)
	b.exec(`UPDATE notes SET title = 'too' WHERE id = 'z'`)
	for range 2 {
		a.sync()
		b.sync()
	}
	a.want(`SELECT group_concat(what) FROM (SELECT what FROM audit ORDER BY what)`, "update of x,update of z")
	a.want(`SELECT count(*) FROM counter`, "3") // not tracked: it follows
	b.want(`SELECT count(*) FROM counter`, "3")
	b.want(`SELECT * FROM audit ORDER BY id`, a.rows(`SELECT * FROM audit ORDER BY id`))
	b.want(allNotes, a.rows(allNotes))
	for _, d := range []*device{a, b} {
		if r := d.sync(); r.PushedRows+r.PulledRows+r.LostRows != 0 {
			t.Errorf("%s is not at rest: %+v", d.o.Name, r)
		}
	}
	c := newDevice(t, m, "c", nil)
	c.exec(notes, audit, `CREATE TABLE counter(n)`, restless, trackNotes, `SELECT velosync_track('audit')`)
	c.sync()
	c.want(allNotes, a.rows(allNotes))
	c.want(`SELECT * FROM audit ORDER BY id`, a.rows(`SELECT * FROM audit ORDER BY id`))

	// A DELETE can't be left out: such a trigger is refused where the table is tracked; one
	// made later stops the rounds.
	const deleting = `CREATE TRIGGER deleting AFTER UPDATE OF title ON notes BEGIN DELETE FROM notes WHERE score < 0; END`
	b.exec(deleting)
	before := b.rows(allNotes)
	a.exec(`UPDATE notes SET title = 'and again' WHERE id = 'x'`)
	a.sync()
	if err := b.fails(); !strings.Contains(err.Error(), `trigger "deleting"`) || !strings.Contains(err.Error(), "applying") {
		t.Errorf("the round with such a trigger: %v", err)
	}
	b.want(allNotes, before)
	if got := b.rows(`SELECT last_error FROM velosync_status`); !strings.Contains(got, "deleting") {
		t.Errorf("the status says %q", got)
	}
	b.exec(`DROP TRIGGER deleting`)
	b.sync()
	b.want(allNotes, a.rows(allNotes))
	e := newDevice(t, m, "e", nil)
	e.exec(notes, deleting)
	if _, err := e.db.Exec(trackNotes); err == nil || !strings.Contains(err.Error(), "applying") {
		t.Errorf("tracking a table with such a trigger: %v", err)
	}
}

// TestScenario_25_applicationUnspoiled: what the application asks after a statement is what
// it would be without our triggers.
func TestScenario_25_applicationUnspoiled(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, plain := newDevice(t, m, "a", nil), newDevice(t, m, "plain", nil)
	const table = `CREATE TABLE n(id TEXT PRIMARY KEY NOT NULL, mail TEXT UNIQUE, v INT)`
	plain.exec(table)
	a.exec(table, `SELECT velosync_track('n')`)
	ctx := context.Background()
	var conns []*sql.Conn
	for _, d := range []*device{a, plain} {
		c, err := d.db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for i, s := range []string{
		`INSERT INTO n VALUES ('a', 'a', 1)`, `INSERT INTO n VALUES ('b', 'b', 2), ('c', 'c', 3)`, `UPDATE n SET v = 9`, `UPDATE n SET v = 9 WHERE id = 'a'`,
		`UPDATE n SET id = 'z' WHERE id = 'a'`, `INSERT OR REPLACE INTO n VALUES ('b', 'b2', 4)`, `INSERT OR REPLACE INTO n VALUES ('d', 'c', 5)`, `INSERT OR IGNORE INTO n VALUES ('d', 'x', 5)`,
		`INSERT INTO n VALUES ('d', 'd', 1) ON CONFLICT(id) DO UPDATE SET v = 7`, `DELETE FROM n WHERE id = 'b'`, `DELETE FROM n WHERE id = 'nobody'`, `BEGIN`, `INSERT INTO n VALUES ('t', 't', 1)`, `ROLLBACK`,
		`INSERT INTO n VALUES ('e', 'e', 1)`, `DELETE FROM n`,
	} {
		var got [2]string
		for j, c := range conns {
			r, err := c.ExecContext(ctx, s)
			if err != nil {
				t.Fatalf("%s: %v", s, err)
			}
			id, err1 := r.LastInsertId()
			n, err2 := r.RowsAffected()
			var changes, last int64
			err3 := c.QueryRowContext(ctx, `SELECT changes(), last_insert_rowid()`).Scan(&changes, &last)
			if err := errors.Join(err1, err2, err3); err != nil {
				t.Fatal(err)
			}
			got[j] = fmt.Sprintf("LastInsertId %d, RowsAffected %d, changes() %d, last_insert_rowid() %d", id, n, changes, last)
		}
		if got[0] != got[1] {
			t.Errorf("statement %d, %s: %s, without tracking %s", i+1, s, got[0], got[1])
		}
	}
}
