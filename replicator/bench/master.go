package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
)

// A master is a masterd inside the bench: the real server and store, with tokens, over
// HTTP on 127.0.0.1.
type master struct {
	url    string
	dir    string
	engine *store.SQLite
	stop   func() error
}

var quiet = slog.New(slog.DiscardHandler)

func startMaster(dir string) (*master, error) {
	engine, err := store.OpenSQLite(dir, store.Options{Log: quiet})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	// No limit of requests: a bench is the client that the limit is for.
	s := server.New(engine, server.Options{Staging: filepath.Join(dir, "staging"), Rate: -1, Log: quiet})
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	return &master{url: "http://" + l.Addr().String(), dir: dir, engine: engine, stop: func() error {
		cancel()
		return errors.Join(<-served, engine.Close())
	}}, nil
}

// token makes the token of a device.
func (m *master) token(ctx context.Context, space, device string) (string, error) {
	token, hash, err := server.NewToken(rand.Reader)
	if err != nil {
		return "", err
	}
	return token, m.engine.AddToken(ctx, hash, store.Token{Space: space, Device: device, Created: time.Now()})
}

// replicator opens a file for syncing with a space, as a device of that name.
func (m *master) replicator(ctx context.Context, path, space, device string) (*replicator.Replicator, error) {
	token, err := m.token(ctx, space, device)
	if err != nil {
		return nil, err
	}
	return replicator.New(path, replicator.Options{Master: m.url, Space: space, Token: token, Name: device, Log: quiet})
}

// pages is a line to a master that has no snapshots: new devices pull in pages.
type pages struct{}

func (pages) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/snapshot") {
		r.URL.Path = "/none"
	}
	return http.DefaultTransport.RoundTrip(r)
}

// fresh opens a new file for syncing with a space, by snapshot or in pages.
func (m *master) fresh(ctx context.Context, path, space, device string, inPages bool) (*replicator.Replicator, error) {
	token, err := m.token(ctx, space, device)
	if err != nil {
		return nil, err
	}
	o := replicator.Options{Master: m.url, Space: space, Token: token, Name: device, Log: quiet}
	if inPages {
		o.Transport = pages{}
	}
	return replicator.New(path, o)
}

// file is the store of a space.
func (m *master) file(space string) string { return filepath.Join(m.dir, "spaces", space+".db") }
