package sqlfuncs

// #include <stdlib.h>
// #include "knn_code.h"
import "C"

import "unsafe"

// The arithmetic of the index for its tests alone: cgo does not work in test files.

func knnUsePlain(plain bool) {
	n := C.int(0)
	if plain {
		n = 1
	}
	C.knn_use_plain(n)
}

// knnProducts takes a query whose first half are the elements of low halves of bytes.
func knnProducts(codes []byte, query []int8, padded int) []int32 {
	low := (*C.int8_t)(C.CBytes(unsafe.Slice((*byte)(unsafe.Pointer(&query[0])), padded)))
	defer C.free(unsafe.Pointer(low))
	q := C.knn_query{low: low, high: (*C.int8_t)(unsafe.Add(unsafe.Pointer(low), padded/2)), unit: 1}
	out := make([]int32, len(codes)/(padded/2))
	C.knn_products((*C.int32_t)(&out[0]), (*C.uint8_t)(&codes[0]), C.size_t(len(out)), &q, C.size_t(padded))
	return out
}

func knnRotate(v []float32, seed uint64) []float32 {
	signs := make([]float32, 4*len(v))
	C.knn_signs((*C.float)(&signs[0]), C.size_t(len(v)), C.uint64_t(seed))
	out := append([]float32(nil), v...)
	C.knn_rotate((*C.float)(&out[0]), C.size_t(len(v)), (*C.float)(&signs[0]))
	return out
}

// knnEstimate returns what the code of x in the list of c makes of the inner product of x - c and y.
func knnEstimate(x, c, y []float32) float32 {
	n := len(x)
	code, work := make([]byte, n/2), make([]float32, 2*n)
	var f C.knn_factors
	C.knn_encode((*C.uint8_t)(&code[0]), &f, (*C.float)(&x[0]), (*C.float)(&c[0]), C.size_t(n), (*C.float)(&work[0]))
	room := (*C.int8_t)(C.malloc(C.size_t(n)))
	defer C.free(unsafe.Pointer(room))
	var q C.knn_query
	var product C.int32_t
	C.knn_quantize(&q, room, (*C.float)(&y[0]), C.size_t(n))
	C.knn_products(&product, (*C.uint8_t)(&code[0]), 1, &q, C.size_t(n))
	return float32(f.scale) * (float32(product) - 7.5*float32(q.sum)) * float32(q.unit)
}

// knnMatrix returns the inner products of n vectors of x with k of c.
func knnMatrix(x, c []float32, n, k, padded int) []float32 {
	packed := make([]float32, (k+15)/16*16*padded)
	C.knn_pack((*C.float)(&packed[0]), (*C.float)(&c[0]), C.size_t(k), C.size_t(padded))
	out := make([]float32, n*k)
	C.knn_matrix((*C.float)(&out[0]), (*C.float)(&x[0]), C.size_t(n), (*C.float)(&packed[0]), C.size_t(k), C.size_t(padded))
	return out
}
