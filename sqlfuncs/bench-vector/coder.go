package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/coder/hnsw"
)

// measureCoder measures coder/hnsw, a graph in Go. What of it is saved is each node's vector and
// neighbours.
func measureCoder(name string, s *set, work string) error {
	graph := newGraph(200) // it is the width of the search for neighbours of a new row as well
	start, until, rows := time.Now(), buildDeadline(), 0
	err := s.eachRow(func(id int, v []float32) error {
		graph.Add(hnsw.MakeNode(int32(id), slices.Clone(v)))
		rows++
		return until.check()
	})
	if err != nil && !errors.Is(err, errStopped) {
		return err
	}
	common := record{Peer: "coder/hnsw 0.6.1", InMemory: true, BuildSeconds: time.Since(start).Seconds()}
	if rows < s.Rows {
		common.Rows = rows
	}
	common.BuildMB, _ = memory()
	file := filepath.Join(work, "graph")
	if err := export(graph, file); err != nil {
		return err
	}
	common.RowBytes = fileBytes(file) / float64(rows)
	truth, err := s.truthOf(rows, work)
	if err != nil {
		return err
	}
	start = time.Now()
	for i, v := range s.extra {
		graph.Add(hnsw.MakeNode(int32(s.Rows+i), v))
	}
	common.Insert = milliseconds(time.Since(start)) / float64(len(s.extra))
	for _, ef := range []int{20, 50, 100, 200, 400} {
		r := common
		r.Mode = fmt.Sprintf("ef=%d", ef)
		if r.found, err = searchProcess(name, s, file, 200, truth, strconv.Itoa(ef)); err != nil {
			return err
		}
		if err := printRecord(r); err != nil {
			return err
		}
	}
	return nil
}

func newGraph(ef int) *hnsw.Graph[int32] {
	graph := hnsw.NewGraph[int32]()
	graph.Distance = hnsw.CosineDistance
	graph.EfSearch = ef
	return graph
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

// openCoder loads a graph. mode is the width of a search.
func openCoder(_ string, _ *set, file, mode string) (opened, error) {
	ef, err := strconv.Atoi(mode)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	graph := newGraph(ef)
	if err := graph.Import(bufio.NewReader(f)); err != nil {
		return nil, err
	}
	graph.Distance, graph.EfSearch = hnsw.CosineDistance, ef // the file has its own
	return func(q []float32) ([]int32, error) {
		var list []int32
		for _, node := range graph.Search(q, neighbours) {
			list = append(list, node.Key)
		}
		return list, nil
	}, nil
}
