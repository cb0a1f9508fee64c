package wire

import "slices"

// A plane is m bytes as they are, or as nibbles. Exponents take a few values only, but
// zstd finds short repeats among them by chance, and a pair of distance and length
// costs more than the bytes that it stands for: 154 B for the 384 exponents of a row of
// random normals, against 104 B as nibbles, which hold no such repeats and take half
// the time.
const (
	planeBytes   = 0
	planeNibbles = 1
)

// escape is the nibble of a byte that has none of its own.
const escape = 15

func appendPlane(dst, p []byte) []byte {
	symbols := symbolsOf(p)
	if symbols == nil {
		return append(append(dst, planeBytes), p...)
	}
	dst = append(dst, planeNibbles, byte(len(symbols)))
	dst = append(dst, symbols...)
	var code [256]byte
	for i := range code {
		code[i] = escape
	}
	for i, s := range symbols {
		code[s] = byte(i)
	}
	at := len(dst)
	dst = slices.Grow(dst, (len(p)+1)/2)[:at+(len(p)+1)/2]
	out := dst[at:]
	escaped := false
	for i := range len(p) / 2 {
		a, b := code[p[2*i]], code[p[2*i+1]]
		escaped = escaped || a == escape || b == escape
		out[i] = a | b<<4
	}
	if len(p)%2 == 1 {
		c := code[p[len(p)-1]]
		escaped = escaped || c == escape
		out[len(out)-1] = c
	}
	if escaped {
		for _, c := range p {
			if code[c] == escape {
				dst = append(dst, c)
			}
		}
	}
	return dst
}

// symbolsOf returns the up to 15 commonest bytes of a plane that is better written as
// nibbles, else nil: when its bytes vary, but 15 values are nearly all. It samples.
func symbolsOf(p []byte) []byte {
	if len(p) < 256 {
		return nil
	}
	var h histogram
	const pieces, piece = 32, 128
	step := max(piece, len(p)/pieces)
	for i := 0; i < len(p); i += step {
		h.add(p[i:min(i+piece, len(p))])
	}
	if e := h.bits() / float64(h.n); e < 0.5 || e > 3.8 {
		return nil
	}
	symbols := make([]byte, 0, 256)
	for c := range 256 {
		if h.count[c] > 0 {
			symbols = append(symbols, byte(c))
		}
	}
	slices.SortFunc(symbols, func(a, b byte) int {
		if h.count[a] != h.count[b] {
			return int(h.count[b]) - int(h.count[a])
		}
		return int(a) - int(b)
	})
	symbols = symbols[:min(escape, len(symbols))]
	n := 0
	for _, s := range symbols {
		n += int(h.count[s])
	}
	if n < h.n-h.n/64 {
		return nil
	}
	return symbols
}

// plane reads a plane of m bytes. When scratch is not nil, the plane lies in it.
func (d *reader) plane(m int) (p []byte, scratch *[]byte, err error) {
	mode, err := d.byte()
	if err != nil {
		return nil, nil, err
	}
	switch mode {
	case planeBytes:
		p, err = d.take(m, 1)
		return p, nil, err
	case planeNibbles:
	default:
		return nil, nil, bad("a plane in unknown mode %d", mode)
	}
	n, err := d.byte()
	if err != nil {
		return nil, nil, err
	}
	if n == 0 || n > escape {
		return nil, nil, bad("a plane of %d symbols, want 1 to %d", n, escape)
	}
	symbols, err := d.take(int(n), 1)
	if err != nil {
		return nil, nil, err
	}
	nibbles, err := d.take((m+1)/2, 1)
	if err != nil {
		return nil, nil, err
	}
	// One look gives two bytes, and whether one of them needs care.
	var two [256][2]byte
	var care [256]bool
	for i := range two {
		for k, c := range [2]int{i & 15, i >> 4} {
			if c < len(symbols) {
				two[i][k] = symbols[c]
			} else {
				care[i] = true
			}
		}
	}
	scratch = getBytes(m + 1)
	p = (*scratch)[:m+1]
	careful := false
	for i, c := range nibbles {
		t := &two[c]
		p[2*i], p[2*i+1] = t[0], t[1]
		careful = careful || care[c]
	}
	p = p[:m]
	if !careful {
		return p, scratch, nil
	}
	for i := range p {
		c := nibbles[i/2] >> (4 * (i % 2)) & 15
		switch {
		case int(c) < len(symbols):
		case c == escape:
			if p[i], err = d.byte(); err != nil {
				return nil, scratch, err
			}
		default:
			return nil, scratch, bad("a plane has symbol %d of %d", c, len(symbols))
		}
	}
	return p, scratch, nil
}
