package capture

import (
	"errors"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A writer writes columns of rows of one table.
type writer struct {
	d            *Device
	t            *table
	cols         []int
	args         []change.Value
	upsertQuery  string
	updateQuery  string
	keyCondition string
}

func newWriter(d *Device, t *table, cols []int) *writer {
	w := &writer{d: d, t: t, cols: cols, keyCondition: t.exactKey()}
	names := make([]string, 0, len(cols)+len(t.d.Key))
	var set []string
	for _, k := range t.d.Key {
		names = append(names, vsql.Quote(t.d.Columns[k].Name))
	}
	if t.loose() {
		for _, n := range names { // a key may come back under another spelling
			set = append(set, n+" = excluded."+n)
		}
	}
	var update []string
	for _, c := range cols {
		n := vsql.Quote(t.d.Columns[c].Name)
		names = append(names, n)
		set = append(set, n+" = excluded."+n)
		update = append(update, n+" = ?")
	}
	do := "DO NOTHING"
	if len(set) > 0 {
		do = "DO UPDATE SET " + strings.Join(set, ", ")
	}
	w.upsertQuery = "INSERT INTO " + vsql.Quote(t.d.Name) + "(" + strings.Join(names, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(names)-1) + ")" +
		" ON CONFLICT(" + strings.Join(t.keyColumns(), ", ") + ") " + do
	w.updateQuery = "UPDATE " + vsql.Quote(t.d.Name) + " SET " + strings.Join(update, ", ") + " WHERE " + w.keyCondition
	return w
}

func (w *writer) upsert(key change.Value, values []change.Value) (int64, error) {
	parts, err := change.SplitKey(key, len(w.t.d.Key))
	if err != nil {
		return 0, err
	}
	if err := w.d.note(w.t, key); err != nil {
		return 0, err
	}
	w.args = append(append(w.args[:0], parts...), values...)
	if _, err := w.d.c.Exec(w.upsertQuery, w.args...); err != nil {
		return 0, err
	}
	return 1, nil
}

func (w *writer) update(key change.Value, values []change.Value) (int64, error) {
	parts, err := change.SplitKey(key, len(w.t.d.Key))
	if err != nil {
		return 0, err
	}
	if len(values) == 0 { // a register without columns: the row is there or not
		found, err := w.d.exists(w.t, key)
		if found {
			return 1, err
		}
		return 0, err
	}
	if err := w.d.note(w.t, key); err != nil {
		return 0, err
	}
	w.args = append(append(w.args[:0], values...), parts...)
	if w.t.loose() {
		w.args = append(w.args, parts...)
	}
	return w.d.c.Exec(w.updateQuery, w.args...)
}

// loose reports whether the key's index calls keys equal that differ in their bytes.
func (t *table) loose() bool {
	for _, u := range t.d.Uniques {
		if u.PrimaryKey {
			return true
		}
	}
	return false
}

// exactKey is the condition that finds the row with a key, byte by byte; a loose key is
// bound twice.
func (t *table) exactKey() string {
	cond := vsql.KeyCondition(&t.d.Table)
	if !t.loose() {
		return cond
	}
	for _, c := range t.keyColumns() {
		cond += " AND " + c + " = ? COLLATE BINARY"
	}
	return cond
}

func (t *table) exactArgs(key change.Value) ([]change.Value, error) {
	parts, err := change.SplitKey(key, len(t.d.Key))
	if err != nil || !t.loose() {
		return parts, err
	}
	return append(parts, parts...), nil
}

func (d *Device) exists(t *table, key change.Value) (bool, error) {
	args, err := t.exactArgs(key)
	if err != nil {
		return false, err
	}
	var n int
	return d.c.Row("SELECT 1 FROM "+vsql.Quote(t.d.Name)+" WHERE "+t.exactKey(), args, &n)
}

func (d *Device) deleteRow(t *table, key change.Value) (int64, error) {
	args, err := t.exactArgs(key)
	if err != nil {
		return 0, err
	}
	if err := d.note(t, key); err != nil {
		return 0, err
	}
	return d.c.Exec("DELETE FROM "+vsql.Quote(t.d.Name)+" WHERE "+t.exactKey(), args...)
}

// insertRow inserts a row of all stored columns.
func (d *Device) insertRow(t *table, values []change.Value) error {
	names := make([]string, len(t.d.Columns))
	for i, c := range t.d.Columns {
		names[i] = vsql.Quote(c.Name)
	}
	_, err := d.c.Exec("INSERT INTO "+vsql.Quote(t.d.Name)+"("+strings.Join(names, ", ")+") VALUES (?"+strings.Repeat(", ?", len(names)-1)+")", values...)
	return err
}

// isConstraint reports whether SQLite, or a RAISE in a trigger, refused a row. A full
// disk, a lock or a damaged page is no such reason.
func isConstraint(err error) bool {
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Code == sqlite3.ErrConstraint || e.Code == sqlite3.ErrMismatch || e.Code == sqlite3.ErrTooBig
}

// isUnique reports whether SQLite refused a row since another has its value.
func isUnique(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.ExtendedCode == sqlite3.ErrConstraintUnique || e.ExtendedCode == sqlite3.ErrConstraintPrimaryKey || e.ExtendedCode == sqlite3.ErrConstraintRowID)
}
