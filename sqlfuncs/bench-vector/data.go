package main

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/viterin/vek/vek32"
)

const (
	neighbours = 10
	inserted   = 100 // further rows, to measure inserts with
	groups     = 100 // a row's group is its id modulo groups; the filter asks for one of them
	wantGroup  = 7
)

// A set is a folder of vectors, read by the runners of all languages:
//
//	base.f32, extra.f32, query.f32   rows of little-endian float32, of length 1
//	truth.i32, filter.i32            the ten nearest of base for each query, of all and of one group
//	meta.json                        this struct
type set struct {
	Name    string `json:"name"`
	What    string `json:"what"`
	Rows    int    `json:"rows"`
	Dims    int    `json:"dims"`
	Queries int    `json:"queries"`

	dir                string
	base, extra, query [][]float32
	truth, filter      [][]int32
}

// makeSet reads the set of this name and size under dir, and makes it before if it is not there.
func makeSet(dir, name string, rows, queries int) (*set, error) {
	dir = filepath.Join(dir, fmt.Sprintf("%s-%d", name, rows))
	if _, err := os.Stat(filepath.Join(dir, "meta.json")); err == nil {
		return readSet(dir)
	}
	fmt.Fprintf(os.Stderr, "making %d vectors (%s), once\n", rows, name)
	s := &set{Name: name, Rows: rows, Queries: queries, dir: dir}
	all := rows + queries + inserted
	var vectors [][]float32
	switch name {
	case "text":
		// Some texts have no known term, or the same ones as another: a few more are read.
		more := all + all*15/100
		texts, what, err := readTexts(more)
		if err != nil {
			return nil, err
		}
		r := rand.New(rand.NewPCG(3, 4))
		r.Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
		vectors = embedTexts(texts[:more], 384)
		s.What = what + ", LSA to 384 dimensions"
	case "clusters":
		vectors = clusters(all, 128)
		s.What = "synthetic: 4,000 Gaussian clusters of unequal size and spread"
	default:
		return nil, fmt.Errorf("-data %s: want text or clusters", name)
	}
	if len(vectors) < all {
		return nil, fmt.Errorf("only %d of %d texts have a vector of their own", len(vectors), all)
	}
	s.Dims = len(vectors[0])
	s.query, s.extra, s.base = vectors[:queries], vectors[queries:queries+inserted], vectors[queries+inserted:all]
	s.truth = s.exact(func(int) bool { return true })
	s.filter = s.exact(func(id int) bool { return id%groups == wantGroup })
	return s, s.write()
}

// clusters draws n vectors of a mixture of Gaussians.
func clusters(n, dims int) [][]float32 {
	r := rand.New(rand.NewPCG(5, 6))
	draw := func(centre []float32, spread float64) []float32 {
		v := make([]float32, dims)
		for i := range v {
			v[i] = float32(spread * r.NormFloat64())
			if centre != nil {
				v[i] += centre[i]
			}
		}
		return v
	}
	centres, spreads, upTo := make([][]float32, 4000), make([]float64, 4000), make([]float64, 4000)
	var sum float64
	for i := range centres {
		centres[i], spreads[i] = draw(nil, 1), 0.4+0.8*r.Float64()
		sum += 0.2 + math.Pow(1-r.Float64(), -1/1.5) - 1 // Pareto
		upTo[i] = sum
	}
	vectors := make([][]float32, n)
	for i := range vectors {
		at, _ := slices.BinarySearch(upTo, sum*r.Float64())
		vectors[i] = draw(centres[at], spreads[at])
		normalise(vectors[i])
	}
	return vectors
}

// exact finds the nearest rows of each query among those that use accepts.
func (s *set) exact(use func(id int) bool) [][]int32 {
	type near struct {
		id  int32
		dot float32
	}
	out := make([][]int32, len(s.query))
	var wait sync.WaitGroup
	for worker := range 2 {
		wait.Go(func() {
			for q := worker; q < len(out); q += 2 {
				var best []near // the nearest first
				for id, v := range s.base {
					if !use(id) {
						continue
					}
					dot := vek32.Dot(v, s.query[q])
					if len(best) == neighbours && dot <= best[neighbours-1].dot {
						continue
					}
					at, _ := slices.BinarySearchFunc(best, dot, func(n near, dot float32) int { return cmp.Compare(dot, n.dot) })
					best = slices.Insert(best, at, near{int32(id), dot})
					best = best[:min(neighbours, len(best))]
				}
				for _, n := range best {
					out[q] = append(out[q], n.id)
				}
			}
		})
	}
	wait.Wait()
	return out
}

func (s *set) write() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	for name, values := range map[string]any{"base.f32": slices.Concat(s.base...), "extra.f32": slices.Concat(s.extra...), "query.f32": slices.Concat(s.query...),
		"truth.i32": slices.Concat(s.truth...), "filter.i32": slices.Concat(s.filter...)} {
		data, err := binary.Append(nil, binary.LittleEndian, values)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o644); err != nil {
			return err
		}
	}
	meta, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "meta.json"), meta, 0o644) // last: the set is whole
}

func readSet(dir string) (*set, error) {
	s := &set{dir: dir}
	meta, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(meta, s); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	for name, to := range map[string]*[][]float32{"base.f32": &s.base, "extra.f32": &s.extra, "query.f32": &s.query} {
		if *to, err = readRows[float32](filepath.Join(dir, name), s.Dims); err != nil {
			return nil, err
		}
	}
	for name, to := range map[string]*[][]int32{"truth.i32": &s.truth, "filter.i32": &s.filter} {
		if *to, err = readRows[int32](filepath.Join(dir, name), neighbours); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func readRows[T float32 | int32](file string, width int) ([][]T, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	values := make([]T, len(data)/4)
	if _, err := binary.Decode(data, binary.LittleEndian, values); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return slices.Collect(slices.Chunk(values, width)), nil
}
