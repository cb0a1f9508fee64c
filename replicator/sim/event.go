package sim

import (
	"fmt"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// A set is a set of events, by id. It does not change: with and or make others.
type set []uint64

func (s set) has(id int) bool { return id>>6 < len(s) && s[id>>6]>>(id&63)&1 == 1 }

func (s set) with(id int) set {
	if s.has(id) {
		return s
	}
	t := make(set, max(len(s), id>>6+1))
	copy(t, s)
	t[id>>6] |= 1 << (id & 63)
	return t
}

func (s set) or(o set) set {
	if len(o) > len(s) {
		s, o = o, s
	}
	for i, b := range o {
		if b&^s[i] != 0 {
			t := append(set(nil), s...)
			for i, b := range o {
				t[i] |= b
			}
			return t
		}
	}
	return s
}

// An event is one version of a register, or one delete of a row.
type event struct {
	id     int
	d      *device
	key    string
	reg    int // -1: a delete
	lsn    change.LSN
	txn    int
	text   string         // of a version: its values, see textOf
	values []change.Value // in the order of the register's columns

	// What its author had seen: of a version the lineage of what stood in the register, and
	// the deletes of the row; of a delete also the lineage of each register.
	known set
	exist set
	regs  []set
}

func (e *event) isDelete() bool { return e.reg < 0 }

func (e *event) String() string {
	switch e {
	case nil:
		return "nothing"
	case unset:
		return "unset"
	}
	if e.isDelete() {
		return fmt.Sprintf("#%d(delete %s by %s)", e.id, e.key, e.d)
	}
	return "(" + strings.ReplaceAll(e.text, "\x1f", ", ") + ")"
}

// describe says more.
func (e *event) describe() string {
	if e == nil || e == unset || e.isDelete() {
		return e.String()
	}
	return fmt.Sprintf("#%d(%s.%d by %s: %s)", e.id, e.key, e.reg, e.d, e)
}

// past is all that the event stands on.
func (e *event) past() set {
	if e == unset { // the default of a column that came later: nobody wrote it
		return nil
	}
	s := e.known.or(e.exist)
	for _, r := range e.regs {
		s = s.or(r)
	}
	return s.with(e.id)
}

// A cell is a register of a row.
type cell struct {
	key string
	reg int
}

// A deleteName finds a delete by its place in its author's log.
type deleteName struct {
	device int
	lsn    change.LSN
}

// add makes an event known; its transaction is committed.
func (w *world) add(e *event) {
	if e.id != len(w.events) {
		w.fail("event %d comes as number %d: the simulation is wrong", e.id, len(w.events))
	}
	w.events = append(w.events, e)
	w.transacts[e.txn] = append(w.transacts[e.txn], e)
	if e.isDelete() {
		w.deletes[deleteName{e.d.n, e.lsn}] = e
		return
	}
	c := cell{e.key, e.reg}
	if w.versions[c] == nil {
		w.versions[c] = make(map[string]*event)
	}
	if old := w.versions[c][e.text]; old != nil {
		w.fail("%s and %s have the same values: the simulation is wrong", old.describe(), e.describe())
	}
	w.versions[c][e.text] = e
}

// version finds the version that some values are. Values that nobody wrote together are a
// torn group, or worse.
func (w *world) version(where, key string, reg int, text string) *event {
	if w.shape.alters && reg == w.shape.later() && text == laterDefault {
		return unset
	}
	e := w.versions[cell{key, reg}][text]
	if e == nil {
		w.fail("%s: row %s, register %d holds %q, which nobody wrote", where, key, reg, strings.ReplaceAll(text, "\x1f", "|"))
	}
	return e
}

// versionsOf turns a row's values into versions, one a register.
func (w *world) versionsOf(where, key string, values []change.Value, hasLater bool, missing *event) []*event {
	row := make([]*event, len(w.shape.regs))
	for r, cols := range w.shape.regs {
		if w.shape.alters && r == w.shape.later() && !hasLater {
			row[r] = missing
			continue
		}
		row[r] = w.version(where, key, r, textOf(pick(values, cols)))
	}
	return row
}

func pick(values []change.Value, cols []int) []change.Value {
	some := make([]change.Value, len(cols))
	for i, c := range cols {
		some[i] = values[c]
	}
	return some
}

// textOf writes values so that different ones differ, their types included.
func textOf(values []change.Value) string {
	parts := make([]string, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case nil:
			parts[i] = "null"
		case []byte:
			parts[i] = fmt.Sprintf("x%x", v)
		case float64:
			parts[i] = fmt.Sprintf("r%v", v)
		default:
			parts[i] = fmt.Sprint(v)
		}
	}
	return strings.Join(parts, "\x1f")
}

// A rank orders concurrent versions, as the design says it: weight, then time, then the
// device's id.
type rank struct {
	weight float64
	time   int64
	device change.DeviceID
}

// beats compares with another rank; rule names what decided.
func (r rank) beats(o rank) (yes bool, rule change.Rule) {
	switch {
	case r.weight != o.weight:
		return r.weight > o.weight, change.ByWeight
	case r.time != o.time:
		return r.time > o.time, change.ByTime
	}
	return string(r.device[:]) > string(o.device[:]), change.ByDevice
}
