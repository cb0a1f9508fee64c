package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/velosync/velosync/sqlfuncs"
)

// A pool is packed vectors: rows, and queries that are not among them.
type pool struct {
	what          string
	rows, queries [][]byte
}

// readPool reads a folder that bench-vector made: base.f32 and query.f32 are little-endian
// float32, one vector after the other, as a packed vector is.
func readPool(dir string) (pool, error) {
	data, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return pool{}, fmt.Errorf("%w: want a folder under dist/bench-vector/data, see make bench-vector", err)
	}
	var meta struct {
		What string
		Dims int
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return pool{}, fmt.Errorf("%s: %w", dir, err)
	}
	p := pool{what: meta.What}
	for name, to := range map[string]*[][]byte{"base.f32": &p.rows, "query.f32": &p.queries} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return pool{}, err
		}
		size := 4 * meta.Dims
		if size <= 0 || len(data) == 0 || len(data)%size != 0 {
			return pool{}, fmt.Errorf("%s: %d bytes are no vectors of %d dimensions", filepath.Join(dir, name), len(data), meta.Dims)
		}
		for ; len(data) > 0; data = data[size:] {
			*to = append(*to, data[:size:size])
		}
	}
	return p, nil
}

// clusters draws n rows and some queries from a mixture of normal distributions, one for 50 rows.
func clusters(n int) (p pool, err error) {
	const queries, spread = 500, 0.7
	r := rand.New(rand.NewPCG(seed, 7))
	normal := func(centre []float32, scale float64) []float32 {
		v := make([]float32, dims)
		for i := range v {
			v[i] = centre[i] + float32(scale*r.NormFloat64())
		}
		return v
	}
	centres := make([][]float32, n/50+1)
	for i := range centres {
		centres[i] = normal(make([]float32, dims), 1)
	}
	p.what = fmt.Sprintf("%d synthetic clusters", len(centres))
	all := make([][]byte, n+queries)
	for i := range all {
		if all[i], err = sqlfuncs.PackF32(normal(centres[r.IntN(len(centres))], spread)); err != nil {
			return pool{}, err
		}
	}
	p.queries, p.rows = all[:queries], all[queries:]
	return p, nil
}
