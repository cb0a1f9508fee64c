package sqlfuncs

import (
	"bytes"
	"cmp"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// cloud draws vectors around random centres, so that lists have something to find.
type cloud struct {
	r       *rand.Rand
	centres [][]float32
}

func newCloud(seed uint64, dims int) *cloud {
	c := &cloud{r: rand.New(rand.NewPCG(seed, 1))}
	for range 40 {
		c.centres = append(c.centres, c.gauss(dims, 1))
	}
	return c
}

func (c *cloud) gauss(dims int, deviation float64) []float32 {
	v := make([]float32, dims)
	for i := range v {
		v[i] = float32(c.r.NormFloat64() * deviation)
	}
	return v
}

func (c *cloud) draw() []float32 {
	centre := c.centres[c.r.IntN(len(c.centres))]
	v := c.gauss(len(centre), 0.5)
	for i := range v {
		v[i] += centre[i]
	}
	return v
}

func blob(v []float32) []byte {
	out := make([]byte, 0, 4*len(v))
	for _, x := range v {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
	}
	return out
}

// A hit is one row of a search.
type hit struct {
	id       any
	distance float64
}

func search(t testing.TB, db *sql.DB, query string, args ...any) []hit {
	t.Helper()
	rows, err := db.Query(query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var hits []hit
	for rows.Next() {
		var h hit
		if err := rows.Scan(&h.id, &h.distance); err != nil {
			t.Fatal(err)
		}
		if b, ok := h.id.([]byte); ok {
			h.id = string(b)
		}
		hits = append(hits, h)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return hits
}

// overlap returns what part of want is in got.
func overlap(got, want []hit) float64 {
	n := 0
	for _, w := range want {
		if slices.ContainsFunc(got, func(g hit) bool { return g.id == w.id }) {
			n++
		}
	}
	if len(want) == 0 {
		return 1
	}
	return float64(n) / float64(len(want))
}

// twice reports whether a row is among hits more than once.
func twice(hits []hit) bool {
	seen := map[any]bool{}
	for _, h := range hits {
		if seen[h.id] {
			return true
		}
		seen[h.id] = true
	}
	return false
}

func ascending(hits []hit) bool {
	return slices.IsSortedFunc(hits, func(a, b hit) int { return cmp.Compare(a.distance, b.distance) })
}

func checkIndex(t testing.TB, db *sql.DB, name string) {
	t.Helper()
	if _, err := db.Exec(fmt.Sprintf(`INSERT INTO %s(%s) VALUES ('integrity-check')`, name, name)); err != nil {
		t.Fatal(err)
	}
}

func count(t testing.TB, db *sql.DB, query string, args ...any) (n int) {
	t.Helper()
	if err := db.QueryRow(query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// notesDB makes a table of n rows and an index that has lists.
func notesDB(t testing.TB, dsn string, n, dims int, options string) (*sql.DB, *cloud) {
	t.Helper()
	db := openDB(t, dsn)
	c := newCloud(7, dims)
	mustExec(t, db, `CREATE TABLE notes(id INTEGER PRIMARY KEY, lang TEXT, embedding BLOB)`)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := tx.Exec(`INSERT INTO notes VALUES (?, ?, ?)`, i+1, []string{"en", "de", "fr", "it"}[i%4], blob(c.draw())); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, `CREATE VIRTUAL TABLE notes_knn USING velosync_knn(notes, embedding`+options+`)`)
	return db, c
}

func TestKNN_Metrics(t *testing.T) {
	for _, tt := range []struct{ metric, exact string }{
		{"cosine", "vec_distance_cosine(embedding, ?1)"},
		{"l2", "vec_distance_L2(embedding, ?1)"},
		{"dot", "-dot_product(embedding, ?1)"},
	} {
		t.Run(tt.metric, func(t *testing.T) {
			db, c := notesDB(t, ":memory:", 3000, 48, ", lists_from=1000, metric="+tt.metric)
			if lists := count(t, db, `SELECT count(*) FROM notes_knn_lists`); lists < 10 {
				t.Fatalf("%d lists", lists)
			}
			var found float64
			for range 50 {
				q := blob(c.draw())
				want := search(t, db, `SELECT id, `+tt.exact+` d FROM notes ORDER BY d LIMIT 10`, q)
				got := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10 AND recall = 0.99`, q)
				if len(got) != 10 || !ascending(got) {
					t.Fatalf("results %v", got)
				}
				found += overlap(got, want) / 50
				for _, g := range got { // distances are exact, whatever was found
					i := slices.IndexFunc(want, func(w hit) bool { return w.id == g.id })
					if i >= 0 && want[i].distance != g.distance {
						t.Fatalf("row %v: distance %v, want %v", g.id, g.distance, want[i].distance)
					}
				}
				all := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10 AND recall = 1`, q)
				if overlap(all, want) != 1 {
					t.Fatalf("recall = 1: got %v, want %v", all, want)
				}
			}
			if found < 0.97 {
				t.Errorf("recall %.3f, want 0.97 at least", found)
			}
			checkIndex(t, db, "notes_knn")
		})
	}
}

func TestKNN_Types(t *testing.T) {
	for _, tt := range []struct{ pack, metric, exact string }{
		{"vec_f64", "cosine", "vec_distance_cosine"},
		{"vec_f16", "l2", "vec_distance_L2"},
		{"vec_bf16", "cosine", "vec_distance_cosine"},
		{"vec_int8", "l2", "vec_distance_L2"},
		{"vec_bit", "hamming", "vec_distance_hamming"},
		{"", "cosine", "vec_distance_cosine"}, // JSON text as it is
	} {
		t.Run(tt.pack+" "+tt.metric, func(t *testing.T) {
			db := openDB(t, ":memory:")
			c := newCloud(3, 40)
			mustExec(t, db, `CREATE TABLE notes(id INTEGER PRIMARY KEY, embedding)`)
			text := func() string {
				var b strings.Builder
				for i, x := range c.draw() {
					switch tt.pack {
					case "vec_int8":
						x = float32(math.Round(float64(max(-127, min(127, 30*x)))))
					case "vec_bit":
						x = map[bool]float32{false: 0, true: 1}[x > 0]
					}
					fmt.Fprintf(&b, "%c%g", "[,"[min(i, 1)], x)
				}
				return b.String() + "]"
			}
			for i := range 1500 {
				mustExec(t, db, `INSERT INTO notes VALUES (?, `+tt.pack+`(?))`, i, text())
			}
			mustExec(t, db, `CREATE VIRTUAL TABLE notes_knn USING velosync_knn(notes, embedding, metric=`+tt.metric+`, lists_from=1000)`)
			within := 0.0
			for range 30 {
				q := text()
				want := search(t, db, `SELECT id, `+tt.exact+`(embedding, `+tt.pack+`(?)) d FROM notes ORDER BY d LIMIT 5`, q)
				got := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH `+tt.pack+`(?) AND k = 5 AND recall = 0.999`, q)
				if len(got) != 5 || !ascending(got) {
					t.Fatalf("results %v", got)
				}
				for i := range got { // by distance: there are ties
					if got[i].distance <= want[4].distance {
						within += 1.0 / 150
					}
				}
			}
			if within < 0.95 {
				t.Errorf("recall %.3f of %d lists, %s", within, count(t, db, `SELECT count(*) FROM notes_knn_lists`), tuningOf(t, db))
			}
			checkIndex(t, db, "notes_knn")
		})
	}
}

func TestKNN_Keys(t *testing.T) {
	for _, tt := range []struct{ name, table, insert, key string }{
		{"text", "id TEXT PRIMARY KEY, embedding BLOB", "printf('%08x-%d', ?1 * 7919, ?1), ?2", "id"},
		{"blob without rowid", "id BLOB PRIMARY KEY, embedding BLOB", "randomblob(16), ?2", "id"},
		{"real", "id REAL PRIMARY KEY, embedding BLOB", "?1 / 8.0, ?2", "id"},
		{"descending integer", "id INTEGER PRIMARY KEY DESC, embedding BLOB", "?1, ?2", "id"},
		{"nocase", "id TEXT COLLATE NOCASE PRIMARY KEY, embedding BLOB", "printf('Row%d', ?1), ?2", "id"},
		{"composite", "a TEXT, b INTEGER, embedding BLOB, PRIMARY KEY(a, b)", "printf('%d', ?1 % 10), ?1, ?2", "a || '/' || b"},
		{"quoted", `"the ""key""" TEXT PRIMARY KEY, embedding BLOB`, "printf('r%d', ?1), ?2", `"the ""key"""`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db := openDB(t, ":memory:")
			c := newCloud(5, 32)
			suffix := ""
			if strings.Contains(tt.name, "without rowid") {
				suffix = " WITHOUT ROWID"
			}
			mustExec(t, db, `CREATE TABLE notes(`+tt.table+`)`+suffix)
			add := func(from, to int) {
				for i := from; i < to; i++ {
					mustExec(t, db, `INSERT INTO notes VALUES (`+tt.insert+`)`, i, blob(c.draw()))
				}
			}
			add(0, 1500)
			mustExec(t, db, `CREATE VIRTUAL TABLE notes_knn USING velosync_knn(notes, embedding, lists_from=1000)`)
			add(1500, 1600)
			// The lowest byte of a float32 is as good as random: a tenth goes, a twentieth becomes one vector.
			mustExec(t, db, `DELETE FROM notes WHERE hex(substr(embedding, 1, 1)) < '1A'`)
			mustExec(t, db, `UPDATE notes SET embedding = (SELECT max(embedding) FROM notes) WHERE hex(substr(embedding, 1, 1)) > 'F2'`)
			for _, state := range []string{"changed", "folded", "rebuilt"} {
				var found float64
				for range 20 {
					q := blob(c.draw())
					want := search(t, db, `SELECT `+tt.key+`, vec_distance_cosine(embedding, ?) d FROM notes ORDER BY d LIMIT 5`, q)
					got := search(t, db, `SELECT `+tt.key+`, distance FROM notes_knn WHERE embedding MATCH ? AND k = 5 AND recall = 0.999`, q)
					for i := range got { // by distance: there are ties
						if got[i].distance <= want[len(want)-1].distance {
							found += 1.0 / (20 * 5)
						}
					}
				}
				if found < 0.95 {
					t.Errorf("%s: recall %.3f", state, found)
				}
				checkIndex(t, db, "notes_knn")
				mustExec(t, db, `INSERT INTO notes_knn(notes_knn) VALUES (?)`, map[string]string{"changed": "optimize", "folded": "rebuild", "rebuilt": "fold"}[state])
			}
			if tt.key == "a || '/' || b" {
				return
			}
			// a filter of keys, small and large
			for _, n := range []int{20, 1200} {
				q := blob(c.draw())
				filter := fmt.Sprintf(`SELECT %s FROM (SELECT %s FROM notes ORDER BY embedding LIMIT %d)`, tt.key, tt.key, n)
				want := search(t, db, fmt.Sprintf(`SELECT %s, vec_distance_cosine(embedding, ?) d FROM notes WHERE %s IN (%s) ORDER BY d LIMIT 5`, tt.key, tt.key, filter), q)
				got := search(t, db, fmt.Sprintf(`SELECT %s, distance FROM notes_knn WHERE embedding MATCH ? AND k = 5 AND recall = 0.999 AND %s IN (%s)`, tt.key, tt.key, filter), q)
				if len(got) != 5 || got[4].distance > 1.02*want[4].distance { // there are ties
					t.Errorf("filter of %d: got %v, want %v", n, got, want)
				}
			}
		})
	}
}

// TestKNN_Random mixes 10,000 changes of all kinds with searches, and compares with the exact answer.
func TestKNN_Random(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	db, c := notesDB(t, ":memory:", 2000, 24, ", metric=l2, lists_from=1000")
	next, depth := 2001, 0
	changes := 10000
	if testing.Short() {
		changes = 2000
	}
	var found, asked float64
	id := func() int { return 1 + r.IntN(next) }
	for range changes {
		switch op := r.IntN(100); {
		case op < 35:
			mustExec(t, db, `INSERT OR REPLACE INTO notes VALUES (?, 'en', ?)`, next, blob(c.draw()))
			next++
		case op < 55:
			mustExec(t, db, `UPDATE notes SET embedding = ? WHERE id = ?`, blob(c.draw()), id())
		case op < 80:
			mustExec(t, db, `DELETE FROM notes WHERE id = ?`, id())
		case op < 83:
			mustExec(t, db, `UPDATE OR REPLACE notes SET id = ? WHERE id = ?`, id(), id())
		case op < 84:
			mustExec(t, db, `UPDATE notes SET embedding = NULL WHERE id = ?`, id())
		case op < 86:
			mustExec(t, db, `INSERT OR FAIL INTO notes SELECT ?, 'de', ? WHERE NOT EXISTS (SELECT 1 FROM notes WHERE id = ?1)`, id(), blob(c.draw()))
		case op < 90:
			mustExec(t, db, fmt.Sprintf(`SAVEPOINT s%d`, depth))
			depth++
		case op < 92 && depth > 0:
			depth--
			mustExec(t, db, fmt.Sprintf(`RELEASE s%d`, depth))
		case op < 94 && depth > 0:
			depth--
			mustExec(t, db, fmt.Sprintf(`ROLLBACK TO s%d; RELEASE s%d`, depth, depth))
		case op < 96:
			mustExec(t, db, `INSERT INTO notes_knn(notes_knn, k) VALUES ('fold', ?)`, 1+r.IntN(200))
		default:
			q := blob(c.draw())
			want := search(t, db, `SELECT id, vec_distance_L2(embedding, ?) d FROM notes WHERE embedding IS NOT NULL ORDER BY d LIMIT 10`, q)
			got := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10 AND recall = 0.999`, q)
			if len(got) != len(want) || !ascending(got) || twice(got) {
				t.Fatalf("got %v, want %v", got, want)
			}
			found += overlap(got, want)
			asked++
		}
		if r.IntN(changes/20) == 0 {
			checkIndex(t, db, "notes_knn")
		}
	}
	for ; depth > 0; depth-- {
		mustExec(t, db, fmt.Sprintf(`RELEASE s%d`, depth-1))
	}
	checkIndex(t, db, "notes_knn")
	mustExec(t, db, `INSERT INTO notes_knn(notes_knn) VALUES ('optimize')`)
	checkIndex(t, db, "notes_knn")
	if n := count(t, db, `SELECT count(*) FROM notes_knn_dirty`); n != 0 {
		t.Errorf("%d rows still changed after optimize", n)
	}
	if found/asked < 0.98 {
		t.Errorf("recall %.4f over %.0f searches", found/asked, asked)
	}
	t.Logf("recall %.4f over %.0f searches, %d rows in %d lists", found/asked, asked, count(t, db, `SELECT count(*) FROM notes`),
		count(t, db, `SELECT count(*) FROM notes_knn_lists`))
}

// TestKNN_Shell writes with a program that knows nothing of the index.
func TestKNN_Shell(t *testing.T) {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "shell.db")
	db, c := notesDB(t, path+"?_journal_mode=WAL&_busy_timeout=5000", 1500, 16, ", lists_from=1000")
	far, near := blob(c.gauss(16, 9)), blob(c.gauss(16, 9))
	shell := func(statement string) {
		t.Helper()
		if out, err := exec.Command("sqlite3", path, statement).CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("sqlite3: %v %s", err, out)
		}
	}
	first := func(q []byte) hit {
		t.Helper()
		return search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 1`, q)[0]
	}
	shell(fmt.Sprintf(`INSERT INTO notes VALUES (9001, 'en', x'%x')`, far))
	if h := first(far); h.id != int64(9001) || h.distance > 1e-6 {
		t.Errorf("after the shell's INSERT: %v", h)
	}
	shell(fmt.Sprintf(`BEGIN; UPDATE notes SET embedding = x'%x' WHERE id = 17; UPDATE notes SET id = 9017 WHERE id = 17; COMMIT`, near))
	if h := first(near); h.id != int64(9017) || h.distance > 1e-6 {
		t.Errorf("after the shell's UPDATE: %v", h)
	}
	shell(`UPDATE notes SET rowid = 9002 WHERE id = 9001`)
	if h := first(far); h.id != int64(9002) || h.distance > 1e-6 {
		t.Errorf("after the shell's UPDATE of rowid: %v", h)
	}
	shell(`DELETE FROM notes WHERE id > 9000; VACUUM`)
	if h := first(near); h.distance < 1e-6 {
		t.Errorf("after the shell's DELETE: %v", h)
	}
	checkIndex(t, db, "notes_knn")
}

func TestKNN_Plans(t *testing.T) {
	db, c := notesDB(t, ":memory:", 1500, 16, ", lists_from=1000")
	mustExec(t, db, `CREATE INDEX notes_lang ON notes(lang); ANALYZE`)
	q := blob(c.draw())
	plan := func(query string) string {
		t.Helper()
		rows, err := db.Query(`EXPLAIN QUERY PLAN `+query, q)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		defer rows.Close()
		var lines []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, detail)
		}
		return strings.Join(lines, "\n")
	}
	for _, tt := range []struct{ name, query, want string }{
		{"join", `SELECT n.lang, k.distance FROM notes_knn k JOIN notes n ON n.id = k.id WHERE k.embedding MATCH ? AND k.k = 10`,
			"SCAN k VIRTUAL TABLE INDEX 3:\nSEARCH n USING INTEGER PRIMARY KEY (rowid=?)"},
		{"join the other way", `SELECT n.lang, k.distance FROM notes n JOIN notes_knn k ON n.id = k.id WHERE k.embedding MATCH ? AND k.k = 10`,
			"SCAN k VIRTUAL TABLE INDEX 3:\nSEARCH n USING INTEGER PRIMARY KEY (rowid=?)"},
		{"ordered join without k", `SELECT n.lang, k.distance FROM notes_knn k JOIN notes n ON n.id = k.id WHERE k.embedding MATCH ? ORDER BY k.distance LIMIT 10`,
			"SCAN k VIRTUAL TABLE INDEX 1:\nSEARCH n USING INTEGER PRIMARY KEY (rowid=?)"},
		{"join with a condition on the table", `SELECT n.lang, k.distance FROM notes_knn k JOIN notes n ON n.id = k.id WHERE k.embedding MATCH ? AND k.k = 10 AND n.lang = 'en'`,
			"SCAN k VIRTUAL TABLE INDEX 3:\nSEARCH n USING INTEGER PRIMARY KEY (rowid=?)"},
		{"filter", `SELECT n.lang, k.distance FROM notes_knn k JOIN notes n ON n.id = k.id WHERE k.embedding MATCH ? AND k.k = 10 AND k.id IN (SELECT id FROM notes WHERE lang = 'en')`,
			"SCAN k VIRTUAL TABLE INDEX 19:\nLIST SUBQUERY 1\nSEARCH notes USING COVERING INDEX notes_lang (lang=?)\nSEARCH n USING INTEGER PRIMARY KEY (rowid=?)"},
		{"limit", `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? ORDER BY distance LIMIT 10`,
			"SCAN notes_knn VIRTUAL TABLE INDEX 9:"},
		{"neighbours of a row", `SELECT k.id, k.distance FROM notes q JOIN notes_knn k ON k.embedding MATCH q.embedding WHERE q.id = 3 AND k.k = 10 AND ?1 IS NOT NULL`,
			"SEARCH q USING INTEGER PRIMARY KEY (rowid=?)\nSCAN k VIRTUAL TABLE INDEX 3:"},
	} {
		if got := plan(tt.query); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
		rows := 0
		for _, h := range search(t, db, strings.Replace(tt.query, "n.lang", "n.id", 1), q) {
			_ = h
			rows++
		}
		if want := 10; tt.name != "join with a condition on the table" && rows != want {
			t.Errorf("%s: %d rows, want %d", tt.name, rows, want)
		}
	}
}

// TestKNN_ChangedOnce changes rows a little: their old codes are near the query too.
func TestKNN_ChangedOnce(t *testing.T) {
	db, c := notesDB(t, ":memory:", 1500, 16, ", lists_from=1000")
	mustExec(t, db, `UPDATE notes SET embedding = embedding WHERE id % 20 = 0`)
	for range 20 {
		got := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 50`, blob(c.draw()))
		if len(got) != 50 || twice(got) {
			t.Fatalf("a row twice among %v", got)
		}
	}
}

// TestKNN_JoinOrder puts the table first by force: a join must mean the same in either order.
func TestKNN_JoinOrder(t *testing.T) {
	db, c := notesDB(t, ":memory:", 300, 16, ", lists_from=100")
	q := blob(c.draw())
	want := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10 ORDER BY id`, q)
	got := search(t, db, `SELECT n.id, k.distance FROM notes n CROSS JOIN notes_knn k ON k.id = n.id WHERE k.embedding MATCH ? AND k.k = 10 ORDER BY n.id`, q)
	if !slices.Equal(got, want) {
		t.Errorf("%d rows: %v, want %v", len(got), got, want)
	}
}

func TestKNN_Filters(t *testing.T) {
	db, c := notesDB(t, ":memory:", 3000, 32, ", lists_from=1000")
	for range 10 {
		q := blob(c.draw())
		for _, filter := range []string{
			`IN (SELECT id FROM notes WHERE lang = 'en')`, `IN (5, 6, 7)`, `IN (5)`, `= 5`, `IN ('7', 8.0, 9.5, NULL, 'x')`,
			`IN (SELECT id FROM notes WHERE id % 2 = 0)`, `IN (SELECT 1 WHERE 0)`, `IN (SELECT id FROM notes WHERE id < 1700)`,
		} {
			want := search(t, db, `SELECT id, vec_distance_cosine(embedding, ?) d FROM notes WHERE id `+filter+` ORDER BY d LIMIT 10`, q)
			got := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10 AND recall = 0.999 AND id `+filter, q)
			if len(got) != len(want) || overlap(got, want) < 0.9 {
				t.Errorf("id %s: got %v, want %v", filter, got, want)
			}
		}
	}
}

// TestKNN_AsManyAsRead reads further than any first guess reaches.
func TestKNN_AsManyAsRead(t *testing.T) {
	db, c := notesDB(t, ":memory:", 2500, 16, ", metric=l2, lists_from=1000")
	q := blob(c.draw())
	all := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND recall = 1`, q)
	want := search(t, db, `SELECT id, vec_distance_L2(embedding, ?) d FROM notes ORDER BY d`, q)
	if len(all) != 2500 || overlap(all, want) != 1 || !ascending(all) {
		t.Errorf("%d rows of 2500", len(all))
	}
	got := search(t, db, `SELECT k.id, k.distance FROM notes_knn k JOIN notes n ON n.id = k.id WHERE k.embedding MATCH ? AND n.lang = 'de' ORDER BY k.distance LIMIT 7`, q)
	wantDE := search(t, db, `SELECT id, vec_distance_L2(embedding, ?) d FROM notes WHERE lang = 'de' ORDER BY d LIMIT 7`, q)
	if len(got) != 7 || overlap(got, wantDE) < 0.8 {
		t.Errorf("got %v, want %v", got, wantDE)
	}
	if got := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? ORDER BY distance LIMIT 5 OFFSET 100`, q); len(got) != 5 {
		t.Errorf("offset: %v", got)
	}
}

func TestKNN_Errors(t *testing.T) {
	db, _ := notesDB(t, ":memory:", 1200, 8, ", lists_from=1000")
	mustExec(t, db, `CREATE TABLE bare(embedding BLOB); CREATE TABLE odd(k INTEGER PRIMARY KEY, embedding BLOB); CREATE VIEW seen AS SELECT * FROM notes`)
	for _, tt := range []struct{ statement, want string }{
		{`CREATE VIRTUAL TABLE x USING velosync_knn(notes)`, "takes the table and the column"},
		{`CREATE VIRTUAL TABLE x USING velosync_knn(nowhere, embedding)`, "no such table: main.nowhere"},
		{`CREATE VIRTUAL TABLE x USING velosync_knn(notes, nothing)`, `no column "nothing"`},
		{`CREATE VIRTUAL TABLE x USING velosync_knn(notes, id)`, "primary key"},
		{`CREATE VIRTUAL TABLE x USING velosync_knn(bare, embedding)`, "no PRIMARY KEY"},
		{`CREATE VIRTUAL TABLE x USING velosync_knn(seen, embedding)`, "no PRIMARY KEY"},
		{`CREATE VIRTUAL TABLE x USING velosync_knn(odd, embedding)`, "rename one of them"},
		{`CREATE VIRTUAL TABLE x USING velosync_knn(notes, embedding, metric=l3)`, "metric=l3"},
		{`CREATE VIRTUAL TABLE x USING velosync_knn(notes, embedding, dims=0)`, "dims=0"},
		{`CREATE VIRTUAL TABLE x USING velosync_knn(notes, embedding, speed=1)`, "unknown argument speed=1"},
		{`SELECT * FROM notes_knn WHERE embedding MATCH '[1,2]' AND k = 3`, "the query has 2 dimensions"},
		{`SELECT * FROM notes_knn WHERE embedding MATCH '[1,2' AND k = 3`, "JSON"},
		{`SELECT * FROM notes_knn WHERE embedding MATCH '[1,2,3,4,5,6,7,8]' AND k = -1`, "k takes an integer"},
		{`SELECT * FROM notes_knn WHERE embedding MATCH '[1,2,3,4,5,6,7,8]' AND k = 'many'`, "k takes an integer"},
		{`SELECT * FROM notes_knn WHERE embedding MATCH '[1,2,3,4,5,6,7,8]' AND k = 3 AND recall = 2`, "recall takes"},
		{`SELECT * FROM notes_knn WHERE embedding MATCH vec_int8('[1,2,3,4,5,6,7,8]') AND k = 3`, "int8"},
		{`SELECT * FROM notes_knn WHERE k = 3`, "k and recall belong to a search"},
		{`INSERT INTO notes_knn(id) VALUES (5)`, "is an index: write to table"},
		{`DELETE FROM notes_knn`, "is an index: write to table"},
		{`INSERT INTO notes_knn(notes_knn) VALUES ('tidy')`, "unknown command 'tidy'"},
	} {
		rows, err := db.Query(tt.statement)
		for err == nil && rows.Next() {
		}
		if err == nil {
			err = rows.Err()
			rows.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s\n  got  %v\n  want %s", tt.statement, err, tt.want)
		}
	}
	if n := count(t, db, `SELECT count(*) FROM sqlite_schema WHERE name LIKE 'x%' OR name LIKE '%\_x\_%' ESCAPE '\'`); n != 0 {
		t.Errorf("%d tables and triggers left behind by what failed", n)
	}
	mustExec(t, db, `SELECT id FROM notes_knn WHERE embedding MATCH NULL AND k = 3`)
	if n := count(t, db, `SELECT count(*) FROM notes_knn`); n != 1200 {
		t.Errorf("%d rows listed", n)
	}
}

func TestKNN_Schema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "schema.db")
	db, c := notesDB(t, path, 1500, 16, ", lists_from=1000")
	q := blob(c.draw())
	find := func(table string) ([]hit, error) {
		rows, err := db.Query(`SELECT id, distance FROM `+table+` WHERE embedding MATCH ? AND k = 5`, q)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var hits []hit
		for rows.Next() {
			var h hit
			if err := rows.Scan(&h.id, &h.distance); err != nil {
				return nil, err
			}
			hits = append(hits, h)
		}
		return hits, rows.Err()
	}
	want, err := find("notes_knn")
	if err != nil {
		t.Fatal(err)
	}
	same := func(table string) {
		t.Helper()
		got, err := find(table)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("got %v %v, want %v", got, err, want)
		}
	}
	again := func() { // another connection, which reads the schema anew
		t.Helper()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = openDB(t, path)
	}
	mustExec(t, db, `ALTER TABLE notes RENAME TO "my notes"`)
	same("notes_knn")
	mustExec(t, db, `ALTER TABLE "my notes" RENAME COLUMN embedding TO "the ""vector"""`)
	same("notes_knn")
	again()
	same("notes_knn")
	mustExec(t, db, `ALTER TABLE notes_knn RENAME TO found`)
	same("found")
	again()
	same("found")
	mustExec(t, db, `UPDATE "my notes" SET "the ""vector""" = ? WHERE id = 1; VACUUM`, q)
	if got, err := find("found"); err != nil || got[0].id != int64(1) {
		t.Fatalf("after renaming everything: %v %v", got, err)
	}
	checkIndex(t, db, "found")

	mustExec(t, db, `CREATE TABLE kept AS SELECT * FROM "my notes"; DROP TABLE "my notes"`)
	if _, err := find("found"); err == nil || !strings.Contains(err.Error(), "triggers are gone") {
		t.Errorf("after DROP TABLE: %v", err)
	}
	again()
	if _, err := find("found"); err == nil || !strings.Contains(err.Error(), "triggers are gone") {
		t.Errorf("after DROP TABLE and reopening: %v", err)
	}
	mustExec(t, db, `CREATE TABLE notes(id INTEGER PRIMARY KEY, lang, embedding); INSERT INTO notes SELECT * FROM kept`)
	mustExec(t, db, `INSERT INTO found(found) VALUES ('rebuild')`)
	if got, err := find("found"); err != nil || got[0].id != int64(1) {
		t.Errorf("after rebuild: %v %v", got, err)
	}
	mustExec(t, db, `DROP TABLE notes`)
	again()
	mustExec(t, db, `DROP TABLE found`)
	if n := count(t, db, `SELECT count(*) FROM sqlite_schema WHERE name LIKE '%found%'`); n != 0 {
		t.Errorf("%d tables and triggers left after DROP TABLE", n)
	}
}

// TestScenario_48_indexShrinks deletes nine of ten rows and expects their codes and lists to
// go too, and what is left to be found as before.
func TestScenario_48_indexShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shrink.db")
	db, c := notesDB(t, path, 6000, 64, ", lists_from=1000")
	mustExec(t, db, `VACUUM`)
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	full := size()
	mustExec(t, db, `DELETE FROM notes WHERE id % 10 <> 0`)
	mustExec(t, db, `INSERT INTO notes_knn(notes_knn) VALUES ('optimize')`)
	checkIndex(t, db, "notes_knn")
	mustExec(t, db, `VACUUM`)
	if now := size(); now > full/8 {
		t.Errorf("%d bytes after nine of ten rows are gone, %d before", now, full)
	}
	var found float64
	for range 50 {
		q := blob(c.draw())
		want := search(t, db, `SELECT id, vec_distance_cosine(embedding, ?) d FROM notes ORDER BY d LIMIT 10`, q)
		found += overlap(search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10`, q), want) / 50
	}
	if found < 0.95 {
		t.Errorf("recall %.3f of what is left", found)
	}
	mustExec(t, db, `DELETE FROM notes`)
	mustExec(t, db, `INSERT INTO notes_knn(notes_knn) VALUES ('optimize')`)
	if n := count(t, db, `SELECT (SELECT count(*) FROM notes_knn_codes) + (SELECT count(*) FROM notes_knn_lists) + (SELECT count(*) FROM notes_knn_rows)`); n != 0 {
		t.Errorf("%d rows left in an empty index", n)
	}
	mustExec(t, db, `INSERT INTO notes VALUES (1, 'en', ?)`, blob(c.draw()))
	if got := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 3`, blob(c.draw())); len(got) != 1 {
		t.Errorf("one row: %v", got)
	}
}

// TestKNN_Grows fills an empty index by searches alone, as an application that never calls a command.
func TestKNN_Grows(t *testing.T) {
	db, c := notesDB(t, ":memory:", 0, 24, ", lists_from=1000")
	for i := range 4000 {
		mustExec(t, db, `INSERT INTO notes VALUES (?, 'en', ?)`, i+1, blob(c.draw()))
		if i%20 == 0 {
			search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 3`, blob(c.draw()))
		}
	}
	for range 300 {
		search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 3`, blob(c.draw()))
	}
	if lists, dirty := count(t, db, `SELECT count(*) FROM notes_knn_lists`), count(t, db, `SELECT count(*) FROM notes_knn_dirty`); lists < 8 || dirty > 1500 {
		t.Errorf("%d lists and %d changed rows", lists, dirty)
	}
	checkIndex(t, db, "notes_knn")
	var found float64
	for range 50 {
		q := blob(c.draw())
		want := search(t, db, `SELECT id, vec_distance_cosine(embedding, ?) d FROM notes ORDER BY d LIMIT 10`, q)
		found += overlap(search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10`, q), want) / 50
	}
	if found < 0.95 {
		t.Errorf("recall %.3f", found)
	}
}

// TestKNN_Ghosts replaces rows by another UNIQUE constraint than the key: no trigger runs.
func TestKNN_Ghosts(t *testing.T) {
	db := openDB(t, ":memory:")
	c := newCloud(9, 16)
	mustExec(t, db, `CREATE TABLE notes(id INTEGER PRIMARY KEY, slug UNIQUE, embedding BLOB)`)
	for i := range 1500 {
		mustExec(t, db, `INSERT INTO notes VALUES (?, ?, ?)`, i, i, blob(c.draw()))
	}
	mustExec(t, db, `CREATE VIRTUAL TABLE notes_knn USING velosync_knn(notes, embedding, lists_from=1000)`)
	for i := range 100 {
		mustExec(t, db, `INSERT OR REPLACE INTO notes VALUES (?, ?, ?)`, 5000+i, i, blob(c.draw()))
	}
	q := blob(c.draw())
	want := search(t, db, `SELECT id, vec_distance_cosine(embedding, ?) d FROM notes ORDER BY d LIMIT 10`, q)
	if got := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10 AND recall = 0.999`, q); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	mustExec(t, db, `INSERT INTO notes_knn(notes_knn) VALUES ('optimize')`)
	checkIndex(t, db, "notes_knn")
	if n := count(t, db, `SELECT count(*) FROM notes_knn_rows WHERE id < 100`); n != 0 {
		t.Errorf("%d replaced rows left", n)
	}
}

// TestKNN_Odd has rows that hold no vector of the index: they are not found, and nothing fails.
func TestKNN_Odd(t *testing.T) {
	db, c := notesDB(t, ":memory:", 1500, 16, ", lists_from=1000")
	nan := bytes.Repeat([]byte{0, 0, 0xc0, 0x7f}, 16)
	for i, v := range []any{nil, "not a vector", []byte{1, 2, 3}, nan, blob(c.gauss(8, 1)), 17, blob(make([]float32, 16))} {
		mustExec(t, db, `INSERT INTO notes VALUES (?, 'odd', ?)`, 9000+i, v)
	}
	for _, state := range []string{"changed", "folded"} {
		hits := search(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND recall = 0.999`, blob(c.draw()))
		odd := slices.DeleteFunc(hits, func(h hit) bool { return h.id.(int64) < 9000 })
		if len(odd) != 1 || odd[0] != (hit{int64(9006), 1}) {
			t.Errorf("%s: found %v, want the zero vector at distance 1", state, odd)
		}
		mustExec(t, db, `INSERT INTO notes_knn(notes_knn) VALUES ('optimize')`)
		checkIndex(t, db, "notes_knn")
	}
}

func tuningOf(t testing.TB, db *sql.DB) string {
	t.Helper()
	var tuning []byte
	if err := db.QueryRow(`SELECT tuning FROM notes_knn_meta`).Scan(&tuning); err != nil {
		t.Fatal(err)
	}
	float := func(i int) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(tuning[i:])) }
	out := fmt.Sprintf("freedom %.1f", float(0))
	for i := 8; i+12 <= len(tuning); i += 12 {
		out += fmt.Sprintf(" %d:%.3f/%.3f", binary.LittleEndian.Uint32(tuning[i:]), float(i+4), float(i+8))
	}
	return out
}
