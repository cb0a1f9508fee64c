package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/velosync/velosync/capture/change"
)

// The values of a deleted row are one blob: for each column of the table a letter for
// its type, and then an integer as a signed varint, a real as 8 bytes, little-endian, a
// text or a blob as its length, a varint, and its bytes.

// appendValues writes a row's values.
func appendValues(dst []byte, values []change.Value) []byte {
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			dst = append(dst, 'n')
		case int64:
			dst = binary.AppendVarint(append(dst, 'i'), v)
		case float64:
			dst = binary.LittleEndian.AppendUint64(append(dst, 'r'), math.Float64bits(v))
		case string:
			dst = binary.AppendUvarint(append(dst, 't'), uint64(len(v)))
			dst = append(dst, v...)
		case []byte:
			dst = binary.AppendUvarint(append(dst, 'b'), uint64(len(v)))
			dst = append(dst, v...)
		default:
			panic(fmt.Sprintf("store: %T is no SQLite value", v))
		}
	}
	return dst
}

var errValues = errors.New("the values of a deleted row can't be read: the store is damaged")

// readValues reads what appendValues wrote: at most n values.
func readValues(b []byte, n int) ([]change.Value, error) {
	values := make([]change.Value, n)
	for i := range values {
		if len(b) == 0 {
			return values[:i], nil
		}
		kind := b[0]
		b = b[1:]
		switch kind {
		case 'n':
		case 'i':
			v, size := binary.Varint(b)
			if size <= 0 {
				return nil, errValues
			}
			values[i], b = v, b[size:]
		case 'r':
			if len(b) < 8 {
				return nil, errValues
			}
			values[i], b = math.Float64frombits(binary.LittleEndian.Uint64(b)), b[8:]
		case 't', 'b':
			v, size := binary.Uvarint(b)
			if size <= 0 || v > uint64(len(b)-size) {
				return nil, errValues
			}
			b = b[size:]
			if kind == 't' {
				values[i] = string(b[:v])
			} else {
				values[i] = append([]byte{}, b[:v]...)
			}
			b = b[v:]
		default:
			return nil, errValues
		}
	}
	if len(b) > 0 {
		return nil, errValues
	}
	return values, nil
}

// sizeOf is about how many bytes a value takes in a message.
func sizeOf(v change.Value) int64 {
	switch v := v.(type) {
	case string:
		return int64(len(v)) + 5
	case []byte:
		return int64(len(v)) + 5
	}
	return 9
}
