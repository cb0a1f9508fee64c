package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coder/hnsw"
)

// coderBuildLimit is when the building of the graph in Go is given up; it takes many minutes for
// 100,000 rows.
const coderBuildLimit = 4 * time.Minute

func measureCoder(s *set, work string) error {
	graph := hnsw.NewGraph[int32]()
	graph.Distance = hnsw.CosineDistance
	graph.EfSearch = 200 // it is the width of the search for neighbours of a new row as well
	start := time.Now()
	for id, v := range s.base {
		graph.Add(hnsw.MakeNode(int32(id), v))
		if time.Since(start) > coderBuildLimit {
			return fmt.Errorf("%d of %d rows were in the graph after %v", id+1, s.Rows, coderBuildLimit)
		}
	}
	common := record{Peer: "coder/hnsw 0.6.1", InMemory: true, BuildSeconds: time.Since(start).Seconds()}
	file := filepath.Join(work, "graph")
	if err := export(graph, file); err != nil {
		return err
	}
	common.RowBytes = fileBytes(file) / float64(s.Rows)
	var err error
	if common.Cold, err = cold("coder-hnsw", s, file, ""); err != nil {
		return err
	}
	var records []record
	for _, ef := range []int{20, 50, 100, 200, 400} {
		graph.EfSearch = ef
		r := common
		r.Mode = fmt.Sprintf("ef=%d", ef)
		r.Recall, r.P50, r.P95, err = timeSearches(s, 200, s.truth, func(q []float32) ([]int32, error) { return keys(graph, q), nil })
		if err != nil {
			return err
		}
		records = append(records, r)
	}
	start = time.Now()
	for i, v := range s.extra {
		graph.Add(hnsw.MakeNode(int32(s.Rows+i), v))
	}
	insert := milliseconds(time.Since(start)) / float64(len(s.extra))
	for _, r := range records {
		r.Insert = insert
		if err := printRecord(r); err != nil {
			return err
		}
	}
	return nil
}

func keys(graph *hnsw.Graph[int32], q []float32) []int32 {
	var list []int32
	for _, node := range graph.Search(q, neighbours) {
		list = append(list, node.Key)
	}
	return list
}

func export(graph *hnsw.Graph[int32], file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	if err := graph.Export(w); err != nil {
		return err
	}
	return w.Flush()
}

func coldCoder(file string, query []float32) (time.Duration, error) {
	start := time.Now()
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	graph := hnsw.NewGraph[int32]()
	graph.Distance = hnsw.CosineDistance
	if err := graph.Import(bufio.NewReader(f)); err != nil {
		return 0, err
	}
	if n := len(keys(graph, query)); n != neighbours {
		return 0, fmt.Errorf("%d results", n)
	}
	return time.Since(start), nil
}
