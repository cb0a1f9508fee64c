package sim

import (
	"context"
	"fmt"

	"github.com/velosync/velosync/replicator"
)

// With Options.Digests every round compares a range of rows with the master. While the
// schedule runs nothing may differ but what is on its way: a row that is healed then is a
// false alarm.

// ended is called with each round.
func (d *device) ended(r replicator.Round, _ error) {
	if r.DivergedRows > 0 && !d.rotten {
		d.w.fail("%s: %d rows are called different from the master's, and are not", d, r.DivergedRows)
	}
}

// rot damages rows of each device while no trigger watches, once all is at rest, and
// demands that rounds find and heal them.
func (w *world) rot() {
	rows := w.master.at[w.master.head]
	for _, d := range w.devices {
		d.look("before rot")
		var here int
		_, err := d.app.Row(`SELECT count(*) FROM notes`, nil, &here)
		w.must(err, "count rows")
		if here == 0 {
			continue
		}
		one := fmt.Sprintf("(%[1]s) = (SELECT %[1]s FROM notes ORDER BY %[1]s LIMIT 1 OFFSET %d)", w.shape.key.columns, w.rng.IntN(here))
		damage := "UPDATE notes SET b = 'rot' WHERE " + one
		if w.rng.IntN(2) == 0 {
			damage = "DELETE FROM notes WHERE " + one
		}
		d.rotten = true
		w.must(d.app.Script(`UPDATE _velosync_state SET applying = 1; `+damage+`; UPDATE _velosync_state SET applying = 0`), "damage rows of "+d.String())
		var after int
		_, err = d.app.Row(`SELECT count(*) FROM notes WHERE b IS NOT 'rot'`, nil, &after)
		w.must(err, "count rows")
		ranges := 2*len(w.shape.keys) + 12 // at most, of one row each where a page has no more
		if w.forest != nil {
			ranges += len(w.forest.shape.keys)
		}
		healed := 0
		for range ranges {
			r, err := d.r.Sync(context.Background())
			w.must(err, "sync "+d.String())
			healed += r.DivergedRows
		}
		if healed != here-after {
			w.fail("%s: %d rows were damaged, %d healed", d, here-after, healed)
		}
		d.rotten = false
		w.work("rows damaged and healed", healed)
		mine := d.table()
		for _, key := range w.shape.keys {
			if got, want := w.shape.show(mine[key]), w.shape.show(d.shown(rows[key])); got != want {
				w.fail("%s, healed of rot: row %s is %s, the master has %s", d, key, got, want)
			}
		}
	}
}
