package main

import (
	"log/slog"
	"net/http"

	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/masterd/v1"
)

// newV1 returns the handler of protocol v1.
func newV1(engine store.Engine, log *slog.Logger) http.Handler {
	return v1.New(engine, v1.Options{Space: server.V1Space, Owner: server.OwnerOf, Log: log})
}
