package wire

import (
	"slices"

	"github.com/velosync/velosync/capture/change"
)

// packSteps returns, for each block that has rows, what its rows added to counters: how
// many steps each row has, then all registers, how long before its row's lsn each was made,
// and how much it was. Nothing stands for a block without steps; nil where no block has any.
func packSteps(blocks []change.Block) [][]byte {
	var packed [][]byte
	some := false
	for i := range blocks {
		b := &blocks[i]
		if len(b.Keys) == 0 {
			continue
		}
		counts := make([]int64, len(b.Stamps))
		var regs, before, by []int64
		for j := range b.Stamps {
			s := &b.Stamps[j]
			counts[j] = int64(len(s.Steps))
			for _, x := range s.Steps {
				regs, before, by = append(regs, int64(x.Reg)), append(before, int64(s.LSN-x.LSN)), append(by, x.By)
			}
		}
		packed = append(packed, nil)
		if len(regs) > 0 {
			some = true
			p := appendInts(nil, counts)
			for _, list := range [][]int64{regs, before, by} {
				p = appendInts(p, list)
			}
			packed[len(packed)-1] = p
		}
	}
	if !some {
		return nil
	}
	return packed
}

// unpackSteps reads what packSteps wrote into the stamps of blocks.
func unpackSteps(d *reader, blocks []change.Block, packed [][]byte) error {
	return unpackLists(d, "steps", blocks, packed, func(b *change.Block) error {
		if err := d.steps(b.Stamps); err != nil {
			return err
		}
		for j := range b.Stamps {
			if err := checkSteps(b, j); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *reader) steps(stamps []change.EditStamp) error {
	list := func(n int) ([]int64, error) {
		v, err := d.ints(n)
		return slices.Clone(v), err
	}
	counts, err := list(len(stamps))
	if err != nil {
		return err
	}
	total := 0
	for i, n := range counts {
		if n < 0 || n > int64(d.limits.Cells) {
			return badRow(i, "%d steps", n)
		}
		total += int(n)
		if err := over("steps of a block", total, int64(d.limits.Cells)); err != nil {
			return err
		}
	}
	if total == 0 {
		return bad("a list of no steps")
	}
	if err := d.count(3 * total); err != nil {
		return err
	}
	var fields [3][]int64
	for f := range fields {
		if fields[f], err = list(total); err != nil {
			return err
		}
	}
	steps := make([]change.Step, total)
	for k := range steps {
		steps[k] = change.Step{Reg: int(min(max(fields[0][k], -1), change.MaxRegisters)), LSN: change.LSN(fields[1][k]), By: fields[2][k]}
	}
	for i, n := range counts {
		own := steps[:n:n]
		steps = steps[n:]
		for k := range own {
			own[k].LSN = stamps[i].LSN - own[k].LSN
		}
		if n > 0 {
			stamps[i].Steps = own
		}
	}
	return nil
}

// checkSteps checks the steps of a row.
func checkSteps(b *change.Block, row int) error {
	s := &b.Stamps[row]
	last := change.LSN(0)
	for _, x := range s.Steps {
		switch {
		case x.Reg < 0 || x.Reg >= change.MaxRegisters || !b.Delete && !b.Regs.Has(x.Reg):
			return badRow(row, "a step of register %d, which is none of the block's", x.Reg)
		case x.LSN < 0 || x.LSN < last || x.LSN > s.LSN:
			return badRow(row, "a step with lsn %d after %d, the row has %d: want ascending ones", x.LSN, last, s.LSN)
		}
		last = x.LSN
	}
	return nil
}
