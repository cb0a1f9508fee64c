package replicator_test

import (
	"errors"
	"testing"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/replicator"
)

// TestScenario_31_pendingDelete: a delete that was not sent yet, of a row that the master
// lost, outranks the row as others push it back, whoever of them comes first.
func TestScenario_31_pendingDelete(t *testing.T) {
	for name, table := range map[string][]string{
		"text keys":        {notes, trackNotes},
		"numbers of a row": {`CREATE TABLE notes(id INTEGER PRIMARY KEY, title, body, score)`, `SELECT velosync_track('notes', '{"ids":"renumber","weight":"score"}')`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, order := range []string{"ab", "ba", "abab"} {
				m := masterdtest.New(t, masterdtest.Options{})
				a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
				a.exec(append(table, `INSERT INTO notes VALUES (1, 'tea', 'green', 1)`)...)
				equal(t, allNotes, a, b, c)
				restore := backup(t, m)
				a.exec(`INSERT INTO notes VALUES (2, 'soup', 'hot', 1)`)
				equal(t, allNotes, a, b)
				a.exec(`DELETE FROM notes WHERE id = 2`)
				restore()
				for _, d := range order {
					map[rune]*device{'a': a, 'b': b}[d].sync()
				}
				equal(t, allNotes, a, b, c)
				c.want(allNotes, "1 tea green 1")
				a.want(`SELECT count(*) FROM velosync_conflicts`, "0")
				b.want(`SELECT "key", kind, json_extract(mine, '$.title'), theirs IS NULL FROM velosync_conflicts`, "2 update-lost-to-delete soup 1")
			}
		})
	}
}

// TestScenario_31_deletedMeanwhile: what the application deletes before it was pushed back
// is gone, also where another device has it.
func TestScenario_31_deletedMeanwhile(t *testing.T) {
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
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	equal(t, allNotes, a, b)
	restore := backup(t, m)
	a.exec(`INSERT INTO notes VALUES ('y', 'soup', 'hot', 1)`)
	equal(t, allNotes, a, b)
	restore()
	if _, err := a.r.Sync(t.Context()); err == nil {
		t.Fatal("the first round was to be cut")
	}
	a.exec(`DELETE FROM notes WHERE id = 'y'`)
	a.sync()
	equal(t, allNotes, a, b)
	b.want(allNotes, "x tea green 1")
}

// TestScenario_31_deleteOutranked: an edit of the deleted row that outranks the delete
// brings all of it back, though the delete was there before any of its values.
func TestScenario_31_deleteOutranked(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
	a.exec(notes, trackNotes)
	equal(t, allNotes, a, b, c)
	restore := backup(t, m)
	a.exec(`INSERT INTO notes VALUES ('edited', 'soup', 'hot', 1), ('again', 'soup', 'hot', 1), ('anew', 'soup', 'hot', 1)`)
	equal(t, allNotes, a, b)
	a.exec(`DELETE FROM notes`)
	b.exec(`UPDATE notes SET title = 'heavier', score = 5 WHERE id = 'edited'`)
	c.exec(`INSERT INTO notes VALUES ('again', 'made', 'elsewhere', 9)`)
	restore()
	a.sync()
	c.sync()
	a.exec(`INSERT INTO notes VALUES ('anew', 'by', 'a', 1)`)
	equal(t, allNotes, a, c, b)
	c.want(allNotes, "again made elsewhere 9\nanew by a 1\nedited heavier hot 5")
	a.want(`SELECT "key", kind FROM velosync_conflicts ORDER BY "key"`, "again delete-lost\nedited delete-lost")
}

// TestScenario_31_sentDelete: a delete that was sent, and lost with the master, stands where
// its device comes after one that has the row still: it has seen more.
func TestScenario_31_sentDelete(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	equal(t, allNotes, a, b, c)
	restore := backup(t, m)
	a.exec(`INSERT INTO notes VALUES ('y', 'soup', 'hot', 1)`)
	equal(t, allNotes, a, b)
	a.exec(`DELETE FROM notes WHERE id = 'y'`)
	a.sync()
	restore()
	equal(t, allNotes, b, a, c)
	c.want(allNotes, "x tea green 1")
	b.want(`SELECT "key", kind, rule FROM velosync_conflicts`, "y update-lost-to-delete time")
}

// TestScenario_31_setElements: of two arrays that come back, that of the device which has
// seen more stands: what was removed in the lost history does not return.
func TestScenario_31_setElements(t *testing.T) {
	const allSongs = `SELECT id, title, tags FROM songs ORDER BY id`
	for _, order := range []string{"abc", "acb", "bac", "bca", "cab", "cba"} {
		m := masterdtest.New(t, masterdtest.Options{})
		by := map[rune]*device{}
		for _, n := range "abcd" {
			by[n] = newDevice(t, m, string(n), nil)
		}
		a, b, c, d := by['a'], by['b'], by['c'], by['d']
		a.exec(songs, trackSongs, `INSERT INTO songs VALUES ('s', 'one', '["rock","slow"]')`)
		equal(t, allSongs, a, b, c, d)
		restore := backup(t, m)
		a.exec(`UPDATE songs SET tags = '["rock","slow","x","y"]'`)
		a.sync()
		c.sync()
		a.exec(`UPDATE songs SET tags = '["rock","x"]'`)
		a.sync()
		b.sync()
		b.exec(`UPDATE songs SET tags = '["rock","late"]'`)
		b.sync()
		restore()
		d.exec(`UPDATE songs SET tags = '["slow","live","rock"]'`) // knows nothing of all that
		for _, n := range order {
			by[n].sync()
		}
		equal(t, allSongs, a, b, c, d)
		d.want(allSongs, `s one ["late","live","rock"]`)
	}
}
