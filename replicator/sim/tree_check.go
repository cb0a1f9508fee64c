package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// lookTree compares the tables with what they must be at seen and acked.
func (d *device) lookTree(when string, seen change.Seq, acked change.LSN) {
	w := d.w
	if w.forest == nil {
		return
	}
	if !d.tree.names.there() {
		if d.tree.names = w.readNames(d.app); !d.tree.names.there() {
			return
		}
	}
	w.holdsKeys(d.app, d.String(), when)
	rows, was := w.readTree(d.app, d.String(), d.tree.names), d.tree
	if seen == d.seen && acked == d.acked {
		if !maps.Equal(rows, was.rows) {
			w.fail("%s, %s: lists and items are %v, want %v: nothing was applied since", d, when, rows, was.rows)
		}
		d.lookMarks(when, true, rows)
		return
	}
	d.lookMarks(when, false, rows)
	rejected := d.rejectedTree(when, seen)
	d.tree.pending = slices.DeleteFunc(slices.Clone(was.pending), func(m treeMutation) bool { return m.lsn <= acked || rejected[m.key] })
	pending := make(map[treeKey]bool) // whether more than the column that comes and goes
	for _, m := range d.tree.pending {
		pending[m.key] = pending[m.key] || m.main
	}
	theirs, past := w.master.trees[seen], w.master.treePast[seen]
	d.tree.know = maps.Clone(was.know)
	for _, key := range w.forest.shape.keys {
		local, here := was.rows[key]
		remote, there := theirs[key]
		want, stays := remote, there
		if main, isPending := pending[key]; isPending && (main || here != there) {
			want, stays = local, here
		}
		got, found := rows[key]
		if found != stays || got != want {
			w.fail("%s, %s: seen %d, row %s is %v (%v), want %v (%v); it was %v (%v), the master has %v (%v), pending %v",
				d, when, seen, key, got, found, want, stays, local, here, remote, there, pending)
		}
		if found {
			d.neverBack(when, key, got, rejected[key])
		}
		if _, isPending := pending[key]; !isPending {
			d.tree.know[key] = d.tree.know[key].or(past[key])
		}
	}
	d.tree.rows = rows
}

// neverBack fails where a row shows a version again that the device has seen replaced.
func (d *device) neverBack(when string, key treeKey, row treeRow, rejected bool) {
	w := d.w
	l := w.leafOf(d.String(), key, row)
	if rejected || l.again || w.life != nil || d.tree.rows[key] == row {
		return
	}
	old, here := d.tree.rows[key]
	if !here {
		// A delete that had not seen the version may give way, and the version stands again.
		for _, o := range w.forest.leaves {
			if o.gone && o.key == key && d.tree.know[key].has(o.id) && o.known.has(l.id) {
				w.fail("%s, %s: row %s is %v again, which a delete had seen that this device knows", d, when, key, row)
			}
		}
		return
	}
	if o := w.leafOf(d.String(), key, old); o != l && o.known.has(l.id) && !l.known.has(o.id) {
		w.fail("%s, %s: row %s goes back from %v to %v, which that stood on", d, when, key, old, row)
	}
}

// rejectedTree returns the rows that the master could not take, and accounts for them: the
// device has its own in its conflict log.
func (d *device) rejectedTree(when string, seen change.Seq) map[treeKey]bool {
	w := d.w
	rejected, kept := make(map[treeKey]bool), make(map[treeKey]string)
	err := d.app.Query(`SELECT +pk, coalesce(mine, '') || coalesce(local, '') FROM _velosync_conflict
		WHERE kind = 'rejected' AND master_id IS NOT NULL AND seq > ? AND seq <= ? AND tbl IN ('lists', 'items', 'things')`,
		[]change.Value{int64(d.seen), int64(seen)}, func(v []change.Value) error {
			key := treeKey(v[0].(string))
			rejected[key] = true
			w.say("%s, %s: row %s was rejected", d, when, key)
			kept[key] += v[1].(string)
			w.forest.told = w.forest.told.or(d.tree.know[key])
			return nil
		})
	w.must(err, "read the rejected rows of "+d.String())
	w.work("lists and items rejected", len(rejected))
	for key, text := range kept {
		if row, here := d.tree.rows[key]; here && !strings.Contains(text, row.text) {
			w.fail("%s, %s: row %s was rejected, and what it was, %v, is not kept: %s", d, when, key, row, text)
		}
	}
	return rejected
}

// renamedTree follows a file that took a new id.
func (d *device) renamedTree(acked change.LSN) {
	w := d.w
	if w.forest == nil {
		return
	}
	d.tree.pending = nil
	logged := make(map[treeKey]bool)
	for _, m := range d.treeLog(acked) {
		if !m.warning {
			d.tree.pending = append(d.tree.pending, m.treeMutation)
			logged[m.key] = true
		}
		if m.op == "B" {
			w.work("lists and items pushed back", 1)
			w.say("%s pushes %s back, lsn %d", d, m.key, m.lsn)
		}
		d.last = max(d.last, m.lsn)
	}
	for key, known := range d.tree.know {
		if _, here := d.tree.rows[key]; !here && !logged[key] { // see renamed
			w.forest.told = w.forest.told.or(known)
		}
	}
}

// takeTree notes what a push has brought.
func (m *master) takeTree(q request, parts []*change.Push) {
	w := m.w
	if w.forest == nil || !m.watching() {
		return
	}
	known := make(map[treeKey]bool)
	w.must(m.watch.Query(`SELECT +pk FROM _velosync_row WHERE tbl IN`+treeTables, nil, func(v []change.Value) error {
		known[treeKey(v[0].(string))] = true
		return nil
	}), "read the master's rows")
	m.treeBrought = maps.Clone(m.treeBrought)
	for _, p := range parts {
		for i := range p.Blocks {
			for _, pk := range p.Blocks[i].Keys {
				if key, ok := pk.(string); ok && slices.Contains(w.forest.shape.keys, treeKey(key)) {
					k := treeKey(key)
					m.treeBrought[k] = m.treeBrought[k].or(q.tree.know[k])
					if p.Blocks[i].Delete && !known[k] { // there was nothing to delete
						w.forest.told = w.forest.told.or(q.tree.know[k])
					}
				}
			}
		}
	}
}

// checkTree looks at the master's tables.
func (m *master) checkTree(when string) {
	w := m.w
	if w.forest == nil {
		return
	}
	names := w.readNames(m.watch)
	rows := w.readTree(m.watch, "the master", names)
	if before, ok := m.trees[m.head]; ok && !maps.Equal(before, rows) {
		w.fail("master, %s: lists and items changed from %v to %v, its head is still %d", when, before, rows, m.head)
	}
	for key, row := range rows {
		w.leafOf("the master", key, row)
	}
	w.holdsKeys(m.watch, "the master", when)
	if now := fmt.Sprint(rows); now != m.treeText {
		m.treeText = now
		w.say("the master has the lists and items %s", now)
	}
	m.trees[m.head], m.treePast[m.head] = rows, m.treeBrought
	m.treeConflicts()
	m.treeForgets()
}

const treeTables = ` (SELECT id FROM _velosync_table WHERE name IN ('lists', 'items', 'things'))`

// treeConflicts takes what came to the master's conflict log.
func (m *master) treeConflicts() {
	w, f := m.w, m.w.forest
	err := m.watch.Query(`SELECT c.id, +c.pk, c.has_lost, c.kind, coalesce((SELECT group_concat(v.lost, ' ') FROM _velosync_conflict_value v WHERE v.conflict = c.id), '')
		FROM _velosync_conflict c WHERE c.id > ? AND c.tbl IN`+treeTables+` ORDER BY c.id`, []change.Value{m.treeConflict}, func(v []change.Value) error {
		m.treeConflict = v[0].(int64)
		key, lost := treeKey(v[1].(string)), v[4].(string)
		w.result.Conflicts["lists and items: "+v[3].(string)]++
		w.say("conflict: %s of %s: %s", v[3], key, lost)
		for _, l := range f.leaves {
			if l.key != key {
				continue
			}
			if v[2].(int64) == 0 && l.gone || !l.gone && slices.Contains(strings.Fields(lost), l.row.text) {
				f.told = f.told.or(l.known)
			}
		}
		return nil
	})
	w.must(err, "read the conflicts of lists and items")
}

// treeForgets accounts for deletes that the master has forgotten.
func (m *master) treeForgets() {
	w, f := m.w, m.w.forest
	known := make(map[treeKey]bool)
	var deleted []treeKey
	err := m.watch.Query(`SELECT +pk, deleted FROM _velosync_row WHERE tbl IN`+treeTables+` ORDER BY feed`, nil, func(v []change.Value) error {
		key := treeKey(v[0].(string))
		if known[key] = true; v[1].(int64) != 0 {
			deleted = append(deleted, key)
		}
		return nil
	})
	w.must(err, "read the master's feed")
	for _, key := range m.treeDeleted {
		if known[key] {
			continue
		}
		for _, l := range f.leaves {
			if l.gone && l.key == key {
				f.told = f.told.or(l.known)
			}
		}
	}
	m.treeDeleted = deleted
}

// takeTreeAway notes which leaves no disk has any more.
func (w *world) takeTreeAway(old, d *device) {
	f := w.forest
	if f == nil {
		return
	}
	if old != nil {
		for _, m := range old.tree.pending {
			for _, l := range f.leaves {
				if l.key == m.key && old.tree.know[m.key].has(l.id) && !d.tree.know[m.key].has(l.id) {
					f.gone = f.gone.with(l.id)
				}
			}
		}
	}
	var have set
	for key, row := range w.master.trees[w.master.head] {
		have = have.or(w.leafOf("the master", key, row).known)
	}
	for _, o := range w.devices {
		for _, known := range o.tree.know {
			have = have.or(known)
		}
	}
	for _, l := range f.leaves {
		if !have.has(l.id) {
			f.gone = f.gone.with(l.id)
		}
	}
}

// checkTreeHealed checks that all devices agree, and that nothing is lost.
func (w *world) checkTreeHealed() {
	f, m := w.forest, w.master
	if f == nil {
		return
	}
	rows := m.trees[m.head]
	extras := func(d *device) map[string]change.Value {
		c, n := m.watch, w.readNames(m.watch)
		if d != nil {
			c, n = d.app, d.tree.names
		}
		if !n.extra {
			return nil
		}
		got := make(map[string]change.Value)
		w.must(c.Query(`SELECT id, extra FROM `+n.items, nil, func(v []change.Value) error {
			got[v[0].(string)] = v[1]
			return nil
		}), "read the column extra")
		return got
	}
	theirs := extras(nil)
	for _, d := range w.devices {
		if !maps.Equal(d.tree.rows, rows) {
			w.fail("%s, healed: row lists and items are %v, the master has %v", d, d.tree.rows, rows)
		}
		if mine := extras(d); mine != nil && !maps.Equal(mine, theirs) {
			w.fail("%s, healed: row of the column extra: %v, the master has %v", d, mine, theirs)
		}
	}
	told := f.told.or(f.gone)
	for key, row := range rows {
		told = told.or(w.leafOf("the master", key, row).known)
	}
	for _, l := range f.leaves {
		if _, there := rows[l.key]; l.gone && !there {
			told = told.or(l.known)
		}
	}
	for _, l := range f.leaves {
		if !told.has(l.id) {
			w.fail("#%d of %s by %s, %v, gone %v, is lost without a trace", l.id, l.key, l.d, l.row, l.gone)
		}
	}
	w.work("versions and deletes of lists and items", len(f.leaves))
}
