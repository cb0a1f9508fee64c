package replicator_test

import (
	"errors"
	"testing"
	"time"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
)

// A device that only hears what others wrote has nothing written down for it, here before
// the answer or at the master: what one device writes costs one commit there, not one for
// each that reads it.
func TestIdle_nothingIsWritten(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	stop := errors.New("before the ack")
	var fails error
	a := newDevice(t, m, "a", nil)
	b := newDevice(t, m, "b", func(o *replicator.Options) {
		o.Step = func(step string) error {
			if step == "ack" {
				return fails
			}
			return nil
		}
	})
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	b.sync()
	db := masterDB(t, m)
	defer db.Close()
	db.SetMaxOpenConns(1) // the version is a connection's
	version := func() (v int64) {
		if err := db.QueryRow(`PRAGMA data_version`).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, write := range []string{`UPDATE notes SET title = 'coffee'`, `INSERT INTO notes VALUES ('y', 'milk', 'white', 1)`, `DELETE FROM notes WHERE id = 'x'`} {
		a.exec(write)
		a.sync()
		before, names := version(), b.rows(`SELECT n, name FROM _velosync_name`)
		fails = stop
		if err := b.fails(); !errors.Is(err, stop) {
			t.Fatal(err)
		}
		fails = nil
		b.want(allNotes, a.rows(allNotes))
		b.want(`SELECT n, name FROM _velosync_name`, names)
		if version() != before {
			t.Errorf("%s: its way to another device changes the master's file", write)
		}
		b.sync() // the ack is made good
	}
}

// The master writes down that a device is there at least once in an hour.
func TestIdle_contact(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := masterdtest.New(t, masterdtest.Options{Store: store.Options{Now: func() time.Time { return now }}})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	db := masterDB(t, m)
	defer db.Close()
	contact := func() (at int64) {
		if err := db.QueryRow(`SELECT contact FROM _velosync_device`).Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	first := contact()
	now = now.Add(59 * time.Minute)
	if a.sync(); contact() != first {
		t.Error("a pull of nothing is written down")
	}
	now = now.Add(time.Minute)
	if a.sync(); contact() != now.UnixMilli() {
		t.Errorf("contact %d, want %d", contact(), now.UnixMilli())
	}
}

// A copy of a file pushes first under the id of both. What it wrote is not the file's own.
func TestIdle_copyPushed(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	copied := openDevice(t, a.o, nil)
	copied.restore(a.copyOf())
	copied.exec(`INSERT INTO notes VALUES ('y', 'of the copy', '', 1)`)
	copied.sync()
	was := a.rows(`SELECT device FROM velosync_status`)
	a.sync()
	a.want(allNotes, copied.rows(allNotes))
	if a.rows(`SELECT device FROM velosync_status`) == was {
		t.Error("both files have one id")
	}
}

// A pull of several pages is made under a name of its own.
func TestIdle_pages(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Store: store.Options{PageRows: 2}})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	b.sync()
	names := b.rows(`SELECT name FROM _velosync_name`)
	a.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 7) INSERT INTO notes SELECT 'k' || i, 'tea', 'black', 1 FROM n`)
	a.sync()
	if r := b.sync(); r.Tries != 2 || r.Pages != 4 || r.PulledRows != 7 {
		t.Errorf("%+v, want 7 rows in 4 pages at the second try", r)
	}
	b.want(`SELECT count(*) FROM _velosync_name`, "1")
	if b.rows(`SELECT name FROM _velosync_name`) == names {
		t.Error("the pull has no name of its own")
	}
	equal(t, allNotes, a, b)
}

// A device that has only heard since a master's backup finds that it was restored.
func TestIdle_masterRestored(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	b.sync()
	c.sync()
	restore := hotBackup(t, m)
	a.exec(`INSERT INTO notes VALUES ('y', 'milk', 'white', 1)`)
	a.sync()
	b.sync()
	restore()
	c.sync() // it has seen nothing that was lost
	if r := b.sync(); !r.Restored || r.PushedBackRows != 1 {
		t.Errorf("%+v, want the row pushed back to the restored master", r)
	}
	equal(t, allNotes, a, b)
}
