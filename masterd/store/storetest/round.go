package storetest

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

func testRound(t *testing.T, c Config) {
	t.Run("a row arrives at the other device, and not back at its author", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		b.has("notes", map[change.Value]values{"k": note("t", "b")})
		if st := m.stats(); st.Head != 1 || st.Rows != 1 || st.PushRows != 1 || st.PullRows != 1 {
			t.Errorf("stats %+v", st)
		}
		pull := a.push()
		if len(pull.Blocks) != 0 || pull.To != 1 || !pull.Done || pull.Applied != 1 {
			t.Errorf("the author got %+v", pull)
		}
	})
	t.Run("a push whose answer was lost applies once", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		parts := a.request(put("notes", "k", note("t", "b")))
		for range 3 {
			pull, err := a.send(parts)
			if err != nil {
				t.Fatal(err)
			}
			if pull.Applied != 1 || pull.To != 1 {
				t.Errorf("applied %d, to %d", pull.Applied, pull.To)
			}
		}
		b.sync()
		// The next push repeats the row, with more; b's edit came between.
		b.sync(put("notes", "k", values{"title": "of b"}))
		a.lsn--
		pull := a.push(put("notes", "k", note("t", "b")), put("notes", "l", note("t2", "b2")))
		a.finish(pull)
		agree(t, a, b)
		a.has("notes", map[change.Value]values{"k": note("of b", "b"), "l": note("t2", "b2")})
		if st := m.stats(); st.PushDuplicates != 3 || st.Conflicts != 0 {
			t.Errorf("stats %+v", st)
		}
	})
	t.Run("of an edit repeated in part only the rest counts", func(t *testing.T) {
		_, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		lost := a.request(put("notes", "k", values{"title": "1"}))
		if _, err := a.send(lost); err != nil {
			t.Fatal(err)
		}
		b.sync(put("notes", "k", values{"title": "2"}))
		// a edits the body too: title keeps its old lsn, and is not written again.
		parts := a.request(put("notes", "k", values{"title": "1", "body": "new", "model": "m"}))
		parts[0].Blocks[0].Stamps[0].Regs = []change.RegEdit{{Reg: 0, Seen: 1, LSN: 2}}
		pull, err := a.send(parts)
		if err != nil {
			t.Fatal(err)
		}
		a.finish(pull)
		agree(t, a, b)
		a.has("notes", map[change.Value]values{"k": note("2", "new")})
	})
	t.Run("parts are one push", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		a.parts = 3
		var edits []edit
		want := make(map[change.Value]values)
		for i := range 200 {
			key := string(rune('a'+i%26)) + string(rune('a'+i/26))
			want[key] = note(key, "b")
			edits = append(edits, put("notes", key, want[key]))
		}
		parts := a.request(edits...)
		parts[0].Tables, parts[2].Tables = a.tables, nil
		pull, err := a.send(parts)
		if err != nil {
			t.Fatal(err)
		}
		a.finish(pull)
		b.sync()
		b.has("notes", want)

		// A fault in the last part undoes the first.
		bad := a.request(put("notes", "x", note("x", "x")), put("notes", "y", note("y", "y")), put("notes", "z", note("z", "z")))
		bad[2].Blocks[0].Stamps[0].LSN = 1 << 40
		_, err = a.send(bad)
		errorAs[*store.RequestError](t, err)
		if st := m.stats(); st.Head != 200 || st.Rows != 200 {
			t.Errorf("stats %+v", st)
		}
	})
	t.Run("an error of the parts is returned and nothing applied", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a := newClient(t, m.space, 1, notesTables(t))
		parts := a.request(put("notes", "k", note("t", "b")))
		broken := errors.New("broken")
		_, err := m.space.Sync(context.Background(), "", parts[0], func(yield func(*change.Push, error) bool) {
			if yield(parts[0], nil) {
				yield(nil, broken)
			}
		})
		if !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
		if st := m.stats(); st.Head != 0 || len(st.Devices) != 0 {
			t.Errorf("stats %+v", st)
		}
	})
	t.Run("a push whose context has ended is not applied", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a := newClient(t, m.space, 1, notesTables(t))
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		parts := a.request(put("notes", "k", note("t", "b")))
		if _, err := m.space.Sync(ctx, "", parts[0], each(parts)); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if st := m.stats(); st.Head != 0 {
			t.Errorf("head %d", st.Head)
		}
	})
	t.Run("head moves after the commit", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a := newClient(t, m.space, 1, notesTables(t))
		head, moved := m.space.Head()
		a.sync()
		select {
		case <-moved:
			t.Error("an empty push moved head")
		default:
		}
		a.push(put("notes", "k", note("t", "b")))
		select {
		case <-moved:
		default:
			t.Error("head did not move")
		}
		if now, _ := m.space.Head(); head != 0 || now != 1 {
			t.Errorf("head %d, then %d", head, now)
		}
	})
	t.Run("acks rise and are cut", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		ack := func(c *client, seq change.Seq, lsn change.LSN, wantSeq change.Seq, wantLSN change.LSN) {
			t.Helper()
			s, l, err := m.space.Ack(context.Background(), "", c.id, seq, lsn)
			if err != nil || s != wantSeq || l != wantLSN {
				t.Errorf("ack %d, %d gives %d, %d, %v, want %d, %d", seq, lsn, s, l, err, wantSeq, wantLSN)
			}
		}
		ack(a, 1<<40, 1<<40, 1, 1)
		ack(a, 0, 0, 1, 1)
		a.push(put("notes", "k", values{"title": "2"}))
		ack(b, 2, 7, 1, 0) // b was not served 2
		ack(newClient(t, m.space, 9, nil), 1, 1, 0, 0)
		if st := m.stats(); len(st.Devices) != 2 || st.Devices[0].Acked != 1 || st.Devices[0].LSN != 2 {
			t.Errorf("devices %+v", st.Devices)
		}
	})
	t.Run("times are the master's", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		now := m.clock.now().UnixMilli()
		// a's clock is a day ahead, b's is right: b wrote later.
		a.now = now + 24*time.Hour.Milliseconds()
		b.now = now
		a.push(put("notes", "k", values{"title": "a"}).ranked(0, a.now-5000))
		pull := b.push(put("notes", "k", values{"title": "b"}).ranked(0, now-1000))
		if pull.Now != now {
			t.Errorf("the master's clock is %d, want %d", pull.Now, now)
		}
		b.finish(pull)
		a.sync()
		agree(t, a, b)
		a.has("notes", map[change.Value]values{"k": note("b", "b")})
		l := a.heard(change.UpdateLost)[0]
		if l.LostRank.Time != now-5000 || l.KeptRank.Time != now-1000 || l.Rule != change.ByTime {
			t.Errorf("lost %+v", l)
		}
	})
}

func testIdentity(t *testing.T, c Config) {
	t.Run("a copied file is told to take a new id", func(t *testing.T) {
		_, a, _ := pair(t, c, put("notes", "k", note("t", "b")))
		twin := a.copyOf()
		a.sync(put("notes", "k", values{"title": "a"}))
		_, err := twin.send(twin.request(put("notes", "k", values{"title": "twin"})))
		if e := errorAs[*store.ForkedError](t, err); e.Device != a.id {
			t.Errorf("error %+v", e)
		}
		// Under a new id it keeps its seen, and its edit meets the other's.
		twin.id, twin.names = change.DeviceID{7}, nil
		twin.sync(put("notes", "k", values{"title": "twin"}).ranked(1, 0))
		agree(t, a, twin)
		a.has("notes", map[change.Value]values{"k": note("twin", "b")})
		a.heard(change.UpdateLost)
	})
	t.Run("names of unanswered pushes do", func(t *testing.T) {
		_, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		first := a.request(put("notes", "k", values{"title": "1"}))
		if _, err := a.send(first); err != nil { // the answer is lost
			t.Fatal(err)
		}
		a.request() // never arrives
		a.sync()
		agree(t, a, b)
		// The first one arrives again, late: it is another branch now, and changes nothing.
		_, err := a.send(first)
		errorAs[*store.ForkedError](t, err)
	})
	t.Run("an id belongs to the token that used it first", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a := newClient(t, m.space, 1, notesTables(t))
		a.owner = "phone"
		a.sync(put("notes", "k", note("t", "b")))
		thief := a.copyOf()
		thief.owner = "laptop"
		_, err := thief.send(thief.request())
		errorAs[*store.OwnerError](t, err)
		_, err = thief.next(&change.Pull{})
		errorAs[*store.OwnerError](t, err)
		_, _, err = m.space.Ack(context.Background(), "laptop", a.id, 1, 1)
		errorAs[*store.OwnerError](t, err)
		if st := m.stats(); st.Devices[0].Owner != "phone" {
			t.Errorf("devices %+v", st.Devices)
		}
	})
	t.Run("an id without an owner belongs to the first token", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		a := newClient(t, m.space, 1, notesTables(t))
		a.sync()
		a.owner = "phone"
		a.sync()
		a.owner = "laptop"
		_, err := a.send(a.request())
		errorAs[*store.OwnerError](t, err)
	})
	t.Run("a seen that was not served is cut", func(t *testing.T) {
		_, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		b.push(put("notes", "k", values{"title": "b"}).ranked(5, 0)) // seq 2
		// a claims to have seen it, to win over the greater weight.
		liar := put("notes", "k", values{"title": "a"}).ranked(0, 0).seeing(2)
		a.seen = 2
		pull := a.push(liar)
		a.seen = 1
		a.finish(pull)
		agree(t, a, b)
		a.has("notes", map[change.Value]values{"k": note("b", "b")})
		a.heard(change.UpdateLost)
	})
	t.Run("so is a seen of the row's existence", func(t *testing.T) {
		_, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		b.push(del("notes", "k").ranked(5, 0)) // seq 2
		parts := a.request(put("notes", "k", values{"title": "a"}))
		parts[0].Blocks[0].Stamps[0].Existence = 2 // the delete, claims a, is older
		pull, err := a.send(parts)
		if err != nil {
			t.Fatal(err)
		}
		a.finish(pull)
		agree(t, a, b)
		a.has("notes", nil)
		a.heard(change.UpdateLostToDelete)
	})
	t.Run("what a device saw when it came is believed", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		b.sync(put("notes", "k", values{"title": "b"}).ranked(5, 0))
		a.sync()
		a.id, a.names = change.DeviceID{7}, nil
		a.sync(put("notes", "k", values{"title": "a"}))
		agree(t, a, b)
		a.has("notes", map[change.Value]values{"k": note("a", "b")})
		if st := m.stats(); st.Conflicts != 0 {
			t.Errorf("stats %+v", st)
		}
	})
	t.Run("an opening that writes begins an epoch, others leave no trace", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		for range 3 {
			m.reopen(a, b)
			a.sync()
		}
		if len(a.epochs) != 1 {
			t.Errorf("epochs %v", a.epochs)
		}
		a.sync(put("notes", "k", values{"title": "2"}))
		agree(t, a, b)
		if len(b.epochs) != 2 || b.epochs[0].First != 1 || b.epochs[1].First != 2 || b.epochs[0].ID == b.epochs[1].ID {
			t.Errorf("epochs %v", b.epochs)
		}
	})
	t.Run("an opening is told of before it writes", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		m.reopen(a, b)
		first := a.push().Epochs
		if len(first) != 2 || first[1].First != 2 {
			t.Fatalf("epochs %v", first)
		}
		if c.Turns {
			return
		}
		a.sync(put("notes", "k", values{"title": "2"}))
		if len(a.epochs) != 2 || a.epochs[1] != first[1] {
			t.Errorf("epochs %v, were %v", a.epochs, first)
		}
	})
	t.Run("a master restored from a backup is found out", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		backup := m.config.Crash(t, m.dir)
		a.sync(put("notes", "k", values{"title": "2"}), put("notes", "l", note("l", "l")))
		b.sync() // has seen 3
		if err := m.engine.Close(); err != nil {
			t.Fatal(err)
		}
		m.dir = backup
		m.open()
		a.space, b.space = m.space, m.space
		restored := func(c *client, head, common change.Seq) {
			t.Helper()
			_, err := c.send(c.request())
			if e := errorAs[*store.RestoredError](t, err); e.Head != head || e.Common != common || e.Seen != c.seen {
				t.Errorf("error %+v", e)
			}
		}
		restored(a, 1, 1)
		// Others push past what a has seen: the epochs tell all the same.
		n := newClient(t, m.space, 3, notesTables(t))
		n.sync(put("notes", "x", note("x", "x")), put("notes", "y", note("y", "y")), put("notes", "z", note("z", "z")))
		restored(a, 4, 1)
		restored(b, 4, 1)
	})
	t.Run("a comparison shows each row as it is at its last page", func(t *testing.T) {
		m := newMaster(t, c, store.Options{PageRows: 2})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		a.sync(put("notes", "k", note("t", "b")), put("notes", "l", note("l", "l")), put("notes", "x", note("x", "x")), put("notes", "y", note("y", "y")))
		var prints change.Fingerprinter
		title := func(s string) int64 { return prints.Of([]change.Value{s}) }
		rows := make(map[change.Value]string)
		ask := &change.Push{Device: change.DeviceID{9}, Names: []change.Name{{1}}, Seen: 2, Paging: true, Compare: true}
		pages := 0
		for done := false; !done; pages++ {
			pull, err := m.space.Sync(context.Background(), "", ask, each([]*change.Push{ask}))
			if err != nil {
				t.Fatal(err)
			}
			for _, block := range pull.Blocks {
				for i, key := range block.Keys {
					if delete(rows, key); block.Delete {
						continue
					}
					for _, s := range []string{"t", "l", "x", "y", "newer"} {
						if block.Columns[0][i] == title(s) {
							rows[key] = s
						}
					}
					if block.Columns[len(block.Columns)-1][i] == int64(1) {
						rows[key] += " old"
					}
				}
			}
			if pages == 0 { // others go on meanwhile: what was shown is shown again
				b.sync(put("notes", "k", values{"title": "newer"}), del("notes", "l"))
			}
			ask.Page, done = pull.To, pull.Done
		}
		want := map[change.Value]string{"k": "newer old", "x": "x", "y": "y"}
		if !maps.Equal(rows, want) || pages < 2 {
			t.Errorf("%d pages show %v, want %v", pages, rows, want)
		}
		ask.Paging = false
		_, err := m.space.Sync(context.Background(), "", ask, each([]*change.Push{ask}))
		errorAs[*store.RequestError](t, err)
	})
	t.Run("a push by a comparison is bound to its head", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		backup := m.config.Crash(t, m.dir)
		b.sync(put("notes", "l", note("l", "l")))
		last := a.request()
		last[0].Compared = 2
		if _, err := a.send(last); err != nil {
			t.Errorf("the master has the head that was compared: %v", err)
		}
		if err := m.engine.Close(); err != nil {
			t.Fatal(err)
		}
		m.dir = backup
		m.open()
		a.space = m.space
		_, err := a.send(last)
		if e := errorAs[*store.RestoredError](t, err); e.Common != 1 || e.Head != 1 {
			t.Errorf("error %+v", e)
		}
	})
	t.Run("so is a device that followed a restored master, when the first one is back", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		o := m.o
		engine, err := c.Open(c.Crash(t, m.dir), o)
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close()
		if b.space, err = engine.Space(context.Background(), "notes"); err != nil {
			t.Fatal(err)
		}
		b.sync(put("notes", "k", values{"title": "there"}))
		a.sync(put("notes", "k", values{"title": "here"}), put("notes", "l", note("l", "l")))
		b.space = m.space
		_, err = b.send(b.request())
		if e := errorAs[*store.RestoredError](t, err); e.Common != 1 || e.Head != 3 || e.Seen != 2 {
			t.Errorf("error %+v", e)
		}
	})
	t.Run("an empty master in the place of another is found out", func(t *testing.T) {
		_, a, _ := pair(t, c, put("notes", "k", note("t", "b")))
		a.space = newMaster(t, c, store.Options{}).space
		_, err := a.send(a.request())
		if e := errorAs[*store.RestoredError](t, err); e.Common != 0 {
			t.Errorf("error %+v", e)
		}
	})
}
