package driver

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/sqlfuncs"
)

// ErrClosed is returned by Connect after Close.
var ErrClosed = errors.New("velosync: connector is closed")

// A Connector opens connections to one database. The first one starts the replicator if the
// data source name has a master; Close stops it and waits for it. sql.DB.Close calls Close.
type Connector struct {
	cfg  Config
	open settings

	// hooks run on each new connection, in this order, after its defaults are set.
	hooks []func(*sqlite3.SQLiteConn) error

	// start begins to sync cfg and returns at once. ctx ends when Close is called; stop is
	// called once after that and waits until all work has ended.
	start func(ctx context.Context, cfg Config) (stop func() error, err error)

	life context.Context // of the replicator; ends with Close
	end  context.CancelFunc

	replicator atomic.Pointer[replicator.Replicator] // for commit hooks; nil: none runs
	bells      bells                                 // of subscriptions

	mu     sync.Mutex
	closed bool
	stop   func() error // of the running replicator, or nil
	err    error        // of the first Close
}

var (
	_ driver.Connector = (*Connector)(nil)
	_ io.Closer        = (*Connector)(nil)
)

// NewConnector reads a data source name. It opens nothing yet. The error is a *DSNError, or
// comes from net/url where the part after "?" cannot be read.
func NewConnector(dsn string) (*Connector, error) {
	cfg, open, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	c := &Connector{cfg: cfg, open: open}
	c.hooks = []func(*sqlite3.SQLiteConn) error{addFunctions, c.addWait, c.trackTables, c.wakeOnCommit}
	c.start = c.startReplicator
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Config returns what the data source name says.
func (c *Connector) Config() Config { return c.cfg }

// Driver implements [driver.Connector].
func (c *Connector) Driver() driver.Driver { return Driver{c} }

// Connect opens a connection, a *sqlite3.SQLiteConn, and sees that the replicator runs. If the
// replicator cannot start there is no connection, and the next Connect tries again.
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.life.Err() != nil {
		return nil, ErrClosed
	}
	conn, err := sqlfuncs.Open(c.open.dsn, c.prepare)
	if err != nil {
		return nil, err
	}
	if err := c.ensureStarted(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// prepare is the connect hook.
func (c *Connector) prepare(conn *sqlite3.SQLiteConn) error {
	if err := c.open.apply(conn); err != nil {
		return err
	}
	for _, hook := range c.hooks {
		if err := hook(conn); err != nil {
			return err
		}
	}
	return nil
}

func (c *Connector) ensureStarted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return ErrClosed
	case c.cfg.Master == "" || c.stop != nil:
		return nil
	}
	stop, err := c.start(c.life, c.cfg)
	if err != nil {
		return fmt.Errorf("velosync: start replicator: %w", err)
	}
	c.stop = stop
	return nil
}

// Close stops the replicator, waits for it, and returns its error. It does not close
// connections: database/sql closes them first. It may be called twice, and returns the same.
func (c *Connector) Close() error {
	c.end() // before the lock, which a start that is under way holds
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.err
	}
	c.closed = true
	if c.stop != nil {
		c.err = c.stop()
	}
	return c.err
}
