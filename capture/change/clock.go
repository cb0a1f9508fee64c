package change

import (
	"cmp"
	"maps"
)

// A Clock is a version vector: for each site (a device, the master, or a client of
// protocol v1) the number of its writes that a version stands on. A missing site
// counts 0. Two entries say everything about an edit in a star, {master: seen,
// device: lsn}; several masters, or clients of protocol v1, make more.
type Clock map[string]uint64

// Master is the site under which a clock counts the master's seq.
const Master = "master"

// An Order is how two clocks stand to each other.
type Order int

// The four orders of a partial order.
const (
	Equal      Order = iota // the same writes
	Before                  // the other stands on all of these writes, and on more
	After                   // these stand on all writes of the other, and on more
	Concurrent              // neither has seen the other
)

// String returns the lower-case name of the order.
func (o Order) String() string {
	return [...]string{"equal", "before", "after", "concurrent"}[o]
}

// Compare says how c stands to o.
func (c Clock) Compare(o Clock) Order {
	less, more := false, false
	for site, n := range c {
		switch cmp.Compare(n, o[site]) {
		case -1:
			less = true
		case 1:
			more = true
		}
	}
	for site, n := range o {
		if n > c[site] { // what c lacks wholly; what both hold was compared above
			less = true
		}
	}
	switch {
	case less && more:
		return Concurrent
	case less:
		return Before
	case more:
		return After
	}
	return Equal
}

// Merge returns the component-wise maximum of both clocks; it changes neither.
func (c Clock) Merge(o Clock) Clock {
	m := make(Clock, len(c)+len(o))
	maps.Copy(m, c)
	for site, n := range o {
		m[site] = max(m[site], n)
	}
	return m
}
