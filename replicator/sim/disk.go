package sim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/sim/disk"
)

// In some runs disks fail: a write or a sync of a device's transaction, of its rounds, or of
// the master's says that it did not work, or that the disk is full. Then nothing of the
// transaction may be seen by anybody, and once the disk works again, so must all else, in
// the same process.

// newDisk makes a directory in which disks fail, where that happens in this run.
func (w *world) newDisk(name string) *disk.Disk {
	dir := w.path(name)
	w.must(os.MkdirAll(dir, 0o700), "make a directory")
	if !w.disks {
		return nil
	}
	d, err := disk.New(dir)
	w.must(err, "make a disk")
	w.opened = append(w.opened, d)
	return d
}

// place gives a device a file on a disk of its own.
func (d *device) place() {
	name := fmt.Sprintf("device%d", d.n)
	d.disk = d.w.newDisk(name)
	d.file = filepath.Join(d.w.path(name), "app.db")
}

// forgetDisk takes a device's files as they are.
func (d *device) forgetDisk() {
	if d.disk != nil {
		d.disk.Forget(d.file)
		d.disk.Forget(d.file + "-wal")
	}
}

// place returns a new directory for the master's files.
func (m *master) place() string {
	return filepath.Join(m.w.path("master"), fmt.Sprint(m.opened))
}

// drawFault draws what goes wrong within some number of writes or syncs.
func (w *world) drawFault(within int) (f disk.Fault, what string) {
	f = disk.Fault{After: w.rng.IntN(within), Times: 1}
	switch x := w.rng.Float64(); {
	case x < .3:
		f.Ops, f.Torn, what = disk.Write, w.chance(.5), "write fails"
	case x < .5:
		f.Ops, f.After, what = disk.Sync, f.After/8, "sync fails"
	case x < .6:
		f.Ops, f.Times, what = disk.Write|disk.Sync, 1000, "disk breaks"
	default:
		f.Ops, f.Times, f.Full, f.Torn, what = disk.Write, 1+w.rng.IntN(100), true, w.chance(.3), "disk is full"
	}
	return f, what
}

// breakDisk lets a device's disk fail soon, while it does something.
func (d *device) breakDisk(doing string, p float64, within int) {
	w := d.w
	if d.disk == nil || w.calm || d.fault != "" || !w.chance(p) {
		return
	}
	f, what := w.drawFault(within)
	d.fault = what + " in " + doing
	d.disk.Fail(f)
}

// healDisk ends that, if it began with the same doing, or one that ends alike.
func (d *device) healDisk(doing string) (failed int) {
	w := d.w
	if d.fault == "" || !strings.HasSuffix(d.fault, doing) {
		return 0
	}
	if failed = d.disk.Heal(); failed > 0 {
		w.fault(d.fault)
		w.say("%s: %s", d, d.fault)
	}
	d.fault = ""
	return failed
}

func (d *device) brokenDisk() bool { return d.disk != nil && d.disk.Failed() > 0 }

func isDiskError(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrIoErr || e.Code == sqlite3.ErrFull)
}

// abandon ends a transaction that the disk has stopped: nothing of it is there.
func (x *txn) abandon() {
	d := x.d
	w := d.w
	w.work("transactions that a disk stopped", 1)
	w.say("%s can't write: %v", d, x.err)
	if !d.app.Raw().AutoCommit() {
		if _, err := d.app.Exec("ROLLBACK"); err != nil && !isDiskError(err) {
			w.must(err, d.String()+" rolls back")
		}
	}
	d.look("after a transaction that failed")
}

// breakDisk lets the master's disk fail soon.
func (m *master) breakDisk() {
	w := m.w
	if m.disk == nil || w.calm || !w.chance(.06) {
		return
	}
	f, what := w.drawFault(30)
	m.fault = what + " of the master"
	m.disk.Fail(f)
}

func (m *master) healDisk() (broken bool) {
	if m.fault == "" {
		return false
	}
	if broken = m.disk.Heal() > 0; broken {
		m.w.fault(m.fault)
		m.w.say("%s", m.fault)
	}
	m.fault = ""
	return broken
}

// A doubt is a push that failed at the master's disk. Its transaction may have come to the
// file, all but the last sync: if the master is killed now, it is found there and counts.
type doubt struct {
	q     request
	parts []*change.Push
	now   int64
}

// doubt notes a push that failed at the disk.
func (m *master) doubt(q request) {
	m.w.say("the master can't take a request of %s", q.d)
	if q.push == nil || q.push.Paging || q.push.More {
		return
	}
	parts := []*change.Push{q.push}
	if u := m.parts[q.push.Device]; q.push.Part > 0 && u != nil {
		for i := q.push.Part - 1; i >= 0; i-- {
			parts = append([]*change.Push{u.parts[i]}, parts...)
		}
	}
	m.doubted = &doubt{q, parts, m.w.now}
	if m.w.chance(.3) {
		m.crash()
	}
}

// settleDoubt looks, after a kill, whether the push counts.
func (m *master) settleDoubt() {
	w, u := m.w, m.doubted
	m.doubted = nil
	if u == nil || !m.watching() {
		return
	}
	var head int64
	_, err := m.watch.Row(`SELECT head FROM _velosync_space`, nil, &head)
	w.must(err, "read the master's head")
	if change.Seq(head) == m.head {
		return
	}
	w.work("failed pushes found after a kill", 1)
	w.say("the push of %s that failed is found there: head %d", u.q.d, head)
	m.takeTree(u.q, u.parts)
	if w.life != nil {
		m.take(u.q, u.parts, u.q.push)
		return
	}
	now := w.now
	w.now = u.now
	m.apply(u.q.d, u.parts, u.q.push)
	w.now = now
}
