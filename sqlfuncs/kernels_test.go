package sqlfuncs

import (
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

// fills are kinds of input, each one element at a time.
var fills = []struct {
	name string
	f32  func(*rand.Rand) float32
	f64  func(*rand.Rand) float64
}{
	{"normal", func(r *rand.Rand) float32 { return float32(r.NormFloat64()) }, (*rand.Rand).NormFloat64},
	{"positive", (*rand.Rand).Float32, (*rand.Rand).Float64},
	{"all magnitudes",
		func(r *rand.Rand) float32 { return float32(math.Ldexp(r.NormFloat64(), r.IntN(100)-50)) },
		func(r *rand.Rand) float64 { return math.Ldexp(r.NormFloat64(), r.IntN(900)-450) }},
	{"denormal",
		func(r *rand.Rand) float32 { return math.Float32frombits(r.Uint32N(1 << 23)) },
		func(r *rand.Rand) float64 { return math.Float64frombits(r.Uint64N(1 << 52)) }},
	{"small products",
		func(r *rand.Rand) float32 { return float32(r.NormFloat64() * 1e-22) },
		func(r *rand.Rand) float64 { return r.NormFloat64() * 1e-161 }},
	{"large", // sums that just do not overflow
		func(r *rand.Rand) float32 { return (r.Float32()*2 - 1) * 1e17 },
		func(r *rand.Rand) float64 { return (r.Float64()*2 - 1) * 1e152 }},
	{"mostly zero",
		func(r *rand.Rand) float32 { return float32(r.IntN(20) / 19) },
		func(r *rand.Rand) float64 { return float64(r.IntN(20) / 19) }},
}

// TestKernels compares every kernel with exact sums, at every offset from an aligned address.
// The bound is the one that kernels.h promises.
func TestKernels(t *testing.T) {
	r := newRand(t)
	for _, k := range allKernels() {
		lanes32, lanes64 := k.lanes()
		for _, fill := range fills {
			t.Run(k.name()+"/"+fill.name, func(t *testing.T) {
				for _, n := range shapes() {
					a32, b32 := make([]float64, n), make([]float64, n)
					a64, b64 := make([]float64, n), make([]float64, n)
					for i := range n {
						a32[i], b32[i] = float64(fill.f32(r)), float64(fill.f32(r))
						a64[i], b64[i] = fill.f64(r), fill.f64(r)
					}
					pa, pb := unaligned(r, pack32(a32)), unaligned(r, pack32(b32))
					qa, qb := unaligned(r, raw64(a64...)), unaligned(r, raw64(b64...))

					dot, aa := k.dotNormF32(pa, pb)
					check := func(what string, got float64, x, y []float64, term func(x, y *big.Float) *big.Float, lanes, bits, least int) {
						t.Helper()
						want, bound := exactSum(x, y, term, lanes, bits, least)
						if math.IsNaN(got) || math.IsInf(got, 0) {
							t.Errorf("%s n=%d: got %v, want %v", what, n, got, want)
							return
						}
						diff := new(big.Float).Sub(want, big.NewFloat(got))
						if diff.Abs(diff).Cmp(bound) > 0 {
							t.Errorf("%s n=%d: got %v, want %v; off by %v, allowed %v", what, n, got, want, diff, bound)
						}
					}
					check("dot_norm_f32", float64(dot), a32, b32, product, lanes32, 24, -149)
					check("dot_norm_f32 norm", float64(aa), a32, a32, product, lanes32, 24, -149)
					check("l2sq_f32", float64(k.l2sqF32(pa, pb)), a32, b32, squaredDifference, lanes32, 24, -149)
					dot64, aa64 := k.dotNormF64(qa, qb)
					check("dot_norm_f64", dot64, a64, b64, product, lanes64, 53, -1074)
					check("dot_norm_f64 norm", aa64, a64, a64, product, lanes64, 53, -1074)
					check("l2sq_f64", k.l2sqF64(qa, qb), a64, b64, squaredDifference, lanes64, 53, -1074)

					// The same rounding, so that a cosine with itself is 1.
					if got := k.dotF32(pa, pb); got != dot {
						t.Errorf("dot_f32 n=%d: got %v, dot_norm_f32 %v", n, got, dot)
					}
					if got := k.dotF32(pa, pa); got != aa {
						t.Errorf("dot_f32(a, a) n=%d: got %v, norm %v", n, got, aa)
					}
					if got := k.dotF64(qa, qb); got != dot64 {
						t.Errorf("dot_f64 n=%d: got %v, dot_norm_f64 %v", n, got, dot64)
					}
					if got := k.dotF64(qa, qa); got != aa64 {
						t.Errorf("dot_f64(a, a) n=%d: got %v, norm %v", n, got, aa64)
					}
				}
			})
		}
	}
}

// What is not finite in the input must not be finite in the result, at any place.
func TestKernels_NotFinite(t *testing.T) {
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
							dot32, aa32 := k.dotNormF32(pack32(a), pack32(b))
							dot64, aa64 := k.dotNormF64(raw64(a...), raw64(b...))
							sums := []float64{float64(dot32), float64(aa32), dot64, aa64,
								float64(k.dotF32(pack32(b), pack32(a))), k.dotF64(raw64(b...), raw64(a...)),
								float64(k.l2sqF32(pack32(a), pack32(b))), k.l2sqF64(raw64(a...), raw64(b...))}
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

// exactSum returns the sum of all terms, and how far a kernel with so many lanes, bits of
// mantissa and 2^least as its smallest number may be from it.
func exactSum(x, y []float64, term func(x, y *big.Float) *big.Float, lanes, bits, least int) (sum, bound *big.Float) {
	const prec = 2400 // holds any product of two float64, and their sum, exactly
	sum, abs := new(big.Float).SetPrec(prec), new(big.Float).SetPrec(prec)
	for i := range x {
		p := term(new(big.Float).SetPrec(prec).SetFloat64(x[i]), new(big.Float).SetPrec(prec).SetFloat64(y[i]))
		sum.Add(sum, p)
		abs.Add(abs, p.Abs(p))
	}
	factor := new(big.Float).SetFloat64(float64(len(x))/float64(lanes) + 16)
	bound = new(big.Float).SetMantExp(factor, -bits)
	bound.Mul(bound, abs)
	tiny := new(big.Float).SetMantExp(big.NewFloat(float64(len(x))), least)
	return sum, bound.Add(bound, tiny)
}

func BenchmarkKernels(b *testing.B) {
	for _, k := range allKernels() {
		for _, n := range []int{384, 1536} {
			x, y := make([]float64, n), make([]float64, n)
			for i := range x {
				x[i], y[i] = float64(i), float64(n-i)
			}
			px, py := pack32(x), pack32(y)
			b.Run(fmt.Sprintf("%s/dot_norm_f32/dim=%d", k.name(), n), func(b *testing.B) {
				b.SetBytes(int64(8 * n))
				for b.Loop() {
					k.dotNormF32(px, py)
				}
			})
		}
	}
}
