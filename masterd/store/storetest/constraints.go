package storetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

// family has every kind of constraint.
const family = `
	CREATE TABLE p (id TEXT PRIMARY KEY NOT NULL, x TEXT);
	CREATE TABLE c (id TEXT PRIMARY KEY NOT NULL, u INT UNIQUE, n INT CHECK (n < 100), s TEXT NOT NULL, par TEXT REFERENCES p ON DELETE CASCADE);
	CREATE TABLE tree (id TEXT PRIMARY KEY NOT NULL, up TEXT REFERENCES tree);
	CREATE TABLE strict (id TEXT PRIMARY KEY NOT NULL, n INTEGER) STRICT;
	CREATE TABLE twin (id TEXT PRIMARY KEY NOT NULL, a, b);
	CREATE UNIQUE INDEX twin_ab ON twin (a, b COLLATE NOCASE) WHERE a > 0`

func child(u any, par any) values {
	v := values{"u": nil, "n": int64(1), "s": "s", "par": nil}
	if n, ok := u.(int); ok {
		v["u"] = int64(n)
	}
	if s, ok := par.(string); ok {
		v["par"] = s
	}
	return v
}

func familyPair(t testing.TB, c Config, rows ...edit) (*master, *client, *client) {
	t.Helper()
	m := newMaster(t, c, store.Options{})
	a, b := newClient(t, m.space, 1, tables(t, family, nil)), newClient(t, m.space, 2, tables(t, family, nil))
	a.sync(rows...)
	b.sync()
	a.sync()
	a.heard()
	return m, a, b
}

// ids lists the keys of a client's table.
func (c *client) ids(table string) string {
	var ids []string
	for key := range c.rows[table] {
		ids = append(ids, fmt.Sprint(key))
	}
	return sorted(ids)
}

func sorted(s []string) string {
	for i := range s {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
	return strings.Join(s, " ")
}

func testConstraints(t *testing.T, c Config) {
	t.Run("a poison row is rejected alone", func(t *testing.T) {
		for _, x := range []struct {
			name   string
			bad    edit
			reason string
		}{
			{"check", put("c", "bad", values{"u": nil, "n": int64(100), "s": "s", "par": nil}), "CHECK constraint failed"},
			{"not null", put("c", "bad", values{"u": nil, "n": nil, "s": nil, "par": nil}), "NOT NULL constraint failed: c.s"},
			{"unique", put("c", "bad", child(1, nil)), "UNIQUE constraint failed: c.u"},
			{"unique with a row of the push", put("c", "bad", child(2, nil)), "UNIQUE constraint failed: c.u"},
			{"type", put("strict", "bad", values{"n": "text"}), "cannot store TEXT value in INTEGER column"},
			{"foreign key", put("c", "bad", child(nil, "nobody")), "FOREIGN KEY constraint failed"},
			{"index", put("twin", "bad", values{"a": int64(1), "b": "X"}), "UNIQUE constraint failed"},
		} {
			t.Run(x.name, func(t *testing.T) {
				m, a, b := familyPair(t, c, put("c", "old", child(1, nil)), put("twin", "old", values{"a": int64(1), "b": "x"}))
				a.sync(put("c", "new", child(2, nil)), x.bad, put("c", "new2", child(3, nil)))
				agree(t, a, b)
				if got := a.ids("c"); got != "new new2 old" {
					t.Errorf("rows %q", got)
				}
				l := a.heard(change.Rejected)[0]
				if !strings.Contains(l.Reason, x.reason) || l.Key != "bad" || l.Kept != nil || len(l.Lost) != len(l.Columns) || len(l.Lost) == 0 || l.Rule != change.ByConstraint {
					t.Errorf("conflict %+v", l)
				}
				if st := m.stats(); st.RejectedRows != 1 || st.Conflicts != 1 {
					t.Errorf("stats %+v", st)
				}
				// The row is mended, and is welcome.
				good := child(9, nil)
				if l.Table == "strict" {
					good = values{"n": int64(1)}
				} else if l.Table == "twin" {
					good = values{"a": int64(2), "b": "x"}
				}
				a.sync(put(l.Table, "bad", good))
				a.heard()
				agree(t, a, b)
			})
		}
	})
	t.Run("an update is rejected alone and the device gets the row again", func(t *testing.T) {
		_, a, b := familyPair(t, c, put("c", "x", child(1, nil)), put("c", "y", child(2, nil)))
		a.sync(put("c", "x", values{"u": int64(2)}), put("c", "y", values{"n": int64(5)}))
		agree(t, a, b)
		if got := fmt.Sprint(a.rows["c"]["x"]["u"], a.rows["c"]["y"]["n"]); got != "1 5" {
			t.Errorf("values %s", got)
		}
		l := a.heard(change.Rejected)[0]
		if len(l.Lost) != 1 || l.Lost[0] != int64(2) || l.Kept[0] != int64(1) {
			t.Errorf("conflict %+v", l)
		}
	})
	t.Run("rows exchange unique values", func(t *testing.T) {
		_, a, b := familyPair(t, c, put("c", "x", child(1, nil)), put("c", "y", child(2, nil)), put("c", "z", child(3, nil)), put("c", "gone", child(4, nil)))
		a.sync(put("c", "x", values{"u": int64(2)}), put("c", "y", values{"u": int64(3)}), put("c", "z", values{"u": int64(1)}),
			put("c", "new", child(4, nil)), del("c", "gone"))
		a.heard()
		agree(t, a, b)
		if got := fmt.Sprint(b.rows["c"]["x"]["u"], b.rows["c"]["y"]["u"], b.rows["c"]["z"]["u"], " ", b.ids("c")); got != "2 3 1 new x y z" {
			t.Errorf("values %s", got)
		}
	})
	t.Run("a chain of rows stands on one that is rejected", func(t *testing.T) {
		for _, length := range []int{3, 30} {
			m, a, b := familyPair(t, c)
			var rows, shift []edit
			rows = append(rows, put("c", "end", child(length, nil)))
			for i := range length {
				rows = append(rows, put("c", fmt.Sprint("r", i), child(i, nil)))
				shift = append(shift, put("c", fmt.Sprint("r", i), values{"u": int64(i + 1)}))
			}
			a.sync(rows...)
			a.sync(append(shift, put("c", "free", child(1000, nil)))...)
			if len(a.lost) != length {
				t.Errorf("heard of %d conflicts, want %d", len(a.lost), length)
			}
			a.lost = nil
			agree(t, a, b)
			if b.rows["c"]["free"] == nil || b.rows["c"]["r0"]["u"] != int64(0) {
				t.Errorf("rows %v", b.rows["c"])
			}
			if st := m.stats(); st.Rows != int64(length+2) || st.RejectedRows != int64(length) {
				t.Errorf("stats %+v", st)
			}
		}
	})
	t.Run("children may come before their parent", func(t *testing.T) {
		_, a, b := familyPair(t, c)
		a.sync(put("c", "x", child(1, "mum")), put("p", "mum", values{"x": "x"}), put("tree", "leaf", values{"up": "root"}), put("tree", "root", values{"up": "root"}))
		a.heard()
		agree(t, a, b)
		if got := b.ids("c") + b.ids("tree"); got != "xleaf root" {
			t.Errorf("rows %q", got)
		}
	})
	t.Run("a parent deleted here while a child came there is rejected", func(t *testing.T) {
		m, a, b := familyPair(t, c, put("p", "mum", values{"x": "x"}))
		a.push(put("c", "x", child(1, "mum")))
		b.sync(del("p", "mum"))
		agree(t, a, b)
		l := b.heard(change.Rejected)[0]
		if l.Lost != nil || l.Kept == nil || !strings.Contains(l.Reason, "c(par)") {
			t.Errorf("conflict %+v", l)
		}
		if got := b.ids("p") + b.ids("c"); got != "mumx" {
			t.Errorf("rows %q", got)
		}
		if st := m.stats(); st.Rows != 2 || st.Tombstones != 0 {
			t.Errorf("stats %+v", st)
		}
	})
	t.Run("a child that comes after its parent went is rejected, and no action runs", func(t *testing.T) {
		_, a, b := familyPair(t, c, put("p", "mum", values{"x": "x"}), put("c", "x", child(1, "mum")))
		b.push(del("c", "x"), del("p", "mum"))
		a.sync(put("c", "y", child(2, "mum")), put("c", "x", values{"n": int64(3)}).ranked(1, 0))
		agree(t, a, b)
		// x came back by its greater weight; without its parent it can't.
		a.heard(change.Rejected, change.Rejected)
		if got := a.ids("p") + a.ids("c"); got != "" {
			t.Errorf("rows %q", got)
		}
	})
	t.Run("a child and its parent deleted in one push", func(t *testing.T) {
		_, a, b := familyPair(t, c, put("p", "mum", values{"x": "x"}), put("c", "x", child(1, "mum")), put("c", "y", child(2, "mum")))
		a.sync(del("p", "mum"), del("c", "x"), put("c", "y", values{"par": nil}))
		a.heard()
		agree(t, a, b)
		if got := b.ids("p") + b.ids("c"); got != "y" {
			t.Errorf("rows %q", got)
		}
	})
	t.Run("a delete of a parent whose child stays is rejected, and what stands on it", func(t *testing.T) {
		_, a, b := familyPair(t, c, put("p", "mum", values{"x": "x"}), put("c", "x", child(1, "mum")))
		// The child's delete is concurrent with an edit of greater weight, so the child stays.
		a.push(put("c", "x", values{"n": int64(3)}).ranked(9, 0))
		b.sync(del("c", "x"), del("p", "mum"))
		agree(t, a, b)
		b.heard(change.DeleteLost, change.Rejected)
		if got := b.ids("p") + b.ids("c"); got != "mumx" {
			t.Errorf("rows %q", got)
		}
	})
	t.Run("a row rejected for another reason keeps its parent", func(t *testing.T) {
		_, a, b := familyPair(t, c, put("p", "mum", values{"x": "x"}), put("c", "x", child(1, "mum")), put("c", "y", child(2, nil)))
		a.sync(put("c", "x", values{"u": int64(2), "par": nil}), del("p", "mum"))
		agree(t, a, b)
		a.heard(change.Rejected, change.Rejected)
		if got := b.ids("p") + b.ids("c"); got != "mumx y" {
			t.Errorf("rows %q", got)
		}
	})
	t.Run("of a parent's delete and another edit of its child the delete is rejected", func(t *testing.T) {
		_, a, b := familyPair(t, c, put("p", "mum", values{"x": "x"}), put("c", "x", child(1, "mum")))
		a.sync(put("c", "x", values{"n": int64(3)}), del("p", "mum"))
		agree(t, a, b)
		if l := a.heard(change.Rejected)[0]; l.Table != "p" {
			t.Errorf("conflict %+v", l)
		}
		if b.rows["c"]["x"]["n"] != int64(3) {
			t.Errorf("row %v", b.rows["c"]["x"])
		}
	})
	t.Run("however long a chain of parents, a push comes to an end", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		chain := tables(t, `CREATE TABLE chain (id TEXT PRIMARY KEY NOT NULL, k INT UNIQUE, up INT REFERENCES chain(k))`, nil)
		a, b := newClient(t, m.space, 1, chain), newClient(t, m.space, 2, chain)
		const length = 100
		var rows, moved []edit
		for i := range length {
			rows = append(rows, put("chain", fmt.Sprint(i), values{"k": int64(i), "up": nil}))
			moved = append(moved, put("chain", fmt.Sprint(i), values{"k": int64(1000 + i), "up": int64(1000 + i - 1)}))
		}
		a.sync(rows...)
		a.sync(append(moved, put("chain", "free", values{"k": int64(5000), "up": nil}))...) // 0 refers to nobody
		agree(t, a, b)
		if len(a.lost) != length+1 || !strings.Contains(a.lost[length].Reason, "too many rows") || len(b.rows["chain"]) != length || b.rows["chain"]["99"]["k"] != int64(99) {
			t.Errorf("%d conflicts, rows %v", len(a.lost), b.rows["chain"])
		}
	})
	t.Run("a tree goes with its root", func(t *testing.T) {
		m, a, b := familyPair(t, c)
		edits := []edit{put("tree", "n0", values{"up": "nobody"})}
		for i := 1; i < 300; i++ {
			edits = append(edits, put("tree", fmt.Sprint("n", i), values{"up": fmt.Sprint("n", i-1)}))
		}
		a.sync(append(edits, put("tree", "good", values{"up": nil}))...)
		if len(a.lost) != 300 {
			t.Errorf("heard of %d conflicts", len(a.lost))
		}
		agree(t, a, b)
		if got := a.ids("tree"); got != "good" {
			t.Errorf("rows %q", got)
		}
		if st := m.stats(); st.Rows != 1 || st.Conflicts != 300 {
			t.Errorf("stats %+v", st)
		}
	})
	t.Run("an edit of a row whose rejection was not heard is parked with it", func(t *testing.T) {
		m, a, b := familyPair(t, c, put("c", "x", child(1, nil)), put("c", "y", child(2, nil)))
		lost := a.request(put("c", "x", values{"u": int64(2)}))
		if _, err := a.send(lost); err != nil {
			t.Fatal(err)
		}
		a.sync(put("c", "x", values{"n": int64(50)}))
		a.heard(change.Rejected, change.Rejected)
		agree(t, a, b)
		if got := fmt.Sprint(a.rows["c"]["x"]["u"], a.rows["c"]["x"]["n"]); got != "1 1" {
			t.Errorf("values %s", got)
		}
		a.sync(put("c", "x", values{"n": int64(51)}))
		agree(t, a, b)
		if b.rows["c"]["x"]["n"] != int64(51) {
			t.Errorf("row %v", b.rows["c"]["x"])
		}
		if st := m.stats(); st.RejectedRows != 2 {
			t.Errorf("stats %+v", st)
		}
	})
	t.Run("edits of a row that was put aside", func(t *testing.T) {
		_, a, b := familyPair(t, c, put("c", "x", child(1, nil)), put("c", "y", child(2, nil)), put("c", "z", child(3, nil)))
		a.sync(put("c", "x", values{"u": int64(2)}), put("c", "x", values{"n": int64(7)}), put("c", "z", values{"u": int64(2)}), del("c", "z"),
			put("c", "y", values{"u": int64(1)}))
		a.heard()
		agree(t, a, b)
		if got := fmt.Sprint(b.ids("c"), " ", b.rows["c"]["x"]["u"], b.rows["c"]["x"]["n"], b.rows["c"]["y"]["u"]); got != "x y 2 7 1" {
			t.Errorf("rows %s", got)
		}
	})
	t.Run("a parent that was put aside and then deleted", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		bosses := tables(t, `CREATE TABLE boss (id TEXT PRIMARY KEY NOT NULL, u INT UNIQUE); CREATE TABLE man (id TEXT PRIMARY KEY NOT NULL, boss TEXT REFERENCES boss)`, nil)
		a, b := newClient(t, m.space, 1, bosses), newClient(t, m.space, 2, bosses)
		a.sync(put("boss", "x", values{"u": int64(1)}), put("boss", "y", values{"u": int64(2)}), put("man", "m", values{"boss": "x"}))
		a.sync(put("boss", "x", values{"u": int64(2)}), del("boss", "x"))
		a.heard(change.Rejected, change.Rejected)
		agree(t, a, b)
		if got := b.ids("boss") + b.ids("man"); got != "x ym" {
			t.Errorf("rows %q", got)
		}
	})
	t.Run("keys that only a collation calls equal", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		nocase := tables(t, `CREATE TABLE w (id TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, x)`, nil)
		a, b := newClient(t, m.space, 1, nocase), newClient(t, m.space, 2, nocase)
		a.sync(put("w", "abc", values{"x": "1"}))
		b.sync()
		a.sync(put("w", "ABC", values{"x": "2"}), del("w", "abc")) // renamed
		a.heard()
		agree(t, a, b)
		b.has("w", map[change.Value]values{"ABC": {"x": "2"}})
		b.sync(put("w", "Abc", values{"x": "3"}))
		b.heard(change.Rejected)
		agree(t, a, b)
	})
}
