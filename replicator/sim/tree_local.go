package sim

import (
	"fmt"
	"maps"
	"slices"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// On most files with lists the application has a table of its own beside them, which is not
// tracked and refers to lists: marks, and behind them notes on marks. It is made at some time
// between rounds. Whatever comes by sync, no mark is without its list, see holdsKeys, and none
// goes, or loses its list, that has one.

var markActions = []string{"CASCADE", "SET NULL"}

// A mark names its list; none, where the list is gone.
type mark struct {
	list  string
	notes int64
}

// markOn runs a statement on marks, in a transaction of the application.
func (x *txn) markOn() {
	d, w := x.d, x.d.w
	if w.forest == nil || w.seed%5 == 0 || !d.tree.names.there() || x.err != nil {
		return
	}
	f := w.forest
	f.marks.asked++
	if f.marks.rng.Float64() < .3 && w.happens(draw{w.step, -1_000_000 - f.marks.asked}) {
		action := markActions[w.seed/8%2]
		x.exec(`CREATE TABLE IF NOT EXISTS marks(n INTEGER PRIMARY KEY, list TEXT REFERENCES lists(id) ON DELETE ` + action + ` ON UPDATE CASCADE)`)
		x.exec(`CREATE TABLE IF NOT EXISTS mark_notes(mark INTEGER REFERENCES marks ON DELETE CASCADE)`)
		f.marks.count++
		if list := f.shape.of(lists)[f.marks.rng.IntN(len(f.shape.of(lists)))]; f.marks.rng.IntN(4) > 0 {
			x.run(`INSERT INTO marks SELECT ?, id FROM lists WHERE id = ?`, f.marks.count, string(list))
			x.run(`INSERT INTO mark_notes SELECT n FROM marks WHERE n = ?`, f.marks.count)
		} else {
			x.run(`DELETE FROM marks WHERE list = ?`, string(list))
		}
		w.work("statements on marks", 1)
	}
	if x.err == nil {
		x.tree.marks = w.readMarks(d.app)
	}
}

// readMarks reads the marks of a file; there are none where it has no such table.
func (w *world) readMarks(c *vsql.Conn) map[int64]mark {
	marks := make(map[int64]mark)
	var n int
	if found, err := c.Row(`SELECT 1 FROM sqlite_schema WHERE name = 'mark_notes'`, nil, &n); err != nil || !found {
		w.must(err, "look for marks")
		return marks
	}
	w.must(c.Query(`SELECT n, coalesce(list, ''), (SELECT count(*) FROM mark_notes WHERE mark = n) FROM marks`, nil, func(v []change.Value) error {
		marks[v[0].(int64)] = mark{v[1].(string), v[2].(int64)}
		return nil
	}), "read the marks")
	return marks
}

// lookMarks compares the marks with what they were before rows came by sync; the same says
// that none came.
func (d *device) lookMarks(when string, same bool, rows map[treeKey]treeRow) {
	w := d.w
	was, marks := d.tree.marks, w.readMarks(d.app)
	d.tree.marks = marks
	if was == nil { // a power cut may have taken some
		return
	}
	want := maps.Clone(was)
	if !same {
		for n, m := range was {
			if _, stays := rows[treeKey(m.list)]; stays || m.list == "" {
				continue
			}
			w.work("marks of lists deleted elsewhere", 1)
			if markActions[w.seed/8%2] == "CASCADE" {
				delete(want, n)
			} else {
				want[n] = mark{"", m.notes}
			}
		}
	}
	if !maps.Equal(marks, want) {
		show := func(m map[int64]mark) (s []string) {
			for _, n := range slices.Sorted(maps.Keys(m)) {
				s = append(s, fmt.Sprintf("%d of %q, %d notes", n, m[n].list, m[n].notes))
			}
			return s
		}
		w.fail("%s, %s: the marks are %v, want %v; the lists and items are %v", d, when, show(marks), show(want), rows)
	}
}
