package sim

import (
	"runtime"
	"testing"
)

// The same seed gives the same history, whatever runs beside it: each event with its
// outcome, and what the master has at the end.
func TestRun_SameSeedSameHistory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, s := range Simulations {
		other := make(map[[32]byte]int64)
		for seed := int64(1); seed <= 6; seed++ {
			var first Result
			for i, procs := range []int{1, 8} {
				runtime.GOMAXPROCS(procs)
				r, err := Run(seed, s.Options)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					first = r
					continue
				}
				if r.Digest == first.Digest {
					continue
				}
				at := 0
				for at < len(r.trace) && at < len(first.trace) && r.trace[at] == first.trace[at] {
					at++
				}
				t.Errorf("%s, seed %d: two runs differ, the second on %d threads, from line %d on:\n%s\n%s", s.Name, seed, procs, at, lineOf(first.trace, at), lineOf(r.trace, at))
			}
			if same, found := other[first.Digest]; found {
				t.Errorf("%s: seeds %d and %d have one history", s.Name, same, seed)
			}
			other[first.Digest] = seed
		}
	}
}

// lineOf returns a line of a trace that may end before.
func lineOf(trace []string, at int) string {
	if at < len(trace) {
		return trace[at]
	}
	return "no more"
}
