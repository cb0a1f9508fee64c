package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// A record is one line of results: a way to search that a peer offers. Zero is not measured.
type record struct {
	Runner       string  `json:"runner"` // measure fills this in
	Peer         string  `json:"peer"`
	Mode         string  `json:"mode"`
	InMemory     bool    `json:"in_memory"` // the whole index has to be loaded before the first search
	Rows         int     `json:"rows"`      // in the index, if -build stopped the building; recall is among these
	BuildSeconds float64 `json:"build_s"`
	BuildMB      float64 `json:"build_mb"`  // most memory resident meanwhile
	RowBytes     float64 `json:"row_bytes"` // of all files, the vector itself included
	found
	Insert       float64 `json:"insert_ms"`
	Filter       float64 `json:"filter_ms"`
	FilterRecall float64 `json:"filter_recall"`
	Shrink       float64 `json:"shrink"` // size after half the rows were deleted, as a part of the size before
}

// A runner is a program that measures a peer. Called with "build", the folder of a set and one for
// its files, it prints records. It calls itself, with "search", for what found has.
type runner struct {
	name    string
	command func(b *bench) ([]string, error)
}

var runners = []runner{
	{"velosync", ownProcess("velosync")},
	{"velosync_knn", ownProcess("velosync_knn")},
	{"sqlite-vec", ownProcess("sqlite-vec")},
	{"sqlite-vector", ownProcess("sqlite-vector")},
	{"libsql", nodeProcess("libsql")},
	{"lancedb", nodeProcess("lancedb")},
	{"vectorlite", ownProcess("vectorlite")},
	{"coder-hnsw", ownProcess("coder-hnsw")},
	{"usearch", nodeProcess("usearch")},
	{"hnswlib", pythonProcess("hnswlib")},
	{"faiss", pythonProcess("faiss")},
}

func names() string {
	var list []string
	for _, r := range runners {
		list = append(list, r.name)
	}
	return strings.Join(list, ", ")
}

func ownProcess(name string) func(*bench) ([]string, error) {
	return func(b *bench) ([]string, error) {
		for _, p := range sqlPeers[name] {
			if p.library == "" {
				continue
			}
			if _, err := findLibrary(b.npm, p.library); err != nil {
				return nil, err
			}
		}
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

func pythonProcess(name string) func(*bench) ([]string, error) {
	return func(b *bench) ([]string, error) {
		// Debian's packages are for Debian's Python, whatever else is first in PATH.
		const python = "/usr/bin/python3"
		if err := exec.Command(python, "-c", "import "+name).Run(); err != nil {
			return nil, fmt.Errorf("no Debian package python3-%s", name)
		}
		return []string{python, filepath.Join(b.source, "python", name+"_bench.py")}, nil
	}
}

// measure runs one peer, in a process of its own with a folder of its own, on one processor.
func (b *bench) measure(r runner, s *set) ([]record, error) {
	command, err := r.command(b)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(b.out, r.name+"-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	command = append(command, "build", s.dir, work)
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
		"TOKIO_WORKER_THREADS=1", "LANCE_CPU_THREADS=1",
		"VELOSYNC_BENCH="+self, "VELOSYNC_BENCH_NPM="+b.npm, "VELOSYNC_BENCH_BUILD_SECONDS="+strconv.Itoa(int(b.build.Seconds())))
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
		rec.Runner = r.name
		fmt.Fprintf(os.Stderr, "  %-40s recall %.3f  p50 %.3f ms\n", rec.Mode, rec.Recall, rec.P50)
		records = append(records, rec)
	}
	return records, err
}

func printRecord(r record) error { return json.NewEncoder(os.Stdout).Encode(r) }

// runPeer measures one of the peers that are in this process.
func runPeer(name, dir, work string) error {
	s, err := readSet(dir)
	if err != nil {
		return err
	}
	if name == "coder-hnsw" {
		return measureCoder(name, s, work)
	}
	return measureSQL(name, s, work)
}
