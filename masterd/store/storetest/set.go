package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

const tagged = `CREATE TABLE tagged (id TEXT PRIMARY KEY NOT NULL, title TEXT, tags TEXT, n INTEGER NOT NULL DEFAULT 0)`

func taggedTables(t testing.TB) change.Schema {
	return tables(t, tagged, map[string]change.Options{"tagged": {Merge: map[string]change.Policy{"tags": change.SetPolicy, "n": change.Counter}}})
}

// taggedPair returns a master and two devices that hold a row with the tags a and b.
func taggedPair(t testing.TB, c Config) (*master, *client, *client) {
	m := newMaster(t, c, store.Options{})
	a, b := newClient(t, m.space, 1, taggedTables(t)), newClient(t, m.space, 2, taggedTables(t))
	a.sync(tags(`["a","b"]`))
	b.sync()
	a.sync()
	return m, a, b
}

func tags(set string) edit {
	return put("tagged", "k", values{"title": "t", "tags": set, "n": int64(0)})
}

func retag(set string) edit { return put("tagged", "k", values{"tags": set}) }

func testSets(t *testing.T, c Config) {
	is := func(d *client, set string) {
		t.Helper()
		d.has("tagged", map[change.Value]values{"k": {"title": "t", "tags": set, "n": int64(0)}})
	}
	t.Run("concurrent additions and removals hold, and no one has lost", func(t *testing.T) {
		m, a, b := taggedPair(t, c)
		a.push(retag(`["a","b","x"]`))
		b.sync(retag(`["b","y"]`))
		agree(t, a, b)
		is(a, `["b","x","y"]`)
		a.heard()
		b.heard()
		if st := m.stats(); st.Conflicts != 0 {
			t.Errorf("%d conflicts", st.Conflicts)
		}
	})
	t.Run("what nobody else wrote to stays as it was written", func(t *testing.T) {
		_, a, b := taggedPair(t, c)
		a.sync(retag(` ["z", 1.0, "b","z"] `))
		agree(t, a, b)
		is(b, ` ["z", 1.0, "b","z"] `)
		a.push(retag(`["z", 1, "b"]`)) // changes no element
		b.push(retag(`[1,"z","b",{"y":1,"x":2}]`))
		agree(t, a, b)
		is(a, `[1,"z","b",{"y":1,"x":2}]`)
		b.push(retag(`[1,"z","b"]`))
		a.push(retag(`["q",1,"z","b",{"y":1,"x":2}]`))
		agree(t, a, b)
		is(a, `[1,"b","q","z"]`)
	})
	t.Run("an element that was added anew outlives a removal that has not seen that", func(t *testing.T) {
		for _, first := range []int{0, 1} {
			m, a, b := taggedPair(t, c)
			d := newClient(t, m.space, 3, taggedTables(t))
			d.sync()
			b.sync(retag(`["a"]`))
			b.sync(retag(`["a","b"]`)) // another b than the first
			edits := []func(){
				func() { a.push(retag(`["a"]`)) },                             // removes the b that it knows
				func() { d.push(retag(`["a"]`)); d.push(retag(`["a","b"]`)) }, // and adds one
			}
			edits[first]()
			edits[1-first]()
			agree(t, a, b, d)
			is(a, `["a","b"]`)
			a.sync(retag(`["a"]`)) // which has seen all of them
			agree(t, a, b, d)
			is(d, `["a"]`)
		}
	})
	t.Run("a push that is repeated does not bring back what was removed since", func(t *testing.T) {
		_, a, b := taggedPair(t, c)
		parts := a.request(retag(`["a","b","x"]`))
		if _, err := a.send(parts); err != nil {
			t.Fatal(err)
		}
		b.sync()
		b.sync(retag(`["a","b"]`))
		next := a.request(retag(`["a","b","x","y"]`))
		s := &next[0].Blocks[0].Stamps[0]
		s.Steps = append([]change.Step{{Reg: 1, LSN: s.LSN - 1, By: 1, Element: `"x"`, Seen: s.Seen}}, s.Steps...)
		for range 2 {
			pull, err := a.send(next)
			if err != nil {
				t.Fatal(err)
			}
			a.finish(pull)
		}
		agree(t, a, b)
		is(a, `["a","b","y"]`)
	})
	t.Run("a device removes what it added, though it has not pulled since", func(t *testing.T) {
		_, a, b := taggedPair(t, c)
		a.push(retag(`["a","b","x"]`))
		a.push(retag(`["a","b"]`))
		agree(t, a, b)
		is(b, `["a","b"]`)
	})
	t.Run("two devices that make a row have the elements of both", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a, b := newClient(t, m.space, 1, taggedTables(t)), newClient(t, m.space, 2, taggedTables(t))
		a.push(tags(`["x"]`))
		b.push(tags(`["y"]`))
		agree(t, a, b)
		is(a, `["x","y"]`)
	})
	t.Run("a row made anew begins with its own elements", func(t *testing.T) {
		_, a, b := taggedPair(t, c)
		a.sync(del("tagged", "k"))
		b.sync()
		b.sync(tags(`["b","y"]`))
		agree(t, a, b)
		is(a, `["b","y"]`)
	})
	t.Run("what the delete had not seen stays in a row made after it", func(t *testing.T) {
		_, a, b := taggedPair(t, c)
		b.push(retag(`["a","b","x"]`))
		a.push(del("tagged", "k").ranked(1, 0))
		a.push(tags(`["y"]`))
		agree(t, a, b)
		is(a, `["x","y"]`)
	})
	t.Run("a whole set takes away what its author knew, and no more", func(t *testing.T) {
		_, a, b := taggedPair(t, c)
		b.push(retag(`["a","b","x"]`))
		a.push(retag(`["a","c"]`).byValue())
		agree(t, a, b)
		is(b, `["a","c","x"]`)
		a.heard()
		b.heard()
	})
	t.Run("NULL is a set without elements", func(t *testing.T) {
		_, a, b := taggedPair(t, c)
		a.push(put("tagged", "k", values{"tags": nil}))
		b.push(retag(`["a","b","x"]`))
		agree(t, a, b)
		is(b, `["x"]`)
	})
	t.Run("what is no set is rejected, with its reason", func(t *testing.T) {
		_, a, b := taggedPair(t, c)
		for _, v := range []change.Value{"a,b", `{"a":1}`, "null", "[1] 2", int64(7), []byte("[]"), "[\"\xff\"]"} {
			a.sync(put("tagged", "k", values{"tags": v}).byValue())
			contains(t, a.heard(change.Rejected)[0].Reason, "column tags", "a set is")
		}
		agree(t, a, b)
		is(a, `["a","b"]`)
		for _, bad := range []change.Step{{Reg: 0, LSN: 1, By: 1, Element: "1"}, {Reg: 1, LSN: 1, By: 2, Element: "1"}, {Reg: 1, LSN: 1, By: 1}, {Reg: 1, LSN: 1, By: 0, Element: "1"},
			{Reg: 1, LSN: 1, By: 1, Element: "1,2"}, {Reg: 1, LSN: 1, By: 1, Element: "x"}, {Reg: 1, LSN: 1, By: 1, Element: "1", Seen: 1 << 40}, {Reg: 2, LSN: 1, By: 1, Element: "1"}} {
			parts := a.request(tags("[]"))
			parts[0].Blocks[0].Stamps[0].Steps = []change.Step{bad}
			_, err := a.send(parts)
			errorAs[*store.RequestError](t, err)
		}
		parts := a.request(tags("[]"))
		parts[0].Blocks[0].Stamps[0].Steps = []change.Step{{Reg: 1, LSN: 1}, {Reg: 1, LSN: 1}}
		_, err := a.send(parts)
		contains(t, errorAs[*store.RequestError](t, err).Error(), "two steps say")
	})
	t.Run("a step can't claim to have seen what its device was not served", func(t *testing.T) {
		_, a, b := taggedPair(t, c)
		b.push(retag(`["a","b","x"]`))
		parts := a.request(retag(`["a","b"]`))
		s := &parts[0].Blocks[0].Stamps[0]
		s.Steps = []change.Step{{Reg: 1, LSN: s.LSN, By: -1, Element: `"x"`, Seen: s.Seen + 1}}
		if _, err := a.send(parts); err != nil {
			t.Fatal(err)
		}
		agree(t, a, b)
		is(b, `["a","b","x"]`)
	})
	t.Run("a restart keeps who added what", func(t *testing.T) {
		m, a, b := taggedPair(t, c)
		b.push(retag(`["a","b","x"]`))
		m.reopen(a, b)
		a.push(del("tagged", "k").ranked(1, 0))
		m.reopen(a, b)
		a.push(tags(`["y"]`))
		agree(t, a, b)
		is(a, `["x","y"]`)
	})
	t.Run("every order of arrival", func(t *testing.T) { testSetOrders(t, c) })
}

// testSetOrders pushes concurrent edits of one set in all orders: the elements that a model
// says, each time. The model: an element is in the set if somebody who added it is not
// known to all who removed it.
func testSetOrders(t *testing.T, c Config) {
	rnd := seeded(t)
	m, row := newMaster(t, c, store.Options{}), 0
	for range c.cases(6, 25) {
		edits := drawSetEdits(rnd)
		for _, order := range permutations(len(edits)) {
			row++
			runSetEdits(t, m, fmt.Sprintf("k%d", row), edits, order)
		}
	}
}

// A setEdit is one device's edit. The base row was written three times: 3 and 4 go, 3 comes
// back.
type setEdit struct {
	seen int   // of the base's writes
	has  []int // elements then
}

var setBase = [][]int{{0, 1, 2, 3, 4}, {0, 1, 2, 5, 6, 7}, {0, 1, 2, 3, 5, 6, 7}}

func drawSetEdits(rnd *rand.Rand) (edits []setEdit) {
	for range 2 + rnd.IntN(3) {
		e := setEdit{seen: rnd.IntN(3)}
		for x := range 10 {
			in := slices.Contains(setBase[e.seen], x)
			if rnd.IntN(3) == 0 {
				in = !in
			}
			if in {
				e.has = append(e.has, x)
			}
		}
		edits = append(edits, e)
	}
	return edits
}

func jsonOf(set []int) string {
	elements := make([]change.Element, len(set))
	for i, x := range set {
		elements[i] = change.Element(fmt.Sprint(x))
	}
	return change.SetText(elements)
}

func runSetEdits(t *testing.T, m *master, key string, edits []setEdit, order []int) {
	t.Helper()
	schema := taggedTables(t)
	author := newClient(t, m.space, 100, schema)
	copy(author.id[1:], key)
	row := func(set []int) values { return values{"title": "t", "tags": jsonOf(set), "n": int64(0)} }
	author.sync(put("tagged", key, row(setBase[0])))
	seen := []change.Seq{author.seen}
	for _, set := range setBase[1:] {
		author.sync(put("tagged", key, values{"tags": jsonOf(set)}))
		seen = append(seen, author.seen)
	}
	// written[x] are the writes that added an element, by the base's state that knows them;
	// of edits by 3 and their place.
	written := map[int][]int{}
	for i, set := range setBase {
		for _, x := range set {
			if i == 0 || !slices.Contains(setBase[i-1], x) {
				written[x] = append(written[x], i)
			}
		}
	}
	removed := map[[2]int]bool{{3, 0}: true, {4, 0}: true}
	for i, e := range edits {
		for x := range 10 {
			was, is := slices.Contains(setBase[e.seen], x), slices.Contains(e.has, x)
			switch {
			case is && !was:
				written[x] = append(written[x], 3+i)
			case was && !is:
				for _, by := range written[x] {
					if by <= e.seen {
						removed[[2]int{x, by}] = true
					}
				}
			}
		}
	}
	for _, i := range order {
		e := edits[i]
		d := newClient(t, m.space, byte(i+1), schema)
		copy(d.id[1:], key)
		d.seen, d.epochs = seen[e.seen], author.epochs
		d.rows["tagged"] = map[change.Value]values{key: row(setBase[e.seen])}
		if _, err := d.send(d.request(put("tagged", key, values{"tags": jsonOf(e.has)}))); err != nil {
			t.Fatal(err)
		}
	}
	author.sync()
	var want []int
	for x := range 10 {
		if slices.ContainsFunc(written[x], func(by int) bool { return !removed[[2]int{x, by}] }) {
			want = append(want, x)
		}
	}
	got, err := change.SetOf(author.rows["tagged"][key]["tags"])
	if err != nil || change.SetText(got) != jsonOf(want) {
		t.Fatalf("order %v of %+v: %v, %v, want %s", order, edits, got, err, jsonOf(want))
	}
}
