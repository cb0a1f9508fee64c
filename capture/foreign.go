package capture

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A foreignCheck collects what a batch does to foreign keys of tracked tables, while SQLite's
// own enforcement is off, and checks just that before the commit. The actions of keys of
// tables that are not tracked it runs, see act: of others they were captured where the
// parent was changed.
type foreignCheck struct {
	d        *Device
	children []touchedRow
	parents  []parentRow

	awaited *[]event // unless nil: what the rows that can't stand wait for

	// of tables that are not tracked
	acted    int                               // of parents, so many have been acted on
	orphaned map[*vsql.ForeignKey][]lostParent // rows that are gone or changed, by the keys that refer to them
	written  []writtenChild
	refused  []refusedRow
	kept     map[*vsql.ForeignKey][]lostParent // of orphaned, those that a child still refers to and no action is for
}

type touchedRow struct {
	t   *table
	key change.Value
}

// A parentRow is a row as children referred to it before the batch.
type parentRow struct {
	touchedRow
	k      *reference
	values []change.Value
}

// A reference is a foreign key of another table that refers to one; child is nil where that
// other is not tracked.
type reference struct {
	*vsql.ForeignKey
	child *table
}

// readReferences reads which keys refer to tracked tables, or to what refers to these.
func (d *Device) readReferences() error {
	d.references, d.untracked = make(map[string][]reference), make(map[string][]vsql.ForeignKey)
	referring, err := d.c.Referring()
	if err != nil {
		return err
	}
	for _, child := range slices.Sorted(maps.Keys(referring)) {
		t := d.tracked(child)
		keys := []vsql.ForeignKey(nil)
		if t != nil {
			keys = t.foreign
		} else if keys, err = d.c.ForeignKeys(child); err != nil {
			return err
		} else {
			d.untracked[strings.ToLower(child)] = keys
		}
		for i := range keys {
			if k := &keys[i]; !k.Missing {
				parent := strings.ToLower(k.Parent)
				d.references[parent] = append(d.references[parent], reference{k, t})
			}
		}
	}
	return nil
}

// before is called with a row that will be written or deleted.
func (c *foreignCheck) before(t *table, key change.Value) error {
	references := c.d.references[strings.ToLower(t.d.Name)]
	if len(references) == 0 {
		return nil
	}
	parts, err := change.SplitKey(key, len(t.d.Key))
	if err != nil {
		return err
	}
	for i := range references {
		k := &references[i]
		values, err := c.d.c.ParentValues(k.ForeignKey, parts)
		if err != nil {
			return fmt.Errorf("foreign keys that refer to %q: %w", t.d.Name, err)
		}
		if values != nil {
			c.parents = append(c.parents, parentRow{touchedRow{t, key}, k, values})
		}
	}
	return nil
}

// after is called with a row that was written.
func (c *foreignCheck) after(t *table, key change.Value) {
	if len(t.foreign) > 0 {
		c.children = append(c.children, touchedRow{t, key})
	}
}

// broken returns what does not hold now, or "".
func (c *foreignCheck) broken() (string, error) {
	first := ""
	err := c.unfit(func(_ touchedRow, why string) {
		if first == "" {
			first = why
		}
	})
	return first, err
}

// unfit calls f with each row of the batch that can't stand as it is now, and why: it
// refers to a row that is not there, or another row refers to what it was.
func (c *foreignCheck) unfit(f func(row touchedRow, why string)) error {
	for _, r := range c.children {
		parts, err := change.SplitKey(r.key, len(r.t.d.Key))
		if err != nil {
			return err
		}
		for i := range r.t.foreign {
			k := &r.t.foreign[i]
			if k.Missing {
				continue
			}
			orphan, err := c.d.c.Orphan(k, parts)
			if err != nil {
				return err
			}
			if orphan {
				if err := c.await(k, r); err != nil {
					return err
				}
				f(r, fmt.Sprintf("FOREIGN KEY: row %v of %q refers to a row of %q that is not here", r.key, r.t.d.Name, k.Parent))
			}
		}
	}
	for _, p := range c.parents {
		if p.k.child == nil {
			continue
		}
		found := ""
		err := c.d.c.Orphans(p.k.ForeignKey, p.values, func(key change.Value) error {
			if c.awaited != nil && found == "" {
				*c.awaited = append(*c.awaited, rowMoves(p.k.child, key))
			}
			found = fmt.Sprintf("FOREIGN KEY: row %v of %q refers to row %v of %q", key, p.k.Child, p.key, p.k.Parent)
			return nil
		})
		if err != nil {
			return err
		}
		if found != "" {
			f(p.touchedRow, found)
		}
	}
	return c.unfitUntracked(f)
}

// uproot returns the rows of the batch that can't stand, and why. It deletes them, to find
// what refers to them at once, however deep the tree; the caller undoes that. Of a row whose
// older version stands it finds too much.
func (c *foreignCheck) uproot() (map[rowKey]string, error) {
	all := make(map[rowKey]string)
	for {
		var rows []touchedRow
		err := c.unfit(func(r touchedRow, why string) {
			if k := keyFor(r.t.id, r.key); all[k] == "" {
				all[k], rows = why, append(rows, r)
			}
		})
		if err != nil || len(rows) == 0 {
			return all, err
		}
		for _, r := range rows {
			if _, err := c.d.deleteRow(r.t, r.key); err != nil && !isConstraint(err) {
				return nil, err
			}
		}
	}
}

// tracked returns a tracked table by name, or nil.
func (d *Device) tracked(name string) *table {
	for _, t := range d.tables {
		if equalFold(t.d.Name, name) {
			return t
		}
	}
	return nil
}

// A brokenKeysError names pulled rows that can't stand in this file, with the reasons.
type brokenKeysError struct{ rows map[rowKey]string }

func (e *brokenKeysError) Error() string {
	for _, why := range e.rows {
		return fmt.Sprintf("%d pulled rows break foreign keys: %s", len(e.rows), why)
	}
	return "no pulled row breaks a foreign key"
}

// checkForeignKeys checks the keys that the batch touched. What the master sent is valid in
// itself, so a key that does not hold meets a row written since the push, or one that this
// file can't take. The batch is then applied anew without the rows of the error.
func (a *applier) checkForeignKeys() error {
	rows, err := a.foreign.uproot()
	if err != nil {
		return fmt.Errorf("check foreign keys: %w", err)
	}
	if len(rows) == 0 {
		return nil
	}
	err = &brokenKeysError{rows}
	if len(a.later) > 0 && !a.park {
		return fmt.Errorf("%v: %w", err, ErrAgain)
	}
	return err
}
