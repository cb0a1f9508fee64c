package change

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestClash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOf(rapid.OneOf(rapid.Int64Range(-5, 20), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, math.MaxInt64 - 1}))).Draw(t, "ids")
		var c Clash
		for _, id := range ids {
			if !c.Add(id) {
				t.Fatalf("%d does not fit into %v", id, c.IDs)
			}
		}
		var got []int64
		for i, r := range c.IDs {
			if i > 0 && uint64(r[0])-uint64(c.IDs[i-1][1]) < 2 {
				t.Fatalf("ranges that touch: %v", c.IDs)
			}
			for id := r[0]; ; id++ {
				got = append(got, id)
				if id == r[1] {
					break
				}
			}
		}
		slices.Sort(ids)
		if d := cmp.Diff(slices.Compact(slices.Clone(ids)), got); len(ids) > 0 && d != "" {
			t.Fatalf("-want +got\n%s", d)
		}
		for _, id := range []int64{-7, -1, 0, 7, 21, math.MaxInt64} {
			if c.Has(id) != slices.Contains(ids, id) {
				t.Fatalf("Has(%d) = %t in %v", id, c.Has(id), c.IDs)
			}
		}
	})
}

func TestClash_bounded(t *testing.T) {
	var c Clash
	for i := range int64(MaxClashRanges) {
		if !c.Add(2 * i) {
			t.Fatalf("range %d does not fit", i)
		}
	}
	if c.Add(-10) || !c.Add(4) || !c.Add(1) || !c.Add(-10) {
		t.Error("want the ranges full, until two of them are one")
	}
}
