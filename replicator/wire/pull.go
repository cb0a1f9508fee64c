package wire

import (
	"github.com/velosync/velosync/capture/change"
)

type wirePull struct {
	Applied     int64       `cbor:"1,keyasint,omitempty"`
	To          int64       `cbor:"2,keyasint,omitempty"`
	Done        bool        `cbor:"3,keyasint,omitempty"`
	Full        bool        `cbor:"4,keyasint,omitempty"`
	EpochIDs    []byte      `cbor:"5,keyasint,omitempty"`
	EpochFirsts []byte      `cbor:"6,keyasint,omitempty"`
	Now         int64       `cbor:"7,keyasint,omitempty"`
	Tables      *span       `cbor:"8,keyasint,omitempty"`
	Blocks      []wireBlock `cbor:"9,keyasint,omitempty"`
	Conflicts   int64       `cbor:"10,keyasint,omitempty"`
	Lost        []byte      `cbor:"11,keyasint,omitempty"`
	EchoRows    int64       `cbor:"12,keyasint,omitempty"`
	Rows        int64       `cbor:"13,keyasint,omitempty"`
	Digest      uint8       `cbor:"14,keyasint,omitempty"`
}

// EncodePull returns the body of the answer to POST /v1/{space}/sync. Blocks without
// rows are left out. It checks what DecodePull checks except the limits, which are the
// receiver's. An error is a *FormatError.
func EncodePull(p *change.Pull) ([]byte, error) {
	blocks, size, buf, err := packBlocks(p.Blocks, false)
	if err != nil {
		return nil, of(err, kindPull)
	}
	defer putBytes(buf)
	tables, err := packSchema(p.Tables)
	if err != nil {
		return nil, of(err, kindPull)
	}
	lost, err := packConflicts(p.Lost)
	if err != nil {
		return nil, of(err, kindPull)
	}
	w := wirePull{
		Applied:   int64(p.Applied),
		To:        int64(p.To),
		Done:      p.Done,
		Full:      p.Full,
		Now:       p.Now,
		Tables:    tables,
		Blocks:    blocks,
		Conflicts: int64(len(p.Lost)),
		Lost:      lost,
		EchoRows:  int64(p.Saved.EchoRows),
		Rows:      int64(p.Rows),
		Digest:    uint8(p.Digest),
	}
	if w.EpochIDs, w.EpochFirsts, err = packEpochs(p.Epochs); err != nil {
		return nil, of(err, kindPull)
	}
	if err := w.check(); err != nil {
		return nil, of(err, kindPull)
	}
	return seal(kindPull, &w, size+len(lost)+len(w.EpochIDs)+512)
}

// check checks the counters.
func (w *wirePull) check() error {
	if w.Digest > uint8(change.RangeDiffers) {
		return bad("answer %d to a digest", w.Digest)
	}
	if w.Applied < 0 || w.To < 0 || w.EchoRows < 0 || w.Rows < 0 {
		return bad("counts below 0: applied %d, to %d, echo rows %d, rows %d", w.Applied, w.To, w.EchoRows, w.Rows)
	}
	return nil
}

// DecodePull reads what EncodePull wrote, and sets Wire. An error is a *VersionError, a
// *LimitError or a *FormatError.
func DecodePull(body []byte, l Limits) (*change.Pull, error) {
	l = l.Defaults()
	p := &change.Pull{Wire: int64(len(body))}
	err := open(kindPull, body, l, func(w *wirePull) (err error) {
		d := &reader{limits: l}
		if p.Epochs, err = unpackEpochs(d, w.EpochIDs, w.EpochFirsts); err != nil {
			return err
		}
		if err := w.check(); err != nil {
			return err
		}
		p.Applied, p.To, p.Done, p.Full = change.LSN(w.Applied), change.Seq(w.To), w.Done, w.Full
		p.Now, p.Saved.EchoRows, p.Rows = w.Now, int(w.EchoRows), int(w.Rows)
		p.Digest = change.DigestAnswer(w.Digest)
		if p.Tables, err = unpackSchema(w.Tables, l); err != nil {
			return err
		}
		if p.Lost, err = unpackConflicts(d, w.Lost, w.Conflicts); err != nil {
			return err
		}
		p.Blocks, err = unpackBlocks(d, w.Blocks, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}
