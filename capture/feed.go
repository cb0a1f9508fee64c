package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// Changes are what one commit, or several that were seen at once, changed in tracked tables.
type Changes struct {
	// Rows are the rows that changed, each once for what was written to this file and once
	// for what a round brought. A row may be told again though nothing changed since.
	Rows []ChangedRow
	// Lossy says that rows changed which are not named: read again what you hold of any
	// tracked table. Rows is nil then.
	Lossy bool
}

// A ChangedRow names a row that changed. It has no values: read the row, it may have
// changed again.
type ChangedRow struct {
	Table string
	// Op is "insert", "update" or "delete": what all changes of the row come to.
	Op string
	// Key holds the values of the key columns, as int64, float64, string or []byte.
	Key []any
	// Remote says that a round brought the change; else it was written to this file, by
	// whichever program.
	Remote bool
}

const (
	feedLease = 10 * time.Minute // after that, a feed that did not look is taken to be gone
	feedLimit = 10_000           // rows of Changes, unless said otherwise
	feedKept  = 20_000           // rows of _velosync_feed
)

// A Feed tells what commits change in tracked tables, whoever writes: this process, others,
// and rounds. It holds a place in the log and nothing in memory, so a reader that is slow
// costs nothing; what it then misses is told as Lossy. It is for one goroutine at a time.
type Feed struct {
	d     *Device
	id    int64 // of the row in _velosync_feed_reader; 0: none yet
	limit int
	only  []string
	lsn   int64 // told up to here
	n     int64 // and up to here of _velosync_feed
	until time.Time
}

// Follow begins a feed on a connection that nothing else writes with. limit is the most
// rows of one Changes, 0 means 10,000. With tables, others are left out.
func (d *Device) Follow(limit int, tables ...string) (*Feed, error) {
	if limit <= 0 {
		limit = feedLimit
	}
	made, err := d.feedTables()
	if err == nil && !made {
		err = d.c.Atomic("velosync_feed", func() error { return d.c.Script(vsql.Device("0005_feed.sql")) })
	}
	if err != nil {
		return nil, fmt.Errorf("follow the file: %w", err)
	}
	return &Feed{d: d, limit: limit, only: tables}, nil
}

func (d *Device) feedTables() (bool, error) {
	var n int
	return d.c.Row(`SELECT 1 FROM main.sqlite_schema WHERE name = '_velosync_feed'`, nil, &n)
}

// Next returns what was committed since the last call, and does not wait: there may be no
// rows. The first call is lossy: what is committed from then on is told.
func (f *Feed) Next() (Changes, error) {
	if f.id != 0 {
		if !f.d.o.Now().Before(f.until.Add(-feedLease / 2)) {
			if err := f.renew(); err != nil {
				return Changes{}, fmt.Errorf("follow the file: %w", err)
			}
		}
		var list Changes
		var follows bool
		err := f.d.c.ReadTx(func() (err error) {
			list, follows, err = f.look()
			return err
		})
		if err != nil {
			return Changes{}, fmt.Errorf("look at the feed: %w", err)
		}
		if follows {
			return list, nil
		}
	}
	if err := f.begin(); err != nil {
		return Changes{}, fmt.Errorf("follow the file: %w", err)
	}
	return Changes{Lossy: true}, nil
}

// begin takes the end of what was committed for what was told.
func (f *Feed) begin() error {
	d := f.d
	id := f.id
	if id == 0 {
		var random [8]byte
		if _, err := io.ReadFull(d.o.Random, random[:]); err != nil {
			return err
		}
		id = int64(binary.LittleEndian.Uint64(random[:])>>1) | 1
	}
	until := d.o.Now().Add(feedLease)
	var lsn, n int64
	err := d.c.Tx(func() error {
		if err := d.followTables(); err != nil {
			return err
		}
		_, err := d.c.Exec(`INSERT OR REPLACE INTO _velosync_feed_reader(id, until, seen) SELECT ?, ?, seen FROM _velosync_state`, id, until.UnixMilli())
		if err != nil {
			return err
		}
		_, err = d.c.Row(`SELECT (SELECT coalesce(max(lsn), 0) FROM _velosync_wal), (SELECT coalesce(max(n), 0) FROM _velosync_feed)`, nil, &lsn, &n)
		return err
	})
	if err == nil {
		f.id, f.until, f.lsn, f.n = id, until, lsn, n
	}
	return err
}

// renew says that the feed lives. Where a round has taken it to be gone already, the next
// look tells.
func (f *Feed) renew() error {
	until := f.d.o.Now().Add(feedLease)
	_, err := f.d.c.Exec(`UPDATE _velosync_feed_reader SET until = ? WHERE id = ?`, until.UnixMilli(), f.id)
	if err == nil {
		f.until = until
	}
	return err
}

// look reads what is new. Without follows something was missed.
func (f *Feed) look() (list Changes, follows bool, err error) {
	d := f.d
	var seen, covered int64
	found, err := d.c.Row(`SELECT s.seen, r.seen FROM _velosync_state s, _velosync_feed_reader r WHERE r.id = ?`, []change.Value{f.id}, &seen, &covered)
	if err != nil || !found || seen != covered { // else a round ran that took it to be gone
		return list, false, err
	}
	if err := d.refresh(); err != nil { // a tracked table was renamed, or dropped
		d.o.Log.Debug("feed", "err", err)
		return list, false, nil
	}
	m := merging{f: f, at: make(map[mergeKey]int)}
	n, lsn, rows := f.n, f.lsn, 0
	lost := false
	err = d.c.Query(`SELECT n, lsn, tbl, op, +pk FROM _velosync_feed WHERE n > ? ORDER BY n LIMIT ?`, []change.Value{f.n, int64(f.limit) + 1}, func(v []change.Value) error {
		rows++
		lost = lost || v[0].(int64) != n+1 || v[3].(string) == "L"
		n = v[0].(int64)
		if at, local := v[1].(int64); local {
			if at <= f.lsn {
				return nil
			}
			lsn = max(lsn, at)
		}
		return m.add(v[2].(int64), v[3].(string)[0], v[4], v[1] == nil)
	})
	if err != nil || lost || rows > f.limit {
		return list, false, err
	}
	told := lsn // by rows that left the log
	err = d.c.Query(`SELECT lsn, tbl, op, +pk FROM _velosync_wal WHERE lsn > ? ORDER BY lsn LIMIT ?`, []change.Value{f.lsn, int64(f.limit) + 1}, func(v []change.Value) error {
		rows++
		at, op := v[0].(int64), v[2].(string)[0]
		if op == 'X' && at <= told {
			return nil
		}
		lsn = max(lsn, at)
		return m.add(v[1].(int64), op, v[3], false)
	})
	if err != nil || rows > f.limit {
		return list, false, err
	}
	f.n, f.lsn = n, lsn
	list.Rows = m.rows
	return list, true, nil
}

// Close ends the feed: rounds write nothing down for it any more. It may be called twice.
func (f *Feed) Close() error {
	if f.id == 0 {
		return nil
	}
	id := f.id
	f.id = 0
	_, err := f.d.c.Exec(`DELETE FROM _velosync_feed_reader WHERE id = ?`, id)
	return err
}

// A merging makes one change of several of a row.
type merging struct {
	f    *Feed
	rows []ChangedRow
	at   map[mergeKey]int
}

type mergeKey struct {
	rowKey
	remote bool
}

func (m *merging) add(tbl int64, op byte, pk change.Value, remote bool) error {
	d := m.f.d
	t := d.byID(tbl)
	if t == nil || pk == nil || op == 'B' || len(m.f.only) > 0 && !slices.ContainsFunc(m.f.only, func(n string) bool { return equalFold(n, t.d.Name) }) {
		return nil // of a table that is not tracked any more; or what a restored master gets again
	}
	what := map[byte]string{'I': "insert", 'D': "delete"}[op]
	switch op {
	case 'E', 'X': // about to be evicted, or not known any more: the row itself tells
		here, err := d.exists(t, pk)
		if err != nil {
			return err
		}
		if here && op == 'E' {
			return nil
		}
		if !here {
			what = "delete"
		}
	}
	if what == "" {
		what = "update"
	}
	k := mergeKey{keyFor(tbl, pk), remote}
	if i, found := m.at[k]; found {
		switch was := &m.rows[i].Op; {
		case *was == "delete" && what == "insert":
			*was = "update"
		case *was != "insert" || what == "delete":
			*was = what
		}
		return nil
	}
	key, err := change.SplitKey(pk, len(t.d.Key))
	if err != nil {
		return fmt.Errorf("key of a row of %q: %w", t.d.Name, err)
	}
	m.at[k] = len(m.rows)
	m.rows = append(m.rows, ChangedRow{Table: t.d.Name, Op: what, Key: anyOf(key), Remote: remote})
	return nil
}

func anyOf(values []change.Value) []any {
	list := make([]any, len(values))
	for i, v := range values {
		list[i] = v
	}
	return list
}
