package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	vsql "github.com/velosync/velosync/sql"
)

// tables returns the tables of a script as a device describes them. options are by table.
func tables(t testing.TB, script string, options map[string]change.Options) change.Schema {
	t.Helper()
	raw, err := (&sqlite3.SQLiteDriver{}).Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := vsql.NewConn(raw.(*sqlite3.SQLiteConn))
	defer c.Close()
	if err := c.Script(script); err != nil {
		t.Fatal(err)
	}
	schema := change.Schema{}
	err = c.Query(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`, nil, func(row []change.Value) error {
		d, err := c.Describe(row[0].(string))
		if err != nil {
			return err
		}
		d.Table.Options = options[d.Name]
		schema = append(schema, d.Table)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// values are a row's columns by name.
type values map[string]change.Value

// An edit is what a client pushes of one row.
type edit struct {
	table  string
	key    change.Value
	set    values // nil: a delete
	seen   change.Seq
	at     bool // seen is set
	lsn    change.LSN
	weight float64
	time   int64
	steps  []change.Step // of counters; by request
	whole  bool          // counters travel by their value
	made   change.LSN    // the row was made by it, in a table that renumbers
	was    bool          // before the table was tracked
	lost   bool          // a delete of a row that the master may have lost
}

func put(table string, key change.Value, set values) edit {
	return edit{table: table, key: key, set: set}
}

func del(table string, key change.Value) edit { return edit{table: table, key: key} }

// seeing sets what the edit's author had seen.
func (e edit) seeing(seq change.Seq) edit { e.seen, e.at = seq, true; return e }

// byValue says that the author does not know what it added to counters.
func (e edit) byValue() edit { e.whole = true; return e }

// ofLost says that the master may have lost the row.
func (e edit) ofLost() edit { e.lost = true; return e }

func (e edit) ranked(weight float64, time int64) edit { e.weight, e.time = weight, time; return e }

// A client is a device: it pushes edits at once and keeps the rows that it was sent.
type client struct {
	t      testing.TB
	space  store.Space
	owner  store.Owner
	id     change.DeviceID
	tables change.Schema // its own
	known  change.Schema // the space's
	names  []change.Name
	epochs []change.Epoch
	seen   change.Seq
	lsn    change.LSN
	now    int64
	doubt  change.LSN                         // steps up to here may be a copy's too
	rows   map[string]map[change.Value]values // by table and key
	parts  int                                // a push has so many parts
	drawn  uint64

	lost  []change.Conflict
	full  bool // the last pull was a snapshot
	pages int  // of the last pull
	saved int  // echo rows of the last pull
	total int  // rows that the last pull announced
	sent  int  // rows that it had
}

func newClient(t testing.TB, space store.Space, id byte, tables change.Schema) *client {
	return &client{t: t, space: space, id: change.DeviceID{id}, tables: tables, parts: 1, rows: make(map[string]map[change.Value]values)}
}

// copyOf returns the same file once more.
func (c *client) copyOf() *client {
	d := *c
	d.names, d.epochs = slices.Clone(c.names), slices.Clone(c.epochs)
	d.rows = make(map[string]map[change.Value]values)
	for name, rows := range c.rows {
		d.rows[name] = make(map[change.Value]values)
		for key, row := range rows {
			d.rows[name][key] = maps.Clone(row)
		}
	}
	d.drawn += 1 << 32
	return &d
}

// named draws the next push's name.
func (c *client) named() []change.Name {
	c.drawn++
	var n change.Name
	n[0] = c.id[0]
	binary.BigEndian.PutUint64(n[8:], c.drawn)
	c.names = append(c.names, n)
	return slices.Clone(c.names)
}

// request makes a push of edits, in parts.
func (c *client) request(edits ...edit) []*change.Push {
	c.t.Helper()
	first := change.Push{
		Device: c.id, Names: c.named(), Epochs: c.epochs, Seen: c.seen, Now: c.now,
		Schema: c.tables.Digest(), Tables: c.tables, Known: c.known.Digest(), Doubt: c.doubt,
	}
	var blocks []change.Block
	for _, e := range edits {
		c.lsn++
		if e.lsn == 0 {
			e.lsn = c.lsn
		}
		if e.lost {
			e.made = e.lsn
		}
		if !e.whole {
			e.steps = c.stepsOf(e)
		}
		c.write(e)
		blocks = c.add(blocks, e)
	}
	first.Through = c.lsn
	var parts []*change.Push
	for i := range c.parts {
		p := first
		p.Part, p.More = i, i < c.parts-1
		p.Blocks = blocks[i*len(blocks)/c.parts : (i+1)*len(blocks)/c.parts]
		parts = append(parts, &p)
	}
	return parts
}

// write changes the client's own row.
func (c *client) write(e edit) {
	if c.rows[e.table] == nil {
		c.rows[e.table] = make(map[change.Value]values)
	}
	if e.set == nil {
		delete(c.rows[e.table], e.key)
		return
	}
	row := c.rows[e.table][e.key]
	if row == nil {
		row = make(values)
		c.rows[e.table][e.key] = row
	}
	maps.Copy(row, e.set)
}

// stepsOf returns what an edit does to the counters and sets of the client's own row.
func (c *client) stepsOf(e edit) (steps []change.Step) {
	table := &c.tables[max(0, c.tables.Find(e.table))]
	registers := table.Registers()
	for _, r := range table.Counters(registers) {
		name := table.Columns[registers[r][0]].Name
		old, _ := c.rows[e.table][e.key][name].(int64)
		n, ok := e.set[name].(int64)
		if ok || e.set == nil {
			steps = append(steps, change.Step{Reg: r, LSN: e.lsn, By: n - old})
		}
	}
	if e.set == nil {
		return steps
	}
	seen := c.seen
	if e.at {
		seen = e.seen
	}
	for _, r := range table.Sets(registers) {
		name := table.Columns[registers[r][0]].Name
		v, ok := e.set[name]
		to, err := change.SetOf(v)
		if !ok || err != nil {
			continue
		}
		var s change.SetSteps
		row := c.rows[e.table][e.key]
		if row == nil {
			s.Make(e.lsn, seen)
		}
		from, err := change.SetOf(row[name])
		if err != nil {
			c.t.Fatal(err)
		}
		s.Change(from, to, e.lsn, seen)
		steps = append(steps, s.Steps(r)...)
	}
	return steps
}

// add adds an edit to the last block if it fits there.
func (c *client) add(blocks []change.Block, e edit) []change.Block {
	c.t.Helper()
	place := c.tables.Find(e.table)
	if place < 0 {
		c.t.Fatalf("no table %q", e.table)
	}
	table := &c.tables[place]
	registers := table.Registers()
	var regs change.Bits
	if e.set != nil {
		for r, cols := range registers {
			for _, col := range cols {
				if _, ok := e.set[table.Columns[col].Name]; ok {
					regs |= change.Bit(r)
				}
			}
			if len(cols) == 0 {
				regs |= change.Bit(r)
			}
		}
	}
	n := len(blocks) - 1
	if n < 0 || blocks[n].Table != place || blocks[n].Delete != (e.set == nil) || blocks[n].Regs != regs || c.parts > 1 {
		blocks = append(blocks, change.Block{Table: place, Delete: e.set == nil, Regs: regs, Columns: make([][]change.Value, len(change.ColumnsOf(registers, regs)))})
		n++
		if e.set == nil {
			blocks[n].Columns = nil
		}
	}
	b := &blocks[n]
	b.Keys = append(b.Keys, e.key)
	for i, col := range change.ColumnsOf(registers, regs) {
		v, ok := e.set[table.Columns[col].Name]
		if !ok {
			v = c.rows[e.table][e.key][table.Columns[col].Name] // a group ships whole
		}
		b.Columns[i] = append(b.Columns[i], v)
	}
	seen := c.seen
	if e.at {
		seen = e.seen
	}
	b.Stamps = append(b.Stamps, change.EditStamp{LSN: e.lsn, Seen: seen, Existence: seen, Time: e.time, Weight: e.weight, Steps: e.steps, Made: e.made, Present: e.was})
	return blocks
}

// send sends a push and returns the answer.
func (c *client) send(parts []*change.Push) (*change.Pull, error) {
	return c.space.Sync(context.Background(), c.owner, parts[len(parts)-1], each(parts))
}

func each(parts []*change.Push) iter.Seq2[*change.Push, error] {
	return func(yield func(*change.Push, error) bool) {
		for _, p := range parts {
			if !yield(p, nil) {
				return
			}
		}
	}
}

// push sends edits and fails the test where the master does.
func (c *client) push(edits ...edit) *change.Pull {
	c.t.Helper()
	pull, err := c.send(c.request(edits...))
	if err != nil {
		c.t.Fatalf("device %d: push: %v", c.id[0], err)
	}
	return pull
}

// next asks for the page after a pull.
func (c *client) next(pull *change.Pull) (*change.Pull, error) {
	p := &change.Push{Device: c.id, Names: slices.Clone(c.names), Epochs: c.epochs, Seen: c.seen, Now: c.now, Paging: true, Page: pull.To, Known: c.known.Digest()}
	return c.space.Sync(context.Background(), c.owner, p, each(nil))
}

// sync pushes edits, pulls all pages, applies them and acknowledges: a whole round.
func (c *client) sync(edits ...edit) {
	c.t.Helper()
	c.finish(c.push(edits...))
	if _, _, err := c.space.Ack(context.Background(), c.owner, c.id, c.seen, c.lsn); err != nil {
		c.t.Fatalf("device %d: ack: %v", c.id[0], err)
	}
}

// finish reads the pages that follow and applies them all.
func (c *client) finish(pull *change.Pull) {
	c.t.Helper()
	pages := []*change.Pull{pull}
	for !pull.Done {
		next, err := c.next(pull)
		if err != nil {
			c.t.Fatalf("device %d: page after %d: %v", c.id[0], pull.To, err)
		}
		if next.To <= pull.To || next.Full != pull.Full {
			c.t.Fatalf("device %d: page to %d (full %v) after one to %d (full %v)", c.id[0], next.To, next.Full, pull.To, pull.Full)
		}
		pull = next
		pages = append(pages, pull)
	}
	c.apply(pages)
}

func (c *client) apply(pages []*change.Pull) {
	c.t.Helper()
	last := pages[len(pages)-1]
	named := make(map[string]map[change.Value]bool)
	c.full, c.pages, c.saved, c.total, c.sent = last.Full, len(pages), 0, pages[0].Rows, 0
	for _, p := range pages {
		if p.Tables != nil {
			c.known = p.Tables
		}
		c.saved += p.Saved.EchoRows
		c.lost = append(c.lost, p.Lost...)
		seen := make(map[string]bool)
		for i := range p.Blocks {
			b := &p.Blocks[i]
			name := c.known[b.Table].Name
			if c.rows[name] == nil {
				c.rows[name] = make(map[change.Value]values)
			}
			if named[name] == nil {
				named[name] = make(map[change.Value]bool)
			}
			for j, key := range b.Keys {
				id := fmt.Sprintf("%s %T %v", name, key, key)
				if seen[id] {
					c.t.Fatalf("device %d: a page names row %s twice", c.id[0], id)
				}
				seen[id] = true
				named[name][key] = true
				c.sent++
				if b.Delete {
					delete(c.rows[name], key)
					continue
				}
				c.row(name, b, j)
			}
		}
	}
	if last.Full {
		for name, rows := range c.rows {
			for key := range rows {
				if !named[name][key] {
					delete(rows, key)
				}
			}
		}
	}
	for _, table := range c.known {
		for key, row := range c.rows[table.Name] {
			if len(row) != len(table.Columns)-len(table.Key) {
				c.t.Fatalf("device %d: has only part of row %v of %s: %v", c.id[0], key, table.Name, row)
			}
		}
	}
	c.seen, c.names = max(c.seen, last.To), c.names[len(c.names)-1:]
	c.epochs = nil
	for _, e := range last.Epochs {
		if e.First <= c.seen {
			c.epochs = append(c.epochs, e)
		}
	}
}

func (c *client) row(name string, b *change.Block, j int) {
	c.t.Helper()
	table := &c.known[b.Table]
	registers := table.Registers()
	row := c.rows[name][b.Keys[j]]
	if row == nil { // it may come whole in a later page of the same pull
		row = make(values)
		c.rows[name][b.Keys[j]] = row
	}
	for i, col := range change.ColumnsOf(registers, b.Regs) {
		row[table.Columns[col].Name] = b.Columns[i][j]
	}
}

// has checks the rows of a table against want, by key; nil values are rows without columns.
func (c *client) has(table string, want map[change.Value]values) {
	c.t.Helper()
	got := c.rows[table]
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("device %d: rows of %s are %v, want %v", c.id[0], table, got, want)
	}
}

// heard takes the conflicts heard so far and checks their kinds.
func (c *client) heard(kinds ...change.Kind) []change.Conflict {
	c.t.Helper()
	var got []change.Kind
	for _, l := range c.lost {
		got = append(got, l.Kind)
	}
	if !slices.Equal(got, kinds) {
		c.t.Errorf("device %d: heard of %v, want %v: %v", c.id[0], got, kinds, c.lost)
	}
	list := c.lost
	c.lost = nil
	if len(list) != len(kinds) {
		c.t.FailNow()
	}
	return list
}

// errorAs fails the test unless err is a T, which it returns.
func errorAs[T error](t testing.TB, err error) T {
	t.Helper()
	var e T
	if !errors.As(err, &e) {
		t.Fatalf("error is %v (%T), want %T", err, err, e)
	}
	return e
}
