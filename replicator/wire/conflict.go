package wire

import (
	"maps"
	"math"
	"slices"

	"github.com/velosync/velosync/capture/change"
)

// The bits of a conflict's flags: a side that is there, as against one that is nil.
const (
	hasLost = 1 << iota
	hasKept
	hasLostClock
	hasKeptClock
	hasAll = hasLost | hasKept | hasLostClock | hasKeptClock
)

// packConflicts writes conflicts field by field, like the columns of a block.
func packConflicts(list []change.Conflict) ([]byte, error) {
	if len(list) == 0 {
		return nil, nil
	}
	w := &writer{}
	var buf []byte
	var err error
	ints := func(get func(*change.Conflict) int64) {
		w.ints = w.ints[:0]
		for i := range list {
			w.ints = append(w.ints, get(&list[i]))
		}
		buf = appendInts(buf, w.ints)
	}
	values := func(get func(*change.Conflict) []change.Value) {
		var all []change.Value
		for i := range list {
			all = append(all, get(&list[i])...)
		}
		if err == nil {
			buf, err = w.appendColumn(buf, all)
		}
	}
	ids := func(get func(*change.Conflict) change.DeviceID) {
		for i := range list {
			id := get(&list[i])
			buf = append(buf, id[:]...)
		}
	}
	for i := range list {
		if e := checkConflict(&list[i], i); e != nil {
			return nil, e
		}
	}
	ints(func(c *change.Conflict) int64 { return c.ID })
	ints(func(c *change.Conflict) int64 { return int64(c.Seq) })
	ids(func(c *change.Conflict) change.DeviceID { return c.Device })
	values(func(c *change.Conflict) []change.Value { return []change.Value{c.Table} })
	values(func(c *change.Conflict) []change.Value { return []change.Value{c.Key} })
	values(func(c *change.Conflict) []change.Value { return []change.Value{string(c.Kind)} })
	values(func(c *change.Conflict) []change.Value { return []change.Value{string(c.Rule)} })
	values(func(c *change.Conflict) []change.Value { return []change.Value{c.Reason} })
	ints(func(c *change.Conflict) int64 { return flagsOf(c) })
	ints(func(c *change.Conflict) int64 { return int64(len(c.Columns)) })
	values(func(c *change.Conflict) []change.Value { return texts(c.Columns) })
	values(func(c *change.Conflict) []change.Value { return c.Lost })
	values(func(c *change.Conflict) []change.Value { return c.Kept })
	for _, side := range sides {
		ints(func(c *change.Conflict) int64 { return int64(len(*side.clock(c))) })
		values(func(c *change.Conflict) []change.Value {
			return texts(slices.Sorted(maps.Keys(*side.clock(c))))
		})
		values(func(c *change.Conflict) []change.Value {
			clock := *side.clock(c)
			var n []change.Value
			for _, site := range slices.Sorted(maps.Keys(clock)) {
				n = append(n, int64(clock[site]))
			}
			return n
		})
		w.reals = w.reals[:0]
		for i := range list {
			w.reals = append(w.reals, side.rank(&list[i]).Weight)
		}
		buf = appendReals(buf, w.reals)
		ints(func(c *change.Conflict) int64 { return side.rank(c).Time })
		ids(func(c *change.Conflict) change.DeviceID { return side.rank(c).Device })
	}
	if err != nil { // the row in it counts values of a field, not conflicts
		if e, ok := err.(*FormatError); ok {
			e.Row, e.Reason = -1, "conflicts: "+e.Reason
		}
		return nil, err
	}
	return buf, nil
}

// The two sides of a conflict: what was lost, what was kept.
var sides = [2]struct {
	clock func(*change.Conflict) *change.Clock
	rank  func(*change.Conflict) *change.Rank
	flag  int64
}{
	{
		func(c *change.Conflict) *change.Clock { return &c.LostClock },
		func(c *change.Conflict) *change.Rank { return &c.LostRank },
		hasLostClock,
	},
	{
		func(c *change.Conflict) *change.Clock { return &c.KeptClock },
		func(c *change.Conflict) *change.Rank { return &c.KeptRank },
		hasKeptClock,
	},
}

func texts(list []string) []change.Value {
	v := make([]change.Value, len(list))
	for i, s := range list {
		v[i] = s
	}
	return v
}

func flagsOf(c *change.Conflict) (flags int64) {
	if c.Lost != nil {
		flags |= hasLost
	}
	if c.Kept != nil {
		flags |= hasKept
	}
	if c.LostClock != nil {
		flags |= hasLostClock
	}
	if c.KeptClock != nil {
		flags |= hasKeptClock
	}
	return flags
}

// checkConflict checks what both ends ask of a conflict.
func checkConflict(c *change.Conflict, i int) error {
	switch {
	case c.ID < 0 || c.Seq < 0:
		return bad("conflict %d: id %d, seq %d: want 0 or more", i, c.ID, c.Seq)
	case c.Lost != nil && len(c.Lost) != len(c.Columns), c.Kept != nil && len(c.Kept) != len(c.Columns):
		return bad("conflict %d: %d columns, %d values lost, %d kept", i, len(c.Columns), len(c.Lost), len(c.Kept))
	case notFinite(c.LostRank.Weight) || notFinite(c.KeptRank.Weight):
		return bad("conflict %d: a weight is not finite", i)
	}
	return nil
}

func notFinite(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) }

// unpackConflicts reads what packConflicts wrote.
func unpackConflicts(d *reader, b []byte, n int64) ([]change.Conflict, error) {
	if err := over("conflicts", n, int64(d.limits.Conflicts)); err != nil {
		return nil, err
	}
	if n < 0 || (n == 0) != (len(b) == 0) {
		return nil, bad("%d conflicts in %d bytes", n, len(b))
	}
	if n == 0 {
		return nil, nil
	}
	list := make([]change.Conflict, n)
	d.b = b
	if err := d.conflicts(list); err != nil {
		if e, ok := err.(*FormatError); ok {
			e.Row, e.Reason = -1, "conflicts: "+e.Reason
		}
		return nil, err
	}
	for i := range list {
		if err := checkConflict(&list[i], i); err != nil {
			return nil, err
		}
	}
	return list, d.end()
}

func (d *reader) conflicts(list []change.Conflict) error {
	n := len(list)
	var fail error
	ints := func(put func(*change.Conflict, int64)) {
		if fail != nil {
			return
		}
		v, err := d.ints(n)
		if err != nil {
			fail = err
			return
		}
		for i, x := range v {
			put(&list[i], x)
		}
	}
	// values reads one value for each of n places.
	values := func(n, limit int, put func(i int, v change.Value)) {
		if fail != nil {
			return
		}
		v, err := d.column(n, limit)
		if err != nil {
			fail = err
			return
		}
		for i, x := range v {
			put(i, x)
		}
	}
	text := func(n, limit int, put func(i int, s string)) {
		values(n, limit, func(i int, v change.Value) {
			s, ok := v.(string)
			if !ok && fail == nil {
				fail = bad("a name or reason is %T, want text", v)
			}
			put(i, s)
		})
	}
	ids := func(put func(*change.Conflict, change.DeviceID)) {
		if fail != nil {
			return
		}
		b, err := d.take(16, n)
		if err != nil {
			fail = err
			return
		}
		for i := range list {
			put(&list[i], change.DeviceID(b[16*i:]))
		}
	}
	// lengths reads a number for each conflict, and their sum within the limit.
	lengths := func() (each []int, sum int) {
		each = make([]int, n)
		i := 0
		ints(func(_ *change.Conflict, x int64) {
			if (x < 0 || x > int64(d.limits.Cells-sum)) && fail == nil {
				fail = bad("a list of %d", x)
			}
			if fail == nil {
				each[i] = int(x)
				sum += int(x)
			}
			i++
		})
		return each, sum
	}

	ints(func(c *change.Conflict, x int64) { c.ID = x })
	ints(func(c *change.Conflict, x int64) { c.Seq = change.Seq(x) })
	ids(func(c *change.Conflict, id change.DeviceID) { c.Device = id })
	text(n, d.limits.Name, func(i int, s string) { list[i].Table = s })
	values(n, d.limits.Key, func(i int, v change.Value) { list[i].Key = v })
	text(n, d.limits.Name, func(i int, s string) { list[i].Kind = change.Kind(s) })
	text(n, d.limits.Name, func(i int, s string) { list[i].Rule = change.Rule(s) })
	text(n, d.limits.Key, func(i int, s string) { list[i].Reason = s })
	flags := make([]int64, n)
	i := 0
	ints(func(_ *change.Conflict, x int64) {
		if x&^hasAll != 0 && fail == nil {
			fail = bad("unknown flags %#x", x)
		}
		flags[i] = x
		i++
	})
	each, sum := lengths()
	names := make([]string, 0, min(sum, len(d.b)))
	text(sum, d.limits.Name, func(_ int, s string) { names = append(names, s) })
	if fail != nil {
		return fail
	}
	for i, at := 0, 0; i < n; i++ {
		if each[i] > 0 {
			list[i].Columns = names[at:][:each[i]:each[i]]
			at += each[i]
		}
	}
	d.conflictValues(list, flags, hasLost, func(c *change.Conflict, v []change.Value) { c.Lost = v }, &fail)
	d.conflictValues(list, flags, hasKept, func(c *change.Conflict, v []change.Value) { c.Kept = v }, &fail)
	for _, side := range sides {
		each, sum := lengths()
		var sites []string
		text(sum, d.limits.Name, func(_ int, s string) { sites = append(sites, s) })
		var counts []int64
		values(sum, d.limits.Name, func(_ int, v change.Value) {
			x, ok := v.(int64)
			if !ok && fail == nil {
				fail = bad("a clock counts %T, want an integer", v)
			}
			counts = append(counts, x)
		})
		if fail != nil {
			return fail
		}
		at := 0
		for i := range list {
			if flags[i]&side.flag == 0 {
				if each[i] > 0 {
					return bad("conflict %d: entries of a clock that is not there", i)
				}
				continue
			}
			clock := make(change.Clock, each[i])
			for range each[i] {
				clock[sites[at]] = uint64(counts[at])
				at++
			}
			if len(clock) != each[i] {
				return bad("conflict %d: a clock names a site twice", i)
			}
			*side.clock(&list[i]) = clock
		}
		weights, err := d.reals(n)
		if err != nil {
			return err
		}
		for i, x := range weights {
			side.rank(&list[i]).Weight = x
		}
		ints(func(c *change.Conflict, x int64) { side.rank(c).Time = x })
		ids(func(c *change.Conflict, id change.DeviceID) { side.rank(c).Device = id })
	}
	return fail
}

// conflictValues reads the values of one side, one for each column of the conflicts that have it.
func (d *reader) conflictValues(list []change.Conflict, flags []int64, flag int64, put func(*change.Conflict, []change.Value), fail *error) {
	if *fail != nil {
		return
	}
	sum := 0
	for i := range list {
		if flags[i]&flag != 0 {
			sum += len(list[i].Columns)
		}
	}
	v, err := d.column(sum, d.limits.Value)
	if err != nil {
		*fail = err
		return
	}
	for i := range list {
		if flags[i]&flag != 0 {
			n := len(list[i].Columns)
			if n == 0 {
				put(&list[i], []change.Value{})
				continue
			}
			put(&list[i], v[:n:n])
			v = v[n:]
		}
	}
}
