package store_test

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/masterd/store/pgtest"
)

// TestPostgres_triedAgain: a commit that the database undoes, since it met another
// transaction, is tried again, and the device hears nothing of it.
func TestPostgres_triedAgain(t *testing.T) {
	server := pgtest.Start(t)
	for _, x := range []struct {
		name, setting string // of the masterd's connections
		holds, wants  string // another transaction's statements, before and after masterd waits for it
		code          string
	}{
		{"serialization", "&default_transaction_isolation=repeatable%20read", `UPDATE velosync_space SET presumed = presumed`, `SELECT 1`, "40001"},
		{"deadlock", "", `LOCK TABLE velosync_row IN EXCLUSIVE MODE`, `UPDATE velosync_space SET presumed = presumed`, "40P01"},
	} {
		t.Run(x.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			url := server.URL(schemaOf(t.Name()))
			engine := openPostgres(t, url+"&application_name=masterd"+x.setting, t.TempDir())
			p := pusher{id: 1, schema: docsSchema(t)}
			if err := p.push(ctx, engine, "first"); err != nil {
				t.Fatal(err)
			}
			connect := func(url string) *pgx.Conn {
				c, err := pgx.Connect(ctx, url)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close(context.Background()) })
				return c
			}
			// The one whose patience ends first is the one that a deadlock undoes.
			other, watch := connect(url+"&deadlock_timeout=1h"), connect(url)
			count := func(query string) (n int) {
				if err := watch.QueryRow(ctx, query).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			mustDo := func(statement string) {
				if _, err := other.Exec(ctx, statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
			mustDo("BEGIN")
			mustDo(x.holds)
			answer := make(chan error, 1)
			go func() {
				_, err := p.try(ctx, engine, p.next("second"))
				answer <- err
			}()
			for count(`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'masterd' AND cardinality(pg_blocking_pids(pid)) > 0`) == 0 {
				select {
				case err := <-answer:
					t.Fatalf("the push did not wait for the other transaction: %v", err)
				case <-time.After(5 * time.Millisecond):
				}
			}
			mustDo(x.wants)
			mustDo("COMMIT")
			if err := <-answer; err != nil {
				t.Fatalf("the device is told of SQLSTATE %s: %v", x.code, err)
			}
			if n := count(`SELECT count(*) FROM velosync_row`); n != 2 {
				t.Errorf("%d rows, want 2", n)
			}
		})
	}
}

// TestPostgres_pruned: what the database keeps of its changes is bounded, and a cache from
// before that is filled anew, so that it does not keep what nobody tells it of any more.
func TestPostgres_pruned(t *testing.T) {
	url := pgtest.Start(t).URL("pruned")
	now := time.Now()
	open := func(cache string) (*store.Postgres, *strings.Builder) {
		t.Helper()
		var log strings.Builder
		engine, err := store.OpenPostgres(t.Context(), url, cache, store.Options{
			Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now }, ConflictRetention: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return engine, &log
	}
	// filled opens a cache, and returns what it holds and whether it was filled anew.
	filled := func(cache string) (content string, anew bool) {
		t.Helper()
		engine, log := open(cache)
		content = fileOf(t, engine, cache) + conflictsOf(t, cache)
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
		return content, strings.Contains(log.String(), "filled anew")
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	want := func(query string, want ...int64) {
		t.Helper()
		got := make([]int64, len(want))
		to := make([]any, len(want))
		for i := range got {
			to[i] = &got[i]
		}
		if err := conn.QueryRow(t.Context(), query).Scan(to...); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}

	engine, _ := open(t.TempDir())
	defer engine.Close()
	p, q := pusher{id: 1, schema: docsSchema(t)}, pusher{id: 2, schema: docsSchema(t)}
	push := func(p *pusher, key string) {
		t.Helper()
		if err := p.push(t.Context(), engine, key); err != nil {
			t.Fatal(err)
		}
	}
	push(&p, "a")
	push(&q, "a") // a conflict, which is forgotten after an hour
	old, young := t.TempDir(), t.TempDir()
	filled(old)
	if conflictsOf(t, old) == "" {
		t.Fatal("two devices made one row, and no conflict is in the cache")
	}
	push(&p, "heard") // who lost has heard of it
	now = now.Add(2 * time.Hour)
	space, err := engine.Space(t.Context(), "docs")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*pusher{&p, &q, &p} {
		now = now.Add(2 * time.Minute) // each ack may look what is to be forgotten
		if _, _, err := space.Ack(t.Context(), "", change.DeviceID{d.id}, d.seen, change.LSN(d.pushes)); err != nil {
			t.Fatal(err)
		}
	}
	want(`SELECT least(count(*), 1) FROM velosync_item WHERE gone AND kind = '_velosync_conflict'`, 1)
	// What some 11,000 changes leave behind that nobody could tell from these.
	for _, q := range []string{
		`INSERT INTO velosync_change SELECT 'docs', n, decode(md5(n::text), 'hex') FROM velosync_space, generate_series(change + 1, 10998) AS n`,
		`UPDATE velosync_space SET change = 10998, stamp = (SELECT stamp FROM velosync_change WHERE change = 10998)`,
	} {
		if _, err := conn.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	push(&p, "b")
	filled(young)
	want(`SELECT change, pruned, (SELECT min(change) FROM velosync_change) FROM velosync_space`, 10_999, 0, 0)
	push(&p, "c")
	want(`SELECT change, pruned, (SELECT min(change) FROM velosync_change) FROM velosync_space`, 11_000, 1000, 1000)
	want(`SELECT count(*) FROM velosync_item WHERE gone AND change <= 1000`, 0)

	right, _ := filled(t.TempDir())
	for _, x := range []struct {
		name, cache string
		anew        bool
	}{{"older than what is kept", old, true}, {"younger", young, false}} {
		got, anew := filled(x.cache)
		if got != right || anew != x.anew {
			t.Errorf("a cache %s: filled anew: %v, want %v; it holds\n%s\na new one\n%s", x.name, anew, x.anew, got, right)
		}
	}
	push(&q, "d") // and so it goes on
}

// conflictsOf prints which conflicts a cache holds.
func conflictsOf(t *testing.T, cache string) string {
	t.Helper()
	db, err := sql.Open("sqlite3", filepath.Join(cache, "spaces", "docs.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var s sql.NullString
	if err := db.QueryRow(`SELECT group_concat(id) FROM _velosync_conflict`).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s.String
}
