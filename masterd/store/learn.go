package store

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// deviceView returns the space as the device sees it. It makes tables and columns that the
// space lacks. sent returns the tables that came with the push, nil if none did. An error is
// a *SchemaError or a *RequestError, or comes from SQLite.
func (t *tx) deviceView(digest [32]byte, sent func() (change.Schema, error), renames []change.Rename) (*view, error) {
	v, err := viewOf(t.Conn, t.schema, digest)
	if v != nil || err != nil {
		return v, err
	}
	tables, err := sent()
	switch {
	case err != nil:
		return nil, err
	case tables == nil:
		return nil, &SchemaError{Unknown: true}
	case tables.Digest() != digest:
		return nil, &RequestError{Reason: "the digest of the tables is not the one that the push names"}
	}
	if err := t.learnTables(digest, tables, renames); err != nil {
		return nil, err
	}
	return viewOf(t.Conn, t.schema, digest)
}

// learnTables compares a device's tables with the space's, makes tables and columns that
// are new, and remembers the digest.
func (t *tx) learnTables(digest [32]byte, tables change.Schema, renames []change.Rename) error {
	changed := false
	matches := make([]match, len(tables))
	for i := range tables {
		def := &tables[i]
		if tables.Find(def.Name) != i {
			return &SchemaError{Table: def.Name, Reason: "it is listed twice"}
		}
		if err := checkOptions(def); err != nil {
			return err
		}
		matches[i] = t.match(def, i, renames)
		did, err := t.learnTable(def, &matches[i])
		if err != nil {
			return err
		}
		changed = changed || did
	}
	if changed {
		if err := t.reloadSchema(); err != nil {
			return err
		}
	}
	list := make([]deviceTable, len(tables))
	for i := range tables {
		have := t.schema.called(tables[i].Name)
		if matches[i].have != nil {
			have = t.schema.byID[matches[i].have.id]
		}
		list[i] = deviceTable{ID: have.id, Table: tables[i], Columns: matches[i].columns}
		for c, col := range tables[i].Columns {
			if matches[i].columns[c] < 0 {
				matches[i].columns[c] = have.def.Find(col.Name)
			}
		}
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if _, err := t.Exec(`INSERT INTO _velosync_schema (digest, tables) VALUES (?, ?)`, digest[:], string(text)); err != nil {
		return fmt.Errorf("remember a digest: %w", err)
	}
	_, err = t.Exec(`DELETE FROM _velosync_schema WHERE rowid <= (SELECT max(rowid) FROM _velosync_schema) - ?`, int64(maxSchemas))
	return err
}

// A match says which table and columns of the space a device's are.
type match struct {
	have    *table   // nil: none
	renamed bool     // the device renamed the table
	columns []int    // the space's column of each; -1: none yet
	before  []string // the name that the device renamed; empty: none
}

// match finds a device's table and columns, by what the device called them in its last
// round, then by name, then by names that they had before.
func (t *tx) match(def *change.Table, place int, renames []change.Rename) match {
	m := match{columns: slices.Repeat([]int{-1}, len(def.Columns)), before: make([]string, len(def.Columns))}
	for _, r := range renames {
		switch {
		case r.Table != place:
		case r.Column == tableItself:
			if m.have = t.schema.called(r.From); m.have != nil {
				m.renamed = m.have.def.Name == r.From
			}
		case r.Column < len(m.before):
			m.before[r.Column] = r.From
		}
	}
	if m.have == nil {
		if m.have = t.schema.called(def.Name); m.have == nil {
			return m
		}
	}
	taken := make(map[int]bool)
	take := func(i, at int) {
		if m.columns[i] < 0 && at >= 0 && !taken[at] {
			m.columns[i], taken[at] = at, true
		}
	}
	find := func(name string, i int) {
		take(i, m.have.def.Find(name))
		if at, ok := m.have.former[name]; ok {
			take(i, at)
		}
	}
	for i := range def.Columns {
		if m.before[i] != "" {
			find(m.before[i], i)
		}
	}
	for i, c := range def.Columns {
		take(i, m.have.def.Find(c.Name))
	}
	for i, c := range def.Columns {
		find(c.Name, i)
	}
	return m
}

// learnTable compares one table. changed says that the space's is another one now.
func (t *tx) learnTable(def *change.Table, m *match) (changed bool, err error) {
	have := m.have
	if have == nil {
		if t.fixed {
			return false, &SchemaError{Table: def.Name, Reason: "the space has no such table, and its operator gave all that it has (masterd --schema): " +
				"do not track this table, or ask for it to be added"}
		}
		return true, t.addTable(def)
	}
	names := make(map[string]string) // the space's, by the device's
	for i, c := range def.Columns {
		if at := m.columns[i]; at >= 0 && have.def.Columns[at].Name != c.Name {
			names[c.Name] = have.def.Columns[at].Name
		}
	}
	got, err := withColumnNames(def, names)
	if err != nil {
		return false, err
	}
	added, err := compareTables(&have.def, got, !have.open)
	switch {
	case err != nil:
		return false, err
	case len(added) > 0 && t.fixed:
		return false, &SchemaError{Table: def.Name, Reason: fmt.Sprintf("the device has column %q, the space has not, and its operator gave all that it has "+
			"(masterd --schema): ask for the column to be added", def.Columns[added[0]].Name)}
	case have.open:
		return true, t.settle(have, withNames(def.Options, names))
	case len(added) > 0:
		if err := t.addColumns(have, got, added); err != nil {
			return false, err
		}
		changed = true
	}
	renamed, err := t.renameAll(have, def, m)
	return changed || renamed, err
}

// withNames puts other names of columns into options.
func withNames(o change.Options, names map[string]string) change.Options {
	other := func(n string) string {
		if to, ok := names[n]; ok {
			return to
		}
		return n
	}
	o.Weight = other(o.Weight)
	o.Merge = o.RenamedMerge(other)
	groups := o.Groups
	if len(groups) == 0 {
		return o
	}
	o.Groups = nil
	for _, g := range groups {
		list := make([]string, len(g))
		for i, n := range g {
			list[i] = other(n)
		}
		o.Groups = append(o.Groups, list)
	}
	return o
}

// renameAll gives the space's table and columns the names that a device gave them; what
// others call them is remembered. Where another device was first, its name stays, and so
// does that of a space whose operator gave the tables.
func (t *tx) renameAll(have *table, def *change.Table, m *match) (changed bool, err error) {
	if t.fixed {
		return false, nil
	}
	names := make(map[string]string) // the new ones, by the old
	former := make(map[string]int)
	for n, at := range have.former {
		former[n] = at
	}
	for i, c := range def.Columns {
		at := m.columns[i]
		if at < 0 || m.before[i] == "" || have.def.Columns[at].Name != m.before[i] || have.def.Find(c.Name) >= 0 {
			continue
		}
		if err := t.Script("ALTER TABLE " + have.name() + " RENAME COLUMN " + vsql.Quote(m.before[i]) + " TO " + vsql.Quote(c.Name)); err != nil {
			return false, t.refuseRename(def, err)
		}
		names[m.before[i]], former[m.before[i]] = c.Name, at
		delete(former, c.Name)
	}
	name := have.def.Name
	if m.renamed && t.schema.find(def.Name) == nil && !strings.EqualFold(name, V1Table) {
		if err := t.Script("ALTER TABLE " + have.name() + " RENAME TO " + vsql.Quote(def.Name)); err != nil {
			return false, t.refuseRename(def, err)
		}
		former[name] = tableItself
		name = def.Name
	}
	if len(names) == 0 && name == have.def.Name {
		return false, nil
	}
	var before string // with the columns that addColumns brought
	if _, err := t.Row(`SELECT definition FROM _velosync_table WHERE id = ?`, []driver.Value{have.id}, &before); err != nil {
		return false, err
	}
	var old change.Table
	if err := json.Unmarshal([]byte(before), &old); err != nil {
		return false, err
	}
	d, err := t.Describe(name)
	if err != nil {
		return false, err
	}
	made := d.Table
	made.Options = withNames(old.Options, names)
	for _, text := range def.Indexes { // those that are not unique are not here
		if !uniqueIndex(text) {
			made.Indexes = append(made.Indexes, text)
		}
	}
	definition, err := json.Marshal(made)
	if err != nil {
		return false, err
	}
	text, err := json.Marshal(former)
	if err != nil {
		return false, err
	}
	_, err = t.Exec(`UPDATE _velosync_table SET name = ?, definition = ?, former = ? WHERE id = ?`, name, string(definition), string(text), have.id)
	t.space.log.Info("renamed", "table", name, "columns", len(names))
	return true, err
}

func (t *tx) refuseRename(def *change.Table, err error) error {
	var e sqlite3.Error
	if errors.As(err, &e) && !fatal(err) {
		return &SchemaError{Table: def.Name, Reason: "what was renamed on the device can't be renamed in the space: " + e.Error()}
	}
	return err
}

// settle gives a table of the operator's schema the options of the first device that has it.
func (t *tx) settle(have *table, o change.Options) error {
	def := have.def
	def.Options = o
	text, err := json.Marshal(def)
	if err != nil {
		return err
	}
	_, err = t.Exec(`UPDATE _velosync_table SET definition = ?, open = 0 WHERE id = ?`, string(text), have.id)
	return err
}

// addTable makes a table that a device has and the space lacks.
func (t *tx) addTable(def *change.Table) error {
	if err := checkTable(def); err != nil {
		return err
	}
	err := makeTable(t.Conn, def, false)
	var e sqlite3.Error
	if errors.As(err, &e) && !fatal(err) {
		return &SchemaError{Table: def.Name, Reason: "it can't be made here: " + e.Error()}
	}
	if err == nil {
		t.space.log.Info("table added", "table", def.Name, "columns", len(def.Columns))
	}
	return err
}

// addColumns adds columns that a device has to the space's table, behind all others.
func (t *tx) addColumns(have *table, def *change.Table, added []int) error {
	refuse := func(c change.Column, format string, args ...any) error {
		return &SchemaError{Table: def.Name, Reason: fmt.Sprintf("the device has column %s, the space has not: ", columnText(c)) + fmt.Sprintf(format, args...)}
	}
	if err := checkTable(def); err != nil {
		return err
	}
	text, ok := readTableText(def)
	if !ok {
		return fmt.Errorf("the SQL of %q can't be taken apart", def.Name) // compareTables did
	}
	for _, i := range added {
		c := def.Columns[i]
		if c.NotNull && !slices.Contains(text.columns[lower(c.Name)].tokens, "default") {
			return refuse(c, "rows of other devices would have no value for it; give it a DEFAULT")
		}
		// The text is a part of a CREATE TABLE that checkTable ran.
		err := t.Script("ALTER TABLE " + have.name() + " ADD COLUMN " + text.columns[lower(c.Name)].text)
		var e sqlite3.Error
		switch {
		case errors.As(err, &e) && !fatal(err):
			return refuse(c, "SQLite can't add it to the space's table (%s); give it a DEFAULT, and add it without UNIQUE", e.Error())
		case err != nil:
			return err
		}
	}
	d, err := t.Describe(have.def.Name)
	if err != nil {
		return err
	}
	made := d.Table
	made.Indexes, made.Options = have.def.Indexes, have.def.Options
	made.Options.Groups = slices.Clone(have.def.Options.Groups)
	for _, i := range added {
		c := def.Columns[i]
		if at := made.Find(c.Name); at < 0 || made.Columns[at] != c {
			return refuse(c, "it became another column here")
		}
		joinGroup(&made, def, c.Name)
		if p, ok := def.Options.Merge[c.Name]; ok {
			made.Options.SetMerge(c.Name, p)
		}
	}
	if !slices.Equal(made.Columns[:len(have.def.Columns)], have.def.Columns) {
		return fmt.Errorf("table %q has not the columns that it had", def.Name)
	}
	definition, err := json.Marshal(made)
	if err != nil {
		return err
	}
	since := slices.Clone(have.since)
	for range added {
		since = append(since, t.head)
	}
	when, err := json.Marshal(since)
	if err != nil {
		return err
	}
	if _, err := t.Exec(`UPDATE _velosync_table SET definition = ?, since = ? WHERE id = ?`, string(definition), string(when), have.id); err != nil {
		return err
	}
	t.space.log.Info("columns added", "table", def.Name, "columns", len(added))
	return nil
}

// joinGroup puts a new column into the group that it has on the device, beside the columns
// that the space has already.
func joinGroup(made, def *change.Table, name string) {
	for _, g := range def.Options.Groups {
		if !slices.Contains(g, name) {
			continue
		}
		for i, have := range made.Options.Groups {
			for _, c := range have {
				if slices.Contains(g, c) {
					made.Options.Groups[i] = append(slices.Clone(have), name)
					return
				}
			}
		}
		group := []string{name}
		for _, c := range g {
			if c != name && made.Find(c) >= 0 {
				group = append(group, c)
			}
		}
		made.Options.Groups = append(made.Options.Groups, group)
		return
	}
}
