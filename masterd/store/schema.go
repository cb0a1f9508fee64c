package store

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A schema is the tables of a space. It does not change: another one takes its place.
type schema struct {
	version int64
	tables  []*table // by name
	byID    map[int64]*table
	list    change.Schema

	mu    sync.Mutex
	views map[[32]byte]*view // by digest of the device's tables
}

// readSchema reads the tables of a space.
func readSchema(c *vsql.Conn) (*schema, error) {
	s := &schema{byID: make(map[int64]*table), views: make(map[[32]byte]*view)}
	if _, err := c.Row(`SELECT version FROM _velosync_space`, nil, &s.version); err != nil {
		return nil, err
	}
	err := c.Query(`SELECT id, definition, open, since, former FROM _velosync_table`, nil, func(row []driver.Value) error {
		var def change.Table
		if err := json.Unmarshal([]byte(row[1].(string)), &def); err != nil {
			return fmt.Errorf("definition of table %d: %w", row[0], err)
		}
		t := newTable(row[0].(int64), def, row[2].(int64) != 0)
		s.tables = append(s.tables, t)
		if err := json.Unmarshal([]byte(row[4].(string)), &t.former); err != nil {
			return fmt.Errorf("former names of table %d: %w", row[0], err)
		}
		return t.readSince(row[3].(string))
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(s.tables, func(a, b *table) int { return strings.Compare(a.def.Name, b.def.Name) })
	s.list = make(change.Schema, len(s.tables))
	for i, t := range s.tables {
		t.place, s.byID[t.id], s.list[i] = i, t, t.def
		if err := t.link(c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// find returns a table by name, or nil.
func (s *schema) find(name string) *table {
	if i := s.list.Find(name); i >= 0 {
		return s.tables[i]
	}
	return nil
}

// called returns a table by its name, or by one that it had before; nil: none.
func (s *schema) called(name string) *table {
	if t := s.find(name); t != nil {
		return t
	}
	for _, t := range s.tables {
		if place, ok := t.former[name]; ok && place == tableItself {
			return t
		}
	}
	return nil
}

// knows reports whether the view of a digest is in memory.
func (s *schema) knows(digest [32]byte) bool {
	if noTables[digest] {
		digest = [32]byte{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.views[digest] != nil
}

// tableItself stands among places of columns for the table.
const tableItself = -1

// maxSchemas is how many digests of devices a space remembers. A device whose digest was
// forgotten sends its tables again.
const maxSchemas = 1000

// The digests of a device without tables.
var noTables = map[[32]byte]bool{{}: true, change.Schema(nil).Digest(): true, change.Schema{}.Digest(): true}

// reloadSchema reads the schema after it changed.
func (t *tx) reloadSchema() error {
	if _, err := t.Exec(`UPDATE _velosync_space SET version = ?`, t.schema.version+1); err != nil {
		return err
	}
	s, err := readSchema(t.Conn)
	if err != nil {
		return err
	}
	t.schema = s
	return nil
}
