package store

import (
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A kind is a small table of a space's file. Its rows are items of the database, and what a
// transaction changes in it is noted by triggers in a temporary table. The statements name
// rows by primary key.
type kind struct {
	name         string
	key, columns []string
	read         string // all columns
	put, remove  string
}

// kindKeys lists the small tables with their keys: every table of the file but those of users,
// _velosync_row and _velosync_cache.
var kindKeys = []struct {
	name string
	key  []string
}{
	{"_velosync_space", []string{"id"}},
	{"_velosync_epoch", []string{"first"}},
	{"_velosync_table", []string{"id"}},
	{"_velosync_schema", []string{"rowid"}}, // the order in which digests came
	{"_velosync_device", []string{"site"}},
	{"_velosync_mark", []string{"seq"}},
	{"_velosync_conflict", []string{"id"}},
	{"_velosync_conflict_value", []string{"conflict", "place"}},
	{"_velosync_v1_device", []string{"name"}},
	{"_velosync_v1_row", []string{"vector_id"}},
	{"_velosync_v1_refused", []string{"vector_id", "name"}},
	{"_velosync_v1_dimension", []string{"id"}},
}

// ddlKind is the kind of items that hold a user's table: its id and its SQL as JSON.
const ddlKind = "ddl"

// rowTable is the table of the feed; of it only deletes are noted.
const rowTable = "_velosync_row"

// attach prepares a connection of the writer: it reads what state the file holds, and makes
// the triggers.
func (o *origin) attach(c *vsql.Conn) error {
	var at place
	var stamp []byte
	if _, err := c.Row(`SELECT change, stamp FROM _velosync_cache`, nil, &at.change, &stamp); err != nil {
		return err
	}
	copy(at.stamp[:], stamp)
	o.setPlace(at)
	o.run, o.kinds = "", nil
	if err := checkKinds(c); err != nil {
		return err
	}
	script := []string{`CREATE TEMP TABLE _velosync_changed (kind TEXT, k1, k2)`,
		noteTrigger(rowTable, "DELETE", "OLD", []string{"feed"})}
	for _, k := range kindKeys {
		kind := kind{name: k.name, key: k.key}
		if k.key[0] == "rowid" {
			kind.columns = k.key
		}
		err := c.Query(`SELECT name FROM pragma_table_info(?)`, []driver.Value{k.name}, func(row []driver.Value) error {
			kind.columns = append(kind.columns, row[0].(string))
			return nil
		})
		if err != nil {
			return err
		}
		where := " WHERE " + strings.Join(k.key, " = ? AND ") + " = ?"
		kind.read = "SELECT +" + strings.Join(kind.columns, ", +") + " FROM main." + k.name + where
		kind.put = "INSERT OR REPLACE INTO main." + k.name + " (" + strings.Join(kind.columns, ", ") + ") VALUES (" + marks(len(kind.columns)) + ")"
		kind.remove = "DELETE FROM main." + k.name + where
		o.kinds = append(o.kinds, kind)
		script = append(script, noteTrigger(k.name, "INSERT", "NEW", k.key), noteTrigger(k.name, "UPDATE", "NEW", k.key),
			noteTrigger(k.name, "DELETE", "OLD", k.key))
	}
	return c.Script(strings.Join(script, ";\n"))
}

// checkKinds refuses a file with a table of ours that would not come to the database.
func checkKinds(c *vsql.Conn) error {
	known := map[string]bool{rowTable: true, "_velosync_cache": true}
	for _, k := range kindKeys {
		known[k.name] = true
	}
	return c.Query(`SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name LIKE '\_velosync\_%' ESCAPE '\'`, nil, func(row []driver.Value) error {
		if name := row[0].(string); !known[name] {
			return fmt.Errorf("the table %s is of no kind that is kept in a database", name)
		}
		return nil
	})
}

// noteTrigger returns a trigger that notes the key of a row that changes. No key changes.
func noteTrigger(table, event, row string, key []string) string {
	values := []string{row + "." + key[0], "NULL"}
	if len(key) > 1 {
		values[1] = row + "." + key[1]
	}
	return fmt.Sprintf("CREATE TEMP TRIGGER %s_%s AFTER %s ON main.%s BEGIN INSERT INTO _velosync_changed VALUES ('%s', %s); END",
		table, event, event, table, table, strings.Join(values, ", "))
}

// kind returns a kind by name.
func (o *origin) kind(name string) (*kind, error) {
	for i := range o.kinds {
		if o.kinds[i].name == name {
			return &o.kinds[i], nil
		}
	}
	return nil, fmt.Errorf("the database holds items of the kind %.100q, which this masterd does not know: use a newer one", name)
}

// longKey is the most bytes of a key that stands in an index of the database as it is; of a
// longer one a hash does. PostgreSQL refuses entries of about 2,700 bytes.
const longKey = 500

// itemKey returns what names a row in the database. long says that it is a hash.
func itemKey(key ...change.Value) (b []byte, long bool) {
	for i, v := range key {
		if f, ok := v.(float64); ok && f == 0 {
			key[i] = 0.0 // -0.0 is the same name
		}
	}
	b = appendValues(nil, key)
	if len(b) <= longKey {
		return b, false
	}
	sum := sha256.Sum256(b)
	return append([]byte{'h'}, sum[:]...), true
}

// putPlace records what state the file holds.
func putPlace(c *vsql.Conn, p place) error {
	_, err := c.Exec(`INSERT OR REPLACE INTO _velosync_cache (id, change, stamp) VALUES (1, ?, ?)`, p.change, p.stamp[:])
	return err
}

var errItem = errors.New("an item of the database can't be read: it is damaged")

// readItem reads the values of an item, n of them.
func readItem(b []byte, n int) ([]change.Value, error) {
	values, err := readValues(b, n)
	if err == nil && len(values) != n {
		err = errItem
	}
	return values, err
}
