package storetest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

// testRandom runs devices that write, lose answers and pull in pages, under constraints,
// while the master crashes and forgets. In the end all hold the same, and the counters
// are right.
func testRandom(t *testing.T, c Config) {
	rnd := seeded(t)
	for range c.cases(3, 12) {
		randomRun(t, c, rnd)
		if t.Failed() {
			return
		}
	}
}

func randomRun(t *testing.T, c Config, rnd *rand.Rand) {
	m := newMaster(t, c, store.Options{PageRows: 1 + rnd.IntN(6)})
	schema := tables(t, family, map[string]change.Options{"c": {Groups: [][]string{{"n", "s"}}}})
	clients := make([]*client, 2+rnd.IntN(3))
	for i := range clients {
		clients[i] = newClient(t, m.space, byte(i+1), schema)
	}
	for range 120 {
		d := clients[rnd.IntN(len(clients))]
		switch x := rnd.IntN(40); {
		case x == 0:
			m.crash(clients...)
		case x == 1:
			m.reopen(clients...)
		case x < 8:
			m.clock.add(1e10)
		}
		parts := d.request(d.draw(rnd)...)
		pull, err := d.send(parts)
		for rnd.IntN(5) == 0 && err == nil { // the answer is lost, the same comes again
			pull, err = d.send(parts)
		}
		if err != nil {
			t.Fatalf("push: %v", err)
		}
		d.finish(pull)
		if rnd.IntN(3) > 0 {
			if _, _, err := m.space.Ack(t.Context(), "", d.id, d.seen, d.lsn); err != nil {
				t.Fatal(err)
			}
		}
	}
	agree(t, clients...)
	n := newClient(t, m.space, 99, schema)
	n.sync()
	agree(t, append(clients, n)...)
	rows := 0
	for _, list := range n.rows {
		rows += len(list)
	}
	if st := m.stats(); st.Rows != int64(rows) {
		t.Errorf("the master counts %d rows, there are %d", st.Rows, rows)
	}
	n.valid()
}

// draw makes a few edits that the client's own rows allow, or nearly.
func (c *client) draw(rnd *rand.Rand) (edits []edit) {
	touched := make(map[string]bool)
	for range rnd.IntN(4) {
		e := c.drawOne(rnd)
		if id := fmt.Sprint(e.table, e.key); touched[id] {
			continue // one edit a row
		} else {
			touched[id] = true
		}
		edits = append(edits, e.ranked(float64(rnd.IntN(3)), int64(rnd.IntN(4))))
	}
	return edits
}

func (c *client) drawOne(rnd *rand.Rand) edit {
	parent := func() any {
		if rnd.IntN(2) == 0 {
			return nil
		}
		return fmt.Sprint("p", rnd.IntN(3))
	}
	unique := func() any {
		if rnd.IntN(2) == 0 {
			return nil
		}
		return rnd.IntN(4)
	}
	if rnd.IntN(3) == 0 {
		key := fmt.Sprint("p", rnd.IntN(3))
		if c.rows["p"][key] == nil || rnd.IntN(2) == 0 {
			return put("p", key, values{"x": fmt.Sprint(rnd.Int())})
		}
		return del("p", key)
	}
	key := fmt.Sprint("c", rnd.IntN(4))
	row := child(unique(), parent())
	row["n"] = int64(rnd.IntN(105))
	switch {
	case c.rows["c"][key] == nil:
		return put("c", key, row)
	case rnd.IntN(6) == 0:
		return del("c", key)
	case rnd.IntN(2) == 0:
		return put("c", key, values{"u": row["u"]})
	case rnd.IntN(2) == 0:
		return put("c", key, values{"n": row["n"], "s": "s2"})
	default:
		return put("c", key, values{"par": row["par"]})
	}
}

// valid checks the constraints of the family on what the client holds.
func (c *client) valid() {
	c.t.Helper()
	owner := make(map[change.Value]change.Value)
	for key, row := range c.rows["c"] {
		if u := row["u"]; u != nil {
			if owner[u] != nil {
				c.t.Errorf("rows %v and %v both have u = %v", key, owner[u], u)
			}
			owner[u] = key
		}
		if n := row["n"].(int64); n >= 100 {
			c.t.Errorf("row %v has n = %d", key, n)
		}
		if par := row["par"]; par != nil && c.rows["p"][par] == nil {
			c.t.Errorf("row %v refers to %v, which is not there", key, par)
		}
	}
}
