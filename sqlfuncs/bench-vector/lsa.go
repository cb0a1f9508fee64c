package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/viterin/vek/vek32"
)

// maxTerms bounds the vocabulary: the most frequent terms stay.
const maxTerms = 30_000

// embedTexts makes vectors of texts by latent semantic analysis (Deerwester et al. 1990):
// TF-IDF of words and pairs of words, projected on the subspace of its largest singular values,
// which is found by subspace iteration from a seeded start. Each vector has length 1. Texts
// without a term of the vocabulary are left out, and those with the terms of an earlier one: of
// two equal vectors either is right, and recall would depend on which one a peer returns.
func embedTexts(texts []string, dims int) [][]float32 {
	rows, terms := tfidf(texts)
	r := rand.New(rand.NewPCG(1, 2))
	columns := make([][]float32, dims) // the basis, a vector over the terms each
	for i := range columns {
		columns[i] = make([]float32, terms)
		for j := range columns[i] {
			columns[i][j] = float32(r.NormFloat64())
		}
	}
	for range 2 {
		// columns = orthonormal basis of (A' A columns)
		basis := transpose(columns)
		next := make([][]float32, terms)
		for i := range next {
			next[i] = make([]float32, dims)
		}
		y := make([]float32, dims)
		for _, row := range rows {
			project(row, basis, y)
			for _, e := range row {
				addScaled(next[e.term], y, e.weight)
			}
		}
		columns = transpose(next)
		orthonormalise(columns)
	}
	basis := transpose(columns)
	var vectors [][]float32
	seen := make(map[string]bool)
	for _, row := range rows {
		key := fmt.Sprint(row)
		if seen[key] {
			continue
		}
		seen[key] = true
		v := make([]float32, dims)
		project(row, basis, v)
		if normalise(v) {
			vectors = append(vectors, v)
		}
	}
	return vectors
}

type entry struct {
	term   int
	weight float32
}

// tfidf returns the sparse matrix of the texts, a row of length 1 each, and its width.
func tfidf(texts []string) ([][]entry, int) {
	counts := make([]map[string]int, len(texts))
	in := make(map[string]int) // texts that have the term
	for i, text := range texts {
		counts[i] = make(map[string]int)
		last := ""
		for _, word := range tokens(text) {
			counts[i][word]++
			if last != "" {
				counts[i][last+" "+word]++
			}
			last = word
		}
		for term := range counts[i] {
			in[term]++
		}
	}
	maps.DeleteFunc(in, func(_ string, n int) bool { return n < 3 || n > len(texts)/5 })
	vocabulary := slices.SortedFunc(maps.Keys(in), func(a, b string) int { return cmp.Or(cmp.Compare(in[b], in[a]), cmp.Compare(a, b)) })
	vocabulary = vocabulary[:min(maxTerms, len(vocabulary))]
	number := make(map[string]int, len(vocabulary))
	for i, term := range vocabulary {
		number[term] = i
	}
	rows := make([][]entry, len(texts))
	for i, terms := range counts {
		var square float64
		for term, n := range terms {
			if at, ok := number[term]; ok {
				w := (1 + math.Log(float64(n))) * math.Log(float64(len(texts))/float64(in[term]))
				square += w * w
				rows[i] = append(rows[i], entry{at, float32(w)})
			}
		}
		slices.SortFunc(rows[i], func(a, b entry) int { return cmp.Compare(a.term, b.term) })
		for j := range rows[i] {
			rows[i][j].weight /= float32(math.Sqrt(square))
		}
	}
	return rows, len(vocabulary)
}

// project sets out to the row times the basis, which has a row for each term.
func project(row []entry, basis [][]float32, out []float32) {
	clear(out)
	for _, e := range row {
		addScaled(out, basis[e.term], e.weight)
	}
}

func addScaled(to, from []float32, by float32) {
	to = to[:len(from)]
	for i, x := range from {
		to[i] += by * x
	}
}

func transpose(m [][]float32) [][]float32 {
	t := make([][]float32, len(m[0]))
	for i := range t {
		t[i] = make([]float32, len(m))
		for j := range m {
			t[i][j] = m[j][i]
		}
	}
	return t
}

// orthonormalise is modified Gram-Schmidt.
func orthonormalise(columns [][]float32) {
	for i, c := range columns {
		for _, before := range columns[:i] {
			addScaled(c, before, -vek32.Dot(before, c))
		}
		normalise(c)
	}
}

// normalise makes v of length 1; false if it has none.
func normalise(v []float32) bool {
	length := math.Sqrt(float64(vek32.Dot(v, v)))
	if length < 1e-6 {
		return false
	}
	vek32.MulNumber_Inplace(v, float32(1/length))
	return true
}
