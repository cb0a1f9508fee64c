package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// snapshotOf writes a snapshot of these records.
func snapshotOf(t testing.TB, records ...string) (file []byte, etag string) {
	t.Helper()
	var b bytes.Buffer
	var sum SnapshotSum
	total := int64(0)
	for _, r := range records {
		n, err := sum.WriteRecord(&b, []byte(r))
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	n, err := sum.WriteEnd(&b)
	if total += n; err != nil || total != int64(b.Len()) {
		t.Fatalf("%d bytes are said to be written, %d are: %v", total, b.Len(), err)
	}
	return b.Bytes(), sum.ETag()
}

// readSnapshot reads records until an error.
func readSnapshot(sum *SnapshotSum, r io.Reader, l Limits) (records []string, err error) {
	var buf []byte
	for {
		record, err := sum.ReadRecord(r, buf, l)
		if err != nil {
			return records, err
		}
		records = append(records, string(record.Body()))
		buf = record
	}
}

func TestSnapshot_golden(t *testing.T) {
	records := []string{"what a first pull would be", strings.Repeat("and a second one ", 4)}
	got, etag := snapshotOf(t, records...)
	name := filepath.Join(goldenDir, "v1_snapshot.golden")
	if *update {
		if err := os.WriteFile(name, lines(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the bytes of a snapshot changed: got %x, want %x", got, want)
	}
	if want := `"2febd01079d606efeffa37f5efdd7e4c"`; etag != want && !*update {
		t.Errorf("ETag %s, want %s", etag, want)
	}
	var sum SnapshotSum
	read, err := readSnapshot(&sum, iotest.OneByteReader(bytes.NewReader(want)), Limits{})
	if d := cmp.Diff(records, read); d != "" || err != io.EOF || sum.ETag() != etag {
		t.Errorf("%v, ETag %s, -want +got\n%s", err, sum.ETag(), d)
	}
}

// A snapshot that is cut anywhere is read on from the last whole record.
func TestSnapshot_cutAnywhere(t *testing.T) {
	records := []string{"one", "two and a half", "3"}
	file, etag := snapshotOf(t, records...)
	for cut := range len(file) {
		var sum SnapshotSum
		read, err := readSnapshot(&sum, bytes.NewReader(file[:cut]), Limits{})
		if err != io.ErrUnexpectedEOF {
			t.Fatalf("cut at %d: %v, want an unexpected end", cut, err)
		}
		at := 0
		for _, r := range read {
			at += SnapshotHeader + len(r)
		}
		rest, err := readSnapshot(&sum, bytes.NewReader(file[at:]), Limits{})
		if err != io.EOF || sum.ETag() != etag || !slices.Equal(append(read, rest...), records) {
			t.Fatalf("cut at %d, read on from %d: %v, %q and %q", cut, at, err, read, rest)
		}
	}
}

// No bit can turn, and no record can be missing, come twice or from elsewhere.
func TestSnapshot_damaged(t *testing.T) {
	file, _ := snapshotOf(t, "one", "two and a half", "3")
	for bit := range 8 * len(file) {
		bad := bytes.Clone(file)
		bad[bit/8] ^= 1 << (bit % 8)
		var sum SnapshotSum
		if read, err := readSnapshot(&sum, bytes.NewReader(bad), Limits{}); err == io.EOF {
			t.Fatalf("with bit %d turned it is read as %q", bit, read)
		}
	}
	first, second := file[:SnapshotHeader+3], file[SnapshotHeader+3:SnapshotHeader+3+SnapshotHeader+14]
	rest := file[len(first)+len(second):]
	other, _ := snapshotOf(t, "another")
	for name, parts := range map[string][][]byte{
		"missing": {first, rest}, "twice": {first, first, second, rest}, "in another order": {second, first, rest},
		"of another snapshot": {first, second, other}, "the end of another": {first, second, other[len(other)-SnapshotHeader:]},
	} {
		var sum SnapshotSum
		if read, err := readSnapshot(&sum, bytes.NewReader(bytes.Join(parts, nil)), Limits{}); !errors.Is(err, ErrDigest) {
			t.Errorf("a record %s: %v, %q, want ErrDigest", name, err, read)
		}
	}
	var sum SnapshotSum
	var limit *LimitError
	if _, err := readSnapshot(&sum, bytes.NewReader(file), Limits{Body: 5}); !errors.As(err, &limit) {
		t.Errorf("a record beyond the limit: %v", err)
	}
}

func FuzzReadRecord(f *testing.F) {
	file, _ := snapshotOf(f, "one", "two")
	f.Add(file)
	f.Add(file[:40])
	empty, _ := snapshotOf(f)
	f.Add(empty)
	f.Fuzz(func(t *testing.T, b []byte) {
		var sum SnapshotSum
		r := bytes.NewReader(b)
		records, err := readSnapshot(&sum, r, Limits{Body: 1 << 16})
		var limit *LimitError
		switch {
		case errors.Is(err, ErrDigest), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &limit):
		case err != io.EOF:
			t.Fatalf("%T %v", err, err)
		default: // what is read to its end is what is written
			if again, etag := snapshotOf(t, records...); !bytes.Equal(again, b[:len(b)-r.Len()]) || etag != sum.ETag() {
				t.Fatalf("%x is written as %x", b, again)
			}
		}
	})
}
