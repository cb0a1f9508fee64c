package replicator_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
)

const allNotes = `SELECT * FROM notes ORDER BY id`

// reopen gives a device another file, and opens it.
func (d *device) reopen(replace func(file string)) {
	d.t.Helper()
	if err := errors.Join(d.r.Close(), d.db.Close()); err != nil {
		d.t.Fatal(err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(d.file + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.t.Fatal(err)
		}
	}
	replace(d.file)
	var err error
	if d.db, err = sql.Open("velosync", d.file); err != nil {
		d.t.Fatal(err)
	}
	if d.r, err = replicator.New(d.file, d.o); err != nil {
		d.t.Fatal(err)
	}
}

// copyOf returns a copy of the device's file as it is now.
func (d *device) copyOf() string {
	d.t.Helper()
	to := filepath.Join(d.t.TempDir(), "copy.db")
	d.exec(`VACUUM INTO '` + to + `'`)
	return to
}

// restore puts a copy in the place of the device's file.
func (d *device) restore(from string) {
	d.t.Helper()
	d.reopen(func(file string) {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(file, b, 0o600)
		}
		if err != nil {
			d.t.Fatal(err)
		}
	})
}

func (d *device) id() string { return d.rows(`SELECT velosync_device()`) }

// backup copies the master's files while it is down, and returns what puts them back.
func backup(t *testing.T, m *masterdtest.Master) (restore func()) {
	t.Helper()
	m.Close()
	defer m.Reopen()
	return hotBackup(t, m)
}

// hotBackup is backup of a running master that nobody writes to.
func hotBackup(t *testing.T, m *masterdtest.Master) (restore func()) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(dir, os.DirFS(m.Dir)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		m.Close()
		err := os.RemoveAll(m.Dir)
		if err == nil {
			err = os.CopyFS(m.Dir, os.DirFS(dir))
		}
		if err != nil {
			t.Fatal(err)
		}
		m.Reopen()
	}
}

// equal syncs all devices until they have nothing to do, and checks that they agree.
func equal(t *testing.T, query string, devices ...*device) {
	t.Helper()
	for range 3 {
		for _, d := range devices {
			d.sync()
		}
	}
	for _, d := range devices {
		d.want(query, devices[0].rows(query))
		d.want(`SELECT pending, parked FROM velosync_status`, "0 0")
	}
}

// TestScenario_29_bigTable: sync is switched on for a table with very many rows, off, and
// on again, while writers run.
func TestScenario_29_bigTable(t *testing.T) {
	rows := sized(8000, 1_000_000)
	m := masterdtest.New(t, masterdtest.Options{Log: quiet})
	a, b := newDevice(t, m, "a", func(o *replicator.Options) { o.Log = quiet }), newDevice(t, m, "b", func(o *replicator.Options) { o.Log = quiet })
	a.exec(`CREATE TABLE big(id TEXT PRIMARY KEY NOT NULL, n INT, text TEXT)`,
		fmt.Sprintf(`WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < %d) INSERT INTO big SELECT printf('row %%08d', x), x, 'text of ' || x FROM i`, rows))
	timed := func(f func()) time.Duration {
		began := time.Now()
		f()
		return time.Since(began).Round(time.Millisecond)
	}
	inUse := startWriters(t, a, "big", rows)
	inUse.until(20)
	on := timed(func() { a.exec(`SELECT velosync_track('big')`) })
	inUse.until(20)
	push := timed(func() { a.sync() })
	pull := timed(func() { b.sync() })
	inUse.until(20)
	writes, longest := inUse.stop()
	settled(t, m, a, b)
	t.Logf("%d rows: switched on in %v, pushed in %v, pulled in %v; %d writes meanwhile, the longest waited %v", rows, on, push, pull, writes, longest.Round(time.Millisecond))

	off := timed(func() { a.exec(`SELECT velosync_untrack('big')`) })
	a.exec(`UPDATE big SET n = -5 WHERE id = 'row 00000005'`, `INSERT INTO big(id, n) VALUES ('while off', 1)`)
	b.exec(`UPDATE big SET text = 'by b' WHERE id = 'row 00000006'`)
	b.sync()
	// Switched off it stands in the way of the space's table of that name, and the round says so.
	if err := a.fails(); !strings.Contains(err.Error(), `"big", and this file has one of that name that is not tracked`) {
		t.Errorf("switched off: %v", err)
	}
	b.want(`SELECT count(*) FROM big WHERE id = 'while off'`, "0")
	a.want(`SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'big'`, "0")
	again := timed(func() { a.exec(`SELECT velosync_track('big')`) })
	round := timed(func() { a.sync() })
	settled(t, m, a, b)
	t.Logf("switched off in %v, on again in %v, the round after it %v", off, again, round)
	b.want(`SELECT n FROM big WHERE id = 'while off'`, "1")
	a.want(`SELECT n, (SELECT text FROM big WHERE id = 'row 00000006') FROM big WHERE id = 'row 00000005'`, "-5 by b")
}

func TestScenario_30_deviceRestored(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	a.exec(`UPDATE notes SET body = 'unsent, then backed up'`)
	old, before := a.copyOf(), a.id()
	a.exec(`UPDATE notes SET title = 'black tea'`, `INSERT INTO notes VALUES ('y', 'soup', 'hot', 1)`)
	a.sync()
	b.sync()
	a.restore(old)
	a.want(`SELECT title FROM notes`, "tea")
	a.exec(`INSERT INTO notes VALUES ('z', 'after', 'restore', 1)`)
	a.sync()
	if a.id() == before {
		t.Error("the restored file kept its device id: its LSNs are taken")
	}
	equal(t, allNotes, a, b)
	a.want(allNotes, "x black tea unsent, then backed up 1\ny soup hot 1\nz after restore 1")
}

func TestScenario_30_fileCopied(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	b.restore(a.copyOf())
	if a.id() != b.id() {
		t.Fatal("the copy has an id of its own: nothing is tested")
	}
	a.exec(`UPDATE notes SET title = 'from a', score = 3`)
	b.exec(`UPDATE notes SET title = 'from b'`, `INSERT INTO notes VALUES ('y', 'of the copy', '', 1)`)
	a.sync()
	if r := b.sync(); r.LostRows != 1 {
		t.Errorf("the copy lost %d writes, want its title to the heavier one", r.LostRows)
	}
	if a.id() == b.id() {
		t.Error("two files go by one id")
	}
	equal(t, allNotes, a, b)
	a.want(allNotes, "x from a green 3\ny of the copy  1")
	b.want(`SELECT mine FROM velosync_conflicts`, `{"title":"from b"}`)
}

func TestScenario_30_idReusedAfterReinstall(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1)`)
	a.sync()
	id := a.id()
	a.reopen(func(file string) { // reinstalled: the file is gone, something gave the id again
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	})
	a.exec(notes, trackNotes, `UPDATE _velosync_state SET device = x'`+id+`'`, `INSERT INTO notes VALUES ('z', 'new', 'life', 1)`)
	a.sync() // by its LSN alone, the master would take the insert for one that it has
	if a.id() == id {
		t.Error("the file keeps an id whose LSNs are taken")
	}
	a.want(allNotes, "x tea green 1\ny soup hot 1\nz new life 1")
	b := newDevice(t, m, "b", nil)
	equal(t, allNotes, a, b)
}

// TestScenario_30_lsnGoesBack: a power cut takes commits that were not synced to the disk,
// so LSNs are given again; what had been pushed was synced before.
func TestScenario_30_lsnGoesBack(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	var atPush string
	var a *device
	a = newDevice(t, m, "a", func(o *replicator.Options) {
		o.Step = func(step string) error {
			if step == "push" && atPush == "" {
				atPush = a.copyOf() // what the fence has brought to the disk
			}
			return nil
		}
	})
	b := newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	a.exec(`UPDATE notes SET title = 'not synced'`, `UPDATE notes SET title = 'neither'`)
	a.restore(atPush)
	a.want(`SELECT lsn, acked_lsn FROM velosync_status`, "1 0")
	a.exec(`UPDATE notes SET body = 'lsn 2, again'`)
	a.sync()
	equal(t, allNotes, a, b)
	b.want(allNotes, "x tea lsn 2, again 1")
	a.want(`SELECT count(*) FROM velosync_conflicts`, "0")
}

func TestScenario_31_masterRestored(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Store: store.Options{PageRows: 2}})
	a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('kept', 'tea', 'green', 1), ('gone', 'to', 'go', 1), ('moved', 'old', 'old', 1), ('both', '0', '0', 1), ('cut', 'down', 'x', 1)`)
	equal(t, allNotes, a, b, c)
	restore := backup(t, m)
	// Lost with the master: an insert, a delete, an update, and what b saw of them.
	a.exec(`INSERT INTO notes VALUES ('born', 'after', 'the backup', 1)`, `DELETE FROM notes WHERE id = 'gone'`, `UPDATE notes SET title = 'new' WHERE id = 'moved'`,
		`UPDATE notes SET title = '1' WHERE id = 'both'`)
	equal(t, allNotes, a, b)
	b.exec(`UPDATE notes SET body = 'by b' WHERE id = 'moved'`, `UPDATE notes SET title = '2' WHERE id = 'both'`)
	b.sync() // b has seen more than a
	want := b.rows(allNotes)
	a.exec(`INSERT INTO notes VALUES ('unsent', 'as the master', 'fell', 1)`, `UPDATE notes SET body = 'unsent' WHERE id = 'born'`)
	restore()
	// c was behind, and goes on with the restored master: a newer edit of a lost row.
	c.exec(`UPDATE notes SET title = 'by c, later' WHERE id = 'cut'`, `INSERT INTO notes VALUES ('others', 'go', 'on', 1)`)
	if r := c.sync(); r.Restored {
		t.Errorf("c has seen no more than the backup: %+v", r)
	}
	if r := a.sync(); !r.Restored || r.PushedBackRows != 5 || r.LostRows != 1 {
		t.Errorf("%+v: want 5 rows pushed back: born, gone, moved, both and cut, which loses to c's", r)
	}
	if r := b.sync(); !r.Restored || r.PushedBackRows == 0 {
		t.Errorf("%+v: want rows pushed back", r)
	}
	equal(t, allNotes, a, b, c)
	want = strings.ReplaceAll(want, "born after the backup 1", "born after unsent 1")
	want = strings.ReplaceAll(want, "cut down x 1", "cut by c, later x 1")
	want = strings.Replace(want, "moved new by b 1", "moved new by b 1\nothers go on 1\nunsent as the master fell 1", 1)
	a.want(allNotes, want)
	// Of two versions that came back, the one that saw more stays; the other is logged.
	a.want(`SELECT "key", mine, theirs FROM velosync_conflicts WHERE "key" = 'both'`, `both {"title":"1"} {"title":"2"}`)
	if r := a.sync(); r.Restored || r.PushedRows > 0 {
		t.Errorf("%+v: want a round with nothing to do", r)
	}
}

// TestScenario_31_columnAddedBefore: rows that were last written before the table had a
// column are compared too, and a device whose table lacks it takes part.
func TestScenario_31_columnAddedBefore(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Store: store.Options{PageRows: 2}})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('old', 'tea', 'green', 1), ('older', 'soup', 'hot', 1)`)
	equal(t, allNotes, a, b)
	a.exec(`UPDATE notes SET title = 'stew' WHERE id = 'older'`) // its registers have two dots now
	equal(t, allNotes, a, b)
	a.exec(`ALTER TABLE notes ADD COLUMN tag TEXT DEFAULT 'none'`, `UPDATE notes SET tag = 'mine' WHERE id = 'old'`)
	a.sync()
	b.sync()
	restore := backup(t, m)
	a.exec(`UPDATE notes SET tag = 'lost with the master' WHERE id = 'older'`, `INSERT INTO notes VALUES ('born', 'after', 'it', 1, 'late')`)
	a.sync()
	b.sync()
	restore()
	if r := a.sync(); !r.Restored || r.PushedBackRows != 2 {
		t.Errorf("%+v: want 2 rows pushed back", r)
	}
	if r := b.sync(); !r.Restored {
		t.Errorf("%+v: want the restore found", r)
	}
	a.sync()
	b.sync()
	a.want(allNotes, "born after it 1 late\nold tea green 1 mine\nolder stew hot 1 lost with the master")
	b.want(allNotes, "born after it 1\nold tea green 1\nolder stew hot 1")
}

// TestScenario_31_newerEditStands: what others wrote after the restore outranks what is
// pushed back, and the loser is kept.
func TestScenario_31_newerEditStands(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1)`)
	equal(t, allNotes, a, b)
	restore := backup(t, m)
	a.exec(`UPDATE notes SET title = 'lost with the master', score = 9 WHERE id = 'x'`, `DELETE FROM notes WHERE id = 'y'`)
	a.sync()
	restore()
	b.exec(`UPDATE notes SET title = 'newer', score = -5 WHERE id = 'x'`, `UPDATE notes SET body = 'newer' WHERE id = 'y'`)
	b.sync()
	if r := a.sync(); !r.Restored || r.PushedBackRows != 2 || r.LostRows != 2 {
		t.Errorf("%+v: want 2 rows pushed back, both lost to newer ones", r)
	}
	equal(t, allNotes, a, b)
	a.want(allNotes, "x newer green -5\ny soup newer 1")
	a.want(`SELECT "key", kind, rule, coalesce(mine, 'a delete') FROM velosync_conflicts ORDER BY "key"`,
		"x update-lost weight {\"title\":\"lost with the master\",\"score\":9.0}\ny delete-lost weight a delete")
}

// TestScenario_31_editedMeanwhile: what the application writes on a row that is being
// pushed back ranks as any edit does, and the rest of the row below all.
func TestScenario_31_editedMeanwhile(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	reconciled := false
	a := newDevice(t, m, "a", func(o *replicator.Options) {
		o.Step = func(step string) error {
			if step == "push" && reconciled {
				reconciled = false
				return errors.New("crash")
			}
			reconciled = reconciled || step == "reconcile"
			return nil
		}
	})
	b := newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1)`)
	equal(t, allNotes, a, b)
	restore := backup(t, m)
	a.exec(`UPDATE notes SET title = 'lost' WHERE id = 'x'`, `INSERT INTO notes VALUES ('born', 'after', 'the backup', 1), ('gone', 'again', '', 1)`, `DELETE FROM notes WHERE id = 'y'`)
	a.sync()
	restore()
	b.exec(`UPDATE notes SET title = 'newer', body = 'newer' WHERE id = 'x'`)
	b.sync()
	if _, err := a.r.Sync(context.Background()); err == nil {
		t.Fatal("the first round was to be cut")
	}
	a.want(`SELECT "key", op FROM velosync_pending ORDER BY "key"`, "born push back\ngone push back\nx push back\ny push back")
	a.exec(`UPDATE notes SET body = 'live', score = 9 WHERE id = 'x'`, `UPDATE notes SET body = 'live' WHERE id = 'born'`, `DELETE FROM notes WHERE id = 'gone'`,
		`INSERT INTO notes VALUES ('y', 'made', 'anew', 2)`)
	a.sync()
	equal(t, allNotes, a, b)
	b.want(allNotes, "born after live 1\nx newer live 9\ny made anew 2")
	a.want(`SELECT "key", mine FROM velosync_conflicts`, `x {"title":"lost"}`)
	b.want(`SELECT "key", mine FROM velosync_conflicts`, `x {"body":"newer"}`)
}

// TestScenario_31_cutAnywhere: each step of the reconciliation can be the last one before
// a crash, and any request lost.
func TestScenario_31_cutAnywhere(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Store: store.Options{PageRows: 3}})
	s := &switchboard{}
	crash := errors.New("crash")
	steps, before := map[string]int{}, map[string]int{}
	var broken bool
	a := newDevice(t, m, "a", func(o *replicator.Options) {
		o.Transport = s
		o.Step = func(step string) error {
			steps[step]++
			if broken && steps[step] > before[step] && steps[step] <= before[step]+2 {
				return crash
			}
			return nil
		}
	})
	b := newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	equal(t, allNotes, a, b)
	restore := backup(t, m)
	a.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) INSERT INTO notes SELECT 'k' || i, 't', 'b', i FROM n`, `DELETE FROM notes WHERE id = 'x'`)
	a.sync()
	b.sync()
	want := a.rows(allNotes)
	restore()
	broken, before = true, maps.Clone(steps)
	n := 0
	s.set(nil, func(*http.Request) error {
		if n++; n%7 == 0 && n < 50 {
			return errors.New("answer lost")
		}
		return nil
	})
	rounds := 0
	for ; rounds < 60; rounds++ {
		if _, err := a.r.Sync(context.Background()); err == nil {
			break
		}
		a.want(allNotes, want)
	}
	if rounds == 60 || rounds < 5 {
		t.Errorf("%d rounds were cut, want some", rounds)
	}
	broken = false
	s.set(nil, nil)
	equal(t, allNotes, a, b)
	a.want(allNotes, want)
	if steps["compare"] < 4 || steps["reconcile"] < 2 {
		t.Errorf("steps: %v", steps)
	}
}

// TestScenario_31_restoredTwice: the master falls again after the comparison, to a state
// older than what was compared.
func TestScenario_31_restoredTwice(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	var before func(step string)
	a := newDevice(t, m, "a", func(o *replicator.Options) {
		o.Step = func(step string) error {
			if before != nil {
				before(step)
			}
			return nil
		}
	})
	b := newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	equal(t, allNotes, a, b)
	restore := backup(t, m)
	a.exec(`INSERT INTO notes VALUES ('y', 'soup', 'hot', 1)`)
	equal(t, allNotes, a, b)
	want := a.rows(allNotes)
	restore()
	c := newDevice(t, m, "c", nil)
	c.sync()
	c.exec(`UPDATE notes SET body = 'by c'`)
	c.sync() // an epoch begins, which the next backup has too
	restore = hotBackup(t, m)
	b.sync() // pushes y back: a finds it there
	reconciled := 0
	before = func(step string) {
		if step == "reconcile" {
			reconciled++
		}
		if step == "push" && reconciled == 1 {
			before = func(step string) {
				if step == "reconcile" {
					reconciled++
				}
			}
			restore() // and now it is not
		}
	}
	for range 3 { // the connection breaks with the master
		if _, err := a.r.Sync(context.Background()); err != nil && !errors.Is(err, replicator.ErrOffline) {
			t.Fatal(err)
		}
	}
	if reconciled != 2 {
		t.Errorf("compared %d times, want twice", reconciled)
	}
	equal(t, allNotes, a, c)
	c.want(allNotes, strings.ReplaceAll(want, "green", "by c"))
}

// TestScenario_31_masterAnew: the master's disk is lost, an empty one takes its place.
func TestScenario_31_masterAnew(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Insecure: true})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', NULL)`)
	equal(t, allNotes, a, b)
	want := a.rows(allNotes)
	m.Close()
	if err := os.RemoveAll(m.Dir); err != nil {
		t.Fatal(err)
	}
	m.Reopen()
	if r := a.sync(); !r.Restored || r.PushedBackRows != 2 {
		t.Errorf("%+v: want 2 rows pushed back", r)
	}
	equal(t, allNotes, a, b)
	b.want(allNotes, want)
	b.want(`SELECT count(*) FROM velosync_conflicts`, "0")
}

func TestScenario_32_longOffline(t *testing.T) {
	now := time.Now()
	m := masterdtest.New(t, masterdtest.Options{Store: store.Options{Retention: 24 * time.Hour, Now: func() time.Time { return now }}})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('stays', 'tea', 'green', 1), ('deleted', 'soup', 'hot', 1), ('edited', 'by b', 'x', 1)`)
	equal(t, allNotes, a, b)
	b.exec(`UPDATE notes SET title = 'unsent' WHERE id = 'edited'`, `INSERT INTO notes VALUES ('new', 'unsent', 'too', 1)`) // offline from here on
	a.exec(`DELETE FROM notes WHERE id = 'deleted'`)
	a.sync()
	for range 5 { // the tombstone is forgotten
		now = now.Add(24 * time.Hour)
		a.exec(`UPDATE notes SET body = body || '.' WHERE id = 'stays'`)
		a.sync()
	}
	if st := spaceStats(t, m); st.Tombstones != 0 {
		t.Fatalf("%d tombstones are kept: nothing is tested", st.Tombstones)
	}
	b.sync()
	equal(t, allNotes, a, b)
	a.want(allNotes, "edited unsent x 1\nnew unsent too 1\nstays tea green..... 1")
}

func spaceStats(t *testing.T, m *masterdtest.Master) store.Stats {
	t.Helper()
	space, err := m.Engine.Lookup(context.Background(), m.Space)
	if err != nil {
		t.Fatal(err)
	}
	st, err := space.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestScenario_33_firstSyncCut: the first pushes and pulls of many rows are cut again and
// again, while others write; they come to an end, and nobody sees half of it.
func TestScenario_33_firstSyncCut(t *testing.T) {
	rows := sized(3000, 1_000_000)
	part := min(rows/10, 10_000) // the most rows that a message may have
	m := masterdtest.New(t, masterdtest.Options{Store: store.Options{PageRows: part}})
	// worse returns a line that is cut at each request in turn; in the full test a hundred
	// times, most of them early.
	worse := func(s *switchboard) {
		tries, n, limit := 0, 0, 2
		s.set(nil, func(*http.Request) error {
			if n++; n == limit {
				n, tries = 0, tries+1
				if early := sized(0, 90); tries < early {
					limit = 1 + tries%2
				} else {
					limit = 2 + (tries-early)*sized(1, 12) // a push of a million rows has 100 parts
				}
				return errors.New("answer lost")
			}
			return nil
		})
	}
	until := func(d *device, whole string) (cuts int) {
		for ; cuts < 120; cuts++ {
			_, err := d.r.Sync(context.Background())
			if err == nil {
				return cuts
			}
			if !errors.Is(err, replicator.ErrOffline) {
				t.Fatal(err)
			}
			if whole != "" && d.rows(`SELECT count(*) FROM sqlite_schema WHERE name = 'notes'`) != "0" { // an ack may be what was lost
				d.want(`SELECT count(*) FROM notes`, whole)
			}
		}
		t.Fatal("the first sync has no end")
		return 0
	}
	lossy := func(s *switchboard) func(o *replicator.Options) {
		return func(o *replicator.Options) { o.Transport, o.Parts.Rows = s, part }
	}
	sa, sb := &switchboard{}, &switchboard{}
	worse(sa)
	a, b, c := newDevice(t, m, "a", lossy(sa)), newDevice(t, m, "b", lossy(sb)), newDevice(t, m, "c", nil)
	a.exec(notes, trackNotes, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO notes SELECT 'k' || i, 't' || i, 'b', i FROM n`, rows))
	cuts := until(a, "")
	c.sync()
	worse(sb)
	c.exec(`UPDATE notes SET title = 'meanwhile' WHERE score < 10`, `DELETE FROM notes WHERE score = 11`)
	c.sync()
	n := until(b, fmt.Sprint(rows-1))
	t.Logf("the first push was cut %d times, the first pull %d times", cuts, n)
	if cuts < 8 || n < 8 {
		t.Errorf("cut %d and %d times, want more", cuts, n)
	}
	sa.set(nil, nil)
	sb.set(nil, nil)
	equal(t, allNotes, c, a, b)
	b.want(`SELECT count(*), count(DISTINCT title) FROM notes`, fmt.Sprintf("%d %d", rows-1, rows-9))
}
