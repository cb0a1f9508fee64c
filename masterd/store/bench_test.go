package store_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/masterd/store/pgtest"
	vsql "github.com/velosync/velosync/sql"
)

// docs is the table of the measurements in the README: some 1,822 bytes a row.
const docs = `CREATE TABLE docs (id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, embedding BLOB, weight REAL, updated_at INTEGER)`

func docsSchema(b testing.TB) change.Schema {
	b.Helper()
	raw, err := (&sqlite3.SQLiteDriver{}).Open(":memory:")
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Close()
	c := vsql.NewConn(raw.(*sqlite3.SQLiteConn))
	defer c.Close()
	if err := c.Script(docs); err != nil {
		b.Fatal(err)
	}
	d, err := c.Describe("docs")
	if err != nil {
		b.Fatal(err)
	}
	d.Table.Options = change.Options{Weight: "weight"}
	return change.Schema{d.Table}
}

// docsPush is a push of new rows, in parts of at most 4,000.
func docsPush(schema change.Schema, device byte, rows int) []*change.Push {
	rnd := rand.New(rand.NewPCG(uint64(device), uint64(rows)))
	text := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('a' + rnd.IntN(26))
		}
		return string(b)
	}
	var parts []*change.Push
	for from := 0; from < rows; from += 4000 {
		n := min(4000, rows-from)
		b := change.Block{Regs: change.AllBits(5), Columns: make([][]change.Value, 5)}
		for i := range n {
			var x [16]byte
			binary.BigEndian.PutUint64(x[:], rnd.Uint64())
			binary.BigEndian.PutUint64(x[8:], rnd.Uint64())
			embedding := make([]byte, 1536)
			for j := 0; j < len(embedding); j += 8 {
				binary.LittleEndian.PutUint64(embedding[j:], rnd.Uint64())
			}
			b.Keys = append(b.Keys, fmt.Sprintf("%x-%x-%x-%x-%x", x[:4], x[4:6], x[6:8], x[8:10], x[10:]))
			for c, v := range []change.Value{text(30), text(200), embedding, 0.5, int64(1_700_000_000_000) + int64(i)} {
				b.Columns[c] = append(b.Columns[c], v)
			}
			b.Stamps = append(b.Stamps, change.EditStamp{LSN: change.LSN(from + i + 1), Time: 1_700_000_000_000 + int64(i), Weight: 0.5})
		}
		parts = append(parts, &change.Push{
			Device: change.DeviceID{device}, Names: []change.Name{{device}}, Schema: schema.Digest(), Tables: schema,
			Known: schema.Digest(), Through: change.LSN(rows), Part: len(parts), More: true, Blocks: []change.Block{b},
		})
	}
	return parts
}

func each(parts []*change.Push) iter.Seq2[*change.Push, error] {
	return func(yield func(*change.Push, error) bool) {
		for _, p := range parts {
			if !yield(p, nil) {
				return
			}
		}
	}
}

func openSpace(b *testing.B) store.Space {
	b.Helper()
	engine, err := store.OpenSQLite(b.TempDir(), store.Options{Now: func() time.Time { return time.UnixMilli(1_700_000_000_000) }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { engine.Close() })
	space, err := engine.Space(context.Background(), "docs")
	if err != nil {
		b.Fatal(err)
	}
	return space
}

func sync(b *testing.B, space store.Space, parts []*change.Push) *change.Pull {
	b.Helper()
	pull, err := space.Sync(context.Background(), "", parts[len(parts)-1], each(parts))
	if err != nil {
		b.Fatal(err)
	}
	return pull
}

// perSecond reports rows/s.
func perSecond(b *testing.B, rows int) {
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkApply applies first pushes: rows that are new to the master.
func BenchmarkApply(b *testing.B) {
	const rows = 20_000
	schema := docsSchema(b)
	for _, x := range []struct {
		name string
		size int
	}{{"push=4k", 4000}, {"push=20k", rows}} {
		b.Run("rows=20k/"+x.name, func(b *testing.B) {
			var pushes [][]*change.Push
			for d := range rows / x.size {
				pushes = append(pushes, docsPush(schema, byte(d+1), x.size))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				space := openSpace(b)
				b.StartTimer()
				for _, parts := range pushes {
					sync(b, space, parts)
				}
			}
			perSecond(b, rows)
		})
	}
}

// BenchmarkUpdate changes the titles of rows that are there.
func BenchmarkUpdate(b *testing.B) {
	const rows = 20_000
	schema := docsSchema(b)
	space := openSpace(b)
	parts := docsPush(schema, 1, rows)
	sync(b, space, parts)
	through := change.LSN(rows)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		name := change.Name{1, 1}
		binary.BigEndian.PutUint64(name[8:], uint64(through))
		var updates []*change.Push
		for i, p := range parts {
			u := *p
			u.Names = append(p.Names[:len(p.Names):len(p.Names)], name)
			u.Part, u.Through = i, through+rows
			u.Blocks = []change.Block{{Regs: 1, Keys: p.Blocks[0].Keys, Columns: p.Blocks[0].Columns[:1]}}
			for j := range p.Blocks[0].Keys {
				u.Blocks[0].Stamps = append(u.Blocks[0].Stamps, change.EditStamp{LSN: through + change.LSN(i*4000+j+1), Time: 1_700_000_000_000, Weight: 0.5})
			}
			updates = append(updates, &u)
		}
		through += rows
		for _, p := range parts {
			p.Names = []change.Name{name}
		}
		b.StartTimer()
		sync(b, space, updates)
	}
	perSecond(b, rows)
}

// BenchmarkPull serves all rows to a new device, in pages.
func BenchmarkPull(b *testing.B) {
	const rows = 20_000
	schema := docsSchema(b)
	space := openSpace(b)
	sync(b, space, docsPush(schema, 1, rows))
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		id := change.DeviceID{2, byte(i), byte(i >> 8)}
		push := &change.Push{Device: id, Names: []change.Name{{1}}, Known: schema.Digest()}
		got := 0
		for {
			pull := sync(b, space, []*change.Push{push})
			for j := range pull.Blocks {
				got += len(pull.Blocks[j].Keys)
			}
			if pull.Done {
				break
			}
			push = &change.Push{Device: id, Names: push.Names, Known: schema.Digest(), Paging: true, Page: pull.To}
		}
		if got != rows {
			b.Fatalf("pulled %d rows, want %d", got, rows)
		}
	}
	perSecond(b, rows)
}

// BenchmarkFirstPush compares the engines: 20,000 rows that are new to an empty space.
func BenchmarkFirstPush(b *testing.B) {
	const rows = 20_000
	schema := docsSchema(b)
	server := pgtest.Start(b, "fsync=on", "full_page_writes=on", "autovacuum=on")
	n := 0
	for _, x := range []struct {
		name string
		open func(dir string) (store.Engine, error)
	}{
		{"sqlite", func(dir string) (store.Engine, error) { return store.OpenSQLite(dir, store.Options{}) }},
		{"postgres", func(dir string) (store.Engine, error) {
			n++
			return store.OpenPostgres(b.Context(), server.URL(fmt.Sprint("bench", n)), dir, store.Options{})
		}},
	} {
		b.Run("engine="+x.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				engine, err := x.open(b.TempDir())
				if err != nil {
					b.Fatal(err)
				}
				space, err := engine.Space(b.Context(), "docs")
				if err != nil {
					b.Fatal(err)
				}
				parts := docsPush(schema, 1, rows)
				b.StartTimer()
				sync(b, space, parts)
				b.StopTimer()
				if err := engine.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			perSecond(b, rows)
		})
	}
}
