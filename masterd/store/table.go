package store

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A table is a table of a space, with the statements that its rows need. It does not
// change; its memory of statements is for several goroutines.
type table struct {
	id          int64
	place       int // in the space's schema
	def         change.Table
	open        bool // its options are still to be settled
	registers   [][]int
	all         change.Bits
	policies    []change.Policy // by register
	blend       change.Bits     // registers of which concurrent versions become one
	expressions change.Bits     // of them, those with an SQL expression
	counters    []int           // registers
	sets        change.Bits
	key         []bool         // by position: is the column part of the key?
	rest        []int          // positions of the other columns
	former      map[string]int // places of columns by names that they had before; tableItself: the table
	since       []change.Seq   // by column: the head when it came
	regSince    []change.Seq   // by register
	registerOf  []int          // the register of each column; -1: of the key
	defaultText []string       // what DEFAULT says of each column; empty: nothing
	refers      []foreignKey
	referred    []foreignKey // keys of any table that refer to this one

	insert, remove, read string // a whole row: by its values, by its key, its values

	mu      sync.Mutex
	values  []change.Value // see defaults
	updates map[change.Bits]string
	selects map[change.Bits]string
}

// A foreignKey is one that a table declares, or that refers to it, with the registers
// that hold its columns in that table.
type foreignKey struct {
	vsql.ForeignKey
	regs change.Bits
}

// newTable prepares what needs no database.
func newTable(id int64, def change.Table, open bool) *table {
	t := &table{id: id, def: def, open: open, registers: def.Registers(), key: make([]bool, len(def.Columns)),
		updates: make(map[change.Bits]string), selects: make(map[change.Bits]string)}
	t.all = change.AllBits(len(t.registers))
	t.policies, t.counters = def.Policies(t.registers), def.Counters(t.registers)
	for r, p := range t.policies {
		if p != change.ByRank && p != change.Counter {
			t.blend |= change.Bit(r)
		}
		if p == change.SetPolicy {
			t.sets |= change.Bit(r)
		}
		if p.Expression() {
			t.expressions |= change.Bit(r)
		}
	}
	for _, k := range def.Key {
		t.key[k] = true
	}
	t.regSince, t.registerOf = make([]change.Seq, len(t.registers)), slices.Repeat([]int{-1}, len(def.Columns))
	for r, cols := range t.registers {
		for _, c := range cols {
			t.registerOf[c] = r
		}
	}
	names := make([]string, len(def.Columns))
	every := make([]int, len(def.Columns))
	for i, c := range def.Columns {
		names[i], every[i] = vsql.Quote(c.Name), i
		if !t.key[i] {
			t.rest = append(t.rest, i)
		}
	}
	name := t.name()
	t.insert = "INSERT INTO " + name + " (" + strings.Join(names, ", ") + ") VALUES (" + marks(len(names)) + ")"
	t.remove = "DELETE FROM " + name + " WHERE " + vsql.KeyCondition(&def)
	t.read = t.selectColumns(every)
	return t
}

func (t *table) name() string { return "main." + vsql.Quote(t.def.Name) }

// marks returns n parameters.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// selectColumns returns the query of a row's columns by its key. The unary plus keeps
// go-sqlite3 from turning a BOOLEAN or DATETIME column's value into something else.
func (t *table) selectColumns(cols []int) string {
	if len(cols) == 0 {
		return "SELECT 1 FROM " + t.name() + " WHERE " + vsql.KeyCondition(&t.def)
	}
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = "+" + vsql.Quote(t.def.Columns[c].Name)
	}
	return "SELECT " + strings.Join(names, ", ") + " FROM " + t.name() + " WHERE " + vsql.KeyCondition(&t.def)
}

// selectOf returns the query of the columns of some registers by the row's key.
func (t *table) selectOf(regs change.Bits) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	q, ok := t.selects[regs]
	if !ok {
		q = t.selectColumns(t.columns(regs))
		remember(t.selects, regs, q)
	}
	return q
}

// updateOf returns the statement that sets the columns of some registers, in table order,
// of the row named by the key values that follow; "" when they have no columns.
func (t *table) updateOf(regs change.Bits) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	q, ok := t.updates[regs]
	if !ok {
		var set []string
		for _, c := range t.columns(regs) {
			set = append(set, vsql.Quote(t.def.Columns[c].Name)+" = ?")
		}
		if len(set) > 0 {
			q = "UPDATE " + t.name() + " SET " + strings.Join(set, ", ") + " WHERE " + vsql.KeyCondition(&t.def)
		}
		remember(t.updates, regs, q)
	}
	return q
}

// remember bounds the memory of statements: there are 2^64 sets of registers.
func remember(m map[change.Bits]string, regs change.Bits, q string) {
	if len(m) >= 1000 {
		clear(m)
	}
	m[regs] = q
}

// columns returns the positions of the columns that some registers hold, ascending.
func (t *table) columns(regs change.Bits) []int {
	if regs == t.all {
		return t.rest
	}
	return change.ColumnsOf(t.registers, regs)
}

// row returns a row's values in table order: those of the key, and nothing else yet.
func (t *table) row(key []change.Value) []change.Value {
	row := make([]change.Value, len(t.def.Columns))
	for i, k := range t.def.Key {
		row[k] = key[i]
	}
	return row
}

// holding returns the registers that hold some columns, by name; all of them when one is
// a generated column, which changes with any other.
func (t *table) holding(columns []string) (regs change.Bits) {
	for _, name := range columns {
		at := slices.IndexFunc(t.def.Columns, func(c change.Column) bool { return strings.EqualFold(c.Name, name) })
		if at < 0 {
			return t.all
		}
		for r, cols := range t.registers {
			if slices.Contains(cols, at) {
				regs |= change.Bit(r)
			}
		}
	}
	return regs
}

// readSince reads when the columns came.
func (t *table) readSince(text string) error {
	if err := json.Unmarshal([]byte(text), &t.since); err != nil || len(t.since) != len(t.def.Columns) {
		return fmt.Errorf("the columns of table %q came at %.100q: the store is damaged", t.def.Name, text)
	}
	for r, cols := range t.registers {
		for i, c := range cols {
			if i == 0 || t.since[c] < t.regSince[r] {
				t.regSince[r] = t.since[c]
			}
		}
	}
	return nil
}

// readDots reads the dots of a row. Registers that came after its last change have none.
func (t *table) readDots(b []byte, feed change.Seq, s sites, r *change.Row) error {
	n := len(t.registers)
	for n > 1 && t.regSince[n-1] >= feed {
		n--
	}
	err := readDots(b, feed, n, s, r)
	for len(r.Regs) < len(t.registers) {
		r.Regs = append(r.Regs, change.Dot{})
	}
	return err
}

// defaults returns what a row has in each column that nobody gave a value.
func (t *table) defaults() ([]change.Value, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.values != nil {
		return t.values, nil
	}
	c, err := scratch()
	if err != nil {
		return nil, err
	}
	defer closeConn(c)
	values := make([]change.Value, len(t.def.Columns))
	for i, text := range t.defaultText {
		if text == "" {
			continue
		}
		// SQLite gives the value the column's affinity as it stores it.
		make := func(text string) error {
			return c.Script(fmt.Sprintf("CREATE TABLE d%d(v %s DEFAULT (%s)); INSERT INTO d%d DEFAULT VALUES", i, t.def.Columns[i].Type, text, i))
		}
		err := make(text)
		if err != nil { // a bare word is a text
			err = make(vsql.QuoteText(text))
		}
		if err == nil {
			_, err = c.Row(fmt.Sprintf("SELECT +v FROM d%d", i), nil, &values[i])
		}
		if err != nil {
			return nil, fmt.Errorf("table %q, column %q: its DEFAULT: %w", t.def.Name, t.def.Columns[i].Name, err)
		}
	}
	t.values = values
	return values, nil
}

// oldValues reads the values of a deleted row, which may be from before the last columns came.
func (t *table) oldValues(trash []byte) ([]change.Value, error) {
	row, err := readValues(trash, len(t.def.Columns))
	if err != nil || len(row) == len(t.def.Columns) {
		return row, err
	}
	values, err := t.defaults()
	if err != nil {
		return nil, err
	}
	return append(row, values[len(row):]...), nil
}

// link reads how the table refers to others, and they to it.
func (t *table) link(c *vsql.Conn) error {
	t.defaultText = make([]string, len(t.def.Columns))
	err := c.Query(`SELECT name, coalesce(dflt_value, '') FROM pragma_table_xinfo(?)`, []driver.Value{t.def.Name}, func(row []driver.Value) error {
		if i := t.def.Find(row[0].(string)); i >= 0 {
			t.defaultText[i] = row[1].(string)
		}
		return nil
	})
	if err != nil {
		return err
	}
	keys, err := c.ForeignKeys(t.def.Name)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if !k.Missing { // else the parent is not in the space: nothing to check
			t.refers = append(t.refers, foreignKey{k, t.holding(k.Columns)})
		}
	}
	to, err := c.ForeignKeysTo(t.def.Name)
	if err != nil {
		return err
	}
	for _, k := range to {
		if !k.Missing {
			t.referred = append(t.referred, foreignKey{k, t.holding(k.To)})
		}
	}
	return t.prepare(c)
}

// prepare compiles the statements once, so that an error of a later one lies in a row.
func (t *table) prepare(c *vsql.Conn) error {
	for _, q := range []string{t.insert, t.remove, t.read, t.updateOf(t.all)} {
		if q == "" {
			continue
		}
		s, err := c.Raw().Prepare(q)
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			return fmt.Errorf("table %q: %w", t.def.Name, err)
		}
	}
	return nil
}

// A rowID names a row of a space in a Go map. 1 and 1.0 are two names, as they are in
// _velosync_row.
type rowID struct {
	table int64
	kind  byte
	n     uint64
	s     string
}

// idOf returns the map key of a row.
func idOf(table int64, key change.Value) rowID {
	switch k := key.(type) {
	case int64:
		return rowID{table: table, kind: 'i', n: uint64(k)}
	case float64:
		if k == 0 {
			k = 0 // -0.0 is the same name
		}
		return rowID{table: table, kind: 'r', n: math.Float64bits(k)}
	case string:
		return rowID{table: table, kind: 't', s: k}
	case []byte:
		return rowID{table: table, kind: 'b', s: string(k)}
	}
	return rowID{table: table}
}
