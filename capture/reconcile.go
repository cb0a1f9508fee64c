package capture

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A Comparison finds out what a master lacks that was restored from an older copy. The
// master sends fingerprints of its rows, page by page; Finish compares this file with them
// and logs what differs, to be pushed back.
//
//	c, err := d.Compare(common)
//	for !c.Done() {
//		pull := … // the answer to c.Request(name, now)
//		err = c.Add(pull)
//	}
//	rows, err := c.Finish()
type Comparison struct {
	d      *Device
	common change.Seq
	at     State         // as it began
	space  change.Schema // the space's, as the master has it
	epochs []change.Epoch
	to     change.Seq
	pages  int
	done   bool
}

// Compare begins a comparison. common is the last seq that this file and the master have
// in common, as the master said.
func (d *Device) Compare(common change.Seq) (*Comparison, error) {
	c := &Comparison{d: d}
	var err error
	if c.at, err = d.State(); err != nil {
		return nil, err
	}
	c.common = max(0, min(common, c.at.Seen))
	if c.space, err = d.space(); err != nil {
		return nil, err
	}
	// A key's kind is part of it: to SQLite 1 and 1.0 are equal.
	err = d.c.Script(`CREATE TEMP TABLE IF NOT EXISTS _velosync_theirs(tbl, kind, pk, prints BLOB, old, PRIMARY KEY (tbl, kind, pk)) WITHOUT ROWID;
		DELETE FROM temp._velosync_theirs`)
	if err != nil {
		return nil, fmt.Errorf("compare with the master: %w", err)
	}
	return c, nil
}

// Done reports whether the last page has come.
func (c *Comparison) Done() bool { return c.done }

// Request returns the request for the next page; now is the device's clock in unix
// milliseconds.
func (c *Comparison) Request(name change.Name, now int64) *change.Push {
	p := &change.Push{Device: c.at.Device, Names: []change.Name{name}, Seen: c.common, Now: now, Paging: true, Page: c.to, Compare: true}
	if c.space != nil {
		p.Known = c.space.Digest()
	}
	return p
}

// Add takes a page. ErrMoved: the master was opened again meanwhile, compare anew.
func (c *Comparison) Add(pull *change.Pull) error {
	if c.pages > 0 && !slices.Equal(c.epochs, pull.Epochs) || pull.To < c.to {
		return ErrMoved
	}
	if !pull.Done && pull.To == c.to {
		return fmt.Errorf("a page of the comparison ends at seq %d, where it began", pull.To)
	}
	if pull.Tables != nil {
		c.space = pull.Tables
	}
	err := c.d.c.ReadTx(func() error {
		for i := range pull.Blocks {
			if err := c.block(&pull.Blocks[i]); err != nil {
				return fmt.Errorf("block %d: %w", i, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("a page of the comparison: %w", err)
	}
	c.epochs, c.to, c.done = pull.Epochs, pull.To, pull.Done
	c.pages++
	return nil
}

func (c *Comparison) block(b *change.Block) error {
	if b.Table < 0 || b.Table >= len(c.space) {
		return fmt.Errorf("names table %d of a space of %d", b.Table, len(c.space))
	}
	registers := len(c.space[b.Table].Registers())
	if !b.Delete && len(b.Columns) != registers+1 {
		return fmt.Errorf("table %q: %d columns, its %d registers want one more", c.space[b.Table].Name, len(b.Columns), registers)
	}
	for i, key := range b.Keys {
		if b.Delete {
			if _, err := c.d.c.Exec(`DELETE FROM temp._velosync_theirs WHERE tbl = ? AND kind = ? AND pk = ?`, int64(b.Table), kindOf(key), key); err != nil {
				return err
			}
			continue
		}
		prints := make([]byte, 0, 8*registers)
		for r := range registers {
			x, ok := b.Columns[r][i].(int64)
			if !ok {
				return fmt.Errorf("row %d: a fingerprint is %T", i, b.Columns[r][i])
			}
			prints = appendPrint(prints, x)
		}
		if _, err := c.d.c.Exec(`INSERT OR REPLACE INTO temp._velosync_theirs(tbl, kind, pk, prints, old) VALUES (?, ?, ?, ?, ?)`,
			int64(b.Table), kindOf(key), key, prints, b.Columns[registers][i]); err != nil {
			return err
		}
	}
	return nil
}

func appendPrint(b []byte, x int64) []byte {
	for i := range 8 {
		b = append(b, byte(x>>(8*i)))
	}
	return b
}

// kindOf is a letter for a value's type.
func kindOf(v change.Value) string {
	switch v.(type) {
	case int64:
		return "i"
	case float64:
		return "r"
	case string:
		return "t"
	}
	return "b"
}

// Finish gives the file a new id, makes all that is pending as old as what both sides have
// in common, and logs what differs: rows and registers that the master lacks or has in
// another version, and rows that this file lacks although it can have seen them. It is one
// transaction; until the next pull the file remembers what it was compared with. It
// returns how many rows were logged. With ErrMoved, or any other error, nothing changed.
func (c *Comparison) Finish() (rows int, err error) {
	if !c.done {
		return 0, errors.New("the comparison is not complete")
	}
	d := c.d
	id, err := change.NewDeviceID(d.o.Random)
	if err != nil {
		return 0, err
	}
	err = d.c.Tx(func() error {
		s, err := d.State()
		if err != nil {
			return err
		}
		if s.Device != c.at.Device || s.Seen != c.at.Seen {
			return ErrMoved
		}
		if watched, err := d.watched(); err != nil {
			return err
		} else if !watched {
			return ErrMoved
		}
		if err := d.refresh(); err != nil {
			return err
		}
		if _, err := d.fresh(s.Seen); err != nil {
			return err // a column that has no place among the registers yet
		}
		// A second restore before the next pull: what the rows show is still from the first.
		var was int64
		if _, err := d.c.Row(`SELECT was FROM _velosync_sync`, nil, &was); err != nil {
			return err
		}
		r := reconciling{Comparison: c, was: max(was, int64(s.Seen))}
		if err := r.readPending(); err != nil {
			return err
		}
		if err := r.lower(); err != nil {
			return err
		}
		for _, t := range d.tables {
			if err := r.table(t); err != nil {
				return fmt.Errorf("table %q: %w", t.d.Name, err)
			}
		}
		rows = r.rows
		return r.move(id)
	})
	if err != nil {
		return 0, fmt.Errorf("reconcile with the master: %w", err)
	}
	return rows, nil
}

// Close forgets what the master sent. It may be called twice.
func (c *Comparison) Close() error {
	return c.d.c.Script(`DELETE FROM temp._velosync_theirs`)
}

// A reconciling is a Finish under way.
type reconciling struct {
	*Comparison
	was     int64 // seen before the restore
	pending map[rowKey]pendingRow
	rows    int
}

func (r *reconciling) readPending() error {
	var err error
	r.pending, err = r.d.readPending(0, r.at.Acked)
	return err
}

// lower makes what is pending as old as what both sides have in common.
func (r *reconciling) lower() error {
	for _, table := range []string{"_velosync_wal", "_velosync_under"} {
		if _, err := r.d.c.Exec(`UPDATE `+table+` SET seen = ?1 WHERE seen > ?1`, int64(r.common)); err != nil {
			return err
		}
	}
	return nil
}

// A comparedTable is a table of this file beside the space's of the same name.
type comparedTable struct {
	t         *table
	place     int64         // in the space's schema; -1: the master lacks it
	registers [][]int       // the space's, as positions in t's columns; nil where this file lacks a column
	mine      []change.Bits // what this file has of each
}

func (r *reconciling) pair(t *table) comparedTable {
	p := comparedTable{t: t, place: -1}
	for i := range r.space {
		def := &r.space[i]
		if !equalFold(def.Name, t.d.Name) {
			continue
		}
		p.place = int64(i)
		for _, theirs := range def.Registers() {
			cols, mine := make([]int, 0, len(theirs)), change.Bits(0)
			for _, c := range theirs {
				if at := t.d.Find(def.Columns[c].Name); at >= 0 {
					cols = append(cols, at)
					mine |= change.Bit(t.registerOf(at))
				}
			}
			if len(cols) < len(theirs) {
				cols = nil
			}
			p.registers, p.mine = append(p.registers, cols), append(p.mine, mine)
		}
	}
	return p
}

// table compares a table: its rows here, then those of the master that it lacks.
func (r *reconciling) table(t *table) error {
	d, p := r.d, r.pair(t)
	names := make([]string, len(t.d.Columns))
	for i, c := range t.d.Columns {
		names[i] = plain(vsql.Quote(c.Name))
	}
	var prints change.Fingerprinter
	err := d.c.Query(fmt.Sprintf("SELECT %s, %s FROM %s WHERE (%s) IS NOT NULL", plain(t.d.KeyExpression("")), strings.Join(names, ", "),
		vsql.Quote(t.d.Name), strings.Join(t.keyColumns(), " IS NOT NULL AND ")), nil, func(v []change.Value) error {
		return r.row(&p, v[0], v[1:], &prints)
	})
	if err != nil || p.place < 0 {
		return err
	}
	return d.c.Query(`SELECT pk FROM temp._velosync_theirs WHERE tbl = ? AND old = 1`, []change.Value{p.place}, func(v []change.Value) error {
		return r.lacking(t, v[0])
	})
}

// row compares a row that is here.
func (r *reconciling) row(p *comparedTable, key change.Value, values []change.Value, prints *change.Fingerprinter) error {
	d, t := r.d, p.t
	k := keyFor(t.id, key)
	pending := r.pending[k]
	var theirs []byte
	found := false
	if p.place >= 0 {
		var err error
		found, err = d.c.Row(`SELECT prints FROM temp._velosync_theirs WHERE tbl = ? AND kind = ? AND pk = ?`, []change.Value{p.place, kindOf(key), key}, &theirs)
		if err != nil {
			return err
		}
	}
	if !found { // pushed back whole, with what is pending on top
		if all := change.AllBits(len(t.registers)); pending.cols&all == all {
			return nil // which is all of it
		}
		return r.log(k, ^change.Bits(0))
	}
	if len(theirs) != 8*len(p.registers) {
		return errors.New("the master's tables changed while they were compared")
	}
	parked, err := r.parked(p, k, theirs, prints)
	if err != nil {
		return err
	}
	added := pending.count.added(t, pending.cols) // counters, of which is pending what was added to what both had
	hidden := pending.cols&^added | parked
	var differ change.Bits
	for i, cols := range p.registers {
		switch {
		case p.mine[i]&^hidden == 0:
			continue
		case cols == nil: // the fingerprint is of more than this file has: let the master compare
			differ |= p.mine[i]
			continue
		}
		own := make([]change.Value, len(cols))
		for j, c := range cols {
			own[j] = values[c]
			if r := t.registerOf(c); added.Has(r) {
				if own[j], err = pending.count.onto(values[c], r, true); err != nil {
					return err
				}
			}
		}
		if string(appendPrint(nil, prints.Of(own))) != string(theirs[8*i:8*i+8]) {
			differ |= p.mine[i]
		}
	}
	if differ &^= hidden; differ == 0 {
		return nil
	}
	return r.log(k, differ)
}

// parked returns the registers of a row that wait, since this file could not take them,
// and are what the master has. Others that wait are of the lost history: they are
// forgotten, and what the row shows is compared.
func (r *reconciling) parked(p *comparedTable, k rowKey, theirs []byte, prints *change.Fingerprinter) (change.Bits, error) {
	d := r.d
	var held int64
	var op, text string
	found, err := d.c.Row(`SELECT cols, op, coalesce(vals, '{}') FROM _velosync_parked WHERE tbl = ? AND pk = ?`, []change.Value{k.tbl, k.value()}, &held, &op, &text)
	if err != nil || !found {
		return 0, err
	}
	same := op == "U"
	if same {
		row, err := decodeRow(text)
		if err != nil {
			return 0, err
		}
		for i, cols := range p.registers {
			if cols == nil || p.mine[i]&change.Bits(held) == 0 {
				continue
			}
			values := make([]change.Value, len(cols))
			for j, c := range cols {
				values[j] = row[p.t.d.Columns[c].Name]
			}
			same = same && string(appendPrint(nil, prints.Of(values))) == string(theirs[8*i:8*i+8])
		}
	}
	if same {
		return change.Bits(held), nil
	}
	_, err = d.c.Exec(`DELETE FROM _velosync_parked WHERE tbl = ? AND pk = ?`, k.tbl, k.value())
	return 0, err
}

// lacking logs a row of the master's that this file can have seen and lacks: it was
// deleted in the lost history. One that waits here, since this file could not take it, was
// not.
func (r *reconciling) lacking(t *table, key change.Value) error {
	k := keyFor(t.id, key)
	if _, pending := r.pending[k]; pending {
		return nil
	}
	here, err := r.d.exists(t, key)
	if err != nil || here {
		return err
	}
	var n int
	waits, err := r.d.c.Row(`SELECT 1 FROM _velosync_parked WHERE tbl = ? AND pk = ? AND op = 'U'`, []change.Value{t.id, key}, &n)
	if err != nil || waits {
		return err
	}
	return r.log(k, ^change.Bits(0))
}

func (r *reconciling) log(k rowKey, regs change.Bits) error {
	r.rows++
	_, err := r.d.c.Exec(`INSERT INTO _velosync_wal(tbl, op, pk, cols, seen, at) VALUES (?, 'B', ?, ?, ?, ?)`, k.tbl, k.value(), int64(regs), int64(r.common), r.was)
	return err
}

// move gives the file its new id and writes down what it was compared with.
func (r *reconciling) move(id change.DeviceID) error {
	d := r.d
	// What a push without an answer carried, the restored master may have.
	if _, err := d.c.Exec(`UPDATE _velosync_state SET seen = ?, doubt = max(doubt, coalesce((SELECT max(through) FROM _velosync_name), 0))`, int64(r.common)); err != nil {
		return err
	}
	if err := d.rename(id); err != nil {
		return err
	}
	if err := d.setEpochs(r.epochs, r.to); err != nil {
		return err
	}
	// The master gives the ids and seqs of lost conflicts again.
	if _, err := d.c.Exec(`UPDATE _velosync_conflict SET master_id = NULL WHERE seq > ?`, int64(r.common)); err != nil {
		return err
	}
	_, err := d.c.Exec(`UPDATE _velosync_sync SET was = ?, compared = ?`, r.was, int64(r.to))
	return err
}
