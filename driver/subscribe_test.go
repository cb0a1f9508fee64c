package driver_test

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/replicator"
)

// follow subscribes, sees that reading the table is asked for first, and returns what
// reads on.
func follow(t *testing.T, db *sql.DB) func() string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	next, stop := iter.Pull2(driver.Subscribe(ctx, db, driver.SubscribeOptions{}))
	t.Cleanup(func() { cancel(); stop() })
	read := func() string {
		t.Helper()
		type answer struct {
			c   capture.Changes
			err error
		}
		got := make(chan answer, 1)
		go func() {
			c, err, _ := next()
			got <- answer{c, err}
		}()
		select {
		case a := <-got:
			if a.err != nil {
				t.Fatal(a.err)
			}
			return text(a.c)
		case <-time.After(30 * time.Second):
			cancel()
			<-got
			t.Fatal("nothing is told")
			return ""
		}
	}
	if got := read(); got != "lossy" {
		t.Fatalf("the first changes: %q, want lossy", got)
	}
	return read
}

func text(c capture.Changes) string {
	if c.Lossy {
		return "lossy"
	}
	var words []string
	for _, r := range c.Rows {
		word := fmt.Sprint(r.Op, " ", r.Table, r.Key)
		if r.Remote {
			word += " remote"
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func TestSubscribe_everyWriter(t *testing.T) {
	file := tempFile(t)
	db := open(t, file)
	execAll(t, db, `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT)`, `SELECT velosync_track('notes')`)
	read := follow(t, db)
	want := func(want string) {
		t.Helper()
		if got := read(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	execAll(t, db, `INSERT INTO notes VALUES ('pool', 'x')`)
	want("insert notes[pool]")
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{`UPDATE notes SET title = 'y'`, `INSERT INTO notes VALUES ('tx', 'x')`} {
		if _, err := tx.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	want("update notes[pool], insert notes[tx]")
	execAll(t, open(t, file), `DELETE FROM notes WHERE id = 'tx'`) // another pool
	want("delete notes[tx]")
	if out, err := osexec.Command("sqlite3", file, `INSERT INTO notes VALUES ('shell', 'x')`).CombinedOutput(); err != nil {
		t.Fatalf("sqlite3: %v: %s", err, out)
	}
	want("insert notes[shell]")

	// What a round of another program brings, and what it takes from the log.
	m := masterdtest.New(t, masterdtest.Options{Insecure: true})
	sync := func(file string) {
		t.Helper()
		r, err := replicator.New(file, replicator.Options{Master: m.URL})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(t.TempDir(), "other.db")
	sync(file)
	sync(other)
	execAll(t, open(t, other), `UPDATE notes SET title = 'z' WHERE id = 'shell'`)
	sync(other)
	execAll(t, db, `INSERT INTO notes VALUES ('last', 'x')`)
	sync(file)
	got := read()
	if got == "insert notes[last]" { // looked at before the round
		got += ", " + read()
	}
	if got != "insert notes[last], update notes[shell] remote" {
		t.Errorf("got %q", got)
	}
}

// TestSubscribe_sync: the driver's own replicator.
func TestSubscribe_sync(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Insecure: true})
	dsn := func(name string) string {
		return filepath.Join(t.TempDir(), name) + "?_velosync_track=notes&_velosync_master=" + m.URL
	}
	a, b := open(t, dsn("a.db")), open(t, dsn("b.db"))
	execAll(t, a, `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT)`, `SELECT velosync_wait(20)`)
	read := follow(t, b)
	execAll(t, a, `INSERT INTO notes VALUES ('1', 'x')`)
	if got := read(); got != "insert notes[1] remote" {
		t.Errorf("got %q", got)
	}
	execAll(t, b, `INSERT INTO notes VALUES ('2', 'x')`)
	if got := read(); got != "insert notes[2]" {
		t.Errorf("got %q", got)
	}
}

func execAll(t *testing.T, db *sql.DB, queries ...string) {
	t.Helper()
	for _, q := range queries {
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// TestSubscribe_ends: nothing is left of a loop that ended, however it did: goleak looks
// at the end, the file has no reader then.
func TestSubscribe_ends(t *testing.T) {
	file := tempFile(t)
	db := open(t, file)
	execAll(t, db, `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL)`, `SELECT velosync_track('notes')`)
	readers := func() string { return value(t, open(t, file), `SELECT count(*) FROM _velosync_feed_reader`) }

	for range driver.Subscribe(t.Context(), db, driver.SubscribeOptions{}) {
		if readers() != "1" {
			t.Error("no reader is written down")
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range driver.Subscribe(ctx, db, driver.SubscribeOptions{}) {
		if err != nil {
			t.Error(err)
		}
		time.AfterFunc(time.Millisecond, cancel) // while it waits
	}
	for _, err := range driver.Subscribe(t.Context(), db, driver.SubscribeOptions{}) {
		if err != nil {
			t.Error(err)
		}
		time.AfterFunc(time.Millisecond, func() { db.Close() })
	}
	if got := readers(); got != "0" {
		t.Errorf("%s readers are left", got)
	}
	for range driver.Subscribe(t.Context(), db, driver.SubscribeOptions{}) {
		t.Error("a closed database has changes")
	}
}

func TestSubscribe_refuses(t *testing.T) {
	file := tempFile(t)
	execAll(t, open(t, file), `CREATE TABLE t(x)`)
	foreign, err := sql.Open("sqlite3", file)
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	for want, db := range map[string]*sql.DB{
		"in memory":             open(t, ":memory:"),
		"read-only":             open(t, "file:"+file+"?mode=ro"),
		"not opened by this dr": foreign,
	} {
		times := 0
		for _, err := range driver.Subscribe(t.Context(), db, driver.SubscribeOptions{}) {
			if times++; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
		if times != 1 {
			t.Errorf("%s: the loop ran %d times, want once", want, times)
		}
	}
}

// TestSubscribe_slow: a reader that takes its time misses nothing, and holds nothing.
func TestSubscribe_slow(t *testing.T) {
	db := open(t, tempFile(t))
	execAll(t, db, `CREATE TABLE notes(id INT PRIMARY KEY NOT NULL)`, `SELECT velosync_track('notes')`)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	told, times := 0, 0
	for c, err := range driver.Subscribe(ctx, db, driver.SubscribeOptions{MostRows: 100}) {
		if err != nil {
			t.Fatal(err)
		}
		switch times++; times {
		case 1, 3:
			if !c.Lossy {
				t.Errorf("time %d: %v, want lossy", times, c)
			}
		}
		told += len(c.Rows)
		switch times {
		case 1: // while the loop is busy
			for i := range 100 {
				execAll(t, db, fmt.Sprintf(`INSERT INTO notes VALUES (%d)`, i))
			}
		case 2:
			execAll(t, db, `INSERT INTO notes SELECT id + 100 FROM notes UNION ALL SELECT -1`)
		case 3:
			cancel()
		}
	}
	if told != 100 || times != 3 {
		t.Errorf("%d rows in %d times, want 100 in 3", told, times)
	}
}

// TestSubscribe_atOnce: what this program commits does not wait for the poll.
func TestSubscribe_atOnce(t *testing.T) {
	db := open(t, tempFile(t))
	execAll(t, db, `CREATE TABLE notes(id INT PRIMARY KEY NOT NULL)`, `SELECT velosync_track('notes')`)
	read := follow(t, db)
	began := time.Now()
	for i := range 30 {
		execAll(t, db, fmt.Sprintf(`INSERT INTO notes VALUES (%d)`, i))
		if got, want := read(), fmt.Sprintf("insert notes[%d]", i); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if took := time.Since(began); took > 1500*time.Millisecond { // polls alone would take 3 s
		t.Errorf("30 commits were told in %v", took)
	}
}

// TestSubscribe_roundAtOnce: a round of the driver's own replicator is told as soon as it is
// over, not at the next poll.
func TestSubscribe_roundAtOnce(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Insecure: true})
	file := filepath.Join(t.TempDir(), "b.db")
	dsn := "?_velosync_track=notes&_velosync_master=" + m.URL
	a, b := open(t, tempFile(t)+dsn), open(t, file+dsn)
	execAll(t, a, `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT)`, `SELECT velosync_wait(20)`)
	execAll(t, b, `SELECT velosync_wait(20)`)
	read, look := follow(t, b), open(t, file)
	const rows = 21
	var late []time.Duration
	for n := range rows {
		visible := make(chan time.Time, 1)
		go func() {
			for t.Context().Err() == nil {
				found := 0
				if err := look.QueryRow(`SELECT count(*) FROM notes WHERE id = ?`, fmt.Sprint(n)).Scan(&found); err == nil && found == 1 {
					break
				}
				time.Sleep(time.Millisecond)
			}
			visible <- time.Now()
		}()
		execAll(t, a, fmt.Sprintf(`INSERT INTO notes VALUES ('%d', 'x')`, n))
		if got, want := read(), fmt.Sprintf("insert notes[%d] remote", n); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		told := time.Now()
		late = append(late, told.Sub(<-visible))
	}
	slices.Sort(late)
	if late[rows/2] > 25*time.Millisecond { // polls alone would take up to 100
		t.Errorf("rows were told %v after they could be read", late)
	}
}
