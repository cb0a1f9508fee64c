//go:build unix

package sqlfuncs

import (
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// A knnSet is one data set of the vector bench, see TestKNN_Real.
type knnSet struct {
	dims                int
	base, extra, query  [][]byte // float32, as they go into a blob
	nearest, nearest1pc []int32  // 100 and 10 a query
}

func readKNNSet(t testing.TB, name string) knnSet {
	t.Helper()
	root := os.Getenv("VELOSYNC_BENCH_DIR")
	if root == "" {
		t.Skip("VELOSYNC_BENCH_DIR names no data sets")
	}
	dir := filepath.Join(root, "vector", "data", name)
	read := func(file string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatalf("the data set named by VELOSYNC_KNN_SET: %v", err)
		}
		return data
	}
	var meta struct{ N, D, Q, Extra int }
	if err := json.Unmarshal(read("meta.json"), &meta); err != nil {
		t.Fatal(err)
	}
	rows := func(file string) [][]byte { return slices.Collect(slices.Chunk(read(file), 4*meta.D)) }
	ints := func(file string) []int32 {
		data := read(file)
		out := make([]int32, len(data)/4)
		for i := range out {
			out[i] = int32(binary.LittleEndian.Uint32(data[4*i:]))
		}
		return out
	}
	return knnSet{meta.D, rows("base.f32"), rows("extra.f32"), rows("query.f32"), ints("gt.i32"), ints("gt1pct.i32")}
}

func fill(t testing.TB, db *sql.DB, first int, vectors [][]byte) {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	insert, err := tx.Prepare(`INSERT INTO notes(id, grp, embedding) VALUES (?, ?, ?)`)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vectors {
		if _, err := insert.Exec(first+i, (first+i)%100, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func fileMB(t testing.TB, db *sql.DB) float64 {
	t.Helper()
	mustExec(t, db, `PRAGMA wal_checkpoint(TRUNCATE)`)
	var pages, size float64
	if err := db.QueryRow(`SELECT page_count, page_size FROM pragma_page_count, pragma_page_size`).Scan(&pages, &size); err != nil {
		t.Fatal(err)
	}
	return pages * size / 1e6
}

// measureKNN runs a search for n queries and returns recall@10 and the times in ascending order. A
// row counts if it is as near as the last of the true neighbours: of rows at the same distance any
// will do, and real text has many.
func measureKNN(t testing.TB, db *sql.DB, query string, set knnSet, n int, truth func(q int) []int32) (float64, []time.Duration) {
	t.Helper()
	search, err := db.Prepare(query)
	if err != nil {
		t.Fatal(err)
	}
	defer search.Close()
	hits, total := 0, 0
	var times []time.Duration
	for q := range n {
		want := truth(q)
		furthest := cosineDistance(set.base[want[len(want)-1]], set.query[q]) + 1e-6
		start := time.Now()
		rows, err := search.Query(set.query[q])
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id int32
			var distance float64
			if err := rows.Scan(&id, &distance); err != nil {
				t.Fatal(err)
			}
			if distance <= furthest {
				hits++
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(start))
		total += len(want)
	}
	slices.Sort(times)
	return float64(hits) / float64(total), times
}

// cosineDistance compares two blobs of float32 in float64.
func cosineDistance(a, b []byte) float64 {
	var ab, aa, bb float64
	for i := 0; i < len(a); i += 4 {
		x := float64(math.Float32frombits(binary.LittleEndian.Uint32(a[i:])))
		y := float64(math.Float32frombits(binary.LittleEndian.Uint32(b[i:])))
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return 1 - ab/math.Sqrt(aa*bb)
}

// TestKNN_Real measures the index on data sets of the vector bench:
//
//	VELOSYNC_BENCH_DIR=DIR VELOSYNC_KNN_SET=lsa384 go test -run TestKNN_Real -v ./sqlfuncs
func TestKNN_Real(t *testing.T) {
	name := os.Getenv("VELOSYNC_KNN_SET")
	if name == "" {
		t.Skip("VELOSYNC_KNN_SET names no data set")
	}
	set := readKNNSet(t, name)
	path := filepath.Join(t.TempDir(), "knn.db")
	dsn := "file:" + path + "?_journal_mode=WAL&_synchronous=NORMAL&_cache_size=-65536"
	db := openDB(t, dsn)
	mustExec(t, db, `PRAGMA mmap_size=4294967296`)
	mustExec(t, db, `CREATE TABLE notes(id INTEGER PRIMARY KEY, grp INTEGER, embedding BLOB); CREATE INDEX notes_grp ON notes(grp)`)
	fill(t, db, 0, set.base)
	before := fileMB(t, db)
	start, used := time.Now(), cpuTime(t)
	mustExec(t, db, `CREATE VIRTUAL TABLE notes_knn USING velosync_knn(notes, embedding, metric=cosine)`)
	build := time.Since(start)
	cpu := cpuTime(t) - used
	after := fileMB(t, db)
	t.Logf("%s: build %.2f s (CPU %.2f), %.0f bytes a row", name, build.Seconds(), cpu.Seconds(), (after-before)*1e6/float64(len(set.base)))
	t.Logf("tuning: %s", tuningOf(t, db))
	for _, table := range []string{"codes", "rows", "lists"} {
		var n, rows, bytes float64
		if db.QueryRow(`SELECT count(*) FROM notes_knn_`+table).Scan(&rows) == nil &&
			db.QueryRow(`SELECT count(*), sum(pgsize) FROM dbstat WHERE name = ?`, "notes_knn_"+table).Scan(&n, &bytes) == nil {
			t.Logf("  %s: %.0f rows, %.1f bytes a base row", table, rows, bytes/float64(len(set.base)))
		}
	}
	queries := min(500, len(set.query))
	nearest := func(q int) []int32 { return set.nearest[100*q : 100*q+10] }
	for _, recall := range []float64{0.9, 0.95, 0.98, 0.99, 0.995} {
		before := cpuTime(t)
		got, times := measureKNN(t, db, fmt.Sprintf(`SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10 AND recall = %g`, recall), set, queries, nearest)
		cpu := cpuTime(t) - before
		t.Logf("recall=%-5g  got %.4f  p50 %v  p95 %v  mean %v, CPU %v", recall, got, times[len(times)/2], times[len(times)*95/100], mean(times), cpu/time.Duration(queries))
	}
	got, times := measureKNN(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 100`, set, queries/5, func(q int) []int32 { return set.nearest[100*q : 100*q+100] })
	t.Logf("k = 100      got %.4f  mean %v  p50 %v", got, mean(times), times[len(times)/2])
	got, times = measureKNN(t, db, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10 AND id IN (SELECT id FROM notes WHERE grp = 7)`, set, queries,
		func(q int) []int32 { return set.nearest1pc[10*q : 10*q+10] })
	t.Logf("1 %% filter   got %.4f  min %v  p50 %v", got, times[0], times[len(times)/2])

	insert := make([]time.Duration, 0, 300)
	for i := range 300 {
		start := time.Now()
		mustExec(t, db, `INSERT INTO notes(id, grp, embedding) VALUES (?, 1, ?)`, len(set.base)+i, set.extra[i])
		insert = append(insert, time.Since(start))
	}
	slices.Sort(insert)
	start = time.Now()
	mustExec(t, db, `INSERT INTO notes_knn(notes_knn, k) VALUES ('fold', 1000)`)
	t.Logf("insert one: p50 %v; folding 300: %v each, %d changed", insert[150], time.Since(start)/300, count(t, db, `SELECT count(*) FROM notes_knn_dirty`))
	mustExec(t, db, `INSERT INTO notes_knn(notes_knn) VALUES ('optimize')`)

	cold := make([]time.Duration, 0, 5)
	for range 5 {
		start := time.Now()
		fresh := openDB(t, dsn)
		mustExec(t, fresh, `PRAGMA mmap_size=4294967296`)
		measureKNN(t, fresh, `SELECT id, distance FROM notes_knn WHERE embedding MATCH ? AND k = 10`, set, 1, nearest)
		cold = append(cold, time.Since(start))
	}
	t.Logf("open to first answer: %v", slices.Min(cold))

	mustExec(t, db, `DELETE FROM notes WHERE id % 2 = 1`)
	start = time.Now()
	mustExec(t, db, `INSERT INTO notes_knn(notes_knn) VALUES ('optimize')`)
	optimize := time.Since(start)
	mustExec(t, db, `VACUUM`)
	t.Logf("half deleted: %.1f MB of %.1f, folded in %v", fileMB(t, db), after, optimize)
	mustExec(t, db, `INSERT INTO notes_knn(notes_knn) VALUES ('integrity-check')`)
}

// cpuTime is what this process has used; on a busy machine it says more than the clock.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func mean(times []time.Duration) time.Duration {
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	return sum / time.Duration(len(times))
}
