package replicator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/replicator/wire"
)

// The tests named TestThreat_ are of what masterd/THREATS.md lists, here and in the
// packages that defend.

// A forger is a device's own network: it changes what its replicator pushes, and signs it
// anew.
type forger struct {
	next  http.Transport
	forge func(*change.Push)
	token string // shown in place of the device's
}

func newForger(t *testing.T) *forger {
	f := &forger{}
	t.Cleanup(f.next.CloseIdleConnections)
	return f
}

func (f *forger) use(o *replicator.Options) { o.Transport = f }

func (f *forger) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if f.token != "" {
		r.Header.Set("Authorization", "Bearer "+f.token)
	}
	if f.forge != nil && strings.HasSuffix(r.URL.Path, "/sync") {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		p, err := wire.DecodePush(body, wire.Limits{}.Defaults())
		if err != nil {
			return nil, err
		}
		f.forge(p)
		if body, err = wire.EncodePush(p); err != nil {
			return nil, err
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Digest", wire.Digest(body))
	}
	return f.next.RoundTrip(r)
}

// TestThreat_namesBecomeSQL: tables, columns and keys may be called anything.
func TestThreat_namesBecomeSQL(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	tables := []string{`a"; DROP TABLE notes; --`, `select`, `'quoted'`, `ünï 🌍`, `x]y`, "back`tick", `%s?1:a@b$c`}
	for i, name := range tables {
		q := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
		a.exec(fmt.Sprintf(`CREATE TABLE %s(%s TEXT NOT NULL, %s BLOB NOT NULL, %s, PRIMARY KEY(%[2]s, %[3]s))`, q(name), q(`k"1`), q(`from`), q(`va"l'ue; --`)))
		if _, err := a.db.Exec(`SELECT velosync_track(?)`, name); err != nil {
			t.Fatalf("track %q: %v", name, err)
		}
		a.exec(fmt.Sprintf(`INSERT INTO %s VALUES ('k'';"', x'00ff27', 'Robert''); DROP TABLE x;--'), ('', 1.5, NULL)`, q(name)),
			fmt.Sprintf(`UPDATE %s SET %s = 'changed' WHERE %s = ''`, q(name), q(`va"l'ue; --`), q(`k"1`)))
		if i%2 == 0 {
			a.exec(fmt.Sprintf(`DELETE FROM %s WHERE %s = 1.5`, q(name), q(`from`)))
		}
		defer func() {
			query := fmt.Sprintf(`SELECT * FROM %s ORDER BY 1, 2`, q(name))
			b.want(query, a.rows(query))
		}()
	}
	a.sync()
	b.sync()
}

// TestThreat_ownTables: the log, the clocks and SQLite's own tables can be neither tracked
// nor pushed to.
func TestThreat_ownTables(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	f := newForger(t)
	a := newDevice(t, m, "a", f.use)
	a.exec(notes, trackNotes, threeNotes)
	a.sync()
	before := spaceStats(t, m)
	for _, name := range []string{"_velosync_row", "_velosync_space", "_VeloSync_device", "_velosync_token", "sqlite_schema", "sqlite_master", "sqlite_sequence", "SQLITE_STAT1"} {
		if _, err := a.db.Exec(`SELECT velosync_track(?)`, name); err == nil {
			t.Errorf("%s can be tracked", name)
		}
		f.forge = func(p *change.Push) {
			table := change.Table{Name: name, SQL: `CREATE TABLE "` + name + `"(id TEXT PRIMARY KEY NOT NULL, deleted)`, Columns: []change.Column{{Name: "id", Type: "TEXT", NotNull: true}, {Name: "deleted"}}, Key: []int{0}}
			p.Tables = change.Schema{table}
			p.Schema = p.Tables.Digest()
			p.Blocks = []change.Block{{Table: 0, Regs: 1, Keys: []change.Value{"x"}, Columns: [][]change.Value{{int64(1)}}, Stamps: []change.EditStamp{{LSN: p.Through}}}}
		}
		a.exec(`UPDATE notes SET body = body || '.'`)
		var p *wire.Problem
		if err := a.fails(); !errors.As(err, &p) || p.Status/100 != 4 {
			t.Errorf("a push to %s: %v", name, err)
		}
	}
	if st := spaceStats(t, m); st.Head != before.Head || st.Rows != before.Rows {
		t.Errorf("the master took something: %+v, before %+v", st, before)
	}
	f.forge = nil
	settled(t, m, a)
}

// TestThreat_spoofedDevice: a device id belongs to the token that used it first; under
// another one nothing is pushed, and none of its LSNs is used up.
func TestThreat_spoofedDevice(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	line := newTape(t)
	a, b := newDevice(t, m, "a", line.use), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, threeNotes)
	settled(t, m, a, b)
	before := deviceStats(t, m, a)
	id := a.id()
	a.exec(`UPDATE notes SET title = 'by a' WHERE id = 'x'`)
	line.down = true
	_ = a.fails()
	line.down = false
	push := line.take("sync")[0]
	push.header.Set("Authorization", "Bearer "+m.TokenFor("default", "b"))
	if status, body := line.again(t, push); status != 403 || !strings.Contains(body, wire.CodeForbidden) {
		t.Errorf("a's push under b's token: %d %s", status, body)
	}
	// b's file says that it is a.
	b.exec(`UPDATE _velosync_state SET device = x'`+id+`'`, `DELETE FROM _velosync_name`, `UPDATE notes SET title = 'by b', score = 0 WHERE id = 'x'`)
	b.sync()
	if b.id() == id {
		t.Error("b goes by a's id")
	}
	if got := deviceStats(t, m, a); got.LSN != before.LSN || got.Owner != "a" {
		t.Errorf("a's place is %+v, was %+v", got, before)
	}
	settled(t, m, a, b)
	a.want(`SELECT title FROM notes WHERE id = 'x'`, "by a")
	// An ack in its name is none.
	a.exec(`DELETE FROM notes WHERE id = 'z'`)
	a.sync()
	ack := line.take("ack")[0]
	ack.header.Set("Authorization", "Bearer "+m.TokenFor("default", "b"))
	if status, body := line.again(t, ack); status != 403 {
		t.Errorf("a's ack under b's token: %d %s", status, body)
	}
}

// TestThreat_cursorFromTheFuture: the device says that it has seen what this master has
// not, or has not sent to it.
func TestThreat_cursorFromTheFuture(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	a.exec(`UPDATE _velosync_state SET seen = 1000`, `UPDATE notes SET title = 'mine'`)
	if r := a.sync(); !r.Restored || r.PushedBackRows != 0 || r.PushedRows != 1 {
		t.Errorf("%+v: want that the master was restored, and lacks nothing but the edit", r)
	}
	a.want(`SELECT title, seen, pending FROM notes, velosync_status`, "mine 2 0")
	if r := a.sync(); r.Restored {
		t.Error("the next round compares again")
	}
	// It claims to have seen its rival, so as to win: what it was not sent it has not seen.
	t.Run("not served", func(t *testing.T) {
		f := newForger(t)
		liar, b := newDevice(t, m, "liar", f.use), newDevice(t, m, "b", nil)
		liar.sync()
		b.sync()
		b.exec(`UPDATE notes SET title = 'honest', score = 5`)
		b.sync()
		head := spaceStats(t, m).Head
		liar.exec(`UPDATE notes SET title = 'liar', score = 2`)
		f.forge = func(p *change.Push) {
			for i := range p.Blocks {
				for j := range p.Blocks[i].Stamps {
					s := &p.Blocks[i].Stamps[j]
					s.Seen, s.Existence = head, head
				}
			}
		}
		if r := liar.sync(); r.LostRows != 1 {
			t.Errorf("%+v: want the lie lost", r)
		}
		f.forge = nil
		settled(t, m, liar, b, a)
		a.want(`SELECT title, score FROM notes`, "honest 5")
	})
}

// TestThreat_weights: a weight beyond the bounds is refused at the master too, whatever a
// device's triggers let through.
func TestThreat_weights(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	f := newForger(t)
	a := newDevice(t, m, "a", f.use)
	a.exec(notes, trackNotes, threeNotes)
	a.sync()
	head := spaceStats(t, m).Head
	a.exec(`UPDATE notes SET title = 'heavy' WHERE id = 'x'`)
	for _, w := range []float64{1e308, 2e9, -3e9} {
		f.forge = func(p *change.Push) { p.Blocks[0].Stamps[0].Weight = w }
		var p *wire.Problem
		if err := a.fails(); !errors.As(err, &p) || p.Status != 422 || !strings.Contains(p.Detail, "weight") {
			t.Errorf("weight %v: %v, want it refused", w, err)
		}
	}
	for _, w := range []float64{math.Inf(1), math.Inf(-1), math.NaN()} { // no message can hold these
		f.forge = func(p *change.Push) { p.Blocks[0].Stamps[0].Weight = w }
		if err := a.fails(); !strings.Contains(err.Error(), "want a finite number") {
			t.Errorf("weight %v: %v, want that it can't be encoded", w, err)
		}
	}
	if got := spaceStats(t, m).Head; got != head {
		t.Errorf("the master took %d changes", got-head)
	}
	f.forge = nil
	settled(t, m, a)
}

// TestThreat_timeFromTheFuture: a claim of the year 2100 is cut to five minutes from now: it
// can't win for ever.
func TestThreat_timeFromTheFuture(t *testing.T) {
	now := stopped
	clock := func() time.Time { return now }
	m := masterdtest.New(t, masterdtest.Options{Log: quiet, Store: store.Options{Now: clock}, Server: server.Options{Rate: -1, Now: clock}})
	own := func(o *replicator.Options) { o.Now = clock }
	a, b := newDevice(t, m, "a", own), newDevice(t, m, "b", own)
	a.exec(notes, trackNotes, threeNotes)
	settled(t, m, a, b)
	a.exec(`UPDATE notes SET title = 'the future' WHERE id = 'x'`, `UPDATE _velosync_wal SET at = 4102444800000`)
	a.sync()
	b.exec(`UPDATE notes SET title = 'ten minutes later' WHERE id = 'x'`)
	now = now.Add(10 * time.Minute)
	b.exec(fmt.Sprintf(`UPDATE _velosync_wal SET at = %d WHERE lsn > (SELECT acked FROM _velosync_state)`, now.UnixMilli()))
	settled(t, m, b, a)
	a.want(`SELECT title FROM notes WHERE id = 'x'`, "ten minutes later")
}

// TestThreat_pathTraversal: the name of a space is no path, with a token and without.
func TestThreat_pathTraversal(t *testing.T) {
	for _, insecure := range []bool{false, true} {
		m := masterdtest.New(t, masterdtest.Options{Insecure: insecure, Dir: filepath.Join(t.TempDir(), "deep", "data")})
		line := newTape(t)
		a := newDevice(t, m, "a", line.use)
		a.exec(notes, trackNotes, threeNotes)
		a.sync()
		calls := line.take("sync")
		count := func() (n int) {
			_ = filepath.WalkDir(filepath.Dir(filepath.Dir(m.Dir)), func(string, fs.DirEntry, error) error { n++; return nil })
			return n
		}
		before := count()
		for _, name := range []string{"..", "...", "%2e%2e", "..%2f..%2fpwned", "%2e%2e%2fpwned", "..%5cpwned", "a%2fb", "a%00b", "pwned.db", "PWNED", "%2fetc%2fpasswd", strings.Repeat("a", 65), "a b", "é", "-%2f..%2f"} {
			c := calls[0]
			c.url = m.URL + "/v1/" + name + "/sync"
			if status, body := line.again(t, c); status < 400 || status >= 500 {
				t.Errorf("space %q: %d %s", name, status, body)
			}
		}
		if after := count(); after != before {
			t.Errorf("%d files, %d before", after, before)
		}
	}
	// What a device is told to sync with is checked there too: the URL can't climb.
	m := masterdtest.New(t, masterdtest.Options{})
	a := newDevice(t, m, "a", func(o *replicator.Options) { o.Space = "../../stats" })
	a.exec(notes, trackNotes)
	if _, err := a.r.Sync(context.Background()); err == nil {
		t.Error("a space that climbs was synced")
	}
}
