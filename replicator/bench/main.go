// Command bench measures what design section 10 aims at, on this machine, and prints a
// table: each figure with its unit, the aim, and the ratio to a floor of the same run.
//
//	make bench
//	go run ./replicator/bench --quick
//	go run ./replicator/bench --only sync --cpuprofile push.out
//	go run ./replicator/bench --only search --vectors dist/bench-vector/data/text-100000 --searches searches.jsonl
//
// Rows are docs(id uuid text, title 30 B, body 200 B, embedding 384 x float32, weight,
// updated_at), 1,822 bytes packed. Everything lies in a temporary directory, which is
// removed at the end.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type cli struct {
	Quick      bool     `help:"10,000 rows, not 100,000."`
	Rows       int      `placeholder:"N" help:"So many rows (100000)."`
	Only       []string `placeholder:"PART" help:"Measure only these, separated by commas: ${parts}."`
	JSON       bool     `help:"Print JSON, one object a line."`
	Dir        string   `placeholder:"DIR" help:"Where the temporary directory is made: its file system is measured too (the system's own place)."`
	Vectors    string   `placeholder:"DIR" help:"Search among the vectors in this folder, one of dist/bench-vector/data (synthetic clusters)."`
	Searches   string   `placeholder:"FILE" help:"Write each search while rows arrive, a line of JSON, with the changed rows and the recall."`
	CPUProfile string   `name:"cpuprofile" placeholder:"FILE" help:"Write a CPU profile."`
}

// sizes say how much is measured.
type sizes struct {
	rows     int // of the table
	pairs    int // of a plain and a tracked run
	singles  int // 1-row transactions
	batched  int // rows in 1k-row transactions
	thousand int // rows of what is said to be of 1,000
	writes   int // that propagate
	gap      time.Duration
	scans    int
	devices  []int // numbers of devices that write each row
	arrivals []arrival
	calm     time.Duration // of searching before rows arrive, and after
}

func sizesFor(rows int) sizes {
	s := sizes{rows: rows, pairs: 5, singles: 5000, batched: 20_000, thousand: 1000, writes: 300, gap: 10 * time.Millisecond, scans: 15, devices: []int{1, 10, 100}}
	seconds := 10
	if rows < 50_000 {
		s.singles, s.batched, s.devices = 2000, 10_000, []int{1, 10}
		seconds = 2
	}
	s.arrivals = []arrival{
		{rows: 10, commits: 20 * seconds, gap: 50 * time.Millisecond},
		{rows: 100, commits: 5 * seconds, gap: 200 * time.Millisecond},
		{rows: 1000, commits: seconds, gap: time.Second},
	}
	s.calm = time.Duration(seconds) * time.Second / 2
	return s
}

// check refuses sizes that leave nothing to measure.
func (s sizes) check() error {
	if least := 10 * s.thousand; s.rows < least {
		return fmt.Errorf("--rows %d: want at least %d", s.rows, least)
	}
	return nil
}

// A bench is one run.
type bench struct {
	dir  string
	size sizes
	docs []doc
	// vectors and lookups are --vectors and --searches.
	vectors, lookups string

	say  func(format string, args ...any) // tells a person how far it is
	rows []row

	titles  []string
	changed []row

	plainInsert cost  // of all rows in one transaction, in a file that is not tracked
	plainBytes  int64 // of that file
	docsMaster  *master
}

func (b *bench) add(rows ...row) { b.rows = append(b.rows, rows...) }

// A part is measured by itself; a later one may use what an earlier one found.
type part struct {
	name string
	run  func(*bench, context.Context) error
}

var parts = []part{
	{"capture", (*bench).capture},
	{"sync", (*bench).sync},
	{"digest", (*bench).digest},
	{"propagation", (*bench).propagation},
	{"scan", (*bench).scan},
	{"search", (*bench).search},
	{"metadata", (*bench).metadata},
}

func partNames() string {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.name
	}
	return strings.Join(names, ", ")
}

// run reads the flags, measures and prints.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var c cli
	type exit struct{ code int }
	defer func() { // kong ends the program after --help; here that is a return
		if v := recover(); v != nil {
			e, ok := v.(exit)
			if !ok {
				panic(v)
			}
			if e.code != 0 {
				err = errors.New("see bench --help")
			}
		}
	}()
	parser, err := kong.New(&c, kong.Name("bench"), kong.Description("Measures what the design aims at, and prints a table."),
		kong.Vars{"parts": partNames()}, kong.Writers(stdout, stderr), kong.Exit(func(code int) { panic(exit{code}) }))
	if err != nil {
		panic(err) // the struct above is wrong
	}
	if _, err := parser.Parse(args); err != nil {
		return fmt.Errorf("%w; see bench --help", err)
	}
	for _, name := range c.Only {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return fmt.Errorf("--only %s: want some of %s", name, partNames())
		}
	}
	rows := c.Rows
	switch {
	case rows == 0 && c.Quick:
		rows = 10_000
	case rows == 0:
		rows = 100_000
	}
	size := sizesFor(rows)
	if err := size.check(); err != nil {
		return err
	}
	if c.CPUProfile != "" {
		f, err := os.Create(c.CPUProfile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	say := func(format string, args ...any) { fmt.Fprintf(stderr, "bench: "+format+"\n", args...) }
	list, err := (&bench{size: size, say: say, vectors: c.Vectors, lookups: c.Searches}).measureAll(ctx, c.Only, c.Dir)
	if err != nil {
		return err
	}
	return show(stdout, list, c.JSON)
}

// measureAll measures the parts that only names, all if it names none, in a new directory
// under dir, which is gone afterwards.
func (b *bench) measureAll(ctx context.Context, only []string, dir string) (rows []row, err error) {
	if b.dir, err = os.MkdirTemp(dir, "velosync-bench-*"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.docs, err = newGenerator(1).docs(b.size.rows); err != nil {
		return nil, err
	}
	for _, p := range parts {
		if len(only) > 0 && !slices.Contains(only, p.name) {
			continue
		}
		began := time.Now()
		if err := p.run(b, ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		b.say("%s measured in %.1f s", p.name, time.Since(began).Seconds())
	}
	return b.rows, nil
}

// short prints a number of rows: 100k.
func short(n int) string {
	if n >= 1000 && n%1000 == 0 {
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}
