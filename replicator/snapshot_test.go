package replicator_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/replicator/wire"
)

const manyNotes = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO notes SELECT 'k' || i, 't' || i, 'b', i FROM n`

// A snapshots is a line to a master that counts what is asked for, and cuts what it is told to.
type snapshots struct {
	asked, pages int
	bytes        int64
	cut          int64  // of each snapshot's answer no more than this comes; 0: all
	flip         int64  // the byte of the next snapshot that is damaged; 0: none
	failPages    int    // the answer to this other request is lost; 0: none
	before       func() // each request for a snapshot
}

func (s *snapshots) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/snapshot") {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if s.pages++; err == nil && s.pages == s.failPages {
			resp.Body.Close()
			return nil, errors.New("connection reset")
		}
		return resp, err
	}
	s.asked++
	if s.before != nil {
		s.before()
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		resp.Body = &counted{resp.Body, s, s.cut}
	}
	return resp, err
}

type counted struct {
	io.ReadCloser
	s    *snapshots
	left int64
}

func (c *counted) Read(b []byte) (int, error) {
	if c.s.cut > 0 {
		if c.left <= 0 {
			return 0, errors.New("connection reset")
		}
		b = b[:min(int64(len(b)), c.left)]
	}
	n, err := c.ReadCloser.Read(b)
	if at := c.s.flip - c.s.bytes; c.s.flip > 0 && at >= 0 && at < int64(n) {
		b[at] ^= 1
		c.s.flip = 0
	}
	c.left -= int64(n)
	c.s.bytes += int64(n)
	return n, err
}

func snapshotMaster(t *testing.T, so store.Options, o server.Options) *masterdtest.Master {
	so.SnapshotRows = 1
	if so.PageRows == 0 {
		so.PageRows = 20
	}
	return masterdtest.New(t, masterdtest.Options{Store: so, Server: o})
}

// A new device takes the master's snapshot, and what came after it in pages; its tables are
// the source's.
func TestSnapshot_newDevice(t *testing.T) {
	m := snapshotMaster(t, store.Options{}, server.Options{})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, `CREATE INDEX by_title ON notes(title) WHERE score > 3`, trackNotes, manyNotes)
	a.sync()
	var lines []*snapshots
	for _, name := range []string{"b", "c"} {
		line := &snapshots{}
		lines = append(lines, line)
		b := newDevice(t, m, name, through(line))
		r := b.sync()
		if r.SnapshotRows != 400 || line.asked != 1 {
			t.Errorf("%s: %d rows in %d snapshots, want 400 in 1", name, r.SnapshotRows, line.asked)
		}
		if name == "c" && r.PulledRows != 400+4 { // changed since the snapshot that b got
			t.Errorf("%s pulled %d rows, want 404: the snapshot was written anew", name, r.PulledRows)
		}
		b.exec(`INSERT INTO notes VALUES ('of ` + name + `', 'it', 'writes', 1)`) // and is heard again
		equal(t, allNotes, a, b)
		a.want(`SELECT count(*) FROM notes WHERE id = 'of `+name+`'`, "1")
		const schema = `SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE '%velosync%' ORDER BY name`
		b.want(schema, a.rows(schema))
		a.exec(`UPDATE notes SET title = 'new' WHERE id = 'k7'`, `DELETE FROM notes WHERE id = 'k8'`, `INSERT INTO notes VALUES ('late `+name+`', 'l', 'l', 1)`)
		a.sync()
	}
	if lines[0].bytes != lines[1].bytes {
		t.Errorf("%d bytes, then %d: not the same file", lines[0].bytes, lines[1].bytes)
	}
}

func through(line *snapshots) func(*replicator.Options) {
	return func(o *replicator.Options) { o.Transport = line }
}

// A snapshot that is cut again and again goes on where it stopped, also in the next round,
// and after masterd was restarted.
func TestSnapshot_cut(t *testing.T) {
	m := snapshotMaster(t, store.Options{}, server.Options{Rate: -1})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes, manyNotes)
	a.sync()
	whole := &snapshots{}
	newDevice(t, m, "whole", through(whole)).sync()

	line := &snapshots{cut: 1200}
	b := newDevice(t, m, "b", through(line))
	n := 0
	line.before = func() {
		if n++; n == 2 { // others write, too little for another snapshot
			a.exec(`UPDATE notes SET title = 'new' WHERE id = 'k7'`, `DELETE FROM notes WHERE id = 'k8'`)
			a.sync()
		}
	}
	if r := b.sync(); r.SnapshotRows != 400 || line.asked < 4 || line.asked > 12 || line.bytes > 2*whole.bytes {
		t.Errorf("%d rows in %d pieces, %d bytes; whole it has %d", r.SnapshotRows, line.asked, line.bytes, whole.bytes)
	}
	equal(t, allNotes, a, b)

	a.exec(`UPDATE notes SET body = 'new' WHERE score < 100`) // enough for another one
	a.sync()
	c := newDevice(t, m, "c", through(line))
	*line = snapshots{cut: 1200}
	line.before = func() {
		if line.asked == 3 {
			line.cut = 1 // from here on nothing comes
			m.Reopen()
		}
	}
	if _, err := c.r.Sync(context.Background()); !errors.Is(err, replicator.ErrOffline) {
		t.Fatalf("got %v, want ErrOffline", err)
	}
	c.want(`SELECT count(*) FROM sqlite_schema WHERE name = 'notes'`, "0")
	came := line.bytes
	line.before, line.cut = nil, 0
	if r := c.sync(); r.SnapshotRows != 399 || line.bytes-came > whole.bytes*3/4 {
		t.Errorf("%d rows, %d bytes more, of %d", r.SnapshotRows, line.bytes-came, whole.bytes)
	}
	equal(t, allNotes, a, b, c)
}

// What is not as it was written is asked for again; where it is the end, all of it.
func TestSnapshot_damaged(t *testing.T) {
	m := snapshotMaster(t, store.Options{}, server.Options{Rate: -1})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes, manyNotes)
	a.sync()
	whole := &snapshots{}
	newDevice(t, m, "whole", through(whole)).sync()
	// The file is not the same in each run: three places in its middle, so that a length is met too.
	for name, at := range map[string]int64{"body": whole.bytes / 2, "further": whole.bytes/2 + 1, "far": whole.bytes/2 + 2, "end": whole.bytes - 1} {
		t.Run(name, func(t *testing.T) {
			line := &snapshots{flip: at}
			b := newDevice(t, m, name, through(line))
			for range 3 {
				if r, err := b.r.Sync(context.Background()); err == nil {
					if r.SnapshotRows != 400 || line.flip > 0 {
						t.Errorf("%d rows by snapshot, byte %d is not damaged yet", r.SnapshotRows, line.flip)
					}
					break
				} else if !errors.Is(err, wire.ErrDigest) {
					t.Fatal(err)
				}
			}
			b.want(allNotes, a.rows(allNotes))
		})
	}
}

// A master without snapshots is pulled from in pages.
func TestSnapshot_none(t *testing.T) {
	m := snapshotMaster(t, store.Options{}, server.Options{MaxSnapshotBytes: 1000})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, manyNotes)
	a.sync()
	if r := b.sync(); r.SnapshotRows != 0 || r.PulledRows != 400 || r.Pages < 20 {
		t.Errorf("round %+v, want 400 rows in pages", r)
	}
	equal(t, allNotes, a, b)
}

// A device that was away longer than deletes are remembered starts again by snapshot. What
// it has not sent stays: before the round, during it, and what can't be sent at all.
func TestSnapshot_longAway(t *testing.T) {
	now := time.Now()
	m := snapshotMaster(t, store.Options{Retention: 24 * time.Hour, Now: func() time.Time { return now }}, server.Options{Rate: -1})
	var b *device
	during := map[string]string{}
	a := newDevice(t, m, "a", nil)
	b = newDevice(t, m, "b", func(o *replicator.Options) {
		o.Step = func(step string) error {
			if script := during[step]; script != "" {
				delete(during, step)
				b.exec(script)
			}
			return nil
		}
		o.Parts.Bytes = 1000
	})
	a.exec(notes, trackNotes, manyNotes)
	equal(t, allNotes, a, b)
	b.exec(`UPDATE notes SET title = 'of b' WHERE id IN ('k1', 'k2')`, `DELETE FROM notes WHERE id = 'k3'`, `INSERT INTO notes VALUES ('new', 'of b', 'x', 1)`,
		`INSERT INTO notes VALUES ('large', 'of b', hex(zeroblob(2000)), 1)`)
	a.exec(`DELETE FROM notes WHERE id IN ('k2', 'k4', 'k9')`)
	a.sync()
	for range 5 { // the deletes are forgotten
		now = now.Add(24 * time.Hour)
		a.exec(`UPDATE notes SET body = body || '.' WHERE id = 'k5'`)
		a.sync()
	}
	if st := spaceStats(t, m); st.Tombstones != 0 {
		t.Fatalf("%d tombstones are kept: nothing is tested", st.Tombstones)
	}
	during = map[string]string{
		"snapshot": `UPDATE notes SET title = 'while the snapshot came' WHERE id = 'k6'`,
		"page":     `DELETE FROM notes WHERE id = 'k7'`,
		"apply":    `INSERT INTO notes VALUES ('last', 'of b', 'x', 1); UPDATE notes SET title = 'of b' WHERE id = 'k4'`,
	}
	r, err := b.r.Sync(context.Background())
	var held *replicator.HeldError
	if !errors.As(err, &held) || r.SnapshotRows < 396 || len(during) > 0 {
		t.Fatalf("%d rows by snapshot, %v, steps that did not come: %v", r.SnapshotRows, err, during)
	}
	b.want(`SELECT length(body) FROM notes WHERE id = 'large'`, "4000")
	b.exec(`DELETE FROM notes WHERE id = 'large'`)
	equal(t, allNotes, a, b)
	a.want(`SELECT id, title FROM notes WHERE id IN ('k1', 'k2', 'k3', 'k6', 'k7', 'new', 'last') ORDER BY id`,
		"k1 of b\nk6 while the snapshot came\nlast of b\nnew of b")
}

// The user's triggers see each row that a snapshot brings; ours are silent, and there again
// when it is applied.
func TestSnapshot_triggers(t *testing.T) {
	m := snapshotMaster(t, store.Options{}, server.Options{Rate: -1})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, manyNotes)
	a.sync()
	b.exec(notes, trackNotes, `CREATE TABLE seen(id)`, `CREATE TRIGGER sees AFTER INSERT ON notes BEGIN INSERT INTO seen VALUES (NEW.id); END`)
	const ours = `SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name`
	before := b.rows(ours)
	if r := b.sync(); r.SnapshotRows != 400 {
		t.Errorf("%d rows by snapshot", r.SnapshotRows)
	}
	b.want(ours, before)
	b.want(`SELECT count(*) FROM seen`, "400")
	b.want(`SELECT pending FROM velosync_status`, "0")
	b.exec(`UPDATE notes SET title = 'of b' WHERE id = 'k1'`)
	equal(t, allNotes, a, b)
	a.want(`SELECT title FROM notes WHERE id = 'k1'`, "of b")
}

// The space's tables change after a snapshot came whole, and before its pages did.
func TestSnapshot_tablesChange(t *testing.T) {
	m := snapshotMaster(t, store.Options{}, server.Options{Rate: -1})
	line := &snapshots{}
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", through(line))
	a.exec(notes, trackNotes, manyNotes)
	a.sync()
	line.failPages = 2 // the push is answered
	if _, err := b.r.Sync(context.Background()); !errors.Is(err, replicator.ErrOffline) || line.asked != 1 {
		t.Fatalf("got %v after %d snapshots, want ErrOffline", err, line.asked)
	}
	a.exec(`ALTER TABLE notes ADD COLUMN lang TEXT`, `UPDATE notes SET lang = 'en' WHERE score > 200`)
	a.sync()
	if b.sync(); line.asked != 2 {
		t.Errorf("asked for %d snapshots, want another one", line.asked)
	}
	equal(t, allNotes, a, b)
	b.want(`SELECT count(*) FROM notes WHERE lang = 'en'`, "200")
}

// A master is restored from an older copy after a snapshot came whole, and other rows stand
// where the snapshot's did.
func TestSnapshot_masterRestored(t *testing.T) {
	m := snapshotMaster(t, store.Options{}, server.Options{Rate: -1})
	line := &snapshots{failPages: 1}
	a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", through(line)), newDevice(t, m, "c", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('first', 'of a', 'x', 1)`)
	a.sync()
	c.sync()
	if _, err := b.r.Sync(context.Background()); !errors.Is(err, replicator.ErrOffline) { // the master knows it from here on
		t.Fatal(err)
	}
	restore := hotBackup(t, m)
	a.exec(manyNotes)
	a.sync()
	line.pages, line.failPages = 0, 2
	if _, err := b.r.Sync(context.Background()); !errors.Is(err, replicator.ErrOffline) || line.asked != 1 {
		t.Fatalf("got %v after %d snapshots, want ErrOffline", err, line.asked)
	}
	restore()
	c.exec(strings.ReplaceAll(manyNotes, "'k'", "'of c '"), `INSERT INTO notes VALUES ('last', 'of c', 'x', 1)`)
	c.sync()
	hotBackup(t, m)() // masterd was killed: it takes all devices to have been sent all
	if r := b.sync(); line.asked != 2 || r.SnapshotRows != 402 {
		t.Errorf("%d rows by snapshot, asked for %d, want another one", r.SnapshotRows, line.asked)
	}
	b.want(allNotes, c.rows(allNotes))
	equal(t, allNotes, a, b, c) // a brings back what the master lost
}
