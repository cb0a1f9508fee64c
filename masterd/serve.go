package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
)

// serveCmd is masterd serve.
type serveCmd struct {
	Listen string `default:"127.0.0.1:8440" env:"VELOSYNC_LISTEN" placeholder:"HOST:PORT" help:"Address to serve on; port 0 takes a free one (${default})."`
	storeFlags
	Insecure    bool          `help:"Ask for no tokens: whoever can connect reads and writes every space. Loopback addresses only."`
	ProtocolV1  bool          `name:"protocol-v1" help:"Serve POST /sync and POST /ack of protocol v1 too, from the space default."`
	Schema      string        `placeholder:"FILE" help:"CREATE TABLE statements of new spaces; without it the first device's tables."`
	TLSCert     string        `name:"tls-cert" placeholder:"FILE" help:"Certificate chain, PEM. Read again when it changes."`
	TLSKey      string        `name:"tls-key" placeholder:"FILE" help:"Its private key, PEM."`
	BehindProxy bool          `help:"A reverse proxy speaks TLS in front of this masterd and sets X-Forwarded-For."`
	Metrics     string        `placeholder:"HOST:PORT" help:"Serve /metrics there too, to whoever can connect."`
	Rate        float64       `default:"0" placeholder:"N" help:"Requests a second of one token (200); below 0: any number."`
	Grace       time.Duration `default:"10s" help:"How long requests may finish after a signal (${default})."`
	LogLevel    slog.Level    `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error (${default})."`
}

// Run serves until ctx ends.
func (c *serveCmd) Run(ctx context.Context, std streams) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	certificate, err := c.certificate()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: c.LogLevel}))
	so := store.Options{Log: log}
	if c.Schema != "" {
		text, err := os.ReadFile(c.Schema)
		if err != nil {
			return usage("read --schema: %w", err)
		}
		so.Schema = string(text)
	}
	engine, where, err := c.makeStore(ctx, so)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()

	o := server.Options{
		Insecure:    c.Insecure,
		BehindProxy: c.BehindProxy,
		Staging:     filepath.Join(c.Data, "staging"),
		Snapshots:   filepath.Join(c.Data, "snapshots"),
		Rate:        c.Rate,
		Grace:       c.Grace,
		Log:         log,
	}
	if c.ProtocolV1 {
		o.V1 = newV1(engine, log)
	}
	s := server.New(engine, o)
	l, err := listen(c.Listen)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	scheme := "http"
	if certificate != nil {
		scheme = "https"
		l = tls.NewListener(l, &tls.Config{
			MinVersion:     tls.VersionTLS13,
			NextProtos:     []string{"h2", "http/1.1"},
			GetCertificate: certificate.get,
		})
	}
	stopMetrics, err := c.serveMetrics(s, std)
	if err != nil {
		return errors.Join(err, l.Close(), s.Close())
	}
	defer stopMetrics()
	fmt.Fprintf(std.err, "masterd: listening on %s://%s, %s\n", scheme, l.Addr(), where)
	return s.Serve(ctx, l)
}

// check refuses flags that do not go together, and those that would let others read
// what they carry.
func (c *serveCmd) check() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return usage("--listen %q: %w: write HOST:PORT, such as 127.0.0.1:8440 or [::]:443", c.Listen, err)
	}
	local := loopbackHost(host)
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return usage("--tls-cert and --tls-key belong together: give both")
	case c.Insecure && !local:
		return usage("--insecure on %s would let everyone who can connect read and write every space: "+
			"listen on 127.0.0.1, or make tokens (masterd token new) and leave out --insecure", c.Listen)
	case c.Insecure && c.BehindProxy:
		return usage("--insecure behind a proxy would let everyone who reaches the proxy read and write every space: " +
			"make tokens (masterd token new) and leave out --insecure")
	case !local && c.TLSCert == "" && !c.BehindProxy:
		return usage("plain HTTP on %s would show tokens and rows to everyone on the way: give --tls-cert and --tls-key, "+
			"or --behind-proxy when a proxy speaks TLS in front of it, or listen on 127.0.0.1", c.Listen)
	}
	return nil
}

// loopbackHost reports whether only this machine can connect to host.
func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &codeError{exitListen, fmt.Errorf("%w: choose another --listen, or port 0 for a free one", err)}
	}
	return l, nil
}

// serveMetrics serves /metrics on a listener of its own, if asked to, until the caller
// calls stop.
func (c *serveCmd) serveMetrics(s *server.Server, std streams) (stop func(), err error) {
	if c.Metrics == "" {
		return func() {}, nil
	}
	l, err := listen(c.Metrics)
	if err != nil {
		return nil, err
	}
	routes := http.NewServeMux()
	routes.Handle("GET /metrics", s.Metrics())
	srv := &http.Server{Handler: routes, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 64 << 10}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l) // returns when stop closes it
	}()
	fmt.Fprintf(std.err, "masterd: metrics on http://%s/metrics\n", l.Addr())
	return func() { srv.Close(); <-done }, nil
}

// A certificate is a key pair in files that someone renews now and then.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	pair    *tls.Certificate
	changed time.Time // the certificate file, when pair was read
	looked  time.Time
}

// certificate reads the files of --tls-cert and --tls-key; nil when there are none.
func (c *serveCmd) certificate() (*certificate, error) {
	if c.TLSCert == "" {
		return nil, nil
	}
	t := &certificate{certFile: c.TLSCert, keyFile: c.TLSKey}
	if err := t.read(); err != nil {
		return nil, usage("--tls-cert, --tls-key: %w", err)
	}
	return t, nil
}

func (t *certificate) read() error {
	info, err := os.Stat(t.certFile)
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(t.certFile, t.keyFile)
	if err != nil {
		return err
	}
	t.pair, t.changed = &pair, info.ModTime()
	return nil
}

// get returns the pair for a connection. It looks for a newer one every minute, and
// keeps the old one while the new can't be read.
func (t *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.looked) > time.Minute {
		t.looked = now
		if info, err := os.Stat(t.certFile); err == nil && !info.ModTime().Equal(t.changed) {
			if err := t.read(); err != nil {
				slog.Warn("new certificate not read, the old one stays", "file", t.certFile, "err", err)
			}
		}
	}
	return t.pair, nil
}
