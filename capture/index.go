package capture

import (
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

const (
	foldFrom = 128 // changed rows from which an index is worth a transaction, as for searches
	foldRows = 64  // at a time: some 10 ms in which others can't write
)

// Fold takes a bounded number of changed rows into the lists of each vector index that has
// many: searches would, but a device that only writes has none, and its lists of changed
// rows would grow without end. It reports whether there is more to do. It does not wait for
// another writer, and then there is.
func (d *Device) Fold() (more bool, err error) {
	var names []string
	err = d.c.Query(`SELECT s.name FROM sqlite_schema s JOIN sqlite_schema d ON d.name = s.name || '_dirty'
		WHERE s.type = 'table' AND s.rootpage = 0 AND s.sql LIKE '%using%velosync!_knn%' ESCAPE '!'`, nil, func(v []change.Value) error {
		names = append(names, v[0].(string))
		return nil
	})
	if err != nil || len(names) == 0 {
		return false, err
	}
	var timeout int64
	if _, err := d.c.Row(`PRAGMA busy_timeout`, nil, &timeout); err != nil {
		return false, err
	}
	if _, err := d.c.Exec(`PRAGMA busy_timeout = 0`); err != nil {
		return false, err
	}
	defer func() {
		_, e := d.c.Exec(fmt.Sprintf(`PRAGMA busy_timeout = %d`, timeout))
		err = errors.Join(err, e)
	}()
	for _, name := range names {
		left, err := d.foldIndex(name)
		var s sqlite3.Error
		if errors.As(err, &s) && (s.Code == sqlite3.ErrBusy || s.Code == sqlite3.ErrLocked) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("fold index %q: %w", name, err)
		}
		more = more || left
	}
	return more, nil
}

func (d *Device) foldIndex(name string) (more bool, err error) {
	changed := func() (many bool, err error) {
		_, err = d.c.Row(fmt.Sprintf(`SELECT count(*) >= %[1]d FROM (SELECT 1 FROM %[2]s LIMIT %[1]d)`, foldFrom, vsql.Quote(name+"_dirty")), nil, &many)
		return many, err
	}
	if many, err := changed(); !many || err != nil {
		return false, err
	}
	if _, err := d.c.Exec(fmt.Sprintf(`INSERT INTO %[1]s(%[1]s, k) VALUES ('fold', %[2]d)`, vsql.Quote(name), foldRows)); err != nil {
		return false, err
	}
	return changed()
}
