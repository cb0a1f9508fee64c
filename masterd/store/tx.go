package store

import (
	"errors"
	"fmt"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A tx is a write transaction of a space: the state as it will be, and the devices that
// change. It implements sites.
type tx struct {
	*vsql.Conn
	space *space
	now   int64 // unix ms
	state
	devices map[change.DeviceID]*device // changed in this transaction
	sites   []change.DeviceID           // all, those that are new in this transaction last
	known   int                         // how many of sites are committed
	counts
}

// counts is what a transaction adds to Stats.
type counts struct{ pushed, duplicates, lost, rejected int64 }

func (s *space) begin(c *vsql.Conn) *tx {
	sites := s.siteList()
	s.mu.Lock()
	defer s.mu.Unlock()
	return &tx{Conn: c, space: s, now: s.engine.o.Now().UnixMilli(), state: s.state, devices: make(map[change.DeviceID]*device), sites: sites, known: len(sites)}
}

// run runs a job in a savepoint and sets its error. It returns an error when the whole
// transaction is lost.
func (t *tx) run(j *job) error {
	state, sites, counts := t.state, len(t.sites), t.counts
	before := t.devices
	t.devices = make(map[change.DeviceID]*device, len(before)+1)
	for id, d := range before {
		t.devices[id] = d
	}
	err := t.attempt("job", func() error { return j.do(t) })
	if err == nil || fatal(err) {
		return err
	}
	t.state, t.sites, t.counts, t.devices = state, t.sites[:sites], counts, before
	j.err = err
	return nil
}

// attempt runs f in a savepoint. After an error of f nothing is left of what it did; a
// *lostError says that this could not be had.
func (t *tx) attempt(savepoint string, f func() error) error {
	if _, err := t.Exec("SAVEPOINT " + savepoint); err != nil {
		return err
	}
	err := f()
	if err != nil {
		if t.Raw().AutoCommit() { // SQLite rolled back by itself
			return &lostError{err}
		}
		if _, e := t.Exec("ROLLBACK TO " + savepoint); e != nil {
			return &lostError{errors.Join(err, e)}
		}
	}
	if _, e := t.Exec("RELEASE " + savepoint); e != nil {
		return &lostError{errors.Join(err, e)}
	}
	return err
}

// A lostError says that a transaction is in no known state. Of its cause it shows what
// SQLite said and hides the rest, which nobody is to act on.
type lostError struct{ cause error }

func (e *lostError) Error() string { return e.cause.Error() }

func (e *lostError) Unwrap() error {
	var said sqlite3.Error
	if errors.As(e.cause, &said) {
		return said
	}
	return nil
}

// device returns what is known of a device id, this transaction's changes included.
func (t *tx) device(id change.DeviceID) device {
	if d := t.devices[id]; d != nil {
		return *d
	}
	return t.space.device(id)
}

// putDevice writes a device; it gives one that is new its site.
func (t *tx) putDevice(d *device) error {
	if d.site == 0 {
		t.sites = append(t.sites, d.id)
		d.site = int64(len(t.sites))
	}
	_, err := t.Exec(vsql.Master("put_device.sql"), d.site, d.id[:], string(d.owner), d.name[:], int64(d.lsn), int64(d.acked),
		int64(d.heard), int64(d.served), d.put, d.contact)
	if err != nil {
		return fmt.Errorf("record device %v: %w", d.id, err)
	}
	kept := *d
	t.devices[d.id] = &kept
	return nil
}

func (t *tx) siteOf(id change.DeviceID) int64 {
	d := t.device(id)
	return d.site
}

func (t *tx) deviceAt(site int64) (change.DeviceID, error) {
	if site < 1 || site > int64(len(t.sites)) {
		return change.DeviceID{}, errDots
	}
	return t.sites[site-1], nil
}

// next gives the next seq. The first of an opening begins its epoch.
func (t *tx) next() (change.Seq, error) {
	t.head++
	if t.began {
		return t.head, nil
	}
	t.began = true
	t.opening.First = t.head
	t.epochs = append(t.epochs[:len(t.epochs):len(t.epochs)], t.opening)
	id := t.opening.ID
	if _, err := t.Exec(`INSERT INTO _velosync_epoch (first, id) VALUES (?, ?)`, int64(t.head), id[:]); err != nil {
		return 0, fmt.Errorf("begin an epoch: %w", err)
	}
	return t.head, nil
}

// finish writes the state.
func (t *tx) finish() error {
	t.clean = false
	if err := t.putMark(); err != nil {
		return err
	}
	clean := int64(0)
	_, err := t.Exec(vsql.Master("put_space.sql"), int64(t.head), int64(t.horizon), t.schema.version, clean,
		t.live, t.tombstones, t.conflicts, t.conflict)
	return err
}

// publish makes a committed transaction known.
func (t *tx) publish() {
	s := t.space
	s.pushRows.Add(t.pushed)
	s.pushDuplicates.Add(t.duplicates)
	s.lostRows.Add(t.lost)
	s.rejectedRows.Add(t.rejected)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, d := range t.devices {
		if old := s.devices[id]; old != nil {
			d.served, d.horizon, d.pulling = max(d.served, old.served), old.horizon, old.pulling
		}
		s.devices[id] = d
	}
	moved := t.head != s.state.head
	s.state, s.sites = t.state, t.sites
	if moved {
		close(s.moved)
		s.moved = make(chan struct{})
	}
}
