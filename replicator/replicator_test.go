package replicator_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	_ "github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/replicator/wire"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := childMain(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// A device is a file that an application has open, and its replicator.
type device struct {
	t    *testing.T
	db   *sql.DB
	file string
	o    replicator.Options
	r    *replicator.Replicator
}

func newDevice(t *testing.T, m *masterdtest.Master, name string, change func(*replicator.Options)) *device {
	t.Helper()
	return openDevice(t, replicator.Options{Master: m.URL, Space: m.Space, Token: m.Token(name), Name: name}, change)
}

func openDevice(t *testing.T, o replicator.Options, change func(*replicator.Options)) *device {
	t.Helper()
	d := &device{t: t, file: filepath.Join(t.TempDir(), o.Name+".db"), o: o}
	d.o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	d.o.Retry.Times = -1 // a cut ends the round; tests of Retry set it
	if change != nil {
		change(&d.o)
	}
	var err error
	if d.db, err = sql.Open("velosync", d.file); err != nil {
		t.Fatal(err)
	}
	if d.r, err = replicator.New(d.file, d.o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.r.Close(), d.db.Close()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *device) exec(script ...string) {
	d.t.Helper()
	for _, s := range script {
		if _, err := d.db.Exec(s); err != nil {
			d.t.Fatalf("%s: %v", s, err)
		}
	}
}

func (d *device) sync() replicator.Round {
	d.t.Helper()
	r, err := d.r.Sync(context.Background())
	if err != nil {
		d.t.Fatalf("sync %s: %v", d.o.Name, err)
	}
	return r
}

func (d *device) rows(query string) string {
	d.t.Helper()
	rows, err := d.db.Query(query)
	if err != nil {
		d.t.Fatal(err)
	}
	defer rows.Close()
	cols, _ := rows.Columns()
	var lines []string
	for rows.Next() {
		v := make([]any, len(cols))
		for i := range v {
			v[i] = new(any)
		}
		if err := rows.Scan(v...); err != nil {
			d.t.Fatal(err)
		}
		var s []string
		for _, x := range v {
			s = append(s, fmt.Sprint(*x.(*any)))
		}
		lines = append(lines, strings.Join(s, " "))
	}
	if err := rows.Err(); err != nil {
		d.t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func (d *device) want(query, want string) {
	d.t.Helper()
	if got := d.rows(query); got != want {
		d.t.Errorf("%s: %s\ngot:\n%s\nwant:\n%s", d.o.Name, query, got, want)
	}
}

const notes = `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, score REAL)`
const trackNotes = `SELECT velosync_track('notes', '{"weight":"score"}')`

func TestSync_twoDevices(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1)`)
	if r := a.sync(); r.PushedRows != 2 || r.PulledRows != 0 || !r.FirstSync {
		t.Errorf("first round of a: %+v", r)
	}
	if r := b.sync(); r.PulledRows != 2 || len(r.NewTables) != 1 {
		t.Errorf("first round of b: %+v", r)
	}
	const all = `SELECT * FROM notes ORDER BY id`
	b.want(all, a.rows(all))

	// Different columns: both are kept. The same: the heavier, though earlier.
	a.exec(`UPDATE notes SET title = 'black tea', score = 5 WHERE id = 'x'`)
	b.exec(`UPDATE notes SET body = 'strong' WHERE id = 'x'`, `UPDATE notes SET title = 'white tea' WHERE id = 'x'`, `DELETE FROM notes WHERE id = 'y'`)
	a.sync()
	if r := b.sync(); r.LostRows != 1 {
		t.Errorf("b lost %d writes, want 1: %+v", r.LostRows, r)
	}
	a.sync()
	a.want(all, "x black tea strong 5")
	b.want(all, a.rows(all))
	b.want(`SELECT rule, mine, theirs FROM velosync_conflicts`, `weight {"title":"white tea"} {"title":"black tea"}`)

	b.exec(`SELECT velosync_resolve(1, 'mine')`)
	b.sync()
	if r := a.sync(); r.LostRows != 0 || r.EchoRows != 0 {
		t.Errorf("after the conflict was settled: %+v", r)
	}
	a.want(all, "x white tea strong 5")
	for _, d := range []*device{a, b} {
		if r := d.sync(); r.PushedRows+r.PulledRows != 0 {
			t.Errorf("%s is not at rest: %+v", d.o.Name, r)
		}
	}
}

// A switchboard is a transport that can be out of order.
type switchboard struct {
	mu    sync.Mutex
	fail  func(*http.Request) error // before the request is sent
	after func(*http.Request) error // when the answer is there
	http  http.Transport
}

func (s *switchboard) set(fail, after func(*http.Request) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.after = fail, after
}

func (s *switchboard) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	fail, after := s.fail, s.after
	s.mu.Unlock()
	if fail != nil {
		if err := fail(r); err != nil {
			return nil, err
		}
	}
	resp, err := s.http.RoundTrip(r)
	if err == nil && after != nil {
		if err := after(r); err != nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return nil, err
		}
	}
	return resp, err
}

func TestSync_refused(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a := newDevice(t, m, "a", func(o *replicator.Options) { o.Token = "vst_wrong" })
	a.exec(notes, trackNotes)
	_, err := a.r.Sync(context.Background())
	var p *wire.Problem
	if !errors.As(err, &p) || p.Code != wire.CodeUnauthorized {
		t.Fatalf("error = %v, want unauthorized", err)
	}
	if err := a.r.Run(context.Background()); !errors.As(err, &p) {
		t.Errorf("Run goes on with a wrong token: %v", err)
	}
}

func TestSync_copiedFile(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Insecure: true})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	copied := newDevice(t, m, "copy", func(o *replicator.Options) {})
	_ = copied.r.Close()
	a.exec(`VACUUM INTO '` + copied.file + `2'`)
	c, err := replicator.New(copied.file+"2", copied.o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a.exec(`UPDATE notes SET title = 'by a'`)
	a.sync()
	db, err := sql.Open("velosync", copied.file+"2")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE notes SET body = 'by the copy'`); err != nil {
		t.Fatal(err)
	}
	var before, after string
	if err := db.QueryRow(`SELECT velosync_device()`).Scan(&before); err != nil {
		t.Fatal(err)
	}
	r, err := c.Sync(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow(`SELECT velosync_device()`).Scan(&after); err != nil {
		t.Fatal(err)
	}
	if before == after || r.Tries != 2 {
		t.Errorf("the copy kept its id %s after %d tries", after, r.Tries)
	}
	a.sync()
	a.want(`SELECT title, body FROM notes`, "by a by the copy")
}

func TestRun(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	open := func(name string) *sql.DB {
		db, err := sql.Open("velosync", filepath.Join(t.TempDir(), name+".db")+"?_velosync_master="+m.URL+"&_velosync_space="+m.Space+
			"&_velosync_token="+m.Token(name)+"&_velosync_track=notes")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		if _, err := db.Exec(strings.Replace(notes, "TABLE", "TABLE IF NOT EXISTS", 1)); err != nil {
			t.Fatal(err)
		}
		return db
	}
	a, b := open("a"), open("b")
	waitFor := func(db *sql.DB, query, want string) {
		t.Helper()
		var got string
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if err := db.QueryRow(query).Scan(&got); err == nil && got == want {
				return
			}
		}
		t.Fatalf("%s: %q, want %q", query, got, want)
	}
	for i, db := range []*sql.DB{a, b} {
		if _, err := db.Exec(`INSERT INTO notes(id, title) VALUES (?, 'hello')`, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		var done int
		if err := db.QueryRow(`SELECT velosync_wait(20)`).Scan(&done); err != nil || done != 1 {
			t.Fatalf("velosync_wait = %d, %v", done, err)
		}
	}
	waitFor(a, `SELECT count(*) FROM notes`, "2")
	waitFor(b, `SELECT count(*) FROM notes`, "2")
	m.Close() // offline is a normal state
	if _, err := a.Exec(`UPDATE notes SET title = 'written offline' WHERE id = '1'`); err != nil {
		t.Fatal(err)
	}
	var done int
	if err := a.QueryRow(`SELECT velosync_wait(0.2)`).Scan(&done); err != nil || done != 0 {
		t.Fatalf("offline: velosync_wait = %d, %v, want 0", done, err)
	}
	m.Reopen()
	waitFor(b, `SELECT title FROM notes WHERE id = '1'`, "written offline")
}

func TestNew_bad(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ file, master, want string }{
		{filepath.Join(dir, "a.db"), "sync.example.com", "https://sync.example.com"},
		{filepath.Join(dir, "a.db"), "ftp://x", "http or https"},
		{":memory:", "http://127.0.0.1:1", "in memory"},
		{filepath.Join(dir, "no", "a.db"), "http://127.0.0.1:1", "unable to open"},
	} {
		r, err := replicator.New(tt.file, replicator.Options{Master: tt.master})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New(%s, %s): %v, want it to say %q", tt.file, tt.master, err, tt.want)
		}
		if err == nil {
			r.Close()
		}
	}
}

// TestNew_rollbackJournal: a file that another program made, with SQLite's own default, is
// synced without the driver.
func TestNew_rollbackJournal(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	file := filepath.Join(t.TempDir(), "plain.db")
	db, err := sql.Open("sqlite3", file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(notes + `; INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := replicator.New(file, replicator.Options{Master: m.URL, Space: m.Space, Token: m.Token("plain"), Log: quiet, Track: []string{"notes"}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if round, err := r.Sync(context.Background()); err != nil || round.PushedRows != 1 {
		t.Errorf("%+v, %v: want one row pushed", round, err)
	}
}
