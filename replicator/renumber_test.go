package replicator_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
)

const lists = `
	CREATE TABLE lists(id INTEGER PRIMARY KEY, name TEXT NOT NULL, above INTEGER REFERENCES lists(id));
	CREATE TABLE items(id INTEGER PRIMARY KEY AUTOINCREMENT, list INTEGER REFERENCES lists(id) ON DELETE CASCADE, of TEXT);
	SELECT velosync_track('lists', '{"ids":"renumber"}');
	SELECT velosync_track('items', '{"ids":"renumber"}');`

// atStep calls f at a step of each round.
func atStep(name string, f func() error) func(*replicator.Options) {
	return func(o *replicator.Options) {
		o.Step = func(step string) error {
			if step == name {
				return f()
			}
			return nil
		}
	}
}

func TestRenumber(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(lists, `INSERT INTO lists(name) VALUES ('shopping'), ('work')`, `INSERT INTO items(list, of) VALUES (1, 'shopping'), (2, 'work')`)
	b.exec(lists, `INSERT INTO lists(name) VALUES ('travel'), ('books')`, `UPDATE lists SET above = 1 WHERE id = 2`,
		`INSERT INTO items(list, of) VALUES (1, 'travel'), (2, 'books'), (2, 'books')`, `UPDATE lists SET name = 'journeys' WHERE id = 1`,
		`INSERT INTO lists(name) VALUES ('gone')`, `DELETE FROM lists WHERE id = 3`)
	a.sync()
	if r := b.sync(); r.RenumberedRows != 4 { // 2 lists; of the items 1 and 2
		t.Errorf("%d rows got other numbers, want 4", r.RenumberedRows)
	}
	a.sync()
	for _, d := range []*device{a, b} {
		d.want(`SELECT id, name, above FROM lists ORDER BY id`, "1 shopping <nil>\n2 work <nil>\n3 journeys <nil>\n4 books 3")
		d.want(`SELECT i.of FROM items i JOIN lists l ON l.id = i.list WHERE l.name <> i.of AND (l.name, i.of) <> ('journeys', 'travel')`, "")
		d.want(`SELECT count(*) FROM items`, "5")
		d.want(`SELECT count(*) FROM velosync_conflicts`, "0")
		d.want(`SELECT pending FROM velosync_status`, "0")
	}
	// Both know of all numbers now, and an edit of a shared row is an edit of one row.
	a.exec(`UPDATE lists SET name = 'A' WHERE id = 3`)
	b.exec(`UPDATE lists SET name = 'B' WHERE id = 3`)
	equal(t, `SELECT * FROM lists ORDER BY id`, a, b)
	a.want(`SELECT count(*) FROM lists`, "4")
}

// A row that was pushed, its answer lost, is its author's own, whatever others did to it.
func TestRenumber_answerLost(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	var lost error
	a, b := newDevice(t, m, "a", atStep("apply", func() error { return lost })), newDevice(t, m, "b", nil)
	a.exec(lists)
	b.exec(lists)
	a.sync()
	b.sync()
	a.exec(`INSERT INTO lists(name) VALUES ('mine')`)
	lost = errors.New("the answer is lost")
	if _, err := a.r.Sync(context.Background()); !errors.Is(err, lost) {
		t.Fatalf("got %v, want the answer lost", err)
	}
	lost = nil
	b.sync()
	b.exec(`UPDATE lists SET name = 'theirs', above = 1`)
	b.sync()
	a.exec(`UPDATE lists SET name = 'mine again', above = NULL`)
	if r := a.sync(); r.RenumberedRows != 0 {
		t.Errorf("%d rows got other numbers: the row was on the master already", r.RenumberedRows)
	}
	equal(t, `SELECT * FROM lists`, a, b)
	a.want(`SELECT count(*) FROM lists`, "1")
}

// A row made while the answer to a push was on its way, under the number of one that the
// answer brings, is another row.
func TestRenumber_madeMeanwhile(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	var a *device
	made := true
	a = newDevice(t, m, "a", atStep("apply", func() error {
		if !made {
			made = true
			a.exec(`INSERT INTO lists(name) VALUES ('of a')`, `INSERT INTO items(list, of) VALUES (1, 'of a')`)
		}
		return nil
	}))
	b := newDevice(t, m, "b", nil)
	a.exec(lists)
	b.exec(lists)
	a.sync()
	b.sync()
	b.exec(`INSERT INTO lists(name) VALUES ('of b')`, `INSERT INTO items(list, of) VALUES (1, 'of b')`)
	b.sync()
	made = false
	if r := a.sync(); r.RenumberedRows != 2 || !made {
		t.Errorf("%d rows got other numbers, want 2", r.RenumberedRows)
	}
	b.sync()
	equal(t, `SELECT l.id, name, of FROM lists l JOIN items ON list = l.id ORDER BY l.id`, a, b)
	a.want(`SELECT l.id, name, of FROM lists l JOIN items ON list = l.id ORDER BY l.id`, "1 of b of b\n2 of a of a")
}

// A row that came and went before a sync deletes nobody's.
func TestRenumber_cameAndWent(t *testing.T) {
	for _, above := range []int64{0, 1} { // the log is compacted in place, or not
		m := masterdtest.New(t, masterdtest.Options{})
		a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", func(o *replicator.Options) { o.CompactAbove = int(above) })
		a.exec(lists, `INSERT INTO lists(name) VALUES ('stays')`)
		b.exec(lists)
		b.sync()
		a.sync()
		b.exec(`INSERT INTO lists(name) VALUES ('went')`, `UPDATE lists SET name = 'w'`, `DELETE FROM lists`)
		equal(t, `SELECT * FROM lists`, a, b)
		a.want(`SELECT name FROM lists`, "stays")
	}
}

// A row that came and went while the answer to a push was on its way keeps out nobody's, nor
// deletes it: also where one that came and went before is in the push.
func TestRenumber_cameAndWentMeanwhile(t *testing.T) {
	const row = `INSERT INTO lists(id, name) VALUES (1, 'went')`
	for _, c := range []struct {
		name           string
		before, during []string // on a
		theirs         []string // on b, while a asks for its second page
		want           string
	}{
		{name: "in the log alone", during: []string{row, `DELETE FROM lists WHERE id = 1`}, want: "1 of b\n2 of b too"},
		{name: "and before it", before: []string{row, `DELETE FROM lists`}, during: []string{row, `DELETE FROM lists WHERE id = 1`}, want: "1 of b\n2 of b too"},
		{name: "and stays", before: []string{row, `DELETE FROM lists`}, during: []string{`INSERT INTO lists(id, name) VALUES (1, 'stays')`}, want: "1 of b\n2 of b too\n3 stays"},
		{name: "theirs goes on a later page", during: []string{row, `DELETE FROM lists WHERE id = 1`}, theirs: []string{`DELETE FROM lists WHERE id = 1`}, want: "2 of b too"},
		{name: "theirs goes on a later page, and mine stays", during: []string{`INSERT INTO lists(id, name) VALUES (1, 'stays')`}, theirs: []string{`DELETE FROM lists WHERE id = 1`},
			want: "2 of b too\n3 stays"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := masterdtest.New(t, masterdtest.Options{Store: store.Options{PageRows: 1}})
			var a, b *device
			done := map[string]bool{"page": true, "apply": true}
			a = newDevice(t, m, "a", func(o *replicator.Options) {
				o.Step = func(step string) error {
					if seen, ok := done[step]; ok && !seen {
						done[step] = true
						if step == "apply" {
							a.exec(c.during...)
						} else {
							b.exec(c.theirs...)
							b.sync()
						}
					}
					return nil
				}
			})
			b = newDevice(t, m, "b", nil)
			a.exec(lists)
			b.exec(lists)
			a.sync()
			b.sync()
			b.exec(`INSERT INTO lists(name) VALUES ('of b'), ('of b too')`)
			b.sync()
			a.exec(c.before...)
			clear(done)
			done["page"], done["apply"] = false, false
			a.sync()
			if !done["page"] || !done["apply"] {
				t.Fatalf("steps %v: the pull did not come in pages", done)
			}
			equal(t, `SELECT * FROM lists ORDER BY id`, a, b)
			a.want(`SELECT id, name FROM lists ORDER BY id`, c.want)
			a.want(`SELECT count(*) FROM velosync_conflicts`, "0")
			a.want(`SELECT pending FROM velosync_status`, "0")
		})
	}
}

// Devices insert, edit, delete and sync at random. Each row has a name of its own, which no
// edit changes: at the end every row is there that nobody deleted, once, and each item
// refers to the list that it was made for.
func TestRenumber_random(t *testing.T) {
	for seed := range uint64(sized(4, 60)) { // a seed is 120 steps, with -race some seconds
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			m := masterdtest.New(t, masterdtest.Options{})
			devices := make([]*device, 3)
			for i := range devices {
				devices[i] = newDevice(t, m, string(rune('a'+i)), nil)
				devices[i].exec(lists)
			}
			made, items := map[string]bool{}, 0
			for n := range 120 {
				d := devices[rng.IntN(len(devices))]
				names := strings.Fields(d.rows(`SELECT name FROM lists ORDER BY name`))
				switch k := rng.IntN(10); {
				case k < 4 || len(names) == 0:
					name := fmt.Sprintf("%s%d", d.o.Name, n)
					d.exec(`INSERT INTO lists(name, above) VALUES ('` + name + `', (SELECT max(id) FROM lists))`)
					made[name] = true
				case k < 6:
					name := names[rng.IntN(len(names))]
					d.exec(`INSERT INTO items(list, of) SELECT id, name FROM lists WHERE name = '` + name + `'`)
					items++
				case k < 7:
					d.exec(`UPDATE lists SET above = NULL WHERE name = '` + names[rng.IntN(len(names))] + `'`)
				case k < 8 && items > 0:
					d.exec(`UPDATE items SET of = of WHERE id = (SELECT max(id) FROM items)`)
				default:
					d.sync()
				}
			}
			equal(t, `SELECT * FROM lists ORDER BY id`, devices...)
			equal(t, `SELECT * FROM items ORDER BY id`, devices...)
			want := strings.Join(slices.Sorted(maps.Keys(made)), "\n")
			devices[0].want(`SELECT name FROM lists ORDER BY name`, want)
			devices[0].want(`SELECT count(*), count(*) FILTER (WHERE of = name) FROM items LEFT JOIN lists ON lists.id = list`, fmt.Sprint(items, " ", items))
			devices[0].want(`SELECT count(*) FROM velosync_conflicts WHERE kind = 'rejected'`, "0")
		})
	}
}

// Rows that two files held before they were tracked are one where they are equal, since the
// files may be copies of one, and two where they differ. Rows made later are always two.
func TestRenumber_present(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	tables, track, _ := strings.Cut(lists, "SELECT")
	for _, d := range []*device{a, b} {
		d.exec(tables, `INSERT INTO lists(name) VALUES ('same'), ('of `+d.o.Name+`')`, "SELECT"+track, `INSERT INTO lists(name) VALUES ('new')`)
	}
	equal(t, `SELECT * FROM lists ORDER BY id`, a, b)
	a.want(`SELECT id, name FROM lists ORDER BY id`, "1 same\n2 of a\n3 new\n4 of b\n5 new")
}
