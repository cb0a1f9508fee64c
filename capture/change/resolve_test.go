package change

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"pgregory.net/rapid"
)

// TestResolve reads the decision table that the documentation speaks of.
func TestResolve(t *testing.T) {
	type side struct {
		Clock  Clock
		Weight float64
		Time   int64
		Device string
	}
	var table []struct {
		Name          string
		Local, Remote side
		Want          string
		Rule          Rule
	}
	text, err := os.ReadFile("../../testdata/resolve/decisions.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	stamp := func(s side) Stamp {
		var id DeviceID
		if s.Device != "" {
			if id, err = ParseDeviceID(s.Device); err != nil {
				t.Fatal(err)
			}
		}
		return Stamp{Clock: s.Clock, Weight: s.Weight, Time: s.Time, Device: id}
	}
	for _, tt := range table {
		t.Run(tt.Name, func(t *testing.T) {
			got, rule := Resolve(stamp(tt.Local), stamp(tt.Remote))
			if got.String() != tt.Want || rule != tt.Rule {
				t.Errorf("Resolve = %v by %s, want %s by %s", got, rule, tt.Want, tt.Rule)
			}
		})
	}
}

func clocks() *rapid.Generator[Clock] {
	return rapid.Custom(func(t *rapid.T) Clock {
		c := Clock{}
		for _, site := range []string{"a", "b", Master} {
			if n := rapid.Uint64Range(0, 3).Draw(t, site); n > 0 || rapid.Bool().Draw(t, "explicit zero") {
				c[site] = n
			}
		}
		return c
	})
}

func stamps() *rapid.Generator[Stamp] {
	return rapid.Custom(func(t *rapid.T) Stamp {
		return Stamp{
			Clock:  clocks().Draw(t, "clock"),
			Weight: rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, -1, 0.5, math.NaN(), math.Inf(1), math.SmallestNonzeroFloat64}).Draw(t, "weight"),
			Time:   rapid.Int64Range(-1, 2).Draw(t, "time"),
			Device: DeviceID{byte(rapid.IntRange(0, 2).Draw(t, "device"))},
		}
	})
}

func TestResolve_symmetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := stamps().Draw(t, "a"), stamps().Draw(t, "b")
		ab, rule := Resolve(a, b)
		ba, other := Resolve(b, a)
		if rule != other {
			t.Fatalf("by %s one way, by %s the other", rule, other)
		}
		if same := rule == ByIdentity || rule == ByDevice && a.Device == b.Device; !same && ab == ba {
			t.Fatalf("%v wins both ways", ab)
		}
	})
}

func TestRank_order(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := stamps().Draw(t, "a").rank(), stamps().Draw(t, "b").rank(), stamps().Draw(t, "c").rank()
		ab, _ := a.Compare(b)
		ba, _ := b.Compare(a)
		bc, _ := b.Compare(c)
		ac, _ := a.Compare(c)
		if ab != -ba {
			t.Fatalf("a to b %d, b to a %d", ab, ba)
		}
		if ab <= 0 && bc <= 0 && ac > 0 {
			t.Fatalf("a <= b <= c and a > c")
		}
	})
}

func TestClock_algebra(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := clocks().Draw(t, "a"), clocks().Draw(t, "b"), clocks().Draw(t, "c")
		equal := func(x, y Clock, law string) {
			if o := x.Compare(y); o != Equal {
				t.Fatalf("%s: %v and %v are %v", law, x, y, o)
			}
		}
		equal(a.Merge(b), b.Merge(a), "Merge commutes")
		equal(a.Merge(b).Merge(c), a.Merge(b.Merge(c)), "Merge associates")
		equal(a.Merge(a), a, "Merge is idempotent")
		if o := a.Merge(b).Compare(a); o != After && o != Equal {
			t.Fatalf("a merge is %v its part", o)
		}
		opposite := map[Order]Order{Equal: Equal, Before: After, After: Before, Concurrent: Concurrent}
		if x, y := a.Compare(b), b.Compare(a); y != opposite[x] {
			t.Fatalf("a is %v b, b is %v a", x, y)
		}
		if a.Compare(b) == Before && b.Compare(c) == Before && a.Compare(c) != Before {
			t.Fatalf("Before is not transitive")
		}
	})
}

func TestWeightOf(t *testing.T) {
	for _, bad := range []Value{"high", []byte{1}, math.NaN(), math.Inf(1), math.Inf(-1), 1e10, int64(-1e10)} {
		if w, err := WeightOf(bad); err == nil {
			t.Errorf("WeightOf(%v) = %v, want an error", bad, w)
		}
	}
	for v, want := range map[Value]float64{nil: 0, int64(3): 3, 0.5: 0.5, -1e9: -1e9} {
		if w, err := WeightOf(v); err != nil || w != want {
			t.Errorf("WeightOf(%v) = %v, %v, want %v", v, w, err, want)
		}
	}
}

func TestCorrectTime(t *testing.T) {
	const master = 1_700_000_000_000
	year := int64(365 * 24 * 3600 * 1000)
	for _, tt := range []struct {
		name                          string
		claimed, device, master, want int64
	}{
		{"clocks agree", master - 5, master, master, master - 5},
		{"the device is ten years behind", master - 10*year - 7, master - 10*year, master, master - 7},
		{"the device is ten years ahead", master + 10*year - 7, master + 10*year, master, master - 7},
		{"a claim of the future", master + year, master, master, master + MaxAhead},
		{"no clock at all", 0, 0, master, 0},
		{"overflow", math.MaxInt64, 1, master, master + MaxAhead},
		{"underflow", math.MinInt64, master, master, 0},
	} {
		if got := CorrectTime(tt.claimed, tt.device, tt.master); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
