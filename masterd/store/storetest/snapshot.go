package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

// copied reads a snapshot for a device.
func (c *client) copied() (*store.Snapshot, []*change.Pull) {
	c.t.Helper()
	var pages []*change.Pull
	shot, err := c.space.Snapshot(context.Background(), c.tables.Digest(), func(p *change.Pull) error { pages = append(pages, p); return nil })
	if err != nil {
		c.t.Fatalf("device %d: snapshot: %v", c.id[0], err)
	}
	return shot, pages
}

func (c *client) serve(shot *store.Snapshot) error {
	return c.space.Serve(context.Background(), c.owner, c.id, shot)
}

// after asks for the page after seq of a pull that began with a snapshot.
func (c *client) after(shot *store.Snapshot, seq change.Seq) (*change.Pull, error) {
	p := &change.Push{Device: c.id, Names: c.names, Epochs: c.epochs, Seen: c.seen, Schema: c.tables.Digest(), Paging: true, Page: seq, Snapshot: shot.Head, Known: c.known.Digest()}
	return c.space.Sync(context.Background(), c.owner, p, each(nil))
}

// begin applies a snapshot, with what follows it.
func (c *client) begin(shot *store.Snapshot, pages []*change.Pull) {
	c.t.Helper()
	if err := c.serve(shot); err != nil {
		c.t.Fatalf("device %d: %v", c.id[0], err)
	}
	for seq, done := change.Seq(0), false; !done; {
		page, err := c.after(shot, seq)
		if err != nil {
			c.t.Fatalf("device %d: page after %d: %v", c.id[0], seq, err)
		}
		if page.To <= seq || !page.Full {
			c.t.Fatalf("device %d: page to %d (full %v) after %d", c.id[0], page.To, page.Full, seq)
		}
		pages, seq, done = append(pages, page), page.To, page.Done
	}
	c.apply(pages)
}

func testSnapshot(t *testing.T, c Config) {
	many := func(n int) (rows []edit) {
		for i := range n {
			rows = append(rows, put("notes", fmt.Sprint(i), note("t", fmt.Sprint("b", i))))
		}
		return rows
	}
	t.Run("who wrote the rows is not offered them", func(t *testing.T) {
		m := newMaster(t, c, store.Options{SnapshotRows: 12})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		if first := a.push(many(20)...); first.To == 0 || !first.Done {
			t.Errorf("answer %+v to the device that wrote all rows, want a pull of nothing", first)
		}
		if first := b.push(put("notes", "x", note("t", "b"))); first.To != 0 || first.Done {
			t.Errorf("answer %+v to another device, want the offer of a snapshot", first)
		}
	})
	t.Run("a new device gets all rows in pages, the same each time", func(t *testing.T) {
		m := newMaster(t, c, store.Options{PageRows: 4, SnapshotRows: 12})
		all := tables(t, notes+`; CREATE TABLE pairs (x INT NOT NULL, y BLOB NOT NULL, z ANY, PRIMARY KEY (x, y)) WITHOUT ROWID; CREATE TABLE tags (name TEXT PRIMARY KEY NOT NULL)`, nil)
		a := newClient(t, m.space, 1, all)
		a.sync(append(many(9), put("pairs", `["i7","b00"]`, values{"z": -0.5}), put("tags", "red", values{}))...)
		b := newClient(t, m.space, 2, nil)
		if first := b.push(); first.To == 0 {
			t.Fatal("a snapshot of 11 rows is offered, want 12")
		}
		a.sync(put("pairs", `["i7","b01"]`, values{"z": nil}), del("notes", "4"), put("notes", "late", note("t", "b")))
		first := b.push()
		if first.To != 0 || first.Done || first.Rows != 12 || len(first.Blocks) != 0 || first.Full {
			t.Fatalf("answer %+v, want the offer of a snapshot of 12 rows", first)
		}
		shot, pages := b.copied()
		if shot.Rows != 12 || len(pages) != 3 || pages[0].Rows != 12 || pages[0].Tables == nil {
			t.Errorf("%d rows in %d pages", shot.Rows, len(pages))
		}
		again, same := b.copied()
		if d := cmp.Diff(pages, same); d != "" || again.Head != shot.Head {
			t.Errorf("the second time it is another snapshot: %s", d)
		}
		b.begin(shot, pages)
		if b.sent != 12 {
			t.Errorf("%d rows were sent, want each once", b.sent)
		}
		agree(t, a, b)
		if len(b.rows["notes"]) != 9 || len(b.rows["pairs"]) != 2 || len(b.rows["tags"]) != 1 {
			t.Errorf("rows %v", b.rows)
		}
	})
	t.Run("what came after a snapshot follows, the device's own writes and deletes too", func(t *testing.T) {
		m := newMaster(t, c, store.Options{PageRows: 2, SnapshotRows: 1})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		a.sync(many(6)...)
		b.push() // from here on deletes are kept for it
		shot, pages := b.copied()
		a.sync(put("notes", "0", values{"title": "of a"}), del("notes", "1"), put("notes", "new", note("of a", "b")))
		b.push(put("notes", "2", values{"title": "of b"}).ranked(1, 0), del("notes", "3").ranked(1, 0), put("notes", "mine", note("of b", "b")))
		b.begin(shot, pages)
		if b.rows["notes"]["2"]["title"] != "of b" || b.rows["notes"]["3"] != nil || b.rows["notes"]["mine"] == nil || b.rows["notes"]["1"] != nil {
			t.Errorf("rows %v", b.rows)
		}
		agree(t, a, b)
	})
	t.Run("conflicts from before the snapshot are heard of", func(t *testing.T) {
		m := newMaster(t, c, store.Options{SnapshotRows: 1})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		a.sync(put("notes", "0", note("of a", "b")).ranked(2, 0), put("notes", "1", note("t", "b")))
		b.push(put("notes", "0", values{"title": "of b"}).ranked(1, 0))
		a.sync(put("notes", "1", values{"title": "2"}))
		b.begin(b.copied())
		b.heard(change.UpdateLost)
		agree(t, a, b)
	})
	t.Run("a device that was away too long keeps what it wrote", func(t *testing.T) {
		const retention = 90 * 24 * time.Hour
		m := newMaster(t, c, store.Options{PageRows: 2, SnapshotRows: 1})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		a.sync(many(9)...)
		b.sync()
		shot, _ := b.copied()
		if err := b.serve(shot); err != nil {
			t.Fatal(err)
		}
		a.sync(del("notes", "3"), del("notes", "5"))
		b.push() // its cursor counts until now
		m.clock.add(retention + time.Hour)
		a.sync(put("notes", "1", values{"title": "2"}))
		m.clock.add(time.Hour)
		a.sync()
		if st := m.stats(); st.Tombstones != 0 {
			t.Fatalf("%d tombstones", st.Tombstones)
		}
		first := b.push(put("notes", "7", values{"title": "of b"}))
		if !first.Full || first.To != 0 {
			t.Fatalf("answer %+v, want the offer of a snapshot", first)
		}
		// A snapshot from before the deletes names rows that nothing says are gone.
		errorAs[*store.PageError](t, b.serve(shot))
		_, err := b.after(shot, 0)
		errorAs[*store.PageError](t, err)
		b.begin(b.copied())
		if len(b.rows["notes"]) != 7 || b.rows["notes"]["7"]["title"] != "of b" {
			t.Errorf("rows %v", b.rows)
		}
		agree(t, a, b)
	})
	t.Run("what was served counts as seen, and no more", func(t *testing.T) {
		m := newMaster(t, c, store.Options{SnapshotRows: 1})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		a.sync(many(5)...)
		shot, _ := a.copied()
		errorAs[*store.PageError](t, b.serve(shot)) // it has not pushed
		b.push()
		acked := func() change.Seq {
			seq, _, err := m.space.Ack(context.Background(), b.owner, b.id, 5, 0)
			if err != nil {
				t.Fatal(err)
			}
			return seq
		}
		if seq := acked(); seq != 0 {
			t.Errorf("an offer counts as served up to %d", seq)
		}
		_, err := b.after(shot, 0)
		errorAs[*store.PageError](t, err) // it was not served a snapshot
		if err := b.serve(nil); err != nil || acked() != 0 {
			t.Errorf("nothing served: %v, up to %d", err, acked())
		}
		if err := b.serve(shot); err != nil || acked() != 5 {
			t.Errorf("a snapshot served: %v, up to %d", err, acked())
		}
		m.reopen(a, b)
		if _, err := b.after(shot, 0); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		m := newMaster(t, c, store.Options{SnapshotRows: 1})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		a.owner, b.owner = "a", "b"
		a.sync(many(5)...)
		b.push()
		shot, _ := b.copied()
		errorAs[*store.OwnerError](t, m.space.Serve(context.Background(), "a", b.id, shot))
		_, err := m.space.Snapshot(context.Background(), [32]byte{1}, func(*change.Pull) error { return nil })
		errorAs[*store.PageError](t, err)
		stop := fmt.Errorf("stop")
		if _, err := m.space.Snapshot(context.Background(), [32]byte{}, func(*change.Pull) error { return stop }); err == nil {
			t.Error("the page was refused, and the snapshot is complete")
		}
		p := b.request()[0]
		p.Snapshot = shot.Head
		_, err = b.send([]*change.Push{p})
		errorAs[*store.RequestError](t, err)

		// Another space with as many changes is another history.
		other := newMaster(t, c, store.Options{})
		d := newClient(t, other.space, 4, notesTables(t))
		d.sync(many(5)...)
		foreign, _ := d.copied()
		errorAs[*store.PageError](t, b.serve(foreign))

		// The space gets a column: pages would name other tables than the snapshot.
		wide := newClient(t, m.space, 3, tables(t, `CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, model TEXT, lang TEXT)`,
			map[string]change.Options{"notes": {Groups: [][]string{{"body", "model"}}}}))
		wide.push()
		errorAs[*store.PageError](t, b.serve(shot))
		b.push()
		b.begin(b.copied())
		agree(t, a, b)
	})
}
