package wire

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"sync"
)

func errCut() error { return bad("cut short") }

// A reader reads a payload from its beginning. It allocates only what the rest of
// the payload, or the limits, cover.
type reader struct {
	b      []byte
	limits Limits
	cells  int // values read so far
	room   []int64
	digits []byte
}

func (d *reader) byte() (byte, error) {
	if len(d.b) == 0 {
		return 0, errCut()
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c, nil
}

func (d *reader) uvarint() (uint64, error) {
	u, n := binary.Uvarint(d.b)
	if n <= 0 {
		return 0, errCut()
	}
	d.b = d.b[n:]
	return u, nil
}

// take returns the next a*b bytes of the payload.
func (d *reader) take(a, b int) ([]byte, error) {
	hi, n := bits.Mul64(uint64(a), uint64(b))
	if hi != 0 || n > uint64(len(d.b)) {
		return nil, errCut()
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p, nil
}

// end reports bytes that nothing has read.
func (d *reader) end() error {
	if len(d.b) > 0 {
		return bad("%d bytes too many", len(d.b))
	}
	return nil
}

// count adds n values to those of the message.
func (d *reader) count(n int) error {
	d.cells += n
	return over("values of the message", d.cells, int64(d.limits.Cells))
}

// scratchInts returns room for n integers, until the next call.
func (d *reader) scratchInts(n int) []int64 {
	if cap(d.room) < n {
		d.room = make([]int64, n)
	}
	return d.room[:n]
}

// A writer holds what encoding reuses.
type writer struct {
	ints  []int64
	reals []float64
	texts []string
	blobs [][]byte
}

// maxPooled is the largest buffer that is kept for the next message.
const maxPooled = 32 << 20

var (
	buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	slabs   = sync.Pool{New: func() any { return new([]byte) }}
)

func getBuffer() *bytes.Buffer { return buffers.Get().(*bytes.Buffer) }

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= maxPooled {
		b.Reset()
		buffers.Put(b)
	}
}

// getBytes returns an empty slice with room for n bytes.
func getBytes(n int) *[]byte {
	p := slabs.Get().(*[]byte)
	if cap(*p) < n {
		*p = make([]byte, 0, n)
	}
	*p = (*p)[:0]
	return p
}

func putBytes(p *[]byte) {
	if cap(*p) <= maxPooled {
		slabs.Put(p)
	}
}
