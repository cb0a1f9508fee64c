package store

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/velosync/velosync/capture/change"
)

// Sync implements Space. Errors of its own, beside those that the interface names, are a
// *LockedError and ErrClosed; others come from SQLite, and then nothing was applied and
// the space can be used again.
func (s *space) Sync(ctx context.Context, owner Owner, last *change.Push, parts iter.Seq2[*change.Push, error]) (*change.Pull, error) {
	switch {
	case len(last.Names) == 0:
		return nil, &RequestError{Reason: "a push without a name"}
	case last.Device.IsZero():
		return nil, &RequestError{Reason: "a push without a device"}
	case last.Seen < 0 || last.Through < 0 || last.Page < 0 || last.Compared < 0 || last.Doubt < 0 || last.Snapshot < 0:
		return nil, &RequestError{Reason: fmt.Sprintf("counts below 0: seen %d, through %d, page %d, compared %d", last.Seen, last.Through, last.Page, last.Compared)}
	case last.Snapshot > 0 && (!last.Paging || last.Compare):
		return nil, &RequestError{Reason: "a snapshot in what asks for no page of a pull"}
	case last.Compare && !last.Paging:
		return nil, &RequestError{Reason: "a comparison that asks for no page"}
	case last.Digest != nil && !last.Paging:
		return nil, &RequestError{Reason: "a digest beside a push"}
	case last.Digest != nil:
		return s.digest(ctx, owner, last)
	case last.Compare:
		return s.compare(ctx, owner, last)
	case last.Paging:
		return s.nextPage(ctx, owner, last)
	}
	if idle, err := s.idle(ctx, owner, last); idle || err != nil {
		if err != nil {
			return nil, err
		}
		return s.firstPage(ctx, last)
	}
	rows := last.Part * groupRows // a long push is a group of its own
	for i := range last.Blocks {
		rows += len(last.Blocks[i].Keys)
	}
	p := pushing{owner: owner, push: last, parts: parts, now: s.engine.o.Now().UnixMilli() - last.Waited}
	err := s.write(&job{ctx: ctx, rows: rows, durable: true, do: func(t *tx) error { return t.push(ctx, &p) }})
	if err != nil {
		return nil, err
	}
	return s.firstPage(ctx, last)
}

// contactEvery is how often it is written down that a device which writes nothing is there,
// in ms: with its next push, or its first pull after so long.
const contactEvery = 60 * 60 * 1000

// idle reports whether a push tells nothing that the space does not know: its answer needs
// no commit, however many devices ask for what one of them wrote.
func (s *space) idle(ctx context.Context, owner Owner, p *change.Push) (bool, error) {
	d := s.device(p.Device)
	if d.site == 0 || d.owner != owner || p.Part > 0 || len(p.Blocks)+len(p.Renames)+len(p.Fresh) > 0 ||
		p.Names[len(p.Names)-1] != d.name || p.Through > d.lsn || s.engine.o.Now().UnixMilli()-d.contact >= contactEvery {
		return false, nil
	}
	if err := s.leaveClean(ctx); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.schema.knows(p.Schema), s.state.hello(&d, p)
}

// A pushing is a push on its way in.
type pushing struct {
	owner Owner
	push  *change.Push // the last part
	parts iter.Seq2[*change.Push, error]
	seen  change.Seq // cut to what the device can have seen
	now   int64      // the master's clock when the push came, unix ms
}

// push applies a push: all of it, but for rows that are rejected, or nothing.
func (t *tx) push(ctx context.Context, p *pushing) error {
	d := t.device(p.push.Device)
	if err := d.check(p.owner); err != nil {
		return err
	}
	if err := t.hello(&d, p.push); err != nil {
		return err
	}
	p.seen = min(p.push.Seen, d.limit(t.head))
	view, err := t.deviceView(p.push.Schema, func() (change.Schema, error) { return p.tables() }, p.push.Renames)
	if err != nil {
		return err
	}
	if d.site == 0 {
		d.served = p.seen
	}
	if d.owner == "" {
		d.owner = p.owner
	}
	last := d.lsn
	d.lsn = max(d.lsn, p.push.Through)
	d.name = p.push.Names[len(p.push.Names)-1]
	d.put, d.contact = t.now, t.now
	if err := t.putDevice(&d); err != nil {
		return err
	}
	if p.push.Through <= last { // an edit's LSN is at most Through: all of them are applied
		for i := range p.push.Blocks {
			t.pushed += int64(len(p.push.Blocks[i].Keys))
			t.duplicates += int64(len(p.push.Blocks[i].Keys))
		}
		return nil
	}
	d.lsn = last
	a := application{tx: t, device: d, seen: p.seen, copied: p.push.Doubt}
	a.edits = p.batches(ctx, d.id, t.head, view.own)
	return a.run()
}

// tables returns the tables that came with some part of the push.
func (p *pushing) tables() (change.Schema, error) {
	if p.push.Tables != nil {
		return p.push.Tables, nil
	}
	for part, err := range p.parts {
		if err != nil {
			return nil, err
		}
		if part.Tables != nil {
			return part.Tables, nil
		}
	}
	return nil, nil
}

// hello checks that the device's history is the space's, and that the file is the one
// that pushed last under its id.
func (st *state) hello(d *device, p *change.Push) error {
	mine := st.all()
	common := 0
	for common < len(mine) && common < len(p.Epochs) && mine[common] == p.Epochs[common] {
		common++
	}
	end, theirs := st.head, p.Seen // of the last common epoch, here and there
	if common < len(mine) {
		end = min(end, mine[common].First-1)
	}
	if common < len(p.Epochs) {
		theirs = p.Epochs[common].First - 1
	}
	// A device that compared its rows with this master goes by what the master had then.
	if common < len(p.Epochs) || max(p.Seen, p.Compared) > end {
		return &RestoredError{Seen: p.Seen, Head: st.head, Common: max(0, min(end, theirs, p.Seen))}
	}
	if d.site != 0 && !slices.Contains(p.Names, d.name) {
		return &ForkedError{Device: d.id}
	}
	return nil
}

// batches yields the push's edits, checked, at most batchRows at a time. The batch is
// used again.
func (p *pushing) batches(ctx context.Context, id change.DeviceID, head change.Seq, tables []*viewTable) iter.Seq2[*batch, error] {
	return func(yield func(*batch, error) bool) {
		var out batch
		number := 0
		for part, err := range p.parts {
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range part.Blocks {
				b := &part.Blocks[i]
				t, err := checkBlock(b, tables, head, p.push.Through)
				if err != nil {
					yield(nil, &RequestError{Reason: fmt.Sprintf("part %d, block %d: %v", number, i, err)})
					return
				}
				in, err := p.incoming(t, b)
				if err != nil {
					yield(nil, err)
					return
				}
				for from := 0; from < len(b.Keys); from += batchRows {
					if err := ctx.Err(); err != nil {
						yield(nil, err)
						return
					}
					p.fill(&out, in, b, from, min(from+batchRows, len(b.Keys)), id)
					if !yield(&out, nil) {
						return
					}
				}
			}
			number++
		}
	}
}

// An incoming is how the rows of a block come into the space's table.
type incoming struct {
	t       *viewTable
	regs    change.Bits    // the space's
	from    []int          // for each column of regs: its place in the block; -1: it has none
	columns []int          // of regs
	fresh   []bool         // by column of the table; nil: none
	values  []change.Value // DEFAULTs by column, where some are fresh
}

func (p *pushing) incoming(t *viewTable, b *change.Block) (in incoming, err error) {
	in = incoming{t: t, regs: t.spaceRegs(b.Regs)}
	in.columns = t.columns(in.regs)
	in.from = make([]int, len(in.columns))
	place := make(map[int]int)
	for i, c := range change.ColumnsOf(t.registers, b.Regs) {
		place[t.columnOf[c]] = i
	}
	for i, c := range in.columns {
		at, ok := place[c]
		if !ok {
			at = -1
		}
		in.from[i] = at
	}
	for _, f := range p.push.Fresh {
		if f.Table != b.Table || f.Column >= len(t.columnOf) || t.columnOf[f.Column] < 0 {
			continue
		}
		if in.fresh == nil {
			in.fresh = make([]bool, len(t.def.Columns))
			if in.values, err = t.defaults(); err != nil {
				return in, err
			}
		}
		in.fresh[t.columnOf[f.Column]] = true
	}
	return in, nil
}

// fill makes a batch of rows of a block.
func (p *pushing) fill(out *batch, in incoming, b *change.Block, from, to int, id change.DeviceID) {
	out.table, out.own, out.regs, out.fresh = in.t.table, in.t.own.Name, in.regs, in.fresh
	out.edits = out.edits[:0]
	width := len(in.columns)
	values := make([]change.Value, width*(to-from))
	for i := from; i < to; i++ {
		row := values[(i-from)*width : (i-from+1)*width : (i-from+1)*width]
		for c, at := range in.from {
			if at < 0 {
				row[c] = absent{}
			} else {
				row[c] = b.Columns[at][i]
			}
		}
		e := b.Edit(i, id, len(in.t.registers))
		steps := b.Stamps[i].Steps
		in.t.translate(&e)
		steps = in.t.translateSteps(steps)
		for j := range steps {
			steps[j].Seen = min(steps[j].Seen, p.seen)
		}
		e.Seen = min(e.Seen, p.seen)
		for j := range e.Regs {
			e.Regs[j].Seen = min(e.Regs[j].Seen, p.seen)
		}
		if e.Rank.Weight != change.PushedBack {
			e.Rank.Time = change.CorrectTime(e.Rank.Time, p.push.Now, p.now)
		}
		x := rowEdit{key: b.Keys[i], edit: e, values: row, steps: steps}
		if in.fresh != nil {
			in.refresh(&x)
		}
		if b.Delete || len(x.edit.Regs) > 0 {
			out.edits = append(out.edits, x)
		}
	}
}

// translate turns the registers of a device's edit into the space's. A register that the
// device has not is as old, in its deletes, as what it knew of the row.
func (t *viewTable) translate(e *change.Edit) {
	e.Lacks = t.lacks
	if t.same {
		return
	}
	by := make(map[int]change.RegEdit)
	for _, g := range e.Regs {
		r := t.regOf[g.Reg]
		if r < 0 {
			continue
		}
		if x, ok := by[r]; ok {
			g.Seen, g.LSN = min(g.Seen, x.Seen), max(g.LSN, x.LSN)
		}
		g.Reg = r
		by[r] = g
	}
	e.Regs = e.Regs[:0:0]
	for r := range t.table.registers {
		if g, ok := by[r]; ok {
			e.Regs = append(e.Regs, g)
		} else if e.Delete {
			e.Regs = append(e.Regs, change.RegEdit{Reg: r, Seen: e.Seen, LSN: e.LSN})
		}
	}
}

// translateSteps does for steps what translate does for an edit.
func (t *viewTable) translateSteps(steps []change.Step) []change.Step {
	if t.same || len(steps) == 0 {
		return steps
	}
	own := make([]change.Step, 0, len(steps))
	for _, x := range steps {
		if x.Reg = t.regOf[x.Reg]; x.Reg >= 0 {
			own = append(own, x)
		}
	}
	return own
}

// refresh does an edit of a device whose table got columns since its last round: of what
// the master has in them it has seen nothing, and their DEFAULT is no value that it wrote.
func (in *incoming) refresh(x *rowEdit) {
	if x.edit.Delete { // it knew of the column what it knew of the row
		for i := range x.edit.Regs {
			g := &x.edit.Regs[i]
			for _, c := range in.t.table.registers[g.Reg] {
				if in.fresh[c] {
					g.Seen = min(g.Seen, x.edit.Seen)
				}
			}
		}
		return
	}
	var written, old change.Bits // registers with a value for a fresh column, for another one
	for i, c := range in.columns {
		switch {
		case x.values[i] == (absent{}):
		case !in.fresh[c]:
			old |= change.Bit(in.t.registerOf[c])
		case sameValue(x.values[i], in.values[c]):
			x.values[i] = absent{}
		default:
			written |= change.Bit(in.t.registerOf[c])
		}
	}
	lacks, kept := x.edit.Lacks, x.edit.Regs[:0:0]
	for _, g := range x.edit.Regs {
		r := change.Bit(g.Reg)
		switch {
		case len(in.t.table.registers[g.Reg]) == 0, old&r != 0:
		case written&r != 0:
			g.Seen = 0
			for j := range x.steps {
				if x.steps[j].Reg == g.Reg {
					x.steps[j].Seen = 0
				}
			}
		default:
			lacks |= r
			continue
		}
		kept = append(kept, g)
	}
	if len(kept) == 0 && x.edit.Bits()|in.t.lacks == in.t.table.all {
		return // a table of keys that got its first columns: the row is there all the same
	}
	x.edit.Regs, x.edit.Lacks, x.doubtful = kept, lacks, old&written
}
