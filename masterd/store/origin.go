package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// An origin is what a server database holds of a space: the truth, of which the space's file
// is a cache. The file answers what PostgreSQL can't, such as what an edit does to a column
// with SQLite's affinity, collation or CHECK; it may be deleted at any time.
//
// A commit locks the space in the database, brings the file up to it, applies the jobs in the
// file's transaction, writes what they changed to the database, and commits there first. If
// that fails, or nobody knows whether it did, the file's transaction is undone, and the next
// commit brings the file up to what the database says. So the file is the database's state
// or an older one.
type origin struct {
	db   *Postgres
	name string
	file *space

	at   place       // the state that the file holds; written with the writer's turn, under file.mu
	gone atomic.Bool // the database does not have the space any more

	// With the writer's turn:
	kinds []kind // the tables whose rows are items
	run   string // of the database server, which the opening belongs to; empty: not known yet
}

// A place names a state of a space. A file without one was never filled.
type place struct {
	change int64
	stamp  [16]byte
}

// A spot is a row of velosync_space, as it was before this transaction.
type spot struct {
	place
	head, forgotten, presumed change.Seq
	pruned                    int64
	server                    string // the run that last changed the space
	run                       string // the present one
}

func (s *spot) scan(row pgx.Row) error {
	var stamp []byte
	err := row.Scan(&s.change, &stamp, &s.head, &s.forgotten, &s.pruned, &s.server, &s.presumed, &s.run)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNoSpace
	}
	if err == nil && copy(s.stamp[:], stamp) != len(stamp) {
		return errors.New("the stamp of the space is too long: the database is damaged")
	}
	return err
}

const (
	// mostTries is how often a commit is tried that the database asks to try again.
	mostTries = 20
	// commitTime is the longest that a commit waits for the database, the lock included.
	commitTime = 5 * time.Minute
)

// commit runs a group of jobs in a transaction of the database and one of the file. The
// caller has the turn.
func (o *origin) commit(c *vsql.Conn, run func() (*tx, error)) (t *tx, err error) {
	ctx, cancel := context.WithTimeout(o.db.ctx, commitTime)
	defer cancel()
	for try := 1; ; try++ {
		t, err = o.try(ctx, c, run)
		if try == mostTries || !retriable(err) {
			break
		}
	}
	if err == nil {
		o.db.watch.changed(o.name)
	}
	return t, err
}

// retriable reports whether the database undid a transaction that may come through next time.
func retriable(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01") // serialization, deadlock
}

func (o *origin) try(ctx context.Context, c *vsql.Conn, run func() (*tx, error)) (*tx, error) {
	q, err := o.db.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer q.Rollback(context.WithoutCancel(ctx)) // does nothing after Commit
	var at spot
	if err := at.scan(q.QueryRow(ctx, o.db.lock, o.name)); err != nil {
		return nil, fmt.Errorf("lock the space: %w", err)
	}
	if err := o.catchUp(ctx, q, c, &at); err != nil {
		return nil, err
	}
	if err := o.present(&at); err != nil {
		return nil, err
	}
	var t *tx
	next := at.place
	err = c.Tx(func() error {
		u := upload{origin: o, Conn: c, at: &at, version: o.file.state.schema.version}
		if _, err := c.Exec(`DELETE FROM temp._velosync_changed`); err != nil {
			return err
		}
		var err error
		if t, err = run(); err != nil {
			return err
		}
		changed, err := u.collect(ctx, q, t)
		if err != nil || !changed {
			return err
		}
		next.change++
		if _, err := rand.Read(next.stamp[:]); err != nil {
			return err
		}
		if err := u.finish(ctx, q, t, next); err != nil {
			return err
		}
		if err := putPlace(c, next); err != nil {
			return err
		}
		if err := q.Commit(ctx); err != nil {
			return fmt.Errorf("commit to the database: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	o.setPlace(next)
	return t, nil
}

func (o *origin) setPlace(p place) {
	o.file.mu.Lock()
	defer o.file.mu.Unlock()
	o.at = p
}

func (o *origin) place() place {
	o.file.mu.Lock()
	defer o.file.mu.Unlock()
	return o.at
}

// present makes what is known of the server's run good for the space. After a crash the
// newest of velosync_served may be lost, so devices are believed; and a server that came back
// may have come back with an older state, after a failover say, so what is given from now on
// begins an epoch.
func (o *origin) present(at *spot) error {
	s := o.file
	if at.server != at.run {
		at.server, at.presumed = at.run, at.head
		s.mu.Lock()
		for _, d := range s.devices {
			d.served = max(d.served, at.presumed)
		}
		s.mu.Unlock()
	}
	if o.run != "" && o.run != at.run {
		if err := s.beginEpoch(); err != nil {
			return err
		}
	}
	o.run = at.run
	return nil
}

// look brings the file up to what the database holds now, and learns what the device was
// served by others. Nothing is read from the file before.
func (o *origin) look(ctx context.Context, id change.DeviceID) error {
	if err := o.db.open(); err != nil {
		return err
	}
	var now place
	var stamp []byte
	var served, presumed change.Seq
	var horizon *int64
	err := o.db.pool.QueryRow(ctx, vsql.Postgres("look.sql"), o.name, id[:]).Scan(&now.change, &stamp, &presumed, &served, &horizon)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		o.gone.Store(true)
		return ErrNoSpace
	case err != nil:
		return fmt.Errorf("store: look at space %q: %w", o.name, err)
	}
	copy(now.stamp[:], stamp)
	s := o.file
	if !s.there() {
		if err := o.renew(ctx); err != nil {
			return fmt.Errorf("store: make the cache of space %q anew: %w", o.name, err)
		}
	}
	if now != o.place() {
		if err := o.follow(ctx); err != nil {
			return fmt.Errorf("store: follow space %q: %w", o.name, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.devices[id]; d != nil {
		d.served = max(d.served, served, presumed)
		if horizon != nil {
			d.horizon, d.pulling = change.Seq(*horizon), true
		}
	}
	return nil
}

// follow brings the file up to the database, without a change of its own.
func (o *origin) follow(ctx context.Context) error {
	return o.file.hold(func() error { return o.followNow(ctx) })
}

// followNow is follow for who has the turn.
func (o *origin) followNow(ctx context.Context) error {
	if err := o.file.openWriter(false); err != nil {
		return err
	}
	q, err := o.db.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer q.Rollback(context.WithoutCancel(ctx))
	var at spot
	if err := at.scan(q.QueryRow(ctx, o.db.read, o.name)); err != nil {
		return err
	}
	return o.catchUp(ctx, q, o.file.writer.conn, &at)
}

// open makes the file, where it is not there, and fills it. Nobody may read it meanwhile.
func (o *origin) open(ctx context.Context) error {
	s := o.file
	if err := s.engine.makeDir(); err != nil {
		return err
	}
	if !s.there() {
		o.setPlace(place{})
	}
	err := s.openWriter(true)
	if err == nil {
		err = o.followNow(ctx)
	}
	if err == nil {
		return nil
	}
	err = errors.Join(err, s.closeWriter())
	if o.at == (place{}) { // it is empty, and must not pass for an empty space
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}

// renew makes the file anew after somebody deleted it.
func (o *origin) renew(ctx context.Context) error {
	s := o.file
	return s.hold(func() error {
		if s.there() {
			return nil
		}
		return s.readers.alone(func() error {
			s.log.Warn("the cache is gone: it is filled anew", "path", s.path)
			return errors.Join(s.closeWriter(), o.open(ctx))
		})
	})
}

// there reports whether the space's file is there.
func (s *space) there() bool {
	_, err := os.Stat(s.path)
	return err == nil
}

// told writes down what a device is being served, for whichever masterd it asks next. before
// is what was known of the device when it asked.
func (o *origin) told(ctx context.Context, before device) error {
	d := o.file.device(before.id)
	if d.site == 0 || d.served <= before.served && d.horizon == before.horizon && d.pulling == before.pulling {
		return nil
	}
	var horizon *int64
	if d.pulling {
		n := int64(d.horizon)
		horizon = &n
	}
	if _, err := o.db.pool.Exec(ctx, o.db.serve, o.name, d.id[:], d.served, horizon); err != nil {
		return fmt.Errorf("store: write down what device %v was served: %w", d.id, err)
	}
	return nil
}
