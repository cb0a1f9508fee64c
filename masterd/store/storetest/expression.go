package storetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

const papers = `CREATE TABLE papers (id TEXT PRIMARY KEY NOT NULL, body TEXT, meta TEXT, score INT CHECK (score < 100))`

func papersTables(t testing.TB) change.Schema {
	return tables(t, papers, map[string]change.Options{"papers": {Merge: map[string]change.Policy{
		"body": "mine || ' + ' || theirs", "meta": "json_patch(theirs, mine)", "score": "mine + theirs"}}})
}

// papersPair returns a master and two devices that hold a row.
func papersPair(t testing.TB, c Config) (*master, *client, *client) {
	m := newMaster(t, c, store.Options{})
	a, b := newClient(t, m.space, 1, papersTables(t)), newClient(t, m.space, 2, papersTables(t))
	a.sync(put("papers", "k", paper("t", "{}", 1)))
	b.sync()
	a.sync()
	return m, a, b
}

func paper(body, meta string, score int64) values {
	return values{"body": body, "meta": meta, "score": score}
}

func testExpressions(t *testing.T, c Config) {
	is := func(d *client, row values) {
		t.Helper()
		d.has("papers", map[change.Value]values{"k": row})
	}
	t.Run("mine is what would stay, whichever came first; nobody has lost", func(t *testing.T) {
		for _, first := range []int{0, 1} {
			m, a, b := papersPair(t, c)
			edits := []func(){
				func() { a.push(put("papers", "k", paper("a", `{"x":1,"a":1}`, 3)).ranked(2, 0)) },
				func() { b.push(put("papers", "k", paper("b", `{"x":2,"b":1}`, 4)).ranked(1, 0)) },
			}
			edits[first]()
			edits[1-first]()
			agree(t, a, b)
			is(a, paper("a + b", `{"x":1,"b":1,"a":1}`, 7))
			a.heard()
			b.heard()
			if st := m.stats(); st.Conflicts != 0 {
				t.Errorf("%d conflicts", st.Conflicts)
			}
		}
	})
	t.Run("an edit that has seen the other replaces it", func(t *testing.T) {
		_, a, b := papersPair(t, c)
		b.sync(put("papers", "k", values{"body": "b"}))
		agree(t, a, b)
		is(a, paper("b", "{}", 1))
	})
	t.Run("a push that is repeated is merged once", func(t *testing.T) {
		_, a, b := papersPair(t, c)
		b.push(put("papers", "k", values{"score": int64(10)}))
		parts := a.request(put("papers", "k", values{"score": int64(5)}))
		for range 3 {
			pull, err := a.send(parts)
			if err != nil {
				t.Fatal(err)
			}
			a.finish(pull)
		}
		agree(t, a, b)
		is(b, paper("t", "{}", 15))
	})
	t.Run("a deleted row goes on merging", func(t *testing.T) {
		_, a, b := papersPair(t, c)
		d := newClient(t, a.space, 3, papersTables(t))
		d.sync()
		d.push(del("papers", "k").ranked(1, 0))
		a.push(put("papers", "k", values{"body": "a"}))
		b.push(put("papers", "k", values{"body": "b"}).ranked(2, 0))
		agree(t, a, b, d)
		is(d, paper("b + a", "{}", 1))
	})
	t.Run("where an expression fails its rank decides, and the log says why", func(t *testing.T) {
		_, a, b := papersPair(t, c)
		a.push(put("papers", "k", values{"meta": `{"a":1}`, "body": "a"}).ranked(2, 0))
		b.push(put("papers", "k", values{"meta": "no JSON", "body": "b"}).ranked(1, 0))
		agree(t, a, b)
		is(a, paper("a + b", `{"a":1}`, 1))
		l := b.heard(change.UpdateLost)[0]
		contains(t, l.Reason, "column meta", "malformed JSON")
		if l.Rule != change.ByWeight || fmt.Sprint(l.Columns, l.Lost, l.Kept) != `[meta] [no JSON] [{"a":1}]` {
			t.Errorf("conflict %+v", l)
		}
		a.heard()
	})
	t.Run("a result that the table does not take is none", func(t *testing.T) {
		_, a, b := papersPair(t, c)
		a.push(put("papers", "k", values{"score": int64(60)}).ranked(1, 0))
		b.push(put("papers", "k", values{"score": int64(70)}).ranked(2, 0))
		agree(t, a, b)
		is(a, paper("t", "{}", 70))
		contains(t, a.heard(change.UpdateLost)[0].Reason, "CHECK")
		b.push(put("papers", "k", values{"score": int64(170)})) // by itself it is still rejected
		b.sync()
		contains(t, b.heard(change.Rejected)[0].Reason, "CHECK")
		is(b, paper("t", "{}", 70))
	})
	t.Run("long values go by their rank", func(t *testing.T) {
		_, a, b := papersPair(t, c)
		long := strings.Repeat("x", 1<<16)
		a.push(put("papers", "k", values{"body": long}).ranked(1, 0))
		b.push(put("papers", "k", values{"body": "b"}))
		agree(t, a, b)
		is(a, paper(long, "{}", 1))
		contains(t, b.heard(change.UpdateLost)[0].Reason, "65536 bytes")
	})
	t.Run("a schema's expression is a stranger's", func(t *testing.T) {
		for _, bad := range []change.Policy{"random() + mine", "(SELECT sql FROM sqlite_schema)", "mine + score", "most wanted", "load_extension('x') + 1",
			change.Policy(strings.Repeat("mine + ", change.MaxPolicy) + "1"), "1) FROM v /*"} {
			d := newClient(t, newMaster(t, c, store.Options{}).space, 3, tables(t, papers, map[string]change.Options{"papers": {Merge: map[string]change.Policy{"body": bad}}}))
			_, err := d.send(d.request())
			contains(t, errorAs[*store.SchemaError](t, err).Reason, "body", "expression")
		}
	})
	t.Run("after a restart the expression is still there", func(t *testing.T) {
		m, a, b := papersPair(t, c)
		m.reopen(a, b)
		a.push(put("papers", "k", values{"score": int64(3)}))
		b.push(put("papers", "k", values{"score": int64(4)}))
		agree(t, a, b)
		is(a, paper("t", "{}", 7))
	})
}
