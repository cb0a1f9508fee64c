package change

// A RangeDigest is what a device holds of a range of one table's keys, in the order of the
// key, in so few bytes that a master can tell whether it holds the same.
type RangeDigest struct {
	Table  int     // place in the device's schema
	After  Value   // the key before the range; nil: it begins with the first
	To     Value   // its last key; nil: it goes to the end
	Rows   int64   // of it, those in Except left out
	Sum    int64   // of their fingerprints, modulo 2^64
	Except []Value // rows that can't be compared: the device has edits of them that wait
}

// MostExcept bounds RangeDigest.Except.
const MostExcept = 1000

// A DigestAnswer says what a master holds of a RangeDigest.
type DigestAnswer uint8

// The answers. With RangeDiffers the pull's blocks are the range as the master has it: its
// rows, and as deletes the keys of rows that changed since the device's Seen, which say
// nothing. If the pull is not Done, they end with the last row's key.
const (
	RangeUnknown DigestAnswer = iota // the master can't tell now
	RangeEqual
	RangeDiffers
)

// OfRow returns the fingerprint of a row with its key.
func (f *Fingerprinter) OfRow(key Value, values []Value) int64 {
	f.row = append(append(f.row[:0], key), values...)
	return f.Of(f.row)
}
