package store

import (
	"fmt"
	"math"

	"github.com/velosync/velosync/capture/change"
)

// checkBlock checks what a block says before any of it is used.
func checkBlock(b *change.Block, tables []*viewTable, head change.Seq, through change.LSN) (*viewTable, error) {
	if b.Table < 0 || b.Table >= len(tables) {
		return nil, fmt.Errorf("table %d of %d", b.Table, len(tables))
	}
	t := tables[b.Table]
	rows := len(b.Keys)
	switch {
	case b.Delete && (b.Regs != 0 || len(b.Columns) > 0):
		return nil, fmt.Errorf("a delete of %q with registers or columns", t.def.Name)
	case !b.Delete && (b.Regs == 0 || b.Regs&^t.all != 0):
		return nil, fmt.Errorf("registers %b of %q, which has %d", b.Regs, t.own.Name, len(t.registers))
	case !b.Delete && len(b.Columns) != len(change.ColumnsOf(t.registers, b.Regs)):
		return nil, fmt.Errorf("%d columns, registers %b of %q have %d", len(b.Columns), b.Regs, t.own.Name, len(change.ColumnsOf(t.registers, b.Regs)))
	case len(b.Stamps) != rows:
		return nil, fmt.Errorf("%d stamps for %d rows", len(b.Stamps), rows)
	}
	for c := range b.Columns {
		if len(b.Columns[c]) != rows {
			return nil, fmt.Errorf("column %d has %d values for %d rows", c, len(b.Columns[c]), rows)
		}
	}
	regs := b.Regs
	if b.Delete {
		regs = t.all
	}
	for i := range rows {
		err := checkKey(b.Keys[i], t.table)
		if err == nil {
			err = checkStamp(&b.Stamps[i], regs, head, through)
		}
		if err == nil {
			err = checkSteps(&b.Stamps[i], regs, t, head)
		}
		if err != nil {
			return nil, fmt.Errorf("row %d of %q: %w", i, t.def.Name, err)
		}
	}
	return t, nil
}

func checkKey(key change.Value, t *table) error {
	switch k := key.(type) {
	case int64, string, []byte:
	case float64:
		if math.IsNaN(k) {
			return fmt.Errorf("key is NaN")
		}
	case nil:
		return fmt.Errorf("key is NULL")
	default:
		return fmt.Errorf("key is %T", key)
	}
	if len(t.def.Key) == 1 {
		return nil
	}
	_, err := change.SplitKey(key, len(t.def.Key))
	return err
}

func checkStamp(s *change.EditStamp, regs change.Bits, head change.Seq, through change.LSN) error {
	switch {
	case s.LSN < 1 || s.LSN > through:
		return fmt.Errorf("lsn %d, the push goes through %d", s.LSN, through)
	case s.Made < 0 || s.Made > s.LSN:
		return fmt.Errorf("the row was made by lsn %d, its newest is %d", s.Made, s.LSN)
	case s.Seen < 0 || s.Seen > head || s.Existence < 0 || s.Existence > head:
		return fmt.Errorf("seen %d, existence seen %d, head is %d", s.Seen, s.Existence, head)
	case math.IsNaN(s.Weight) || math.Abs(s.Weight) > change.MaxWeight && s.Weight != change.PushedBack:
		return fmt.Errorf("weight %v: want a finite number within ±%g", s.Weight, float64(change.MaxWeight))
	}
	last := -1
	for _, r := range s.Regs {
		switch {
		case r.Reg <= last || r.Reg >= change.MaxRegisters || !regs.Has(r.Reg):
			return fmt.Errorf("register %d after %d: want ascending ones among %b", r.Reg, last, regs)
		case r.LSN < 1 || r.LSN > s.LSN:
			return fmt.Errorf("register %d has lsn %d, the row %d", r.Reg, r.LSN, s.LSN)
		case r.Seen < 0 || r.Seen > head:
			return fmt.Errorf("register %d has seen %d, head is %d", r.Reg, r.Seen, head)
		}
		last = r.Reg
	}
	return nil
}

// checkSteps checks what a row did to counters and sets; registers are the device's. It
// brings elements into their canonical form.
func checkSteps(s *change.EditStamp, regs change.Bits, t *viewTable, head change.Seq) error {
	last, made := change.LSN(1), change.Bits(0)
	for i := range s.Steps {
		x := &s.Steps[i]
		policy := change.ByRank
		if x.Reg >= 0 && x.Reg < len(t.regOf) && regs.Has(x.Reg) {
			if policy = change.Counter; t.regOf[x.Reg] >= 0 {
				policy = t.policies[t.regOf[x.Reg]]
			} else if x.Element != "" || x.Seen != 0 {
				policy = change.SetPolicy
			}
		}
		switch {
		case policy == change.SetPolicy:
			of := x.By == 1 || x.By == -1
			if !of && x.By != change.StepMade && x.By != change.StepSame || of != (x.Element != "") || x.Seen < 0 || x.Seen > head {
				return fmt.Errorf("a step of register %d by %d, which has seen %d: want 1 or -1 and an element, or 0 or 2 without", x.Reg, x.By, x.Seen)
			}
			if x.By == change.StepMade && made.Has(x.Reg) {
				return fmt.Errorf("two steps say that the row was made, of register %d", x.Reg)
			}
			if x.By == change.StepMade {
				made |= change.Bit(x.Reg)
			}
			if of {
				var err error
				if x.Element, err = change.ParseElement(string(x.Element)); err != nil {
					return fmt.Errorf("a step of register %d: %w", x.Reg, err)
				}
			}
		case policy != change.Counter || x.Element != "":
			return fmt.Errorf("a step of register %d, which is no counter or set among %b", x.Reg, regs)
		}
		switch {
		case x.LSN < last || x.LSN > s.LSN:
			return fmt.Errorf("a step with lsn %d after %d, the row has %d", x.LSN, last, s.LSN)
		case s.Weight == change.PushedBack:
			return fmt.Errorf("a step of register %d, which is pushed back", x.Reg)
		}
		last = x.LSN
	}
	return nil
}
