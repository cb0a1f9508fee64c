package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	vsql "github.com/velosync/velosync/sql"
)

// A watch tells spaces that another masterd changed them, so that their devices are told. It
// listens for notifications, which are sent after commits, many changes in one, and asks the
// database every pollEvery whatever was heard: a notification may be lost, and not every
// server has them.
type watch struct {
	db     *Postgres
	cancel context.CancelFunc
	wait   sync.WaitGroup
	wake   chan struct{} // there is something in names

	mu    sync.Mutex
	names map[string]bool // spaces changed here, of which others are still to be notified
}

const (
	channel    = "velosync"
	pollEvery  = time.Second
	notifyTime = 10 * time.Second
)

func startWatch(db *Postgres) *watch {
	ctx, cancel := context.WithCancel(db.ctx)
	w := &watch{db: db, cancel: cancel, wake: make(chan struct{}, 1), names: make(map[string]bool)}
	w.wait.Go(func() { w.notify(ctx) })
	w.wait.Go(func() { w.listen(ctx) })
	return w
}

func (w *watch) stop() {
	w.cancel()
	w.wait.Wait()
}

// changed says that a space was changed here.
func (w *watch) changed(name string) {
	w.mu.Lock()
	w.names[name] = true
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// notify sends notifications until ctx ends.
func (w *watch) notify(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		w.mu.Lock()
		names := make([]string, 0, len(w.names))
		for name := range w.names {
			names = append(names, name)
		}
		clear(w.names)
		w.mu.Unlock()
		timed, cancel := context.WithTimeout(ctx, notifyTime)
		_, err := w.db.pool.Exec(timed, `SELECT pg_notify($1, n) FROM unnest($2::text[]) AS n`, channel, names)
		cancel()
		if err != nil && ctx.Err() == nil {
			w.db.o.Log.Debug("others are not notified, they will ask", "err", err)
		}
	}
}

// listen looks for changes until ctx ends.
func (w *watch) listen(ctx context.Context) {
	var conn *pgx.Conn // of its own: one of the pool would be missed
	defer func() {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	deaf := false // the server has no notifications
	for ctx.Err() == nil {
		if conn == nil && !deaf {
			conn, deaf = w.connect(ctx)
		}
		timed, cancel := context.WithTimeout(ctx, pollEvery)
		if conn != nil {
			if _, err := conn.WaitForNotification(timed); conn.IsClosed() || err != nil && !pgconn.Timeout(err) {
				_ = conn.Close(context.WithoutCancel(ctx))
				conn = nil
			}
		} else {
			<-timed.Done()
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err := w.look(ctx); err != nil && ctx.Err() == nil {
			w.db.o.Log.Warn("changes of others are not seen", "err", err)
		}
	}
}

func (w *watch) connect(ctx context.Context) (conn *pgx.Conn, deaf bool) {
	timed, cancel := context.WithTimeout(ctx, notifyTime)
	defer cancel()
	conn, err := pgx.ConnectConfig(timed, w.db.pool.Config().ConnConfig)
	if err != nil {
		return nil, false
	}
	if _, err = conn.Exec(timed, "LISTEN "+channel); err != nil {
		_ = conn.Close(timed)
		var refused *pgconn.PgError
		return nil, errors.As(err, &refused)
	}
	return conn, false
}

// look brings the spaces that others changed up to the database.
func (w *watch) look(ctx context.Context) error {
	w.db.mu.Lock()
	spaces := make(map[string]*shared, len(w.db.spaces))
	names := make([]string, 0, len(w.db.spaces))
	for name, s := range w.db.spaces {
		spaces[name] = s
		names = append(names, name)
	}
	w.db.mu.Unlock()
	if len(names) == 0 {
		return nil
	}
	rows, err := w.db.pool.Query(ctx, vsql.Postgres("changed.sql"), names)
	if err != nil {
		return err
	}
	type moved struct {
		name string
		to   int64
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m moved, err error) {
		err = row.Scan(&m.name, &m.to)
		return m, err
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range list {
		if s := spaces[m.name]; s.origin.place().change != m.to {
			if err := s.origin.follow(ctx); err != nil && !errors.Is(err, ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
