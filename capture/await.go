package capture

import (
	"fmt"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// An event is something that a parked row may wait for: that another row moves, or that a
// parent comes. Only which rows are tried next hangs on it. So it may be missed, or be told in
// vain: values are compared without regard to case and type.
type event string

// rowMoves is told when a row is written or deleted.
func rowMoves(t *table, key change.Value) event {
	return event(fmt.Sprintf("moves %d %T %v", t.id, key, key))
}

// parentComes is told when a row comes that a foreign key can refer to.
func parentComes(k *vsql.ForeignKey, values []change.Value) event {
	text := fmt.Sprintf("comes %q %q", k.Parent, k.To)
	for _, v := range values {
		if b, ok := v.([]byte); ok {
			v = string(b)
		}
		text += " " + strings.TrimRight(fmt.Sprint(v), " ")
	}
	return event(strings.ToLower(text))
}

// events returns what it means for others that a parked row came in.
func (a *applier) events(r *parkedRow) ([]event, error) {
	list := []event{rowMoves(r.t, r.key)}
	parts, err := change.SplitKey(r.key, len(r.t.d.Key))
	if err != nil {
		return nil, err
	}
	for _, k := range a.d.references[strings.ToLower(r.t.d.Name)] {
		values, err := a.d.c.ParentValues(k.ForeignKey, parts)
		if err != nil {
			return nil, err
		}
		if values != nil {
			list = append(list, parentComes(k.ForeignKey, values))
		}
	}
	return list, nil
}

// await notes the parent that a row lacks.
func (c *foreignCheck) await(k *vsql.ForeignKey, r touchedRow) error {
	if c.awaited == nil {
		return nil
	}
	cols := make([]int, len(k.Columns))
	for i, name := range k.Columns {
		if cols[i] = r.t.d.Find(name); cols[i] < 0 {
			return nil // generated
		}
	}
	_, _, err := c.d.readColumns(r.t, r.key, cols, func(v []change.Value) {
		*c.awaited = append(*c.awaited, parentComes(k, v))
	})
	return err
}

// awaitHolders notes the rows that have unique values of a parked row.
func (a *applier) awaitHolders(r *parkedRow) error {
	row, err := decodeRow(r.values)
	if err != nil {
		return err
	}
	whole := make([]change.Value, len(r.t.d.Columns))
	if _, _, err := a.d.readColumns(r.t, r.key, every(len(whole)), func(v []change.Value) { copy(whole, v) }); err != nil {
		return err
	}
	for i, c := range r.t.d.Columns {
		if v, parked := row[c.Name]; parked {
			whole[i] = v
		}
	}
	parts, err := change.SplitKey(r.key, len(r.t.d.Key))
	if err != nil {
		return err
	}
	for i, k := range r.t.d.Key {
		whole[k] = parts[i]
	}
	holders, err := a.d.holders(r.t, r.key, whole)
	for _, key := range holders {
		a.awaited = append(a.awaited, rowMoves(r.t, key))
	}
	return err
}

// holders returns the keys of the other rows with whose unique values a row of all columns
// meets, but for those of indexes on expressions.
func (d *Device) holders(t *table, key change.Value, row []change.Value) (keys []change.Value, err error) {
	for _, u := range t.d.Uniques {
		var terms []string
		var args []change.Value
		for i, name := range u.Columns {
			at := t.d.Find(name)
			if at < 0 || row[at] == nil { // NULL meets no other
				args = nil
				break
			}
			terms = append(terms, vsql.Quote(name)+" = ? COLLATE "+vsql.Quote(u.Collations[i]))
			args = append(args, row[at])
		}
		if args == nil {
			continue
		}
		query := "SELECT " + plain("("+t.d.KeyExpression("")+")") + " FROM main." + vsql.Quote(t.d.Name) + " WHERE " + strings.Join(terms, " AND ")
		err := d.c.Query(query, args, func(v []change.Value) error {
			if !sameKeyValue(v[0], key) {
				keys = append(keys, v[0])
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}
