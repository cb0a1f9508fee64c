package store

import (
	"fmt"
	"math"
	"slices"

	"github.com/velosync/velosync/capture/change"
)

// clash takes down that an edit made a row under a number that another row has, of which
// its author knew nothing. A row that is gone again is not missed.
func (a *application) clash(b *batch, e *rowEdit) error {
	id, ok := e.key.(int64)
	if e.edit.Delete || !ok {
		a.duplicates++
		return nil
	}
	at := slices.IndexFunc(a.clashes, func(c *change.Clash) bool { return c.Table == b.own })
	if at < 0 {
		next, err := a.nextID(b.table)
		if err != nil {
			return err
		}
		at = len(a.clashes)
		a.clashes = append(a.clashes, &change.Clash{Table: b.own, Next: next})
	}
	a.clashes[at].Add(id) // what does not fit is told of next time
	return nil
}

// nextID returns a number above all that rows of a table have, or had.
func (a *application) nextID(t *table) (int64, error) {
	var top int64
	if _, err := a.Row(`SELECT coalesce(max(pk), 0) FROM _velosync_row WHERE tbl = ? AND typeof(pk) = 'integer'`, []change.Value{t.id}, &top); err != nil {
		return 0, fmt.Errorf("the greatest number in %q: %w", t.def.Name, err)
	}
	if top == math.MaxInt64 {
		return 0, &RequestError{Reason: fmt.Sprintf("a row of %q has the greatest number that there is: none is left for rows that need another", t.def.Name)}
	}
	return max(top+1, 1), nil
}
