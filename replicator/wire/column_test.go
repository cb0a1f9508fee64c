package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/capture/change"
)

func TestColumn(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	vectors := func(n, dim int) (v []change.Value) {
		for range n {
			v = append(v, vector(r, dim))
		}
		return v
	}
	odd := vectors(40, 32)
	for i := range odd {
		odd[i] = append(odd[i].([]byte), 1) // libSQL's type byte
	}
	doubles := make([]change.Value, 50)
	for i := range doubles {
		var b []byte
		for range 16 {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(r.NormFloat64()))
		}
		doubles[i] = b
	}
	halves := make([]change.Value, 300)
	for i := range halves {
		var b []byte
		for range 16 {
			b = binary.LittleEndian.AppendUint16(b, uint16(0x3000|r.IntN(0x800)|r.IntN(2)<<15))
		}
		halves[i] = b
	}
	noise := make([]change.Value, 50)
	for i := range noise {
		b := make([]byte, 32)
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		noise[i] = b
	}
	random := make([]change.Value, 50)
	for i := range random {
		random[i] = int64(r.Uint64())
	}
	steps := make([]change.Value, 300)
	for i := range steps {
		steps[i] = int64(1_000_000 + i)
	}
	for _, tt := range []struct {
		name   string
		values []change.Value
		most   int // bytes that it may take before zstd; 0: any
		starts string
	}{
		{"nulls", []change.Value{nil, nil, nil}, 1, "\x00"},
		{"one of each", []change.Value{nil, int64(1), 1.0, "1", []byte("1")}, 0, "\x05\x00\x01\x02\x03\x04"},
		{"empty text, empty blob, NULL", []change.Value{"", []byte{}, nil, "", []byte{}}, 0, "\x05"},
		{"extreme integers", []change.Value{int64(math.MaxInt64), int64(math.MinInt64), int64(math.MaxInt64), int64(0)}, 0, "\x01"},
		{"random integers", random, 50*8 + 12, "\x01\x08"},
		{"equal integers", []change.Value{int64(5), int64(5), int64(5)}, 3, "\x01\x00"},
		{"steps", steps, 310, "\x01\x09"},
		{"odd reals", []change.Value{0.0, math.Copysign(0, -1), 5e-324, math.Inf(1), math.Inf(-1), math.MaxFloat64}, 0, "\x02\x01"},
		{"equal reals", []change.Value{0.1, 0.1, 0.1}, 10, "\x02\x00"},
		{"zeros of both signs", []change.Value{0.0, math.Copysign(0, -1)}, 0, "\x02\x01"},
		{"uuids", []change.Value{"00112233-4455-6677-8899-aabbccddeeff", "ffffffff-ffff-ffff-ffff-ffffffffffff"}, 34, "\x03\x01"},
		{"uuids, one in capitals", []change.Value{"00112233-4455-6677-8899-aabbccddeeff", "FFFFFFFF-ffff-ffff-ffff-ffffffffffff"}, 0, "\x03\x00"},
		{"uuids, one cut", []change.Value{"00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-aabbccddeef"}, 0, "\x03\x00"},
		{"uuids, one with a digit for a dash", []change.Value{"00112233-4455-6677-8899aaabbccddeeff"}, 0, "\x03\x00"},
		{"hex", []change.Value{"00ff", "", "abcdef"}, 12, "\x03\x02"},
		{"hex, one odd", []change.Value{"00ff", "abc"}, 0, "\x03\x00"},
		{"hex, one in capitals", []change.Value{"00ff", "AB"}, 0, "\x03\x00"},
		{"empty texts", []change.Value{"", ""}, 4, "\x03\x00"},
		{"NUL and broken UTF-8", []change.Value{"a\x00b", "\xff\xfe", "é", "\x00"}, 0, "\x03\x00"},
		{"vectors", vectors(40, 32), 40*128 - 40*16 + 64, "\x04\x03\x04"},
		{"vectors with a type byte", odd, 0, "\x04\x03\x04"},
		{"float64 vectors", doubles, 0, "\x04\x03\x08"},
		{"float16 vectors", halves, 0, "\x04\x03\x02"},
		{"noise of one width", noise, 0, "\x04\x00"},
		{"vectors, a NULL and a text", append(vectors(40, 32), nil, "none"), 0, "\x05"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var w writer
			b, err := w.appendColumn(nil, tt.values)
			if err != nil {
				t.Fatal(err)
			}
			if tt.most > 0 && len(b) > tt.most {
				t.Errorf("takes %d bytes, want at most %d", len(b), tt.most)
			}
			if !strings.HasPrefix(string(b), tt.starts) {
				t.Errorf("begins % x, want % x", b[:min(len(b), 6)], tt.starts)
			}
			d := &reader{b: append([]byte(nil), b...), limits: Limits{}.Defaults()}
			payload := d.b
			got, err := d.column(len(tt.values), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for i := range payload {
				payload[i] ^= 0xff // what was decoded must not lie in the payload
			}
			if diff := cmp.Diff(tt.values, got, bitEqual); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if err := d.end(); err != nil {
				t.Error(err)
			}
			for cut := range len(b) {
				d := &reader{b: b[:cut:cut], limits: Limits{}.Defaults()}
				if _, err := d.column(len(tt.values), 1<<20); err == nil {
					t.Fatalf("cut after %d of %d bytes: no error", cut, len(b))
				}
			}
		})
	}
}

// A blob handed out must not grow into its neighbour.
func TestColumn_blobsDoNotOverlap(t *testing.T) {
	for _, values := range [][]change.Value{
		{[]byte("ab"), []byte("cd!")},
		vectorPush().Blocks[0].Columns[0],
	} {
		var w writer
		b, err := w.appendColumn(nil, values)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&reader{b: b, limits: Limits{}.Defaults()}).column(len(values), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		_ = append(got[0].([]byte), 'X')
		if diff := cmp.Diff(values, got); diff != "" {
			t.Errorf("append to the first blob changed the second: -want +got\n%s", diff)
		}
	}
}

func TestColumn_hostile(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    string
		n    int
		want string
	}{
		{"unknown class", "\x06", 1, "unknown class 6"},
		{"unknown class of a value", "\x05\x01\x07", 2, "unknown class 7"},
		{"unknown mode of integers", "\x01\x0a\x00", 1, "unknown mode 10"},
		{"unknown mode of reals", "\x02\x02", 1, "unknown mode 2"},
		{"unknown mode of texts", "\x03\x03", 1, "unknown mode 3"},
		{"unknown mode of blobs", "\x04\x01", 1, "unknown mode 1"},
		{"NaN", "\x02\x00\x01\x00\x00\x00\x00\x00\xf8\x7f", 1, "NaN"},
		{"negative length", "\x03\x00\x00\x01", 1, "length of -1"},
		{"length past the end", "\x04\x00\x00\x06ab", 1, "length of 3"},
		{"lengths whose sum wraps", "\x04\x00\x08\x00" + strings.Repeat("\xff\xff", 7) + "\x7f\x7f", 2, "runs past the end"},
		{"lanes of 3 bytes", "\x04\x03\x03\x04", 1, "lanes of 3 bytes"},
		{"planes that are not there", "\x04\x03\x04\xff\xff\x3f", 9000, "cut short"},
		{"plane in unknown mode", "\x04\x03\x02\x02\x02\x00", 1, "plane in unknown mode 2"},
		{"plane without symbols", "\x04\x03\x02\x02\x01\x00", 1, "0 symbols"},
		{"nibble without a symbol", "\x04\x03\x02\x02\x01\x01\x41\x07\x00\x00", 1, "symbol 7 of 1"},
		{"varint without end", "\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1, "cut short"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &reader{b: []byte(tt.b), limits: Limits{}.Defaults()}
			_, err := d.column(tt.n, 1<<20)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestPlane_nibbles(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, n := range []int{256, 257, 5000, 5001} {
		for _, rare := range []int{0, 1, 3} {
			t.Run(fmt.Sprintf("n=%d rare=%d", n, rare), func(t *testing.T) {
				p := make([]byte, n)
				for i := range p {
					p[i] = byte(100 + r.IntN(8))
				}
				for range rare {
					p[r.IntN(n)] = byte(r.IntN(90))
				}
				p[n-1] = byte(200 + rare) // the last one is rare too
				b := appendPlane(nil, p)
				if b[0] != planeNibbles {
					t.Fatalf("written in mode %d, want nibbles", b[0])
				}
				d := &reader{b: b}
				got, scratch, err := d.plane(n)
				if err != nil {
					t.Fatal(err)
				}
				if string(got) != string(p) {
					t.Error("comes back different")
				}
				putBytes(scratch)
				if err := d.end(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
