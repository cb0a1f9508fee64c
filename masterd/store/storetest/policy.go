package storetest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

const counts = `CREATE TABLE counts (id TEXT PRIMARY KEY NOT NULL, title TEXT, high INT, low INT, n INTEGER NOT NULL DEFAULT 0)`

func countsTables(t testing.TB) change.Schema {
	return tables(t, counts, map[string]change.Options{"counts": {Merge: map[string]change.Policy{"high": change.Max, "low": change.Min, "n": change.Counter}}})
}

// countsPair returns a master and two devices that hold a row.
func countsPair(t testing.TB, c Config) (*master, *client, *client) {
	m := newMaster(t, c, store.Options{})
	a, b := newClient(t, m.space, 1, countsTables(t)), newClient(t, m.space, 2, countsTables(t))
	a.sync(put("counts", "k", counted(10)))
	b.sync()
	a.sync()
	return m, a, b
}

func counted(n int64) values { return values{"title": "t", "high": int64(5), "low": int64(5), "n": n} }

func adds(c *client, by int64) edit {
	n, _ := c.rows["counts"]["k"]["n"].(int64)
	return put("counts", "k", values{"n": n + by})
}

func testPolicies(t *testing.T, c Config) {
	t.Run("concurrent maxima and minima are no conflicts, and both authors get what stays", func(t *testing.T) {
		m, a, b := countsPair(t, c)
		a.push(put("counts", "k", values{"high": int64(9), "low": int64(4)}))
		b.push(put("counts", "k", values{"high": int64(7), "low": int64(1)}))
		agree(t, a, b)
		a.has("counts", map[change.Value]values{"k": {"title": "t", "high": int64(9), "low": int64(1), "n": int64(10)}})
		a.heard()
		b.heard()
		if st := m.stats(); st.Conflicts != 0 {
			t.Errorf("%d conflicts", st.Conflicts)
		}
	})
	t.Run("an edit that has seen the greater one lowers it", func(t *testing.T) {
		_, a, b := countsPair(t, c)
		b.sync(put("counts", "k", values{"high": int64(2)}))
		agree(t, a, b)
		a.has("counts", map[change.Value]values{"k": {"title": "t", "high": int64(2), "low": int64(5), "n": int64(10)}})
	})
	t.Run("an author that has not seen what its write became lowers nothing", func(t *testing.T) {
		_, a, b := countsPair(t, c)
		a.push(put("counts", "k", values{"high": int64(9)}))
		b.push(put("counts", "k", values{"high": int64(8)}))
		a.push(put("counts", "k", values{"high": int64(3)})) // follows its own 9, not the 8
		agree(t, a, b)
		a.has("counts", map[change.Value]values{"k": {"title": "t", "high": int64(9), "low": int64(5), "n": int64(10)}})
		a.sync(put("counts", "k", values{"high": int64(3)})) // now it has seen all
		agree(t, a, b)
		a.has("counts", map[change.Value]values{"k": {"title": "t", "high": int64(3), "low": int64(5), "n": int64(10)}})
	})
	t.Run("NULL gives way, types are ordered as SQLite orders them", func(t *testing.T) {
		_, a, b := countsPair(t, c)
		a.push(put("counts", "k", values{"high": nil, "low": nil}))
		b.push(put("counts", "k", values{"high": int64(-3), "low": "text"}))
		agree(t, a, b)
		a.has("counts", map[change.Value]values{"k": {"title": "t", "high": int64(-3), "low": "text", "n": int64(10)}})
	})
	t.Run("options that differ are refused, and both are named", func(t *testing.T) {
		m, _, _ := countsPair(t, c)
		other := newClient(t, m.space, 9, tables(t, counts, map[string]change.Options{"counts": {Merge: map[string]change.Policy{"high": change.Min}}}))
		_, err := other.send(other.request())
		e := errorAs[*store.SchemaError](t, err)
		contains(t, e.Reason, `"merge":{"high":"max","low":"min","n":"counter"}`, `"merge":{"high":"min"}`)
		for _, bad := range []struct {
			o    change.Options
			want string
		}{
			{change.Options{Merge: map[string]change.Policy{"high": "best"}}, `"best" is not known`},
			{change.Options{Merge: map[string]change.Policy{"nothing": change.Max}}, `"nothing"`},
			{change.Options{Merge: map[string]change.Policy{"id": change.Max}}, "primary key"},
			{change.Options{Merge: map[string]change.Policy{"high": change.Counter}}, "INTEGER NOT NULL"},
			{change.Options{Weight: "high", Merge: map[string]change.Policy{"high": change.Max}}, "is the weight"},
			{change.Options{Groups: [][]string{{"high", "title"}}, Merge: map[string]change.Policy{"high": change.Max}}, "in a group"},
		} {
			d := newClient(t, newMaster(t, c, store.Options{}).space, 3, tables(t, counts, map[string]change.Options{"counts": bad.o}))
			_, err := d.send(d.request())
			contains(t, errorAs[*store.SchemaError](t, err).Reason, bad.want)
		}
	})
	t.Run("a column with a policy may come later", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a := newClient(t, m.space, 1, tables(t, `CREATE TABLE counts (id TEXT PRIMARY KEY NOT NULL, title TEXT)`, nil))
		a.sync(put("counts", "k", values{"title": "t"}))
		b := newClient(t, m.space, 2, tables(t, `CREATE TABLE counts (id TEXT PRIMARY KEY NOT NULL, title TEXT, high INT)`,
			map[string]change.Options{"counts": {Merge: map[string]change.Policy{"high": change.Max}}}))
		b.sync()
		b.sync(put("counts", "k", values{"high": int64(3)}))
		d := newClient(t, m.space, 3, b.tables)
		d.sync()
		d.push(put("counts", "k", values{"high": int64(9)}))
		b.push(put("counts", "k", values{"high": int64(5)}))
		agree(t, b, d)
		b.has("counts", map[change.Value]values{"k": {"title": "t", "high": int64(9)}})
	})
	t.Run("expressions", func(t *testing.T) { testExpressions(t, c) })
	t.Run("sets", func(t *testing.T) { testSets(t, c) })
	t.Run("counters", func(t *testing.T) { testCounters(t, c) })
	t.Run("every order of arrival", func(t *testing.T) { testPolicyOrders(t, c) })
}

// testPolicyOrders pushes small sets of concurrent edits of one row in all orders: the same
// row each time, and the values that the policies say.
func testPolicyOrders(t *testing.T, c Config) {
	rnd := seeded(t)
	m, row := newMaster(t, c, store.Options{}), 0
	for range c.cases(6, 30) {
		edits := drawPolicyEdits(rnd)
		first := ""
		for _, order := range permutations(len(edits)) {
			row++
			got := runPolicyEdits(t, m, fmt.Sprintf("k%d", row), edits, order)
			if first == "" {
				first = got
			}
			if got != first {
				t.Fatalf("order %v of %+v gives\n%s\nother orders\n%s", order, edits, got, first)
			}
		}
	}
}

// A policyEdit is one device's edit; the base row, with 50 everywhere, was seen by all.
type policyEdit struct {
	remove bool
	set    values
	by     int64 // added to n, where set has it
	weight float64
}

func drawPolicyEdits(rnd *rand.Rand) (edits []policyEdit) {
	for i := range 2 + rnd.IntN(3) {
		e := policyEdit{weight: float64(rnd.IntN(3)), set: values{}, remove: rnd.IntN(5) == 0}
		for _, col := range []string{"high", "low"} {
			if rnd.IntN(3) > 0 {
				e.set[col] = int64(rnd.IntN(100))
			}
		}
		if rnd.IntN(2) == 0 {
			e.by = int64(rnd.IntN(9) - 4)
			e.set["n"] = 50 + e.by
		}
		if len(e.set) == 0 || rnd.IntN(3) == 0 {
			e.set["title"] = fmt.Sprint("title ", i)
		}
		edits = append(edits, e)
	}
	return edits
}

func runPolicyEdits(t *testing.T, m *master, key string, edits []policyEdit, order []int) string {
	t.Helper()
	schema := countsTables(t)
	author := newClient(t, m.space, 100, schema)
	copy(author.id[1:], key)
	author.sync(put("counts", key, values{"title": "t", "high": int64(50), "low": int64(50), "n": int64(50)}).ranked(-1, 0))
	seen := author.seen
	for _, i := range order {
		d := newClient(t, m.space, byte(i+1), schema)
		copy(d.id[1:], key)
		d.seen, d.epochs = seen, author.epochs
		d.rows["counts"] = map[change.Value]values{key: {"n": int64(50)}}
		e := put("counts", key, edits[i].set)
		if edits[i].remove {
			e = del("counts", key)
		}
		if _, err := d.send(d.request(e.ranked(edits[i].weight, 0))); err != nil {
			t.Fatal(err)
		}
	}
	author.sync()
	row := author.rows["counts"][key]
	if row == nil {
		return "deleted"
	}
	high, low, n := int64(-1), int64(100), int64(50)
	for _, e := range edits {
		if !e.remove {
			n += e.by
		}
		if v, ok := e.set["high"].(int64); ok && !e.remove {
			high = max(high, v)
		}
		if v, ok := e.set["low"].(int64); ok && !e.remove {
			low = min(low, v)
		}
	}
	if high < 0 {
		high = 50
	}
	if low == 100 {
		low = 50
	}
	if row["high"] != high || row["low"] != low || row["n"] != n {
		t.Fatalf("order %v of %+v: %v, want high %d, low %d, n %d", order, edits, row, high, low, n)
	}
	return fmt.Sprint(row)
}

func contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q does not say %q", text, p)
		}
	}
}
