package capture

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A counter's log rows say by how much each mutation changed it, in _velosync_wal.steps: a
// number for each counter of the table, separated by spaces. NULL says that it is not
// known: then the counter travels by its value, like other columns.

// addTo returns what the log row of a mutation says in steps: what is added to each
// counter. A prefix is empty where there was, or is, no row.
func (t *table) addTo(before, after string) string {
	parts := make([]string, len(t.counters))
	for i, r := range t.counters {
		col := vsql.Quote(t.d.Columns[t.registers[r][0]].Name)
		switch {
		case before == "":
			parts[i] = after + col
		case after == "":
			parts[i] = "-" + before + col
		default:
			parts[i] = "(" + after + col + " - " + before + col + ")"
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return ", " + strings.Join(parts, " || ' ' || ")
}

// checkCounters refuses what can't be added up on another device.
func (t *table) checkCounters() string {
	text := ""
	for _, r := range t.counters {
		name := t.d.Columns[t.registers[r][0]].Name
		col := "NEW." + vsql.Quote(name)
		said := fmt.Sprintf("velosync: %s.%s is a counter: want an integer within +-%d", t.d.Name, name, int64(change.MaxCounter))
		text += fmt.Sprintf("SELECT RAISE(ABORT, %s) WHERE typeof(%s) <> 'integer' OR %s NOT BETWEEN -%d AND %[4]d;\n  ",
			vsql.QuoteText(said), col, col, int64(change.MaxCounter))
	}
	return text
}

// A count is what of a row's counters is pending.
type count struct {
	steps   []change.Step
	byValue change.Bits // counters that travel by their value
	// warned is what the row had as a REPLACE was about to take it away. It counts if the
	// row was made anew right after, or is gone in the end; else nothing was replaced.
	warned *logRow
	bounds []int64 // LSNs up to which pushes went, ascending
	sets   map[int]*change.SetSteps
}

// add adds a log row, in their order. What lies between two bounds is one step, since a
// master has applied all of it or none.
func (c *count) add(r logRow, t *table) {
	if len(t.counters)+len(t.sets) == 0 || r.op == 'B' {
		return
	}
	c.putSets(r, t)
	if r.op == 'E' {
		if c.warned = nil; r.steps != nil {
			c.warned = &r
		}
		return
	}
	if r.op == 'I' && c.warned != nil {
		c.put(*c.warned, t)
	}
	c.warned = nil
	c.put(r, t)
}

// gone says that the row is not there.
func (c *count) gone(t *table) {
	if c.warned != nil {
		c.put(*c.warned, t)
		c.warned = nil
	}
}

func (c *count) put(r logRow, t *table) {
	by := readSteps(r.steps)
	for i, reg := range t.counters {
		switch {
		case !r.cols.Has(reg) && r.op != 'E':
		case i >= len(by):
			c.byValue |= change.Bit(reg)
		default:
			c.step(change.Step{Reg: reg, LSN: change.LSN(r.lsn), By: by[i]})
		}
	}
}

func (c *count) step(x change.Step) {
	for i := len(c.steps) - 1; i >= 0; i-- {
		last := &c.steps[i]
		if last.Reg != x.Reg {
			continue
		}
		at, _ := slices.BinarySearch(c.bounds, int64(last.LSN))
		between := at < len(c.bounds) && c.bounds[at] < int64(x.LSN)
		if sum, ok := change.Sum(last.By, x.By); ok && !between {
			x.By = sum
			c.steps = slices.Delete(c.steps, i, i+1)
		}
		break
	}
	c.steps = append(c.steps, x)
}

// added returns the counters and sets of which is known what was done to them.
func (c *count) added(t *table, cols change.Bits) (regs change.Bits) {
	for _, r := range t.counters {
		if cols.Has(r) && !c.byValue.Has(r) {
			regs |= change.Bit(r)
		}
	}
	for _, r := range t.sets {
		if cols.Has(r) && !c.byValue.Has(r) {
			regs |= change.Bit(r)
		}
	}
	return regs
}

// of returns the steps of some counters and sets.
func (c *count) of(regs change.Bits) (steps []change.Step) {
	for _, x := range c.steps {
		if regs.Has(x.Reg) && !c.byValue.Has(x.Reg) {
			steps = append(steps, x)
		}
	}
	if len(c.sets) == 0 {
		return steps
	}
	regs.Each(func(r int) {
		if s := c.sets[r]; s != nil && !c.byValue.Has(r) {
			steps = append(steps, s.Steps(r)...)
		}
	})
	slices.SortStableFunc(steps, func(a, b change.Step) int { return cmp.Compare(a.LSN, b.LSN) })
	return steps
}

// onto returns the value of a counter or set with all its steps; back, without them.
func (c *count) onto(v change.Value, reg int, back bool) (change.Value, error) {
	if c.sets[reg] != nil {
		return c.ontoSet(v, reg, back)
	}
	if !slices.ContainsFunc(c.steps, func(x change.Step) bool { return x.Reg == reg }) {
		return v, nil // of a set too, of which nothing is pending
	}
	n, err := change.CounterOf(v)
	if err != nil {
		return nil, err
	}
	for _, x := range c.steps {
		if x.Reg != reg {
			continue
		}
		by := x.By
		if back {
			by = -by
		}
		sum, ok := change.Sum(n, by)
		if !ok {
			return nil, fmt.Errorf("counter overflow: %d and %d", n, by)
		}
		n = sum
	}
	return n, nil
}

func readSteps(v change.Value) (by []int64) {
	switch v := v.(type) {
	case int64:
		return []int64{v}
	case string:
		for _, f := range strings.Fields(v) {
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return nil // not what a trigger writes: the value will tell
			}
			by = append(by, n)
		}
	}
	return by
}

func writeSteps(by []int64) change.Value {
	switch len(by) {
	case 0:
		return nil
	case 1:
		return by[0]
	}
	text := make([]string, len(by))
	for i, n := range by {
		text[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(text, " ")
}

// foldSteps adds up the steps of two mutations; ok is false where they are no numbers of
// the same counters, or do not fit.
func foldSteps(a, b change.Value) (sum change.Value, ok bool) {
	if a == nil && b == nil {
		return nil, true
	}
	x, y := readSteps(a), readSteps(b)
	if len(x) != len(y) {
		return nil, false
	}
	for i := range x {
		if x[i], ok = change.Sum(x[i], y[i]); !ok {
			return nil, false
		}
	}
	return writeSteps(x), true
}

// bounds returns the LSNs that divide steps: up to where pushes without an answer went, and
// up to where another copy of the file may have sent the same.
func (d *Device) bounds() (list []int64, err error) {
	err = d.c.Query(`SELECT through FROM _velosync_name UNION SELECT doubt FROM _velosync_state ORDER BY 1`, nil, func(v []change.Value) error {
		list = append(list, v[0].(int64))
		return nil
	})
	return list, err
}

// moveSteps writes the steps of the log anew where a table's counters are other ones.
func (d *Device) moveSteps(t *table, old *change.Table) error {
	if err := d.moveSets(t, old); err != nil {
		return err
	}
	was, place := old.Counters(old.Registers()), make([]int, len(t.counters))
	same := true
	for i, r := range t.counters {
		name := t.d.Columns[t.registers[r][0]].Name
		place[i] = slices.IndexFunc(was, func(r int) bool { return old.Columns[old.Registers()[r][0]].Name == name })
		same = same && place[i] == i
	}
	if same && len(was) == len(t.counters) || len(was) == 0 {
		return nil
	}
	type row struct {
		lsn   int64
		steps []int64
	}
	var rows []row
	err := d.c.Query(`SELECT lsn, steps FROM _velosync_wal WHERE tbl = ? AND steps IS NOT NULL`, []change.Value{t.id}, func(v []change.Value) error {
		rows = append(rows, row{v[0].(int64), readSteps(v[1])})
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range rows {
		var by []int64
		for _, at := range place {
			if at < 0 || at >= len(r.steps) {
				break // this one, and those behind it, travel by their values
			}
			by = append(by, r.steps[at])
		}
		if _, err := d.c.Exec(`UPDATE _velosync_wal SET steps = ? WHERE lsn = ?`, writeSteps(by), r.lsn); err != nil {
			return err
		}
	}
	return nil
}

// readCounters turns what a push reads of a row's counters and sets into what it sends: their values
// with what was added to them since; where they are pushed back, without.
func (t *table) readCounters(e *edit, row *shippedRow, back bool) error {
	if len(t.counters)+len(t.sets) == 0 {
		return nil
	}
	if row.gone {
		e.count.gone(t)
		e.count.sets = nil // a delete takes all
	}
	added := e.count.added(t, row.regs)
	if !back {
		row.steps = e.count.of(added)
		return nil
	}
	for i, c := range change.ColumnsOf(t.registers, row.regs) {
		r := t.registerOf(c)
		if row.gone || !added.Has(r) {
			continue
		}
		v, err := e.count.onto(row.values[i], r, true)
		if err != nil {
			return err
		}
		row.values[i] = v
	}
	return nil
}
