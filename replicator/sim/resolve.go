package sim

import (
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// pastOf returns all that the master knew of a row as of seq.
func (m *master) pastOf(key string, seq change.Seq) pastRow {
	list := m.past[key]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].head <= seq {
			return list[i]
		}
	}
	return pastRow{regs: make([]set, len(m.w.shape.regs))}
}

// apply says what a push that the master took has to do, and compares the conflicts.
func (m *master) apply(d *device, parts []*change.Push, last *change.Push) {
	w := m.w
	a := applying{m: m, d: d, last: m.applied[d.id], lacks: w.shape.alters && !w.withLater[last.Schema]}
	type touch struct {
		key   string
		write *event
	}
	var touched []touch
	for _, p := range parts {
		for i := range p.Blocks {
			b := &p.Blocks[i]
			if !w.ofNotes(b) {
				continue
			}
			for j := range b.Keys {
				e := w.editOf(b, j)
				if e.lsn <= a.last {
					continue
				}
				a.rank = rank{e.weight, corrected(e.time, last.Now, w.now), d.id}
				for _, v := range a.edit(e) {
					touched = append(touched, touch{e.key, v})
				}
			}
		}
	}
	m.applied[d.id], m.doubted = max(a.last, last.Through), nil
	m.count(d, a.last, last.Through)
	w.work("pushes applied", 1)
	for _, t := range touched {
		w.settled, w.shipped = w.settled.or(t.write.past()), w.shipped.with(t.write.id)
	}
	got := m.readConflicts()
	slices.Sort(a.losses)
	slices.Sort(got)
	if !slices.Equal(got, a.losses) {
		w.fail("master, push of %s: conflicts logged:\n\t%s\nwant:\n\t%s", d, strings.Join(got, "\n\t"), strings.Join(a.losses, "\n\t"))
	}
	for _, l := range got {
		w.say("conflict: %s", l)
	}
	var head int64
	_, err := m.watch.Row(`SELECT head FROM _velosync_space`, nil, &head)
	w.must(err, "read the master's head")
	if len(touched) > 0 && change.Seq(head) == m.head {
		w.fail("master: %d versions were pushed, and its head stays at %d", len(touched), head)
	}
	for _, t := range touched {
		p := m.pastOf(t.key, change.Seq(head))
		regs := slices.Clone(p.regs)
		if t.write.isDelete() {
			for r := range regs {
				regs[r] = regs[r].or(t.write.regs[r])
			}
		} else {
			regs[t.write.reg] = regs[t.write.reg].or(t.write.known)
		}
		m.past[t.key] = append(m.past[t.key], pastRow{change.Seq(head), regs, p.exist.or(t.write.exist)})
	}
	w.say("the master applies %d versions of %s: head %d", len(touched), d, head)
}

// An applying is one push, as the model applies it.
type applying struct {
	m      *master
	d      *device
	last   change.LSN // applied before
	rank   rank       // of the edit at hand
	lacks  bool       // the device had not the column that comes later
	losses []string
}

// edit applies one edit and returns its events. It knows of no seq: an edit has seen a
// version if that is in its lineage.
func (a *applying) edit(e edit) []*event {
	m, w := a.m, a.m.w
	row := m.rows[e.key]
	if e.delete {
		v := w.deletes[deleteName{a.d.n, e.lsn}]
		if v == nil {
			w.fail("%s pushes a delete of %s with lsn %d, which is none", a.d, e.key, e.lsn)
		}
		if row != nil {
			a.delete(row, v)
		}
		return []*event{v}
	}
	// Where nobody gave the new column a value, nothing was written.
	lacks := 0
	if a.lacks {
		lacks = 1
	}
	e.versions = slices.Clone(e.versions)
	for r, v := range e.versions {
		if v == unset {
			e.versions[r], e.regs, lacks = nil, e.regs&^change.Bit(r), 1
		}
	}
	var fresh []*event
	e.regs.Each(func(r int) {
		if e.lsns[r] > a.last {
			fresh = append(fresh, e.versions[r])
		}
	})
	if row == nil {
		if len(fresh)+lacks < len(w.shape.regs) {
			for _, v := range fresh {
				a.lose(change.LostToForgotten, change.ByForgotten, v, nil, a.rank, rank{}, e.key)
			}
			return fresh
		}
		row = &masterRow{regs: make([]stored, len(w.shape.regs))}
		if w.shape.alters {
			row.regs[w.shape.later()].event = unset
		}
		for _, v := range fresh {
			row.regs[v.reg] = stored{v, a.rank}
		}
		m.rows[e.key] = row
		return fresh
	}
	a.update(row, e, fresh)
	return fresh
}

// seen reports whether the author of a version had seen another one.
func (a *applying) seen(s stored, known set) bool {
	return s.event == unset || s.d == a.d || known.has(s.id)
}

func (a *applying) update(row *masterRow, e edit, fresh []*event) {
	var win []*event
	for _, v := range fresh {
		old := row.regs[v.reg]
		if !a.seen(old, v.known) {
			yes, rule := a.rank.beats(old.rank)
			if !yes {
				a.lose(change.UpdateLost, rule, v, old.event, a.rank, old.rank, e.key)
				continue
			}
			a.lose(change.UpdateLost, rule, old.event, v, old.rank, a.rank, e.key)
		}
		win = append(win, v)
		row.regs[v.reg] = stored{v, a.rank}
	}
	var stand []stored
	for _, t := range row.tombs {
		follows := true
		for _, v := range e.versions {
			follows = follows && (v == nil || a.seen(t, v.exist))
		}
		if follows {
			continue
		}
		if yes, rule := a.rank.beats(t.rank); yes && len(win) > 0 {
			a.lose(change.DeleteLost, rule, t.event, nil, t.rank, a.rank, e.key)
			continue
		}
		stand = append(stand, t)
	}
	if len(stand) > 0 {
		_, rule := stand[0].rank.beats(a.rank)
		for _, v := range win {
			a.lose(change.UpdateLostToDelete, rule, v, nil, a.rank, stand[0].rank, e.key)
		}
	}
	row.tombs = stand
}

func (a *applying) delete(row *masterRow, v *event) {
	var unseen []stored
	for r, old := range row.regs {
		if !a.seen(old, v.regs[r]) {
			unseen = append(unseen, old)
		}
	}
	var rival *stored
	for i := range unseen {
		if rival == nil {
			rival = &unseen[i]
		} else if yes, _ := unseen[i].rank.beats(rival.rank); yes {
			rival = &unseen[i]
		}
	}
	if rival != nil {
		if yes, rule := a.rank.beats(rival.rank); !yes {
			a.lose(change.DeleteLost, rule, v, nil, a.rank, rival.rank, v.key)
			return
		}
	}
	for _, old := range unseen {
		_, rule := a.rank.beats(old.rank)
		a.lose(change.UpdateLostToDelete, rule, old.event, nil, old.rank, a.rank, v.key)
	}
	stand := []stored{{v, a.rank}}
	for i := len(row.tombs) - 1; i >= 0; i-- {
		if t := row.tombs[i]; !a.seen(t, v.exist) {
			stand = append([]stored{t}, stand...)
		}
	}
	row.tombs = stand
}

func (a *applying) lose(kind change.Kind, rule change.Rule, lost, kept *event, lostRank, keptRank rank, key string) {
	w := a.m.w
	a.m.lost[lost.id] = true
	w.result.Conflicts[string(kind)+" by "+string(rule)]++
	if lost.isDelete() {
		lost = nil
	}
	a.losses = append(a.losses, w.lossText(kind, rule, key, lost, kept, lostRank, keptRank))
}

// checkNothingLost checks that each event is accounted for: it is current, or stood under
// one that is, or under one in the conflict log.
func (m *master) checkNothingLost() {
	for _, e := range m.w.events {
		if !m.w.settled.has(e.id) && !m.w.vanished.has(e.id) {
			m.w.fail("%s is lost without a trace", e.describe())
		}
	}
	if got := len(m.lost); got > 0 {
		m.w.work("events in the conflict log", got)
	}
}
