// Package sqlfuncs adds vector functions in C to SQLite connections of github.com/mattn/go-sqlite3.
//
//	conn, err := sqlfuncs.Open("app.db", nil) // a *sqlite3.SQLiteConn
//
//	SELECT id FROM docs ORDER BY cosine_similarity(embedding, ?) DESC LIMIT 10
//	INSERT INTO docs(embedding) VALUES (vec_f32('[0.1, 0.2, 0.3]'))
//
// The functions, with a, b and x packed vectors or JSON arrays:
//
//	cosine_similarity(a, b)      cosine of the angle, -1 to 1; 0 if either vector is zero
//	vec_distance_cosine(a, b)    1 - cosine_similarity(a, b)
//	dot_product(a, b)            inner product
//	vec_distance_L2(a, b)        Euclidean distance
//	vec_distance_L1(a, b)        Manhattan distance
//	vec_distance_hamming(a, b)   how many bits differ; of bit vectors only
//	vec_f32(x), vec_f64(x)       x packed as float32, or as float64
//	vec_f16(x), vec_bf16(x)      x packed as float16, or as bfloat16
//	vec_int8(x), vec_bit(x)      x packed as int8, or as bits; its elements must be such numbers
//	vec_quantize_int8(x, 'unit') int8 with -1 to 1 spread over -128 to 127
//	vec_quantize_binary(x)       bits, 1 where an element is above zero
//	vec_normalize(x)             x divided by its length, in its own float type; zero stays zero
//	vec_add(a, b), vec_sub(a, b) element by element, in the wider type
//	vec_slice(x, start, end)     the elements from start up to but not including end, from 0
//	vec_to_json(x)               x as JSON text
//	vec_length(x)                number of elements
//	vec_type(x)                  'float32', 'float64', 'float16', 'bfloat16', 'int8' or 'bit'
//	vec_sum(x), vec_avg(x)       aggregates: element by element over the rows of a group
//	vec_each(x)                  table function: a row (rowid, value) an element
//	vec_version(), vec_debug()   version; kernels in use and more, for a bug report
//
// NULL gives NULL. Anything that is not a vector is an error that says why: a wrong length,
// different dimensions, an element that is NaN or infinite, more than 65,536 dimensions.
//
// A packed vector is little-endian, elements first. Even length: float32, as sqlite-vec, libSQL
// and numpy write it. Odd length: the last byte is the type. FORMAT.md has it to the byte.
// Floats of any types may be compared with each other, int8 with int8 and bits with bits; an
// untagged blob of 8*n bytes compared with a float vector of n elements is read as float64. Text
// is what the other vector is: float32 beside a float, except float64 beside float64 or text.
//
// From Go, pass [Vector], [Vector64], [VectorF16], [VectorBF16], [VectorInt8] and [VectorBit].
//
// Other programs load the same functions as an extension: make extension.
package sqlfuncs

/*
#cgo CFLAGS: -std=gnu11 -Wall
#cgo !windows LDFLAGS: -lm
// Apple's linker wants to be told that symbols may come later.
#cgo darwin LDFLAGS: -Wl,-undefined,dynamic_lookup
#include "kernels.h"
#include "register.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	sqlite3 "github.com/mattn/go-sqlite3"
)

var chooseKernels = sync.OnceFunc(func() { C.vs_choose_kernels() })

// Open opens a connection as go-sqlite3 does, with the vector functions registered on it and
// on no other connection of the process. The DSN is go-sqlite3's. hook, unless nil, is its
// ConnectHook: it runs last, and its error closes the connection and is returned.
func Open(dsn string, hook func(*sqlite3.SQLiteConn) error) (*sqlite3.SQLiteConn, error) {
	chooseKernels()

	// The mark set by vs_begin_open belongs to the thread, so stay on it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if rc := C.vs_begin_open(); rc != 0 {
		return nil, fmt.Errorf("sqlfuncs: add auto extension: %w", sqlite3.ErrNo(rc))
	}
	defer C.vs_end_open() // also where Open fails or a hook panics

	drv := &sqlite3.SQLiteDriver{ConnectHook: func(conn *sqlite3.SQLiteConn) error {
		if C.vs_end_open() != 1 {
			return errors.New("sqlfuncs: SQLite did not run its auto extensions")
		}
		if hook == nil {
			return nil
		}
		return hook(conn)
	}}
	conn, err := drv.Open(dsn)
	if err != nil {
		return nil, err
	}
	return conn.(*sqlite3.SQLiteConn), nil
}
