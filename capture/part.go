package capture

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// Limits bound a part of a push. The zero value is ready to use.
type Limits struct {
	// Rows is the most rows of a part. Zero means 5,000.
	Rows int
	// Bytes is the most bytes of a part's values; a row that has more is held back, and
	// told. Zero means 6 MiB, which a body of 8 MiB holds even where nothing compresses.
	Bytes int
}

func (l Limits) defaults() Limits {
	if l.Rows <= 0 {
		l.Rows = 5000
	}
	if l.Bytes <= 0 {
		l.Bytes = 6 << 20
	}
	return l
}

// A HeldRow is a pending row that can't be shipped as it is.
type HeldRow struct {
	Table  string
	Key    change.Value
	Reason string
}

var errStopped = errors.New("stopped")

// Parts yields the push, in parts that follow each other; the last has More unset. All of
// them read one state of the file: the log and the rows that it names. It may be ranged
// over again, when the master asks for the push again, until the round is released.
func (r *Round) Parts(l Limits) iter.Seq2[*change.Push, error] {
	return func(yield func(*change.Push, error) bool) {
		r.Rows, r.Mutations, r.Held = 0, 0, nil
		clear(r.held)
		if err := r.parts(l.defaults(), yield); err != nil && err != errStopped {
			yield(nil, fmt.Errorf("read what is pending: %w", err))
		}
	}
}

func (r *Round) parts(l Limits, yield func(*change.Push, error) bool) error {
	if r.reader == nil {
		return errors.New("the round is released")
	}
	d := r.reader
	edits, err := d.pending(r.acked)
	if err != nil {
		return err
	}
	p := newPart(r, l)
	// Blocks name tables by their place among this device's, ordered by name.
	place := make(map[int64]int, len(d.tables))
	for i, t := range d.tables {
		place[t.id] = i
	}
	// What is pushed back comes first: a row that the master lost is there, then, for what
	// was written on it since.
	var list []shipping
	for _, e := range edits {
		if e.back != 0 {
			list = append(list, shipping{e, true})
		}
	}
	for _, e := range edits {
		if e.live {
			list = append(list, shipping{e, false})
		}
	}
	for _, s := range list {
		e := s.edit
		t := d.byID(e.key.tbl)
		row, err := d.readRow(t, e, s.back)
		if err != nil {
			return err
		}
		if row.skip {
			continue
		}
		if row.gone && r.lost && !(t.renumbers() && e.made > int64(r.Doubt)) { // a number that went before it was sent may be another's
			row.stamp.Made, row.stamp.Present = row.stamp.LSN, false
		}
		if row.bytes > l.Bytes {
			h := HeldRow{Table: t.d.Name, Key: e.key.value(), Reason: fmt.Sprintf("the row has %d bytes, a push takes %d", row.bytes, l.Bytes)}
			r.Held, r.held[e.key] = append(r.Held, h), true
			continue
		}
		if p.full(row.bytes) {
			if !yield(p.push(true, d.now()), nil) {
				return errStopped
			}
			p = p.next()
		}
		p.add(place[t.id], row, s)
		r.Rows++
		if !s.back || !e.live {
			r.Mutations += e.mutations
		}
	}
	if !yield(p.push(false, d.now()), nil) {
		return errStopped
	}
	return nil
}

// A shipping is an edit on its way out: what of it is pushed back, or the application's.
type shipping struct {
	*edit
	back bool
}

// A shippedRow is an edit with the values that the row has now.
type shippedRow struct {
	gone   bool
	skip   bool
	regs   change.Bits
	values []change.Value // of regs' columns
	steps  []change.Step
	stamp  change.EditStamp
	bytes  int
}

func (d *Device) readRow(t *table, e *edit, back bool) (shippedRow, error) {
	all := change.AllBits(len(t.registers))
	row := shippedRow{regs: e.liveCols}
	if back {
		row.regs = e.pushedBack(t)
	}
	found, weight, err := d.readBy(t, t.selectRegisters(row.regs), e.key.value(), func(v []change.Value) {
		row.values = slices.Clone(v)
	})
	if err != nil {
		return row, fmt.Errorf("read row %v of %q: %w", e.key.value(), t.d.Name, err)
	}
	switch {
	case back && !found && e.live, back && found && row.regs == 0:
		row.skip = true // the application has deleted the row, or written over all of it, since
		return row, nil
	case !found:
		row.gone, row.regs, row.values = true, all, nil
		row.stamp = e.stamp(all)
		weight = e.weight
	case e.evicted, !back && row.regs == 0:
		row.skip = true // the REPLACE that was announced did not happen, or all of it is pushed back
		return row, nil
	default:
		e.lowerBlind()
		row.stamp = e.stamp(row.regs)
	}
	if t.renumbers() {
		row.stamp.Made, row.stamp.Present = change.LSN(e.made), e.present
	}
	if err := t.readCounters(e, &row, back); err != nil {
		return row, fmt.Errorf("row %v of %q: %w", e.key.value(), t.d.Name, err)
	}
	row.bytes = 64 + vsql.Size(e.key.value()) + 16*len(row.steps)
	for i := range row.steps {
		row.bytes += len(row.steps[i].Element)
	}
	for _, v := range row.values {
		row.bytes += vsql.Size(v)
	}
	if back {
		row.stamp = e.backStamp(row.regs)
		return row, nil
	}
	w, err := change.WeightOf(weight)
	if err != nil {
		w = 0 // written while no trigger watched; a weight that says nothing outranks nothing
	}
	row.stamp.Weight, row.stamp.Steps = w, row.steps
	return row, nil
}

// readColumns hands the values of a row's columns, and its weight, to f.
func (d *Device) readColumns(t *table, pk change.Value, cols []int, f func([]change.Value)) (found bool, weight change.Value, err error) {
	return d.readBy(t, t.selectRow(cols), pk, f)
}

// readBy is readColumns with a query of selectRow.
func (d *Device) readBy(t *table, query string, pk change.Value, f func([]change.Value)) (found bool, weight change.Value, err error) {
	key, err := change.SplitKey(pk, len(t.d.Key))
	if err != nil {
		return false, nil, err
	}
	err = d.c.Query(query, key, func(v []change.Value) error {
		// The key's index may call another key equal (NOCASE): the row is this one by its bytes.
		if !sameKeyValue(v[0], pk) {
			return nil
		}
		found, weight = true, v[1]
		f(v[2:])
		return nil
	})
	return found, weight, err
}

// selectRegisters is selectRow of the columns of some registers. A push reads row by row,
// and most rows ask for the same: so the last one is kept.
func (t *table) selectRegisters(regs change.Bits) string {
	if t.selected == "" || t.selectedRegs != regs {
		t.selected, t.selectedRegs = t.selectRow(change.ColumnsOf(t.registers, regs)), regs
	}
	return t.selected
}

// selectRow reads key, weight and columns of the row with a key.
func (t *table) selectRow(cols []int) string {
	weight := "NULL"
	if t.weight >= 0 {
		weight = plain(vsql.Quote(t.d.Columns[t.weight].Name))
	}
	q := "SELECT " + plain(t.d.KeyExpression("")) + ", " + weight
	for _, c := range cols {
		q += ", " + plain(vsql.Quote(t.d.Columns[c].Name))
	}
	return q + " FROM " + vsql.Quote(t.d.Name) + " WHERE " + vsql.KeyCondition(&t.d.Table)
}

// A part collects rows into blocks.
type part struct {
	r      *Round
	l      Limits
	n      int
	rows   int
	bytes  int
	blocks []*change.Block
	at     map[blockKey]*change.Block
}

type blockKey struct {
	table int
	gone  bool
	back  bool
	regs  change.Bits
}

func newPart(r *Round, l Limits) *part {
	return &part{r: r, l: l, at: make(map[blockKey]*change.Block)}
}

func (p *part) next() *part {
	n := newPart(p.r, p.l)
	n.n = p.n + 1
	return n
}

func (p *part) full(bytes int) bool {
	return p.rows > 0 && (p.rows >= p.l.Rows || p.bytes+bytes > p.l.Bytes)
}

func (p *part) add(table int, row shippedRow, e shipping) {
	k := blockKey{table, row.gone, e.back, row.regs}
	b := p.at[k]
	if b == nil {
		b = &change.Block{Table: table, Delete: row.gone}
		if !row.gone {
			b.Regs = row.regs
			b.Columns = make([][]change.Value, len(row.values))
		}
		p.at[k] = b
		p.blocks = append(p.blocks, b)
	}
	b.Keys = append(b.Keys, e.key.value())
	for i, v := range row.values {
		b.Columns[i] = append(b.Columns[i], v)
	}
	b.Stamps = append(b.Stamps, row.stamp)
	p.rows++
	p.bytes += row.bytes
}

// push returns the part as it is sent; now is the device's clock in unix milliseconds, which
// the master compares with its own as the last part comes.
func (p *part) push(more bool, now int64) *change.Push {
	r := p.r
	push := &change.Push{
		Device:   r.Device,
		Names:    r.Names,
		Epochs:   r.Epochs,
		Compared: r.Compared,
		Doubt:    r.Doubt,
		Seen:     r.Seen,
		Through:  r.Through,
		Now:      now,
		Schema:   r.Tables.Digest(),
		Fresh:    r.Fresh,
		Renames:  r.Renames,
		Part:     p.n,
		More:     more,
	}
	if r.Space != nil {
		push.Known = r.Space.Digest()
	}
	for _, b := range p.blocks {
		push.Blocks = append(push.Blocks, *b)
	}
	return push
}

// Page returns the request for the page of the round's pull that follows seq; now is the device's clock in unix milliseconds.
func (r *Round) Page(seq change.Seq, now int64) *change.Push {
	p := newPart(r, Limits{}).push(false, now)
	p.Paging, p.Page = true, seq
	return p
}
