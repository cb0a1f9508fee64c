package change

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxSet bounds the text of a set, in bytes.
const MaxSet = 64 << 10

// An Element is an element of a set: JSON in a form that equal values have in common.
// Members of objects are ordered by name, and 1, 1.0 and 1e0 are one number.
type Element string

// SetOf reads a set from a column: a text with a JSON array, or NULL, which has no
// elements. They come in canonical order, each once.
func SetOf(v Value) ([]Element, error) {
	if v == nil {
		return nil, nil
	}
	s, ok := v.(string)
	switch {
	case !ok:
		return nil, fmt.Errorf("a set is %T, want a JSON array", v)
	case len(s) > MaxSet:
		return nil, fmt.Errorf("a set has %d bytes, want at most %d", len(s), MaxSet)
	case !utf8.ValidString(s):
		return nil, errors.New("a set is no UTF-8, want a JSON array")
	}
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	var list []any
	err := dec.Decode(&list)
	if err == nil && list == nil {
		err = errors.New("it is null")
	}
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("text behind the array")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("a set is %.60q, want a JSON array: %w", s, err)
	}
	set := make([]Element, len(list))
	for i, e := range list {
		set[i] = Element(appendJSON(nil, e))
	}
	slices.SortFunc(set, Element.Compare)
	return slices.Compact(set), nil
}

// ParseElement reads one element.
func ParseElement(s string) (Element, error) {
	set, err := SetOf("[" + s + "]")
	if err == nil && len(set) != 1 {
		err = fmt.Errorf("%.60q is %d elements of a set, want one", s, len(set))
	}
	if err != nil {
		return "", err
	}
	return set[0], nil
}

// SetText writes a set as a JSON array.
func SetText(set []Element) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, e := range set {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(string(e))
	}
	b.WriteByte(']')
	return b.String()
}

// Compare orders elements: null, false, true, numbers, strings, arrays, objects.
func (e Element) Compare(o Element) int {
	if c := cmp.Compare(e.class(), o.class()); c != 0 {
		return c
	}
	if e.class() == 3 {
		x, _ := strconv.ParseFloat(string(e), 64)
		y, _ := strconv.ParseFloat(string(o), 64)
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
	}
	return strings.Compare(string(e), string(o))
}

func (e Element) class() int {
	switch e[0] {
	case 'n':
		return 0
	case 'f':
		return 1
	case 't':
		return 2
	case '"':
		return 4
	case '[':
		return 5
	case '{':
		return 6
	}
	return 3
}

// appendJSON writes a decoded value in its canonical form.
func appendJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case json.Number:
		return append(dst, canonicalNumber(string(v))...)
	case string:
		return appendString(dst, v)
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, e)
		}
		return append(dst, ']')
	}
	members := v.(map[string]any)
	names := make([]string, 0, len(members))
	for n := range members {
		names = append(names, n)
	}
	slices.Sort(names)
	dst = append(dst, '{')
	for i, n := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, n), ':')
		dst = appendJSON(dst, members[n])
	}
	return append(dst, '}')
}

func appendString(dst []byte, s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(fmt.Sprintf("change: a text does not marshal: %v", err))
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

// canonicalNumber keeps integers of any length; other numbers are what a float64 has of them.
func canonicalNumber(s string) string {
	if !strings.ContainsAny(s, ".eE") {
		if s == "-0" {
			return "0"
		}
		return s
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return s // too large for a float64: it is itself
	}
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return strconv.FormatInt(int64(f), 10)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// A setOp is what is pending of one element, or of all.
type setOp struct {
	by   int64
	lsn  LSN
	seen Seq
}

// SetSteps gathers what mutations did to one set of a row: of each element the newest
// counts. The zero SetSteps is empty.
type SetSteps struct {
	// fresh is the mutation that made the row, before all others.
	fresh   *setOp
	element map[Element]setOp
	same    *setOp // the newest that changed no element
}

// Make notes that the row was made, or is gone: whatever its author knew of the set is not
// in it any more.
func (s *SetSteps) Make(lsn LSN, seen Seq) {
	s.fresh, s.element = &setOp{lsn: lsn, seen: seen}, nil
}

// Add notes an element that a mutation added.
func (s *SetSteps) Add(e Element, lsn LSN, seen Seq) { s.put(e, setOp{1, lsn, seen}) }

// Remove notes an element that a mutation removed.
func (s *SetSteps) Remove(e Element, lsn LSN, seen Seq) { s.put(e, setOp{-1, lsn, seen}) }

func (s *SetSteps) put(e Element, op setOp) {
	if s.element == nil {
		s.element = make(map[Element]setOp)
	}
	s.element[e] = op
}

// Change notes what a mutation made of a set, from one to another.
func (s *SetSteps) Change(from, to []Element, lsn LSN, seen Seq) {
	s.same = &setOp{lsn: lsn, seen: seen}
	for _, e := range from {
		if _, still := slices.BinarySearchFunc(to, e, Element.Compare); !still {
			s.Remove(e, lsn, seen)
		}
	}
	for _, e := range to {
		if _, was := slices.BinarySearchFunc(from, e, Element.Compare); !was {
			s.Add(e, lsn, seen)
		}
	}
}

// Limit lowers what all mutations have seen.
func (s *SetSteps) Limit(seen Seq) {
	for _, op := range []*setOp{s.fresh, s.same} {
		if op != nil {
			op.seen = min(op.seen, seen)
		}
	}
	for e, op := range s.element {
		op.seen = min(op.seen, seen)
		s.element[e] = op
	}
}

// Made reports whether a mutation made the row.
func (s *SetSteps) Made() bool { return s.fresh != nil }

// Steps returns them as they travel, ordered by LSN.
func (s *SetSteps) Steps(reg int) (steps []Step) {
	switch {
	case s.fresh != nil:
		steps = append(steps, Step{Reg: reg, LSN: s.fresh.lsn, By: StepMade, Seen: s.fresh.seen})
	case s.same != nil && len(s.element) == 0:
		steps = append(steps, Step{Reg: reg, LSN: s.same.lsn, By: StepSame, Seen: s.same.seen})
	}
	for e, op := range s.element {
		steps = append(steps, Step{Reg: reg, LSN: op.lsn, By: op.by, Element: e, Seen: op.seen})
	}
	slices.SortFunc(steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.LSN, b.LSN), strings.Compare(string(a.Element), string(b.Element)))
	})
	return steps
}

// Split returns the elements that were removed and those that were added, in canonical order.
func (s *SetSteps) Split() (removed, added []Element) {
	for e, op := range s.element {
		if op.by < 0 {
			removed = append(removed, e)
		} else {
			added = append(added, e)
		}
	}
	slices.SortFunc(removed, Element.Compare)
	slices.SortFunc(added, Element.Compare)
	return removed, added
}

// Onto returns a set with what is pending done to it; back, undone. Of a row that was made
// here nothing else is shown until the master has merged it.
func (s *SetSteps) Onto(set []Element, back bool) []Element {
	removed, added := s.Split()
	if s.Made() && !back {
		return added
	}
	if back {
		removed, added = added, removed
	}
	kept := make([]Element, 0, len(set)+len(added))
	for _, e := range set {
		if _, gone := slices.BinarySearchFunc(removed, e, Element.Compare); !gone {
			kept = append(kept, e)
		}
	}
	kept = append(kept, added...)
	slices.SortFunc(kept, Element.Compare)
	return slices.Compact(kept)
}

// A Tag is a write that added an element: the element is in the set as long as a write that
// added it was not seen by one that removed it (an observed-remove set; Shapiro et al. 2011).
type Tag struct {
	Seq    Seq
	Device DeviceID
}

func (t Tag) knownTo(seen Seq, device DeviceID) bool { return t.Seq <= seen || t.Device == device }

// A Set is a set as the master keeps it: elements in canonical order, with the writes that
// added each.
type Set struct {
	Elements []Element
	Tags     [][]Tag // of each element, one at least
}

// Apply does an edit's steps to the set, as the write tag. Sets and steps come from
// strangers: it takes no longer than sorting them.
func (s *Set) Apply(steps []Step, tag Tag) {
	tags := s.byElement()
	for _, x := range steps {
		known := func(t Tag) bool { return t.knownTo(x.Seen, tag.Device) }
		switch x.By {
		case StepMade:
			for e, list := range tags {
				tags[e] = slices.DeleteFunc(list, known)
			}
		case 1:
			tags[x.Element] = append(slices.DeleteFunc(tags[x.Element], known), tag)
		case -1:
			tags[x.Element] = slices.DeleteFunc(tags[x.Element], known)
		}
	}
	s.keep(tags)
}

// Take lays a whole set over this one, by an author who knew all up to seen and does not
// say what it did: what it knew and does not have is removed. replaces is a write that it
// takes the place of, though it has not seen it; the zero Tag: none.
func (s *Set) Take(set []Element, seen Seq, tag, replaces Tag) {
	tags := s.byElement()
	for e, list := range tags {
		_, has := slices.BinarySearchFunc(set, e, Element.Compare)
		tags[e] = slices.DeleteFunc(list, func(t Tag) bool { return replaces != (Tag{}) && t == replaces || !has && t.knownTo(seen, tag.Device) })
	}
	for _, e := range set {
		if len(tags[e]) == 0 {
			tags[e] = []Tag{tag}
		}
	}
	s.keep(tags)
}

// byElement returns the tags, to be changed.
func (s *Set) byElement() map[Element][]Tag {
	tags := make(map[Element][]Tag, len(s.Elements))
	for i, e := range s.Elements {
		tags[e] = slices.Clone(s.Tags[i])
	}
	return tags
}

// keep makes the set of the elements that have tags.
func (s *Set) keep(tags map[Element][]Tag) {
	s.Elements, s.Tags = make([]Element, 0, len(tags)), make([][]Tag, 0, len(tags))
	for e, list := range tags {
		if len(list) > 0 {
			s.Elements = append(s.Elements, e)
		}
	}
	slices.SortFunc(s.Elements, Element.Compare)
	for _, e := range s.Elements {
		s.Tags = append(s.Tags, tags[e])
	}
}
