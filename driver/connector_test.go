package driver

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// A fakeReplicator counts what a Connector does with it.
type fakeReplicator struct {
	starts, stops int
	startErr      error
	stopErr       error
	cfg           Config
	ended         bool // ctx had ended when stop was called
	finished      chan struct{}
}

func (f *fakeReplicator) start(ctx context.Context, cfg Config) (func() error, error) {
	f.starts++
	f.cfg = cfg
	if f.startErr != nil {
		return nil, f.startErr
	}
	f.finished = make(chan struct{})
	go func() {
		<-ctx.Done()
		close(f.finished)
	}()
	return func() error {
		f.stops++
		f.ended = ctx.Err() != nil
		<-f.finished
		return f.stopErr
	}, nil
}

func newTestConnector(t *testing.T, keys string) *Connector {
	t.Helper()
	c, err := NewConnector(filepath.Join(t.TempDir(), "app.db") + keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

const withMaster = "?_velosync_master=http://localhost:8080&_velosync_space=a"

func TestConnector_StartsOnceAndStops(t *testing.T) {
	c, f := newTestConnector(t, withMaster), &fakeReplicator{stopErr: errors.New("unsent rows")}
	c.start = f.start
	db := sql.OpenDB(c)
	if f.starts != 0 {
		t.Error("started before the first connection")
	}
	for range 3 {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if f.starts != 1 || f.stops != 0 {
		t.Errorf("after 3 connections: %d starts, %d stops; want 1, 0", f.starts, f.stops)
	}
	if f.cfg.Space != "a" || f.cfg.Master != "http://localhost:8080" {
		t.Errorf("started with %v", f.cfg)
	}
	if err := db.Close(); !errors.Is(err, f.stopErr) {
		t.Errorf("db.Close gave %v, want %v", err, f.stopErr)
	}
	if f.stops != 1 || !f.ended {
		t.Errorf("after Close: %d stops, context ended %t; want 1, true", f.stops, f.ended)
	}
	if err := c.Close(); !errors.Is(err, f.stopErr) || f.stops != 1 {
		t.Errorf("second Close: %v, %d stops; want %v, 1", err, f.stops, f.stopErr)
	}
	if _, err := c.Connect(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Connect after Close gave %v, want ErrClosed", err)
	}
}

func TestConnector_NoMaster(t *testing.T) {
	c, f := newTestConnector(t, "?_velosync_space=a"), &fakeReplicator{}
	c.start = f.start
	conn, err := c.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if f.starts != 0 {
		t.Error("started without a master")
	}
}

func TestConnector_StartFails(t *testing.T) {
	c, f := newTestConnector(t, withMaster), &fakeReplicator{startErr: errors.New("no luck")}
	c.start = f.start
	if conn, err := c.Connect(t.Context()); !errors.Is(err, f.startErr) || conn != nil {
		t.Errorf("Connect gave %v, %v; want nil, %v", conn, err, f.startErr)
	}
	f.startErr = nil
	conn, err := c.Connect(t.Context())
	if err != nil {
		t.Fatal("the next Connect did not try again:", err)
	}
	defer conn.Close()
}

func TestConnector_Hooks(t *testing.T) {
	c := newTestConnector(t, "")
	var calls []string
	c.hooks = []func(*sqlite3.SQLiteConn) error{
		func(conn *sqlite3.SQLiteConn) error {
			mode, err := pragma(conn, "journal_mode")
			calls = append(calls, mode)
			return err
		},
		func(conn *sqlite3.SQLiteConn) error {
			calls = append(calls, "second")
			return conn.RegisterFunc("velosync_answer", func() int64 { return 42 }, true)
		},
	}
	db := sql.OpenDB(c)
	defer db.Close()
	var got int
	if err := db.QueryRow(`SELECT velosync_answer()`).Scan(&got); err != nil || got != 42 {
		t.Errorf("got %d, %v; want 42", got, err)
	}
	if len(calls) != 2 || calls[0] != "wal" || calls[1] != "second" {
		t.Errorf("hooks saw %q, want wal and second", calls)
	}
	want := errors.New("no")
	c.hooks = append(c.hooks, func(*sqlite3.SQLiteConn) error { return want })
	if _, err := c.Connect(t.Context()); !errors.Is(err, want) {
		t.Errorf("Connect gave %v, want the hook's error", err)
	}
}

func TestConnector_CancelledConnect(t *testing.T) {
	c := newTestConnector(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Connect(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// A file that turns out to be read-only is opened as it is, though WAL was to be set.
func TestSettings_WALOnReadOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "app.db")
	db, err := sql.Open(Name, file+"?_journal_mode=DELETE")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE t(x)`); err != nil {
		t.Fatal(err)
	}
	c := newTestConnector(t, "")
	c.open = settings{dsn: "file:" + file + "?mode=ro", wal: true}
	conn, err := c.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
