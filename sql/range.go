package vsql

import (
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// SelectRange returns the query of the name and some columns of the rows in a range of
// keys, in the order of the key, which is the same in every file that declares the table
// alike. Its parameters are the values of the key before the range, where after is set,
// those of its last key, where to is, and a limit. Rows with a NULL in their key are left
// out.
func SelectRange(t *change.Table, columns []int, after, to bool) string {
	key, known, marks := make([]string, len(t.Key)), make([]string, len(t.Key)), "?"+strings.Repeat(", ?", len(t.Key)-1)
	for i, k := range t.Key {
		key[i] = Quote(t.Columns[k].Name)
		known[i] = key[i] + " IS NOT NULL"
	}
	names := []string{"+" + (&Declaration{Table: *t}).KeyExpression("")}
	for _, c := range columns {
		names = append(names, "+"+Quote(t.Columns[c].Name))
	}
	list := strings.Join(key, ", ")
	q := "SELECT " + strings.Join(names, ", ") + " FROM main." + Quote(t.Name) + " WHERE " + strings.Join(known, " AND ")
	if after {
		q += " AND (" + list + ") > (" + marks + ")"
	}
	if to {
		q += " AND (" + list + ") <= (" + marks + ")"
	}
	return q + " ORDER BY " + list + " LIMIT ?"
}

// RangeArgs returns the parameters of SelectRange for keys as SplitKey takes them, nil for
// none. An error says which of them is no key of t.
func RangeArgs(t *change.Table, after, to change.Value, limit int) ([]change.Value, error) {
	var args []change.Value
	for _, key := range []change.Value{after, to} {
		if key == nil {
			continue
		}
		parts, err := change.SplitKey(key, len(t.Key))
		if err != nil {
			return nil, err
		}
		args = append(args, parts...)
	}
	return append(args, int64(limit)), nil
}
