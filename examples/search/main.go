// Command search finds passages in a folder of text, or in the documentation of the Go that is
// installed, by words (FTS5) and by meaning (vectors) at once: see search.sql.
//
//	go run -tags sqlite_fts5 ./examples/search close a file twice
//	go run -tags sqlite_fts5 ./examples/search -dir ~/notes -db notes.db tea with lemon
//
// FTS5 is in go-sqlite3 only with its build tag sqlite_fts5. Without it the program searches by
// vectors alone, and says so.
package main

import (
	"database/sql"
	_ "embed"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"

	_ "github.com/velosync/velosync/driver"
)

var (
	//go:embed schema.sql
	schemaSQL string
	//go:embed fulltext.sql
	fulltextSQL string
	//go:embed search.sql
	searchSQL string
	//go:embed vectors.sql
	vectorsSQL string
)

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "", "folder of text and Markdown files; without it, the documentation of Go")
	file := flag.String("db", "", "database to keep; it is filled when it is new. Without it, one that is thrown away")
	limit := flag.Int("n", 5, "how many results")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: search [-dir folder] [-db file] [-n results] words to look for")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*dir, *file, strings.Join(flag.Args(), " "), *limit, os.Stdout); err != nil {
		log.Fatal("search: ", err)
	}
}

func run(dir, file, query string, limit int, out *os.File) error {
	if file == "" {
		temp, err := os.MkdirTemp("", "search")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp)
		file = filepath.Join(temp, "search.db")
	}
	db, err := sql.Open("velosync", file)
	if err != nil {
		return err
	}
	defer db.Close()

	if _, err := db.Exec(schemaSQL); err != nil {
		return fmt.Errorf("create tables: %w", err)
	}
	var fulltext bool
	if err := db.QueryRow(`SELECT count(*) FROM pragma_module_list WHERE name = 'fts5'`).Scan(&fulltext); err != nil {
		return err
	}
	if fulltext {
		if _, err := db.Exec(fulltextSQL); err != nil {
			return fmt.Errorf("create full-text index: %w", err)
		}
	} else {
		fmt.Fprintln(out, "This build has no FTS5: results by vectors alone. For both: go run -tags sqlite_fts5 ./examples/search")
	}

	var n int
	if err := db.QueryRow(`SELECT count(*) FROM docs`).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		start := time.Now()
		if n, err = index(db, dir); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "indexed %d passages in %.1f s\n", n, time.Since(start).Seconds())
	}

	start := time.Now()
	found, err := search(db, query, limit, fulltext)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "searched %d passages in %.1f ms\n", n, 1000*time.Since(start).Seconds())
	show(out, found, words(query), isatty.IsTerminal(out.Fd()))
	return nil
}

// index fills docs, and through its triggers all indexes.
func index(db *sql.DB, dir string) (int, error) {
	read := readText
	if dir == "" {
		read = readGo
		root, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			return 0, fmt.Errorf("find Go's documentation: %w; give a folder of text: -dir folder", err)
		}
		dir = filepath.Join(strings.TrimSpace(string(root)), "src")
	}
	docs, err := read(dir)
	if err != nil {
		return 0, err
	}
	tx, err := db.Begin()
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	insert, err := tx.Prepare(`INSERT OR IGNORE INTO docs(id, path, title, body, embedding) VALUES (?, ?, ?, ?, ?)`)
	if err != nil {
		return 0, err
	}
	for _, d := range docs {
		id := fnv.New64a()
		fmt.Fprintf(id, "%s\x00%s\x00%s", d.path, d.title, d.body)
		// The title says most, so it counts twice.
		vector := embed(d.title + " " + d.title + " " + d.body)
		if _, err := insert.Exec(int64(id.Sum64()>>1), d.path, d.title, d.body, vector); err != nil {
			return 0, err
		}
	}
	return len(docs), tx.Commit()
}

// A result is a document with its places in the two lists; a place is not valid where the list
// does not have it.
type result struct {
	document
	score                  float64
	wordPlace, vectorPlace sql.NullInt64
}

func search(db *sql.DB, query string, limit int, fulltext bool) ([]result, error) {
	args := []any{sql.Named("embedding", embed(query)), sql.Named("depth", 100), sql.Named("limit", limit)}
	statement := vectorsSQL
	if fulltext {
		// Each word in quotes, or FTS5 would read "not" and "-" as operators. Words that are
		// everywhere stay out, unless there is nothing else.
		terms := slices.DeleteFunc(words(query), func(word string) bool { return common[word] })
		if len(terms) == 0 {
			terms = words(query)
		}
		statement, args = searchSQL, append(args, sql.Named("words", `"`+strings.Join(terms, `" OR "`)+`"`))
	}
	rows, err := db.Query(statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []result
	for rows.Next() {
		var r result
		if err := rows.Scan(&r.path, &r.title, &r.body, &r.score, &r.wordPlace, &r.vectorPlace); err != nil {
			return nil, err
		}
		found = append(found, r)
	}
	return found, rows.Err()
}

// show prints the results, on a terminal with bold titles and the words of the query underlined.
func show(out io.Writer, found []result, query []string, terminal bool) {
	style := func(code, text string) string {
		if !terminal {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	place := func(n sql.NullInt64) string {
		if !n.Valid {
			return "-"
		}
		return fmt.Sprintf("#%d", n.Int64)
	}
	if len(found) == 0 {
		fmt.Fprintln(out, "nothing found")
	}
	for i, r := range found {
		fmt.Fprintf(out, "\n%2d  %s  %s\n", i+1, style("1", r.title), style("2", r.path))
		fmt.Fprintf(out, "    %s\n", style("36", fmt.Sprintf("%.4f  words %s, vectors %s", r.score, place(r.wordPlace), place(r.vectorPlace))))
		for _, line := range wrap(r.body, 76, 3) {
			fields := strings.Fields(line)
			for i, field := range fields {
				if slices.ContainsFunc(words(field), func(w string) bool { return !common[w] && slices.Contains(query, w) }) {
					fields[i] = style("4", field)
				}
			}
			fmt.Fprintf(out, "    %s\n", strings.Join(fields, " "))
		}
	}
}

// wrap breaks text into at most n lines of about width characters; the last ends in "…" where
// something is missing.
func wrap(text string, width, n int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) <= width:
			line += " " + word
		case len(lines) == n-1:
			return append(lines, line+" …")
		default:
			lines, line = append(lines, line), word
		}
	}
	if line == "" {
		return lines
	}
	return append(lines, line)
}
