package replicator_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/replicator"
)

// ranges lets only Verify compare rows, so many at a time.
func ranges(rows int) func(*replicator.Options) {
	return func(o *replicator.Options) { o.DigestEvery, o.DigestRows = -1, rows }
}

func (d *device) verify() replicator.Verification {
	d.t.Helper()
	v, err := d.r.Verify(d.t.Context())
	if err != nil {
		d.t.Fatalf("verify %s: %v", d.o.Name, err)
	}
	if v.Took <= 0 {
		d.t.Errorf("it took %v", v.Took)
	}
	v.Took = 0
	return v
}

const (
	pairs     = `CREATE TABLE pairs(x INT NOT NULL, y BLOB NOT NULL, v UNIQUE, PRIMARY KEY (x, y)) WITHOUT ROWID`
	someNotes = `WITH n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9) INSERT INTO notes SELECT 'n' || i, 'title', 'body', 1 FROM n`
)

// TestVerify: one call compares all rows of all tables, makes them what the master has, and
// says which were not.
func TestVerify(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	var phases []string
	a := newDevice(t, m, "a", nil)
	b := newDevice(t, m, "b", func(o *replicator.Options) {
		ranges(4)(o)
		o.Progress = func(p replicator.Progress) {
			if p.Phase == "compare" {
				phases = append(phases, fmt.Sprintf("%d/%d", p.Rows, p.Total))
			}
		}
	})
	a.exec(notes, trackNotes, pairs, `SELECT velosync_track('pairs')`, `CREATE TABLE empty(id TEXT PRIMARY KEY NOT NULL)`, `SELECT velosync_track('empty')`,
		`INSERT INTO pairs VALUES (1, x'00', 'p'), (1, 'a', 'q'), (2, x'', NULL)`, someNotes)
	a.sync()
	all := []replicator.VerifiedTable{{Table: "empty", Ranges: 1}, {Table: "notes", Rows: 10, Ranges: 3}, {Table: "pairs", Rows: 3, Ranges: 1}}
	v := b.verify() // the round that comes first brings them
	if v.Round == nil || v.Round.PulledRows != 13 {
		t.Errorf("the first round: %+v", v.Round)
	}
	if diff := cmp.Diff(all, v.Tables); diff != "" || len(v.Divergences) > 0 {
		t.Errorf("tables (-want +got):\n%s%v", diff, v.Divergences)
	}
	if got := strings.Join(phases, " "); got != "0/13 4/13 8/13 10/13 13/13" {
		t.Errorf("progress: %s", got)
	}

	before := a.rows(`SELECT * FROM notes ORDER BY id`)
	b.behind(`UPDATE notes SET title = 'rot' WHERE id IN ('n0', 'n4', 'n5')`, `DELETE FROM notes WHERE id = 'n9'`, `UPDATE pairs SET v = 'rot' WHERE x = 1 AND y = 'a'`)
	v = b.verify()
	want := []replicator.Divergence{{Table: "notes", To: nil, Rows: 4, Healed: 4}, {Table: "pairs", Rows: 1, Healed: 1}}
	if diff := cmp.Diff(want, v.Divergences); diff != "" {
		t.Errorf("divergences (-want +got):\n%s", diff)
	}
	b.want(`SELECT * FROM notes ORDER BY id`, before)
	b.want(`SELECT v FROM pairs ORDER BY x, y`, "q\np\n<nil>")
	b.want(`SELECT count(*) FROM velosync_conflicts WHERE kind = 'diverged'`, "5")
	if n := b.r.Status().DivergedRows; n != 5 {
		t.Errorf("the status counts %d rows, want 5", n)
	}

	b.behind(`UPDATE notes SET title = 'rot' WHERE id = 'n5'`)
	b.exec(`UPDATE notes SET title = 'mine' WHERE id = 'n6'`) // which the round sends first
	want = []replicator.Divergence{{Table: "notes", After: "n3", To: "n7", Rows: 1, Healed: 1}}
	if diff := cmp.Diff(want, b.verify().Divergences); diff != "" {
		t.Errorf("divergences (-want +got):\n%s", diff)
	}
	if v = b.verify(); len(v.Divergences) > 0 || cmp.Diff(all, v.Tables) != "" {
		t.Errorf("after all that: %+v", v)
	}
	a.sync()
	a.want(`SELECT title FROM notes WHERE id = 'n6'`, "mine")
}

// TestVerify_refused: rows that this file does not take are named, and the rest is compared.
func TestVerify_refused(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", ranges(1))
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1)`)
	a.sync()
	b.sync()
	b.behind(`UPDATE notes SET title = 'rot'`)
	b.exec(`CREATE TRIGGER no BEFORE INSERT ON notes WHEN NEW.id = 'x' BEGIN SELECT RAISE(ABORT, 'no tea here'); END`)
	v := b.verify()
	if d := v.Divergences; len(d) != 2 || d[0].Rows != 1 || d[0].Healed != 0 || !strings.Contains(d[0].Refused, "no tea here") || d[1].Healed != 1 || d[1].Refused != "" {
		t.Errorf("divergences: %+v", d)
	}
	b.want(`SELECT id, title FROM notes ORDER BY id`, "x rot\ny soup")
}

// TestVerify_meanwhile: a space that moves on under the pass is pulled from again, and a
// table of which too many rows wait is left out, alone.
func TestVerify_meanwhile(t *testing.T) {
	const more = `WITH n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1200) INSERT INTO notes SELECT hex(randomblob(8)), 'title', 'body', 1 FROM n`
	m := masterdtest.New(t, masterdtest.Options{})
	during := func() {}
	a := newDevice(t, m, "a", nil)
	b := newDevice(t, m, "b", func(o *replicator.Options) {
		ranges(500)(o)
		atStep("digest", func() error { during(); return nil })(o)
	})
	a.exec(notes, trackNotes, pairs, `SELECT velosync_track('pairs')`, `INSERT INTO pairs VALUES (1, 'a', 'q')`, more)
	a.sync()
	b.sync()
	n := 0
	during = func() {
		if n++; n == 2 {
			a.exec(more)
			a.sync()
		}
	}
	v := b.verify() // of the new rows it meets those behind the first 500: some 700, their keys are random
	if len(v.Tables) != 2 || v.Tables[0].LeftOut != "" || v.Tables[0].Rows < 1201+600 || len(v.Divergences) != 0 {
		t.Errorf("others wrote much: %+v", v)
	}

	b.behind(`UPDATE pairs SET v = 'rot'`)
	during = func() { b.exec(more) }
	v = b.verify()
	if len(v.Tables) != 2 || !strings.Contains(v.Tables[0].LeftOut, "at most 1000") || v.Tables[1].LeftOut != "" || len(v.Divergences) != 1 {
		t.Errorf("much is written here: %+v", v)
	}
	// Rounds too leave that table out and no other.
	b.behind(`UPDATE pairs SET v = 'rot'`)
	b.exec(`DELETE FROM _velosync_digest`)
	_ = b.r.Close()
	b.o.DigestEvery = 1
	var err error
	if b.r, err = replicator.New(b.file, b.o); err != nil {
		t.Fatal(err)
	}
	if n := b.sync().DivergedRows + b.sync().DivergedRows; n != 1 {
		t.Errorf("%d rows healed, want that one of pairs", n)
	}
}

// TestVerify_lease: where another replicator syncs the file, its rounds are not doubled.
func TestVerify_lease(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", ranges(3))
	a.exec(notes, trackNotes, someNotes)
	a.sync()
	b.sync()
	b.run()
	b.behind(`UPDATE notes SET title = 'rot' WHERE id = 'n5'`)
	second, err := replicator.New(b.file, b.o)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	v, err := second.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.Round != nil || len(v.Divergences) != 1 || v.Divergences[0].Healed != 1 || v.Tables[0].Rows != 10 {
		t.Errorf("beside another: %+v", v)
	}
	b.want(`SELECT count(*) FROM notes WHERE title <> 'title'`, "0")
}

// TestVerify_whileRunning: rounds go on between ranges, and what they bring is no divergence.
func TestVerify_whileRunning(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", ranges(2))
	a.exec(notes, trackNotes, someNotes)
	a.sync()
	b.sync()
	a.run()
	b.run()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			for _, d := range []*device{a, b} {
				if _, err := d.db.Exec(`INSERT OR REPLACE INTO notes VALUES (?, ?, ?, 1)`, fmt.Sprint("n", i%17), fmt.Sprint(i), d.o.Name); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for range 10 {
		if v := b.verify(); len(v.Divergences) > 0 || len(v.Tables) != 1 || v.Tables[0].LeftOut != "" {
			t.Errorf("while both write: %+v", v)
		}
	}
	close(stop)
	<-done
	b.want(`SELECT count(*) FROM velosync_conflicts WHERE kind = 'diverged'`, "0")
}

// TestVerify_busy: a master that serves so many requests a second is waited for; one that
// does not answer is an error.
func TestVerify_busy(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Server: server.Options{Rate: 20, Burst: 6}})
	a := newDevice(t, m, "a", ranges(1))
	a.exec(notes, trackNotes, someNotes)
	if v := a.verify(); len(v.Tables) != 1 || v.Tables[0].Rows != 10 || v.Tables[0].Ranges != 10 {
		t.Errorf("%+v", v)
	}
	m.Close()
	if _, err := a.r.Verify(t.Context()); !errors.Is(err, replicator.ErrOffline) {
		t.Errorf("error = %v, want ErrOffline", err)
	}
}
