package wire

import (
	"encoding/binary"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The encoders: encoders[dense] for what has few repeats and nearly every byte value
// equally often, such as the mantissas of vectors.
const (
	sparse = iota
	dense
)

var encoders = [2]sync.Pool{
	{New: func() any { return newEncoder(zstd.SpeedDefault, true) }},
	{New: func() any { return newEncoder(zstd.SpeedFastest, false) }},
}

// newEncoder makes an encoder. With literals set it tries to code single bytes in fewer
// bits even where nothing repeats, which is all that exponents offer.
func newEncoder(level zstd.EncoderLevel, literals bool) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1),
		zstd.WithAllLitEntropyCompression(literals), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		panic(err) // constant options
	}
	return e
}

var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxInflated),
		zstd.WithDecoderMaxWindow(maxInflated))
	if err != nil {
		panic(err) // constant options
	}
	return d
}}

// deflate returns doc as one or more zstd frames. A long run of chunks of one kind
// becomes a frame of its own, so that vectors do not cost the time that text is worth.
func deflate(doc []byte) []byte {
	p := getBytes(len(doc) + len(doc)/64 + 64)
	defer putBytes(p)
	out := *p
	chunk := min(max(len(doc)/32, 1<<10), 8<<10)
	for len(doc) > 0 {
		n, kind := run(doc, chunk)
		e := encoders[kind].Get().(*zstd.Encoder)
		out = e.EncodeAll(doc[:n], out)
		encoders[kind].Put(e)
		doc = doc[n:]
	}
	*p = out
	return append(make([]byte, 0, len(out)), out...)
}

// run returns how many bytes at the start of doc are of one kind, and which. It looks at
// it chunk by chunk.
func run(doc []byte, chunk int) (n, kind int) {
	if len(doc) < 4*chunk {
		return len(doc), sparse
	}
	kind = kindOf(doc[:chunk])
	for n = chunk; n < len(doc); n += chunk {
		rest := doc[n:]
		if len(rest) < chunk {
			return len(doc), kind
		}
		if kindOf(rest[:chunk]) != kind {
			return n, kind
		}
	}
	return len(doc), kind
}

// kindOf looks at 16 pieces of 64 bytes. Of all pairs of bytes drawn from even noise, 1
// in 256 is equal; a chunk is dense when no more than 1 in 220 is.
func kindOf(b []byte) int {
	var count [256]uint32
	for i := range 16 {
		for _, c := range b[i*len(b)/16:][:64] {
			count[c]++
		}
	}
	const n = 16 * 64
	pairs := uint32(0)
	for _, c := range count {
		pairs += c * c
	}
	if pairs-n < n*(n-1)/220 {
		return dense
	}
	return sparse
}

// inflate returns the CBOR of a body in a pooled slice; give it back with putBytes. The
// memory is taken only after every frame header was read and their sizes were found
// within the limits.
func inflate(body []byte, l Limits) (*[]byte, error) {
	if err := over("bytes of the body", len(body), l.Body); err != nil {
		return nil, err
	}
	size, err := inflatedSize(body, l.Inflated)
	if err != nil {
		return nil, err
	}
	buf := getBytes(int(size) + 16)
	d := decoders.Get().(*zstd.Decoder)
	out, err := d.DecodeAll(body, *buf)
	decoders.Put(d)
	if err != nil {
		putBytes(buf)
		e := bad("the zstd frames do not decode: the body was damaged, or is none")
		e.Err = err
		return nil, e
	}
	*buf = out
	return buf, nil
}

// inflatedSize walks the frames of a body and adds the content sizes of their headers.
// A frame must state its size, and be plain: no dictionary, not skippable.
func inflatedSize(body []byte, limit int64) (int64, error) {
	if len(body) == 0 {
		return 0, bad("the body is empty")
	}
	total := int64(0)
	for len(body) > 0 {
		var h zstd.Header
		if err := h.Decode(body); err != nil {
			e := bad("the body is not zstd")
			e.Err = err
			return 0, e
		}
		if h.Skippable || h.DictionaryID != 0 || !h.HasFCS {
			return 0, bad("a zstd frame is skippable, needs a dictionary or does not state its size")
		}
		if h.FrameContentSize > uint64(limit-total) {
			return 0, over("bytes of the message, inflated", min(h.FrameContentSize, math.MaxInt64/2)+uint64(total), limit)
		}
		total += int64(h.FrameContentSize)
		if h.HeaderSize > len(body) {
			return 0, errCut()
		}
		body = body[h.HeaderSize:]
		for last := false; !last; {
			if len(body) < 3 {
				return 0, errCut()
			}
			head := uint32(binary.LittleEndian.Uint16(body)) | uint32(body[2])<<16
			last = head&1 == 1
			size := int(head >> 3)
			if head>>1&3 == 1 { // a run of one byte
				size = 1
			}
			if body = body[3:]; len(body) < size {
				return 0, errCut()
			}
			body = body[size:]
		}
		if h.HasCheckSum {
			if len(body) < 4 {
				return 0, errCut()
			}
			body = body[4:]
		}
	}
	return total, nil
}
