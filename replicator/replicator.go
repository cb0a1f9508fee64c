// Package replicator ships a device's log to masterd and brings back what others wrote.
//
//	r, err := replicator.New("app.db", replicator.Options{Master: "https://sync.example.com", Space: "notes", Token: token})
//	round, err := r.Sync(ctx)  // one round, or
//	err = r.Run(ctx)           // rounds until ctx ends: at local commits, and when the master has news
//	err = r.Close()
//
// sql.Open("velosync", "app.db?_velosync_master=…") runs one inside the application; the
// command velosync sync runs one beside it. Offline is a normal state: Run waits and
// tries again.
package replicator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
	"github.com/velosync/velosync/sqlfuncs"
)

// Options tunes a Replicator. Master is all that must be set.
type Options struct {
	// Master is the URL of masterd, http or https.
	Master string
	// Space is the space to sync. Empty means "default".
	Space string
	// Token is the bearer token that masterd token new printed; empty for a masterd that
	// asks for none.
	Token string
	// Name is what people see this device called; empty leaves what the file says.
	Name string
	// Track names tables to track as soon as they exist, with default options.
	Track []string
	// Interval is the longest that a change waits before it is sent, where nothing tells of
	// it: writes of other processes, and the master's news while its event stream is down.
	// Zero means 5 s.
	Interval time.Duration
	// Timeout bounds one request. Zero means 5 min.
	Timeout time.Duration

	// Transport carries requests to masterd; nil means one like http.DefaultTransport.
	Transport http.RoundTripper
	// Now is the device's clock; nil means time.Now.
	Now func() time.Time
	// Random draws push names and device ids; nil means crypto/rand.Reader.
	Random io.Reader
	// Log receives the log; nil means slog.Default().
	Log *slog.Logger
	// Progress hears of long work, often; nil means nobody does.
	Progress func(Progress)
	// Ended hears of each round, complete or not, as Sync returns it; nil means nobody does.
	// The next round waits for it.
	Ended func(Round, error)
	// Prepare, if set, runs on each connection that the replicator opens: for functions and
	// collations that the application's triggers, indexes and checks call.
	Prepare func(*sqlite3.SQLiteConn) error
	// Step, if set, is called before each step of a round, with its name: "begin", "part",
	// "push", "snapshot", "page", "apply", "ack", "digest"; "compare" and "reconcile" after a master's restore. An error ends the round there, as a crash would.
	// Between rounds it is called with "fold" when changed rows were taken into the vector indexes.
	Step func(step string) error

	// CompactAbove is how many rows the log may have before it is compacted in place. Zero
	// means 200,000.
	CompactAbove int

	// DigestEvery says after how many rounds one compares a range of rows with the master:
	// range after range, all tables come by. What differs and was never logged becomes what
	// the master has; what was here goes to velosync_conflicts. Zero means 32, less never.
	DigestEvery int
	// DigestIdle is how often Run compares a range beside that, so that the rows of a device
	// that is connected and idle are compared too. Zero means 1 min: 250 bytes and 2 ms of
	// the master's CPU, with which 100,000 rows are through in 6.5 h and 1,000 idle devices
	// take 3 % of a core. With DigestEvery below zero, and while the last round failed, it
	// compares nothing.
	DigestIdle time.Duration
	// DigestRows is the most rows of such a range. Zero means 256.
	DigestRows int

	// Retry says how often a request of a round is sent again.
	Retry Retry
	// Lockstep reads each part of a push when the one before was sent, and not meanwhile: it
	// takes half of the memory, and longer.
	Lockstep bool

	// Limits bound what is read from the master.
	Limits wire.Limits
	// Parts bound what is sent at a time.
	Parts capture.Limits
}

func (o Options) defaults() Options {
	if o.Space == "" {
		o.Space = "default"
	}
	if o.Interval <= 0 {
		o.Interval = 5 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Ended == nil {
		o.Ended = func(Round, error) {}
	}
	if o.Step == nil {
		o.Step = func(string) error { return nil }
	}
	if o.DigestEvery == 0 {
		o.DigestEvery = 32
	}
	if o.DigestIdle <= 0 {
		o.DigestIdle = time.Minute
	}
	if o.DigestRows <= 0 {
		o.DigestRows = 256
	}
	o.Retry = o.Retry.defaults()
	o.Limits = o.Limits.Defaults()
	return o
}

// Progress says how far a phase of a round is.
type Progress struct {
	Phase string // "push", "pull", "apply", or "compare" of Verify
	Rows  int64
	Total int64 // rows of the phase; 0: not known
	Bytes int64 // sent or received so far
}

// ErrClosed is returned after Close.
var ErrClosed = errors.New("replicator: closed")

// A Replicator syncs one database file with one space. Its methods may be called by
// several goroutines; rounds run one after the other.
type Replicator struct {
	o      Options
	log    *slog.Logger
	client *client
	path   string

	mu     sync.Mutex // held during a round
	conns  [2]*sqlite3.SQLiteConn
	device *capture.Device // writes
	reader *capture.Device // reads pushes
	lease  *lease
	closed bool
	old    bool // the master is from before digests

	download *download // a snapshot that no round has applied yet; nil: none
	place    *snapshotPlace
	tidied   bool // what an earlier process left of one is gone

	wake   chan struct{} // a local commit
	remote chan int64    // the master's head, where no round had seen it
	status statusBoard
}

// New opens a database file for syncing, and makes VeloSync's own tables, and the file
// itself, if need be. dsn is a path, or a data source name of go-sqlite3. Close gives the
// connections back.
func New(dsn string, o Options) (*Replicator, error) {
	o = o.defaults()
	u, err := url.Parse(o.Master)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("replicator: master %q: want an http or https URL, such as https://sync.example.com", o.Master)
	}
	r := &Replicator{
		o: o, log: o.Log, client: newClient(u, o), path: filePath(dsn),
		wake: make(chan struct{}, 1), remote: make(chan int64, 1),
	}
	if r.path == "" {
		return nil, fmt.Errorf("replicator: %q is in memory: sync needs a file, since it opens the database by itself", dsn)
	}
	r.place = &snapshotPlace{path: r.path + snapshotSuffix, source: r.client.base, log: r.log}
	if err := r.open(dsn); err != nil {
		return nil, errors.Join(fmt.Errorf("replicator: %w", err), r.Close())
	}
	return r, nil
}

// filePath returns the file that a data source name means, "" for a database in memory.
func filePath(dsn string) string {
	name, query, _ := strings.Cut(dsn, "?")
	if rest, ok := strings.CutPrefix(name, "file:"); ok {
		name = rest
		if decoded, err := url.PathUnescape(name); err == nil {
			name = decoded
		}
		name = strings.TrimPrefix(name, "//localhost")
		if strings.HasPrefix(name, "///") {
			name = name[2:]
		}
		if q, err := url.ParseQuery(query); err == nil && q.Get("mode") == "memory" {
			return ""
		}
	}
	if name == ":memory:" {
		return ""
	}
	return name
}

func (r *Replicator) open(dsn string) (err error) {
	for i := range r.conns {
		r.conns[i], err = sqlfuncs.Open(dsn, func(c *sqlite3.SQLiteConn) error {
			// The apply step checks foreign keys itself; a wait for the application's own
			// transactions is nothing special.
			for _, pragma := range []string{"PRAGMA busy_timeout = 10000", "PRAGMA foreign_keys = OFF", "PRAGMA cache_size = -65536", "PRAGMA recursive_triggers = OFF"} {
				if _, err := c.Exec(pragma, nil); err != nil { //nolint:staticcheck // a hook has no context
					return fmt.Errorf("%s: %w", pragma, err)
				}
			}
			// A round reads a push while it writes the push's name: with a rollback journal one of
			// the two would wait for the other.
			if i == 0 {
				if _, err := c.Exec("PRAGMA journal_mode = WAL", nil); err != nil { //nolint:staticcheck // as above
					return fmt.Errorf("turn on the write-ahead log: %w", err)
				}
			}
			if r.o.Prepare != nil {
				return r.o.Prepare(c)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("open %s: %w", r.path, err)
		}
	}
	co := capture.Options{Now: r.o.Now, Random: r.o.Random, Log: r.o.Log, CompactAbove: r.o.CompactAbove}
	if r.device, err = capture.Open(r.conns[0], co); err != nil {
		return fmt.Errorf("open %s: %w", r.path, err)
	}
	if r.reader, err = capture.Open(r.conns[1], co); err != nil {
		return fmt.Errorf("open %s: %w", r.path, err)
	}
	return r.device.Describe(r.o.Name, r.o.Master, r.o.Space)
}

// Close closes the replicator's connections. Run must have returned. It may be called
// twice.
func (r *Replicator) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.client.close()
	var errs []error
	for _, d := range []*capture.Device{r.device, r.reader} {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	for _, c := range r.conns {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	errs = append(errs, r.leaveDownload(), r.lease.release())
	return errors.Join(errs...)
}

// Wake says that there is something to send, for instance from a commit hook. It never
// blocks.
func (r *Replicator) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// name draws a push's name.
func (r *Replicator) name() (change.Name, error) {
	var n change.Name
	if _, err := io.ReadFull(r.o.Random, n[:]); err != nil {
		return n, fmt.Errorf("draw a push name: %w", err)
	}
	return n, nil
}

// Wait returns nil once all that was pending is applied by the master and acknowledged. It
// needs Run, here or in another process, to do the work. It returns ctx's error when that
// ends first.
func (r *Replicator) Wait(ctx context.Context) error {
	for {
		again := r.status.next()
		closed, pending, err := r.look()
		switch {
		case closed:
			return ErrClosed
		case err != nil:
			return fmt.Errorf("replicator: wait: %w", err)
		case !pending:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again: // a round of ours ended
		case <-time.After(100 * time.Millisecond): // another process may be the one that syncs
		}
	}
}

// look says whether anything is pending; during a round something is taken to be.
func (r *Replicator) look() (closed, pending bool, err error) {
	if !r.mu.TryLock() {
		return false, true, nil
	}
	defer r.mu.Unlock()
	if r.closed {
		return true, false, nil
	}
	pending, err = r.device.Unsent()
	return false, pending, err
}
