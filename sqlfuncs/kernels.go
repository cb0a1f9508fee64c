package sqlfuncs

// #include "half.h"
// #include "kernels.h"
//
// enum sum { DOT, DOT_NORM, L2SQ, L1 };
//
// #define CALL(sums) \
//   switch (op) { \
//   case DOT: return (sums).dot(a, b, n); \
//   case DOT_NORM: return (sums).dot_norm(a, b, n, aa); \
//   case L2SQ: return (sums).l2sq(a, b, n); \
//   case L1: return (sums).l1(a, b, n); \
//   } \
//   return 0
//
// static float call_sum32(const vs_kernels *k, enum vs_pair pair, enum sum op, const void *a, const void *b, size_t n, float *aa) { CALL(k->sums32[pair]); }
// static double call_sum64(const vs_kernels *k, enum sum op, const void *a, const void *b, size_t n, double *aa) { CALL(k->sums64); }
// static int64_t call_sum8(const vs_kernels *k, enum sum op, const void *a, const void *b, size_t n, int64_t *aa) { CALL(k->sums8); }
// static int64_t call_both(const vs_kernels *k, const void *a, const void *b, size_t n) { return k->sums1.both(a, b, n); }
// static int64_t call_differ(const vs_kernels *k, const void *a, const void *b, size_t n) { return k->sums1.differ(a, b, n); }
// static int64_t call_ones(const vs_kernels *k, const void *a, size_t n) { return k->sums1.ones(a, n); }
// static void use_kernels(const vs_kernels *k) { vs_best = k; }
// static const vs_kernels *kernels_in_use(void) { return vs_best; }
//
// #cgo noescape call_sum32
// #cgo nocallback call_sum32
// #cgo noescape call_sum64
// #cgo nocallback call_sum64
// #cgo noescape call_sum8
// #cgo nocallback call_sum8
// #cgo noescape call_both
// #cgo nocallback call_both
// #cgo noescape call_differ
// #cgo nocallback call_differ
// #cgo noescape call_ones
// #cgo nocallback call_ones
import "C"

import "unsafe"

// A kernels is one implementation of the sums of kernels.h. Only tests use it from Go (cgo does
// not work in test files); SQL goes from C to C.
type kernels struct{ c *C.vs_kernels }

// A pair names the types of a float32 sum, as enum vs_pair.
type pair int

const (
	f32f32 pair = iota
	f16f32
	bf16f32
	f16f16
	bf16bf16
	pairs
)

// A sumOp is one of the four sums: the inner product, also with the norm of a, the squared
// Euclidean distance and the Manhattan distance.
type sumOp int

const (
	sumDot sumOp = iota
	sumDotNorm
	sumL2sq
	sumL1
)

// allKernels returns what this machine can run, plain C first, the one in use last.
func allKernels() []kernels {
	var all []kernels
	for i := C.int(0); ; i++ {
		k := C.vs_kernels_at(i)
		if k == nil {
			return all
		}
		all = append(all, kernels{k})
	}
}

func (k kernels) name() string { return C.GoString(k.c.name) }

func (k kernels) lanes() (f32, f64 int) { return int(k.c.lanes32), int(k.c.lanes64) }

// use makes SQL use k until undo is called. Tests alone do this, one at a time.
func (k kernels) use() (undo func()) {
	before := C.kernels_in_use()
	C.use_kernels(k.c)
	return func() { C.use_kernels(before) }
}

// The sums. a and b are packed elements without a type byte, at any address, and n long. norm is
// the inner product of a with itself for sumDotNorm, else 0.

func (k kernels) sum32(p pair, op sumOp, a, b []byte, n int) (sum, norm float32) {
	var aa C.float
	s := C.call_sum32(k.c, C.enum_vs_pair(p), C.enum_sum(op), start(a), start(b), C.size_t(n), &aa)
	return float32(s), float32(aa)
}

func (k kernels) sum64(op sumOp, a, b []byte, n int) (sum, norm float64) {
	var aa C.double
	s := C.call_sum64(k.c, C.enum_sum(op), start(a), start(b), C.size_t(n), &aa)
	return float64(s), float64(aa)
}

func (k kernels) sum8(op sumOp, a, b []byte, n int) (sum, norm int64) {
	var aa C.int64_t
	s := C.call_sum8(k.c, C.enum_sum(op), start(a), start(b), C.size_t(n), &aa)
	return int64(s), int64(aa)
}

func (k kernels) both(a, b []byte, n int) int64 {
	return int64(C.call_both(k.c, start(a), start(b), C.size_t(n)))
}

func (k kernels) differ(a, b []byte, n int) int64 {
	return int64(C.call_differ(k.c, start(a), start(b), C.size_t(n)))
}

func (k kernels) ones(a []byte, n int) int64 {
	return int64(C.call_ones(k.c, start(a), C.size_t(n)))
}

func start(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// The conversions of half.h, for their test.

func f16Bits(x float64) uint16   { return uint16(C.vs_f16_bits(C.double(x))) }
func bf16Bits(x float64) uint16  { return uint16(C.vs_bf16_bits(C.double(x))) }
func f16Value(h uint16) float32  { return float32(C.vs_f16_value(C.uint16_t(h))) }
func bf16Value(h uint16) float32 { return float32(C.vs_bf16_value(C.uint16_t(h))) }
