package sqlfuncs

import (
	"database/sql"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkScan times the exact search beside scans of the same table in the same run, and
// reports their ratios. The rows are those of a document store: 1,822 bytes, 1,536 of them the
// embedding, on pages of 4 KiB.
//
//	length   sum(length(embedding)): every row is visited, its embedding never read
//	bytes    the same rows sorted by a number, LIMIT 10: the query without the arithmetic
func BenchmarkScan(b *testing.B) {
	b.Run("rows=100k/dim=384", func(b *testing.B) { benchmarkScan(b, 100_000, 384) })
	b.Run("rows=10k/dim=1536", func(b *testing.B) { benchmarkScan(b, 10_000, 1536) })
}

func benchmarkScan(b *testing.B, rows, dim int) {
	db := openDB(b, "file:"+filepath.Join(b.TempDir(), "scan.db")+"?_journal_mode=WAL&_cache_size=-65536")
	mustExec(b, db, `PRAGMA mmap_size=1073741824`)
	mustExec(b, db, `CREATE TABLE docs(id TEXT PRIMARY KEY, title TEXT, body TEXT, embedding BLOB, weight REAL, updated_at INTEGER)`)
	r := rand.New(rand.NewPCG(1, 2))
	random := func() Vector {
		v := make(Vector, dim)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		return v
	}
	tx, err := db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	insert, err := tx.Prepare(`INSERT INTO docs VALUES (hex(randomblob(16)), hex(randomblob(15)), hex(randomblob(100)), ?, random() / 1e19, 1.7e12)`)
	if err != nil {
		b.Fatal(err)
	}
	for range rows {
		if _, err := insert.Exec(random()); err != nil {
			b.Fatal(err)
		}
	}
	insert.Close()
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	mustExec(b, db, `PRAGMA wal_checkpoint(TRUNCATE)`)

	query := random()
	narrow, err := PackF32(query)
	if err != nil {
		b.Fatal(err)
	}
	text, err := eval(b, db, `vec_to_json(?)`, query)
	if err != nil {
		b.Fatal(err)
	}
	wide := make(Vector64, dim)
	for i, x := range query {
		wide[i] = float64(x)
	}
	const search = `SELECT id FROM docs ORDER BY cosine_similarity(embedding, ?) DESC LIMIT 10`
	scans := []struct {
		name  string
		query string
		args  []any
	}{
		{"length", `SELECT sum(length(embedding)) FROM docs`, nil},
		{"bytes", `SELECT id FROM docs ORDER BY weight DESC LIMIT 10`, nil},
		{"cosine", search, []any{narrow}},
		{"json", search, []any{text}},
		{"float64", search, []any{wide}},
		{"literal", `SELECT id FROM docs ORDER BY cosine_similarity(embedding, vec_f32('` + text.(string) + `')) DESC LIMIT 10`, nil},
		{"l2", `SELECT id FROM docs ORDER BY vec_distance_L2(embedding, ?) LIMIT 10`, []any{narrow}},
	}
	times := make([][]time.Duration, len(scans))
	for b.Loop() {
		for i, s := range scans {
			began := time.Now()
			drain(b, db, s.query, s.args)
			times[i] = append(times[i], time.Since(began))
		}
	}
	median := func(i int) float64 {
		slices.Sort(times[i])
		return float64(times[i][len(times[i])/2])
	}
	for i, s := range scans {
		b.ReportMetric(median(i)/1e6, s.name+"-ms")
	}
	b.ReportMetric(median(2)/median(0), "cosine/length")
	b.ReportMetric(median(2)/median(1), "cosine/bytes")
}

// BenchmarkTypes scans a table of nothing but vectors, one type after the other: what a narrower
// type saves. Each row is compared with a
// bound query of its type: by cosine, bits by Hamming.
func BenchmarkTypes(b *testing.B) {
	b.Run("rows=100k/dim=384", func(b *testing.B) { benchmarkTypes(b, 100_000, 384) })
}

func benchmarkTypes(b *testing.B, rows, dim int) {
	db := openDB(b, "file:"+filepath.Join(b.TempDir(), "types.db")+"?_journal_mode=WAL&_cache_size=-65536")
	mustExec(b, db, `PRAGMA mmap_size=1073741824`)
	types := []struct{ name, make, query string }{
		{"float64", `vec_f64(?)`, `vec_distance_cosine(e, ?)`},
		{"float32", `?`, `vec_distance_cosine(e, ?)`},
		{"float16", `vec_f16(?)`, `vec_distance_cosine(e, ?)`},
		{"bfloat16", `vec_bf16(?)`, `vec_distance_cosine(e, ?)`},
		{"int8", `vec_quantize_int8(?, 'unit')`, `vec_distance_cosine(e, ?)`},
		{"bit", `vec_quantize_binary(?)`, `vec_distance_hamming(e, ?)`},
	}
	r := rand.New(rand.NewPCG(1, 2))
	random := func() Vector {
		v := make(Vector, dim)
		for i := range v {
			v[i] = float32(r.NormFloat64() / 20)
		}
		return v
	}
	tx, err := db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	for _, t := range types {
		if _, err := tx.Exec(`CREATE TABLE ` + t.name + `(id INTEGER PRIMARY KEY, e BLOB)`); err != nil {
			b.Fatal(err)
		}
		insert, err := tx.Prepare(`INSERT INTO ` + t.name + `(e) VALUES (` + t.make + `)`)
		if err != nil {
			b.Fatal(err)
		}
		for range rows {
			if _, err := insert.Exec(random()); err != nil {
				b.Fatal(err)
			}
		}
		insert.Close()
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	mustExec(b, db, `PRAGMA wal_checkpoint(TRUNCATE)`)
	for _, t := range types {
		query, err := eval(b, db, t.make, random())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(t.name, func(b *testing.B) {
			for b.Loop() {
				drain(b, db, `SELECT id FROM `+t.name+` ORDER BY `+t.query+` LIMIT 10`, []any{query})
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}

func drain(b *testing.B, db *sql.DB, query string, args []any) {
	rows, err := db.Query(query, args...)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
}
