package driver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/replicator"
)

// addFunctions adds the admin functions, such as velosync_track.
func addFunctions(conn *sqlite3.SQLiteConn) error { return capture.Register(conn, capture.Options{}) }

// trackTables tracks what _velosync_track names, as far as it exists: an application may
// make its tables after it has opened the file.
func (c *Connector) trackTables(conn *sqlite3.SQLiteConn) (err error) {
	if len(c.cfg.Track) == 0 {
		return nil
	}
	d, err := capture.Open(conn, capture.Options{})
	if err != nil {
		return err
	}
	defer func() {
		if e := d.Close(); err == nil {
			err = e
		}
	}()
	if err := d.TrackExisting(c.cfg.Track); err != nil {
		return fmt.Errorf("velosync: %s: %w", keyTrack, err)
	}
	return nil
}

// addWait adds velosync_wait([seconds]): 1 when all that is pending has been applied by the
// master, 0 when that did not happen in time, which is 30 s if not said.
func (c *Connector) addWait(conn *sqlite3.SQLiteConn) error {
	wait := func(seconds ...any) (int64, error) {
		limit := 30.0
		if len(seconds) > 0 {
			limit = -1
			switch s := seconds[0].(type) {
			case int64:
				limit = float64(s)
			case float64:
				limit = s
			}
		}
		if len(seconds) > 1 || limit < 0 || limit > 1e6 {
			return 0, errors.New("velosync_wait([seconds]) takes a number of seconds from 0 to a million")
		}
		if !conn.AutoCommit() {
			return 0, errors.New("velosync_wait: this connection is in a transaction, whose changes can't be sent before it commits")
		}
		if err := c.trackTables(conn); err != nil {
			return 0, err
		}
		r := c.replicator.Load()
		if r == nil {
			return 0, errors.New("velosync_wait: nothing syncs here: open the file with " + keyMaster + ", or use velosync wait FILE beside velosync sync")
		}
		ctx, cancel := context.WithTimeout(c.life, time.Duration(limit*float64(time.Second)))
		defer cancel()
		r.Wake()
		switch err := r.Wait(ctx); {
		case err == nil:
			return 1, nil
		case errors.Is(err, context.DeadlineExceeded):
			return 0, nil
		default:
			return 0, err
		}
	}
	return conn.RegisterFunc("velosync_wait", wait, false)
}

// wakeOnCommit tells the replicator and subscriptions of each commit on the connection.
func (c *Connector) wakeOnCommit(conn *sqlite3.SQLiteConn) error {
	conn.RegisterCommitHook(func() int {
		if r := c.replicator.Load(); r != nil {
			r.Wake()
		}
		c.bells.ring()
		return 0
	})
	return nil
}

// startReplicator syncs in the background until ctx ends; stop then waits for it.
func (c *Connector) startReplicator(ctx context.Context, cfg Config) (stop func() error, err error) {
	r, err := replicator.New(cfg.DSN, replicator.Options{
		Master: cfg.Master, Space: cfg.Space, Token: cfg.Token, Name: cfg.DeviceName, Interval: cfg.Interval, Track: cfg.Track,
		DigestEvery: cfg.DigestEvery,
		Ended:       func(replicator.Round, error) { c.bells.ring() },
	})
	if err != nil {
		return nil, err
	}
	c.replicator.Store(r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil { // trying again can't help; velosync_status says so too
			slog.Error("velosync: sync stopped", "file", cfg.Path, "err", err)
		}
	}()
	return func() error {
		<-done
		c.replicator.Store(nil)
		return r.Close()
	}, nil
}
