package wire

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// modeDelta follows the modes 0 to 8, which are the number of planes.
const modeDelta = 9

// appendInts writes integers in the shorter of two forms: planes of the distance from
// the smallest (no plane when all are equal), or the varint of each distance from the
// one before. No integers take no bytes.
func appendInts(dst []byte, v []int64) []byte {
	if len(v) == 0 {
		return dst
	}
	lo, hi := v[0], v[0]
	varints := 0
	last := int64(0)
	for _, x := range v {
		lo, hi = min(lo, x), max(hi, x)
		varints += uvarintLen(zigzag(x - last))
		last = x
	}
	width := (bits.Len64(uint64(hi)-uint64(lo)) + 7) / 8
	if width > 0 && varints < width*len(v) {
		dst = append(dst, modeDelta)
		last = 0
		for _, x := range v {
			dst = binary.AppendUvarint(dst, zigzag(x-last))
			last = x
		}
		return dst
	}
	dst = append(dst, byte(width))
	dst = binary.AppendUvarint(dst, zigzag(lo))
	for shift := 0; shift < 8*width; shift += 8 {
		for _, x := range v {
			dst = append(dst, byte((uint64(x)-uint64(lo))>>shift))
		}
	}
	return dst
}

func zigzag(x int64) uint64   { return uint64(x<<1) ^ uint64(x>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func uvarintLen(u uint64) int { return (bits.Len64(u|1) + 6) / 7 }

// ints reads n integers. The slice lives until the next call.
func (d *reader) ints(n int) ([]int64, error) {
	if n == 0 {
		return nil, nil
	}
	mode, err := d.byte()
	if err != nil {
		return nil, err
	}
	switch {
	case mode == modeDelta:
		if n > len(d.b) { // at least a byte each
			return nil, errCut()
		}
		v := d.scratchInts(n)
		last := int64(0)
		for i := range v {
			u, err := d.uvarint()
			if err != nil {
				return nil, err
			}
			last += unzigzag(u)
			v[i] = last
		}
		return v, nil
	case mode < modeDelta:
		base, err := d.uvarint()
		if err != nil {
			return nil, err
		}
		planes, err := d.take(int(mode), n)
		if err != nil {
			return nil, err
		}
		lo := uint64(unzigzag(base))
		v := d.scratchInts(n)
		for i := range v {
			v[i] = 0
		}
		for p := range int(mode) {
			for i, c := range planes[p*n:][:n] {
				v[i] |= int64(uint64(c) << (8 * p))
			}
		}
		for i := range v {
			v[i] = int64(uint64(v[i]) + lo)
		}
		return v, nil
	}
	return nil, bad("integers in unknown mode %d", mode)
}

// The modes of reals.
const (
	realsEqual  = 0
	realsPlanes = 1
)

// appendReals writes reals bit by bit: one when all are the same, else eight planes.
func appendReals(dst []byte, v []float64) []byte {
	if len(v) == 0 {
		return dst
	}
	first, equal := math.Float64bits(v[0]), true
	for _, x := range v {
		if math.Float64bits(x) != first {
			equal = false
			break
		}
	}
	if equal {
		dst = append(dst, realsEqual)
		return binary.LittleEndian.AppendUint64(dst, first)
	}
	dst = append(dst, realsPlanes)
	for shift := 0; shift < 64; shift += 8 {
		for _, x := range v {
			dst = append(dst, byte(math.Float64bits(x)>>shift))
		}
	}
	return dst
}

// reals reads n reals; none is NaN. The slice is the caller's.
func (d *reader) reals(n int) ([]float64, error) {
	if n == 0 {
		return nil, nil
	}
	mode, err := d.byte()
	if err != nil {
		return nil, err
	}
	v := []float64(nil)
	switch mode {
	case realsEqual:
		b, err := d.take(8, 1)
		if err != nil {
			return nil, err
		}
		x := math.Float64frombits(binary.LittleEndian.Uint64(b))
		v = make([]float64, n)
		for i := range v {
			v[i] = x
		}
	case realsPlanes:
		p, err := d.take(8, n)
		if err != nil {
			return nil, err
		}
		v = make([]float64, n)
		for i := range v {
			var u uint64
			for k := range 8 {
				u |= uint64(p[k*n+i]) << (8 * k)
			}
			v[i] = math.Float64frombits(u)
		}
	default:
		return nil, bad("reals in unknown mode %d", mode)
	}
	for i, x := range v {
		if x != x {
			return nil, badRow(i, "NaN: SQLite stores it as NULL, send NULL")
		}
	}
	return v, nil
}
