package replicator

import (
	"errors"
	"fmt"
	"os"
)

// ErrLease reports that another replicator syncs the file: one inside an application, or
// velosync sync. It ends with its process.
var ErrLease = errors.New("replicator: another replicator syncs this file")

// A lease is a lock on a file beside the database, held from the first round to Close. The
// rounds themselves are safe without it: it spares two replicators each other's work.
type lease struct{ f *os.File }

// takeLease takes the lease unless it is held already.
func (r *Replicator) takeLease() error {
	if r.lease != nil {
		return nil
	}
	name := r.path + "-velosync-lock"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("replicator: lease: %w", err)
	}
	if err := lock(f); err != nil {
		return errors.Join(fmt.Errorf("%w: %s is locked: %v", ErrLease, name, err), f.Close())
	}
	r.lease = &lease{f}
	return nil
}

func (l *lease) release() error {
	if l == nil {
		return nil
	}
	return l.f.Close() // the system frees the lock; the file stays, for others may have it open
}
