package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
)

func TestToken(t *testing.T) {
	token, hash, err := NewToken(strings.NewReader(strings.Repeat("\xff", 32)))
	if err != nil {
		t.Fatal(err)
	}
	if want := "vst_" + strings.Repeat("_", 42) + "8"; token != want {
		t.Errorf("got %s, want %s", token, want)
	}
	if got, ok := HashToken(token); !ok || got != hash {
		t.Errorf("HashToken(%s) = %x, %t, want %x", token, got, ok, hash)
	}
	for _, bad := range []string{"", "vst_", token[4:], token + "A", token[:len(token)-1], token[:len(token)-1] + "9", "VST_" + token[4:], token[:9] + "\n" + token[10:]} {
		if _, ok := HashToken(bad); ok {
			t.Errorf("HashToken(%q) is a token", bad)
		}
	}
	if _, _, err := NewToken(strings.NewReader("short")); err == nil {
		t.Error("NewToken made a token of 5 random bytes")
	}
}

func TestThreat_noTokens(t *testing.T) {
	e := newFake()
	r := serve(t, e, Options{Insecure: true})
	if a := r.do("GET", "/v1/notes/events", "", nil); a.status != 404 || a.code(t) != "no-space" {
		t.Errorf("events of a space before its first push: got %d %s", a.status, a.body)
	}
	r.do("POST", "/v1/notes/sync", "", []byte("noise"))
	if len(e.spaces) != 0 {
		t.Error("noise made a space")
	}
	r.sync("notes", "", onePush(1))
	if calls := e.spaces["notes"].seen(); len(calls) != 1 || calls[0].owner != "" {
		t.Errorf("got %+v", calls)
	}
	for host, status := range map[string]int{"localhost:80": 200, "app.localhost": 200, "[::1]:80": 200, "127.0.0.1": 200,
		"evil.example": 403, "evil.example:80": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403} {
		a := r.do("POST", "/v1/notes/sync", "", encodePush(t, onePush(1)), "Host", host)
		if a.status != status {
			t.Errorf("host %s: got %d, want %d", host, a.status, status)
		}
		if status == 403 {
			a.code(t)
		}
	}
	l, err := net.Listen("tcp", "0.0.0.0:0") // refused before it accepts anything
	if err != nil {
		t.Fatal(err)
	}
	err = New(e, Options{Insecure: true}).Serve(t.Context(), l)
	if err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("serving without tokens on %s: got %v", l.Addr(), err)
	}
}

func TestThreat_revokedToken(t *testing.T) {
	e := newFake("notes")
	r := serve(t, e, Options{KeepAlive: 5 * time.Millisecond})
	token := r.token("notes", "phone")
	events := r.events("notes", token)
	events.next(t)
	r.sync("notes", token, onePush(1))
	if err := e.RevokeToken(t.Context(), "notes", "phone"); err != nil {
		t.Fatal(err)
	}
	if a := r.do("POST", "/v1/notes/sync", token, encodePush(t, onePush(1))); a.status != 401 {
		t.Errorf("got %d after the token was revoked, want 401", a.status)
	}
	events.end(t)
}

func TestThreat_requestRate(t *testing.T) {
	now := time.Unix(1e9, 0)
	e := newFake("notes")
	r := serve(t, e, Options{Rate: 1, Burst: 3, Now: func() time.Time { return now }})
	phone, laptop := r.token("notes", "phone"), r.token("notes", "laptop")
	post := func(token string) answer { return r.do("POST", "/v1/notes/sync", token, encodePush(t, onePush(1))) }
	for range 3 {
		if a := post(phone); a.status != 200 {
			t.Fatalf("within the burst: got %d %s", a.status, a.body)
		}
	}
	if a := post(phone); a.status != 429 || a.code(t) != "busy" || a.header.Get("Retry-After") != "1" {
		t.Errorf("beyond: got %d %s, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
	}
	if a := post(laptop); a.status != 200 {
		t.Errorf("another token: got %d", a.status)
	}
	now = now.Add(time.Second)
	if a := post(phone); a.status != 200 {
		t.Errorf("a second later: got %d", a.status)
	}
}

func TestThreat_tokenGuessing(t *testing.T) {
	now := time.Unix(1e9, 0)
	e := newFake("notes")
	r := serve(t, e, Options{FailedRate: 0.1, FailedBurst: 5, Now: func() time.Time { return now }})
	known, late := r.token("notes", "known"), r.token("notes", "late")
	push := encodePush(t, onePush(1))
	post := func(token string) answer { return r.do("POST", "/v1/notes/sync", token, push) }
	if a := post(known); a.status != 200 {
		t.Fatal(a.status)
	}
	for i := range 5 {
		wrong := fmt.Sprintf("vst_%043d", i*4)
		if a := post(wrong); a.status != 401 {
			t.Errorf("wrong token %d: got %d, want 401", i, a.status)
		}
	}
	before := e.found
	if a := post("vst_" + strings.Repeat("A", 43)); a.status != 429 || a.header.Get("Retry-After") != "10" {
		t.Errorf("sixth wrong token: got %d, Retry-After %q, want 429, 10", a.status, a.header.Get("Retry-After"))
	}
	if a := post(late); a.status != 429 {
		t.Errorf("right token never seen before: got %d, want 429", a.status)
	}
	if e.found != before {
		t.Error("tokens of a blocked address were looked up")
	}
	if a := post(known); a.status != 200 {
		t.Errorf("token that was right before: got %d, want 200", a.status)
	}
	now = now.Add(10 * time.Second)
	if a := post(late); a.status != 200 {
		t.Errorf("10 s later: got %d, want 200", a.status)
	}
}

func TestThreat_manyAddresses(t *testing.T) {
	l := newLimits(1, 1)
	now := time.Unix(1e9, 0)
	for i := range maxKeys + 100 {
		l.allow(fmt.Sprint(i), now)
	}
	if len(l.byKey) != maxKeys || l.order.Len() != maxKeys {
		t.Errorf("%d keys, %d in order, want %d", len(l.byKey), l.order.Len(), maxKeys)
	}
	if l.has("99") || !l.has("100") {
		t.Error("not the least recently seen were forgotten")
	}
}

func TestAddress(t *testing.T) {
	for _, tt := range []struct{ remote, forwarded, plain, proxied string }{
		{"192.0.2.1:5000", "", "192.0.2.1", "192.0.2.1"},
		{"[::ffff:192.0.2.1]:5000", "", "192.0.2.1", "192.0.2.1"},
		{"[2001:db8:1:2:3:4:5:6]:5000", "", "2001:db8:1:2::/64", "2001:db8:1:2::/64"},
		{"127.0.0.1:5000", "198.51.100.7", "127.0.0.1", "198.51.100.7"},
		{"127.0.0.1:5000", "203.0.113.9, 198.51.100.7", "127.0.0.1", "198.51.100.7"}, // the first is the client's word
		{"127.0.0.1:5000", "[2001:db8::1]", "127.0.0.1", "2001:db8::/64"},
		{"127.0.0.1:5000", "198.51.100.7:99", "127.0.0.1", "198.51.100.7"},
		{"127.0.0.1:5000", "junk", "127.0.0.1", "unknown"},
	} {
		r := &http.Request{RemoteAddr: tt.remote, Header: http.Header{}}
		if tt.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tt.forwarded)
		}
		plain, proxied := &Server{}, &Server{o: Options{BehindProxy: true}}
		if got := plain.address(r); got != tt.plain {
			t.Errorf("%+v: got %s", tt, got)
		}
		if got := proxied.address(r); got != tt.proxied {
			t.Errorf("%+v: behind a proxy got %s", tt, got)
		}
	}
}

// A stream is a client's end of an event stream.
type stream struct {
	res   *http.Response
	lines *bufio.Scanner
}

func (r *running) events(space, token string) *stream {
	r.t.Helper()
	req, err := http.NewRequest("GET", r.url+"/v1/"+space+"/events", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := r.client.Transport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { res.Body.Close() })
	if ct := res.Header.Get("Content-Type"); res.StatusCode != 200 || ct != "text/event-stream" {
		r.t.Fatalf("events: %d %s", res.StatusCode, ct)
	}
	return &stream{res, bufio.NewScanner(res.Body)}
}

// next returns the lines of the next event, or comment.
func (s *stream) next(t *testing.T) string {
	t.Helper()
	var lines []string
	for s.lines.Scan() {
		if s.lines.Text() == "" {
			return strings.Join(lines, "\n")
		}
		lines = append(lines, s.lines.Text())
	}
	t.Fatalf("the stream ended after %q: %v", lines, s.lines.Err())
	return ""
}

// head reads events until one says seq.
func (s *stream) head(t *testing.T, seq int) {
	t.Helper()
	for {
		got := s.next(t)
		if got == fmt.Sprintf("event: head\ndata: {\"seq\":%d}", seq) {
			return
		}
		if got != ":" {
			t.Fatalf("got event %q, want seq %d", got, seq)
		}
	}
}

// end reads until the stream ends in order.
func (s *stream) end(t *testing.T) {
	t.Helper()
	for s.lines.Scan() {
	}
	if err := s.lines.Err(); err != nil {
		t.Errorf("the stream broke: %v", err)
	}
}

func TestEvents(t *testing.T) {
	e := newFake("notes")
	// ReadTimeout would end the stream if events were not exempt from it.
	r := serve(t, e, Options{KeepAlive: 20 * time.Millisecond, ReadTimeout: 30 * time.Millisecond, RequestTimeout: time.Millisecond, WriteTimeout: 40 * time.Millisecond})
	s := r.events("notes", r.token("notes", "phone"))
	s.head(t, 0)
	for seq := 1; seq < 5; seq++ {
		e.spaces["notes"].move(change.Seq(seq))
		s.head(t, seq)
	}
	for range 5 { // longer than the timeouts of other requests
		if got := s.next(t); got != ":" {
			t.Errorf("got %q, want a comment", got)
		}
	}
	e.spaces["notes"].move(9)
	s.head(t, 9)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	s.end(t)
}

func TestThreat_manyStreams(t *testing.T) {
	e := newFake("notes")
	r := serve(t, e, Options{MaxStreams: 2, MaxStreamsTotal: 3})
	phone, laptop, tablet := r.token("notes", "phone"), r.token("notes", "laptop"), r.token("notes", "tablet")
	first := r.events("notes", phone)
	r.events("notes", phone)
	refused := func(token string) {
		t.Helper()
		if a := r.do("GET", "/v1/notes/events", token, nil); a.status != 429 || a.code(t) != "busy" || a.header.Get("Retry-After") == "" {
			t.Errorf("got %d %s, want 429 busy", a.status, a.body)
		}
	}
	refused(phone)
	r.events("notes", laptop)
	refused(tablet)
	first.res.Body.Close()
	eventually(t, "the closed stream is counted out", func() bool { return r.streams.count() == 2 })
	r.events("notes", tablet)
}

func TestThreat_slowReader(t *testing.T) {
	e := newFake("notes")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := serveOn(t, smallBuffers{l}, e, Options{WriteTimeout: 50 * time.Millisecond, KeepAlive: time.Hour})
	token := r.token("notes", "phone")
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprintf(c, "GET /v1/notes/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", token)
	eventually(t, "the stream is open", func() bool { return r.streams.count() == 1 })
	stop := make(chan struct{})
	var mover sync.WaitGroup
	mover.Go(func() { // fills the socket's buffers, which nobody reads
		for seq := change.Seq(1); ; seq++ {
			select {
			case <-stop:
				return
			default:
				e.spaces["notes"].move(seq)
			}
		}
	})
	for end := time.Now().Add(30 * time.Second); r.streams.count() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Error("a client that does not read keeps its stream")
			break
		}
	}
	close(stop)
	mover.Wait()
}

func TestShutdown(t *testing.T) {
	t.Run("requests finish", func(t *testing.T) {
		e := newFake("notes")
		r := serve(t, e, Options{})
		entered, release := make(chan struct{}), make(chan struct{})
		e.spaces["notes"].sync = func(context.Context, syncCall) (*change.Pull, error) {
			close(entered)
			<-release
			return &change.Pull{Done: true}, nil
		}
		token := r.token("notes", "phone")
		got := make(chan answer, 1)
		go func() { got <- r.do("POST", "/v1/notes/sync", token, encodePush(t, onePush(1))) }()
		<-entered
		stopped := make(chan error, 1)
		go func() { stopped <- r.stop() }()
		eventually(t, "the listener is closed", func() bool {
			c, err := net.Dial("tcp", r.addr)
			if err == nil {
				c.Close()
			}
			return err != nil
		})
		select {
		case err := <-stopped:
			t.Errorf("stopped over a running request: %v", err)
		default:
		}
		close(release)
		if a := <-got; a.status != 200 {
			t.Errorf("the running request: got %d %s", a.status, a.body)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	t.Run("requests that do not finish are cut", func(t *testing.T) {
		e := newFake("notes")
		r := serve(t, e, Options{Grace: 20 * time.Millisecond})
		entered := make(chan struct{})
		var left error
		e.spaces["notes"].sync = func(ctx context.Context, _ syncCall) (*change.Pull, error) {
			close(entered)
			<-ctx.Done()
			left = ctx.Err()
			return nil, ctx.Err()
		}
		token := r.token("notes", "phone")
		done := make(chan struct{})
		go func() {
			defer close(done)
			req, _ := http.NewRequest("POST", r.url+"/v1/notes/sync", strings.NewReader(string(encodePush(t, onePush(1)))))
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", wire.ContentType)
			req.Header.Set("Content-Digest", wire.Digest(encodePush(t, onePush(1))))
			if res, err := r.client.Do(req); err == nil {
				res.Body.Close()
			}
		}()
		<-entered
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if !errors.Is(left, context.Canceled) { // Serve waits for the handler, so this is no race
			t.Errorf("the request saw %v, want it canceled", left)
		}
		<-done
	})
	t.Run("a closed server refuses", func(t *testing.T) {
		s := New(newFake(), Options{Staging: t.TempDir()})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: s.Handler()}
		go srv.Serve(l)
		defer srv.Close()
		tr := &http.Transport{}
		defer tr.CloseIdleConnections()
		res, err := (&http.Client{Transport: tr}).Get("http://" + l.Addr().String() + "/health")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if p := wire.ReadProblem(res.StatusCode, res.Body); p.Status != 503 || !p.Temporary() {
			t.Errorf("got %+v", p)
		}
	})
	t.Run("a broken listener is an error", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if err := New(newFake(), Options{Staging: t.TempDir()}).Serve(t.Context(), l); err == nil {
			t.Error("Serve returned nil")
		}
	})
}

// TestThreat_slowBody checks that a body that trickles in is cut, and that a request whose
// work takes longer than its reading may is not.
func TestThreat_slowBody(t *testing.T) {
	e := newFake("notes")
	r := serve(t, e, Options{ReadTimeout: 100 * time.Millisecond})
	token := r.token("notes", "phone")
	good := encodePush(t, onePush(1))
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/notes/sync HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Digest: %s\r\nContent-Length: %d\r\n\r\n%s",
		token, wire.ContentType, wire.Digest(good), len(good), good[:len(good)-1])
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if p := wire.ReadProblem(res.StatusCode, res.Body); p.Status != 408 || p.Code != "timeout" {
		t.Errorf("got %+v, want 408 timeout", p)
	}
	e.spaces["notes"].sync = func(ctx context.Context, _ syncCall) (*change.Pull, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(300 * time.Millisecond): // what is tested is time itself
			return &change.Pull{Done: true}, nil
		}
	}
	r.sync("notes", token, onePush(1))
}

// TestThreat_slowBodiesOfOneToken: bodies that one token sends slowly hold a share of the
// memory for bodies, and another token's rounds go on.
func TestThreat_slowBodiesOfOneToken(t *testing.T) {
	e := newFake("notes", "other")
	e.spaces["other"].sync = func(context.Context, syncCall) (*change.Pull, error) { return &change.Pull{Done: true}, nil }
	const largest = 1 << 20
	r := serve(t, e, Options{Limits: wire.Limits{Body: largest}, MaxBodyBytes: 2 * largest, QueueWait: time.Second})
	slow, good := r.token("notes", "slow"), r.token("other", "phone")
	const slowOnes = 4 // two of them would fill the memory
	answers := make(chan *http.Response, slowOnes)
	var conns [slowOnes]net.Conn
	for i := range conns {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i] = c
		fmt.Fprintf(c, "POST /v1/notes/sync HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Digest: %s\r\nContent-Length: %d\r\n\r\nv",
			slow, wire.ContentType, wire.Digest(nil), largest)
		go func() {
			if res, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
				answers <- res
			}
		}()
	}
	for range slowOnes - 1 { // one is read on
		select {
		case res := <-answers:
			if p := wire.ReadProblem(res.StatusCode, res.Body); p.Status != 429 || p.Code != wire.CodeBusy || res.Header.Get("Retry-After") == "" {
				t.Errorf("a slow body beside another of its token: %+v, Retry-After %q; want 429 busy", p, res.Header.Get("Retry-After"))
			}
			res.Body.Close()
		case <-time.After(10 * time.Second):
			t.Fatal("more bodies of one token are read than its share")
		}
	}
	r.sync("other", good, onePush(1))
	select {
	case res := <-answers:
		t.Errorf("the first of the slow bodies is answered %d: what it held was free", res.StatusCode)
	default:
	}
	// What it held is its own again once it is gone.
	for _, c := range conns {
		c.Close()
	}
	e.spaces["notes"].sync = e.spaces["other"].sync
	r.sync("notes", slow, onePush(1))
}

func TestHealthReadyStats(t *testing.T) {
	e := newFake("notes", "other", "default")
	e.spaces["notes"].stats = store.Stats{Space: "notes", Head: 12, Rows: 3, Tombstones: 1, PushRows: 40, Conflicts: 2,
		Devices: []store.DeviceStats{{ID: change.DeviceID{1}, Owner: "phone", LSN: 9, Acked: 10, LastPut: time.Unix(1e9, 0)}}}
	r := serve(t, e, Options{})
	token := r.token("notes", "phone")

	var health struct {
		Status   string
		Protocol int `json:"protocol_version"`
		Time     float64
	}
	a := r.do("GET", "/health", "", nil)
	if err := json.Unmarshal(a.body, &health); err != nil || health.Status != "ok" || health.Protocol != 1 || health.Time < 1e9 {
		t.Errorf("health: %s, %v", a.body, err)
	}
	if a := r.do("HEAD", "/health", "", nil); a.status != 200 {
		t.Errorf("HEAD /health: %d", a.status)
	}
	if a := r.do("GET", "/ready", "", nil); a.status != 200 {
		t.Errorf("ready: %d %s", a.status, a.body)
	}
	a = r.do("GET", "/stats", token, nil)
	want := `{"event_streams":0,"spaces":[{"space":"notes","head":12,"rows":3,"tombstones":1,"conflicts":2,"bytes":0,"push_rows":40,` +
		`"push_duplicates":0,"pull_rows":0,"echo_rows":0,"lost_rows":0,"rejected_rows":0,"digests":0,"divergences":0,"devices":[{"device":"01000000000000000000000000000000",` +
		`"owner":"phone","lsn":9,"acked":10,"last_put":"2001-09-09T01:46:40Z"}]}]}` + "\n"
	if a.status != 200 || string(a.body) != want {
		t.Errorf("stats: got %s\nwant %s", a.body, want)
	}

	a = r.do("GET", "/metrics", "", nil)
	for _, line := range []string{`velosync_push_rows_total{space="notes"} 40`, `velosync_head_seq{space="notes"} 12`, `velosync_lag_seq{space="notes"} 2`,
		`velosync_conflicts{space="notes"} 2`, `velosync_rows{space="other"} 0`, `velosync_http_request_seconds_count{method="GET",route="/stats",status="200"} 1`,
		"velosync_event_streams 0", "velosync_staged_bytes 0", "go_goroutines "} {
		if !strings.Contains(string(a.body), line) {
			t.Errorf("metrics lack %s", line)
		}
	}
	for _, method := range []string{"BREW", "GET"} { // no label comes from clients
		r.do(method, "/v1/x/sync", "", nil)
		r.do(method, "/nowhere/"+method, "", nil)
	}
	if a := r.do("GET", "/metrics", "", nil); strings.Contains(string(a.body), "BREW") || strings.Contains(string(a.body), "nowhere") {
		t.Errorf("a client's words are in the metrics:\n%s", a.body)
	}

	e.mu.Lock()
	e.down = errors.New("disk gone at /var/secret")
	e.mu.Unlock()
	if a := r.do("GET", "/ready", "", nil); a.status != 503 || a.code(t) != "busy" || strings.Contains(string(a.body), "secret") {
		t.Errorf("ready while the store is down: %d %s", a.status, a.body)
	}
	if a := r.do("POST", "/v1/notes/sync", token, encodePush(t, onePush(1))); a.status != 500 {
		t.Errorf("sync while tokens can't be read: %d %s", a.status, a.body)
	}
	if a := r.do("GET", "/health", "", nil); a.status != 200 {
		t.Errorf("health while the store is down: %d", a.status)
	}
	if a := r.do("GET", "/metrics", "", nil); a.status != 200 || !strings.Contains(string(a.body), "go_goroutines") {
		t.Errorf("metrics while the store is down: %d", a.status)
	}
}

func TestThreat_metricsBehindProxy(t *testing.T) {
	r := serve(t, newFake("notes"), Options{BehindProxy: true})
	if a := r.do("GET", "/metrics", "", nil, "X-Forwarded-For", "127.0.0.1"); a.status != 404 {
		t.Errorf("got %d, want 404: a proxy on this machine speaks for everyone", a.status)
	}
}

func TestV1(t *testing.T) {
	e := newFake("default", "notes")
	e.spaces["default"].stats = store.Stats{Head: 5, Rows: 2, Tombstones: 1, Devices: []store.DeviceStats{{ID: change.DeviceID{1}, LSN: 3, Acked: 4}}}
	v1 := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s as %q", r.URL.Path, OwnerOf(r.Context()))
	})
	r := serve(t, e, Options{V1: v1})
	token, other := r.token("default", "phone"), r.token("notes", "phone")
	if a := r.do("POST", "/sync", token, nil); a.status != 200 || string(a.body) != `/sync as "phone"` {
		t.Errorf("sync: %d %s", a.status, a.body)
	}
	if a := r.do("POST", "/ack", token, nil); a.status != 200 {
		t.Errorf("ack: %d %s", a.status, a.body)
	}
	if a := r.do("POST", "/sync", "", nil); a.status != 401 {
		t.Errorf("without a token: %d %s", a.status, a.body)
	}
	if a := r.do("POST", "/sync", other, nil); a.status != 404 {
		t.Errorf("with the token of another space: %d %s", a.status, a.body)
	}
	a := r.do("GET", "/stats", token, nil)
	for _, key := range []string{`"live_vectors":2`, `"tombstones":1`, `"server_seq":5`, `"last_acked_client_lsn":3`, `"last_acked_server_seq":4`, `"updated_at":0`} {
		if !strings.Contains(string(a.body), key) {
			t.Errorf("stats lack %s: %s", key, a.body)
		}
	}
	if a := r.do("GET", "/stats", other, nil); strings.Contains(string(a.body), "live_vectors") {
		t.Errorf("stats of another space: %s", a.body)
	}
	insecure := serve(t, newFake(), Options{V1: v1, Insecure: true})
	if a := insecure.do("POST", "/sync", "", nil); a.status != 200 || string(a.body) != `/sync as ""` {
		t.Errorf("insecure: %d %s", a.status, a.body)
	}
	if a := insecure.do("GET", "/stats", "", nil); !strings.Contains(string(a.body), `"live_vectors":0`) {
		t.Errorf("stats before the first push: %s", a.body)
	}
}
