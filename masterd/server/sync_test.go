package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
)

func TestSync(t *testing.T) {
	e := newFake()
	r := serve(t, e, Options{})
	token := r.token("notes", "phone")
	push := onePush(1)
	pull := r.sync("notes", token, push)
	if pull.Applied != 3 || pull.To != 7 || !pull.Done {
		t.Errorf("got pull %+v", pull)
	}
	calls := e.spaces["notes"].seen()
	if len(calls) != 1 || calls[0].owner != "phone" || len(calls[0].parts) != 1 {
		t.Fatalf("got calls %+v, want one by phone", calls)
	}
	push.Wire = calls[0].last.Wire
	if d := cmp.Diff(push, calls[0].parts[0]); d != "" {
		t.Errorf("-sent +applied\n%s", d)
	}
	r.sync("notes", token, push) // a replay reaches the store, which knows it
	if n := len(e.spaces["notes"].seen()); n != 2 {
		t.Errorf("after a replay: %d calls, want 2", n)
	}
}

func TestAck(t *testing.T) {
	e := newFake()
	r := serve(t, e, Options{})
	token := r.token("notes", "phone")
	body, err := wire.EncodeAck(wire.Ack{Device: change.DeviceID{1}, Seq: 9, LSN: 4})
	if err != nil {
		t.Fatal(err)
	}
	a := r.do("POST", "/v1/notes/ack", token, body)
	if a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	if err := wire.CheckDigest(a.header.Get("Content-Digest"), a.body); err != nil {
		t.Error(err)
	}
	got, err := wire.DecodeAckReply(a.body, wire.Limits{})
	if want := (wire.AckReply{Seq: 5, LSN: 4}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	e.spaces["notes"].ack = &store.OwnerError{Device: change.DeviceID{1}}
	if a := r.do("POST", "/v1/notes/ack", token, body); a.status != 403 || a.code(t) != wire.CodeForbidden {
		t.Errorf("another's device: got %d %s", a.status, a.body)
	}
}

// TestThreat_hostileRequests sends what no device sends. The space must see none of it.
func TestThreat_hostileRequests(t *testing.T) {
	e := newFake("notes", "other")
	r := serve(t, e, Options{Limits: wire.Limits{Body: 64 << 10, Inflated: 1 << 20}, FailedBurst: 1000})
	token, other := r.token("notes", "phone"), r.token("other", "laptop")
	unknown, _, _ := NewToken(rand.Reader)
	good := encodePush(t, onePush(1))
	ack, err := wire.EncodeAck(wire.Ack{Device: change.DeviceID{1}})
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	bomb := z.EncodeAll(make([]byte, 32<<20), nil)
	z.Close()
	nameless := onePush(1)
	nameless.Names = nil
	page := onePush(1)
	page.Paging, page.More = true, true

	const sync = "/v1/notes/sync"
	for _, tt := range []struct {
		name    string
		method  string
		path    string
		token   string
		body    []byte
		headers []string
		status  int
		code    string
	}{
		{"too big", "POST", sync, token, make([]byte, 64<<10+1), nil, 413, "too-large"},
		{"too big, length not told", "POST", sync, token, make([]byte, 64<<10+1), []string{"chunked", "yes"}, 413, "too-large"},
		{"cut", "POST", sync, token, good[:len(good)/2], nil, 400, "malformed"},
		{"empty", "POST", sync, token, nil, nil, 400, "malformed"},
		{"noise", "POST", sync, token, bytes.Repeat([]byte("noise"), 100), nil, 400, "malformed"},
		{"cut under the whole body's digest", "POST", sync, token, good[:len(good)/2], []string{"Content-Digest", wire.Digest(good)}, 400, "digest-mismatch"},
		{"no digest", "POST", sync, token, good, []string{"Content-Digest", ""}, 400, "digest-mismatch"},
		{"digest of another kind", "POST", sync, token, good, []string{"Content-Digest", "sha-512=:AAAA:"}, 400, "digest-mismatch"},
		{"bomb", "POST", sync, token, bomb, nil, 413, "too-large"},
		{"ack as push", "POST", sync, token, ack, nil, 400, "malformed"},
		{"push as ack", "POST", "/v1/notes/ack", token, good, nil, 400, "malformed"},
		{"ack too big", "POST", "/v1/notes/ack", token, make([]byte, 5<<10), nil, 413, "too-large"},
		{"other version", "POST", sync, token, z2(t, []byte{0x83, 0x02, 0x01, 0xa0}), nil, 400, "version"},
		{"JSON", "POST", sync, token, []byte("{}"), []string{"Content-Type", "application/json"}, 415, "media-type"},
		{"form of a web page", "POST", sync, token, good, []string{"Content-Type", "text/plain"}, 415, "media-type"},
		{"no type", "POST", sync, token, good, []string{"Content-Type", ""}, 415, "media-type"},
		{"gzip", "POST", sync, token, good, []string{"Content-Encoding", "gzip"}, 415, "media-type"},
		{"no name", "POST", sync, token, encodePush(t, nameless), nil, 422, "bad-request"},
		{"page in parts", "POST", sync, token, encodePush(t, page), nil, 422, "bad-request"},
		{"no token", "POST", sync, "", good, nil, 401, "unauthorized"},
		{"unknown token", "POST", sync, unknown, good, nil, 401, "unauthorized"},
		{"no vst_ token", "POST", sync, "secret", good, nil, 401, "unauthorized"},
		{"token as Basic", "POST", sync, "", good, []string{"Authorization", "Basic " + token}, 401, "unauthorized"},
		{"token of another space", "POST", sync, other, good, nil, 404, "no-space"},
		{"space that is not there", "POST", "/v1/nowhere/sync", token, good, nil, 404, "no-space"},
		{"space that can't be", "POST", "/v1/NOTES/sync", token, good, nil, 404, "no-space"},
		{"space that climbs", "POST", "/v1/..%2F..%2Fetc/sync", token, good, nil, 404, "not-found"},
		{"space that climbs plainly", "POST", "/v1/../notes/sync", token, good, nil, 404, "not-found"},
		{"space of dots", "POST", "/v1/../sync", token, good, nil, 404, "no-space"},
		{"events of another space", "GET", "/v1/other/events", token, nil, nil, 404, "no-space"},
		{"wrong method", "GET", sync, token, nil, nil, 405, "method-not-allowed"},
		{"odd method", "BREW", sync, token, nil, nil, 405, "method-not-allowed"},
		{"no such path", "POST", "/v1/notes/backup", token, good, nil, 404, "not-found"},
		{"protocol v1 is off", "POST", "/sync", token, good, nil, 404, "not-found"},
		{"stats without a token", "GET", "/stats", "", nil, nil, 401, "unauthorized"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var a answer
			if len(tt.headers) > 0 && tt.headers[0] == "chunked" {
				status, body := r.raw(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Digest: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
					tt.path, tt.token, wire.ContentType, wire.Digest(tt.body), len(tt.body), tt.body))
				if status != tt.status || !strings.Contains(body, `"code":"`+tt.code+`"`) {
					t.Errorf("got %d %s, want %d %s", status, body, tt.status, tt.code)
				}
				return
			}
			a = r.do(tt.method, tt.path, tt.token, tt.body, tt.headers...)
			if code := a.code(t); a.status != tt.status || code != tt.code {
				t.Errorf("got %d %s (%s), want %d %s", a.status, code, a.body, tt.status, tt.code)
			}
			switch a.status {
			case 401:
				if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
					t.Errorf("WWW-Authenticate is %q", a.header.Get("WWW-Authenticate"))
				}
			case 405:
				if a.header.Get("Allow") != "POST" {
					t.Errorf("Allow is %q, want POST", a.header.Get("Allow"))
				}
			}
		})
	}
	t.Run("huge header", func(t *testing.T) {
		a := r.do("POST", sync, token, good, "X-Long", strings.Repeat("a", 128<<10))
		if a.status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("got %d, want 431", a.status)
		}
	})
	t.Run("body shorter than announced", func(t *testing.T) {
		status, body := r.raw(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Digest: %s\r\nContent-Length: %d\r\n\r\n%s",
			sync, token, wire.ContentType, wire.Digest(good), len(good)+10, good))
		if status != 400 && status != 0 { // net/http may be gone first
			t.Errorf("got %d %s, want 400", status, body)
		}
	})
	t.Run("a space of others and none look alike", func(t *testing.T) {
		a, b := r.do("POST", "/v1/other/sync", token, good), r.do("POST", "/v1/nowhere/sync", token, good)
		cut := func(a answer) string { s, _, _ := strings.Cut(string(a.body), `"request"`); return s }
		if cut(a) != cut(b) {
			t.Errorf("got %s and %s", a.body, b.body)
		}
	})
	if n := len(e.spaces["notes"].seen()) + len(e.spaces["other"].seen()); n != 0 || len(e.spaces) != 2 {
		t.Errorf("the store saw %d pushes in %d spaces, want none in 2", n, len(e.spaces))
	}
	if s := r.log.String(); strings.Contains(s, token) || strings.Contains(s, unknown) {
		t.Error("a token stands in the log")
	}
}

// z2 packs CBOR as a body.
func z2(t *testing.T, b []byte) []byte {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(b, nil)
}

func TestThreat_errorsTellNothing(t *testing.T) {
	e := newFake("notes")
	r := serve(t, e, Options{})
	token := r.token("notes", "phone")
	space := e.spaces["notes"]
	for _, tt := range []struct {
		err    error
		status int
		code   string
		holds  string // in the body
	}{
		{&store.SchemaError{Unknown: true}, 409, "schema-unknown", "send the tables"},
		{&store.SchemaError{Table: "notes", Reason: "column a"}, 409, "schema-mismatch", `"table":"notes"`},
		{&store.ForkedError{Device: change.DeviceID{1}}, 409, "forked", "new id"},
		{&store.RestoredError{Seen: 30, Head: 20, Common: 10}, 409, "restored", `"seen":30,"head":20,"common":10`},
		{&store.OwnerError{Device: change.DeviceID{1}}, 403, "forbidden", "another token"},
		{&store.PageError{Reason: "pushed since"}, 409, "page-gone", "pushed since"},
		{&store.RequestError{Reason: "block 3 has no such table"}, 422, "bad-request", "block 3"},
		{store.ErrNoSpace, 404, "no-space", ""},
		{context.DeadlineExceeded, 503, "busy", ""},
		{errors.New("disk I/O error at /var/secret"), 500, "internal", ""},
	} {
		t.Run(tt.code, func(t *testing.T) {
			space.mu.Lock()
			space.sync = func(context.Context, syncCall) (*change.Pull, error) { return nil, fmt.Errorf("apply: %w", tt.err) }
			space.mu.Unlock()
			a := r.do("POST", "/v1/notes/sync", token, encodePush(t, onePush(1)))
			if code := a.code(t); a.status != tt.status || code != tt.code || !bytes.Contains(a.body, []byte(tt.holds)) {
				t.Errorf("got %d %s, want %d %s with %s", a.status, a.body, tt.status, tt.code, tt.holds)
			}
			if (a.status == 503) != (a.header.Get("Retry-After") != "") {
				t.Errorf("status %d: Retry-After is %q", a.status, a.header.Get("Retry-After"))
			}
			if bytes.Contains(a.body, []byte("secret")) {
				t.Errorf("an internal error's text goes out: %s", a.body)
			}
			if tt.code == "internal" && !strings.Contains(r.log.String(), "request="+a.header.Get("Velosync-Request")) {
				t.Error("the log has no line with the request's id")
			}
		})
	}
	t.Run("panic", func(t *testing.T) {
		space.mu.Lock()
		space.sync = func(context.Context, syncCall) (*change.Pull, error) { panic("boom") }
		space.mu.Unlock()
		a := r.do("POST", "/v1/notes/sync", token, encodePush(t, onePush(1)))
		if a.status != 500 || a.code(t) != "internal" || bytes.Contains(a.body, []byte("boom")) {
			t.Errorf("got %d %s", a.status, a.body)
		}
	})
}

// partOf returns part n of a push of device 1 under a name.
func partOf(n int, more bool, name byte) *change.Push {
	p := onePush(1)
	p.Part, p.More, p.Names = n, more, []change.Name{{99}, {name}}
	p.Blocks[0].Keys[0] = fmt.Sprintf("part %d of %d", n, name)
	return p
}

func staged(t *testing.T, r *running) int {
	t.Helper()
	if r.engine.parts != nil {
		return r.engine.parts()
	}
	files, err := os.ReadDir(r.o.Staging)
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestSync_parts(t *testing.T) { testParts(t, newFake("notes")) }

func testParts(t *testing.T, e *fakeEngine) {
	r := serve(t, e, Options{})
	token := r.token("notes", "phone")
	space := e.spaces["notes"]
	post := func(p *change.Push) answer { return r.do("POST", "/v1/notes/sync", token, encodePush(t, p)) }
	missing := func(t *testing.T, p *change.Push) {
		t.Helper()
		if a := post(p); a.status != 409 || a.code(t) != "part-missing" {
			t.Errorf("part %d: got %d %s, want 409 part-missing", p.Part, a.status, a.body)
		}
	}
	reset := func() {
		space.mu.Lock()
		defer space.mu.Unlock()
		space.calls, space.sync = nil, nil
	}
	keys := func(t *testing.T) (keys []string) {
		t.Helper()
		calls := space.seen()
		if len(calls) == 0 {
			t.Fatal("the store saw nothing")
		}
		for _, p := range calls[len(calls)-1].parts {
			keys = append(keys, p.Blocks[0].Keys[0].(string))
		}
		return keys
	}

	t.Run("in order", func(t *testing.T) {
		reset()
		for n := range 3 {
			pull := r.sync("notes", token, partOf(n, true, 1))
			if pull.Wire = 0; cmp.Diff(&change.Pull{}, pull) != "" {
				t.Errorf("part %d: got %+v, want an empty pull", n, pull)
			}
		}
		if n := staged(t, r); n != 3 {
			t.Errorf("%d files staged, want 3", n)
		}
		if len(space.seen()) != 0 {
			t.Error("the store saw a part before the last had come")
		}
		r.sync("notes", token, partOf(3, false, 1))
		want := []string{"part 0 of 1", "part 1 of 1", "part 2 of 1", "part 3 of 1"}
		if d := cmp.Diff(want, keys(t)); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
		if n := staged(t, r); n != 0 {
			t.Errorf("%d files left after use", n)
		}
		missing(t, partOf(3, false, 1)) // the store says whether they are wanted
	})
	t.Run("a part twice", func(t *testing.T) {
		reset()
		r.sync("notes", token, partOf(0, true, 2))
		r.sync("notes", token, partOf(1, true, 2))
		r.sync("notes", token, partOf(0, true, 2)) // late: takes nothing away
		r.sync("notes", token, partOf(2, false, 2))
		if got := len(keys(t)); got != 3 {
			t.Errorf("%d parts, want 3", got)
		}
	})
	t.Run("a part anew with other content", func(t *testing.T) {
		reset()
		r.sync("notes", token, partOf(0, true, 3))
		r.sync("notes", token, partOf(1, true, 3))
		changed := partOf(0, true, 3)
		changed.Blocks[0].Keys[0] = "other"
		r.sync("notes", token, changed)
		missing(t, partOf(2, false, 3))
		r.sync("notes", token, partOf(1, false, 3))
		if d := cmp.Diff([]string{"other", "part 1 of 3"}, keys(t)); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	})
	t.Run("missing", func(t *testing.T) {
		reset()
		missing(t, partOf(1, true, 4))
		missing(t, partOf(1, false, 4))
		r.sync("notes", token, partOf(0, true, 4))
		missing(t, partOf(2, true, 4))
		missing(t, partOf(2, false, 4))
		r.sync("notes", token, partOf(1, false, 4)) // what had come is still there
	})
	t.Run("another name begins anew", func(t *testing.T) {
		reset()
		r.sync("notes", token, partOf(0, true, 5))
		r.sync("notes", token, partOf(0, true, 6))
		if n := staged(t, r); n != 1 {
			t.Errorf("%d files staged, want 1", n)
		}
		missing(t, partOf(1, false, 5))
		if n := staged(t, r); n != 0 {
			t.Errorf("%d files staged, want none", n)
		}
		r.sync("notes", token, partOf(0, true, 7))
		r.sync("notes", token, onePush(1)) // whole, under another name
		if n := staged(t, r); n != 0 {
			t.Errorf("%d files staged after a whole push, want none", n)
		}
	})
	t.Run("another seen", func(t *testing.T) {
		reset()
		r.sync("notes", token, partOf(0, true, 8))
		p := partOf(1, false, 8)
		p.Seen = 5
		if a := post(p); a.status != 422 || a.code(t) != "bad-request" {
			t.Errorf("got %d %s", a.status, a.body)
		}
	})
	t.Run("another token's parts stay apart", func(t *testing.T) {
		reset()
		laptop := r.token("notes", "laptop")
		r.sync("notes", token, partOf(0, true, 9))
		a := r.do("POST", "/v1/notes/sync", laptop, encodePush(t, partOf(1, false, 9)))
		if a.status != 409 || a.code(t) != "part-missing" {
			t.Errorf("got %d %s", a.status, a.body)
		}
		r.sync("notes", token, partOf(1, false, 9))
	})
	t.Run("kept for the tables, dropped when forked", func(t *testing.T) {
		reset()
		answerWith := func(err error) {
			space.mu.Lock()
			defer space.mu.Unlock()
			space.sync = func(context.Context, syncCall) (*change.Pull, error) { return nil, err }
		}
		answerWith(&store.SchemaError{Unknown: true})
		r.sync("notes", token, partOf(0, true, 10))
		if a := post(partOf(1, false, 10)); a.code(t) != "schema-unknown" || staged(t, r) != 1 {
			t.Errorf("got %s, %d files staged, want 1", a.body, staged(t, r))
		}
		answerWith(&store.ForkedError{})
		if a := post(partOf(1, false, 10)); a.code(t) != "forked" || staged(t, r) != 0 {
			t.Errorf("got %s, %d files staged, want none", a.body, staged(t, r))
		}
	})
	t.Run("damaged on disk", func(t *testing.T) {
		if e.stager != nil {
			return
		}
		reset()
		r.sync("notes", token, partOf(0, true, 11))
		files, err := filepath.Glob(filepath.Join(r.o.Staging, "part-*"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		if err := os.WriteFile(files[0], encodePush(t, partOf(0, true, 12)), 0o600); err != nil {
			t.Fatal(err)
		}
		if a := post(partOf(1, false, 11)); a.status != 500 || a.code(t) != "internal" {
			t.Errorf("got %d %s", a.status, a.body)
		}
	})
}

func TestThreat_stagedParts(t *testing.T) { testPartLimits(t, newFake("notes")) }

// testPartLimits takes parts that take one block of 4,096 bytes.
func testPartLimits(t *testing.T, e *fakeEngine) {
	now := time.Unix(1e9, 0)
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	r := serve(t, e, Options{MaxParts: 4, MaxPushBytes: 2 * 4096, MaxStagedBytes: 3 * 4096, PartExpiry: time.Minute, Now: clock})
	a, b, c := r.token("notes", "a"), r.token("notes", "b"), r.token("notes", "c")
	post := func(token string, n int) answer {
		return r.do("POST", "/v1/notes/sync", token, encodePush(t, partOf(n, true, 1)))
	}
	want := func(what string, got answer, status int) {
		t.Helper()
		if got.status != status {
			t.Errorf("%s: got %d %s, want %d", what, got.status, got.body, status)
		}
	}
	want("first", post(a, 0), 200)
	want("second", post(a, 1), 200)
	want("beyond the push's bytes", post(a, 2), 413)
	if n := staged(t, r); n != 0 {
		t.Errorf("%d files of a push that can't be, want none", n)
	}
	want("first of a", post(a, 0), 200)
	want("second of a", post(a, 1), 200)
	want("first of b", post(b, 0), 200)
	full := post(c, 0)
	want("beyond all bytes", full, 503)
	if full.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	mu.Lock()
	now = now.Add(time.Minute)
	mu.Unlock()
	want("after the others' expiry", post(c, 0), 200)
	if n := staged(t, r); n != 1 {
		t.Errorf("%d files after expiry, want 1", n)
	}
	want("expired", post(a, 2), 409)

	r = serve(t, e, Options{MaxParts: 2})
	a = r.token("notes", "d")
	want("part 0", post(a, 0), 200)
	want("part 1", post(a, 1), 200)
	want("part 2 of 2", post(a, 2), 413)
}

func TestStaging_startAndEnd(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"part-7", "mine.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	e := newFake("notes")
	r := serve(t, e, Options{Staging: dir})
	if d := cmp.Diff([]string{"mine.txt"}, list()); d != "" {
		t.Errorf("at start: -want +got\n%s", d)
	}
	r.sync("notes", r.token("notes", "phone"), partOf(0, true, 1))
	if len(list()) != 2 {
		t.Errorf("a part came: %v", list())
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"mine.txt"}, list()); d != "" {
		t.Errorf("at the end: -want +got\n%s", d)
	}

	s := New(e, Options{}) // a directory of its own
	temp := s.staging.(*fileStaging).temp
	if _, err := os.Stat(temp); err != nil {
		t.Error(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(temp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("temporary directory: %v, want it gone", err)
	}
}

func TestSync_queue(t *testing.T) {
	e := newFake("notes", "other")
	r := serve(t, e, Options{MaxSyncs: 2, QueueWait: 50 * time.Millisecond})
	token, other := r.token("notes", "phone"), r.token("other", "phone")
	release := make(chan struct{})
	entered := make(chan struct{}, 9)
	e.spaces["notes"].sync = func(context.Context, syncCall) (*change.Pull, error) {
		entered <- struct{}{}
		<-release
		return &change.Pull{Done: true}, nil
	}
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() { r.do("POST", "/v1/notes/sync", token, encodePush(t, onePush(1))) })
		<-entered
	}
	a := r.do("POST", "/v1/notes/sync", token, encodePush(t, onePush(1)))
	if a.status != 503 || a.code(t) != "busy" || a.header.Get("Retry-After") == "" {
		t.Errorf("third of a space for two: got %d %s", a.status, a.body)
	}
	r.sync("other", other, onePush(1)) // is not held up
	close(release)
	running.Wait()
	r.sync("notes", token, onePush(1))
	r.gates.spaces.mu.Lock()
	defer r.gates.spaces.mu.Unlock()
	if len(r.gates.spaces.byKey) != 0 {
		t.Errorf("%d gates kept, want none", len(r.gates.spaces.byKey))
	}
}
