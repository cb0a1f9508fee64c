package sim

import (
	"slices"

	"github.com/velosync/velosync/replicator/wire"
)

// checkEcho checks that a device does not get back what it wrote. It does where a row came
// back from a delete, and where the device lost a conflict: such rows are left out.
func (m *master) checkEcho(d *device, a *answer) {
	w := m.w
	if w.life != nil || w.shape.alters {
		return
	}
	p, err := wire.DecodePull(a.body.Bytes(), wire.Limits{})
	w.must(err, "read the master's answer")
	if p.Full {
		return
	}
	for i := range p.Blocks {
		b := &p.Blocks[i]
		if !w.ofNotes(b) {
			continue
		}
		for j := range b.Keys {
			key := w.name(b.Keys[j])
			row := m.rows[key]
			if row == nil || slices.ContainsFunc(m.lostBy[d.id], func(c conflict) bool { return c.key == key }) {
				continue
			}
			if b.Delete {
				if !slices.ContainsFunc(row.tombs, func(t stored) bool { return t.d != d }) {
					w.fail("%s hears that row %s is deleted, which is its own doing", d, key)
				}
				continue
			}
			if slices.ContainsFunc(w.events, func(e *event) bool { return e.isDelete() && e.key == key }) {
				continue
			}
			b.Regs.Each(func(r int) {
				if v := row.regs[r]; v.d == d {
					w.fail("%s gets back what it wrote: row %s, %s", d, key, v.describe())
				}
			})
		}
	}
}

// checkHeard checks that a delete that the master forgets was heard of by all who pushed.
func (m *master) checkHeard(key string) {
	for _, t := range m.rows[key].tombs {
		at := slices.IndexFunc(m.past[key], func(p pastRow) bool { return p.exist.has(t.id) })
		if at < 0 {
			m.w.fail("the master has forgotten %s, which it never took", t)
		}
		since := m.past[key][at].head
		for _, d := range m.w.devices {
			if _, pushed := m.applied[d.id]; pushed && !d.cut && d.seen < since { // a power cut takes it back behind what it acknowledged

				m.w.fail("the master forgets %s, applied by seq %d: %s has seen %d only", t, since, d, d.seen)
			}
		}
	}
}
