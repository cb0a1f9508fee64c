package driver_test

import (
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	_ "github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/sqlfuncs"
)

func Example() {
	dir, err := os.MkdirTemp("", "velosync")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	// Add ?_velosync_master=https://sync.example.com to sync it.
	db, err := sql.Open("velosync", filepath.Join(dir, "app.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	if _, err := db.Exec(`CREATE TABLE docs(title TEXT, embedding BLOB)`); err != nil {
		log.Fatal(err)
	}
	for title, embedding := range map[string]sqlfuncs.Vector{"tea": {1, 0.1}, "coffee": {0.9, 0.2}, "bicycle": {0, 1}} {
		if _, err := db.Exec(`INSERT INTO docs VALUES (?, ?)`, title, embedding); err != nil {
			log.Fatal(err)
		}
	}
	rows, err := db.Query(`SELECT title, cosine_similarity(embedding, ?1) FROM docs ORDER BY 2 DESC LIMIT 2`, sqlfuncs.Vector{1, 0})
	if err != nil {
		log.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var title string
		var similarity float64
		if err := rows.Scan(&title, &similarity); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %.3f\n", title, similarity)
	}
	if err := rows.Err(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// tea 0.995
	// coffee 0.976
}
