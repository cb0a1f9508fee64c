// Command bench-vector measures vector search: VeloSync's exact scan and its index, and peers
// from the Go module proxy, npm and Debian, on the same vectors, with one thread each.
//
//	make bench-vector
//
// It writes a table (table.md; a line a peer: summary.md), what was measured (results.jsonl) and a
// plot of recall against latency (recall-latency.svg and .png) to dist/bench-vector. README.md says what each column is.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A record is one line of results: a way to search that a peer offers. Zero is not measured.
type record struct {
	Runner       string  `json:"runner"` // these two are filled in by measure
	Set          string  `json:"set"`
	Peer         string  `json:"peer"`
	Mode         string  `json:"mode"`
	InMemory     bool    `json:"in_memory"` // the whole index has to be loaded before the first search
	BuildSeconds float64 `json:"build_s"`
	RowBytes     float64 `json:"row_bytes"` // of all files, the vector itself included
	Recall       float64 `json:"recall"`
	P50          float64 `json:"p50_ms"`
	P95          float64 `json:"p95_ms"`
	Cold         float64 `json:"cold_ms"`
	Insert       float64 `json:"insert_ms"`
	Filter       float64 `json:"filter_ms"`
	FilterRecall float64 `json:"filter_recall"`
	Shrink       float64 `json:"shrink"` // size after half the rows were deleted, as a part of the size before
}

// A runner is one process, which prints records.
type runner struct {
	name    string
	command func(b *bench) ([]string, error)
}

var runners = []runner{
	{"velosync", ownProcess("velosync")},
	{"velosync_knn", ownProcess("velosync_knn")},
	{"sqlite-vec", func(b *bench) ([]string, error) {
		if _, err := sqliteVecLibrary(b.npm); err != nil {
			return nil, err
		}
		return ownProcess("sqlite-vec")(b)
	}},
	{"coder-hnsw", ownProcess("coder-hnsw")},
	{"usearch", nodeProcess("usearch")},
	{"libsql", nodeProcess("libsql")},
	{"lancedb", nodeProcess("lancedb")},
	{"faiss", func(b *bench) ([]string, error) {
		// Debian's packages are for Debian's Python, whatever else is first in PATH.
		const python = "/usr/bin/python3"
		if err := exec.Command(python, "-c", "import faiss").Run(); err != nil {
			return nil, errors.New("no Debian package python3-faiss")
		}
		return []string{python, filepath.Join(b.source, "python", "faiss_bench.py")}, nil
	}},
}

func ownProcess(name string) func(*bench) ([]string, error) {
	return func(*bench) ([]string, error) {
		self, err := os.Executable()
		return []string{self, "peer", name}, err
	}
}

func nodeProcess(name string) func(*bench) ([]string, error) {
	return func(b *bench) ([]string, error) {
		node, err := exec.LookPath("node")
		if err != nil {
			return nil, errors.New("no node in PATH")
		}
		if entries, err := os.ReadDir(b.npm); err != nil || len(entries) == 0 {
			return nil, errors.New("npm install did not run")
		}
		return []string{node, filepath.Join(b.source, "node", name+".cjs")}, nil
	}
}

type bench struct {
	source string // this folder
	npm    string // its node/node_modules
	out    string
	limit  time.Duration
	cpu    int
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench-vector: ")
	var err error
	switch {
	case len(os.Args) == 5 && os.Args[1] == "peer":
		err = runPeer(os.Args[2], os.Args[3], os.Args[4])
	case len(os.Args) >= 6 && os.Args[1] == "cold":
		err = runCold(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
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
	flag.DurationVar(&b.limit, "limit", 10*time.Minute, "longest that one peer may take")
	flag.IntVar(&b.cpu, "cpu", runtime.NumCPU()-1, "processor that all run on, where taskset is installed; -1 for any")
	data := flag.String("data", "text", "text, or clusters: synthetic, 128 dimensions")
	rows := flag.Int("rows", 100_000, "rows; clusters is meant for 1000000")
	queries := flag.Int("queries", 500, "queries")
	only := flag.String("peers", "", "peers to run, separated by commas; without it, all of "+names())
	keep := flag.Bool("keep", false, "keep what results.jsonl has of peers that are not run, on the same data; with -peers none it draws table and plot again")
	quick := flag.Bool("quick", false, "a smoke test: 10,000 rows and 100 queries")
	flag.Parse()
	if *quick {
		*rows, *queries = 10_000, 100
	}
	var err error
	if b.source, err = filepath.Abs(b.source); err != nil {
		return err
	}
	if b.out, err = filepath.Abs(b.out); err != nil {
		return err
	}
	b.npm = filepath.Join(b.source, "node", "node_modules")

	s, err := makeSet(filepath.Join(b.out, "data"), *data, *rows, *queries)
	if err != nil {
		return err
	}
	var old, records []record
	var left []string
	if *keep {
		if old, err = readRecords(filepath.Join(b.out, "results.jsonl"), s); err != nil {
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
	}
	if len(records) == 0 {
		return errors.New("nothing measured")
	}
	return report(b.out, s, records, left)
}

// readRecords returns what the file has about this set.
func readRecords(file string, s *set) ([]record, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var records []record
	for line := range bytes.Lines(data) {
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if rec.Set == filepath.Base(s.dir) {
			records = append(records, rec)
		}
	}
	return records, nil
}

func names() string {
	var list []string
	for _, r := range runners {
		list = append(list, r.name)
	}
	return strings.Join(list, ", ")
}

// measure runs one peer, in a process of its own with a folder of its own, on one processor.
func (b *bench) measure(r runner, s *set) ([]record, error) {
	command, err := r.command(b)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(b.out, r.name+"-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	command = append(command, s.dir, work)
	if taskset, err := exec.LookPath("taskset"); err == nil && b.cpu >= 0 {
		command = append([]string{taskset, "-c", strconv.Itoa(b.cpu)}, command...)
	}
	if timeout, err := exec.LookPath("timeout"); err == nil {
		command = append([]string{timeout, strconv.Itoa(int(b.limit.Seconds()))}, command...)
	}
	cmd := exec.Command(command[0], command[1:]...)
	var out, errText bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errText
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "RAYON_NUM_THREADS=1",
		"TOKIO_WORKER_THREADS=1", "LANCE_CPU_THREADS=1", "VELOSYNC_BENCH_NPM="+b.npm)
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if exit.ExitCode() == 124 { // of timeout
			err = fmt.Errorf("stopped after %v", b.limit)
		} else {
			lines := strings.Split(strings.TrimSpace(errText.String()), "\n")
			err = fmt.Errorf("%w: %s", err, strings.Join(lines[:min(3, len(lines))], " / "))
		}
	}
	var records []record
	for scan := bufio.NewScanner(&out); scan.Scan(); {
		line := scan.Bytes()
		if !bytes.HasPrefix(line, []byte("{")) {
			continue
		}
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return records, fmt.Errorf("%s: %w", line, err)
		}
		rec.Runner, rec.Set = r.name, filepath.Base(s.dir)
		fmt.Fprintf(os.Stderr, "  %-40s recall %.3f  p50 %.3f ms\n", rec.Mode, rec.Recall, rec.P50)
		records = append(records, rec)
	}
	return records, err
}

// runPeer measures one of the peers that are in this process.
func runPeer(name, dir, work string) error {
	s, err := readSet(dir)
	if err != nil {
		return err
	}
	if name == "coder-hnsw" {
		return measureCoder(s, work)
	}
	return measureSQL(name, s, work)
}

// runCold prints how many milliseconds it takes to open file and get one answer.
func runCold(name, dir, file, search string) error {
	query, err := firstQuery(dir)
	if err != nil {
		return err
	}
	var took time.Duration
	if name == "coder-hnsw" {
		took, err = coldCoder(file, query)
	} else {
		took, err = coldSQL(name, file, search, query)
	}
	if err != nil {
		return err
	}
	fmt.Println(milliseconds(took))
	return nil
}

// firstQuery reads one query only: the vectors must not be in the memory that is being measured.
func firstQuery(dir string) ([]float32, error) {
	meta, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return nil, err
	}
	var s set
	if err := json.Unmarshal(meta, &s); err != nil {
		return nil, err
	}
	queries, err := readRows[float32](filepath.Join(dir, "query.f32"), s.Dims)
	if err != nil {
		return nil, err
	}
	return queries[0], nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// cold runs runCold in three fresh processes and returns the median. The file is in the page
// cache: what is measured is what the program has to read and set up.
func cold(name string, s *set, file, search string) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	var times []float64
	for range 3 {
		out, err := exec.Command(self, "cold", name, s.dir, file, search).Output()
		if err != nil {
			return 0, fmt.Errorf("cold open: %w", err)
		}
		ms, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		if err != nil {
			return 0, fmt.Errorf("cold open: %w", err)
		}
		times = append(times, ms)
	}
	slices.Sort(times)
	return times[1], nil
}

// timeSearches runs search for each of the first n queries, after three to warm up, and returns
// recall against truth and the times.
func timeSearches(s *set, n int, truth [][]int32, search func(q []float32) ([]int32, error)) (recall, p50, p95 float64, err error) {
	n = min(n, len(s.query))
	for _, q := range s.query[:min(3, n)] {
		if _, err := search(q); err != nil {
			return 0, 0, 0, err
		}
	}
	hits, wanted := 0, 0
	times := make([]float64, n)
	for i, q := range s.query[:n] {
		start := time.Now()
		ids, err := search(q)
		times[i] = milliseconds(time.Since(start))
		if err != nil {
			return 0, 0, 0, err
		}
		for _, id := range ids {
			if slices.Contains(truth[i], id) {
				hits++
			}
		}
		wanted += len(truth[i])
	}
	slices.Sort(times)
	return float64(hits) / float64(wanted), times[n/2], times[n*95/100], nil
}

func printRecord(r record) error { return json.NewEncoder(os.Stdout).Encode(r) }

// fileBytes is the size of a file with what SQLite keeps beside it.
func fileBytes(file string) float64 {
	var sum int64
	for _, ending := range []string{"", "-wal"} {
		if info, err := os.Stat(file + ending); err == nil {
			sum += info.Size()
		}
	}
	return float64(sum)
}
