package sim

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/sim/disk"
	vsql "github.com/velosync/velosync/sql"
	"github.com/velosync/velosync/sqlfuncs"
)

// space is the one that all devices sync with.
const space = "sim"

// A master is a running masterd without a network, and beside it what the model says of
// it.
type master struct {
	w       *world
	dir     string
	disk    *disk.Disk // nil: it does not fail
	fault   string     // of the disk, under way
	doubted *doubt     // nil: there is none
	opened  int
	engine  *store.SQLite
	server  *server.Server
	watch   *vsql.Conn // reads the space's file; nil: it is not there yet

	head      change.Seq
	rows      map[string]*masterRow
	at        map[change.Seq]map[string][]*event // the live rows after each push
	past      map[string][]pastRow
	applied   map[change.DeviceID]change.LSN
	parts     map[change.DeviceID]*upload
	took      map[change.DeviceID]change.LSN // up to where pushes were taken
	conflict  int64                          // the newest that was looked at
	lostBy    map[change.DeviceID][]conflict
	lost      map[int]bool          // events that are in the conflict log
	tracked   bool                  // the space has the table
	forgotten map[string]*masterRow // tombstones that a power cut may bring back
	deleted   []string              // rows that the master knows to be deleted; with Options.Life

	counts   map[string]tally
	tags     map[string]tagged
	tagsAt   map[change.Seq]map[string]tagged
	countsAt map[change.Seq]map[string]tally // after each push

	trees        map[change.Seq]map[treeKey]treeRow // after each push
	treePast     map[change.Seq]map[treeKey]set     // all that pushes had brought by then
	treeBrought  map[treeKey]set
	treeDeleted  []treeKey
	treeText     string // as the trace told them last
	treeConflict int64  // the newest that was looked at
}

// A masterRow is what the master keeps of a row, by the design's words: registers and
// existence.
type masterRow struct {
	regs  []stored
	tombs []stored // the deletes that stand
}

// A stored is an event with its rank.
type stored struct {
	*event
	rank rank
}

// A pastRow is all that the master knew of a row as of some seq.
type pastRow struct {
	head  change.Seq
	regs  []set
	exist set
}

// An upload is the parts of a push that came.
type upload struct {
	name  change.Name
	parts map[int]*change.Push
}

// A request is what a device sent.
type request struct {
	d       *device
	method  string
	url     string
	header  http.Header
	body    []byte
	push    *change.Push // nil: an ack, or it asks for a snapshot
	byLSN   map[change.LSN][]*event
	tree    tree // as the push was read
	damaged bool // no more what the device sent
}

// An answer is what the master answered.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

func newMaster(w *world) *master {
	m := &master{w: w, rows: make(map[string]*masterRow),
		at:   map[change.Seq]map[string][]*event{0: {}},
		past: make(map[string][]pastRow), applied: make(map[change.DeviceID]change.LSN), parts: make(map[change.DeviceID]*upload), took: make(map[change.DeviceID]change.LSN),
		lostBy: make(map[change.DeviceID][]conflict), lost: make(map[int]bool), forgotten: make(map[string]*masterRow),
		counts: make(map[string]tally), countsAt: make(map[change.Seq]map[string]tally),
		tags: make(map[string]tagged), tagsAt: make(map[change.Seq]map[string]tagged),
		trees: make(map[change.Seq]map[treeKey]treeRow), treePast: make(map[change.Seq]map[treeKey]set), treeBrought: make(map[treeKey]set)}
	m.dir, m.disk = m.place(), w.newDisk("master")
	m.open()
	return m
}

func (m *master) open() {
	w := m.w
	quiet := slog.New(slog.DiscardHandler)
	now := func() time.Time { return time.UnixMilli(w.now) }
	engine, err := store.OpenSQLite(m.dir, store.Options{Log: quiet, Now: now, Random: w.random, PageRows: w.shape.pageRows, SnapshotRows: w.shape.offered})
	w.must(err, "open the master's store")
	m.engine = engine
	m.server = server.New(engine, server.Options{Insecure: true, Staging: filepath.Join(m.dir, "staging"), Snapshots: filepath.Join(m.dir, "snapshots"), SnapshotLag: w.shape.lag, Log: quiet, Now: now})
}

func (m *master) close() error {
	var errs []error
	if m.watch != nil {
		errs = append(errs, m.watch.Close(), m.watch.Raw().Close())
		m.watch = nil
	}
	errs = append(errs, m.server.Close(), m.engine.Close())
	return errors.Join(errs...)
}

// restart ends masterd as SIGTERM does, and starts it again.
func (m *master) restart() {
	m.w.fault("master restarted")
	m.w.say("the master restarts")
	m.w.must(m.close(), "close the master")
	m.doubted = nil
	m.open()
	m.check("after a restart")
}

// crash ends masterd as SIGKILL does: its files are as they were at that moment.
func (m *master) crash() {
	w := m.w
	if m.disk != nil && w.chance(.4) {
		m.cutPower()
		return
	}
	w.fault("master killed")
	w.say("the master is killed, and starts again")
	m.opened++
	to := m.place()
	for _, sub := range []string{"", "spaces"} {
		w.must(copyFiles(filepath.Join(m.dir, sub), filepath.Join(to, sub)), "copy the master's files")
	}
	m.reopenAt(to)
	m.check("after a kill")
}

func copyFiles(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasSuffix(e.Name(), "-shm") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deliver brings a request to the master, and compares what it did with the model.
func (m *master) deliver(q request) *answer {
	r, err := http.NewRequest(q.method, q.url, bytes.NewReader(q.body))
	m.w.must(err, "make a request")
	r.Header, r.RemoteAddr = q.header.Clone(), "127.0.0.1:1"
	a := &answer{status: http.StatusOK, header: make(http.Header)}
	m.breakDisk()
	m.server.Handler().ServeHTTP(a, r)
	broken := m.healDisk()
	ok := a.status == http.StatusOK
	switch {
	case broken && a.status >= http.StatusInternalServerError:
		m.doubt(q)
	case q.damaged && ok:
		m.w.fail("the master takes a damaged request of %s", q.d)
	case q.push == nil || !ok || q.push.Paging:
	case q.push.More:
		m.stage(q.push)
	default:
		parts := m.whole(q.push)
		m.takeTree(q, parts)
		if m.w.life != nil {
			m.take(q, parts, q.push)
		} else {
			m.apply(q.d, parts, q.push)
		}
	}
	if ok && q.push != nil && !q.push.More && q.push.Digest == nil {
		m.checkEcho(q.d, a)
	}
	m.check("after a request of " + q.d.String())
	return a
}

// stage keeps a part until the last one comes.
func (m *master) stage(p *change.Push) {
	name := p.Names[len(p.Names)-1]
	u := m.parts[p.Device]
	if u == nil || u.name != name {
		u = &upload{name: name, parts: make(map[int]*change.Push)}
		m.parts[p.Device] = u
	}
	u.parts[p.Part] = p
}

// whole returns all parts of a push that was taken; the last alone where all of it had been
// taken before.
func (m *master) whole(last *change.Push) []*change.Push {
	var parts []*change.Push
	u, known := m.parts[last.Device], last.Through <= m.took[last.Device]
	m.took[last.Device] = max(m.took[last.Device], last.Through)
	if last.Part > 0 {
		switch {
		case u != nil && u.name == last.Names[len(last.Names)-1]:
		case known:
			m.w.work("last parts taken again", 1)
			return []*change.Push{last}
		default:
			m.w.fail("the master takes a push of %d parts without those before the last", last.Part+1)
		}
		for i := range last.Part {
			parts = append(parts, u.parts[i])
		}
	}
	delete(m.parts, last.Device)
	return append(parts, last)
}

// watching opens the space's file for reading, once it is there.
func (m *master) watching() bool {
	if m.watch != nil {
		return true
	}
	path := filepath.Join(m.dir, "spaces", space+".db")
	if _, err := os.Stat(path); err != nil {
		return false
	}
	conn, err := sqlfuncs.Open(path+"?_busy_timeout=5000", nil)
	m.w.must(err, "watch the master's file")
	c := vsql.NewConn(conn)
	var made int
	_, err = c.Row(`SELECT count(*) FROM sqlite_schema WHERE name = '_velosync_space'`, nil, &made)
	m.w.must(err, "look into the master's file")
	if made == 0 { // its making failed
		m.w.must(errors.Join(c.Close(), conn.Close()), "close the master's file")
		return false
	}
	m.watch = c
	return true
}

// table reads the master's table.
func (m *master) table() map[string][]*event {
	if !m.tracked {
		var n int
		_, err := m.watch.Row(`SELECT count(*) FROM sqlite_schema WHERE name = 'notes'`, nil, &n)
		m.w.must(err, "look for the master's table")
		if m.tracked = n > 0; !m.tracked {
			return nil
		}
	}
	return m.w.readTable(m.watch, "master", m.w.hasColumn(m.watch), unset)
}

// live returns the rows that the master shows by the model.
func (m *master) live() map[string][]*event {
	rows := make(map[string][]*event)
	for key, r := range m.rows {
		if len(r.tombs) > 0 {
			continue
		}
		row := make([]*event, len(r.regs))
		for i := range r.regs {
			row[i] = r.regs[i].event
		}
		rows[key] = row
	}
	return rows
}

// check compares the master's file with the model.
func (m *master) check(when string) {
	w := m.w
	if !m.watching() {
		return
	}
	var head int64
	_, err := m.watch.Row(`SELECT head FROM _velosync_space`, nil, &head)
	w.must(err, "read the master's head")
	want, got := m.live(), m.table()
	if w.life != nil {
		want = got // the master is not predicted
	}
	for _, key := range w.shape.keys {
		if !slices.Equal(got[key], want[key]) {
			w.fail("master, %s: row %s is %s, want %s", when, key, w.shape.show(got[key]), w.shape.show(want[key]))
		}
	}
	m.head = change.Seq(head)
	if before, ok := m.at[m.head]; ok {
		for _, key := range w.shape.keys {
			if !slices.Equal(before[key], want[key]) {
				w.fail("master, %s: row %s changed, its head is still %d", when, key, head)
			}
		}
	}
	m.at[m.head] = want
	m.checkCounts(when)
	m.checkTree(when)
	if extra := m.readConflicts(); len(extra) > 0 {
		w.fail("master, %s: logs conflicts that nothing has caused: %s", when, strings.Join(extra, "; "))
	}
	m.forget()
}

// forget follows the master where it has forgotten tombstones.
func (m *master) forget() {
	if m.w.life != nil {
		m.forgetLife()
		return
	}
	tombs := make(map[string]bool)
	for key, r := range m.rows {
		if len(r.tombs) > 0 {
			tombs[key] = true
		}
	}
	if len(tombs) == 0 {
		return
	}
	err := m.watch.Query(`SELECT +pk FROM _velosync_row WHERE deleted = 1`+notesOnly, nil, func(v []change.Value) error {
		delete(tombs, m.w.name(v[0]))
		return nil
	})
	m.w.must(err, "read the master's tombstones")
	for _, key := range sortedKeys(tombs) {
		m.checkHeard(key)
		m.w.work("tombstones forgotten", 1)
		m.w.say("the master forgets that %s was deleted", key)
		m.forgotten[key] = m.rows[key]
		delete(m.rows, key)
	}
}
