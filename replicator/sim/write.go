package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// A txn is a transaction of the application, under way.
type txn struct {
	d    *device
	rows map[string][]*event
	know map[string]knowledge

	events []*event
	log    []mutation // as the triggers have to log it, without lsn
	by     [][]*event // the events of each mutation
	said   []string
	err    error // what the disk said; nothing is done any more

	counts map[string]tally
	tags   map[string]tagged
	adds   []addition

	tree    tree
	leaves  []*leaf
	touched map[treeKey]bool
}

// write runs a transaction of some statements, and sometimes rolls it back.
func (d *device) write() {
	w := d.w
	d.transact(func(x *txn) {
		n := 1
		for n < 4 && w.chance(.35) {
			n++
		}
		for range n {
			x.statement()
			x.countUp()
			x.grow()
			x.markOn()
			d.jump(.05, "during a transaction")
		}
	})
}

// transact runs a transaction of ordinary SQL.
func (d *device) transact(statements func(*txn)) {
	w := d.w
	d.look("before a write")
	if !d.hasTable {
		return
	}
	w.tick()
	w.txns++
	x := &txn{d: d, rows: make(map[string][]*event), know: make(map[string]knowledge), counts: maps.Clone(d.counts), tags: maps.Clone(d.tags), tree: d.tree, touched: make(map[treeKey]bool)}
	for _, key := range w.shape.keys {
		x.rows[key], x.know[key] = d.rows[key], d.know[key]
	}
	d.breakDisk("a transaction", .1, 6)
	x.exec("BEGIN IMMEDIATE")
	statements(x)
	last := d.last
	if x.err == nil {
		x.readLog()
		last = max(x.readCounts(), x.readTree())
	}
	if w.chance(.06) {
		w.fault("transaction rolled back")
		x.exec("ROLLBACK")
		d.healDisk("a transaction")
		if x.err == nil {
			w.say("%s runs, and rolls back: %s", d, strings.Join(x.said, "; "))
			d.look("after a rollback")
			return
		}
	}
	x.setTimes()
	x.exec("COMMIT")
	d.healDisk("a transaction")
	if x.err != nil {
		x.abandon()
		return
	}
	for i, m := range x.log {
		d.last = max(d.last, m.lsn)
		d.log, d.byLSN[m.lsn] = append(d.log, m), x.by[i]
		for _, e := range x.by[i] {
			e.lsn = m.lsn
		}
	}
	d.last, d.adds, d.counts = max(d.last, last), append(slices.Clip(d.adds), x.adds...), x.counts
	d.tags = x.tags
	slices.SortFunc(d.log, func(a, b mutation) int { return int(a.lsn - b.lsn) })
	for _, e := range x.events {
		w.add(e)
	}
	w.addLeaves(x.leaves)
	d.rows, d.know, d.tree = x.rows, x.know, x.tree
	w.work("transactions", 1)
	w.work("mutations", len(x.log))
	w.say("%s runs: %s (lsn %d)", d, strings.Join(x.said, "; "), d.last)
	d.look("after a write")
}

// setTimes writes the times of the mutations into the log, since triggers read SQLite's own
// clock.
func (x *txn) setTimes() {
	for _, m := range x.log {
		x.exec("UPDATE _velosync_wal SET at = ? WHERE lsn = ?", m.at, int64(m.lsn))
	}
	if len(x.touched) > 0 {
		x.exec("UPDATE _velosync_wal SET at = ? WHERE lsn > ? AND tbl IN"+treeTables, x.d.now().UnixMilli(), int64(x.d.last))
	}
	for _, a := range x.adds {
		x.exec("UPDATE _velosync_wal SET at = ? WHERE lsn = ?", x.d.w.now+x.d.skew, int64(a.lsn))
	}
}

func (x *txn) exec(query string, args ...change.Value) {
	if x.err != nil {
		return
	}
	_, err := x.d.app.Exec(query, args...)
	if x.d.brokenDisk() && isDiskError(err) {
		x.err = err
		return
	}
	x.d.w.must(err, fmt.Sprintf("%s: %s", x.d, query))
}

// run executes a statement, which the trace tells.
func (x *txn) run(query string, args ...change.Value) {
	x.said = append(x.said, sqlText(query, args))
	x.exec(query, args...)
}

// sqlText writes a statement with its arguments in the places of its question marks.
func sqlText(query string, args []change.Value) string {
	parts := strings.Split(query, "?")
	for i, v := range args {
		text := "NULL"
		switch v := v.(type) {
		case nil:
		case string:
			text = "'" + v + "'"
		case []byte:
			text = fmt.Sprintf("x'%x'", v)
		default:
			text = fmt.Sprint(v)
		}
		parts[i] += text
	}
	return strings.Join(parts, "")
}

// statement runs one statement.
func (x *txn) statement() {
	w := x.d.w
	key := w.shape.keys[w.rng.IntN(len(w.shape.keys))]
	row := x.rows[key]
	if row == nil {
		x.insert(key)
		return
	}
	if w.life != nil && w.life.deleting {
		x.remove(key)
		return
	}
	switch p := w.rng.Float64(); {
	case p < .16:
		x.remove(key)
	case p < .23:
		x.insert(key) // over it
	case p < .30:
		x.rename(key)
	case p < .34:
		x.run("UPDATE notes SET a = a, w = w WHERE "+w.shape.key.where, w.shape.keyValues(key)...) // changes nothing: is not logged
	case p < .40:
		x.all()
	default:
		x.update(key)
	}
}

// fresh draws a value for a column, one that no other write has where it stands alone.
func (x *txn) fresh(col int, alone bool) change.Value {
	w := x.d.w
	w.writes++
	switch {
	case col != weightColumn:
		return fmt.Sprintf("%d:%d:%s", x.d.n, w.writes, columns[col])
	case alone:
		return float64(w.rng.IntN(3)) + float64(w.writes)/1e6
	}
	v := []change.Value{nil, 0.0, 1.0, 2.0}[w.rng.IntN(4)]
	if w.shape.unique && v != nil {
		for _, row := range x.rows { // what this file forbids is not tried
			if row != nil && row[0].values[weightColumn] == v {
				return nil
			}
		}
	}
	return v
}

func (x *txn) freshRow() []change.Value {
	values := make([]change.Value, len(columns))
	for _, cols := range x.d.w.shape.regs {
		for _, c := range cols {
			values[c] = x.fresh(c, len(cols) == 1)
		}
	}
	return values
}

// wrote notes new versions of some registers of a row.
func (x *txn) wrote(op, key string, values []change.Value, regs change.Bits) {
	w := x.d.w
	row := make([]*event, len(w.shape.regs))
	copy(row, x.rows[key])
	k := x.know[key]
	k.regs = slices.Clone(k.regs)
	var by []*event
	if op == "I" && w.shape.alters {
		row[w.shape.later()] = nil
	}
	regs.Each(func(r int) {
		own := pick(values, w.shape.regs[r])
		e := &event{id: len(w.events) + len(x.events), d: x.d, key: key, reg: r, txn: w.txns, values: own, text: textOf(own), exist: k.exist}
		e.known = k.regs[r].with(e.id)
		k.regs[r] = e.known
		row[r] = e
		x.events, by = append(x.events, e), append(by, e)
	})
	x.rows[key], x.know[key] = row, k
	cols := regs
	switch {
	case op == "I":
		cols = ^change.Bits(0)
	case x.d.hasLater && !x.d.mended: // the triggers know nothing of the new column yet
		if cols &^= change.Bit(w.shape.later()); cols == 0 {
			return
		}
	}
	x.log, x.by = append(x.log, mutation{key: key, op: op, cols: cols, at: x.d.now().UnixMilli()}), append(x.by, by)
}

func (x *txn) gone(key string) {
	w := x.d.w
	k := x.know[key]
	e := &event{id: len(w.events) + len(x.events), d: x.d, key: key, reg: -1, txn: w.txns, regs: k.regs, exist: k.exist}
	if w.shape.alters {
		e.regs = slices.Clone(e.regs)
		k.behind = k.behind.or(k.hidden)
		e.regs[w.shape.later()] = e.regs[w.shape.later()].or(k.behind)
	}
	e.exist = e.exist.with(e.id)
	k.exist = e.exist
	x.log = append(x.log, mutation{key: key, op: "D", cols: ^change.Bits(0), at: x.d.now().UnixMilli(), weight: w.weightOf(x.rows[key])})
	x.by = append(x.by, []*event{e})
	x.events = append(x.events, e)
	x.rows[key], x.know[key] = nil, k
}

// insert writes a whole row, over one that is there or not.
func (x *txn) insert(key string) {
	w := x.d.w
	v, own := x.freshRow(), x.d.columns()
	args := append(w.shape.keyValues(key), v[:len(own)]...)
	names := w.shape.key.columns
	into := " INTO notes(" + names + ", " + strings.Join(own, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(args)-1) + ")"
	how := "INSERT"
	switch {
	case x.rows[key] != nil && w.chance(.5), w.chance(.1):
		how = "INSERT OR REPLACE"
	case x.rows[key] != nil || w.chance(.1):
		x.run("INSERT"+into+" ON CONFLICT("+names+") DO UPDATE SET "+setAll(own), args...)
		how = "upsert"
	}
	if how != "upsert" {
		x.run(how+into, args...)
	} else if old := x.rows[key]; old != nil {
		x.wrote("U", key, v, x.changed(old, v))
		return
	}
	x.wrote("I", key, v, x.d.written())
}

// setAll sets columns to what an INSERT brings.
func setAll(names []string) string {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = n + " = excluded." + n
	}
	return strings.Join(parts, ", ")
}

// changed returns the registers whose values differ.
func (x *txn) changed(old []*event, values []change.Value) (regs change.Bits) {
	for r, cols := range x.d.w.shape.regs {
		if old[r] == nil {
			continue
		}
		if old[r].text != textOf(pick(values, cols)) {
			regs |= change.Bit(r)
		}
	}
	return regs
}

func (x *txn) remove(key string) {
	s := x.d.w.shape
	x.run("DELETE FROM notes WHERE "+s.key.where, s.keyValues(key)...)
	x.gone(key)
}

// rename gives a row another key, and other values: a delete and an insert.
func (x *txn) rename(key string) {
	w := x.d.w
	var free []string
	for _, k := range w.shape.keys {
		if x.rows[k] == nil {
			free = append(free, k)
		}
	}
	if len(free) == 0 {
		x.update(key)
		return
	}
	to := free[w.rng.IntN(len(free))]
	v, own := x.freshRow(), x.d.columns()
	args := append(append(w.shape.keyValues(to), v[:len(own)]...), w.shape.keyValues(key)...)
	x.run("UPDATE notes SET "+strings.ReplaceAll(w.shape.key.where, " AND", ",")+", "+strings.Join(own, " = ?, ")+" = ? WHERE "+w.shape.key.where, args...)
	x.gone(key)
	x.wrote("I", to, v, x.d.written())
}

// valuesOf returns a row's values.
func (x *txn) valuesOf(key string) []change.Value {
	values := make([]change.Value, len(columns))
	for r, cols := range x.d.w.shape.regs {
		if x.rows[key][r] == nil {
			continue
		}
		for i, c := range cols {
			values[c] = x.rows[key][r].values[i]
		}
	}
	return values
}

// update writes some columns.
func (x *txn) update(key string) {
	w := x.d.w
	v := x.valuesOf(key)
	var set []string
	var args []change.Value
	put := func(c int, alone bool) {
		v[c] = x.fresh(c, alone)
		set, args = append(set, columns[c]+" = ?"), append(args, v[c])
	}
	for len(set) == 0 {
		for r, cols := range w.shape.regs {
			if !x.d.written().Has(r) {
				continue
			}
			told := false
			for _, c := range cols {
				if c == weightColumn && len(cols) > 1 {
					if told && w.chance(.4) { // beside a value that tells the version
						put(c, false)
					}
					continue
				}
				if w.chance(.35) {
					put(c, len(cols) == 1)
					told = true
				}
			}
		}
	}
	old := x.rows[key]
	x.run("UPDATE notes SET "+strings.Join(set, ", ")+" WHERE "+w.shape.key.where, append(args, w.shape.keyValues(key)...)...)
	x.wrote("U", key, v, x.changed(old, v))
}

// all writes a column of all rows in one statement.
func (x *txn) all() {
	w := x.d.w
	const col = 2
	prefix := x.fresh(col, true).(string) + ":"
	x.run("UPDATE notes SET c = ? || "+w.shape.key.text, prefix)
	for _, key := range w.shape.keys {
		if x.rows[key] == nil {
			continue
		}
		v := x.valuesOf(key)
		v[col] = prefix + w.shape.keyText(key)
		x.wrote("U", key, v, x.changed(x.rows[key], v))
	}
}

// keyText is what the key's SQL text says of a row.
func (s shape) keyText(key string) (text string) {
	for _, v := range s.keyValues(key) {
		if b, ok := v.([]byte); ok {
			v = fmt.Sprintf("%X", b)
		}
		text += fmt.Sprint(v)
	}
	return text
}

// readLog compares what the triggers logged with what was done, and takes the LSNs.
func (x *txn) readLog() {
	w := x.d.w
	found := make([]bool, len(x.log))
	err := x.d.app.Query(`SELECT lsn, op, +pk, cols FROM _velosync_wal WHERE lsn > ?`+notesOnly+` ORDER BY lsn`, []change.Value{int64(x.d.last)}, func(v []change.Value) error {
		lsn, op, key, cols := change.LSN(v[0].(int64)), v[1].(string), w.name(v[2]), change.Bits(v[3].(int64))
		for i := range x.log {
			m := &x.log[i]
			if !found[i] && m.op == op && m.key == key && m.cols == cols {
				found[i], m.lsn = true, lsn
				return nil
			}
		}
		return fmt.Errorf("the log has %s %s %b at lsn %d, which was not done", op, key, cols, lsn)
	})
	w.must(err, fmt.Sprintf("%s after %s", x.d, strings.Join(x.said, "; ")))
	for i, m := range x.log {
		if !found[i] {
			w.fail("%s: %s %s is not in the log", x.d, m.op, m.key)
		}
	}
}
