package sim

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Report sums runs up.
type Report struct {
	Runs, Operations, Events, Devices int
	Faults, Work, Conflicts           map[string]int
	Digest                            [32]byte // of all histories, in any order
	Failures                          []*Failure
	Errors                            []error // of runs that could not be
	Took                              time.Duration
}

// Sweep runs seeds from first on, each in all of some simulations, on all processors, as
// long as more says yes to the next seed.
func Sweep(first int64, list []Simulation, more func(seed int64) bool) *Report {
	r := &Report{Faults: make(map[string]int), Work: make(map[string]int), Conflicts: make(map[string]int)}
	began := time.Now()
	type job struct {
		seed int64
		Simulation
	}
	jobs := make(chan job)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for j := range jobs {
				result, err := Run(j.seed, j.Options)
				mu.Lock()
				r.add(result, err)
				mu.Unlock()
			}
		})
	}
	for seed := first; more(seed); seed++ {
		for _, s := range list {
			jobs <- job{seed, s}
		}
	}
	close(jobs)
	wg.Wait()
	slices.SortFunc(r.Failures, func(a, b *Failure) int { return int(a.Seed - b.Seed) })
	r.Took = time.Since(began)
	return r
}

func (r *Report) add(x Result, err error) {
	var f *Failure
	switch {
	case errors.As(err, &f):
		r.Failures = append(r.Failures, f)
	case err != nil:
		r.Errors = append(r.Errors, err)
	}
	r.Runs++
	r.Operations += x.Operations()
	r.Events += x.Events
	r.Devices += x.Devices
	for _, m := range []struct{ sum, of map[string]int }{{r.Faults, x.Faults}, {r.Work, x.Work}, {r.Conflicts, x.Conflicts}} {
		for k, n := range m.of {
			m.sum[k] += n
		}
	}
	for i := range r.Digest {
		r.Digest[i] ^= x.Digest[i]
	}
}

// kinds of failures, by words of their checks.
var kinds = []struct{ kind, words string }{
	{"divergence", "healed: row"},
	{"divergence", "it has no end"},
	{"lost", "lost without a trace"},
	{"lost", "is not in the log"},
	{"lost", "does not push"},
	{"wrong verdicts", "conflicts logged"},
	{"wrong verdicts", "are called concurrent"},
}

// Kind names what a failure means for who uses the product.
func (f *Failure) Kind() string {
	for _, k := range kinds {
		if strings.Contains(f.Check, k.words) {
			return k.kind
		}
	}
	return "other failures"
}

// String returns the report in lines.
func (r *Report) String() string {
	var b strings.Builder
	seconds := r.Took.Seconds()
	fmt.Fprintf(&b, "%d schedules in %v (%.1f a second) with %d devices, %d operations (%.0f a second), %d versions and deletes\n",
		r.Runs, r.Took.Round(time.Second), float64(r.Runs)/seconds, r.Devices, r.Operations, float64(r.Operations)/seconds, r.Events)
	fmt.Fprintf(&b, "history of all: %x\n", r.Digest)
	faults := 0
	for _, n := range r.Faults {
		faults += n
	}
	fmt.Fprintf(&b, "%d faults: %s\n", faults, list(r.Faults))
	fmt.Fprintf(&b, "work: %s\n", list(r.Work))
	fmt.Fprintf(&b, "conflicts: %s\n", list(r.Conflicts))
	found := map[string]int{"divergence": 0, "lost": 0, "wrong verdicts": 0, "other failures": len(r.Errors)}
	for _, f := range r.Failures {
		found[f.Kind()]++
	}
	b.WriteString(list(found))
	return b.String()
}

func list(m map[string]int) string {
	parts := make([]string, 0, len(m))
	for _, k := range sortedKeys(m) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

// Explain tells all failures by name, and the first of them by its trace, which it shrinks
// if asked to. It returns nothing where there is none.
func (r *Report) Explain(shrink bool) string {
	if len(r.Failures) == 0 {
		return ""
	}
	first := r.Failures[0]
	if shrink {
		first = Shrink(first)
	}
	return fmt.Sprintf("%s%d runs failed; the first of them, %v", r.Failed(), len(r.Failures), first)
}

// Failed names the runs that failed, a line each.
func (r *Report) Failed() string {
	var b strings.Builder
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "seed %d of %s: %s\n", f.Seed, f.test, f.What)
	}
	return b.String()
}
