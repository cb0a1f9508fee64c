package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/velosync/velosync/capture/change"
)

// typed reports whether err is one of the errors that the decoders promise.
func typed(err error) bool {
	var (
		version *VersionError
		limit   *LimitError
		format  *FormatError
	)
	return errors.As(err, &version) || errors.As(err, &limit) || errors.As(err, &format)
}

// cborOf returns the CBOR of a body.
func cborOf(t testing.TB, body []byte) []byte {
	t.Helper()
	buf, err := inflate(body, Limits{}.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(*buf)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "").Replace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestThreat_hostileCBOR(t *testing.T) {
	const id = "50 00000000000000000000000000000000"
	for _, tt := range []struct {
		name string
		cbor string
		want string
	}{
		{"good", "83 01 03 a1 01" + id, ""},
		{"good, counters", "83 01 03 a3 01" + id + "02 05 03 06", ""},
		{"empty", "", "body is empty"},
		{"no array", "a0", "the envelope is not an array"},
		{"no version", "83 60 03 a0", "no version"},
		{"next version", "84 02 03 a0 00", "protocol version 2, this program speaks version 1: update this program"},
		{"version 0", "83 00 03 a0", "update the sender"},
		{"two items", "82 01 03", "not [version, kind, map]"},
		{"a push", "83 01 01 a0", "this is kind 1, push: want kind 3, ack"},
		{"unknown kind", "83 01 09 a0", "this is kind 9, unknown"},
		{"null for the map", "83 01 03 f6", "not a map"},
		{"array for the map", "83 01 03 81 01", "not a map"},
		{"no device", "83 01 03 a0", "the device id has 0 bytes"},
		{"short device", "83 01 03 a1 01 41 00", "the device id has 1 bytes"},
		{"text for the device", "83 01 03 a1 01 70 30303030303030303030303030303030", "does not decode"},
		{"key twice", "83 01 03 a2 01" + id + "01" + id, "duplicate"},
		{"key twice, longer form", "83 01 03 a2 01" + id + "1801" + id, "duplicate"},
		{"unknown key", "83 01 03 a2 01" + id + "04 00", "unknown field"},
		{"text key", "83 01 03 a2 01" + id + "61 32 00", "unknown field"},
		{"trailing byte", "83 01 03 a1 01" + id + "00", "extraneous"},
		{"indefinite map", "83 01 03 bf 01" + id + "ff", "indefinite"},
		{"tag", "83 01 03 a1 01 c2" + id, "tag"},
		{"negative seq", "83 01 03 a2 01" + id + "02 20", "counts below 0"},
		{"seq of 2^63", "83 01 03 a2 01" + id + "02 1b8000000000000000", "does not decode"},
		{"real for seq", "83 01 03 a2 01" + id + "02 f93c00", "does not decode"},
		{"deep nesting", "83 01 03 a2 01" + id + "02" + strings.Repeat("81", 40) + "00", "nested"},
		{"array that promises much", "83 01 03 a2 01" + id + "02 9a7fffffff", "does not decode"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeAck(deflate(unhex(t, tt.cbor)), Limits{})
			switch {
			case tt.want == "" && err == nil:
			case err == nil || tt.want == "" || !strings.Contains(err.Error(), tt.want):
				t.Errorf("got %v, want %q in it", err, tt.want)
			case !typed(err):
				t.Errorf("%T is not an error of this package", err)
			}
		})
	}
}

// A block whose head and payload do not agree.
func TestThreat_hostileBlocks(t *testing.T) {
	key := "01 00 02"                     // one integer, 1
	stamp := strings.Repeat("00 00", 5) + // lsn, seen, time, existence, registers: 0
		"00 00 0000000000000000" // weight 0
	for _, tt := range []struct {
		name    string
		head    string // table, delete, regs, rows, columns
		payload string
		want    string
	}{
		{"good", "00 f4 01 01 01", key + "00" + stamp, ""},
		{"no rows", "00 f4 01 00 01", key, "block 0: no rows"},
		{"a delete with registers", "00 f5 01 01 00", key + stamp, "a delete has registers"},
		{"too short", "00 f4 01 01 01", key, "cut short"},
		{"too long", "00 f4 01 01 01", key + "00" + stamp + "00", "1 bytes too many"},
		{"NULL key", "00 f4 01 01 01", "00 00" + stamp, "block 0, row 0: the key is NULL"},
		{"NaN key", "00 f4 01 01 00", "02 00 010000000000f07f" + stamp, "keys: NaN"},
		{"NaN value", "00 f4 01 01 01", key + "02 00 010000000000f0ff" + stamp, "column 0, row 0: NaN"},
		{"more rows than there are", "00 f4 01 02 01", "01 09 02" + "00" + stamp, "cut short"},
		{"2^31 rows", "00 f4 01 1a80000000 01", key + stamp, "rows of the message"},
		{"2,001 columns", "00 f4 01 01 1907d1", key + stamp, "columns of a block"},
		{"table 256", "190100 f4 01 01 00", key + stamp, "place of a table"},
		{"infinite weight", "00 f4 01 01 00", key + "0000 0000 0000 0000 0000 00 00 000000000000f07f", "weight is +Inf"},
		{"NaN weight", "00 f4 01 01 00", key + "0000 0000 0000 0000 0000 00 00 010000000000f87f", "NaN"},
		{"weights of a column that is not there", "00 f4 01 01 00", key + "0000 0000 0000 0000 0000 01", "column 0, of 0"},
		{"weights of a text column", "00 f4 01 01 01", key + "03 00 00 02 61" + "0000 0000 0000 0000 0000 01", "weight: semantic weight is string"},
		{"negative lsn", "00 f4 01 01 00", key + "0001 0000 0000 0000 0000 00 00 0000000000000000", "counts below 0"},
		{"existence below 0", "00 f4 01 01 00", key + "0000 0000 0000 0002 0000 00 00 0000000000000000", "counts below 0"},
		{"65 registers", "00 f4 01 01 00", key + "0000 0000 0000 0000 008201", "65 registers"},
		{"register 64", "00 f4 01 01 00", key + "0000 0000 0000 0000 0002 008001 0000 0000 00 00 0000000000000000", "register 64"},
		{"register -1", "00 f4 01 01 00", key + "0000 0000 0000 0000 0002 0001 0000 0000 00 00 0000000000000000", "register -1"},
		{"register of no column here", "00 f4 01 01 00", key + "0000 0000 0000 0000 0002 0002 0000 0000 00 00 0000000000000000", "register 1 is none"},
		{"register twice", "00 f4 01 01 00", key + "0000 0000 0000 0000 0004 0000 0000 0000 00 00 0000000000000000", "register 0 after 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			payload := unhex(t, tt.payload)
			doc := unhex(t, "83 01 01 a2 01 50 00000000000000000000000000000000 0d 81 86"+tt.head)
			doc = append(doc, 0x58, byte(len(payload)))
			_, err := DecodePush(deflate(append(doc, payload...)), Limits{})
			switch {
			case tt.want == "" && err == nil:
			case err == nil || tt.want == "" || !strings.Contains(err.Error(), tt.want):
				t.Errorf("got %v, want %q in it", err, tt.want)
			case !typed(err):
				t.Errorf("%T is not an error of this package", err)
			}
		})
	}
}

func TestDecodePush_hostileRange(t *testing.T) {
	for _, tt := range []struct {
		name  string
		array string // table, rows, sum, except, keys
		want  string
	}{
		{"a byte behind the keys", "85 00 05 48 0100000000000000 00 42 0000", "too many"},
		{"no bounds", "85 00 05 48 0100000000000000 00 41 00", ""},
		{"one left out without a key", "85 00 05 48 0100000000000000 01 41 00", "has no key"},
		{"more left out than may be", "85 00 05 48 0100000000000000 1903e9 41 00", "left out of a digest"},
		{"2^31 left out", "85 00 05 48 0100000000000000 1a80000000 41 00", "left out of a digest"},
		{"table 256", "85 190100 05 48 0100000000000000 00 41 00", "table 256"},
		{"rows below 0", "85 00 24 48 0100000000000000 00 41 00", "digest of -5 rows"},
		{"a sum of 7 bytes", "85 00 05 47 01000000000000 00 41 00", "sum has 7 bytes"},
		{"no keys", "85 00 05 48 0100000000000000 00 40", "cut short"},
		{"NaN", "85 00 05 48 0100000000000000 00 4a 02 00 010000000000f07f", "NaN"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodePush(deflate(unhex(t, "83 01 01 a2 01 50 00000000000000000000000000000000 1818 "+tt.array)), Limits{})
			switch {
			case tt.want == "" && err == nil:
			case err == nil || tt.want == "" || !strings.Contains(err.Error(), tt.want):
				t.Errorf("got %v, want %q in it", err, tt.want)
			case !typed(err):
				t.Errorf("%T is not an error of this package", err)
			}
		})
	}
	if _, err := DecodePull(deflate(unhex(t, "83 01 02 a1 0e 03")), Limits{}); err == nil || !typed(err) {
		t.Errorf("answer 3 to a digest: %v", err)
	}
	p := digestPush()
	p.Digest.Except = make([]change.Value, change.MostExcept+1)
	if _, err := EncodePush(p); err == nil {
		t.Error("more rows are left out than may be, and sent")
	}
}

// Whatever is cut off, inside the frame or before it was compressed, is noticed.
func TestDecode_cut(t *testing.T) {
	for name, body := range map[string][]byte{"push": mustPush(t, fullPush()), "digest": mustPush(t, digestPush()), "pull": mustPull(t, fullPull()), "vectors": mustPush(t, vectorPush())} {
		decode := func(b []byte) error {
			if name == "pull" {
				_, err := DecodePull(b, Limits{})
				return err
			}
			_, err := DecodePush(b, Limits{})
			return err
		}
		for n := range body {
			if err := decode(body[:n]); !typed(err) {
				t.Fatalf("%s cut after %d of %d bytes: %v", name, n, len(body), err)
			}
		}
		doc := cborOf(t, body)
		for n := range doc {
			if err := decode(stored(doc[:n])); !typed(err) {
				t.Fatalf("%s cut after %d of %d bytes of CBOR: %v", name, n, len(doc), err)
			}
		}
		if err := decode(stored(doc)); err != nil {
			t.Errorf("%s, stored: %v", name, err)
		}
		if err := decode(append(bytes.Clone(body), 0)); !typed(err) {
			t.Errorf("%s with a byte behind it: %v", name, err)
		}
		if err := decode(deflate(append(doc, 0))); !typed(err) {
			t.Errorf("%s with a byte of CBOR behind it: %v", name, err)
		}
	}
}

// stored returns doc, of less than 128 KB, as a zstd frame of one block that is not compressed:
// an encoder, new for each of thousands of them, would clear a megabyte first.
func stored(doc []byte) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0} // one segment, whose size follows in 4 bytes
	b = binary.LittleEndian.AppendUint32(b, uint32(len(doc)))
	block := uint32(len(doc))<<3 | 1 // the last one, raw
	return append(append(b, byte(block), byte(block>>8), byte(block>>16)), doc...)
}

// A flipped bit never panics, and the digest always tells.
func TestDecode_flipped(t *testing.T) {
	body := mustPush(t, fullPush())
	digest := Digest(body)
	for i := range body {
		for bit := range 8 {
			b := bytes.Clone(body)
			b[i] ^= 1 << bit
			if err := CheckDigest(digest, b); !errors.Is(err, ErrDigest) {
				t.Fatalf("bit %d of byte %d flipped: CheckDigest returns %v", bit, i, err)
			}
			if _, err := DecodePush(b, Limits{}); err != nil && !typed(err) {
				t.Fatalf("bit %d of byte %d flipped: %T %v", bit, i, err, err)
			}
		}
	}
	doc := cborOf(t, body)
	for i := range doc {
		b := bytes.Clone(doc)
		b[i] ^= 0x55
		if _, err := DecodePush(deflate(b), Limits{}); err != nil && !typed(err) {
			t.Fatalf("byte %d of the CBOR flipped: %T %v", i, err, err)
		}
	}
}

func TestThreat_bomb(t *testing.T) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	zeros := w.EncodeAll(make([]byte, 65<<20), nil)
	quarter := w.EncodeAll(make([]byte, 16<<20+1), nil)
	var unsized bytes.Buffer
	stream, err := zstd.NewWriter(&unsized, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(stream, zeroReader{}, 65<<20); err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	lying := bytes.Clone(zeros)
	copy(lying[6:10], "\x00\x00\x00\x03") // 48 MiB

	for _, tt := range []struct {
		name  string
		body  []byte
		limit bool
	}{
		{"65 MiB of zeros", zeros, true},
		{"four frames, together too much", bytes.Repeat(quarter, 4), true},
		{"no size in the header", unsized.Bytes(), false},
		{"a size in the header that is too small", lying, false},
		{"skippable frame", append([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9}, mustPush(t, &change.Push{})...), false},
		{"not zstd", []byte("hello, world"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodePush(tt.body, Limits{})
			var limit *LimitError
			if !typed(err) || errors.As(err, &limit) != tt.limit {
				t.Errorf("%d bytes: got %T %v, want a LimitError: %v", len(tt.body), err, err, tt.limit)
			}
		})
	}
	// Memory is not taken before the sizes are known.
	if n := testing.AllocsPerRun(3, func() { _, _ = DecodePush(zeros, Limits{}) }); n > 100 {
		t.Errorf("%v allocations to refuse a bomb", n)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestThreat_limits(t *testing.T) {
	repeat := func(n int, v change.Value) []change.Value {
		list := make([]change.Value, n)
		for i := range list {
			list[i] = v
		}
		return list
	}
	manyColumns := &change.Push{Blocks: []change.Block{{Keys: repeat(1, "k"), Columns: make([][]change.Value, 9), Stamps: make([]change.EditStamp, 1)}}}
	for i := range manyColumns.Blocks[0].Columns {
		manyColumns.Blocks[0].Columns[i] = repeat(1, nil)
	}
	rows := func(n int) change.Block {
		return change.Block{Keys: repeat(n, int64(1)), Stamps: make([]change.EditStamp, n)}
	}
	for _, tt := range []struct {
		name string
		push *change.Push
		l    Limits
		want string
	}{
		{"body", fullPush(), Limits{Body: 100}, "bytes of the body"},
		{"inflated", fullPush(), Limits{Inflated: 100}, "bytes of the message, inflated"},
		{"rows of a block", &change.Push{Blocks: []change.Block{rows(101)}}, Limits{Rows: 100}, "rows of the message"},
		{"rows of all blocks", &change.Push{Blocks: []change.Block{rows(60), rows(41)}}, Limits{Rows: 100}, "rows of the message"},
		{"columns", manyColumns, Limits{Columns: 8}, "columns of a block"},
		{"cells", manyColumns, Limits{Cells: 9}, "values of the message"},
		{"cells of registers", fullPush(), Limits{Cells: 18}, "values of the message"},
		{"tables", &change.Push{Tables: make(change.Schema, 4)}, Limits{Tables: 3}, "tables"},
		{"table of a block", &change.Push{Blocks: []change.Block{{Table: 3, Keys: repeat(1, "k"), Stamps: make([]change.EditStamp, 1)}}}, Limits{Tables: 3}, "place of a table"},
		{"columns of a table", fullPush(), Limits{Columns: 3, Tables: 9}, "columns of a"},
		{"schema", fullPush(), Limits{Schema: 100}, "bytes of the tables"},
		{"text", &change.Push{Blocks: []change.Block{{Keys: repeat(1, "k"), Columns: [][]change.Value{repeat(1, strings.Repeat("x", 101))}, Stamps: make([]change.EditStamp, 1)}}}, Limits{Value: 100}, "bytes of a text"},
		{"hex text", &change.Push{Blocks: []change.Block{{Keys: repeat(1, "k"), Columns: [][]change.Value{repeat(1, strings.Repeat("a", 102))}, Stamps: make([]change.EditStamp, 1)}}}, Limits{Value: 100}, "bytes of a text"},
		{"blob", &change.Push{Blocks: []change.Block{{Keys: repeat(1, "k"), Columns: [][]change.Value{repeat(1, make([]byte, 101))}, Stamps: make([]change.EditStamp, 1)}}}, Limits{Value: 100}, "bytes of a blob"},
		{"vector", vectorPush(), Limits{Value: 127}, "bytes of a blob"},
		{"key", &change.Push{Blocks: []change.Block{{Keys: repeat(1, strings.Repeat("x", 101)), Stamps: make([]change.EditStamp, 1)}}}, Limits{Key: 100}, "bytes of a text"},
		{"uuid key", &change.Push{Blocks: []change.Block{{Keys: repeat(1, "00112233-4455-6677-8899-aabbccddeeff"), Stamps: make([]change.EditStamp, 1)}}}, Limits{Key: 35}, "bytes of a text"},
		{"name of a table", &change.Push{Tables: change.Schema{{Name: strings.Repeat("n", 101)}}}, Limits{Name: 100}, "bytes of a name"},
		{"name of a column", &change.Push{Tables: change.Schema{{Columns: []change.Column{{Name: strings.Repeat("n", 101)}}}}}, Limits{Name: 100}, "bytes of a name"},
		{"name in a group", &change.Push{Tables: change.Schema{{Options: change.Options{Groups: [][]string{{strings.Repeat("n", 101)}}}}}}, Limits{Name: 100}, "bytes of a name"},
		{"push names", &change.Push{Names: make([]change.Name, 4)}, Limits{Names: 3}, "push names"},
		{"epochs", &change.Push{Epochs: make([]change.Epoch, 4)}, Limits{Epochs: 3}, "epochs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := mustPush(t, tt.push)
			if _, err := DecodePush(body, Limits{}); err != nil {
				t.Fatalf("with the defaults: %v", err)
			}
			_, err := DecodePush(body, tt.l)
			var limit *LimitError
			if !errors.As(err, &limit) || !strings.HasPrefix(limit.What, tt.want) {
				t.Errorf("got %v, want a LimitError of %q", err, tt.want)
			}
		})
	}
	t.Run("conflicts", func(t *testing.T) {
		_, err := DecodePull(mustPull(t, fullPull()), Limits{Conflicts: 2})
		var limit *LimitError
		if !errors.As(err, &limit) || limit.What != "conflicts" || limit.Got != 3 {
			t.Errorf("got %v, want a LimitError of 3 conflicts", err)
		}
	})
	t.Run("exactly at the limit", func(t *testing.T) {
		p := &change.Push{Blocks: []change.Block{rows(60), rows(40)}}
		if _, err := DecodePush(mustPush(t, p), Limits{Rows: 100, Cells: 100}); err != nil {
			t.Error(err)
		}
	})
	t.Run("NULLs that take no bytes", func(t *testing.T) {
		// 10,000 rows of 2,000 columns of NULL are 2 kB of payload and 320 MB of memory.
		doc := unhex(t, "83 01 01 a2 01 50 00000000000000000000000000000000 0d 81 86 00 f4 01 192710 1907d0")
		payload := append([]byte{1, 0, 2}, make([]byte, 2000+64)...)
		doc = append(append(doc, 0x59, byte(len(payload)>>8), byte(len(payload))), payload...)
		_, err := DecodePush(deflate(doc), Limits{})
		var limit *LimitError
		if !errors.As(err, &limit) || limit.What != "values of the message" {
			t.Errorf("got %v, want a LimitError of values", err)
		}
	})
}

func TestLimitError_text(t *testing.T) {
	err := over("rows", uint64(math.MaxUint64), 5)
	if want := fmt.Sprintf("wire: rows: %d, the limit is 5: send less at a time, or raise the limit", int64(math.MaxInt64)); err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}
