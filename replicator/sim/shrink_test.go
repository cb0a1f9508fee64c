package sim

import (
	"errors"
	"slices"
	"testing"

	"github.com/velosync/velosync/capture/change"
)

// A schedule that finds a fault shrinks to a few steps, which still find it, and find
// nothing once the fault is mended.
func TestShrink(t *testing.T) {
	o := Options{mutant: stamps(func(_ *change.Push, s *change.EditStamp) { s.Weight = change.MaxWeight })}
	var found *Failure
	for seed := int64(1); found == nil; seed++ {
		if _, err := Run(seed, o); err != nil && !errors.As(err, &found) || seed > 20 {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	small := Shrink(found)
	t.Logf("%v", small)
	const steps, chances, lines = 6, 12, 30
	if n := len(small.options.schedule.steps); n > steps {
		t.Errorf("shrunk to %d steps, want at most %d", n, steps)
	}
	if n := len(small.happened); n > chances {
		t.Errorf("shrunk to %d things that happen by chance, want at most %d", n, chances)
	}
	if n := len(small.Trace); n > lines {
		t.Errorf("the trace has %d lines, want at most %d", n, lines)
	}
	if small.Check != found.Check {
		t.Errorf("fails by %q, and did by %q", small.Check, found.Check)
	}
	o = small.options
	_, err := Run(found.Seed, o)
	var again *Failure
	if !errors.As(err, &again) || !slices.Equal(again.Trace, small.Trace) {
		t.Errorf("run again: %v", err)
	}
	o.mutant = mutant{}
	if _, err := Run(found.Seed, o); err != nil {
		t.Errorf("without the fault: %v", err)
	}
}

func TestMinimal(t *testing.T) {
	asked := 0
	got := minimal([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, func(some []int) bool {
		asked++
		return slices.Contains(some, 3) && slices.Contains(some, 8)
	})
	if !slices.Equal(got, []int{3, 8}) || asked > 30 {
		t.Errorf("got %v after %d tries, want [3 8] after 30 at most", got, asked)
	}
}
