package replicator

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math"
	"os"
	"syscall"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

// A snapshotFile holds the records of a snapshot as they come. It lies beside the database,
// where the next process of the device finds it, or else is an unnamed temporary file. The
// records are not synced to the disk: what a power cut leaves of them is told by their sums.
type snapshotFile struct {
	f       *os.File
	named   bool
	records int64 // where they begin
}

// A snapshotHeader is what the file has before its records: snapshotMagic, and this as one
// line of JSON. It says what they are of, and who may go on with them.
type snapshotHeader struct {
	ETag   string `json:"etag"`
	Source string `json:"source"` // URL of the space
	Schema string `json:"schema"` // of the device, its digest in hex
	Device string `json:"device"` // to which the master has sent it
}

const (
	snapshotSuffix = "-velosync-snapshot"
	// snapshotOurs begins each of these files, of whatever version.
	snapshotOurs  = "velosync snapshot "
	snapshotMagic = snapshotOurs + "1\n"
	// mostHeader is the most bytes that magic and header have.
	mostHeader = 4096
)

// of says for whom the records of a download are.
func (d *download) of(device change.DeviceID) snapshotHeader {
	return snapshotHeader{ETag: d.etag, Source: d.place.source, Schema: hex.EncodeToString(d.schema[:]), Device: device.String()}
}

// A snapshotPlace is where the file of a snapshot lies. Whoever uses it holds the lease.
// Where leases do not work the file's own lock keeps two apart, and where that does not
// either, the sums of its records.
type snapshotPlace struct {
	path   string
	source string
	log    *slog.Logger
}

// create makes the file for new records. Where it can't lie beside the database it is an
// unnamed one, and the log says so.
func (p *snapshotPlace) create(h snapshotHeader) (*snapshotFile, error) {
	file, err := p.make(h)
	if err == nil {
		return file, nil
	}
	p.log.Warn("a snapshot is kept in a temporary file: if this process ends, its download begins anew", "file", p.path, "err", err)
	f, err := unnamed()
	if err != nil {
		return nil, err
	}
	return &snapshotFile{f: f}, nil
}

func (p *snapshotPlace) make(h snapshotHeader) (*snapshotFile, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	head := append(append([]byte(snapshotMagic), text...), '\n')
	if len(head) > mostHeader {
		return nil, fmt.Errorf("its header would have %d bytes, the limit is %d", len(head), mostHeader)
	}
	f, err := os.OpenFile(p.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) // follows no link
	if err != nil {
		return nil, err
	}
	file := &snapshotFile{f: f, named: true, records: int64(len(head))}
	if err := lock(f); err != nil { // somebody was faster, and it is theirs
		return nil, errors.Join(err, f.Close())
	}
	// The header is synced, so that a file of zeros is not in the way after a power cut.
	_, err = f.Write(head)
	if err = errors.Join(err, f.Sync()); err != nil {
		file.remove(p.log)
		return nil, err
	}
	return file, nil
}

// find returns the file that an earlier process left, and its header, where that is of the
// same source and schema. Another one that is ours is removed, what is not ours stays. nil:
// there is none to go on with.
func (p *snapshotPlace) find(want snapshotHeader) (*snapshotFile, *snapshotHeader) {
	file, h, err := p.open()
	switch {
	case err != nil:
		p.log.Warn("what lies where a snapshot would be kept is left alone", "file", p.path, "err", err)
		return nil, nil
	case file == nil:
		return nil, nil
	case h == nil, h.Source != want.Source, h.Schema != want.Schema:
		p.log.Info("what was kept of a snapshot is of no use any more", "file", p.path)
		file.remove(p.log)
		return nil, nil
	}
	return file, h
}

// open opens the file and locks it. The header is nil where it can't be read. nil: there is
// no file. The error says why it is not, or may not be, ours.
func (p *snapshotPlace) open() (*snapshotFile, *snapshotHeader, error) {
	there, err := os.Lstat(p.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	case !there.Mode().IsRegular():
		return nil, nil, fmt.Errorf("it is no file but %v: move it elsewhere", there.Mode())
	}
	f, err := os.OpenFile(p.path, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	file := &snapshotFile{f: f, named: true}
	h, err := file.readHeader(there)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return file, h, nil
}

// readHeader reads the header of a file that was found to be there.
func (s *snapshotFile) readHeader(there os.FileInfo) (*snapshotHeader, error) {
	opened, err := s.f.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(there, opened) {
		return nil, errors.New("it changed meanwhile")
	}
	if err := lock(s.f); err != nil {
		return nil, fmt.Errorf("another process has it: %w", err)
	}
	head := make([]byte, min(mostHeader, opened.Size()))
	if _, err := io.ReadFull(io.NewSectionReader(s.f, 0, mostHeader), head); err != nil {
		return nil, err
	}
	if len(head) > 0 && !bytes.HasPrefix(head, []byte(snapshotOurs)) { // an empty one was cut while it was made
		return nil, errors.New("it is no snapshot of VeloSync: move it elsewhere")
	}
	rest, current := bytes.CutPrefix(head, []byte(snapshotMagic))
	text, _, whole := bytes.Cut(rest, []byte("\n"))
	if !current || !whole {
		return nil, nil
	}
	var h snapshotHeader
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, nil
	}
	s.records = int64(len(snapshotMagic) + len(text) + 1)
	return &h, nil
}

// tidy removes a file that an earlier process left, where it is ours.
func (p *snapshotPlace) tidy() {
	file, _, err := p.open()
	switch {
	case err != nil:
		p.log.Debug("what lies where a snapshot would be kept is left alone", "file", p.path, "err", err)
	case file != nil:
		p.log.Info("what was kept of a snapshot is not needed any more", "file", p.path)
		file.remove(p.log)
	}
}

// write writes a record, or the end, at a place among the records.
func (s *snapshotFile) write(b []byte, at int64) error {
	if _, err := s.f.WriteAt(b, s.records+at); err != nil {
		return &keepError{err}
	}
	return nil
}

// cut leaves so many bytes of the records.
func (s *snapshotFile) cut(at int64) error { return s.f.Truncate(s.records + at) }

// reader reads the records from the first on.
func (s *snapshotFile) reader() io.Reader {
	return io.NewSectionReader(s.f, s.records, math.MaxInt64-s.records)
}

// leave closes the file; one beside the database stays.
func (s *snapshotFile) leave() error {
	if s.named {
		return s.f.Close() // and the system frees the lock
	}
	return discard(s.f)
}

// remove closes the file, and removes it unless another one lies there now.
func (s *snapshotFile) remove(log *slog.Logger) {
	var err error
	if s.named {
		err = s.removeNamed()
	} else {
		err = discard(s.f)
	}
	if err != nil {
		log.Warn("what was kept of a snapshot is not removed", "file", s.f.Name(), "err", err)
	}
}

func (s *snapshotFile) removeNamed() error {
	mine, err := s.f.Stat()
	there, e := os.Lstat(s.f.Name())
	if err = errors.Join(err, e); err != nil || !os.SameFile(mine, there) {
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return errors.Join(err, s.f.Close())
	}
	err = os.Remove(s.f.Name()) // while it is locked
	if e := s.f.Close(); err == nil || e != nil {
		return errors.Join(err, e)
	}
	return os.Remove(s.f.Name()) // where that can't be done to an open file
}

// A keepError says that a record can't be written to the file of a snapshot.
type keepError struct{ cause error }

func (e *keepError) Error() string { return e.cause.Error() }
func (e *keepError) Unwrap() error { return e.cause }

// full reports whether the error is that there is no room; what was written before is good.
func (e *keepError) full() bool {
	return errors.Is(e.cause, syscall.ENOSPC) || errors.Is(e.cause, syscall.EDQUOT) || errors.Is(e.cause, syscall.EFBIG)
}

// pages yields the pages of a snapshot that has come whole, as they are asked for, to the
// first error. The sums are checked once more: the file may have lain there for days.
func (d *download) pages(limits wire.Limits) iter.Seq2[*change.Pull, error] {
	return func(yield func(*change.Pull, error) bool) {
		var sum wire.SnapshotSum
		r := d.file.reader()
		for n := 0; ; n++ {
			record, err := sum.ReadRecord(r, nil, limits)
			if err == io.EOF && n == d.records {
				return
			}
			var pull *change.Pull
			if err == nil {
				pull, err = wire.DecodePull(record.Body(), limits)
			}
			if err == nil && (!pull.Full || pull.Done || pull.To != d.seq || len(pull.Lost) > 0) {
				err = fmt.Errorf("it is no page of a snapshot at %d", d.seq)
			}
			if err != nil {
				// Not as the damage of an answer, after which the same file would be read again.
				yield(nil, fmt.Errorf("record %d of the snapshot that was kept: %v", n, err))
				return
			}
			if !yield(pull, nil) {
				return
			}
		}
	}
}
