package store

import (
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
	"github.com/velosync/velosync/sqlfuncs"
)

// A v1Table is the table of vectors, with the places of the columns that protocol v1
// knows. A table that a device made may have more.
type v1Table struct {
	*table
	embedding, dimension, metadata, weight, updated int

	regs  change.Bits // the registers that hold those columns
	extra bool        // and others
}

// v1TableOf finds the table; nil when it is not there. The error is a *SchemaError when
// it has not the columns of protocol v1.
func v1TableOf(s *schema) (*v1Table, error) {
	for _, t := range s.tables {
		if strings.EqualFold(t.def.Name, V1Table) {
			return newV1Table(t)
		}
	}
	return nil, nil
}

func newV1Table(t *table) (*v1Table, error) {
	v := &v1Table{table: t}
	if len(t.def.Key) != 1 || !strings.EqualFold(t.def.Columns[t.def.Key[0]].Name, "vector_id") {
		return nil, &SchemaError{Table: t.def.Name, Reason: fmt.Sprintf("protocol v1 needs the key vector_id, the table has %s", keyText(&t.def))}
	}
	known := make(map[int]bool)
	for name, at := range map[string]*int{"embedding": &v.embedding, "dimension": &v.dimension, "metadata": &v.metadata,
		"semantic_weight": &v.weight, "updated_at": &v.updated} {
		*at = -1
		for _, i := range t.rest {
			if strings.EqualFold(t.def.Columns[i].Name, name) {
				*at, known[i] = i, true
			}
		}
		if *at < 0 {
			return nil, &SchemaError{Table: t.def.Name, Reason: fmt.Sprintf("protocol v1 needs the column %s, which it has not", name)}
		}
	}
	for r, cols := range t.registers {
		for _, c := range cols {
			if known[c] {
				v.regs |= change.Bit(r)
			}
		}
	}
	v.extra = len(known) < len(t.rest)
	return v, nil
}

// openV1 returns the table of vectors; it makes what is not there.
func (t *tx) openV1() (*v1Table, error) {
	has, err := hasV1(t.Conn)
	if err != nil {
		return nil, err
	}
	if !has {
		if err := t.Script(vsql.Master("0003_v1.sql")); err != nil {
			return nil, fmt.Errorf("make the tables of protocol v1: %w", err)
		}
	}
	table, err := v1TableOf(t.schema)
	if table != nil || err != nil {
		return table, err
	}
	made, err := tablesOf(vsql.Master("v1_table.sql"))
	if err != nil {
		return nil, err
	}
	def := made[0].def
	def.Options = change.Options{Weight: "semantic_weight",
		Groups: [][]string{{"embedding", "dimension", "metadata", "semantic_weight", "updated_at"}}}
	if err := makeTable(t.Conn, &def, false); err != nil {
		return nil, fmt.Errorf("make the table of protocol v1: %w", err)
	}
	if err := t.reloadSchema(); err != nil {
		return nil, err
	}
	return v1TableOf(t.schema)
}

// values returns a record's values for the columns of some registers, in table order.
// current, if there is one, is the row as it is: columns that protocol v1 does not know
// keep their values.
func (v *v1Table) values(r *V1Record, regs change.Bits, current []change.Value) []change.Value {
	cols := v.columns(regs)
	values := make([]change.Value, len(cols))
	for i, c := range cols {
		switch c {
		case v.embedding:
			values[i] = r.Embedding
		case v.dimension:
			values[i] = int64(len(r.Embedding) / 8)
		case v.metadata:
			values[i] = r.Metadata
		case v.weight:
			values[i] = r.Weight
		case v.updated:
			values[i] = r.Updated
		default:
			if current != nil {
				values[i] = current[c]
			}
		}
	}
	return values
}

// record returns a row's values as a record, without its clock. ok is false where they
// can't be one: the embedding is no vector, or has another dimension than the table's,
// which is 0 when it is not known. at is when the row was written, in unix ms.
func (v *v1Table) record(id string, row []change.Value, dimension int, at int64) (r V1Record, ok bool) {
	n := dimension
	if d, ok := row[v.dimension].(int64); ok && d > 0 && d <= sqlfuncs.MaxDims {
		n = int(d)
	}
	r = V1Record{ID: id, Embedding: v1Embedding(row[v.embedding], n), Metadata: "{}", Updated: float64(at) / 1e3}
	if len(r.Embedding) == 0 || dimension > 0 && len(r.Embedding) != 8*dimension {
		return r, false
	}
	switch m := row[v.metadata].(type) {
	case string:
		r.Metadata = m
	case []byte:
		r.Metadata = string(m)
	}
	if w, ok := finite(row[v.weight]); ok && w > 0 {
		r.Weight = w
	}
	if u, ok := finite(row[v.updated]); ok {
		r.Updated = u
	}
	return r, true
}

func finite(v change.Value) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	}
	return 0, false
}

// v1Embedding returns an embedding as protocol v1 keeps it, whatever form a device wrote
// it in; nil when it is no vector. n is how many elements it has; 0: not known.
func v1Embedding(v change.Value, n int) []byte {
	if b, ok := v.([]byte); ok && len(b)%8 == 0 && len(b) > 0 && (n == 0 || len(b) == 8*n) {
		for i := 0; i < len(b); i += 8 {
			if binary.LittleEndian.Uint64(b[i:])>>52&0x7ff == 0x7ff { // infinity, NaN
				return nil
			}
		}
		return b
	}
	var elements sqlfuncs.Vector64
	if v == nil || elements.Scan(v) != nil {
		return nil
	}
	b := make([]byte, 0, 8*len(elements))
	for _, x := range elements {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
	}
	return b
}

// v1Dimension returns the dimension of the table's vectors: what was recorded, as long as
// it has a row, or that of a row that a device wrote. 0: there is none yet.
func (v *v1Table) v1Dimension(c *vsql.Conn) (dimension int, recorded bool, err error) {
	var any bool
	if _, err := c.Row(`SELECT EXISTS (SELECT 1 FROM `+v.name()+`)`, nil, &any); err != nil || !any {
		return 0, false, err
	}
	recorded, err = c.Row(`SELECT dimension FROM _velosync_v1_dimension WHERE id = 1`, nil, &dimension)
	if recorded || err != nil {
		return dimension, recorded, err
	}
	q := `SELECT +` + vsql.Quote(v.def.Columns[v.dimension].Name) + `, +` + vsql.Quote(v.def.Columns[v.embedding].Name) + ` FROM ` + v.name() + ` LIMIT 100`
	err = c.Query(q, nil, func(row []driver.Value) error {
		n := 0
		if d, ok := row[0].(int64); ok && d > 0 && d <= sqlfuncs.MaxDims {
			n = int(d)
		}
		if dimension = len(v1Embedding(row[1], n)) / 8; dimension > 0 {
			return errStop
		}
		return nil
	})
	if err == errStop {
		err = nil
	}
	return dimension, false, err
}
