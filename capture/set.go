package capture

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// The log rows of a table with sets hold, in _velosync_wal.sets, a JSON array with what
// each mutation did to each of them: [before, after], null before where there was no row, or
// [] where the set was not written. So the triggers need no functions of JSON, but to check
// what is written. NULL says that it is not known: then the set travels by its value, and
// whoever gets it takes what its author had seen and does not have for removed.

// setsTo returns what the log row of a mutation says in sets. A prefix is empty where there
// was, or is, no row.
func (t *table) setsTo(before, after string) string {
	if len(t.sets) == 0 {
		return ""
	}
	parts := make([]string, len(t.sets))
	for i, r := range t.sets {
		col := vsql.Quote(t.d.Columns[t.registers[r][0]].Name)
		switch {
		case after == "":
			parts[i] = "'[null,[]]'"
		case before == "":
			parts[i] = "'[null,' || coalesce(" + after + col + ", '[]') || ']'"
		default:
			parts[i] = "CASE WHEN " + differ(before+col, after+col) + " THEN '[' || coalesce(" + before + col + ", '[]') || ',' || coalesce(" + after + col + ", '[]') || ']' ELSE '[]' END"
		}
	}
	return ", '[' || " + strings.Join(parts, " || ',' || ") + " || ']'"
}

// noSets is what the warning of a REPLACE says: the row's insert, or its absence, says all.
func (t *table) noSets() string {
	if len(t.sets) == 0 {
		return ""
	}
	return ", NULL"
}

// checkSets refuses what is no JSON array where it is written.
func (t *table) checkSets() string {
	text := ""
	for _, r := range t.sets {
		name := t.d.Columns[t.registers[r][0]].Name
		said := fmt.Sprintf("velosync: %s.%s is a set: want NULL or a JSON array of at most %d bytes", t.d.Name, name, change.MaxSet)
		text += fmt.Sprintf("SELECT RAISE(ABORT, %s) WHERE %s;\n  ", vsql.QuoteText(said), noSet("NEW."+vsql.Quote(name)))
	}
	return text
}

// noSet is the condition that a column holds no set. CASE, since AND may be reordered, and
// json_type fails on what is no JSON.
func noSet(col string) string {
	return fmt.Sprintf("CASE WHEN %[1]s IS NULL THEN 0 WHEN typeof(%[1]s) <> 'text' OR length(CAST(%[1]s AS BLOB)) > %[2]d THEN 1 WHEN json_valid(%[1]s) THEN json_type(%[1]s) <> 'array' ELSE 1 END",
		col, change.MaxSet)
}

// putSets adds what a log row says of sets.
func (c *count) putSets(r logRow, t *table) {
	if len(t.sets) == 0 || r.op == 'E' {
		return
	}
	said := readSets(r.sets, len(t.sets))
	for i, reg := range t.sets {
		if !r.cols.Has(reg) {
			continue
		}
		if said == nil {
			c.byValue |= change.Bit(reg)
			continue
		}
		if c.sets == nil {
			c.sets = make(map[int]*change.SetSteps)
		}
		if c.sets[reg] == nil {
			c.sets[reg] = new(change.SetSteps)
		}
		said[i].onto(c.sets[reg], change.LSN(r.lsn), change.Seq(r.seen))
	}
}

// A setChange is what a mutation made of a set.
type setChange struct {
	written, made bool
	before, after []change.Element
}

func (s setChange) onto(steps *change.SetSteps, lsn change.LSN, seen change.Seq) {
	if s.made {
		steps.Make(lsn, seen)
	}
	if s.written {
		steps.Change(s.before, s.after, lsn, seen)
	}
}

// readSets reads what a trigger, or compaction, wrote of n sets; nil where it can't be
// read: the values will tell.
func readSets(v change.Value, n int) []setChange {
	text, ok := v.(string)
	if !ok {
		return nil
	}
	var pairs [][]json.RawMessage
	if err := json.Unmarshal([]byte(text), &pairs); err != nil || len(pairs) != n {
		return nil
	}
	list := make([]setChange, n)
	for i, p := range pairs {
		if len(p) == 0 {
			continue
		}
		if len(p) != 2 {
			return nil
		}
		s := &list[i]
		s.written = true
		if s.made = string(p[0]) == "null"; s.made {
			p[0] = json.RawMessage("[]")
		}
		var err, e error
		s.before, err = change.SetOf(string(p[0]))
		if s.after, e = change.SetOf(string(p[1])); err != nil || e != nil {
			return nil
		}
	}
	return list
}

// foldSets makes one of what two mutations, that have seen the same, did to sets; ok is false
// where that can't be read.
func foldSets(a, b change.Value, n int) (sum change.Value, ok bool) {
	if a == nil && b == nil {
		return nil, true
	}
	x, y := readSets(a, n), readSets(b, n)
	if x == nil || y == nil {
		return nil, false
	}
	pairs := make([]string, n)
	for i := range pairs {
		var s change.SetSteps
		x[i].onto(&s, 0, 0)
		y[i].onto(&s, 0, 0)
		removed, added := s.Split()
		switch {
		case !x[i].written && !y[i].written:
			pairs[i] = "[]"
		case s.Made():
			pairs[i] = "[null," + change.SetText(added) + "]"
		default:
			pairs[i] = "[" + change.SetText(removed) + "," + change.SetText(added) + "]"
		}
	}
	return "[" + strings.Join(pairs, ",") + "]", true
}

// limit lowers what the steps of a set have seen.
func (c *count) limit(reg int, seen int64) {
	if s := c.sets[reg]; s != nil {
		s.Limit(change.Seq(seen))
	}
}

// ontoSet returns a set's value with what is pending done to it; back, undone.
func (c *count) ontoSet(v change.Value, reg int, back bool) (change.Value, error) {
	set, err := change.SetOf(v)
	if err != nil {
		return nil, err
	}
	steps := c.sets[reg]
	if steps == nil {
		return v, nil
	}
	then := steps.Onto(set, back)
	if slices.Equal(set, then) {
		return v, nil
	}
	return change.SetText(then), nil
}

// moveSets forgets what the log says of sets where a table's are other ones: they travel by
// their values.
func (d *Device) moveSets(t *table, old *change.Table) error {
	names := func(o *change.Table) (list []string) {
		registers := o.Registers()
		for _, r := range o.Sets(registers) {
			list = append(list, o.Columns[registers[r][0]].Name)
		}
		return list
	}
	if slices.Equal(names(old), names(&t.d.Table)) {
		return nil
	}
	_, err := d.c.Exec(`UPDATE _velosync_wal SET sets = NULL WHERE tbl = ? AND sets IS NOT NULL`, t.id)
	return err
}
