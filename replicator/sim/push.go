package sim

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

// checkPush compares what the device sends with what it had pending when the round began.
func (d *device) checkPush(p *change.Push) {
	w := d.w
	if n := len(d.parts); n > 0 && d.parts[n-1].Part == p.Part {
		w.work("parts sent again", 1)
		before := *d.parts[n-1]
		if !p.More {
			before.Now = p.Now
		}
		was, err := wire.EncodePush(&before)
		w.must(err, "encode a part again")
		is, err := wire.EncodePush(p)
		w.must(err, "encode a part again")
		if !bytes.Equal(was, is) {
			w.fail("%s sends part %d again, and other than it was", d, p.Part)
		}
		return
	}
	d.parts = append(d.parts, p)
	if p.More {
		return
	}
	if p.Seen != d.begun.seen || p.Through != max(d.begun.last, d.begun.acked) {
		w.fail("%s pushes with seen %d, through %d, want %d, %d", d, p.Seen, p.Through, d.begun.seen, d.begun.last)
	}
	w.withLater[p.Schema] = d.begun.regs == w.shape.all()
	if d.reconciling() {
		return
	}
	want := d.pendingEdits()
	for _, part := range d.parts {
		for i := range part.Blocks {
			b := &part.Blocks[i]
			if !w.ofNotes(b) {
				continue
			}
			for j := range b.Keys {
				e := w.editOf(b, j)
				x, ok := want[e.key]
				if !ok {
					w.fail("%s pushes row %s, which has nothing pending, or twice", d, e.key)
				}
				delete(want, e.key)
				if e.delete != x.delete || e.regs != x.regs || e.lsn != x.lsn || e.time != x.time || e.weight != x.weight || !slices.Equal(e.versions, x.versions) {
					w.fail("%s pushes %s, want %s", d, w.showEdit(e), w.showEdit(x))
				}
			}
		}
	}
	if len(want) > 0 {
		w.fail("%s does not push %v", d, sortedKeys(want))
	}
}

// An edit is a row of a push, with versions in the place of values.
type edit struct {
	key      string
	delete   bool
	regs     change.Bits
	versions []*event // by register; nil where it is not written
	lsn      change.LSN
	lsns     []change.LSN // by register
	time     int64
	weight   float64
}

func (w *world) editOf(b *change.Block, i int) edit {
	s := &b.Stamps[i]
	e := edit{key: w.name(b.Keys[i]), delete: b.Delete, regs: b.Regs, lsn: s.LSN, time: s.Time, weight: s.Weight,
		versions: make([]*event, len(w.shape.regs)), lsns: make([]change.LSN, len(w.shape.regs))}
	for r := range e.lsns {
		e.lsns[r] = s.LSN
	}
	for _, r := range s.Regs {
		e.lsns[r.Reg] = r.LSN
	}
	if b.Delete {
		return e
	}
	var cols []int
	b.Regs.Each(func(r int) { cols = append(cols, w.shape.regs[r]...) })
	slices.Sort(cols)
	values := make([]change.Value, len(columns))
	for at, c := range cols {
		values[c] = b.Columns[at][i]
	}
	b.Regs.Each(func(r int) {
		e.versions[r] = w.version("a push", e.key, r, textOf(pick(values, w.shape.regs[r])))
	})
	return e
}

func (w *world) showEdit(e edit) string {
	if e.delete {
		return fmt.Sprintf("delete of %s, lsn %d, time %d, weight %g", e.key, e.lsn, e.time, e.weight)
	}
	return fmt.Sprintf("row %s, registers %b, %s, lsn %d, time %d, weight %g", e.key, e.regs, w.shape.show(e.versions), e.lsn, e.time, e.weight)
}

// pendingEdits is what the push has to be.
func (d *device) pendingEdits() map[string]edit {
	w := d.w
	edits := make(map[string]edit)
	for _, m := range d.begun.log {
		e, ok := edits[m.key]
		if !ok {
			e = edit{key: m.key, versions: make([]*event, len(w.shape.regs))}
		}
		e.regs |= m.cols & d.begun.regs
		e.lsn, e.time = m.lsn, m.at
		if m.op == "D" {
			e.weight = m.weight
		}
		edits[m.key] = e
	}
	for key, e := range edits {
		if row := d.begun.rows[key]; row == nil {
			e.delete, e.regs = true, 0
		} else {
			e.regs.Each(func(r int) { e.versions[r] = row[r] })
			e.weight = w.weightOf(row)
		}
		edits[key] = e
	}
	return edits
}

// weightOf returns a row's semantic weight.
func (w *world) weightOf(row []*event) float64 {
	if !w.shape.weighted {
		return 0
	}
	var weight float64
	for r, cols := range w.shape.regs {
		if at := slices.Index(cols, weightColumn); at >= 0 {
			weight, _ = row[r].values[at].(float64)
		}
	}
	return weight
}
