package store_test

import (
	"context"
	"fmt"
	"iter"
	"log"
	"os"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

func Example() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	engine, err := store.OpenSQLite(dir, store.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	ctx := context.Background()
	space, err := engine.Space(ctx, "notes")
	if err != nil {
		log.Fatal(err)
	}

	tables := change.Schema{{Name: "notes", SQL: "CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT)",
		Columns: []change.Column{{Name: "id", Type: "TEXT", NotNull: true}, {Name: "title", Type: "TEXT"}}, Key: []int{0}}}
	push := func(device, name byte, through change.LSN, blocks ...change.Block) *change.Pull {
		p := &change.Push{Device: change.DeviceID{device}, Names: []change.Name{{name}}, Schema: tables.Digest(), Tables: tables, Through: through, Blocks: blocks}
		var parts iter.Seq2[*change.Push, error] = func(yield func(*change.Push, error) bool) { yield(p, nil) }
		pull, err := space.Sync(ctx, "", p, parts)
		if err != nil {
			log.Fatal(err)
		}
		return pull
	}
	push(1, 1, 1, change.Block{Regs: 1, Keys: []change.Value{"a"}, Columns: [][]change.Value{{"tea"}}, Stamps: []change.EditStamp{{LSN: 1}}})
	pull := push(2, 2, 0)
	fmt.Println(pull.To, pull.Blocks[0].Keys, pull.Blocks[0].Columns)
	// Output: 1 [a] [[tea]]
}
