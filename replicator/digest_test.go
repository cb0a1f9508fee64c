package replicator_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/replicator/wire"
)

// behind runs statements that no trigger logs, as a blob write or another program's trick.
func (d *device) behind(script ...string) {
	d.t.Helper()
	d.exec(`UPDATE _velosync_state SET applying = 1`)
	d.exec(script...)
	d.exec(`UPDATE _velosync_state SET applying = 0`)
}

// everyRound makes each round compare so many rows.
func everyRound(rows int) func(*replicator.Options) {
	return func(o *replicator.Options) { o.DigestEvery, o.DigestRows = 1, rows }
}

// TestDigest: rows that changed, came and went while no trigger watched become what the
// master has, and what was here is kept.
func TestDigest(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", everyRound(4)), newDevice(t, m, "b", everyRound(4))
	a.exec(notes, trackNotes, `CREATE TABLE pairs(x INT NOT NULL, y BLOB NOT NULL, v UNIQUE, PRIMARY KEY (x, y)) WITHOUT ROWID`, `SELECT velosync_track('pairs')`,
		`INSERT INTO pairs VALUES (1, x'00', 'p'), (1, 'a', 'q'), (2, x'', NULL)`)
	for i := range 10 {
		a.exec(fmt.Sprintf(`INSERT INTO notes VALUES ('n%d', 'title', 'body', 1)`, i))
	}
	a.sync()
	b.sync()
	rounds := func(d *device) (rows int) {
		t.Helper()
		for range 8 { // 3 + 1 ranges, and as many again
			rows += d.sync().DivergedRows
		}
		return rows
	}
	for _, d := range []*device{a, b} {
		if n := rounds(d); n != 0 {
			t.Errorf("%d rows of %s differ, want none", n, d.o.Name)
		}
	}
	const all = `SELECT * FROM notes ORDER BY id`
	before, pairs := a.rows(all), a.rows(`SELECT x, hex(y), v FROM pairs`)
	b.behind(`UPDATE notes SET title = 'rot', score = 2 WHERE id = 'n3'`, `DELETE FROM notes WHERE id = 'n5'`, `INSERT INTO notes VALUES ('n99', 'ghost', 'x', 1)`,
		// Two rows exchange what is unique.
		`UPDATE pairs SET v = 'r' WHERE v = 'p'`, `UPDATE pairs SET v = 'p' WHERE v = 'q'`, `UPDATE pairs SET v = 'q' WHERE v = 'r'`)
	if n := rounds(b); n != 5 {
		t.Errorf("%d rows were healed, want 5", n)
	}
	b.want(all, before)
	b.want(`SELECT x, hex(y), v FROM pairs`, pairs)
	b.want(`SELECT diverged, conflicts, pending FROM velosync_status`, "5 5 0")
	b.want(`SELECT kind, rule, "key", mine, theirs FROM velosync_conflicts WHERE tbl = 'notes' ORDER BY "key"`,
		`diverged master n3 {"title":"rot","score":2.0} {"title":"title","score":1.0}
diverged master n5 <nil> {"title":"title","body":"body","score":1.0}
diverged master n99 {"title":"ghost","body":"x","score":1.0} <nil>`)
	if s := b.r.Status(); s.DivergedRows != 5 {
		t.Errorf("the status counts %d, want 5", s.DivergedRows)
	}
	if st := spaceStats(t, m); st.Divergences != 4 || st.Digests != 26 {
		t.Errorf("the master counts %d of %d ranges, want 4 of 26", st.Divergences, st.Digests)
	}
	a.sync()
	a.want(all, before)

	// What was here may be the truth.
	b.want(`SELECT DISTINCT velosync_resolve(id, iif(tbl = 'notes', 'mine', 'theirs')) FROM velosync_conflicts WHERE settled IS NULL`, "mine\ntheirs")
	b.sync()
	a.sync()
	a.want(`SELECT group_concat(id || title) FROM (SELECT * FROM notes WHERE title <> 'title' OR id = 'n5' ORDER BY id)`, "n3rot,n99ghost")
	a.want(all, b.rows(all))
	if n := rounds(a) + rounds(b); n != 0 {
		t.Errorf("%d rows differ after that", n)
	}
}

// TestDigest_inFlight: edits that wait, here or on the master, are no divergence.
func TestDigest_inFlight(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	var b *device
	during := func(string) error { return nil }
	a := newDevice(t, m, "a", everyRound(100))
	b = newDevice(t, m, "b", func(o *replicator.Options) {
		everyRound(100)(o)
		o.Step = func(s string) error { return during(s) }
	})
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1), ('z', 'cake', 'bake', 1)`)
	a.sync()
	b.sync()
	steps := map[string][]string{
		"here, before the question":        {`UPDATE notes SET title = 'b' WHERE id = 'x'`, `DELETE FROM notes WHERE id = 'y'`, `INSERT INTO notes VALUES ('b', 'b', 'b', 1)`},
		"on the master, before the answer": {`UPDATE notes SET body = 'a' WHERE id = 'x'`, `DELETE FROM notes WHERE id = 'z'`, `INSERT INTO notes VALUES ('a', 'a', 'a', 1)`},
	}
	for _, name := range []string{"here, before the question", "on the master, before the answer"} {
		during = func(step string) error {
			if step == "digest" {
				if strings.HasPrefix(name, "here") {
					b.exec(steps[name]...)
				} else {
					a.exec(steps[name]...)
					a.sync()
				}
			}
			return nil
		}
		if r := b.sync(); r.DivergedRows != 0 {
			t.Errorf("%s: %d rows differ", name, r.DivergedRows)
		}
		during = func(string) error { return nil }
	}
	b.sync()
	a.sync()
	b.want(`SELECT count(*) FROM velosync_conflicts WHERE kind = 'diverged'`, "0")
	b.want(`SELECT * FROM notes ORDER BY id`, a.rows(`SELECT * FROM notes ORDER BY id`))
	if st := spaceStats(t, m); st.Divergences != 0 {
		t.Errorf("the master counts %d divergences, want none", st.Divergences)
	}
}

// TestDigest_meanwhile: what is written between question and answer is not written over.
func TestDigest_meanwhile(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	meanwhile, answered := func() {}, func() {}
	a := newDevice(t, m, "a", nil)
	b := newDevice(t, m, "b", func(o *replicator.Options) {
		everyRound(100)(o)
		o.Transport = onDigest{func(body []byte) []byte { meanwhile(); return body }, func() { answered() }}
	})
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('w', 'tea', 'green', 1), ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1), ('z', 'cake', 'bake', 1)`)
	a.sync()
	b.sync()
	b.behind(`UPDATE notes SET title = 'rot' WHERE id IN ('w', 'z')`)
	meanwhile = func() {
		b.exec(`UPDATE notes SET title = 'b' WHERE id IN ('w', 'x')`, `DELETE FROM notes WHERE id = 'y'`, `INSERT INTO notes VALUES ('b', 'b', 'b', 1)`)
		meanwhile = func() {}
	}
	if r := b.sync(); r.DivergedRows != 1 {
		t.Errorf("%d rows were healed, want that one which nobody wrote", r.DivergedRows)
	}
	b.want(`SELECT id, title FROM notes ORDER BY id`, "b b\nw b\nx b\nz cake")
	b.sync()
	a.sync()
	a.want(`SELECT id, title FROM notes ORDER BY id`, "b b\nw b\nx b\nz cake")

	// A round of another replicator comes between: nothing is judged.
	b.behind(`UPDATE notes SET title = 'rot' WHERE id = 'z'`)
	answered = func() {
		answered = func() {}
		a.exec(`UPDATE notes SET body = 'newer' WHERE id = 'x'`)
		a.sync()
		if err := os.Remove(b.file + "-velosync-lock"); err != nil { // as a file system without locks
			t.Fatal(err)
		}
		o := b.o
		o.DigestEvery, o.Transport = -1, nil
		second, err := replicator.New(b.file, o)
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		if _, err := second.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if r := b.sync(); r.DivergedRows != 0 {
		t.Errorf("%d rows were healed, although the file moved", r.DivergedRows)
	}
	b.want(`SELECT id, title, body FROM notes WHERE id IN ('x', 'z') ORDER BY id`, "x b newer\nz rot bake")
	if r := b.sync(); r.DivergedRows != 1 {
		t.Errorf("%d rows were healed, want the one that rots", r.DivergedRows)
	}
}

// TestDigest_columns: a device that knows some of the columns compares those.
func TestDigest_columns(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", everyRound(100)), newDevice(t, m, "b", everyRound(100))
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	b.sync()
	a.exec(`ALTER TABLE notes ADD COLUMN more DEFAULT 7`, `UPDATE notes SET more = 8`)
	for range 2 {
		if n := a.sync().DivergedRows + b.sync().DivergedRows; n != 0 {
			t.Errorf("%d rows differ", n)
		}
	}
	b.behind(`UPDATE notes SET title = 'rot'`)
	if r := b.sync(); r.DivergedRows != 1 {
		t.Errorf("%d rows were healed, want 1", r.DivergedRows)
	}
	b.exec(`ALTER TABLE notes ADD COLUMN more DEFAULT 7`)
	for range 3 {
		if n := b.sync().DivergedRows; n != 0 {
			t.Errorf("%d rows differ", n)
		}
	}
	b.want(`SELECT title, more FROM notes`, "tea 8")
}

// TestDigest_refused: a row that this file can't take stays what it is, and the next range
// is not held up by it.
func TestDigest_refused(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", everyRound(1))
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1)`)
	a.sync()
	b.sync()
	b.behind(`UPDATE notes SET title = 'rot'`)
	b.exec(`CREATE TRIGGER no BEFORE INSERT ON notes WHEN NEW.id = 'x' BEGIN SELECT RAISE(ABORT, 'no'); END`)
	healed := 0
	for range 4 {
		healed += b.sync().DivergedRows
	}
	if healed != 1 {
		t.Errorf("%d rows were healed, want 1", healed)
	}
	b.want(`SELECT id, title FROM notes ORDER BY id`, "x rot\ny soup")
	b.want(`SELECT diverged, (SELECT applying FROM _velosync_state) FROM velosync_status`, "1 0")
}

// TestDigest_often: one round in so many, and none where it is turned off or the master is
// from before digests.
func TestDigest_often(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	asked := 0
	count := func(every int) func(*replicator.Options) {
		return func(o *replicator.Options) {
			o.DigestEvery = every
			o.Step = func(step string) error {
				if step == "digest" {
					asked++
				}
				return nil
			}
		}
	}
	for _, tt := range []struct{ every, rounds, want int }{{0, 96, 3}, {5, 20, 4}, {-1, 40, 0}} {
		asked = 0
		d := newDevice(t, m, fmt.Sprint(tt.every), count(tt.every))
		d.exec(notes, trackNotes)
		for range tt.rounds {
			d.sync()
		}
		if asked != tt.want {
			t.Errorf("one round in %d: %d of %d compared rows, want %d", tt.every, asked, tt.rounds, tt.want)
		}
	}
	asked = 0
	d := newDevice(t, m, "old", func(o *replicator.Options) {
		count(1)(o)
		// What the master can't read it answers as one does that does not know key 24.
		o.Transport = onDigest{func(body []byte) []byte { return append(body[:len(body):len(body)], 0) }, func() {}}
	})
	d.exec(notes, trackNotes)
	for range 5 {
		d.sync()
	}
	if asked != 1 {
		t.Errorf("a master from before digests was asked %d times, want once", asked)
	}
}

// onDigest is called with each question on its way to the master, whose body it may change,
// and when it is answered.
type onDigest struct {
	asked    func(body []byte) []byte
	answered func()
}

func (f onDigest) RoundTrip(r *http.Request) (*http.Response, error) {
	if body, err := r.GetBody(); err == nil && strings.HasSuffix(r.URL.Path, "/sync") {
		b, err := wire.ReadBody(body, 8<<20)
		if err != nil {
			return nil, err
		}
		push, err := wire.DecodePush(b, wire.Limits{})
		if err != nil {
			return nil, err
		}
		if push.Digest != nil {
			b = f.asked(b)
			r = r.Clone(r.Context())
			r.Header.Set("Content-Digest", wire.Digest(b))
			r.ContentLength, r.Body = int64(len(b)), io.NopCloser(strings.NewReader(string(b)))
			defer f.answered()
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// A column that the next pull fills is no rot.
func TestDigest_columnAdded(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a := newDevice(t, m, "a", nil)
	var b *device
	rounds := 0
	b = newDevice(t, m, "b", func(o *replicator.Options) {
		everyRound(4)(o)
		atStep("digest", func() error {
			if rounds++; rounds == 2 {
				b.exec(`ALTER TABLE notes ADD COLUMN lang TEXT`)
			}
			return nil
		})(o)
	})
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	b.sync()
	a.exec(`ALTER TABLE notes ADD COLUMN lang TEXT`, `UPDATE notes SET lang = 'en'`)
	a.sync()
	for range 3 {
		if r := b.sync(); r.DivergedRows != 0 {
			t.Errorf("%d rows are called different from the master's", r.DivergedRows)
		}
	}
	b.want(`SELECT count(*) FROM velosync_conflicts`, "0")
	b.want(`SELECT title, lang FROM notes`, "tea en")
}

// run runs the replicator until the test ends.
func (d *device) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.r.Run(ctx) }()
	d.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			d.t.Errorf("%s: Run: %v", d.o.Name, err)
		}
	})
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(2 * time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// TestRun_idle: a device that is connected and has nothing to do compares its rows, unless
// that is turned off.
func TestRun_idle(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1)`)
	a.sync()
	var asked [2]atomic.Int64
	devices := make([]*device, 2)
	for i, every := range []int{1_000_000, -1} { // no round compares
		devices[i] = newDevice(t, m, fmt.Sprint("b", i), func(o *replicator.Options) {
			o.DigestEvery, o.DigestIdle, o.DigestRows = every, time.Millisecond, 1
			o.Step = func(step string) error {
				if step == "digest" {
					asked[i].Add(1)
				}
				return nil
			}
		})
		devices[i].sync()
		devices[i].behind(`UPDATE notes SET title = 'rot'`)
		devices[i].run()
	}
	on, off := devices[0], devices[1]
	eventually(t, "the rows are healed", func() bool { return on.r.Status().DivergedRows == 2 })
	rounds := on.r.Status().Rounds
	before := asked[0].Load()
	eventually(t, "it goes on", func() bool { return asked[0].Load() > before+50 })
	if r := on.r.Status().Rounds; r > rounds+2 { // one, if the Interval is over
		t.Errorf("%d rounds, had %d: it was not idle", r, rounds)
	}
	on.want(`SELECT id, title FROM notes ORDER BY id`, "x tea\ny soup")
	on.want(`SELECT mine FROM velosync_conflicts WHERE kind = 'diverged'`, `{"title":"rot"}`+"\n"+`{"title":"rot"}`)
	if n := asked[1].Load(); n != 0 {
		t.Errorf("%d ranges were compared, though that is turned off", n)
	}
	off.want(`SELECT id, title FROM notes ORDER BY id`, "x rot\ny rot")

	// Without a master nothing is asked.
	m.Close()
	on.exec(`INSERT INTO notes VALUES ('z', 'cake', 'bake', 1)`)
	eventually(t, "it is offline", func() bool { return on.r.Status().Offline })
	before = asked[0].Load()
	failures := on.r.Status().Failures
	eventually(t, "rounds go on failing", func() bool { return on.r.Status().Failures > failures })
	if n := asked[0].Load(); n > before {
		t.Errorf("%d ranges were asked of a master that is not there", n-before)
	}
}

// TestDigest_dsn: the data source name says how often.
func TestDigest_dsn(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	db, err := sql.Open("velosync", filepath.Join(t.TempDir(), "a.db")+"?_velosync_master="+m.URL+"&_velosync_space="+m.Space+"&_velosync_token="+m.Token("a")+
		"&_velosync_track=notes&_velosync_digest_every=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	a := &device{t: t, db: db}
	a.exec(notes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.want(`SELECT velosync_wait(30)`, "1")
	a.exec(`INSERT INTO notes VALUES ('y', 'soup', 'hot', 1)`)
	a.behind(`UPDATE notes SET title = 'rot' WHERE id = 'x'`)
	n := 0
	eventually(t, "a round heals the row", func() bool {
		n++
		a.exec(fmt.Sprintf(`INSERT INTO notes VALUES ('more%d', 'more', 'more', 1)`, n), `SELECT velosync_wait(30)`)
		return a.rows(`SELECT title FROM notes WHERE id = 'x'`) == "tea"
	})
	if n > 25 {
		t.Errorf("it took %d rounds", n)
	}
}
