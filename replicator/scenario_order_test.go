package replicator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/replicator/wire"
)

// TestScenario_01_sameBatchAgain: a batch that comes twice, ten times, ten at once, after a
// restart of either end, and after later batches, has had its effect with the first.
func TestScenario_01_sameBatchAgain(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	line := newTape(t)
	a, b := newDevice(t, m, "a", line.use), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, threeNotes)
	settled(t, m, a, b)
	line.take("sync")
	b.exec(`UPDATE notes SET title = 'by b', score = 9 WHERE id = 'y'`)
	b.sync()
	// All kinds of change, and a conflict that is lost.
	a.exec(`INSERT INTO notes VALUES ('new', 'nuts', 'dry', 1)`, `UPDATE notes SET body = 'black' WHERE id = 'x'`, `DELETE FROM notes WHERE id = 'z'`,
		`UPDATE notes SET title = 'by a' WHERE id = 'y'`)
	a.sync()
	batch := line.take("sync")[0]
	want, before := masterContent(t, m), spaceStats(t, m)
	once := func(when string, status ...int) {
		t.Helper()
		if got, body := line.again(t, batch); !slices.Contains(status, got) {
			t.Errorf("%s: status %d: %s", when, got, body)
		}
		st := spaceStats(t, m)
		if st.Head != before.Head || st.Conflicts != before.Conflicts || st.Tombstones != before.Tombstones {
			t.Errorf("%s: the master moved from %+v to %+v", when, before, st)
		}
		if got := masterContent(t, m); got != want {
			t.Errorf("%s: %s", when, firstDifference(got, want))
		}
	}
	for i := range 10 {
		once(fmt.Sprint("delivery ", i+2), 200)
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { line.again(t, batch) })
	}
	all.Wait()
	m.Reopen()
	once("after the master's restart", 200)
	a.reopen(func(string) {})
	once("after the device's restart", 200)
	a.exec(`UPDATE notes SET body = 'white' WHERE id = 'x'`)
	id := a.id()
	a.sync()
	want, before = masterContent(t, m), spaceStats(t, m)
	once("after a later batch", 409) // it does not know that batch: it could be another branch of the file
	settled(t, m, a, b)
	if a.id() != id {
		t.Error("the device took another id: its own late batch was held against it")
	}
	a.want(allNotes, "new nuts dry 1\nx tea white 1\ny by b hot 9")
	a.want(`SELECT mine, theirs FROM velosync_conflicts`, `{"title":"by a"} {"title":"by b"}`)
}

// TestScenario_02_anyOrder: three devices' batches in all orders, and two devices' parts
// in all interleavings: the same state each time.
func TestScenario_02_anyOrder(t *testing.T) {
	t.Run("batches", func(t *testing.T) {
		m := masterdtest.New(t, masterdtest.Options{})
		var devices []*device
		for n := range 3 {
			devices = append(devices, newDevice(t, m, string(rune('a'+n)), nil).called(byte(n+1)))
		}
		devices[0].exec(notes, trackNotes)
		settled(t, m, devices...)
		var first string
		for _, order := range permutations(3) {
			devices[0].exec(`DELETE FROM notes`, threeNotes)
			settled(t, m, devices...)
			for i, d := range devices { // weights decide, and differ
				d.exec(fmt.Sprintf(`UPDATE notes SET title = 'by %[1]d', score = %[1]d + 10 WHERE id = 'x'`, i),
					fmt.Sprintf(`UPDATE notes SET body = body || %d WHERE id = 'z'`, i),
					fmt.Sprintf(`INSERT INTO notes VALUES ('new%[1]d', 'n', 'b', 1), ('both', 'by %[1]d', '', %[1]d)`, i))
			}
			devices[1].exec(`UPDATE _velosync_wal SET at = at + 1000`)
			devices[2].exec(`UPDATE _velosync_wal SET at = at + 2000`, `DELETE FROM notes WHERE id = 'y'`)
			for _, i := range order {
				devices[i].sync()
			}
			settled(t, m, devices...)
			if got := masterContent(t, m); first == "" {
				first = got
			} else if got != first {
				t.Errorf("order %v: %s", order, firstDifference(got, first))
			}
		}
	})
	t.Run("parts", func(t *testing.T) {
		var first string
		for _, turns := range []string{"aabb", "abab", "abba", "baab", "baba", "bbaa"} {
			m := masterdtest.New(t, masterdtest.Options{})
			gate := newTurnstile(turns)
			open := func(name string) *device {
				return newDevice(t, m, name, func(o *replicator.Options) {
					o.Parts.Rows = 1
					o.Step = func(step string) error {
						if step == "part" || step == "push" {
							gate.pass(rune(name[0]))
						}
						return nil
					}
				})
			}
			a, b := open("a"), open("b")
			a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'by a', 'green', 2), ('y', 'soup', 'of a', 1)`)
			b.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'by b', 'black', 1), ('y', 'broth', 'of b', 3)`)
			var both sync.WaitGroup
			both.Go(func() { a.sync() })
			both.Go(func() { b.sync() })
			both.Wait()
			gate.open()
			settled(t, m, a, b)
			if got := masterContent(t, m); first == "" {
				first = got
			} else if got != first {
				t.Errorf("turns %s: %s", turns, firstDifference(got, first))
			}
		}
	})
}

// A turnstile lets named passers through in a given order.
type turnstile struct {
	mu    sync.Mutex
	moved *sync.Cond
	turns []rune
	free  bool
}

func newTurnstile(turns string) *turnstile {
	s := &turnstile{turns: []rune(turns)}
	s.moved = sync.NewCond(&s.mu)
	return s
}

// pass waits for who's turn; after the last turn everyone passes.
func (s *turnstile) pass(who rune) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.free && slices.Contains(s.turns, who) && s.turns[0] != who {
		s.moved.Wait()
	}
	if len(s.turns) > 0 && s.turns[0] == who {
		s.turns = s.turns[1:]
	}
	s.moved.Broadcast()
}

func (s *turnstile) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = true
	s.moved.Broadcast()
}

// permutations returns all orders of 0 … n-1.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, p := range permutations(n - 1) {
		for i := range n {
			all = append(all, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return all
}

// TestScenario_03_cutAnywhere: a push that ends after any of its bytes changes nothing at
// the master, a pull nothing on the device.
func TestScenario_03_cutAnywhere(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Server: server.Options{Rate: -1}, Log: quiet})
	line := newTape(t)
	a := newDevice(t, m, "a", line.use)
	a.exec(notes, trackNotes, threeNotes)
	line.down = true
	_ = a.fails()
	push := line.take("sync")[0]
	line.down = false
	for n := range push.body { // the sender meant to send less, or the connection broke
		short := push
		short.body = push.body[:n]
		if status, body := line.again(t, short); status != 400 {
			t.Errorf("the first %d of %d bytes: status %d: %s", n, len(push.body), status, body)
		}
		brokenPost(t, m, push, n)
	}
	if space, err := m.Engine.Lookup(context.Background(), m.Space); err == nil {
		if st, err := space.Stats(context.Background()); err != nil || st.Head != 0 || len(st.Devices) != 0 {
			t.Errorf("cut pushes left %+v, %v", st, err)
		}
	}
	a.sync()

	cutter := &cutAnswers{next: &http.Transport{}}
	t.Cleanup(cutter.next.CloseIdleConnections)
	b := newDevice(t, m, "b", func(o *replicator.Options) { o.Transport, o.Log = cutter, quiet })
	for n := 0; ; n++ {
		cutter.after = n
		if _, err := b.r.Sync(context.Background()); err == nil {
			if n < 200 {
				t.Errorf("the pull has %d bytes: it can't be whole", n)
			}
			break
		} else if !errors.Is(err, replicator.ErrOffline) && !errors.Is(err, wire.ErrDigest) {
			t.Fatalf("a pull cut after %d bytes: %v", n, err)
		}
		b.want(`SELECT (SELECT count(*) FROM sqlite_schema WHERE name = 'notes'), (SELECT seen FROM velosync_status)`, "0 0")
	}
	settled(t, m, a, b)
	b.want(`SELECT count(*) FROM notes`, "3")
}

// brokenPost sends a request whose connection ends after n bytes of its body.
func brokenPost(t *testing.T, m *masterdtest.Master, c call, n int) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(m.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	path := strings.TrimPrefix(c.url, m.URL)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: master\r\nContent-Length: %d\r\n", path, len(c.body))
	if err := c.header.Write(conn); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(append([]byte("\r\n"), c.body[:n]...)); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, conn) // until the master has let go
}

// cutAnswers is a network on which answers to pushes end early, as if that were all.
type cutAnswers struct {
	next  *http.Transport
	after int
}

func (c *cutAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.URL.Path, "/sync") {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.ContentLength = -1
	resp.Body = io.NopCloser(bytes.NewReader(body[:min(c.after, len(body))]))
	return resp, nil
}

// TestScenario_04_answerLost: the master applied the push and the answer did not come. The
// push is sent again without a second effect, and what the answer brought comes with the
// next one.
func TestScenario_04_answerLost(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	line := &switchboard{}
	t.Cleanup(line.http.CloseIdleConnections)
	a, b := newDevice(t, m, "a", func(o *replicator.Options) { o.Transport = line }), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, threeNotes)
	settled(t, m, a, b)
	b.exec(`UPDATE notes SET title = 'heavy', score = 9 WHERE id = 'x'`, `INSERT INTO notes VALUES ('b', 'of b', '', 1)`, `DELETE FROM notes WHERE id = 'z'`)
	b.sync()
	a.exec(`UPDATE notes SET title = 'light' WHERE id = 'x'`, `INSERT INTO notes VALUES ('a', 'of a', '', 1)`)
	head := spaceStats(t, m).Head
	line.set(nil, func(*http.Request) error { return errCut })
	for range 3 {
		if err := a.fails(); !errors.Is(err, replicator.ErrOffline) || !errors.Is(err, errCut) {
			t.Fatalf("error = %v, want ErrOffline with its cause", err)
		}
		a.want(`SELECT pending, last_error <> '' FROM velosync_status`, "2 1")
		a.want(`SELECT id FROM notes ORDER BY id`, "a\nx\ny\nz") // nothing of the answer is here
	}
	applied := spaceStats(t, m).Head
	if applied == head {
		t.Fatal("the master applied nothing: nothing is tested")
	}
	line.set(nil, nil)
	// One of another column, and one over a write of its own that it does not know to be there.
	a.exec(`UPDATE notes SET body = 'black' WHERE id = 'x'`, `UPDATE notes SET title = 'of a, again' WHERE id = 'a'`)
	if r := a.sync(); r.LostRows != 1 {
		t.Errorf("%+v: want the conflict of the push that was repeated, and that alone", r)
	}
	if st := spaceStats(t, m); st.Head != applied+2 || st.Conflicts != 1 {
		t.Errorf("head %d, %d conflicts: want %d and the two edits made since, and one conflict", st.Head, st.Conflicts, applied)
	}
	settled(t, m, a, b)
	a.want(allNotes, "a of a, again  1\nb of b  1\nx heavy black 9\ny soup hot 1")
	a.want(`SELECT mine, theirs FROM velosync_conflicts`, `{"title":"light"} {"title":"heavy"}`)
}

// TestScenario_05_acks: an ack may be lost, come twice, name what never was, or be older
// than another one.
func TestScenario_05_acks(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	line, board := newTape(t), &switchboard{}
	t.Cleanup(board.http.CloseIdleConnections)
	a, b := newDevice(t, m, "a", line.use), newDevice(t, m, "b", func(o *replicator.Options) { o.Transport = board })
	a.exec(notes, trackNotes, threeNotes)
	settled(t, m, a, b)
	acked := func(d *device, want change.Seq) {
		t.Helper()
		if got := deviceStats(t, m, d).Acked; got != want {
			t.Errorf("%s: acknowledged %d, want %d", d.o.Name, got, want)
		}
	}
	acked(a, 3)
	first := line.take("ack")
	old := first[len(first)-1]

	t.Run("lost", func(t *testing.T) {
		cut := func(r *http.Request) error {
			if strings.HasSuffix(r.URL.Path, "/ack") {
				return errCut
			}
			return nil
		}
		a.exec(`DELETE FROM notes WHERE id = 'z'`)
		a.sync()
		board.set(cut, nil) // on its way there
		b.exec(`UPDATE notes SET body = 'black' WHERE id = 'x'`)
		if err := b.fails(); !errors.Is(err, replicator.ErrOffline) {
			t.Fatal(err)
		}
		acked(b, 3)
		b.want(`SELECT pending, seen FROM velosync_status`, "0 5") // applied all the same
		board.set(nil, cut)                                        // on its way back
		_ = b.fails()
		acked(b, 5)
		board.set(nil, nil)
		if r := b.sync(); r.PushedRows+r.PulledRows != 0 {
			t.Errorf("%+v: want nothing sent again", r)
		}
		settled(t, m, a, b)
	})
	t.Run("twice", func(t *testing.T) {
		a.exec(`UPDATE notes SET body = 'cold' WHERE id = 'y'`)
		a.sync()
		calls := line.take("ack")
		for range 3 {
			if status, body := line.again(t, calls[len(calls)-1]); status != 200 {
				t.Errorf("status %d: %s", status, body)
			}
			acked(a, 6)
		}
	})
	t.Run("lower", func(t *testing.T) {
		if status, body := line.again(t, old); status != 200 {
			t.Errorf("status %d: %s", status, body)
		}
		acked(a, 6)
	})
	t.Run("never sent", func(t *testing.T) {
		b.exec(`DELETE FROM notes WHERE id = 'y'`)
		b.sync() // a has not seen this
		var id change.DeviceID
		for _, s := range spaceStats(t, m).Devices {
			if s.ID.String() == a.id() {
				id = s.ID
			}
		}
		body, err := wire.EncodeAck(wire.Ack{Device: id, Seq: 1 << 40, LSN: 1 << 40})
		if err != nil {
			t.Fatal(err)
		}
		c := old
		c.body = body
		c.header = old.header.Clone()
		c.header.Set("Content-Digest", wire.Digest(body))
		if status, body := line.again(t, c); status != 200 {
			t.Errorf("status %d: %s", status, body)
		}
		acked(a, 6) // as far as it was served, not to the head
		if st := deviceStats(t, m, a); st.LSN != 5 {
			t.Errorf("the log of a is said to be applied up to %d, it has 5", st.LSN)
		}
		a.exec(`INSERT INTO notes VALUES ('late', 'goes', 'on', 1)`)
		settled(t, m, a, b)
		a.want(`SELECT id FROM notes ORDER BY id`, "late\nx")
	})
}

// TestScenario_06_twoReplicators: the second replicator of a file waits for the first one's
// end. Where the lease does not hold it, as under another name of the file, rounds in the
// middle of rounds leave no gap and ship nothing twice.
func TestScenario_06_twoReplicators(t *testing.T) {
	t.Run("lease", func(t *testing.T) {
		m := masterdtest.New(t, masterdtest.Options{})
		a := newDevice(t, m, "a", nil)
		a.exec(notes, trackNotes)
		a.sync()
		second, err := replicator.New(a.file, a.o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.Sync(context.Background()); !errors.Is(err, replicator.ErrLease) {
			t.Errorf("error = %v, want ErrLease", err)
		}
		if err := a.r.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := second.Sync(context.Background()); err != nil {
			t.Errorf("after the first closed: %v", err)
		}
		if err := errors.Join(second.Close(), second.Close()); err != nil {
			t.Error(err)
		}
		if _, err := second.Sync(context.Background()); !errors.Is(err, replicator.ErrClosed) {
			t.Errorf("error = %v, want ErrClosed", err)
		}
	})
	steps := []string{"begin", "part", "push", "page", "apply", "ack"}
	for _, at := range steps {
		t.Run("a round before "+at, func(t *testing.T) {
			m := masterdtest.New(t, masterdtest.Options{Store: store.Options{PageRows: 2}})
			during := func() {}
			a := newDevice(t, m, "a", func(o *replicator.Options) {
				o.Parts = capture.Limits{Rows: 2}
				o.Step = func(step string) error {
					if f := during; step == at {
						during = func() {}
						f()
					}
					return nil
				}
			})
			b := newDevice(t, m, "b", nil)
			a.exec(notes, trackNotes, threeNotes)
			settled(t, m, a, b)
			b.exec(`INSERT INTO notes SELECT 'b' || id, title, body, score FROM notes`, `UPDATE notes SET title = 'heavy', score = 9 WHERE id = 'x'`)
			b.sync()
			a.exec(`INSERT INTO notes SELECT 'a' || id, title, body, score FROM notes`, `UPDATE notes SET title = 'light' WHERE id = 'x'`)
			second := secondReplicator(t, a)
			ran := false
			during = func() {
				ran = true
				a.exec(`UPDATE notes SET body = 'meanwhile' WHERE id = 'y'`)
				if _, err := second.Sync(context.Background()); err != nil {
					t.Error(err)
				}
			}
			id := a.id()
			a.sync()
			if !ran {
				t.Fatalf("the round has no step %q", at)
			}
			settled(t, m, a, b)
			if st := spaceStats(t, m); st.Head != 3+4+5 {
				t.Errorf("head %d: three rows, four of b, and of a three rows, its title, which loses, and one body more: want %d", st.Head, 3+4+5)
			}
			a.want(`SELECT count(*), sum(body = 'meanwhile'), sum(title = 'heavy') FROM notes`, "9 1 1")
			a.want(`SELECT mine, theirs FROM velosync_conflicts`, `{"title":"light"} {"title":"heavy"}`)
			if a.id() != id {
				t.Error("the file takes its other replicator for a copy of itself")
			}
		})
	}
	t.Run("at once", func(t *testing.T) {
		m := masterdtest.New(t, masterdtest.Options{})
		a := newDevice(t, m, "a", nil)
		a.exec(notes, trackNotes, `CREATE TABLE n(id INT PRIMARY KEY NOT NULL, v INT)`, `SELECT velosync_track('n')`)
		second := secondReplicator(t, a)
		id := a.id()
		var all sync.WaitGroup
		const writes = 25
		for i := range writes {
			a.exec(fmt.Sprintf(`INSERT INTO n VALUES (%d, 1)`, i))
			for _, r := range []*replicator.Replicator{a.r, second} {
				all.Go(func() {
					if _, err := r.Sync(context.Background()); err != nil && !errors.Is(err, capture.ErrMoved) {
						t.Error(err)
					}
				})
			}
			if i%5 == 4 {
				all.Wait()
			}
		}
		all.Wait()
		settled(t, m, a)
		if st := spaceStats(t, m); st.Head != writes || st.Rows != writes || st.Conflicts != 0 {
			t.Errorf("%+v: want %d rows, each written once", st, writes)
		}
		if a.id() != id {
			t.Error("the file takes its other replicator for a copy of itself")
		}
	})
}

// secondReplicator opens a device's file under another name, where it has another lease.
func secondReplicator(t *testing.T, d *device) *replicator.Replicator {
	t.Helper()
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(d.file, link); err != nil {
		t.Fatal(err)
	}
	o := d.o
	o.Step = nil
	r, err := replicator.New(link, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestScenario_07_echo: what a device wrote comes back to it only where somebody else's
// write changed it.
func TestScenario_07_echo(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
	a.exec(notes, trackNotes, threeNotes)
	settled(t, m, a, b, c)
	a.exec(`INSERT INTO notes VALUES ('mine', 'tea', 'green', 1)`, `UPDATE notes SET title = 'by a' WHERE id = 'x'`, `UPDATE notes SET body = 'by a' WHERE id = 'y'`, `DELETE FROM notes WHERE id = 'z'`)
	a.sync()
	if r := a.sync(); r.PulledRows != 0 {
		t.Errorf("a gets %d of its own rows back", r.PulledRows)
	}
	// b follows a's write of y; c, who has not seen it, outranks a's title of x.
	b.sync()
	b.exec(`UPDATE notes SET title = 'by b' WHERE id = 'y'`)
	b.sync()
	c.exec(`UPDATE notes SET title = 'by c', score = 7 WHERE id = 'x'`)
	c.sync()
	if r := a.sync(); r.PulledRows != 2 || r.LostRows != 1 {
		t.Errorf("%+v: want x, whose title was decided against a, and y, of which b changed the title", r)
	}
	settled(t, m, a, b, c)
	a.want(allNotes, "mine tea green 1\nx by c green 7\ny by b by a 1")
	// Of a group, one column of which another device changed, the author gets all.
	a.exec(`CREATE TABLE docs(id TEXT PRIMARY KEY NOT NULL, body TEXT, embedding BLOB)`, `SELECT velosync_track('docs')`, `INSERT INTO docs VALUES ('d', 'text', x'01')`)
	settled(t, m, a, b, c)
	a.exec(`UPDATE docs SET body = 'by a'`)
	c.exec(`UPDATE docs SET embedding = x'02'`, `UPDATE _velosync_wal SET at = at + 1000`)
	a.sync()
	c.sync()
	a.sync()
	a.want(`SELECT body, hex(embedding) FROM docs`, "text 02")
	settled(t, m, a, b, c)
}

// TestScenario_08_emptyRounds: a round with nothing to do, one that only pulls, one that
// only pushes.
func TestScenario_08_emptyRounds(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.sync() // nothing is tracked, and the space has no tables
	if r := a.sync(); r.PushedRows+r.PulledRows+r.LostRows != 0 || r.Tries != 1 {
		t.Errorf("empty round of an empty file: %+v", r)
	}
	a.exec(notes, trackNotes)
	a.sync() // a table without rows
	if r := b.sync(); r.PulledRows != 0 || len(r.NewTables) != 1 {
		t.Errorf("first round of b: %+v", r)
	}
	a.exec(threeNotes)
	if r := a.sync(); r.PushedRows != 3 || r.PulledRows != 0 {
		t.Errorf("only a push: %+v", r)
	}
	if r := b.sync(); r.PushedRows != 0 || r.PulledRows != 3 {
		t.Errorf("only a pull: %+v", r)
	}
	before := spaceStats(t, m)
	for range 3 {
		for _, d := range []*device{a, b} {
			if r := d.sync(); r.PushedRows+r.PulledRows+r.Deletes+r.LostRows+r.EchoRows != 0 || r.Pages != 1 || r.Tries != 1 {
				t.Errorf("empty round of %s: %+v", d.o.Name, r)
			}
		}
	}
	if st := spaceStats(t, m); st.Head != before.Head {
		t.Errorf("empty rounds moved the head from %d to %d", before.Head, st.Head)
	}
	same(t, m, a, b)
}
