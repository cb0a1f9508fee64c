// Package driver is a database/sql driver for SQLite with vector functions, and with sync where
// the data source name names a master.
//
//	import _ "github.com/velosync/velosync/driver"
//
//	db, err := sql.Open("velosync", "app.db")
//	...
//	rows, err := db.Query(`SELECT id, title FROM docs
//	    ORDER BY cosine_similarity(embedding, ?) DESC LIMIT 10`, sqlfuncs.Vector(query))
//
// Connections are go-sqlite3's own *sqlite3.SQLiteConn, so all that works with that driver does:
// Conn.Raw, backups, GORM, sqlx, goose. Data source names are go-sqlite3's too, with these
// defaults where they are silent:
//
//	_journal_mode=WAL      unless the database is read-only, in memory, or on a medium without WAL
//	_busy_timeout=5000     milliseconds to wait for another writer
//	_foreign_keys=on
//	_txlock=immediate      a transaction takes the write lock when it begins, and never fails half-way
//	_cache_size=-65536     64 MiB of page cache a connection
//	PRAGMA mmap_size       1 GiB, see _velosync_mmap_bytes
//
// trusted_schema stays on: turned off, a trigger, view or generated column could not call the
// functions that an application registers itself. Who opens files of strangers may turn it off;
// the vector functions work either way.
//
// Beside go-sqlite3's keys stand those of [Config]. A key that neither knows is an error, as is
// a wrong value, and sql.Open returns it.
//
// Each connection to ":memory:" has a database of its own; call db.SetMaxOpenConns(1), or open
// "file::memory:?cache=shared". sqlx must be told how to write placeholders, once:
// sqlx.BindDriver("velosync", sqlx.QUESTION).
package driver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// Name is what the driver is registered under.
const Name = "velosync"

func init() { sql.Register(Name, Driver{}) }

// A Driver is registered as "velosync". That of a sql.DB also knows whose it is.
type Driver struct {
	connector *Connector // for Subscribe
}

var _ driver.DriverContext = Driver{}

// OpenConnector implements [driver.DriverContext]; sql.Open calls it. See [NewConnector].
func (Driver) OpenConnector(dsn string) (driver.Connector, error) {
	return NewConnector(dsn)
}

// Open implements [driver.Driver] for callers without database/sql. It refuses a data source
// name with a master: nobody could stop the replicator. Use NewConnector there.
func (d Driver) Open(dsn string) (driver.Conn, error) {
	c, err := NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	if c.cfg.Master != "" {
		return nil, errors.New("velosync: " + keyMaster + " needs a Connector, whose Close stops the replicator: use sql.Open or NewConnector")
	}
	return c.Connect(context.Background())
}
