package change

// A Block is rows of one table that share an operation and a set of registers, laid
// out by column: the form in which rows travel.
type Block struct {
	Table  int  // place in the schema
	Delete bool // the rows are deleted: no registers, no columns
	Regs   Bits // the registers that the columns below belong to
	Keys   []Value
	// Columns holds, for each column of Regs in table order, one value a row.
	Columns [][]Value
	// Stamps holds one stamp a row on a push; nil on a pull.
	Stamps []EditStamp
}

// An EditStamp is the clock and the key of one row of a push.
type EditStamp struct {
	LSN    LSN
	Seen   Seq // what its author had seen, for every register not in Regs
	Time   int64
	Weight float64
	// Existence is the smallest seen of any mutation in the edit; equal to Seen when
	// all have seen the same.
	Existence Seq
	Regs      []RegEdit // the registers whose Seen or LSN differ from the row's
	// Steps are what was added to counters, by LSN. A counter of the block without steps
	// travels by its value.
	Steps []Step
	// Made is the LSN of the mutation that made the row, in a table whose option ids is
	// "renumber"; 0 elsewhere, and where the row was there before. Of a delete that has it be
	// its own LSN the row may be one that the master lost, see Edit.Lost.
	Made LSN
	// Present, beside Made, says that the row was there when its table was tracked: an equal
	// row of another device is the same one.
	Present bool
}

// Edit returns row i of a push as an Edit. registers is the table's number of them.
func (b *Block) Edit(i int, device DeviceID, registers int) Edit {
	s := &b.Stamps[i]
	e := Edit{
		Device: device,
		Delete: b.Delete,
		LSN:    s.LSN,
		Seen:   s.Existence,
		Made:   s.Made, Present: s.Present,
		Rank: Rank{Weight: s.Weight, Time: s.Time, Device: device},
	}
	set := b.Regs
	if b.Delete {
		set = AllBits(registers)
		if s.Made == s.LSN {
			e.Lost, e.Made = true, 0
		}
	}
	e.Regs = make([]RegEdit, 0, set.Count())
	odd := s.Regs
	set.Each(func(r int) {
		if len(odd) > 0 && odd[0].Reg == r {
			e.Regs = append(e.Regs, odd[0])
			odd = odd[1:]
			return
		}
		e.Regs = append(e.Regs, RegEdit{Reg: r, Seen: s.Seen, LSN: s.LSN})
	})
	return e
}

// A Push asks the master to apply a device's pending edits, or, with Page set, for
// the next page of a pull; either way the answer is a Pull. A long push comes in
// parts, which the master applies together when the last one has come.
type Push struct {
	Device  DeviceID
	Names   []Name  // the last answered push, then those without an answer, then this one
	Epochs  []Epoch // up to Seen
	Seen    Seq     // the device holds everything up to here
	Through LSN     // the parts together cover the device's log up to here
	Now     int64   // the device's clock, unix milliseconds
	// Waited is how many milliseconds ago the push came, or its last part, by the master's
	// clock. It is not sent.
	Waited int64
	Schema [32]byte
	// Tables is sent when the master may not know the digest yet.
	Tables Schema
	// Known is the digest of the space's schema that the device has; zero: none.
	Known [32]byte
	// Doubt: of steps up to this LSN another copy of the file may have sent the same.
	Doubt LSN
	// Fresh lists columns that the device's tables did not have when it completed its last
	// round: it holds nothing of them, whatever Seen says.
	Fresh []ColumnRef
	// Renames lists tables and columns that had another name when it completed its last round.
	Renames []Rename
	Part    int  // 0, 1, 2, …
	More    bool // further parts follow; the answer is an empty Pull
	Blocks  []Block
	// Page asks for the page of the pull that follows this seq; nothing is pushed then.
	Page   Seq
	Paging bool
	// Compare, beside Paging, asks for fingerprints of the master's rows in the place of
	// values: the rows that changed after Page, as a Comparison of package capture reads
	// them. Seen is then the last seq that the device has in common with the master.
	Compare bool
	// Snapshot, beside Paging, is the seq of the snapshot that the pull began with: rows that
	// changed after it come whole, what the device wrote itself and its deletes too. 0: none.
	Snapshot Seq
	// Compared is the master's head at the comparison that this push goes by; 0: none.
	Compared Seq
	// Digest, beside Paging, asks whether the master holds the same of a range as of Seen.
	Digest *RangeDigest
	// Wire counts the bytes that this message had; filled by the wire package.
	Wire int64 `cbor:"-"`
}

// A ColumnRef names a column by its table's place in the device's schema, and its own
// place in that table.
type ColumnRef struct{ Table, Column int }

// A Rename says what a column was called before; the table itself where Column is -1.
type Rename struct {
	ColumnRef
	From string
}

// A Pull is the master's answer: what the device lacks, up to To.
type Pull struct {
	Applied LSN // the master applied this device's log up to here
	To      Seq
	Done    bool // false: ask for the page after To
	Full    bool // a snapshot: rows of the space that no page names are gone
	Epochs  []Epoch
	Now     int64 // the master's clock, unix milliseconds
	// Tables is the space as this device sees it, which is also how Blocks name tables,
	// registers and columns: its own tables as it has them, and those that it lacks.
	Tables   Schema
	Blocks   []Block
	Lost     []Conflict // what this device's writes lost, since its seen
	Digest   DigestAnswer
	Saved    Saved
	Rows     int   // rows of the pull that this page begins, for a progress bar
	Wire     int64 `cbor:"-"`
	WireSent int64 `cbor:"-"`
}

// Saved counts what did not need to travel.
type Saved struct {
	EchoRows int // rows that changed since seen and went not back to their author
}

// A Conflict is a version that did not stay, with what stands in its place.
type Conflict struct {
	ID     int64 // the master's
	Seq    Seq
	Device DeviceID // the loser's author
	Table  string
	Key    Value
	Kind   Kind
	Rule   Rule
	Reason string // what a constraint said; empty otherwise
	// Columns names the columns lost; Lost and Kept hold their values, one each. Kept is
	// nil where a delete stands, Lost is nil for a lost delete.
	Columns    []string
	Lost, Kept []Value
	LostClock  Clock
	KeptClock  Clock
	LostRank   Rank
	KeptRank   Rank
}
