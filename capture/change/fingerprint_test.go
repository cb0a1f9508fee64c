package change

import (
	"math"
	"testing"
)

func TestFingerprinter(t *testing.T) {
	var f Fingerprinter
	seen := map[int64]int{}
	for i, values := range [][]Value{
		nil, {nil}, {nil, nil}, {int64(0)}, {int64(1)}, {1.0}, {"1"}, {[]byte("1")}, {""}, {[]byte{}}, {"", ""}, {"a", "bc"}, {"ab", "c"}, {math.Inf(1)},
	} {
		x := f.Of(values)
		if j, ok := seen[x]; ok {
			t.Errorf("values %d and %d look alike: %x", i, j, x)
		}
		seen[x] = i
	}
	if f.Of([]Value{0.0}) != f.Of([]Value{math.Copysign(0, -1)}) {
		t.Error("0.0 and -0.0 differ: SQLite calls them equal")
	}
	if f.Of([]Value{"a", 2.5}) != new(Fingerprinter).Of([]Value{"a", 2.5}) {
		t.Error("what was asked before shows")
	}
}
