package driver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/sqlfuncs"
)

// SubscribeOptions tunes Subscribe. The zero value is ready to use.
type SubscribeOptions struct {
	// Tables are the tables to be told of. Empty means all that are tracked.
	Tables []string
	// MostRows is how many rows are named at a time; where more changed, the feed is Lossy.
	// Zero means 10,000.
	MostRows int
}

// pollEvery is how often a subscription looks whether another program has written to the
// file: one read of a counter in memory. What this program commits is seen at once.
const pollEvery = 100 * time.Millisecond

// settle is how long a commit may take, from its hook on, until others see it.
const settle = 20 * time.Millisecond

// Subscribe tells what commits change in the tracked tables of a database that this driver
// has opened: on db, by other programs, and by sync.
//
//	for changes, err := range driver.Subscribe(ctx, db, driver.SubscribeOptions{}) {
//		if err != nil {
//			return err
//		}
//		if changes.Lossy { … } // read again what you show
//		for _, row := range changes.Rows { … } // or just these
//	}
//
// The first Changes come at once and are Lossy: all that is committed after them is told,
// so that nothing lies between reading a table and following it. The loop may take its
// time: what comes meanwhile waits in the file, each row once, and where that is too much,
// or ten minutes too late, the next Changes are Lossy.
//
// The loop ends with ctx or db.Close, without an error. An error ends it too: the database
// is in memory or read-only, or SQLite says so. Nothing goes on after the loop.
func Subscribe(ctx context.Context, db *sql.DB, o SubscribeOptions) iter.Seq2[capture.Changes, error] {
	return func(yield func(capture.Changes, error) bool) {
		d, _ := db.Driver().(Driver)
		if err := subscribe(ctx, d.connector, o, yield); err != nil {
			yield(capture.Changes{}, fmt.Errorf("velosync: subscribe: %w", err))
		}
	}
}

// subscribe calls yield until it says false, which is no error.
func subscribe(ctx context.Context, c *Connector, o SubscribeOptions, yield func(capture.Changes, error) bool) (err error) {
	switch {
	case c == nil:
		return errors.New("the database was not opened by this driver: sql.Open(\"velosync\", …), or sql.OpenDB of a Connector")
	case c.cfg.Path == "":
		return errors.New("the database is in memory: a feed needs a file")
	case c.cfg.ReadOnly:
		return errors.New("the database is opened read-only, and rounds write down for a feed what they bring")
	case ctx.Err() != nil || c.life.Err() != nil:
		return nil
	}
	if err := c.ensureStarted(); err != nil { // sql.Open opens nothing by itself
		return err
	}
	conn, err := sqlfuncs.Open(c.open.dsn, c.open.apply)
	if err != nil {
		return err
	}
	stopped := false
	defer func() {
		if e := conn.Close(); err == nil && !stopped {
			err = e
		}
	}()
	d, err := capture.Open(conn, capture.Options{})
	if err != nil {
		return err
	}
	defer d.Close()
	feed, err := d.Follow(o.MostRows, o.Tables...)
	if err != nil {
		return err
	}
	defer feed.Close() // else the file takes the feed for gone ten minutes later
	bell := c.bells.add()
	defer c.bells.remove(bell)
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		version, err := d.DataVersion() // before the look: what comes in between is looked at again
		var changes capture.Changes
		if err == nil {
			changes, err = feed.Next()
		}
		if err != nil {
			if !isBusy(err) {
				return err
			}
			version = -1 // look again at the next poll; nothing is lost
		}
		if (changes.Lossy || len(changes.Rows) > 0) && !yield(changes, nil) {
			stopped = true
			return nil
		}
		looked := time.Now()
		for moved := false; !moved; {
			select {
			case <-ctx.Done():
				return nil
			case <-c.life.Done():
				return nil
			case <-bell:
				moved = settled(ctx, d, version)
			case <-poll.C:
				now, err := d.DataVersion()
				moved = err != nil || now != version || time.Since(looked) > time.Minute // the feed says that it lives
			}
		}
		if ctx.Err() != nil || c.life.Err() != nil {
			return nil
		}
	}
}

// settled waits until the commit that rang can be seen: SQLite calls commit hooks before
// it commits.
func settled(ctx context.Context, d *capture.Device, from int64) bool {
	began := time.Now()
	for wait := 20 * time.Microsecond; time.Since(began) < settle; wait = min(2*wait, time.Millisecond) {
		if v, err := d.DataVersion(); err != nil || v != from {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
	return false
}

func isBusy(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrBusy || e.Code == sqlite3.ErrLocked)
}

// bells wake subscriptions when something was committed.
type bells struct {
	mu  sync.Mutex
	set map[chan struct{}]bool
}

func (b *bells) add() chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.set == nil {
		b.set = make(map[chan struct{}]bool)
	}
	bell := make(chan struct{}, 1)
	b.set[bell] = true
	return bell
}

func (b *bells) remove(bell chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.set, bell)
}

// ring never blocks.
func (b *bells) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for bell := range b.set {
		select {
		case bell <- struct{}{}:
		default:
		}
	}
}
