package wire

import (
	"encoding/binary"
	"math/bits"
)

// Numbers in blobs (vectors, mostly) compress badly as they lie, since the bytes that
// repeat stand between bytes that do not. As planes they compress well: first all
// lowest bytes of all numbers of all rows, then all second ones. Each number is turned
// left by one bit before, which takes the sign from the top to the bottom: the top
// plane is then the exponent alone, and the others are not worth compressing.

// laneOf returns the width of the numbers that blobs seem to hold, 2, 4 or 8, or 0 when
// planes would gain less than one byte in 32 or the blobs differ in width. It looks at
// 16 KiB, from the beginning of rows far apart.
//
// Few bytes look less random than they are, and a plane has fewer than the whole. So
// the planes are compared with as many parts of the same bytes, cut where they lie.
func laneOf(blobs [][]byte) int {
	width := len(blobs[0])
	for _, b := range blobs {
		if len(b) != width {
			return 0
		}
	}
	const most, least = 16 << 10, 256
	piece := min(width, max(256, most/len(blobs))) &^ 7
	if piece == 0 {
		return 0
	}
	sample := make([]byte, 0, most)
	for i := 0; i < len(blobs) && len(sample)+piece <= most; i += max(1, len(blobs)*piece/most) {
		sample = append(sample, blobs[i][:piece]...)
	}
	if len(sample) < least {
		return 0
	}
	best, lane := 1-1.0/32, 0
	for _, k := range [...]int{2, 4, 8} {
		var planes, parts [8]histogram
		for i := 0; i < len(sample); i += k {
			u := turn(sample[i:], k)
			for p := range k {
				planes[p].count[byte(u>>(8*p))]++
			}
		}
		gain, base := 0.0, 0.0
		for p := range k {
			planes[p].n = len(sample) / k
			parts[p].add(sample[p*len(sample)/k : (p+1)*len(sample)/k])
			gain += planes[p].bits()
			base += parts[p].bits()
		}
		if gain < best*base {
			best, lane = 0.98*gain/base, k // a wider lane must be better, not as good
		}
	}
	return lane
}

// turn returns the number of k bytes that b begins with, turned left by one bit.
func turn(b []byte, k int) uint64 {
	switch k {
	case 2:
		return uint64(bits.RotateLeft16(binary.LittleEndian.Uint16(b), 1))
	case 4:
		return uint64(bits.RotateLeft32(binary.LittleEndian.Uint32(b), 1))
	}
	return bits.RotateLeft64(binary.LittleEndian.Uint64(b), 1)
}

// appendLanes writes the width of the blobs, the planes of their numbers from the
// lowest to the highest, then what each blob has left at its end.
func appendLanes(dst []byte, blobs [][]byte, lane int) []byte {
	width := len(blobs[0])
	dst = binary.AppendUvarint(dst, uint64(width))
	per := width / lane
	m := per * len(blobs) // the bytes of a plane
	scratch := getBytes(m * lane)
	defer putBytes(scratch)
	out := (*scratch)[:m*lane]
	switch lane {
	case 2:
		p0, p1 := out[:m], out[m:]
		for _, b := range blobs {
			for i := range per {
				u := bits.RotateLeft16(binary.LittleEndian.Uint16(b[2*i:]), 1)
				p0[i], p1[i] = byte(u), byte(u>>8)
			}
			p0, p1 = p0[per:], p1[per:]
		}
	case 4:
		p0, p1, p2, p3 := out[:m], out[m:2*m], out[2*m:3*m], out[3*m:]
		for _, b := range blobs {
			b, q0, q1, q2, q3 := b[:4*per], p0[:per], p1[:per], p2[:per], p3[:per]
			for i := range q0 {
				u := bits.RotateLeft32(binary.LittleEndian.Uint32(b[4*i:4*i+4]), 1)
				q0[i], q1[i], q2[i], q3[i] = byte(u), byte(u>>8), byte(u>>16), byte(u>>24)
			}
			p0, p1, p2, p3 = p0[per:], p1[per:], p2[per:], p3[per:]
		}
	case 8:
		for r, b := range blobs {
			for i := range per {
				u := bits.RotateLeft64(binary.LittleEndian.Uint64(b[8*i:]), 1)
				for k := range 8 {
					out[k*m+r*per+i] = byte(u >> (8 * k))
				}
			}
		}
	}
	for k := range lane {
		dst = appendPlane(dst, out[k*m:][:m])
	}
	if width%lane != 0 {
		for _, b := range blobs {
			dst = append(dst, b[per*lane:]...)
		}
	}
	return dst
}

// lanes reads n blobs of width bytes each into one slice.
func (d *reader) lanes(width, lane, n int) ([]byte, error) {
	per := width / lane
	m := per * n
	if m > 2*len(d.b)+1 { // a plane takes at least half a byte for each of its own
		return nil, errCut()
	}
	var planes [8][]byte
	for k := range lane {
		p, scratch, err := d.plane(m)
		if scratch != nil {
			defer putBytes(scratch)
		}
		if err != nil {
			return nil, err
		}
		planes[k] = p
	}
	tail := width % lane
	tails, err := d.take(tail, n)
	if err != nil {
		return nil, err
	}
	all := make([]byte, width*n)
	for r := range n {
		b := all[r*width:][:width]
		switch lane {
		case 2:
			p0, p1 := planes[0][r*per:][:per], planes[1][r*per:][:per]
			for i := range p0 {
				binary.LittleEndian.PutUint16(b[2*i:], bits.RotateLeft16(uint16(p0[i])|uint16(p1[i])<<8, -1))
			}
		case 4:
			p0, p1, p2, p3 := planes[0][r*per:][:per], planes[1][r*per:][:per], planes[2][r*per:][:per], planes[3][r*per:][:per]
			v := b[:4*per]
			for i := range p0 {
				u := uint32(p0[i]) | uint32(p1[i])<<8 | uint32(p2[i])<<16 | uint32(p3[i])<<24
				binary.LittleEndian.PutUint32(v[4*i:4*i+4], bits.RotateLeft32(u, -1))
			}
		case 8:
			for i := range per {
				var u uint64
				for k := range 8 {
					u |= uint64(planes[k][r*per+i]) << (8 * k)
				}
				binary.LittleEndian.PutUint64(b[8*i:], bits.RotateLeft64(u, -1))
			}
		}
		copy(b[width-tail:], tails[r*tail:][:tail])
	}
	return all, nil
}
