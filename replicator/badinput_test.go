package replicator_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
