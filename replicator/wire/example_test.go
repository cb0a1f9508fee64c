package wire_test

import (
	"fmt"
	"log"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

func Example() {
	push := &change.Push{
		Device: change.DeviceID{1},
		Blocks: []change.Block{{
			Table:   0,
			Regs:    change.Bit(0),
			Keys:    []change.Value{"note-1", "note-2"},
			Columns: [][]change.Value{{"milk", "bread"}},
			Stamps:  []change.EditStamp{{LSN: 1}, {LSN: 2}},
		}},
	}
	body, err := wire.EncodePush(push)
	if err != nil {
		log.Fatal(err)
	}
	header := wire.Digest(body) // sent as Content-Digest

	// The other end:
	if err := wire.CheckDigest(header, body); err != nil {
		log.Fatal(err)
	}
	got, err := wire.DecodePush(body, wire.Limits{})
	if err != nil {
		log.Fatal(err)
	}
	b := got.Blocks[0]
	for i, key := range b.Keys {
		fmt.Println(key, b.Columns[0][i], b.Stamps[i].LSN)
	}
	// Output:
	// note-1 milk 1
	// note-2 bread 2
}

func ExampleCheckDigest() {
	body := []byte("sent")
	header := wire.Digest(body)
	fmt.Println(wire.CheckDigest(header, body))
	body[0] ^= 1
	err := wire.CheckDigest(header, body)
	fmt.Println(wire.ProblemOf(err).Code)
	// Output:
	// <nil>
	// digest-mismatch
}
