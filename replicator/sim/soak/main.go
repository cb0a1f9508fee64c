// Command soak runs all simulations for a while, from a random seed on, and sums up what
// they did and found.
//
//	go run ./replicator/sim/soak -time 20m
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"github.com/velosync/velosync/replicator/sim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// every is how often soak says that it goes on.
const every = time.Minute

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	long := flags.Duration("time", 20*time.Minute, "go on for so long")
	first := flags.Int64("seed", 0, "the first seed; 0: a random one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *first == 0 {
		*first = rand.Int64N(1e9) + 1
	}
	names := ""
	for _, s := range sim.Simulations {
		names += " " + s.Name
	}
	fmt.Fprintf(out, "soak:%s for %v from seed %d; the same again: -seed %d\n", names, *long, *first, *first)
	began := time.Now()
	next := every
	r := sim.Sweep(*first, sim.Simulations, func(seed int64) bool {
		gone := time.Since(began)
		if gone >= next {
			next += every
			fmt.Fprintf(out, "%v: seed %d\n", gone.Round(time.Second), seed)
		}
		return gone < *long && ctx.Err() == nil
	})
	fmt.Fprintln(out, r)
	if err := errors.Join(r.Errors...); err != nil {
		return err
	}
	if len(r.Failures) > 0 {
		fmt.Fprint(out, r.Failed()) // to make the first of them short may take minutes
		return errors.New(r.Explain(true))
	}
	return nil
}
