// Package masterdtest runs a masterd inside a test: the real server with a real SQLite
// store, on a port of 127.0.0.1.
//
//	m := masterdtest.New(t, masterdtest.Options{})
//	db, err := sql.Open("velosync", "a.db?_velosync_master="+m.URL+"&_velosync_space="+m.Space+
//		"&_velosync_token="+m.Token("phone"))
package masterdtest

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
)

// Options tunes a Master. The zero value is ready to use: tokens are asked for, the
// space is "default", and everything is gone after the test.
type Options struct {
	// Space is what Token makes tokens for. Empty means "default".
	Space string
	// Dir keeps the store; empty means t.TempDir().
	Dir string
	// Insecure serves without tokens.
	Insecure bool
	// Server and Store are passed on. Staging, Snapshots and Insecure of Server are set here; a Log
	// that is nil is that of Log.
	Server server.Options
	Store  store.Options
	// V1, if set, makes Server.V1 from the engine, anew at each Reopen.
	V1 func(store.Engine) (http.Handler, error)
	// Log receives both logs; nil means the test's output, at Debug, and nowhere in a
	// benchmark.
	Log *slog.Logger
}

// A Master is a running masterd. Its fields do not change while it runs.
type Master struct {
	URL    string
	Space  string
	Dir    string
	Engine store.Engine // of the present run: Reopen makes another

	t      testing.TB
	o      Options
	addr   string
	mu     sync.Mutex
	tokens map[[2]string]string
	stop   func() error // nil while closed
}

// New starts a masterd, which ends with the test. It fails the test when it can't.
func New(t testing.TB, o Options) *Master {
	t.Helper()
	if o.Space == "" {
		o.Space = "default"
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	m := &Master{Space: o.Space, Dir: o.Dir, t: t, o: o, addr: "127.0.0.1:0", tokens: make(map[[2]string]string)}
	m.start()
	t.Cleanup(m.Close)
	return m
}

func (m *Master) start() {
	m.t.Helper()
	log := m.o.Log
	if log == nil {
		log = slog.New(slog.NewTextHandler(m.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
		if _, ok := m.t.(*testing.B); ok {
			log = slog.New(slog.DiscardHandler)
		}
	}
	so, o := m.o.Store, m.o.Server
	if so.Log == nil {
		so.Log = log
	}
	if o.Log == nil {
		o.Log = log
	}
	o.Insecure = m.o.Insecure
	o.Staging, o.Snapshots = filepath.Join(m.Dir, "staging"), filepath.Join(m.Dir, "snapshots")
	engine, err := store.OpenSQLite(m.Dir, so)
	if err != nil {
		m.t.Fatalf("masterdtest: open store: %v", err)
	}
	if m.o.V1 != nil {
		if o.V1, err = m.o.V1(engine); err != nil {
			engine.Close()
			m.t.Fatalf("masterdtest: protocol v1: %v", err)
		}
	}
	l, err := net.Listen("tcp", m.addr)
	if err != nil {
		engine.Close()
		m.t.Fatalf("masterdtest: listen: %v", err)
	}
	m.addr = l.Addr().String()
	m.URL, m.Engine = "http://"+m.addr, engine
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	s := server.New(engine, o)
	go func() { served <- s.Serve(ctx, l) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stop = func() error {
		cancel()
		return errors.Join(<-served, engine.Close())
	}
}

// Token returns the token of a device in Space; it makes one when it is asked first.
// Without tokens it returns "".
func (m *Master) Token(device string) string { return m.TokenFor(m.Space, device) }

// TokenFor is Token for another space.
func (m *Master) TokenFor(space, device string) string {
	m.t.Helper()
	if m.o.Insecure {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if token, ok := m.tokens[[2]string{space, device}]; ok {
		return token
	}
	token, hash, err := server.NewToken(rand.Reader)
	if err == nil {
		err = m.Engine.AddToken(context.Background(), hash, store.Token{Space: space, Device: device, Created: time.Now()})
	}
	if err != nil {
		m.t.Fatalf("masterdtest: token: %v", err)
	}
	m.tokens[[2]string{space, device}] = token
	return token
}

// Close stops the masterd as SIGTERM would, and leaves the data. It may be called twice.
func (m *Master) Close() {
	m.t.Helper()
	m.mu.Lock()
	stop := m.stop
	m.stop = nil
	m.mu.Unlock()
	if stop == nil {
		return
	}
	if err := stop(); err != nil {
		m.t.Errorf("masterdtest: close: %v", err)
	}
}

// Reopen stops the masterd, if it still runs, and starts it again with the same data,
// tokens and URL.
func (m *Master) Reopen() {
	m.t.Helper()
	m.Close()
	m.start()
}
