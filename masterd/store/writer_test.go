package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

func openTest(t testing.TB, dir string, o Options) (*SQLite, *space) {
	t.Helper()
	e, err := OpenSQLite(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	s, err := e.Space(context.Background(), "notes")
	if err != nil {
		t.Fatal(err)
	}
	return e, s.(*space)
}

// pushOf is a push of one row of a table of blobs.
func pushOf(n byte, names []change.Name, size int) *change.Push {
	tables := change.Schema{{
		Name: "b", SQL: "CREATE TABLE b (id INT PRIMARY KEY NOT NULL, x BLOB)",
		Columns: []change.Column{{Name: "id", Type: "INT", NotNull: true}, {Name: "x", Type: "BLOB"}}, Key: []int{0},
	}}
	return &change.Push{
		Device: change.DeviceID{1}, Names: append(names, change.Name{n}), Schema: tables.Digest(), Tables: tables, Through: change.LSN(n),
		Blocks: []change.Block{{Regs: 1, Keys: []change.Value{int64(n)}, Columns: [][]change.Value{{make([]byte, size)}}, Stamps: []change.EditStamp{{LSN: change.LSN(n)}}}},
	}
}

func (s *space) syncOne(p *change.Push) (*change.Pull, error) {
	return s.Sync(context.Background(), "", p, func(yield func(*change.Push, error) bool) { yield(p, nil) })
}

// waitQueue waits until so many jobs wait.
func (s *space) waitQueue(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		s.queueMu.Lock()
		have := len(s.queue)
		s.queueMu.Unlock()
		if have == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d jobs wait, want %d", have, n)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWriter_group(t *testing.T) {
	_, s := openTest(t, t.TempDir(), Options{})
	s.turn <- struct{}{} // nobody can begin
	var mu sync.Mutex
	groups := make(map[*tx]int)
	results := make([]error, 6)
	broken := errors.New("broken")
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	for i := range results {
		wait.Add(1)
		go func() {
			defer wait.Done()
			j := &job{ctx: context.Background(), durable: true, do: func(t *tx) error {
				mu.Lock()
				defer mu.Unlock()
				groups[t]++
				d := device{id: change.DeviceID{byte(i + 1)}}
				if err := t.putDevice(&d); err != nil {
					return err
				}
				if i == 4 {
					return broken
				}
				return nil
			}}
			if i == 5 {
				j.ctx = ctx
			}
			results[i] = s.write(j)
		}()
	}
	s.waitQueue(t, 6)
	cancel()
	s.waitQueue(t, 5)
	<-s.turn
	wait.Wait()
	if len(groups) != 1 {
		t.Errorf("%d transactions, want 1", len(groups))
	}
	for i, err := range results[:4] {
		if err != nil || s.device(change.DeviceID{byte(i + 1)}).site == 0 {
			t.Errorf("job %d: %v", i, err)
		}
	}
	if results[4] != broken || s.device(change.DeviceID{5}).site != 0 {
		t.Errorf("the bad job: %v", results[4])
	}
	if !errors.Is(results[5], context.Canceled) || s.device(change.DeviceID{6}).site != 0 {
		t.Errorf("the cancelled job: %v", results[5])
	}
	if n := len(s.siteList()); n != 4 {
		t.Errorf("%d sites, want 4", n)
	}
}

func TestWriter_panic(t *testing.T) {
	_, s := openTest(t, t.TempDir(), Options{})
	func() {
		defer func() {
			if recover() != "oh" {
				t.Error("the panic was swallowed")
			}
		}()
		_ = s.write(&job{ctx: context.Background(), do: func(*tx) error { panic("oh") }})
	}()
	if _, err := s.syncOne(pushOf(1, nil, 10)); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

func TestWriter_diskFull(t *testing.T) {
	_, s := openTest(t, t.TempDir(), Options{})
	if _, err := s.syncOne(pushOf(1, nil, 10)); err != nil {
		t.Fatal(err)
	}
	if err := s.writer.conn.Script("PRAGMA max_page_count = 40"); err != nil {
		t.Fatal(err)
	}
	p := pushOf(2, []change.Name{{1}}, 1<<20)
	_, err := s.syncOne(p)
	var full sqlite3.Error
	if !errors.As(err, &full) || full.Code != sqlite3.ErrFull {
		t.Fatalf("error %v, want a full disk", err)
	}
	if head, _ := s.Head(); head != 1 {
		t.Errorf("head %d after a failed push", head)
	}
	// There is room again: the same push is applied, under the same seq.
	pull, err := s.syncOne(p)
	if err != nil || pull.To != 2 || pull.Applied != 2 {
		t.Errorf("pull %+v, %v", pull, err)
	}
	if st, err := s.Stats(context.Background()); err != nil || st.Rows != 2 {
		t.Errorf("stats %+v, %v", st, err)
	}
}

func TestWriter_locked(t *testing.T) {
	dir := t.TempDir()
	e1, s1 := openTest(t, dir, Options{})
	if _, err := s1.syncOne(pushOf(1, nil, 10)); err != nil {
		t.Fatal(err)
	}
	_, s2 := openTest(t, dir, Options{})
	_, err := s2.syncOne(pushOf(2, []change.Name{{1}}, 10))
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Space != "notes" {
		t.Fatalf("error %v, want a *LockedError", err)
	}
	if err := e1.Close(); err != nil {
		t.Fatal(err)
	}
	// It takes over, and knows what the other did.
	pull, err := s2.syncOne(pushOf(2, []change.Name{{1}}, 10))
	if err != nil || pull.To != 2 || len(pull.Epochs) != 2 {
		t.Errorf("pull %+v, %v", pull, err)
	}
}

// Somebody else holds the file's write lock: the push fails, and is applied later.
func TestWriter_busy(t *testing.T) {
	_, s := openTest(t, t.TempDir(), Options{})
	if _, err := s.syncOne(pushOf(1, nil, 10)); err != nil {
		t.Fatal(err)
	}
	if err := s.writer.conn.Script("PRAGMA busy_timeout = 1"); err != nil {
		t.Fatal(err)
	}
	raw, err := open(s.path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	other := vsql.NewConn(raw)
	defer other.Close()
	err = other.Tx(func() error {
		if _, err := s.syncOne(pushOf(2, []change.Name{{1}}, 10)); !busy(err) {
			t.Errorf("error %v, want busy", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.syncOne(pushOf(2, []change.Name{{1}}, 10)); err != nil {
		t.Error(err)
	}
}

func TestWriter_settings(t *testing.T) {
	_, s := openTest(t, t.TempDir(), Options{})
	if _, err := s.syncOne(pushOf(1, nil, 10)); err != nil {
		t.Fatal(err)
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "0", "trusted_schema": "0", "page_size": "8192"} {
		var got change.Value
		if _, err := s.writer.conn.Row("PRAGMA "+pragma, nil, &got); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s is %v, %v, want %s", pragma, got, err, want)
		}
	}
}

func TestConflictView(t *testing.T) {
	_, s := openTest(t, t.TempDir(), Options{Now: func() time.Time { return time.UnixMilli(1_700_000_000_000) }})
	p := pushOf(1, nil, 2)
	p.Tables[0].SQL = "CREATE TABLE b (id INT PRIMARY KEY NOT NULL, x BLOB CHECK (length(x) < 2))"
	p.Schema = p.Tables.Digest()
	if _, err := s.syncOne(p); err != nil {
		t.Fatal(err)
	}
	err := s.readers.with(func(c *vsql.Conn) error {
		return c.Query(`SELECT "table", "key", kind, rule, reason, lost, kept, device, at FROM velosync_conflicts`, nil, func(row []change.Value) error {
			got := fmt.Sprintln(row)
			for _, want := range []string{"b", "1", "rejected", "constraint", "CHECK constraint failed", `{"x":"0000"}`, "<nil>", "01000000", "2023-11-14T22:13:20Z"} {
				if !strings.Contains(got, want) {
					t.Errorf("row %s, want %s in it", got, want)
				}
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}
