package sqlfuncs

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// MaxDims is the most elements that a vector may have, here and in SQL.
const MaxDims = 65536

// ErrVector is matched by every error about something that is not a vector, or is one that
// this build cannot read.
var ErrVector = errors.New("sqlfuncs: not a vector")

// A vectorError is an ErrVector with its reason.
type vectorError struct{ reason string }

func (e *vectorError) Error() string        { return "sqlfuncs: vector " + e.reason }
func (e *vectorError) Is(target error) bool { return target == ErrVector }

func notVector(format string, args ...any) error {
	return &vectorError{fmt.Sprintf(format, args...)}
}

// A Vector is a float32 vector on its way to or from a database. As a query argument it is
// packed by [PackF32]; nil is NULL. As a Scan destination it takes a packed vector of either
// type, JSON text, or NULL, which makes it nil.
type Vector []float32

// A Vector64 is a float64 vector, packed by [PackF64], otherwise like [Vector].
type Vector64 []float64

// Value implements [driver.Valuer].
func (v Vector) Value() (driver.Value, error) {
	if v == nil {
		return nil, nil
	}
	return PackF32(v)
}

// Scan implements [database/sql.Scanner]. It copies what it is given.
func (v *Vector) Scan(src any) error {
	switch src := src.(type) {
	case nil:
		*v = nil
		return nil
	case []byte:
		elements, err := UnpackF32(src)
		if err == nil {
			*v = elements
		}
		return err
	case string:
		wide, err := parseJSON(src)
		if err != nil {
			return err
		}
		elements, err := narrow(wide)
		if err == nil {
			*v = elements
		}
		return err
	}
	return notVector("cannot come from a %T; a column of vectors holds blobs, or JSON arrays as text", src)
}

// Value implements [driver.Valuer].
func (v Vector64) Value() (driver.Value, error) {
	if v == nil {
		return nil, nil
	}
	return PackF64(v)
}

// Scan implements [database/sql.Scanner]. It copies what it is given.
func (v *Vector64) Scan(src any) error {
	var elements []float64
	var err error
	switch src := src.(type) {
	case nil:
	case []byte:
		elements, err = UnpackF64(src)
	case string:
		elements, err = parseJSON(src)
	default:
		err = notVector("cannot come from a %T; a column of vectors holds blobs, or JSON arrays as text", src)
	}
	if err == nil {
		*v = elements
	}
	return err
}

// PackF32 returns v as an untagged blob: 4*len(v) bytes, little-endian float32. The error is an
// ErrVector where v is empty, has more than MaxDims elements, or one that is not finite.
func PackF32(v []float32) ([]byte, error) {
	if err := checkDims(len(v)); err != nil {
		return nil, err
	}
	blob := make([]byte, 0, 4*len(v))
	for i, x := range v {
		if err := checkFinite(i, float64(x)); err != nil {
			return nil, err
		}
		blob = binary.LittleEndian.AppendUint32(blob, math.Float32bits(x))
	}
	return blob, nil
}

// PackF64 returns v as a tagged blob: 8*len(v) bytes, little-endian float64, and the type byte
// 2. Errors are those of PackF32.
func PackF64(v []float64) ([]byte, error) {
	if err := checkDims(len(v)); err != nil {
		return nil, err
	}
	blob := make([]byte, 0, 8*len(v)+1)
	for i, x := range v {
		if err := checkFinite(i, x); err != nil {
			return nil, err
		}
		blob = binary.LittleEndian.AppendUint64(blob, math.Float64bits(x))
	}
	return append(blob, tagF64), nil
}

// UnpackF32 reads a blob of either type; float64 elements are rounded to float32. The error is
// an ErrVector where the blob is not a vector, has an element that is not finite, or one that a
// float32 cannot hold.
func UnpackF32(blob []byte) ([]float32, error) {
	n, wide, err := layout(blob)
	if err != nil {
		return nil, err
	}
	if wide {
		elements, err := UnpackF64(blob)
		if err != nil {
			return nil, err
		}
		return narrow(elements)
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(blob[4*i:]))
		if err := checkFinite(i, float64(v[i])); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// UnpackF64 reads a blob of either type; a float32 keeps its exact value. An untagged blob is
// float32, also where its writer meant float64: nothing in it says so. Errors are those of
// UnpackF32, without its last.
func UnpackF64(blob []byte) ([]float64, error) {
	n, wide, err := layout(blob)
	if err != nil {
		return nil, err
	}
	v := make([]float64, n)
	for i := range v {
		if wide {
			v[i] = math.Float64frombits(binary.LittleEndian.Uint64(blob[8*i:]))
		} else {
			v[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(blob[4*i:])))
		}
		if err := checkFinite(i, v[i]); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// The type bytes that end a blob of odd length, as in vector.h.
const (
	tagF32 = 1
	tagF64 = 2
)

// later names the types that other writers use and this build cannot read.
var later = map[byte]string{3: "1-bit", 4: "8-bit", 5: "float16", 6: "bfloat16"}

// layout returns how many elements a blob has and whether they are float64. It says no to the
// same blobs as vs_read_blob, in the same words.
func layout(blob []byte) (n int, wide bool, err error) {
	size := len(blob)
	switch {
	case size == 0:
		return 0, false, notVector("is an empty blob; a vector has at least one element")
	case size%4 == 0:
		return size / 4, false, checkDims(size / 4)
	case size%2 == 0:
		return 0, false, notVector("is a blob of %d bytes; a float32 vector takes a multiple of 4, other types one "+
			"more byte that names the type: write vectors with vec_f32 or vec_f64", size)
	}
	tag := blob[size-1]
	width, name := 4, "float32"
	switch tag {
	case tagF32:
	case tagF64:
		width, name = 8, "float64"
	default:
		if name, ok := later[tag]; ok {
			return 0, false, notVector("has type byte %d (%s), which is not supported yet by this build; store it "+
				"with vec_f32 or vec_f64", tag, name)
		}
		return 0, false, notVector("is a blob of %d bytes with the unknown type byte %d; an odd length ends with 1 "+
			"(float32) or 2 (float64), an even one is float32", size, tag)
	}
	if size == 1 {
		return 0, false, notVector("has no elements before its type byte; a vector has at least one")
	}
	if (size-1)%width != 0 {
		return 0, false, notVector("is a blob of %d bytes with type byte %d (%s); it takes a multiple of %d and the "+
			"type byte", size, tag, name, width)
	}
	n = (size - 1) / width
	return n, tag == tagF64, checkDims(n)
}

func checkDims(n int) error {
	switch {
	case n == 0:
		return notVector("is empty; a vector has at least one element")
	case n > MaxDims:
		return notVector("has %d dimensions; the most is %d", n, MaxDims)
	}
	return nil
}

func checkFinite(i int, x float64) error {
	var name string
	switch {
	case math.IsNaN(x):
		name = "NaN"
	case math.IsInf(x, 1):
		name = "infinity"
	case math.IsInf(x, -1):
		name = "-infinity"
	default:
		return nil
	}
	return notVector("has %s as element [%d], counting from 0; vectors hold finite numbers", name, i)
}

// narrow rounds finite elements to float32.
func narrow(wide []float64) ([]float32, error) {
	v := make([]float32, len(wide))
	for i, x := range wide {
		v[i] = float32(x)
		if math.IsInf(float64(v[i]), 0) {
			return nil, notVector("has an element [%d], counting from 0, beyond the range of a float32; keep it as "+
				"float64 with vec_f64", i)
		}
	}
	return v, nil
}
