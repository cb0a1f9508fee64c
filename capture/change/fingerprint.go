package change

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
)

// A Fingerprinter tells values apart without showing them. The zero value is ready to use;
// it is for one goroutine.
type Fingerprinter struct {
	buf []byte
	row []Value
}

// Of returns 64 bits of SHA-256 over values: equal for equal ones, types included, as
// SQLite holds them. 0.0 and -0.0 are equal, as they are to SQLite.
func (f *Fingerprinter) Of(values []Value) int64 {
	b := f.buf[:0]
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			b = append(b, 'n')
		case int64:
			b = binary.LittleEndian.AppendUint64(append(b, 'i'), uint64(v))
		case float64:
			bits := uint64(0)
			if v != 0 {
				bits = math.Float64bits(v)
			}
			b = binary.LittleEndian.AppendUint64(append(b, 'r'), bits)
		case string:
			b = binary.LittleEndian.AppendUint64(append(b, 't'), uint64(len(v)))
			b = append(b, v...)
		case []byte:
			b = binary.LittleEndian.AppendUint64(append(b, 'b'), uint64(len(v)))
			b = append(b, v...)
		default:
			panic(fmt.Sprintf("change: %T is no SQLite value", v))
		}
	}
	f.buf = b
	sum := sha256.Sum256(b)
	return int64(binary.LittleEndian.Uint64(sum[:]))
}
