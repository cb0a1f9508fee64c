package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

func testPull(t *testing.T, c Config) {
	t.Run("only what changed travels", func(t *testing.T) {
		_, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		a.sync(put("notes", "k", values{"title": "2"}))
		pull := b.push()
		if len(pull.Blocks) != 1 || pull.Blocks[0].Regs != 1 || len(pull.Blocks[0].Columns) != 1 || pull.Blocks[0].Columns[0][0] != "2" {
			t.Errorf("blocks %+v", pull.Blocks)
		}
		b.finish(pull)
		agree(t, a, b)
	})
	t.Run("registers of several authors", func(t *testing.T) {
		m, a, b := pair(t, c, put("notes", "k", note("t", "b")))
		n := newClient(t, m.space, 3, notesTables(t))
		n.sync()
		a.push(put("notes", "k", values{"title": "of a"}))
		pull := b.push(put("notes", "k", values{"body": "of b", "model": "m2"}))
		if len(pull.Blocks) != 1 || pull.Blocks[0].Regs != 1 { // its own body does not come back
			t.Errorf("blocks %+v", pull.Blocks)
		}
		b.finish(pull)
		a.sync()
		agree(t, a, b, n)
		n.has("notes", map[change.Value]values{"k": {"title": "of a", "body": "of b", "model": "m2"}})
	})
	t.Run("echo is counted", func(t *testing.T) {
		_, a, b := pair(t, c, put("notes", "k", note("t", "b")), put("notes", "l", note("t", "b")), put("notes", "m", note("t", "b")))
		a.sync(put("notes", "k", values{"title": "2"}), put("notes", "l", values{"title": "2"}), del("notes", "m"))
		if a.saved != 3 {
			t.Errorf("%d echo rows, want 3", a.saved)
		}
		b.sync()
		agree(t, a, b)
	})
	t.Run("blocks group rows alike", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		two := tables(t, notes+`; CREATE TABLE a_tags (id TEXT PRIMARY KEY NOT NULL, name TEXT)`, nil)
		a, b := newClient(t, m.space, 1, two), newClient(t, m.space, 2, two)
		var edits []edit
		for i := range 10 {
			edits = append(edits, put("notes", fmt.Sprint(i), note("t", "b")), put("a_tags", fmt.Sprint(i), values{"name": "n"}))
		}
		a.sync(edits...)
		pull := b.push()
		if len(pull.Blocks) != 2 || len(pull.Blocks[0].Keys) != 10 || len(pull.Blocks[1].Keys) != 10 {
			t.Errorf("blocks %+v", pull.Blocks)
		}
		b.finish(pull)
		agree(t, a, b)
	})
	t.Run("pages by rows", func(t *testing.T) { testPages(t, c, store.Options{PageRows: 7}) })
	t.Run("pages by bytes", func(t *testing.T) { testPages(t, c, store.Options{PageBytes: 300}) })
	t.Run("a pull is complete at the head of its last page, and compares with seen", func(t *testing.T) {
		m := newMaster(t, c, store.Options{PageRows: 2})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		a.sync(put("notes", "1", note("t", "b")), put("notes", "2", note("t", "b")), put("notes", "3", note("t", "b")), put("notes", "4", note("t", "b")))
		first := b.push()
		if first.Done || first.To != 2 {
			t.Fatalf("first page to %d, done %v", first.To, first.Done)
		}
		// Row 3 moves in part, before its page is read: it has to come whole all the same. Row 1
		// moves after its page was read, and row 2 is deleted.
		a.sync(put("notes", "3", values{"title": "moved"}), put("notes", "1", values{"title": "moved"}), del("notes", "2"))
		b.finish(first)
		agree(t, a, b)
		if b.seen != 7 {
			t.Errorf("seen %d", b.seen)
		}
	})
	t.Run("a page is served only for the push that began the pull", func(t *testing.T) {
		m := newMaster(t, c, store.Options{PageRows: 1})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		a.sync(put("notes", "1", note("t", "b")), put("notes", "2", note("t", "b")), put("notes", "3", note("t", "b")))
		first := b.push()
		other := b.copyOf()
		second := b.push()
		_, err := other.next(first)
		errorAs[*store.PageError](t, err)
		if _, err := b.next(second); err != nil {
			t.Error(err)
		}
		_, err = b.next(&change.Pull{To: 3}) // never reached
		errorAs[*store.PageError](t, err)
		n := newClient(t, m.space, 9, nil)
		n.named()
		_, err = n.next(&change.Pull{}) // never pushed
		errorAs[*store.PageError](t, err)
	})
	t.Run("pages of a pull survive a restart", func(t *testing.T) {
		m := newMaster(t, c, store.Options{PageRows: 1})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		a.sync(put("notes", "1", note("t", "b")), put("notes", "2", note("t", "b")), put("notes", "3", note("t", "b")))
		first := b.push()
		m.reopen(a, b)
		second, err := b.next(first)
		if err != nil {
			t.Fatal(err)
		}
		m.crash(a, b)
		third, err := b.next(second)
		if err != nil {
			t.Fatal(err)
		}
		b.apply([]*change.Pull{first, second, third})
		agree(t, a, b)
	})
	t.Run("a row larger than a page", func(t *testing.T) {
		m := newMaster(t, c, store.Options{PageBytes: 100})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		a.sync(put("notes", "1", note("t", string(make([]byte, 5000)))), put("notes", "2", note("t", string(make([]byte, 5000)))))
		b.sync()
		if b.pages != 2 {
			t.Errorf("%d pages, want 2", b.pages)
		}
		agree(t, a, b)
	})
	t.Run("only own rows in a page", func(t *testing.T) {
		m := newMaster(t, c, store.Options{PageRows: 2})
		a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
		b.sync()
		var edits []edit
		for i := range 200 {
			edits = append(edits, put("notes", fmt.Sprint(i), note("t", "b")))
		}
		b.push(put("notes", "x", note("x", "x")))
		a.sync(edits...)
		b.sync()
		agree(t, a, b)
	})
	t.Run("values of every kind", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		all := tables(t, `CREATE TABLE v (id TEXT PRIMARY KEY NOT NULL, x, b BOOLEAN, d DATETIME, ts TIMESTAMP)`, nil)
		a, b := newClient(t, m.space, 1, all), newClient(t, m.space, 2, all)
		want := []change.Value{nil, int64(1<<63 - 1), int64(-1 << 63), 1e308, 5e-324, "", []byte{}, "a\x00b", "\xff\xfe", "🙂", []byte{0, 1, 255}, 0.5}
		var edits []edit
		for i, v := range want {
			edits = append(edits, put("v", fmt.Sprint(i), values{"x": v, "b": int64(7), "d": "2024-01-02 03:04:05", "ts": int64(1700000000)}))
		}
		a.sync(edits...)
		b.sync()
		for i, v := range want {
			if got := b.rows["v"][fmt.Sprint(i)]["x"]; fmt.Sprintf("%T %v", got, got) != fmt.Sprintf("%T %v", v, v) {
				t.Errorf("value %d is %T %v, want %T %v", i, got, got, v, v)
			}
		}
		// And through the trash.
		a.sync(del("v", "10"))
		b.push(put("v", "10", values{"b": int64(8)}).ranked(1, 0))
		agree(t, a, b)
		b.has("v", a.rows["v"])
		if got := a.rows["v"]["10"]["x"]; fmt.Sprintf("%T %v", got, got) != "[]uint8 [0 1 255]" {
			t.Errorf("value is %T %v", got, got)
		}
		if got := b.rows["v"]["0"]; got["b"] != int64(7) || got["d"] != "2024-01-02 03:04:05" || got["ts"] != int64(1700000000) {
			t.Errorf("row is %v", got)
		}
	})
	t.Run("keys of every kind", func(t *testing.T) {
		m := newMaster(t, c, store.Options{})
		keys := tables(t, `CREATE TABLE one (id PRIMARY KEY NOT NULL, x); CREATE TABLE two (a, b, x, PRIMARY KEY (b, a)) WITHOUT ROWID;
			CREATE TABLE three (id INTEGER PRIMARY KEY, x); CREATE TABLE alone (id TEXT PRIMARY KEY NOT NULL)`, nil)
		a, b := newClient(t, m.space, 1, keys), newClient(t, m.space, 2, keys)
		a.sync(put("one", int64(1), values{"x": "i"}), put("one", "1", values{"x": "t"}), put("one", 1.5, values{"x": "r"}),
			put("two", `["t1","i1"]`, values{"x": "c"}), put("two", `["bff00","r1.5"]`, values{"x": "d"}))
		b.sync()
		agree(t, a, b)
		a.sync(put("three", int64(-5), values{"x": "n"}), put("alone", "k", values{}), put("one", 1.0, values{"x": "equal to 1"}))
		b.sync()
		// 1 and 1.0 are one key to SQLite: the second is refused, the first stays.
		a.heard(change.Rejected)
		a.sync(del("two", `["t1","i1"]`), put("one", 1.5, values{"x": "r2"}), del("three", int64(-5)))
		agree(t, a, b)
		b.has("one", map[change.Value]values{int64(1): {"x": "i"}, "1": {"x": "t"}, 1.5: {"x": "r2"}})
		b.has("alone", map[change.Value]values{"k": {}})
	})
}

func testPages(t *testing.T, c Config, o store.Options) {
	m := newMaster(t, c, o)
	a, b := newClient(t, m.space, 1, notesTables(t)), newClient(t, m.space, 2, notesTables(t))
	want := make(map[change.Value]values)
	for round := range 3 {
		var edits []edit
		for i := range 50 {
			key := fmt.Sprint(i)
			want[key] = note(fmt.Sprint(round, i), "b")
			if round == 0 {
				edits = append(edits, put("notes", key, want[key]))
			} else {
				edits = append(edits, put("notes", key, values{"title": want[key]["title"]}))
			}
		}
		a.sync(edits...)
		b.sync()
		b.has("notes", want)
		if b.pages < 3 || b.total != b.sent || b.sent != 50 {
			t.Errorf("round %d: %d pages of %d rows, %d announced", round, b.pages, b.sent, b.total)
		}
	}
	// What b loses comes in pages too.
	var mine, theirs []edit
	for i := range 20 {
		mine = append(mine, put("notes", fmt.Sprint(i), values{"title": "b"}))
		theirs = append(theirs, put("notes", fmt.Sprint(i), values{"title": "a"}).ranked(1, 0))
		want[fmt.Sprint(i)]["title"] = "a"
	}
	a.push(theirs...)
	b.sync(mine...)
	if len(b.lost) != 20 || b.pages < 3 {
		t.Errorf("heard of %d conflicts in %d pages", len(b.lost), b.pages)
	}
	b.has("notes", want)
	if _, err := m.space.Schema(context.Background()); err != nil {
		t.Error(err)
	}
}
