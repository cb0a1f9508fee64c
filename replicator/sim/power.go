package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// In the runs in which disks fail, the power fails too. Of what was written since the last
// sync of a file, any sectors may be there, or none. So a device goes back to one of its
// commits, but never behind a mutation that was sent; and the master has all that it took.

// keeps are the probabilities with which a sector that was not synced is there.
var keeps = []float64{0, .5, .9, .98, 1}

// cutFiles replaces files of a directory by what a power cut leaves of them.
func (w *world) cutFiles(from, to string, cut func(path, to string, seed uint64, keep float64) error) {
	entries, err := os.ReadDir(from)
	w.must(err, "read a directory")
	w.must(os.MkdirAll(to, 0o700), "make a directory")
	keep := keeps[w.rng.IntN(len(keeps))]
	for _, e := range entries {
		if seed := w.rng.Uint64(); e.Type().IsRegular() && (strings.HasSuffix(e.Name(), ".db") || strings.HasSuffix(e.Name(), ".db-wal")) {
			w.must(cut(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()), seed, keep), "cut a file")
		}
	}
}

// A past is the model of a device at one of its commits.
type past struct {
	device
	events int // that there were
	leaves int
}

// shows reports whether the device had these rows.
func (p *past) shows(rows map[string][]*event) bool {
	return !slices.ContainsFunc(p.w.shape.keys, func(key string) bool { return !slices.Equal(p.rows[key], rows[key]) })
}

// remember keeps the model of a commit that a power cut may go back to.
func (d *device) remember() {
	if d.disk == nil {
		return
	}
	p := past{device: d.clone(), events: len(d.w.events)}
	if d.w.forest != nil {
		p.leaves = len(d.w.forest.leaves)
	}
	if n := len(d.pasts); n > 0 && d.pasts[n-1].stand() == d.stand() && d.pasts[n-1].shows(d.rows) {
		d.pasts[n-1] = p
		return
	}
	d.pasts = append(d.pasts, p)
}

// A sender is a file under one of its ids.
type sender struct {
	n  int
	id change.DeviceID
}

// A stand is what tells the commits of a device apart.
type stand struct {
	id                 change.DeviceID
	seen               change.Seq
	acked              change.LSN
	last               change.LSN
	hasTable, hasLater bool
	names              treeNames
	rebuilt            bool
}

func (d *device) stand() stand {
	return stand{d.id, d.seen, d.acked, d.last, d.hasTable, d.hasLater, d.tree.names, d.tree.rebuilt}
}

// readStand reads it from the file.
func (d *device) readStand() (s stand) {
	s.id, s.seen, s.acked = d.state()
	var last, tables int
	_, err := d.app.Row(`SELECT coalesce(max(lsn), 0) FROM _velosync_wal`, nil, &last)
	d.w.must(err, "read the log's end")
	_, err = d.app.Row(`SELECT count(*) FROM sqlite_schema WHERE name = 'notes'`, nil, &tables)
	d.w.must(err, "look for the table")
	s.last, s.hasTable, s.hasLater = change.LSN(last), tables > 0, d.w.hasColumn(d.app)
	if s.names = d.w.readNames(d.app); s.names.there() {
		var triggers int
		_, err = d.app.Row(`SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?`, []change.Value{s.names.items}, &triggers)
		d.w.must(err, "look for the triggers")
		s.rebuilt = triggers == 0
	}
	return s
}

// cutPower ends the device as a power cut does, and starts it again.
func (d *device) cutPower() {
	w := d.w
	if d.disk == nil || d.busy {
		return
	}
	w.fault("power cut of a device")
	d.healDisk("")
	dir := filepath.Dir(d.file)
	cut := dir + "-cut"
	w.cutFiles(dir, cut, d.disk.Cut)
	w.must(d.close(), "close "+d.String())
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(d.file + suffix); err != nil && !os.IsNotExist(err) {
			w.must(err, "remove a file")
		}
	}
	w.must(copyFile(filepath.Join(cut, filepath.Base(d.file)), d.file), "bring a file back")
	w.must(os.RemoveAll(cut), "remove a directory")
	d.leaveKept()
	d.forgetDisk()
	d.open()
	d.goBack()
	d.look("after a power cut")
}

// goBack finds the commit that the file is at, and takes the model back to it.
func (d *device) goBack() {
	w := d.w
	is := d.readStand()
	if sent := w.sent[sender{d.n, is.id}]; is.last < sent {
		w.fail("%s, after a power cut: its log ends at lsn %d, and it has sent a push through %d: the next mutation gets an lsn that the master knows", d, is.last, sent)
	}
	at := len(d.pasts) - 1
	var rows map[string][]*event
	if is.hasTable {
		rows = w.readTable(d.app, d.String(), is.hasLater, nil)
	}
	for at >= 0 && (d.pasts[at].stand() != is || !d.pasts[at].shows(rows)) {
		at--
	}
	if at < 0 {
		w.fail("%s, after a power cut: %+v is no commit of it", d, is)
	}
	w.say("the power of %s is cut: it goes from lsn %d, seen %d, to lsn %d, seen %d", d, d.last, d.seen, is.last, is.seen)
	w.work("commits gone in a power cut", len(d.pasts)-1-at)
	for _, e := range w.events[d.pasts[at].events:] {
		if e.d == d {
			w.vanish(e)
		}
	}
	if w.forest != nil {
		for _, l := range w.forest.leaves[d.pasts[at].leaves:] {
			if l.d == d {
				w.forest.gone = w.forest.gone.with(l.id)
			}
		}
	}
	back := d.pasts[at].clone()
	back.tree.stale = back.tree.names.there() // the cut may have taken it back to before its triggers were made anew
	back.tree.marks = nil                     // what is not logged has no place among the commits
	back.r, back.app, back.skew, back.pasts = d.r, d.app, d.skew, d.pasts[:at+1]
	back.cut, back.locked, back.busy, back.twinned, back.fault = true, true, false, false, ""
	*d = back
}

// vanish forgets an event: nobody may see it any more, unless a copy of the file has it.
func (w *world) vanish(e *event) {
	w.vanished = w.vanished.with(e.id)
	if w.o.Life {
		w.life.gone = w.life.gone.with(e.id)
		return
	}
	if e.isDelete() {
		delete(w.deletes, deleteName{e.d.n, e.lsn})
	} else {
		delete(w.versions[cell{e.key, e.reg}], e.text)
	}
	if w.life != nil {
		w.life.gone = w.life.gone.with(e.id)
	}
}

// forked is what becomes of a run in which a file takes a new id though nobody copied it:
// a power cut took the name of a push with nothing in it, so the master does not know the
// file again. From here on the master is not predicted, see life.
func (w *world) forked(d *device) {
	w.work("new ids after a power cut", 1)
	w.say("%s takes a new id: a power cut took the name of its last push", d)
	w.life = &life{copies: make(map[int]*fileCopy), kinds: []lifeKind{forgotten}, logged: w.settled, gone: w.vanished, forked: true}
}

// cutPower ends masterd, and its machine.
func (m *master) cutPower() {
	w := m.w
	w.fault("power cut of the master")
	w.say("the power of the master is cut")
	m.opened++
	to := m.place()
	for _, sub := range []string{"", "spaces"} {
		w.cutFiles(filepath.Join(m.dir, sub), filepath.Join(to, sub), m.disk.Cut)
	}
	m.reopenAt(to)
	m.remember()
	m.check("after a power cut")
}

// reopenAt goes on with the files of another directory.
func (m *master) reopenAt(to string) {
	w := m.w
	w.must(m.close(), "close the master")
	w.must(os.RemoveAll(m.dir), "remove the master's files")
	m.dir = to
	m.open()
	m.settleDoubt()
}

// remember takes the model back where the master knows tombstones again.
func (m *master) remember() {
	w := m.w
	if w.life != nil || !m.watching() {
		return
	}
	err := m.watch.Query(`SELECT +pk FROM _velosync_row WHERE deleted = 1`+notesOnly, nil, func(v []change.Value) error {
		key := w.name(v[0])
		if m.rows[key] != nil {
			return nil
		}
		if m.forgotten[key] == nil {
			return fmt.Errorf("there is a tombstone of %s", key)
		}
		m.rows[key] = m.forgotten[key]
		return nil
	})
	w.must(err, "read the master's tombstones")
}
