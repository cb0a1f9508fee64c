package capture_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/sqlfuncs"
)

func Example() {
	dir, err := os.MkdirTemp("", "capture")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	open := func() *sqlite3.SQLiteConn {
		conn, err := sqlfuncs.Open(filepath.Join(dir, "a.db")+"?_journal_mode=WAL", nil)
		if err != nil {
			log.Fatal(err)
		}
		return conn
	}
	conn, second := open(), open()
	defer conn.Close()
	defer second.Close()

	d, err := capture.Open(conn, capture.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	reader, err := capture.Open(second, capture.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	exec := func(statement string) {
		if _, err := conn.Exec(statement, nil); err != nil {
			log.Fatal(err)
		}
	}
	exec(`CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT)`)
	if err := d.Track("notes", change.Options{}); err != nil {
		log.Fatal(err)
	}
	exec(`INSERT INTO notes VALUES ('n1', 'tea', 'green')`)
	exec(`UPDATE notes SET body = 'black'`)

	round, err := d.Begin(reader, change.Name{1}, false)
	if err != nil {
		log.Fatal(err)
	}
	defer round.Release()
	for part, err := range round.Parts(capture.Limits{}) {
		if err != nil {
			log.Fatal(err)
		}
		for _, b := range part.Blocks {
			fmt.Println(b.Keys, b.Columns)
		}
	}
	fmt.Println(round.Mutations, "mutations,", round.Rows, "row")
	// Output:
	// [n1] [[tea] [black]]
	// 2 mutations, 1 row
}
