package change

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSetOf(t *testing.T) {
	for _, tt := range []struct {
		text Value
		want string
	}{
		{nil, `[]`},
		{` [ ] `, `[]`},
		{`["b","a","b"]`, `["a","b"]`},
		{`[10, 9, 1.0, 1, 1e0, -0, 0.1, 1e400, 123456789012345678901234567890]`, `[0,0.1,1,9,10,123456789012345678901234567890,1e400]`},
		{`[{"b":1.0,"a":[]},{"a":[],"b":1},[2,1],[1,2],"x",true,false,null]`, `[null,false,true,"x",[1,2],[2,1],{"a":[],"b":1}]`},
		{`["\u0041","A","<&>","\u00e9"]`, `["<&>","A","é"]`},
	} {
		set, err := SetOf(tt.text)
		if got := SetText(set); err != nil || got != tt.want {
			t.Errorf("%v: %s, %v, want %s", tt.text, got, err, tt.want)
		}
		again, err := SetOf(SetText(set))
		if err != nil || !slices.Equal(again, set) {
			t.Errorf("%v: read again %v, %v", tt.text, again, err)
		}
	}
	for _, v := range []Value{int64(1), []byte("[]"), "", "1", "null", "{}", "[1", "[1]]", "[1] 2", "['a']", "[\"\xff\"]", "[" + strings.Repeat("1,", MaxSet/2) + "1]"} {
		if set, err := SetOf(v); err == nil {
			t.Errorf("%.20v is the set %v", v, set)
		}
	}
}

// The order in which a master gets edits of devices that have seen different parts of a
// set's history does not matter.
func TestSet_Apply_anyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		element := rapid.Custom(func(t *rapid.T) Element { return Element(fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "element"))) })
		base := Set{}
		for seq := range Seq(4) {
			var s SetSteps
			s.Add(element.Draw(t, "base"), 1, seq)
			base.Apply(s.Steps(0), Tag{seq + 1, DeviceID{9}})
		}
		var edits [][]Step
		for range 3 {
			var s SetSteps
			seen := Seq(rapid.IntRange(0, 4).Draw(t, "seen"))
			if rapid.IntRange(0, 5).Draw(t, "made") == 0 {
				s.Make(1, seen)
			}
			for lsn := range LSN(3) {
				if e := element.Draw(t, "of"); rapid.Bool().Draw(t, "adds") {
					s.Add(e, lsn+1, seen)
				} else {
					s.Remove(e, lsn+1, seen)
				}
			}
			edits = append(edits, s.Steps(0))
		}
		run := func(order ...int) string {
			var s Set
			s.Elements = slices.Clone(base.Elements)
			s.Tags = slices.Clone(base.Tags)
			for i, e := range order {
				s.Apply(edits[e], Tag{Seq(5 + i), DeviceID{byte(e)}})
			}
			return SetText(s.Elements)
		}
		want := run(0, 1, 2)
		for _, order := range [][]int{{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			if got := run(order...); got != want {
				t.Fatalf("order %v: %s, first %s", order, got, want)
			}
		}
	})
}

// What is pending and then taken back leaves the set as it was.
func TestSetSteps_Onto(t *testing.T) {
	from, _ := SetOf(`["a","b"]`)
	to, _ := SetOf(`["b","c"]`)
	var s SetSteps
	s.Change(from, to, 1, 0)
	others, _ := SetOf(`["a","b","x"]`)
	on := s.Onto(others, false)
	if got := SetText(on); got != `["b","c","x"]` {
		t.Errorf("on top: %s", got)
	}
	if got := SetText(s.Onto(on, true)); got != `["a","b","x"]` {
		t.Errorf("and back: %s", got)
	}
	removed, added := s.Split()
	if SetText(removed) != `["a"]` || SetText(added) != `["c"]` {
		t.Errorf("removed %v, added %v", removed, added)
	}
	s.Change(to, to, 2, 5)
	if steps := s.Steps(3); len(steps) != 2 || steps[0].LSN != 1 || steps[1].Reg != 3 {
		t.Errorf("steps %v", steps)
	}
	var same SetSteps
	same.Change(to, to, 2, 5)
	if steps := same.Steps(0); len(steps) != 1 || steps[0].By != StepSame {
		t.Errorf("steps %v of a set whose elements are the same", steps)
	}
}

// Many elements in an order that is not theirs take no longer than sorting them.
func TestSet_Apply_many(t *testing.T) {
	var s Set
	var steps []Step
	for i := range 30_000 {
		steps = append(steps, Step{LSN: 1, By: 1, Element: Element(fmt.Sprint(i * 7919 % 30_011))})
	}
	began := time.Now()
	s.Apply(steps, Tag{1, DeviceID{1}})
	if took := time.Since(began); took > 5*time.Second || len(s.Elements) != 30_000 {
		t.Errorf("%d elements in %v", len(s.Elements), took)
	}
	s.Apply([]Step{{LSN: 2, By: StepMade}}, Tag{2, DeviceID{2}})
	if len(s.Elements) != 30_000 {
		t.Errorf("%d elements are left where their additions were not seen", len(s.Elements))
	}
	s.Apply([]Step{{LSN: 2, By: StepMade, Seen: 1}}, Tag{2, DeviceID{2}})
	if len(s.Elements) != 0 {
		t.Errorf("%d elements are left", len(s.Elements))
	}
}
