package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/velosync/velosync/replicator/sim"
)

// A hunted says how a mutant was found, or that it was not.
type hunted struct {
	Found      bool
	By         string // the simulation and its check
	Seed       int64
	Runs       int
	Operations int
	What       string
}

// hunt runs the simulations of this binary by turns, until one of them fails.
func hunt(seeds int64) (h hunted, err error) {
	for h.Seed = 1; h.Seed <= seeds; h.Seed++ {
		for _, s := range sim.Simulations {
			r, err := sim.Run(h.Seed, s.Options)
			h.Runs++
			h.Operations += r.Operations()
			var f *sim.Failure
			switch {
			case errors.As(err, &f):
				h.Found, h.What = true, f.What
				h.By = fmt.Sprintf("%s: %s", s.Name, strings.Join(strings.Fields(f.Check), " "))
				return h, nil
			case err != nil:
				return h, err
			}
		}
	}
	return h, nil
}
