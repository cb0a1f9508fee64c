package capture

import (
	"encoding/json"
	"errors"
	"fmt"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
)

// Version is the version of VeloSync, as velosync_version() answers it.
const Version = "0.1.0"

// Register adds the admin functions to a connection:
//
//	velosync_track(table [, options])   begin to log a table; options are JSON, see ParseOptions
//	velosync_untrack(table)             stop it
//	velosync_alter(table, what)         ALTER TABLE of a tracked table: 'ADD COLUMN …' or 'DROP COLUMN …'
//	velosync_touch(table, key…)         log a row by hand
//	velosync_resolve(id, side)          settle a conflict: 'mine' or 'theirs'
//	velosync_device()                   this file's id, 32 hex digits; NULL if nothing is tracked
//	velosync_clock(table, key…)         what a row stands on, JSON
//	velosync_doctor()                   what is wrong with the tracking, JSON
//	velosync_version()
//
// They run in the transaction of the statement that calls them.
func Register(conn *sqlite3.SQLiteConn, o Options) error {
	open := func(f func(d *Device) (any, error)) (_ any, err error) {
		d, err := existing(conn, o)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		return f(d)
	}
	functions := map[string]any{
		"velosync_track": func(table string, options ...string) (_ any, err error) {
			if len(options) > 1 {
				return nil, errors.New("velosync_track(table [, options]) takes one or two arguments")
			}
			var text string
			if len(options) == 1 {
				text = options[0]
			}
			opts, err := ParseOptions(text)
			if err != nil {
				return nil, err
			}
			d, err := Open(conn, o)
			if err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, d.Close()) }()
			if err := d.Track(table, opts); err != nil {
				return nil, err
			}
			return table, nil
		},
		"velosync_untrack": func(table string) (any, error) {
			return open(func(d *Device) (any, error) { return table, d.Untrack(table) })
		},
		"velosync_alter": func(table, what string) (any, error) {
			return open(func(d *Device) (any, error) { return table, d.Alter(table, what) })
		},
		"velosync_touch": func(table string, key ...any) (any, error) {
			return open(func(d *Device) (any, error) { return nil, d.Touch(table, values(key)...) })
		},
		"velosync_resolve": func(id int64, side string) (any, error) {
			return open(func(d *Device) (any, error) { return side, d.Resolve(id, side) })
		},
		"velosync_device": func() (any, error) {
			id, err := open(func(d *Device) (any, error) {
				s, err := d.State()
				return s.Device.String(), err
			})
			if errors.Is(err, ErrNotTracked) {
				return nil, nil
			}
			return id, err
		},
		"velosync_clock": func(table string, key ...any) (any, error) {
			return open(func(d *Device) (any, error) {
				c, err := d.Clock(table, values(key)...)
				if err != nil {
					return nil, err
				}
				return encodeClock(c), nil
			})
		},
		"velosync_doctor": func() (any, error) {
			return open(func(d *Device) (any, error) {
				findings, err := d.Doctor()
				if err != nil {
					return nil, err
				}
				if findings == nil {
					findings = []Finding{}
				}
				b, err := json.Marshal(findings)
				return string(b), err
			})
		},
		"velosync_version": func() string { return Version },
	}
	for name, f := range functions {
		if err := conn.RegisterFunc(name, f, false); err != nil {
			return fmt.Errorf("capture: register %s: %w", name, err)
		}
	}
	return nil
}

func values(args []any) []change.Value {
	v := make([]change.Value, len(args))
	for i, a := range args {
		v[i] = a
	}
	return v
}

// Clock returns what a row stands on here: the master's seq up to which this device has
// seen everything, and for a row with pending mutations, the smallest seq that one of them
// had seen and the lsn of the newest. key holds the values of the key columns.
func (d *Device) Clock(table string, key ...change.Value) (change.Clock, error) {
	t, err := d.find(table)
	if err != nil {
		return nil, err
	}
	s, err := d.State()
	if err != nil {
		return nil, err
	}
	pk, err := d.keyOf(t, key)
	if err != nil {
		return nil, err
	}
	clock := change.Clock{change.Master: uint64(s.Seen)}
	var seen, lsn int64
	_, err = d.c.Row(`SELECT min(seen), max(lsn) FROM _velosync_wal WHERE tbl = ? AND pk IS ? AND op NOT IN ('X', 'E')
		HAVING max(lsn) > ?`, []change.Value{t.id, pk, int64(s.Acked)}, &seen, &lsn)
	if err != nil {
		return nil, err
	}
	if lsn > 0 {
		clock[change.Master], clock[s.Device.String()] = uint64(seen), uint64(lsn)
	}
	return clock, nil
}
