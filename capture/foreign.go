package capture

import (
	"fmt"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A foreignCheck collects what a batch does to foreign keys between tracked tables, while
// SQLite's own enforcement is off, and checks just that before the commit. A parent table
// that is not tracked is not looked at: its rows do not travel.
type foreignCheck struct {
	d        *Device
	children []childRow
	parents  []parentRow
}

type childRow struct {
	t   *table
	key change.Value
}

type parentRow struct {
	k      *vsql.ForeignKey
	values []change.Value
}

// before is called with a row that will be written or deleted.
func (c *foreignCheck) before(t *table, key change.Value) error {
	for _, child := range c.d.tables {
		for i := range child.foreign {
			k := &child.foreign[i]
			if k.Missing || !equalFold(k.Parent, t.d.Name) {
				continue
			}
			parts, err := change.SplitKey(key, len(t.d.Key))
			if err != nil {
				return err
			}
			values, err := c.d.c.ParentValues(k, parts)
			if err != nil {
				return fmt.Errorf("foreign keys that refer to %q: %w", t.d.Name, err)
			}
			if values != nil {
				c.parents = append(c.parents, parentRow{k, values})
			}
		}
	}
	return nil
}

// after is called with a row that was written.
func (c *foreignCheck) after(t *table, key change.Value) {
	if len(t.foreign) > 0 {
		c.children = append(c.children, childRow{t, key})
	}
}

// broken returns what does not hold now, or "".
func (c *foreignCheck) broken() (string, error) {
	for _, r := range c.children {
		parts, err := change.SplitKey(r.key, len(r.t.d.Key))
		if err != nil {
			return "", err
		}
		for i := range r.t.foreign {
			k := &r.t.foreign[i]
			if k.Missing || c.d.tracked(k.Parent) == nil {
				continue
			}
			orphan, err := c.d.c.Orphan(k, parts)
			if err != nil {
				return "", err
			}
			if orphan {
				return fmt.Sprintf("row %v of %q refers to a row of %q that is not there", r.key, r.t.d.Name, k.Parent), nil
			}
		}
	}
	for _, p := range c.parents {
		found := ""
		err := c.d.c.Orphans(p.k, p.values, func(key change.Value) error {
			found = fmt.Sprintf("row %v of %q refers to a row of %q that is gone", key, p.k.Child, p.k.Parent)
			return nil
		})
		if err != nil || found != "" {
			return found, err
		}
	}
	return "", nil
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

// checkForeignKeys checks the keys that the batch touched. What the master sent is valid in
// itself, so a key that does not hold meets a row written since the push.
func (a *applier) checkForeignKeys() error {
	broken, err := a.foreign.broken()
	switch {
	case err != nil:
		return fmt.Errorf("check foreign keys: %w", err)
	case broken == "":
		return nil
	case len(a.later) > 0 && !a.park:
		return fmt.Errorf("%s: %w", broken, ErrAgain)
	}
	a.d.o.Log.Warn("foreign key does not hold", "what", broken)
	return nil
}
