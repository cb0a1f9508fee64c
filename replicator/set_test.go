package replicator_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/replicator"
)

const (
	songs      = `CREATE TABLE songs(id TEXT PRIMARY KEY NOT NULL, title TEXT, tags TEXT)`
	trackSongs = `SELECT velosync_track('songs', '{"merge":{"tags":"set"}}')`
)

func TestSet_concurrentElements(t *testing.T) {
	_, a, b := pair(t, songs, trackSongs, `INSERT INTO songs VALUES ('s', 'one', '["rock","slow"]')`)
	a.exec(`UPDATE songs SET tags = '["rock","slow","long"]'`)
	b.exec(`UPDATE songs SET tags = '["rock"]', title = 'two'`, `UPDATE songs SET tags = '["rock", "blue"]'`)
	settle(a, b)
	for _, d := range []*device{a, b} {
		d.want(`SELECT title, tags FROM songs`, `two ["blue","long","rock"]`)
		d.want(`SELECT count(*) FROM velosync_conflicts`, "0")
	}
	// Whoever has seen an element removes it.
	b.exec(`UPDATE songs SET tags = NULL`)
	settle(b, a)
	a.want(`SELECT count(*) FROM songs WHERE tags IS NULL`, "1")
}

func TestSet_everyWayToWrite(t *testing.T) {
	t.Run("each mutation a log row", func(t *testing.T) { writeSets(t, 0) })
	t.Run("the log folded", func(t *testing.T) { writeSets(t, 1) })
}

func writeSets(t *testing.T, compact int) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", func(o *replicator.Options) { o.CompactAbove = compact }), newDevice(t, m, "b", nil)
	a.exec(songs, trackSongs, `INSERT INTO songs VALUES ('s', 'one', '["a","b"]')`)
	a.sync()
	b.sync()
	b.exec(`UPDATE songs SET tags = '["a","b","x"]'`)
	b.sync()
	// None of these knows of the x.
	a.exec(`INSERT OR REPLACE INTO songs VALUES ('s', 'two', '["b","c"]')`,
		`INSERT INTO songs VALUES ('s', 'three', '["c","d"]') ON CONFLICT(id) DO UPDATE SET tags = excluded.tags`,
		`UPDATE songs SET id = 's2'`, `UPDATE songs SET id = 's'`, `UPDATE songs SET title = 'four'`,
		`DELETE FROM songs`, `INSERT INTO songs VALUES ('s', 'five', '["d","e"]')`)
	settle(a, b)
	for _, d := range []*device{a, b} {
		d.want(`SELECT title, tags FROM songs`, `five ["d","e","x"]`)
		d.want(`SELECT count(*) FROM velosync_conflicts WHERE kind <> 'update-lost-to-delete'`, "0")
	}
}

// Answers get lost, the log is folded, and others remove what was applied: nothing comes back.
func TestSet_lostAnswers(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	net := &switchboard{}
	a := newDevice(t, m, "a", func(o *replicator.Options) { o.Transport, o.CompactAbove = net, 2 })
	b := newDevice(t, m, "b", nil)
	a.exec(songs, trackSongs, `INSERT INTO songs VALUES ('s', 'one', '["a","b"]')`)
	a.sync()
	b.sync()
	lost := errors.New("no answer")
	net.set(nil, func(*http.Request) error { return lost })
	a.exec(`UPDATE songs SET tags = '["a","b","c"]'`)
	if _, err := a.r.Sync(context.Background()); !errors.Is(err, lost) {
		t.Fatalf("sync: %v", err)
	}
	b.sync()
	b.exec(`UPDATE songs SET tags = '["b","x"]'`) // not the a, not the c
	b.sync()
	for _, set := range []string{`["a","b","c","d"]`, `["a","b","c"]`, `["a","b","c","e"]`, `["a","c","e","f"]`} {
		a.exec(`UPDATE songs SET tags = '` + set + `'`)
	}
	if _, err := a.r.Sync(context.Background()); !errors.Is(err, lost) {
		t.Fatalf("sync: %v", err)
	}
	net.set(nil, nil)
	settle(a, b)
	for _, d := range []*device{a, b} {
		d.want(`SELECT tags FROM songs`, `["e","f","x"]`)
		d.want(`SELECT count(*) FROM velosync_conflicts`, "0")
	}
}

// What is written during a round stays on top of what is pulled, and is a step of its own:
// it may remove what the round brought.
func TestSet_writesDuringRound(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	var a *device
	during := ""
	a = newDevice(t, m, "a", func(o *replicator.Options) {
		o.Step = func(step string) error {
			if step == during {
				a.exec(`UPDATE songs SET tags = json_insert(tags, '$[#]', '` + step + `')`)
			}
			return nil
		}
	})
	b := newDevice(t, m, "b", nil)
	a.exec(songs, trackSongs, `INSERT INTO songs VALUES ('s', 'one', '["a"]')`)
	a.sync()
	b.sync()
	for i, want := range []string{`["a","b0","push"]`, `["a","apply","b0","b1","push"]`, `["a","apply","b0","b1","b2","push","ack"]`} {
		during = []string{"push", "apply", "ack"}[i]
		b.exec(fmt.Sprintf(`UPDATE songs SET tags = json_insert(tags, '$[#]', 'b%d')`, i))
		b.sync()
		a.sync()
		a.want(`SELECT tags FROM songs`, want)
	}
	during = ""
	a.exec(`UPDATE songs SET tags = '["a","push","ack"]'`)
	settle(a, b)
	for _, d := range []*device{a, b} {
		d.want(`SELECT tags FROM songs`, `["a","push","ack"]`)
	}
}

func TestSet_refused(t *testing.T) {
	d := newDevice(t, masterdtest.New(t, masterdtest.Options{}), "a", nil)
	d.exec(songs, `INSERT INTO songs VALUES ('s', 'one', 'rock')`)
	if _, err := d.db.Exec(trackSongs); err == nil || !strings.Contains(err.Error(), "1 rows of \"songs\" have a tags") {
		t.Errorf("a table with what is no set: %v", err)
	}
	d.exec(`UPDATE songs SET tags = ' [1, "x", {"y": []}]'`, trackSongs)
	for _, v := range []string{`'rock'`, `'{"a":1}'`, `'null'`, `'[1'`, `7`, `x'5b5d'`, `printf('["%2000000s"]', 'x')`} {
		if _, err := d.db.Exec(`UPDATE songs SET tags = ` + v); err == nil || !strings.Contains(err.Error(), "songs.tags is a set") {
			t.Errorf("%s: %v", v, err)
		}
	}
	d.want(`SELECT tags FROM songs`, ` [1, "x", {"y": []}]`)
}
