// Command mutants breaks the product's own code, one place at a time, and demands that the
// simulation finds each break. A break that it can't see is a hole in it.
//
//	go run ./replicator/sim/mutants                 all of them
//	go run ./replicator/sim/mutants -run 'stored|tie'   those with such names
//
// The sources stay as they are: the compiler reads each mutant through an overlay. Results go
// to replicator/sim/MUTANTS.md, each as it comes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
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

// mostTime bounds how long one mutant is looked for.
const mostTime = 15 * time.Minute

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	seeds := flags.Int64("seeds", 120, "look for a mutant in so many seeds of each simulation")
	names := flags.String("run", "", "only mutants whose names match this `expression`")
	jobs := flags.Int("jobs", runtime.GOMAXPROCS(0), "look for so many mutants at once")
	hunts := flags.Bool("hunt", false, "run the simulations of this binary until one fails, and say so in JSON; what mutants runs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *hunts {
		h, err := hunt(*seeds)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(h)
	}
	wanted, err := regexp.Compile(*names)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "velosync-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var list []mutant
	for _, m := range mutants {
		if wanted.MatchString(m.name) {
			list = append(list, m)
		}
	}
	if err := valid(root, list); err != nil {
		return err
	}
	if *names == "" { // else what finds a mutant may find the code as it is
		if r := sim.Sweep(1, sim.Simulations, func(seed int64) bool { return seed <= *seeds }); len(r.Failures)+len(r.Errors) > 0 {
			return errors.Join(append(r.Errors, errors.New("the code fails as it is: "+r.Explain(true)))...)
		}
	}
	kept, err := readTable(filepath.Join(root, tableFile))
	if err != nil {
		return err
	}
	results := make([]result, len(list))
	next := make(chan int)
	var wg sync.WaitGroup
	var printing sync.Mutex
	for range *jobs {
		wg.Go(func() {
			for i := range next {
				results[i] = find(ctx, root, filepath.Join(dir, fmt.Sprint(i)), list[i], *seeds)
				printing.Lock()
				fmt.Fprintln(out, results[i].line())
				kept.put(&results[i])
				results[i].err = errors.Join(results[i].err, kept.write(filepath.Join(root, tableFile), mutants))
				printing.Unlock()
			}
		})
	}
	for i := range list {
		next <- i
	}
	close(next)
	wg.Wait()
	return sum(out, results)
}

// A result says what became of a mutant.
type result struct {
	mutant
	hunted
	err  error
	took time.Duration
}

// find builds a mutant and looks for it.
func find(ctx context.Context, root, dir string, m mutant, seeds int64) (r result) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, mostTime)
	defer cancel()
	r.mutant = m
	defer func() { r.took = time.Since(began) }()
	overlay, err := m.overlay(root, dir)
	if err != nil {
		r.err = err
		return r
	}
	if m.test != "" {
		r.hunted, r.err = test(ctx, root, overlay, m.test)
		return r
	}
	binary := filepath.Join(dir, "mutants")
	if _, err := goCommand(ctx, root, "build", "-ldflags=-s -w", "-overlay", overlay, "-o", binary, "./replicator/sim/mutants"); err != nil {
		r.err = fmt.Errorf("does not compile: %w", err)
		return r
	}
	cmd := exec.CommandContext(ctx, binary, "-hunt", "-seeds", fmt.Sprint(seeds))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	answer, err := cmd.Output()
	_ = os.Remove(binary)
	if err != nil {
		r.err = fmt.Errorf("%w: %s", err, last(stderr.String(), 2000))
		return r
	}
	r.err = json.Unmarshal(answer, &r.hunted)
	return r
}

// test runs the kept test that has to find a mutant which no schedule can: args are those
// of go test.
func test(ctx context.Context, root, overlay, args string) (hunted, error) {
	out, err := goCommand(ctx, root, append([]string{"test", "-count=1", "-overlay", overlay}, strings.Fields(args)...)...)
	switch {
	case err == nil && strings.Contains(out, "no tests to run"):
		return hunted{}, fmt.Errorf("go test %s: no tests to run", args)
	case err == nil:
		return hunted{}, nil
	case !strings.Contains(out, "--- FAIL"):
		return hunted{}, err
	}
	return hunted{Found: true, By: "go test " + args}, nil
}

func goCommand(ctx context.Context, root string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go %s: %w\n%s", args[0], err, last(string(out), 4000))
	}
	return string(out), err
}

func last(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (r *result) line() string {
	switch {
	case r.err != nil:
		return fmt.Sprintf("ERROR     %s: %v", r.name, r.err)
	case !r.Found:
		return fmt.Sprintf("SURVIVED  %s: not found in %d runs, %d operations, %v", r.name, r.Runs, r.Operations, r.took.Round(time.Second))
	case r.Runs == 0:
		return fmt.Sprintf("found     %s: by %s", r.name, r.By)
	}
	return fmt.Sprintf("found     %s: by %s, seed %d, %d runs, %d operations", r.name, r.By, r.Seed, r.Runs, r.Operations)
}

// sum says how many mutants were found, and returns an error unless all were.
func sum(out io.Writer, results []result) error {
	var errs []error
	for _, r := range results {
		switch {
		case r.err != nil:
			errs = append(errs, fmt.Errorf("mutant %q: %w", r.name, r.err))
		case !r.Found:
			errs = append(errs, fmt.Errorf("mutant %q survived %d runs: the simulation does not see that %s", r.name, r.Runs, r.name))
		}
	}
	fmt.Fprintf(out, "\n%d mutants, %d found; see %s\n", len(results), len(results)-len(errs), tableFile)
	return errors.Join(errs...)
}
