package sim

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

// In a run with Options.Life files go back in time: devices' and the master's are restored
// from older copies, a device's file is copied, deletes are forgotten before all have
// heard of them. No model can say then which of two versions the system has to call
// concurrent: what a file forgot, it can't know that it had seen. So the master is not
// predicted. What holds all the same is checked: a device shows what the master has under
// what is pending, nothing that nobody wrote is shown, no group is torn, all become equal
// with empty queues, and each version and delete is current, stood under one that is, or
// is in a conflict log, unless the only disks that held it are gone.

// A lifeKind is a fault of a file.
type lifeKind string

const (
	deviceRestored lifeKind = "device file restored from an older copy"
	deviceCopied   lifeKind = "device file copied"
	masterRestored lifeKind = "master restored from an older backup"
	forgotten      lifeKind = "tombstones forgotten by force"
)

// A life is what a run with Options.Life keeps beside the rest.
type life struct {
	kinds  []lifeKind
	copies map[int]*fileCopy
	backup *masterCopy
	files  int

	forked, restored bool
	deleting         bool // the application does nothing else
	gone             set  // events whose disks are gone
	logged           set  // events that came to a conflict log, ever, or are over with a forgotten delete
}

// A fileCopy is a device's file as it was, and the model of it.
type fileCopy struct {
	path string
	d    device
}

// A masterCopy is a backup of the master.
type masterCopy struct {
	path string
	m    master
}

func newLife(w *world) *life {
	l := &life{copies: make(map[int]*fileCopy)}
	all := []lifeKind{deviceRestored, deviceCopied, masterRestored, forgotten}
	for len(l.kinds) == 0 {
		for _, k := range all {
			if w.chance(.45) {
				l.kinds = append(l.kinds, k)
			}
		}
	}
	return l
}

// live does something to a file, between rounds.
func (w *world) live() {
	l := w.life
	d := w.devices[w.rng.IntN(len(w.devices))]
	if w.chance(.35) {
		l.copies[d.n] = d.fileCopy()
	}
	if w.chance(.3) {
		l.backup = w.master.backup()
	}
	kind := l.kinds[w.rng.IntN(len(l.kinds))]
	if !w.chance(.4) {
		return
	}
	switch {
	case kind == deviceRestored && l.copies[d.n] != nil:
		w.say("%s is restored from an older copy", d)
		old := *d
		d.restore(l.copies[d.n])
		w.takeAway(&old, d)
	case kind == deviceCopied && len(w.devices) < 6:
		o := &device{}
		*o = d.clone()
		o.n = len(w.devices)
		o.place()
		w.say("the file of %s is copied: %s", d, o)
		w.must(copyFile(d.file, o.file), "copy a device's file")
		d.copyKept(o)
		o.forgetDisk()
		o.open()
		o.remember()
		w.devices = append(w.devices, o)
	case kind == masterRestored && l.backup != nil:
		w.restoreMaster()
	case kind == forgotten:
		l.deleting = true
		d.write()
		l.deleting = false
		d.sync()
		w.say("100 days pass, without a sign of most devices")
		w.now += 100 * 86_400_000
		for range 2 {
			d.sync()
			w.now += 90_000
			d.write()
		}
		d.sync()
	default:
		return
	}
	w.fault(string(kind))
}

func (w *world) restoreMaster() {
	l := w.life
	w.say("the master, at head %d, is restored from an older backup, of head %d", w.master.head, l.backup.m.head)
	l.restored = true
	w.master.restore(l.backup)
	w.takeAway(nil, nil)
}

// during restores the master before a step of a round, but where the device holds an
// answer already.
func (l *life) during(d *device, step string) {
	w := d.w
	chances := map[string]float64{"push": .02, "part": .02, "page": .02, "compare": .1, "reconcile": .1}
	switch step {
	case "compare", "reconcile":
		if w.depth == 1 && w.chance(.4) {
			l.backup = w.master.backup() // of the same epoch as the comparison
			return
		}
	case "push":
		var compared int64
		_, err := d.app.Row(`SELECT compared FROM _velosync_sync`, nil, &compared)
		w.must(err, "look for a comparison")
		if compared > 0 {
			chances[step] = .2
		}
	}
	if w.depth > 1 || l.backup == nil || !slices.Contains(l.kinds, masterRestored) || !w.chance(chances[step]) {
		return
	}
	w.fault("master restored before " + step)
	w.restoreMaster()
}

// copyFile copies a database that nobody writes to, its write-ahead log with it.
func copyFile(from, to string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		err := os.Remove(to + suffix)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if suffix == "-shm" {
			continue
		}
		b, err := os.ReadFile(from + suffix)
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = os.WriteFile(to+suffix, b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// clone returns the model of a device, for another file.
func (d *device) clone() device {
	o := *d
	o.r, o.app = nil, nil
	o.rows, o.know, o.byLSN = maps.Clone(d.rows), maps.Clone(d.know), maps.Clone(d.byLSN)
	o.log, o.parts, o.pasts = slices.Clone(d.log), nil, nil
	return o
}

func (d *device) fileCopy() *fileCopy {
	w := d.w
	w.life.files++
	c := &fileCopy{path: w.path(fmt.Sprintf("copy%d.db", w.life.files)), d: d.clone()}
	w.must(copyFile(d.file, c.path), "copy a device's file")
	w.say("a copy of %s is put aside", d)
	return c
}

func (d *device) restore(c *fileCopy) {
	w := d.w
	w.must(d.close(), "close "+d.String())
	w.must(copyFile(c.path, d.file), "restore a device's file")
	d.leaveKept()
	d.forgetDisk()
	place, disk := d.file, d.disk
	*d = c.d.clone()
	d.file, d.disk = place, disk
	delete(w.sent, sender{d.n, d.id})
	d.open()
	d.look("restored")
}

// backup copies the master's files as they are.
func (m *master) backup() *masterCopy {
	w := m.w
	w.life.files++
	c := &masterCopy{path: w.path(fmt.Sprintf("backup%d", w.life.files)), m: m.clone()}
	for _, sub := range []string{"", "spaces"} {
		w.must(copyFiles(filepath.Join(m.dir, sub), filepath.Join(c.path, sub)), "back the master up")
	}
	w.say("the master is backed up at head %d", m.head)
	return c
}

func (m *master) clone() master {
	o := *m
	o.at, o.past = maps.Clone(m.at), maps.Clone(m.past)
	o.trees, o.treePast = maps.Clone(m.trees), maps.Clone(m.treePast)
	o.parts = make(map[change.DeviceID]*upload)
	for key, list := range o.past {
		o.past[key] = slices.Clip(list)
	}
	return o
}

// restore puts a backup in the place of the master's files.
func (m *master) restore(c *masterCopy) {
	w := m.w
	w.must(m.close(), "close the master")
	w.must(os.RemoveAll(m.dir), "remove the master's files")
	opened := m.opened + 1
	*m = c.m.clone()
	m.opened, m.watch = opened, nil
	m.dir = m.place()
	for _, sub := range []string{"", "spaces"} {
		w.must(copyFiles(filepath.Join(c.path, sub), filepath.Join(m.dir, sub)), "restore the master")
	}
	m.open()
	m.settleDoubt()
	m.check("after a restore")
}

// takeAway notes which events no disk has any more. What was pending on a file that is
// replaced is gone, though the master may have it.
func (w *world) takeAway(old, d *device) {
	l := w.life
	w.takeTreeAway(old, d)
	if old != nil {
		now := d.pendingEvents()
		for id := range old.pendingEvents() {
			if !now[id] {
				l.gone = l.gone.with(id)
			}
		}
	}
	var have set
	for _, row := range w.master.at[w.master.head] {
		for _, e := range row {
			have = have.or(e.past())
		}
	}
	for _, o := range w.devices {
		for _, k := range o.know {
			have = have.or(k.exist)
			for _, s := range k.regs {
				have = have.or(s)
			}
		}
	}
	for _, e := range w.events {
		if !have.has(e.id) {
			l.gone = l.gone.with(e.id)
		}
	}
}

func (d *device) pendingEvents() map[int]bool {
	ids := make(map[int]bool)
	for _, m := range d.log {
		if m.op == "B" { // is elsewhere too, or was
			continue
		}
		for _, e := range d.byLSN[m.lsn] {
			ids[e.id] = true
		}
	}
	return ids
}

// knownDelete returns what a row that is not here goes back to a restored master as: its
// last delete, with all that this file knows of the row. It is nil where the file has the
// row, or knows of no delete.
func (d *device) knownDelete(key string) *event {
	k := d.know[key]
	for id := len(d.w.events) - 1; id >= 0 && d.rows[key] == nil; id-- {
		if e := d.w.events[id]; e.isDelete() && e.key == key && k.exist.has(id) {
			last := *e
			last.regs, last.exist = k.regs, k.exist
			return &last
		}
	}
	return nil
}

// renamed follows a file that took a new id: it was told that it is a copy, or reconciled
// with a restored master.
func (d *device) renamed(when string, id change.DeviceID, seen change.Seq, acked change.LSN) {
	w := d.w
	if acked != d.acked || seen > d.seen {
		w.fail("%s, %s: took a new id, acked goes from %d to %d, seen from %d to %d", d, when, d.acked, acked, d.seen, seen)
	}
	d.id, d.log = id, nil
	w.life.forked = true
	back := 0
	err := d.app.Query(`SELECT lsn, op, +pk, cols, at, coalesce(weight, 0) FROM _velosync_wal WHERE op <> 'X' AND lsn > ?`+notesOnly+` ORDER BY lsn`, []change.Value{int64(acked)}, func(v []change.Value) error {
		m := mutation{lsn: change.LSN(v[0].(int64)), op: v[1].(string), key: w.name(v[2]), cols: change.Bits(v[3].(int64)), at: v[4].(int64)}
		switch x := v[5].(type) {
		case float64:
			m.weight = x
		case int64:
			m.weight = float64(x)
		}
		if m.op == "B" {
			back++
			if v := d.knownDelete(m.key); v != nil {
				d.byLSN[m.lsn] = []*event{v}
			}
		}
		d.log, d.last = append(d.log, m), max(d.last, m.lsn)
		return nil
	})
	w.must(err, "read the log of "+d.String())
	d.renamedTree(acked)
	if seen < d.seen || back > 0 {
		w.work("reconciliations", 1)
		w.work("rows pushed back", back)
		w.say("%s reconciles: seen goes from %d to %d, %d rows are pushed back", d, d.seen, seen, back)
		pending := pendingOf(d.log, acked)
		for key, k := range d.know { // a lost delete of a row that was made, or made anew, since needs no trace
			if _, logged := pending[key]; d.rows[key] == nil && !logged {
				w.life.logged = w.life.logged.or(k.exist)
				for _, s := range k.regs {
					w.life.logged = w.life.logged.or(s)
				}
			}
		}
	} else {
		w.work("new ids", 1)
		w.say("%s takes a new id", d)
	}
	d.seen = seen
}

// rejected takes the rows that the master could not take out of what is pending: the
// device shows the master's state of them, and keeps its own in its conflict log.
func (d *device) rejected(when string, seen change.Seq) {
	w := d.w
	keys := make(map[string]bool)
	err := d.app.Query(`SELECT +pk FROM _velosync_conflict WHERE kind = 'rejected' AND master_id IS NOT NULL AND seq > ? AND seq <= ? AND tbl = 'notes'`,
		[]change.Value{int64(d.seen), int64(seen)}, func(v []change.Value) error { keys[w.name(v[0])] = true; return nil })
	w.must(err, "read the rejected rows of "+d.String())
	for _, key := range sortedKeys(keys) {
		w.work("rows rejected", 1)
		w.say("%s, %s: row %s was rejected", d, when, key)
		for _, e := range d.rows[key] {
			if e != nil {
				w.life.logged = w.life.logged.or(e.past())
			}
		}
		for _, m := range d.log {
			if m.key == key {
				for _, e := range d.byLSN[m.lsn] {
					w.life.logged = w.life.logged.or(e.past())
				}
			}
		}
		d.log = slices.DeleteFunc(d.log, func(m mutation) bool { return m.key == key })
	}
}

// reconciling reports whether something is being pushed back.
func (d *device) reconciling() bool {
	return slices.ContainsFunc(d.begun.log, func(m mutation) bool { return m.op == "B" })
}

// take notes what a push has brought to a master that is not predicted.
func (m *master) take(q request, parts []*change.Push, last *change.Push) {
	w := m.w
	if !m.watching() {
		return
	}
	m.doubted = nil
	var head int64
	_, err := m.watch.Row(`SELECT head FROM _velosync_space`, nil, &head)
	w.must(err, "read the master's head")
	brought := make(map[string]*pastRow)
	for _, p := range parts {
		for i := range p.Blocks {
			b := &p.Blocks[i]
			if !w.ofNotes(b) {
				continue
			}
			for j := range b.Keys {
				e := w.editOf(b, j)
				past := brought[e.key]
				if past == nil {
					old := m.pastOf(e.key, change.Seq(head))
					past = &pastRow{change.Seq(head), slices.Clone(old.regs), old.exist}
					brought[e.key] = past
				}
				for _, v := range e.versions {
					if v != nil && v != unset {
						past.regs[v.reg], past.exist = past.regs[v.reg].or(v.known), past.exist.or(v.exist)
					}
				}
				for _, v := range q.byLSN[e.lsn] {
					if e.delete && !m.knows(e.key) { // there was nothing to delete
						w.life.logged = w.life.logged.or(v.past())
					}
					for r, s := range v.regs {
						past.regs[r] = past.regs[r].or(s)
					}
					past.exist = past.exist.or(v.exist)
				}
			}
		}
	}
	for key, past := range brought {
		m.past[key] = append(m.past[key], *past)
	}
	w.work("pushes applied", 1)
	w.say("the master takes a push of %s, through %d: head %d", q.d, last.Through, head)
	for _, line := range m.readConflicts() {
		w.say("conflict: %s", line)
	}
}

// forgetLife notes which deletes the master has forgotten: they are over, and what they
// stood on.
func (m *master) forgetLife() {
	known := make(map[string]bool)
	var deleted []string
	err := m.watch.Query(`SELECT +pk, deleted FROM _velosync_row WHERE 1`+notesOnly+` ORDER BY feed`, nil, func(v []change.Value) error {
		key := m.w.name(v[0])
		if known[key] = true; v[1].(int64) != 0 {
			deleted = append(deleted, key)
		}
		return nil
	})
	m.w.must(err, "read the master's feed")
	for _, key := range m.deleted {
		if !known[key] {
			m.w.work("tombstones forgotten", 1)
			m.w.over(key)
		}
	}
	m.deleted = deleted
}

// over accounts for all deletes of a row so far.
func (w *world) over(key string) {
	for _, e := range w.events {
		if e.isDelete() && e.key == key {
			w.life.logged = w.life.logged.or(e.past())
		}
	}
}

// knows reports whether the master has anything of a row.
func (m *master) knows(key string) bool {
	found := false
	err := m.watch.Query(`SELECT +pk FROM _velosync_row WHERE 1`+notesOnly, nil, func(v []change.Value) error {
		found = found || m.w.name(v[0]) == key
		return nil
	})
	m.w.must(err, "look for a row")
	return found
}

// logLoss notes what came to the conflict log. Where no file went back in time yet, what
// is called concurrent has to be.
func (w *world) logLoss(kind change.Kind, rule change.Rule, key string, lost, kept *event) {
	l := w.life
	if l == nil {
		return
	}
	w.result.Conflicts[string(kind)+" by "+string(rule)]++
	if lost != nil {
		l.logged = l.logged.or(lost.past())
		if kept != nil && (lost.past().has(kept.id) || kept.past().has(lost.id)) {
			if !l.forked && !l.restored {
				w.fail("%s and %s are called concurrent: one had seen the other", lost.describe(), kept.describe())
			}
			w.work("cautious verdicts", 1)
		}
		return
	}
	w.over(key) // the log does not say which delete of the row it was
}

// checkLife is checkNothingLost for a run in which files went back.
func (w *world) checkLife(rows map[string][]*event) {
	l := w.life
	told := l.logged.or(l.gone)
	for _, row := range rows {
		for _, e := range row {
			told = told.or(e.past())
		}
	}
	for _, e := range w.events {
		if e.isDelete() && rows[e.key] == nil {
			told = told.or(e.past())
		}
	}
	for _, e := range w.events {
		if !told.has(e.id) {
			w.fail("%s is lost without a trace", e.describe())
		}
		if l.gone.has(e.id) {
			w.work("events gone with a disk", 1)
		}
	}
}

// refusedNow reports whether an answer is one that a round meets now and then.
func refusedNow(p *wire.Problem) bool {
	return p.Temporary() || slices.Contains([]string{wire.CodePage, wire.CodePart, wire.CodeRestored, wire.CodeForked}, p.Code)
}

// list names the kinds of a run.
func (l *life) String() string {
	names := make([]string, len(l.kinds))
	for i, k := range l.kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}
