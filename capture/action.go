package capture

import (
	"fmt"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// Rows of a tracked table may have children in tables that are not tracked, which only this
// file has. When a pulled row takes such a parent away, or changes what they refer to, nobody
// else can run the key's action, and SQLite does not while a batch is applied. So it is run
// here, once it is settled what became of the parent: it may be deleted and come back in one
// pull, or be moved aside for a moment.
//
// What an action can't do is laid at the door of the pulled row that asks for it, which then
// is parked: a constraint or a trigger of the child refuses, a row still refers to what is
// gone in the end (NO ACTION and RESTRICT, checked as at a commit), or an action would have to
// change a row of a tracked table, where it would be an edit that nobody made.

// A lostParent is a row that is gone, or has changed, for its children by one key.
type lostParent struct {
	row    touchedRow // of the pull, that began it
	key    change.Value
	was    []change.Value // of the columns that the key refers to
	now    []change.Value // gone: nil
	gone   bool
	stays  bool // neither: but children that refer to these values are its own
	direct bool // row is the parent itself
}

// A writtenChild is a row of a table that is not tracked, which an action has changed.
type writtenChild struct {
	begun touchedRow // the row of the pull
	k     *vsql.ForeignKey
	row   []change.Value
	key   change.Value
}

// A refusedRow is a row of the pull that asked for an action which can't be.
type refusedRow struct {
	touchedRow
	why string
}

// refuse notes that a row of the pull can't stand.
func (c *foreignCheck) refuse(r touchedRow, why string) {
	c.refused = append(c.refused, refusedRow{r, why})
}

// A wave is what is gone or changed, by the keys that refer to it, in the order of coming.
type wave struct {
	keys    []*reference
	parents map[*vsql.ForeignKey][]lostParent
}

func (w *wave) add(k *reference, p lostParent) {
	if w.parents == nil {
		w.parents = make(map[*vsql.ForeignKey][]lostParent)
	}
	if w.parents[k.ForeignKey] == nil {
		w.keys = append(w.keys, k)
	}
	w.parents[k.ForeignKey] = append(w.parents[k.ForeignKey], p)
}

// act runs the actions of keys of tables that are not tracked, for all rows since the last
// call. A row is given a column once, so that it ends where tables refer to each other; whether
// all fits then, unfit asks.
func (c *foreignCheck) act() error {
	var w wave
	for _, p := range c.parents[c.acted:] {
		if p.k.child != nil {
			continue
		}
		if err := c.settle(&w, p); err != nil {
			return err
		}
	}
	c.acted = len(c.parents)
	given := make(map[string]bool)
	for len(w.keys) > 0 {
		var next wave
		for _, k := range w.keys {
			if err := c.actOn(k, w.parents[k.ForeignKey], given, &next); err != nil {
				return err
			}
		}
		w = next
	}
	return nil
}

// settle asks what became of a row.
func (c *foreignCheck) settle(w *wave, p parentRow) error {
	parts, err := change.SplitKey(p.key, len(p.t.d.Key))
	if err != nil {
		return err
	}
	now, same, found, err := c.d.c.ParentNow(p.k.ForeignKey, parts, p.values)
	if err != nil {
		return err
	}
	if found && same && p.k.primary(p.t) {
		return nil // no other row has, or had, its values
	}
	w.add(p.k, lostParent{row: p.touchedRow, key: p.key, was: p.values, now: now, gone: !found, stays: found && same, direct: true})
	return nil
}

// primary reports whether the key refers to the parent's own key.
func (k *reference) primary(parent *table) bool {
	names := parent.names(parent.d.Key)
	return len(names) == len(k.To) && !slices.ContainsFunc(k.To, func(to string) bool {
		return !slices.ContainsFunc(names, func(n string) bool { return equalFold(n, to) })
	})
}

// acting reports whether an action does something.
func acting(action string) bool { return action != "NO ACTION" && action != "RESTRICT" }

// actOn runs the actions of one key, and adds to next what that does to children of children.
func (c *foreignCheck) actOn(k *reference, list []lostParent, given map[string]bool, next *wave) error {
	parents := make([]vsql.Parent, len(list))
	acts := false
	for i, p := range list {
		parents[i] = vsql.Parent{Values: p.was, Stays: p.stays}
		acts = acts || !p.stays
	}
	if !acts {
		return nil
	}
	if c.orphaned == nil {
		c.orphaned = make(map[*vsql.ForeignKey][]lostParent)
	}
	c.orphaned[k.ForeignKey] = append(c.orphaned[k.ForeignKey], list...)
	if k.child != nil || !acting(k.OnDelete) && !acting(k.OnUpdate) {
		return nil // a tracked row is not changed here
	}
	return c.d.c.Children(k.ForeignKey, parents, false, func(parent int, row []change.Value, key change.Value) error {
		return c.actOnChild(k.ForeignKey, &list[parent], row, key, given, next)
	})
}

func (c *foreignCheck) actOnChild(k *vsql.ForeignKey, p *lostParent, row []change.Value, key change.Value, given map[string]bool, next *wave) error {
	action, clause := k.OnDelete, "DELETE"
	if !p.gone {
		action, clause = k.OnUpdate, "UPDATE"
	}
	if row == nil || !acting(action) {
		return nil
	}
	cell := func(row []change.Value, column string) string {
		return fmt.Sprintf("%s %q %#v", strings.ToLower(k.Child), strings.ToLower(column), row)
	}
	if slices.ContainsFunc(k.Columns, func(column string) bool { return given[cell(row, column)] }) {
		return nil
	}
	references := c.d.references[strings.ToLower(k.Child)]
	was := make([][]change.Value, len(references))
	for i := range references {
		var err error
		if was[i], err = c.d.c.ParentValuesOf(references[i].ForeignKey, row); err != nil {
			return err
		}
	}
	now, err := c.d.c.Act(k, action, row, p.now)
	if isConstraint(err) {
		c.refuse(p.row, fmt.Sprintf("FOREIGN KEY: ON %s %s of row %v of %q, which refers to %s: %v", clause, action, key, k.Child, p.name(k), err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("ON %s %s of row %v of %q: %w", clause, action, key, k.Child, err)
	}
	removed := p.gone && action == "CASCADE"
	if !removed && now != nil {
		for _, column := range k.Columns {
			given[cell(now, column)] = true
		}
		c.written = append(c.written, writtenChild{p.row, k, now, key})
	}
	for i := range references {
		if was[i] == nil {
			continue
		}
		lost := lostParent{row: p.row, key: key, was: was[i], gone: true}
		if !removed && now != nil {
			values, same, found, err := c.d.c.ParentOfNow(references[i].ForeignKey, now, was[i])
			if err != nil {
				return err
			}
			if lost.now, lost.gone = values, !found; found && same {
				continue
			}
		}
		next.add(&references[i], lost)
	}
	return nil
}

// name says what a child by this key refers to.
func (p *lostParent) name(k *vsql.ForeignKey) string {
	name := fmt.Sprintf("row %v of %q", p.key, k.Parent)
	if !p.direct {
		name += fmt.Sprintf(", which goes with row %v of %q", p.row.key, p.row.t.d.Name)
	}
	return name
}

// unfitUntracked is unfit of what the actions left.
func (c *foreignCheck) unfitUntracked(f func(row touchedRow, why string)) error {
	for _, r := range c.refused {
		f(r.touchedRow, r.why)
	}
	for k, list := range c.orphaned {
		parents := make([]vsql.Parent, len(list))
		for i, p := range list {
			parents[i] = vsql.Parent{Values: p.was, Stays: p.stays}
		}
		err := c.d.c.Children(k, parents, true, func(parent int, _ []change.Value, key change.Value) error {
			p := &list[parent]
			if p.direct && p.gone && !acting(k.OnDelete) {
				if c.kept == nil {
					c.kept = make(map[*vsql.ForeignKey][]lostParent)
				}
				c.kept[k] = append(c.kept[k], *p)
			}
			f(p.row, fmt.Sprintf("FOREIGN KEY: row %v of %q refers to %s", key, k.Child, p.name(k)))
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, w := range c.written {
		keys := c.d.untracked[strings.ToLower(w.k.Child)]
		for i := range keys {
			k := &keys[i]
			if !slices.ContainsFunc(k.Columns, func(n string) bool {
				return slices.ContainsFunc(w.k.Columns, func(m string) bool { return equalFold(n, m) })
			}) {
				continue
			}
			orphan, err := c.d.c.OrphanOf(k, w.row)
			if err != nil {
				return err
			}
			if orphan {
				f(w.begun, fmt.Sprintf("FOREIGN KEY: row %v of %q, changed with row %v of %q, refers to a row of %q that is not here", w.key, k.Child, w.begun.key, w.begun.t.d.Name, k.Parent))
			}
		}
	}
	return nil
}
