package sqlfuncs

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// newRand returns a source of randomness and logs the seed; VELOSYNC_SEED repeats a run.
func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("VELOSYNC_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("VELOSYNC_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func TestKernels_Chosen(t *testing.T) {
	var names []string
	for _, k := range allKernels() {
		names = append(names, k.name())
	}
	t.Log("this machine runs", names)
	if names[0] != "ref" {
		t.Errorf("the first is %s, want ref", names[0])
	}
	if runtime.GOARCH == "arm64" && names[len(names)-1] != "neon" {
		t.Errorf("the last is %s, want neon", names[len(names)-1])
	}
}

// shapes are the lengths that the kernels are tried with: around every register width and
// unrolled step, and a few that embeddings have.
func shapes() []int {
	var n []int
	for i := range 140 {
		n = append(n, i)
	}
	return append(n, 255, 256, 257, 383, 384, 385, 768, 1000, 1536, 3072, 4096)
}

// An element is a type of element in memory.
type element struct {
	name  string
	size  int
	round func(float64) float64 // to the nearest that the type has, finite
	put   func([]byte, float64)
	fills map[string]func(*rand.Rand) float64
}

var (
	elementF32 = element{"float32", 4,
		func(x float64) float64 { return float64(float32(x)) },
		func(b []byte, x float64) { binary.LittleEndian.PutUint32(b, math.Float32bits(float32(x))) },
		map[string]func(*rand.Rand) float64{
			"all magnitudes": func(r *rand.Rand) float64 { return math.Ldexp(r.NormFloat64(), r.IntN(100)-50) },
			"denormal":       func(r *rand.Rand) float64 { return float64(math.Float32frombits(r.Uint32N(1 << 23))) },
			"small products": func(r *rand.Rand) float64 { return r.NormFloat64() * 1e-22 },
			"large":          func(r *rand.Rand) float64 { return (r.Float64()*2 - 1) * 1e17 }, // sums that just do not overflow
		}}
	elementF64 = element{"float64", 8,
		func(x float64) float64 { return x },
		func(b []byte, x float64) { binary.LittleEndian.PutUint64(b, math.Float64bits(x)) },
		map[string]func(*rand.Rand) float64{
			"all magnitudes": func(r *rand.Rand) float64 { return math.Ldexp(r.NormFloat64(), r.IntN(900)-450) },
			"denormal":       func(r *rand.Rand) float64 { return math.Float64frombits(r.Uint64N(1 << 52)) },
			"small products": func(r *rand.Rand) float64 { return r.NormFloat64() * 1e-161 },
			"large":          func(r *rand.Rand) float64 { return (r.Float64()*2 - 1) * 1e152 },
		}}
	elementF16  = halfElement("float16", float16, 65504, 24)
	elementBF16 = halfElement("bfloat16", bfloat16, 1e17, 50)
)

// halfElement is a float of 16 bits, tried up to large, and with exponents down to -low.
func halfElement(name string, h half, large float64, low int) element {
	round := func(x float64) float64 {
		bits, _ := h.bits(max(-large, min(x, large)))
		return h.value(bits)
	}
	return element{name, 2, round,
		func(b []byte, x float64) {
			bits, _ := h.bits(x)
			binary.LittleEndian.PutUint16(b, bits)
		},
		map[string]func(*rand.Rand) float64{
			"all magnitudes": func(r *rand.Rand) float64 { return math.Ldexp(r.NormFloat64(), r.IntN(low+15)-low) },
			"denormal":       func(r *rand.Rand) float64 { return h.value(uint16(r.UintN(1 << h))) },
			"small products": func(r *rand.Rand) float64 { return r.NormFloat64() * math.Ldexp(1, -low+8) },
			"large":          func(r *rand.Rand) float64 { return large * float64(r.IntN(3)-1) }, // the ends of the range
		}}
}

// fillNames are the kinds of input. Those not in element.fills suit every type.
var fillNames = []string{"normal", "positive", "mostly zero", "all magnitudes", "denormal", "small products", "large"}

// fill returns n elements of one kind, and the bytes they are.
func (e element) fill(r *rand.Rand, kind string, n int) ([]float64, []byte) {
	one := map[string]func(*rand.Rand) float64{
		"normal":      (*rand.Rand).NormFloat64,
		"positive":    (*rand.Rand).Float64,
		"mostly zero": func(r *rand.Rand) float64 { return float64(r.IntN(20) / 19) },
	}[kind]
	if one == nil {
		one = e.fills[kind]
	}
	v := make([]float64, n)
	for i := range v {
		v[i] = e.round(one(r))
	}
	return v, e.pack(v)
}

func (e element) pack(v []float64) []byte {
	b := make([]byte, e.size*len(v))
	for i, x := range v {
		e.put(b[e.size*i:], x)
	}
	return b
}

// pairElements are the types of each pair of float32 sums, a first.
var pairElements = [pairs][2]element{
	f32f32: {elementF32, elementF32}, f16f32: {elementF16, elementF32}, bf16f32: {elementBF16, elementF32},
	f16f16: {elementF16, elementF16}, bf16bf16: {elementBF16, elementBF16},
}

// terms of the four sums.
var terms = map[sumOp]func(x, y *big.Float) *big.Float{
	sumDot: product, sumL2sq: squaredDifference,
	sumL1: func(x, y *big.Float) *big.Float { d := new(big.Float).Sub(x, y); return d.Abs(d) },
}

// TestKernels compares every kernel for floats with exact sums, at every offset from an aligned
// address. The bound is the one that kernels.h promises.
func TestKernels(t *testing.T) {
	r := newRand(t)
	for _, kind := range fillNames {
		for p := range pairs {
			ea, eb := pairElements[p][0], pairElements[p][1]
			t.Run(kind+"/"+ea.name+" "+eb.name, func(t *testing.T) {
				for _, n := range shapes() {
					a, pa := ea.fill(r, kind, n)
					b, pb := eb.fill(r, kind, n)
					pa, pb = unaligned(r, pa), unaligned(r, pb)
					check := checkSums(t, a, b, 24, -149)
					for _, k := range allKernels() {
						lanes, _ := k.lanes()
						dot, norm := k.sum32(p, sumDotNorm, pa, pb, n)
						check(k, lanes, sumDot, float64(dot), "")
						check(k, lanes, sumDot, float64(norm), "norm")
						for _, op := range []sumOp{sumL2sq, sumL1} {
							sum, _ := k.sum32(p, op, pa, pb, n)
							check(k, lanes, op, float64(sum), "")
						}
						// The same rounding, so that a cosine with itself is 1.
						if got, _ := k.sum32(p, sumDot, pa, pb, n); got != dot {
							t.Errorf("%s dot n=%d: got %v, dot_norm %v", k.name(), n, got, dot)
						}
						if got, _ := k.sum32(f32f32, sumDot, pack32(a), pack32(a), n); got != norm {
							t.Errorf("%s dot(a, a) as float32 n=%d: got %v, norm %v", k.name(), n, got, norm)
						}
					}
				}
			})
		}
		t.Run(kind+"/float64", func(t *testing.T) {
			for _, n := range shapes() {
				a, pa := elementF64.fill(r, kind, n)
				b, pb := elementF64.fill(r, kind, n)
				pa, pb = unaligned(r, pa), unaligned(r, pb)
				check := checkSums(t, a, b, 53, -1074)
				for _, k := range allKernels() {
					_, lanes := k.lanes()
					dot, norm := k.sum64(sumDotNorm, pa, pb, n)
					check(k, lanes, sumDot, dot, "")
					check(k, lanes, sumDot, norm, "norm")
					for _, op := range []sumOp{sumL2sq, sumL1} {
						sum, _ := k.sum64(op, pa, pb, n)
						check(k, lanes, op, sum, "")
					}
					if got, _ := k.sum64(sumDot, pa, pb, n); got != dot {
						t.Errorf("%s dot n=%d: got %v, dot_norm %v", k.name(), n, got, dot)
					}
					if got, _ := k.sum64(sumDot, pa, pa, n); got != norm {
						t.Errorf("%s dot(a, a) n=%d: got %v, norm %v", k.name(), n, got, norm)
					}
				}
			}
		})
	}
}

// checkSums returns a function that compares one result with the exact sum over a and b, or, for
// a norm, over a and a.
func checkSums(t *testing.T, a, b []float64, bits, least int) func(k kernels, lanes int, op sumOp, got float64, norm string) {
	type exact struct{ sum, abs *big.Float }
	known := map[string]exact{}
	return func(k kernels, lanes int, op sumOp, got float64, norm string) {
		t.Helper()
		name := fmt.Sprintf("%s%d", norm, op)
		want, ok := known[name]
		if !ok {
			y := b
			if norm != "" {
				y = a
			}
			want.sum, want.abs = exactSum(a, y, terms[op])
			known[name] = want
		}
		if math.IsNaN(got) || math.IsInf(got, 0) {
			t.Errorf("%s sum %s n=%d: got %v, want %v", k.name(), name, len(a), got, want.sum)
			return
		}
		allowed := new(big.Float).SetMantExp(big.NewFloat(float64(len(a))/float64(lanes)+16), -bits)
		allowed.Mul(allowed, want.abs)
		allowed.Add(allowed, new(big.Float).SetMantExp(big.NewFloat(float64(len(a))), least))
		diff := new(big.Float).Sub(want.sum, big.NewFloat(got))
		if diff.Abs(diff).Cmp(allowed) > 0 {
			t.Errorf("%s sum %s n=%d: got %v, want %v; off by %v, allowed %v", k.name(), name, len(a), got, want.sum, diff, allowed)
		}
	}
}

// Sums of int8 and counts of bits are exact, up to the longest vector and the largest elements.
func TestKernels_Exact(t *testing.T) {
	r := newRand(t)
	for _, n := range append(shapes(), 65535, 65536) {
		for _, kind := range []string{"random", "ends", "lowest", "opposite"} {
			a, b := make([]byte, n), make([]byte, n)
			for i := range n {
				switch kind {
				case "random":
					a[i], b[i] = byte(r.UintN(256)), byte(r.UintN(256))
				case "ends":
					a[i], b[i] = 127+byte(r.UintN(2)), 127+byte(r.UintN(2))
				case "lowest":
					a[i], b[i] = 128, 128
				case "opposite":
					a[i], b[i] = 128, 127
				}
			}
			want := map[sumOp]int64{}
			var aa int64
			for i := range n {
				x, y := int64(int8(a[i])), int64(int8(b[i]))
				want[sumDot] += x * y
				want[sumL2sq] += (x - y) * (x - y)
				want[sumL1] += max(x-y, y-x)
				aa += x * x
			}
			a, b = unaligned(r, a), unaligned(r, b)
			for _, k := range allKernels() {
				for op, want := range want {
					if got, _ := k.sum8(op, a, b, n); got != want {
						t.Errorf("%s int8 sum %d of %d %s: got %d, want %d", k.name(), op, n, kind, got, want)
					}
				}
				if got, norm := k.sum8(sumDotNorm, a, b, n); got != want[sumDot] || norm != aa {
					t.Errorf("%s int8 dot_norm of %d %s: got %d and %d, want %d and %d", k.name(), n, kind, got, norm, want[sumDot], aa)
				}
			}

			// The same bytes as bits; those beyond n must not count.
			bits := 8*n - r.IntN(8)
			if bits <= 0 {
				continue
			}
			var both, differ, ones int64
			for i := range bits {
				x, y := a[i/8]>>(i%8)&1, b[i/8]>>(i%8)&1
				both += int64(x & y)
				differ += int64(x ^ y)
				ones += int64(x)
			}
			for _, k := range allKernels() {
				if got := k.both(a, b, bits); got != both {
					t.Errorf("%s both of %d %s bits: got %d, want %d", k.name(), bits, kind, got, both)
				}
				if got := k.differ(a, b, bits); got != differ {
					t.Errorf("%s differ of %d %s bits: got %d, want %d", k.name(), bits, kind, got, differ)
				}
				if got := k.ones(a, bits); got != ones {
					t.Errorf("%s ones of %d %s bits: got %d, want %d", k.name(), bits, kind, got, ones)
				}
			}
		}
	}
}

// What is not finite in the input must not be finite in the result, at any place.
func TestKernels_NotFinite(t *testing.T) {
	raw := func(e element, v []float64) []byte {
		if h := (map[string]half{"float16": float16, "bfloat16": bfloat16})[e.name]; h != 0 {
			b := e.pack(v)
			for i, x := range v { // put takes finite numbers only
				bits := uint16(1<<(15-h)-1) << h
				if math.IsNaN(x) {
					binary.LittleEndian.PutUint16(b[2*i:], bits|1<<(h-1))
				} else if math.IsInf(x, 0) {
					binary.LittleEndian.PutUint16(b[2*i:], bits|uint16(math.Float64bits(x)>>48)&0x8000)
				}
			}
			return b
		}
		return e.pack(v)
	}
	for _, k := range allKernels() {
		t.Run(k.name(), func(t *testing.T) {
			for _, n := range []int{1, 3, 8, 17, 31, 64, 65, 100, 384} {
				for at := range n {
					for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
						for _, other := range []float64{0, 1} {
							a, b := make([]float64, n), make([]float64, n)
							for i := range b {
								b[i] = other
							}
							a[at] = bad
							var sums []float64
							for p, e := range pairElements {
								pa, pb := raw(e[0], a), e[1].pack(b)
								for op := sumDot; op <= sumL1; op++ {
									s, norm := k.sum32(pair(p), op, pa, pb, n)
									sums = append(sums, float64(s))
									if op == sumDotNorm {
										sums = append(sums, float64(norm))
									}
								}
								s, _ := k.sum32(pair(p), sumDot, e[0].pack(b), raw(e[1], a), n)
								sums = append(sums, float64(s))
							}
							for op := sumDot; op <= sumL1; op++ {
								s, norm := k.sum64(op, raw64(a...), raw64(b...), n)
								sums = append(sums, s)
								if op == sumDotNorm {
									sums = append(sums, norm)
								}
							}
							for i, s := range sums {
								if !math.IsNaN(s) && !math.IsInf(s, 0) {
									t.Fatalf("n=%d, %v at %d beside %v: sum %d is %v", n, bad, at, other, i, s)
								}
							}
						}
					}
				}
			}
		})
	}
}

func pack32(v []float64) []byte {
	w := make([]float32, len(v))
	for i, x := range v {
		w[i] = float32(x)
	}
	return raw32(w...)
}

// unaligned returns b at a random offset. Nothing follows it in its allocation, so the address
// sanitizer sees a kernel that reads on.
func unaligned(r *rand.Rand, b []byte) []byte {
	skip := r.IntN(9)
	c := make([]byte, skip+len(b))
	copy(c[skip:], b)
	return c[skip:]
}

func product(x, y *big.Float) *big.Float { return new(big.Float).Mul(x, y) }

func squaredDifference(x, y *big.Float) *big.Float {
	d := new(big.Float).Sub(x, y)
	return d.Mul(d, d)
}

// exactSum returns the sum of all terms, and of their absolute values.
func exactSum(x, y []float64, term func(x, y *big.Float) *big.Float) (sum, abs *big.Float) {
	const prec = 2400 // holds any product of two float64, and their sum, exactly
	sum, abs = new(big.Float).SetPrec(prec), new(big.Float).SetPrec(prec)
	for i := range x {
		p := term(new(big.Float).SetPrec(prec).SetFloat64(x[i]), new(big.Float).SetPrec(prec).SetFloat64(y[i]))
		sum.Add(sum, p)
		abs.Add(abs, p.Abs(p))
	}
	return sum, abs
}

// BenchmarkKernels times a row against a query, both in the processor's cache.
func BenchmarkKernels(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, k := range allKernels() {
		for _, n := range []int{384, 1536} {
			run := func(name string, bytes int, call func()) {
				b.Run(fmt.Sprintf("%s/%s/dim=%d", k.name(), name, n), func(b *testing.B) {
					b.SetBytes(int64(bytes)) // of the row
					for b.Loop() {
						call()
					}
				})
			}
			for p, e := range pairElements {
				_, row := e[0].fill(r, "normal", n)
				_, query := e[1].fill(r, "normal", n)
				run(e[0].name+"-"+e[1].name, len(row), func() { k.sum32(pair(p), sumDotNorm, row, query, n) })
			}
			_, row := elementF64.fill(r, "normal", n)
			run("float64-float64", len(row), func() { k.sum64(sumDotNorm, row, row, n) })
			run("int8-int8", n, func() { k.sum8(sumDotNorm, row, row, n) })
			run("bit-bit", n/8, func() { k.differ(row, row, n) })
		}
	}
}
