package capture

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/capture/change"
)

// A file is a device as a replicator has it: a writing and a reading connection.
type file struct {
	*Device
	reader *Device
	names  byte
}

func newFile(t *testing.T, script string) *file {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.db")
	w, _ := openFile(t, path)
	r, _ := openFile(t, path)
	if script != "" {
		run(t, w, script)
	}
	return &file{Device: w, reader: r}
}

func (f *file) begin(t *testing.T) *Round {
	t.Helper()
	f.names++
	r, err := f.Begin(f.reader, change.Name{f.names}, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Release() })
	return r
}

func pushOf(t *testing.T, r *Round, l Limits) []*change.Push {
	t.Helper()
	var parts []*change.Push
	for p, err := range r.Parts(l) {
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	if err := r.Release(); err != nil {
		t.Fatal(err)
	}
	return parts
}

func pages(list ...*change.Pull) iter.Seq2[*change.Pull, error] {
	return func(yield func(*change.Pull, error) bool) {
		for i, p := range list {
			p.Done = i == len(list)-1
			if !yield(p, nil) {
				return
			}
		}
	}
}

func (f *file) finish(t *testing.T, r *Round, list ...*change.Pull) Applied {
	t.Helper()
	a, err := f.Finish(r, pages(list...), false)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sync ships what is pending to a master that takes it, and applies pull as the answer.
func (f *file) sync(t *testing.T, pull *change.Pull) Applied {
	t.Helper()
	r := f.begin(t)
	pushOf(t, r, Limits{})
	if pull.Tables == nil && r.Space == nil {
		pull.Tables = r.Tables
	}
	return f.finish(t, r, pull)
}

// answer is the push of one device as another one's pull.
func answer(parts []*change.Push, tables change.Schema, to change.Seq) *change.Pull {
	pull := &change.Pull{Tables: tables, To: to}
	for _, p := range parts {
		for _, b := range p.Blocks {
			b.Stamps = nil
			if b.Delete {
				b.Regs = 0
			}
			pull.Blocks = append(pull.Blocks, b)
		}
	}
	return pull
}

func dump(t *testing.T, d *Device, query string) string {
	t.Helper()
	var lines []string
	if err := d.c.Query(query, nil, func(v []change.Value) error {
		s := make([]string, len(v))
		for i := range v {
			s[i] = fmt.Sprintf("%T:%v", v[i], v[i])
		}
		lines = append(lines, strings.Join(s, " "))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

const kv = `CREATE TABLE kv(k TEXT PRIMARY KEY NOT NULL, a, b, u TEXT UNIQUE); SELECT velosync_track('kv', '{"groups":[]}');`

// TestFinish_values: what one device wrote arrives bit by bit, whatever its class and
// however its column is declared.
func TestFinish_values(t *testing.T) {
	a := newFile(t, `CREATE TABLE v(k BLOB PRIMARY KEY NOT NULL, x, d DATETIME, f BOOLEAN, ts TIMESTAMP, n NUMERIC, g GENERATED ALWAYS AS (x) VIRTUAL, CHECK (k <> 'none'));
		CREATE INDEX vx ON v(d); SELECT velosync_track('v');
		INSERT INTO v(k, x, d, f, ts, n) VALUES
		 (1, NULL, '2026-01-02 03:04:05', 1, 1700000000, 1.0), ('1', 9223372036854775807, 'not a date', 0, 'x', '12abc'),
		 (x'31', -9223372036854775808, 5, 'yes', 1.5, x''), (2.5, 1e308, NULL, NULL, NULL, NULL), ('e', '', '', '', '', ''),
		 ('z', x'', x'00', 2, 3, 4), ('nul', 'a' || char(0) || 'b', char(0), 1, 2, 3), ('bad', CAST(x'ff80' AS TEXT), 1, 1, 1, 1),
		 ('sub', 4.9e-324, 1, 1, 1, 1), ('inf', 9e999, -9e999, 1, 1, 1), ('neg', -0.0, 1, 1, 1, 1), ('🌍', '🌍', 1, 1, 1, 1)`)
	b := newFile(t, "")
	ra := a.begin(t)
	parts := pushOf(t, ra, Limits{Rows: 5})
	if len(parts) != 3 || !parts[0].More || parts[2].More || parts[2].Part != 2 {
		t.Fatalf("12 rows in parts of 5: got %d parts", len(parts))
	}
	b.sync(t, answer(parts, ra.Tables, 12))
	const all = `SELECT +k, +x, hex(x), +d, +f, +ts, +n, +g, typeof(f) FROM v ORDER BY typeof(k), k`
	if diff := cmp.Diff(dump(t, a.Device, all), dump(t, b.Device, all)); diff != "" {
		t.Errorf("tables differ (-a +b):\n%s", diff)
	}
	const schema = `SELECT sql FROM sqlite_schema WHERE name NOT LIKE '\_velosync%' ESCAPE '\' AND name NOT LIKE 'velosync%' ORDER BY name`
	if diff := cmp.Diff(dump(t, a.Device, schema), dump(t, b.Device, schema)); diff != "" {
		t.Errorf("schemas differ (-a +b):\n%s", diff)
	}
	if got := dump(t, b.Device, `SELECT count(*) FROM _velosync_wal WHERE op <> 'X'`); got != "int64:0" {
		t.Errorf("the apply step was logged: %s rows", got)
	}
	if _, err := b.c.Exec(`INSERT INTO v(k) VALUES ('none')`); err == nil {
		t.Error("the CHECK did not travel")
	}
}

func TestFinish_prunesTheLog(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, a, b) VALUES ('x', 1, 1), ('y', 1, 1)`)
	r := f.begin(t)
	pushOf(t, r, Limits{})
	run(t, f.Device, `UPDATE kv SET a = 2 WHERE k = 'x'`) // while the push is under way
	f.finish(t, r, &change.Pull{Tables: r.Tables, To: 7})
	want := "int64:1 string:I string:x int64:1 int64:0\nint64:3 string:U string:x int64:1 int64:0"
	if got := dump(t, f.Device, `SELECT lsn, op, pk, cols, seen FROM _velosync_wal WHERE op <> 'X'`); got != want {
		t.Errorf("log after the answer:\n%s\nwant the insert narrowed to column a, which the update hides, and the update:\n%s", got, want)
	}
	edits := pendingOf(t, f.Device)
	if len(edits) != 1 || edits[0].cols != 1 || edits[0].lsn != 3 {
		t.Fatalf("pending: %+v", edits)
	}
	f.sync(t, &change.Pull{To: 8})
	if got := dump(t, f.Device, `SELECT lsn, op FROM _velosync_wal`); got != "int64:3 string:X" {
		t.Errorf("log when all is applied: %s, want its newest row, spent", got)
	}
	run(t, f.Device, `UPDATE kv SET a = 3 WHERE k = 'x'`)
	if got := dump(t, f.Device, `SELECT max(lsn), seen FROM _velosync_wal`); got != "int64:4 int64:8" {
		t.Errorf("newest lsn and its seen: %s, want 4 and 8", got)
	}
}

func TestFinish_pendingStaysOnTop(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, a, b) VALUES ('x', 1, 1), ('gone', 1, 1)`)
	f.sync(t, &change.Pull{To: 2})
	r := f.begin(t)
	pushOf(t, r, Limits{})
	run(t, f.Device, `UPDATE kv SET a = 'mine' WHERE k = 'x'; DELETE FROM kv WHERE k = 'gone'`)
	f.finish(t, r, &change.Pull{To: 4, Blocks: []change.Block{
		{Regs: 7, Keys: []change.Value{"x", "gone"}, Columns: [][]change.Value{{"theirs", "t"}, {"theirs", "t"}, {nil, nil}}},
	}})
	if got, want := dump(t, f.Device, `SELECT k, a, b FROM kv`), "string:x string:mine string:theirs"; got != want {
		t.Errorf("rows: %s, want %s", got, want)
	}
}

// TestFinish_deleteUnderPending: a delete pulled under pending edits leaves the row, and
// its columns are as old as they were.
func TestFinish_deleteUnderPending(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, a, b) VALUES ('x', 1, 1)`)
	f.sync(t, &change.Pull{To: 5})
	r := f.begin(t)
	pushOf(t, r, Limits{})
	run(t, f.Device, `UPDATE kv SET a = 2`)
	f.finish(t, r, &change.Pull{To: 9, Blocks: []change.Block{{Delete: true, Keys: []change.Value{"x"}}}})
	run(t, f.Device, `UPDATE kv SET b = 3`) // at seen 9, but of a column that is older than the delete
	parts := pushOf(t, f.begin(t), Limits{})
	if len(parts[0].Blocks) != 1 || len(parts[0].Blocks[0].Keys) != 1 {
		t.Fatalf("push: %+v", parts[0].Blocks)
	}
	e := parts[0].Blocks[0].Edit(0, f.id(t), 3)
	want := []change.RegEdit{{Reg: 0, Seen: 5, LSN: 2}, {Reg: 1, Seen: 5, LSN: 3}}
	if diff := cmp.Diff(want, e.Regs); diff != "" || e.Seen != 5 {
		t.Errorf("edit saw %d, registers (-want +got):\n%s", e.Seen, diff)
	}
}

// TestFinish_deleteUnderPendingAfterUpdate: a page before the one with the delete brought
// a column. The pull as a whole brings the delete alone. Simulation, seeds 279, 350, 646.
func TestFinish_deleteUnderPendingAfterUpdate(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, a, b) VALUES ('x', 1, 1)`)
	f.sync(t, &change.Pull{To: 5})
	r := f.begin(t)
	pushOf(t, r, Limits{})
	run(t, f.Device, `UPDATE kv SET a = 2`)
	f.finish(t, r,
		&change.Pull{To: 7, Blocks: []change.Block{block("x", 2, int64(7))}},
		&change.Pull{To: 9, Blocks: []change.Block{{Delete: true, Keys: []change.Value{"x"}}}})
	if got, want := dump(t, f.Device, `SELECT a, b FROM kv`), "int64:2 int64:1"; got != want {
		t.Errorf("row: %s, want %s", got, want)
	}
	if got, want := dump(t, f.Device, `SELECT reg, seen FROM _velosync_under`), "int64:0 int64:5\nint64:1 int64:5\nint64:2 int64:5"; got != want {
		t.Errorf("registers and what they have seen:\n%s\nwant:\n%s", got, want)
	}
}

// TestFinish_rowUnderPendingAfterDelete: a page before the one with the row said that it is
// deleted. The pull as a whole brings the row, and leaves no mark of the delete.
func TestFinish_rowUnderPendingAfterDelete(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, a, b) VALUES ('x', 1, 1)`)
	f.sync(t, &change.Pull{To: 5})
	r := f.begin(t)
	pushOf(t, r, Limits{})
	run(t, f.Device, `UPDATE kv SET a = 2`)
	f.finish(t, r,
		&change.Pull{To: 7, Blocks: []change.Block{{Delete: true, Keys: []change.Value{"x"}}}},
		&change.Pull{To: 9, Blocks: []change.Block{block("x", 7, "theirs", "theirs", nil)}})
	if got, want := dump(t, f.Device, `SELECT a, b FROM kv`), "int64:2 string:theirs"; got != want {
		t.Errorf("row: %s, want %s", got, want)
	}
	if got := dump(t, f.Device, `SELECT reg, seen FROM _velosync_under`); got != "" {
		t.Errorf("registers that are as old as before a delete: %s, want none", got)
	}
}

func (f *file) id(t *testing.T) change.DeviceID {
	s, err := f.State()
	if err != nil {
		t.Fatal(err)
	}
	return s.Device
}

func TestFinish_exchangesUniqueValues(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, u) VALUES ('x', 'one'), ('y', 'two'), ('z', 'three')`)
	a := f.sync(t, &change.Pull{To: 9, Blocks: []change.Block{{Regs: 4, Keys: []change.Value{"x", "y", "z"}, Columns: [][]change.Value{{"two", "three", "one"}}}}})
	want := "string:x string:two\nstring:y string:three\nstring:z string:one"
	if got := dump(t, f.Device, `SELECT k, u FROM kv ORDER BY k`); got != want || a.Parked != 0 {
		t.Errorf("rows:\n%s\nwant:\n%s", got, want)
	}
}

// block is a block of kv with one row: a value for each register in regs.
func block(key string, regs change.Bits, values ...change.Value) change.Block {
	b := change.Block{Regs: regs, Keys: []change.Value{key}}
	for _, v := range values {
		b.Columns = append(b.Columns, []change.Value{v})
	}
	return b
}

// TestFinish_laterPageIsNewer: the pages of a pull show a row as it was when each was
// asked for, so what a page before said of it counts no more.
func TestFinish_laterPageIsNewer(t *testing.T) {
	for _, c := range []struct {
		name  string
		pages []change.Block
		want  string
	}{
		// simulation, seeds 88 and 198: a conflict's row, in part, before the row itself
		{"in part, whole", []change.Block{block("x", 1, "old"), block("x", 7, "new", int64(1), "u")}, "string:x string:new int64:1 string:u"},
		{"in part, whole, in part", []change.Block{block("x", 1, "old"), block("x", 7, "new", int64(1), "u"), block("x", 2, int64(2))}, "string:x string:new int64:2 string:u"},
		{"in part, gone", []change.Block{block("x", 1, "old"), {Delete: true, Keys: []change.Value{"x"}}}, ""},
		{"meets a unique value, changed", []change.Block{
			block("x", 7, "old", int64(1), "taken"), block("x", 1, "new"), block("y", 4, "free")},
			"string:x string:new int64:1 string:taken"},
		{"meets a unique value, gone", []change.Block{
			block("x", 7, "old", int64(1), "taken"), {Delete: true, Keys: []change.Value{"x"}}, block("y", 4, "free")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFile(t, kv+`INSERT INTO kv(k, u) VALUES ('y', 'taken')`)
			f.sync(t, &change.Pull{To: 1})
			r := f.begin(t)
			pushOf(t, r, Limits{})
			var list []*change.Pull
			for i, b := range c.pages {
				list = append(list, &change.Pull{To: change.Seq(2 + i), Blocks: []change.Block{b}})
			}
			a := f.finish(t, r, list...)
			if got := dump(t, f.Device, `SELECT k, a, b, u FROM kv WHERE k = 'x'`); got != c.want || a.Parked != 0 {
				t.Errorf("row %q, want %q; %d parked, want 0", got, c.want, a.Parked)
			}
		})
	}
}

// TestFinish_writtenSinceParked: what is written here after a row was parked follows it.
func TestFinish_writtenSinceParked(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, u) VALUES ('mine', 'mail')`)
	f.sync(t, &change.Pull{To: 1})
	if a := f.sync(t, &change.Pull{To: 2, Blocks: []change.Block{block("x", 7, "theirs", int64(1), "mail")}}); a.Parked != 1 {
		t.Fatalf("%d rows parked, want 1", a.Parked)
	}
	run(t, f.Device, `INSERT INTO kv(k, a, b, u) VALUES ('x', 'mine', 2, 'other')`)
	run(t, f.Device, `DELETE FROM kv WHERE k = 'mine'`)
	a := f.sync(t, &change.Pull{To: 3})
	if got, want := dump(t, f.Device, `SELECT k, a, b, u FROM kv`), "string:x string:mine int64:2 string:other"; got != want || a.Parked != 0 {
		t.Errorf("rows %q, want %q; %d parked, want 0", got, want, a.Parked)
	}
}

func TestFinish_constraintMeetsNewerRow(t *testing.T) {
	f := newFile(t, kv)
	r := f.begin(t)
	pushOf(t, r, Limits{})
	run(t, f.Device, `INSERT INTO kv(k, u) VALUES ('mine', 'mail')`)
	pull := &change.Pull{Tables: r.Tables, To: 3, Blocks: []change.Block{{Regs: 7, Keys: []change.Value{"theirs"}, Columns: [][]change.Value{{1}, {2}, {"mail"}}}}}
	for i := range pull.Blocks[0].Columns[:2] {
		pull.Blocks[0].Columns[i][0] = int64(i)
	}
	_, err := f.Finish(r, pages(pull), false)
	if !errors.Is(err, ErrAgain) {
		t.Fatalf("error = %v, want ErrAgain", err)
	}
	if got := dump(t, f.Device, `SELECT seen, applying FROM _velosync_state`); got != "int64:0 int64:0" {
		t.Errorf("state moved: %s", got)
	}
	if _, err := f.Finish(r, pages(pull), true); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, f.Device, `SELECT pk, reason FROM _velosync_parked`); !strings.Contains(got, "theirs") || !strings.Contains(got, "UNIQUE") {
		t.Errorf("parked: %q", got)
	}
	run(t, f.Device, `DELETE FROM kv WHERE k = 'mine'`)
	if a := f.sync(t, &change.Pull{To: 4}); a.Parked != 0 {
		t.Errorf("%d rows parked after the way is free", a.Parked)
	}
	if got := dump(t, f.Device, `SELECT k, a, u FROM kv`); got != "string:theirs int64:0 string:mail" {
		t.Errorf("rows: %s", got)
	}
}

func TestFinish_foreignKeys(t *testing.T) {
	f := newFile(t, `CREATE TABLE p(id TEXT PRIMARY KEY NOT NULL); CREATE TABLE c(id TEXT PRIMARY KEY NOT NULL, p TEXT REFERENCES p(id) ON DELETE CASCADE);
		SELECT velosync_track('p'); SELECT velosync_track('c'); INSERT INTO p VALUES ('x')`)
	run(t, f.Device, `PRAGMA foreign_keys = ON`)
	f.sync(t, &change.Pull{To: 1})
	r := f.begin(t)
	pushOf(t, r, Limits{})
	run(t, f.Device, `INSERT INTO c VALUES ('child', 'x')`)
	_, err := f.Finish(r, pages(&change.Pull{To: 2, Blocks: []change.Block{{Table: 1, Delete: true, Keys: []change.Value{"x"}}}}), false)
	if !errors.Is(err, ErrAgain) {
		t.Errorf("a pulled delete of a parent met an unsent child: error = %v, want ErrAgain", err)
	}
	if got := dump(t, f.Device, `SELECT (SELECT count(*) FROM p), (SELECT count(*) FROM c), (SELECT foreign_keys FROM pragma_foreign_keys)`); got != "int64:1 int64:1 int64:1" {
		t.Errorf("parents, children, enforcement: %s, want 1 1 1", got)
	}
}

// TestFinish_foreignKeysParked: pulled rows that can't stand beside rows of this file wait,
// with all that refers to them, and come in once they can.
func TestFinish_foreignKeysParked(t *testing.T) {
	child := func(key string, p, up, m, text change.Value) change.Block { return block(key, 15, p, up, m, text) }
	parent := func(key string, m change.Value) change.Block {
		b := block(key, 1, m)
		b.Table = 1
		return b
	}
	gone := func(key string) change.Block {
		return change.Block{Table: 1, Delete: true, Keys: []change.Value{key}}
	}
	const depth = 100
	tree := change.Block{Regs: 15, Columns: make([][]change.Value, 4)}
	for n := depth; n > 0; n-- { // the deepest first
		row := []change.Value{nil, fmt.Sprintf("t%03d", n-1), nil, "tree"}
		if n == 1 {
			row[0], row[1] = "p3", nil
		}
		tree.Keys = append(tree.Keys, fmt.Sprintf("t%03d", n))
		for i, v := range row {
			tree.Columns[i] = append(tree.Columns[i], v)
		}
	}
	for _, c := range []struct {
		name, since  string // SQL of the application, before the answer came
		blocks       []change.Block
		parked, rows string
		free, healed string // SQL that makes room, and the rows then
	}{
		{"parent gone, children of children", `DELETE FROM p WHERE id = 'p3'`, []change.Block{tree, child("x", "p1", nil, nil, "new")},
			"100: t001-t100", "a p1 - m1 old, x p1 - - new; p1 m1, p2 m2",
			`INSERT INTO p VALUES ('p3', NULL)`, "a p1 - m1 old, x p1 - - new, 100 of the tree; p1 m1, p2 m2, p3 -"},
		{"child moves to a parent that is gone", `DELETE FROM p WHERE id = 'p2'`, []change.Block{child("a", "p2", nil, "m1", "moved"), child("y", nil, "a", nil, "new"), child("b", nil, "y", nil, "new")},
			"1: a-a", "a p1 - m1 old, b - y - new, y - a - new; p1 m1, p3 -",
			`INSERT INTO p VALUES ('p2', NULL)`, "a p2 - m1 moved, b - y - new, y - a - new; p1 m1, p2 -, p3 -"},
		{"parent deleted, child made", `INSERT INTO c VALUES ('mine', 'p2', NULL, NULL, 'mine')`, []change.Block{gone("p2"), gone("p3")},
			"1: p2-p2", "a p1 - m1 old, mine p2 - - mine; p1 m1, p2 m2",
			`DELETE FROM c WHERE id = 'mine'`, "a p1 - m1 old; p1 m1"},
		{"unique column of a parent changed, child made", `INSERT INTO c VALUES ('mine', NULL, NULL, 'm1', 'mine')`, []change.Block{parent("p1", "m9"), child("a", "p1", nil, "m9", "follows")},
			"2: a-p1", "a p1 - m1 old, mine - - m1 mine; p1 m1, p2 m2, p3 -",
			`DELETE FROM c WHERE id = 'mine'`, "a p1 - m9 follows; p1 m9, p2 m2, p3 -"},
		{"parents exchange what a child was given", `INSERT INTO c VALUES ('mine', NULL, NULL, 'm2', 'mine'); INSERT INTO p VALUES ('taken', 'm8')`, []change.Block{parent("p2", "m8"), parent("p3", "m2")},
			"2: p2-p3", "a p1 - m1 old, mine - - m2 mine; p1 m1, p2 m2, p3 -, taken m8",
			`DELETE FROM c WHERE id = 'mine'; DELETE FROM p WHERE id = 'taken'`, "a p1 - m1 old; p1 m1, p2 m8, p3 m2"},
		{"parent that a trigger refuses", `CREATE TRIGGER strict BEFORE INSERT ON p WHEN NEW.id = 'p7' BEGIN SELECT RAISE(ABORT, 'not here'); END`, []change.Block{parent("p7", nil), child("x", "p7", nil, nil, "new")},
			"2: p7-x", "a p1 - m1 old; p1 m1, p2 m2, p3 -",
			`DROP TRIGGER strict`, "a p1 - m1 old, x p7 - - new; p1 m1, p2 m2, p3 -, p7 -"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFile(t, `CREATE TABLE p(id TEXT PRIMARY KEY NOT NULL, m TEXT UNIQUE);
				CREATE TABLE c(id TEXT PRIMARY KEY NOT NULL, p TEXT REFERENCES p(id), up TEXT REFERENCES c(id), m TEXT REFERENCES p(m), text TEXT);
				SELECT velosync_track('p', '{"groups":[]}'); SELECT velosync_track('c', '{"groups":[]}');
				INSERT INTO p VALUES ('p1', 'm1'), ('p2', 'm2'), ('p3', NULL); INSERT INTO c VALUES ('a', 'p1', NULL, 'm1', 'old'); PRAGMA foreign_keys = ON`)
			f.sync(t, &change.Pull{To: 1})
			check := func(when, want, parked string) {
				t.Helper()
				if got := dump(t, f.Device, `SELECT concat_ws(', ', (SELECT group_concat(id || ' ' || coalesce(p, '-') || ' ' || coalesce(up, '-') || ' ' || coalesce(m, '-') || ' ' || text, ', ' ORDER BY id) FROM c WHERE text <> 'tree'),
					(SELECT count(*) || ' of the tree' FROM c WHERE text = 'tree' HAVING count(*) > 0)) || '; ' || (SELECT group_concat(id || ' ' || coalesce(m, '-'), ', ' ORDER BY id) FROM p)`); got != "string:"+want {
					t.Errorf("%s: rows %q, want %q", when, got, want)
				}
				if got := dump(t, f.Device, `SELECT count(*) || ': ' || min(pk) || '-' || max(pk) FROM _velosync_parked HAVING count(*) > 0`); got != parked {
					t.Errorf("%s: parked %q, want %q", when, got, parked)
				}
				if got := dump(t, f.Device, `PRAGMA foreign_key_check`); got != "" {
					t.Errorf("%s: keys that do not hold: %s", when, got)
				}
			}
			r := f.begin(t)
			pushOf(t, r, Limits{})
			run(t, f.Device, c.since)
			if _, err := f.Finish(r, pages(&change.Pull{To: 2, Blocks: c.blocks}), true); err != nil {
				t.Fatal(err)
			}
			check("parked", c.rows, "string:"+c.parked)
			f.sync(t, &change.Pull{To: 3})
			check("tried again", c.rows, "string:"+c.parked)
			run(t, f.Device, c.free)
			f.sync(t, &change.Pull{To: 4})
			check("with room", c.healed, "")
		})
	}
}

func TestFinish_snapshotForgetsWhatItDoesNotName(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, a) VALUES ('stays', 1), ('goes', 1), ('edited', 1)`)
	f.sync(t, &change.Pull{To: 3})
	r := f.begin(t)
	pushOf(t, r, Limits{})
	run(t, f.Device, `UPDATE kv SET a = 2 WHERE k = 'edited'`)
	f.finish(t, r, &change.Pull{To: 5, Full: true, Blocks: []change.Block{{Regs: 7, Keys: []change.Value{"stays"}, Columns: [][]change.Value{{int64(1)}, {nil}, {nil}}}}},
		&change.Pull{To: 9, Full: true, Blocks: []change.Block{{Regs: 7, Keys: []change.Value{"new"}, Columns: [][]change.Value{{int64(1)}, {nil}, {nil}}}}})
	if got, want := fmt.Sprint(column(t, f.Device, `SELECT k FROM kv ORDER BY k`)), "[edited new stays]"; got != want {
		t.Errorf("rows %s, want %s", got, want)
	}
}

func TestFinish_rejectedIsParkedWhole(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, a) VALUES ('x', 1)`)
	r := f.begin(t)
	pushOf(t, r, Limits{})
	run(t, f.Device, `UPDATE kv SET b = 'meanwhile'`)
	a := f.finish(t, r, &change.Pull{Tables: r.Tables, To: 1, Lost: []change.Conflict{{ID: 1, Seq: 1, Table: "kv", Key: "x", Kind: change.Rejected, Rule: change.ByConstraint,
		Reason: "UNIQUE constraint failed", Columns: []string{"a"}, Lost: []change.Value{int64(1)}}}, Blocks: []change.Block{{Delete: true, Keys: []change.Value{"x"}}}})
	if a.Rejected != 1 || a.Lost != 1 {
		t.Errorf("applied: %+v", a)
	}
	if got := dump(t, f.Device, `SELECT count(*) FROM kv`) + dump(t, f.Device, `SELECT pending FROM velosync_status`); got != "int64:0int64:0" {
		t.Errorf("rows and pending: %s, want none of both", got)
	}
	if got := dump(t, f.Device, `SELECT local FROM _velosync_conflict`); !strings.Contains(got, "meanwhile") {
		t.Errorf("the edit made meanwhile is not kept: %s", got)
	}
	run(t, f.Device, `SELECT velosync_resolve(1, 'mine')`)
	if got := dump(t, f.Device, `SELECT k, a, b FROM kv`); got != "string:x int64:1 string:meanwhile" {
		t.Errorf("row after resolve: %s", got)
	}
	if err := fails(t, f.Device, `SELECT velosync_resolve(1, 'mine')`); !strings.Contains(err.Error(), "settled already") {
		t.Errorf("second resolve: %v", err)
	}
}

func TestFinish_movedFile(t *testing.T) {
	f := newFile(t, kv)
	r := f.begin(t)
	pushOf(t, r, Limits{})
	f.sync(t, &change.Pull{To: 4}) // another replicator's round
	if _, err := f.Finish(r, pages(&change.Pull{To: 9}), false); !errors.Is(err, ErrMoved) {
		t.Errorf("error = %v, want ErrMoved", err)
	}
	if got := dump(t, f.Device, `SELECT seen FROM _velosync_state`); got != "int64:4" {
		t.Errorf("seen = %s, want 4", got)
	}
	r = f.begin(t)
	pushOf(t, r, Limits{})
	run(t, f.Device, `UPDATE _velosync_state SET seen = 3`) // the file went back, under the same push
	if _, err := f.Finish(r, pages(&change.Pull{To: 9}), false); !errors.Is(err, ErrMoved) {
		t.Errorf("seen moved under the round: error = %v, want ErrMoved", err)
	}
}

func TestThreat_poisonedSchema(t *testing.T) {
	for _, sql := range []string{
		`CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL); DROP TABLE _velosync_wal`,
		`CREATE TABLE other(id TEXT PRIMARY KEY NOT NULL)`,
		`CREATE TABLE t AS SELECT 1`,
		`CREATE TEMP TABLE t(id TEXT PRIMARY KEY NOT NULL)`,
		`CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, extra)`,
		`CREATE TRIGGER t AFTER INSERT ON kv BEGIN SELECT 1; END`,
		`CREATE VIRTUAL TABLE t USING fts5(x)`,
		`CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL CHECK (velosync_untrack('kv') IS NOT 1))`,
		`CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL DEFAULT ("velosync_resolve" (1, 'mine')))`,
		``,
	} {
		f := newFile(t, kv)
		r := f.begin(t)
		pushOf(t, r, Limits{})
		tables := append(change.Schema{}, r.Tables...)
		tables = append(tables, change.Table{Name: "t", SQL: sql, Columns: []change.Column{{Name: "id", Type: "TEXT", NotNull: true}}, Key: []int{0}})
		if _, err := f.Finish(r, pages(&change.Pull{Tables: tables, To: 1}), false); err == nil {
			t.Errorf("%q was taken", sql)
		}
		if got := dump(t, f.Device, `SELECT count(*) FROM sqlite_schema WHERE name IN ('t', 'other')`); got != "int64:0" {
			t.Errorf("%q left a table", sql)
		}
	}
}

func TestParts_heldRow(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, a) VALUES ('big', zeroblob(5000)), ('small', 1)`)
	r := f.begin(t)
	parts := pushOf(t, r, Limits{Bytes: 1000})
	if len(r.Held) != 1 || r.Held[0].Key != "big" || len(parts) != 1 || len(parts[0].Blocks) != 1 {
		t.Fatalf("held %+v, parts %+v", r.Held, parts)
	}
	f.finish(t, r, &change.Pull{Tables: r.Tables, To: 1})
	if got := dump(t, f.Device, `SELECT key, first_lsn > 2 FROM velosync_pending`); got != "string:big int64:1" {
		t.Errorf("pending: %s, want the held row, logged again", got)
	}
}

func TestParts_readsOneState(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, a) VALUES ('x', 'old')`)
	r := f.begin(t)
	run(t, f.Device, `UPDATE kv SET a = 'new'; INSERT INTO kv(k) VALUES ('y')`)
	p := pushOf(t, r, Limits{})[0]
	if len(p.Blocks) != 1 || p.Blocks[0].Columns[0][0] != "old" || len(p.Blocks[0].Keys) != 1 || p.Through != 1 {
		t.Errorf("the push mixes two states of the file: %+v", p)
	}
}

func TestCompact(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, a, b) VALUES ('x', 0, 0), ('y', 0, 0)`)
	f.sync(t, &change.Pull{To: 2})
	run(t, f.Device, `UPDATE kv SET a = 'in flight' WHERE k = 'x'`)
	f.begin(t) // a push that may have been applied
	for range 50 {
		run(t, f.Device, `UPDATE kv SET a = random(); UPDATE kv SET b = random() WHERE k = 'y'`)
	}
	before := pendingOf(t, f.Device)
	f.o.CompactAbove = 10
	gone, err := f.Compact()
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(50*3 - 2); gone != want {
		t.Errorf("folded %d rows, want %d", gone, want)
	}
	after := pendingOf(t, f.Device)
	for i := range before {
		b, a := before[i], after[i]
		if b.key != a.key || b.cols != a.cols || b.lsn != a.lsn || b.existence != a.existence {
			t.Errorf("edit before %+v, after %+v", b, a)
		}
	}
	if got := dump(t, f.Device, `SELECT lsn FROM _velosync_wal WHERE op <> 'X' ORDER BY lsn LIMIT 1`); got != "int64:3" {
		t.Errorf("the mutation in flight has lsn %s, want 3 as before", got)
	}
}

// TestPending_clockSetBack: a row that was written while the clock was years ahead does not
// claim that time for what is written to it since, whether or not the log was compacted.
func TestPending_clockSetBack(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k, a, b) VALUES ('x', 0, 0)`)
	run(t, f.Device, `UPDATE _velosync_wal SET at = at + 10 * 31536000000; UPDATE kv SET b = 1; UPDATE _velosync_wal SET at = 1700000000000 WHERE lsn = 2`)
	f.o.CompactAbove = 1
	for _, when := range []string{"as logged", "compacted"} {
		if got := pendingOf(t, f.Device)[0].at; got != 1700000000000 {
			t.Errorf("%s: the edit's time is %d, want that of the newest mutation, 1700000000000", when, got)
		}
		if _, err := f.Compact(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCompact_duringFence: what a push is about to carry must not get newer LSNs.
func TestCompact_duringFence(t *testing.T) {
	f := newFile(t, kv+`INSERT INTO kv(k) VALUES ('x'); UPDATE kv SET a = 1; UPDATE kv SET a = 2`)
	f.o.CompactAbove = 1
	r := &Round{reader: f.reader, held: map[rowKey]bool{}}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Release() }()
	if gone, err := f.Compact(); gone != 2 || err != nil {
		t.Fatalf("folded %d rows, %v, want 2", gone, err)
	}
	if err := f.fence(r); !errors.Is(err, ErrMoved) {
		t.Errorf("fence: %v, want ErrMoved", err)
	}
}

func TestEncodeRow(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
	vals := []change.Value{nil, int64(math.MaxInt64), int64(math.MinInt64), 1.0, math.Inf(1), 5e-324, "x\"é🌍", "a\x00b", "\xff", []byte{0, 255}}
	row, err := decodeRow(encodeRow(names, vals))
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range names {
		if diff := cmp.Diff(vals[i], row[n]); diff != "" {
			t.Errorf("%s: %s", n, diff)
		}
	}
}
