package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

// digest is the question whether the master holds the same as the client of a range of
// notes; keys are the range's, in order.
func (c *client) digest(after, to change.Value, keys ...string) *change.Push {
	c.t.Helper()
	table := &c.tables[c.tables.Find("notes")]
	cols := change.ColumnsOf(table.Registers(), change.AllBits(len(table.Registers())))
	r := &change.RangeDigest{Table: c.tables.Find("notes"), After: after, To: to, Rows: int64(len(keys))}
	var prints change.Fingerprinter
	for _, key := range keys {
		row := make([]change.Value, len(cols))
		for i, col := range cols {
			row[i] = c.rows["notes"][key][table.Columns[col].Name]
		}
		r.Sum += prints.OfRow(key, row)
	}
	return &change.Push{Device: c.id, Names: []change.Name{{9}}, Epochs: c.epochs, Seen: c.seen, Schema: c.tables.Digest(), Paging: true, Digest: r}
}

// answer returns what the master says to a digest: "unknown", "equal", or its rows' titles
// by key, and the keys that say nothing.
func (c *client) answer(ask *change.Push) string {
	c.t.Helper()
	pull, err := c.space.Sync(context.Background(), c.owner, ask, each([]*change.Push{ask}))
	if err != nil {
		c.t.Fatal(err)
	}
	switch pull.Digest {
	case change.RangeUnknown:
		return "unknown"
	case change.RangeEqual:
		return "equal"
	}
	text := ""
	for i := range pull.Blocks {
		b := &pull.Blocks[i]
		for j, key := range b.Keys {
			if b.Delete {
				text += fmt.Sprintf("%v? ", key)
			} else {
				text += fmt.Sprintf("%v=%v ", key, b.Columns[0][j])
			}
		}
	}
	if !pull.Done {
		text += "and so on"
	}
	return text
}

func testDigest(t *testing.T, c Config) {
	rows := []edit{put("notes", "k", note("1", "b")), put("notes", "l", note("2", "b")), put("notes", "m", note("3", "b")), put("notes", "n", note("4", "b"))}
	t.Run("ranges are equal, or the master says what it has", func(t *testing.T) {
		m, a, b := pair(t, c, rows...)
		for _, x := range []*client{a, b} {
			for _, r := range []struct {
				after, to change.Value
				keys      []string
			}{{nil, nil, []string{"k", "l", "m", "n"}}, {nil, "l", []string{"k", "l"}}, {"l", nil, []string{"m", "n"}}, {"k", "m", []string{"l", "m"}}, {"n", nil, nil}, {nil, "j", nil}} {
				if got := x.answer(x.digest(r.after, r.to, r.keys...)); got != "equal" {
					t.Errorf("after %v to %v: %s, want equal", r.after, r.to, got)
				}
			}
		}
		b.rows["notes"]["l"]["body"] = "rot"
		for _, got := range []string{b.answer(b.digest("k", "m", "l", "m")), b.answer(b.digest("k", "m", "l")), b.answer(b.digest("k", "m"))} {
			if got != "l=2 m=3 " {
				t.Errorf("got %q", got)
			}
		}
		ask := b.digest("k", "m", "m")
		ask.Digest.Except = []change.Value{"l", "x"}
		if got := b.answer(ask); got != "equal" {
			t.Errorf("the row that differs is left out: %s", got)
		}
		if st := m.stats(); st.Digests != 16 || st.Divergences != 3 {
			t.Errorf("%d digests, %d divergences counted, want 16, 3", st.Digests, st.Divergences)
		}
	})
	t.Run("what changed since the device's round says nothing", func(t *testing.T) {
		m, a, b := pair(t, c, rows...)
		b.sync(put("notes", "l", values{"title": "newer"}), del("notes", "m"))
		if got := a.answer(a.digest(nil, nil, "k", "l", "m", "n")); got != "k=1 n=4 l? m? " {
			t.Errorf("got %q", got)
		}
		if st := m.stats(); st.Divergences != 0 {
			t.Errorf("%d divergences counted", st.Divergences)
		}
	})
	t.Run("the master can't tell", func(t *testing.T) {
		_, a, b := pair(t, c, rows...)
		for name, alter := range map[string]func(*change.Push){
			"of a device that has not pushed":  func(p *change.Push) { p.Device = change.DeviceID{77} },
			"beyond its head":                  func(p *change.Push) { p.Seen += 100 },
			"of another history":               func(p *change.Push) { p.Epochs = []change.Epoch{{ID: change.Name{1}, First: 1}} },
			"of tables that it does not know":  func(p *change.Push) { p.Schema[0]++ },
			"of more epochs than it has begun": func(p *change.Push) { p.Epochs = append(p.Epochs[:1:1], change.Epoch{ID: change.Name{2}, First: 2}) },
		} {
			ask := a.digest(nil, nil, "k", "l", "m", "n")
			alter(ask)
			if got := a.answer(ask); got != "unknown" {
				t.Errorf("%s: %s", name, got)
			}
		}
		many := make([]edit, 1001)
		for i := range many {
			many[i] = put("notes", fmt.Sprint("x", i), note("x", "x"))
		}
		b.sync(many...)
		if got := a.answer(a.digest(nil, nil, "k", "l", "m", "n")); got != "unknown" {
			t.Errorf("1,001 rows changed since: %.100s", got)
		}
	})
	t.Run("a long answer is cut", func(t *testing.T) {
		m := newMaster(t, c, store.Options{PageRows: 3})
		a := newClient(t, m.space, 1, notesTables(t))
		a.sync(rows...)
		if got := a.answer(a.digest(nil, nil)); got != "k=1 l=2 m=3 and so on" {
			t.Errorf("got %q", got)
		}
		if got := a.answer(a.digest(nil, "m", "k", "l", "m")); got != "equal" {
			t.Errorf("got %q", got)
		}
		o := store.Options{PageBytes: 8}
		m = newMaster(t, c, o)
		a = newClient(t, m.space, 1, notesTables(t))
		a.sync(rows...)
		if got := a.answer(a.digest(nil, nil)); got != "k=1 l=2 and so on" && got != "k=1 and so on" {
			t.Errorf("got %q", got)
		}
		if got := a.answer(a.digest(nil, nil, "k", "l", "m", "n")); got != "equal" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a device is told of its own columns", func(t *testing.T) {
		m, a, _ := pair(t, c, rows[:1]...)
		more := newClient(t, m.space, 3, tables(t, strings.TrimSuffix(notes, ")")+", more TEXT DEFAULT 'd')",
			map[string]change.Options{"notes": {Groups: [][]string{{"body", "model"}}}}))
		more.sync()
		for _, x := range []*client{a, more} {
			if got := x.answer(x.digest(nil, nil, "k")); got != "equal" {
				t.Errorf("got %q", got)
			}
		}
	})
	t.Run("what is no question is refused", func(t *testing.T) {
		_, a, _ := pair(t, c, rows...)
		for _, alter := range []func(*change.Push){
			func(p *change.Push) { p.Paging = false },   // beside a push
			func(p *change.Push) { p.Digest.Table = 9 }, // of a table that is not its
		} {
			ask := a.digest(nil, nil)
			alter(ask)
			_, err := a.space.Sync(context.Background(), "", ask, each([]*change.Push{ask}))
			errorAs[*store.RequestError](t, err)
		}
		a.owner = "phone"
		a.sync()
		ask := a.digest(nil, nil)
		_, err := a.space.Sync(context.Background(), "other", ask, each([]*change.Push{ask}))
		errorAs[*store.OwnerError](t, err)
	})
}
