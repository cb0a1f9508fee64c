package sqlfuncs

// #include "kernels.h"
//
// static float call_dot_f32(const vs_kernels *k, const void *a, const void *b, size_t n) { return k->dot_f32(a, b, n); }
// static float call_dot_norm_f32(const vs_kernels *k, const void *a, const void *b, size_t n, float *aa) { return k->dot_norm_f32(a, b, n, aa); }
// static float call_l2sq_f32(const vs_kernels *k, const void *a, const void *b, size_t n) { return k->l2sq_f32(a, b, n); }
// static double call_dot_f64(const vs_kernels *k, const void *a, const void *b, size_t n) { return k->dot_f64(a, b, n); }
// static double call_dot_norm_f64(const vs_kernels *k, const void *a, const void *b, size_t n, double *aa) { return k->dot_norm_f64(a, b, n, aa); }
// static double call_l2sq_f64(const vs_kernels *k, const void *a, const void *b, size_t n) { return k->l2sq_f64(a, b, n); }
//
// #cgo noescape call_dot_f32
// #cgo nocallback call_dot_f32
// #cgo noescape call_dot_norm_f32
// #cgo nocallback call_dot_norm_f32
// #cgo noescape call_l2sq_f32
// #cgo nocallback call_l2sq_f32
// #cgo noescape call_dot_f64
// #cgo nocallback call_dot_f64
// #cgo noescape call_dot_norm_f64
// #cgo nocallback call_dot_norm_f64
// #cgo noescape call_l2sq_f64
// #cgo nocallback call_l2sq_f64
import "C"

import "unsafe"

// A kernels is one implementation of the sums of kernels.h. Only tests use it from Go (cgo does
// not work in test files); SQL goes from C to C.
type kernels struct{ c *C.vs_kernels }

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

// The sums. a and b are packed elements without a type byte, at any address, and equally long.

func (k kernels) dotF32(a, b []byte) float32 {
	return float32(C.call_dot_f32(k.c, start(a), start(b), C.size_t(len(a)/4)))
}

func (k kernels) dotNormF32(a, b []byte) (dot, aa float32) {
	var norm C.float
	dot = float32(C.call_dot_norm_f32(k.c, start(a), start(b), C.size_t(len(a)/4), &norm))
	return dot, float32(norm)
}

func (k kernels) l2sqF32(a, b []byte) float32 {
	return float32(C.call_l2sq_f32(k.c, start(a), start(b), C.size_t(len(a)/4)))
}

func (k kernels) dotF64(a, b []byte) float64 {
	return float64(C.call_dot_f64(k.c, start(a), start(b), C.size_t(len(a)/8)))
}

func (k kernels) dotNormF64(a, b []byte) (dot, aa float64) {
	var norm C.double
	dot = float64(C.call_dot_norm_f64(k.c, start(a), start(b), C.size_t(len(a)/8), &norm))
	return dot, float64(norm)
}

func (k kernels) l2sqF64(a, b []byte) float64 {
	return float64(C.call_l2sq_f64(k.c, start(a), start(b), C.size_t(len(a)/8)))
}

func start(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }
