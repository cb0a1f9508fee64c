package wire

import (
	"math"

	"github.com/fxamacker/cbor/v2"

	"github.com/velosync/velosync/capture/change"
)

type wirePush struct {
	Device      []byte       `cbor:"1,keyasint"`
	Names       []byte       `cbor:"2,keyasint,omitempty"`
	EpochIDs    []byte       `cbor:"3,keyasint,omitempty"`
	EpochFirsts []byte       `cbor:"4,keyasint,omitempty"`
	Seen        int64        `cbor:"5,keyasint,omitempty"`
	Through     int64        `cbor:"6,keyasint,omitempty"`
	Now         int64        `cbor:"7,keyasint,omitempty"`
	Schema      []byte       `cbor:"8,keyasint,omitempty"`
	Tables      *span        `cbor:"9,keyasint,omitempty"`
	Known       []byte       `cbor:"10,keyasint,omitempty"`
	Part        int64        `cbor:"11,keyasint,omitempty"`
	More        bool         `cbor:"12,keyasint,omitempty"`
	Blocks      []wireBlock  `cbor:"13,keyasint,omitempty"`
	Page        int64        `cbor:"14,keyasint,omitempty"`
	Paging      bool         `cbor:"15,keyasint,omitempty"`
	Compare     bool         `cbor:"16,keyasint,omitempty"`
	Compared    int64        `cbor:"17,keyasint,omitempty"`
	Fresh       []uint32     `cbor:"18,keyasint,omitempty"`
	Renames     []wireRename `cbor:"19,keyasint,omitempty"`
	Made        [][]byte     `cbor:"20,keyasint,omitempty"`
	Steps       [][]byte     `cbor:"21,keyasint,omitempty"`
	Doubt       int64        `cbor:"22,keyasint,omitempty"`
	Elements    [][]byte     `cbor:"23,keyasint,omitempty"`
	Digest      *wireRange   `cbor:"24,keyasint,omitempty"`
	Snapshot    int64        `cbor:"25,keyasint,omitempty"`
}

// A wireRename has 0 for the table itself, and 1 + the place of a column.
type wireRename struct {
	_      struct{} `cbor:",toarray"`
	Table  uint32
	Column uint32
	From   cbor.ByteString
}

// EncodePush returns the body of POST /v1/{space}/sync. Blocks without rows are left
// out. It checks what DecodePush checks except the limits, which are the receiver's:
// compare len(body) with Limits.Body. An error is a *FormatError.
func EncodePush(p *change.Push) ([]byte, error) {
	blocks, size, buf, err := packBlocks(p.Blocks, true)
	if err != nil {
		return nil, of(err, kindPush)
	}
	defer putBytes(buf)
	tables, err := packSchema(p.Tables)
	if err != nil {
		return nil, of(err, kindPush)
	}
	w := wirePush{
		Device:  p.Device[:],
		Seen:    int64(p.Seen),
		Through: int64(p.Through),
		Now:     p.Now,
		Schema:  packSum(p.Schema),
		Tables:  tables,
		Known:   packSum(p.Known),
		Part:    int64(p.Part),
		More:    p.More,
		Blocks:  blocks,
		Page:    int64(p.Page),
		Paging:  p.Paging,
		Compare: p.Compare, Compared: int64(p.Compared),
		Made:  packMade(p.Blocks),
		Steps: packSteps(p.Blocks), Elements: packElements(p.Blocks),
		Doubt: int64(p.Doubt), Snapshot: int64(p.Snapshot),
	}
	if w.Digest, err = packRange(p.Digest); err != nil {
		return nil, of(err, kindPush)
	}
	for _, c := range p.Fresh {
		if c.Table < 0 || c.Column < 0 || c.Table > math.MaxUint16 || c.Column > math.MaxUint16 {
			return nil, of(bad("column %d of table %d is no place of a column", c.Column, c.Table), kindPush)
		}
		w.Fresh = append(w.Fresh, uint32(c.Table), uint32(c.Column))
	}
	for _, r := range p.Renames {
		if r.Table < 0 || r.Column < -1 || r.Table > math.MaxUint16 || r.Column > math.MaxUint16 {
			return nil, of(bad("column %d of table %d is no place of a column", r.Column, r.Table), kindPush)
		}
		w.Renames = append(w.Renames, wireRename{Table: uint32(r.Table), Column: uint32(r.Column + 1), From: cbor.ByteString(r.From)})
	}
	for _, n := range p.Names {
		w.Names = append(w.Names, n[:]...)
	}
	if w.EpochIDs, w.EpochFirsts, err = packEpochs(p.Epochs); err != nil {
		return nil, of(err, kindPush)
	}
	if err := w.check(); err != nil {
		return nil, of(err, kindPush)
	}
	return seal(kindPush, &w, size+len(w.Names)+len(w.EpochIDs)+512)
}

// check checks the counters.
func (w *wirePush) check() error {
	if w.Seen < 0 || w.Through < 0 || w.Part < 0 || w.Page < 0 || w.Compared < 0 || w.Doubt < 0 || w.Snapshot < 0 {
		return bad("counts below 0: seen %d, through %d, part %d, page %d, compared %d, doubt %d, snapshot %d",
			w.Seen, w.Through, w.Part, w.Page, w.Compared, w.Doubt, w.Snapshot)
	}
	return nil
}

// DecodePush reads what EncodePush wrote, and sets Wire. An error is a *VersionError, a
// *LimitError or a *FormatError. That a block fits the schema (its table, its columns'
// number, its registers) is for the caller to check.
func DecodePush(body []byte, l Limits) (*change.Push, error) {
	l = l.Defaults()
	p := &change.Push{Wire: int64(len(body))}
	err := open(kindPush, body, l, func(w *wirePush) (err error) {
		if p.Device, err = unpackID(w.Device, "the device id"); err != nil {
			return err
		}
		if p.Names, err = unpackNames(w.Names, l); err != nil {
			return err
		}
		d := &reader{limits: l}
		if p.Epochs, err = unpackEpochs(d, w.EpochIDs, w.EpochFirsts); err != nil {
			return err
		}
		if err := w.check(); err != nil {
			return err
		}
		p.Seen, p.Through, p.Now = change.Seq(w.Seen), change.LSN(w.Through), w.Now
		p.Part, p.More, p.Page, p.Paging = int(w.Part), w.More, change.Seq(w.Page), w.Paging
		p.Compare, p.Compared, p.Doubt, p.Snapshot = w.Compare, change.Seq(w.Compared), change.LSN(w.Doubt), change.Seq(w.Snapshot)
		if p.Schema, err = unpackSum(w.Schema); err != nil {
			return err
		}
		if p.Known, err = unpackSum(w.Known); err != nil {
			return err
		}
		if p.Tables, err = unpackSchema(w.Tables, l); err != nil {
			return err
		}
		if p.Fresh, err = unpackFresh(w.Fresh, l); err != nil {
			return err
		}
		for _, r := range w.Renames {
			if int64(r.Table) >= int64(l.Tables) || int64(r.Column) > int64(l.Columns) {
				return bad("renamed column %d of table %d", r.Column, r.Table)
			}
			if err := over("bytes of a name", len(r.From), int64(l.Name)); err != nil {
				return err
			}
			p.Renames = append(p.Renames, change.Rename{ColumnRef: change.ColumnRef{Table: int(r.Table), Column: int(r.Column) - 1}, From: string(r.From)})
		}
		if p.Digest, err = unpackRange(d, w.Digest); err != nil {
			return err
		}
		if p.Blocks, err = unpackBlocks(d, w.Blocks, true); err != nil {
			return err
		}
		if err := unpackMade(d, p.Blocks, w.Made); err != nil {
			return err
		}
		if err := unpackSteps(d, p.Blocks, w.Steps); err != nil {
			return err
		}
		return unpackElements(d, p.Blocks, w.Elements)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func unpackFresh(list []uint32, l Limits) (fresh []change.ColumnRef, err error) {
	if len(list)%2 != 0 {
		return nil, bad("the fresh columns are %d numbers, want two each", len(list))
	}
	for ; len(list) > 0; list = list[2:] {
		if int64(list[0]) >= int64(l.Tables) || int64(list[1]) >= int64(l.Columns) {
			return nil, bad("fresh column %d of table %d", list[1], list[0])
		}
		fresh = append(fresh, change.ColumnRef{Table: int(list[0]), Column: int(list[1])})
	}
	return fresh, nil
}

func unpackID(b []byte, what string) (id [16]byte, err error) {
	if len(b) != len(id) {
		return id, bad("%s has %d bytes, want %d", what, len(b), len(id))
	}
	return [16]byte(b), nil
}

// packSum returns a digest's bytes, none for the zero digest.
func packSum(sum [32]byte) []byte {
	if sum == ([32]byte{}) {
		return nil
	}
	return sum[:]
}

func unpackSum(b []byte) (sum [32]byte, err error) {
	switch len(b) {
	case 0:
		return sum, nil
	case len(sum):
		return [32]byte(b), nil
	}
	return sum, bad("a schema digest has %d bytes, want %d", len(b), len(sum))
}

func unpackNames(b []byte, l Limits) ([]change.Name, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b)%16 != 0 {
		return nil, bad("the push names have %d bytes, want 16 each", len(b))
	}
	if err := over("push names", len(b)/16, int64(l.Names)); err != nil {
		return nil, err
	}
	names := make([]change.Name, len(b)/16)
	for i := range names {
		names[i] = change.Name(b[16*i:])
	}
	return names, nil
}

// packEpochs returns the ids, 16 bytes each, and the first seqs, as integers.
func packEpochs(epochs []change.Epoch) (ids, firsts []byte, err error) {
	first := make([]int64, len(epochs))
	for i, e := range epochs {
		if e.First < 0 {
			return nil, nil, bad("epoch %d begins at seq %d, want 0 or more", i, e.First)
		}
		ids = append(ids, e.ID[:]...)
		first[i] = int64(e.First)
	}
	return ids, appendInts(nil, first), nil
}

func unpackEpochs(d *reader, ids, firsts []byte) ([]change.Epoch, error) {
	n := len(ids) / 16
	if len(ids)%16 != 0 || (n == 0) != (len(firsts) == 0) {
		return nil, bad("the epochs have %d bytes of ids and %d of first seqs", len(ids), len(firsts))
	}
	if n == 0 {
		return nil, nil
	}
	if err := over("epochs", n, int64(d.limits.Epochs)); err != nil {
		return nil, err
	}
	d.b = firsts
	v, err := d.ints(n)
	if err != nil {
		return nil, err
	}
	epochs := make([]change.Epoch, n)
	for i, first := range v {
		if first < 0 {
			return nil, bad("epoch %d begins at seq %d, want 0 or more", i, first)
		}
		epochs[i] = change.Epoch{ID: change.Name(ids[16*i:]), First: change.Seq(first)}
	}
	return epochs, d.end()
}
