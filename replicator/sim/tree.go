package sim

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// In half of the runs there are lists and items in two more tables. An item names its list
// by a foreign key, lists are deleted, with what SQLite does to their items then, and the
// table of items is altered, see tree_schema.go; and there may be a table that is not
// tracked, see tree_local.go. Whether the master has to take a row hangs
// on the rows that came before, so the master is not predicted. What holds at any time: no
// key refers to a row that is not there, on no device and not on the master; a device shows
// what the master had, under what is pending; it never goes back to a version that it had
// seen replaced; each version and delete is current, stood under one that is, or is in a
// conflict log.

// A treeTable is one of the two.
type treeTable int

const (
	lists treeTable = iota
	items
)

// A treeKey names a row: its key begins with the letter of its table.
type treeKey string

func (k treeKey) table() treeTable {
	if strings.HasPrefix(string(k), "l") {
		return lists
	}
	return items
}

// A treeRow is what a row shows beside its key. The text of an item is written anew with its list,
// but where a foreign key's action changes that.
type treeRow struct{ list, text string }

// A leaf is a version of a row, or a delete of it.
type leaf struct {
	id    int
	d     *device
	key   treeKey
	row   treeRow
	gone  bool
	known set  // what its author had seen of the row, itself included
	again bool // it came twice: by a foreign key's action, or with a table that was rebuilt, all of which is sent anew
}

// leafName finds the version that a row shows.
type leafName struct {
	key treeKey
	row treeRow
}

// A tree is these tables on a device. Its maps are not changed, but replaced: a copy of it
// is a snapshot.
type tree struct {
	names   treeNames
	rows    map[treeKey]treeRow
	know    map[treeKey]set
	pending []treeMutation // past acked
	marks   map[int64]mark // nil: unknown
	rebuilt bool           // the table of items has no triggers
	renamed bool           // the table of items, and no round knows yet
	stale   bool           // the triggers are those of another declaration
}

// A treeMutation is a row of the log.
type treeMutation struct {
	lsn  change.LSN
	key  treeKey
	main bool // of more than the column that comes and goes
}

// A treeShape is what a seed's tables are like.
type treeShape struct {
	action string // of the foreign key, when a list is deleted
	keys   []treeKey
}

// forest is what a run keeps of its trees.
type forest struct {
	shape  treeShape
	leaves []*leaf
	byRow  map[leafName]*leaf
	told   set // leaves that came to a conflict log, ever, or whose delete is over
	gone   set // leaves whose disks are gone
	rng    *rand.Rand
	asked  int
	writes int
	marks  struct {
		rng   *rand.Rand
		asked int
		count int64
	}
}

var treeActions = []string{"CASCADE", "SET NULL", "NO ACTION", "RESTRICT"}

func newForest(w *world) *forest {
	if w.seed%4 < 2 {
		return nil
	}
	f := &forest{byRow: make(map[leafName]*leaf), rng: w.dice(setUp, 1)}
	f.marks.rng = w.dice(setUp, 2)
	f.shape.action = treeActions[w.seed/4%int64(len(treeActions))]
	for i := range 1 + w.seed/16%3 {
		f.shape.keys = append(f.shape.keys, treeKey(fmt.Sprintf("l%d", i)))
	}
	for i := range 1 + w.seed/48%4 {
		f.shape.keys = append(f.shape.keys, treeKey(fmt.Sprintf("i%d", i)))
	}
	return f
}

func (s treeShape) of(t treeTable) (keys []treeKey) {
	for _, k := range s.keys {
		if k.table() == t {
			keys = append(keys, k)
		}
	}
	return keys
}

func (s treeShape) restricts() bool { return s.action == "NO ACTION" || s.action == "RESTRICT" }

// treeChance is chance with dice of its own: what happens to other tables stays what it is.
func (w *world) treeChance(p float64) bool {
	w.forest.asked++
	return w.forest.rng.Float64() < p && w.happens(draw{w.step, -w.forest.asked})
}

// oneOf draws one of some keys.
func (f *forest) oneOf(keys []treeKey) treeKey { return keys[f.rng.IntN(len(keys))] }

// makeTree makes the tables.
func (d *device) makeTree() {
	w := d.w
	if w.forest == nil {
		return
	}
	w.must(d.app.Script(`CREATE TABLE lists(id TEXT PRIMARY KEY NOT NULL, name TEXT);
		CREATE TABLE items(id TEXT PRIMARY KEY NOT NULL, list TEXT REFERENCES lists(id) ON DELETE `+w.forest.shape.action+` ON UPDATE CASCADE, text TEXT)`), "make the tables of lists and items")
	w.must(d.app.Query(`SELECT velosync_track('lists'), velosync_track('items', '{"groups":[["list","text"]]}')`, nil, func([]change.Value) error { return nil }), "track lists and items")
	d.tree.names = treeNames{items: "items", text: "text"}
}

// readTree reads the tables of a file, under its names.
func (w *world) readTree(c *vsql.Conn, where string, n treeNames) map[treeKey]treeRow {
	rows := make(map[treeKey]treeRow)
	if !n.there() {
		return rows
	}
	err := c.Query(`SELECT id, '', name FROM lists UNION ALL SELECT id, coalesce(list, '-'), `+n.text+` FROM `+n.items, nil, func(v []change.Value) error {
		rows[treeKey(v[0].(string))] = treeRow{v[1].(string), v[2].(string)}
		return nil
	})
	w.must(err, "read the lists of "+where)
	return rows
}

// holdsKeys fails where a foreign key refers to a row that is not there.
func (w *world) holdsKeys(c *vsql.Conn, where, when string) {
	err := c.Query(`PRAGMA foreign_key_check`, nil, func(v []change.Value) error {
		return fmt.Errorf("a row of %v refers to a row of %v that is not there", v[0], v[2])
	})
	if err != nil {
		w.fail("%s, %s: %v", where, when, err)
	}
}

// grow runs a statement on the tables, in a transaction of the application.
func (x *txn) grow() {
	d, w := x.d, x.d.w
	if w.forest == nil || !d.tree.names.there() || !w.treeChance(.45) {
		return
	}
	f, n := w.forest, d.tree.names
	f.writes++
	text := fmt.Sprintf("%d:%d:t", d.n, f.writes)
	key := f.oneOf(f.shape.keys)
	_, there := x.tree.rows[key]
	var parents []change.Value
	for _, k := range f.shape.of(lists) {
		if _, ok := x.tree.rows[k]; ok {
			parents = append(parents, string(k))
		}
	}
	if f.rng.IntN(6) == 0 || len(parents) == 0 {
		parents = []change.Value{nil}
	}
	parent := parents[f.rng.IntN(len(parents))]
	way := f.rng.Float64()
	var query string
	var args []change.Value
	deletes := false // rows of this table, or of items with it
	switch {
	case key.table() == lists && (!there || way < .1):
		deletes = there
		query, args = `INSERT OR REPLACE INTO lists(id, name) VALUES (?, ?)`, []change.Value{string(key), text}
	case key.table() == lists && way < .55:
		deletes = true
		query, args = `DELETE FROM lists WHERE id = ?`, []change.Value{string(key)}
	case key.table() == lists && way < .65 && x.freeList() != "":
		query, args = `UPDATE lists SET id = ?, name = ? WHERE id = ?`, []change.Value{string(x.freeList()), text, string(key)}
	case key.table() == lists:
		query, args = `UPDATE lists SET name = ? WHERE id = ?`, []change.Value{text, string(key)}
	case !there, way < .1:
		query, args = `INSERT OR REPLACE INTO `+n.items+`(id, list, `+n.text+`) VALUES (?, ?, ?)`, []change.Value{string(key), parent, text}
	case way < .3:
		deletes = true
		query, args = `DELETE FROM `+n.items+` WHERE id = ?`, []change.Value{string(key)}
	case way < .5 && n.extra:
		query, args = `UPDATE `+n.items+` SET list = ?, `+n.text+` = ?, extra = ? WHERE id = ?`, []change.Value{parent, text, text, string(key)}
	default:
		query, args = `UPDATE `+n.items+` SET list = ?, `+n.text+` = ? WHERE id = ?`, []change.Value{parent, text, string(key)}
	}
	if deletes && d.tree.rebuilt {
		return // what is deleted while no trigger watches stays elsewhere
	}
	x.said = append(x.said, sqlText(query, args))
	if x.err != nil {
		return
	}
	_, err := d.app.Exec(query, args...)
	var e sqlite3.Error
	switch {
	case errors.As(err, &e) && e.ExtendedCode == sqlite3.ErrConstraintForeignKey, errors.As(err, &e) && e.ExtendedCode == sqlite3.ErrConstraintTrigger:
		if !f.shape.restricts() || key.table() != lists {
			w.fail("%s: %s: %v", d, sqlText(query, args), err)
		}
		w.fault("delete of a list refused by its foreign key")
		return
	case err != nil && d.brokenDisk() && isDiskError(err):
		x.err = err
		return
	}
	w.must(err, fmt.Sprintf("%s: %s", d, query))
	x.grown(deletes && key.table() == lists)
}

// freeList returns a list's key that stands for no row, or "".
func (x *txn) freeList() treeKey {
	for _, k := range x.d.w.forest.shape.of(lists) {
		if _, there := x.tree.rows[k]; !there {
			return k
		}
	}
	return ""
}

// grown notes what a statement has changed.
func (x *txn) grown(deletes bool) {
	d, w := x.d, x.d.w
	rows := w.readTree(d.app, d.String(), d.tree.names)
	x.tree.know = maps.Clone(x.tree.know)
	for _, key := range w.forest.shape.keys {
		was, before := x.tree.rows[key]
		is, now := rows[key]
		if before == now && was == is {
			continue
		}
		if deletes && key.table() == items {
			w.fault("list deleted, " + w.forest.shape.action + " of its items")
		}
		l := &leaf{id: len(w.forest.leaves) + len(x.leaves), d: d, key: key, row: is, gone: !now}
		l.known = x.tree.know[key].with(l.id)
		x.tree.know[key] = l.known
		x.leaves = append(x.leaves, l)
		x.touched[key] = true
	}
	x.tree.rows = rows
}

// readTree compares what the triggers logged with what was changed, and takes the LSNs.
func (x *txn) readTree() (last change.LSN) {
	d, w := x.d, x.d.w
	last = d.last
	if w.forest == nil || !d.tree.names.there() {
		return last
	}
	fresh := d.treeLog(d.last)
	logged := make(map[treeKey]bool)
	for _, m := range fresh {
		logged[m.key], last = true, max(last, m.lsn)
		if !x.touched[m.key] && !m.warning {
			w.fail("%s: the log has %s at lsn %d, which was not done: %s", d, m.key, m.lsn, strings.Join(x.said, "; "))
		}
	}
	for _, key := range w.forest.shape.keys {
		if x.touched[key] && !logged[key] && !(d.tree.rebuilt && key.table() == items) {
			w.fail("%s: row %s is not in the log: %s", d, key, strings.Join(x.said, "; "))
		}
	}
	x.tree.pending = slices.Clip(x.tree.pending)
	for _, m := range fresh {
		if !m.warning {
			x.tree.pending = append(x.tree.pending, m.treeMutation)
		}
	}
	return last
}

// A treeLogRow is a row of the log as it stands there.
type treeLogRow struct {
	treeMutation
	op      string
	warning bool // of a REPLACE
}

// treeLog reads the log of the tables past an LSN.
func (d *device) treeLog(after change.LSN) (log []treeLogRow) {
	err := d.app.Query(`SELECT w.lsn, w.op, +w.pk, w.cols, coalesce((SELECT sum(1 << reg) FROM _velosync_register r WHERE r.tbl = w.tbl AND r.columns <> 'extra'), 0)
		FROM _velosync_wal w WHERE w.lsn > ? AND w.op <> 'X' AND w.tbl IN (SELECT id FROM _velosync_table WHERE name IN ('lists', 'items', 'things')) ORDER BY w.lsn`,
		[]change.Value{int64(after)}, func(v []change.Value) error {
			m := treeLogRow{op: v[1].(string)}
			m.lsn, m.key, m.main, m.warning = change.LSN(v[0].(int64)), treeKey(v[2].(string)), v[3].(int64)&v[4].(int64) != 0, m.op == "E"
			log = append(log, m)
			return nil
		})
	d.w.must(err, "read the log of "+d.String())
	return log
}

// addLeaves makes leaves known; their transaction is committed.
func (w *world) addLeaves(list []*leaf) {
	f := w.forest
	for _, l := range list {
		if l.id != len(f.leaves) {
			w.fail("leaf %d comes as number %d: the simulation is wrong", l.id, len(f.leaves))
		}
		f.leaves = append(f.leaves, l)
		if l.gone {
			continue
		}
		n := leafName{l.key, l.row}
		if old := f.byRow[n]; old != nil { // a foreign key's action brought the same row again, here or there
			l.known, l.again = l.known.or(old.known), true
			f.told = f.told.or(l.known)
		}
		f.byRow[n] = l
	}
}

// leafOf finds the version that a row shows.
func (w *world) leafOf(where string, key treeKey, row treeRow) *leaf {
	l := w.forest.byRow[leafName{key, row}]
	if l == nil {
		w.fail("%s: row %s holds %v, which nobody wrote", where, key, row)
	}
	return l
}
