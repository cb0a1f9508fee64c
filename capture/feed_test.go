package capture

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/capture/change"
)

// A follower is a feed of a file on a connection of its own, and that connection's clock.
type follower struct {
	*Feed
	d   *Device
	now time.Time
}

func (f *file) follow(t *testing.T, limit int, tables ...string) *follower {
	t.Helper()
	var path string
	if _, err := f.c.Row(`SELECT file FROM pragma_database_list WHERE name = 'main'`, nil, &path); err != nil {
		t.Fatal(err)
	}
	d, _ := openFile(t, path)
	w := &follower{d: d, now: time.Now()}
	d.o.Now = func() time.Time { return w.now }
	feed, err := d.Follow(limit, tables...)
	if err != nil {
		t.Fatal(err)
	}
	w.Feed = feed
	if got := w.next(t); got != "lossy" {
		t.Fatalf("the first look: %q, want lossy", got)
	}
	return w
}

// next is one look, as text.
func (w *follower) next(t *testing.T) string {
	t.Helper()
	c, err := w.Next()
	if err != nil {
		t.Fatal(err)
	}
	if c.Lossy {
		if c.Rows != nil {
			t.Errorf("lossy, with rows %v", c.Rows)
		}
		return "lossy"
	}
	lines := make([]string, len(c.Rows))
	for i, r := range c.Rows {
		lines[i] = fmt.Sprintf("%s %s", r.Op, r.Table)
		for _, k := range r.Key {
			lines[i] += fmt.Sprintf(" %T:%v", k, k)
		}
		if r.Remote {
			lines[i] += " remote"
		}
	}
	return strings.Join(lines, "\n")
}

func (w *follower) want(t *testing.T, lines ...string) {
	t.Helper()
	if diff := cmp.Diff(strings.Join(lines, "\n"), w.next(t)); diff != "" {
		t.Errorf("the feed differs (-want +got):\n%s", diff)
	}
}

func TestFeed_local(t *testing.T) {
	f := newFile(t, kv+`CREATE TABLE pairs(a INT NOT NULL, b BLOB NOT NULL, v, PRIMARY KEY (a, b)); SELECT velosync_track('pairs');
		INSERT INTO kv VALUES ('old', 1, 1, 'u0')`)
	w, pairs := f.follow(t, 0), f.follow(t, 0, "PAIRS")
	w.want(t)
	run(t, f.Device, `INSERT INTO kv VALUES ('k', 1, 1, 'u')`)
	w.want(t, "insert kv string:k")
	w.want(t)
	// One commit, and several: each row once.
	run(t, f.Device, `BEGIN; UPDATE kv SET a = 2 WHERE k = 'k'; UPDATE kv SET b = 2 WHERE k = 'k'; INSERT INTO pairs VALUES (1, x'00ff', 1); COMMIT; DELETE FROM kv WHERE k = 'old'`)
	w.want(t, "update kv string:k", "insert pairs int64:1 []uint8:[0 255]", "delete kv string:old")
	pairs.want(t, "insert pairs int64:1 []uint8:[0 255]")
	run(t, f.Device, `INSERT INTO kv VALUES ('n', 1, 1, NULL); UPDATE kv SET a = 3 WHERE k = 'n'; INSERT INTO kv VALUES ('gone', 1, 1, NULL); DELETE FROM kv WHERE k = 'gone';
		DELETE FROM kv WHERE k = 'k'; INSERT INTO kv VALUES ('k', 9, 9, 'u')`)
	w.want(t, "insert kv string:n", "delete kv string:gone", "update kv string:k")
	// A key that changes is another row; a REPLACE takes away what stood in its way.
	run(t, f.Device, `UPDATE kv SET k = 'm' WHERE k = 'n'; INSERT OR REPLACE INTO kv VALUES ('r', 1, 1, 'u')`)
	w.want(t, "delete kv string:n", "insert kv string:m", "delete kv string:k", "insert kv string:r")
	run(t, f.Device, `INSERT OR IGNORE INTO kv VALUES ('x', 1, 1, 'u')`) // evicts nothing
	w.want(t)
	run(t, f.Device, `BEGIN; INSERT INTO kv VALUES ('undone', 1, 1, NULL); ROLLBACK`)
	w.want(t)
}

// TestFeed_rounds: what a round brings is told, and so is what it takes from the log before
// it was looked at.
func TestFeed_rounds(t *testing.T) {
	a, b := newFile(t, kv+`INSERT INTO kv VALUES ('1', 1, 1, NULL), ('2', 1, 1, NULL)`), newFile(t, "")
	ra := a.begin(t)
	b.sync(t, answer(pushOf(t, ra, Limits{}), ra.Tables, 2))
	a.finish(t, ra, &change.Pull{Tables: ra.Tables, To: 2})

	w, slow := b.follow(t, 0), b.follow(t, 0)
	run(t, a.Device, `UPDATE kv SET a = 2 WHERE k = '1'; DELETE FROM kv WHERE k = '2'; INSERT INTO kv VALUES ('3', 1, 1, NULL)`)
	ra = a.begin(t)
	theirs := answer(pushOf(t, ra, Limits{}), nil, 5)
	run(t, b.Device, `INSERT INTO kv VALUES ('mine', 1, 1, NULL)`)
	w.want(t, "insert kv string:mine")
	b.sync(t, theirs)
	w.want(t, "delete kv string:2 remote", "update kv string:1 remote", "insert kv string:3 remote")
	if got := column(t, b.Device, `SELECT count(*) FROM _velosync_wal WHERE op <> 'X'`)[0]; got != int64(0) {
		t.Fatalf("the log holds %v rows after the round, want 0", got)
	}
	run(t, b.Device, `UPDATE kv SET b = 7 WHERE k = 'mine'`)
	slow.want(t, "insert kv string:mine", "delete kv string:2 remote", "update kv string:1 remote", "insert kv string:3 remote")
	w.want(t, "update kv string:mine")
	b.sync(t, &change.Pull{To: 6})
	w.want(t)

	// Nobody follows: rounds write nothing down, and what was written leaves.
	for _, f := range []*follower{w, slow} {
		for range 2 {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.sync(t, &change.Pull{To: 7})
	if got := column(t, b.Device, `SELECT (SELECT count(*) FROM _velosync_feed) + (SELECT count(*) FROM _velosync_feed_reader)`)[0]; got != int64(0) {
		t.Errorf("%v rows are kept for nobody", got)
	}
}

// TestFeed_compacted: the log is folded in place between two looks.
func TestFeed_compacted(t *testing.T) {
	f := newFile(t, kv)
	f.o.CompactAbove = 10
	w := f.follow(t, 0)
	run(t, f.Device, `INSERT INTO kv VALUES ('k', 0, 0, NULL), ('l', 0, 0, NULL)`)
	w.want(t, "insert kv string:k", "insert kv string:l")
	for i := range 20 {
		run(t, f.Device, fmt.Sprintf(`UPDATE kv SET a = %d + 1 WHERE k = 'k'`, i))
	}
	run(t, f.Device, `DELETE FROM kv WHERE k = 'l'`)
	if gone, err := f.Compact(); err != nil || gone < 19 {
		t.Fatalf("compacted %d rows, %v", gone, err)
	}
	w.want(t, "insert kv string:k", "delete kv string:l") // folded into its insert
}

// TestFeed_lossy: what can't be named is told as that.
func TestFeed_lossy(t *testing.T) {
	t.Run("more rows than a look may name", func(t *testing.T) {
		f := newFile(t, kv)
		w := f.follow(t, 3)
		run(t, f.Device, `INSERT INTO kv(k) VALUES (1), (2), (3)`)
		w.want(t, "insert kv string:1", "insert kv string:2", "insert kv string:3")
		run(t, f.Device, `INSERT INTO kv(k) VALUES (4), (5), (6), (7)`)
		w.want(t, "lossy")
		run(t, f.Device, `INSERT INTO kv(k) VALUES (8)`)
		w.want(t, "insert kv string:8")
	})
	t.Run("more than a round writes down", func(t *testing.T) {
		f := newFile(t, kv)
		w := f.follow(t, 1<<20)
		run(t, f.Device, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO kv(k) SELECT i FROM n`, feedKept+1))
		f.sync(t, &change.Pull{To: feedKept + 1})
		w.want(t, "lossy")
		w.want(t)
	})
	t.Run("rounds overtake it", func(t *testing.T) {
		f := newFile(t, kv)
		w := f.follow(t, 1<<20)
		for i := range 3 {
			run(t, f.Device, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO kv(k) SELECT %d || '-' || i FROM n`, feedKept/2, i))
			f.sync(t, &change.Pull{To: change.Seq((i + 1) * feedKept / 2)})
		}
		if got := column(t, f.Device, `SELECT count(*) FROM _velosync_feed`)[0]; got != int64(feedKept) {
			t.Errorf("%v rows are kept, want %d", got, feedKept)
		}
		w.want(t, "lossy")
	})
	t.Run("taken to be gone", func(t *testing.T) {
		f := newFile(t, kv)
		clock := time.Now()
		f.o.Now = func() time.Time { return clock }
		w := f.follow(t, 0)
		for range 5 { // each look says that it lives
			w.now = w.now.Add(feedLease * 2 / 3)
			clock = w.now
			run(t, f.Device, `INSERT INTO kv(k) VALUES (abs(random()))`)
			f.sync(t, &change.Pull{To: f.seen(t) + 1})
			if got := w.next(t); !strings.HasPrefix(got, "insert kv ") {
				t.Fatalf("got %q", got)
			}
		}
		clock = w.now.Add(feedLease + time.Second)
		run(t, f.Device, `INSERT INTO kv(k) VALUES ('missed')`)
		f.sync(t, &change.Pull{To: f.seen(t) + 1})
		w.now = clock
		w.want(t, "lossy")
		run(t, f.Device, `INSERT INTO kv(k) VALUES ('next')`)
		w.want(t, "insert kv string:next")
	})
	t.Run("a program that knows no feeds moved the file", func(t *testing.T) {
		f := newFile(t, kv)
		w := f.follow(t, 0)
		run(t, f.Device, `UPDATE _velosync_state SET seen = seen + 1`)
		w.want(t, "lossy")
		w.want(t)
	})
	t.Run("untracked", func(t *testing.T) {
		f := newFile(t, kv)
		w := f.follow(t, 0)
		run(t, f.Device, `INSERT INTO kv(k) VALUES (1); SELECT velosync_untrack('kv')`)
		w.want(t, "lossy")
	})
	t.Run("renamed, then dropped", func(t *testing.T) {
		f := newFile(t, kv)
		w := f.follow(t, 0)
		run(t, f.Device, `ALTER TABLE kv RENAME TO pairs; INSERT INTO pairs(k) VALUES (1)`)
		w.want(t, "lossy")
		run(t, f.Device, `INSERT INTO pairs(k) VALUES (2)`)
		w.want(t, "insert pairs string:2")
		run(t, f.Device, `DROP TABLE pairs`)
		w.want(t, "lossy")
	})
	t.Run("rows that got other numbers", func(t *testing.T) {
		f := newFile(t, `CREATE TABLE n(id INTEGER PRIMARY KEY, v); SELECT velosync_track('n', '{"ids":"renumber"}'); INSERT INTO n VALUES (1, 'a')`)
		w := f.follow(t, 0)
		if n, err := f.Renumber([]*change.Clash{{Table: "n", IDs: [][2]int64{{1, 1}}, Next: 5}}); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		w.want(t, "lossy")
	})
}

func (f *file) seen(t *testing.T) change.Seq {
	t.Helper()
	s, err := f.State()
	if err != nil {
		t.Fatal(err)
	}
	return s.Seen
}

// TestFeed_newFile: a file that tracks nothing yet.
func TestFeed_newFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	d, _ := openFile(t, path)
	r, _ := openFile(t, path)
	f := &file{Device: d, reader: r}
	w := f.follow(t, 0)
	run(t, d, kv+`INSERT INTO kv(k) VALUES ('k')`)
	w.want(t, "insert kv string:k")
}

// TestFeed_parked: a row that waits is tried in each round, and a try is no change.
func TestFeed_parked(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, u) VALUES ('mine', 'mail'), ('x', 'other')`)
	f.sync(t, &change.Pull{To: 1})
	w := f.follow(t, 0)
	f.sync(t, &change.Pull{To: 2, Blocks: []change.Block{block("x", 4, "mail")}})
	w.next(t)
	if a := f.sync(t, &change.Pull{To: 3}); a.Parked != 1 {
		t.Fatalf("%d rows parked, want 1", a.Parked)
	}
	w.want(t)
	run(t, f.Device, `DELETE FROM kv WHERE k = 'mine'`)
	f.sync(t, &change.Pull{To: 4})
	w.want(t, "delete kv string:mine", "update kv string:x remote")
}
