package replicator_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/replicator"
)

func TestNew_unusableFiles(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "letter.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("Dear Sir or Madam. ", 300)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ dsn, want string }{
		{text, "not a database"},
		{dir, "unable to open"},
		{"file:" + filepath.Join(dir, "none.db") + "?mode=ro", "unable to open"},
	} {
		r, err := replicator.New(tt.dsn, replicator.Options{Master: "http://127.0.0.1:1"})
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("New(%s): %v, want it to name the file and say %q", tt.dsn, err, tt.want)
		}
	}
	if got, _ := os.ReadFile(text); !strings.HasPrefix(string(got), "Dear Sir") {
		t.Error("the file that is no database was changed")
	}
}

func TestSync_readOnlyFile(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes)
	r, err := replicator.New("file:"+a.file+"?mode=ro", a.o)
	if err == nil {
		defer r.Close()
		_, err = r.Sync(context.Background())
	}
	if err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("error = %v, want it to say that the file is read-only", err)
	}
}

// TestSync_fullDisk: a pull that does not fit leaves the file as it was, and comes when
// there is room.
func TestSync_fullDisk(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes,
		`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO notes SELECT 'k' || i, 't', hex(randomblob(5000)), 1 FROM n`)
	a.sync()
	var limit *sqlite3.SQLiteConn
	b := newDevice(t, m, "b", func(o *replicator.Options) {
		o.Prepare = func(c *sqlite3.SQLiteConn) error {
			if limit == nil {
				limit = c
			}
			return nil
		}
	})
	pages := func(n string) {
		t.Helper()
		if _, err := limit.Exec("PRAGMA max_page_count = "+n, nil); err != nil {
			t.Fatal(err)
		}
	}
	pages("100")
	_, err := b.r.Sync(context.Background())
	var e sqlite3.Error
	if !errors.As(err, &e) || e.Code != sqlite3.ErrFull {
		t.Fatalf("error = %v, want that the disk is full", err)
	}
	b.want(`SELECT count(*) FROM sqlite_schema WHERE name = 'notes'`, "0")
	b.want(`SELECT seen FROM velosync_status`, "0")
	pages("1000000")
	b.sync()
	b.want(`SELECT count(*), sum(length(body)) FROM notes`, "200 2000000")
}

func TestSync_corruptFile(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) INSERT INTO notes SELECT 'k' || i, 't', hex(randomblob(500)), 1 FROM n`,
		`PRAGMA wal_checkpoint(TRUNCATE)`)
	if err := errors.Join(a.r.Close(), a.db.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(a.file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := f.Stat()
	for at := int64(4096 * 30); at+4096 < info.Size(); at += 4096 {
		if _, err := f.WriteAt([]byte(strings.Repeat("\xde\xad", 64)), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := replicator.New(a.file, a.o)
	if err == nil {
		defer r.Close()
		_, err = r.Sync(context.Background())
	}
	if err == nil || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("error = %v, want that the image is malformed", err)
	}
	if st, err := m.Engine.Spaces(context.Background()); err != nil {
		t.Fatal(err)
	} else if len(st) > 0 {
		space, err := m.Engine.Lookup(context.Background(), m.Space)
		if err == nil {
			if s, err := space.Stats(context.Background()); err != nil || s.Rows != 0 {
				t.Errorf("the master took %d rows of a push that could not be read whole (%v)", s.Rows, err)
			}
		}
	}
}

func TestSync_hostileNames(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	tables := []string{`a"; DROP TABLE notes; --`, `select`, `'quoted'`, `ünï 🌍`, `x]y`, "back`tick", `%s?1:a@b$c`}
	for i, name := range tables {
		q := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
		a.exec(fmt.Sprintf(`CREATE TABLE %s(%s TEXT NOT NULL, %s BLOB NOT NULL, %s, PRIMARY KEY(%[2]s, %[3]s))`, q(name), q(`k"1`), q(`from`), q(`va"l'ue; --`)))
		if _, err := a.db.Exec(`SELECT velosync_track(?)`, name); err != nil {
			t.Fatalf("track %q: %v", name, err)
		}
		a.exec(fmt.Sprintf(`INSERT INTO %s VALUES ('k'';"', x'00ff27', 'Robert''); DROP TABLE x;--'), ('', 1.5, NULL)`, q(name)),
			fmt.Sprintf(`UPDATE %s SET %s = 'changed' WHERE %s = ''`, q(name), q(`va"l'ue; --`), q(`k"1`)))
		if i%2 == 0 {
			a.exec(fmt.Sprintf(`DELETE FROM %s WHERE %s = 1.5`, q(name), q(`from`)))
		}
		defer func() {
			query := fmt.Sprintf(`SELECT * FROM %s ORDER BY 1, 2`, q(name))
			b.want(query, a.rows(query))
		}()
	}
	a.sync()
	b.sync()
}

// TestSync_cursorFromTheFuture: the device says that it has seen what this master has not.
func TestSync_cursorFromTheFuture(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	a.exec(`UPDATE _velosync_state SET seen = 1000`, `UPDATE notes SET title = 'mine'`)
	if r := a.sync(); !r.Restored || r.PushedBackRows != 0 || r.PushedRows != 1 {
		t.Errorf("%+v: want that the master was restored, and lacks nothing but the edit", r)
	}
	a.want(`SELECT title, seen, pending FROM notes, velosync_status`, "mine 2 0")
	if r := a.sync(); r.Restored {
		t.Error("the next round compares again")
	}
}
