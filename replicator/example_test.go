package replicator_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"

	_ "github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
)

func Example() {
	dir, err := os.MkdirTemp("", "replicator")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	quiet := slog.New(slog.DiscardHandler)

	// A masterd, as the command of that name runs it.
	engine, err := store.OpenSQLite(filepath.Join(dir, "master"), store.Options{Log: quiet})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	s := server.New(engine, server.Options{Insecure: true, Log: quiet})
	defer s.Close()
	master := httptest.NewServer(s.Handler())
	defer master.Close()

	sync := func(file string) {
		r, err := replicator.New(file, replicator.Options{Master: master.URL, Space: "notes", Log: quiet})
		if err != nil {
			log.Fatal(err)
		}
		defer r.Close()
		round, err := r.Sync(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d mutations pushed as %d rows, %d rows pulled\n", round.Mutations, round.PushedRows, round.PulledRows)
	}
	phone, laptop := filepath.Join(dir, "phone.db"), filepath.Join(dir, "laptop.db")
	db, err := sql.Open("velosync", phone)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT);
		SELECT velosync_track('notes');
		INSERT INTO notes VALUES ('a', 'tea'), ('b', 'soup');
		UPDATE notes SET title = 'green tea' WHERE id = 'a'`); err != nil {
		log.Fatal(err)
	}
	sync(phone)
	sync(laptop) // an empty file: the space gives it the table
	// Output:
	// 3 mutations pushed as 2 rows, 0 rows pulled
	// 0 mutations pushed as 0 rows, 2 rows pulled
}
