// Package server answers devices over HTTP: the round, the events that wake them, and
// what an operator asks.
//
//	engine, err := store.OpenSQLite(dir, store.Options{})
//	s := server.New(engine, server.Options{Staging: filepath.Join(dir, "staging")})
//	err = s.Serve(ctx, listener) // until ctx ends
//	err = errors.Join(err, engine.Close())
//
// # Calls
//
//	POST /v1/{space}/sync    a push, or the next page of a pull
//	POST /v1/{space}/ack     what a device has written down
//	GET  /v1/{space}/snapshot  the rows of the space, for a device that has none of them
//	GET  /v1/{space}/events  server-sent events: "event: head", "data: {"seq":N}"
//	GET  /health             the process answers
//	GET  /ready              the store answers
//	GET  /stats              what the spaces hold, as JSON
//	GET  /metrics            the same and the requests, for Prometheus
//	POST /sync, /ack         protocol v1, where Options.V1 is set
//
// # Problems
//
// An answer of 400 and above is application/problem+json (RFC 9457) with the members
// type, title, status, code, detail and request (the request's id, which stands in the
// log and in the header Velosync-Request of every answer). Programs go by code.
//
//	status    code                what the device does
//	400       digest-mismatch     sends the same bytes again
//	400       malformed           gives up: the bytes are no message of this protocol
//	400       version             gives up until the older end is updated; member versions
//	401       unauthorized        gives up until it has another token
//	403       forbidden           takes a new device id where member owned says that its own
//	                              belongs to another token; else gives up: there are no
//	                              tokens, and the request is not a local one
//	404       no-space            gives up: no such space, or not the token's
//	404       not-found           gives up: no such path
//	405       method-not-allowed  gives up; see the header Allow
//	408       timeout             pushes less at a time: the body came too slowly
//	409       schema-unknown      sends the push again with its tables
//	409       schema-mismatch     gives up; member table
//	409       forked              takes a new device id and pushes again
//	409       restored            reconciles; members seen, head and common
//	409       page-gone           begins a new round
//	409       part-missing        sends the push again from part 0
//	413       too-large           pushes less at a time; member limit
//	415       media-type          gives up: the Content-Type is not that of package wire
//	422       bad-request         gives up: the message contradicts itself
//	429, 503  busy                waits Retry-After seconds and sends the same again
//	500       internal            sends the same again later, with growing waits
//
// net/http itself answers a header beyond 64 KiB (431) and what is not HTTP (400), in
// plain text.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
)

// V1Space is the space that protocol v1 is served from.
const V1Space = "default"

// Options tunes a Server. The zero value is ready to use and asks for tokens.
type Options struct {
	// Insecure serves every space to everyone who can connect, without tokens. Serve then
	// accepts loopback addresses only, and requests only for local names.
	Insecure bool
	// BehindProxy says that all requests come through a reverse proxy: the client's
	// address is the last one of X-Forwarded-For, and /metrics is not served here.
	BehindProxy bool
	// V1 answers POST /sync and POST /ack at the root, for protocol v1; nil means that
	// they do not exist. Where tokens are asked for, theirs must be one of V1Space.
	V1 http.Handler
	// Staging is the directory for the parts of long pushes, made if need be; files left
	// in it by an earlier run are removed. It belongs to one Server. Empty means a new
	// temporary directory, which Close removes. An engine that is a store.Stager keeps the
	// parts itself.
	Staging string
	// Snapshots is the directory for the snapshots that new devices are sent, made when the
	// first one is written; files left in it by an earlier run are removed then. It belongs
	// to one Server. Empty means a new temporary directory, which Close removes.
	Snapshots string
	// MaxSnapshots is the most snapshots that are kept, and MaxSnapshotBytes the most bytes
	// of all of them: the ones that nobody reads make room for others. Zero means 64 and 8 GiB.
	MaxSnapshots     int
	MaxSnapshotBytes int64
	// SnapshotExpiry is how long a snapshot is kept that nobody asks for. Zero means 10 min.
	SnapshotExpiry time.Duration
	// SnapshotLag is how many changes may have come since a snapshot was written that a new
	// device is still sent, in hundredths of its rows: they follow as pages. Zero means 10.
	SnapshotLag int
	// MaxDownloads is the most snapshots that are sent to one token at once, MaxDownloadsTotal
	// to all. Zero means 4 and 64.
	MaxDownloads, MaxDownloadsTotal int
	// Limits bound a message before and while it is decoded.
	Limits wire.Limits

	// MaxParts is the most parts of a push. Zero means 4,096.
	MaxParts int
	// MaxPushBytes is the most bytes that the staged parts of one token take; without
	// tokens, of one device. Zero means 1 GiB.
	MaxPushBytes int64
	// MaxStagedBytes is the most bytes of all staged parts. Zero means 8 GiB.
	MaxStagedBytes int64
	// PartExpiry is how long a push waits for its next part. Zero means one hour.
	PartExpiry time.Duration

	// MaxSyncs is how many requests of one space are decoded and applied at once, and
	// MaxSyncsTotal of all spaces; others wait in line. Zero means 16 and 64.
	MaxSyncs, MaxSyncsTotal int
	// MaxBodyBytes is the most bytes of bodies held at once. Zero means 256 MiB.
	MaxBodyBytes int64
	// MaxTokenBodyBytes is the most of them that are held for one token, at least those of
	// the largest body. Zero means a 16th of MaxBodyBytes; without tokens it is no limit.
	MaxTokenBodyBytes int64
	// QueueWait is the longest that a request waits in line. Zero means 20 s.
	QueueWait time.Duration

	// Rate is how many requests a second a token may make, or an address where there are
	// no tokens; Burst is how many at once. Zero means 200 and 5 times Rate, or no limit
	// where Insecure is set; a negative Rate means no limit.
	Rate  float64
	Burst int
	// FailedRate is how many wrong tokens a second an address may try, and FailedBurst
	// how many at once. Zero means one in 5 s and 20.
	FailedRate  float64
	FailedBurst int
	// MaxStreams is the most event streams of one token, MaxStreamsTotal of all. Zero
	// means 16 and 4,096.
	MaxStreams, MaxStreamsTotal int
	// KeepAlive is the time between comments on an idle event stream. Zero means 15 s.
	KeepAlive time.Duration

	// ReadTimeout is how long a request may take to come in, WriteTimeout an answer to go
	// out, or one event. Zero means 2 min and 30 s.
	ReadTimeout, WriteTimeout time.Duration
	// RequestTimeout is the longest that a request, other than for events, is worked on.
	// Zero means 5 min.
	RequestTimeout time.Duration
	// Grace is how long Serve lets requests finish after its context has ended. Zero
	// means 10 s.
	Grace time.Duration

	// Log receives the log; nil means slog.Default().
	Log *slog.Logger
	// Now is the clock of rate limits and expiry; nil means time.Now.
	Now func() time.Time
}

func (o Options) defaults() Options {
	o.Limits = o.Limits.Defaults()
	or(&o.MaxParts, 4096)
	or(&o.MaxPushBytes, 1<<30)
	or(&o.MaxStagedBytes, 8<<30)
	or(&o.PartExpiry, time.Hour)
	or(&o.MaxSnapshots, 64)
	or(&o.MaxSnapshotBytes, 8<<30)
	or(&o.SnapshotExpiry, 10*time.Minute)
	or(&o.SnapshotLag, 10)
	or(&o.MaxDownloads, 4)
	or(&o.MaxDownloadsTotal, 64)
	or(&o.MaxSyncs, 16)
	or(&o.MaxSyncsTotal, 64)
	or(&o.MaxBodyBytes, 256<<20)
	o.MaxBodyBytes = max(o.MaxBodyBytes, o.Limits.Body) // else the largest body would wait for ever
	or(&o.MaxTokenBodyBytes, o.MaxBodyBytes/16)
	o.MaxTokenBodyBytes = max(o.MaxTokenBodyBytes, o.Limits.Body)
	if o.Insecure { // all devices of a machine share an address
		o.MaxTokenBodyBytes = o.MaxBodyBytes
	}
	or(&o.QueueWait, 20*time.Second)
	if o.Rate == 0 && !o.Insecure {
		o.Rate = 200
	}
	or(&o.Burst, max(1, int(5*o.Rate)))
	or(&o.FailedRate, 0.2)
	or(&o.FailedBurst, 20)
	or(&o.MaxStreams, 16)
	or(&o.MaxStreamsTotal, 4096)
	or(&o.KeepAlive, 15*time.Second)
	or(&o.ReadTimeout, 2*time.Minute)
	or(&o.WriteTimeout, 30*time.Second)
	or(&o.RequestTimeout, 5*time.Minute)
	or(&o.Grace, 10*time.Second)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func or[T int | int64 | float64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// A Server answers requests from an engine. Its methods may be called by several
// goroutines.
type Server struct {
	o        Options
	log      *slog.Logger
	engine   store.Engine
	handler  http.Handler
	registry *prometheus.Registry
	metrics  *httpMetrics
	staging  staging
	gates    *gates
	rate     *limits // by token or address
	failed   *limits // by address: wrong tokens
	accepted *limits // hashes of tokens that were right; used as a bounded set
	streams  streams

	snapshots *snapshots
	downloads streams

	closing chan struct{} // closed by Close: event streams end
	mu      sync.Mutex
	closed  bool
	active  int           // requests being answered
	idle    chan struct{} // closed when closed and active is 0
}

// New returns a Server for the spaces of engine, which stays the caller's to close,
// after the Server. When the staging directory can't be used, Serve says so, and so
// does every push that comes in parts.
func New(engine store.Engine, o Options) *Server {
	o = o.defaults()
	s := &Server{
		o:        o,
		log:      o.Log,
		engine:   engine,
		staging:  newStaging(engine, o),
		gates:    newGates(o),
		rate:     newLimits(o.Rate, o.Burst),
		failed:   newLimits(o.FailedRate, o.FailedBurst),
		accepted: newLimits(0, 0),
		streams:  streams{byKey: make(map[string]int)},

		snapshots: newSnapshots(o),
		downloads: streams{byKey: make(map[string]int)},

		closing: make(chan struct{}),
		idle:    make(chan struct{}),
	}
	s.registry, s.metrics = s.newRegistry()
	s.handler = s.outer(s.routes())
	return s
}

// routes lists every path that is served.
func (s *Server) routes() *mux.Router {
	r := mux.NewRouter().SkipClean(true)
	r.Handle("/v1/{space}/sync", s.device(s.sync)).Methods("POST")
	r.Handle("/v1/{space}/ack", s.device(s.ack)).Methods("POST")
	r.Handle("/v1/{space}/snapshot", s.device(s.snapshot)).Methods("GET")
	r.Handle("/v1/{space}/events", s.device(s.events)).Methods("GET")
	r.Handle("/health", s.open(s.health)).Methods("GET", "HEAD")
	r.Handle("/ready", s.open(s.ready)).Methods("GET", "HEAD")
	r.Handle("/stats", s.bearer(s.stats)).Methods("GET")
	r.Handle("/metrics", s.operator(s.Metrics())).Methods("GET")
	if s.o.V1 != nil {
		r.Handle("/sync", s.v1(s.o.V1)).Methods("POST")
		r.Handle("/ack", s.v1(s.o.V1)).Methods("POST")
	}
	r.NotFoundHandler = s.open(func(w http.ResponseWriter, r *http.Request) error { return errNotFound })
	r.MethodNotAllowedHandler = s.open(func(w http.ResponseWriter, req *http.Request) error {
		return methodNotAllowed(r, w, req)
	})
	return r
}

// Handler returns the handler of all routes, for a listener of the caller's. Serve sets
// timeouts and header limits that a bare handler can't.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers connections from l until ctx ends, then lets running requests finish
// within Options.Grace, ends event streams, closes the Server, and returns nil. It
// returns early on an error of the listener, and at once when the listener's address
// is not allowed. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer s.Close()
	if err := errors.Join(s.checkAddr(l.Addr()), s.staging.ready()); err != nil {
		l.Close()
		return err
	}
	base, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	srv := &http.Server{
		Handler:           s.handler,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       s.o.ReadTimeout,
		WriteTimeout:      s.o.RequestTimeout + s.o.WriteTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		srv.Close()
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.stopStreams()
	grace, cancel := context.WithTimeout(base, s.o.Grace)
	defer cancel()
	if srv.Shutdown(grace) != nil { // what has not finished is cut
		s.log.Warn("requests cut at shutdown", "grace", s.o.Grace)
		abort()
		srv.Close()
	}
	<-served
	return nil
}

// checkAddr refuses to serve without tokens where others can connect.
func (s *Server) checkAddr(addr net.Addr) error {
	if !s.o.Insecure || loopback(addr) {
		return nil
	}
	return fmt.Errorf("server: %s is not a loopback address, and tokens are off: everyone who can connect could read and write every space; "+
		"listen on 127.0.0.1, or make tokens and leave out --insecure", addr)
}

// loopback reports whether only this machine can connect to addr.
func loopback(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	ap, err := netip.ParseAddrPort(addr.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// Close ends event streams, refuses further requests, waits for running ones and
// removes staged parts. It may be called twice. It does not close the engine.
func (s *Server) Close() error {
	s.stopStreams()
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		if s.active == 0 {
			close(s.idle)
		}
	}
	s.mu.Unlock()
	<-s.idle
	return errors.Join(s.staging.close(), s.snapshots.close())
}

func (s *Server) stopStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closing:
	default:
		close(s.closing)
	}
}

// begin counts a request in, unless the server is closed.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.active++
	return true
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	if s.closed && s.active == 0 {
		close(s.idle)
	}
}
