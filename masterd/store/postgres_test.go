package store_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/masterd/store/pgtest"
	"github.com/velosync/velosync/masterd/store/storetest"
)

// schemaOf names the schema of a test's directory.
func schemaOf(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "s" + hex.EncodeToString(sum[:8])
}

func TestPostgres(t *testing.T) {
	server := pgtest.Start(t)
	open := func(dir string, o store.Options) (store.Engine, error) {
		return store.OpenPostgres(context.Background(), server.URL(schemaOf(dir)), dir, o)
	}
	t.Run("kept cache", func(t *testing.T) {
		storetest.Run(t, storetest.Config{Few: true, Open: open, Crash: func(t testing.TB, dir string) string {
			to := crash(t, dir)
			server.Copy(schemaOf(dir), schemaOf(to))
			return to
		}})
	})
	t.Run("two masterds", func(t *testing.T) {
		storetest.Run(t, storetest.Config{
			Turns: true,
			Few:   true,
			Open: func(dir string, o store.Options) (store.Engine, error) {
				var both two
				for i := range both.engines {
					cache, err := os.MkdirTemp(dir, "cache") // empty: what it held before is gone
					if err != nil {
						return nil, err
					}
					both.engines[i], err = store.OpenPostgres(context.Background(), server.URL(schemaOf(dir)), cache, o)
					if err != nil {
						return nil, err
					}
				}
				return &both, nil
			},
			Crash: func(t testing.TB, dir string) string {
				to := t.TempDir()
				server.Copy(schemaOf(dir), schemaOf(to))
				return to
			},
		})
	})
}

func openPostgres(t testing.TB, url, cache string) *store.Postgres {
	t.Helper()
	engine, err := store.OpenPostgres(t.Context(), url, cache, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return engine
}

// A pusher is a device that only adds rows to docs, one a push.
type pusher struct {
	id     byte
	schema change.Schema
	epochs []change.Epoch
	seen   change.Seq
	pushes int
}

// next returns a push that adds a row under a key.
func (p *pusher) next(key string) *change.Push {
	p.pushes++
	var names []change.Name
	for n := range p.pushes {
		names = append(names, change.Name{p.id, byte(n), byte(n >> 8), 1})
	}
	return &change.Push{Device: change.DeviceID{p.id}, Names: names, Schema: p.schema.Digest(), Tables: p.schema, Known: p.schema.Digest(),
		Epochs: p.epochs, Seen: p.seen, Through: change.LSN(p.pushes), Blocks: []change.Block{{
			Regs: change.AllBits(5), Keys: []change.Value{key}, Columns: [][]change.Value{{fmt.Sprint("by ", p.id)}, {"b"}, {nil}, {0.5}, {int64(1)}},
			Stamps: []change.EditStamp{{Seen: p.seen, Existence: p.seen, LSN: change.LSN(p.pushes), Time: 1_700_000_000_000, Weight: 0.5}},
		}}}
}

// push adds a row under a key. It is tried until it is answered, as a device does.
func (p *pusher) push(ctx context.Context, engine store.Engine, key string) error {
	push := p.next(key)
	for {
		pull, err := p.try(ctx, engine, push)
		var unavailable *store.UnavailableError
		var file sqlite3.Error // it was deleted while it was read
		switch {
		case err == nil:
		case errors.As(err, &unavailable), errors.As(err, &file):
			continue
		default:
			return err
		}
		if pull.To < p.seen {
			return fmt.Errorf("device %d has seen %d and is answered up to %d", p.id, p.seen, pull.To)
		}
		p.seen, p.epochs = pull.To, nil
		for _, e := range pull.Epochs {
			if e.First <= pull.To {
				p.epochs = append(p.epochs, e)
			}
		}
		return nil
	}
}

func (p *pusher) try(ctx context.Context, engine store.Engine, push *change.Push) (*change.Pull, error) {
	space, err := engine.Space(ctx, "docs")
	if err != nil {
		return nil, err
	}
	return space.Sync(ctx, "", push, each([]*change.Push{push}))
}

// pushAll lets some devices push in turn until disturb has returned, and a little longer.
// While that runs, it may wait for the next ten pushes. It returns how many rows they made.
func pushAll(t *testing.T, engines []store.Engine, disturb func(wait func())) (rows int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const devices, least = 4, 20
	done, pushed := make(chan struct{}), make(chan struct{})
	schema := docsSchema(t)
	var wait gosync.WaitGroup
	var mu gosync.Mutex
	for id := range devices {
		wait.Go(func() {
			p := pusher{id: byte(id + 1), schema: schema}
			for n := 0; ; n++ {
				select {
				case <-done:
					if n >= least {
						return
					}
				case <-ctx.Done():
					t.Error(ctx.Err())
					return
				default:
				}
				if err := p.push(ctx, engines[n%len(engines)], fmt.Sprint(id, " ", n)); err != nil {
					t.Errorf("device %d: push %d: %v", id, n, err)
					return
				}
				mu.Lock()
				rows++
				mu.Unlock()
				select {
				case pushed <- struct{}{}:
				case <-done:
				}
			}
		})
	}
	disturb(func() {
		for range 10 {
			select {
			case <-pushed:
			case <-ctx.Done():
			}
		}
	})
	close(done)
	wait.Wait()
	return rows
}

// fileOf prints what the cache of the space docs holds once it is up to date.
func fileOf(t *testing.T, engine store.Engine, cache string) string {
	t.Helper()
	space, err := engine.Space(t.Context(), "docs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := space.Stats(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", filepath.Join(cache, "spaces", "docs.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var text strings.Builder
	for _, q := range []string{
		`SELECT group_concat(quote(r.feed) || quote(r.pk) || quote(r.dots) || quote(d.title) || quote(d.weight), x'0a') FROM (SELECT * FROM _velosync_row ORDER BY feed) r JOIN docs d ON d.id = r.pk`,
		`SELECT count(*) FROM docs`,
		`SELECT group_concat(quote(id) || quote(name) || quote(lsn), x'0a') FROM (SELECT * FROM _velosync_device ORDER BY site)`,
		`SELECT group_concat(quote(first) || quote(id), x'0a') FROM (SELECT * FROM _velosync_epoch ORDER BY first)`,
		`SELECT head || ' ' || live || ' ' || version FROM _velosync_space`,
		`SELECT group_concat(sql, x'0a') FROM sqlite_schema`,
	} {
		var s sql.NullString
		if err := db.QueryRow(q).Scan(&s); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&text, s.String)
	}
	return text.String()
}

// TestPostgres_disturbed: whatever happens to caches and to the server, each answered push
// is there once, no device is told that the master was restored, and all files agree.
func TestPostgres_disturbed(t *testing.T) {
	server := pgtest.Start(t)
	for _, x := range []struct {
		name    string
		disturb func(caches [2]string, wait func())
	}{
		{"caches are deleted", func(caches [2]string, wait func()) {
			for range 3 {
				wait()
				for _, dir := range caches {
					if err := os.RemoveAll(dir); err != nil {
						t.Error(err)
					}
				}
			}
		}},
		{"the server crashes", func(_ [2]string, wait func()) {
			for range 3 {
				wait()
				server.Restart()
			}
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			url := server.URL(schemaOf(t.Name()))
			caches := [2]string{t.TempDir(), t.TempDir()}
			engines := []store.Engine{openPostgres(t, url, caches[0]), openPostgres(t, url, caches[1])}
			rows := pushAll(t, engines, func(wait func()) { x.disturb(caches, wait) })
			fresh := t.TempDir()
			want := fileOf(t, openPostgres(t, url, fresh), fresh)
			for i, e := range engines {
				if got := fileOf(t, e, caches[i]); got != want {
					t.Errorf("a file that lived holds\n%s\na new one\n%s", got, want)
				}
			}
			space, err := engines[0].Space(t.Context(), "docs")
			if err != nil {
				t.Fatal(err)
			}
			if st, err := space.Stats(t.Context()); err != nil || st.Rows != int64(rows) || st.Head != change.Seq(rows) {
				t.Errorf("%d rows were pushed, stats %+v, %v", rows, st, err)
			}
		})
	}
}

// TestPostgres_restored: a cache that is newer than the database, or of another history, is
// filled anew, however far the database has come since.
func TestPostgres_restored(t *testing.T) {
	server := pgtest.Start(t)
	for _, since := range []int{0, 2, 5} { // pushes after the restore, of which the cache knows nothing
		now, backup := fmt.Sprint("now", since), fmt.Sprint("backup", since)
		cache, other, fresh := t.TempDir(), t.TempDir(), t.TempDir()
		p := pusher{id: 1, schema: docsSchema(t)}
		push := func(p *pusher, e store.Engine, keys ...string) error {
			for _, key := range keys {
				if err := p.push(t.Context(), e, key); err != nil {
					return err
				}
			}
			return nil
		}
		engine := openPostgres(t, server.URL(now), cache)
		if err := push(&p, engine, "a"); err != nil {
			t.Fatal(err)
		}
		server.Copy(now, backup)
		if err := push(&p, engine, "b", "c"); err != nil {
			t.Fatal(err)
		}
		if err := engine.Close(); err != nil {
			t.Fatal(err)
		}
		q := pusher{id: 2, schema: p.schema}
		if err := push(&q, openPostgres(t, server.URL(backup), other), []string{"v", "w", "x", "y", "z"}[:since]...); err != nil {
			t.Fatal(err)
		}
		engine = openPostgres(t, server.URL(backup), cache)
		want := fileOf(t, openPostgres(t, server.URL(backup), fresh), fresh)
		if got := fileOf(t, engine, cache); got != want {
			t.Errorf("%d pushes after the restore, the old cache holds\n%s\na new one\n%s", since, got, want)
		}
		var restored *store.RestoredError
		if err := push(&p, engine, "d"); !errors.As(err, &restored) || restored.Common != 1 {
			t.Errorf("%d pushes after the restore, a device that saw more is told: %v", since, err)
		}
	}
}

// TestPostgres_longKeys: PostgreSQL's indexes take no such keys.
func TestPostgres_longKeys(t *testing.T) {
	url := pgtest.Start(t).URL("long")
	cache, fresh := t.TempDir(), t.TempDir()
	engine := openPostgres(t, url, cache)
	p := pusher{id: 1, schema: docsSchema(t)}
	for _, key := range []string{strings.Repeat("a", 5000), strings.Repeat("a", 5001), "a"} {
		for range 2 { // once new, once there
			if err := p.push(t.Context(), engine, key); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := fileOf(t, openPostgres(t, url, fresh), fresh)
	if want := fileOf(t, engine, cache); got != want {
		t.Errorf("got\n%.1000s\nwant\n%.1000s", got, want)
	}
}

// TestPostgres_v1: what clients of protocol v1 are known by goes from one masterd to another.
func TestPostgres_v1(t *testing.T) {
	url := pgtest.Start(t).URL("v1")
	engines := []store.Engine{openPostgres(t, url, t.TempDir()), openPostgres(t, url, t.TempDir())}
	clock := map[string]change.Clock{"x": {}, "y": {}}
	seen := map[string]change.Seq{}
	for n := range 8 {
		name := []string{"x", "y"}[n/2%2]
		space, err := engines[n%2].Space(t.Context(), "default")
		if err != nil {
			t.Fatal(err)
		}
		c := clock[name]
		c[name]++
		answer, err := space.(store.V1).SyncV1(t.Context(), "", &store.V1Push{Device: name, Head: change.LSN(c[name]), Raise: 1, MaxPull: 1 << 20,
			Records: []store.V1Record{{ID: "a", Name: "a", Embedding: make([]byte, 16), Metadata: fmt.Sprintf(`{"n":%d}`, n), Updated: float64(n), Clock: maps.Clone(c)}}})
		if err != nil {
			t.Fatal(err)
		}
		if len(answer.Rejected) > 0 || answer.Applied != 1 {
			t.Errorf("push %d of %s: %+v", n, name, answer)
		}
		for _, r := range answer.Pull {
			for site, count := range r.Clock {
				c[site] = max(c[site], count)
			}
		}
		seen[name] = answer.Seq
		if _, _, err := space.(store.V1).AckV1(t.Context(), "", name, answer.Seq, change.LSN(c[name])); err != nil {
			t.Error(err)
		}
	}
	for i, e := range engines {
		space, err := e.Space(t.Context(), "default")
		if err != nil {
			t.Fatal(err)
		}
		st, err := space.(store.V1).StatsV1(t.Context())
		if err != nil || st.Live != 1 || len(st.Devices) != 2 || st.Devices[0].Acked != seen["x"] || st.Devices[1].Acked != seen["y"] {
			t.Errorf("masterd %d: %+v, %v", i, st, err)
		}
	}
}

func TestOpenPostgres_hidesThePassword(t *testing.T) {
	for _, url := range []string{
		"postgres://me:secret@127.0.0.1:1/notes?connect_timeout=1",
		"host=127.0.0.1 port=1 user=me password=secret dbname=notes",
		"postgres://me:secret@127.0.0.1:port/notes",
		"host=127.0.0.1 password=secret port=port",
	} {
		_, err := store.OpenPostgres(t.Context(), url, t.TempDir(), store.Options{})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
