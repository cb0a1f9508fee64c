// Package change says what a mutation is: who made it, what its author had
// seen, and which of two versions stays when neither had seen the other.
//
//	row, out := change.Merge(stored, edit, seq)
//	for _, loss := range out.Losses { … }   // goes to the conflict log
//
// It does no I/O and depends on the standard library alone, so that the device,
// the master and the simulation decide by the same code.
package change

import (
	"bytes"
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"io"
	"math/bits"
)

// A Seq is the master's counter: 1, 2, 3, … in commit order, one for each change
// that it applied.
type Seq int64

// An LSN is a device's own counter: one for each captured mutation, never reused.
type LSN int64

// A Value is an SQLite value: nil, int64, float64, string (text) or []byte (blob).
type Value = driver.Value

// A DeviceID names one device: 128 random bits kept in its database file. The
// zero DeviceID names nobody.
type DeviceID [16]byte

// NewDeviceID draws an id from random, which is crypto/rand.Reader outside tests.
func NewDeviceID(random io.Reader) (DeviceID, error) {
	var id DeviceID
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return id, fmt.Errorf("draw a device id: %w", err)
	}
	return id, nil
}

// ParseDeviceID reads the 32 hex digits that String writes.
func ParseDeviceID(s string) (DeviceID, error) {
	var id DeviceID
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("device id %q: want 32 hex digits, got %d characters", s, len(s))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("device id %q: %w", s, err)
	}
	return id, nil
}

// String returns 32 lower-case hex digits.
func (d DeviceID) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether d names nobody.
func (d DeviceID) IsZero() bool { return d == DeviceID{} }

// Compare orders ids by their bytes: -1, 0 or +1.
func (d DeviceID) Compare(o DeviceID) int { return bytes.Compare(d[:], o[:]) }

// A Name identifies one push of a device file: 128 random bits, written into the
// file before the push is sent.
type Name [16]byte

// An Epoch begins when a space's store is opened for writing. A device keeps the
// list of epochs up to what it has seen; a master that does not know one of them
// was restored from an older copy.
type Epoch struct {
	ID    Name
	First Seq // the first seq that this epoch can give
}

// MaxRegisters is the most registers that a table has. The columns of a table from
// the 64th on share the last register.
const MaxRegisters = 64

// Bits is a set of registers: bit i stands for register i.
type Bits uint64

// Bit returns the set that holds register i alone.
func Bit(i int) Bits { return 1 << uint(i) }

// AllBits returns the set of the registers 0 to n-1.
func AllBits(n int) Bits {
	if n >= MaxRegisters {
		return ^Bits(0)
	}
	return 1<<uint(n) - 1
}

// Has reports whether register i is in the set.
func (b Bits) Has(i int) bool { return b>>uint(i)&1 == 1 }

// Count returns the number of registers in the set.
func (b Bits) Count() int { return bits.OnesCount64(uint64(b)) }

// Each calls f for each register of the set, in ascending order.
func (b Bits) Each(f func(i int)) {
	for ; b != 0; b &= b - 1 {
		f(bits.TrailingZeros64(uint64(b)))
	}
}
