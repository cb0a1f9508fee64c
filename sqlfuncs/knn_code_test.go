package sqlfuncs

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func randomFloats(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// TestKNNCode_Products compares the kernels with plain C, bit for bit.
func TestKNNCode_Products(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 6))
	for _, padded := range []int{64, 128, 192, 384, 448, 1536} {
		codes := make([]byte, 7*padded/2)
		query := make([]int8, padded)
		for range 20 {
			for i := range codes {
				codes[i] = byte(r.Uint32())
			}
			for i := range query {
				query[i] = int8(r.IntN(255) - 127)
			}
			if r.IntN(4) == 0 { // the largest sums there are
				for i := range codes {
					codes[i] = 0xff
				}
				for i := range query {
					query[i] = -127
				}
			}
			fast := knnProducts(codes, query, padded)
			knnUsePlain(true)
			plain := knnProducts(codes, query, padded)
			knnUsePlain(false)
			if !slices.Equal(fast, plain) {
				t.Fatalf("padded %d: %v, plain C %v", padded, fast, plain)
			}
		}
	}
}

// TestKNNCode_Rotate checks that rotation keeps inner products and spreads a single element.
func TestKNNCode_Rotate(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 6))
	for _, padded := range []int{64, 128, 192, 384, 768, 1536} {
		a, b := randomFloats(r, padded), randomFloats(r, padded)
		before := floatDot(a, b)
		ra, rb := knnRotate(a, 42), knnRotate(b, 42)
		if after := floatDot(ra, rb); math.Abs(after-before) > 1e-3*float64(padded) {
			t.Errorf("padded %d: inner product %g, was %g", padded, after, before)
		}
		knnUsePlain(true)
		plain := knnRotate(a, 42)
		knnUsePlain(false)
		for i := range plain {
			if math.Abs(float64(plain[i]-ra[i])) > 1e-4 {
				t.Fatalf("padded %d: element %d is %g, in plain C %g", padded, i, ra[i], plain[i])
			}
		}
		one := make([]float32, padded)
		one[r.IntN(padded)] = 1
		for _, x := range knnRotate(one, 42) {
			if math.Abs(float64(x)) > 0.9 {
				t.Errorf("padded %d: an element of %g is left", padded, x)
			}
		}
	}
}

// TestKNNCode_Estimate holds the error of estimates to what KNN.md says.
func TestKNNCode_Estimate(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 6))
	for _, padded := range []int{64, 384, 1536} {
		var sum float64
		const n = 400
		for range n {
			x, c, y := randomFloats(r, padded), randomFloats(r, padded), randomFloats(r, padded)
			got := knnEstimate(x, c, y)
			var want, rr, yy float64
			for i := range x {
				d := float64(x[i]) - float64(c[i])
				want += d * float64(y[i])
				rr += d * d
				yy += float64(y[i]) * float64(y[i])
			}
			e := (float64(got) - want) / math.Sqrt(rr*yy)
			sum += e * e
		}
		if deviation := math.Sqrt(sum/n) * math.Sqrt(float64(padded)); deviation > 0.13 {
			t.Errorf("padded %d: standard deviation %.3f / sqrt(dims), want 0.11", padded, deviation)
		}
	}
	zero := make([]float32, 64)
	if got := knnEstimate(zero, zero, zero); got != 0 {
		t.Errorf("a residual of zero gives %g", got)
	}
}

func floatDot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}
