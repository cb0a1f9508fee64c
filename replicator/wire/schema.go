package wire

import (
	"errors"
	"maps"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/velosync/velosync/capture/change"
)

// The tables of a schema. Text travels as byte strings: SQLite does not ask that names
// and SQL be UTF-8. A nil list and an empty one stay what they are, since the schema's
// digest tells them apart.
type (
	wireTable struct {
		_       struct{} `cbor:",toarray"`
		Name    cbor.ByteString
		SQL     cbor.ByteString
		Indexes []cbor.ByteString
		Columns []wireColumn
		Key     []uint32
		Weight  cbor.ByteString
		Groups  [][]cbor.ByteString
		IDs     cbor.ByteString
		Merge   []wireMerge // a table without policies ends before it
	}
	wireMerge struct {
		_      struct{} `cbor:",toarray"`
		Column cbor.ByteString
		Policy cbor.ByteString
	}
	wireColumn struct {
		_       struct{} `cbor:",toarray"`
		Name    cbor.ByteString
		Type    cbor.ByteString
		NotNull bool
	}
)

// tableItems is how many items a table without policies has: one with policies has one more.
const tableItems = 8

// plainTable is a wireTable without policies.
type plainTable struct {
	_       struct{} `cbor:",toarray"`
	Name    cbor.ByteString
	SQL     cbor.ByteString
	Indexes []cbor.ByteString
	Columns []wireColumn
	Key     []uint32
	Weight  cbor.ByteString
	Groups  [][]cbor.ByteString
	IDs     cbor.ByteString
}

// packSchema returns the tables as a byte string of CBOR, nil for none.
func packSchema(s change.Schema) (*span, error) {
	if s == nil {
		return nil, nil
	}
	tables := make([]any, len(s))
	for i := range s {
		t := &s[i]
		w := plainTable{
			Name:    cbor.ByteString(t.Name),
			SQL:     cbor.ByteString(t.SQL),
			Indexes: convert[cbor.ByteString](t.Indexes),
			Weight:  cbor.ByteString(t.Options.Weight),
			IDs:     cbor.ByteString(t.Options.IDs),
		}
		if t.Columns != nil {
			w.Columns = make([]wireColumn, len(t.Columns))
		}
		for j, c := range t.Columns {
			w.Columns[j] = wireColumn{Name: cbor.ByteString(c.Name), Type: cbor.ByteString(c.Type), NotNull: c.NotNull}
		}
		if t.Key != nil {
			w.Key = make([]uint32, len(t.Key))
		}
		for j, k := range t.Key {
			if k < 0 || k >= len(t.Columns) {
				return nil, bad("table %q: key column %d of %d", t.Name, k, len(t.Columns))
			}
			w.Key[j] = uint32(k)
		}
		if t.Options.Groups != nil {
			w.Groups = make([][]cbor.ByteString, len(t.Options.Groups))
		}
		for j, g := range t.Options.Groups {
			w.Groups[j] = convert[cbor.ByteString](g)
		}
		tables[i] = w
		if len(t.Options.Merge) > 0 {
			tables[i] = wireTable{Name: w.Name, SQL: w.SQL, Indexes: w.Indexes, Columns: w.Columns, Key: w.Key, Weight: w.Weight, Groups: w.Groups, IDs: w.IDs,
				Merge: packMerge(t.Options.Merge)}
		}
	}
	b, err := encMode().Marshal(tables)
	if err != nil {
		return nil, bad("the tables do not encode: %v", err)
	}
	return (*span)(&b), nil
}

// packMerge returns the policies in the order of their columns' names.
func packMerge(merge map[string]change.Policy) []wireMerge {
	list := make([]wireMerge, 0, len(merge))
	for _, name := range slices.Sorted(maps.Keys(merge)) {
		list = append(list, wireMerge{Column: cbor.ByteString(name), Policy: cbor.ByteString(merge[name])})
	}
	return list
}

// unpackTables reads tables with and without policies.
func unpackTables(b []byte, l Limits) ([]wireTable, error) {
	var items []cbor.RawMessage
	if err := decMode(l).Unmarshal(b, &items); err != nil {
		return nil, err
	}
	if err := over("tables", len(items), int64(l.Tables)); err != nil {
		return nil, err
	}
	tables := make([]wireTable, len(items))
	for i, item := range items {
		_, n, _, _ := cborHead(item)
		if n != tableItems {
			if err := decMode(l).Unmarshal(item, &tables[i]); err != nil {
				return nil, err
			}
			continue
		}
		var p plainTable
		if err := decMode(l).Unmarshal(item, &p); err != nil {
			return nil, err
		}
		tables[i] = wireTable{Name: p.Name, SQL: p.SQL, Indexes: p.Indexes, Columns: p.Columns, Key: p.Key, Weight: p.Weight, Groups: p.Groups, IDs: p.IDs}
	}
	return tables, nil
}

// unpackMerge reads the policies of a table; what they are worth, the store asks.
func unpackMerge(list []wireMerge) (map[string]change.Policy, error) {
	if len(list) == 0 {
		return nil, nil
	}
	merge := make(map[string]change.Policy, len(list))
	for _, m := range list {
		if _, ok := merge[string(m.Column)]; ok {
			return nil, bad("column %.40q has two merge policies", string(m.Column))
		}
		merge[string(m.Column)] = change.Policy(m.Policy)
	}
	return merge, nil
}

// unpackSchema reads what packSchema wrote.
func unpackSchema(b *span, l Limits) (change.Schema, error) {
	if b == nil {
		return nil, nil
	}
	if err := over("bytes of the tables", len(*b), int64(l.Schema)); err != nil {
		return nil, err
	}
	tables, err := unpackTables(*b, l)
	var limit *LimitError
	switch {
	case errors.As(err, &limit):
		return nil, err
	case err != nil:
		e := bad("the tables do not decode")
		e.Err = err
		return nil, e
	}
	s := make(change.Schema, len(tables))
	for i := range tables {
		w := &tables[i]
		if err := checkTable(w, l); err != nil {
			return nil, err
		}
		t := &s[i]
		*t = change.Table{
			Name:    string(w.Name),
			SQL:     string(w.SQL),
			Indexes: convert[string](w.Indexes),
			Options: change.Options{Weight: string(w.Weight), IDs: string(w.IDs)},
		}
		if w.Columns != nil {
			t.Columns = make([]change.Column, len(w.Columns))
		}
		for j, c := range w.Columns {
			t.Columns[j] = change.Column{Name: string(c.Name), Type: string(c.Type), NotNull: c.NotNull}
		}
		if w.Key != nil {
			t.Key = make([]int, len(w.Key))
		}
		for j, k := range w.Key {
			t.Key[j] = int(k)
		}
		if w.Groups != nil {
			t.Options.Groups = make([][]string, len(w.Groups))
		}
		for j, g := range w.Groups {
			t.Options.Groups[j] = convert[string](g)
		}
		if t.Options.Merge, err = unpackMerge(w.Merge); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// checkTable checks the names' lengths, the number of columns and the key's places.
func checkTable(t *wireTable, l Limits) error {
	if err := over("columns of a table", len(t.Columns), int64(l.Columns)); err != nil {
		return err
	}
	names := []cbor.ByteString{t.Name, t.Weight, t.IDs}
	for _, c := range t.Columns {
		names = append(names, c.Name, c.Type)
	}
	for _, g := range t.Groups {
		names = append(names, g...)
	}
	for _, m := range t.Merge {
		names = append(names, m.Column)
		if err := over("bytes of a merge policy", len(m.Policy), change.MaxPolicy); err != nil {
			return err
		}
	}
	for _, n := range names {
		if err := over("bytes of a name", len(n), int64(l.Name)); err != nil {
			return err
		}
	}
	seen := make(map[uint32]bool)
	for _, k := range t.Key {
		if int64(k) >= int64(len(t.Columns)) || seen[k] {
			return bad("table %.40q: key column %d is twice there, or not among the %d columns", string(t.Name), k, len(t.Columns))
		}
		seen[k] = true
	}
	return nil
}

// convert changes the element type of a list of texts; nil stays nil.
func convert[To, From ~string](list []From) []To {
	if list == nil {
		return nil
	}
	out := make([]To, len(list))
	for i, s := range list {
		out[i] = To(s)
	}
	return out
}
