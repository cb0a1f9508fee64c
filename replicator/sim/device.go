package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/replicator/sim/disk"
	"github.com/velosync/velosync/replicator/wire"
	vsql "github.com/velosync/velosync/sql"
)

// A device is a database file with its application and its replicator, and beside them
// what the model says of it.
type device struct {
	w        *world
	n        int
	file     string
	disk     *disk.Disk // nil: it does not fail
	fault    string     // of the disk, under way
	skew     int64      // its clock's, ms
	busy     bool       // in a round
	requests int        // of the round
	twinned  bool       // a second replicator is in a round
	locked   bool       // the replicator keeps a second one off
	rotten   bool       // rows of it were damaged
	asked    bool       // for a snapshot, since it was opened

	r   *replicator.Replicator
	app *vsql.Conn // nil: closed

	id       change.DeviceID
	hasTable bool
	hasLater bool // the column that comes later
	mended   bool // its triggers know that column
	held     bool // a round was complete since
	seen     change.Seq
	acked    change.LSN
	last     change.LSN // the newest mutation
	rows     map[string][]*event
	know     map[string]knowledge
	log      []mutation // past acked
	byLSN    map[change.LSN][]*event
	begun    snapshot // as the round's push was read
	pasts    []past   // the model at each commit, for a power cut
	cut      bool     // there was one
	parts    []*change.Push
	adds     []addition // all that it ever wrote
	counts   map[string]tally
	tags     map[string]tagged // what it knows of the sets
	tree     tree
}

// A knowledge is what the device has seen of a row: the lineage of what stands, or stood,
// in each register, and the deletes.
type knowledge struct {
	regs  []set
	exist set
	// hidden is what stands behind the column that the device has not yet: its deletes
	// have seen it.
	hidden set
	// behind is what was hidden from a delete here: one that follows it has seen it too.
	behind set
}

// A mutation is a row of the log.
type mutation struct {
	lsn    change.LSN
	key    string
	op     string
	cols   change.Bits
	at     int64
	weight float64 // of a deleted row
}

// A snapshot is what a push has to carry.
type snapshot struct {
	rows  map[string][]*event
	log   []mutation
	seen  change.Seq
	acked change.LSN
	last  change.LSN
	regs  change.Bits // that the device had
	tree  tree
}

func newDevice(w *world, n int, withTable bool) *device {
	d := &device{w: w, n: n, rows: make(map[string][]*event), know: make(map[string]knowledge), byLSN: make(map[change.LSN][]*event), counts: make(map[string]tally), tags: make(map[string]tagged), tree: tree{know: make(map[treeKey]set)}}
	d.skew = w.drawSkew()
	d.place()
	for _, key := range w.shape.keys {
		d.know[key] = knowledge{regs: make([]set, len(w.shape.regs))}
	}
	d.open()
	if withTable {
		options := fmt.Sprintf(`{"groups":%s}`, w.shape.groups)
		if w.shape.weighted {
			options = fmt.Sprintf(`{"groups":%s,"weight":"w"}`, w.shape.groups)
		}
		w.must(d.app.Script(w.shape.key.table), "make the table")
		d.trackCounts()
		d.makeTree()
		w.must(d.app.Query(`SELECT velosync_track('notes', ?)`, []change.Value{options}, func([]change.Value) error { return nil }), "track")
		d.hasTable = true
	}
	d.forgetDisk() // set up in peace
	d.remember()
	return d
}

func (d *device) String() string { return fmt.Sprintf("d%d", d.n) }

func (d *device) now() time.Time { return time.UnixMilli(d.w.now + d.skew) }

func (d *device) open() {
	w := d.w
	r, err := replicator.New(d.file, d.options())
	w.must(err, fmt.Sprintf("open the replicator of %s", d))
	d.r, d.locked, d.asked = r, true, false
	c, err := driver.NewConnector(d.file)
	w.must(err, "read the file's name")
	conn, err := c.Connect(context.Background())
	w.must(err, fmt.Sprintf("open the application of %s", d))
	d.app = vsql.NewConn(conn.(*sqlite3.SQLiteConn))
	if d.disk == nil {
		w.must(d.app.Script("PRAGMA synchronous = OFF"), "turn waiting for the disk off")
	}
	if d.id.IsZero() {
		d.id, _, _ = d.state()
	}
}

// options are those of the device's replicator.
func (d *device) options() replicator.Options {
	every := -1
	if d.w.o.Digests {
		every = 1
	}
	return replicator.Options{
		Master: "http://localhost", Space: space, Transport: &link{d}, Now: d.now, Random: d.w.random, Log: slog.New(slog.DiscardHandler),
		DigestEvery: every, DigestRows: 3, Ended: d.ended,
		Step: d.stepOf, Parts: capture.Limits{Rows: d.w.shape.parts}, CompactAbove: d.w.shape.compact,
		// One thing at a time: the same seed is the same history.
		Lockstep: true, Retry: replicator.Retry{Times: d.w.shape.retries, Pause: 1},
	}
}

func (d *device) close() error {
	if d.app == nil {
		return nil
	}
	app := d.app
	d.app = nil
	return errors.Join(d.r.Close(), app.Close(), app.Raw().Close())
}

// reopen ends the device's process, so to speak, and starts it again.
func (d *device) reopen() {
	if d.busy {
		return
	}
	d.w.must(d.close(), fmt.Sprintf("close %s", d))
	d.leaveKept()
	d.open()
	d.look("opened again")
}

func (d *device) state() (id change.DeviceID, seen change.Seq, acked change.LSN) {
	var b []byte
	var s, a int64
	_, err := d.app.Row(`SELECT device, seen, acked FROM _velosync_state`, nil, &b, &s, &a)
	d.w.must(err, fmt.Sprintf("read the state of %s", d))
	copy(id[:], b)
	return id, change.Seq(s), change.LSN(a)
}

// table reads what an application sees.
func (d *device) table() map[string][]*event {
	if !d.hasTable {
		var n int
		_, err := d.app.Row(`SELECT count(*) FROM sqlite_schema WHERE name = 'notes'`, nil, &n)
		d.w.must(err, "look for the table")
		if d.hasTable = n > 0; !d.hasTable {
			return map[string][]*event{}
		}
		d.hasLater = d.w.hasColumn(d.app)
		d.mended, d.held = d.hasLater, d.hasLater
	}
	return d.w.readTable(d.app, d.String(), d.hasLater, nil)
}

// readTable reads a table; missing stands for the column that comes later, where it did not.
func (w *world) readTable(c *vsql.Conn, where string, hasLater bool, missing *event) map[string][]*event {
	rows := make(map[string][]*event)
	n := len(w.shape.keyValues(w.shape.keys[0]))
	later := ", NULL"
	if hasLater {
		later = ", " + laterColumn
	}
	err := c.Query("SELECT "+w.shape.key.columns+", a, b, c, w"+later+" FROM notes", nil, func(v []change.Value) error {
		at := slices.IndexFunc(w.shape.keys, func(key string) bool { return textOf(w.shape.keyValues(key)) == textOf(v[:n]) })
		if at < 0 {
			return fmt.Errorf("there is a row %v, which nobody wrote", v[:n])
		}
		key := w.shape.keys[at]
		rows[key] = w.versionsOf(where, key, v[n:], hasLater, missing)
		return nil
	})
	w.must(err, "read the table of "+where)
	return rows
}

// look compares the file with the model, and moves the model on if the file has taken an
// answer.
func (d *device) look(when string) {
	w := d.w
	id, seen, acked := d.state()
	switch {
	case id != d.id && (w.life != nil || d.cut):
		if w.life == nil {
			w.forked(d)
		}
		d.renamed(when, id, seen, acked)
	case id != d.id:
		w.fail("%s, %s: the file took a new device id, though nobody copied it", d, when)
	}
	defer d.remember()
	rows := d.table()
	d.lookCounts(when, seen, acked)
	d.lookTree(when, seen, acked)
	if seen != d.seen || acked != d.acked || d.filled() {
		d.move(when, seen, acked, rows)
		return
	}
	for _, key := range w.shape.keys {
		if got, want := rows[key], d.rows[key]; !slices.Equal(got, want) {
			w.fail("%s, %s: row %s is %s, want %s: nothing was applied since", d, when, key, w.shape.show(got), w.shape.show(want))
		}
	}
}

// move is what an answer has to do: under what is still pending, the device shows what the
// master had at seen, all of it and nothing else.
func (d *device) move(when string, seen change.Seq, acked change.LSN, rows map[string][]*event) {
	w := d.w
	if seen < d.seen || acked < d.acked || acked > d.last {
		w.fail("%s, %s: seen goes from %d to %d, acked from %d to %d, the log ends at %d", d, when, d.seen, seen, d.acked, acked, d.last)
	}
	theirs, ok := w.master.at[seen]
	if !ok {
		w.fail("%s, %s: has seen %d, where no push of the master ends", d, when, seen)
	}
	if w.life != nil {
		d.rejected(when, seen)
	}
	pending := pendingOf(d.log, acked)
	for _, key := range w.shape.keys {
		local, remote := d.rows[key], d.shown(theirs[key])
		later, isPending := pending[key]
		want := slices.Clone(local)
		switch {
		case !isPending:
			want = remote
		case local != nil && remote != nil:
			for r := range want {
				if !later.Has(r) {
					want[r] = remote[r]
				}
			}
		}
		if got := rows[key]; !slices.Equal(got, want) {
			w.fail("%s, %s: seen %d, row %s is %s, want %s (it was %s, the master has %s, registers written since the push %b)",
				d, when, seen, key, w.shape.show(got), w.shape.show(want), w.shape.show(local), w.shape.show(remote), later)
		}
		d.rows[key] = want
		d.learn(key, seen, later, isPending, theirs[key])
	}
	d.held = d.held || d.hasLater
	d.seen, d.acked = seen, acked
	d.log = slices.DeleteFunc(d.log, func(m mutation) bool { return m.lsn <= acked })
	w.say("%s has seen %d, acked %d", d, seen, acked)
	if w.life == nil {
		d.checkWhole(when, pending)
	}
}

// learn adds what an answer has shown of a row.
func (d *device) learn(key string, seen change.Seq, later change.Bits, pending bool, remote []*event) {
	k := d.know[key]
	regs := slices.Clone(k.regs)
	past := d.w.master.pastOf(key, seen)
	blind := d.w.shape.alters && !d.hasLater
	x := d.w.shape.later()
	switch {
	case remote == nil && !pending: // all that ever was of the row is behind its delete
		for r := range regs {
			regs[r] = regs[r].or(past.regs[r])
		}
		k.exist = k.exist.or(past.exist)
	case remote == nil: // what stands here is as old as it was
	case d.rows[key] == nil: // deleted here, the master does not know yet
	default:
		for r := range regs {
			if !later.Has(r) {
				regs[r] = regs[r].or(remote[r].known)
			}
		}
		if !pending {
			k.exist = k.exist.or(past.exist)
		}
	}
	if blind {
		if !pending {
			k.hidden = k.hidden.or(regs[x])
		}
		regs[x] = k.regs[x]
	} else {
		k.hidden = nil
	}
	k.regs = regs
	d.know[key] = k
}

// pendingOf returns the rows with mutations past acked, and the registers that they wrote.
func pendingOf(log []mutation, acked change.LSN) map[string]change.Bits {
	pending := make(map[string]change.Bits)
	for _, m := range log {
		if m.lsn > acked {
			pending[m.key] |= m.cols
		}
	}
	return pending
}

// checkWhole checks that the device does not show half of another's transaction: where it
// shows a row of one, no other row of it is as it was before.
func (d *device) checkWhole(when string, pending map[string]change.Bits) {
	w := d.w
	for key, row := range d.rows {
		for _, e := range row {
			if e == nil || e == unset || e.d == d {
				continue
			}
			for _, o := range w.transacts[e.txn] {
				if _, mine := pending[o.key]; mine || o.key == key {
					continue
				}
				there, half := d.rows[o.key], !w.settled.has(o.id)
				switch {
				case there == nil || !w.shipped.has(o.id): // gone again, or its author wrote over it before it was sent
				case o.isDelete():
					for r, v := range there {
						half = half || v != nil && o.regs[r].has(v.id) && !w.master.lost[o.id] && !w.followed(o)
					}
				case there[o.reg] == nil: // it has not the column
				default:
					half = half || there[o.reg] != o && o.known.has(there[o.reg].id)
				}
				if half {
					w.fail("%s, %s: shows %s, but of the same transaction not %s: row %s is %s", d, when, e.describe(), o.describe(), o.key, w.shape.show(there))
				}
			}
		}
	}
}

// followed reports whether the master had something of a row whose author had seen a
// delete of it.
func (w *world) followed(e *event) bool {
	return slices.ContainsFunc(w.events, func(o *event) bool {
		return o != e && o.key == e.key && o.exist.has(e.id) && w.shipped.has(o.id)
	})
}

var errCrash = errors.New("the device crashes")

// stepOf is called before each step of a round.
func (d *device) stepOf(name string) error {
	w := d.w
	if name == "begin" {
		d.parts = nil
	}
	if d.rotten {
		return nil
	}
	d.look("before " + name)
	if !w.calm {
		d.jump(.05, "before "+name)
		if w.life != nil {
			w.life.during(d, name)
		}
		if w.chance(.2) {
			w.fault("write during " + name)
			d.write()
		}
		if w.shape.alters && w.chance(.02) {
			w.fault("column added during " + name)
			d.alter()
		}
		if w.forest != nil && w.treeChance(.015) {
			w.fault("items altered during " + name)
			d.alterTree()
		}
		if w.chance(.06) {
			w.others(d, name)
		}
		d.twin(name)
		if w.chance(.01) {
			w.fault("master restarted during a round")
			w.master.crash()
		}
		if w.chance(.04) {
			w.fault("crash before " + name)
			w.say("%s crashes before %s", d, name)
			return errCrash
		}
	}
	if name == "begin" {
		d.mend()
		d.begun = snapshot{rows: make(map[string][]*event), log: slices.Clone(d.log), seen: d.seen, acked: d.acked, last: d.last, regs: d.written(), tree: d.tree}
		for key, row := range d.rows {
			d.begun.rows[key] = row
		}
	}
	return nil
}

// others lets another device write and sync while d is in a round.
func (w *world) others(d *device, when string) {
	if w.depth >= 3 {
		return
	}
	o := w.devices[w.rng.IntN(len(w.devices))]
	if o.busy {
		return
	}
	w.fault("others move during " + when)
	if w.chance(.5) {
		o.write()
	}
	o.sync()
}

// sync runs a round.
func (d *device) sync() replicator.Round {
	w := d.w
	if d.busy {
		return replicator.Round{}
	}
	d.look("before a round")
	w.say("%s syncs", d)
	d.busy, d.requests = true, 0
	w.depth++
	d.breakDisk("a round", .12, 60)
	r, err := d.r.Sync(context.Background())
	broken := d.healDisk("a round") > 0
	w.depth--
	d.busy = false
	d.look("after a round")
	w.work("rounds", 1)
	var problem *wire.Problem
	switch {
	case err == nil:
		w.work("complete rounds", 1)
		w.work("pages", r.Pages)
		w.say("%s is done: %d rows out, %d in, %d lost", d, r.PushedRows, r.PulledRows, r.LostRows)
	case w.calm:
		w.fail("%s can't sync in peace: %v", d, err)
	case errors.Is(err, errCrash):
		if w.disks && w.chance(.4) {
			d.cutPower()
		} else {
			d.reopen()
		}
	case broken && isDiskError(err):
		w.say("%s gives up: %v", d, err)
	case errors.Is(err, replicator.ErrOffline), errors.Is(err, wire.ErrDigest):
		w.say("%s gives up: no answer", d)
		d.endHalfway()
	case errors.As(err, &problem) && refusedNow(problem):
		w.say("%s gives up: %d %s", d, problem.Status, problem.Code)
	default:
		w.fail("%s: round: %v", d, err)
	}
	return r
}

// checkHealed checks that the device is the master's equal.
func (d *device) checkHealed(rows map[string][]*event) {
	w := d.w
	var pending, parked int
	_, err := d.app.Row(`SELECT pending, parked FROM velosync_status`, nil, &pending, &parked)
	w.must(err, "read velosync_status")
	if pending > 0 || parked > 0 {
		w.fail("%s, healed: %d rows pending, %d parked", d, pending, parked)
	}
	d.checkCounters()
	mine := d.table()
	for _, key := range w.shape.keys {
		if !slices.Equal(mine[key], d.shown(rows[key])) {
			w.fail("%s, healed: row %s is %s, the master has %s", d, key, w.shape.show(mine[key]), w.shape.show(rows[key]))
		}
	}
	if w.life != nil {
		return // a file that went back has heard of other conflicts than the master that it meets tells of
	}
	type row struct {
		id, seq        int64
		key, kind, why string
		mine           string
	}
	var got []row
	err = d.app.Query(`SELECT master_id, seq, +pk, kind, rule, coalesce(mine, '') FROM _velosync_conflict WHERE tbl IN ('notes', 'counts') ORDER BY seq, master_id`, nil, func(v []change.Value) error {
		got = append(got, row{v[0].(int64), v[1].(int64), w.name(v[2]), v[3].(string), v[4].(string), v[5].(string)})
		return nil
	})
	w.must(err, "read the conflicts of "+d.String())
	want := w.master.lostBy[d.id]
	if len(got) != len(want) {
		w.fail("%s, healed: heard of %d conflicts, it lost %d", d, len(got), len(want))
	}
	for i, c := range want {
		g := got[i]
		if g.id != c.id || g.seq != c.seq || g.key != c.key || g.kind != c.kind || g.why != c.rule {
			w.fail("%s, healed: conflict %d is %v, want %v", d, i, g, c)
		}
		for _, v := range c.lost {
			if s, ok := v.(string); ok && !strings.Contains(g.mine, s) {
				w.fail("%s, healed: conflict %d keeps %s, it lost %s", d, c.id, g.mine, s)
			}
		}
	}
}
