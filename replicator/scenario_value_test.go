package replicator_test

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/sqlfuncs"
)

// odd are values of every storage class that are easily bent on the way.
func odd() []struct {
	name  string
	value any
} {
	nextAfterOne := math.Nextafter32(1, 2)
	vector, err := sqlfuncs.Vector{nextAfterOne, -nextAfterOne, math.SmallestNonzeroFloat32, math.MaxFloat32, float32(math.Copysign(0, -1))}.Value()
	if err != nil {
		panic(err)
	}
	vector64, err := sqlfuncs.Vector64{math.Nextafter(1, 2), math.SmallestNonzeroFloat64}.Value()
	if err != nil {
		panic(err)
	}
	return []struct {
		name  string
		value any
	}{
		{"NULL", nil},
		{"2^63-1", int64(math.MaxInt64)}, {"-2^63", int64(math.MinInt64)}, {"2^53+1", int64(1<<53 + 1)},
		{"-0.0", math.Copysign(0, -1)}, {"1.0", 1.0}, {"0.1", 0.1}, {"2^63 as real", float64(1 << 63)},
		{"least subnormal", math.SmallestNonzeroFloat64}, {"greatest subnormal", math.Float64frombits(1<<52 - 1)}, {"-subnormal", -math.SmallestNonzeroFloat64},
		{"1e308", 1e308}, {"max", math.MaxFloat64}, {"+inf", math.Inf(1)}, {"-inf", math.Inf(-1)}, {"NaN, which is NULL", math.NaN()},
		{"empty text", ""}, {"empty blob", []byte{}},
		{"NUL", "\x00"}, {"text with NUL", "a\x00b\x00"}, {"invalid UTF-8", "\xff\xc0\x80\xed\xa0\x80"}, {"half an emoji", "\xf0\x9f"},
		{"emoji", "🌍👩‍👩‍👧‍👧é"}, {"number as text", "1.0"}, {"JSON", `{"$blob":"00"}`}, {"quote", `'";--` + "\n"},
		{"blob that is text", []byte("text")}, {"blob with NUL", []byte{0, 255, 0}},
		{"1 MiB blob", bytes.Repeat([]byte{0, 1, 254, 255}, 1<<18)}, {"1 MiB text", strings.Repeat("é", 1<<19)},
		{"vector", vector}, {"vector of float64", vector64},
		{"vector with NaN bits", []byte{1, 0, 0xc0, 0x7f, 0xff, 0xff, 0xff, 0xff}}, // a blob is a blob
	}
}

// TestScenario_19_values: each value goes bit by bit from one device over the master to two
// others: as it was inserted, as an update, as a key, and out of the conflict log.
func TestScenario_19_values(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Log: quiet})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(`CREATE TABLE v(k PRIMARY KEY NOT NULL, name TEXT, any, b BLOB, r REAL, w REAL)`, `SELECT velosync_track('v', '{"weight":"w","groups":[]}')`,
		`CREATE TABLE two(k1 NOT NULL, k2 NOT NULL, v, PRIMARY KEY(k1, k2)) WITHOUT ROWID`, `SELECT velosync_track('two')`)
	bind := func(d *device, q string, args ...any) {
		t.Helper()
		if _, err := d.db.Exec(q, args...); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	for _, x := range odd() {
		bind(a, `INSERT INTO v VALUES (?1, ?1, ?2, ?2, ?2, 0)`, "insert "+x.name, x.value)
		bind(a, `INSERT INTO v(k, name, any) VALUES (?1, ?1, 'base'), ('lost ' || ?1, ?1, 'base')`, "update "+x.name)
		if x.value != nil && !strings.Contains(x.name, "MiB") && !strings.Contains(x.name, "NaN") {
			bind(a, `INSERT INTO v(k, name) VALUES (?, ?)`, x.value, "key "+x.name)
			if x.name != "-0.0" { // which is 0.0 in the name of a row of several key columns
				bind(a, `INSERT INTO two VALUES (?1, ?1, ?1)`, x.value)
			}
		}
	}
	settled(t, m, a, b)
	for _, x := range odd() {
		bind(a, `UPDATE v SET any = ?2, b = ?2, r = ?2 WHERE k = ?1`, "update "+x.name, x.value)
		// b loses with the value, and brings it back out of its conflict log.
		bind(b, `UPDATE v SET any = ?2, w = -1 WHERE k = 'lost update ' || ?1`, x.name, x.value)
		bind(a, `UPDATE v SET any = 'wins' WHERE k = 'lost update ' || ?1`, x.name)
	}
	a.sync()
	settled(t, m, b, a)
	b.want(`SELECT count(velosync_resolve(id, 'mine')) FROM (SELECT id FROM velosync_conflicts LIMIT -1)`, fmt.Sprint(len(odd())))
	settled(t, m, b, a)
	c := newDevice(t, m, "c", nil)
	settled(t, m, c)
	for _, d := range []*device{a, b, c} {
		for _, x := range odd() {
			want := exactly(x.value)
			if f, ok := x.value.(float64); ok && math.IsNaN(f) {
				want = exactly(nil)
			}
			for _, key := range []string{"insert " + x.name, "update " + x.name, "lost update " + x.name} {
				var got any
				if err := d.db.QueryRow(`SELECT +any FROM v WHERE k = ?`, key).Scan(&got); err != nil {
					t.Fatalf("%s: %s: %v", d.o.Name, key, err)
				}
				if exactly(got) != want {
					t.Errorf("%s: %s: got %.80s, want %.80s", d.o.Name, key, exactly(got), want)
				}
			}
		}
		d.want(`SELECT sum(k IS k1 AND typeof(k) = typeof(k1)) = (SELECT count(*) FROM two), sum(k1 IS k2) FROM v JOIN two ON k1 = k AND typeof(k1) = typeof(k) WHERE name LIKE 'key %'`,
			fmt.Sprintf("1 %s", a.rows(`SELECT count(*) FROM two`)))
	}
}

// TestScenario_20_declarations: what a table's declaration does to values, and demands of
// them, holds on all ends; what can't be synced is refused.
func TestScenario_20_declarations(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	tables := []string{"affinity", "exact", "made", "checked", "docs"}
	a.exec(`CREATE TABLE affinity(id TEXT PRIMARY KEY NOT NULL, i INTEGER, t TEXT, r REAL, n NUMERIC, b BLOB, x, dt DATETIME, yes BOOLEAN)`,
		`CREATE TABLE exact(id TEXT PRIMARY KEY NOT NULL, i INTEGER, t TEXT, r REAL, b BLOB, x ANY) STRICT`,
		`CREATE TABLE made(id TEXT PRIMARY KEY NOT NULL, n INT, twice GENERATED ALWAYS AS (n * 2) VIRTUAL, half REAL GENERATED ALWAYS AS (n / 2.0) STORED, note TEXT)`,
		`CREATE TABLE checked(id TEXT PRIMARY KEY NOT NULL DEFAULT (lower(hex(randomblob(8)))), n INT NOT NULL DEFAULT 7 CHECK (n BETWEEN 0 AND 99), s TEXT DEFAULT 'it''s', at TEXT DEFAULT CURRENT_TIMESTAMP)`,
		`CREATE TABLE docs(id TEXT PRIMARY KEY NOT NULL, doc BLOB, js TEXT)`)
	for _, table := range tables {
		a.exec(`SELECT velosync_track('` + table + `')`)
	}
	a.exec(`INSERT INTO affinity VALUES ('number as text', '12', 12, '1e3', '007', 12, 12, '2026-01-02 03:04:05', 'true'), ('text as number', 'twelve', 1.5, 'x', 'x', 'x', '12', 1700000000, 1),
			('blob', x'31', x'31', x'31', x'31', x'31', x'31', x'31', x'31'), ('real', 1.0, 1.0, 1, 1.0, 1.0, 1.0, 1.5, 0.0), ('big', 9223372036854775808, 1e20, 9007199254740993, '9223372036854775808', 1, 1, 1, 1)`,
		`INSERT INTO exact VALUES ('x', 1, 'one', 1.0, x'01', 1), ('y', NULL, '1', 2, NULL, '1'), ('z', NULL, NULL, NULL, NULL, x'31'), ('r', NULL, NULL, NULL, NULL, 1.0)`,
		`INSERT INTO made(id, n) VALUES ('x', 3), ('null', NULL)`,
		`INSERT INTO checked(n) VALUES (5), (99)`, `INSERT INTO checked DEFAULT VALUES`,
		`INSERT INTO docs VALUES ('x', jsonb('{"a":[1,2.50,null,"\u00e9"]}'), json('{"a":1}'))`)
	settled(t, m, a, b)
	b.exec(`UPDATE affinity SET i = t, t = i, x = r, b = n`, `UPDATE made SET n = 9 WHERE id = 'x'`, `UPDATE docs SET doc = jsonb_set(doc, '$.b', 1), js = json_set(js, '$.b', 1)`,
		`UPDATE exact SET x = i`, `UPDATE checked SET n = 0 WHERE n = 5`)
	settled(t, m, b, a)
	a.want(`SELECT twice, half FROM made WHERE id = 'x'`, "18 4.5")
	a.want(`SELECT json(doc), js FROM docs`, `{"a":[1,2.50,null,"\u00e9"],"b":1} {"a":1,"b":1}`)
	// The declarations themselves went along, and hold on b.
	const declared = `SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name IN ('affinity', 'exact', 'made', 'checked', 'docs') ORDER BY name`
	b.want(declared, a.rows(declared))
	for _, bad := range []string{`INSERT INTO checked(n) VALUES (100)`, `INSERT INTO exact(id, i) VALUES ('bad', 'text')`, `INSERT INTO made(id, half) VALUES ('bad', 1)`} {
		if _, err := b.db.Exec(bad); err == nil {
			t.Errorf("b takes %s", bad)
		}
	}
	if id := b.rows(`INSERT INTO checked DEFAULT VALUES RETURNING length(id) || ' ' || n || ' ' || s`); id != "16 7 it's" {
		t.Errorf("defaults on b: %s", id)
	}
	settled(t, m, b, a)
	for _, x := range []struct{ table, want string }{
		{`CREATE TABLE bad(a, b)`, "no primary key"},
		{`CREATE TABLE bad(id INTEGER PRIMARY KEY, a)`, "INTEGER PRIMARY KEY"},
		{`CREATE VIEW bad AS SELECT 1 AS id`, "view"},
		{`CREATE TEMP TABLE bad(id TEXT PRIMARY KEY NOT NULL)`, "no table"},
	} {
		a.exec(x.table)
		if _, err := a.db.Exec(`SELECT velosync_track('bad')`); err == nil || !strings.Contains(strings.ToLower(fmt.Sprint(err)), strings.ToLower(x.want)) {
			t.Errorf("%s: %v, want it refused: %s", x.table, err, x.want)
		}
		a.exec(strings.Replace(strings.Fields(x.table)[0]+" "+map[bool]string{true: "VIEW", false: "TABLE"}[strings.Contains(x.table, "VIEW")]+" bad", "CREATE", "DROP", 1))
	}
}
