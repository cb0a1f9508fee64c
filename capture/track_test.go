package capture

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/velosync/velosync/capture/change"
)

func TestTrack_refuses(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"no such table", `SELECT velosync_track('nothing')`, "create it first"},
		{"a view", `CREATE VIEW v AS SELECT 1; SELECT velosync_track('v')`, "is a view"},
		{"no primary key", `CREATE TABLE t(a); SELECT velosync_track('t')`, "no primary key"},
		{"an integer primary key", `CREATE TABLE t(id INTEGER PRIMARY KEY, a); SELECT velosync_track('t')`, "DEFAULT (random())"},
		{"a misspelt option", `CREATE TABLE t(id TEXT PRIMARY KEY, a); SELECT velosync_track('t', '{"wieght":"a"}')`, `"wieght"`},
		{"no JSON", `CREATE TABLE t(id TEXT PRIMARY KEY, a); SELECT velosync_track('t', 'weight')`, "JSON object"},
		{"a weight that is no column", `CREATE TABLE t(id TEXT PRIMARY KEY, a); SELECT velosync_track('t', '{"weight":"b"}')`, "it has id, a"},
		{"a weight in the key", `CREATE TABLE t(id TEXT PRIMARY KEY, a); SELECT velosync_track('t', '{"weight":"id"}')`, "in the primary key"},
		{"a column in two groups", `CREATE TABLE t(id TEXT PRIMARY KEY, a, b); SELECT velosync_track('t', '{"groups":[["a"],["b","A"]]}')`, "twice"},
		{"weights that are none", `CREATE TABLE t(id TEXT PRIMARY KEY, w); INSERT INTO t VALUES (1, 'high'); SELECT velosync_track('t', '{"weight":"w"}')`, "mend them first"},
		{"a trigger that deletes from a tracked table", `CREATE TABLE t(id TEXT PRIMARY KEY, a, at); CREATE TRIGGER trim AFTER INSERT ON t BEGIN DELETE FROM t WHERE at < NEW.at - 9; END; SELECT velosync_track('t')`, "applying"},
		{"our own tables", `SELECT velosync_track('_velosync_wal')`, "internal table"},
		{"too many arguments", `CREATE TABLE t(id TEXT PRIMARY KEY, a); SELECT velosync_track('t', '{}', 'x')`, "one or two arguments"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDevice(t, "")
			before, last, _ := strings.Cut(tt.script, "SELECT velosync_track")
			if before != "" {
				run(t, d, before)
			}
			if err := fails(t, d, "SELECT velosync_track"+last); !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
			if got := dump(t, d, `SELECT (SELECT count(*) FROM _velosync_table), (SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '\_velosync%' ESCAPE '\')`); got != "int64:0 int64:0" {
				t.Errorf("tables and triggers left behind: %s", got)
			}
		})
	}
}

func TestTrack_presentRows(t *testing.T) {
	d := newDevice(t, `CREATE TABLE t(id TEXT PRIMARY KEY, a); INSERT INTO t VALUES ('x', 1), ('y', 2), (NULL, 3);
		SELECT velosync_track('t'); SELECT velosync_track('t')`)
	if got := fmt.Sprint(column(t, d, `SELECT op || pk FROM _velosync_wal ORDER BY lsn`)); got != "[Ix Iy]" {
		t.Errorf("log: %s, want the two rows that have a key, once", got)
	}
	run(t, d, `INSERT INTO t VALUES (NULL, 4)`)
	findings, err := d.Doctor()
	if err != nil || len(findings) != 1 || !strings.Contains(findings[0].What, "2 rows have a NULL") {
		t.Errorf("doctor: %+v, %v", findings, err)
	}
}

func TestTrack_defaultGroup(t *testing.T) {
	for table, want := range map[string]int{
		`(id TEXT PRIMARY KEY, title, body, embedding BLOB)`:    1, // a text must not meet another's embedding
		`(id TEXT PRIMARY KEY, title, v F32_BLOB(4))`:           1,
		`(id TEXT PRIMARY KEY, title, body, picture BLOB)`:      3,
		`(id TEXT PRIMARY KEY, title, title_vec BLOB, n FLOAT)`: 1,
	} {
		d := newDevice(t, `CREATE TABLE t`+table+`; SELECT velosync_track('t')`)
		if err := d.refresh(); err != nil {
			t.Fatal(err)
		}
		if got := len(d.tables[0].registers); got != want {
			t.Errorf("%s: %d registers, want %d", table, got, want)
		}
	}
}

func TestUntrack(t *testing.T) {
	d := newDevice(t, kv+`INSERT INTO kv(k) VALUES ('x'), ('y'); SELECT velosync_untrack('kv'); INSERT INTO kv(k) VALUES ('z')`)
	if got := dump(t, d, `SELECT count(*), max(lsn), max(op) FROM _velosync_wal`); got != "int64:1 int64:2 string:X" {
		t.Errorf("log: %s, want the newest row alone, spent", got)
	}
	run(t, d, `SELECT velosync_track('kv')`)
	if got := dump(t, d, `SELECT count(*) FROM _velosync_wal WHERE op = 'I' AND lsn > 2`); got != "int64:3" {
		t.Errorf("tracked again: %s rows logged, want 3", got)
	}
	fails(t, d, `SELECT velosync_untrack('nothing')`)
}

// TestMend: ORMs migrate by copy, drop and rename, which takes triggers away.
func TestMend(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k) VALUES ('x')`)
	f.sync(t, &change.Pull{To: 1})
	run(t, f.Device, `CREATE TABLE n(k TEXT PRIMARY KEY NOT NULL, a, b, u TEXT UNIQUE); INSERT INTO n SELECT * FROM kv; DROP TABLE kv; ALTER TABLE n RENAME TO kv;
		INSERT INTO kv(k) VALUES ('missed')`)
	p := pushOf(t, f.begin(t), Limits{})[0]
	if len(p.Blocks) != 1 || len(p.Blocks[0].Keys) != 2 {
		t.Fatalf("push after the rebuild: %+v, want both rows", p.Blocks)
	}
	run(t, f.Device, `UPDATE kv SET a = 1`)
	if got := dump(t, f.Device, `SELECT count(*) FROM _velosync_wal WHERE op = 'U'`); got != "int64:2" {
		t.Errorf("%s updates logged after mending, want 2", got)
	}
}

func TestTrack_quietTrigger(t *testing.T) {
	f := newFile(t, `CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, a, at);
		CREATE TABLE seen(id);
		CREATE TRIGGER touch AFTER UPDATE OF a ON t WHEN (SELECT applying FROM _velosync_state) = 0 BEGIN UPDATE t SET at = 'touched' WHERE id = NEW.id; END;
		CREATE TRIGGER follow AFTER UPDATE ON t BEGIN INSERT INTO seen VALUES (NEW.id); END;
		SELECT velosync_track('t'); INSERT INTO t VALUES ('x', 1, 0); UPDATE t SET a = 2`)
	f.sync(t, &change.Pull{To: 1})
	f.sync(t, &change.Pull{To: 2, Blocks: []change.Block{{Regs: 1, Keys: []change.Value{"x"}, Columns: [][]change.Value{{int64(3)}}}}})
	if got := dump(t, f.Device, `SELECT a, at, (SELECT count(*) FROM seen) FROM t`); got != "int64:3 string:touched int64:3" {
		t.Errorf("row and followed updates: %s", got)
	}
}

// TestQuietly: what a user's trigger writes to a tracked table while remote changes are
// applied is left out, whatever the way it writes; what it writes elsewhere is not.
func TestQuietly(t *testing.T) {
	f := newFile(t, `CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, a, at, n INT DEFAULT 0);
		CREATE TABLE "Au""dit"(id TEXT PRIMARY KEY NOT NULL DEFAULT (hex(randomblob(8))), what);
		CREATE TABLE words(id, a); CREATE TABLE relay(id);
		SELECT velosync_track('t', '{"groups":[]}'), velosync_track('aU"dit');
		CREATE TRIGGER audit_insert AFTER INSERT ON t BEGIN
			INSERT INTO words VALUES (NEW.id, NEW.a); INSERT INTO "au""DIT"(what) VALUES ('insert ' || NEW.id); END;
		CREATE TRIGGER audit_update AFTER UPDATE OF a ON t BEGIN
			INSERT OR REPLACE INTO "Au""dit" VALUES (NEW.id, NEW.a) ON CONFLICT DO UPDATE SET what = 'again';
			UPDATE t SET at = 'touched', n = n + 1 WHERE id = NEW.id;
			UPDATE words SET a = NEW.a WHERE id = NEW.id;
			INSERT INTO relay VALUES (NEW.id); END;
		CREATE TRIGGER audit_delete AFTER DELETE ON t BEGIN
			DELETE FROM words WHERE id = OLD.id; UPDATE OR IGNORE "Au""dit" SET what = 'gone'; END;
		CREATE TRIGGER relayed AFTER INSERT ON relay BEGIN INSERT INTO "Au""dit"(what) VALUES ('relayed'); END;
		INSERT INTO t(id, a) VALUES ('mine', 1)`)
	f.sync(t, &change.Pull{To: 2})
	const audit = `SELECT group_concat(what) FROM (SELECT what FROM "Au""dit" ORDER BY rowid)`
	row := func(regs change.Bits, key string, cols ...change.Value) change.Block {
		b := change.Block{Table: 1, Regs: regs, Keys: []change.Value{key}}
		for _, c := range cols {
			b.Columns = append(b.Columns, []change.Value{c})
		}
		return b
	}
	f.sync(t, &change.Pull{To: 3, Blocks: []change.Block{row(7, "theirs", int64(1), "at", int64(5)), row(1, "mine", int64(2))}})
	f.sync(t, &change.Pull{To: 4, Blocks: []change.Block{row(1, "theirs", int64(3))}})
	for query, want := range map[string]string{
		`SELECT id, a, at, n FROM t ORDER BY id`:             "string:mine int64:2 <nil>:<nil> int64:0\nstring:theirs int64:3 string:at int64:5",
		`SELECT id, a FROM words ORDER BY id`:                "string:mine int64:2\nstring:theirs int64:3",
		`SELECT count(*) FROM relay`:                         "int64:2",
		audit:                                                "string:insert mine",
		`SELECT count(*) FROM _velosync_wal WHERE op <> 'X'`: "int64:0",
	} {
		if got := dump(t, f.Device, query); got != want {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", query, got, want)
		}
	}
	f.sync(t, &change.Pull{To: 5, Blocks: []change.Block{{Table: 1, Delete: true, Keys: []change.Value{"theirs"}}}})
	if got := dump(t, f.Device, audit+` UNION ALL SELECT count(*) FROM words`); got != "string:insert mine\nint64:1" {
		t.Errorf("after a delete: %s", got)
	}
	// What is written here fires them, on this connection too.
	run(t, f.Device, `UPDATE t SET a = 4`)
	if got := dump(t, f.Device, `SELECT at, n FROM t`) + dump(t, f.Device, audit); got != "string:touched int64:1string:insert mine,4,relayed" {
		t.Errorf("here: %s", got)
	}
	// And after a round that failed halfway.
	cut := errors.New("cut")
	r := f.begin(t)
	pushOf(t, r, Limits{})
	_, err := f.Finish(r, func(yield func(*change.Pull, error) bool) {
		if yield(&change.Pull{To: 6, Blocks: []change.Block{row(1, "mine", int64(8))}}, nil) {
			yield(nil, cut)
		}
	}, false)
	if !errors.Is(err, cut) {
		t.Fatalf("a page that is cut: %v", err)
	}
	run(t, f.Device, `UPDATE t SET a = 4`)
	if got := dump(t, f.Device, `SELECT a, at, n FROM t`) + dump(t, f.Device, audit); got != "int64:4 string:touched int64:2string:insert mine,again,relayed,relayed" {
		t.Errorf("here, after a round that failed: %s", got)
	}

	// A trigger that is made while the answer is on its way.
	f.sync(t, &change.Pull{To: 9})
	r = f.begin(t)
	pushOf(t, r, Limits{})
	run(t, f.reader, `CREATE TRIGGER trim AFTER UPDATE ON t BEGIN DELETE FROM t WHERE n > 5; END`)
	if _, err := f.Finish(r, pages(&change.Pull{To: 10, Blocks: []change.Block{row(1, "mine", int64(9))}}), false); err == nil || !strings.Contains(err.Error(), "trim") {
		t.Errorf("a trigger that deletes: %v", err)
	}
	if got := dump(t, f.Device, `SELECT a, applying FROM t, _velosync_state`); got != "int64:4 int64:0" {
		t.Errorf("the row is %s", got)
	}
}
