package replicator_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
)

// TestScenario_34_compaction: the log is compacted in place while a push is in flight whose
// answer will be lost, and what was inserted and deleted between two rounds leaves nothing.
func TestScenario_34_compaction(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	line := &switchboard{}
	t.Cleanup(line.http.CloseIdleConnections)
	a := newDevice(t, m, "a", func(o *replicator.Options) { o.Transport, o.CompactAbove = line, 20 })
	b := newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, threeNotes)
	settled(t, m, a, b)
	b.exec(`UPDATE notes SET body = 'by b', score = 5 WHERE id = 'x'`)
	b.sync()
	// The push has x's title and body, is applied, and its answer is lost.
	a.exec(`UPDATE notes SET title = 'first', body = 'first' WHERE id = 'x'`, `INSERT INTO notes VALUES ('new', '0', '', 1)`)
	churn := func() {
		for i := range 30 {
			a.exec(fmt.Sprintf(`UPDATE notes SET title = 'churn %d' WHERE id = 'x'`, i), fmt.Sprintf(`UPDATE notes SET title = '%d' WHERE id = 'new'`, i),
				`INSERT INTO notes VALUES ('short', 'lived', '', 1)`, `DELETE FROM notes WHERE id = 'short'`)
		}
	}
	line.set(nil, func(*http.Request) error { churn(); return errCut })
	_ = a.fails()
	const log = `SELECT count(*) FROM _velosync_wal WHERE op <> 'X'`
	before := a.rows(log)
	line.set(func(*http.Request) error { return errCut }, nil) // compacted in the next round, which does not get far
	_ = a.fails()
	if after := a.rows(log); before != "121" || after == before {
		t.Errorf("%s log rows, %s after compaction: nothing is tested", before, after)
	}
	line.set(nil, nil)
	head := spaceStats(t, m).Head
	if r := a.sync(); r.PushedRows != 3 || r.LostRows != 1 { // x, new, and the delete of short
		t.Errorf("%+v: want 3 rows pushed, and the body lost to b's", r)
	}
	// x's title, new's, and a number for the delete of a row that nobody ever saw. The body
	// that was decided before is not decided again.
	if got := spaceStats(t, m).Head - head; got != 3 {
		t.Errorf("%d changes at the master, want 3", got)
	}
	settled(t, m, a, b)
	b.want(allNotes, "new 29  1\nx churn 29 by b 5\ny soup hot 1\nz rice white 1")
	a.want(`SELECT mine, theirs FROM velosync_conflicts`, `{"body":"first"} {"body":"by b"}`)
	if st := spaceStats(t, m); st.Tombstones != 0 {
		t.Errorf("%d tombstones of a row that the master never had", st.Tombstones)
	}
}

// TestScenario_35_kill: SIGKILL at each numbered point: of an application in its
// transaction, of a replicator before each step of its round, and of the master before and
// after each request. Nothing is half done, lost, or done twice.
func TestScenario_35_kill(t *testing.T) {
	t.Run("application", func(t *testing.T) {
		m := masterdtest.New(t, masterdtest.Options{Log: quiet})
		a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
		a.exec(notes, trackNotes, threeNotes)
		settled(t, m, a, b)
		for n := 1; ; n++ {
			before := a.rows(allNotes)
			killed := child{Role: "app", File: a.file, DieAt: n, Script: []string{`BEGIN IMMEDIATE`, fmt.Sprintf(`INSERT INTO notes VALUES ('new %d', 'a', 'b', 1)`, n),
				fmt.Sprintf(`UPDATE notes SET title = 'round %d' WHERE id = 'x'`, n), `DELETE FROM notes WHERE id LIKE 'new%' AND id <> 'new ` + fmt.Sprint(n) + `'`, `COMMIT`}}.run(t)
			after := a.rows(allNotes)
			if committed := n >= 6; committed == (after == before) {
				t.Errorf("killed at point %d: changed is %t, want it if the transaction was committed", n, after != before)
			}
			settled(t, m, a, b)
			b.want(allNotes, after)
			if !killed {
				if n != 7 {
					t.Errorf("%d points, want 6", n-1)
				}
				break
			}
		}
	})
	t.Run("replicator", func(t *testing.T) {
		m := masterdtest.New(t, masterdtest.Options{Log: quiet, Insecure: true, Store: store.Options{PageRows: 2}})
		a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
		a.exec(notes, trackNotes, threeNotes)
		settled(t, m, a, b)
		if err := a.r.Close(); err != nil { // the replicator of a is another process from here on
			t.Fatal(err)
		}
		points := 0
		for n := 1; ; n++ {
			head := spaceStats(t, m).Head
			crashWork(a, b, n)
			b.sync()
			mine := child{Role: "replicator", File: a.file, Master: m.URL, DieAt: n}
			killed := mine.run(t)
			// All of the pull or none of it, and all that was written here.
			a.want(fmt.Sprintf(`SELECT (SELECT count(*) FROM notes WHERE title = 'b %[1]d') IN (0, 3), (SELECT body FROM notes WHERE id = 'y'), (SELECT title FROM notes WHERE id = 'a 2')`, n), fmt.Sprintf("1 a %[1]d a %[1]d", n))
			mine.DieAt = 0
			for range 2 {
				mine.run(t)
			}
			b.sync()
			mine.run(t)
			same(t, m, a, b)
			a.want(`SELECT count(*) FROM velosync_conflicts`, fmt.Sprint(n))
			// Of b x and two rows, of a y's body and two rows; x's title, which loses, has one too.
			if got := int(spaceStats(t, m).Head - head); got != 7 {
				t.Errorf("point %d: the master counts %d changes, want 7", n, got)
			}
			if !killed {
				break
			}
			points++
		}
		if points != 7 { // begin, part, push, page, apply, ack, and the end
			t.Errorf("%d points", points)
		}
	})
	t.Run("master", func(t *testing.T) {
		dir := t.TempDir()
		listen, stop := child{Role: "master", File: dir, Listen: "127.0.0.1:0"}.startMaster(t)
		defer func() { stop() }()
		m := &masterdtest.Master{URL: "http://" + listen, Space: "default", Dir: dir} // for those who read its file
		up := func(dieAt int) func() {
			_, stop := child{Role: "master", File: dir, Listen: listen, DieAt: dieAt}.startMaster(t)
			return stop
		}
		open := func(name string) *device {
			return openDevice(t, replicator.Options{Master: m.URL, Name: name}, func(o *replicator.Options) { o.Parts, o.Log = capture.Limits{Rows: 2}, quiet })
		}
		a, b := open("a"), open("b")
		a.exec(notes, trackNotes, threeNotes)
		settled(t, m, a, b)
		points := 0
		for n := 1; ; n++ {
			crashWork(a, b, n)
			b.sync()
			stop()
			stop = up(n)
			_, err := a.r.Sync(context.Background())
			stop()
			stop = up(0)
			for range 2 { // the connections of before are gone
				for _, d := range []*device{a, b} {
					if _, err := d.r.Sync(context.Background()); err != nil && !errors.Is(err, replicator.ErrOffline) {
						t.Fatal(err)
					}
				}
			}
			settled(t, m, a, b)
			a.want(`SELECT count(*) FROM velosync_conflicts`, fmt.Sprint(n))
			a.want(`SELECT title, body FROM notes WHERE id < 'z' ORDER BY id`, fmt.Sprintf("a %[1]d \na %[1]d \nb %[1]d \nb %[1]d \nb %[1]d green\nsoup a %[1]d", n))
			if err == nil {
				break
			}
			if !errors.Is(err, replicator.ErrOffline) {
				t.Errorf("point %d: %v, want that the master can't be reached", n, err)
			}
			points++
		}
		if points < 8 { // two of each part, page, push and ack
			t.Errorf("%d points", points)
		}
	})
}

// crashWork is what each device writes before the n-th point: parts of two rows, pages of
// two rows, and a conflict that a loses.
func crashWork(a, b *device, n int) {
	a.exec(fmt.Sprintf(`UPDATE notes SET title = 'a %[1]d', score = %[1]d WHERE id = 'x'`, n), fmt.Sprintf(`UPDATE notes SET body = 'a %d' WHERE id = 'y'`, n),
		fmt.Sprintf(`INSERT INTO notes VALUES ('a 1', 'a %[1]d', '', 1), ('a 2', 'a %[1]d', '', 1) ON CONFLICT DO UPDATE SET title = excluded.title`, n))
	b.exec(fmt.Sprintf(`UPDATE notes SET title = 'b %[1]d', score = %[1]d + 1000 WHERE id = 'x'`, n),
		fmt.Sprintf(`INSERT INTO notes VALUES ('b 1', 'b %[1]d', '', 1), ('b 2', 'b %[1]d', '', 1) ON CONFLICT DO UPDATE SET title = excluded.title`, n))
}

// TestScenario_35_fullDisk: a pull that does not fit leaves the file as it was, and comes
// when there is room; so does a write of the application, with its log row.
func TestScenario_35_fullDisk(t *testing.T) {
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
	var e sqlite3.Error
	if err := b.fails(); !errors.As(err, &e) || e.Code != sqlite3.ErrFull {
		t.Fatalf("error = %v, want that the disk is full", err)
	}
	b.want(`SELECT count(*) FROM sqlite_schema WHERE name = 'notes'`, "0")
	b.want(`SELECT seen, parked FROM velosync_status`, "0 0") // no reason to park
	pages("1000000")
	settled(t, m, b, a)
	b.want(`SELECT count(*), sum(length(body)) FROM notes`, "200 2000000")

	conn, err := b.db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	do := func(s string) error { _, err := conn.ExecContext(context.Background(), s); return err }
	if err := do(`PRAGMA max_page_count = ` + b.rows(`SELECT page_count FROM pragma_page_count`)); err != nil {
		t.Fatal(err)
	}
	if err := do(`INSERT INTO notes VALUES ('big', '', hex(zeroblob(100000)), 1)`); !errors.As(err, &e) || e.Code != sqlite3.ErrFull {
		t.Errorf("the write: %v", err)
	}
	b.want(`SELECT pending FROM velosync_status`, "0")
	if err := do(`PRAGMA max_page_count = 1000000`); err != nil {
		t.Fatal(err)
	}
	b.exec(`INSERT INTO notes VALUES ('big', '', hex(zeroblob(100000)), 1)`)
	settled(t, m, b, a)
}

// TestScenario_35_readOnlyFile: a file that can't be written is named, and left alone.
func TestScenario_35_readOnlyFile(t *testing.T) {
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

// TestScenario_35_corruptPage: of a file with broken pages nothing is pushed.
func TestScenario_35_corruptPage(t *testing.T) {
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
	space, err := m.Engine.Lookup(context.Background(), m.Space)
	if errors.Is(err, store.ErrNoSpace) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if s, err := space.Stats(context.Background()); err != nil || s.Rows != 0 {
		t.Errorf("the master took %d rows of a push that could not be read whole (%v)", s.Rows, err)
	}
}

// TestScenario_35_corruptLog: a log row that says what no trigger says is an error that
// names it, and nothing is pushed: least of all a delete.
func TestScenario_35_corruptLog(t *testing.T) {
	for _, x := range []struct{ name, do string }{
		{"no such table", `UPDATE _velosync_wal SET tbl = 99`},
		{"an operation that there is not", `UPDATE _velosync_wal SET op = 'Q'`},
		{"a composite key that is none", `UPDATE _velosync_wal SET pk = 'text' WHERE tbl = (SELECT id FROM _velosync_table WHERE name = 'two')`},
		{"a key that is NULL", `UPDATE _velosync_wal SET op = 'D', pk = NULL`},
		{"seen from the future", `UPDATE _velosync_wal SET seen = 1000000`},
		{"registers that there are not", `UPDATE _velosync_wal SET cols = 1 << 60`},
		{"columns that are text", `UPDATE _velosync_wal SET cols = 'all'`},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := masterdtest.New(t, masterdtest.Options{})
			a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
			a.exec(notes, `SELECT velosync_track('notes')`, `CREATE TABLE two(k1 TEXT NOT NULL, k2 TEXT NOT NULL, v, PRIMARY KEY(k1, k2))`, `SELECT velosync_track('two')`, threeNotes, `INSERT INTO two VALUES ('a', 'b', 1)`)
			settled(t, m, a, b)
			want := masterContent(t, m)
			a.exec(`UPDATE notes SET title = 'mine' WHERE id = 'x'`, `UPDATE two SET v = 2`)
			if _, err := a.db.Exec(x.do + ` ` + map[bool]string{true: `AND`, false: `WHERE`}[strings.Contains(x.do, "WHERE")] + ` lsn > (SELECT acked FROM _velosync_state)`); err != nil {
				return // the declaration of the log stands in its way
			}
			_, err := a.r.Sync(context.Background())
			t.Logf("the round: %v", err)
			if err == nil {
				t.Error("the round went through")
			} else if !strings.Contains(err.Error(), "log") {
				t.Errorf("error = %v, want it to speak of the log", err)
			}
			if got := masterContent(t, m); got != want {
				t.Errorf("the master took something: %s", firstDifference(got, want))
			}
			// The row itself is whole; logged by hand, it ships.
			a.exec(`DELETE FROM _velosync_wal WHERE lsn > (SELECT acked FROM _velosync_state)`, `SELECT velosync_touch('notes', 'x'), velosync_touch('two', 'a', 'b')`)
			settled(t, m, a, b)
			b.want(`SELECT title, v FROM notes, two WHERE notes.id = 'x'`, "mine 2")
		})
	}
}

// TestScenario_36_clocks: clocks that are years wrong, jump, or run backwards decide no
// more than a tie, and order among devices is that of true time where the clock's error is
// the same at the edit and at the round.
func TestScenario_36_clocks(t *testing.T) {
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	// now is true time; a device's clock is off by its skew.
	now := stopped
	m := masterdtest.New(t, masterdtest.Options{Log: quiet, Store: store.Options{Now: func() time.Time { return now }}})
	type skewed struct {
		*device
		skew time.Duration
	}
	open := func(name string, skew time.Duration) *skewed {
		s := &skewed{skew: skew}
		s.device = newDevice(t, m, name, func(o *replicator.Options) { o.Log, o.Now = quiet, func() time.Time { return now.Add(s.skew) } })
		return s
	}
	write := func(d *skewed, script string) {
		t.Helper()
		d.exec(script, fmt.Sprintf(`UPDATE _velosync_wal SET at = %d WHERE lsn > (SELECT acked FROM _velosync_state)`, now.Add(d.skew).UnixMilli()))
		now = now.Add(time.Second)
	}
	for _, skew := range []time.Duration{day, -day, 10 * year, -10 * year} {
		t.Run(skew.String(), func(t *testing.T) {
			a, b := open("a "+skew.String(), skew), open("b "+skew.String(), 0)
			a.exec(`CREATE TABLE IF NOT EXISTS notes(id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, score REAL)`, trackNotes, `DELETE FROM notes`, threeNotes)
			settled(t, m, a.device, b.device)
			b.exec(`UPDATE notes SET title = 'base'`)
			settled(t, m, b.device, a.device)
			write(a, `UPDATE notes SET title = 'a, earlier' WHERE id = 'x'`)
			write(b, `UPDATE notes SET title = 'b, later' WHERE id = 'x'`)
			write(b, `UPDATE notes SET title = 'b, earlier' WHERE id = 'y'`)
			write(a, `UPDATE notes SET title = 'a, later' WHERE id = 'y'`)
			a.exec(`UPDATE _velosync_wal SET at = at - 3000 WHERE pk = 'x' AND lsn > (SELECT acked FROM _velosync_state)`) // both were set to the last
			b.exec(`UPDATE _velosync_wal SET at = at - 1000 WHERE pk = 'x' AND lsn > (SELECT acked FROM _velosync_state)`)
			a.sync()
			settled(t, m, b.device, a.device)
			b.want(`SELECT title FROM notes WHERE id < 'z' ORDER BY id`, "b, later\na, later")
			if got := a.rows(`SELECT group_concat(DISTINCT rule) FROM velosync_conflicts`); got != "time" {
				t.Errorf("decided by %s, want time", got)
			}
			// The clock jumps between edit and round; what follows an edit follows it still.
			write(a, `UPDATE notes SET title = 'jumped' WHERE id = 'x'`)
			a.skew = -skew
			settled(t, m, a.device, b.device)
			write(b, `UPDATE notes SET title = 'followed' WHERE id = 'x'`)
			settled(t, m, b.device, a.device)
			a.want(`SELECT title FROM notes WHERE id = 'x'`, "followed")
			if err := errors.Join(a.r.Close(), b.r.Close()); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("backwards in a transaction", func(t *testing.T) {
		a, b := open("a back", 0), open("b back", 0)
		a.sync()
		b.sync()
		a.exec(`DELETE FROM notes`, threeNotes)
		settled(t, m, a.device, b.device)
		a.exec(`BEGIN; UPDATE notes SET title = '1' WHERE id = 'x'; UPDATE notes SET title = '2' WHERE id = 'x'; UPDATE notes SET body = '3' WHERE id = 'x'; DELETE FROM notes WHERE id = 'y'; INSERT INTO notes VALUES ('y', '4', '', 1); COMMIT`,
			fmt.Sprintf(`UPDATE _velosync_wal SET at = %d - 86400000 * lsn WHERE lsn > (SELECT acked FROM _velosync_state)`, now.UnixMilli()))
		settled(t, m, a.device, b.device)
		b.want(`SELECT title, body FROM notes ORDER BY id`, "2 3\n4 \nrice white")
	})
}
