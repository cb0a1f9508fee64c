package server

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/masterd/store/pgtest"
)

// stagingFake returns a fakeEngine that keeps parts in a database, in a schema of its own.
func stagingFake(t *testing.T, server *pgtest.Server, schema string) *fakeEngine {
	t.Helper()
	ctx := context.Background()
	url := server.URL(schema)
	db, err := store.OpenPostgres(ctx, url, t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	e := newFake("notes")
	e.stager = db
	e.parts = func() (n int) {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM velosync_part`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	return e
}

// TestSharedStaging: parts in a database are answered for as parts in files are.
func TestSharedStaging(t *testing.T) {
	server := pgtest.Start(t)
	t.Run("parts", func(t *testing.T) { testParts(t, stagingFake(t, server, "parts")) })
	t.Run("limits", func(t *testing.T) { testPartLimits(t, stagingFake(t, server, "limits")) })
	t.Run("each part to another process", func(t *testing.T) {
		e := stagingFake(t, server, "apart")
		a, b := serve(t, e, Options{}), serve(t, e, Options{})
		token := a.token("notes", "phone")
		for n := range 5 {
			[]*running{a, b}[n%2].sync("notes", token, partOf(n, n < 4, 1))
		}
		calls := e.spaces["notes"].seen()
		if len(calls) != 1 || len(calls[0].parts) != 5 {
			t.Fatalf("the store saw %d pushes", len(calls))
		}
		for n, p := range calls[0].parts {
			if want := partOf(n, n < 4, 1).Blocks[0].Keys[0]; p.Blocks[0].Keys[0] != want {
				t.Errorf("part %d holds %v", n, p.Blocks[0].Keys[0])
			}
		}
		if n := e.parts(); n != 0 {
			t.Errorf("%d parts left after use", n)
		}
	})
	t.Run("a part that goes away under its push", func(t *testing.T) {
		e := stagingFake(t, server, "gone")
		r := serve(t, e, Options{})
		token := r.token("notes", "phone")
		r.sync("notes", token, partOf(0, true, 1))
		server.Exec(`UPDATE gone.velosync_part SET body = body || 'x'`)
		if a := r.do("POST", "/v1/notes/sync", token, encodePush(t, partOf(1, false, 1))); a.code(t) != "part-missing" {
			t.Errorf("got %d %s", a.status, a.body)
		}
	})
}
