package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// A sqlPeer is a way to search in a SQLite file, as statements. put says what $WORDS stand for.
type sqlPeer struct {
	label    string
	library  string // to load: a pattern under npm's folder. "" for VeloSync, which the driver has
	version  string // a query; the number in what it gives is added to the label
	inMemory bool
	open     []string // on each connection, once there are tables
	load     []string // before searching
	create   []string
	insert   []string // of id, group and vector: ?1 to ?3
	index    []string // after all rows are in
	queries  int      // at most; a scan takes long
	modes    []sqlMode
	filter   string // search in one group
	fold     string // what follows inserts sooner or later; its time is shared out among them
	delete   []string
}

type sqlMode struct{ name, search string }

const (
	docs      = `CREATE TABLE docs(id INTEGER PRIMARY KEY, grp INTEGER, embedding BLOB)`
	docsGroup = `CREATE INDEX docs_grp ON docs(grp)`
	insert    = `INSERT INTO docs(id, grp, embedding) VALUES (?1, ?2, ?3)`
	deleteOdd = `DELETE FROM docs WHERE id % 2 = 1`
)

var sqlPeers = map[string][]sqlPeer{
	"velosync": {{
		label: "VeloSync", create: []string{docs, docsGroup}, insert: []string{insert}, queries: 100,
		modes:  []sqlMode{{"exact scan", `SELECT id FROM docs ORDER BY cosine_similarity(embedding, ?1) DESC LIMIT 10`}},
		filter: `SELECT id FROM docs WHERE grp = 7 ORDER BY cosine_similarity(embedding, ?1) DESC LIMIT 10`,
		delete: []string{deleteOdd, `VACUUM`},
	}},
	"velosync_knn": {{
		label: "VeloSync velosync_knn", create: []string{docs, docsGroup}, insert: []string{insert}, queries: 1000,
		index:  []string{`CREATE VIRTUAL TABLE docs_knn USING velosync_knn(docs, embedding, metric=cosine)`},
		modes:  modes("recall=%s", `SELECT id FROM docs_knn WHERE embedding MATCH ?1 AND k = 10 AND recall = %s`, "0.9", "0.95", "0.98", "0.99", "0.995"),
		filter: `SELECT id FROM docs_knn WHERE embedding MATCH ?1 AND k = 10 AND id IN (SELECT id FROM docs WHERE grp = 7)`,
		fold:   `INSERT INTO docs_knn(docs_knn, k) VALUES ('fold', 1000)`,
		delete: []string{deleteOdd, `INSERT INTO docs_knn(docs_knn) VALUES ('optimize')`, `VACUUM`},
	}},
	"sqlite-vec": {
		{
			label: "sqlite-vec", library: vec0, version: `SELECT vec_version()`, queries: 50,
			create: []string{`CREATE VIRTUAL TABLE docs USING vec0(id INTEGER PRIMARY KEY, grp INTEGER, embedding float[$DIMS] distance_metric=cosine)`},
			insert: []string{insert},
			modes:  []sqlMode{{"vec0, exact", `SELECT id FROM docs WHERE embedding MATCH ?1 AND k = 10`}},
			filter: `SELECT id FROM docs WHERE embedding MATCH ?1 AND k = 10 AND grp = 7`,
			delete: []string{deleteOdd, `VACUUM`},
		},
		{
			label: "sqlite-vec", library: vec0, version: `SELECT vec_version()`, queries: 200,
			create: []string{docs, `CREATE VIRTUAL TABLE codes USING vec0(id INTEGER PRIMARY KEY, code bit[$BITS])`},
			insert: []string{insert, `INSERT INTO codes(id, code) VALUES (?1, vec_quantize_binary(CAST(?3 || zeroblob($PAD) AS BLOB)))`},
			modes: modes("bits, best %s again", `WITH near AS MATERIALIZED
				(SELECT id FROM codes WHERE code MATCH vec_quantize_binary(CAST(?1 || zeroblob($PAD) AS BLOB)) AND k = %s)
				SELECT docs.id FROM near JOIN docs USING (id) ORDER BY vec_distance_cosine(embedding, ?1) LIMIT 10`, "50", "200", "1000"),
			delete: []string{`DELETE FROM codes WHERE id IN (SELECT id FROM docs WHERE id % 2 = 1)`, deleteOdd, `VACUUM`},
		},
	},
	"sqlite-vector": {
		{
			label: "sqlite-vector", library: sqliteVector, version: `SELECT vector_version()`, queries: 50,
			create: []string{docs, docsGroup}, insert: []string{insert}, open: []string{vectorInit},
			modes: []sqlMode{{"exact scan", `SELECT rowid FROM vector_full_scan('docs', 'embedding', ?1, 10)`}},
			filter: `SELECT docs.id FROM vector_full_scan_stream('docs', 'embedding', ?1) v JOIN docs ON docs.id = v.rowid
				WHERE grp = 7 ORDER BY v.distance LIMIT 10`,
			delete: []string{deleteOdd, `VACUUM`},
		},
		{
			label: "sqlite-vector", library: sqliteVector, version: `SELECT vector_version()`, queries: 200, inMemory: true,
			create: []string{docs, docsGroup}, insert: []string{insert}, open: []string{vectorInit},
			index:  []string{`SELECT vector_quantize('docs', 'embedding')`},
			load:   []string{`SELECT vector_quantize_preload('docs', 'embedding')`},
			modes:  []sqlMode{{"8 bits, preloaded", `SELECT rowid FROM vector_quantize_scan('docs', 'embedding', ?1, 10)`}},
			delete: []string{deleteOdd, `SELECT vector_quantize('docs', 'embedding')`, `VACUUM`},
		},
	},
	"vectorlite": {{
		label: "vectorlite", library: vectorlite, version: `SELECT vectorlite_info()`, queries: 500, inMemory: true,
		create: []string{docs, docsGroup, `CREATE VIRTUAL TABLE vectors USING vectorlite(embedding float32[$DIMS] cosine,
			hnsw(max_elements=$ROWS, M=16, ef_construction=128), '$FILE$INDEX')`},
		insert: []string{`INSERT INTO docs(id, grp) VALUES (?1, ?2)`, `INSERT INTO vectors(rowid, embedding) VALUES (?1, ?3)`},
		modes:  modes("ef=%s", `SELECT rowid FROM vectors WHERE knn_search(embedding, knn_param(?1, 10, %s))`, "16", "32", "64", "128", "256", "512"),
		filter: `SELECT rowid FROM vectors WHERE knn_search(embedding, knn_param(?1, 10, 128)) AND rowid IN (SELECT id FROM docs WHERE grp = 7)`,
	}},
}

// modes makes one mode of each value of a knob, which stands in the name and in the search.
func modes(name, search string, values ...string) []sqlMode {
	var list []sqlMode
	for _, v := range values {
		list = append(list, sqlMode{fmt.Sprintf(name, v), fmt.Sprintf(search, v)})
	}
	return list
}

// indexFile is what a file beside the database ends in that has the index.
const indexFile = ".index"

// put replaces the $WORDS of a statement.
func put(statement string, s *set, file string) string {
	bits := (s.Dims + 7) / 8 * 8 // a code of sqlite-vec has whole bytes
	return strings.NewReplacer("$DIMS", strconv.Itoa(s.Dims), "$BITS", strconv.Itoa(bits), "$PAD", strconv.Itoa(4*(bits-s.Dims)),
		"$ROWS", strconv.Itoa(s.Rows+inserted), "$FILE", file, "$INDEX", indexFile).Replace(statement)
}

// Loadable libraries in npm's packages, each in one for the machine. sqlite-vec's is faster than
// the same code built from its Go bindings, which are compiled without AVX.
const (
	vec0         = "sqlite-vec-*/vec0.*"
	sqliteVector = "@sqliteai/sqlite-vector-*/vector.*"
	vectorlite   = "@1yefuwang1/vectorlite-*/src/vectorlite.*"
	vectorInit   = `SELECT vector_init('docs', 'embedding', 'type=FLOAT32,dimension=$DIMS,distance=COSINE')`
)

func findLibrary(npm, pattern string) (string, error) {
	found, err := filepath.Glob(filepath.Join(npm, pattern))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("npm has no %s for this machine", pattern)
	}
	return found[0], nil
}
