package wire

import (
	"encoding/hex"
	"math"

	"github.com/velosync/velosync/capture/change"
)

// The classes of values, as a column's first byte names them.
const (
	classNull  = 0
	classInt   = 1
	classReal  = 2
	classText  = 3
	classBlob  = 4
	classMixed = 5 // a byte for each value follows
)

// classOf returns a value's class, or 255.
func classOf(v change.Value) byte {
	switch v.(type) {
	case nil:
		return classNull
	case int64:
		return classInt
	case float64:
		return classReal
	case string:
		return classText
	case []byte:
		return classBlob
	}
	return 255
}

// appendColumn writes the values of a column: their classes, then all integers, all
// reals, all texts and all blobs. No values take no bytes.
func (w *writer) appendColumn(dst []byte, values []change.Value) ([]byte, error) {
	if len(values) == 0 {
		return dst, nil
	}
	w.ints, w.reals, w.texts, w.blobs = w.ints[:0], w.reals[:0], w.texts[:0], w.blobs[:0]
	defer func() { // keep no rows alive in the pool
		clear(w.texts)
		clear(w.blobs)
	}()
	nulls := 0
	for i, v := range values {
		switch v := v.(type) {
		case nil:
			nulls++
		case int64:
			w.ints = append(w.ints, v)
		case float64:
			if v != v {
				return dst, badRow(i, "NaN: SQLite stores it as NULL, send nil")
			}
			w.reals = append(w.reals, v)
		case string:
			w.texts = append(w.texts, v)
		case []byte:
			w.blobs = append(w.blobs, v)
		default:
			return dst, badRow(i, "a value of type %T: want nil, int64, float64, string or []byte", v)
		}
	}
	switch len(values) {
	case nulls, len(w.ints), len(w.reals), len(w.texts), len(w.blobs):
		dst = append(dst, classOf(values[0]))
	default:
		dst = append(dst, classMixed)
		for _, v := range values {
			dst = append(dst, classOf(v))
		}
	}
	dst = appendInts(dst, w.ints)
	dst = appendReals(dst, w.reals)
	dst = w.appendTexts(dst, w.texts)
	return w.appendBlobs(dst, w.blobs), nil
}

// column reads n values, none longer than limit bytes. What it returns shares no
// memory with the payload.
func (d *reader) column(n, limit int) ([]change.Value, error) {
	if n == 0 {
		return nil, nil
	}
	if err := d.count(n); err != nil {
		return nil, err
	}
	class, err := d.byte()
	if err != nil {
		return nil, err
	}
	var classes []byte
	var have [classMixed]int
	switch {
	case class < classMixed:
		have[class] = n
	case class == classMixed:
		if classes, err = d.take(n, 1); err != nil {
			return nil, err
		}
		for i, c := range classes {
			if c >= classMixed {
				return nil, badRow(i, "unknown class %d", c)
			}
			have[c]++
		}
	default:
		return nil, bad("unknown class %d", class)
	}
	values := make([]change.Value, n)
	// next returns the place of the first value of a class at or after i.
	next := func(i int, class byte) int {
		if classes != nil {
			for classes[i] != class {
				i++
			}
		}
		return i
	}
	ints, err := d.ints(have[classInt])
	if err != nil {
		return nil, err
	}
	i := 0
	for _, x := range ints {
		i = next(i, classInt)
		values[i] = x
		i++
	}
	reals, err := d.reals(have[classReal])
	if err != nil {
		return nil, err
	}
	i = 0
	for _, x := range reals {
		i = next(i, classReal)
		values[i] = x
		i++
	}
	i = 0
	err = d.texts(have[classText], limit, func(s string) {
		i = next(i, classText)
		values[i] = s
		i++
	})
	if err != nil {
		return nil, err
	}
	i = 0
	err = d.blobs(have[classBlob], limit, func(b []byte) {
		i = next(i, classBlob)
		values[i] = b
		i++
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// The modes of texts and blobs.
const (
	plain = 0
	uuid  = 1 // texts: lower-case uuids as 16 bytes
	hexed = 2 // texts: an even number of lower-case hex digits as half as many bytes
	laned = 3 // blobs: of one width, as planes
)

// appendTexts writes texts; when all are uuids or all are hex, their bytes.
func (w *writer) appendTexts(dst []byte, texts []string) []byte {
	if len(texts) == 0 {
		return dst
	}
	switch textMode(texts) {
	case uuid:
		dst = append(dst, uuid)
		for _, s := range texts {
			dst = appendHex(dst, s[:8])
			dst = appendHex(dst, s[9:13])
			dst = appendHex(dst, s[14:18])
			dst = appendHex(dst, s[19:23])
			dst = appendHex(dst, s[24:])
		}
		return dst
	case hexed:
		dst = append(dst, hexed)
		dst = w.appendLengths(dst, len(texts), func(i int) int { return len(texts[i]) / 2 })
		for _, s := range texts {
			dst = appendHex(dst, s)
		}
		return dst
	}
	dst = append(dst, plain)
	dst = w.appendLengths(dst, len(texts), func(i int) int { return len(texts[i]) })
	for _, s := range texts {
		dst = append(dst, s...)
	}
	return dst
}

func (w *writer) appendLengths(dst []byte, n int, length func(i int) int) []byte {
	w.ints = w.ints[:0]
	for i := range n {
		w.ints = append(w.ints, int64(length(i)))
	}
	return appendInts(dst, w.ints)
}

// nibble is the value of a lower-case hex digit, or 255.
var nibble = func() (t [256]byte) {
	for i := range t {
		t[i] = 255
	}
	for i, c := range "0123456789abcdef" {
		t[c] = byte(i)
	}
	return t
}()

func appendHex(dst []byte, s string) []byte {
	for i := 0; i+1 < len(s); i += 2 {
		dst = append(dst, nibble[s[i]]<<4|nibble[s[i+1]])
	}
	return dst
}

func isHex(s string) bool {
	for i := range len(s) {
		if nibble[s[i]] == 255 {
			return false
		}
	}
	return true
}

// textMode returns the shortest mode from which every text comes back the same.
func textMode(texts []string) byte {
	uuids, digits := true, 0
	for _, s := range texts {
		uuids = uuids && len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
			isHex(s[:8]) && isHex(s[9:13]) && isHex(s[14:18]) && isHex(s[19:23]) && isHex(s[24:])
		if !uuids {
			break
		}
	}
	if uuids {
		return uuid
	}
	for _, s := range texts {
		if len(s)%2 != 0 || !isHex(s) {
			return plain
		}
		digits += len(s)
	}
	if digits == 0 {
		return plain
	}
	return hexed
}

// texts reads n texts and hands them over one by one. They share one string.
func (d *reader) texts(n, limit int, each func(string)) error {
	if n == 0 {
		return nil
	}
	mode, err := d.byte()
	if err != nil {
		return err
	}
	switch mode {
	case uuid:
		packed, err := d.take(16, n)
		if err != nil {
			return err
		}
		if err := over("bytes of a text", 36, int64(limit)); err != nil {
			return err
		}
		b := d.scratchBytes(36 * n)
		for i := range n {
			printUUID(b[36*i:], packed[16*i:])
		}
		all := string(b)
		for ; all != ""; all = all[36:] {
			each(all[:36])
		}
		return nil
	case plain, hexed:
		lengths, sum, err := d.lengths(n)
		if err != nil {
			return err
		}
		b, err := d.take(sum, 1)
		if err != nil {
			return err
		}
		width := 1
		if mode == hexed {
			width = 2
			b = hex.AppendEncode(d.scratchBytes(2 * sum)[:0], b)
		}
		all := string(b)
		for _, n := range lengths {
			n := width * int(n)
			if err := over("bytes of a text", n, int64(limit)); err != nil {
				return err
			}
			each(all[:n])
			all = all[n:]
		}
		return nil
	}
	return bad("texts in unknown mode %d", mode)
}

// lengths reads n lengths of which the rest of the payload holds the sum.
func (d *reader) lengths(n int) ([]int64, int, error) {
	v, err := d.ints(n)
	if err != nil {
		return nil, 0, err
	}
	sum := 0
	for i, x := range v {
		if x < 0 || x > int64(len(d.b)-sum) {
			return nil, 0, badRow(i, "a length of %d runs past the end", x)
		}
		sum += int(x)
	}
	return v, sum, nil
}

func printUUID(dst, b []byte) {
	hex.Encode(dst, b[:4])
	dst[8] = '-'
	hex.Encode(dst[9:], b[4:6])
	dst[13] = '-'
	hex.Encode(dst[14:], b[6:8])
	dst[18] = '-'
	hex.Encode(dst[19:], b[8:10])
	dst[23] = '-'
	hex.Encode(dst[24:], b[10:16])
}

// scratchBytes returns room for n bytes, until the next call.
func (d *reader) scratchBytes(n int) []byte {
	if cap(d.digits) < n {
		d.digits = make([]byte, n)
	}
	return d.digits[:n]
}

// appendBlobs writes blobs; when all have one width and their bytes tell that they
// hold numbers, as planes.
func (w *writer) appendBlobs(dst []byte, blobs [][]byte) []byte {
	if len(blobs) == 0 {
		return dst
	}
	if lane := laneOf(blobs); lane > 0 {
		return appendLanes(append(dst, laned, byte(lane)), blobs, lane)
	}
	dst = append(dst, plain)
	dst = w.appendLengths(dst, len(blobs), func(i int) int { return len(blobs[i]) })
	for _, b := range blobs {
		dst = append(dst, b...)
	}
	return dst
}

// blobs reads n blobs and hands them over one by one. They share one allocation, each
// with a capacity of its own length.
func (d *reader) blobs(n, limit int, each func([]byte)) error {
	if n == 0 {
		return nil
	}
	mode, err := d.byte()
	if err != nil {
		return err
	}
	switch mode {
	case plain:
		lengths, sum, err := d.lengths(n)
		if err != nil {
			return err
		}
		b, err := d.take(sum, 1)
		if err != nil {
			return err
		}
		all := append(make([]byte, 0, sum), b...)
		for _, n := range lengths {
			if err := over("bytes of a blob", n, int64(limit)); err != nil {
				return err
			}
			each(all[:n:n])
			all = all[n:]
		}
		return nil
	case laned:
		lane, err := d.byte()
		if err != nil {
			return err
		}
		if lane != 2 && lane != 4 && lane != 8 {
			return bad("lanes of %d bytes, want 2, 4 or 8", lane)
		}
		u, err := d.uvarint()
		if err != nil {
			return err
		}
		if err := over("bytes of a blob", u, int64(min(limit, math.MaxInt32))); err != nil {
			return err
		}
		width := int(u)
		all, err := d.lanes(width, int(lane), n)
		if err != nil {
			return err
		}
		for range n {
			each(all[:width:width])
			all = all[width:]
		}
		return nil
	}
	return bad("blobs in unknown mode %d", mode)
}
