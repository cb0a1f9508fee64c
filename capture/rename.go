package capture

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/velosync/velosync/capture/change"
)

// followTables finds tracked tables that were renamed: our triggers went with them.
func (d *Device) followTables() error {
	type row struct {
		id   int64
		name string
		was  string
	}
	var lost []row
	err := d.c.Query(`SELECT id, name, was FROM _velosync_table t
		WHERE NOT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND lower(name) = lower(t.name))`, nil, func(v []change.Value) error {
		lost = append(lost, row{v[0].(int64), v[1].(string), v[2].(string)})
		return nil
	})
	if err != nil || len(lost) == 0 {
		return err
	}
	return d.c.Atomic("velosync_follow", func() error {
		for _, r := range lost {
			var to string
			found, err := d.c.Row(`SELECT tbl_name FROM main.sqlite_schema WHERE type = 'trigger' AND name = ?`, []change.Value{triggerPrefix + r.name + "_insert"}, &to)
			if err != nil {
				return err
			}
			if !found {
				continue
			}
			was, err := readNames(r.was)
			if err != nil {
				return err
			}
			if _, ok := was[""]; !ok {
				was[""] = r.name
			}
			if _, err := d.c.Exec(`UPDATE _velosync_table SET name = ?, was = ? WHERE id = ?`, to, encodeMap(was), r.id); err != nil {
				return err
			}
			if _, err := d.c.Exec(`UPDATE _velosync_conflict SET tbl = ? WHERE tbl = ?`, to, r.name); err != nil {
				return err
			}
			d.o.Log.Info("a table was renamed", "table", to, "before", r.name)
		}
		return nil
	})
}

// renamedColumns returns the old names of columns that were renamed, by their new ones: a
// column stands in the place, with the type, of one whose name is gone.
func renamedColumns(old, now *change.Table) map[string]string {
	renamed := make(map[string]string)
	for i, c := range now.Columns {
		if i >= len(old.Columns) || old.Find(c.Name) >= 0 {
			continue
		}
		if o := old.Columns[i]; now.Find(o.Name) < 0 && o.Type == c.Type && o.NotNull == c.NotNull {
			renamed[c.Name] = o.Name
		}
	}
	return renamed
}

// follow gives columns their new names in what is kept of the table, and in old.
func (d *Device) follow(t *table, old *change.Table, renamed map[string]string) (*table, error) {
	to := make(map[string]string)
	for n, o := range renamed {
		to[o] = n
	}
	rename := func(list []string) []string {
		out := make([]string, len(list))
		for i, n := range list {
			if out[i] = n; to[n] != "" {
				out[i] = to[n]
			}
		}
		return out
	}
	for i := range old.Columns {
		if n := to[old.Columns[i].Name]; n != "" {
			old.Columns[i].Name = n
		}
	}
	o := t.d.Options
	for i, g := range o.Groups {
		o.Groups[i] = rename(g)
	}
	if n := to[o.Weight]; n != "" {
		o.Weight = n
	}
	o.Merge = o.RenamedMerge(func(c string) string {
		if n := to[c]; n != "" {
			return n
		}
		return c
	})
	var was string
	var held change.Value
	if _, err := d.c.Row(`SELECT was, held FROM _velosync_table WHERE id = ?`, []change.Value{t.id}, &was, &held); err != nil {
		return nil, err
	}
	before, err := readNames(was)
	if err != nil {
		return nil, err
	}
	for n, old := range renamed {
		if first, ok := before[old]; ok { // renamed twice since the last round
			delete(before, old)
			old = first
		}
		before[n] = old
	}
	if text, ok := held.(string); ok {
		var names []string
		if err := json.Unmarshal([]byte(text), &names); err != nil {
			return nil, fmt.Errorf("the columns that are held: %w", err)
		}
		held = encodeNames(rename(names))
	}
	options, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	if _, err := d.c.Exec(`UPDATE _velosync_table SET options = ?, was = ?, held = ? WHERE id = ?`, string(options), encodeMap(before), held, t.id); err != nil {
		return nil, err
	}
	return d.describe(t.id, t.d.Name, string(options))
}

// renames returns what the last complete round knew under another name.
func (d *Device) renames() (list []change.Rename, err error) {
	for i, t := range d.tables {
		var text string
		if _, err := d.c.Row(`SELECT was FROM _velosync_table WHERE id = ?`, []change.Value{t.id}, &text); err != nil {
			return nil, err
		}
		was, err := readNames(text)
		if err != nil {
			return nil, err
		}
		if from, ok := was[""]; ok {
			list = append(list, change.Rename{ColumnRef: change.ColumnRef{Table: i, Column: -1}, From: from})
		}
		for c, col := range t.d.Columns {
			if from, ok := was[col.Name]; ok {
				list = append(list, change.Rename{ColumnRef: change.ColumnRef{Table: i, Column: c}, From: from})
			}
		}
	}
	return list, nil
}

func readNames(text string) (map[string]string, error) {
	names := make(map[string]string)
	if err := json.Unmarshal([]byte(text), &names); err != nil {
		return nil, errors.Join(errors.New("the names that columns had"), err)
	}
	return names, nil
}

func encodeMap(names map[string]string) string {
	b, _ := json.Marshal(names) // strings always encode
	return string(b)
}
