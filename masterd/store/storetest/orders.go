package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

// testOrders pushes small sets of concurrent edits of one row in all orders of arrival:
// the same row, existence and losers each time. See order_check of the model.
func testOrders(t *testing.T, c Config) {
	rnd := seeded(t)
	m := newMaster(t, c, store.Options{})
	row := 0
	for range c.cases(6, 30) {
		s := drawSet(rnd)
		var want string
		for _, order := range permutations(len(s.edits)) {
			row++
			got := s.run(t, m, fmt.Sprintf("k%d", row), order)
			if want == "" {
				want = got
			}
			if got != want {
				t.Fatalf("order %v of %+v gives\n%s\nother orders\n%s", order, s, got, want)
			}
		}
	}
}

// An orderedEdit is one device's edit of the row.
type orderedEdit struct {
	device byte
	remove bool
	set    []string // columns
	seen   int      // how many of the base edits
	weight float64
	time   int64
}

type editSet struct {
	base, edits []orderedEdit
}

func drawSet(rnd *rand.Rand) editSet {
	everything := []string{"title", "body", "model"}
	some := func() []string {
		return [][]string{{"title"}, {"body", "model"}, everything}[rnd.IntN(3)]
	}
	rank := func(e orderedEdit) orderedEdit {
		e.weight, e.time = float64(rnd.IntN(2)), int64(rnd.IntN(3))
		return e
	}
	var s editSet
	kind := rnd.IntN(4)
	if kind > 0 { // the row is there, with a rank below all others'
		s.base = append(s.base, orderedEdit{device: 100, set: everything, weight: -1})
	}
	if kind == 2 {
		s.base = append(s.base, orderedEdit{device: 101, set: some(), seen: 1, weight: -1})
	}
	if kind == 3 {
		s.base = append(s.base, rank(orderedEdit{device: 101, remove: true, seen: 1}))
	}
	for i := range 2 + rnd.IntN(3) {
		e := rank(orderedEdit{device: byte(i + 1), seen: len(s.base)})
		if len(s.base) > 1 {
			e.seen -= rnd.IntN(2)
		}
		switch {
		case kind == 0 || kind == 3 && e.seen == 2:
			e.set = everything // a row made anew
		case rnd.IntN(3) == 0:
			e.remove = true
		default:
			e.set = some()
		}
		s.edits = append(s.edits, e)
	}
	return s
}

// run applies the set in one order to a row of its own and says what came out.
func (s *editSet) run(t *testing.T, m *master, key string, order []int) string {
	t.Helper()
	schema := notesTables(t)
	base, _ := m.space.Head()
	var epochs []change.Epoch
	push := func(e orderedEdit) {
		// Each edit is a device of its own, for the row.
		d := newClient(t, m.space, e.device, schema)
		copy(d.id[1:], key)
		d.seen = base + change.Seq(e.seen)
		set := values{}
		for _, col := range e.set {
			set[col] = fmt.Sprint(e.device, col)
		}
		x := edit{table: "notes", key: key, weight: e.weight, time: e.time}
		if !e.remove {
			x.set = set
		}
		parts := d.request(x)
		// A new device knows no epochs; one is enough for its seen.
		if len(epochs) == 0 {
			epochs = epochsOf(t, m)
		}
		parts[0].Epochs = epochs
		if _, err := d.send(parts); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range s.base {
		push(e)
	}
	for _, i := range order {
		push(s.edits[i])
	}
	reader := newClient(t, m.space, 200, schema)
	copy(reader.id[1:], key)
	reader.sync()
	row := reader.rows["notes"][key]
	for _, e := range s.edits {
		d := newClient(t, m.space, e.device, schema)
		copy(d.id[1:], key)
		d.named() // as push did
		lost := d.lostSoFar()
		if e.remove && row != nil && !lost["title"] {
			t.Fatalf("order %v of %+v: the delete of device %d is gone in silence", order, *s, e.device)
		}
		for _, col := range e.set {
			if row[col] != fmt.Sprint(e.device, col) && !lost[col] {
				t.Fatalf("order %v of %+v: %s of device %d is gone in silence: %v", order, *s, col, e.device, row)
			}
		}
	}
	return fmt.Sprint(row)
}

// lostSoFar returns the columns that a device lost, by the pages that it would be sent.
func (c *client) lostSoFar() map[string]bool {
	c.t.Helper()
	lost := make(map[string]bool)
	for pull := (&change.Pull{}); !pull.Done; {
		var err error
		if pull, err = c.next(pull); err != nil {
			c.t.Fatal(err)
		}
		for _, l := range pull.Lost {
			for _, col := range l.Columns {
				lost[col] = true
			}
		}
	}
	return lost
}

func epochsOf(t *testing.T, m *master) []change.Epoch {
	t.Helper()
	pull := newClient(t, m.space, 250, nil).push()
	return slices.DeleteFunc(pull.Epochs, func(e change.Epoch) bool { return e.First > pull.To }) // as devices keep them
}

func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, p := range permutations(n - 1) {
		for i := range n {
			all = append(all, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return all
}
