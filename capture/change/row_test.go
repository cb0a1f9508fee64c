package change

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func dev(n int) DeviceID { return DeviceID{byte(n)} }

// update is an edit of some of three registers.
func update(device int, seen Seq, weight float64, regs ...int) Edit {
	e := Edit{Device: dev(device), LSN: 1, Seen: seen, Rank: Rank{Weight: weight, Device: dev(device)}}
	for _, r := range regs {
		e.Regs = append(e.Regs, RegEdit{Reg: r, Seen: seen, LSN: 1})
	}
	return e
}

// blend is an update whose registers have a policy.
func blend(device int, seen Seq, weight float64, regs ...int) Edit {
	e := update(device, seen, weight, regs...)
	e.Blend = e.Bits()
	return e
}

func remove(device int, seen Seq, weight float64) Edit {
	e := update(device, seen, weight, 0, 1, 2)
	e.Delete = true
	return e
}

// lost is a delete of a row that the master may have lost.
func lost(e Edit) Edit { e.Lost = true; return e }

// apply merges edits in order, and names who holds each register, whether a delete stands,
// and what was lost.
func apply(edits ...Edit) (row *Row, lost []string) {
	for i, e := range edits {
		var out Outcome
		row, out = Merge(row, e, Seq(i+1), 3)
		for _, l := range out.Losses {
			lost = append(lost, fmt.Sprintf("%s %d", l.Kind, l.Loser.Device[0]))
		}
	}
	return row, lost
}

func holders(r *Row) string {
	if r == nil {
		return "none"
	}
	s := ""
	for _, d := range r.Regs {
		s += fmt.Sprint(d.Device[0])
	}
	if r.Deleted() {
		s += " deleted"
	}
	return s
}

func TestMerge(t *testing.T) {
	first := update(1, 0, 0, 0, 1, 2)
	tests := []struct {
		name  string
		edits []Edit
		want  string
		lost  []string
	}{
		{"an insert", []Edit{first}, "111", nil},
		{"an edit that has seen it", []Edit{first, update(2, 1, 0, 0)}, "211", nil},
		{"a lighter edit that has seen it", []Edit{update(1, 0, 9, 0, 1, 2), update(2, 1, 0, 0)}, "211", nil},
		{"concurrent edits of different registers are both kept", []Edit{first, update(2, 1, 0, 0), update(3, 1, 0, 1)}, "231", nil},
		{"of the same register, the heavier", []Edit{first, update(2, 1, 5, 0), update(3, 1, 1, 0)}, "211", []string{"update-lost 3"}},
		{"of the same register, the heavier comes later", []Edit{first, update(2, 1, 1, 0), update(3, 1, 5, 0)}, "311", []string{"update-lost 2"}},
		{"two inserts of one key", []Edit{first, update(2, 0, 1, 0, 1, 2)}, "222", []string{"update-lost 1"}},
		{"a delete that has seen all", []Edit{first, remove(2, 1, 0)}, "111 deleted", nil},
		{"a delete and a heavier edit", []Edit{first, update(2, 1, 5, 0), remove(3, 1, 1)}, "211", []string{"delete-lost 3"}},
		{"a delete and a lighter edit", []Edit{first, update(2, 1, 1, 0), remove(3, 1, 5)}, "211 deleted", []string{"update-lost-to-delete 2"}},
		{"an edit that has seen the delete", []Edit{first, remove(2, 1, 0), update(3, 2, 0, 0, 1, 2)}, "333", nil},
		{"a heavier edit that has not", []Edit{first, remove(2, 1, 1), update(3, 1, 5, 0)}, "311", []string{"delete-lost 2"}},
		{"one that keeps nothing outranks no delete", []Edit{update(1, 0, 9, 0, 1, 2), remove(2, 1, 1), update(3, 0, 5, 0)}, "111 deleted", []string{"update-lost 3"}},
		{"a delete of a row that never came", []Edit{remove(1, 0, 0)}, "none", nil},
		{"of one that was lost", []Edit{lost(remove(1, 0, 0))}, "000 deleted", nil},
		{"a part of it makes no row", []Edit{lost(remove(1, 0, 0)), update(2, 0, 5, 0)}, "000 deleted", []string{"lost-to-forgotten-delete 2"}},
		{"all of it meets the delete", []Edit{lost(remove(1, 0, 0)), update(2, 0, -5, 0, 1, 2), update(3, 0, 5, 1)}, "232", []string{"update-lost-to-delete 2", "update-lost 2", "delete-lost 1"}},
		{"so does another delete", []Edit{lost(remove(1, 0, 0)), remove(2, 0, 0), update(3, 0, 5, 0)}, "000 deleted", []string{"lost-to-forgotten-delete 3"}},
		{"a part of a row that is not known", []Edit{update(1, 0, 0, 1)}, "none", []string{"lost-to-forgotten-delete 1"}},
		{"two deletes agree", []Edit{first, remove(2, 1, 0), remove(3, 1, 0)}, "111 deleted", nil},
		{"concurrent edits of a register with a policy become one of nobody's", []Edit{first, blend(2, 1, 5, 0), blend(3, 1, 1, 0)}, "011", nil},
		{"an edit that has seen it follows", []Edit{first, blend(2, 1, 5, 0), blend(3, 1, 1, 0), blend(2, 3, 0, 0)}, "211", nil},
		{"the author of a part of it has not seen it", []Edit{first, blend(2, 1, 5, 0), blend(3, 1, 1, 0), blend(2, 1, 0, 0)}, "011", nil},
		{"the heaviest of them stands against a delete", []Edit{first, blend(2, 1, 5, 0), blend(3, 1, 1, 0), remove(4, 1, 3)}, "011", []string{"delete-lost 4"}},
		{"and is told when it falls", []Edit{first, blend(2, 1, 5, 0), blend(3, 1, 1, 0), remove(4, 1, 9)}, "011 deleted", []string{"update-lost-to-delete 2"}},
		{"an author knows its own writes", []Edit{first, update(1, 0, -5, 0)}, "111", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			row, lost := apply(tt.edits...)
			if got := holders(row); got != tt.want {
				t.Errorf("registers %q, want %q", got, tt.want)
			}
			if diff := cmp.Diff(tt.lost, lost); diff != "" {
				t.Errorf("lost (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMerge_leavesItsArgument(t *testing.T) {
	row, _ := apply(update(1, 0, 0, 0, 1, 2), remove(2, 1, 0))
	before := fmt.Sprintf("%+v", row)
	Merge(row, update(3, 0, 9, 0, 1), 3, 3)
	if after := fmt.Sprintf("%+v", row); after != before {
		t.Errorf("changed from %s to %s", before, after)
	}
}

// TestMerge_order: concurrent edits of one row, from different devices, give the same row
// and the same losers in every order of arrival.
func TestMerge_order(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := []Edit{update(100, 0, -1, 0, 1, 2)}
		edits := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Edit {
			w := float64(rapid.IntRange(0, 2).Draw(t, "weight"))
			if rapid.IntRange(0, 2).Draw(t, "kind") == 0 {
				return remove(0, 1, w)
			}
			mask := rapid.IntRange(1, 7).Draw(t, "registers")
			var regs []int
			Bits(mask).Each(func(i int) { regs = append(regs, i) })
			return update(0, 1, w, regs...)
		}), 2, 4).Draw(t, "edits")
		for i := range edits {
			edits[i].Device, edits[i].Rank.Device = dev(i+1), dev(i+1)
		}
		var want string
		permute(edits, 0, func(order []Edit) {
			row, _ := apply(append(slices.Clone(base), order...)...)
			got := holders(row)
			tombs := []int{}
			for _, d := range row.Tombs {
				tombs = append(tombs, int(d.Device[0]))
			}
			slices.Sort(tombs)
			got += fmt.Sprint(tombs)
			if want == "" {
				want = got
			}
			if got != want {
				t.Fatalf("order %v gives %s, another gave %s", order, got, want)
			}
		})
	})
}

func permute(e []Edit, k int, f func([]Edit)) {
	if k == len(e) {
		f(e)
		return
	}
	for i := k; i < len(e); i++ {
		e[k], e[i] = e[i], e[k]
		permute(e, k+1, f)
		e[k], e[i] = e[i], e[k]
	}
}

func TestEdit_Fresh(t *testing.T) {
	e := Edit{LSN: 9, Regs: []RegEdit{{Reg: 0, LSN: 4}, {Reg: 1, LSN: 9}}}
	if _, ok := e.Fresh(9); ok {
		t.Error("an edit that was applied whole is fresh")
	}
	got, ok := e.Fresh(4)
	if !ok || len(got.Regs) != 1 || got.Regs[0].Reg != 1 || len(e.Regs) != 2 {
		t.Errorf("Fresh(4) = %+v, %t; want register 1 alone, and the edit as it was", got, ok)
	}
}

func TestSplitKey(t *testing.T) {
	got, err := SplitKey(`["i-7","r2.5","t a\"","b00FF","t"]`, 5)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Value{int64(-7), 2.5, ` a"`, []byte{0, 255}, ""}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// SQLite writes the bytes of a text as they are, and escapes only what JSON must.
	got, err = SplitKey("[\"t\xff\xc0\x80é\",\"ta\\u0000\\n\\\\\xfe\"]", 2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Value{"\xff\xc0\x80é", "a\x00\n\\\xfe"}, got); diff != "" {
		t.Errorf("no UTF-8 (-want +got):\n%s", diff)
	}
	for _, bad := range []Value{nil, int64(1), `["i1"]`, `["x1","i1"]`, `["","i1"]`, `["ione","i1"]`, `["b0","i1"]`, `{}`, `["i1",2]`, "[\"t\xff\",\"t\\u0100\"]"} {
		if v, err := SplitKey(bad, 2); err == nil {
			t.Errorf("SplitKey(%v) = %v, want an error", bad, v)
		}
	}
}

func TestRow_strange(t *testing.T) {
	dot := func(seq Seq, device int) Dot { return Dot{Seq: seq, Device: dev(device)} }
	for _, tt := range []struct {
		name string
		row  Row
		want bool
	}{
		{"a row of others", Row{Regs: []Dot{dot(8, 2), dot(9, 3)}}, true},
		{"and a register that nobody wrote", Row{Regs: []Dot{dot(8, 2), {}}}, true},
		{"one register was seen", Row{Regs: []Dot{dot(8, 2), dot(5, 3)}}, false},
		{"one is its own", Row{Regs: []Dot{dot(8, 2), dot(9, 1)}}, false},
		{"its own delete stands", Row{Regs: []Dot{dot(8, 2)}, Tombs: []Dot{dot(9, 3), dot(10, 1)}}, false},
		{"a delete that it has not seen", Row{Regs: []Dot{dot(8, 2)}, Tombs: []Dot{dot(9, 3)}}, true},
	} {
		if got := tt.row.Strange(update(1, 5, 0, 0)); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}
