package main

import (
	"hash/fnv"
	"math"
	"strings"
	"unicode"

	"github.com/velosync/velosync/sqlfuncs"
)

// dims is the number of dimensions of an embedding.
const dims = 256

// embed turns text into a vector of unit length by feature hashing (Weinberger et al. 2009):
// each word, and each run of four letters in it, adds to one dimension, up or down, as its
// hash says. So "encrypting" comes out near "encryption", which the full-text index would find
// by its stem, and near "decrypt", which it would not. A real program asks a model instead.
func embed(text string) sqlfuncs.Vector {
	count := make(map[string]float64)
	for _, word := range words(text) {
		if common[word] {
			continue
		}
		count[word] += 2
		padded := "^" + word + "$"
		for i := 0; i+4 <= len(padded); i++ {
			count[padded[i:i+4]]++
		}
	}
	sums := make([]float64, dims)
	for feature, times := range count {
		h := fnv.New64a()
		h.Write([]byte(feature))
		bits := h.Sum64() * 0x9e3779b97f4a7c15 // FNV's low bits are poor for short input
		weight := math.Log1p(times)
		if bits>>63 == 1 {
			weight = -weight
		}
		sums[bits>>32%dims] += weight
	}
	var square float64
	for _, x := range sums {
		square += x * x
	}
	v := make(sqlfuncs.Vector, dims)
	if square == 0 {
		return v
	}
	for i, x := range sums {
		v[i] = float32(x / math.Sqrt(square))
	}
	return v
}

// words returns the words of text in lower case.
func words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// common words say nothing about what a text is about.
var common = func() map[string]bool {
	m := make(map[string]bool)
	for word := range strings.FieldsSeq(`a about all also an and any are as at be been but by can do does each for from
		given has have how i if in into is it its more my no not of on one only or other returns so such than that the
		their then there these they this to up use used uses was what when which who will with you your`) {
		m[word] = true
	}
	return m
}()
