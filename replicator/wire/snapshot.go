package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// SnapshotType is the Content-Type of a snapshot, and SnapshotHeader the bytes that each of its records
// has before its body: how long that is, and its SHA-256.
const (
	SnapshotType   = "application/vnd.velosync.snapshot"
	SnapshotHeader = 4 + sha256.Size
)

// A SnapshotSum names the records of a snapshot, in their order. Its zero value is ready
// to use.
type SnapshotSum struct{ h hash.Hash }

func (s *SnapshotSum) add(sum []byte) {
	if s.h == nil {
		s.h = sha256.New()
	}
	s.h.Write(sum)
}

func (s *SnapshotSum) sum() [sha256.Size]byte {
	if s.h == nil {
		return sha256.Sum256(nil)
	}
	return [sha256.Size]byte(s.h.Sum(nil))
}

// ETag returns the entity tag of a snapshot that has these records.
func (s *SnapshotSum) ETag() string {
	sum := s.sum()
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// WriteRecord writes one record, whose body is that of a pull, and returns its bytes.
func (s *SnapshotSum) WriteRecord(w io.Writer, body []byte) (int64, error) {
	sum := sha256.Sum256(body)
	s.add(sum[:])
	return writeRecord(w, sum, body)
}

// WriteEnd writes the record that ends a snapshot.
func (s *SnapshotSum) WriteEnd(w io.Writer) (int64, error) { return writeRecord(w, s.sum(), nil) }

func writeRecord(w io.Writer, sum [sha256.Size]byte, body []byte) (int64, error) {
	header := append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), sum[:]...)
	for _, b := range [][]byte{header, body} {
		if _, err := w.Write(b); err != nil {
			return 0, err
		}
	}
	return SnapshotHeader + int64(len(body)), nil
}

// A Record is a record of a snapshot as it was written: its header and its body.
type Record []byte

// Body returns what the header is of: the body of a pull.
func (r Record) Body() []byte { return r[SnapshotHeader:] }

// ReadRecord reads one record, into buf where that is large enough. At the snapshot's end it returns io.EOF, where r is cut
// io.ErrUnexpectedEOF. What is not as it was written gives ErrDigest: nothing of the record
// is of use then, and where it is the end that does not fit, nothing of the snapshot.
func (s *SnapshotSum) ReadRecord(r io.Reader, buf []byte, l Limits) (Record, error) {
	l = l.Defaults()
	var header [SnapshotHeader]byte
	if _, err := io.ReadFull(r, header[:]); errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	} else if err != nil {
		return nil, err
	}
	size, want := binary.LittleEndian.Uint32(header[:]), [sha256.Size]byte(header[4:])
	if size == 0 {
		if want != s.sum() {
			return nil, fmt.Errorf("%w: the records are not those that the snapshot was written with", ErrDigest)
		}
		return nil, io.EOF
	}
	if err := over("bytes of a record", size, l.Body); err != nil {
		return nil, err
	}
	if cap(buf) < SnapshotHeader+int(size) {
		buf = make([]byte, SnapshotHeader+int(size))
	}
	record := Record(buf[:SnapshotHeader+int(size)])
	copy(record, header[:])
	if _, err := io.ReadFull(r, record.Body()); errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	} else if err != nil {
		return nil, err
	}
	if got := sha256.Sum256(record.Body()); got != want {
		return nil, fmt.Errorf("%w: a record of %d bytes has sha-256 %x, its header says %x", ErrDigest, size, got, want)
	}
	s.add(want[:])
	return record, nil
}
