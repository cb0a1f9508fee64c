package wire

import (
	"math"

	"github.com/velosync/velosync/capture/change"
)

// A wireBlock is a change.Block: its head, and a payload of keys, columns and, on a
// push, stamps, one after the other.
type wireBlock struct {
	_       struct{} `cbor:",toarray"`
	Table   uint32
	Delete  bool
	Regs    uint64
	Rows    uint32
	Columns uint32
	Payload span
}

// packBlocks writes blocks; those without rows are left out. The payloads lie in the
// slice that it returns last, a pooled one.
func packBlocks(blocks []change.Block, stamps bool) ([]wireBlock, int, *[]byte, error) {
	size := 64
	for i := range blocks {
		size += guess(&blocks[i])
	}
	p := getBytes(size)
	buf := *p
	var w writer
	packed := make([]wireBlock, 0, len(blocks))
	ends := make([]int, 0, len(blocks))
	for i := range blocks {
		b := &blocks[i]
		if len(b.Keys) == 0 {
			continue
		}
		if err := checkBlock(b, stamps); err != nil {
			putBytes(p)
			return nil, 0, nil, inBlock(err, i)
		}
		var err error
		if buf, err = w.appendBlock(buf, b, stamps); err != nil {
			putBytes(p)
			return nil, 0, nil, inBlock(err, i)
		}
		packed = append(packed, wireBlock{
			Table:   uint32(b.Table),
			Delete:  b.Delete,
			Regs:    uint64(b.Regs),
			Rows:    uint32(len(b.Keys)),
			Columns: uint32(len(b.Columns)),
		})
		ends = append(ends, len(buf))
	}
	start := 0
	for i, end := range ends {
		packed[i].Payload = buf[start:end]
		start = end
	}
	*p = buf
	return packed, len(buf) + 32*len(packed), p, nil
}

// guess is about how many bytes a block takes.
func guess(b *change.Block) int {
	n := 64 * len(b.Keys)
	for _, c := range b.Columns {
		n += 9 * len(c)
		for _, v := range c {
			switch v := v.(type) {
			case string:
				n += len(v)
			case []byte:
				n += len(v)
			}
		}
	}
	return n
}

// checkBlock checks the shape of a block that is to be sent.
func checkBlock(b *change.Block, stamps bool) error {
	n := len(b.Keys)
	switch {
	case b.Table < 0 || int64(b.Table) > math.MaxUint32 || int64(n) > math.MaxUint32:
		return bad("table %d, %d rows", b.Table, n)
	case b.Delete && (b.Regs != 0 || len(b.Columns) > 0):
		return bad("a delete has registers or columns")
	case stamps && len(b.Stamps) != n:
		return bad("%d stamps for %d rows", len(b.Stamps), n)
	case !stamps && b.Stamps != nil:
		return bad("a pull has no stamps")
	}
	for i, c := range b.Columns {
		if len(c) != n {
			return inColumn(bad("%d values for %d rows", len(c), n), i)
		}
	}
	for i, k := range b.Keys {
		if k == nil {
			return badRow(i, "the key is NULL: such a row is not captured")
		}
	}
	for i := range b.Stamps {
		if err := checkSteps(b, i); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) appendBlock(dst []byte, b *change.Block, stamps bool) ([]byte, error) {
	dst, err := w.appendColumn(dst, b.Keys)
	if err != nil {
		return dst, inKeys(err)
	}
	for i, c := range b.Columns {
		if dst, err = w.appendColumn(dst, c); err != nil {
			return dst, inColumn(err, i)
		}
	}
	if stamps {
		return w.appendStamps(dst, b)
	}
	return dst, nil
}

// unpackBlocks reads what packBlocks wrote.
func unpackBlocks(d *reader, packed []wireBlock, stamps bool) ([]change.Block, error) {
	if len(packed) == 0 {
		return nil, nil
	}
	rows := 0
	blocks := make([]change.Block, len(packed))
	for i := range packed {
		p := &packed[i]
		rows += int(min(p.Rows, math.MaxInt32))
		if err := over("rows of the message", rows, int64(d.limits.Rows)); err != nil {
			return nil, err
		}
		if err := over("columns of a block", p.Columns, int64(d.limits.Columns)); err != nil {
			return nil, err
		}
		if err := over("place of a table", p.Table, int64(d.limits.Tables)-1); err != nil {
			return nil, err
		}
		if p.Rows == 0 {
			return nil, inBlock(bad("no rows"), i)
		}
		blocks[i] = change.Block{Table: int(p.Table), Delete: p.Delete, Regs: change.Bits(p.Regs)}
		if p.Delete && (p.Regs != 0 || p.Columns > 0) {
			return nil, inBlock(bad("a delete has registers or columns"), i)
		}
		d.b = p.Payload
		if err := d.block(&blocks[i], int(p.Rows), int(p.Columns), stamps); err != nil {
			return nil, inBlock(err, i)
		}
	}
	return blocks, nil
}

func (d *reader) block(b *change.Block, rows, columns int, stamps bool) (err error) {
	if b.Keys, err = d.column(rows, d.limits.Key); err != nil {
		return inKeys(err)
	}
	for i, k := range b.Keys {
		if k == nil {
			return badRow(i, "the key is NULL")
		}
	}
	if columns > 0 {
		b.Columns = make([][]change.Value, columns)
	}
	for i := range b.Columns {
		if b.Columns[i], err = d.column(rows, d.limits.Value); err != nil {
			return inColumn(err, i)
		}
	}
	if stamps {
		if b.Stamps, err = d.stamps(b); err != nil {
			return err
		}
	}
	return d.end()
}
