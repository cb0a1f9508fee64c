package sim

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// seeds returns the seeds that VELOSYNC_SIM_SEEDS names: a number of them, or "from-to".
func seeds(t *testing.T) (from, to int64) {
	text := os.Getenv("VELOSYNC_SIM_SEEDS")
	if text == "" {
		return 1, 60
	}
	a, b, isRange := strings.Cut(text, "-")
	from, err := strconv.ParseInt(a, 10, 64)
	if !isRange {
		from, to = 1, from
	} else if err == nil {
		to, err = strconv.ParseInt(b, 10, 64)
	}
	if err != nil || to < from {
		t.Fatalf("VELOSYNC_SIM_SEEDS is %q: want a number of seeds, or from-to", text)
	}
	return from, to
}

func TestSchedules(t *testing.T) { schedules(t, Options{}) }

// TestLives lets files go back in time.
func TestLives(t *testing.T) { schedules(t, Options{Life: true}) }

func schedules(t *testing.T, o Options) {
	from, to := seeds(t)
	began := time.Now()
	var next atomic.Int64
	next.Store(from)
	var mu sync.Mutex
	faults, work, conflicts := make(map[string]int), make(map[string]int), make(map[string]int)
	events := 0
	var failures []*Failure
	var digest [32]byte // of all seeds, in any order
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := next.Add(1) - 1; seed <= to; seed = next.Add(1) - 1 {
				r, err := Run(seed, o)
				mu.Lock()
				if f := (*Failure)(nil); errors.As(err, &f) {
					failures = append(failures, f)
				} else if err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				add(faults, r.Faults)
				add(work, r.Work)
				add(conflicts, r.Conflicts)
				events += r.Events
				for i := range digest {
					digest[i] ^= r.Digest[i]
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	n := to - from + 1
	t.Logf("%d seeds in %v, %.1f a second; %d versions and deletes", n, time.Since(began).Round(time.Millisecond), float64(n)/time.Since(began).Seconds(), events)
	t.Logf("history of all seeds: %x", digest)
	t.Logf("faults: %s", list(faults))
	t.Logf("work: %s", list(work))
	t.Logf("conflicts: %s", list(conflicts))
	report(t, failures, o)
}

// report tells all failures by name, and one of them by its trace: shrunk, unless
// VELOSYNC_SIM_SHRINK is 0.
func report(t *testing.T, failures []*Failure, o Options) {
	if len(failures) == 0 {
		return
	}
	slices.SortFunc(failures, func(a, b *Failure) int { return int(a.Seed - b.Seed) })
	for _, f := range failures {
		t.Errorf("seed %d: %s", f.Seed, f.What)
	}
	first := failures[0]
	if os.Getenv("VELOSYNC_SIM_SHRINK") != "0" {
		first = Shrink(first, o)
	}
	t.Errorf("%d seeds failed; the first of them, %v", len(failures), first)
}

func add(sum, m map[string]int) {
	for k, n := range m {
		sum[k] += n
	}
}

func list(m map[string]int) string {
	parts := make([]string, 0, len(m))
	for _, k := range sortedKeys(m) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}
