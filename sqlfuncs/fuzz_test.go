package sqlfuncs

import (
	"bytes"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"math"
	"strings"
	"testing"
)

// addVectors seeds a fuzz target with vectors of every type, and near misses.
func addVectors(f *testing.F, add func([]byte)) {
	for _, seed := range []string{"[1,2.5,-3e-7]", "[]", "[1", "[01]", "[1e400]", "[ 1 ,\n2 ]", "[-0.0]", "[1e-400]", "[1,]", "\xff[1]", "[1.5E+3]x",
		"[3.4028235677973366e38]", "[179769313486231580793e289]", "[0,1,1,0,1,0,0,0,1]", "[-128,127,3]", "[128]", "[1.2.3]"} {
		add([]byte(seed))
	}
	for _, g := range packedGoldens(f) {
		blob, err := hex.DecodeString(g.Blob)
		if err != nil {
			f.Fatal(err)
		}
		add(blob)
	}
	for _, blob := range [][]byte{raw32(1, 2, 3), raw64(4, 5), append(raw64(1, 2), 2), append(raw32(1e38, 3e38), 1), raw32(float32(math.NaN())), raw32(float32(math.Inf(1))),
		{1}, {3}, {4}, {5}, {16}, {17}, {1, 2, 3, 4, 3}, {255, 255, 0, 7, 3}, {255, 16, 3}, {0, 0, 17}, {0, 1, 17}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4}, {0, 124, 5}, {192, 127, 6}, raw64(1e308, -1e308), raw64(math.MaxFloat64, 5e-324)} {
		add(blob)
	}
}

// A column is a Go type for a column of vectors.
type column interface {
	sql.Scanner
	driver.Valuer
}

// columns are the functions that make each type, and the Go type that does the same. float16 and
// bfloat16 are not here: from float64, C rounds once and Go by way of float32.
func columns() map[string]column {
	return map[string]column{"vec_f32": new(Vector), "vec_f64": new(Vector64), "vec_int8": new(VectorInt8), "vec_bit": new(VectorBit)}
}

// FuzzVector gives any bytes, as blob and as text, to every function of one vector. C and Go must
// agree on what is a vector, on its bytes and on the error.
func FuzzVector(f *testing.F) {
	addVectors(f, func(b []byte) { f.Add(b) })
	db := openDB(f, ":memory:")
	f.Fuzz(func(t *testing.T, a []byte) {
		for _, x := range []any{a, string(a)} {
			if s, ok := x.(string); ok && strings.ContainsRune(s, 0) {
				x = a // the same again; SQLite's text may end at a NUL
			}
			for function, v := range columns() {
				var blob []byte
				err := db.QueryRow(`SELECT `+function+`(?)`, x).Scan(&blob)
				agree(t, function, err, v.Scan(x))
				if err != nil {
					continue
				}
				if want, err := v.Value(); err != nil || !bytes.Equal(blob, want.([]byte)) {
					t.Errorf("%s gave %x, Go %x, %v", function, blob, want, err)
				}
				var again []byte
				if err := db.QueryRow(`SELECT `+function+`(?)`, blob).Scan(&again); err != nil || !bytes.Equal(blob, again) {
					t.Errorf("%s of its own %x gave %x, %v", function, blob, again, err)
				}
			}
			var w Vector64
			if w.Scan(x) == nil {
				oneVector(t, db, x, w)
			}
		}
	})
}

// oneVector checks what every function says of x, whose elements are w.
func oneVector(t *testing.T, db *sql.DB, x any, w Vector64) {
	var n, each int
	var kind, text string
	var unit, sum, slice, bits, quantized []byte
	if err := db.QueryRow(`SELECT vec_length(?1), vec_type(?1), vec_to_json(?1), vec_normalize(?1), vec_slice(vec_f64(?1), 0, vec_length(?1)),
		vec_quantize_binary(?1), vec_quantize_int8(?1, 'unit'), (SELECT count(*) FROM vec_each(?1)), (SELECT vec_sum(vec_f64(?1)))`, x).
		Scan(&n, &kind, &text, &unit, &slice, &bits, &quantized, &each, &sum); err != nil {
		t.Fatal(err)
	}
	if n != len(w) || each != n || !strings.Contains("float32 float64 float16 bfloat16 int8 bit float8", kind) {
		t.Errorf("vec_length %d, vec_each %d, vec_type %s; want %d elements", n, each, kind, len(w))
	}
	if want, _ := PackF64(w); !bytes.Equal(want, slice) || !bytes.Equal(want, sum) && !bytes.Contains(want, []byte{0, 0, 0, 128}) { // -0 + 0 is 0
		t.Errorf("the whole slice is %x, the sum %x, want %x", slice, sum, want)
	}
	if b, err := UnpackBit(bits); err != nil || len(b) != n {
		t.Errorf("vec_quantize_binary has %d bits, %v; want %d", len(b), err, n)
	}
	if q, err := UnpackInt8(quantized); err != nil && len(quantized)%2 != 0 || err == nil && len(q) != n {
		t.Errorf("vec_quantize_int8 has %d elements, %v; want %d", len(q), err, n)
	}
	if u, err := UnpackF64(unit); err != nil || len(u) != n {
		t.Errorf("vec_normalize gave %x, %v", unit, err)
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

// FuzzCompare gives any two values to every function of two vectors. Results must stay in their
// ranges, be the same both ways, and not depend on the instruction set by more than rounding.
func FuzzCompare(f *testing.F) {
	var all [][]byte
	addVectors(f, func(b []byte) { all = append(all, b) })
	for i, a := range all {
		f.Add(a, a)
		f.Add(a, all[(i+1)%len(all)])
	}
	db := openDB(f, ":memory:")
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for _, y := range []any{b, string(b)} {
			for _, k := range allKernels() {
				undo := k.use()
				compareTwo(t, db, a, y)
				undo()
			}
			var sum, difference []byte
			if err := db.QueryRow(`SELECT vec_add(?1, ?2)`, a, y).Scan(&sum); err == nil {
				if err := db.QueryRow(`SELECT vec_sub(?1, ?2)`, sum, y).Scan(&difference); err == nil && len(difference) < len(sum)-1 {
					t.Errorf("vec_add gave %x, vec_sub of that %x", sum, difference)
				}
			}
		}
	})
}

func compareTwo(t *testing.T, db *sql.DB, a []byte, y any) {
	var cosine, distance float64
	if err := db.QueryRow(`SELECT cosine_similarity(?1, ?2), vec_distance_cosine(?1, ?2)`, a, y).Scan(&cosine, &distance); err == nil &&
		!(cosine >= -1 && cosine <= 1 && distance == 1-cosine) {
		t.Errorf("cosine %v, distance %v", cosine, distance)
	}
	var dot any
	if err := db.QueryRow(`SELECT dot_product(?1, ?2)`, a, y).Scan(&dot); err == nil && dot == nil {
		t.Error("dot_product is NaN")
	}
	for _, function := range []string{"vec_distance_L2", "vec_distance_L1", "vec_distance_hamming"} {
		var there, back any
		err := db.QueryRow(`SELECT `+function+`(?1, ?2), `+function+`(?2, ?1)`, a, y).Scan(&there, &back)
		if err == nil && (there == nil || there != back || there.(float64) < 0) {
			t.Errorf("%s is %v one way and %v the other", function, there, back)
		}
	}
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
		t.Errorf("%s: C says %q, Go says %q", name, c, g)
	}
}
