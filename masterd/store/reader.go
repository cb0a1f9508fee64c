package store

import (
	"context"
	"errors"
	"sync"

	sqlite3 "github.com/mattn/go-sqlite3"

	vsql "github.com/velosync/velosync/sql"
)

// readers lends connections to read on. They are opened when they are wanted, and kept.
type readers struct {
	path  string
	place chan struct{} // one for each that may read at once

	readMu sync.Mutex
	idle   []*vsql.Conn
	done   bool
}

func (r *readers) init(path string, most int) {
	r.path, r.place = path, make(chan struct{}, most)
}

// with lends a connection to f.
func (r *readers) with(f func(*vsql.Conn) error) error {
	return r.withContext(context.Background(), f)
}

// withContext lends a connection to f, which waits for one until ctx ends.
func (r *readers) withContext(ctx context.Context, f func(*vsql.Conn) error) error {
	select {
	case r.place <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.place }()
	c, err := r.take()
	if err != nil {
		return err
	}
	err = f(c)
	var failed sqlite3.Error
	return errors.Join(err, r.put(c, errors.As(err, &failed)))
}

func (r *readers) take() (*vsql.Conn, error) {
	r.readMu.Lock()
	defer r.readMu.Unlock()
	if r.done {
		return nil, ErrClosed
	}
	if n := len(r.idle); n > 0 {
		c := r.idle[n-1]
		r.idle = r.idle[:n-1]
		return c, nil
	}
	conn, err := open(r.path, "_busy_timeout=5000&_foreign_keys=0&mode=rw")
	if err != nil {
		return nil, err
	}
	c := vsql.NewConn(conn)
	// A pull reads each page once: its cache may be small where the file is mapped.
	if err := c.Script("PRAGMA query_only = 1; PRAGMA trusted_schema = 0; PRAGMA cache_size = -8192; PRAGMA mmap_size = 1073741824"); err != nil {
		return nil, errors.Join(err, c.Close(), conn.Close())
	}
	return c, nil
}

// put takes a connection back; one that met an error is not used again.
func (r *readers) put(c *vsql.Conn, failed bool) error {
	r.readMu.Lock()
	defer r.readMu.Unlock()
	if failed || r.done {
		return errors.Join(c.Close(), c.Raw().Close())
	}
	r.idle = append(r.idle, c)
	return nil
}

// alone waits for the readers, closes their connections and calls f while nobody reads.
func (r *readers) alone(f func() error) error {
	for range cap(r.place) {
		r.place <- struct{}{}
	}
	defer func() {
		for range cap(r.place) {
			<-r.place
		}
	}()
	r.readMu.Lock()
	idle := r.idle
	r.idle = nil
	r.readMu.Unlock()
	var errs []error
	for _, c := range idle {
		errs = append(errs, c.Close(), c.Raw().Close())
	}
	return errors.Join(append(errs, f())...)
}

// close waits for the readers and closes their connections.
func (r *readers) close() error {
	r.readMu.Lock()
	r.done = true
	idle := r.idle
	r.idle = nil
	r.readMu.Unlock()
	var errs []error
	for _, c := range idle {
		errs = append(errs, c.Close(), c.Raw().Close())
	}
	for range cap(r.place) {
		r.place <- struct{}{} // whoever still reads is waited for
	}
	for range cap(r.place) {
		<-r.place
	}
	return errors.Join(errs...)
}
