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

// ErrVector is matched by every error about something that is not a vector.
var ErrVector = errors.New("sqlfuncs: not a vector")

// A vectorError is an ErrVector with its reason.
type vectorError struct{ reason string }

func (e *vectorError) Error() string        { return "sqlfuncs: vector " + e.reason }
func (e *vectorError) Is(target error) bool { return target == ErrVector }

func notVector(format string, args ...any) error {
	return &vectorError{fmt.Sprintf(format, args...)}
}

// A Vector is a float32 vector on its way to or from a database. As a query argument it is
// packed by [PackF32]; nil is NULL. As a Scan destination it takes a packed vector of any type,
// JSON text, or NULL, which makes it nil; Scan copies what it is given.
type Vector []float32

// A Vector64 is a float64 vector, packed by [PackF64], otherwise like [Vector].
type Vector64 []float64

// A VectorF16 is packed by [PackF16] as float16, in half the bytes of a [Vector]: 11 bits of
// mantissa, up to 65504. Its elements are float32, because Go has no smaller float; they are
// rounded as they are packed. Otherwise it is like Vector.
type VectorF16 []float32

// A VectorBF16 is packed by [PackBF16] as bfloat16, the upper half of a float32: 8 bits of
// mantissa, and the range of a float32. Otherwise it is like [VectorF16].
type VectorBF16 []float32

// A VectorInt8 is packed by [PackInt8]. As a Scan destination it takes what [UnpackInt8] reads,
// JSON text, or NULL.
type VectorInt8 []int8

// A VectorBit is packed by [PackBit], eight elements a byte; true is 1. As a Scan destination it
// takes what [UnpackBit] reads, JSON text of zeros and ones, or NULL.
type VectorBit []bool

// Value implements [driver.Valuer].
func (v Vector) Value() (driver.Value, error) { return value(v, PackF32) }

// Value implements [driver.Valuer].
func (v Vector64) Value() (driver.Value, error) { return value(v, PackF64) }

// Value implements [driver.Valuer].
func (v VectorF16) Value() (driver.Value, error) { return value(v, PackF16) }

// Value implements [driver.Valuer].
func (v VectorBF16) Value() (driver.Value, error) { return value(v, PackBF16) }

// Value implements [driver.Valuer].
func (v VectorInt8) Value() (driver.Value, error) { return value(v, PackInt8) }

// Value implements [driver.Valuer].
func (v VectorBit) Value() (driver.Value, error) { return value(v, PackBit) }

// value packs v, or gives NULL for nil.
func value[T any](v []T, pack func([]T) ([]byte, error)) (driver.Value, error) {
	if v == nil {
		return nil, nil
	}
	return pack(v)
}

// Scan implements [database/sql.Scanner].
func (v *Vector) Scan(src any) error { return scan((*[]float32)(v), src, UnpackF32, narrow) }

// Scan implements [database/sql.Scanner].
func (v *Vector64) Scan(src any) error {
	return scan((*[]float64)(v), src, UnpackF64, func(wide []float64) ([]float64, error) { return wide, nil })
}

// Scan implements [database/sql.Scanner].
func (v *VectorF16) Scan(src any) error { return scan((*[]float32)(v), src, UnpackF32, narrow) }

// Scan implements [database/sql.Scanner].
func (v *VectorBF16) Scan(src any) error { return scan((*[]float32)(v), src, UnpackF32, narrow) }

// Scan implements [database/sql.Scanner].
func (v *VectorInt8) Scan(src any) error { return scan((*[]int8)(v), src, UnpackInt8, toInt8) }

// Scan implements [database/sql.Scanner].
func (v *VectorBit) Scan(src any) error { return scan((*[]bool)(v), src, UnpackBit, toBit) }

// scan sets *v from a column: NULL, a blob, or text by way of its numbers. On an error *v stays
// as it was.
func scan[T any](v *[]T, src any, unpack func([]byte) ([]T, error), convert func([]float64) ([]T, error)) error {
	var elements []T
	var err error
	switch src := src.(type) {
	case nil:
	case []byte:
		elements, err = unpack(src)
	case string:
		var wide []float64
		if wide, err = parseJSON(src); err == nil {
			elements, err = convert(wide)
		}
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

// PackF16 returns v as a tagged blob: 2*len(v) bytes, little-endian float16, each rounded to the
// nearest, and the type byte 5. Errors are those of PackF32, and an element beyond 65504.
func PackF16(v []float32) ([]byte, error) {
	return packHalf(v, float16, tagF16, "beyond the range of a float16, 65504; keep it as float32 with vec_f32")
}

// PackBF16 returns v as a tagged blob: 2*len(v) bytes, little-endian bfloat16, each rounded to
// the nearest, and the type byte 6. Errors are those of PackF32, and an element that rounds up
// beyond the range.
func PackBF16(v []float32) ([]byte, error) {
	return packHalf(v, bfloat16, tagBF16, "beyond the range of a bfloat16; keep it as float64 with vec_f64")
}

func packHalf(v []float32, format half, tag byte, beyond string) ([]byte, error) {
	if err := checkDims(len(v)); err != nil {
		return nil, err
	}
	blob := make([]byte, 0, 2*len(v)+1)
	for i, x := range v {
		if err := checkFinite(i, float64(x)); err != nil {
			return nil, err
		}
		bits, fits := format.bits(float64(x))
		if !fits {
			return nil, notVector("has an element [%d], counting from 0, %s", i, beyond)
		}
		blob = binary.LittleEndian.AppendUint16(blob, bits)
	}
	return append(blob, tag), nil
}

// PackInt8 returns v as a tagged blob: a byte each and the type byte 16, or, where len(v) is
// odd, a zero and the type byte 17. The error is an ErrVector where v is empty or has more than
// MaxDims elements.
func PackInt8(v []int8) ([]byte, error) {
	if err := checkDims(len(v)); err != nil {
		return nil, err
	}
	blob := make([]byte, 0, len(v)+2)
	for _, x := range v {
		blob = append(blob, byte(x))
	}
	if len(v)%2 != 0 {
		return append(blob, 0, tagInt8Odd), nil
	}
	return append(blob, tagInt8), nil
}

// PackBit returns v as a tagged blob: eight elements a byte, the first in its lowest bit, what
// libSQL needs to know their number, and the type byte 3. Errors are those of PackInt8.
func PackBit(v []bool) ([]byte, error) {
	if err := checkDims(len(v)); err != nil {
		return nil, err
	}
	data := (len(v) + 7) / 8
	blob := make([]byte, data, data+3)
	for i, x := range v {
		if x {
			blob[i/8] |= 1 << (i % 8)
		}
	}
	if data%2 == 0 {
		blob = append(blob, 0)
	}
	return append(blob, byte(8*(len(blob)+1)-len(v)), tagBit), nil
}

// UnpackF32 reads a blob of any type; float64 elements are rounded to float32. The error is an
// ErrVector where the blob is not a vector, has an element that is not finite, or one that a
// float32 cannot hold.
func UnpackF32(blob []byte) ([]float32, error) {
	p, err := read(blob)
	if err != nil {
		return nil, err
	}
	if p.tag == tagF64 || p.tag == tagQ8 {
		wide, err := p.elements()
		if err != nil {
			return nil, err
		}
		return narrow(wide)
	}
	v := make([]float32, p.n)
	for i := range v {
		v[i] = float32(p.at(i))
		if err := checkFinite(i, float64(v[i])); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// UnpackF64 reads a blob of any type; elements keep their exact value. An untagged blob is
// float32, also where its writer meant float64: nothing in it says so. Errors are those of
// UnpackF32, without its last.
func UnpackF64(blob []byte) ([]float64, error) {
	p, err := read(blob)
	if err != nil {
		return nil, err
	}
	return p.elements()
}

// UnpackInt8 reads what vec_int8 reads: a tagged blob of any type whose elements are whole
// numbers from -128 to 127, or a blob of even length, or of one byte, as raw elements. The error
// is an ErrVector where it is neither.
func UnpackInt8(blob []byte) ([]int8, error) {
	p, err := readRaw(blob, tagInt8)
	if err != nil {
		return nil, err
	}
	wide, err := p.elements()
	if err != nil {
		return nil, err
	}
	return toInt8(wide)
}

// UnpackBit reads what vec_bit reads: a tagged blob of any type whose elements are 0 or 1, or a
// blob of even length, or of one byte, as raw bits. The error is an ErrVector where it is neither.
func UnpackBit(blob []byte) ([]bool, error) {
	p, err := readRaw(blob, tagBit)
	if err != nil {
		return nil, err
	}
	wide, err := p.elements()
	if err != nil {
		return nil, err
	}
	return toBit(wide)
}

// The type bytes that end a blob of odd length, as in vector.h. FORMAT.md has the whole layout.
const (
	tagF32     = 1
	tagF64     = 2
	tagBit     = 3
	tagQ8      = 4
	tagF16     = 5
	tagBF16    = 6
	tagInt8    = 16
	tagInt8Odd = 17
)

// A packed is a blob that was found to be a vector.
type packed struct {
	tag          byte // tagInt8Odd is tagInt8 here
	n            int
	blob         []byte
	scale, shift float64 // of tagQ8
}

// read describes a blob. It says no to the same blobs as vs_read_blob and vs_check_dims, in the
// same words.
func read(blob []byte) (packed, error) {
	size := len(blob)
	switch {
	case size == 0:
		return packed{}, notVector("is an empty blob; a vector has at least one element")
	case size%4 == 0:
		return packed{tag: tagF32, n: size / 4, blob: blob}, checkDims(size / 4)
	case size%2 == 0:
		return packed{}, notVector("is a blob of %d bytes; a float32 vector takes a multiple of 4, other types one more "+
			"byte that names the type: write vectors with vec_f32 or vec_f64", size)
	}
	p := packed{tag: blob[size-1], blob: blob}
	var width int
	var name string
	switch p.tag {
	case tagBit:
		return readBit(p)
	case tagQ8:
		return readQ8(p)
	case tagF32:
		width, name = 4, "float32"
	case tagF64:
		width, name = 8, "float64"
	case tagF16:
		width, name = 2, "float16"
	case tagBF16:
		width, name = 2, "bfloat16"
	case tagInt8, tagInt8Odd:
		width, name = 1, "int8"
	default:
		return packed{}, notVector("is a blob of %d bytes with the unknown type byte %d; an odd length ends with 1 "+
			"(float32), 2 (float64), 3 (bit), 4 (float8), 5 (float16), 6 (bfloat16), 16 or 17 (int8), an even one is "+
			"float32", size, p.tag)
	}
	data := size - 1
	if p.tag == tagInt8Odd {
		if size < 3 || blob[size-2] != 0 {
			return packed{}, notVector("ends with type byte 17 (int8), but the byte before it is not 0; an even number " +
				"of int8 ends with 16: write vectors with vec_int8")
		}
		p.tag = tagInt8
		data--
	}
	if data == 0 {
		return packed{}, notVector("has no elements before its type byte; a vector has at least one")
	}
	if data%width != 0 {
		return packed{}, notVector("is a blob of %d bytes with type byte %d (%s); it takes a multiple of %d and the "+
			"type byte", size, p.tag, name, width)
	}
	p.n = data / width
	return p, checkDims(p.n)
}

func readBit(p packed) (packed, error) {
	size, trailing := len(p.blob), 0
	if size >= 3 {
		trailing = int(p.blob[size-2])
	}
	p.n = 8*(size-1) - trailing
	data := (p.n + 7) / 8
	if size < 3 || p.n <= 0 || data+1-data%2+2 != size {
		return packed{}, notVector("is a blob of %d bytes with type byte 3 (bit), and the byte before it is %d; that is no "+
			"number of unused bits that fits: write vectors with vec_bit or vec_quantize_binary", size, trailing)
	}
	return p, checkDims(p.n)
}

func readQ8(p packed) (packed, error) {
	size, trailing := len(p.blob), 0
	if size >= 2 {
		trailing = int(p.blob[size-2])
	}
	if size < 15 || (size-11)%4 != 0 || trailing > 3 {
		return packed{}, notVector("is a blob of %d bytes with type byte 4 (float8), and the byte before it is %d; it takes "+
			"a multiple of 4 and 11 more, and 0 to 3 unused bytes", size, trailing)
	}
	p.n = size - 11 - trailing
	p.scale = float64(math.Float32frombits(binary.LittleEndian.Uint32(p.blob[size-11:])))
	p.shift = float64(math.Float32frombits(binary.LittleEndian.Uint32(p.blob[size-7:])))
	return p, checkDims(p.n)
}

// readRaw is read, but a blob of even length, or of one byte, is raw elements, as vs_read_raw.
func readRaw(blob []byte, tag byte) (packed, error) {
	size := len(blob)
	if size == 0 || size%2 != 0 && size != 1 {
		return read(blob)
	}
	p := packed{tag: tag, n: size, blob: blob}
	if tag == tagBit {
		p.n = 8 * size
	}
	return p, checkDims(p.n)
}

// at returns element i exactly; of tagQ8, correctly rounded.
func (p packed) at(i int) float64 {
	switch p.tag {
	case tagF64:
		return math.Float64frombits(binary.LittleEndian.Uint64(p.blob[8*i:]))
	case tagF16:
		return float16.value(binary.LittleEndian.Uint16(p.blob[2*i:]))
	case tagBF16:
		return bfloat16.value(binary.LittleEndian.Uint16(p.blob[2*i:]))
	case tagInt8:
		return float64(int8(p.blob[i]))
	case tagBit:
		return float64(p.blob[i/8] >> (i % 8) & 1)
	case tagQ8:
		return math.FMA(p.scale, float64(p.blob[i]), p.shift) // the product is exact
	}
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(p.blob[4*i:])))
}

// elements returns all elements, which must be finite.
func (p packed) elements() ([]float64, error) {
	v := make([]float64, p.n)
	for i := range v {
		v[i] = p.at(i)
		if err := checkFinite(i, v[i]); err != nil {
			return nil, err
		}
	}
	return v, nil
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

// toInt8 converts whole numbers.
func toInt8(wide []float64) ([]int8, error) {
	v := make([]int8, len(wide))
	for i, x := range wide {
		if !(x >= -128 && x <= 127 && x == math.Floor(x)) {
			return nil, notVector("has an element [%d], counting from 0, that is no whole number from -128 to 127; "+
				"vec_quantize_int8 makes int8 of a unit vector", i)
		}
		v[i] = int8(x)
	}
	return v, nil
}

// toBit converts zeros and ones.
func toBit(wide []float64) ([]bool, error) {
	v := make([]bool, len(wide))
	for i, x := range wide {
		if x != 0 && x != 1 {
			return nil, notVector("has an element [%d], counting from 0, that is neither 0 nor 1; vec_quantize_binary "+
				"makes bits of any vector", i)
		}
		v[i] = x == 1
	}
	return v, nil
}
