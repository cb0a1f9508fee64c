package store

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// V1 is what a Space has for clients of protocol v1, which share the rows of its table
// V1Table with devices. The table is made when it is not there.
type V1 interface {
	// SyncV1 applies a push as one transaction and returns what the client lacks. What is
	// wrong with one record is answered; an error says that nothing was applied: an
	// *OwnerError, a *SchemaError where V1Table is not a table of vectors, or one of SQLite.
	SyncV1(ctx context.Context, owner Owner, push *V1Push) (*V1Answer, error)
	// AckV1 records that a client has written down everything up to seq and heard that its
	// log up to lsn was taken. Both only rise; it returns what is recorded then. A *V1AckError
	// says that they are beyond what was issued or sent.
	AckV1(ctx context.Context, owner Owner, device string, seq change.Seq, lsn change.LSN) (change.Seq, change.LSN, error)
	StatsV1(ctx context.Context) (*V1Stats, error)
}

var _ V1 = (*space)(nil)

// V1Table is the table that protocol v1 serves.
const V1Table = "vectors"

// V1Device returns the device id under which a space keeps what a client writes.
func V1Device(name string) (id change.DeviceID) {
	sum := sha256.Sum256([]byte("velosync v1 device\x00" + name))
	copy(id[:], sum[:])
	return id
}

// A V1Push is a client's window of its log.
type V1Push struct {
	Device string // not change.Master
	Head   change.LSN
	// Raise is the most by which a record can raise its client's own count: as many changes
	// as the window had before it was compacted.
	Raise   uint64
	Records []V1Record // in log order
	// MaxPull is about the most bytes of the answer's records as JSON. The rest comes with
	// the client's next sync, since it acknowledges what it was given.
	MaxPull int64
}

// A V1Record is a vector as protocol v1 has it.
type V1Record struct {
	ID        string
	Embedding []byte // float64 each, little-endian, all finite; empty for a deleted one
	Metadata  string // a JSON object
	Weight    float64
	Updated   float64 // unix seconds
	Deleted   bool
	// Clock counts the writes of each client, and under change.Master the seq that the copy
	// stands on.
	Clock change.Clock
	// Problem, unless empty, refuses this record alone. Only ID, where it could be read, and
	// Clock are used then.
	Problem string
	// Name is the id as the client wrote it, for the answer.
	Name string
}

// A V1Answer is what became of a push, and what the client lacks.
type V1Answer struct {
	Replay    bool       // the window was acknowledged before and held nothing new
	Seq       change.Seq // the client has everything up to here, once it has applied Pull
	Applied   int        // changes
	Conflicts []V1Conflict
	Rejected  []V1Rejection
	Pull      []V1Record
}

// A V1Conflict says how a record that met another version was resolved.
type V1Conflict struct {
	ID         string
	Resolution V1Resolution
}

// A V1Rejection says why a record was refused, alone.
type V1Rejection struct {
	Name   string // V1Record.Name
	Reason string
}

// A V1Resolution names how the master's copy (local) and the incoming one (remote) stood
// to each other.
type V1Resolution string

// The resolutions.
const (
	V1NoLocalCopy      V1Resolution = "no_local_copy"
	V1RemoteDominates  V1Resolution = "remote_dominates"
	V1LocalDominates   V1Resolution = "local_dominates"
	V1Identical        V1Resolution = "identical_history"
	V1SemanticLocal    V1Resolution = "concurrent_semantic_local"
	V1SemanticRemote   V1Resolution = "concurrent_semantic_remote"
	V1LastWriterLocal  V1Resolution = "concurrent_lww_local"
	V1LastWriterRemote V1Resolution = "concurrent_lww_remote"
)

// concurrentV1 returns the name of a conflict that a rule decided.
func concurrentV1(rule change.Rule, winner change.Side) V1Resolution {
	switch {
	case rule == change.ByWeight && winner == change.Local:
		return V1SemanticLocal
	case rule == change.ByWeight:
		return V1SemanticRemote
	case winner == change.Local:
		return V1LastWriterLocal
	}
	return V1LastWriterRemote
}

// A V1AckError says that a client acknowledges what it can't have: a feed that was not
// issued to it, or a log that it has not sent.
type V1AckError struct {
	Device       string
	Seq, Issued  change.Seq
	LSN, HeadLSN change.LSN
}

func (e *V1AckError) Error() string {
	return fmt.Sprintf("store: device %q acknowledges server_seq %d and lsn %d; it was issued %d and has sent %d",
		e.Device, e.Seq, e.LSN, e.Issued, e.HeadLSN)
}

// V1Stats counts what clients see.
type V1Stats struct {
	Live, Tombstones int64
	Seq              change.Seq
	Devices          []V1DeviceStats // by name
}

// V1DeviceStats is a client's cursors.
type V1DeviceStats struct {
	Name    string
	LSN     change.LSN
	Acked   change.Seq
	Contact time.Time
}

// A v1Device is a row of _velosync_v1_device; zero of a client that never synced.
type v1Device struct {
	name    string
	site    int64 // of its device
	sent    change.LSN
	lsn     change.LSN
	issued  change.Seq
	acked   change.Seq
	fileLSN change.LSN // lsn and acked, of its present file alone
	cursor  change.Seq
	contact int64
}

func readV1Device(c *vsql.Conn, name string) (v v1Device, found bool, err error) {
	var sent, lsn, issued, acked, fileLSN, cursor int64
	found, err = c.Row(`SELECT site, sent, lsn, issued, acked, file_lsn, cursor, contact FROM _velosync_v1_device WHERE name = ?`, []driver.Value{name},
		&v.site, &sent, &lsn, &issued, &acked, &fileLSN, &cursor, &v.contact)
	v.name, v.sent, v.lsn, v.issued, v.acked = name, change.LSN(sent), change.LSN(lsn), change.Seq(issued), change.Seq(acked)
	v.fileLSN, v.cursor = change.LSN(fileLSN), change.Seq(cursor)
	return v, found, err
}

func (t *tx) putV1Device(v *v1Device) error {
	v.contact = t.now
	_, err := t.Exec(vsql.Master("put_v1_device.sql"), v.name, v.site, int64(v.sent), int64(v.lsn), int64(v.issued), int64(v.acked),
		int64(v.fileLSN), int64(v.cursor), v.contact)
	if err != nil {
		return fmt.Errorf("record client %q: %w", v.name, err)
	}
	return nil
}

// hasV1 reports whether the tables of protocol v1 are there.
func hasV1(c *vsql.Conn) (has bool, err error) {
	_, err = c.Row(`SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name = '_velosync_v1_device'`, nil, &has)
	return has, err
}

// SyncV1 implements V1.
func (s *space) SyncV1(ctx context.Context, owner Owner, push *V1Push) (*V1Answer, error) {
	p := v1Push{V1Push: push, owner: owner}
	idle, err := s.idleV1(ctx, &p)
	if err != nil {
		return nil, err
	}
	if !idle {
		err := s.write(&job{ctx: ctx, rows: len(push.Records), durable: true, do: p.apply})
		if err != nil {
			return nil, err
		}
	}
	if err := s.pullV1(ctx, &p); err != nil {
		return nil, fmt.Errorf("store: pull from space %q for client %q: %w", s.name, push.Device, err)
	}
	return &p.answer, nil
}

// idleV1 reports whether a sync has nothing to write: the client asks for news and was
// told of the same head before.
func (s *space) idleV1(ctx context.Context, p *v1Push) (idle bool, err error) {
	if len(p.Records) > 0 {
		return false, nil
	}
	d := s.device(V1Device(p.Device))
	if err := d.check(p.owner); err != nil || d.site == 0 || d.owner != p.owner && d.owner == "" {
		return false, err
	}
	s.mu.Lock()
	schema := s.state.schema
	s.mu.Unlock()
	err = s.readers.withContext(ctx, func(c *vsql.Conn) error {
		return c.ReadTx(func() error {
			if has, err := hasV1(c); err != nil || !has {
				return err
			}
			var head int64
			if _, err := c.Row(`SELECT head FROM _velosync_space`, nil, &head); err != nil {
				return err
			}
			v, found, err := readV1Device(c, p.Device)
			if err != nil || !found || v.issued != change.Seq(head) || v.sent < p.Head {
				return err
			}
			p.client, p.head = v, change.Seq(head)
			p.table, err = v1TableOf(schema)
			idle = p.table != nil
			return err
		})
	})
	return idle, err
}

// AckV1 implements V1. As in Ack, the commit does not wait for the disk.
func (s *space) AckV1(ctx context.Context, owner Owner, device string, seq change.Seq, lsn change.LSN) (change.Seq, change.LSN, error) {
	var v v1Device
	err := s.write(&job{ctx: ctx, do: func(t *tx) error {
		d := t.device(V1Device(device))
		if err := d.check(owner); err != nil {
			return err
		}
		has, err := hasV1(t.Conn)
		if err != nil {
			return err
		}
		v = v1Device{name: device}
		if has {
			if v, _, err = readV1Device(t.Conn, device); err != nil {
				return err
			}
		}
		if seq < 0 || lsn < 0 || seq > v.issued || lsn > v.sent {
			return &V1AckError{Device: device, Seq: seq, Issued: v.issued, LSN: lsn, HeadLSN: v.sent}
		}
		if d.site == 0 || seq <= v.cursor && lsn <= v.fileLSN {
			return nil
		}
		v.acked, v.lsn = max(v.acked, seq), max(v.lsn, lsn)
		v.cursor, v.fileLSN = max(v.cursor, seq), max(v.fileLSN, lsn)
		if err := t.putV1Device(&v); err != nil {
			return err
		}
		d.acked, d.heard, d.contact = v.acked, d.lsn, t.now
		if err := t.putDevice(&d); err != nil {
			return err
		}
		return t.collect()
	}})
	if err != nil {
		return 0, 0, err
	}
	return v.acked, v.lsn, nil
}

// StatsV1 implements V1.
func (s *space) StatsV1(ctx context.Context) (*V1Stats, error) {
	var st V1Stats
	s.mu.Lock()
	schema := s.state.schema
	s.mu.Unlock()
	table, err := v1TableOf(schema)
	if err != nil {
		return nil, err
	}
	err = s.readers.withContext(ctx, func(c *vsql.Conn) error {
		return c.ReadTx(func() error {
			var head int64
			if _, err := c.Row(`SELECT head FROM _velosync_space`, nil, &head); err != nil {
				return err
			}
			st.Seq = change.Seq(head)
			if table == nil {
				return nil
			}
			if _, err := c.Row(`SELECT count(*) FROM `+table.name(), nil, &st.Live); err != nil {
				return err
			}
			if _, err := c.Row(`SELECT count(*) FROM _velosync_row WHERE deleted = 1 AND tbl = ?`, []driver.Value{table.id}, &st.Tombstones); err != nil {
				return err
			}
			if has, err := hasV1(c); err != nil || !has {
				return err
			}
			return c.Query(`SELECT name, lsn, acked, contact FROM _velosync_v1_device ORDER BY name`, nil, func(row []driver.Value) error {
				st.Devices = append(st.Devices, V1DeviceStats{Name: row[0].(string), LSN: change.LSN(row[1].(int64)),
					Acked: change.Seq(row[2].(int64)), Contact: time.UnixMilli(row[3].(int64))})
				return nil
			})
		})
	})
	if err != nil {
		return nil, fmt.Errorf("store: stats of protocol v1: %w", err)
	}
	return &st, nil
}

// parseClock reads a clock of _velosync_v1_row.
func parseClock(v driver.Value) (change.Clock, error) {
	clock := change.Clock{}
	if text, ok := v.(string); ok {
		if err := json.Unmarshal([]byte(text), &clock); err != nil {
			return nil, fmt.Errorf("the clock of a vector can't be read: %w", err)
		}
	}
	return clock, nil
}
