package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
)

// demoSpace is the space that the demo's devices share.
const demoSpace = "docs"

// demoMaster is a masterd inside the demo: the real server and store, with tokens, over HTTP
// on 127.0.0.1. It can be stopped and started again, as a machine is.
type demoMaster struct {
	dir  string
	addr string // of the last start; the next one tries to get it again
	stop func() error
}

// start serves until close is called.
func (m *demoMaster) start() error {
	engine, err := store.OpenSQLite(m.dir, store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("open the master's store: %w", err)
	}
	if m.addr == "" {
		m.addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", m.addr)
	if err != nil { // someone took the port meanwhile
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return errors.Join(err, engine.Close())
	}
	m.addr = l.Addr().String()
	s := server.New(engine, server.Options{Staging: filepath.Join(m.dir, "staging"), Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	m.stop = func() error {
		cancel()
		return errors.Join(<-served, engine.Close())
	}
	return nil
}

// close stops the master and waits for it; its data stays. It may be called twice.
func (m *demoMaster) close() error {
	if m.stop == nil {
		return nil
	}
	stop := m.stop
	m.stop = nil
	return stop()
}

func (m *demoMaster) url() string { return "http://" + m.addr }

// token makes the token of a device, as masterd token new does on the master's machine.
func (m *demoMaster) token(ctx context.Context, device string) (token string, err error) {
	engine, err := store.OpenSQLite(m.dir, store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", fmt.Errorf("open the master's store: %w", err)
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	token, hash, err := server.NewToken(rand.Reader)
	if err != nil {
		return "", err
	}
	return token, engine.AddToken(ctx, hash, store.Token{Space: demoSpace, Device: device, Created: time.Now()})
}

// database opens what the stopped master has stored: the space's tables are ordinary ones.
func (m *demoMaster) database(ctx context.Context) (*database, error) {
	return openDatabase(ctx, filepath.Join(m.dir, "spaces", demoSpace+".db"))
}
