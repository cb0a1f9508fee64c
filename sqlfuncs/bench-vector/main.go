// Command bench-vector measures vector search: VeloSync's exact scan and its index, and peers
// from the Go module proxy, npm and Debian, on the same vectors, with one thread each.
//
//	make bench-vector
//
// It writes a table (table.md; a line a peer: summary.md), what was measured (results.jsonl) and a
// plot of recall against latency (recall-latency.svg and .png) to a folder under dist/bench-vector.
// README.md says what each column is.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

type bench struct {
	source string // this folder
	npm    string // its node/node_modules
	out    string
	build  time.Duration
	limit  time.Duration
	cpu    int
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench-vector: ")
	var err error
	switch {
	case len(os.Args) == 6 && os.Args[1] == "peer" && os.Args[3] == "build":
		err = runPeer(os.Args[2], os.Args[4], os.Args[5])
	case len(os.Args) == 9 && os.Args[1] == "peer" && os.Args[3] == "search":
		err = runSearch(os.Args[2], os.Args[4], os.Args[5], os.Args[6], os.Args[7], os.Args[8])
	case len(os.Args) == 5 && os.Args[1] == "truth":
		err = runTruth(os.Args[2], os.Args[3], os.Args[4])
	default:
		err = run()
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run() error {
	var b bench
	flag.StringVar(&b.source, "source", ".", "the folder of bench-vector")
	flag.StringVar(&b.out, "out", "../../dist/bench-vector", "folder for data, databases and results")
	flag.DurationVar(&b.build, "build", 4*time.Minute, "longest that rows are put into an index; what is in it then is searched")
	flag.DurationVar(&b.limit, "limit", 0, "longest that one peer may take, with all searches (5 times -build)")
	flag.IntVar(&b.cpu, "cpu", runtime.NumCPU()-1, "processor that all run on, where taskset is installed; -1 for any")
	data := flag.String("data", "text", "text, words, or clusters: synthetic")
	rows := flag.Int("rows", 0, "rows (100000 of text, 300000 words, 1000000 in clusters)")
	queries := flag.Int("queries", 500, "queries")
	only := flag.String("peers", "", "peers to run, separated by commas; without it, all of "+names())
	keep := flag.Bool("keep", false, "keep what results.jsonl has of peers that are not run; with -peers none it draws table and plot again")
	quick := flag.Bool("quick", false, "a smoke test: 10,000 rows and 100 queries")
	flag.Parse()
	if *quick {
		*rows, *queries, b.build = 10_000, 100, min(b.build, 20*time.Second)
	}
	var err error
	if b.source, err = filepath.Abs(b.source); err != nil {
		return err
	}
	if b.out, err = filepath.Abs(b.out); err != nil {
		return err
	}
	b.npm = filepath.Join(b.source, "node", "node_modules")
	if b.limit == 0 {
		b.limit = 5 * b.build
	}
	s, err := b.makeSet(*data, *rows, *queries)
	if err != nil {
		return err
	}
	results := filepath.Join(b.out, filepath.Base(s.dir))
	if err := os.MkdirAll(results, 0o755); err != nil {
		return err
	}
	var old, records []record
	var left []string
	if *keep {
		if old, err = readRecords(results); err != nil {
			return err
		}
	}
	for _, r := range runners {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), r.name) {
			for _, rec := range old {
				if rec.Runner == r.name {
					records = append(records, rec)
				}
			}
			continue
		}
		fmt.Fprintf(os.Stderr, "%s\n", r.name)
		found, err := b.measure(r, s)
		records = append(records, found...)
		if err != nil {
			left = append(left, fmt.Sprintf("%s: %v", r.name, err))
			fmt.Fprintf(os.Stderr, "  %v\n", err)
		}
		if err := writeRecords(results, records); err != nil { // now: the next peer may take long
			return err
		}
	}
	if len(records) == 0 {
		return errors.New("nothing measured")
	}
	return report(results, s, records, left)
}

const resultsFile = "results.jsonl"

func writeRecords(dir string, records []record) error {
	var lines bytes.Buffer
	for _, r := range records {
		if err := json.NewEncoder(&lines).Encode(r); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, resultsFile), lines.Bytes(), 0o644)
}

// readRecords returns what an earlier run has written, if there was one.
func readRecords(dir string) ([]record, error) {
	data, err := os.ReadFile(filepath.Join(dir, resultsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var records []record
	for line := range bytes.Lines(data) {
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, resultsFile), err)
		}
		records = append(records, rec)
	}
	return records, nil
}
