package wire

// Limits bound what a decoder accepts. A zero field means its default; the zero
// value is ready to use.
type Limits struct {
	// Body is the most bytes of a body as sent. Zero means 8 MiB.
	Body int64
	// Inflated is the most bytes of the CBOR inside it. Zero means 64 MiB; the most
	// is 1 GiB.
	Inflated int64
	// Rows is the most rows of a message, all blocks together. Zero means 10,000.
	Rows int
	// Cells is the most values of a message, keys included. It bounds what columns of
	// NULLs, which take no bytes, make of memory: some 24 bytes each. Zero means
	// 4 million, which is 10,000 rows of 400 columns.
	Cells int
	// Columns is the most columns of a table. Zero means 2,000.
	Columns int
	// Tables is the most tables of a schema. Zero means 256.
	Tables int
	// Schema is the most bytes that the tables of a message take. Zero means 4 MiB.
	Schema int
	// Value is the most bytes of one text or blob. Zero means 16 MiB.
	Value int
	// Key is the most bytes of a row's key. Zero means 64 KiB.
	Key int
	// Name is the most bytes of a table's or column's name. Zero means 256.
	Name int
	// Names is the most push names of a push. Zero means 10,000.
	Names int
	// Epochs is the most epochs of a message. Zero means 100,000.
	Epochs int
	// Conflicts is the most conflicts of a pull. Zero means 10,000.
	Conflicts int
}

// maxInflated is what the inflater itself is bounded to.
const maxInflated = 1 << 30

// Defaults returns the limits with each zero field replaced by its default.
func (l Limits) Defaults() Limits {
	set(&l.Body, 8<<20)
	set(&l.Inflated, 64<<20)
	set(&l.Rows, 10_000)
	set(&l.Cells, 4_000_000)
	set(&l.Columns, 2_000)
	set(&l.Tables, 256)
	set(&l.Schema, 4<<20)
	set(&l.Value, 16<<20)
	set(&l.Key, 64<<10)
	set(&l.Name, 256)
	set(&l.Names, 10_000)
	set(&l.Epochs, 100_000)
	set(&l.Conflicts, 10_000)
	l.Inflated = min(l.Inflated, maxInflated)
	return l
}

func set[T int | int64](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// over returns a LimitError when got is beyond limit.
func over[T int | int64 | uint32 | uint64](what string, got T, limit int64) error {
	if got > 0 && uint64(got) > uint64(limit) {
		return &LimitError{What: what, Limit: limit, Got: int64(min(uint64(got), 1<<63-1))}
	}
	return nil
}
