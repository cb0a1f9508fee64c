package wire

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/capture/change"
)

func mustPush(t testing.TB, p *change.Push) []byte {
	t.Helper()
	body, err := EncodePush(p)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func mustPull(t testing.TB, p *change.Pull) []byte {
	t.Helper()
	body, err := EncodePull(p)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestPush_roundTrip(t *testing.T) {
	for name, p := range map[string]*change.Push{
		"full":    fullPush(),
		"zero":    {},
		"page":    {Device: change.DeviceID{1}, Page: 9, Paging: true},
		"vectors": vectorPush(),
		"docs":    pushOf(docsBlock(300), titlesBlock(100)),
		"tables":  {Tables: change.Schema{}},
	} {
		t.Run(name, func(t *testing.T) {
			body := mustPush(t, p)
			got, err := DecodePush(body, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			p.Wire = int64(len(body))
			if d := cmp.Diff(p, got, bitEqual); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if got.Tables.Digest() != p.Tables.Digest() {
				t.Error("the schema's digest changed")
			}
			if again := mustPush(t, got); string(again) != string(body) {
				t.Error("encoded again, the bytes differ")
			}
		})
	}
}

// What a decoder returns must live on when its buffers serve other messages.
func TestPush_keepsNothingOfItsBuffers(t *testing.T) {
	body := mustPush(t, fullPush())
	got, err := DecodePush(body, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	clear(body)
	for range 20 {
		other := mustPush(t, pushOf(docsBlock(30)))
		if _, err := DecodePush(other, Limits{}); err != nil {
			t.Fatal(err)
		}
	}
	want := fullPush()
	want.Wire = int64(len(body))
	if d := cmp.Diff(want, got, bitEqual); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestPush_leavesOutEmptyBlocks(t *testing.T) {
	p := fullPush()
	p.Blocks = append([]change.Block{{Table: 3, Regs: 1}}, p.Blocks...)
	got, err := DecodePush(mustPush(t, p), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fullPush().Blocks, got.Blocks, bitEqual); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// A field that the messages gain must travel: give it a value in fullPush, comparePush, madePush, digestPush or fullPull.
func TestSamples_haveEveryField(t *testing.T) {
	missing := map[string]bool{}
	for _, samples := range [][]any{{fullPush(), comparePush(), snapshotPush(), madePush(), digestPush(), policyPush(), setPush()}, {fullPull(), digestPull(), policyPull()}} {
		zero, seen := map[string]bool{}, map[string]bool{}
		for _, v := range samples {
			visit(reflect.ValueOf(v), zero, seen)
		}
		for f := range zero {
			if !seen[f] {
				missing[f] = true
			}
		}
	}
	for _, f := range []string{"Push.Wire", "Push.Waited", "Pull.Wire", "Pull.WireSent", "Block.Stamps"} { // not sent; nil on a pull
		delete(missing, f)
	}
	for f := range missing {
		t.Errorf("%s is zero in the sample", f)
	}
}

// visit records fields by whether they are zero anywhere, and set anywhere.
func visit(v reflect.Value, zero, set map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		visit(v.Elem(), zero, set)
	case reflect.Slice:
		for i := range v.Len() {
			visit(v.Index(i), zero, set)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Name() + "." + v.Type().Field(i).Name
			if v.Field(i).IsZero() {
				zero[name] = true
			} else {
				set[name] = true
			}
			visit(v.Field(i), zero, set)
		}
	}
}

func TestEncodePush_refuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(p *change.Push)
		want  string
	}{
		{"NULL key", func(p *change.Push) { p.Blocks[0].Keys[1] = nil }, "wire: push: block 0, row 1: the key is NULL"},
		{"NaN key", func(p *change.Push) { p.Blocks[1].Keys[1] = math.NaN() }, "wire: push: block 1, row 1: keys: NaN"},
		{"NaN value", func(p *change.Push) { p.Blocks[0].Columns[2][0] = math.NaN() }, "block 0, column 2, row 0: NaN"},
		{"value of another type", func(p *change.Push) { p.Blocks[0].Columns[1][2] = true }, "block 0, column 1, row 2: a value of type bool"},
		{"short column", func(p *change.Push) { p.Blocks[0].Columns[3] = p.Blocks[0].Columns[3][:2] }, "block 0, column 3: 2 values for 3 rows"},
		{"missing stamps", func(p *change.Push) { p.Blocks[0].Stamps = nil }, "block 0: 0 stamps for 3 rows"},
		{"delete with columns", func(p *change.Push) { p.Blocks[0].Delete = true }, "a delete has registers"},
		{"infinite weight", func(p *change.Push) { p.Blocks[0].Stamps[2].Weight = math.Inf(1) }, "row 2: the weight is +Inf"},
		{"negative lsn", func(p *change.Push) { p.Blocks[0].Stamps[0].LSN = -1 }, "row 0: a stamp counts below 0"},
		{"a step of another register", func(p *change.Push) {
			s := &p.Blocks[0].Stamps[0]
			s.Steps = []change.Step{{Reg: 1, LSN: 1}}
		}, "row 0: a step of register 1, which is none"},
		{"a step after it", func(p *change.Push) {
			s := &p.Blocks[0].Stamps[0]
			s.Steps = []change.Step{{Reg: 2, LSN: s.LSN + 1}}
		}, "row 0: a step with lsn"},
		{"made after it", func(p *change.Push) { s := &p.Blocks[0].Stamps[0]; s.Made = s.LSN + 1 }, "row 0: the row was made by lsn"},
		{"negative existence", func(p *change.Push) { p.Blocks[0].Stamps[0].Existence = -1 }, "row 0: a stamp counts below 0"},
		{"register of another block", func(p *change.Push) { p.Blocks[0].Stamps[1].Regs[0].Reg = 1 }, "register 1 is none of the block's"},
		{"registers out of order", func(p *change.Push) { p.Blocks[0].Stamps[1].Regs[1].Reg = 2 }, "register 2 after 2"},
		{"register 64", func(p *change.Push) { p.Blocks[0].Stamps[1].Regs[1].Reg = 64 }, "register 64 after 2"},
		{"negative seen of a register", func(p *change.Push) { p.Blocks[0].Stamps[1].Regs[1].Seen = -1 }, "counts below 0"},
		{"negative seen", func(p *change.Push) { p.Seen = -1 }, "counts below 0: seen -1"},
		{"negative epoch", func(p *change.Push) { p.Epochs[0].First = -1 }, "epoch 0 begins at seq -1"},
		{"negative table", func(p *change.Push) { p.Blocks[0].Table = -1 }, "table -1"},
		{"key column that is none", func(p *change.Push) { p.Tables[0].Key[0] = 4 }, "key column 4 of 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := fullPush()
			tt.spoil(p)
			_, err := EncodePush(p)
			var format *FormatError
			if !errors.As(err, &format) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a FormatError with %q", err, tt.want)
			}
		})
	}
}

func TestPull_roundTrip(t *testing.T) {
	for name, p := range map[string]*change.Pull{"full": fullPull(), "zero": {}} {
		t.Run(name, func(t *testing.T) {
			body := mustPull(t, p)
			got, err := DecodePull(body, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			p.Wire = int64(len(body))
			if d := cmp.Diff(p, got, bitEqual); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestEncodePull_refuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(p *change.Pull)
		want  string
	}{
		{"stamps", func(p *change.Pull) { p.Blocks[0].Stamps = make([]change.EditStamp, 2) }, "a pull has no stamps"},
		{"a value too few in a conflict", func(p *change.Pull) { p.Lost[0].Kept = p.Lost[0].Kept[:1] }, "conflict 0: 2 columns, 2 values lost, 1 kept"},
		{"NaN in a conflict", func(p *change.Pull) { p.Lost[0].Lost[1] = math.NaN() }, "conflicts: NaN"},
		{"infinite weight", func(p *change.Pull) { p.Lost[1].KeptRank.Weight = math.Inf(-1) }, "conflict 1: a weight"},
		{"negative to", func(p *change.Pull) { p.To = -1 }, "to -1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := fullPull()
			tt.spoil(p)
			_, err := EncodePull(p)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestAck_roundTrip(t *testing.T) {
	want := Ack{Device: change.DeviceID{1, 2}, Seq: 700, LSN: 9_000}
	body, err := EncodeAck(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeAck(body, Limits{}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	reply := AckReply{Seq: 1, LSN: math.MaxInt64}
	if body, err = EncodeAckReply(reply); err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeAckReply(body, Limits{}); err != nil || got != reply {
		t.Errorf("got %+v, %v, want %+v", got, err, reply)
	}
	if _, err := EncodeAck(Ack{Seq: -1}); err == nil {
		t.Error("an ack of seq -1 is encoded")
	}
}
