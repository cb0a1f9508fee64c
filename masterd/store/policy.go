package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/velosync/velosync/capture/change"
)

// brings reports whether an edit says what it added to a counter.
func (e *rowEdit) brings(reg int) bool {
	return slices.ContainsFunc(e.steps, func(x change.Step) bool { return x.Reg == reg })
}

// load reads the row's values as they were before the edit.
func (w *rowWrite) load() (err error) {
	switch {
	case w.old != nil:
	case w.known.row.Bare:
		w.old, err = w.blank()
	case w.known.row.Deleted():
		w.old, err = w.table.oldValues(w.known.trash)
	default:
		w.old, err = w.current()
	}
	return err
}

// tally tells which counters and sets the edit adds to, and what a delete takes from them.
func (w *rowWrite) tally() error {
	if len(w.table.counters) == 0 && w.table.sets == 0 {
		return nil
	}
	// A repeated push counts what came since.
	fresh := w.edit.steps
	for len(fresh) > 0 && fresh[0].LSN <= w.last {
		fresh = fresh[1:]
	}
	w.steps = fresh
	if !w.fresh.Delete {
		for _, g := range w.fresh.Regs {
			if w.edit.brings(g.Reg) {
				w.fresh.Steps |= change.Bit(g.Reg)
			}
		}
		return nil
	}
	if w.known.row == nil && !w.fresh.Lost {
		return nil
	}
	if w.known.row != nil {
		if err := w.load(); err != nil {
			return err
		}
	}
	for _, r := range w.table.counters {
		took, known := int64(0), w.edit.brings(r)
		for _, x := range fresh {
			if x.Reg == r {
				took, _ = change.Sum(took, x.By) // of its own differences: they fit
				known = known && x.LSN > w.copied
			}
		}
		if !known && w.old != nil { // all of it: its author can't say what it took
			if n, ok := w.old[w.table.registers[r][0]].(int64); ok {
				took = -n
			}
		}
		w.fresh.Took = append(w.fresh.Took, change.Step{Reg: r, By: took})
	}
	return nil
}

// blend works out the values of registers that have a policy. reason says why the row can't
// have them.
func (w *rowWrite) blend() (reason string, err error) {
	if w.row == nil || w.fresh.Delete {
		return "", nil
	}
	for i, c := range w.table.columns(w.batch.regs) {
		r := w.table.registerOf[c]
		if !w.out.Take.Has(r) || w.edit.values[i] == (absent{}) {
			continue
		}
		var err error
		switch w.table.policies[r] {
		case change.Counter:
			_, err = change.CounterOf(w.edit.values[i])
		case change.SetPolicy:
			_, err = change.SetOf(w.edit.values[i])
		}
		if err != nil {
			return fmt.Sprintf("column %s: %v", w.table.def.Columns[c].Name, err), nil
		}
	}
	w.mixed, w.blended = w.out.Blend|w.out.Add, nil
	if w.mixed == 0 && len(w.out.Took) == 0 {
		return w.mergeSets()
	}
	if err := w.load(); err != nil {
		return "", err
	}
	for _, x := range w.out.Took {
		// A delete that claims to have taken what can't be stops nobody from making the row anew.
		if reason := w.step(w.old, x); reason != "" {
			w.old[w.table.registers[x.Reg][0]] = int64(0)
		}
	}
	w.blended = w.edited(w.out.Blend)
	w.out.Blend.Each(func(r int) {
		c := w.table.registers[r][0]
		switch p := w.table.policies[r]; {
		case p == change.SetPolicy:
		case p.Expression():
			w.blended[c] = w.evaluate(r, w.old[c], w.blended[c])
		default:
			w.blended[c] = p.Merge(w.old[c], w.blended[c])
		}
	})
	w.out.Add.Each(func(r int) { w.blended[w.table.registers[r][0]] = w.old[w.table.registers[r][0]] })
	for _, x := range w.steps {
		switch {
		case !w.out.Add.Has(x.Reg), w.table.sets.Has(x.Reg):
		case x.LSN <= w.copied:
			w.doubts = append(w.doubts, x)
		default:
			if reason := w.step(w.blended, x); reason != "" {
				return reason, nil
			}
		}
	}
	return w.mergeSets()
}

// mostMerging is how long a push may spend on merge expressions: they come from devices.
const mostMerging = time.Second

// evaluate returns what a register's merge expression makes of the version that stands and
// of the edit's.
func (w *rowWrite) evaluate(r int, stands, edits change.Value) (v change.Value) {
	mine, theirs := edits, stands
	if c, _ := w.known.row.Regs[r].Rank.Compare(w.fresh.Rank); c > 0 {
		mine, theirs = stands, edits
	}
	if w.merging > mostMerging {
		w.giveUp(change.Bit(r), fmt.Sprintf("the merge expressions of this push took more than %v", mostMerging))
		return nil
	}
	began := time.Now()
	v, err := w.space.expressions.Value(string(w.table.policies[r]), mine, theirs)
	w.merging += time.Since(began)
	if err != nil {
		w.giveUp(change.Bit(r), fmt.Sprintf("column %s: merge expression: %v", w.table.def.Columns[w.table.registers[r][0]].Name, err))
	}
	return v
}

// giveUp leaves registers to their rank.
func (w *rowWrite) giveUp(regs change.Bits, why string) {
	if regs != 0 {
		w.unmerged, w.why = w.unmerged|regs, why
	}
}

// step adds a step to a row's counter. reason says why it can't be.
func (w *rowWrite) step(row []change.Value, x change.Step) (reason string) {
	c := w.table.registers[x.Reg][0]
	n, _ := row[c].(int64)
	sum, ok := change.Sum(n, x.By)
	if _, err := change.CounterOf(sum); !ok || err != nil {
		return fmt.Sprintf("column %s: counter overflow: %d and %d are beyond ±%d", w.table.def.Columns[c].Name, n, x.By, int64(change.MaxCounter))
	}
	row[c] = sum
	return ""
}

// recordDoubts logs what may have been counted already: the file was copied, or restored,
// and another copy of it may have sent the same.
func (w *rowWrite) recordDoubts() error {
	for _, r := range w.table.counters {
		sum, some := int64(0), false
		for _, x := range w.doubts {
			if x.Reg == r {
				sum, some = sum+x.By, true
			}
		}
		if !some {
			continue
		}
		c := w.table.registers[r][0]
		dot := change.Dot{Seq: w.seq, Device: w.fresh.Device, LSN: w.fresh.LSN, Rank: w.fresh.Rank}
		kept := w.known.row.Regs[r].Author()
		x := loss{kind: change.StepInDoubt, rule: change.ByCopy, regs: change.Bit(r), columns: []int{c}, loser: dot, winner: kept,
			lostClock: clockOf(w.seenOf(change.Bit(r)), dot), keptClock: clockOf(kept.Seq, kept),
			lost: make([]change.Value, len(w.table.def.Columns)), kept: w.blended}
		x.lost[c] = sum
		w.tx.lost++
		if err := w.log(&x); err != nil {
			return err
		}
	}
	return nil
}
