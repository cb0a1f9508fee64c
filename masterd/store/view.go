package store

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A view is the space as devices of one schema see it: their own tables, as they have them,
// and those of the space that they lack. It does not change.
type view struct {
	own    []*viewTable // in the order of the device's schema
	tables []*viewTable // all, by name: a pull names them by place
	byID   map[int64]*viewTable
	list   change.Schema
	digest [32]byte
}

// A viewTable is a table of the space with the names, columns and registers that a device
// has of it. Places of columns and registers are the space's in table, the device's in def.
type viewTable struct {
	*table
	own       change.Table
	place     int
	same      bool // columns and registers are the space's
	registers [][]int
	all       change.Bits
	columnOf  []int // the space's column of each column here; -1: it was dropped
	regOf     []int // the space's register of each register here; -1: none
	lacks     change.Bits
	mu        sync.Mutex
	selects   map[change.Bits]string
	toOwn     map[change.Bits]change.Bits
}

// A deviceTable is what a digest says of one table of a device, as _velosync_schema holds it.
type deviceTable struct {
	ID      int64        `json:"id"`
	Columns []int        `json:"columns"` // the space's column of each; -1: none
	Table   change.Table `json:"table"`
}

// newView lays a device's tables over the space's.
func newView(s *schema, device []deviceTable) (*view, error) {
	v := &view{byID: make(map[int64]*viewTable)}
	for i := range device {
		t := s.byID[device[i].ID]
		if t == nil {
			return nil, fmt.Errorf("a digest names table %d, which is not there: the store is damaged", device[i].ID)
		}
		own := newViewTable(t, device[i].Table, device[i].Columns)
		v.own, v.tables, v.byID[t.id] = append(v.own, own), append(v.tables, own), own
	}
	for _, t := range s.tables {
		if v.byID[t.id] != nil {
			continue
		}
		own := newViewTable(t, t.def, every(len(t.def.Columns)))
		v.tables, v.byID[t.id] = append(v.tables, own), own
	}
	slices.SortFunc(v.tables, func(a, b *viewTable) int { return strings.Compare(a.own.Name, b.own.Name) })
	v.list = make(change.Schema, len(v.tables))
	for i, t := range v.tables {
		t.place, v.list[i] = i, t.own
	}
	v.digest = v.list.Digest()
	return v, nil
}

// every returns 0, 1, … n-1.
func every(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func newViewTable(t *table, own change.Table, columns []int) *viewTable {
	v := &viewTable{table: t, own: own, columnOf: columns, registers: own.Registers(),
		selects: make(map[change.Bits]string), toOwn: make(map[change.Bits]change.Bits)}
	v.all = change.AllBits(len(v.registers))
	v.same = slices.Equal(columns, every(len(t.def.Columns))) && slices.EqualFunc(v.registers, t.registers, slices.Equal)
	v.regOf = make([]int, len(v.registers))
	v.lacks = t.all
	for r, cols := range v.registers {
		v.regOf[r] = -1
		if len(cols) == 0 { // a table of keys alone: its one register holds whether the row is there
			v.regOf[r] = 0
		}
		for _, c := range cols {
			if at := columns[c]; at >= 0 {
				v.regOf[r] = t.registerOf[at]
				break
			}
		}
		if v.regOf[r] >= 0 {
			v.lacks &^= change.Bit(v.regOf[r])
		}
	}
	return v
}

// call gives a conflict the names that the device knows.
func (v *viewTable) call(c *change.Conflict) {
	c.Table = v.own.Name
	for i, n := range c.Columns {
		at := v.def.Find(n)
		if place, ok := v.former[n]; at < 0 && ok {
			at = place
		}
		if own := slices.Index(v.columnOf, at); at >= 0 && own >= 0 {
			c.Columns[i] = v.own.Columns[own].Name
		}
	}
}

// spaceRegs returns the space's registers of some of the device's.
func (v *viewTable) spaceRegs(own change.Bits) (regs change.Bits) {
	if v.same {
		return own
	}
	own.Each(func(r int) {
		if v.regOf[r] >= 0 {
			regs |= change.Bit(v.regOf[r])
		}
	})
	return regs
}

// ownRegs returns the device's registers that hold something of some of the space's.
func (v *viewTable) ownRegs(regs change.Bits) (own change.Bits) {
	if v.same {
		return regs
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	own, ok := v.toOwn[regs]
	if ok {
		return own
	}
	for r, cols := range v.registers {
		in := len(cols) == 0 && regs != 0
		for _, c := range cols {
			in = in || v.columnOf[c] >= 0 && regs.Has(v.registerOf[v.columnOf[c]])
		}
		if in {
			own |= change.Bit(r)
		}
	}
	if len(v.toOwn) >= 1000 {
		clear(v.toOwn)
	}
	v.toOwn[regs] = own
	return own
}

// selectOwn returns the query of the columns of some of the device's registers.
func (v *viewTable) selectOwn(own change.Bits) string {
	if v.same {
		return v.selectOf(own)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	q, ok := v.selects[own]
	if !ok {
		var cols []int
		for _, c := range change.ColumnsOf(v.registers, own) {
			cols = append(cols, v.columnOf[c])
		}
		q = v.selectColumns(cols)
		remember(v.selects, own, q)
	}
	return q
}

// viewOf returns the view of a digest that the space knows; nil when it knows it not.
func viewOf(c *vsql.Conn, s *schema, digest [32]byte) (*view, error) {
	if noTables[digest] {
		digest = [32]byte{}
	}
	s.mu.Lock()
	v := s.views[digest]
	s.mu.Unlock()
	if v != nil {
		return v, nil
	}
	var device []deviceTable
	if digest != ([32]byte{}) {
		var text string
		found, err := c.Row(`SELECT tables FROM _velosync_schema WHERE digest = ?`, []driver.Value{digest[:]}, &text)
		if err != nil || !found {
			return nil, err
		}
		if err := json.Unmarshal([]byte(text), &device); err != nil {
			return nil, fmt.Errorf("read the tables of a digest: %w", err)
		}
	}
	v, err := newView(s, device)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.views) >= maxViews {
		clear(s.views)
	}
	s.views[digest] = v
	return v, nil
}

// maxViews bounds the views in memory.
const maxViews = 200
