package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// The table of counters has a set, too. Its oracle numbers each addition of an element. A
// removal takes the additions that its device knew: those that the master had at seen, and
// its own. An element is in the set as long as one of its additions is left.

// A tagged is a set: the additions of each element, never changed in place.
type tagged map[string][]int

// A tagging is what a mutation did to one element.
type tagging struct {
	element string
	added   int   // the addition's number; 0: it was removed
	taken   []int // additions that were removed
}

// with returns the set after what a mutation did.
func (s tagged) with(list []tagging) tagged {
	if len(list) == 0 {
		return s
	}
	s = maps.Clone(s)
	if s == nil {
		s = make(tagged)
	}
	for _, t := range list {
		left := slices.DeleteFunc(slices.Clone(s[t.element]), func(id int) bool { return slices.Contains(t.taken, id) })
		if t.added != 0 {
			left = append(left, t.added)
		}
		if s[t.element] = left; len(left) == 0 {
			delete(s, t.element)
		}
	}
	return s
}

func (s tagged) String() string { return strings.Join(sortedKeys(s), " ") }

var someTags = strings.Fields("p q r s")

// drawTags draws the elements of a set, in any order, and its text: the white space in it
// makes it another one each time.
func (x *txn) drawTags() (set []string, text string) {
	w := x.d.w
	w.writes++
	for _, e := range someTags {
		if w.chance(.5) {
			set = append(set, e)
		}
	}
	quoted := make([]string, len(set))
	for i, at := range w.rng.Perm(len(set)) {
		quoted[i] = `"` + set[at] + `"`
	}
	space := strings.NewReplacer("0", " ", "1", "\t").Replace(fmt.Sprintf("%b", w.writes))
	return set, "[" + strings.Join(quoted, ",") + space + "]"
}

// tag writes a set over what the device shows of it; made, over a row that was replaced.
func (x *txn) tag(key string, set []string, made bool) (list []tagging) {
	w, held := x.d.w, x.tags[key]
	shown := strings.Fields(x.counts[key].tags)
	if made {
		for _, e := range sortedKeys(held) {
			list = append(list, tagging{element: e, taken: held[e]})
		}
		shown = nil
	}
	for _, e := range shown {
		if !slices.Contains(set, e) {
			list = append(list, tagging{element: e, taken: held[e]})
		}
	}
	for _, e := range set {
		if !slices.Contains(shown, e) {
			w.additions++
			list = append(list, tagging{element: e, added: w.additions})
		}
	}
	x.tags[key] = held.with(list)
	return list
}

// shows does to what a device shows of a set what a mutation did.
func (a *addition) shows(tags string) string {
	set := make(map[string]bool)
	for _, e := range strings.Fields(tags) {
		set[e] = !a.made
	}
	for _, t := range a.tags {
		set[t.element] = t.added != 0
	}
	return strings.Join(slices.DeleteFunc(sortedKeys(set), func(e string) bool { return !set[e] }), " ")
}

// tagsOf reads a set, as tally has it.
func (w *world) tagsOf(v change.Value) string {
	set, err := change.SetOf(v)
	w.must(err, "read a set")
	parts := make([]string, len(set))
	for i, e := range set {
		parts[i] = strings.Trim(string(e), `"`)
	}
	return strings.Join(parts, " ")
}
