package main

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	_ "github.com/velosync/velosync/driver"
)

// A sqlPeer is a way to search in a SQLite file, as statements. %d is the dimensions.
type sqlPeer struct {
	driver  string
	label   string
	version string // a query; what it gives is added to the label
	create  []string
	insert  []string // of id, group and vector
	index   []string // after all rows are in
	queries int      // at most; a scan takes long
	modes   []sqlMode
	filter  string // search in one group
	fold    string // what follows inserts sooner or later; its time is shared out among them
	delete  []string
}

type sqlMode struct{ name, search string }

// options of the data source name, the same for all. 64 MiB of page cache.
const options = "?_journal_mode=WAL&_synchronous=NORMAL&_cache_size=-65536"

func sqlPeers(name string) []sqlPeer {
	docs := []string{`CREATE TABLE docs(id INTEGER PRIMARY KEY, grp INTEGER, embedding BLOB)`, `CREATE INDEX docs_grp ON docs(grp)`}
	insert := []string{`INSERT INTO docs(id, grp, embedding) VALUES (?1, ?2, ?3)`}
	switch name {
	case "velosync":
		return []sqlPeer{{
			driver: "velosync", label: "VeloSync", create: docs, insert: insert, queries: 100,
			modes:  []sqlMode{{"exact scan", `SELECT id FROM docs ORDER BY cosine_similarity(embedding, ?1) DESC LIMIT 10`}},
			filter: `SELECT id FROM docs WHERE grp = 7 ORDER BY cosine_similarity(embedding, ?1) DESC LIMIT 10`,
			delete: []string{`DELETE FROM docs WHERE id % 2 = 1`, `VACUUM`},
		}}
	case "velosync_knn":
		p := sqlPeer{
			driver: "velosync", label: "VeloSync velosync_knn", create: docs, insert: insert, queries: 1000,
			index:  []string{`CREATE VIRTUAL TABLE docs_knn USING velosync_knn(docs, embedding, metric=cosine)`},
			filter: `SELECT id FROM docs_knn WHERE embedding MATCH ?1 AND k = 10 AND id IN (SELECT id FROM docs WHERE grp = 7)`,
			fold:   `INSERT INTO docs_knn(docs_knn, k) VALUES ('fold', 1000)`,
			delete: []string{`DELETE FROM docs WHERE id % 2 = 1`, `INSERT INTO docs_knn(docs_knn) VALUES ('optimize')`, `VACUUM`},
		}
		for _, recall := range []string{"0.9", "0.95", "0.98", "0.99", "0.995"} {
			p.modes = append(p.modes, sqlMode{"recall=" + recall,
				`SELECT id FROM docs_knn WHERE embedding MATCH ?1 AND k = 10 AND recall = ` + recall})
		}
		return []sqlPeer{p}
	case "sqlite-vec":
		version := `SELECT vec_version()`
		bits := sqlPeer{
			driver: "sqlite-vec", label: "sqlite-vec", version: version, queries: 200,
			create: []string{`CREATE TABLE docs(id INTEGER PRIMARY KEY, grp INTEGER, embedding BLOB)`,
				`CREATE VIRTUAL TABLE codes USING vec0(id INTEGER PRIMARY KEY, code bit[%d])`},
			insert: append(insert, `INSERT INTO codes(id, code) VALUES (?1, vec_quantize_binary(?3))`),
			delete: []string{`DELETE FROM codes WHERE id IN (SELECT id FROM docs WHERE id % 2 = 1)`, `DELETE FROM docs WHERE id % 2 = 1`, `VACUUM`},
		}
		for _, k := range []string{"50", "200", "1000"} {
			bits.modes = append(bits.modes, sqlMode{"bits, best " + k + " again", `WITH near AS MATERIALIZED
				(SELECT id FROM codes WHERE code MATCH vec_quantize_binary(?1) AND k = ` + k + `)
				SELECT docs.id FROM near JOIN docs USING (id) ORDER BY vec_distance_cosine(embedding, ?1) LIMIT 10`})
		}
		return []sqlPeer{{
			driver: "sqlite-vec", label: "sqlite-vec", version: version, queries: 50,
			create: []string{`CREATE VIRTUAL TABLE docs USING vec0(id INTEGER PRIMARY KEY, grp INTEGER, embedding float[%d] distance_metric=cosine)`},
			insert: insert,
			modes:  []sqlMode{{"vec0, exact", `SELECT id FROM docs WHERE embedding MATCH ?1 AND k = 10`}},
			filter: `SELECT id FROM docs WHERE embedding MATCH ?1 AND k = 10 AND grp = 7`,
			delete: []string{`DELETE FROM docs WHERE id % 2 = 1`, `VACUUM`},
		}, bits}
	}
	return nil
}

// sqliteVecLibrary finds the loadable library in npm's package for this machine; it is faster
// than the same code built from its Go bindings, which are compiled without AVX.
func sqliteVecLibrary(npm string) (string, error) {
	found, err := filepath.Glob(filepath.Join(npm, "sqlite-vec-*", "vec0.*"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("npm has no sqlite-vec for this machine")
	}
	return found[0], nil
}

func openSQL(driver, file string) (*sql.DB, error) {
	if driver == "sqlite-vec" {
		library, err := sqliteVecLibrary(os.Getenv("VELOSYNC_BENCH_NPM"))
		if err != nil {
			return nil, err
		}
		if !registered {
			sql.Register("sqlite-vec", &sqlite3.SQLiteDriver{Extensions: []string{library}})
			registered = true
		}
	}
	db, err := sql.Open(driver, file+options)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	_, err = db.Exec(`PRAGMA mmap_size = 1073741824`)
	return db, err
}

// registered tells whether database/sql knows sqlite-vec already; it takes a name once.
var registered bool

func measureSQL(name string, s *set, work string) error {
	peers := sqlPeers(name)
	if peers == nil {
		return fmt.Errorf("no peer is called %s", name)
	}
	for i, p := range peers {
		if err := p.measure(name, s, filepath.Join(work, fmt.Sprintf("%d.db", i))); err != nil {
			return err
		}
	}
	return nil
}

func (p sqlPeer) measure(name string, s *set, file string) error {
	db, err := openSQL(p.driver, file)
	if err != nil {
		return err
	}
	defer db.Close()
	if p.version != "" {
		var v string
		if err := db.QueryRow(p.version).Scan(&v); err != nil {
			return err
		}
		p.label += " " + strings.TrimPrefix(v, "v")
	}
	start := time.Now()
	for _, statement := range p.create {
		if strings.Contains(statement, "%d") {
			statement = fmt.Sprintf(statement, s.Dims)
		}
		if err := execute(db, statement); err != nil {
			return err
		}
	}
	if err := p.fill(db, s); err != nil {
		return err
	}
	for _, statement := range p.index {
		if err := execute(db, statement); err != nil {
			return err
		}
	}
	common := record{Peer: p.label, BuildSeconds: time.Since(start).Seconds()}
	if err := execute(db, `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		return err
	}
	before := fileBytes(file)
	common.RowBytes = before / float64(s.Rows)

	records := make([]record, len(p.modes))
	for i, mode := range p.modes {
		r := common
		r.Mode = mode.name
		if r.Recall, r.P50, r.P95, err = p.search(db, s, s.truth, mode.search); err != nil {
			return err
		}
		if r.Cold, err = cold(name, s, file, mode.search); err != nil {
			return err
		}
		records[i] = r
	}
	if p.filter != "" {
		recall, p50, _, err := p.search(db, s, s.filter, p.filter)
		if err != nil {
			return err
		}
		for i := range records {
			records[i].Filter, records[i].FilterRecall = p50, recall
		}
	}
	insert, err := p.insertOne(db, s)
	if err != nil {
		return err
	}
	for _, statement := range append(p.delete, `PRAGMA wal_checkpoint(TRUNCATE)`) {
		if err := execute(db, statement); err != nil {
			return err
		}
	}
	for _, r := range records {
		r.Insert, r.Shrink = insert, fileBytes(file)/before
		if err := printRecord(r); err != nil {
			return err
		}
	}
	return nil
}

func execute(db *sql.DB, statement string) error {
	if _, err := db.Exec(statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

func pack(v []float32) []byte {
	var b bytes.Buffer
	b.Grow(4 * len(v))
	binary.Write(&b, binary.LittleEndian, v) // a buffer gives no error
	return b.Bytes()
}

func (p sqlPeer) fill(db *sql.DB, s *set) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var statements []*sql.Stmt
	for _, text := range p.insert {
		statement, err := tx.Prepare(text)
		if err != nil {
			return err
		}
		statements = append(statements, statement)
	}
	for id, v := range s.base {
		for _, statement := range statements {
			if _, err := statement.Exec(id, id%groups, pack(v)); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

func (p sqlPeer) search(db *sql.DB, s *set, truth [][]int32, text string) (recall, p50, p95 float64, err error) {
	statement, err := db.Prepare(text)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("%s: %w", text, err)
	}
	defer statement.Close()
	return timeSearches(s, p.queries, truth, func(q []float32) ([]int32, error) { return ids(statement, pack(q)) })
}

func ids(statement *sql.Stmt, query []byte) ([]int32, error) {
	rows, err := statement.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []int32
	for rows.Next() {
		var id int32
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		list = append(list, id)
	}
	return list, rows.Err()
}

// insertOne returns what one row takes, each in a transaction of its own.
func (p sqlPeer) insertOne(db *sql.DB, s *set) (float64, error) {
	start := time.Now()
	for i, v := range s.extra {
		tx, err := db.Begin()
		if err != nil {
			return 0, err
		}
		for _, statement := range p.insert {
			if _, err := tx.Exec(statement, s.Rows+i, (s.Rows+i)%groups, pack(v)); err != nil {
				return 0, err
			}
		}
		if err := tx.Commit(); err != nil {
			return 0, err
		}
	}
	if p.fold != "" {
		if err := execute(db, p.fold); err != nil {
			return 0, err
		}
	}
	return milliseconds(time.Since(start)) / float64(len(s.extra)), nil
}

func coldSQL(name, file, search string, query []float32) (time.Duration, error) {
	peers := sqlPeers(name)
	if peers == nil {
		return 0, fmt.Errorf("no peer is called %s", name)
	}
	start := time.Now()
	db, err := openSQL(peers[0].driver, file)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	statement, err := db.Prepare(search)
	if err != nil {
		return 0, err
	}
	list, err := ids(statement, pack(query))
	if err == nil && len(list) != neighbours {
		err = fmt.Errorf("%d results", len(list))
	}
	return time.Since(start), err
}
