package storetest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

// testClash checks tables whose rows get other numbers where two devices made them under one.
func testClash(t *testing.T, c Config) {
	const script = `CREATE TABLE list(id INTEGER PRIMARY KEY, name TEXT, n INT)`
	schema := tables(t, script, map[string]change.Options{"list": {IDs: change.RenumberIDs}})
	row := func(name string) values { return values{"name": name, "n": int64(1)} }
	// made is a row that the client makes next, or as the lsn after that.
	made := func(c *client, id int64, name string) edit {
		e := put("list", id, row(name))
		e.made = c.lsn + 1
		return e
	}
	clash := func(t *testing.T, err error, want change.Clash) {
		t.Helper()
		var e *store.ClashError
		if !errors.As(err, &e) || len(e.Clashes) != 1 {
			t.Fatalf("got %v, want a clash", err)
		}
		if d := cmp.Diff(want, *e.Clashes[0]); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	}
	start := func(t *testing.T) (a, b *client) {
		m := newMaster(t, c, store.Options{})
		a, b = newClient(t, m.space, 1, schema), newClient(t, m.space, 2, schema)
		a.sync()
		b.sync()
		for id := int64(1); id <= 4; id++ {
			a.sync(made(a, id, "a"))
		}
		return a, b
	}
	t.Run("nothing is applied", func(t *testing.T) {
		a, b := start(t)
		parts := b.request(put("list", int64(9), row("b")))
		b2 := made(b, 2, "b")
		b2.made++ // the edit before it has that lsn
		b4 := made(b, 4, "b")
		b4.made += 2
		b3 := made(b, 3, "b")
		b3.made += 3
		_, err := b.send(b.request(put("list", int64(8), row("b")), b2, b4, b3))
		clash(t, err, change.Clash{Table: "list", Next: 9, IDs: [][2]int64{{2, 4}}})
		_, err = b.send(parts) // without them it is applied: none of its names, or LSNs, were taken
		if err != nil {
			t.Fatal(err)
		}
		a.sync()
		if got := a.ids("list"); got != "1 2 3 4 9" {
			t.Errorf("rows %s", got)
		}
	})
	t.Run("a deleted row's number too", func(t *testing.T) {
		a, b := start(t)
		a.sync(del("list", int64(4)))
		_, err := b.send(b.request(made(b, 4, "b")))
		clash(t, err, change.Clash{Table: "list", Next: 5, IDs: [][2]int64{{4, 4}}})
	})
	t.Run("its own row, the answer lost", func(t *testing.T) {
		a, b := start(t)
		first := made(b, 7, "b")
		b.push(first) // and what it pulls is lost
		a.sync()
		a.sync(put("list", int64(7), values{"name": "a's edit", "n": int64(2)})) // nothing of b's row stands
		again := put("list", int64(7), row("b's edit"))
		again.made = first.made // the compacted edit still says so
		b.sync(again.ranked(1, 0))
		a.sync()
		if got := a.rows["list"][int64(7)]["name"]; got != "b's edit" {
			t.Errorf("the row is %v", got)
		}
	})
	t.Run("came and went", func(t *testing.T) {
		a, b := start(t)
		gone := del("list", int64(3))
		b.lsn++ // of its insert
		gone.made = b.lsn
		b.sync(gone.ranked(5, 1<<40))
		a.sync()
		if got := a.ids("list"); got != "1 2 3 4" {
			t.Errorf("rows %s", got)
		}
	})
	t.Run("present before", func(t *testing.T) {
		a, b := start(t)
		same, other := made(b, 1, "a"), made(b, 2, "b")
		same.was, other.was = true, true
		other.made++
		_, err := b.send(b.request(same, other))
		clash(t, err, change.Clash{Table: "list", Next: 5, IDs: [][2]int64{{2, 2}}})
		b.sync(func() edit { e := made(b, 1, "a"); e.was = true; return e }())
		a.sync()
		if got := a.ids("list"); got != "1 2 3 4" {
			t.Errorf("rows %s", got)
		}
	})
	t.Run("an edit of a row that was seen", func(t *testing.T) {
		a, b := start(t)
		b.sync()
		b.sync(put("list", int64(1), row("b")))
		a.sync()
		if got := a.rows["list"][int64(1)]["name"]; got != "b" {
			t.Errorf("the row is %v", got)
		}
	})
	t.Run("elsewhere it is one row", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		local := tables(t, script, map[string]change.Options{"list": {IDs: change.LocalIDs}})
		a, b := newClient(t, m.space, 1, local), newClient(t, m.space, 2, local)
		a.sync(made(a, 1, "a"))
		b.sync(made(b, 1, "b").ranked(1, 0))
		a.sync()
		if got := a.rows["list"][int64(1)]["name"]; got != "b" {
			t.Errorf("the row is %v", got)
		}
	})
}
