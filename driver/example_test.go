package driver_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/velosync/velosync/driver"
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

func ExampleSubscribe() {
	dir, err := os.MkdirTemp("", "velosync")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sql.Open("velosync", filepath.Join(dir, "app.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT); SELECT velosync_track('notes')`); err != nil {
		log.Fatal(err)
	}

	for changes, err := range driver.Subscribe(context.Background(), db, driver.SubscribeOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		if changes.Lossy { // the first changes always are
			fmt.Println("read the table")
			if _, err := db.Exec(`INSERT INTO notes VALUES ('n1', 'tea'), ('n2', 'coffee')`); err != nil {
				log.Fatal(err)
			}
			continue
		}
		for _, row := range changes.Rows {
			fmt.Println(row.Op, row.Table, row.Key, row.Remote)
		}
		break
	}
	// Output:
	// read the table
	// insert notes [n1] false
	// insert notes [n2] false
}
