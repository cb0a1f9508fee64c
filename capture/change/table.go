package change

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Table describes a tracked table as the ends of a sync agree on it.
type Table struct {
	Name    string
	SQL     string   // its CREATE TABLE, as sqlite_schema holds it
	Indexes []string // its CREATE INDEX statements, ordered by name
	Columns []Column // the stored columns (generated ones left out), in table order
	Key     []int    // positions in Columns of the primary key, in key order
	Options Options
}

// A Column is a stored column of a table.
type Column struct {
	Name    string
	Type    string // as declared
	NotNull bool
}

// Options is what the user may say of a table at velosync_track.
type Options struct {
	// Weight names the column of semantic weights (a confidence); none by default.
	Weight string `json:"weight,omitempty"`
	// Groups lists the columns that are merged as one; a column in no group is its own.
	// By default a table with a vector column is one group.
	Groups [][]string `json:"groups,omitempty"`
	// IDs must be one of the following before an INTEGER PRIMARY KEY is accepted.
	IDs string `json:"ids,omitempty"`
	// Merge names columns whose concurrent versions become one in another way than by rank.
	// Each is a group of its own.
	Merge map[string]Policy `json:"merge,omitempty"`
}

// SetMerge gives a column a policy. Other copies of the options stay as they are.
func (o *Options) SetMerge(column string, p Policy) {
	merge := make(map[string]Policy, len(o.Merge)+1)
	maps.Copy(merge, o.Merge)
	merge[column] = p
	o.Merge = merge
}

// RenamedMerge returns the policies under other names of columns.
func (o *Options) RenamedMerge(name func(string) string) map[string]Policy {
	if o.Merge == nil {
		return nil
	}
	merge := make(map[string]Policy, len(o.Merge))
	for column, p := range o.Merge {
		merge[name(column)] = p
	}
	return merge
}

// What Options.IDs says of an INTEGER PRIMARY KEY.
const (
	LocalIDs    = "local"    // only one device inserts
	RandomIDs   = "random"   // the application draws its numbers at random
	RenumberIDs = "renumber" // rows that two devices made under one number become two rows
)

// ValidIDs reports whether s may stand in Options.IDs.
func ValidIDs(s string) bool {
	return s == "" || s == LocalIDs || s == RandomIDs || s == RenumberIDs
}

// Registers returns the table's merge groups: for each the positions in Columns, in
// ascending order. Key columns are in none. There are at most MaxRegisters.
func (t *Table) Registers() [][]int {
	key := make(map[int]bool, len(t.Key))
	for _, k := range t.Key {
		key[k] = true
	}
	group := make(map[string]int)
	for i, g := range t.Options.Groups {
		for _, name := range g {
			group[name] = i + 1
		}
	}
	var regs [][]int
	at := make(map[int]int) // group -> register
	for i, c := range t.Columns {
		if key[i] {
			continue
		}
		g := group[c.Name]
		if r, ok := at[g]; ok && g > 0 {
			regs[r] = append(regs[r], i)
			continue
		}
		if len(regs) == MaxRegisters {
			regs[MaxRegisters-1] = append(regs[MaxRegisters-1], i)
			continue
		}
		if g > 0 {
			at[g] = len(regs)
		}
		regs = append(regs, []int{i})
	}
	if len(regs) == 0 { // a table of keys alone still has versions: one register without columns
		regs = [][]int{{}}
	}
	return regs
}

// Policies returns the merge policy of each register.
func (t *Table) Policies(registers [][]int) []Policy {
	policies := make([]Policy, len(registers))
	for r, cols := range registers {
		if len(cols) == 1 {
			policies[r] = t.Options.Merge[t.Columns[cols[0]].Name]
		}
	}
	return policies
}

// Counters returns the registers that are counters, in ascending order.
func (t *Table) Counters(registers [][]int) (counters []int) {
	for r, p := range t.Policies(registers) {
		if p == Counter {
			counters = append(counters, r)
		}
	}
	return counters
}

// Sets returns the registers that are sets, in ascending order.
func (t *Table) Sets(registers [][]int) (sets []int) {
	for r, p := range t.Policies(registers) {
		if p == SetPolicy {
			sets = append(sets, r)
		}
	}
	return sets
}

// CheckMerge returns an error that says what is wrong with the option merge.
func (t *Table) CheckMerge() error {
	registers := t.Registers()
	for name, p := range t.Options.Merge {
		at := t.Find(name)
		alone := slices.ContainsFunc(registers, func(cols []int) bool { return len(cols) == 1 && cols[0] == at })
		switch {
		case at < 0:
			return fmt.Errorf("option merge names %q, which is no column of it", name)
		case slices.Contains(t.Key, at):
			return fmt.Errorf("option merge names %q, which is in the primary key", name)
		case name == t.Options.Weight:
			return fmt.Errorf("option merge names %q, which is the weight", name)
		case !alone:
			return fmt.Errorf("option merge names %q, which is in a group, or stands behind the 63rd column: it has to be merged on its own", name)
		}
		if err := p.Check(); err != nil {
			return fmt.Errorf("column %q: %w", name, err)
		}
		if c := t.Columns[at]; p == Counter && (!c.NotNull || !holdsIntegers(c.Type)) {
			return fmt.Errorf("column %q is a counter, and is declared %q: declare it INTEGER NOT NULL DEFAULT 0", name, strings.TrimSpace(c.Type+notNull(c)))
		}
	}
	return nil
}

func notNull(c Column) string {
	if c.NotNull {
		return " NOT NULL"
	}
	return ""
}

// holdsIntegers reports whether a column of a declared type keeps integers as they are, by
// SQLite's rules of affinity.
func holdsIntegers(declared string) bool {
	d := strings.ToUpper(declared)
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(d, p) })
	}
	return has("INT") || !has("CHAR", "CLOB", "TEXT", "REAL", "FLOA", "DOUB")
}

// ColumnsOf returns the positions in Columns that the registers in set hold, in
// ascending order.
func ColumnsOf(registers [][]int, set Bits) []int {
	in := make(map[int]bool)
	high := -1
	set.Each(func(r int) {
		for _, c := range registers[r] {
			in[c] = true
			high = max(high, c)
		}
	})
	cols := make([]int, 0, len(in))
	for c := 0; c <= high; c++ {
		if in[c] {
			cols = append(cols, c)
		}
	}
	return cols
}

// Find returns the position of a column by name, or -1.
func (t *Table) Find(name string) int {
	for i, c := range t.Columns {
		if c.Name == name {
			return i
		}
	}
	return -1
}

// A Schema is the tables of a space, ordered by name; a batch names a table by its
// place in this list.
type Schema []Table

// Digest identifies a schema: SHA-256 over its canonical JSON.
func (s Schema) Digest() [32]byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("change: schema does not marshal: %v", err)) // strings, ints and slices only
	}
	return sha256.Sum256(b)
}

// Find returns the place of a table by name, or -1.
func (s Schema) Find(name string) int {
	for i := range s {
		if s[i].Name == name {
			return i
		}
	}
	return -1
}
