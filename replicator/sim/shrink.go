package sim

import (
	"errors"
	"maps"
	"slices"
)

// mostShrinkRuns bounds how often a schedule is tried in parts.
const mostShrinkRuns = 400

// Shrink makes the schedule of a failure short: it leaves out the steps, and then the
// things that happened by chance, without which the run still fails by the same check.
// It is delta debugging, as Zeller and Hildebrandt described it in 2002.
func Shrink(f *Failure) *Failure {
	s := &shrinking{best: f, left: mostShrinkRuns}
	steps := f.options.schedule.steps
	if steps == nil {
		for i := range f.options.Steps {
			steps = append(steps, i)
		}
	}
	// Nothing after the step that failed mattered.
	s.try(schedule{steps: slices.DeleteFunc(slices.Clone(steps), func(i int) bool { return i > f.step }), calm: f.options.schedule.calm})
	for before := -1; before != s.size() && s.left > 0; {
		before = s.size()
		if s.best.options.schedule.steps != nil {
			minimal(s.best.options.schedule.steps, func(some []int) bool {
				return s.try(schedule{steps: append([]int{}, some...), calm: s.best.options.schedule.calm})
			})
		}
		all := s.best.happened
		minimal(all, func(some []draw) bool {
			calm := maps.Clone(s.best.options.schedule.calm)
			if calm == nil {
				calm = make(map[draw]bool)
			}
			for _, d := range all {
				if !slices.Contains(some, d) {
					calm[d] = true
				}
			}
			return s.try(schedule{steps: s.best.options.schedule.steps, calm: calm})
		})
	}
	s.best.shrunk = mostShrinkRuns - s.left
	return s.best
}

type shrinking struct {
	best *Failure
	left int
}

func (s *shrinking) size() int { return len(s.best.options.schedule.steps) + len(s.best.happened) }

// try runs a schedule and keeps it if it fails as the first one did.
func (s *shrinking) try(x schedule) bool {
	if s.left == 0 {
		return false
	}
	s.left--
	o := s.best.options
	o.schedule = x
	_, err := Run(s.best.Seed, o)
	var f *Failure
	if !errors.As(err, &f) || f.Check != s.best.Check {
		return false
	}
	s.best = f
	return true
}

// minimal leaves out as many items as it can while fails says yes to the rest: all at
// once, then halves, quarters, and so on to single ones.
func minimal[T any](items []T, fails func(some []T) bool) []T {
	for size := len(items); size > 0; size /= 2 {
		for at := len(items); at > 0; {
			from := max(at-size, 0)
			rest := slices.Concat(items[:from], items[at:])
			if fails(rest) {
				items = rest
			}
			at = from
		}
	}
	return items
}
