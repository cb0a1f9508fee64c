package sqlfuncs

import "math"

// A half is a float of 16 bits with so many bits of mantissa after the point: 5 of exponent are
// left for a float16, 8 for a bfloat16. half.h is the same in C.
type half int

const (
	float16  half = 10
	bfloat16 half = 7
)

// bits returns the bits nearest to a finite x, ties to even, and false where that is infinity.
func (h half) bits(x float64) (uint16, bool) {
	bias := 1<<(14-h) - 1
	var sign uint16
	if math.Signbit(x) {
		sign = 0x8000
	}
	_, exp := math.Frexp(x)
	if exp--; exp < 1-bias || x == 0 {
		exp = 1 - bias // denormals share the smallest exponent
	}
	infinity := uint64(2*bias+1) << h
	if exp > bias {
		return sign | uint16(infinity), false
	}
	units := uint64(math.RoundToEven(math.Ldexp(math.Abs(x), int(h)-exp)))
	bits := uint64(exp+bias-1)<<h + units // a carry raises the exponent
	if bits >= infinity {
		return sign | uint16(infinity), false
	}
	return sign | uint16(bits), true
}

// value returns the number that the bits stand for, NaN and infinity too.
func (h half) value(bits uint16) float64 {
	bias := 1<<(14-h) - 1
	exp, mantissa := int(bits&0x7fff>>h), int(bits)&(1<<h-1)
	var x float64
	switch exp {
	case 2*bias + 1:
		x = math.Inf(1)
		if mantissa != 0 {
			x = math.NaN()
		}
	case 0:
		x = math.Ldexp(float64(mantissa), 1-bias-int(h))
	default:
		x = math.Ldexp(float64(mantissa+1<<h), exp-bias-int(h))
	}
	if bits&0x8000 != 0 {
		x = -x
	}
	return x
}
