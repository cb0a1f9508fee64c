package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeEngine answers what a test tells it to.
type fakeEngine struct {
	mu     sync.Mutex
	spaces map[string]*fakeSpace
	tokens map[[32]byte]store.Token
	down   error // what Ping, FindToken and Spaces return
	found  int   // calls of FindToken

	stager store.Stager // nil: parts are files
	parts  func() int   // that stager keeps
}

// A stagingEngine is a fakeEngine that keeps parts.
type stagingEngine struct {
	*fakeEngine
	store.Stager
}

func newFake(spaces ...string) *fakeEngine {
	e := &fakeEngine{spaces: make(map[string]*fakeSpace), tokens: make(map[[32]byte]store.Token)}
	for _, name := range spaces {
		e.spaces[name] = newFakeSpace(name)
	}
	return e
}

func (e *fakeEngine) Space(_ context.Context, name string) (store.Space, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.spaces[name] == nil {
		e.spaces[name] = newFakeSpace(name)
	}
	return e.spaces[name], nil
}

func (e *fakeEngine) Lookup(_ context.Context, name string) (store.Space, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.spaces[name]; s != nil {
		return s, nil
	}
	return nil, store.ErrNoSpace
}

func (e *fakeEngine) Spaces(context.Context) (names []string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name := range e.spaces {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, e.down
}

func (e *fakeEngine) AddToken(_ context.Context, hash [32]byte, t store.Token) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tokens[hash] = t
	return nil
}

func (e *fakeEngine) FindToken(_ context.Context, hash [32]byte) (store.Token, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.found++
	t, ok := e.tokens[hash]
	switch {
	case e.down != nil:
		return t, e.down
	case !ok:
		return t, store.ErrNoToken
	}
	return t, nil
}

func (e *fakeEngine) Tokens(context.Context) ([]store.Token, error) { return nil, nil }

func (e *fakeEngine) RevokeToken(_ context.Context, space, device string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for hash, t := range e.tokens {
		if t.Space == space && t.Device == device {
			delete(e.tokens, hash)
			return nil
		}
	}
	return store.ErrNoToken
}

func (e *fakeEngine) Ping(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.down
}

func (e *fakeEngine) Close() error { return nil }

// A syncCall is what a space was given.
type syncCall struct {
	owner store.Owner
	last  *change.Push
	parts []*change.Push
}

type fakeSpace struct {
	name  string
	mu    sync.Mutex
	calls []syncCall
	head  change.Seq
	moved chan struct{}
	stats store.Stats
	// sync, if set, decides what a Sync that has read its parts returns.
	sync func(ctx context.Context, c syncCall) (*change.Pull, error)
	ack  error
}

func newFakeSpace(name string) *fakeSpace {
	return &fakeSpace{name: name, moved: make(chan struct{})}
}

func (s *fakeSpace) Sync(ctx context.Context, owner store.Owner, last *change.Push, parts iter.Seq2[*change.Push, error]) (*change.Pull, error) {
	c := syncCall{owner: owner, last: last}
	for range 2 { // it may be ranged over more than once
		c.parts = nil
		for p, err := range parts {
			if err != nil {
				return nil, err
			}
			c.parts = append(c.parts, p)
		}
	}
	for range parts { // or left early
		break
	}
	s.mu.Lock()
	s.calls = append(s.calls, c)
	f := s.sync
	s.mu.Unlock()
	if f != nil {
		return f(ctx, c)
	}
	return &change.Pull{Applied: last.Through, To: 7, Done: true}, nil
}

func (s *fakeSpace) Ack(_ context.Context, _ store.Owner, _ change.DeviceID, seq change.Seq, lsn change.LSN) (change.Seq, change.LSN, error) {
	return min(seq, 5), lsn, s.ack
}

func (s *fakeSpace) Head() (change.Seq, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head, s.moved
}

// move makes head the newest seq.
func (s *fakeSpace) move(head change.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.moved)
	s.head, s.moved = head, make(chan struct{})
}

func (s *fakeSpace) Snapshot(context.Context, [32]byte, func(*change.Pull) error) (*store.Snapshot, error) {
	return nil, errors.New("no snapshot of a space that is not there")
}

func (s *fakeSpace) Serve(context.Context, store.Owner, change.DeviceID, *store.Snapshot) error {
	return nil
}

func (s *fakeSpace) Stats(context.Context) (store.Stats, error) { return s.stats, nil }

func (s *fakeSpace) Schema(context.Context) (change.Schema, error) { return nil, nil }

func (s *fakeSpace) seen() []syncCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// A running is a server that answers on 127.0.0.1.
type running struct {
	*Server
	t      *testing.T
	engine *fakeEngine
	url    string
	addr   string
	client *http.Client
	log    *logBuffer
	stop   func() error // ends Serve and returns its error
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve runs a server until the test ends.
func serve(t *testing.T, e *fakeEngine, o Options) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, e, o)
}

// smallBuffers is a listener whose connections take little that the client does not read.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return c, err
}

func serveOn(t *testing.T, l net.Listener, e *fakeEngine, o Options) *running {
	t.Helper()
	if o.Staging == "" {
		o.Staging = t.TempDir()
	}
	log := new(logBuffer)
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var engine store.Engine = e
	if e.stager != nil {
		engine = stagingEngine{e, e.stager}
	}
	s := New(engine, o)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	tr := &http.Transport{}
	r := &running{Server: s, t: t, engine: e, url: "http://" + l.Addr().String(), addr: l.Addr().String(),
		client: &http.Client{Transport: tr, Timeout: 20 * time.Second}, log: log}
	r.stop = sync.OnceValue(func() error { cancel(); return <-served })
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if err := r.stop(); err != nil {
			t.Errorf("serve: %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", log)
		}
	})
	return r
}

// token makes a token.
func (r *running) token(space, device string) string {
	r.t.Helper()
	token, hash, err := NewToken(rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	r.engine.AddToken(context.Background(), hash, store.Token{Space: space, Device: device})
	return token
}

// An answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// code returns the code of a problem, and fails the test if it is not written as one.
func (a answer) code(t *testing.T) string {
	t.Helper()
	var p struct {
		Type, Title, Code, Detail, Request string
		Status                             int
	}
	if ct := a.header.Get("Content-Type"); ct != wire.ProblemType {
		t.Errorf("status %d: Content-Type is %q, want %s: %.200s", a.status, ct, wire.ProblemType, a.body)
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Errorf("problem %.200q: %v", a.body, err)
	}
	if p.Type == "" || p.Title == "" || p.Detail == "" || p.Status != a.status || p.Request == "" || p.Request != a.header.Get("Velosync-Request") {
		t.Errorf("status %d: problem lacks members: %s", a.status, a.body)
	}
	return p.Code
}

// do sends a request; headers are pairs, and "" takes one away.
func (r *running) do(method, path, token string, body []byte, headers ...string) answer {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if method == "POST" {
		req.Header.Set("Content-Type", wire.ContentType)
		req.Header.Set("Content-Digest", wire.Digest(body))
	}
	for i := 0; i+1 < len(headers); i += 2 {
		switch k, v := headers[i], headers[i+1]; {
		case k == "Host":
			req.Host = v
		case v == "":
			req.Header.Del(k)
		default:
			req.Header.Set(k, v)
		}
	}
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatalf("%s %s: read answer: %v", method, path, err)
	}
	return answer{res.StatusCode, res.Header, b}
}

// sync sends a push and returns the pull, or fails the test.
func (r *running) sync(space, token string, p *change.Push) *change.Pull {
	r.t.Helper()
	a := r.do("POST", "/v1/"+space+"/sync", token, encodePush(r.t, p))
	if a.status != 200 {
		r.t.Fatalf("sync: status %d: %s", a.status, a.body)
	}
	if err := wire.CheckDigest(a.header.Get("Content-Digest"), a.body); err != nil {
		r.t.Errorf("answer: %v", err)
	}
	pull, err := wire.DecodePull(a.body, wire.Limits{})
	if err != nil {
		r.t.Fatalf("answer: %v", err)
	}
	return pull
}

func encodePush(t testing.TB, p *change.Push) []byte {
	t.Helper()
	b, err := wire.EncodePush(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// onePush is a push of one row by device id.
func onePush(id byte) *change.Push {
	return &change.Push{
		Device: change.DeviceID{id}, Names: []change.Name{{1}}, Through: 3, Schema: [32]byte{1},
		Blocks: []change.Block{{Regs: 1, Keys: []change.Value{"k"}, Columns: [][]change.Value{{"v"}}, Stamps: []change.EditStamp{{LSN: 3}}}},
	}
}

// raw sends bytes as they are and returns the status of the answer, 0 if there is none,
// and its body.
func (r *running) raw(text string) (int, string) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(c, strings.NewReader(text)); err != nil {
		r.t.Logf("send: %v", err)
	}
	c.(*net.TCPConn).CloseWrite()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not in 10 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
