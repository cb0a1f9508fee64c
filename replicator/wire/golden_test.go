package wire

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/capture/change"
)

var update = flag.Bool("update", false, "rewrite the golden files of this protocol version")

const goldenDir = "../../testdata/wire"

// The golden files hold the CBOR of a message as hex, 32 bytes a line: zstd may write
// other bytes with its next version, the CBOR of protocol 1 may not change.
func TestGolden(t *testing.T) {
	ack := Ack{Device: change.DeviceID{0: 0xd1, 15: 1}, Seq: 700, LSN: 9_000}
	reply := AckReply{Seq: 700, LSN: 9_000}
	for _, tt := range []struct {
		name   string
		encode func() ([]byte, error)
		decode func(body []byte) (any, error)
		want   func(wire int64) any
	}{
		{
			name:   "v1_push",
			encode: func() ([]byte, error) { return EncodePush(fullPush()) },
			decode: func(b []byte) (any, error) { return DecodePush(b, Limits{}) },
			want:   func(n int64) any { p := fullPush(); p.Wire = n; return p },
		},
		{
			name:   "v1_compare",
			encode: func() ([]byte, error) { return EncodePush(comparePush()) },
			decode: func(b []byte) (any, error) { return DecodePush(b, Limits{}) },
			want:   func(n int64) any { p := comparePush(); p.Wire = n; return p },
		},
		{
			name:   "v1_digest",
			encode: func() ([]byte, error) { return EncodePush(digestPush()) },
			decode: func(b []byte) (any, error) { return DecodePush(b, Limits{}) },
			want:   func(n int64) any { p := digestPush(); p.Wire = n; return p },
		},
		{
			name:   "v1_digest_answer",
			encode: func() ([]byte, error) { return EncodePull(digestPull()) },
			decode: func(b []byte) (any, error) { return DecodePull(b, Limits{}) },
			want:   func(n int64) any { p := digestPull(); p.Wire = n; return p },
		},
		{
			name:   "v1_after_snapshot",
			encode: func() ([]byte, error) { return EncodePush(snapshotPush()) },
			decode: func(b []byte) (any, error) { return DecodePush(b, Limits{}) },
			want:   func(n int64) any { p := snapshotPush(); p.Wire = n; return p },
		},
		{
			name:   "v1_made",
			encode: func() ([]byte, error) { return EncodePush(madePush()) },
			decode: func(b []byte) (any, error) { return DecodePush(b, Limits{}) },
			want:   func(n int64) any { p := madePush(); p.Wire = n; return p },
		},
		{
			name:   "v1_push_vectors",
			encode: func() ([]byte, error) { return EncodePush(vectorPush()) },
			decode: func(b []byte) (any, error) { return DecodePush(b, Limits{}) },
			want:   func(n int64) any { p := vectorPush(); p.Wire = n; return p },
		},
		{
			name:   "v1_push_policies",
			encode: func() ([]byte, error) { return EncodePush(policyPush()) },
			decode: func(b []byte) (any, error) { return DecodePush(b, Limits{}) },
			want:   func(n int64) any { p := policyPush(); p.Wire = n; return p },
		},
		{
			name:   "v1_push_sets",
			encode: func() ([]byte, error) { return EncodePush(setPush()) },
			decode: func(b []byte) (any, error) { return DecodePush(b, Limits{}) },
			want:   func(n int64) any { p := setPush(); p.Wire = n; return p },
		},
		{
			name:   "v1_pull_policies",
			encode: func() ([]byte, error) { return EncodePull(policyPull()) },
			decode: func(b []byte) (any, error) { return DecodePull(b, Limits{}) },
			want:   func(n int64) any { p := policyPull(); p.Wire = n; return p },
		},
		{
			name:   "v1_pull",
			encode: func() ([]byte, error) { return EncodePull(fullPull()) },
			decode: func(b []byte) (any, error) { return DecodePull(b, Limits{}) },
			want:   func(n int64) any { p := fullPull(); p.Wire = n; return p },
		},
		{
			name:   "v1_ack",
			encode: func() ([]byte, error) { return EncodeAck(ack) },
			decode: func(b []byte) (any, error) { return DecodeAck(b, Limits{}) },
			want:   func(int64) any { return ack },
		},
		{
			name:   "v1_ack_reply",
			encode: func() ([]byte, error) { return EncodeAckReply(reply) },
			decode: func(b []byte) (any, error) { return DecodeAckReply(b, Limits{}) },
			want:   func(int64) any { return reply },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body, err := tt.encode()
			if err != nil {
				t.Fatal(err)
			}
			got := lines(cborOf(t, body))
			file := filepath.Join(goldenDir, tt.name+".golden")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Errorf("the bytes of protocol 1 changed: -want +got\n%s", d)
			}
			doc, err := hex.DecodeString(string(bytes.ReplaceAll(want, []byte("\n"), nil)))
			if err != nil {
				t.Fatal(err)
			}
			body = deflate(doc)
			message, err := tt.decode(body)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want(int64(len(body))), message, bitEqual); d != "" {
				t.Errorf("the golden file decodes differently: -want +got\n%s", d)
			}
		})
	}
}

func lines(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		n := min(32, len(b))
		out = append(hex.AppendEncode(out, b[:n]), '\n')
		b = b[n:]
	}
	return out
}

// These bodies were sent by the first release; they must be readable forever, so
// -update does not rewrite them. One holds several frames.
func TestGolden_frames(t *testing.T) {
	first := fullPush()
	first.Fresh, first.Renames = nil, nil // fields that came later
	for name, want := range map[string]*change.Push{"v1_push.zst": first, "v1_push_docs.zst": pushOf(docsBlock(12))} {
		body, err := os.ReadFile(filepath.Join(goldenDir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodePush(body, Limits{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want.Wire = int64(len(body))
		if d := cmp.Diff(want, got, bitEqual); d != "" {
			t.Errorf("%s: -want +got\n%s", name, d)
		}
	}
}
