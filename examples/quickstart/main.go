// Command quickstart keeps notes with embeddings in one file and searches them in SQL. Add
// a master to the data source name and the same program syncs; see examples/two-devices.
//
//	go run ./examples/quickstart
package main

import (
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	_ "github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/sqlfuncs"
)

func main() {
	dir, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := run(filepath.Join(dir, "notes.db")); err != nil {
		log.Fatal(err)
	}
}

func run(file string) error {
	db, err := sql.Open("velosync", file)
	if err != nil {
		return err
	}
	defer db.Close()

	// The key must not be an INTEGER PRIMARY KEY: two devices offline would give the same one.
	if _, err := db.Exec(`CREATE TABLE notes(
		id         TEXT PRIMARY KEY NOT NULL DEFAULT (lower(hex(randomblob(16)))),
		title      TEXT NOT NULL,
		embedding  BLOB,
		confidence REAL
	)`); err != nil {
		return err
	}
	// From here on every mutation is logged, whoever makes it.
	if _, err := db.Exec(`SELECT velosync_track('notes', '{"weight": "confidence"}')`); err != nil {
		return err
	}
	for _, n := range []struct {
		title     string
		embedding sqlfuncs.Vector
	}{
		{"tea", sqlfuncs.Vector{1, 0.1, 0}}, {"coffee", sqlfuncs.Vector{0.9, 0.3, 0}}, {"bicycle", sqlfuncs.Vector{0, 0.2, 1}},
	} {
		if _, err := db.Exec(`INSERT INTO notes(title, embedding, confidence) VALUES (?, ?, 1)`, n.title, n.embedding); err != nil {
			return err
		}
	}

	rows, err := db.Query(`SELECT title, cosine_similarity(embedding, ?1) AS score FROM notes ORDER BY score DESC LIMIT 2`,
		sqlfuncs.Vector{1, 0.2, 0})
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var title string
		var score float64
		if err := rows.Scan(&title, &score); err != nil {
			return err
		}
		fmt.Printf("%-8s %.3f\n", title, score)
	}
	if err := rows.Err(); err != nil {
		return err
	}

	var pending int
	if err := db.QueryRow(`SELECT pending FROM velosync_status`).Scan(&pending); err != nil {
		return err
	}
	fmt.Println(pending, "rows wait for a master")
	return nil
}
