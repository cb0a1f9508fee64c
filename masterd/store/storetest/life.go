package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

func testRetention(t *testing.T, c Config) {
	const retention = 90 * 24 * time.Hour
	ack := func(t *testing.T, m *master, clients ...*client) {
		t.Helper()
		m.clock.add(time.Hour)
		for _, c := range clients {
			c.sync()
		}
	}
	t.Run("a tombstone goes when all devices acknowledged it", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")), put("notes", "l", note("t", "b")))
		a.sync(del("notes", "k")) // seq 3
		m.clock.add(time.Hour)
		a.sync(put("notes", "l", values{"title": "2"}))
		if st := m.stats(); st.Tombstones != 1 {
			t.Fatalf("%d tombstones while b has not heard", st.Tombstones)
		}
		m.clock.add(time.Hour)
		b.sync()
		if b.full || m.stats().Tombstones != 0 {
			t.Errorf("snapshot %v, %d tombstones", b.full, m.stats().Tombstones)
		}
		// Whoever has seen the delete goes on; who has not starts from a snapshot.
		a.sync()
		if a.full {
			t.Error("a was sent a snapshot")
		}
		agree(t, a, b)
		n := newClient(t, m.space, 3, notesTables(t))
		n.sync()
		if !n.full {
			t.Error("a new device was sent no snapshot")
		}
		agree(t, a, b, n)
	})
	t.Run("deletes of rows that were lost in a restore wait for devices that are not known", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "l", note("t", "b")))
		n := newClient(t, m.space, 3, notesTables(t))
		a.sync(del("notes", "j").ofLost(), del("notes", "k").ofLost())
		for day := range 105 {
			m.clock.add(24 * time.Hour)
			a.sync(put("notes", "l", values{"title": fmt.Sprint(day)}))
			b.sync()
			b.push() // so that two masterds, asked in turn, both see pushes and acks
			if day > 40 {
				n.sync()
			}
			if n := m.stats().Tombstones; n != 2 && day < 86 {
				t.Fatalf("%d tombstones on day %d", n, day)
			}
			if day == 40 {
				n.sync(put("notes", "k", note("back", "b")).ranked(change.PushedBack, 7))
				n.heard(change.UpdateLostToDelete)
				agree(t, a, b, n)
			}
		}
		if n := m.stats().Tombstones; n != 0 {
			t.Errorf("%d tombstones past the retention", n)
		}
	})
	t.Run("a device that was away too long starts from a snapshot", func(t *testing.T) {
		m := newMaster(t, c, store.Options{PageRows: 2})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		var rows []edit
		for i := range 9 {
			rows = append(rows, put("notes", fmt.Sprint(i), note("t", "b")))
		}
		a.sync(rows...)
		b.sync()
		a.sync(del("notes", "3"), del("notes", "5"))
		m.clock.add(retention + time.Hour)
		a.sync(put("notes", "1", values{"title": "2"}))
		ack(t, m, a)
		if st := m.stats(); st.Tombstones != 0 {
			t.Fatalf("%d tombstones", st.Tombstones)
		}
		// b pushes what it wrote meanwhile, and gets a snapshot.
		b.sync(put("notes", "7", values{"title": "of b"}), put("notes", "3", values{"title": "of b"}))
		if !b.full || b.pages < 4 {
			t.Errorf("snapshot %v in %d pages", b.full, b.pages)
		}
		b.heard(change.LostToForgotten)
		agree(t, a, b)
		if len(b.rows["notes"]) != 7 || b.rows["notes"]["7"]["title"] != "of b" {
			t.Errorf("rows %v", b.rows)
		}
	})
	t.Run("a device that never acknowledges holds a tombstone no longer than the retention", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")), put("notes", "l", note("t", "b")))
		a.sync(del("notes", "k"))
		for day, step := 1, 1; day <= 100; day += step {
			m.clock.add(time.Duration(step) * 24 * time.Hour)
			b.push() // and never an ack
			a.sync(put("notes", "l", values{"title": fmt.Sprint(day)}))
			if n := m.stats().Tombstones; n != 1 && day < 86 || n != 0 && day > 96 {
				t.Fatalf("%d tombstones on day %d", n, day)
			}
			step = 1
			if day >= 5 && day < 80 { // the end of the retention is far
				step = 5
			}
		}
		b.sync()
		if !b.full {
			t.Error("b was sent no snapshot")
		}
		agree(t, a, b)
	})
	t.Run("rows deleted while a snapshot is read", func(t *testing.T) {
		m := newMaster(t, c, store.Options{PageRows: 2})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		var rows []edit
		for i := range 9 {
			rows = append(rows, put("notes", fmt.Sprint(i), note("t", "b")))
		}
		a.sync(append(rows, put("notes", "gone", note("t", "b")))...)
		a.sync(del("notes", "gone"))
		ack(t, m, a)
		first := b.push()
		if !first.Full || first.Done {
			t.Fatalf("first page %+v", first)
		}
		a.sync(del("notes", "0"), put("notes", "1", values{"title": "2"}))
		b.finish(first)
		agree(t, a, b)

		// Where the delete is forgotten meanwhile, the pull begins anew.
		n := newClient(t, m.space, 3, notesTables(t))
		first = n.push()
		a.sync(del("notes", "1"), del("notes", "2"), del("notes", "3"))
		m.clock.add(retention + time.Hour)
		a.sync(put("notes", "4", values{"title": "2"}))
		ack(t, m, a)
		if st := m.stats(); st.Tombstones != 0 {
			t.Fatalf("%d tombstones", st.Tombstones)
		}
		_, err := n.next(first)
		errorAs[*store.PageError](t, err)
		n.sync()
		agree(t, a, n)
	})
	t.Run("the conflict log is bounded, and who has not heard starts from a snapshot", func(t *testing.T) {
		m := newMaster(t, c, store.Options{ConflictRetention: 120 * 24 * time.Hour})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		n := newClient(t, m.space, 3, notesTables(t))
		a.sync(put("notes", "k", note("t", "b")), put("notes", "l", note("t", "b")))
		b.sync()
		n.sync()
		a.push(put("notes", "k", values{"title": "a"}).ranked(1, 0), put("notes", "l", values{"title": "a"}).ranked(1, 0))
		b.sync(put("notes", "k", values{"title": "b"}))
		n.push(put("notes", "l", values{"title": "n"})) // its answer is lost, and it goes away
		a.sync()
		if st := m.stats(); st.Conflicts != 2 {
			t.Fatalf("%d conflicts", st.Conflicts)
		}
		m.clock.add(100 * 24 * time.Hour)
		ack(t, m, a, b)
		if st := m.stats(); st.Conflicts != 2 {
			t.Errorf("%d conflicts after 100 days", st.Conflicts)
		}
		m.clock.add(100 * 24 * time.Hour)
		a.sync(put("notes", "k", values{"title": "a2"}))
		ack(t, m, a, b)
		if st := m.stats(); st.Conflicts != 0 {
			t.Errorf("%d conflicts after 200 days", st.Conflicts)
		}
		n.sync()
		if !n.full {
			t.Error("n was sent no snapshot")
		}
		agree(t, a, b, n)
	})
}

func testCrash(t *testing.T, c Config) {
	t.Run("what was answered is there", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		a.sync(put("notes", "k", values{"title": "2"}))
		m.crash(a, b)
		agree(t, a, b)
		b.has("notes", map[change.Value]values{"k": note("2", "b")})
	})
	t.Run("a seen that was served before the crash is believed", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		b.push(put("notes", "k", values{"title": "of b"}).ranked(5, 0))
		a.sync() // was served 2, which is written down nowhere
		m.crash(a, b)
		a.sync(put("notes", "k", values{"title": "of a"}))
		agree(t, a, b)
		a.has("notes", map[change.Value]values{"k": note("of a", "b")})
		if st := m.stats(); st.Conflicts != 0 {
			t.Errorf("%d conflicts", st.Conflicts)
		}
	})
	t.Run("closed in order, a liar is still cut", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		b.push(put("notes", "k", values{"title": "of b"}).ranked(5, 0))
		m.reopen(a, b)
		a.seen = 2
		a.push(put("notes", "k", values{"title": "of a"}))
		a.seen = 1
		agree(t, a, b)
		a.has("notes", map[change.Value]values{"k": note("of b", "b")})
	})
	t.Run("after close", func(t *testing.T) {
		m, a, _ := pair(t, c, put("notes", "k", note("t", "b")))
		space := m.space
		if err := m.engine.Close(); err != nil {
			t.Fatal(err)
		}
		if err := m.engine.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
		a.space = space
		if _, err := a.send(a.request()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("push: %v", err)
		}
		if _, err := m.engine.Space(context.Background(), "notes"); !errors.Is(err, store.ErrClosed) {
			t.Errorf("space: %v", err)
		}
		if err := m.engine.Ping(context.Background()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("ping: %v", err)
		}
	})
	t.Run("spaces are apart", func(t *testing.T) {
		m, a, _ := pair(t, c, put("notes", "k", note("t", "b")))
		ctx := context.Background()
		if _, err := m.engine.Lookup(ctx, "other"); !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("lookup: %v", err)
		}
		other, err := m.engine.Space(ctx, "other")
		if err != nil {
			t.Fatal(err)
		}
		n := newClient(t, other, 1, notesTables(t))
		n.sync(put("notes", "x", note("x", "x")))
		n.has("notes", map[change.Value]values{"x": note("x", "x")})
		a.sync()
		names, err := m.engine.Spaces(ctx)
		if err != nil || fmt.Sprint(names) != "[notes other]" {
			t.Errorf("spaces %v, %v", names, err)
		}
		m.reopen(a)
		if _, err := m.engine.Lookup(ctx, "other"); err != nil {
			t.Errorf("lookup: %v", err)
		}
	})
}

func testConcurrency(t *testing.T, c Config) {
	m := newMaster(t, c, store.Options{PageRows: 20})
	const pushers, rounds = 8, 12
	clients := make([]*client, pushers)
	var wait sync.WaitGroup
	stop := make(chan struct{})
	go func() { // somebody asks all the time
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := m.space.Stats(context.Background()); err != nil {
				t.Error(err)
			}
			_, moved := m.space.Head()
			select {
			case <-moved:
			case <-time.After(time.Millisecond):
			}
		}
	}()
	for i := range clients {
		clients[i] = newClient(t, m.space, byte(i+1), notesTables(t))
		wait.Add(1)
		go func() {
			defer wait.Done()
			c := clients[i]
			for n := range rounds {
				c.sync(put("notes", fmt.Sprint(i, n), note("t", "b")), put("notes", fmt.Sprint("shared", n%3), note(fmt.Sprint(i, n), "b")).ranked(float64(n), 0))
				if n%4 == 3 {
					// A push that is bad fails alone, in whatever group it is.
					parts := c.request(put("notes", "bad", note("t", "b")))
					parts[0].Blocks[0].Stamps[0].Weight = 1e300
					if _, err := c.send(parts); err == nil {
						t.Error("a bad push was applied")
					}
					c.lsn--
					delete(c.rows["notes"], "bad")
				}
			}
		}()
	}
	wait.Wait()
	close(stop)
	agree(t, clients...)
	if st := m.stats(); st.Rows != pushers*rounds+3 || st.Head < pushers*rounds*2 {
		t.Errorf("stats %+v", st)
	}
	for _, c := range clients {
		if len(c.rows["notes"]) != pushers*rounds+3 {
			t.Errorf("device %d has %d rows", c.id[0], len(c.rows["notes"]))
		}
	}
}

func testTokens(t *testing.T, c Config) {
	ctx := context.Background()
	m := newMaster(t, c, store.Options{})
	when := time.UnixMilli(1_700_000_000_123)
	x, y := store.Token{Space: "b", Device: "phone", Created: when}, store.Token{Space: "a", Device: "phone", Created: when}
	for i, token := range []store.Token{x, y} {
		if err := m.engine.AddToken(ctx, [32]byte{byte(i)}, token); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.engine.AddToken(ctx, [32]byte{9}, x); !errors.Is(err, store.ErrTokenExists) {
		t.Errorf("second token: %v", err)
	}
	if got, err := m.engine.FindToken(ctx, [32]byte{0}); err != nil || got.Space != "b" || !got.Created.Equal(when) {
		t.Errorf("token %+v, %v", got, err)
	}
	if _, err := m.engine.FindToken(ctx, [32]byte{9}); !errors.Is(err, store.ErrNoToken) {
		t.Errorf("unknown token: %v", err)
	}
	// Another process makes and revokes tokens while this one serves.
	other, err := c.Open(m.dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.AddToken(ctx, [32]byte{7}, store.Token{Space: "c", Device: "tablet"}); err != nil {
		t.Fatal(err)
	}
	if err := other.RevokeToken(ctx, "b", "phone"); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.engine.FindToken(ctx, [32]byte{0}); !errors.Is(err, store.ErrNoToken) {
		t.Errorf("revoked token: %v", err)
	}
	if err := m.engine.RevokeToken(ctx, "b", "phone"); !errors.Is(err, store.ErrNoToken) {
		t.Errorf("revoke: %v", err)
	}
	list, err := m.engine.Tokens(ctx)
	if err != nil || len(list) != 2 || list[0].Space != "a" || list[1].Device != "tablet" {
		t.Errorf("tokens %+v, %v", list, err)
	}
	m.reopen()
	if err := m.engine.Ping(ctx); err != nil {
		t.Error(err)
	}
	if _, err := m.engine.FindToken(ctx, [32]byte{7}); err != nil {
		t.Error(err)
	}
}
