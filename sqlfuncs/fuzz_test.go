package sqlfuncs

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

// FuzzVector gives any bytes, as blob and as text, to every function. C and Go must agree on
// what is a vector, on its bytes and on the error; comparisons must stay in their ranges.
func FuzzVector(f *testing.F) {
	for _, seed := range []string{"[1,2.5,-3e-7]", "[]", "[1", "[01]", "[1e400]", "[ 1 ,\n2 ]", "[-0.0]", "[1e-400]", "[1,]", "\xff[1]", "[1.5E+3]x",
		"[3.4028235677973366e38]", "[179769313486231580793e289]"} {
		f.Add([]byte(seed), []byte("[1,2]"))
	}
	f.Add(raw32(1, 2, 3), raw32(4, 5, 6))
	f.Add(raw32(1, 2), raw64(4, 5))
	f.Add(append(raw64(1, 2), 2), append(raw32(1e38, 3e38), 1))
	f.Add(raw32(float32(math.NaN())), raw32(float32(math.Inf(1))))
	f.Add([]byte{1}, []byte{1, 2, 3, 4, 3})
	f.Add(raw64(1e308, -1e308), raw64(math.MaxFloat64, 5e-324))
	db := openDB(f, ":memory:")
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for _, x := range []any{a, string(a)} {
			if s, ok := x.(string); ok && strings.ContainsRune(s, 0) {
				x = a // the same again; SQLite's text may end at a NUL
			}
			var narrow []byte
			err := db.QueryRow(`SELECT vec_f32(?)`, x).Scan(&narrow)
			var v Vector
			agree(t, "vec_f32", err, v.Scan(x))
			if err == nil {
				if want, err := PackF32(v); err != nil || !bytes.Equal(narrow, want) {
					t.Errorf("vec_f32 gave %x, Go %x, %v", narrow, want, err)
				}
			}
			var wide []byte
			err = db.QueryRow(`SELECT vec_f64(?)`, x).Scan(&wide)
			var w Vector64
			agree(t, "vec_f64", err, w.Scan(x))
			if err != nil {
				continue
			}
			if want, err := PackF64(w); err != nil || !bytes.Equal(wide, want) {
				t.Errorf("vec_f64 gave %x, Go %x, %v", wide, want, err)
			}
			var n int
			var kind, text string
			var unit []byte
			if err := db.QueryRow(`SELECT vec_length(?1), vec_type(?1), vec_to_json(?1), vec_normalize(?1)`, x).Scan(&n, &kind, &text, &unit); err != nil {
				t.Fatal(err)
			}
			if n != len(w) || kind != "float32" && kind != "float64" {
				t.Errorf("vec_length %d, vec_type %s; want %d elements", n, kind, len(w))
			}
			var back Vector64
			if err := back.Scan(text); err != nil || len(back) != n {
				t.Errorf("vec_to_json gave %s, %v", text, err)
			}
			var self float64
			if err := db.QueryRow(`SELECT cosine_similarity(?1, ?1)`, x).Scan(&self); err != nil || self != 0 && math.Abs(self-1) > 1e-9 {
				t.Errorf("cosine with itself is %v, %v", self, err)
			}
		}
		for _, y := range []any{b, string(b)} {
			var cosine, distance float64
			if err := db.QueryRow(`SELECT cosine_similarity(?1, ?2), vec_distance_cosine(?1, ?2)`, a, y).Scan(&cosine, &distance); err == nil &&
				!(cosine >= -1 && cosine <= 1 && distance == 1-cosine) {
				t.Errorf("cosine %v, distance %v", cosine, distance)
			}
			var dot, l2, l2back any
			if err := db.QueryRow(`SELECT dot_product(?1, ?2)`, a, y).Scan(&dot); err == nil && dot == nil {
				t.Error("dot_product is NaN")
			}
			if err := db.QueryRow(`SELECT vec_distance_L2(?1, ?2), vec_distance_L2(?2, ?1)`, a, y).Scan(&l2, &l2back); err == nil && (l2 == nil || l2 != l2back) {
				t.Errorf("L2 is %v one way and %v the other", l2, l2back)
			}
		}
	})
}

// agree fails unless C and Go say the same of a vector.
func agree(t *testing.T, name string, inC, inGo error) {
	t.Helper()
	c, g := "", ""
	if inC != nil {
		c = strings.TrimPrefix(inC.Error(), name+": argument 1 ")
	}
	if inGo != nil {
		g = strings.TrimPrefix(inGo.Error(), "sqlfuncs: vector ")
	}
	if c != g {
		t.Errorf("C says %q, Go says %q", c, g)
	}
}
