package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// The table of items is altered, on one device here, on another there, on some never: it
// and its column of texts get other names, a column comes and is dropped, and it is rebuilt
// as tools do that know no ALTER. Old devices go on with what they have.

// treeNames are the names that a file has for things, and whether it has the column that
// comes and goes. The zero value: the tables are not there.
type treeNames struct {
	items, text string
	extra       bool
}

func (n treeNames) there() bool { return n.items != "" }

// readNames reads them from a file.
func (w *world) readNames(c *vsql.Conn) (n treeNames) {
	if w.forest == nil {
		return n
	}
	err := c.Query(`SELECT m.name, p.name FROM sqlite_schema m, pragma_table_info(m.name) p WHERE m.type = 'table' AND m.name IN ('items', 'things')`, nil, func(v []change.Value) error {
		n.items = v[0].(string)
		switch name := v[1].(string); name {
		case "text", "body":
			n.text = name
		case "extra":
			n.extra = true
		}
		return nil
	})
	w.must(err, "read the names of the tables")
	return n
}

// alterTree alters the table of items.
func (d *device) alterTree() {
	w := d.w
	if w.forest == nil {
		return
	}
	d.look("before its items are altered")
	if !d.tree.names.there() {
		return
	}
	d.healDisk("")
	n := &d.tree.names
	var what, script string
	switch way := w.forest.rng.IntN(6); {
	case way < 2 && (d.seen == 0 || w.life != nil && slices.Contains(w.life.kinds, masterRestored)):
		return // a master that never knew the old name takes the new one for something else
	case way == 0 && n.text == "text":
		what, script = "column renamed", `ALTER TABLE `+n.items+` RENAME COLUMN text TO body`
		n.text = "body"
	case way == 1 && n.items == "items" && !d.tree.rebuilt: // else nothing tells that it is the same table
		what, script = "table renamed", `ALTER TABLE items RENAME TO things`
		n.items, d.tree.renamed = "things", true
	case way == 2 && !n.extra:
		what, script = "column added that is dropped again", `ALTER TABLE `+n.items+` ADD COLUMN extra TEXT`
		n.extra = true
	case way == 3 && n.extra:
		d.dropExtra()
		return
	case way >= 4 && !d.tree.rebuilt && !d.tree.renamed:
		what, script = "table rebuilt", d.rebuild()
		d.tree.rebuilt = true
	default:
		return
	}
	w.must(d.app.Script(script), "alter the items of "+d.String())
	d.tree.stale = true
	w.fault(what)
	w.say("%s: %s", d, strings.Join(strings.Fields(script), " "))
	d.look("altered")
}

// dropExtra drops the column that came.
func (d *device) dropExtra() {
	w := d.w
	d.mend() // as velosync_alter does
	w.must(d.app.Query(`SELECT velosync_alter(?, 'DROP COLUMN extra')`, []change.Value{d.tree.names.items}, func([]change.Value) error { return nil }), "drop a column of "+d.String())
	d.tree.names.extra = false
	d.tree.pending = nil
	for _, m := range d.treeLog(d.acked) {
		if !m.warning {
			d.tree.pending = append(d.tree.pending, m.treeMutation)
		}
	}
	w.fault("column dropped")
	w.say("%s drops the column extra", d)
	d.look("without a column")
}

// rebuild is what tools do that know no ALTER: a new table, the rows, and the old one's
// name.
func (d *device) rebuild() string {
	n := d.tree.names
	columns := "id, list, " + n.text
	extra := ""
	if n.extra {
		columns, extra = columns+", extra", ", extra TEXT"
	}
	return fmt.Sprintf(`BEGIN IMMEDIATE;
		CREATE TABLE fresh(id TEXT PRIMARY KEY NOT NULL, list TEXT REFERENCES lists(id) ON DELETE %s ON UPDATE CASCADE, %s TEXT%s);
		INSERT INTO fresh(%s) SELECT %s FROM %s;
		DROP TABLE %s;
		ALTER TABLE fresh RENAME TO %s;
		COMMIT`, d.w.forest.shape.action, n.text, extra, columns, columns, n.items, n.items, n.items)
}

// mendTree takes what making the triggers anew has logged: rows that have a value in a new
// column, or all rows of a table that was rebuilt.
func (d *device) mendTree(last change.LSN) {
	w := d.w
	if w.forest == nil || !d.tree.stale {
		return
	}
	whole := make(map[treeKey]bool)
	for _, m := range d.treeLog(last) {
		if m.key.table() != items || m.warning {
			w.fail("%s: its triggers are made anew, and the log has %s of %s", d, m.op, m.key)
		}
		whole[m.key] = whole[m.key] || m.main
		d.tree.pending = append(slices.Clip(d.tree.pending), m.treeMutation)
		d.last = max(d.last, m.lsn)
	}
	for key, row := range d.tree.rows {
		if !d.tree.rebuilt || key.table() != items {
			continue
		}
		if !whole[key] {
			w.fail("%s: its items were rebuilt, and row %s is not in the log", d, key)
		}
		w.leafOf(d.String(), key, row).again = true
	}
	d.tree.stale, d.tree.rebuilt, d.tree.renamed = false, false, false
}
