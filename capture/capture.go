// Package capture logs every mutation of tracked tables and lays remote changes under
// what is not shipped yet.
//
// An application needs one statement of it, on a connection of package driver:
//
//	SELECT velosync_track('notes')
//
// From then on triggers of built-in SQL functions log each mutation, whoever writes, in
// the mutation's own transaction. A replicator turns the log into pushes and applies
// what comes back:
//
//	d, err := capture.Open(conn, capture.Options{})
//	round, err := d.Begin(reader, name, false)   // the fence
//	for part, err := range round.Parts(limits) { … } // what is pending
//	result, err := d.Finish(round, pulls)        // one local transaction
package capture

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// Options are what a test wants to replace. The zero value is ready to use.
type Options struct {
	// Now is the device's clock; nil means time.Now. Triggers read SQLite's own.
	Now func() time.Time
	// Random draws device ids; nil means crypto/rand.Reader.
	Random io.Reader
	// Log receives what is worth telling; nil means slog.Default().
	Log *slog.Logger
	// CompactAbove is how many rows the log may have before Compact folds it. Zero means
	// 200,000.
	CompactAbove int
}

func (o Options) defaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.CompactAbove <= 0 {
		o.CompactAbove = 200_000
	}
	return o
}

// ErrNotTracked is returned where a database, or a table, is not tracked.
var ErrNotTracked = errors.New("capture: not tracked: SELECT velosync_track('table') begins it")

// A FormatError reports a file that a newer version of this program has written.
type FormatError struct{ Got, Want int }

func (e *FormatError) Error() string {
	return fmt.Sprintf("capture: this file has format %d of VeloSync's tables, this program knows %d: update the program", e.Got, e.Want)
}

const format = 1

// A Device is one database file with tracked tables, seen through one connection. It is
// for one goroutine at a time.
type Device struct {
	c *vsql.Conn
	o Options

	tables        []*table                     // tracked, by name
	schemaVersion int64                        // of the file when tables was read
	tablesHash    int64                        // total of _velosync_table when tables was read
	references    map[string][]reference       // foreign keys when tables was read, by the lower name of the table referred to
	untracked     map[string][]vsql.ForeignKey // of tables that are not tracked, by the table's lower name
	failed        bool                         // a write or a sync has failed, see renewLog
	mended        bool                         // all triggers were as they are to be, at that schemaVersion
	calm          int64                        // schemaVersion when the user's triggers were last found harmless
	loud          bool                         // some of them write to tracked tables
	notes         *feedNotes
}

// A table is a tracked table as this device has it.
type table struct {
	id        int64
	d         *vsql.Declaration
	registers [][]int // positions in d.Columns
	weight    int     // position of the weight column, -1: none
	counters  []int   // registers
	sets      []int   // registers
	foreign   []vsql.ForeignKey

	selected     string // by selectRegisters, for selectedRegs
	selectedRegs change.Bits
}

// Open returns the device of a connection, and makes VeloSync's own tables if the file
// has none. The connection stays the caller's; Close gives back what Open prepared.
func Open(conn *sqlite3.SQLiteConn, o Options) (*Device, error) {
	d := &Device{c: vsql.NewConn(conn), o: o.defaults()}
	if err := d.install(); err != nil {
		return nil, errors.Join(fmt.Errorf("capture: open device: %w", err), d.Close())
	}
	return d, nil
}

// existing is Open for readers: it makes nothing, and returns ErrNotTracked where there
// is no device.
func existing(conn *sqlite3.SQLiteConn, o Options) (*Device, error) {
	d := &Device{c: vsql.NewConn(conn), o: o.defaults()}
	found, err := d.installed()
	if err == nil && !found {
		err = ErrNotTracked
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close finalizes the device's statements. The connection stays open.
func (d *Device) Close() error { return d.c.Close() }

func (d *Device) installed() (bool, error) {
	var n int
	if _, err := d.c.Row(`SELECT count(*) FROM main.sqlite_schema WHERE name = '_velosync_state'`, nil, &n); err != nil {
		return false, err
	}
	if n == 0 {
		return false, nil
	}
	var got int
	found, err := d.c.Row(`SELECT format FROM _velosync_state`, nil, &got)
	if err == nil && found && got != format {
		err = &FormatError{Got: got, Want: format}
	}
	return found, err
}

// install makes VeloSync's tables and draws the device's id, unless both are there.
func (d *Device) install() error {
	if found, err := d.installed(); found || err != nil {
		return err
	}
	id, err := change.NewDeviceID(d.o.Random)
	if err != nil {
		return err
	}
	return d.c.Atomic("velosync_install", func() error {
		for _, file := range []string{"0001_state.sql", "0002_wal.sql", "0003_conflict.sql", "0004_views.sql", "0006_digest.sql"} {
			if err := d.c.Script(vsql.Device(file)); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
		// Another process may have been first: its row stays.
		if _, err := d.c.Exec(`INSERT OR IGNORE INTO _velosync_state(id, format, device) VALUES (1, ?, ?)`, int64(format), id[:]); err != nil {
			return err
		}
		_, err := d.c.Exec(`INSERT OR IGNORE INTO _velosync_sync(id) VALUES (1)`)
		return err
	})
}

// State is where a device stands.
type State struct {
	Device change.DeviceID
	Seen   change.Seq
	Acked  change.LSN
	Sent   change.LSN
	Folded int64 // how often the log was compacted in place
}

// State reads where the device stands.
func (d *Device) State() (State, error) {
	var s State
	var id []byte
	var seen, acked, sent int64
	found, err := d.c.Row(`SELECT device, seen, acked, sent, folded FROM _velosync_state`, nil, &id, &seen, &acked, &sent, &s.Folded)
	switch {
	case err != nil:
		return s, fmt.Errorf("read device state: %w", err)
	case !found || len(id) != len(s.Device):
		return s, fmt.Errorf("read device state: %w", ErrNotTracked)
	}
	copy(s.Device[:], id)
	s.Seen, s.Acked, s.Sent = change.Seq(seen), change.LSN(acked), change.LSN(sent)
	return s, nil
}

// Pending reports whether anything waits to be shipped.
func (d *Device) Pending() (bool, error) {
	var n int
	_, err := d.c.Row(`SELECT EXISTS (SELECT 1 FROM _velosync_wal WHERE lsn > (SELECT acked FROM _velosync_state) AND op <> 'X')`, nil, &n)
	return n != 0, err
}

// Unsent reports whether a round has something to bring to the master: what is pending, or
// a tracked table that the space, as this device knows it, has not.
func (d *Device) Unsent() (bool, error) {
	if pending, err := d.Pending(); pending || err != nil {
		return pending, err
	}
	var n int
	_, err := d.c.Row(`SELECT EXISTS (SELECT 1 FROM _velosync_table t WHERE NOT EXISTS (
		SELECT 1 FROM _velosync_sync y, json_each(y.tables) j WHERE lower(json_extract(j.value, '$.Name')) = lower(t.name)))`, nil, &n)
	return n != 0, err
}

// versions returns two numbers that move when the file's schema changes, and when the
// tracked tables do.
func (d *Device) versions() (schema, tables int64, err error) {
	if _, err := d.c.Row(`SELECT schema_version FROM pragma_schema_version`, nil, &schema); err != nil {
		return 0, 0, err
	}
	_, err = d.c.Row(`SELECT coalesce(sum(id * 1000003 + length(name) * 31 + length(options)), 0) FROM _velosync_table`, nil, &tables)
	return schema, tables, err
}

// unchanged reports whether the tracked tables are as they were last read.
func (d *Device) unchanged() (bool, error) {
	schema, tables, err := d.versions()
	return d.tables != nil && schema == d.schemaVersion && tables == d.tablesHash, err
}

// refresh reads the tracked tables again if they, or the file's schema, changed.
func (d *Device) refresh() error {
	version, hash, err := d.versions()
	if err != nil || d.tables != nil && version == d.schemaVersion && hash == d.tablesHash {
		return err
	}
	d.mended = false
	type row struct {
		id            int64
		name, options string
	}
	var rows []row
	err = d.c.Query(`SELECT id, name, options FROM _velosync_table ORDER BY name`, nil, func(v []change.Value) error {
		rows = append(rows, row{v[0].(int64), v[1].(string), v[2].(string)})
		return nil
	})
	if err != nil {
		return err
	}
	tables := make([]*table, 0, len(rows))
	for _, r := range rows {
		t, err := d.describe(r.id, r.name, r.options)
		if err != nil {
			return fmt.Errorf("tracked table %q: %w (if it was dropped on purpose: SELECT velosync_untrack(%s))", r.name, err, vsql.QuoteText(r.name))
		}
		tables = append(tables, t)
	}
	d.tables = tables
	if err := d.readReferences(); err != nil {
		d.tables = nil
		return err
	}
	d.schemaVersion, d.tablesHash = version, hash
	return nil
}

func (d *Device) describe(id int64, name, options string) (*table, error) {
	decl, err := d.c.Describe(name)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(options), &decl.Options); err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	t := &table{id: id, d: decl, registers: decl.Registers(), weight: -1}
	t.counters, t.sets = decl.Counters(t.registers), decl.Sets(t.registers)
	if decl.Options.Weight != "" {
		t.weight = decl.Find(decl.Options.Weight)
	}
	if decl.References {
		if t.foreign, err = d.c.ForeignKeys(decl.Name); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Tables returns the tracked tables, by name.
func (d *Device) Tables() (change.Schema, error) {
	if err := d.refresh(); err != nil {
		return nil, err
	}
	schema := make(change.Schema, len(d.tables))
	for i, t := range d.tables {
		schema[i] = t.d.Table
	}
	return schema, nil
}

// find returns a tracked table by name.
func (d *Device) find(name string) (*table, error) {
	if err := d.refresh(); err != nil {
		return nil, err
	}
	for _, t := range d.tables {
		if equalFold(t.d.Name, name) {
			return t, nil
		}
	}
	return nil, fmt.Errorf("table %q: %w", name, ErrNotTracked)
}

func (d *Device) byID(id int64) *table {
	for _, t := range d.tables {
		if t.id == id {
			return t
		}
	}
	return nil
}

func (d *Device) now() int64 { return d.o.Now().UnixMilli() }

// DataVersion returns a number that moves when another connection commits to the file.
func (d *Device) DataVersion() (version int64, err error) {
	_, err = d.c.Row(`SELECT data_version FROM pragma_data_version`, nil, &version)
	return version, err
}
