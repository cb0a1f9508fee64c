// Command feed keeps a list on the screen up to date while two devices write: it reads the
// table once and from then on only the rows that velosync.Subscribe names.
//
//	masterd --insecure &
//	go run ./examples/feed --master http://127.0.0.1:8440
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	velosync "github.com/velosync/velosync/driver"
)

func main() {
	master := flag.String("master", "http://127.0.0.1:8440", "URL of masterd")
	space := flag.String("space", "feed", "space to sync")
	flag.Parse()
	dir, err := os.MkdirTemp("", "feed")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	keys := url.Values{"_velosync_master": {*master}, "_velosync_space": {*space}, "_velosync_track": {"tasks"}}.Encode()
	if err := run(ctx, filepath.Join(dir, "laptop.db")+"?"+keys, filepath.Join(dir, "phone.db")+"?"+keys); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, laptopDSN, phoneDSN string) error {
	laptop, err := sql.Open("velosync", laptopDSN)
	if err != nil {
		return err
	}
	defer laptop.Close()
	phone, err := sql.Open("velosync", phoneDSN)
	if err != nil {
		return err
	}
	defer phone.Close()
	if _, err := laptop.ExecContext(ctx, `CREATE TABLE tasks(id TEXT PRIMARY KEY NOT NULL, title TEXT NOT NULL, done INT NOT NULL DEFAULT 0);
		INSERT INTO tasks(id, title) VALUES ('1', 'buy tea'), ('2', 'boil water'); SELECT velosync_wait(30)`); err != nil {
		return err
	}

	titles := make(map[string]string) // what the screen shows
	for changes, err := range velosync.Subscribe(ctx, laptop, velosync.SubscribeOptions{Tables: []string{"tasks"}}) {
		if err != nil {
			return err
		}
		if changes.Lossy {
			clear(titles)
			if err := read(ctx, laptop, titles, `SELECT id, title FROM tasks`); err != nil {
				return err
			}
			show("read", titles)
			if err := write(ctx, phone, `UPDATE tasks SET title = 'boil two cups' WHERE id = '2'`); err != nil {
				return err
			}
			continue
		}
		for _, row := range changes.Rows {
			delete(titles, row.Key[0].(string))
			if err := read(ctx, laptop, titles, `SELECT id, title FROM tasks WHERE id = ?`, row.Key...); err != nil {
				return err
			}
			where := "here"
			if row.Remote {
				where = "elsewhere"
			}
			show(fmt.Sprintf("%s of %v %s", row.Op, row.Key[0], where), titles)
			switch row.Op {
			case "update":
				if _, err := laptop.ExecContext(ctx, `DELETE FROM tasks WHERE id = '1'`); err != nil {
					return err
				}
			case "delete":
				return nil
			}
		}
	}
	return ctx.Err()
}

// write runs a statement as soon as the table is there: a new device gets it with its
// first round.
func write(ctx context.Context, db *sql.DB, statement string) error {
	for {
		var rows int
		err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'tasks'`).Scan(&rows)
		if err == nil && rows > 0 {
			_, err = db.ExecContext(ctx, statement)
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// read reads titles by id.
func read(ctx context.Context, db *sql.DB, titles map[string]string, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, title string
		if err := rows.Scan(&id, &title); err != nil {
			return err
		}
		titles[id] = title
	}
	return rows.Err()
}

func show(why string, titles map[string]string) {
	fmt.Printf("%s:", why)
	for _, id := range slices.Sorted(maps.Keys(titles)) {
		fmt.Printf(" [%s]", titles[id])
	}
	fmt.Println()
}
