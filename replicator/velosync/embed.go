package main

import (
	"hash/fnv"
	"math"
	"math/bits"
	"strings"
	"unicode"

	"github.com/velosync/velosync/sqlfuncs"
)

// embeddingDims is the number of dimensions of the demo's embeddings.
const embeddingDims = 256

// embed turns a text into a vector of unit length by feature hashing (Weinberger et al.
// 2009): each word, pair of words and piece of a word is a feature; one part of its hash
// chooses the dimension, another the sign, so that features which collide cancel out on
// average. Texts that share words and word stems come out close by cosine. It needs no
// model, no training and no network, and gives the same bits on every machine.
//
// A text without letters or digits gives the zero vector, whose cosine with anything is 0.
func embed(text string) sqlfuncs.Vector {
	features := make(map[uint64]feature)
	add := func(weight int64, parts ...string) {
		h := hashFeature(parts)
		features[h] = feature{weight, features[h].times + 1}
	}
	var last string
	for _, word := range words(text) {
		if stopWords[word] {
			last = ""
			continue
		}
		add(wordWeight, "word", word)
		if last != "" {
			add(wordWeight/2, "pair", last, word)
		}
		last = word
		// Pieces let "reader", "reading" and "reads" meet.
		all := pieces(word)
		for _, piece := range all {
			add(int64(wordWeight/math.Sqrt(float64(len(all)))), "piece", piece)
		}
	}

	// Whole numbers, since sums of floats depend on their order and a map has none.
	var sums [embeddingDims]int64
	for h, f := range features {
		// A word that is repeated says more, but not twice as much: 1, 2, 4, 8, … times
		// weigh 1, 2, 3, 4, ….
		v := f.weight * int64(bits.Len(f.times))
		if h>>63 == 1 {
			v = -v
		}
		sums[h%embeddingDims] += v
	}
	var square float64
	for _, s := range sums {
		square += float64(float64(s) * float64(s)) // the conversion forbids a fused multiply-add
	}
	vector := make(sqlfuncs.Vector, embeddingDims)
	if square == 0 {
		return vector
	}
	length := math.Sqrt(square)
	for i, s := range sums {
		vector[i] = float32(float64(s) / length)
	}
	return vector
}

// wordWeight is what one word weighs, in the fixed-point numbers that embed sums.
const wordWeight = 1 << 20

// A feature is what one occurrence weighs, and how many there are.
type feature struct {
	weight int64
	times  uint
}

// hashFeature hashes the parts, each ended by a zero byte, with FNV-1a. FNV leaves its high
// bits poorly mixed for short input; the multiplications after it are those of MurmurHash3.
func hashFeature(parts []string) uint64 {
	f := fnv.New64a()
	for _, p := range parts {
		f.Write([]byte(p))
		f.Write([]byte{0})
	}
	h := f.Sum64()
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// words splits text at everything but letters and digits, and names like ReadAll and
// HTTPServer between their words too, and lowers the case.
func words(text string) []string {
	var list []string
	for _, run := range strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		list = append(list, splitCase(run)...)
	}
	return list
}

// splitCase cuts before an upper-case letter that follows a lower-case one (read|All) or
// that begins a word after an acronym (HTTP|Server).
func splitCase(name string) []string {
	r := []rune(name)
	var list []string
	start := 0
	for i := 1; i < len(r); i++ {
		if unicode.IsUpper(r[i]) && (unicode.IsLower(r[i-1]) || i+1 < len(r) && unicode.IsUpper(r[i-1]) && unicode.IsLower(r[i+1])) {
			list = append(list, strings.ToLower(string(r[start:i])))
			start = i
		}
	}
	return append(list, strings.ToLower(string(r[start:])))
}

// pieces returns the runs of three and four characters of a word and its boundaries.
func pieces(word string) []string {
	r := []rune("^" + word + "$")
	var list []string
	for n := 3; n <= 4; n++ {
		for i := 0; i+n <= len(r); i++ {
			list = append(list, string(r[i:i+n]))
		}
	}
	return list
}

// stopWords are so common that sharing them says nothing. A trained model would learn
// their small weight; here they are listed.
var stopWords = func() map[string]bool {
	m := make(map[string]bool)
	for word := range strings.FieldsSeq(`a an and any are as at be been but by can do does each for from given has have
		how i if in into is it its may must no not of on one only or other s see should so such t than that the their
		them then there these they this those to up use used was we what when where whether which while who will with
		would you your`) {
		m[word] = true
	}
	return m
}()
