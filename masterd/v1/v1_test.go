package v1_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/masterd/v1"
)

// newMaster returns a masterd that speaks protocol v1.
func newMaster(t testing.TB, o v1.Options) *masterdtest.Master {
	o.Owner, o.Log = server.OwnerOf, slog.New(slog.DiscardHandler)
	return masterdtest.New(t, masterdtest.Options{Insecure: true, V1: func(e store.Engine) (http.Handler, error) { return v1.New(e, o), nil }})
}

// withTokens makes the handler of a masterd that asks for tokens.
func withTokens(e store.Engine) (http.Handler, error) {
	return v1.New(e, v1.Options{Owner: server.OwnerOf, Log: slog.New(slog.DiscardHandler)}), nil
}

// A reply is what a client reads.
type reply struct {
	Status    string          `json:"status"`
	Protocol  int             `json:"protocol_version"`
	Replay    bool            `json:"replay_detected"`
	Head      int64           `json:"acked_head_lsn"`
	Seq       int64           `json:"server_seq"`
	Applied   int             `json:"applied"`
	Conflicts []conflict      `json:"conflicts"`
	Rejected  []rejection     `json:"rejected"`
	Pull      []record        `json:"pull"`
	Detail    json.RawMessage `json:"detail"`

	LSN   int64 `json:"last_acked_client_lsn"`
	Acked int64 `json:"last_acked_server_seq"`
}

type conflict struct {
	ID         string `json:"vector_id"`
	Resolution string `json:"resolution"`
}

type rejection struct {
	ID     string `json:"vector_id"`
	Reason string `json:"reason"`
}

type record struct {
	ID        string          `json:"vector_id"`
	Embedding []float64       `json:"embedding"`
	Metadata  json.RawMessage `json:"metadata"`
	Weight    float64         `json:"semantic_weight"`
	Clock     map[string]int  `json:"version_vector"`
	Updated   float64         `json:"updated_at"`
	Deleted   bool            `json:"is_deleted"`
}

// A client speaks for one device, by hand.
type client struct {
	t      testing.TB
	m      *masterdtest.Master
	device string
	head   int64
}

func (c *client) post(path, body string) (int, reply) {
	c.t.Helper()
	resp, err := http.Post(c.m.URL+path, "application/json", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	var r reply
	if err := json.Unmarshal(text, &r); err != nil {
		c.t.Fatalf("%s answers %d %s: %v", path, resp.StatusCode, text, err)
	}
	return resp.StatusCode, r
}

// body writes a push of changes, which are in canonical form already.
func body(device string, base, head int64, changes ...string) string {
	list := "[" + strings.Join(changes, ",") + "]"
	sum := sha256.Sum256([]byte(list))
	return fmt.Sprintf(`{"protocol_version": 1, "device_id": %q, "base_lsn": %d, "head_lsn": %d, "change_count": %d, "raw_wal_entries": %d,
		"changes": %s, "checksum_sha256": %q, "generated_at": 1700000000.5}`, device, base, head, len(changes), len(changes), list, hex.EncodeToString(sum[:]))
}

// push sends changes as the next window of the log.
func (c *client) push(changes ...string) reply {
	c.t.Helper()
	base := c.head
	c.head += int64(len(changes))
	return c.again(base, c.head, changes...)
}

// again sends changes as some window of the log.
func (c *client) again(base, head int64, changes ...string) reply {
	c.t.Helper()
	status, r := c.post("/sync", body(c.device, base, head, changes...))
	if status != 200 {
		c.t.Fatalf("%s: push answers %d %s", c.device, status, r.Detail)
	}
	return r
}

// ack acknowledges an answer.
func (c *client) ack(r reply) {
	c.t.Helper()
	status, a := c.post("/ack", fmt.Sprintf(`{"device_id":%q,"acked_head_lsn":%d,"acked_server_seq":%d}`, c.device, r.Head, r.Seq))
	if status != 200 {
		c.t.Fatalf("%s: ack answers %d %s", c.device, status, a.Detail)
	}
}

// A vec is a record to write; the zero value of what is not named is usual.
type vec struct {
	op, id, embedding, metadata, weight, clock, updated string
	deleted                                             bool
	lsn                                                 int
}

// String writes the change in canonical form.
func (v vec) String() string {
	or := func(s, other string) string {
		if s == "" {
			return other
		}
		return s
	}
	if !strings.HasPrefix(v.id, `"`) {
		v.id = `"` + v.id + `"`
	}
	return fmt.Sprintf(`{"lsn":%d,"op":"%s","record":{"embedding":%s,"is_deleted":%v,"metadata":%s,"semantic_weight":%s,"updated_at":%s,"vector_id":%s,"version_vector":%s}}`,
		v.lsn, or(v.op, "UPDATE"), or(v.embedding, "[1.0,2.0]"), v.deleted, or(v.metadata, `{}`), or(v.weight, "1.0"), or(v.updated, "1700000000.0"), v.id, or(v.clock, "{}"))
}

func clock(pairs ...any) string {
	m := make(map[string]any)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	b, _ := json.Marshal(m)
	return string(b)
}

func TestAnswers(t *testing.T) {
	m := newMaster(t, v1.Options{MaxBytes: 1 << 20})
	c := &client{t: t, m: m, device: "a"}
	good := body("a", 0, 1, vec{id: "x", clock: clock("a", 1)}.String())
	without := func(field string) string { return strings.Replace(good, `"`+field+`":`, `"`+field+`_":`, 1) }
	swap := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%s is not in %s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	change := func(old, new string) string {
		text := vec{id: "x", clock: clock("a", 1)}.String()
		if !strings.Contains(text, old) {
			t.Fatalf("%s is not in %s", old, text)
		}
		return body("a", 0, 1, strings.Replace(text, old, new, 1))
	}
	cases := []struct {
		name, path, body string
		status           int
		detail           string // a part of it
	}{
		{"another protocol", "/sync", swap(`"protocol_version": 1`, `"protocol_version": 2`), 409, "protocol_version 2"},
		{"another protocol, all else missing", "/sync", `{"protocol_version": 7}`, 409, "protocol_version 7"},
		{"no protocol", "/sync", without("protocol_version"), 422, "protocol_version is missing"},
		{"no JSON", "/sync", `{"protocol_version": 1,`, 422, "no JSON"},
		{"nothing", "/sync", ``, 422, "want an object"},
		{"a list", "/sync", `[]`, 422, "want an object"},
		{"no UTF-8", "/sync", swap(`"a"`, "\"\xff\""), 422, "UTF-8"},
		{"more behind it", "/sync", good + "x", 422, "want the end"},
		{"too deep", "/sync", `{"protocol_version": 1, "x": ` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, 422, "levels"},
		{"no device", "/sync", without("device_id"), 422, "device_id is missing"},
		{"empty device", "/sync", swap(`"device_id": "a"`, `"device_id": ""`), 422, "device_id"},
		{"device is a number", "/sync", swap(`"device_id": "a"`, `"device_id": 1`), 422, "device_id"},
		{"device with half a pair", "/sync", swap(`"device_id": "a"`, `"device_id": "\ud800"`), 422, "device_id"},
		{"device named as the master", "/sync", swap(`"device_id": "a"`, `"device_id": "master"`), 422, "take another"},
		{"negative lsn", "/sync", swap(`"base_lsn": 0`, `"base_lsn": -1`), 422, "base_lsn"},
		{"lsn is a float", "/sync", swap(`"head_lsn": 1`, `"head_lsn": 1.5`), 422, "head_lsn"},
		{"lsn is true", "/sync", swap(`"head_lsn": 1`, `"head_lsn": true`), 422, "head_lsn"},
		{"no raw_wal_entries", "/sync", without("raw_wal_entries"), 422, "raw_wal_entries is missing"},
		{"other count", "/sync", swap(`"change_count": 1`, `"change_count": 2`), 422, "change_count is 2, the list has 1"},
		{"no changes", "/sync", without("changes"), 422, "changes"},
		{"changes null", "/sync", swap(`"changes": [`, `"changes": null, "was": [`), 422, "changes"},
		{"checksum too short", "/sync", `{"protocol_version":1,"device_id":"a","base_lsn":0,"head_lsn":0,"change_count":0,"raw_wal_entries":0,"changes":[],"checksum_sha256":"00"}`, 422, "64 hex digits"},
		{"checksum no hex", "/sync", swap(`"checksum_sha256": "`, `"checksum_sha256": "x`), 422, "checksum_sha256"},
		{"another checksum", "/sync", swap(`[1.0,2.0]`, `[1.0,2.00]`), 400, `"error":"checksum_mismatch"`},
		{"op", "/sync", change(`"UPDATE"`, `"UPSERT"`), 422, "op is"},
		{"no op", "/sync", change(`"op"`, `"oq"`), 422, "op is"},
		{"no record", "/sync", change(`"record"`, `"recorp"`), 422, "record is missing"},
		{"record is a list", "/sync", change(`"record":{`, `"record":[],"records":{`), 422, "want an object"},
		{"change is a number", "/sync", body("a", 0, 1, "1"), 422, "want an object"},
		{"no lsn", "/sync", change(`"lsn"`, `"lsm"`), 422, "lsn is missing"},
		{"no vector_id", "/sync", change(`"vector_id"`, `"vector_ie"`), 422, "vector_id is missing"},
		{"vector_id is a number", "/sync", change(`"x"`, `1`), 422, "vector_id is 1"},
		{"no version_vector", "/sync", change(`"version_vector"`, `"version_vectos"`), 422, "version_vector is missing"},
		{"embedding null", "/sync", change(`[1.0,2.0]`, `null`), 422, "embedding is null"},
		{"metadata is a list", "/sync", change(`"metadata":{}`, `"metadata":[]`), 422, "metadata is []"},
		{"is_deleted is 0", "/sync", change(`false`, `0`), 422, "is_deleted is 0"},
		{"updated_at is text", "/sync", change(`1700000000.0`, `"now"`), 422, "updated_at"},
		{"semantic_weight null", "/sync", change(`"semantic_weight":1.0`, `"semantic_weight":null`), 422, "semantic_weight"},
		{"too large", "/sync", swap(`"generated_at"`, `"x": "`+strings.Repeat("x", 1<<20)+`", "generated_at"`), 413, "too large"},
		{"ack without device", "/ack", `{"acked_head_lsn":0,"acked_server_seq":0}`, 422, "device_id is missing"},
		{"ack without lsn", "/ack", `{"device_id":"a","acked_server_seq":0}`, 422, "acked_head_lsn is missing"},
		{"ack below 0", "/ack", `{"device_id":"a","acked_head_lsn":-1,"acked_server_seq":0}`, 422, "acked_head_lsn"},
		{"ack of another protocol", "/ack", `{"protocol_version":2,"device_id":"a","acked_head_lsn":0,"acked_server_seq":0}`, 409, "protocol_version 2"},
		{"ack of what was not sent", "/ack", `{"device_id":"a","acked_head_lsn":1,"acked_server_seq":0}`, 422, "has sent 0"},
		{"ack of what was not issued", "/ack", `{"device_id":"a","acked_head_lsn":0,"acked_server_seq":1}`, 422, "was issued 0"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := *c
			c.t = t
			status, r := c.post(tc.path, tc.body)
			if status != tc.status || !strings.Contains(string(r.Detail), tc.detail) {
				t.Errorf("answers %d %s, want %d and %q", status, r.Detail, tc.status, tc.detail)
			}
			var text string
			if err := json.Unmarshal(r.Detail, &text); tc.status != 400 && err != nil {
				t.Errorf("detail is no text: %s", r.Detail)
			}
		})
	}
	// Nothing of all that was applied.
	r := (&client{t: t, m: m, device: "b"}).push()
	if r.Seq != 0 || len(r.Pull) > 0 {
		t.Errorf("seq %d, pull %v, want nothing", r.Seq, r.Pull)
	}
	if r := c.push(vec{id: "x", clock: clock("a", 1)}.String()); r.Status != "ok" || r.Protocol != 1 || r.Applied != 1 || r.Head != 1 || r.Seq != 1 || r.Replay {
		t.Errorf("the good one answers %+v", r)
	}
}

// TestRejected_Alone sends what a record can't hold between two that are good.
func TestRejected_Alone(t *testing.T) {
	cases := []struct {
		name   string
		bad    vec
		reason string
	}{
		{"NaN", vec{embedding: "[1.0,NaN]"}, "finite"},
		{"Infinity", vec{embedding: "[Infinity,1.0]"}, "finite"},
		{"beyond a float", vec{embedding: "[1e999,1.0]"}, "finite"},
		{"no number", vec{embedding: "[1.0,null]"}, "want a number"},
		{"text", vec{embedding: `[1.0,"2"]`}, "no number"},
		{"more dimensions", vec{embedding: "[1.0,2.0,3.0]"}, "3 dimensions"},
		{"fewer dimensions", vec{embedding: "[1.0]"}, "1 dimensions"},
		{"no elements", vec{embedding: "[]"}, "empty"},
		{"weight infinite", vec{weight: "Infinity"}, "semantic_weight"},
		{"weight NaN", vec{weight: "NaN"}, "semantic_weight"},
		{"weight negative", vec{weight: "-0.5"}, "semantic_weight"},
		{"weight huge", vec{weight: "1e300"}, "semantic_weight"},
		{"time infinite", vec{updated: "-Infinity"}, "updated_at"},
		{"time NaN", vec{updated: "NaN"}, "updated_at"},
		{"NaN in metadata", vec{metadata: `{"a":[{"b":NaN}]}`}, "not finite"},
		{"a huge number in metadata", vec{metadata: `{"a":1e999}`}, "not finite"},
		{"half a pair in metadata", vec{metadata: `{"a":"\ud83d"}`}, "surrogate"},
		{"half a pair in a key", vec{metadata: `{"\udc00":1}`}, "surrogate"},
		{"half a pair in the id", vec{id: `"\ud800"`}, "surrogate"},
		{"empty id", vec{id: `""`}, "0 bytes"},
		{"clock is a list", vec{clock: "[]"}, "want an object"},
		{"clock is null", vec{clock: "null"}, "want an object"},
		{"count is text", vec{clock: `{"a":"1"}`}, "integer"},
		{"count is a float", vec{clock: `{"a":1.0}`}, "integer"},
		{"count below 0", vec{clock: `{"a":-1}`}, "integer"},
		{"count beyond an integer", vec{clock: `{"a":99999999999999999999}`}, "integer"},
		{"count in a list", vec{clock: `{"a":[1]}`}, "counts"},
		{"half a pair in the clock", vec{clock: `{"\ud800":1}`}, "names"},
		{"another's count", vec{clock: `{"a":1,"b":1}`}, "another device"},
		{"own count too high", vec{clock: `{"a":4}`}, "device itself"},
		{"beyond the master", vec{clock: `{"a":1,"master":99}`}, "for the master"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			m := newMaster(t, v1.Options{})
			a := &client{t: t, m: m, device: "a"}
			if tc.bad.id == "" {
				tc.bad.id = "bad"
			}
			if tc.bad.clock == "" {
				tc.bad.clock = clock("a", 1)
			}
			r := a.push(vec{id: "x", clock: clock("a", 1)}.String(), tc.bad.String(), vec{id: "y", clock: clock("a", 1)}.String())
			if r.Applied != 2 || len(r.Rejected) != 1 || len(r.Conflicts) != 0 {
				t.Fatalf("applied %d, rejected %v, conflicts %v, want 2 and 1", r.Applied, r.Rejected, r.Conflicts)
			}
			if got := r.Rejected[0]; !strings.Contains(got.Reason, tc.reason) {
				t.Errorf("rejected as %q, want %q", got.Reason, tc.reason)
			}
			a.ack(r)
			b := &client{t: t, m: m, device: "b"}
			if r := b.push(); len(r.Pull) != 2 {
				t.Errorf("another device pulls %v, want x and y", r.Pull)
			}
			// The same id in good order is taken, with the count that follows, or the same.
			if strings.HasPrefix(tc.bad.id, `"`) {
				return
			}
			for i, next := range []string{clock("a", 1), clock("a", 2)} {
				if r := a.push(vec{id: "bad", clock: next}.String()); r.Applied != 1 || len(r.Rejected) != 0 {
					t.Errorf("mended %d: applied %d, rejected %v", i, r.Applied, r.Rejected)
				}
			}
		})
	}
}

// TestRejected_CountGoesOn edits a vector whose first versions were refused.
func TestRejected_CountGoesOn(t *testing.T) {
	m := newMaster(t, v1.Options{})
	a := &client{t: t, m: m, device: "a"}
	a.ack(a.push(vec{id: "first", clock: clock("a", 1)}.String()))
	for i := 1; i <= 5; i++ {
		if r := a.push(vec{id: "x", embedding: "[NaN,1.0]", clock: clock("a", i)}.String()); len(r.Rejected) != 1 {
			t.Fatalf("version %d: rejected %v", i, r.Rejected)
		}
	}
	if r := a.push(vec{id: "x", clock: clock("a", 6)}.String()); r.Applied != 1 {
		t.Errorf("the sixth version, a good one, is not applied: %+v", r)
	}
}

// TestResolutions pushes by a, then by b, and names what b hears.
func TestResolutions(t *testing.T) {
	cases := []struct {
		name    string
		a, b    vec
		want    string // "" where nothing is listed
		applied int
		stays   string // weight, time that both have in the end
	}{
		{name: "another row", a: vec{id: "x", clock: clock("a", 1)}, b: vec{id: "y", clock: clock("b", 1)}, applied: 1},
		{name: "follows", a: vec{clock: clock("a", 1), weight: "0.9"}, b: vec{clock: clock("a", 1, "b", 1), weight: "0.1"}, applied: 1, stays: "0.1"},
		{name: "older", a: vec{clock: clock("a", 2), weight: "0.1"}, b: vec{clock: clock("a", 1), weight: "0.9"}, want: "local_dominates", stays: "0.1"},
		{name: "the same", a: vec{clock: clock("a", 1)}, b: vec{clock: clock("a", 1)}},
		{name: "weight, local", a: vec{clock: clock("a", 1), weight: "0.9"}, b: vec{clock: clock("b", 1), weight: "0.8", updated: "1700000009.0"}, want: "concurrent_semantic_local", stays: "0.9"},
		{name: "weight, remote", a: vec{clock: clock("a", 1), weight: "0.8", updated: "1700000009.0"}, b: vec{clock: clock("b", 1), weight: "0.9"}, want: "concurrent_semantic_remote", applied: 1, stays: "0.9"},
		{name: "time, local", a: vec{clock: clock("a", 1), updated: "1700000001.0"}, b: vec{clock: clock("b", 1), updated: "1700000000.0"}, want: "concurrent_lww_local"},
		{name: "time, remote", a: vec{clock: clock("a", 1), updated: "1700000000.0"}, b: vec{clock: clock("b", 1), updated: "1700000001.0"}, want: "concurrent_lww_remote", applied: 1},
		{name: "delete outranks", a: vec{clock: clock("a", 1), weight: "0.5"}, b: vec{op: "DELETE", deleted: true, embedding: "[]", clock: clock("b", 1)}, want: "concurrent_semantic_remote", applied: 1},
		{name: "delete is outranked", a: vec{clock: clock("a", 1), weight: "0.5"}, b: vec{op: "DELETE", deleted: true, embedding: "[]", weight: "0.4", clock: clock("b", 1)}, want: "concurrent_semantic_local"},
		{name: "edit brings back", a: vec{op: "DELETE", deleted: true, embedding: "[]", weight: "0.4", clock: clock("a", 2)}, b: vec{clock: clock("b", 1)}, applied: 1},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			m := newMaster(t, v1.Options{})
			a, b := &client{t: t, m: m, device: "a"}, &client{t: t, m: m, device: "b"}
			for _, v := range []*vec{&tc.a, &tc.b} {
				if v.id == "" {
					v.id = "x"
				}
			}
			if tc.a.deleted {
				a.push(vec{id: "x", clock: clock("a", 1), weight: "0.1"}.String())
			}
			if strings.Contains(tc.a.clock, "2") && !tc.a.deleted {
				a.push(vec{id: "x", clock: clock("a", 1), weight: "0.5"}.String())
			}
			a.push(tc.a.String())
			r := b.push(tc.b.String())
			var got string
			for _, c := range r.Conflicts {
				got = c.Resolution
			}
			if tc.name == "edit brings back" {
				got, tc.want = "", "" // by weight; what counts is that it is there
			}
			if got != tc.want || r.Applied != tc.applied {
				t.Errorf("resolution %q, applied %d, want %q, %d", got, r.Applied, tc.want, tc.applied)
			}
			if tc.want == "" {
				return
			}
			// b has the master's clock, and it covers what both wrote.
			if len(r.Pull) != 1 {
				t.Fatalf("b pulls %v, want the result of the conflict", r.Pull)
			}
			mine := r.Pull[0]
			if mine.Clock["a"] < 1 || mine.Clock["master"] < 1 || strings.Contains(tc.b.clock, "b") && mine.Clock["b"] < 1 {
				t.Errorf("b pulls the clock %v", mine.Clock)
			}
			if tc.stays != "" && fmt.Sprint(mine.Weight) != tc.stays {
				t.Errorf("weight %v stays, want %s", mine.Weight, tc.stays)
			}
			c := &client{t: t, m: m, device: "c"}
			if d := cmp.Diff(r.Pull, c.push().Pull); d != "" {
				t.Errorf("c pulls another record than b (-b +c):\n%s", d)
			}
			if theirs := a.push().Pull; len(theirs) == 1 {
				if d := cmp.Diff(mine, theirs[0]); d != "" {
					t.Errorf("a pulls another record than b (-b +a):\n%s", d)
				}
			} else if got != "local_dominates" {
				t.Errorf("a pulls %v, want the result", theirs)
			}
		})
	}
}

// TestTie settles a full tie alike in both orders of arrival.
func TestTie(t *testing.T) {
	var winners []float64
	for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
		m := newMaster(t, v1.Options{})
		for _, device := range order {
			embedding := map[string]string{"a": "[1.0,0.0]", "b": "[2.0,0.0]"}[device]
			(&client{t: t, m: m, device: device}).push(vec{id: "x", embedding: embedding, clock: clock(device, 1)}.String())
		}
		winners = append(winners, (&client{t: t, m: m, device: "c"}).push().Pull[0].Embedding[0])
	}
	if winners[0] != winners[1] {
		t.Errorf("winners %v, want the same in both orders", winners)
	}
}

// TestTimeAhead bounds what a clock that runs ahead wins.
func TestTimeAhead(t *testing.T) {
	now := time.Unix(1.7e9, 0)
	m := masterdtest.New(t, masterdtest.Options{Insecure: true, V1: withTokens, Store: store.Options{Now: func() time.Time { return now }}})
	push := func(device, updated string) string {
		r := (&client{t: t, m: m, device: device}).push(vec{id: "x", updated: updated, clock: clock(device, 1)}.String())
		if len(r.Conflicts) == 0 {
			return ""
		}
		return r.Conflicts[0].Resolution
	}
	push("a", "1900000000.0")
	if got := push("b", "1700000100.0"); got != "concurrent_lww_local" {
		t.Errorf("before what is 5 minutes ahead at most: %q", got)
	}
	now = now.Add(time.Hour)
	if got := push("c", "1700003600.0"); got != "concurrent_lww_remote" {
		t.Errorf("an hour later: %q", got)
	}
}

// TestPlainEdit passes a row round: an edit of what was pulled never meets anything.
func TestPlainEdit(t *testing.T) {
	m := newMaster(t, v1.Options{})
	names := []string{"a", "b", "c"}
	clients := make(map[string]*client)
	for _, n := range names {
		clients[n] = &client{t: t, m: m, device: n}
	}
	r := clients["a"].push(vec{id: "x", clock: clock("a", 1)}.String())
	have, mine := map[string]map[string]int{"a": {"a": 1}}, map[string]int{}
	clients["a"].ack(r)
	for i := range 30 {
		n := names[(i*i+i/3)%3]
		c := clients[n]
		// Pull what is there, edit it, twice, and send.
		r := c.push()
		for _, p := range r.Pull {
			if p.ID == "x" {
				have[n] = p.Clock
			}
		}
		if i%2 == 0 {
			c.ack(r)
		}
		have[n][n] += 2
		text, _ := json.Marshal(have[n])
		r = c.again(c.head, c.head+2, vec{id: "x", weight: fmt.Sprint(1.0 / float64(i+2)), clock: string(text), lsn: int(c.head) + 2}.String(),
			vec{id: "y" + n, clock: clock(n, mine[n]+1)}.String())
		c.head += 2
		mine[n]++
		if len(r.Conflicts) > 0 || len(r.Rejected) > 0 {
			t.Fatalf("edit %d, by %s with %s: conflicts %v, rejected %v", i, n, text, r.Conflicts, r.Rejected)
		}
	}
}

// TestLoserEditsAgain edits on top of a version that lost, before the client heard of it.
func TestLoserEditsAgain(t *testing.T) {
	m := newMaster(t, v1.Options{})
	a, b := &client{t: t, m: m, device: "a"}, &client{t: t, m: m, device: "b"}
	a.push(vec{id: "x", weight: "0.9", clock: clock("a", 1)}.String())
	b.push(vec{id: "x", weight: "0.2", clock: clock("b", 1)}.String()) // its answer is lost
	r := b.push(vec{id: "x", weight: "0.3", clock: clock("b", 2)}.String())
	if d := cmp.Diff([]conflict{{"x", "concurrent_semantic_local"}}, r.Conflicts); d != "" {
		t.Errorf("the second edit (-want +got):\n%s", d)
	}
	pulled := r.Pull[0]
	if pulled.Weight != 0.9 || pulled.Clock["a"] != 1 || pulled.Clock["b"] != 2 {
		t.Errorf("b pulls %+v", pulled)
	}
	pulled.Clock["b"]++
	text, _ := json.Marshal(pulled.Clock)
	if r := b.push(vec{id: "x", weight: "0.1", clock: string(text)}.String()); r.Applied != 1 || len(r.Conflicts) > 0 {
		t.Errorf("an edit of what was pulled: %+v", r)
	}
}

func TestReplay(t *testing.T) {
	m := newMaster(t, v1.Options{})
	a, b := &client{t: t, m: m, device: "a"}, &client{t: t, m: m, device: "b"}
	first := []string{vec{id: "x", lsn: 1, clock: clock("a", 1)}.String(), vec{id: "y", lsn: 2, clock: clock("a", 1)}.String()}
	r := a.push(first...)
	if r.Applied != 2 || r.Replay {
		t.Fatalf("first: %+v", r)
	}
	// The answer is lost: the same window again, not acknowledged yet.
	if r := a.again(0, 2, first...); r.Replay || r.Applied != 0 || len(r.Conflicts) > 0 || r.Seq != 2 || r.Head != 2 {
		t.Errorf("again before the ack: %+v", r)
	}
	a.ack(r)
	a.ack(r)
	b.push(vec{id: "z", clock: clock("b", 1)}.String())
	for range 3 {
		r := a.again(0, 2, first...)
		if !r.Replay || r.Applied != 0 || len(r.Conflicts) > 0 || r.Seq != 3 {
			t.Errorf("again after the ack: %+v", r)
		}
		if len(r.Pull) != 1 || r.Pull[0].ID != "z" {
			t.Errorf("a replay pulls %v, want z", r.Pull)
		}
	}
	m.Reopen()
	if r := a.again(0, 2, first...); !r.Replay {
		t.Errorf("again after a restart: %+v", r)
	}
	// An old window comes late, after a newer one was acknowledged.
	a.ack(a.push(vec{id: "x", lsn: 3, weight: "0.1", clock: clock("a", 2)}.String()))
	if r := a.again(0, 2, first...); !r.Replay || r.Applied != 0 {
		t.Errorf("an old window: %+v", r)
	}
	// The database is made anew: the LSN goes back, what it holds is new.
	fresh := &client{t: t, m: m, device: "a"}
	r = fresh.push(vec{id: "new", lsn: 1, clock: clock("a", 1)}.String())
	if r.Replay || r.Applied != 1 || r.Head != 1 {
		t.Errorf("new content under old LSNs: %+v", r)
	}
	fresh.ack(r)
	// A row that it made under a name that it had used, later: the later one stays.
	r = fresh.push(vec{id: "y", lsn: 2, embedding: "[7.0,7.0]", updated: "1700000100.0", clock: clock("a", 1)}.String())
	if r.Replay || r.Applied != 1 {
		t.Errorf("a new version under an old clock: %+v", r)
	}
	// What did not stay though a clock says that it was known is in the conflict log.
	if d := cmp.Diff([]string{"x update-lost causality", "y update-lost time"}, conflicts(t, m)); d != "" {
		t.Errorf("conflict log (-want +got):\n%s", d)
	}
	got := map[string]float64{}
	for _, p := range (&client{t: t, m: m, device: "c"}).push().Pull {
		got[p.ID] = p.Embedding[0]
	}
	if d := cmp.Diff(map[string]float64{"x": 1, "y": 7, "z": 1, "new": 1}, got); d != "" {
		t.Errorf("others pull (-want +got):\n%s", d)
	}
}

func TestAck(t *testing.T) {
	m := newMaster(t, v1.Options{})
	a := &client{t: t, m: m, device: "a"}
	r := a.push(vec{id: "x", clock: clock("a", 1)}.String(), vec{id: "y", clock: clock("a", 1)}.String())
	(&client{t: t, m: m, device: "b"}).push(vec{id: "z", clock: clock("b", 1)}.String())
	for _, tc := range []struct{ lsn, seq, status, wantLSN, wantSeq int }{
		{3, 2, 422, 0, 0},           // not sent
		{2, 3, 422, 0, 0},           // issued to b only
		{1 << 40, 1, 422, 0, 0},     //
		{1, 1, 200, 1, 1},           //
		{2, 2, 200, 2, 2},           //
		{1, 0, 200, 2, 2},           // lower: nothing changes
		{2, 1, 200, 2, 2},           //
		{0, 1 << 40, 422, 0, 0},     //
		{int(r.Head), 2, 200, 2, 2}, // again
	} {
		status, got := a.post("/ack", fmt.Sprintf(`{"device_id":"a","acked_head_lsn":%d,"acked_server_seq":%d}`, tc.lsn, tc.seq))
		if status != tc.status || got.LSN != int64(tc.wantLSN) || got.Acked != int64(tc.wantSeq) {
			t.Errorf("ack %d, %d answers %d, %d, %d, want %+v", tc.lsn, tc.seq, status, got.LSN, got.Acked, tc)
		}
	}
	resp, err := http.Get(m.URL + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var stats struct {
		Live    int `json:"live_vectors"`
		Tombs   int `json:"tombstones"`
		Seq     int `json:"server_seq"`
		Devices []struct {
			Name    string  `json:"device_id"`
			LSN     int     `json:"last_acked_client_lsn"`
			Seq     int     `json:"last_acked_server_seq"`
			Updated float64 `json:"updated_at"`
		} `json:"devices"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	if stats.Live != 3 || stats.Tombs != 0 || stats.Seq != 3 || len(stats.Devices) != 2 || stats.Devices[0].Name != "a" || stats.Devices[0].LSN != 2 || stats.Devices[0].Seq != 2 ||
		stats.Devices[0].Updated < 1e9 {
		t.Errorf("stats %+v", stats)
	}
}

// TestPull sends a delete on, echoes nothing, and keeps numbers and text as they are.
func TestPull(t *testing.T) {
	m := newMaster(t, v1.Options{})
	a, b := &client{t: t, m: m, device: "a"}, &client{t: t, m: m, device: "b"}
	const meta = `{"zoë":"\u00e9\ud83d\ude00","a":[1.0,1e-07,{"b":null}]}`
	// Keys of objects within are out of order here, so the canonical form is another.
	sorted := `{"a":[1.0,1e-07,{"b":null}],"zoë":"\u00e9\ud83d\ude00"}`
	sent := vec{id: `\u00e9\"x\n`, metadata: sorted, embedding: "[0.1,-0.0]", weight: "0.30000000000000004", updated: "1700000000.123456", clock: clock("a", 1)}.String()
	whole := strings.Replace(body("a", 0, 1, sent), sorted, meta, 1)
	if status, r := a.post("/sync", whole); status != 200 || r.Applied != 1 || len(r.Pull) != 0 {
		t.Fatalf("push answers %d %+v", status, r)
	}
	r := b.push()
	if len(r.Pull) != 1 {
		t.Fatalf("pull %v", r.Pull)
	}
	got := r.Pull[0]
	if got.ID != "é\"x\n" || string(got.Metadata) != meta || got.Weight != 0.30000000000000004 || got.Updated != 1700000000.123456 || got.Embedding[0] != 0.1 {
		t.Errorf("pull %+v", got)
	}
	if d := cmp.Diff(map[string]int{"a": 1, "master": 1}, got.Clock); d != "" {
		t.Errorf("clock (-want +got):\n%s", d)
	}
	if again := b.push(); len(again.Pull) != 1 {
		t.Errorf("before the ack: %v", again.Pull)
	}
	b.ack(r)
	if again := b.push(); len(again.Pull) != 0 {
		t.Errorf("after the ack: %v", again.Pull)
	}
	b.push(vec{op: "DELETE", id: `\u00e9\"x\n`, deleted: true, embedding: "[]", clock: `{"a":1,"b":1,"master":1}`}.String())
	a.head = 1
	r = a.push()
	if len(r.Pull) != 1 || !r.Pull[0].Deleted || len(r.Pull[0].Embedding) != 0 || r.Pull[0].Clock["b"] != 1 {
		t.Errorf("a delete: %+v", r.Pull)
	}
	if again := b.push(); len(again.Pull) != 0 {
		t.Errorf("a delete goes back to its author: %v", again.Pull)
	}
	// A delete of what never came here, and the insert that it followed, late.
	b.push(vec{op: "DELETE", id: "w", deleted: true, embedding: "[]", clock: clock("b", 2)}.String(), vec{id: "v", clock: clock("b", 1)}.String())
	if r := b.again(1, 2, vec{id: "w", clock: clock("b", 1)}.String()); r.Applied != 0 || len(r.Pull) != 1 || !r.Pull[0].Deleted {
		t.Errorf("an insert after its delete: %+v", r)
	}
}

// TestLarge pushes 11 MiB of records of 384 dimensions.
func TestLarge(t *testing.T) {
	m := newMaster(t, v1.Options{})
	text := large(t, 11<<20)
	resp, err := http.Post(m.URL+"/sync", "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var r reply
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil || resp.StatusCode != 200 || r.Applied < 1000 {
		t.Fatalf("answers %d, applied %d: %v", resp.StatusCode, r.Applied, err)
	}
	c := &client{t: t, m: m, device: "other"}
	if pull := c.push(); len(pull.Pull) != r.Applied || len(pull.Pull[0].Embedding) != 384 {
		t.Errorf("another client pulls %d, want %d", len(pull.Pull), r.Applied)
	}
}

// large returns a push of about so many bytes.
func large(t testing.TB, size int) []byte {
	var changes []string
	for n := 0; n < size; n += len(changes[len(changes)-1]) + 1 {
		var b strings.Builder
		for i := range 384 {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "%.17g", float64((len(changes)*384+i)*7919%100003)/100019+1e-5)
		}
		changes = append(changes, vec{id: fmt.Sprintf("vector-%06d", len(changes)), embedding: "[" + b.String() + "]", metadata: `{"source":"test"}`, clock: clock("a", 1)}.String())
	}
	return []byte(body("a", 0, int64(len(changes)), changes...))
}

func BenchmarkPush(b *testing.B) {
	b.Run("bytes=11MiB/dim=384", func(b *testing.B) {
		text := large(b, 11<<20)
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			b.StopTimer()
			m := newMaster(b, v1.Options{})
			b.StartTimer()
			resp, err := http.Post(m.URL+"/sync", "application/json", bytes.NewReader(text))
			if err != nil || resp.StatusCode != 200 {
				b.Fatal(resp, err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			b.StopTimer()
			m.Close()
			b.StartTimer()
		}
	})
}

// TestPull_Pages gives a long pull in pieces, which a client acknowledges one by one.
func TestPull_Pages(t *testing.T) {
	m := newMaster(t, v1.Options{MaxPullBytes: 2000})
	a, b := &client{t: t, m: m, device: "a"}, &client{t: t, m: m, device: "b"}
	var changes []string
	for i := range 50 {
		changes = append(changes, vec{id: fmt.Sprint("v", i), clock: clock("a", 1)}.String())
	}
	a.push(changes...)
	got := make(map[string]bool)
	rounds := 0
	for ; rounds < 50; rounds++ {
		r := b.push()
		if len(r.Pull) == 0 {
			break
		}
		for _, p := range r.Pull {
			if got[p.ID] {
				t.Errorf("%s comes twice", p.ID)
			}
			got[p.ID] = true
		}
		b.ack(r)
	}
	if len(got) != 50 || rounds < 3 {
		t.Errorf("%d vectors in %d rounds, want 50 in several", len(got), rounds)
	}
}

// TestForgotten deletes a vector and lets the delete be forgotten.
func TestForgotten(t *testing.T) {
	now := time.Unix(1.7e9, 0)
	m := masterdtest.New(t, masterdtest.Options{Insecure: true, V1: withTokens,
		Store: store.Options{Now: func() time.Time { return now }, Retention: 24 * time.Hour}})
	a, b := &client{t: t, m: m, device: "a"}, &client{t: t, m: m, device: "b"}
	a.ack(a.push(vec{id: "x", clock: clock("a", 1)}.String(), vec{id: "y", clock: clock("a", 1)}.String()))
	r := b.push()
	b.ack(r)
	now = now.Add(time.Hour)
	a.ack(a.push(vec{op: "DELETE", id: "x", deleted: true, embedding: "[]", clock: clock("a", 2)}.String()))
	now = now.Add(48 * time.Hour)
	a.ack(a.push(vec{id: "z", clock: clock("a", 1)}.String()))
	now = now.Add(48 * time.Hour)
	a.ack(a.push(vec{id: "z2", clock: clock("a", 1)}.String()))
	stats, err := m.Engine.Lookup(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := stats.Stats(t.Context()); err != nil || st.Tombstones != 0 {
		t.Fatalf("%d tombstones, %v, want none left", st.Tombstones, err)
	}
	// b was away all the time.
	r = b.push()
	deleted := map[string]bool{}
	for _, p := range r.Pull {
		deleted[p.ID] = p.Deleted
		if p.ID == "x" && (p.Clock["a"] != 2 || p.Clock["master"] < 3) {
			t.Errorf("x is deleted with the clock %v", p.Clock)
		}
	}
	if d := cmp.Diff(map[string]bool{"x": true, "z": false, "z2": false}, deleted); d != "" {
		t.Errorf("pull (-want +got):\n%s", d)
	}
	b.ack(r)
	if r := b.push(); len(r.Pull) != 0 {
		t.Errorf("after the ack: %v", r.Pull)
	}
	// A late repeat does not bring it back, an edit does.
	if r := a.again(0, 1, vec{id: "x", clock: clock("a", 1)}.String()); r.Applied != 0 || len(r.Pull) != 1 || !r.Pull[0].Deleted {
		t.Errorf("a late repeat: %+v", r)
	}
	if r := b.push(vec{id: "x", clock: clock("a", 1, "b", 1)}.String()); r.Applied != 1 {
		t.Errorf("an edit: %+v", r)
	}
}

// TestTable serves a table that a device made, which has a column more.
func TestTable(t *testing.T) {
	for _, groups := range []string{`[]`, `[["embedding","dimension","metadata","semantic_weight","updated_at","note"]]`} {
		t.Run(groups, func(t *testing.T) {
			m := newMaster(t, v1.Options{})
			d := newDevice(t, m)
			d.exec(`CREATE TABLE vectors(vector_id TEXT PRIMARY KEY NOT NULL, embedding, dimension INTEGER, metadata TEXT, note TEXT UNIQUE, semantic_weight REAL, updated_at REAL)`)
			d.exec(`SELECT velosync_track('vectors', ?)`, `{"weight":"semantic_weight","groups":`+groups+`}`)
			d.exec(`INSERT INTO vectors VALUES ('x', ?, 2, '{}', 'mine', 1, 1)`, blob(1, 2))
			d.sync()
			a := &client{t: t, m: m, device: "a"}
			r := a.push()
			if len(r.Pull) != 1 {
				t.Fatalf("pull %v", r.Pull)
			}
			r = a.push(vec{id: "x", embedding: "[3.0,4.0]", clock: clock("a", 1, "master", r.Seq)}.String(), vec{id: "y", clock: clock("a", 1)}.String())
			if r.Applied != 2 || len(r.Conflicts) != 0 {
				t.Fatalf("push: %+v", r)
			}
			d.sync()
			var note string
			if err := d.db.QueryRow(`SELECT group_concat(coalesce(note, 'none') || length(embedding), ' ') FROM (SELECT * FROM vectors ORDER BY vector_id)`).Scan(&note); err != nil || note != "mine16 none16" {
				t.Errorf("the device has %q, %v", note, err)
			}
		})
	}
	t.Run("no table of vectors", func(t *testing.T) {
		m := newMaster(t, v1.Options{})
		d := newDevice(t, m)
		d.exec(`CREATE TABLE vectors(id TEXT PRIMARY KEY NOT NULL, embedding)`)
		d.exec(`SELECT velosync_track('vectors')`)
		d.sync()
		c := &client{t: t, m: m, device: "a"}
		if status, r := c.post("/sync", body("a", 0, 0)); status != 500 || !strings.Contains(string(r.Detail), "its log") {
			t.Errorf("answers %d %s", status, r.Detail)
		}
	})
}

func TestStoreFails(t *testing.T) {
	engine, err := store.OpenSQLite(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Close(); err != nil {
		t.Fatal(err)
	}
	h := v1.New(engine, v1.Options{Log: slog.New(slog.DiscardHandler)})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/sync", strings.NewReader(body("a", 0, 1, vec{id: "x", clock: clock("a", 1)}.String()))))
	if w.Code != 500 || !strings.Contains(w.Body.String(), `{"detail":"`) {
		t.Errorf("answers %d %s", w.Code, w.Body)
	}
}

// TestBusy holds all room for bodies by one that does not come to its end.
func TestBusy(t *testing.T) {
	m := newMaster(t, v1.Options{MaxBytes: 1 << 20, MaxBodyBytes: 1 << 20, BodyWait: time.Millisecond})
	slow, end := io.Pipe()
	held := make(chan error, 1)
	go func() {
		resp, err := http.Post(m.URL+"/sync", "application/json", slow) // no length: room for the longest
		if err == nil {
			resp.Body.Close()
		}
		held <- err
	}()
	if _, err := end.Write([]byte(" ")); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, m: m, device: "a"}
	status := 0
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); { // until the server has read the first byte
		if status, _ = c.post("/sync", body("a", 0, 0)); status == 503 {
			break
		}
	}
	if status != 503 {
		t.Errorf("answers %d, want 503", status)
	}
	end.Close()
	if err := <-held; err != nil {
		t.Error(err)
	}
	if status, _ := c.post("/sync", body("a", 0, 0)); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
}

// TestConcurrent pushes from many clients at once.
func TestConcurrent(t *testing.T) {
	m := newMaster(t, v1.Options{})
	var wait sync.WaitGroup
	const clients, pushes = 8, 6
	for i := range clients {
		wait.Go(func() {
			c := &client{t: t, m: m, device: fmt.Sprint("c", i)}
			for n := range pushes {
				r := c.push(vec{id: "shared", weight: fmt.Sprint(i), clock: clock(c.device, n+1)}.String(), vec{id: c.device, clock: clock(c.device, n+1)}.String())
				c.ack(r)
			}
		})
	}
	wait.Wait()
	last := (&client{t: t, m: m, device: "last"}).push()
	if len(last.Pull) != clients+1 {
		t.Fatalf("%d vectors, want %d", len(last.Pull), clients+1)
	}
	for _, r := range last.Pull {
		if r.ID != "shared" {
			continue
		}
		if len(r.Clock) != clients+1 || r.Weight != clients-1 {
			t.Errorf("shared is %+v", r)
		}
		for i := range clients {
			if r.Clock[fmt.Sprint("c", i)] != pushes {
				t.Errorf("the clock %v lacks writes of c%d", r.Clock, i)
			}
		}
	}
}

// TestPull_LostDelete loses with a delete, which leaves the row where it is in the feed.
func TestPull_LostDelete(t *testing.T) {
	m := newMaster(t, v1.Options{})
	a, b := &client{t: t, m: m, device: "a"}, &client{t: t, m: m, device: "b"}
	a.push(vec{id: "x", weight: "0.9", clock: clock("a", 1)}.String())
	b.ack(b.push())
	r := b.push(vec{op: "DELETE", id: "x", deleted: true, embedding: "[]", weight: "0.1", clock: clock("b", 1)}.String())
	if len(r.Pull) != 1 || r.Pull[0].Deleted || r.Pull[0].Clock["a"] != 1 || r.Pull[0].Clock["b"] != 1 {
		t.Errorf("b pulls %+v, want the row that stays, with a clock that covers its own", r.Pull)
	}
}

// TestPull_CameBack brings a deleted row back with what its author had lost: the author
// has to hear of it, though the newest write is its own.
func TestPull_CameBack(t *testing.T) {
	m := newMaster(t, v1.Options{})
	a, b := &client{t: t, m: m, device: "a"}, &client{t: t, m: m, device: "b"}
	d := newDevice(t, m)
	a.push(vec{id: "x", clock: clock("a", 1)}.String())
	b.push(vec{op: "DELETE", id: "x", deleted: true, embedding: "[]", weight: "5.0", clock: clock("a", 1, "b", 1, "master", 1)}.String())
	d.sync()
	d.exec(`INSERT INTO vectors VALUES ('x', ?, 2, '{}', 1.0, 1.0)`, blob(7, 7))
	r := a.push(vec{id: "x", weight: "3.0", embedding: "[3.0,3.0]", clock: clock("a", 2, "master", 1)}.String())
	if len(r.Pull) != 1 || !r.Pull[0].Deleted {
		t.Fatalf("a pulls %+v, want the delete", r.Pull)
	}
	a.ack(r)
	d.sync()
	r = a.push()
	if len(r.Pull) != 1 || r.Pull[0].Deleted || r.Pull[0].Embedding[0] != 3 {
		t.Errorf("a pulls %+v, want its version again", r.Pull)
	}
}
