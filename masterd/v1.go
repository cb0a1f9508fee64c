package main

import (
	"log/slog"
	"net/http"

	"github.com/velosync/velosync/masterd/store"
)

// newV1 returns the handler of protocol v1.
func newV1(store.Engine, *slog.Logger) (http.Handler, error) {
	return nil, usage("--protocol-v1: this build does not have it: leave the flag out")
}
