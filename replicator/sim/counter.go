package sim

import (
	"fmt"
	"maps"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// In some schedules there is a second table, with a counter, a maximum and a set. Its oracle needs
// no clocks: the master has what the pushes that it took have added, each once, and a
// device what the master had, and what of its own is pending. Nobody deletes its rows, and
// nobody lowers a maximum.

const countsTable = `CREATE TABLE counts(id TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL, high INT, tags TEXT, slug TEXT UNIQUE)`

// A tally is a row of that table.
type tally struct {
	n, high int64
	tags    string // the elements of the set, in their order
}

// An addition is one mutation of such a row.
type addition struct {
	lsn    change.LSN
	key    string
	by     int64
	raised bool // the maximum was written
	high   int64
	tags   []tagging
	made   bool // the row was made anew, its set too
}

// trackCounts makes the table.
func (d *device) trackCounts() {
	if !d.w.shape.counts {
		return
	}
	d.w.must(d.app.Script(countsTable), "make the table of counters")
	high := change.Max
	if d.w.seed%2 == 0 { // the same, said in SQL
		high = "max(mine, theirs)"
	}
	options := fmt.Sprintf(`{"merge":{"n":"counter","high":"%s","tags":"set"}}`, high)
	d.w.must(d.app.Query(`SELECT velosync_track('counts', ?)`, []change.Value{options}, func([]change.Value) error { return nil }), "track it")
}

// notesOnly is a condition on rows of the log, and of the master's tables.
const notesOnly = ` AND tbl = (SELECT id FROM _velosync_table WHERE name = 'notes')`

// ofNotes reports whether a block is of the table notes: no other has such keys.
func (w *world) ofNotes(b *change.Block) bool {
	return len(b.Keys) > 0 && w.shape.rows[textOf([]change.Value{b.Keys[0]})] != ""
}

// countUp writes a row of the table, in one of the ways that there are.
func (x *txn) countUp() {
	w := x.d.w
	if !w.shape.counts || w.life != nil || !w.chance(.5) {
		return
	}
	key := string("xyz"[w.rng.IntN(3)])
	old, there := x.counts[key]
	by, high := w.rng.Int64N(9)-4, old.high+w.rng.Int64N(3)
	a := addition{key: key, by: by, raised: true, high: high}
	switch way := w.rng.IntN(8); {
	case way == 0 || !there:
		x.run(`INSERT INTO counts(id, n, high) VALUES (?, ?, ?) ON CONFLICT(id) DO UPDATE SET n = n + excluded.n, high = excluded.high`, key, by, high)
		a.raised, a.made = !there || high != old.high, !there
	case way == 1:
		set, text := x.drawTags()
		x.run(`INSERT OR REPLACE INTO counts(id, n, high, tags) VALUES (?, ?, ?, ?)`, key, old.n+by, high, text)
		a.tags, a.made = x.tag(key, set, true), true
	case way == 2:
		x.run(`INSERT OR IGNORE INTO counts(id, n, high) VALUES (?, ?, ?)`, key, by, high) // a warning in the log
		return
	case way < 5:
		set, text := x.drawTags()
		x.run(`UPDATE counts SET tags = ? WHERE id = ?`, text, key)
		a.tags = x.tag(key, set, false)
		a.by, a.raised, a.high = 0, false, old.high
		x.counts[key] = tally{old.n, old.high, a.shows(old.tags)}
		x.adds = append(x.adds, a)
		return
	default:
		x.run(`UPDATE counts SET n = n + ? WHERE id = ?`, by, key)
		a.raised, a.high = false, old.high
		if by == 0 {
			return
		}
	}
	if there && by == 0 && !a.raised && !a.made { // changed nothing
		return
	}
	x.counts[key] = tally{old.n + by, a.high, a.shows(old.tags)}
	x.adds = append(x.adds, a)
}

// readCounts takes the LSNs of the additions.
func (x *txn) readCounts() (last change.LSN) {
	d, w := x.d, x.d.w
	last = d.last
	if !w.shape.counts {
		return last
	}
	const ofCounts = ` AND tbl = (SELECT id FROM _velosync_table WHERE name = 'counts')`
	i := 0
	err := d.app.Query(`SELECT lsn, op, pk FROM _velosync_wal WHERE lsn > ?`+ofCounts+` ORDER BY lsn`, []change.Value{int64(d.last)}, func(v []change.Value) error {
		last = change.LSN(v[0].(int64))
		if v[1] == "E" {
			return nil
		}
		if i == len(x.adds) || x.adds[i].key != v[2] {
			return fmt.Errorf("the log has %v of counter %v at lsn %d, which was not done", v[1], v[2], last)
		}
		x.adds[i].lsn = last
		i++
		return nil
	})
	w.must(err, d.String())
	if i < len(x.adds) {
		w.fail("%s: the log lacks a step of counter %s", d, x.adds[i].key)
	}
	return last
}

// readTallies reads the table; empty where it is not there.
func (w *world) readTallies(c *vsql.Conn) map[string]tally {
	got := make(map[string]tally)
	var n int
	_, err := c.Row(`SELECT count(*) FROM sqlite_schema WHERE name = 'counts'`, nil, &n)
	if err == nil && n > 0 {
		err = c.Query(`SELECT id, n, high, tags FROM counts`, nil, func(v []change.Value) error {
			got[v[0].(string)] = tally{v[1].(int64), v[2].(int64), w.tagsOf(v[3])}
			return nil
		})
	}
	w.must(err, "read the counters")
	return got
}

// lookCounts compares a device's counters with what they must be at seen and acked.
func (d *device) lookCounts(when string, seen change.Seq, acked change.LSN) {
	w := d.w
	if !w.shape.counts || w.life != nil {
		return
	}
	want := maps.Clone(w.master.countsAt[seen])
	if want == nil {
		want = make(map[string]tally)
	}
	held := maps.Clone(w.master.tagsAt[seen])
	if held == nil {
		held = make(map[string]tagged)
	}
	for _, a := range d.adds {
		if a.lsn <= acked {
			continue
		}
		t := want[a.key]
		t.tags, held[a.key] = a.shows(t.tags), held[a.key].with(a.tags)
		t.n += a.by
		if a.raised { // hides what the master has
			t.high = d.counts[a.key].high
		}
		want[a.key] = t
	}
	if got := w.readTallies(d.app); !maps.Equal(got, want) {
		w.fail("%s, %s: seen %d, acked %d: counters are %v, want %v", d, when, seen, acked, got, want)
	}
	d.counts, d.tags = want, held
}

// count applies what a push added.
func (m *master) count(d *device, after, through change.LSN) {
	for _, a := range d.adds {
		if a.lsn <= after || a.lsn > through {
			continue
		}
		t := m.counts[a.key]
		t.n += a.by
		if a.raised {
			t.high = max(t.high, a.high)
		}
		m.tags[a.key] = m.tags[a.key].with(a.tags)
		t.tags = m.tags[a.key].String()
		m.counts[a.key] = t
		m.w.work("steps counted", 1)
		m.w.work("elements added or removed", len(a.tags))
	}
}

// checkCounts compares the master's counters.
func (m *master) checkCounts(when string) {
	if !m.w.shape.counts || m.w.life != nil {
		return
	}
	if got := m.w.readTallies(m.watch); !maps.Equal(got, m.counts) {
		m.w.fail("master, %s: counters are %v, want %v", when, got, m.counts)
	}
	m.countsAt[m.head], m.tagsAt[m.head] = maps.Clone(m.counts), maps.Clone(m.tags)
}

// checkCounters compares a healed device's counters with the master's.
func (d *device) checkCounters() {
	if got, want := d.w.readTallies(d.app), d.w.readTallies(d.w.master.watch); d.w.shape.counts && !maps.Equal(got, want) {
		d.w.fail("%s, healed: counters are %v, the master has %v", d, got, want)
	}
}
