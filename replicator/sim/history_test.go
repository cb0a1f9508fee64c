package sim

import (
	"runtime"
	"testing"
)

// The same seed gives the same history, whatever runs beside it, where no disk fails: each
// event with its outcome, and what the master has at the end.
func TestRun_SameSeedSameHistory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, o := range []Options{{steady: true}, {Life: true, steady: true}} {
		other := make(map[[32]byte]int64)
		for seed := int64(1); seed <= 4; seed++ {
			var first Result
			for i, procs := range []int{1, 8} {
				runtime.GOMAXPROCS(procs)
				r, err := Run(seed, o)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					first = r
				} else if r.Digest != first.Digest {
					t.Errorf("seed %d, life %v: two runs differ, the second on %d threads: histories %x and %x", seed, o.Life, procs, first.Digest, r.Digest)
				}
			}
			if same, found := other[first.Digest]; found {
				t.Errorf("seeds %d and %d, life %v: have one history", same, seed, o.Life)
			}
			other[first.Digest] = seed
			t.Logf("seed %d, life %v: history %x", seed, o.Life, first.Digest)
		}
	}
}
