package main

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
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
	inserted   = 100 // further rows: to warm up a search, and to measure inserts
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

	dir          string
	extra, query [][]float32 // base may be large: eachRow reads it
}

// A source makes the vectors of a kind of set.
type source struct {
	rows int // if no number is asked for
	make func(b *bench, n int) (vectors [][]float32, what string, err error)
}

var sources = map[string]source{
	"text":     {100_000, textVectors},
	"words":    {300_000, wordVectors},
	"clusters": {1_000_000, clusters},
}

// makeSet reads the set of this name and size, and makes it before if it is not there.
// rows may be 0 for the usual number.
func (b *bench) makeSet(name string, rows, queries int) (*set, error) {
	from, ok := sources[name]
	if !ok {
		return nil, fmt.Errorf("-data %s: want text, words or clusters", name)
	}
	if rows == 0 {
		rows = from.rows
	}
	if least := neighbours * groups; rows < least {
		return nil, fmt.Errorf("-rows %d: want at least %d, so that each group has %d", rows, least, neighbours)
	}
	dir := filepath.Join(b.out, "data", fmt.Sprintf("%s-%d", name, rows))
	if _, err := os.Stat(filepath.Join(dir, "meta.json")); err == nil {
		return readSet(dir)
	}
	fmt.Fprintf(os.Stderr, "making %d vectors (%s), once\n", rows, name)
	all := rows + queries + inserted
	vectors, what, err := from.make(b, all)
	if err != nil {
		return nil, err
	}
	if len(vectors) < all {
		return nil, fmt.Errorf("-data %s has %d vectors that differ, %d are wanted: ask for fewer -rows", name, len(vectors), all)
	}
	s := &set{Name: name, What: what, Rows: rows, Dims: len(vectors[0]), Queries: queries, dir: dir}
	s.query, s.extra = vectors[:queries], vectors[queries:queries+inserted]
	return s, s.write(vectors[queries+inserted : all])
}

// textVectors embeds texts. Some have no known term, or the same ones as another: a few more are
// read.
func textVectors(_ *bench, n int) ([][]float32, string, error) {
	more := n + n*15/100
	texts, what, err := readTexts(more)
	if err != nil {
		return nil, "", err
	}
	r := rand.New(rand.NewPCG(3, 4))
	r.Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
	const dims = 384
	return embedTexts(texts[:more], dims), fmt.Sprintf("%s, LSA to %d dimensions", what, dims), nil
}

// clusters draws n vectors of a mixture of Gaussians.
func clusters(_ *bench, n int) ([][]float32, string, error) {
	const dims = 128
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
	return vectors, "synthetic: 4,000 Gaussian clusters of unequal size and spread", nil
}

// write writes the files of the set, and those that tell its truth.
func (s *set) write(base [][]float32) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	for name, vectors := range map[string][][]float32{"base.f32": base, "extra.f32": s.extra, "query.f32": s.query} {
		if err := writeRows(filepath.Join(s.dir, name), vectors); err != nil {
			return err
		}
	}
	if err := s.writeTruth(filepath.Join(s.dir, "truth.i32"), func(int) bool { return true }); err != nil {
		return err
	}
	if err := s.writeTruth(filepath.Join(s.dir, "filter.i32"), func(id int) bool { return id%groups == wantGroup }); err != nil {
		return err
	}
	meta, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "meta.json"), meta, 0o644) // last: the set is whole
}

// writeTruth writes the nearest rows of each query among those that use accepts.
func (s *set) writeTruth(file string, use func(id int) bool) error {
	type near struct {
		id  int32
		dot float32
	}
	out := make([][]int32, len(s.query))
	errs := make([]error, 2)
	var wait sync.WaitGroup
	for worker := range errs {
		wait.Go(func() {
			best := make([][]near, len(s.query)) // the nearest first
			errs[worker] = s.eachRow(func(id int, v []float32) error {
				if !use(id) {
					return nil
				}
				for q := worker; q < len(best); q += len(errs) {
					dot := vek32.Dot(v, s.query[q])
					if len(best[q]) == neighbours && dot <= best[q][neighbours-1].dot {
						continue
					}
					at, _ := slices.BinarySearchFunc(best[q], dot, func(n near, dot float32) int { return cmp.Compare(dot, n.dot) })
					best[q] = slices.Insert(best[q], at, near{int32(id), dot})
					best[q] = best[q][:min(neighbours, len(best[q]))]
				}
				return nil
			})
			for q := worker; q < len(best); q += len(errs) {
				for _, n := range best[q] {
					out[q] = append(out[q], n.id)
				}
			}
		})
	}
	wait.Wait()
	if err := cmp.Or(errs...); err != nil {
		return err
	}
	return writeRows(file, out)
}

// readSet reads all but the rows of base.
func readSet(dir string) (*set, error) {
	s := &set{dir: dir}
	meta, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(meta, s); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	for name, to := range map[string]*[][]float32{"extra.f32": &s.extra, "query.f32": &s.query} {
		if *to, err = readRows[float32](filepath.Join(dir, name), s.Dims); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// eachRow calls f with each row of base, whose vector is good for that call only: so a runner
// has no more of them in memory than its peer has.
func (s *set) eachRow(f func(id int, v []float32) error) error {
	file, err := os.Open(filepath.Join(s.dir, "base.f32"))
	if err != nil {
		return err
	}
	defer file.Close()
	from := bufio.NewReaderSize(file, 1<<20)
	data, v := make([]byte, 4*s.Dims), make([]float32, s.Dims)
	for id := range s.Rows {
		if _, err := io.ReadFull(from, data); err != nil {
			return fmt.Errorf("%s: row %d: %w", file.Name(), id, err)
		}
		if _, err := binary.Decode(data, binary.LittleEndian, v); err != nil {
			return err
		}
		if err := f(id, v); err != nil {
			return err
		}
	}
	return nil
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

func writeRows[T float32 | int32](file string, rows [][]T) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	to := bufio.NewWriterSize(f, 1<<20)
	for _, row := range rows {
		if err := binary.Write(to, binary.LittleEndian, row); err != nil {
			return err
		}
	}
	return to.Flush()
}
