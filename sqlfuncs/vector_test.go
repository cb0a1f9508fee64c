package sqlfuncs

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// golden is one vector in every form, as testdata/vectors.json promises them.
type golden struct {
	Name     string `json:"name"`
	Elements string `json:"elements"` // as vec_to_json writes the float64 form
	Float32  string `json:"float32"`  // hex; "" if an element does not fit
	Float64  string `json:"float64"`
}

func goldens(t *testing.T) []golden {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "testdata", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []golden
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// The bytes of a stored vector are a promise: C and Go write them and read them alike.
func TestVector_Golden(t *testing.T) {
	db := openDB(t, ":memory:")
	for _, g := range goldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			for _, form := range []struct{ function, want string }{{"vec_f32", g.Float32}, {"vec_f64", g.Float64}} {
				got, err := eval(t, db, form.function+"(?)", g.Elements)
				if form.want == "" {
					if err == nil {
						t.Errorf("%s gave %x, want an error", form.function, got)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := hex.EncodeToString(got.([]byte)); got != form.want {
					t.Errorf("%s gave %s, want %s", form.function, got, form.want)
				}
			}
			wide, err := hex.DecodeString(g.Float64)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := eval(t, db, "vec_to_json(?)", wide); got != g.Elements {
				t.Errorf("vec_to_json gave %v, %v; want %s", got, err, g.Elements)
			}
			var v64 Vector64
			if err := v64.Scan(wide); err != nil {
				t.Fatal(err)
			}
			if got, err := PackF64(v64); !bytes.Equal(got, wide) {
				t.Errorf("PackF64 gave %x, %v; want %x", got, err, wide)
			}
			if g.Float32 == "" {
				return
			}
			narrow, err := hex.DecodeString(g.Float32)
			if err != nil {
				t.Fatal(err)
			}
			var v32, tagged, fromWide, fromText Vector
			for v, src := range map[*Vector]any{&v32: narrow, &tagged: append(slices.Clone(narrow), tagF32), &fromWide: wide, &fromText: g.Elements} {
				if err := v.Scan(src); err != nil {
					t.Fatal(err)
				}
				if got, err := PackF32(*v); !bytes.Equal(got, narrow) {
					t.Errorf("%T scanned from %v packs to %x, %v; want %x", v, src, got, err, narrow)
				}
			}
		})
	}
}

// packedGolden is one blob of testdata/format.json, which was not written by this code.
type packedGolden struct {
	Name     string `json:"name"`
	Type     string `json:"type"`     // as vec_type
	Function string `json:"function"` // that writes it; "" if it is only read
	Elements string `json:"elements"` // as vec_to_json
	Blob     string `json:"blob"`     // hex
}

func packedGoldens(t testing.TB) []packedGolden {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "format.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []packedGolden
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// Every type of FORMAT.md is read and written to the byte, in C and in Go.
func TestVector_Format(t *testing.T) {
	db := openDB(t, ":memory:")
	seen := map[string]bool{}
	for _, g := range packedGoldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			blob, err := hex.DecodeString(g.Blob)
			if err != nil {
				t.Fatal(err)
			}
			seen[g.Type] = true
			var kind, text string
			var length int
			if err := db.QueryRow(`SELECT vec_type(?1), vec_to_json(?1), vec_length(?1)`, blob).Scan(&kind, &text, &length); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(g.Elements, ",") + 1; kind != g.Type || text != g.Elements || length != n {
				t.Errorf("read as %s %s of %d, want %s %s of %d", kind, text, length, g.Type, g.Elements, n)
			}
			if g.Function != "" {
				for _, from := range []any{g.Elements, blob} {
					if got, err := eval(t, db, g.Function+`(?)`, from); err != nil || hex.EncodeToString(got.([]byte)) != g.Blob {
						t.Errorf("%s of a %T gave %x, %v; want %s", g.Function, from, got, err, g.Blob)
					}
				}
			}
			// Go
			values := map[string]column{"vec_f32": new(Vector), "vec_f64": new(Vector64), "vec_f16": new(VectorF16), "vec_bf16": new(VectorBF16), "vec_int8": new(VectorInt8), "vec_bit": new(VectorBit)}
			if v := values[g.Function]; v != nil {
				for _, from := range []any{g.Elements, blob} {
					if err := v.Scan(from); err != nil {
						t.Fatal(err)
					}
					if got, err := v.Value(); err != nil || hex.EncodeToString(got.([]byte)) != g.Blob {
						t.Errorf("%T scanned from a %T packs to %x, %v; want %s", v, from, got, err, g.Blob)
					}
				}
			}
			inGo, err := UnpackF64(blob)
			if err != nil {
				t.Fatal(err)
			}
			var inC Vector64
			if err := db.QueryRow(`SELECT vec_f64(?)`, blob).Scan(&inC); err != nil || !slices.Equal(inC, inGo) {
				t.Errorf("elements in C %v, in Go %v, %v", inC, inGo, err)
			}
		})
	}
	for _, kind := range []string{"float32", "float64", "float16", "bfloat16", "int8", "bit", "float8"} {
		if !seen[kind] {
			t.Errorf("testdata/format.json has no %s", kind)
		}
	}
}

// Every number of 16 bits, what lies half way to the next, and just off the half.
func TestHalf(t *testing.T) {
	for _, f := range []struct {
		format half
		bits   func(float64) uint16
		value  func(uint16) float32
	}{{float16, f16Bits, f16Value}, {bfloat16, bf16Bits, bf16Value}} {
		check := func(x float64, want uint16) {
			t.Helper()
			for _, negative := range []bool{false, true} {
				if negative {
					x, want = -x, want|0x8000
				}
				bits, fits := f.format.bits(x)
				if inC := f.bits(x); bits != want || inC != want {
					t.Errorf("%v has bits %#x in Go, %#x in C, want %#x", x, bits, inC, want)
				}
				if finite := f.format.value(want); fits == math.IsInf(finite, 0) {
					t.Errorf("%v fits: %v, want %v", x, fits, !fits)
				}
			}
		}
		infinity := uint16(1<<(15-f.format)-1) << f.format
		for h := range infinity {
			x, next := f.format.value(h), f.format.value(h+1)
			if h+1 == infinity { // where the next number would be
				next = x + x - f.format.value(h-1)
			}
			middle := (x + next) / 2
			check(x, h)
			check(middle, h+h&1)
			check(math.Nextafter(middle, 0), h)
			check(math.Nextafter(middle, math.Inf(1)), h+1)
		}
		for h := range 1 << 16 {
			inGo, inC := f.format.value(uint16(h)), float64(f.value(uint16(h)))
			if math.Float64bits(inGo) != math.Float64bits(inC) && !(math.IsNaN(inGo) && math.IsNaN(inC)) {
				t.Errorf("%#x is %v in Go, %v in C", h, inGo, inC)
			}
		}
		check(math.MaxFloat64, infinity)
		check(5e-324, 0)
	}
}

func TestVector_Errors(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	tests := []struct {
		name string
		do   func() error
		want string
	}{
		{"empty", func() error { _, err := Vector{}.Value(); return err }, "sqlfuncs: vector is empty; a vector has at least one element"},
		{"NaN", func() error { _, err := Vector{1, float32(nan)}.Value(); return err }, "sqlfuncs: vector has NaN as element [1], counting from 0; vectors hold finite numbers"},
		{"infinity", func() error { _, err := Vector64{-inf}.Value(); return err }, "sqlfuncs: vector has -infinity as element [0], counting from 0; vectors hold finite numbers"},
		{"too long", func() error { _, err := PackF64(make([]float64, 65537)); return err }, "sqlfuncs: vector has 65537 dimensions; the most is 65536"},
		{"too long a blob", func() error { _, err := UnpackF32(make([]byte, 4*65537)); return err }, "sqlfuncs: vector has 65537 dimensions; the most is 65536"},
		{"NaN in a blob", func() error { return new(Vector).Scan(raw32(float32(nan))) }, "sqlfuncs: vector has NaN as element [0], counting from 0; vectors hold finite numbers"},
		{"too large for float32", func() error { return new(Vector).Scan("[1e39]") }, "sqlfuncs: vector has an element [0], counting from 0, beyond the range of a float32; keep it as float64 with vec_f64"},
		{"number", func() error { return new(Vector).Scan(int64(1)) }, "sqlfuncs: vector cannot come from a int64; a column of vectors holds blobs, or JSON arrays as text"},
		{"number into float64", func() error { return new(Vector64).Scan(1.5) }, "sqlfuncs: vector cannot come from a float64; a column of vectors holds blobs, or JSON arrays as text"},
		{"too large for float16", func() error { _, err := VectorF16{1, 65520}.Value(); return err }, "sqlfuncs: vector has an element [1], counting from 0, beyond the range of a float16, 65504; keep it as float32 with vec_f32"},
		{"too large for bfloat16", func() error { _, err := VectorBF16{3.4e38}.Value(); return err }, "sqlfuncs: vector has an element [0], counting from 0, beyond the range of a bfloat16; keep it as float64 with vec_f64"},
		{"NaN as float16", func() error { _, err := PackF16([]float32{float32(nan)}); return err }, "sqlfuncs: vector has NaN as element [0], counting from 0; vectors hold finite numbers"},
		{"no int8", func() error { return new(VectorInt8).Scan("[1,1.5]") }, "sqlfuncs: vector has an element [1], counting from 0, that is no whole number from -128 to 127; vec_quantize_int8 makes int8 of a unit vector"},
		{"no bit", func() error { return new(VectorBit).Scan("[1,-1]") }, "sqlfuncs: vector has an element [1], counting from 0, that is neither 0 nor 1; vec_quantize_binary makes bits of any vector"},
		{"empty int8", func() error { _, err := VectorInt8{}.Value(); return err }, "sqlfuncs: vector is empty; a vector has at least one element"},
		{"too many bits", func() error { _, err := PackBit(make([]bool, 65537)); return err }, "sqlfuncs: vector has 65537 dimensions; the most is 65536"},
		{"number into bits", func() error { return new(VectorBit).Scan(true) }, "sqlfuncs: vector cannot come from a bool; a column of vectors holds blobs, or JSON arrays as text"},
		{"text", func() error { return new(Vector64).Scan("[1,x]") }, "sqlfuncs: vector is not a JSON array of numbers: 'x' at character 4, where a number should be"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.do()
			if err == nil || err.Error() != tt.want {
				t.Errorf("got error\n%v\nwant\n%s", err, tt.want)
			}
			if !errors.Is(err, ErrVector) {
				t.Error("the error is no ErrVector")
			}
		})
	}
}

func TestVector_Null(t *testing.T) {
	v, w := Vector{1}, Vector64{1}
	if err := errors.Join(v.Scan(nil), w.Scan(nil)); err != nil || v != nil || w != nil {
		t.Errorf("NULL scanned as %v and %v, %v; want nil", v, w, err)
	}
	for _, v := range []column{new(VectorF16), new(VectorBF16), new(VectorInt8), new(VectorBit)} {
		if err := errors.Join(v.Scan("[1]"), v.Scan(nil)); err != nil {
			t.Fatal(err)
		}
		if got, err := v.Value(); got != nil || err != nil {
			t.Errorf("%T of NULL gave %v, %v; want NULL", v, got, err)
		}
	}
	if got, err := v.Value(); got != nil || err != nil {
		t.Errorf("nil Vector gave %v, %v; want NULL", got, err)
	}
	if got, err := w.Value(); got != nil || err != nil {
		t.Errorf("nil Vector64 gave %v, %v; want NULL", got, err)
	}
}

// A blob of even length is raw elements only where the type says so.
func TestVector_Raw(t *testing.T) {
	var i VectorInt8
	var b VectorBit
	if err := i.Scan([]byte{1, 255, 128, 16}); err != nil || !slices.Equal(i, VectorInt8{1, -1, -128, 16}) {
		t.Errorf("raw int8 read as %v, %v", i, err)
	}
	if err := i.Scan([]byte{16}); err != nil || !slices.Equal(i, VectorInt8{16}) {
		t.Errorf("one raw int8 read as %v, %v", i, err)
	}
	if err := b.Scan([]byte{0xf0}); err != nil || !slices.Equal(b, VectorBit{false, false, false, false, true, true, true, true}) {
		t.Errorf("a raw byte of bits read as %v, %v", b, err)
	}
	if err := i.Scan([]byte{1, 2, 3}); err == nil {
		t.Errorf("three raw bytes read as %v, want an error", i)
	}
}

// A failed Scan leaves the destination as it was; a good one does not keep the source.
func TestVector_ScanCopies(t *testing.T) {
	blob := raw32(1, 2)
	var v Vector
	if err := v.Scan(blob); err != nil {
		t.Fatal(err)
	}
	clear(blob)
	if v[0] != 1 || v[1] != 2 {
		t.Errorf("changed with its source to %v", v)
	}
	if err := v.Scan("[1,"); err == nil || len(v) != 2 {
		t.Errorf("after a failed Scan: %v, %v", v, err)
	}
}

// What vec_to_json writes is read back bit for bit, by C and by Go.
func TestNumbers_RoundTrip(t *testing.T) {
	db := openDB(t, ":memory:")
	r := newRand(t)
	wide, narrow := make(Vector64, 4096), make(Vector, 4096)
	for range 8 {
		for i := range wide {
			for {
				wide[i] = math.Float64frombits(r.Uint64())
				narrow[i] = math.Float32frombits(r.Uint32())
				if i%3 == 0 { // short decimals
					wide[i] = float64(r.IntN(2e6)-1e6) / math.Pow10(r.IntN(9))
					narrow[i] = float32(wide[i])
				}
				if checkFinite(0, wide[i]) == nil && checkFinite(0, float64(narrow[i])) == nil {
					break
				}
			}
		}
		var text string
		var back []byte
		if err := db.QueryRow(`SELECT vec_to_json(?1), vec_f64(vec_to_json(?1))`, wide).Scan(&text, &back); err != nil {
			t.Fatal(err)
		}
		if want, _ := PackF64(wide); !bytes.Equal(back, want) {
			t.Error("float64 changed on its way through JSON")
		}
		var got Vector64
		if err := got.Scan(text); err != nil || !slices.Equal(got, wide) {
			t.Errorf("Go reads other float64 from the JSON of C: %v", err)
		}
		for i, number := range strings.Split(strings.Trim(text, "[]"), ",") {
			if want := strconv.FormatFloat(wide[i], 'g', -1, 64); digits(number) > digits(want) {
				t.Errorf("C writes %s, Go %s", number, want)
			}
		}
		if err := db.QueryRow(`SELECT vec_to_json(?1), vec_f32(vec_to_json(?1))`, narrow).Scan(&text, &back); err != nil {
			t.Fatal(err)
		}
		if want, _ := PackF32(narrow); !bytes.Equal(back, want) {
			t.Error("float32 changed on its way through JSON")
		}
	}
}

// digits counts the significant digits of a decimal number.
func digits(number string) int {
	number, _, _ = strings.Cut(number, "e")
	number = strings.ReplaceAll(strings.TrimPrefix(number, "-"), ".", "")
	return len(strings.Trim(number, "0"))
}

// Numbers that are hard to round, and long ones.
func TestNumbers_Parse(t *testing.T) {
	db := openDB(t, ":memory:")
	numbers := []string{
		"9007199254740993", "9007199254740992.99999999999999999999", "2.2250738585072011e-308", "2.2250738585072014e-308",
		"1.7976931348623158e308", "179769313486231580793728971405303415079934132710037826936173778980444968292764750946649017977587207096330286416692887910946555547851940402630657488671505820681908902000708383676273854845817711531764475730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880",
		"4.9406564584124654e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "1e-400", "0e999999999999", "0.0e-99999999999999999999",
		"8.5e22", "1e23", "123456789012345678901234567890", "0.1e1", "-0.0", "1E+2", "1e-2",
		"0." + strings.Repeat("0", 5000) + "1e5001", "1" + strings.Repeat("0", 5000) + "e-5000", "-1" + strings.Repeat("0", 5000) + ".5E-5000",
		"1" + strings.Repeat("0", 900) + "e-99999999999999999999", "0." + strings.Repeat("0", 900) + "1e-99999999999999999999",
		"0.5" + strings.Repeat("0", 1000) + "1", "1.00000000000000011102230246251565404236316680908203125",
		"1.00000000000000011102230246251565404236316680908203125" + strings.Repeat("0", 900) + "1",
		"1.00000000000000011102230246251565404236316680908203124" + strings.Repeat("9", 900),
	}
	r := newRand(t)
	for range 20000 {
		numbers = append(numbers, strconv.FormatFloat(math.Float64frombits(r.Uint64()&^(1<<62)), "eg"[r.IntN(2)], 1+r.IntN(30), 64))
	}
	for chunk := range slices.Chunk(numbers, 5000) {
		var got Vector64
		if err := db.QueryRow(`SELECT vec_f64(?)`, "["+strings.Join(chunk, ",")+"]").Scan(&got); err != nil {
			t.Fatal(err)
		}
		for i, number := range chunk {
			want, err := parseNumber(number)
			if err != nil {
				t.Fatal(err)
			}
			if math.Float64bits(got[i]) != math.Float64bits(want) {
				t.Errorf("%s read as %v, want %v", number, got[i], want)
			}
		}
	}
}

func TestParseNumber_Long(t *testing.T) {
	for _, n := range []int{15, 799, 800, 801, 5000} {
		for _, sign := range []string{"", "-"} {
			number := sign + "1" + strings.Repeat("0", n) + "e-" + strconv.Itoa(n)
			if got, err := parseNumber(number); err != nil || math.Abs(got) != 1 || math.Signbit(got) != (sign == "-") {
				t.Errorf("%s1 with %d zeros and e-%d: got %v, %v", sign, n, n, got, err)
			}
		}
	}
}

// C reads what Go packs, and computes what Go computes, whatever the lengths and types.
func TestFunctions_AgainstGo(t *testing.T) {
	db := openDB(t, ":memory:")
	r := newRand(t)
	// exact in every float type, so that the type changes nothing but the rounding of sums
	round := func(r *rand.Rand) float64 { return float64(r.IntN(255)-127) / 64 }
	for range 300 {
		n := 1 + r.IntN(600)
		a, b := make(Vector64, n), make(Vector64, n)
		for i := range n {
			a[i], b[i] = round(r), round(r)
		}
		var dot, aa, bb, l2, l1 float64
		for i := range n {
			dot += a[i] * b[i]
			aa += a[i] * a[i]
			bb += b[i] * b[i]
			l2 += (a[i] - b[i]) * (a[i] - b[i])
			l1 += math.Abs(a[i] - b[i])
		}
		want := []float64{dot / math.Sqrt(aa*bb), dot, math.Sqrt(l2), 1 - dot/math.Sqrt(aa*bb), l1}
		scale := []float64{1, math.Sqrt(aa * bb), math.Sqrt(l2), 1, l1}
		va, vb := form(r, a), form(r, b)
		if _, bytesA := va.([]byte); bytesA {
			vb = b // two untagged blobs would both be float32
		}
		got := make([]float64, 5)
		if err := db.QueryRow(`SELECT cosine_similarity(?1, ?2), dot_product(?1, ?2), vec_distance_L2(?1, ?2), vec_distance_cosine(?1, ?2), vec_distance_L1(?1, ?2)`,
			va, vb).Scan(&got[0], &got[1], &got[2], &got[3], &got[4]); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if math.Abs(got[i]-want[i]) > 1e-5*scale[i] {
				t.Errorf("function %d of %T and %T, n=%d: got %v, want %v", i, va, vb, n, got[i], want[i])
			}
		}
	}
}

// form returns v in one of the forms that SQL reads.
func form(r *rand.Rand, v Vector64) any {
	narrow := make([]float32, len(v))
	for i, x := range v {
		narrow[i] = float32(x)
	}
	switch r.IntN(6) {
	case 4:
		return VectorF16(narrow)
	case 5:
		return VectorBF16(narrow)
	case 0:
		return v
	case 1:
		return raw64(v...)
	case 2:
		text, _ := json.Marshal([]float64(v))
		return string(text)
	}
	return Vector(narrow)
}
