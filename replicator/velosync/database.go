package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/driver"
)

// A database is an open FILE.
type database struct {
	*sql.DB
	path string
}

// openDatabase opens a database that exists. An error has the exit code exitFile and says what
// to do about it.
func openDatabase(ctx context.Context, path string) (*database, error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	return openDSN(ctx, path, "rw")
}

// createDatabase is openDatabase for a file that may be new.
func createDatabase(ctx context.Context, path string) (*database, error) {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return openDatabase(ctx, path)
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return nil, fileError("%w: make the folder first", err)
	}
	return openDSN(ctx, path, "rwc")
}

func openDSN(ctx context.Context, path, mode string) (*database, error) {
	db, err := sql.Open(driver.Name, fileDSN(path, mode))
	if err != nil {
		return nil, fileError("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(1) // one command, one statement at a time
	d := &database{db, path}
	if err := d.PingContext(ctx); err != nil {
		db.Close()
		return nil, d.explain(err)
	}
	return d, nil
}

// openSynced opens a database that has been set up for sync: it has our tables.
func openSynced(ctx context.Context, path string) (*database, error) {
	d, err := openDatabase(ctx, path)
	if err != nil {
		return nil, err
	}
	var found int
	err = d.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'velosync_status'`).Scan(&found)
	if err == nil && found == 0 {
		err = fileError("%s tracks no table yet: velosync track %s TABLE, or velosync sync %s --master URL to get a space's tables",
			path, quoteArg(path), quoteArg(path))
	}
	if err != nil {
		d.Close()
		return nil, d.explain(err)
	}
	return d, nil
}

// fileDSN names a file as a URI, in which no character of its path means anything else. mode
// is rw, or rwc to make the file.
func fileDSN(path, mode string) string {
	escape := strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23")
	return "file:" + escape.Replace(filepath.ToSlash(filepath.Clean(path))) + "?mode=" + mode
}

func fileError(format string, args ...any) error {
	return &codeError{exitFile, fmt.Errorf(format, args...)}
}

// checkFile finds out what SQLite would report late or not at all: it makes a file that is
// missing, and reads a short text as an empty database.
func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fileError("there is no %s: check the path, or let velosync sync %s --master URL make it with a space's tables",
			path, quoteArg(path))
	case err != nil:
		return fileError("%w", err)
	case info.IsDir():
		return fileError("%s is a folder: give the database file in it", path)
	case info.Size() == 0: // an empty database
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fileError("%w: the database must be readable and writable", err)
	}
	defer f.Close()
	const magic = "SQLite format 3\x00"
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(f, head); err != nil || string(head) != magic {
		return fileError("%s is not a SQLite database (or an encrypted one): give another file", path)
	}
	return nil
}

// explain adds the exit code and what to do to an error of SQLite that is about the file.
func (d *database) explain(err error) error {
	var failed sqlite3.Error
	if err == nil || !errors.As(err, &failed) {
		return err
	}
	path := quoteArg(d.path)
	switch failed.Code {
	case sqlite3.ErrNotADB:
		return fileError("%s: %w: give another file", d.path, err)
	case sqlite3.ErrReadonly, sqlite3.ErrPerm, sqlite3.ErrAuth:
		return fileError("%s: %w: make the file and its folder writable", d.path, err)
	case sqlite3.ErrCantOpen:
		return fileError("%s: %w: the file and its folder must be readable and writable", d.path, err)
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		return fileError("%s: %w: another process writes to it; try again when it has finished", d.path, err)
	case sqlite3.ErrCorrupt:
		return fileError("%s: %w: see velosync doctor %s, then restore a backup or run sqlite3 %s .recover", d.path, err, path, path)
	case sqlite3.ErrFull:
		return fileError("%s: %w: make room on the disk and try again; nothing was lost", d.path, err)
	case sqlite3.ErrIoErr:
		return fileError("%s: %w: check the disk, then velosync doctor %s", d.path, err, path)
	}
	return err
}

// quoteArg writes a file's name as a shell reads it back.
func quoteArg(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%", r) || r > 127
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// tables lists the names of the user's own tables.
func (d *database) tables(ctx context.Context) ([]string, error) {
	list, err := d.query(ctx, `SELECT name FROM pragma_table_list
		WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE '\_velosync\_%' ESCAPE '\' ORDER BY name`)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list))
	for i, r := range list {
		names[i] = r.text("name")
	}
	return names, nil
}

// query reads all rows of a statement.
func (d *database) query(ctx context.Context, text string, args ...any) ([]record, error) {
	rows, err := d.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, d.explain(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var list []record
	for rows.Next() {
		r := record{names: names, values: make([]any, len(names))}
		into := make([]any, len(names))
		for i := range into {
			into[i] = &r.values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, d.explain(rows.Err())
}

// one reads the only row of a statement.
func (d *database) one(ctx context.Context, text string, args ...any) (record, error) {
	list, err := d.query(ctx, text, args...)
	switch {
	case err != nil:
		return record{}, err
	case len(list) != 1:
		return record{}, fmt.Errorf("%s: %d rows where one was expected: velosync doctor %s", d.path, len(list), quoteArg(d.path))
	}
	return list[0], nil
}
