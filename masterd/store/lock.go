package store

import (
	"errors"
	"fmt"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// A lock is held by the process that writes a space. It is SQLite's lock on an empty
// file beside the space's, so it is portable, and gone when the process is.
type lock struct{ conn *sqlite3.SQLiteConn }

// A LockedError says that another process writes a space.
type LockedError struct{ Space, Path string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("store: space %q is open in another masterd (it holds %s): stop it first", e.Space, e.Path)
}

// takeLock returns a *LockedError when the lock is held.
func takeLock(space, path string) (*lock, error) {
	conn, err := open(path, "_busy_timeout=1000")
	if err == nil {
		if _, err = conn.Exec("BEGIN EXCLUSIVE", nil); err != nil {
			err = errors.Join(err, conn.Close())
		}
	}
	if busy(err) { // go-sqlite3 looks into the file as it opens it
		return nil, &LockedError{space, path}
	}
	if err != nil {
		return nil, fmt.Errorf("lock space %q: %w", space, err)
	}
	return &lock{conn}, nil
}

func (l *lock) release() error {
	if l == nil {
		return nil
	}
	return l.conn.Close()
}
