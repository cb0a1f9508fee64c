package main

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func cosine(a, b []float32) float64 {
	var sum float64
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func TestEmbed(t *testing.T) {
	for _, text := range []string{"a", "Reader", "Scanner reads a file line by line.", "日本語のテキスト", "1 2 3"} {
		v := embed(text)
		if len(v) != embeddingDims {
			t.Fatalf("embed(%q) has %d dimensions, want %d", text, len(v), embeddingDims)
		}
		length := math.Sqrt(cosine(v, v))
		if text == "a" { // a stop word alone
			if length != 0 {
				t.Errorf("embed(%q) has length %v, want 0", text, length)
			}
		} else if math.Abs(length-1) > 1e-6 {
			t.Errorf("embed(%q) has length %v, want 1", text, length)
		}
		if !slices.Equal(v, embed(text)) {
			t.Errorf("embed(%q) differs between two calls", text)
		}
	}
	for _, empty := range []string{"", " \n\t", "--- !!!"} {
		if v := embed(empty); cosine(v, v) != 0 {
			t.Errorf("embed(%q) is not the zero vector", empty)
		}
	}
}

// The stored vectors of two machines must be equal bit by bit, so the numbers are pinned.
func TestEmbed_golden(t *testing.T) {
	v := embed("Scanner reads a file line by line")
	var sum, first float64
	for i, x := range v {
		sum += float64(x) * float64(i+1)
		if first == 0 {
			first = float64(x)
		}
	}
	const wantSum, wantFirst = -5.025754893198609, -0.09787017107009888
	if math.Abs(sum-wantSum) > 1e-9 || first != wantFirst {
		t.Errorf("weighted sum %v, first element %v; want %v and %v", sum, first, wantSum, wantFirst)
	}
}

func TestEmbed_related(t *testing.T) {
	for _, test := range []struct{ name, query, related, unrelated string }{
		{
			name:      "the same words in another order",
			query:     "read a file line by line",
			related:   "Scanner provides a convenient interface for reading data such as a file of newline-delimited lines of text.",
			unrelated: "Package big implements arbitrary-precision arithmetic on integers and rationals.",
		},
		{
			name:      "another form of the word",
			query:     "compressing",
			related:   "NewWriter returns a Writer that compresses what is written to it.",
			unrelated: "A Mutex is a mutual exclusion lock.",
		},
		{
			name:      "words within a name",
			query:     "http server",
			related:   "ListenAndServe starts an HTTPServer with a given address and handler.",
			unrelated: "Sort sorts a slice of any ordered type in ascending order.",
		},
		{
			name:      "common words do not count",
			query:     "what is the use of a lock, and how would you use it",
			related:   "Lock locks m. If the lock is already in use, the calling goroutine blocks.",
			unrelated: "This is what you would use for one of the other things that you have, and how.",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := embed(test.query)
			near, far := cosine(q, embed(test.related)), cosine(q, embed(test.unrelated))
			if near < far+0.1 {
				t.Errorf("cosine with the related text %.3f, with the unrelated one %.3f; want a margin of 0.1", near, far)
			}
		})
	}
}

func TestWords(t *testing.T) {
	for text, want := range map[string][]string{
		"ReadAll reads from r": {"read", "all", "reads", "from", "r"},
		"HTTPServer":           {"http", "server"},
		"net/http.Client.Do":   {"net", "http", "client", "do"},
		"utf8.RuneLen":         {"utf8", "rune", "len"},
		"":                     nil,
	} {
		if diff := cmp.Diff(want, words(text)); diff != "" {
			t.Errorf("words(%q): want -, got +\n%s", text, diff)
		}
	}
}

func BenchmarkEmbed(b *testing.B) {
	const text = "Scanner provides a convenient interface for reading data such as a file of newline-delimited lines of text."
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		embed(text)
	}
}
