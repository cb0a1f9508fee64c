package server

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
)

// sync answers POST /v1/{space}/sync: it applies the device's push and replies with
// what the device lacks. A part that others follow is put aside until they have come.
func (s *Server) sync(w *response, r *http.Request, c caller) error {
	ctx, cancel := context.WithTimeout(r.Context(), s.o.RequestTimeout)
	defer cancel()
	came := s.o.Now() // what its body takes to come is no skew of the device's clock
	body, done, err := s.read(ctx, w, r, c, s.o.Limits.Body)
	if err != nil {
		return err
	}
	answer, err := s.round(ctx, w, c, came, body, done)
	if err != nil {
		return err
	}
	return s.send(w, answer) // in its own time: nobody waits for a slow reader
}

// round decodes a push that came then, applies it and returns the body of the answer. It
// waits for a place among the space's other rounds, and calls done when it needs body no more.
func (s *Server) round(ctx context.Context, w *response, c caller, came time.Time, body []byte, done func()) ([]byte, error) {
	began := time.Now()
	defer done()
	leave, err := s.gates.enter(ctx, c.space)
	if err != nil {
		return nil, err
	}
	defer leave()
	push, err := wire.DecodePush(body, s.o.Limits)
	if err != nil {
		return nil, err
	}
	w.device = push.Device.String()
	if len(push.Names) == 0 {
		return nil, &store.RequestError{Reason: "a push without a name"}
	}
	if push.Paging && (push.More || push.Part > 0) {
		return nil, &store.RequestError{Reason: "a request for a page has no parts"}
	}
	key := uploadKey{space: c.space, owner: c.owner, device: push.Device}
	if push.More {
		if err := s.staging.add(ctx, key, push, body); err != nil {
			return nil, err
		}
		s.log.Debug("part staged", "space", c.space, "device", w.device, "part", push.Part, "rows", rowsOf(push.Blocks), "bytes", len(body))
		return encode(&change.Pull{})
	}
	upload, gone := s.staging.take(ctx, key, push)
	if gone != nil && !partMissing(gone) {
		return nil, gone
	}
	after := s.staging.drop
	defer func() { after(upload) }()
	push.Waited = max(0, s.o.Now().Sub(came).Milliseconds())
	pull, err := s.apply(ctx, c, push, upload, gone)
	if err != nil {
		if wanted(err) {
			after = s.staging.put // the device may send the last part again, alone
		}
		return nil, fmt.Errorf("sync device %v: %w", push.Device, err)
	}
	answer, err := encode(pull)
	if err != nil {
		return nil, err
	}
	s.log.Debug("round", "space", c.space, "device", w.device,
		"push_rows", rowsOf(push.Blocks)+upload.rows(), "push_bytes", int64(len(body))+upload.bytes(),
		"pull_rows", rowsOf(pull.Blocks), "pull_bytes", len(answer), "lsn", pull.Applied, "seq", pull.To, "took", time.Since(began))
	if len(pull.Lost) > 0 {
		s.log.Info("conflicts", "space", c.space, "device", w.device, "conflicts", len(pull.Lost))
	}
	return answer, nil
}

// apply hands a whole push to its space. Where parts of it are gone, that is an error if they
// are wanted: of a push that was applied already, its answer lost, they are not.
func (s *Server) apply(ctx context.Context, c caller, last *change.Push, u *upload, gone error) (*change.Pull, error) {
	// A token is the operator's word that its space may be made; without tokens it is
	// the first push.
	space, err := s.engine.Space(ctx, c.space)
	if err != nil {
		return nil, fmt.Errorf("open space %q: %w", c.space, err)
	}
	parts := s.staging.parts(ctx, u, last, s.o.Limits)
	switch {
	case gone != nil:
		parts = func(yield func(*change.Push, error) bool) { yield(nil, gone) }
	case u.count() > 0: // the next part is read while one is applied
		parts = wire.Ahead(parts)
	}
	return space.Sync(ctx, c.owner, last, parts)
}

// wanted reports whether staged parts are of use after an error: what refuses the push
// as such will refuse it again.
func wanted(err error) bool {
	var schema *store.SchemaError
	if errors.As(err, &schema) {
		return schema.Unknown
	}
	return problemOf(err).Status >= 500
}

// read reads a body, once there is room for it, and checks its digest; the caller calls
// done when it needs the bytes no more.
func (s *Server) read(ctx context.Context, w *response, r *http.Request, c caller, limit int64) (body []byte, done func(), err error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != wire.ContentType {
		return nil, nil, as(http.StatusUnsupportedMediaType, wire.CodeMediaType, "Content-Type is %q, want %s", r.Header.Get("Content-Type"), wire.ContentType)
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" {
		return nil, nil, as(http.StatusUnsupportedMediaType, wire.CodeMediaType, "Content-Encoding is %q; a body is zstd in itself and has none", enc)
	}
	digest := strings.Join(r.Header.Values("Content-Digest"), ",")
	if digest == "" {
		return nil, nil, wire.CheckDigest(digest, nil) // before anything is read
	}
	size := r.ContentLength
	if size > limit {
		return nil, nil, tooLarge(limit, "the body has %d bytes, the limit is %d: push less at a time", size, limit)
	}
	if size < 0 {
		size = limit
	}
	done, err = s.gates.body(ctx, c.key, size)
	if err != nil {
		return nil, nil, err
	}
	body, err = wire.ReadBody(r.Body, limit)
	if err == nil {
		err = wire.CheckDigest(digest, body)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	w.readFreely()
	return body, done, nil
}

// encode returns the body of an answer. When it can't, that is the master's fault.
func encode(pull *change.Pull) ([]byte, error) {
	body, err := wire.EncodePull(pull)
	if err != nil {
		return nil, fmt.Errorf("encode pull: %w", internal{err})
	}
	return body, nil
}

// send answers with a message of the wire package.
func (s *Server) send(w *response, body []byte) error {
	w.Header().Set("Content-Digest", wire.Digest(body))
	return s.write(w, http.StatusOK, wire.ContentType, body)
}

// An internal hides the types of an error: it is the master's fault, not the device's.
type internal struct{ err error }

func (e internal) Error() string { return e.err.Error() }

func rowsOf(blocks []change.Block) (n int) {
	for i := range blocks {
		n += len(blocks[i].Keys)
	}
	return n
}
