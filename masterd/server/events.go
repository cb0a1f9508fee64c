package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/velosync/velosync/masterd/store"
)

// events answers GET /v1/{space}/events: the head's seq now, and again whenever it has
// moved, until the client leaves, does not read, or the server stops. Moves that come
// while one is being written become one event.
func (s *Server) events(w *response, r *http.Request, c caller) error {
	perKey := s.o.MaxStreams
	if s.o.Insecure {
		perKey = 0 // all devices of a machine share an address
	}
	if !s.streams.open(c.key, perKey, s.o.MaxStreamsTotal) {
		return busy(http.StatusTooManyRequests, s.o.KeepAlive, "%d event streams of this token are open, or %d of all: close one, or poll",
			s.o.MaxStreams, s.o.MaxStreamsTotal)
	}
	defer s.streams.close(c.key)
	ctx := r.Context()
	space, err := s.space(ctx, c)
	if err != nil {
		return err
	}
	w.stream = true
	w.readFreely()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies hold small answers back otherwise
	w.WriteHeader(http.StatusOK)
	keepAlive := time.NewTicker(s.o.KeepAlive)
	defer keepAlive.Stop()
	seq, moved := space.Head()
	text := fmt.Sprintf("event: head\ndata: {\"seq\":%d}\n\n", seq)
	for {
		if err := s.emit(w, text); err != nil {
			s.log.Debug("event stream ended", "space", c.space, "err", err) // the client left, or does not read
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.closing:
			return nil
		case <-moved:
			seq, moved = space.Head()
			text = fmt.Sprintf("event: head\ndata: {\"seq\":%d}\n\n", seq)
		case <-keepAlive.C:
			if s.revoked(ctx, c) {
				return nil
			}
			text = ":\n\n"
		}
	}
}

// emit writes to a stream at once.
func (s *Server) emit(w *response, text string) error {
	w.deadline(s.o.WriteTimeout)
	if _, err := w.Write([]byte(text)); err != nil {
		return err
	}
	if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
		return err
	}
	w.deadline(0) // HTTP/2 resets a stream when its deadline passes, even an idle one
	return nil
}

// revoked reports whether the token of a stream was taken away meanwhile.
func (s *Server) revoked(ctx context.Context, c caller) bool {
	if s.o.Insecure {
		return false
	}
	_, err := s.engine.FindToken(ctx, c.hash)
	return errors.Is(err, store.ErrNoToken)
}
