package store

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
	"github.com/velosync/velosync/sqlfuncs"
)

// makeTable makes a checked table, its unique indexes, and its entry. Other indexes are
// for devices: nothing here would use them.
func makeTable(c *vsql.Conn, def *change.Table, open bool) error {
	// Names and expressions in the text were compiled by checkTable; main is the only
	// database that there is.
	if err := c.Script(def.SQL); err != nil {
		return err
	}
	for _, text := range def.Indexes {
		if uniqueIndex(text) {
			if err := c.Script(text); err != nil {
				return err
			}
		}
	}
	text, err := json.Marshal(def)
	if err != nil {
		return err
	}
	since, err := json.Marshal(make([]change.Seq, len(def.Columns)))
	if err != nil {
		return err
	}
	_, err = c.Exec(`INSERT INTO _velosync_table (name, definition, open, since) VALUES (?, ?, ?, ?)`, def.Name, string(text), open, string(since))
	return err
}

// uniqueIndex reports whether the SQL of an index makes it unique.
func uniqueIndex(text string) bool {
	tokens, ok := sqlTokens(text)
	return ok && len(tokens) > 1 && tokens[0] == "create" && tokens[1] == "unique"
}

// reserved reports whether a name is SQLite's or ours.
func reserved(name string) bool {
	l := lower(name)
	return name == "" || strings.HasPrefix(l, "_velosync_") || strings.HasPrefix(l, "sqlite_") || strings.HasPrefix(l, "velosync_")
}

// checkTable checks that the SQL of a table that came over the wire makes this table and
// nothing else. It runs it in a database of its own.
func checkTable(def *change.Table) error {
	refuse := func(format string, args ...any) error {
		return &SchemaError{Table: def.Name, Reason: fmt.Sprintf(format, args...)}
	}
	if reserved(def.Name) {
		return refuse("names that begin with _velosync_, velosync_ and sqlite_ are reserved")
	}
	tokens, ok := sqlTokens(def.SQL)
	if !ok || len(tokens) < 5 || tokens[0] != "create" || tokens[1] != "table" || !sameName(tokens[2], def.Name) || tokens[3] != "(" || slices.Contains(tokens, ";") {
		return refuse("want the CREATE TABLE that sqlite_schema holds of it, got %.200q", def.SQL)
	}
	for _, text := range def.Indexes {
		tokens, ok := sqlTokens(text)
		if !ok || len(tokens) == 0 || slices.Contains(tokens, ";") || tokens[0] != "create" {
			return refuse("want the CREATE INDEX that sqlite_schema holds, got %.200q", text)
		}
		tokens = tokens[1:]
		if len(tokens) > 0 && tokens[0] == "unique" {
			tokens = tokens[1:]
		}
		if len(tokens) < 6 || tokens[0] != "index" || reserved(strings.TrimPrefix(tokens[1], `"`)) || tokens[2] != "on" || !sameName(tokens[3], def.Name) || tokens[4] != "(" {
			return refuse("want a CREATE INDEX of this table, got %.200q", text)
		}
	}
	c, err := scratch()
	if err != nil {
		return err
	}
	defer closeConn(c)
	for _, text := range append([]string{def.SQL}, def.Indexes...) {
		if err := c.Script(text); err != nil {
			return refuse("its SQL does not run here: %v", err)
		}
	}
	d, err := c.Describe(def.Name)
	if err != nil {
		return refuse("%v", err)
	}
	d.Table.Options = def.Options
	if got, want := (change.Schema{d.Table}).Digest(), (change.Schema{*def}).Digest(); got != want {
		return refuse("its SQL makes columns, a key or indexes other than the push says")
	}
	return nil
}

// checkOptions checks what a device says of its table against the table's columns.
func checkOptions(def *change.Table) error {
	refuse := func(format string, args ...any) error {
		return &SchemaError{Table: def.Name, Reason: fmt.Sprintf(format, args...)}
	}
	for _, k := range def.Key {
		if k < 0 || k >= len(def.Columns) {
			return refuse("key column %d of %d", k, len(def.Columns))
		}
	}
	if w := def.Options.Weight; w != "" && def.Find(w) < 0 {
		return refuse("the weight is in column %q, which it has not", w)
	}
	grouped := make(map[string]bool)
	for _, g := range def.Options.Groups {
		for _, name := range g {
			at := def.Find(name)
			switch {
			case at < 0:
				return refuse("column %q of a group is not there", name)
			case slices.Contains(def.Key, at):
				return refuse("column %q of a group is part of the key", name)
			case grouped[name]:
				return refuse("column %q is in two groups", name)
			}
			grouped[name] = true
		}
	}
	if err := def.CheckMerge(); err != nil {
		return refuse("%v", err)
	}
	if err := vsql.CheckExpressions(&def.Options); err != nil {
		return refuse("%v", err)
	}
	if ids := def.Options.IDs; !change.ValidIDs(ids) {
		return refuse("ids is %q, want local, random or renumber", ids)
	}
	return nil
}

// sameName compares a token with a table's name. SQLite keeps the name as it was written.
func sameName(token, name string) bool {
	return lower(strings.TrimPrefix(token, `"`)) == lower(name)
}

// scratch opens an empty database in memory. The caller closes it.
func scratch() (*vsql.Conn, error) {
	conn, err := sqlfuncs.Open("file::memory:", nil)
	if err != nil {
		return nil, fmt.Errorf("open a scratch database: %w", err)
	}
	c := vsql.NewConn(conn)
	if err := c.Script("PRAGMA trusted_schema = 0; PRAGMA foreign_keys = 0"); err != nil {
		closeConn(c)
		return nil, err
	}
	return c, nil
}

func closeConn(c *vsql.Conn) { _, _ = c.Close(), c.Raw().Close() }

// tablesOf returns the tables that a script makes.
func tablesOf(script string) ([]*table, error) {
	c, err := scratch()
	if err != nil {
		return nil, err
	}
	defer closeConn(c)
	if err := c.Script(script); err != nil {
		return nil, err
	}
	var names []string
	err = c.Query(`SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name`, nil, func(row []driver.Value) error {
		names = append(names, row[0].(string))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errors.New("it makes no table")
	}
	var tables []*table
	for _, name := range names {
		d, err := c.Describe(name)
		if err != nil {
			return nil, err
		}
		if err := checkTable(&d.Table); err != nil {
			return nil, err
		}
		tables = append(tables, newTable(0, d.Table, true))
	}
	return tables, nil
}
