package change

import (
	"cmp"
	"fmt"
	"math"
)

// A Rank orders concurrent versions: the greater stays. It is total, so no order
// of arrival matters.
type Rank struct {
	Weight float64  // the semantic weight, finite
	Time   int64    // unix milliseconds, corrected by the device's measured skew
	Device DeviceID // the author
}

// Compare returns -1, 0 or +1, and the rule that decided.
func (r Rank) Compare(o Rank) (int, Rule) {
	if c := cmp.Compare(r.Weight, o.Weight); c != 0 {
		return c, ByWeight
	}
	if c := cmp.Compare(r.Time, o.Time); c != 0 {
		return c, ByTime
	}
	return r.Device.Compare(o.Device), ByDevice
}

// less reports whether o outranks r.
func (r Rank) less(o Rank) bool { c, _ := r.Compare(o); return c < 0 }

// back reports whether the version was pushed back after a master's restore.
func (r Rank) back() bool { return r.Weight == PushedBack }

// A Rule names what decided between two versions.
type Rule string

// The rules, in the order in which they are asked.
const (
	ByCausality  Rule = "causality"  // one had seen the other
	ByIdentity   Rule = "identity"   // both are the same version
	ByWeight     Rule = "weight"     // concurrent: the higher semantic weight
	ByTime       Rule = "time"       // equal weight: the later time
	ByDevice     Rule = "device"     // equal time too: the greater device id
	ByConstraint Rule = "constraint" // the row breaks a constraint of the table
	ByForgotten  Rule = "forgotten"  // the row was deleted, and the delete is past its retention
	ByMaster     Rule = "master"     // what was here was never logged: the master's stands
	ByCopy       Rule = "copy"       // another copy of the file may have sent the same
)

// A Stamp is what Resolve needs to know of one side.
type Stamp struct {
	Clock  Clock
	Weight float64 // finite; NaN counts as 0
	Time   int64   // unix milliseconds
	Device DeviceID
}

// A Side is one of the two that Resolve compares.
type Side int

// The sides: local is the one that asks.
const (
	Local Side = iota
	Remote
)

// String returns "local" or "remote".
func (s Side) String() string { return [...]string{"local", "remote"}[s] }

// Resolve decides which of two versions stays, and by which rule. It is total and
// symmetric: exchanging the arguments exchanges the winner, except that equal clocks
// keep the local copy, which is then the same version.
func Resolve(local, remote Stamp) (Side, Rule) {
	switch local.Clock.Compare(remote.Clock) {
	case Equal:
		return Local, ByIdentity
	case Before:
		return Remote, ByCausality
	case After:
		return Local, ByCausality
	}
	c, rule := local.rank().Compare(remote.rank())
	if c < 0 {
		return Remote, rule
	}
	return Local, rule
}

func (s Stamp) rank() Rank {
	if math.IsNaN(s.Weight) {
		s.Weight = 0
	}
	return Rank{s.Weight, s.Time, s.Device}
}

// MaxWeight bounds a semantic weight on both sides of zero.
const MaxWeight = 1e9

// WeightOf reads a semantic weight from a column: a number, or NULL which counts
// as 0. Text, blobs, infinities and numbers beyond MaxWeight are an error.
func WeightOf(v Value) (float64, error) {
	var w float64
	switch v := v.(type) {
	case nil:
		return 0, nil
	case int64:
		w = float64(v)
	case float64:
		w = v
	default:
		return 0, fmt.Errorf("semantic weight is %T, want a number or NULL", v)
	}
	if math.IsNaN(w) || math.Abs(w) > MaxWeight {
		return 0, fmt.Errorf("semantic weight %v: want a finite number within ±%g", w, float64(MaxWeight))
	}
	return w, nil
}

// MaxAhead is how far ahead of the master's clock a claimed time counts.
const MaxAhead = 5 * 60 * 1000

// CorrectTime turns a time claimed by a device into the master's: device and master
// are both clocks' readings at the round, in unix milliseconds. The result lies in
// 0 … master + MaxAhead.
func CorrectTime(claimed, device, master int64) int64 {
	t := claimed
	if device > 0 && claimed > math.MinInt64/4 && claimed < math.MaxInt64/4 {
		t = claimed - device + master
	}
	return max(0, min(t, master+MaxAhead))
}

// PushedBack is the weight of an edit that a device pushes back after a master's
// restore: below every live edit's. Its time is no clock's but the seq that the device
// had seen of the lost history, so of two such edits the one that saw more stays.
const PushedBack = -2 * MaxWeight
