package capture

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// ErrAgain reports a pull that could not be laid under rows written since the push:
// together they break a constraint. Nothing was applied; the next round pushes those rows
// first.
var ErrAgain = errors.New("capture: a pulled row meets one written since the push: sync again")

// Applied counts what Finish did.
type Applied struct {
	Seen      change.Seq
	Acked     change.LSN
	Rows      int // rows inserted, updated or deleted
	Deleted   int
	Lost      int // conflicts that this device lost
	Rejected  int // of them, rows that the master could not take
	Parked    int // rows that this file could not take, in all
	Tried     int // how often one of these was written to see whether it stands
	NewTables []string
}

// Finish applies the answer of a round in one transaction: it forgets the log rows that
// the master has applied, lays the pulled columns under what is still pending, writes down
// the conflicts, and moves seen. pulls yields the pages of the pull in order, anew each time
// that it is ranged over: where rows break foreign keys, the pull is applied again without them.
//
// With ErrMoved, ErrAgain or any other error nothing was applied. park says to park rows
// that meet a constraint rather than to return ErrAgain.
func (d *Device) Finish(r *Round, pulls iter.Seq2[*change.Pull, error], park bool) (Applied, error) {
	restore, err := d.foreignKeysOff()
	if err != nil {
		return Applied{}, fmt.Errorf("apply: %w", err)
	}
	var a *applier
	refused := make(map[rowKey]string)
	for {
		a = &applier{d: d, r: r, park: park, refused: refused, notices: make(map[rowKey]bool),
			before: make(map[rowKey]*beforeRow), laid: make(map[rowKey][]underRow), parked: make(map[rowKey]bool), partial: make(map[rowKey]bool),
			waiting: make(map[rowKey]*pulledRow), foreign: foreignCheck{d: d}}
		err = d.c.Tx(func() error { return d.quietly(func() error { return a.run(pulls) }) })
		d.notes = nil
		var broken *brokenKeysError
		if !errors.As(err, &broken) {
			break
		}
		maps.Copy(refused, broken.rows) // each time more of the pull's rows, so this ends
	}
	if err = errors.Join(err, restore()); err != nil {
		return Applied{}, fmt.Errorf("apply: %w", err)
	}
	return a.result, nil
}

// foreignKeysOff turns enforcement off while a batch is applied: with it on, a pulled
// delete of a parent would cascade into this device's unsent children, unlogged, and they
// would ship as deletes. The keys that the batch touches are checked before the commit.
func (d *Device) foreignKeysOff() (restore func() error, err error) {
	var on bool
	if _, err := d.c.Row(`SELECT foreign_keys FROM pragma_foreign_keys`, nil, &on); err != nil {
		return nil, err
	}
	if !on {
		return func() error { return nil }, nil
	}
	if err := d.c.Script("PRAGMA foreign_keys = OFF"); err != nil {
		return nil, err
	}
	return func() error { return d.c.Script("PRAGMA foreign_keys = ON") }, nil
}

// An applier applies one answer.
type applier struct {
	d      *Device
	r      *Round
	park   bool
	result Applied

	seen    change.Seq            // before
	later   map[rowKey]pendingRow // written since the push
	refused map[rowKey]string     // pulled rows that break foreign keys here, and why: parked
	notices map[rowKey]bool       // rejected by the master: parked whole
	before  map[rowKey]*beforeRow // rows with something pending that this pull wrote: as they were
	laid    map[rowKey][]underRow // rows whose _velosync_under was lowered here, with what stood there
	parked  map[rowKey]bool       // rows in _velosync_parked
	partial map[rowKey]bool       // rows of which a page brought a part, and this file has none
	retry   []*pulledRow          // rows that met a UNIQUE constraint: exchanged at the end
	waiting map[rowKey]*pulledRow // of retry
	targets []target              // by place in the space's schema
	empty   map[int64]bool        // tables that had no rows before the pull; of a snapshot
	quiet   []*table              // of them, those whose triggers are away
	foreign foreignCheck
	awaited []event               // what the parked row waits for that was tried last
	blocked map[rowKey]bool       // parked deletes that need not be tried alone
	fresh   map[int64]change.Bits // by table: registers that this pull brings from their beginning
	full    bool
	last    *change.Pull
}

// A target is where a table of the space goes here.
type target struct {
	t *table
	// cols maps places in the space's columns to places in this device's; -1: it has not it.
	cols      []int
	registers [][]int // of the space's table, positions in its columns
}

// A pulledRow is one row of a block.
type pulledRow struct {
	key    rowKey
	t      *table
	regs   change.Bits
	all    bool           // regs are all registers
	cols   []int          // positions in t.d.Columns
	values []change.Value // of cols
}

func (a *applier) run(pulls iter.Seq2[*change.Pull, error]) error {
	d := a.d
	if err := a.check(); err != nil {
		return err
	}
	if _, err := d.c.Exec(`UPDATE _velosync_state SET applying = 1`); err != nil {
		return err
	}
	if follows, err := d.followed(); err != nil {
		return err
	} else if follows {
		d.notes = &feedNotes{at: make(map[rowKey]bool)}
	}
	tables, err := d.Tables()
	if err != nil {
		return err
	}
	if tables.Digest() != a.r.Tables.Digest() {
		return ErrMoved // the pull speaks of the tables as they were
	}
	a.fresh = a.freshRegisters()
	if err := a.readLater(); err != nil {
		return err
	}
	if err := a.readParked(); err != nil {
		return err
	}
	if len(a.r.Renames) == 0 { // else the pull brings the tables under their new names
		if err := a.setTables(a.r.Space); err != nil {
			return err
		}
	}
	for pull, err := range pulls {
		if err != nil {
			return err
		}
		if err := a.page(pull); err != nil {
			return err
		}
	}
	if a.last == nil || !a.last.Done {
		return errors.New("the pull is not complete")
	}
	steps := []func() error{a.exchange, a.forgetUnnamed, a.foreign.act, a.retryParked, a.parkPartial, a.hear, a.checkForeignKeys, a.tell, a.prune, a.hold, a.move}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// check is stands, and remembers what the device had seen.
func (a *applier) check() error {
	a.seen = a.r.Seen
	return a.d.stands(a.r)
}

func (a *applier) readLater() error {
	var err error
	a.later, err = a.d.readPending(a.r.Through, a.r.Through)
	return err
}

// setTables takes the space's schema: it makes the tables that this file lacks, and finds
// where each table's columns are here.
func (a *applier) setTables(space change.Schema) error {
	d := a.d
	for i := range space {
		made, err := d.adopt(&space[i])
		if err != nil {
			return err
		}
		if made {
			a.result.NewTables = append(a.result.NewTables, space[i].Name)
		}
	}
	if err := d.refresh(); err != nil {
		return err
	}
	a.targets = make([]target, len(space))
	for i := range space {
		t, err := d.find(space[i].Name)
		if err != nil {
			return err
		}
		g := target{t: t, registers: space[i].Registers(), cols: make([]int, len(space[i].Columns))}
		for j, c := range space[i].Columns {
			g.cols[j] = t.d.Find(c.Name) // -1: it was dropped since the space was told of it
		}
		a.targets[i] = g
	}
	return nil
}

// findEmpty finds the tables that are empty before anything is written. A snapshot need not
// remember which of their rows it names. And it fills them without our triggers, which have
// nothing to say: that they are there costs SQLite a third of an insert's time, for the
// journal that a statement with triggers keeps. Nobody else can write meanwhile.
func (a *applier) findEmpty() error {
	if a.empty == nil {
		a.empty = make(map[int64]bool)
	}
	for _, t := range a.d.tables {
		if _, known := a.empty[t.id]; known {
			continue
		}
		var n int
		found, err := a.d.c.Row("SELECT 1 FROM "+vsql.Quote(t.d.Name)+" LIMIT 1", nil, &n)
		if err != nil {
			return err
		}
		if a.empty[t.id] = !found; found {
			continue
		}
		if err := a.d.dropTriggers(t.d.Name); err != nil {
			return err
		}
		a.quiet = append(a.quiet, t)
	}
	return nil
}

// hear puts the triggers back that findEmpty took away.
func (a *applier) hear() error {
	for _, t := range a.quiet {
		if err := a.d.installTriggers(t); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) page(pull *change.Pull) error {
	first := a.last == nil
	if !first && a.full != pull.Full {
		return fmt.Errorf("a pull became a snapshot between two pages: %w", ErrMoved)
	}
	a.full = pull.Full
	a.last = pull
	if pull.Tables != nil {
		if err := a.setTables(pull.Tables); err != nil {
			return err
		}
		text, err := json.Marshal(pull.Tables)
		if err != nil {
			return err
		}
		if _, err := a.d.c.Exec(`UPDATE _velosync_sync SET tables = ?`, string(text)); err != nil {
			return err
		}
	}
	if a.full && first {
		if err := a.d.c.Script(`CREATE TEMP TABLE IF NOT EXISTS _velosync_named(tbl, pk, PRIMARY KEY (tbl, pk)) WITHOUT ROWID; DELETE FROM temp._velosync_named`); err != nil {
			return err
		}
	}
	if a.full && (first || pull.Tables != nil) {
		if err := a.findEmpty(); err != nil {
			return err
		}
	}
	for i := range pull.Lost {
		if err := a.lost(&pull.Lost[i]); err != nil {
			return err
		}
	}
	// Deletes first: what they free may be taken in the same page.
	for _, deletes := range []bool{true, false} {
		for i := range pull.Blocks {
			if pull.Blocks[i].Delete != deletes {
				continue
			}
			if err := a.block(&pull.Blocks[i]); err != nil {
				return fmt.Errorf("block %d: %w", i, err)
			}
		}
	}
	return nil
}

// lost writes down what a write of this device lost. A rejected row is parked whole, with
// edits made meanwhile: the row then shows the master's state.
func (a *applier) lost(c *change.Conflict) error {
	a.result.Lost++
	t, err := a.d.find(c.Table)
	if err != nil {
		return err
	}
	k := keyFor(t.id, c.Key)
	if err := a.d.keepConflict(t, c); err != nil {
		return fmt.Errorf("conflict on %q: %w", c.Table, err)
	}
	if c.Kind == change.Rejected {
		a.result.Rejected++
		a.notices[k] = true
		delete(a.later, k)
		_, err = a.d.c.Exec(`DELETE FROM _velosync_under WHERE tbl = ? AND pk = ?`, t.id, c.Key)
	}
	return err
}

func (a *applier) block(b *change.Block) error {
	if b.Table < 0 || b.Table >= len(a.targets) {
		return fmt.Errorf("names table %d of a space of %d", b.Table, len(a.targets))
	}
	g := a.targets[b.Table]
	if b.Delete {
		for _, key := range b.Keys {
			if err := a.delete(g.t, key); err != nil {
				return err
			}
		}
		return nil
	}
	all := change.AllBits(len(g.registers))
	if b.Regs&^all != 0 {
		return fmt.Errorf("table %q has %d registers, the block names others", g.t.d.Name, len(g.registers))
	}
	theirs := change.ColumnsOf(g.registers, b.Regs)
	if len(theirs) != len(b.Columns) {
		return fmt.Errorf("table %q: %d columns, its registers have %d", g.t.d.Name, len(b.Columns), len(theirs))
	}
	cols := make([]int, len(theirs))
	for i, c := range theirs {
		if cols[i] = g.cols[c]; cols[i] < 0 {
			return fmt.Errorf("table %q has not all columns that the pull brings: the tables do not fit", g.t.d.Name)
		}
	}
	row := pulledRow{t: g.t, regs: b.Regs, all: b.Regs == all, cols: cols, values: make([]change.Value, len(cols))}
	w := newWriter(a.d, g.t, cols)
	for i, key := range b.Keys {
		for j := range cols {
			row.values[j] = b.Columns[j][i]
		}
		row.key = keyFor(g.t.id, key)
		if a.full && !a.empty[g.t.id] {
			if _, err := a.d.c.Exec(`INSERT OR IGNORE INTO temp._velosync_named(tbl, pk) VALUES (?, ?)`, g.t.id, key); err != nil {
				return err
			}
		}
		if err := a.update(w, &row, key); err != nil {
			return err
		}
	}
	return nil
}

// update lays a pulled row, or some of its registers, under what is pending.
func (a *applier) update(w *writer, row *pulledRow, key change.Value) error {
	later, pending := a.later[row.key]
	if a.laid[row.key] != nil { // a page before this one said that the row was deleted
		if err := a.unlay(row.key); err != nil {
			return err
		}
	}
	if !pending {
		return a.write(w, row, key)
	}
	found, err := a.d.exists(row.t, key)
	if err != nil {
		return err
	}
	if !found && later.made && row.all && row.t.renumbers() {
		went, err := a.d.forgetTransient(row.key)
		if err != nil {
			return err
		}
		if went {
			delete(a.later, row.key)
			return a.write(w, row, key)
		}
	}
	if !found {
		return nil // deleted here, and that is not shipped yet: the master will decide
	}
	if later.evicted {
		return a.write(w, row, key)
	}
	if later.made && row.all && row.t.renumbers() {
		// Two rows, not one: the push of this one is refused, and it gets another number.
		return fmt.Errorf("row %v of %q was made here and elsewhere: %w", key, row.t.d.Name, ErrAgain)
	}
	// What is pending hides what is pulled; of a counter it is added to it.
	added := later.count.added(row.t, later.cols)
	part := &pulledRow{key: row.key, t: row.t, regs: row.regs &^ (later.cols &^ added)}
	if part.regs == 0 {
		return nil
	}
	in := make(map[int]bool)
	for _, c := range change.ColumnsOf(row.t.registers, part.regs) {
		in[c] = true
	}
	for i, c := range row.cols {
		if !in[c] {
			continue
		}
		v := row.values[i]
		if r := row.t.registerOf(c); added.Has(r) {
			if v, err = later.count.onto(v, r, false); err != nil { // the master will not take it either
				return fmt.Errorf("row %v of %q: %v: %w", key, row.t.d.Name, err, ErrAgain)
			}
		}
		part.cols, part.values = append(part.cols, c), append(part.values, v)
	}
	if err := a.remember(row.t, row.key, part.cols); err != nil {
		return err
	}
	if err := a.forgetUnder(row.key, part.regs); err != nil {
		return err
	}
	return a.write(newWriter(a.d, row.t, part.cols), part, key)
}

func (a *applier) write(w *writer, row *pulledRow, key change.Value) error {
	if why := a.refused[row.key]; why != "" {
		return a.parkRow(row.t, key, row.regs, row.cols, row.values, "U", errors.New(why))
	}
	if r := a.waiting[row.key]; r != nil { // of a page before this one
		r.lay(row)
		return nil
	}
	if err := a.foreign.before(row.t, key); err != nil {
		return err
	}
	var n int64
	var err error
	if row.all {
		n, err = w.upsert(key, row.values)
	} else {
		n, err = w.update(key, row.values)
	}
	switch {
	case isConstraint(err):
		kept := *row
		kept.values = append([]change.Value(nil), row.values...)
		a.retry, a.waiting[row.key] = append(a.retry, &kept), &kept
		return nil
	case err != nil:
		return fmt.Errorf("row %v of %q: %w", key, row.t.d.Name, err)
	case n == 0 && !row.all:
		return a.keepPart(row, key)
	}
	a.foreign.after(row.t, key)
	a.result.Rows++
	delete(a.partial, row.key)
	return a.unpark(row.t, row.key, row.regs)
}

// lay puts newer registers of the same row over these.
func (r *pulledRow) lay(newer *pulledRow) {
	for i, c := range newer.cols {
		if at := slices.Index(r.cols, c); at >= 0 {
			r.values[at] = newer.values[i]
		} else {
			r.cols, r.values = append(r.cols[:len(r.cols):len(r.cols)], c), append(r.values, newer.values[i])
		}
	}
	r.regs |= newer.regs
	r.all = r.all || newer.all || r.regs == change.AllBits(len(r.t.registers))
}

// delete removes a row, unless it has pending edits: then the master will decide, and what
// the row shows is as old as it was.
func (a *applier) delete(t *table, key change.Value) error {
	k := keyFor(t.id, key)
	delete(a.partial, k)
	if r := a.waiting[k]; r != nil {
		a.retry = slices.DeleteFunc(a.retry, func(o *pulledRow) bool { return o == r })
		delete(a.waiting, k)
	}
	if err := a.unpark(t, k, change.AllBits(len(t.registers))); err != nil {
		return err
	}
	if _, pending := a.later[k]; pending {
		found, err := a.d.exists(t, key)
		if err != nil || !found {
			return err
		}
		if !a.later[k].evicted {
			if err := a.restore(t, k); err != nil {
				return err
			}
			return a.layUnder(t, k)
		}
		// The REPLACE that was announced did not happen: what is inserted later replaces nothing.
		if _, err := a.d.c.Exec(`UPDATE _velosync_wal SET steps = NULL WHERE tbl = ? AND pk = ? AND op = 'E'`, t.id, key); err != nil {
			return err
		}
	}
	if why := a.refused[k]; why != "" {
		found, err := a.d.exists(t, key)
		if err == nil && found {
			err = a.parkRow(t, key, 0, nil, nil, "D", errors.New(why))
		}
		return err
	}
	if err := a.foreign.before(t, key); err != nil {
		return err
	}
	n, err := a.d.deleteRow(t, key)
	if isConstraint(err) { // a trigger of the user's says no
		return a.parkRow(t, key, 0, nil, nil, "D", err)
	}
	if err != nil {
		return fmt.Errorf("delete row %v of %q: %w", key, t.d.Name, err)
	}
	if n > 0 {
		a.result.Rows++
		a.result.Deleted++
	}
	return nil
}

// forgetUnnamed ends a snapshot: what it does not name is gone from the space.
func (a *applier) forgetUnnamed() error {
	if !a.full {
		return nil
	}
	for _, g := range a.targets {
		if a.empty[g.t.id] {
			continue
		}
		var gone []change.Value
		key := g.t.d.KeyExpression("")
		err := a.d.c.Query(fmt.Sprintf(`SELECT %s FROM %s WHERE NOT EXISTS (SELECT 1 FROM temp._velosync_named n WHERE n.tbl = %d AND n.pk = %s)`,
			plain(key), vsql.Quote(g.t.d.Name), g.t.id, g.t.d.KeyExpression(vsql.Quote(g.t.d.Name)+".")), nil, func(v []change.Value) error {
			gone = append(gone, v[0])
			return nil
		})
		if err != nil {
			return err
		}
		for _, k := range gone {
			if a.r.held[keyFor(g.t.id, k)] {
				continue // it was not sent: the space can't know it
			}
			if err := a.delete(g.t, k); err != nil {
				return err
			}
		}
	}
	return a.d.c.Script(`DELETE FROM temp._velosync_named`)
}

// freshRegisters returns, by table, the registers with columns that no round has brought yet.
func (a *applier) freshRegisters() map[int64]change.Bits {
	if len(a.r.Fresh) == 0 {
		return nil
	}
	fresh := make(map[int64]change.Bits)
	for _, f := range a.r.Fresh {
		t := a.d.tables[f.Table]
		fresh[t.id] |= change.Bit(t.registerOf(f.Column))
	}
	return fresh
}

// hold writes down which columns the device holds from this round on. What is pending was
// written without them: it has seen nothing of those columns. Only the delete of a row knew
// of them what it knew of the row.
func (a *applier) hold() error {
	d := a.d
	for k, p := range a.later {
		regs, seen := p.cols&a.fresh[k.tbl], int64(0)
		if a.laid[k] != nil { // what stands here is from before the columns came
			regs = a.fresh[k.tbl]
		} else if regs != 0 {
			here, err := d.exists(d.byID(k.tbl), k.value())
			if err != nil {
				return err
			}
			if !here {
				seen = unlessGone
			}
		}
		if regs != 0 {
			var failed error
			regs.Each(func(r int) {
				if failed == nil {
					_, failed = d.c.Exec(`INSERT OR REPLACE INTO _velosync_under(tbl, pk, reg, seen) VALUES (?, ?, ?, ?)`, k.tbl, k.value(), int64(r), seen)
				}
			})
			if failed != nil {
				return failed
			}
		}
	}
	for _, t := range d.tables {
		if slices.Contains(a.result.NewTables, t.d.Name) && has(a.r.Space, t.d.Name) {
			continue // it was untracked here, or dropped: what others wrote before is missed
		}
		text := encodeNames(t.names(every(len(t.d.Columns))))
		if _, err := d.c.Exec(`UPDATE _velosync_table SET held = ?1, was = '{}' WHERE id = ?2 AND (held IS NOT ?1 OR was <> '{}')`, text, t.id); err != nil {
			return err
		}
	}
	return nil
}

// every returns 0, 1, … n-1.
func every(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// move moves the device's cursors to where the pull ends.
func (a *applier) move() error {
	d, to := a.d, max(a.last.To, a.seen)
	a.result.Seen, a.result.Acked = to, a.r.Through
	if _, err := d.c.Exec(`UPDATE _velosync_state SET seen = ?, acked = max(acked, ?), applying = 0`, int64(to), int64(a.r.Through)); err != nil {
		return err
	}
	if _, err := d.c.Exec(`DELETE FROM _velosync_name WHERE name <> ?`, a.r.Name[:]); err != nil {
		return err
	}
	if err := d.setEpochs(a.last.Epochs, to); err != nil {
		return err
	}
	if _, err := d.c.Row(`SELECT count(*) FROM _velosync_parked`, nil, &a.result.Parked); err != nil {
		return err
	}
	_, err := d.c.Exec(`DELETE FROM _velosync_conflict WHERE settled_at < ?`, d.now()-settledKept)
	if err == nil {
		_, err = d.c.Exec(`UPDATE _velosync_sync SET last_sync = ?, last_error = NULL, was = 0, compared = 0, rounds = rounds + 1`, d.now())
	}
	return err
}

// setEpochs writes down the master's epochs up to a seq.
func (d *Device) setEpochs(epochs []change.Epoch, to change.Seq) error {
	if _, err := d.c.Exec(`DELETE FROM _velosync_epoch`); err != nil {
		return err
	}
	for _, e := range epochs {
		if e.First > to {
			continue // nothing of it was seen
		}
		if _, err := d.c.Exec(`INSERT INTO _velosync_epoch(first, epoch) VALUES (?, ?)`, int64(e.First), e.ID[:]); err != nil {
			return err
		}
	}
	return nil
}
