package wire

import (
	"encoding/binary"
	"math"

	"github.com/fxamacker/cbor/v2"

	"github.com/velosync/velosync/capture/change"
)

// A wireRange holds the key before the range and its last one, NULL where there is none,
// and then those left out, as one column.
type wireRange struct {
	_      struct{} `cbor:",toarray"`
	Table  uint32
	Rows   int64
	Sum    cbor.ByteString // 8 bytes
	Except uint32
	Keys   cbor.ByteString
}

func packRange(r *change.RangeDigest) (*wireRange, error) {
	if r == nil {
		return nil, nil
	}
	if r.Table < 0 || r.Table > math.MaxUint16 || r.Rows < 0 || len(r.Except) > change.MostExcept {
		return nil, bad("a digest of %d rows of table %d, %d left out", r.Rows, r.Table, len(r.Except))
	}
	w := &writer{}
	keys, err := w.appendColumn(nil, append([]change.Value{r.After, r.To}, r.Except...))
	if err != nil {
		return nil, err
	}
	sum := binary.LittleEndian.AppendUint64(nil, uint64(r.Sum))
	return &wireRange{Table: uint32(r.Table), Rows: r.Rows, Sum: cbor.ByteString(sum), Except: uint32(len(r.Except)), Keys: cbor.ByteString(keys)}, nil
}

func unpackRange(d *reader, w *wireRange) (*change.RangeDigest, error) {
	if w == nil {
		return nil, nil
	}
	if int64(w.Table) >= int64(d.limits.Tables) || w.Rows < 0 || len(w.Sum) != 8 {
		return nil, bad("a digest of %d rows of table %d, its sum has %d bytes", w.Rows, w.Table, len(w.Sum))
	}
	if err := over("rows left out of a digest", w.Except, change.MostExcept); err != nil {
		return nil, err
	}
	d.b = []byte(w.Keys)
	keys, err := d.column(2+int(w.Except), d.limits.Key)
	if err == nil {
		err = d.end()
	}
	if err != nil {
		return nil, err
	}
	r := &change.RangeDigest{Table: int(w.Table), After: keys[0], To: keys[1], Rows: w.Rows, Sum: int64(binary.LittleEndian.Uint64([]byte(w.Sum)))}
	if len(keys) > 2 {
		r.Except = keys[2:]
	}
	for _, k := range r.Except {
		if k == nil {
			return nil, bad("a row left out of a digest has no key")
		}
	}
	return r, nil
}
