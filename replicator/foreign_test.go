package replicator_test

import (
	"strings"
	"testing"
	"time"

	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
)

// TestForeign: one device has tables of its own beside the synced one, which refer to it and to
// which it refers. However rows are taken from it, by pages, by a snapshot, or because they had
// rotted, none of these is left without its parent, and what can't be done waits and is told.
func TestForeign(t *testing.T) {
	now := time.Now()
	m := snapshotMaster(t, store.Options{Retention: 24 * time.Hour, Now: func() time.Time { return now }}, server.Options{Rate: -1})
	a := newDevice(t, m, "a", nil)
	b := newDevice(t, m, "b", ranges(16))
	a.exec(`CREATE TABLE kinds(id TEXT PRIMARY KEY NOT NULL)`, `INSERT INTO kinds VALUES ('tea'), ('soup'), ('cake')`,
		`CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, kind TEXT REFERENCES kinds)`, `SELECT velosync_track('notes')`,
		`INSERT INTO notes VALUES ('n1', 'tea'), ('n2', 'soup'), ('n3', NULL), ('n4', NULL), ('n5', NULL)`)
	a.sync()
	b.exec(`CREATE TABLE kinds(id TEXT PRIMARY KEY NOT NULL)`, `INSERT INTO kinds VALUES ('tea')`)
	b.sync()
	const all = `SELECT (SELECT group_concat(id, ' ' ORDER BY id) FROM notes), (SELECT count(*) FROM _velosync_parked)`
	b.want(all, "n1 n3 n4 n5 1") // its list of kinds lacks one
	b.exec(`INSERT INTO kinds VALUES ('soup')`)
	b.sync()
	b.want(all, "n1 n2 n3 n4 n5 0")

	b.exec(`CREATE TABLE thumbs(note TEXT REFERENCES notes ON DELETE CASCADE, size INT, PRIMARY KEY (note, size)) WITHOUT ROWID`,
		`CREATE TABLE faces(name TEXT, note TEXT, size INT, FOREIGN KEY (note, size) REFERENCES thumbs ON DELETE CASCADE)`,
		`CREATE TABLE pins(note TEXT REFERENCES notes)`,
		`INSERT INTO thumbs SELECT id, 64 FROM notes UNION ALL SELECT id, 128 FROM notes`, `INSERT INTO faces SELECT 'f', note, size FROM thumbs`, `INSERT INTO pins VALUES ('n2')`)
	const local = `SELECT (SELECT group_concat(note || size, ' ' ORDER BY note, size) FROM thumbs WHERE size = 64), (SELECT count(*) FROM thumbs) - (SELECT count(*) FROM faces), (SELECT count(*) FROM pragma_foreign_key_check)`
	a.exec(`DELETE FROM notes WHERE id IN ('n1', 'n2')`)
	a.sync()
	b.sync()
	b.want(all, "n2 n3 n4 n5 1")
	b.want(local, "n264 n364 n464 n564 0 0")
	if reason := b.rows(`SELECT reason FROM _velosync_parked`); !strings.Contains(reason, `row n2 of "pins" refers to row n2 of "notes"`) {
		t.Errorf("the reason names not both rows: %s", reason)
	}
	b.exec(`DELETE FROM pins`)
	b.sync()
	b.want(all, "n3 n4 n5 0")
	b.want(local, "n364 n464 n564 0 0")

	b.behind(`INSERT INTO notes VALUES ('rot', NULL)`)
	b.exec(`INSERT INTO thumbs VALUES ('rot', 64)`, `INSERT INTO faces VALUES ('f', 'rot', 64)`)
	if v := b.verify(); len(v.Divergences) != 1 {
		t.Errorf("verified: %+v, want one range that differs", v)
	}
	b.want(all, "n3 n4 n5 0")
	b.want(local, "n364 n464 n564 0 0")

	a.exec(`DELETE FROM notes WHERE id = 'n3'`)
	for range 5 { // the delete is forgotten, b is away
		now = now.Add(24 * time.Hour)
		a.exec(`UPDATE notes SET kind = iif(kind IS 'tea', 'cake', 'tea') WHERE id = 'n4'`)
		a.sync()
	}
	if st := spaceStats(t, m); st.Tombstones != 0 {
		t.Fatalf("%d tombstones are kept: no snapshot is tested", st.Tombstones)
	}
	b.exec(`INSERT OR IGNORE INTO kinds VALUES ('cake')`)
	b.sync()
	b.want(all, "n4 n5 0")
	b.want(local, "n464 n564 0 0")
	equal(t, `SELECT id, kind FROM notes ORDER BY id`, a, b)
}
