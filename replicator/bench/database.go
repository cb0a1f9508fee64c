package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/velosync/velosync/driver"
)

// A cost is what some work took.
type cost struct{ cpu, wall time.Duration }

// measure runs f. What earlier work left behind is collected before, not meanwhile.
func measure(f func() error) (cost, error) {
	runtime.GC()
	cpu, err := cpuTime()
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return cost{}, err
	}
	wall := time.Since(began)
	after, err := cpuTime()
	return cost{after - cpu, wall}, err
}

// A database is a file with the table docs, open through the driver.
type database struct {
	*sql.DB
	path string
}

// openDocs opens a new file with the table, which is tracked or not, on one connection.
// keys are further ones of the data source name, each with a & in front.
func openDocs(ctx context.Context, path string, tracked bool, keys string) (*database, error) {
	db, err := openFile(path, keys)
	if err != nil {
		return nil, err
	}
	scripts := []string{createDocs}
	if tracked {
		scripts = append(scripts, trackDocs)
	}
	for _, s := range scripts {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", s, err), db.Close())
		}
	}
	return db, nil
}

// openFile opens a file without making anything in it. Commits are not synced to the disk
// one by one (synchronous=NORMAL), so that what SQLite computes is not hidden behind it.
func openFile(path, keys string) (*database, error) {
	db, err := sql.Open(driver.Name, path+"?_synchronous=NORMAL"+keys)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return &database{db, path}, nil
}

// remove closes the database and deletes its files.
func (db *database) remove() error {
	err := db.Close()
	for _, suffix := range []string{"", "-wal", "-shm", "-velosync-lock", "-velosync-snapshot"} {
		if e := os.Remove(db.path + suffix); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// insert writes docs in transactions of per rows. Where that is 1, one prepared statement
// is run again and again; where it is 0, each row is a call of db.Exec, which prepares.
func (db *database) insert(ctx context.Context, docs []doc, per int) error {
	if per <= 1 {
		return db.insertSingly(ctx, docs, per == 1)
	}
	for len(docs) > 0 {
		n := min(per, len(docs))
		if err := db.each(ctx, insertDoc, n, func(i int) []any { return docs[i].args() }); err != nil {
			return err
		}
		docs = docs[n:]
	}
	return nil
}

func (db *database) insertSingly(ctx context.Context, docs []doc, prepared bool) error {
	exec := func(args ...any) (sql.Result, error) { return db.Exec(insertDoc, args...) }
	if prepared {
		stmt, err := db.PrepareContext(ctx, insertDoc)
		if err != nil {
			return err
		}
		defer stmt.Close()
		exec = stmt.Exec
	}
	for i := range docs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := exec(docs[i].args()...); err != nil {
			return err
		}
	}
	return nil
}

// each runs a statement n times in one transaction, with the arguments that args gives.
// It ends between transactions when ctx does: a context that can end costs go-sqlite3 a
// goroutine a statement, which would be most of what is measured.
func (db *database) each(ctx context.Context, query string, n int, args func(i int) []any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	stmt, err := tx.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for i := range n {
		if _, err := stmt.ExecContext(ctx, args(i)...); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
	}
	return tx.Commit()
}

// checkpoint moves the write-ahead log into the file, and returns the bytes of the pages
// that are in use.
func (db *database) checkpoint(ctx context.Context) (bytes int64, err error) {
	if _, err := db.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		return 0, err
	}
	return db.number(ctx, `SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size`)
}

// number reads one integer.
func (db *database) number(ctx context.Context, query string, args ...any) (n int64, err error) {
	if err := db.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("%s: %w", query, err)
	}
	return n, nil
}
