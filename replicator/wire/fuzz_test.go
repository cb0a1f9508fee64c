package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fuzzLimits keep a run from being about memory.
var fuzzLimits = Limits{Inflated: 1 << 20, Rows: 1000, Cells: 20_000, Value: 1 << 16, Schema: 1 << 16}

// The corpus is CBOR: a fuzzer that had to get through zstd would find little else.
// The body as given is tried too.
func FuzzDecodePush(f *testing.F) {
	for _, body := range [][]byte{mustPush(f, fullPush()), mustPush(f, vectorPush()), mustPush(f, policyPush()), mustPush(f, setPush()), mustPush(f, pushOf())} {
		f.Add(cborOf(f, body))
	}
	f.Add(mustPush(f, pushOf()))
	f.Add(mustPush(f, madePush()))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if _, err := DecodePush(doc, fuzzLimits); err != nil && !typed(err) {
			t.Fatalf("as it is: %T %v", err, err)
		}
		p, err := DecodePush(deflate(doc), fuzzLimits)
		if err != nil {
			if !typed(err) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		body, err := EncodePush(p)
		if err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		again, err := DecodePush(body, Limits{})
		if err != nil {
			t.Fatalf("what was encoded does not decode: %v", err)
		}
		p.Wire = again.Wire
		if d := cmp.Diff(p, again, bitEqual); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzDecodePull(f *testing.F) {
	f.Add(cborOf(f, mustPull(f, fullPull())))
	f.Add(mustPull(f, fullPull()))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if _, err := DecodePull(doc, fuzzLimits); err != nil && !typed(err) {
			t.Fatalf("as it is: %T %v", err, err)
		}
		p, err := DecodePull(deflate(doc), fuzzLimits)
		if err != nil {
			if !typed(err) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		body, err := EncodePull(p)
		if err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		again, err := DecodePull(body, Limits{})
		if err != nil {
			t.Fatalf("what was encoded does not decode: %v", err)
		}
		p.Wire = again.Wire
		if d := cmp.Diff(p, again, bitEqual); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzDecodeAck(f *testing.F) {
	ack, err := EncodeAck(Ack{Seq: 1, LSN: 2})
	if err != nil {
		f.Fatal(err)
	}
	reply, err := EncodeAckReply(AckReply{Seq: 1, LSN: 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ack)
	f.Add(cborOf(f, ack))
	f.Add(cborOf(f, reply))
	f.Fuzz(func(t *testing.T, doc []byte) {
		for _, body := range [][]byte{doc, deflate(doc)} {
			if a, err := DecodeAck(body, fuzzLimits); err == nil {
				if _, err := EncodeAck(a); err != nil {
					t.Fatal(err)
				}
			} else if !typed(err) {
				t.Fatalf("%T %v", err, err)
			}
			if a, err := DecodeAckReply(body, fuzzLimits); err == nil {
				if _, err := EncodeAckReply(a); err != nil {
					t.Fatal(err)
				}
			} else if !typed(err) {
				t.Fatalf("%T %v", err, err)
			}
		}
	})
}

func FuzzColumn(f *testing.F) {
	var w writer
	for _, p := range []int{0, 1} {
		for _, c := range fullPush().Blocks[p].Columns {
			b, err := w.appendColumn(nil, c)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, len(c))
		}
	}
	vectors := vectorPush().Blocks[0].Columns[0]
	b, err := w.appendColumn(nil, vectors)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, len(vectors))
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 0 || n > 2000 {
			return
		}
		d := &reader{b: b, limits: fuzzLimits.Defaults()}
		values, err := d.column(n, 1<<16)
		if err != nil {
			if !typed(err) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if len(values) != n {
			t.Fatalf("%d values, want %d", len(values), n)
		}
		again, err := w.appendColumn(nil, values)
		if err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		got, err := (&reader{b: again, limits: fuzzLimits.Defaults()}).column(n, 1<<16)
		if err != nil {
			t.Fatalf("what was encoded does not decode: %v", err)
		}
		if d := cmp.Diff(values, got, bitEqual); d != "" {
			t.Fatal(d)
		}
	})
}
