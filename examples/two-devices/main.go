// Command two-devices lets two database files meet through a masterd: both are written
// offline, then synced, and the conflict is read and settled in SQL.
//
//	masterd --insecure &
//	go run ./examples/two-devices --master http://127.0.0.1:8440
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	_ "github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/replicator"
)

func main() {
	master := flag.String("master", "http://127.0.0.1:8440", "URL of masterd")
	space := flag.String("space", "two-devices", "space to sync")
	token := flag.String("token", os.Getenv("VELOSYNC_TOKEN"), "token, where masterd asks for one")
	flag.Parse()
	dir, err := os.MkdirTemp("", "two-devices")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, dir, replicator.Options{Master: *master, Space: *space, Token: *token}); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string, o replicator.Options) error {
	phone, err := openDevice(filepath.Join(dir, "phone.db"))
	if err != nil {
		return err
	}
	defer phone.Close()
	if err := phone.exec(`CREATE TABLE recipes(id TEXT PRIMARY KEY NOT NULL, title TEXT, steps TEXT, tested REAL)`,
		`SELECT velosync_track('recipes', '{"weight": "tested"}')`,
		`INSERT INTO recipes VALUES ('soup', 'Soup', 'boil', 0.5), ('cake', 'Cake', 'bake', 0.5)`); err != nil {
		return err
	}
	if err := phone.sync(ctx, o); err != nil {
		return err
	}
	// A new device starts from an empty file: the space gives it the tables.
	laptop, err := openDevice(filepath.Join(dir, "laptop.db"))
	if err != nil {
		return err
	}
	defer laptop.Close()
	if err := laptop.sync(ctx, o); err != nil {
		return err
	}

	// Both offline. The titles meet, and the heavier stays; the steps are another column.
	if err := phone.exec(`UPDATE recipes SET title = 'Tomato soup', tested = 0.9 WHERE id = 'soup'`, `DELETE FROM recipes WHERE id = 'cake'`); err != nil {
		return err
	}
	if err := laptop.exec(`UPDATE recipes SET title = 'Hot soup', tested = 0.2 WHERE id = 'soup'`, `UPDATE recipes SET steps = 'chop, boil' WHERE id = 'soup'`); err != nil {
		return err
	}
	for _, d := range []*device{phone, laptop, phone} {
		if err := d.sync(ctx, o); err != nil {
			return err
		}
	}
	for _, d := range []*device{phone, laptop} {
		fmt.Printf("%s:\n", filepath.Base(d.file))
		if err := d.print(`SELECT id, title, steps, tested FROM recipes ORDER BY id`); err != nil {
			return err
		}
	}
	fmt.Println("conflicts on the laptop:")
	if err := laptop.print(`SELECT id, "key", rule, mine, theirs FROM velosync_conflicts WHERE settled IS NULL`); err != nil {
		return err
	}
	// The laptop's user insists: an ordinary edit that has seen what it lost to.
	if err := laptop.exec(`SELECT velosync_resolve(id, 'mine') FROM (SELECT min(id) AS id FROM velosync_conflicts WHERE settled IS NULL)`); err != nil {
		return err
	}
	if err := laptop.sync(ctx, o); err != nil {
		return err
	}
	if err := phone.sync(ctx, o); err != nil {
		return err
	}
	fmt.Println("phone.db, after the laptop settled it with 'mine':")
	return phone.print(`SELECT id, title, steps, tested FROM recipes ORDER BY id`)
}

// A device is one file, open for the application.
type device struct {
	*sql.DB
	file string
}

func openDevice(file string) (*device, error) {
	db, err := sql.Open("velosync", file)
	return &device{db, file}, err
}

func (d *device) exec(statements ...string) error {
	for _, s := range statements {
		if _, err := d.Exec(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// sync runs one round. With _velosync_master in the data source name the driver does it by
// itself; here the program decides when.
func (d *device) sync(ctx context.Context, o replicator.Options) error {
	r, err := replicator.New(d.file, o)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = r.Sync(ctx)
	return err
}

func (d *device) print(query string) error {
	rows, err := d.Query(query)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new(any)
	}
	for rows.Next() {
		if err := rows.Scan(values...); err != nil {
			return err
		}
		for i, v := range values {
			fmt.Printf("  %s=%v", columns[i], *v.(*any))
		}
		fmt.Println()
	}
	return rows.Err()
}
