package change

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"
)

// A Policy says how concurrent versions of a column become one. The zero Policy keeps one
// of them, by rank. It is written in JSON as its name, or as an SQL expression of the two
// versions, "max(mine, theirs)": mine is the one that would stay by rank, so that it does
// not matter which came first.
type Policy string

// The policies. An edit that has seen the other replaces it under Max and Min too: they
// decide between concurrent versions only.
const (
	ByRank Policy = ""
	Max    Policy = "max" // the greater one
	Min    Policy = "min" // the smaller one
	// Counter adds up what each edit added to the column, or took from it, whether it has
	// seen the others or not.
	Counter Policy = "counter"
	// SetPolicy keeps what each edit added to, and removed from, the elements of a JSON array.
	SetPolicy Policy = "set"
)

// MaxCounter bounds a counter on both sides of zero, so that the difference of two fits in
// 64 bits.
const MaxCounter = 1<<62 - 1

// A Step is what one mutation of a row, or several that no push came between, added to a
// counter, or did to an element of a set. Each has an LSN of its own, so that none counts
// twice.
type Step struct {
	Reg int
	LSN LSN // of the newest mutation
	// By is what was added to a counter. Of a set: 1 where the element was added, -1 where it
	// was removed, StepMade or StepSame.
	By      int64
	Element Element // of a set; empty for StepMade and StepSame
	Seen    Seq     // of a step of a set: what the mutation had seen
}

// What a step of a set says of all elements.
const (
	StepMade = 0 // the row was made: what its author knew of the set is not in it any more
	StepSame = 2 // the array was written anew with the same elements
)

// Sum adds what a counter was changed by; ok is false where the sum does not fit.
func Sum(a, b int64) (sum int64, ok bool) {
	sum = a + b
	return sum, (sum > a) == (b > 0)
}

// CounterOf reads a counter from a column.
func CounterOf(v Value) (int64, error) {
	n, ok := v.(int64)
	switch {
	case !ok:
		return 0, fmt.Errorf("a counter is %T, want an integer", v)
	case n < -MaxCounter || n > MaxCounter:
		return 0, fmt.Errorf("a counter is %d, want an integer within ±%d", n, int64(MaxCounter))
	}
	return n, nil
}

// MaxPolicy bounds the text of a policy, in bytes.
const MaxPolicy = 1000

// UnmarshalJSON reads what velosync_track takes.
func (p *Policy) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a merge policy is %.40s: want %s", b, wantPolicy)
	}
	*p = Policy(s)
	return nil
}

const wantPolicy = `"max", "min", "counter", "set" or an SQL expression such as "max(mine, theirs)"`

var policyName = regexp.MustCompile(`^\w*$`)

// Expression reports whether p is an SQL expression: all that is no single word.
func (p Policy) Expression() bool { return !policyName.MatchString(string(p)) }

// Check returns an error that names the known policies, unless p is one of them. What an
// expression says is checked where there is an SQLite.
func (p Policy) Check() error {
	switch {
	case p == Max, p == Min, p == Counter, p == SetPolicy:
		return nil
	case p.Expression() && len(p) <= MaxPolicy:
		return nil
	case p.Expression():
		return fmt.Errorf("a merge expression has %d bytes, want at most %d", len(p), MaxPolicy)
	}
	return fmt.Errorf("merge policy %q is not known: want %s", string(p), wantPolicy)
}

// Merge returns what two concurrent values become by Max or Min, whichever came first. NULL gives way to
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
