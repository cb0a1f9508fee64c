package replicator

import (
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

// A stage holds the pages of a pull until all have come: they are applied together. One
// page stays in memory; several go to an unnamed temporary file, as they came. A snapshot
// before them has a file of its own.
type stage struct {
	limits wire.Limits
	shot   *download // comes before the pages; nil: there is none
	first  *change.Pull
	body   []byte // of first, until a second page comes
	file   *os.File
	sizes  []int64
	end    int64 // of the last page in file
}

func (s *stage) add(pull *change.Pull, body []byte) error {
	if s.file == nil && s.first == nil {
		s.first, s.body = pull, body
		return nil
	}
	if s.first != nil {
		if err := s.write(s.body); err != nil {
			return err
		}
		s.first, s.body = nil, nil
	}
	return s.write(body)
}

// write puts a page into the file, which it makes if need be.
func (s *stage) write(body []byte) error {
	if s.file == nil {
		f, err := unnamed()
		if err != nil {
			return fmt.Errorf("stage the pull: %w", err)
		}
		s.file = f
	}
	if _, err := s.file.WriteAt(body, s.end); err != nil {
		return fmt.Errorf("stage the pull: %w", err)
	}
	s.sizes = append(s.sizes, int64(len(body)))
	s.end += int64(len(body))
	return nil
}

// pulls yields the pages; the next one is read while one is applied.
func (s *stage) pulls() iter.Seq2[*change.Pull, error] {
	if s.shot == nil && s.file == nil {
		return func(yield func(*change.Pull, error) bool) { yield(s.first, nil) }
	}
	return wire.Ahead(s.pages())
}

// pages yields the pages as they are asked for, to the first error.
func (s *stage) pages() iter.Seq2[*change.Pull, error] {
	return func(yield func(*change.Pull, error) bool) {
		if s.shot != nil {
			for pull, err := range s.shot.pages(s.limits) {
				if !yield(pull, err) || err != nil {
					return
				}
			}
		}
		if s.first != nil {
			yield(s.first, nil)
			return
		}
		at := int64(0)
		for _, size := range s.sizes {
			pull, err := s.read(at, size)
			at += size
			if !yield(pull, err) || err != nil {
				return
			}
		}
	}
}

// read reads the page of the file that begins at a place.
func (s *stage) read(at, size int64) (*change.Pull, error) {
	body := make([]byte, size)
	if _, err := s.file.ReadAt(body, at); err != nil {
		return nil, fmt.Errorf("read the staged pull: %w", err)
	}
	return wire.DecodePull(body, s.limits)
}

func (s *stage) close() error {
	if s.file == nil {
		return nil
	}
	return discard(s.file)
}

// unnamed makes a temporary file that nobody else can open.
func unnamed() (*os.File, error) {
	f, err := os.CreateTemp("", "velosync-pull-*")
	if err == nil {
		_ = os.Remove(f.Name()) // where that can't be done to an open file, discard does it
	}
	return f, err
}

// discard closes a file that unnamed made.
func discard(f *os.File) error {
	err := f.Close()
	if e := os.Remove(f.Name()); e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}
