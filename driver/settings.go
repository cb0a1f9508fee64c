package driver

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// settings say how to open a connection.
type settings struct {
	dsn       string        // for go-sqlite3: without our keys, with our defaults
	wal       bool          // the journal mode is ours to choose
	busy      time.Duration // how long to wait for a lock
	mmapBytes int64
}

// apply sets what go-sqlite3 has no key for, or takes too strictly.
func (s settings) apply(conn *sqlite3.SQLiteConn) error {
	if _, err := conn.Exec(fmt.Sprintf("PRAGMA mmap_size=%d", s.mmapBytes), nil); err != nil {
		return fmt.Errorf("velosync: set mmap_size: %w", err)
	}
	if !s.wal {
		return nil
	}
	if err := s.setWAL(conn); err != nil {
		return fmt.Errorf("velosync: set journal_mode to WAL: %w", err)
	}
	return nil
}

// setWAL turns WAL on where that is possible. It is a default and no demand: a file that cannot
// be written, or a medium that has no WAL, is opened as it is.
func (s settings) setWAL(conn *sqlite3.SQLiteConn) error {
	// Several connections may open a new file at once. Changing the mode needs the file alone,
	// and SQLite does not wait for that as it waits for other locks.
	deadline := time.Now().Add(s.busy)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		mode, err := pragma(conn, "journal_mode")
		if err == nil && !strings.EqualFold(mode, "wal") {
			_, err = pragma(conn, "journal_mode=WAL")
		}
		var failed sqlite3.Error
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &failed):
			return err
		case failed.Code == sqlite3.ErrReadonly, failed.Code == sqlite3.ErrCantOpen: // file, folder
			return nil
		case failed.Code == sqlite3.ErrBusy && time.Now().Before(deadline):
			time.Sleep(wait)
		default:
			return err
		}
	}
}

// pragma runs a pragma and returns the text that it answers.
func pragma(conn *sqlite3.SQLiteConn, text string) (string, error) {
	rows, err := conn.Query("PRAGMA "+text, nil) //nolint:staticcheck // a connect hook has no context
	if err != nil {
		return "", err
	}
	row := make([]driver.Value, 1)
	if err := rows.Next(row); err != nil && err != io.EOF {
		return "", errors.Join(err, rows.Close())
	}
	answer, _ := row[0].(string)
	return answer, rows.Close()
}
