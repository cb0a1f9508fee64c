package capture

import (
	"errors"
	"fmt"
	"slices"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// digestBytes bounds the values of one range.
const digestBytes = 4 << 20

// A Digest asks the master whether it holds the same as this file of a range of one table.
// Range after range, all tables come by, and begin again. Rows that no trigger has seen
// change, by an incremental blob write, a damaged disk or another program's trick, are
// found so; Finish puts the master's in their place, and keeps what was here as a conflict.
//
//	g, err := d.Digest(256)
//	pull := … // the answer to g.Request(name, now)
//	compared, err := g.Finish(pull)
type Digest struct {
	d      *Device
	pass   *Pass // that it is a part of; nil: the file says where it goes on
	at     State
	schema [32]byte
	epochs []change.Epoch
	t      *table
	r      change.RangeDigest
}

// Compared is what came of comparing a range of one table's keys.
type Compared struct {
	Table     string
	After, To change.Value // as in change.RangeDigest
	Rows      int          // here, that were compared
	Waiting   int          // rows of the table that are left out: edits of them wait
	Unknown   bool         // the master could not tell, and nothing was compared
	Differed  int          // rows that are not what the master has
	Healed    int          // of these became it; what was here is in velosync_conflicts
}

// An UncomparedError says why rows can't be compared with the master now. The next round may
// mend that.
type UncomparedError struct {
	Table  string // empty: all of them
	Reason string
}

func (e *UncomparedError) Error() string {
	if e.Table == "" {
		return "rows can't be compared with the master now: " + e.Reason
	}
	return fmt.Sprintf("rows of %q can't be compared with the master now: %s", e.Table, e.Reason)
}

// A HealError says that rows differ from the master's and stay what they are: this file does
// not take the master's.
type HealError struct {
	Table string
	Err   error
}

func (e *HealError) Error() string { return fmt.Sprintf("heal rows of %q: %v", e.Table, e.Err) }

// Unwrap returns what SQLite says, for one.
func (e *HealError) Unwrap() error { return e.Err }

// Digest reads the next range, of at most so many rows, behind the one that Finish was called
// for last. It returns nil where there is nothing to compare: no table is tracked, too much
// is pending, or a restored master is to be pulled from first.
func (d *Device) Digest(rows int) (*Digest, error) {
	if err := d.digestTable(); err != nil {
		return nil, fmt.Errorf("compare a range with the master: %w", err)
	}
	g := &Digest{d: d}
	err := g.begin(rows, func() (t *table, after change.Value, err error) {
		var tbl int64
		if _, err := d.c.Row(`SELECT tbl, pk FROM _velosync_digest`, nil, &tbl, &after); err != nil || len(d.tables) == 0 {
			return nil, nil, err
		}
		if t := d.byID(tbl); t != nil {
			return t, after, nil
		}
		return d.tables[0], nil, nil
	})
	var not *UncomparedError
	switch {
	case errors.As(err, &not) && not.Table != "": // the other tables are not to wait for it
		return nil, g.next(nil)
	case errors.As(err, &not):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("compare a range with the master: %w", err)
	case g.t == nil:
		return nil, nil
	}
	return g, nil
}

// begin reads the range that where names, the key before it with it; where may name no table.
func (g *Digest) begin(rows int, where func() (*table, change.Value, error)) error {
	d := g.d
	return d.c.ReadTx(func() (err error) {
		tables, err := d.Tables()
		if err != nil {
			return err
		}
		t, after, err := where()
		if err != nil || t == nil {
			return err
		}
		g.schema = tables.Digest()
		if g.at, err = d.State(); err != nil {
			return err
		}
		// What no trigger has logged is no rot, nor is a column that the next pull will fill.
		if watched, err := d.watched(); err != nil {
			return err
		} else if !watched {
			return &UncomparedError{Reason: "triggers are missing or stale, and writes may not be logged"}
		}
		if fresh, err := d.fresh(g.at.Seen); err == ErrMoved || len(fresh) > 0 {
			return &UncomparedError{Reason: "columns are new here, and wait for a pull to fill them"}
		} else if err != nil {
			return err
		}
		var was int64
		if _, err := d.c.Row(`SELECT was FROM _velosync_sync`, nil, &was); err != nil {
			return err
		}
		if was != 0 {
			return &UncomparedError{Reason: "the master was restored from an older copy, and nothing has been pulled since"}
		}
		if g.epochs, err = d.epochs(); err != nil {
			return err
		}
		g.t, g.r.After = t, after
		g.r.Table = slices.Index(d.tables, t)
		return g.read(rows)
	})
}

// digestTable makes the table that says how far the comparison is.
func (d *Device) digestTable() error {
	var n int
	made, err := d.c.Row(`SELECT 1 FROM main.sqlite_schema WHERE name = '_velosync_digest'`, nil, &n)
	if err != nil || made {
		return err
	}
	return d.c.Atomic("velosync_digest", func() error { return d.c.Script(vsql.Device("0006_digest.sql")) })
}

// read reads the range.
func (g *Digest) read(limit int) error {
	d, t := g.d, g.t
	waits, err := d.waiting(t)
	if err != nil {
		return err
	}
	if len(waits) > change.MostExcept {
		return &UncomparedError{t.d.Name, fmt.Sprintf("%d rows have edits that wait, at most %d can be left out", len(waits), change.MostExcept)}
	}
	for k := range waits {
		g.r.Except = append(g.r.Except, k.value())
	}
	args, err := vsql.RangeArgs(&t.d.Table, g.r.After, nil, limit+1)
	if err != nil { // the key has other columns now
		g.r.After, args = nil, []change.Value{int64(limit) + 1}
	}
	var prints change.Fingerprinter
	var last change.Value
	rows, bytes := 0, 0
	err = d.c.Query(vsql.SelectRange(&t.d.Table, t.columns(), g.r.After != nil, false), args, func(v []change.Value) error {
		if rows == limit || rows > 0 && bytes > digestBytes {
			g.r.To = last
			return errStopped
		}
		rows++
		last = v[0]
		for i := range v {
			bytes += vsql.Size(v[i])
		}
		if !waits[keyFor(t.id, v[0])] {
			g.r.Rows++
			g.r.Sum += prints.OfRow(v[0], v[1:])
		}
		return nil
	})
	if err != nil && err != errStopped {
		return err
	}
	return nil
}

// columns returns the columns of all registers, as a block has them.
func (t *table) columns() []int {
	return change.ColumnsOf(t.registers, change.AllBits(len(t.registers)))
}

// waiting returns the rows of a table that are not what the master has for a reason: what
// is written here is in the log, or what the master sent could not be taken.
func (d *Device) waiting(t *table) (map[rowKey]bool, error) {
	rows := make(map[rowKey]bool)
	err := d.c.Query(`SELECT pk FROM _velosync_wal WHERE tbl = ?1 AND op <> 'X' UNION ALL SELECT pk FROM _velosync_parked WHERE tbl = ?1
		UNION ALL SELECT pk FROM _velosync_under WHERE tbl = ?1`, []change.Value{t.id}, func(v []change.Value) error {
		rows[keyFor(t.id, v[0])] = true
		return nil
	})
	return rows, err
}

// Request returns the question to the master; now is the device's clock in unix
// milliseconds.
func (g *Digest) Request(name change.Name, now int64) *change.Push {
	return &change.Push{Device: g.at.Device, Names: []change.Name{name}, Epochs: g.epochs, Seen: g.at.Seen, Schema: g.schema, Now: now,
		Paging: true, Digest: &g.r}
}

// Finish takes the master's answer. Rows that differ, have nothing pending and did not
// change on the master since become the master's, in one transaction. With ErrMoved a round
// came between, and nothing was done; with a *HealError this file does not take the master's.
func (g *Digest) Finish(pull *change.Pull) (Compared, error) {
	found := Compared{Table: g.t.d.Name, After: g.r.After, To: g.r.To, Rows: int(g.r.Rows), Waiting: len(g.r.Except)}
	var failed error
	switch pull.Digest {
	case change.RangeUnknown:
		found.Rows, found.Unknown = 0, true
		if g.pass != nil { // which says what becomes of it
			return found, nil
		}
		return found, g.next(nil)
	case change.RangeDiffers:
		h := healing{Digest: g, to: g.r.To}
		err := h.run(pull)
		if errors.Is(err, ErrMoved) {
			return Compared{Table: found.Table}, ErrMoved
		}
		found.To, found.Rows, found.Differed, found.Healed = h.to, h.rows, h.differ, h.differ
		if err != nil {
			found.Healed, failed = 0, &HealError{g.t.d.Name, err}
		}
	}
	// Also where it failed: other ranges are not to wait for this one.
	return found, errors.Join(failed, g.next(found.To))
}

// next notes that the table is compared up to a key, nil for all of it.
func (g *Digest) next(to change.Value) error {
	if g.pass != nil {
		g.pass.next(g.t.id, to)
		return nil
	}
	d, id := g.d, g.t.id
	if to == nil && len(d.tables) > 0 { // none: the last one was untracked meanwhile
		id = d.tables[(g.r.Table+1)%len(d.tables)].id
	}
	_, err := d.c.Exec(`INSERT OR REPLACE INTO _velosync_digest(id, tbl, pk) VALUES (1, ?, ?)`, id, to)
	return err
}

// A healing puts the master's rows in the place of those that differ.
type healing struct {
	*Digest
	to     change.Value
	rows   int // of the range that are here and may be compared
	differ int
	cols   []int
	skip   map[rowKey]bool
	theirs map[rowKey][]change.Value
	keys   []change.Value // of theirs, in order
	check  foreignCheck
	retry  []change.Value // keys of rows that met a constraint
}

func (h *healing) run(pull *change.Pull) error {
	d := h.d
	if err := h.take(pull); err != nil {
		return err
	}
	restore, err := d.foreignKeysOff()
	if err != nil {
		return err
	}
	err = d.c.Tx(func() error {
		follows, err := d.followed()
		if err != nil {
			return err
		}
		if follows {
			d.notes = &feedNotes{at: make(map[rowKey]bool)}
		}
		return d.quietly(h.heal)
	})
	d.notes = nil
	return errors.Join(err, restore())
}

// take reads the master's rows of the range.
func (h *healing) take(pull *change.Pull) error {
	t := h.t
	h.cols = t.columns()
	h.theirs, h.skip = make(map[rowKey][]change.Value), make(map[rowKey]bool)
	for i := range pull.Blocks {
		b := &pull.Blocks[i]
		if b.Delete {
			for _, k := range b.Keys {
				h.skip[keyFor(t.id, k)] = true
			}
			continue
		}
		if len(b.Columns) != len(h.cols) {
			return fmt.Errorf("the master's rows have %d columns, want %d", len(b.Columns), len(h.cols))
		}
		for j, k := range b.Keys {
			row := make([]change.Value, len(h.cols))
			for c := range row {
				row[c] = b.Columns[c][j]
			}
			h.theirs[keyFor(t.id, k)] = row
			h.keys = append(h.keys, k)
		}
	}
	if !pull.Done {
		if len(h.keys) == 0 {
			return errors.New("the master's answer ends before its first row")
		}
		h.to = h.keys[len(h.keys)-1]
	}
	return nil
}

// heal runs in a transaction.
func (h *healing) heal() error {
	d, t := h.d, h.t
	s, err := d.State()
	if err != nil {
		return err
	}
	tables, err := d.Tables()
	if err != nil {
		return err
	}
	if s.Device != h.at.Device || s.Seen != h.at.Seen || tables.Digest() != h.schema {
		return ErrMoved
	}
	waits, err := d.waiting(t)
	if err != nil {
		return err
	}
	for k := range waits { // what was written since the question, too
		h.skip[k] = true
	}
	for _, k := range h.r.Except { // what is not pending any more was pushed since
		h.skip[keyFor(t.id, k)] = true
	}
	args, err := vsql.RangeArgs(&t.d.Table, h.r.After, h.to, -1)
	if err != nil {
		return err
	}
	type row struct {
		key    change.Value
		values []change.Value
	}
	var differ []row
	here := make(map[rowKey]bool)
	var prints change.Fingerprinter
	err = d.c.Query(vsql.SelectRange(&t.d.Table, h.cols, h.r.After != nil, h.to != nil), args, func(v []change.Value) error {
		k := keyFor(t.id, v[0])
		here[k] = true
		theirs, found := h.theirs[k]
		if h.skip[k] {
			return nil
		}
		h.rows++
		if !found || prints.OfRow(v[0], v[1:]) != prints.OfRow(v[0], theirs) {
			differ = append(differ, row{v[0], slices.Clone(v[1:])})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range h.keys {
		if key := keyFor(t.id, k); !here[key] && !h.skip[key] {
			differ = append(differ, row{key: k})
		}
	}
	if h.differ = len(differ); h.differ == 0 {
		return nil
	}
	if _, err := d.c.Exec(`UPDATE _velosync_state SET applying = 1`); err != nil {
		return err
	}
	h.check = foreignCheck{d: d}
	for _, r := range differ {
		if err := h.keep(r.key, r.values); err != nil {
			return err
		}
	}
	for _, deletes := range []bool{true, false} { // what they free may be taken
		for _, r := range differ {
			if h.theirs[keyFor(t.id, r.key)] == nil == deletes {
				if err := h.write(r.key); err != nil {
					return fmt.Errorf("row %v: %w", r.key, err)
				}
			}
		}
	}
	if err := h.exchange(); err != nil {
		return err
	}
	if err := h.check.act(); err != nil {
		return err
	}
	broken, err := h.check.broken()
	if err == nil && broken != "" {
		err = errors.New(broken)
	}
	if err != nil {
		return err
	}
	if err := d.tellRows(); err != nil {
		return err
	}
	_, err = d.c.Exec(`UPDATE _velosync_state SET applying = 0`)
	return err
}

// keep writes down what was here, nil where there was no row.
func (h *healing) keep(key change.Value, mine []change.Value) error {
	t := h.t
	theirs := h.theirs[keyFor(t.id, key)]
	c := change.Conflict{Seq: h.at.Seen, Device: h.at.Device, Table: t.d.Name, Key: key, Kind: change.Diverged, Rule: change.ByMaster,
		Reason:    "no write of it was logged: it was changed while no trigger watched, or the file is damaged",
		LostClock: change.Clock{change.Master: uint64(h.at.Seen)}, KeptClock: change.Clock{change.Master: uint64(h.at.Seen)},
		LostRank: change.Rank{Device: h.at.Device}}
	var prints change.Fingerprinter
	for i, col := range h.cols {
		if mine != nil && theirs != nil && prints.Of(mine[i:i+1]) == prints.Of(theirs[i:i+1]) {
			continue
		}
		c.Columns = append(c.Columns, t.d.Columns[col].Name)
		if mine != nil {
			c.Lost = append(c.Lost, mine[i])
		}
		if theirs != nil {
			c.Kept = append(c.Kept, theirs[i])
		}
	}
	if mine != nil && c.Lost == nil { // a table of keys alone
		c.Lost = []change.Value{}
	}
	if theirs != nil && c.Kept == nil {
		c.Kept = []change.Value{}
	}
	return h.d.keepConflict(t, &c)
}

// write makes a row what the master has.
func (h *healing) write(key change.Value) error {
	d, t := h.d, h.t
	if err := h.check.before(t, key); err != nil {
		return err
	}
	values := h.theirs[keyFor(t.id, key)]
	if values == nil {
		_, err := d.deleteRow(t, key)
		return err
	}
	h.check.after(t, key)
	_, err := newWriter(d, t, h.cols).upsert(key, values)
	if isConstraint(err) { // it may exchange a unique value with another row
		h.retry = append(h.retry, key)
		return nil
	}
	return err
}

// exchange takes the rows that met a constraint out, and puts them in again.
func (h *healing) exchange() error {
	d, t := h.d, h.t
	for _, key := range h.retry {
		if _, err := d.deleteRow(t, key); err != nil {
			return fmt.Errorf("row %v: %w", key, err)
		}
	}
	for _, key := range h.retry {
		row := make([]change.Value, len(t.d.Columns))
		parts, err := change.SplitKey(key, len(t.d.Key))
		if err != nil {
			return err
		}
		for i, k := range t.d.Key {
			row[k] = parts[i]
		}
		for i, c := range h.cols {
			row[c] = h.theirs[keyFor(t.id, key)][i]
		}
		if err := d.insertRow(t, row); err != nil {
			return fmt.Errorf("row %v: %w", key, err)
		}
	}
	return nil
}
