package sqlfuncs

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// connector makes a database/sql pool of connections with the functions.
type connector struct{ dsn string }

func (c connector) Connect(context.Context) (driver.Conn, error) { return Open(c.dsn, nil) }
func (c connector) Driver() driver.Driver                        { return &sqlite3.SQLiteDriver{} }

// openDB returns a pool of one connection, by default to an own in-memory database.
func openDB(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db := sql.OpenDB(connector{dsn})
	db.SetMaxOpenConns(1)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// mustExec runs statements that must not fail.
func mustExec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}
