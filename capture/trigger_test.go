package capture

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/capture/change"
)

const notes = `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT COLLATE NOCASE, body TEXT, score REAL, raw);
SELECT velosync_track('notes', '{"weight":"score"}');`

func TestTriggers(t *testing.T) {
	const line = `SELECT op || ' ' || pk || ' ' || cols FROM _velosync_wal WHERE op <> 'X' ORDER BY lsn`
	tests := []struct {
		name   string
		before string
		script string
		want   []change.Value
	}{
		{"insert logs all columns", "", `INSERT INTO notes(id, title) VALUES ('a', 'x')`, []change.Value{"I a -1"}},
		{"update logs what changed", `INSERT INTO notes(id, title) VALUES ('a', 'x')`, `UPDATE notes SET title = 'y', body = body WHERE id = 'a'`, []change.Value{"I a -1", "U a 1"}},
		{"an update to the same logs nothing", `INSERT INTO notes(id, title) VALUES ('a', 'x')`, `UPDATE notes SET title = 'x'`, []change.Value{"I a -1"}},
		{"a change of case under NOCASE is one", `INSERT INTO notes(id, title) VALUES ('a', 'x')`, `UPDATE notes SET title = 'X'`, []change.Value{"I a -1", "U a 1"}},
		{"1 and 1.0 are two values", `INSERT INTO notes(id, raw) VALUES ('a', 1)`, `UPDATE notes SET raw = 1.0`, []change.Value{"I a -1", "U a 8"}},
		{"-0.0 over 0.0 is no change", `INSERT INTO notes(id, raw) VALUES ('a', 0.0)`, `UPDATE notes SET raw = -0.0`, []change.Value{"I a -1"}},
		{"a changed key is a delete and an insert", `INSERT INTO notes(id) VALUES ('a')`, `UPDATE notes SET id = 'b'`, []change.Value{"I a -1", "D a -1", "I b -1"}},
		{"delete", `INSERT INTO notes(id) VALUES ('a')`, `DELETE FROM notes`, []change.Value{"I a -1", "D a -1"}},
		{"upsert", `INSERT INTO notes(id) VALUES ('a')`, `INSERT INTO notes(id, body) VALUES ('a', 'z') ON CONFLICT DO UPDATE SET body = excluded.body`, []change.Value{"I a -1", "U a 2"}},
		{"replace of the same key", `INSERT INTO notes(id) VALUES ('a')`, `INSERT OR REPLACE INTO notes(id, body) VALUES ('a', 'z')`, []change.Value{"I a -1", "I a -1"}},
		{"rollback logs nothing", "", `BEGIN; INSERT INTO notes(id) VALUES ('a'); ROLLBACK`, nil},
		{"savepoint", "", `BEGIN; INSERT INTO notes(id) VALUES ('a'); SAVEPOINT s; INSERT INTO notes(id) VALUES ('b'); ROLLBACK TO s; COMMIT`, []change.Value{"I a -1"}},
		{"quiet while remote changes are applied", "", `UPDATE _velosync_state SET applying = 1; INSERT INTO notes(id) VALUES ('a'); UPDATE notes SET body = 'x'; UPDATE notes SET id = 'b'; DELETE FROM notes; UPDATE _velosync_state SET applying = 0`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDevice(t, notes+tt.before+";"+tt.script)
			if diff := cmp.Diff(tt.want, column(t, d, line)); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTriggers_weight(t *testing.T) {
	d := newDevice(t, notes)
	for _, w := range []string{"'high'", "9e999", "x'00'", "1e10"} {
		fails(t, d, `INSERT INTO notes(id, score) VALUES ('a', `+w+`)`)
	}
	run(t, d, `INSERT INTO notes(id, score) VALUES ('a', 0.5)`)
	fails(t, d, `UPDATE notes SET score = 'x'`)
	run(t, d, `DELETE FROM notes`)
	if got := column(t, d, `SELECT weight FROM _velosync_wal WHERE op = 'D'`); len(got) != 1 || got[0] != 0.5 {
		t.Errorf("weight of the delete = %v, want 0.5", got)
	}
}

// TestTriggers_evict: INSERT OR REPLACE takes other rows away without firing their delete
// trigger; the rows about to go are logged, and count if they are gone.
func TestTriggers_evict(t *testing.T) {
	tests := []struct{ name, table, before, script, gone string }{
		{"unique column", `CREATE TABLE u(id TEXT PRIMARY KEY NOT NULL, mail TEXT UNIQUE)`,
			`INSERT INTO u VALUES ('a', 'x')`, `INSERT OR REPLACE INTO u VALUES ('b', 'x')`, "a"},
		{"update or replace", `CREATE TABLE u(id TEXT PRIMARY KEY NOT NULL, mail TEXT UNIQUE)`,
			`INSERT INTO u VALUES ('a', 'x'), ('b', 'y')`, `UPDATE OR REPLACE u SET mail = 'x' WHERE id = 'b'`, "a"},
		{"expression index", `CREATE TABLE u(id TEXT PRIMARY KEY NOT NULL, mail TEXT); CREATE UNIQUE INDEX m ON u(lower(mail) COLLATE BINARY DESC)`,
			`INSERT INTO u VALUES ('a', 'X')`, `INSERT OR REPLACE INTO u VALUES ('b', 'x')`, "a"},
		{"partial index", `CREATE TABLE u(id TEXT PRIMARY KEY NOT NULL, mail TEXT, seen INT); CREATE UNIQUE INDEX m ON u(mail) WHERE seen = 1`,
			`INSERT INTO u VALUES ('a', 'x', 1), ('c', 'x', 0)`, `INSERT OR REPLACE INTO u VALUES ('b', 'x', 1)`, "a"},
		{"key equal by collation", `CREATE TABLE u(id TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, mail TEXT)`,
			`INSERT INTO u VALUES ('a', 'x')`, `INSERT OR REPLACE INTO u VALUES ('A', 'y')`, "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDevice(t, tt.table+`; SELECT velosync_track('u');`+tt.before+`; DELETE FROM _velosync_wal;`+tt.script)
			edits := pendingOf(t, d)
			told := false
			for _, e := range edits {
				row, err := d.readRow(d.tables[0], e, false)
				if err != nil {
					t.Fatal(err)
				}
				if want := e.key.value() == tt.gone; row.gone != want {
					t.Errorf("row %v: gone = %t, want %t", e.key.value(), row.gone, want)
				}
				told = told || row.gone
			}
			if !told {
				t.Errorf("row %s is gone, and nothing is pending of it", tt.gone)
			}
		})
	}
	t.Run("OR IGNORE evicts nobody", func(t *testing.T) {
		d := newDevice(t, `CREATE TABLE u(id TEXT PRIMARY KEY NOT NULL, mail TEXT UNIQUE); INSERT INTO u VALUES ('a', 'x'); SELECT velosync_track('u');
			UPDATE _velosync_state SET acked = 1; UPDATE _velosync_wal SET op = 'X'; INSERT OR IGNORE INTO u VALUES ('b', 'x')`)
		for _, e := range pendingOf(t, d) {
			row, err := d.readRow(d.tables[0], e, false)
			if err != nil || !row.skip && e.lsn > 1 {
				t.Errorf("row %v is shipped although nothing happened to it (%v)", e.key.value(), err)
			}
		}
	})
}

func pendingOf(t *testing.T, d *Device) []*edit {
	t.Helper()
	if err := d.refresh(); err != nil {
		t.Fatal(err)
	}
	s, err := d.State()
	if err != nil {
		t.Fatal(err)
	}
	edits, err := d.pending(s.Acked)
	if err != nil {
		t.Fatal(err)
	}
	return edits
}

// TestTriggers_plainSQLite: whoever writes without our functions is logged too.
func TestTriggers_builtInsOnly(t *testing.T) {
	d := newDevice(t, `CREATE TABLE "od""d t"("k 1" TEXT NOT NULL, k2 BLOB NOT NULL, "se'ra" REAL, PRIMARY KEY("k 1", k2)) WITHOUT ROWID;
		SELECT velosync_track('od"d t', '{"weight":"se''ra"}');
		INSERT INTO "od""d t" VALUES ('a', x'00ff', 1.5), ('b', 2.5, NULL)`)
	got := column(t, d, `SELECT pk FROM _velosync_wal ORDER BY lsn`)
	want := []change.Value{`["ta","b00FF"]`, `["tb","r2.5"]`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("composite keys (-want +got):\n%s", diff)
	}
}
