package store

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/velosync/velosync/capture/change"
)

// testSites are devices 1 to 255 by their first byte.
type testSites struct{}

func (testSites) siteOf(id change.DeviceID) int64 { return int64(id[0]) }

func (testSites) deviceAt(site int64) (change.DeviceID, error) {
	if site < 1 || site > 255 {
		return change.DeviceID{}, errDots
	}
	return change.DeviceID{byte(site)}, nil
}

func drawDot(t *rapid.T, feed change.Seq) change.Dot {
	id := change.DeviceID{byte(rapid.IntRange(1, 255).Draw(t, "site"))}
	return change.Dot{
		Seq:    change.Seq(rapid.Int64Range(1, int64(feed)).Draw(t, "seq")),
		Device: id,
		LSN:    change.LSN(rapid.Int64Range(0, 1<<62).Draw(t, "lsn")),
		Rank: change.Rank{
			Weight: rapid.SampledFrom([]float64{0, 1, 0.5, -1e9, change.PushedBack}).Draw(t, "weight"),
			Time:   rapid.Int64().Draw(t, "time"),
			Device: id,
		},
	}
}

func TestDots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := change.Row{Feed: change.Seq(rapid.Int64Range(1, 1<<62).Draw(t, "feed"))}
		few := []change.Dot{drawDot(t, r.Feed), drawDot(t, r.Feed), drawDot(t, r.Feed)}
		for range rapid.IntRange(1, change.MaxRegisters).Draw(t, "registers") {
			d := drawDot(t, r.Feed)
			if rapid.Bool().Draw(t, "few") {
				d = rapid.SampledFrom(few).Draw(t, "dot")
			}
			if rapid.IntRange(0, 9).Draw(t, "merged") == 0 {
				d.Device = change.DeviceID{}
			}
			r.Regs = append(r.Regs, d)
		}
		for range rapid.IntRange(0, 3).Draw(t, "tombs") {
			r.Tombs = append(r.Tombs, drawDot(t, r.Feed))
			r.Took = append(r.Took, rapid.SliceOfN(rapid.Map(rapid.Int64(), func(by int64) change.Step {
				return change.Step{Reg: int(uint64(by) % change.MaxRegisters), By: by}
			}), 0, 3).Draw(t, "took"))
		}
		if !slices.ContainsFunc(r.Took, func(steps []change.Step) bool { return len(steps) > 0 }) {
			r.Took = nil
		}
		if rapid.Bool().Draw(t, "back") {
			r.Back = change.Seq(rapid.Int64Range(1, int64(r.Feed)).Draw(t, "back seq"))
		}
		b := appendDots(nil, &r, testSites{})
		got := change.Row{Regs: make([]change.Dot, 3), Tombs: make([]change.Dot, 1), Back: 7} // used before
		if err := readDots(b, r.Feed, len(r.Regs), testSites{}, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("row (-want +got):\n%s", d)
		}
		if err := readDots(b[:len(b)-1], r.Feed, len(r.Regs), testSites{}, &got); err == nil {
			t.Fatal("a cut blob is read")
		}
	})
}

func TestDots_size(t *testing.T) {
	dot := change.Dot{Seq: 1_000_000, Device: change.DeviceID{5}, LSN: 1_000_000, Rank: change.Rank{Time: 1_700_000_000_000, Device: change.DeviceID{5}}}
	r := change.Row{Feed: 1_000_000, Regs: []change.Dot{dot, dot, dot, dot, dot}}
	if n := len(appendDots(nil, &r, testSites{})); n > 12 {
		t.Errorf("a row written by one device takes %d bytes, want at most 12", n)
	}
}

func FuzzDots(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4}, uint8(3))
	f.Add([]byte{7, 1, 1, 0, 2, 1, 2, 0, 1, 0, 2, 1, 2}, uint8(1))
	f.Add([]byte{8, 1, 0, 3, 4, 5}, uint8(1))
	f.Add([]byte{20, 1, 2, 3, 4, 1, 1, 2, 3, 4, 2, 0, 9, 0, 8}, uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, registers uint8) {
		var r change.Row
		n := 1 + int(registers)%change.MaxRegisters
		if err := readDots(b, 100, n, testSites{}, &r); err == nil && len(r.Regs) != n {
			t.Errorf("%d registers, want %d", len(r.Regs), n)
		}
	})
}

func TestValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want []change.Value
		for range rapid.IntRange(0, 9).Draw(t, "columns") {
			want = append(want, rapid.OneOf(
				rapid.Just(change.Value(nil)),
				rapid.Map(rapid.Int64(), func(v int64) change.Value { return v }),
				rapid.Map(rapid.Float64(), func(v float64) change.Value { return v }),
				rapid.Map(rapid.String(), func(v string) change.Value { return v + "\x00\xff" }),
				rapid.Map(rapid.SliceOf(rapid.Byte()), func(v []byte) change.Value { return append([]byte{}, v...) }),
			).Draw(t, "value"))
		}
		b := appendValues(nil, want)
		got, err := readValues(b, len(want))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("values (-want +got):\n%s", d)
		}
		if _, err := readValues(append(b, 'n'), len(want)); err == nil {
			t.Fatal("one value too many is read")
		}
		if got, err := readValues(b, len(want)+1); err != nil || len(got) != len(want) {
			t.Fatalf("before a column came: %d values, %v", len(got), err)
		}
	})
}

func FuzzValues(f *testing.F) {
	f.Add([]byte("ni\x02t\x01ab\x00"), uint8(4))
	f.Fuzz(func(t *testing.T, b []byte, columns uint8) {
		// Fewer are right: the row was deleted before the table had its later columns.
		if got, err := readValues(b, int(columns)); err == nil && len(got) > int(columns) {
			t.Errorf("%d values, want at most %d", len(got), columns)
		}
	})
}
