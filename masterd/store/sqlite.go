package store

import (
	"context"
	"crypto/rand"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	vsql "github.com/velosync/velosync/sql"
	"github.com/velosync/velosync/sqlfuncs"
)

// Options tunes an engine. The zero value is ready to use.
type Options struct {
	// Log receives one line for each conflict, garbage collection or trouble; nil means
	// nowhere.
	Log *slog.Logger
	// Schema is the SQL of the tables that a new space gets: CREATE TABLE statements, and
	// CREATE INDEX. Devices can't add others then. Empty means that the tables of devices
	// make the schema. What a device says of such a table at velosync_track is settled by
	// the first device that has it.
	Schema string
	// Now is the master's clock; nil means time.Now.
	Now func() time.Time
	// Random is what epochs are drawn from; nil means crypto/rand.Reader.
	Random io.Reader
	// PageRows is the most rows of an answer. Zero means 5,000.
	PageRows int
	// PageBytes is about the most bytes of an answer's values, before compression; a row
	// that is larger is a page of its own. Zero means 4 MiB.
	PageBytes int64
	// SnapshotRows is how many live rows a space has at least where a device that starts with
	// nothing is offered a snapshot. Zero means 10,000.
	SnapshotRows int
	// Retention is how long a deleted row is remembered for devices that have not heard
	// of it, and how long a device that is not heard of counts. Zero means 90 days.
	Retention time.Duration
	// ConflictRetention is how long the conflict log goes back. Zero means a year.
	ConflictRetention time.Duration
	// CacheBytes is the page cache of a space's writer. Zero means 64 MiB.
	CacheBytes int64
	// Readers is the most pulls of a space that are served at once. Zero means 4.
	Readers int
}

func (o Options) defaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	set(&o.PageRows, 5000)
	set(&o.PageBytes, 4<<20)
	set(&o.SnapshotRows, 10_000)
	set(&o.Retention, 90*24*time.Hour)
	set(&o.ConflictRetention, 365*24*time.Hour)
	set(&o.CacheBytes, 64<<20)
	set(&o.Readers, 4)
	return o
}

func set[T ~int | ~int64](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// ErrClosed is returned by an engine, and by its spaces, after Close.
var ErrClosed = errors.New("store: closed")

// SQLite is the engine that keeps a space in one SQLite file, spaces/NAME.db of its
// directory, and the tokens in masterd.db. Only one process writes a space; others may
// read the files.
type SQLite struct {
	files

	mu     sync.Mutex
	closed bool
	spaces map[string]*space

	tokenMu sync.Mutex // guards tokens
	tokens  *vsql.Conn
}

var _ Engine = (*SQLite)(nil)

// A files says where an engine's SQLite files are, and how they are made.
type files struct {
	dir    string
	o      Options
	schema []*table // of Options.Schema
}

// openFiles reads Options.Schema.
func openFiles(dir string, o Options) (f files, err error) {
	f = files{dir: dir, o: o.defaults()}
	if strings.TrimSpace(o.Schema) != "" {
		if f.schema, err = tablesOf(o.Schema); err != nil {
			return f, fmt.Errorf("store: schema: %w", err)
		}
	}
	return f, nil
}

// makeDir makes the directories that only this user can enter.
func (f *files) makeDir() error { return os.MkdirAll(filepath.Join(f.dir, "spaces"), 0o700) }

// OpenSQLite opens the engine that keeps its files in dir, and makes the directory when
// it is new. Spaces are opened when they are asked for. An error may come from
// Options.Schema.
func OpenSQLite(dir string, o Options) (*SQLite, error) {
	f, err := openFiles(dir, o)
	if err != nil {
		return nil, err
	}
	e := &SQLite{files: f, spaces: make(map[string]*space)}
	if err := e.makeDir(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	conn, err := open(filepath.Join(dir, "masterd.db"), "_busy_timeout=5000&_journal_mode=WAL&_synchronous=FULL")
	if err != nil {
		return nil, fmt.Errorf("store: open tokens: %w", err)
	}
	e.tokens = vsql.NewConn(conn)
	if err := e.tokens.Script(vsql.Master("0001_token.sql")); err != nil {
		return nil, errors.Join(fmt.Errorf("store: make the table of tokens: %w", err), conn.Close())
	}
	return e, nil
}

// open opens a database file, with parameters of go-sqlite3.
func open(path, params string) (*sqlite3.SQLiteConn, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive letter
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: params}
	return sqlfuncs.Open(u.String(), nil)
}

// Space implements Engine. It returns a *LockedError when the space is new and another
// process is about to make it.
func (e *SQLite) Space(ctx context.Context, name string) (Space, error) {
	return e.space(ctx, name, true)
}

// Lookup implements Engine.
func (e *SQLite) Lookup(ctx context.Context, name string) (Space, error) {
	return e.space(ctx, name, false)
}

func (e *SQLite) space(ctx context.Context, name string, create bool) (Space, error) {
	if !ValidSpace(name) {
		return nil, &RequestError{Reason: fmt.Sprintf("space %.100q: want 1 to 64 of a-z, 0-9, _ and -", name)}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	if s := e.spaces[name]; s != nil {
		return s, nil
	}
	s, err := openSpace(&e.files, name, create)
	if err != nil {
		if errors.Is(err, ErrNoSpace) {
			return nil, err
		}
		return nil, fmt.Errorf("store: open space %q: %w", name, err)
	}
	e.spaces[name] = s
	return s, nil
}

// Spaces implements Engine.
func (e *SQLite) Spaces(context.Context) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(e.dir, "spaces"))
	if err != nil {
		return nil, fmt.Errorf("store: list spaces: %w", err)
	}
	var names []string
	for _, f := range entries {
		if name, ok := strings.CutSuffix(f.Name(), ".db"); ok && f.Type().IsRegular() && ValidSpace(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Ping implements Engine.
func (e *SQLite) Ping(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.withTokens(func(c *vsql.Conn) error {
		return c.Query(`SELECT count(*) FROM _velosync_token`, nil, func([]driver.Value) error { return nil })
	})
}

// Close waits for what is under way and closes all files. It may be called twice.
func (e *SQLite) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	spaces := e.spaces
	e.mu.Unlock()
	var errs []error
	for _, s := range spaces {
		errs = append(errs, s.close())
	}
	e.tokenMu.Lock()
	defer e.tokenMu.Unlock()
	errs = append(errs, e.tokens.Close(), e.tokens.Raw().Close())
	e.tokens = nil
	return errors.Join(errs...)
}
