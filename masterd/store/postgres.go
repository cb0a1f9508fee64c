package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"

	vsql "github.com/velosync/velosync/sql"
)

// Postgres is the engine that keeps spaces and tokens in a PostgreSQL database, or in one
// that speaks its protocol. Any number of masterds may share it. Each has a directory of its
// own, in which it keeps a file for each space that it serves: a cache, see origin.
type Postgres struct {
	files
	pool              *pgxpool.Pool
	lock, read, serve string // statements
	watch             *watch

	ctx    context.Context // ends when all spaces are closed
	cancel context.CancelFunc

	opening singleflight.Group // by name of the space

	mu     sync.Mutex
	closed bool
	spaces map[string]*shared
}

var _ Engine = (*Postgres)(nil)

// OpenPostgres opens the engine that keeps its spaces in the database that url names, in the
// words of libpq (postgres://user:password@host/database), and makes its tables when they
// are not there. dir is where this process, and no other, keeps its caches. An error may come
// from Options.Schema. No error shows the password.
func OpenPostgres(ctx context.Context, url, dir string, o Options) (*Postgres, error) {
	f, err := openFiles(dir, o)
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("store: database: %w", err)
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	// A masterd that is cut off from the network must not hold a space's lock for ever.
	if params := config.ConnConfig.RuntimeParams; params["idle_in_transaction_session_timeout"] == "" {
		params["idle_in_transaction_session_timeout"] = fmt.Sprint(commitTime.Milliseconds())
	}
	e := &Postgres{files: f, spaces: make(map[string]*shared)}
	if e.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("store: database: %w", err)
	}
	if err := e.prepare(ctx); err != nil {
		e.pool.Close()
		return nil, fmt.Errorf("store: database: %w", err)
	}
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	e.watch = startWatch(e)
	return e, nil
}

// String names the database, without the password.
func (e *Postgres) String() string {
	c := e.pool.Config().ConnConfig
	return fmt.Sprintf("%s:%d/%s", c.Host, c.Port, c.Database)
}

// prepare makes the tables, and finds out what the server can do.
func (e *Postgres) prepare(ctx context.Context) error {
	// Two masterds that make them at once meet in the catalog, IF NOT EXISTS or not.
	for try := 1; ; try++ {
		_, err := e.pool.Exec(ctx, vsql.Postgres("0001_space.sql"), pgx.QueryExecModeSimpleProtocol)
		if err == nil {
			break
		}
		var e *pgconn.PgError
		if try == mostTries || !errors.As(err, &e) || !strings.HasPrefix(e.Code, "23") && !strings.HasPrefix(e.Code, "42P0") && !retriable(err) {
			return fmt.Errorf("make the tables: %w", err)
		}
	}
	run := `coalesce(extract(epoch FROM pg_postmaster_start_time())::text, '')`
	var e2 *pgconn.PgError
	if _, err := e.pool.Exec(ctx, "SELECT "+run); errors.As(err, &e2) {
		run = `''` // not PostgreSQL itself: such servers come back as they were
	} else if err != nil {
		return err
	}
	e.lock = vsql.Fill(vsql.Postgres("lock.sql"), "$RUN", run)
	e.read = vsql.Fill(vsql.Postgres("read.sql"), "$RUN", run)
	e.serve = vsql.Postgres("serve.sql")
	return nil
}

// Space implements Engine. It returns a *LockedError when another process uses the directory.
func (e *Postgres) Space(ctx context.Context, name string) (Space, error) {
	return e.space(ctx, name, true)
}

// Lookup implements Engine.
func (e *Postgres) Lookup(ctx context.Context, name string) (Space, error) {
	return e.space(ctx, name, false)
}

func (e *Postgres) space(ctx context.Context, name string, create bool) (_ Space, err error) {
	defer unavailable(ctx, &err)
	if !ValidSpace(name) {
		return nil, &RequestError{Reason: fmt.Sprintf("space %.100q: want 1 to 64 of a-z, 0-9, _ and -", name)}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch s, err := e.opened(name); {
	case err != nil:
		return nil, err
	case s != nil:
		return s, nil
	}
	if create {
		var stamp [16]byte
		if _, err := rand.Read(stamp[:]); err != nil {
			return nil, err
		}
		if _, err := e.pool.Exec(ctx, vsql.Postgres("make_space.sql"), name, stamp[:]); err != nil {
			return nil, fmt.Errorf("store: make space %q: %w", name, err)
		}
	}
	// To fill a large cache takes a while; others wait for it, and for no other space's.
	var s any
	s, err, _ = e.opening.Do(name, func() (any, error) {
		if s, err := e.opened(name); s != nil || err != nil {
			return s, err
		}
		return e.openShared(name)
	})
	switch {
	case errors.Is(err, ErrNoSpace):
		return nil, ErrNoSpace
	case err != nil:
		return nil, fmt.Errorf("store: open space %q: %w", name, err)
	}
	return s.(*shared), nil
}

// opened returns a space that is open; nil: it is not.
func (e *Postgres) opened(name string) (*shared, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	if s := e.spaces[name]; s != nil && !s.origin.gone.Load() {
		return s, nil
	}
	return nil, nil
}

// openShared opens a space's cache and brings it up to the database.
func (e *Postgres) openShared(name string) (*shared, error) {
	ctx, cancel := context.WithTimeout(e.ctx, commitTime)
	defer cancel()
	e.mu.Lock()
	old := e.spaces[name]
	e.mu.Unlock()
	if old != nil { // its space went from the database, and is there again
		if err := old.close(); err != nil {
			return nil, err
		}
	}
	var there int64
	err := e.pool.QueryRow(ctx, `SELECT change FROM velosync_space WHERE space = $1`, name).Scan(&there)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNoSpace
	}
	if err != nil {
		return nil, err
	}
	o := &origin{db: e, name: name, file: newSpace(&e.files, name)}
	o.file.origin = o
	s := &shared{o.file, o}
	err = s.hold(func() error { return o.open(ctx) })
	if err == nil && there == 0 { // it gets the tables of Options.Schema
		err = s.space.write(&job{ctx: ctx, do: func(*tx) error { return nil }})
	}
	if err == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		if !e.closed {
			e.spaces[name] = s
			return s, nil
		}
		err = ErrClosed
	}
	return nil, errors.Join(err, s.close())
}

// Spaces implements Engine.
func (e *Postgres) Spaces(ctx context.Context) (_ []string, err error) {
	defer unavailable(ctx, &err)
	rows, err := e.pool.Query(ctx, `SELECT space FROM velosync_space ORDER BY space COLLATE "C"`)
	if err != nil {
		return nil, fmt.Errorf("store: list spaces: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("store: list spaces: %w", err)
	}
	return names, nil
}

// Ping implements Engine.
func (e *Postgres) Ping(ctx context.Context) (err error) {
	defer unavailable(ctx, &err)
	if err := e.open(); err != nil {
		return err
	}
	if err := e.pool.Ping(ctx); err != nil {
		return fmt.Errorf("store: database: %w", err)
	}
	return nil
}

// open returns ErrClosed after Close.
func (e *Postgres) open() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	return nil
}

// Close waits for what is under way and closes all files and connections. It may be called
// twice.
func (e *Postgres) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	spaces := e.spaces
	e.mu.Unlock()
	e.watch.stop()
	var errs []error
	for _, s := range spaces {
		errs = append(errs, s.close())
	}
	e.cancel()
	e.pool.Close()
	return errors.Join(errs...)
}
