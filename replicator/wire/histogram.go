package wire

import (
	"math"
	"sync"
)

// A histogram counts bytes.
type histogram struct {
	count [256]uint32
	n     int
}

func (h *histogram) add(b []byte) {
	for _, c := range b {
		h.count[c]++
	}
	h.n += len(b)
}

// bits estimates the bits that the counted bytes take at the least when each is coded
// alone: their entropy, plus what so few samples hide of it (Miller 1955).
func (h *histogram) bits() float64 {
	if h.n == 0 {
		return 0
	}
	table := logs()
	sum, distinct := 0.0, 0
	for _, c := range h.count {
		switch {
		case c == 0:
			continue
		case c < uint32(len(table)):
			sum += table[c]
		default:
			sum += float64(c) * math.Log2(float64(c))
		}
		distinct++
	}
	n := float64(h.n)
	return n*math.Log2(n) - sum + float64(distinct-1)/2*math.Log2E
}

// logs holds n log2 n; logarithms were most of the cost of a small message.
var logs = sync.OnceValue(func() *[512]float64 {
	var t [512]float64
	for i := 1; i < len(t); i++ {
		t[i] = float64(i) * math.Log2(float64(i))
	}
	return &t
})
