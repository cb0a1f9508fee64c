package change

import (
	"encoding/json"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// ordered are values as SQLite sorts them: SELECT … ORDER BY v.
var ordered = []Value{
	nil, math.Inf(-1), int64(math.MinInt64), -1.5, int64(-1), int64(0), 0.25, int64(1), 1.0, 1.5, int64(2),
	int64(1<<53 - 1), float64(1 << 53), int64(1<<53 + 1), int64(math.MaxInt64), float64(1 << 63), math.Inf(1),
	"", "A", "a", "a\x00", "b", []byte{}, []byte{0}, []byte{1},
}

func TestCompareValues(t *testing.T) {
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i != j {
				want = 1
				if i < j {
					want = -1
				}
			}
			if got := CompareValues(a, b); got != want {
				t.Errorf("%T %v, %T %v: %d, want %d", a, a, b, b, got, want)
			}
		}
	}
}

func TestPolicy_Merge(t *testing.T) {
	for _, tt := range []struct {
		policy     Policy
		a, b, want Value
	}{
		{Max, int64(3), int64(5), int64(5)},
		{Min, int64(3), int64(5), int64(3)},
		{Max, nil, int64(-5), int64(-5)},
		{Min, nil, int64(-5), int64(-5)},
		{Max, "10", int64(99), "10"},
		{Min, 2.5, int64(2), int64(2)},
		{Min, nil, nil, nil},
	} {
		if got := tt.policy.Merge(tt.a, tt.b); got != tt.want {
			t.Errorf("%s of %v and %v is %v, want %v", tt.policy, tt.a, tt.b, got, tt.want)
		}
	}
	text := rapid.SampledFrom(ordered[:len(ordered)-3]) // blobs can't be compared with ==
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom([]Policy{Max, Min}).Draw(t, "policy")
		a, b, c := text.Draw(t, "a"), text.Draw(t, "b"), text.Draw(t, "c")
		if x, y := p.Merge(a, b), p.Merge(b, a); x != y {
			t.Errorf("%s of %v and %v: %v or %v", p, a, b, x, y)
		}
		if x, y := p.Merge(p.Merge(a, b), c), p.Merge(a, p.Merge(b, c)); x != y {
			t.Errorf("%s of %v, %v and %v: %v or %v", p, a, b, c, x, y)
		}
	})
}

func TestPolicy_JSON(t *testing.T) {
	var o Options
	if err := json.Unmarshal([]byte(`{"merge":{"seen_at":"max"}}`), &o); err != nil || o.Merge["seen_at"] != Max {
		t.Errorf("options %+v, %v", o, err)
	}
	if err := json.Unmarshal([]byte(`{"merge":{"seen_at":7}}`), &o); err == nil {
		t.Error("7 is read as a policy")
	}
	if err := Policy("best").Check(); err == nil {
		t.Error("an unknown policy passes")
	}
}
