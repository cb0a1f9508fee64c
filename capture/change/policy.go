package change

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// A Policy says how concurrent versions of a column become one. The zero Policy keeps one
// of them, by rank. It is written in JSON as its name.
type Policy string

// The policies. An edit that has seen the other replaces it under Max and Min too: they
// decide between concurrent versions only.
const (
	ByRank Policy = ""
	Max    Policy = "max" // the greater one
	Min    Policy = "min" // the smaller one
)

// MaxPolicy bounds the text of a policy, in bytes.
const MaxPolicy = 1000

// UnmarshalJSON reads what velosync_track takes.
func (p *Policy) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a merge policy is %.40s: want \"max\" or \"min\"", b)
	}
	*p = Policy(s)
	return nil
}

// Check returns an error that names the known policies, unless p is one of them.
func (p Policy) Check() error {
	switch p {
	case Max, Min:
		return nil
	}
	return fmt.Errorf(`merge policy %q is not known: want "max" or "min"`, string(p))
}

// Merge returns what two concurrent values become, whichever came first. NULL gives way to
// any other value: it says that there is none yet.
func (p Policy) Merge(a, b Value) Value {
	c := CompareValues(a, b)
	if p == Min && a != nil && b != nil {
		c = -c
	}
	if c < 0 {
		return b
	}
	return a
}

// CompareValues orders values as SQLite does, texts byte by byte: NULL, numbers, texts,
// blobs. Of equal numbers an integer comes before a real, so that the order is total.
func CompareValues(a, b Value) int {
	if c := cmp.Compare(classOf(a), classOf(b)); c != 0 {
		return c
	}
	switch x := a.(type) {
	case int64:
		switch y := b.(type) {
		case int64:
			return cmp.Compare(x, y)
		case float64:
			return cmp.Or(compareMixed(x, y), -1)
		}
	case float64:
		switch y := b.(type) {
		case int64:
			return cmp.Or(-compareMixed(y, x), 1)
		case float64:
			return cmp.Compare(x, y)
		}
	case string:
		return strings.Compare(x, b.(string))
	case []byte:
		return bytes.Compare(x, b.([]byte))
	}
	return 0
}

func classOf(v Value) int {
	switch v.(type) {
	case nil:
		return 0
	case int64, float64:
		return 1
	case string:
		return 2
	}
	return 3
}

// compareMixed compares exactly: not every integer is a float64.
func compareMixed(i int64, f float64) int {
	switch {
	case f >= math.MaxInt64: // which is 2^63 as a float64
		return -1
	case f < math.MinInt64:
		return 1
	}
	whole := math.Trunc(f)
	return cmp.Or(cmp.Compare(i, int64(whole)), cmp.Compare(0, f-whole))
}
