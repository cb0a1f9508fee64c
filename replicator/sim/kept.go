package sim

import (
	"bytes"
	"net/http"
	"os"
)

// What came of a snapshot lies beside a device's file, for its next process. A power cut, or
// a disk that rots, takes of it what it likes; and files that are copied or restored meet
// what is of others.

const keptSuffix = "-velosync-snapshot"

// endHalfway may end the process after a round that did not get all of a snapshot.
func (d *device) endHalfway() {
	if w := d.w; !w.calm && len(d.kept()) > 0 && w.chance(.6) {
		w.fault("process ends halfway in a snapshot")
		w.say("the process of %s ends", d)
		d.reopen()
	}
}

// leaveKept is what becomes, between two processes, of what is kept of a snapshot.
func (d *device) leaveKept() {
	w := d.w
	b := d.kept()
	if len(b) == 0 {
		return
	}
	w.work("snapshots left to another process", 1)
	if !w.chance(.3) {
		return
	}
	at := w.rng.IntN(len(b))
	switch what := w.rng.IntN(3); what {
	case 0:
		w.fault("kept snapshot torn")
		b = b[:at]
	case 1:
		w.fault("kept snapshot lost its end to zeros")
		clear(b[at:])
	case 2:
		w.fault("kept snapshot damaged")
		b[at] ^= 1 << w.rng.IntN(8)
	}
	w.say("what %s keeps of a snapshot is damaged from byte %d on", d, at)
	w.must(os.WriteFile(d.file+keptSuffix, b, 0o600), "damage what is kept of a snapshot")
}

// copyKept copies what is kept of a snapshot to another device.
func (d *device) copyKept(to *device) {
	if b := d.kept(); len(b) > 0 {
		d.w.fault("device file copied with a kept snapshot")
		d.w.must(os.WriteFile(to.file+keptSuffix, bytes.Clone(b), 0o600), "copy what is kept of a snapshot")
	}
}

func (d *device) kept() []byte {
	b, err := os.ReadFile(d.file + keptSuffix)
	if err != nil && !os.IsNotExist(err) {
		d.w.must(err, "read what is kept of a snapshot")
	}
	return b
}

// countKept counts what a process goes on with of a snapshot that another one began.
func (d *device) countKept(kind string, q request, header http.Header) {
	switch {
	case kind == "snapshot":
		if !d.asked && header.Get("Range") != "" {
			d.w.work("snapshots gone on with in another process", 1)
		}
		d.asked = true
	case kind == "page" && q.push.Snapshot > 0 && !d.asked:
		d.w.work("whole snapshots of another process", 1)
		d.asked = true
	}
}
