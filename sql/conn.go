package vsql

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// A Conn is a raw SQLite connection with its prepared statements. database/sql is for
// applications: the log and the apply step run millions of small statements on one
// connection, and need its exact transactions. A Conn is for one goroutine at a time.
type Conn struct {
	raw   *sqlite3.SQLiteConn
	stmts map[string]driver.Stmt
}

// NewConn wraps an open connection. Close closes only what NewConn prepared, and the
// connection itself stays the caller's.
func NewConn(raw *sqlite3.SQLiteConn) *Conn {
	return &Conn{raw: raw, stmts: make(map[string]driver.Stmt)}
}

// Raw returns the connection itself.
func (c *Conn) Raw() *sqlite3.SQLiteConn { return c.raw }

// Close finalizes the prepared statements. The connection stays open.
func (c *Conn) Close() error {
	var err error
	for q, s := range c.stmts {
		err = errors.Join(err, s.Close())
		delete(c.stmts, q)
	}
	return err
}

// maxStatements bounds the cache: blocks of any set of columns make statements.
const maxStatements = 256

func (c *Conn) prepare(query string) (driver.Stmt, error) {
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	if len(c.stmts) >= maxStatements {
		for q, s := range c.stmts {
			_ = s.Close() // reports the error of its last step, which was returned then
			delete(c.stmts, q)
			if len(c.stmts) < maxStatements/2 {
				break
			}
		}
	}
	s, err := c.raw.Prepare(query)
	if err != nil {
		return nil, err
	}
	c.stmts[query] = s
	return s, nil
}

// Exec runs one statement and returns the number of rows that it changed.
func (c *Conn) Exec(query string, args ...driver.Value) (int64, error) {
	s, err := c.prepare(query)
	if err != nil {
		return 0, err
	}
	//lint:ignore SA1019 a context costs a goroutine a statement
	res, err := s.Exec(args)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Script runs statements that take no parameters, one after the other.
func (c *Conn) Script(text string) error {
	_, err := c.raw.Exec(text, nil) //nolint:staticcheck // as above
	return err
}

// Query calls f for each row; the slice is reused, its values are f's to keep. It stops
// at f's first error and returns it.
func (c *Conn) Query(query string, args []driver.Value, f func(row []driver.Value) error) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	//lint:ignore SA1019 as above
	rows, err := s.Query(args)
	if err != nil {
		return err
	}
	defer rows.Close()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(row); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := f(row); err != nil {
			return err
		}
	}
}

// Row reads the first row into dest; found is false when there is none.
func (c *Conn) Row(query string, args []driver.Value, dest ...any) (found bool, err error) {
	err = c.Query(query, args, func(row []driver.Value) error {
		found = true
		if len(row) != len(dest) {
			return fmt.Errorf("query returns %d columns, want %d", len(row), len(dest))
		}
		for i, v := range row {
			if err := assign(dest[i], v); err != nil {
				return fmt.Errorf("column %d: %w", i+1, err)
			}
		}
		return errStop
	})
	if err == errStop {
		err = nil
	}
	return found, err
}

var errStop = errors.New("stop")

func assign(dest any, v driver.Value) error {
	switch d := dest.(type) {
	case *int64:
		n, ok := v.(int64)
		if !ok && v != nil {
			return fmt.Errorf("got %T, want an integer", v)
		}
		*d = n
	case *int:
		n, ok := v.(int64)
		if !ok && v != nil {
			return fmt.Errorf("got %T, want an integer", v)
		}
		*d = int(n)
	case *bool:
		n, ok := v.(int64)
		if !ok && v != nil {
			return fmt.Errorf("got %T, want an integer", v)
		}
		*d = n != 0
	case *string:
		s, ok := v.(string)
		if !ok && v != nil {
			return fmt.Errorf("got %T, want text", v)
		}
		*d = s
	case *[]byte:
		b, ok := v.([]byte)
		if !ok && v != nil {
			return fmt.Errorf("got %T, want a blob", v)
		}
		*d = b
	case *driver.Value:
		*d = v
	default:
		return fmt.Errorf("no way to read into %T", dest)
	}
	return nil
}

// Tx runs f between BEGIN IMMEDIATE and COMMIT; an error, a panic too, rolls back.
func (c *Conn) Tx(f func() error) error { return c.between("BEGIN IMMEDIATE", f) }

// ReadTx runs f in a read transaction: all its queries see one state of the file.
func (c *Conn) ReadTx(f func() error) error { return c.between("BEGIN", f) }

func (c *Conn) between(begin string, f func() error) (err error) {
	if _, err := c.Exec(begin); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	done := false
	defer func() {
		if !done && !c.raw.AutoCommit() { // some errors roll back by themselves
			_, rollback := c.Exec("ROLLBACK")
			err = errors.Join(err, rollback)
		}
	}()
	if err := f(); err != nil {
		return err
	}
	if _, err := c.Exec("COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	done = true
	return nil
}

// Atomic runs f in a transaction of its own, which takes the write lock before it reads, or
// in a savepoint of the surrounding one. An error undoes what f did and nothing else. A
// savepoint alone would begin as a reader, and fail when another writer comes between.
func (c *Conn) Atomic(name string, f func() error) error {
	if c.raw.AutoCommit() {
		return c.Tx(f)
	}
	return c.Savepoint(name, f)
}

// Savepoint runs f inside the surrounding transaction, or in one of its own when there
// is none; an error undoes what f did and nothing else.
func (c *Conn) Savepoint(name string, f func() error) (err error) {
	name = Quote(name)
	if _, err := c.Exec("SAVEPOINT " + name); err != nil {
		return err
	}
	done := false
	defer func() {
		if !done && !c.raw.AutoCommit() {
			_, e1 := c.Exec("ROLLBACK TO " + name)
			_, e2 := c.Exec("RELEASE " + name)
			if undo := errors.Join(e1, e2); undo != nil { // else f's own error is handed on
				err = errors.Join(err, undo)
			}
		}
	}()
	if err := f(); err != nil {
		return err
	}
	if _, err := c.Exec("RELEASE " + name); err != nil {
		return err
	}
	done = true
	return nil
}

// Size returns how many bytes a value takes, about: those of a text or blob, 8 for others.
func Size(v driver.Value) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	}
	return 8
}
