package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A space is one file. Its writer is one connection, lent to one group of jobs at a time;
// pulls read on connections of their own.
type space struct {
	engine *files
	name   string
	path   string
	log    *slog.Logger
	readers
	writer
	expressions vsql.Expressions // those that columns are merged by
	origin      *origin          // what the file is a cache of; nil: the file itself is the truth

	mu      sync.Mutex // guards what follows
	state   state      // as of the last commit
	devices map[change.DeviceID]*device
	sites   []change.DeviceID // by site - 1
	moved   chan struct{}     // closed when head moves
	closed  bool

	pushRows, pushDuplicates, pullRows, echoRows, lostRows, rejectedRows atomic.Int64
	digests, divergences                                                 atomic.Int64
}

// A state is what _velosync_space says, and what goes with it.
type state struct {
	head, horizon    change.Seq
	clean            bool
	live, tombstones int64
	conflicts        int64 // in the log
	conflict         int64 // the newest id
	fixed            bool
	schema           *schema
	epochs           []change.Epoch // those that wrote; shared, never changed in place
	mark             int64          // unix ms of the newest mark
	opening          change.Epoch   // of this opening; it is in epochs once it wrote
	began            bool
	collected        int64 // unix ms of the last look at what may be forgotten
}

// all returns the epochs of the space, the present one included.
func (s *state) all() []change.Epoch {
	if s.began || s.opening.ID == (change.Name{}) {
		return s.epochs
	}
	return append(s.epochs[:len(s.epochs):len(s.epochs)], s.opening)
}

// openSpace opens a space's file; it makes it if create is set, else it returns
// ErrNoSpace when there is none.
func openSpace(e *files, name string, create bool) (*space, error) {
	s := newSpace(e, name)
	err := s.load()
	if errors.Is(err, ErrNoSpace) && create {
		err = s.create()
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func newSpace(e *files, name string) *space {
	s := &space{engine: e, name: name, path: filepath.Join(e.dir, "spaces", name+".db"), moved: make(chan struct{})}
	s.log = e.o.Log.With("space", name)
	s.readers.init(s.path, e.o.Readers)
	s.writer.init()
	return s
}

// load reads the state on a reader's connection. ErrNoSpace: there is no file, or one
// whose making was cut short.
func (s *space) load() error {
	if _, err := os.Stat(s.path); errors.Is(err, os.ErrNotExist) {
		return ErrNoSpace
	} else if err != nil {
		return err
	}
	return s.readers.with(func(c *vsql.Conn) error {
		return c.ReadTx(func() error { return s.loadFrom(c) })
	})
}

// loadFrom reads the state on a connection that is in a transaction.
func (s *space) loadFrom(c *vsql.Conn) error {
	var tables int64
	if _, err := c.Row(`SELECT count(*) FROM main.sqlite_schema WHERE name = '_velosync_space'`, nil, &tables); err != nil {
		return err
	}
	if tables == 0 {
		return ErrNoSpace
	}
	var st state
	if err := st.read(c); err != nil {
		return err
	}
	list, err := readDevices(c)
	if err != nil {
		return err
	}
	if st.schema, err = readSchema(c); err != nil {
		return err
	}
	devices := make(map[change.DeviceID]*device, len(list))
	sites := make([]change.DeviceID, len(list))
	for i := range list {
		d := &list[i]
		if !st.clean && s.origin == nil {
			d.served = st.head // what was served before the crash is not known: at most that
		}
		devices[d.id], sites[i] = d, d.id
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, old := range s.devices { // opened again within one life: what was served is known
		if d := devices[id]; d != nil {
			d.served, d.horizon, d.pulling = max(old.served, d.served), old.horizon, old.pulling
		}
	}
	if st.head != s.state.head {
		close(s.moved)
		s.moved = make(chan struct{})
	}
	s.state, s.devices, s.sites = st, devices, sites
	return nil
}

// read reads the row of _velosync_space, the epochs and the newest mark.
func (st *state) read(c *vsql.Conn) error {
	var format, head, horizon int64
	found, err := c.Row(`SELECT format, head, horizon, clean, live, tombstones, conflicts, conflict, fixed FROM _velosync_space`, nil,
		&format, &head, &horizon, &st.clean, &st.live, &st.tombstones, &st.conflicts, &st.conflict, &st.fixed)
	switch {
	case err != nil:
		return err
	case !found:
		return errors.New("the row of _velosync_space is gone: the store is damaged")
	case format != 1:
		return fmt.Errorf("the file has format %d, this masterd knows 1: use a newer masterd", format)
	}
	st.head, st.horizon = change.Seq(head), change.Seq(horizon)
	err = c.Query(`SELECT first, id FROM _velosync_epoch ORDER BY first`, nil, func(row []driver.Value) error {
		e := change.Epoch{First: change.Seq(row[0].(int64))}
		if !readID(row[1], e.ID[:]) {
			return fmt.Errorf("epoch %d has no id of 16 bytes", e.First)
		}
		st.epochs = append(st.epochs, e)
		return nil
	})
	if err != nil {
		return err
	}
	_, err = c.Row(`SELECT coalesce(max(at), 0) FROM _velosync_mark`, nil, &st.mark)
	return err
}

// create makes the file with the tables of Options.Schema.
func (s *space) create() error {
	return s.writer.hold(func() error { return s.openWriter(true) })
}

// beginEpoch names this opening.
func (s *space) beginEpoch() error {
	var id change.Name
	if _, err := io.ReadFull(s.engine.o.Random, id[:]); err != nil {
		return fmt.Errorf("draw an epoch: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.opening, s.state.began = change.Epoch{ID: id, First: s.state.head + 1}, false
	return nil
}

// Head implements Space.
func (s *space) Head() (change.Seq, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.head, s.moved
}

// device returns what is known of a device id; its site is 0 when that is nothing.
func (s *space) device(id change.DeviceID) device {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.devices[id]; d != nil {
		return *d
	}
	return device{id: id}
}

// serve records that a device is being sent everything up to seq.
func (s *space) serve(id change.DeviceID, seq change.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.devices[id]; d != nil {
		d.served = max(d.served, seq)
	}
}

// siteList returns the ids of the devices by site - 1, as of now; it is not to be changed.
func (s *space) siteList() []change.DeviceID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sites[:len(s.sites):len(s.sites)]
}

// close writes down what is only in memory, and closes the file.
func (s *space) close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	err := s.writer.hold(func() error {
		if s.writer.conn == nil {
			return nil
		}
		return errors.Join(s.writeServed(), s.closeWriter())
	})
	return errors.Join(err, s.readers.close(), s.expressions.Close())
}

// writeServed records what each device was served, so that the next opening knows it.
func (s *space) writeServed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.clean || s.origin != nil {
		return nil
	}
	c := s.writer.conn
	return c.Tx(func() error {
		for _, d := range s.devices {
			if _, err := c.Exec(`UPDATE _velosync_device SET served = ?1 WHERE site = ?2 AND served <> ?1`, int64(d.served), d.site); err != nil {
				return err
			}
		}
		_, err := c.Exec(`UPDATE _velosync_space SET clean = 1`)
		return err
	})
}

// Schema implements Space.
func (s *space) Schema(context.Context) (change.Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.state.schema.list), nil
}
