package store

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/velosync/velosync/capture/change"
)

// What is known of a row's writes is one blob, so that a row costs the master some ten
// bytes beside its values. It holds, all integers being varints of encoding/binary:
//
//	flags                   one byte, see below
//	back                    feed - Row.Back                     if dotsBack
//	n                       number of different dots            if dotsMany
//	dots                    n of them, one without dotsMany
//	which                   a byte a register: its dot          if dotsMany
//	tombs, dots             how many, and those                 if dotsTombs
//	took                    for each of those how many steps,   if dotsTook
//	                        and of each the register and by
//	                        how much, signed
//	who added what to sets  to the end, see set.go              if dotsSets
//
// and a dot is
//
//	feed - seq
//	site << 1 | weighty
//	lsn
//	time                    signed
//	weight                  8 bytes, little-endian               if weighty
//	rank's site             0: the same                         if dotsMerged
//
// Site 0 is nobody: concurrent writes became one.
const (
	dotsBack = 1 << iota
	dotsMany
	dotsTombs
	dotsMerged
	dotsTook
	dotsSets
)

// sites translates between the ids of devices and the numbers that dots use.
type sites interface {
	siteOf(change.DeviceID) int64
	deviceAt(site int64) (change.DeviceID, error)
}

// appendDots writes the dots of r.
func appendDots(dst []byte, r *change.Row, s sites) []byte {
	var flags byte
	many := false
	for i := 1; i < len(r.Regs); i++ {
		if r.Regs[i] != r.Regs[0] {
			many, flags = true, flags|dotsMany
			break
		}
	}
	if r.Back != 0 {
		flags |= dotsBack
	}
	if len(r.Tombs) > 0 {
		flags |= dotsTombs
	}
	merged := slices.ContainsFunc(r.Regs, func(d change.Dot) bool { return d.Device != d.Rank.Device })
	if merged {
		flags |= dotsMerged
	}
	took := slices.ContainsFunc(r.Took, func(steps []change.Step) bool { return len(steps) > 0 })
	if took {
		flags |= dotsTook
	}
	if len(r.Sets) > 0 {
		flags |= dotsSets
	}
	dst = append(dst, flags)
	if r.Back != 0 {
		dst = binary.AppendUvarint(dst, uint64(r.Feed-r.Back))
	}
	if many {
		dst = appendManyDots(dst, r, merged, s)
	} else {
		dst = appendDot(dst, &r.Regs[0], r.Feed, merged, s)
	}
	if len(r.Tombs) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(r.Tombs)))
		for i := range r.Tombs {
			dst = appendDot(dst, &r.Tombs[i], r.Feed, merged, s)
		}
	}
	if took {
		for _, steps := range r.Took {
			dst = binary.AppendUvarint(dst, uint64(len(steps)))
			for _, x := range steps {
				dst = binary.AppendVarint(append(dst, byte(x.Reg)), x.By)
			}
		}
	}
	return append(dst, r.Sets...)
}

func appendManyDots(dst []byte, r *change.Row, merged bool, s sites) []byte {
	var different []change.Dot
	var which [change.MaxRegisters]byte
	for i, d := range r.Regs {
		at := -1
		for j := range different {
			if different[j] == d {
				at = j
				break
			}
		}
		if at < 0 {
			at = len(different)
			different = append(different, d)
		}
		which[i] = byte(at)
	}
	dst = binary.AppendUvarint(dst, uint64(len(different)))
	for i := range different {
		dst = appendDot(dst, &different[i], r.Feed, merged, s)
	}
	return append(dst, which[:len(r.Regs)]...)
}

func appendDot(dst []byte, d *change.Dot, feed change.Seq, merged bool, s sites) []byte {
	var site uint64
	if !d.Device.IsZero() {
		site = uint64(s.siteOf(d.Device)) << 1
	}
	if d.Rank.Weight != 0 {
		site |= 1
	}
	dst = binary.AppendUvarint(dst, uint64(feed-d.Seq))
	dst = binary.AppendUvarint(dst, site)
	dst = binary.AppendUvarint(dst, uint64(d.LSN))
	dst = binary.AppendVarint(dst, d.Rank.Time)
	if d.Rank.Weight != 0 {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(d.Rank.Weight))
	}
	switch {
	case !merged:
	case d.Device == d.Rank.Device:
		dst = append(dst, 0)
	default:
		dst = binary.AppendUvarint(dst, uint64(s.siteOf(d.Rank.Device)))
	}
	return dst
}

var errDots = errors.New("the dots of a row can't be read: the store is damaged")

// readDots reads what appendDots wrote into r, whose slices it uses again. feed is the
// row's place in the feed, registers the number of its table's.
func readDots(b []byte, feed change.Seq, registers int, s sites, r *change.Row) error {
	d := dotReader{b: b, feed: feed, sites: s}
	flags := d.byte()
	d.merged = flags&dotsMerged != 0
	r.Feed, r.Back = feed, 0
	r.Regs, r.Tombs, r.Took, r.Sets = r.Regs[:0], r.Tombs[:0], nil, nil
	if flags&dotsBack != 0 {
		r.Back = feed - change.Seq(d.uint())
	}
	if flags&dotsMany == 0 {
		dot := d.dot()
		for range registers {
			r.Regs = append(r.Regs, dot)
		}
	} else {
		n := d.uint()
		if n > change.MaxRegisters {
			return errDots
		}
		var different [change.MaxRegisters]change.Dot
		for i := range different[:n] {
			different[i] = d.dot()
		}
		for range registers {
			i := d.byte()
			if uint64(i) >= n {
				return errDots
			}
			r.Regs = append(r.Regs, different[i])
		}
	}
	if flags&dotsTombs != 0 {
		n := d.uint()
		for i := uint64(0); i < n && d.err == nil; i++ {
			r.Tombs = append(r.Tombs, d.dot())
		}
	}
	if flags&dotsTook != 0 {
		r.Took = make([][]change.Step, len(r.Tombs))
		for i := range r.Took {
			r.Took[i] = d.steps()
		}
	}
	if flags&dotsSets != 0 {
		r.Sets, d.b = slices.Clone(d.b), nil
	}
	if d.err == nil && len(d.b) > 0 {
		return errDots
	}
	return d.err
}

type dotReader struct {
	b      []byte
	feed   change.Seq
	merged bool
	sites  sites
	err    error
}

func (d *dotReader) fail() {
	if d.err == nil {
		d.err = errDots
	}
	d.b = nil
}

func (d *dotReader) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *dotReader) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dotReader) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dotReader) steps() (steps []change.Step) {
	for n := d.uint(); n > 0 && d.err == nil; n-- {
		reg := d.byte()
		if reg >= change.MaxRegisters {
			d.fail()
		}
		steps = append(steps, change.Step{Reg: int(reg), By: d.int()})
	}
	return steps
}

func (d *dotReader) dot() (dot change.Dot) {
	dot.Seq = d.feed - change.Seq(d.uint())
	site := d.uint()
	dot.LSN = change.LSN(d.uint())
	dot.Rank.Time = d.int()
	if site&1 != 0 {
		if len(d.b) < 8 {
			d.fail()
			return dot
		}
		dot.Rank.Weight = math.Float64frombits(binary.LittleEndian.Uint64(d.b))
		d.b = d.b[8:]
	}
	rank := uint64(0)
	if d.merged {
		rank = d.uint()
	}
	if site>>1 == 0 && dot.Seq == 0 { // a register that nobody wrote
		return dot
	}
	if site>>1 != 0 {
		dot.Device = d.device(site >> 1)
		dot.Rank.Device = dot.Device
	}
	if rank != 0 {
		dot.Rank.Device = d.device(rank)
	}
	return dot
}

func (d *dotReader) device(site uint64) change.DeviceID {
	id, err := d.sites.deviceAt(int64(site))
	if err != nil && d.err == nil {
		d.err = err
	}
	return id
}
