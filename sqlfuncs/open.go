// Package sqlfuncs adds vector functions in C to SQLite connections of github.com/mattn/go-sqlite3.
//
//	conn, err := sqlfuncs.Open("app.db", nil) // a *sqlite3.SQLiteConn
//
//	SELECT id FROM docs ORDER BY cosine_similarity(embedding, ?) DESC LIMIT 10
//	INSERT INTO docs(embedding) VALUES (vec_f32('[0.1, 0.2, 0.3]'))
//
// The functions, with a, b and x packed vectors or JSON arrays:
//
//	cosine_similarity(a, b)    cosine of the angle, -1 to 1; 0 if either vector is zero
//	vec_distance_cosine(a, b)  1 - cosine_similarity(a, b)
//	dot_product(a, b)          inner product
//	vec_distance_L2(a, b)      Euclidean distance
//	vec_f32(x), vec_f64(x)     x packed as float32, or as float64 with its type byte
//	vec_normalize(x)           x divided by its length, in its own type; zero stays zero
//	vec_to_json(x)             x as JSON text
//	vec_length(x)              number of elements
//	vec_type(x)                'float32' or 'float64'
//
// NULL gives NULL. Anything that is not a vector is an error that says why: a wrong length,
// different dimensions, an element that is NaN or infinite, more than 65,536 dimensions.
//
// A packed vector is little-endian, elements first. Even length: float32, as sqlite-vec, libSQL
// and numpy write it. Odd length: the last byte is the type, 1 for float32 and 2 for float64.
// An untagged blob of 8*n bytes compared with a vector of n elements is read as float64.
// Text is float32, except beside float64 or other text, where it is float64.
//
// From Go, pass [Vector] and [Vector64].
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
