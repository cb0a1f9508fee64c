package wire

import (
	"encoding/binary"
	"math"

	"github.com/velosync/velosync/capture/change"
)

// appendStamps writes the stamps of a block, field by field. A weight that stands in a
// column of the block too is not written twice; see weightColumn.
func (w *writer) appendStamps(dst []byte, b *change.Block) ([]byte, error) {
	s := b.Stamps
	total := 0
	for i := range s {
		if err := checkStamp(b, &s[i], i); err != nil {
			return dst, err
		}
		total += len(s[i].Regs)
	}
	each := func(get func(*change.EditStamp) int64) {
		w.ints = w.ints[:0]
		for i := range s {
			w.ints = append(w.ints, get(&s[i]))
		}
		dst = appendInts(dst, w.ints)
	}
	each(func(s *change.EditStamp) int64 { return int64(s.LSN) })
	each(func(s *change.EditStamp) int64 { return int64(s.Seen) })
	each(func(s *change.EditStamp) int64 { return s.Time })
	each(func(s *change.EditStamp) int64 { return int64(s.Seen - s.Existence) })
	each(func(s *change.EditStamp) int64 { return int64(len(s.Regs)) })
	eachReg := func(get func(*change.EditStamp, *change.RegEdit) int64) {
		w.ints = w.ints[:0]
		for i := range s {
			for j := range s[i].Regs {
				w.ints = append(w.ints, get(&s[i], &s[i].Regs[j]))
			}
		}
		dst = appendInts(dst, w.ints)
	}
	if total > 0 {
		eachReg(func(_ *change.EditStamp, r *change.RegEdit) int64 { return int64(r.Reg) })
		eachReg(func(s *change.EditStamp, r *change.RegEdit) int64 { return int64(s.Seen - r.Seen) })
		eachReg(func(s *change.EditStamp, r *change.RegEdit) int64 { return int64(s.LSN - r.LSN) })
	}
	w.reals = w.reals[:0]
	for i := range s {
		w.reals = append(w.reals, s[i].Weight)
	}
	c := weightColumn(b, w.reals)
	dst = binary.AppendUvarint(dst, uint64(c+1))
	if c < 0 {
		dst = appendReals(dst, w.reals)
	}
	return dst, nil
}

func checkStamp(b *change.Block, s *change.EditStamp, row int) error {
	switch {
	case s.LSN < 0 || s.Seen < 0 || s.Existence < 0:
		return badRow(row, "a stamp counts below 0: lsn %d, seen %d, existence %d", s.LSN, s.Seen, s.Existence)
	case s.Made < 0 || s.Made > s.LSN:
		return badRow(row, "the row was made by lsn %d, its newest is %d", s.Made, s.LSN)
	case math.IsNaN(s.Weight) || math.IsInf(s.Weight, 0):
		return badRow(row, "the weight is %v, want a finite number", s.Weight)
	}
	last := -1
	for _, r := range s.Regs {
		switch {
		case r.Reg <= last || r.Reg >= change.MaxRegisters:
			return badRow(row, "register %d after %d: want ascending ones below %d", r.Reg, last, change.MaxRegisters)
		case !b.Delete && !b.Regs.Has(r.Reg):
			return badRow(row, "register %d is none of the block's", r.Reg)
		case r.Seen < 0 || r.LSN < 0:
			return badRow(row, "register %d counts below 0: seen %d, lsn %d", r.Reg, r.Seen, r.LSN)
		}
		last = r.Reg
	}
	return nil
}

// weightColumn returns the first column whose values, read by change.WeightOf, are the
// weights of the stamps to the bit, or -1. Weights that are all the same take eight
// bytes as they are.
func weightColumn(b *change.Block, weights []float64) int {
	first, equal := math.Float64bits(weights[0]), true
	for _, x := range weights {
		equal = equal && math.Float64bits(x) == first
	}
	if equal {
		return -1
	}
search:
	for c, values := range b.Columns {
		for i, v := range values {
			x, err := change.WeightOf(v)
			if err != nil || math.Float64bits(x) != math.Float64bits(weights[i]) {
				continue search
			}
		}
		return c
	}
	return -1
}

// stamps reads the stamps of a block whose keys and columns are there.
func (d *reader) stamps(b *change.Block) ([]change.EditStamp, error) {
	s := make([]change.EditStamp, len(b.Keys))
	fields := [...]func(*change.EditStamp, int64){
		func(s *change.EditStamp, x int64) { s.LSN = change.LSN(x) },
		func(s *change.EditStamp, x int64) { s.Seen = change.Seq(x) },
		func(s *change.EditStamp, x int64) { s.Time = x },
		func(s *change.EditStamp, x int64) { s.Existence = s.Seen - change.Seq(x) },
	}
	for _, put := range fields {
		v, err := d.ints(len(s))
		if err != nil {
			return nil, err
		}
		for i, x := range v {
			put(&s[i], x)
		}
	}
	if err := d.stampRegs(s); err != nil {
		return nil, err
	}
	if err := d.weights(b, s); err != nil {
		return nil, err
	}
	for i := range s {
		if err := checkStamp(b, &s[i], i); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (d *reader) weights(b *change.Block, s []change.EditStamp) error {
	c, err := d.uvarint()
	if err != nil {
		return err
	}
	if c == 0 {
		v, err := d.reals(len(s))
		if err != nil {
			return err
		}
		for i, x := range v {
			s[i].Weight = x
		}
		return nil
	}
	if c > uint64(len(b.Columns)) {
		return bad("the weights are those of column %d, of %d", c-1, len(b.Columns))
	}
	for i, v := range b.Columns[c-1] {
		if s[i].Weight, err = change.WeightOf(v); err != nil {
			return badRow(i, "weight: %v", err)
		}
	}
	return nil
}

func (d *reader) stampRegs(s []change.EditStamp) error {
	counts, err := d.ints(len(s))
	if err != nil {
		return err
	}
	total := 0
	for i, n := range counts {
		if n < 0 || n > change.MaxRegisters {
			return badRow(i, "%d registers, want 0 to %d", n, change.MaxRegisters)
		}
		total += int(n)
	}
	if err := d.count(total); err != nil {
		return err
	}
	regs := make([]change.RegEdit, total)
	at := 0
	for i, n := range counts {
		if n > 0 {
			s[i].Regs = regs[at:][:n:n]
			at += int(n)
		}
	}
	fields := [...]func(*change.EditStamp, *change.RegEdit, int64){
		func(_ *change.EditStamp, r *change.RegEdit, x int64) {
			r.Reg = int(min(max(x, -1), change.MaxRegisters)) // out of range stays out of range
		},
		func(s *change.EditStamp, r *change.RegEdit, x int64) { r.Seen = s.Seen - change.Seq(x) },
		func(s *change.EditStamp, r *change.RegEdit, x int64) { r.LSN = s.LSN - change.LSN(x) },
	}
	for _, put := range fields {
		v, err := d.ints(total)
		if err != nil {
			return err
		}
		k := 0
		for i := range s {
			for j := range s[i].Regs {
				put(&s[i], &s[i].Regs[j], v[k])
				k++
			}
		}
	}
	return nil
}
