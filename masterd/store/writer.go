package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	sqlite3 "github.com/mattn/go-sqlite3"

	vsql "github.com/velosync/velosync/sql"
)

// A writer is the one connection that writes a space. Whoever has a job waits for his
// turn; who gets the turn runs all jobs that wait, each in a savepoint, and commits
// them together, so that they share one fdatasync.
type writer struct {
	turn chan struct{} // holds the right to use conn

	queueMu sync.Mutex
	queue   []*job

	conn *vsql.Conn
	lock *lock
	// failed says that a write failed at the disk and conn was closed; see renewLog.
	failed bool
}

// A job is what somebody wants to write.
type job struct {
	ctx  context.Context
	rows int // about how many, so that a group does not get too long
	// durable asks that a power cut after the commit keeps the job; without it the commit
	// survives the end of the process only.
	durable bool
	do      func(*tx) error
	done    chan struct{}
	taken   bool
	err     error
}

// groupRows is about how many rows a group takes: those who wait behind a group wait for
// all of it.
const groupRows = 4000

func (w *writer) init() { w.turn = make(chan struct{}, 1) }

// hold calls f while no job runs.
func (w *writer) hold(f func() error) error {
	w.turn <- struct{}{}
	defer func() { <-w.turn }()
	return f()
}

// write runs a job in the space's write transaction and returns when it is committed. A
// job whose ctx ends before its turn is not run.
func (s *space) write(j *job) error {
	j.done = make(chan struct{})
	s.queueMu.Lock()
	s.queue = append(s.queue, j)
	s.queueMu.Unlock()
	for {
		select {
		case <-j.done:
			return j.err
		case s.turn <- struct{}{}:
			s.runGroup()
		case <-j.ctx.Done():
			if s.withdraw(j) {
				return j.ctx.Err()
			}
			<-j.done
			return j.err
		}
	}
}

// withdraw takes a job out of the queue; false: somebody runs it.
func (w *writer) withdraw(j *job) bool {
	w.queueMu.Lock()
	defer w.queueMu.Unlock()
	if j.taken {
		return false
	}
	for i, q := range w.queue {
		if q == j {
			w.queue = append(w.queue[:i], w.queue[i+1:]...)
			break
		}
	}
	return true
}

// takeGroup takes the jobs that are to be committed together.
func (w *writer) takeGroup() (group []*job) {
	w.queueMu.Lock()
	defer w.queueMu.Unlock()
	n, rows := 0, 0
	for n < len(w.queue) && (n == 0 || rows+w.queue[n].rows <= groupRows) {
		rows += w.queue[n].rows
		w.queue[n].taken = true
		n++
	}
	group = append(group, w.queue[:n]...)
	w.queue = append(w.queue[:0], w.queue[n:]...)
	return group
}

// runGroup runs the jobs that wait, and gives the turn back.
func (s *space) runGroup() {
	group := s.takeGroup()
	finished := false
	defer func() {
		for _, j := range group {
			if !finished { // a panic: the transaction was rolled back
				j.err = errors.New("store: the group of this push was not committed")
			}
			close(j.done)
		}
		<-s.turn
	}()
	if len(group) > 0 {
		s.commitGroup(group)
	}
	finished = true
}

// commitGroup runs jobs in one transaction and sets their errors.
func (s *space) commitGroup(group []*job) {
	fail := func(err error) {
		for _, j := range group {
			j.err = err
		}
	}
	if err := s.openWriter(false); err != nil {
		fail(err)
		return
	}
	c := s.writer.conn
	sync := "NORMAL"
	for _, j := range group {
		if j.durable && s.origin == nil { // a cache that a power cut sets back catches up
			sync = "FULL"
		}
	}
	// A PRAGMA acts when it is compiled, so it can't be a statement that is kept.
	if err := c.Script("PRAGMA synchronous = " + sync); err != nil {
		fail(err)
		return
	}
	run := func() (*tx, error) {
		t := s.begin(c)
		for _, j := range group {
			if j.err = j.ctx.Err(); j.err != nil {
				continue
			}
			if err := t.run(j); err != nil {
				return nil, err
			}
		}
		return t, t.finish()
	}
	var t *tx
	var err error
	if s.origin != nil {
		t, err = s.origin.commit(c, run)
	} else {
		err = c.Tx(func() (err error) { t, err = run(); return err })
	}
	if err != nil {
		err = fmt.Errorf("store: write space %q: %w", s.name, err)
		fail(err)
		s.log.Error("write failed, nothing of it is applied", "jobs", len(group), "err", err)
		if !busy(err) && (s.origin == nil || inFile(err)) {
			// What the connection, and the file, are in now is not known: read it anew.
			s.writer.failed = s.origin == nil // a cache that loses commits catches up
			if err := s.closeWriter(); err != nil {
				s.log.Warn("close after a failed write", "err", err)
			}
		}
		return
	}
	t.publish()
}

func busy(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrBusy || e.Code == sqlite3.ErrLocked)
}

// inFile reports whether SQLite had an error, or the transaction is in no known state.
func inFile(err error) bool {
	var e sqlite3.Error
	var lost *lostError
	return errors.As(err, &e) || errors.As(err, &lost)
}

// fatal reports whether an error says more than that a statement has failed: the disk is
// full or broken, memory is out, the file is damaged or in use.
func fatal(err error) bool {
	var lost *lostError
	if errors.As(err, &lost) {
		return true
	}
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case sqlite3.ErrConstraint, sqlite3.ErrMismatch, sqlite3.ErrError, sqlite3.ErrTooBig:
		return false
	}
	return true
}

// openWriter opens the writer's connection if it is not open, and takes the lock. The
// caller has the turn.
func (s *space) openWriter(create bool) error {
	if s.writer.conn != nil {
		return nil
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if s.writer.lock == nil {
		l, err := takeLock(s.name, strings.TrimSuffix(s.path, ".db")+".lock")
		if err != nil {
			return err
		}
		s.writer.lock = l
	}
	c, err := s.openConn(create)
	if err != nil {
		err = errors.Join(err, s.writer.lock.release())
		s.writer.lock = nil
		return err
	}
	s.writer.conn = c
	if create {
		err = s.makeFile(c)
	}
	if err == nil && s.writer.failed {
		err = s.renewLog(c)
	}
	if err == nil {
		err = c.ReadTx(func() error { return s.loadFrom(c) })
	}
	if err == nil {
		err = s.beginEpoch()
	}
	if err == nil && s.origin != nil {
		err = s.origin.attach(c)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("store: open space %q: %w", s.name, err), s.closeWriter())
	}
	return nil
}

// renewLog brings the write-ahead log into the database file and begins it anew. After a
// sync that failed, Linux takes what it did not write for clean: earlier commits that nobody
// had to wait for may be missing in the log on the disk, no later sync would bring them, and
// after a power cut the log would end there, before all that was committed since.
func (s *space) renewLog(c *vsql.Conn) error {
	var busy, frames, moved int
	if _, err := c.Row(`PRAGMA wal_checkpoint(TRUNCATE)`, nil, &busy, &frames, &moved); err != nil {
		return fmt.Errorf("begin the log anew after a write that failed: %w", err)
	}
	if busy != 0 {
		return errors.New("begin the log anew after a write that failed: a reader holds it")
	}
	s.writer.failed = false
	return nil
}

func (s *space) openConn(create bool) (*vsql.Conn, error) {
	mode := "rw"
	if create {
		mode = "rwc"
	}
	conn, err := open(s.path, "_busy_timeout=5000&_foreign_keys=0&mode="+mode)
	if err != nil {
		return nil, err
	}
	c := vsql.NewConn(conn)
	// A cache that spills writes pages twice. Checkpoints come after 16 MiB of log, and the
	// log does not stay as long as the longest push made it.
	err = c.Script(fmt.Sprintf(`PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA trusted_schema = 0;
		PRAGMA cache_size = -%d; PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 2000;
		PRAGMA journal_size_limit = 67108864`, s.engine.o.CacheBytes/1024))
	if err != nil {
		return nil, errors.Join(err, c.Close(), conn.Close())
	}
	return c, nil
}

// makeFile makes our tables and those of Options.Schema, unless they are there.
func (s *space) makeFile(c *vsql.Conn) error {
	return c.Tx(func() error {
		var n int64
		if _, err := c.Row(`SELECT count(*) FROM main.sqlite_schema WHERE name = '_velosync_space'`, nil, &n); err != nil || n > 0 {
			return err
		}
		files := []string{"0001_space.sql", "0002_conflict.sql"}
		if s.origin != nil {
			files = append(files, "0003_v1.sql", "cache.sql")
		}
		for _, name := range files {
			if err := c.Script(vsql.Master(name)); err != nil {
				return err
			}
		}
		return s.seed(c)
	})
}

// seed makes an empty space of a file that has our tables.
func (s *space) seed(c *vsql.Conn) error {
	fixed := int64(0)
	if s.engine.schema != nil {
		fixed = 1
	}
	_, err := c.Exec(`INSERT INTO _velosync_space VALUES (1, 1, 0, 0, ?1, ?2, 1, 0, 0, 0, 0)`, int64(len(s.engine.schema)), fixed)
	if err != nil {
		return err
	}
	for _, t := range s.engine.schema {
		if err := makeTable(c, &t.def, true); err != nil {
			return err
		}
	}
	return nil
}

// closeWriter closes the connection and gives the lock back. The caller has the turn.
func (s *space) closeWriter() error {
	c := s.writer.conn
	if c == nil {
		return nil
	}
	s.writer.conn = nil
	err := errors.Join(c.Close(), c.Raw().Close(), s.writer.lock.release())
	s.writer.lock = nil
	return err
}
