package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// words to make text of that compresses about as prose does.
var words = strings.Fields(`the of and a to in is you that it he was for on are as with his they
be at one have this from or had by hot word but what some we can out other were all there when up use
your how said an each she which do their time if will way about many then them write would like so these
her long make thing see him two has look more day could go come did number sound no most people my over
know water than call first who may down side been now find any new work part take get place made live
where after back little only round man year came show every good me give our under name very through just
form sentence great think say help low line differ turn cause much mean before move right boy old too same`)

func prose(r *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(' ')
	}
	return b.String()[:n]
}

func uuidText(r *rand.Rand) string {
	a, b := r.Uint64(), r.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", uint32(a), uint16(a>>32), a>>52, b>>50|0x8000, b&(1<<48-1))
}

func vector(r *rand.Rand, n int) []byte {
	b := make([]byte, 0, 4*n)
	for range n {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(r.NormFloat64())))
	}
	return b
}

// docsBlock makes rows of docs(id uuid text, title 30 B, body 200 B, embedding 384 x
// f32, weight, updated_at), as a device pushes them first.
func docsBlock(rows int) change.Block {
	r := rand.New(rand.NewPCG(1, 2))
	b := change.Block{Table: 0, Regs: change.AllBits(3), Columns: make([][]change.Value, 5)}
	at := int64(1_760_000_000_000)
	for i := range rows {
		at += r.Int64N(5)
		w := r.Float64()
		b.Keys = append(b.Keys, uuidText(r))
		b.Columns[0] = append(b.Columns[0], prose(r, 30))
		b.Columns[1] = append(b.Columns[1], prose(r, 200))
		b.Columns[2] = append(b.Columns[2], vector(r, 384))
		b.Columns[3] = append(b.Columns[3], w)
		b.Columns[4] = append(b.Columns[4], at-r.Int64N(1000))
		b.Stamps = append(b.Stamps, change.EditStamp{LSN: change.LSN(i + 1), Time: at, Weight: w})
	}
	return b
}

// titlesBlock makes rows of which the title alone has changed.
func titlesBlock(rows int) change.Block {
	r := rand.New(rand.NewPCG(3, 4))
	b := change.Block{Table: 0, Regs: change.Bit(0), Columns: make([][]change.Value, 1)}
	at := int64(1_760_000_000_000)
	for i := range rows {
		at += r.Int64N(5)
		b.Keys = append(b.Keys, uuidText(r))
		b.Columns[0] = append(b.Columns[0], prose(r, 30))
		b.Stamps = append(b.Stamps, change.EditStamp{LSN: change.LSN(i + 100_000), Seen: 80_000, Existence: 80_000, Time: at, Weight: r.Float64()})
	}
	return b
}

func pushOf(blocks ...change.Block) *change.Push {
	return &change.Push{
		Device: change.DeviceID{1, 2, 3}, Names: []change.Name{{9}, {8}}, Epochs: []change.Epoch{{ID: change.Name{7}, First: 1}},
		Seen: 80_000, Through: 200_000, Now: 1_760_000_000_123, Schema: [32]byte{1}, Blocks: blocks,
	}
}

// comparePush asks for a page of a comparison, and says what another one found.
func comparePush() *change.Push {
	return &change.Push{Device: change.DeviceID{0: 9}, Names: []change.Name{{0: 1}}, Seen: 12, Now: 1_760_000_000_123, Page: 5, Paging: true, Compare: true, Compared: 70}
}

// digestPush asks whether the master holds the same of a range.
func digestPush() *change.Push {
	return &change.Push{Device: change.DeviceID{0: 9}, Names: []change.Name{{0: 1}}, Seen: 12, Now: 1_760_000_000_123, Schema: [32]byte{31: 7}, Paging: true,
		Digest: &change.RangeDigest{Table: 1, After: "k1", To: "k9", Rows: 256, Sum: -5, Except: []change.Value{"k2", []byte{0}, int64(-1), 2.5}}}
}

func digestPull() *change.Pull {
	return &change.Pull{To: 12, Done: true, Digest: change.RangeEqual}
}

// snapshotPush asks for the page that follows a snapshot.
func snapshotPush() *change.Push {
	return &change.Push{Device: change.DeviceID{0: 9}, Names: []change.Name{{0: 1}}, Now: 1_760_000_000_123, Page: 5, Paging: true, Snapshot: 70}
}

// madePush has rows that were made, before the table was tracked and after, beside one that
// was not, and a block without any.
func madePush() *change.Push {
	block := func(table int, stamps ...change.EditStamp) change.Block {
		b := change.Block{Table: table, Regs: 1, Columns: [][]change.Value{nil}, Stamps: stamps}
		for i := range stamps {
			b.Keys, b.Columns[0] = append(b.Keys, int64(i+1)), append(b.Columns[0], "x")
		}
		return b
	}
	return &change.Push{Device: change.DeviceID{0: 9}, Names: []change.Name{{0: 1}}, Now: 1_760_000_000_123, Through: 80, Blocks: []change.Block{
		block(0, change.EditStamp{LSN: 3}),
		block(1, change.EditStamp{LSN: 70, Made: 70}, change.EditStamp{LSN: 71}, change.EditStamp{LSN: 80, Made: 4}, change.EditStamp{LSN: 72, Made: 9, Present: true}),
	}}
}

// policyPush and policyPull have tables with merge policies.
func policyPush() *change.Push {
	counter := change.Block{Table: 0, Regs: 6, Keys: []change.Value{"a", "b", "c"}, Columns: [][]change.Value{{int64(5), int64(-5), int64(0)}, {int64(1), int64(2), int64(3)}},
		Stamps: []change.EditStamp{
			{LSN: 11, Steps: []change.Step{{Reg: 1, LSN: 3, By: 5}, {Reg: 2, LSN: 11, By: 1}}},
			{LSN: 12}, // by its values
			{LSN: 20, Steps: []change.Step{{Reg: 2, LSN: 20, By: -change.MaxCounter}}},
		}}
	gone := change.Block{Table: 0, Delete: true, Keys: []change.Value{"d"}, Stamps: []change.EditStamp{{LSN: 9, Steps: []change.Step{{Reg: 63, LSN: 9, By: -7}}}}}
	return &change.Push{Device: change.DeviceID{0: 9}, Names: []change.Name{{0: 1}}, Seen: 12, Through: 20, Doubt: 11, Tables: policySchema(), Blocks: []change.Block{counter, docsBlock(1), gone}}
}

// setPush has steps of sets, beside those of a counter.
func setPush() *change.Push {
	set := change.Block{Table: 0, Regs: 3, Keys: []change.Value{"a", "b"}, Columns: [][]change.Value{{`["x","y"]`, "[]"}, {int64(1), int64(2)}},
		Stamps: []change.EditStamp{
			{LSN: 11, Seen: 12, Steps: []change.Step{{Reg: 0, LSN: 3, By: change.StepMade, Seen: 7}, {Reg: 0, LSN: 3, By: 1, Element: `"x"`, Seen: 7}, {Reg: 1, LSN: 4, By: 5}, {Reg: 0, LSN: 11, By: 1, Element: `"y"`, Seen: 12}}},
			{LSN: 12, Seen: 12, Steps: []change.Step{{Reg: 0, LSN: 12, By: -1, Element: `{"z":[1,null]}`, Seen: 12}}},
		}}
	counter := change.Block{Table: 1, Regs: 1, Keys: []change.Value{"a"}, Columns: [][]change.Value{{int64(5)}}, Stamps: []change.EditStamp{{LSN: 13, Steps: []change.Step{{Reg: 0, LSN: 13, By: 2}}}}}
	return &change.Push{Device: change.DeviceID{0: 9}, Names: []change.Name{{0: 1}}, Seen: 12, Through: 20, Blocks: []change.Block{docsBlock(1), set, counter}}
}

func policyPull() *change.Pull { return &change.Pull{To: 7, Done: true, Tables: policySchema()} }

func policySchema() change.Schema {
	s := sampleSchema()
	s[0].Columns = append(s[0].Columns, change.Column{Name: "seen_at", Type: "INT"}, change.Column{Name: "first", Type: "INT"}, change.Column{Name: "views", Type: "INT", NotNull: true})
	s[0].Options.Merge = map[string]change.Policy{"seen_at": change.Max, "first": change.Min, "views": change.Counter}
	return s
}

// fullPush and fullPull have no zero field, which TestSamples_haveEveryField checks: a
// field that package change gains must be added here, and so to the wire.
func fullPush() *change.Push {
	return &change.Push{
		Device:  change.DeviceID{0: 0xd1, 15: 1},
		Names:   []change.Name{{0: 1}, {0: 2}},
		Epochs:  []change.Epoch{{ID: change.Name{0: 3}, First: 1}, {ID: change.Name{0: 4}, First: 500}},
		Seen:    640,
		Through: 9_000,
		Now:     1_760_000_000_123,
		Schema:  [32]byte{0: 5, 31: 6},
		Tables:  sampleSchema(),
		Known:   [32]byte{0: 7, 31: 8},
		Part:    2,
		More:    true,
		Page:    77,
		Paging:  true,
		Fresh:   []change.ColumnRef{{Table: 0, Column: 2}, {Table: 1, Column: 300}},
		Renames: []change.Rename{{ColumnRef: change.ColumnRef{Table: 0, Column: 1}, From: "text"}, {ColumnRef: change.ColumnRef{Table: 1, Column: -1}, From: "caf\xe8"}},
		Blocks: []change.Block{
			{
				Table: 1,
				Regs:  change.Bit(0) | change.Bit(2) | change.Bit(63),
				Keys:  []change.Value{"00000000-0000-4000-8000-000000000001", "ffffffff-ffff-4fff-bfff-ffffffffffff", "0a0b0c0d-0e0f-4123-8456-789abcdef012"},
				Columns: [][]change.Value{
					{"title", "", nil},
					{int64(math.MaxInt64), int64(math.MinInt64), 0.5},
					{0.25, int64(1), nil},
					{[]byte{1, 2, 3, 4}, []byte{}, "text beside blobs"},
				},
				Stamps: []change.EditStamp{
					{LSN: 8_990, Seen: 640, Existence: 640, Time: 1_760_000_000_000, Weight: 0.25},
					{LSN: 8_995, Seen: 640, Existence: 600, Time: 1_760_000_000_005, Weight: 1, Regs: []change.RegEdit{{Reg: 2, Seen: 600, LSN: 8_994}, {Reg: 63, Seen: 620, LSN: 8_993}}},
					{LSN: 9_000, Seen: 640, Existence: 640, Time: 1_760_000_000_001, Weight: 0},
				},
			},
			{
				Table:  2,
				Delete: true,
				Keys:   []change.Value{int64(1), 2.5, []byte{3}},
				Stamps: []change.EditStamp{
					{LSN: 1, Seen: 2, Existence: 2, Time: 3, Weight: -1},
					{LSN: 4, Seen: 5, Existence: 5, Time: 6, Weight: -1, Regs: []change.RegEdit{{Reg: 1, Seen: 4, LSN: 3}}},
					{LSN: 7, Seen: 8, Existence: 8, Time: 9, Weight: -1},
				},
			},
		},
	}
}

func sampleSchema() change.Schema {
	return change.Schema{
		{
			Name:    "docs",
			SQL:     "CREATE TABLE docs(id TEXT PRIMARY KEY, body TEXT, embedding BLOB, weight REAL)",
			Indexes: []string{"CREATE INDEX docs_body ON docs(body)"},
			Columns: []change.Column{{Name: "id", Type: "TEXT", NotNull: true}, {Name: "body", Type: "TEXT"}, {Name: "embedding", Type: "BLOB"}, {Name: "weight", Type: "REAL"}},
			Key:     []int{0},
			Options: change.Options{Weight: "weight", Groups: [][]string{{"body", "embedding"}}, IDs: "random"},
		},
		// Latin-1 in a name, a nil and an empty list: the digest must stay the same.
		{Name: "caf\xe9", Indexes: []string{}, Columns: []change.Column{{Name: "k"}}, Key: []int{0}},
	}
}

func fullPull() *change.Pull {
	return &change.Pull{
		Applied: 9_000,
		To:      700,
		Done:    true,
		Full:    true,
		Epochs:  []change.Epoch{{ID: change.Name{0: 3}, First: 1}},
		Now:     1_760_000_000_456,
		Tables:  sampleSchema(),
		Blocks: []change.Block{
			{Table: 1, Regs: 5, Keys: []change.Value{"a", "b"}, Columns: [][]change.Value{{"x", nil}, {int64(1), int64(2)}}},
			{Table: 2, Delete: true, Keys: []change.Value{"gone"}},
		},
		Lost: []change.Conflict{
			{
				ID: 12, Seq: 690, Device: change.DeviceID{0: 0xd1, 15: 1}, Table: "docs", Key: "k1",
				Kind: change.UpdateLost, Rule: change.ByWeight, Reason: "because",
				Columns: []string{"body", "weight"}, Lost: []change.Value{"mine", 0.25}, Kept: []change.Value{"theirs", nil},
				LostClock: change.Clock{change.Master: 640, "d1": 8_990}, KeptClock: change.Clock{change.Master: 641, "d2": math.MaxUint64},
				LostRank: change.Rank{Weight: 0.25, Time: 5, Device: change.DeviceID{0: 0xd1}},
				KeptRank: change.Rank{Weight: 0.5, Time: 6, Device: change.DeviceID{0: 0xd2}},
			},
			{ID: 13, Table: "docs", Key: int64(7), Kind: change.DeleteLost, Columns: []string{"body"}, Kept: []change.Value{[]byte{0}}, LostClock: change.Clock{}},
			{ID: 14, Table: "docs", Key: 7.5, Kind: change.Rejected, Lost: []change.Value{}},
		},
		Saved: change.Saved{EchoRows: 3},
		Rows:  1234,
	}
}

// vectorPush has rows long enough for planes and nibbles.
func vectorPush() *change.Push {
	r := rand.New(rand.NewPCG(5, 6))
	b := change.Block{Regs: 1, Columns: make([][]change.Value, 1)}
	for i := range 20 {
		b.Keys = append(b.Keys, int64(i*i))
		b.Columns[0] = append(b.Columns[0], vector(r, 32))
		b.Stamps = append(b.Stamps, change.EditStamp{LSN: change.LSN(i + 1), Weight: 1})
	}
	return &change.Push{Device: change.DeviceID{1}, Blocks: []change.Block{b}}
}
