package sim

import (
	"encoding/binary"
	"math/rand/v2"
)

// A schedule is what a run takes of its seed. The zero schedule is all of it. Each step
// draws from dice of its own, so that the others stay what they are where one is left out.
type schedule struct {
	steps []int         // that are taken, in order; nil: all
	calm  map[draw]bool // what would happen by chance, and does not
}

// A draw is one question to chance: the n-th of a step.
type draw struct{ step, n int }

// setUp is the step before the first one.
const setUp = -1

// begin begins a step.
func (w *world) begin(step int) {
	w.rng = w.dice(step, 0)
	w.step, w.asked = step, 0
	if w.forest != nil {
		w.forest.rng, w.forest.asked = w.dice(step, 1), 0
	}
}

// dice returns the dice of a step; there are several.
func (w *world) dice(step int, which byte) *rand.Rand {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], uint64(w.seed))
	binary.LittleEndian.PutUint64(key[8:], uint64(step-setUp)+1)
	key[16] = which
	return rand.New(rand.NewChaCha8(key))
}

// chance reports whether something happens that does so with probability p.
func (w *world) chance(p float64) bool {
	w.asked++
	return w.rng.Float64() < p && w.happens(draw{w.step, w.asked})
}

// happens notes what happens by chance, but where the schedule is calm.
func (w *world) happens(d draw) bool {
	if w.o.schedule.calm[d] {
		return false
	}
	w.happened = append(w.happened, d)
	return true
}

// steps returns the steps that the run takes.
func (w *world) steps() []int {
	if w.o.schedule.steps != nil {
		return w.o.schedule.steps
	}
	steps := make([]int, w.o.Steps)
	for i := range steps {
		steps[i] = i
	}
	return steps
}
