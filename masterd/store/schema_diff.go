package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// compareTables returns the columns that a device's table has and the space's has not. An
// error says why the two don't fit. Columns that the space has are called in got as they are
// there.
func compareTables(have, got *change.Table, options bool) (added []int, err error) {
	refuse := func(format string, args ...any) ([]int, error) {
		return nil, &SchemaError{Table: have.Name, Reason: fmt.Sprintf(format, args...) +
			"; make the device's table like the space's, or sync it with another space"}
	}
	a, okA := readTableText(have)
	b, okB := readTableText(got)
	if !okA || !okB {
		return refuse("its SQL is %.500q in the space and %.500q on the device", have.SQL, got.SQL)
	}
	if x, y := keyText(have), keyText(got); x != y {
		return refuse("its key is %s in the space and %s on the device", x, y)
	}
	for i, c := range got.Columns {
		at := have.Find(c.Name)
		switch {
		case at < 0:
			added = append(added, i)
			continue
		case have.Columns[at] != c:
			return refuse("column %q is %s in the space and %s on the device", c.Name, columnText(have.Columns[at]), columnText(c))
		}
		x, y := a.columns[lower(c.Name)], b.columns[lower(c.Name)]
		if !slices.Equal(x.tokens, y.tokens) {
			return refuse("column %q is %.500q in the space and %.500q on the device", c.Name, x.text, y.text)
		}
	}
	for _, c := range have.Columns {
		if got.Find(c.Name) >= 0 {
			continue
		}
		if item := a.columns[lower(c.Name)]; c.NotNull && !slices.Contains(item.tokens, "default") {
			return refuse("the space has column %s without a DEFAULT, the device has not: its rows would have no value for it", columnText(c))
		}
	}
	if !slices.Equal(a.constraints, b.constraints) || a.tail != b.tail {
		return refuse("its SQL is %.500q in the space and %.500q on the device (they differ at %.200q)", have.SQL, got.SQL,
			firstDifference(append(a.constraints, a.tail), append(b.constraints, b.tail)))
	}
	x, y := uniqueTexts(have), uniqueTexts(got)
	if !slices.Equal(x, y) {
		return refuse("its unique indexes are %.500q in the space and %.500q on the device", x, y)
	}
	if x, y := optionsText(have, got), optionsText(got, have); options && x != y {
		return refuse("its options are %s in the space and %s on the device", x, y)
	}
	return added, nil
}

// withColumnNames returns a device's table with other names for its columns, by the names
// that they have. SQLite renames them: a name may be a type's or a word of an expression as
// well, and the column of another table that a foreign key names. An error is a
// *SchemaError, or comes from SQLite.
func withColumnNames(t *change.Table, names map[string]string) (*change.Table, error) {
	if len(names) == 0 {
		return t, nil
	}
	if err := checkTable(t); err != nil {
		return nil, err
	}
	c, err := scratch()
	if err != nil {
		return nil, err
	}
	defer closeConn(c)
	for _, text := range append([]string{t.SQL}, t.Indexes...) {
		if err := c.Script(text); err != nil {
			return nil, err
		}
	}
	rename := func(from, to string) error {
		return c.Script("ALTER TABLE " + vsql.Quote(t.Name) + " RENAME COLUMN " + vsql.Quote(from) + " TO " + vsql.Quote(to))
	}
	between := make(map[string]string, len(names)) // two columns may exchange their names
	for from, to := range names {
		free := fmt.Sprintf("_velosync_column_%d", len(between))
		if err := rename(from, free); err != nil {
			return nil, err
		}
		between[free] = to
	}
	for free, to := range between {
		if err := rename(free, to); err != nil {
			return nil, &SchemaError{Table: t.Name, Reason: fmt.Sprintf("the space calls one of its columns %q, and so it calls another one: %v", to, err)}
		}
	}
	d, err := c.Describe(t.Name)
	if err != nil {
		return nil, err
	}
	d.Table.Options = withNames(t.Options, names)
	return &d.Table, nil
}

func columnText(c change.Column) string {
	text := fmt.Sprintf("%q %s", c.Name, c.Type)
	if c.NotNull {
		text += " NOT NULL"
	}
	return strings.TrimSpace(text)
}

func keyText(t *change.Table) string {
	names := make([]string, len(t.Key))
	for i, k := range t.Key {
		names[i] = t.Columns[k].Name
	}
	return fmt.Sprintf("%q", names)
}

func firstDifference(a, b []string) string {
	for i := range b {
		if i >= len(a) || a[i] != b[i] {
			return b[i]
		}
	}
	return a[len(b)]
}

// uniqueTexts returns the unique indexes of a table, without their names.
func uniqueTexts(t *change.Table) []string {
	var texts []string
	for _, text := range t.Indexes {
		if uniqueIndex(text) {
			tokens, _ := sqlTokens(text)
			texts = append(texts, strings.Join(tokens[min(6, len(tokens)):], " "))
		}
	}
	slices.Sort(texts)
	return texts
}

// optionsText returns a table's options as far as they concern columns that another one
// has too.
func optionsText(t, other *change.Table) string {
	o := t.Options
	o.Groups = nil
	for _, g := range t.Options.Groups {
		var both []string
		for _, c := range g {
			if other.Find(c) >= 0 {
				both = append(both, c)
			}
		}
		if len(both) > 1 || len(both) == 1 && len(g) == 1 {
			slices.SortFunc(both, func(x, y string) int { return t.Find(x) - t.Find(y) })
			o.Groups = append(o.Groups, both)
		}
	}
	slices.SortFunc(o.Groups, func(x, y []string) int { return strings.Compare(x[0], y[0]) })
	o.Merge = nil
	for name, p := range t.Options.Merge {
		if other.Find(name) >= 0 {
			o.SetMerge(name, p)
		}
	}
	b, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("store: options do not marshal: %v", err)) // strings only
	}
	return string(b)
}
