package change

import "slices"

// A Clash says that a device made rows under numbers that other devices had given to rows
// of theirs, in a table whose option ids is "renumber". The device gives its rows others.
type Clash struct {
	Table string `json:"table"` // as the device calls it
	Next  int64  `json:"next"`  // greater than every number that the space knows of
	// IDs are the numbers, as ranges, both ends included, in ascending order.
	IDs [][2]int64 `json:"ids"`
}

// MaxClashRanges bounds the ranges of one answer. Numbers that SQLite gave one after the
// other are one range; what does not fit comes with the next answer.
const MaxClashRanges = 1000

// Add adds a number and reports whether it fits. Numbers come in any order, each once or
// more.
func (c *Clash) Add(id int64) bool {
	at, found := c.find(id)
	if found {
		return true
	}
	// Distances, since id - 1 and id + 1 may overflow.
	before := at > 0 && uint64(id)-uint64(c.IDs[at-1][1]) == 1
	after := at < len(c.IDs) && uint64(c.IDs[at][0])-uint64(id) == 1
	switch {
	case before && after:
		c.IDs[at-1][1] = c.IDs[at][1]
		c.IDs = slices.Delete(c.IDs, at, at+1)
	case before:
		c.IDs[at-1][1] = id
	case after:
		c.IDs[at][0] = id
	case len(c.IDs) == MaxClashRanges:
		return false
	default:
		c.IDs = slices.Insert(c.IDs, at, [2]int64{id, id})
	}
	return true
}

// Has reports whether a number is among those of the clash.
func (c *Clash) Has(id int64) bool {
	_, found := c.find(id)
	return found
}

// find returns the place of the range that a number is in, or would be.
func (c *Clash) find(id int64) (int, bool) {
	return slices.BinarySearchFunc(c.IDs, id, func(r [2]int64, id int64) int {
		switch {
		case r[1] < id:
			return -1
		case r[0] > id:
			return 1
		}
		return 0
	})
}
