package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// found is what a fresh process measures that opens an index and searches: so what the building
// left in memory does not count. Zero is not measured.
type found struct {
	Cold     float64 `json:"cold_ms"` // from opening to the first answer, with the file in the page cache
	Recall   float64 `json:"recall"`
	P50      float64 `json:"p50_ms"`
	P95      float64 `json:"p95_ms"`
	SearchMB float64 `json:"search_mb"` // most memory resident
	MappedMB float64 `json:"mapped_mb"` // of that, files
}

// An opened index answers queries.
type opened func(q []float32) ([]int32, error)

// searchProcess measures in a fresh process of this program: first all of it, then twice more how
// long the first answer takes, of which the median counts. truth is a file of the set or, where
// it is a path, another; mode is what the peer's open understands.
func searchProcess(peer string, s *set, file string, queries int, truth, mode string) (found, error) {
	self, err := os.Executable()
	if err != nil {
		return found{}, err
	}
	var result found
	var cold []float64
	for _, n := range []int{queries, 0, 0} {
		out, err := exec.Command(self, "peer", peer, "search", s.dir, file, strconv.Itoa(n), truth, mode).Output()
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			return found{}, fmt.Errorf("searching %s: %w: %s", mode, err, exit.Stderr)
		} else if err != nil {
			return found{}, err
		}
		var f found
		if err := json.Unmarshal(out, &f); err != nil {
			return found{}, fmt.Errorf("searching %s: %w", mode, err)
		}
		if n > 0 {
			result = f
		}
		cold = append(cold, f.Cold)
	}
	slices.Sort(cold)
	result.Cold = cold[1]
	return result, nil
}

// runSearch is that process. It prints a found.
func runSearch(peer, dir, file, queries, truthFile, mode string) error {
	s, err := readSet(dir)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(queries)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(truthFile) {
		truthFile = filepath.Join(dir, truthFile)
	}
	truth, err := readRows[int32](truthFile, neighbours)
	if err != nil {
		return err
	}
	open := openSQLIndex
	if peer == "coder-hnsw" {
		open = openCoder
	}
	start := time.Now()
	search, err := open(peer, s, file, mode)
	if err != nil {
		return err
	}
	ids, err := search(s.query[0])
	if err == nil && len(ids) != neighbours {
		err = fmt.Errorf("%d results", len(ids))
	}
	if err != nil {
		return err
	}
	f := found{Cold: milliseconds(time.Since(start))}
	if n > 0 {
		if f.Recall, f.P50, f.P95, err = s.time(n, truth, search); err != nil {
			return err
		}
		f.SearchMB, f.MappedMB = memory()
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

// warmUp is how long searches for other vectors go on, at most, before any is timed; after
// longEnough of timed ones there are no more.
const (
	warmUp     = time.Second
	longEnough = 20 * time.Second
)

// time searches for the first n queries one by one, or for fewer where that takes long, and returns
// recall against truth and the times in ms.
func (s *set) time(n int, truth [][]int32, search opened) (recall, p50, p95 float64, err error) {
	for i, start := 0, time.Now(); i < len(s.extra) && time.Since(start) < warmUp; i++ {
		if _, err := search(s.extra[i]); err != nil {
			return 0, 0, 0, err
		}
	}
	hits, wanted := 0, 0
	var times []float64
	for i, began := 0, time.Now(); i < min(n, len(s.query)) && time.Since(began) < longEnough; i++ {
		start := time.Now()
		ids, err := search(s.query[i])
		times = append(times, milliseconds(time.Since(start)))
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
	return float64(hits) / float64(wanted), times[len(times)/2], times[len(times)*95/100], nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// errStopped ends a building that takes too long.
var errStopped = errors.New("stopped")

// A deadline is when building an index is stopped, at as many rows as there are then.
type deadline time.Time

// buildDeadline is what -build allows from now on. It comes in the environment, for the runners of
// all languages.
func buildDeadline() deadline {
	seconds, _ := strconv.Atoi(os.Getenv("VELOSYNC_BENCH_BUILD_SECONDS")) // run sets it
	return deadline(time.Now().Add(time.Duration(seconds) * time.Second))
}

func (d deadline) check() error {
	if time.Now().After(time.Time(d)) {
		return errStopped
	}
	return nil
}

// truthOf returns the file with the truth among the first rows, which it makes under work if these
// are not all.
func (s *set) truthOf(rows int, work string) (string, error) {
	if rows == s.Rows {
		return "truth.i32", nil
	}
	file := filepath.Join(work, "truth.i32")
	return file, s.writeTruth(file, func(id int) bool { return id < rows })
}

// runTruth is how runners in other languages call it.
func runTruth(dir, rows, file string) error {
	s, err := readSet(dir)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(rows)
	if err != nil {
		return err
	}
	return s.writeTruth(file, func(id int) bool { return id < n })
}
