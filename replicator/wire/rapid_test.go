package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/velosync/velosync/capture/change"
)

// bitEqual compares values by type and bits: 0.0 is not -0.0, and an empty blob is
// neither an empty text nor NULL. A blob is compared at once: cmp would look at byte after byte.
var bitEqual = cmp.Options{
	cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }),
	cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }),
}

var oddReals = []float64{0, math.Copysign(0, -1), math.SmallestNonzeroFloat64, -5e-320, math.MaxFloat64, math.Inf(1), math.Inf(-1), 1, 0.1}

func anyInt() *rapid.Generator[int64] {
	return rapid.OneOf(rapid.Int64(), rapid.Int64Range(-300, 300),
		rapid.SampledFrom([]int64{math.MaxInt64, math.MinInt64, 0, -1, math.MaxInt64 - 1}))
}

func anyReal() *rapid.Generator[float64] {
	return rapid.OneOf(rapid.Float64(), rapid.SampledFrom(oddReals))
}

func anyText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return string(b) }), // not UTF-8, with NULs
		rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`),
		rapid.StringMatching(`([0-9a-f]{2}){0,8}`),
		rapid.SampledFrom([]string{"", "\x00", "0", "ABCDEF", "00000000-0000-0000-0000-00000000000G", "\xff\xfe"}),
	)
}

func anyBlob() *rapid.Generator[[]byte] { return rapid.SliceOfN(rapid.Byte(), 0, 70) }

// anyColumn draws n values: of one class and shape, or mixed.
func anyColumn(t *rapid.T, n int, null bool, label string) []change.Value {
	v := make([]change.Value, n)
	pick := func(kind int) change.Value {
		switch kind {
		case 0:
			return anyInt().Draw(t, label)
		case 1:
			return anyReal().Draw(t, label)
		case 2:
			return anyText().Draw(t, label)
		case 3:
			return anyBlob().Draw(t, label)
		}
		return nil
	}
	top := 3
	if null {
		top = 4
	}
	switch shape := rapid.IntRange(0, 8).Draw(t, label+" shape"); shape {
	case 5: // uuids
		g := rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
		for i := range v {
			v[i] = g.Draw(t, label)
		}
	case 6: // hex
		g := rapid.StringMatching(`([0-9a-f]{2}){0,8}`)
		for i := range v {
			v[i] = g.Draw(t, label)
		}
	case 7: // numbers in blobs of one width, with a tail
		lane := rapid.SampledFrom([]int{2, 4, 8}).Draw(t, label+" lane")
		per := rapid.IntRange(1, 40).Draw(t, label+" per")
		tail := rapid.IntRange(0, lane-1).Draw(t, label+" tail")
		seed := rapid.Uint64().Draw(t, label+" seed")
		for i := range v {
			b := []byte{}
			for range per {
				seed = seed*6364136223846793005 + 1442695040888963407
				x := math.Float64bits(1 + float64(seed>>40))
				switch lane {
				case 2:
					b = binary.LittleEndian.AppendUint16(b, uint16(0x3c00|seed>>58))
				case 4:
					b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(int32(seed>>32))))
				case 8:
					b = binary.LittleEndian.AppendUint64(b, x)
				}
			}
			v[i] = append(b, make([]byte, tail)...)
		}
	case 8: // mixed
		for i := range v {
			v[i] = pick(rapid.IntRange(0, top).Draw(t, label+" class"))
		}
	default:
		for i := range v {
			v[i] = pick(min(shape, top))
		}
	}
	return v
}

func anyStamp(t *rapid.T, regs change.Bits) change.EditStamp {
	seq := rapid.Int64Range(0, math.MaxInt64)
	s := change.EditStamp{
		LSN:       change.LSN(seq.Draw(t, "lsn")),
		Seen:      change.Seq(seq.Draw(t, "seen")),
		Existence: change.Seq(seq.Draw(t, "existence")),
		Time:      anyInt().Draw(t, "time"),
		Weight:    rapid.Float64Range(-1e9, 1e9).Draw(t, "weight"),
	}
	if s.LSN > 0 && rapid.IntRange(0, 3).Draw(t, "is made") == 0 {
		s.Made = change.LSN(rapid.Int64Range(1, int64(s.LSN)).Draw(t, "made"))
		s.Present = rapid.Bool().Draw(t, "present")
	}
	last := int64(0)
	for regs != 0 && rapid.IntRange(0, 5).Draw(t, "step") == 0 {
		last = rapid.Int64Range(last, int64(s.LSN)).Draw(t, "step lsn")
		s.Steps = append(s.Steps, change.Step{Reg: bits.TrailingZeros64(uint64(regs)), LSN: change.LSN(last), By: rapid.Int64().Draw(t, "by"),
			Element: change.Element(rapid.SampledFrom([]string{"", "1", `"x"`}).Draw(t, "element")), Seen: change.Seq(rapid.Int64Range(0, 5).Draw(t, "step seen"))})
	}
	regs.Each(func(r int) {
		if rapid.IntRange(0, 5).Draw(t, "odd") == 0 {
			s.Regs = append(s.Regs, change.RegEdit{Reg: r, Seen: change.Seq(seq.Draw(t, "seen")), LSN: change.LSN(seq.Draw(t, "lsn"))})
		}
	})
	return s
}

func anyBlock(t *rapid.T, stamps bool) change.Block {
	n := rapid.IntRange(1, 30).Draw(t, "rows")
	b := change.Block{Table: rapid.IntRange(0, 255).Draw(t, "table"), Keys: anyColumn(t, n, false, "key")}
	set := ^change.Bits(0)
	if b.Delete = rapid.Bool().Draw(t, "delete"); !b.Delete {
		b.Regs = change.Bits(rapid.Uint64().Draw(t, "regs"))
		set = b.Regs
		for range rapid.IntRange(0, 4).Draw(t, "columns") {
			b.Columns = append(b.Columns, anyColumn(t, n, true, "column"))
		}
	}
	if stamps {
		for range n {
			b.Stamps = append(b.Stamps, anyStamp(t, set))
		}
		if len(b.Columns) > 0 && rapid.Bool().Draw(t, "weights in a column") {
			for i := range b.Stamps {
				b.Columns[0][i] = b.Stamps[i].Weight
			}
		}
	}
	return b
}

func TestPush_property(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := fullPush()
		p.Blocks = nil
		for range rapid.IntRange(0, 3).Draw(t, "blocks") {
			p.Blocks = append(p.Blocks, anyBlock(t, true))
		}
		body, err := EncodePush(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodePush(body, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		p.Wire = int64(len(body))
		if d := cmp.Diff(p, got, bitEqual); d != "" {
			t.Fatalf("-want +got\n%s", d)
		}
	})
}

func TestPull_property(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := fullPull()
		p.Blocks = nil
		for range rapid.IntRange(0, 3).Draw(t, "blocks") {
			p.Blocks = append(p.Blocks, anyBlock(t, false))
		}
		n := rapid.IntRange(0, 3).Draw(t, "lost columns")
		c := &p.Lost[0]
		c.Key = anyColumn(t, 1, true, "key")[0]
		c.Columns = rapid.SliceOfN(anyText(), n, n).Draw(t, "names")
		c.Reason = anyText().Draw(t, "reason")
		c.Lost = append([]change.Value{}, anyColumn(t, n, true, "lost")...)
		c.Kept = append([]change.Value{}, anyColumn(t, n, true, "kept")...)
		if n == 0 {
			c.Columns = nil
		}
		body, err := EncodePull(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodePull(body, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		p.Wire = int64(len(body))
		if d := cmp.Diff(p, got, bitEqual); d != "" {
			t.Fatalf("-want +got\n%s", d)
		}
	})
}

func TestInts_property(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(anyInt(), 1, 50).Draw(t, "ints")
		d := &reader{b: appendInts(nil, want)}
		got, err := d.ints(len(want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
	})
}
