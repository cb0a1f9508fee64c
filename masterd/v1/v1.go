// Package v1 answers clients of protocol version 1: JSON over POST /sync and POST /ack,
// for the table vectors of one space, whose rows they share with devices.
//
//	o.V1, err = v1.New(engine, v1.Options{Space: server.V1Space, Owner: server.Owner, Log: log})
//
// # Answers
//
//	200  the answer; records that were refused alone are in its list "rejected",
//	     each with vector_id and reason
//	400  {"detail": {"error": "checksum_mismatch", "claimed": …, "computed": …}}
//	403  the device_id belongs to another token
//	409  another protocol_version
//	413  more than Options.MaxBytes
//	422  the request is malformed, or acknowledges what was not issued or not sent
//	500  the store failed, nothing is applied; 503: too much at once, the same
//
// All but the second have {"detail": "…"}.
//
// # Clocks
//
// In the version vectors that are sent, the master counts under the name "master" the
// seq of the row; no client can be called so. A client's own count rises by at most the
// changes that it sends; a record whose vector counts more for it, more for another client
// than is known, or more for the master than its newest seq, is refused alone.
//
// # Conflicts
//
// The list "conflicts" names records that met a version which their clock did not cover,
// and records that were left out since a newer version is known (local_dominates). What
// was taken as it came (no_local_copy, remote_dominates) and what is the same as before
// (identical_history) is not listed.
package v1

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/velosync/velosync/masterd/store"
)

// Options tunes a Handler. The zero value is ready to use.
type Options struct {
	// Space is the space whose vectors are served. Empty means "default".
	Space string
	// Owner returns who makes a request; nil means that nobody is told apart.
	Owner func(context.Context) store.Owner
	// MaxBytes is the most bytes of a request's body. Zero means 64 MiB.
	MaxBytes int64
	// MaxPullBytes is about the most bytes of an answer; what is beyond comes with the
	// client's next sync. Zero means 64 MiB.
	MaxPullBytes int64
	// MaxBodyBytes is the most bytes of bodies held at once; others wait for BodyWait. Zero
	// means 256 MiB and 5 s: a client waits 10 s for its answer.
	MaxBodyBytes int64
	BodyWait     time.Duration
	// Log receives the log; nil means slog.Default().
	Log *slog.Logger
}

func (o Options) defaults() Options {
	if o.Space == "" {
		o.Space = "default"
	}
	if o.Owner == nil {
		o.Owner = func(context.Context) store.Owner { return "" }
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxPullBytes <= 0 {
		o.MaxPullBytes = 64 << 20
	}
	if o.MaxBodyBytes <= 0 {
		o.MaxBodyBytes = 256 << 20
	}
	o.MaxBodyBytes = max(o.MaxBodyBytes, o.MaxBytes)
	if o.BodyWait <= 0 {
		o.BodyWait = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// A Handler answers POST /sync and POST /ack. Its methods may be called by several
// goroutines.
type Handler struct {
	o      Options
	engine store.Engine
	bodies *semaphore.Weighted
	routes *http.ServeMux
}

// New returns a handler for a space of engine, which stays the caller's to close.
func New(engine store.Engine, o Options) *Handler {
	o = o.defaults()
	h := &Handler{o: o, engine: engine, bodies: semaphore.NewWeighted(o.MaxBodyBytes), routes: http.NewServeMux()}
	h.routes.Handle("POST /sync", h.handle(h.sync, o.MaxBytes))
	h.routes.Handle("POST /ack", h.handle(h.ack, min(o.MaxBytes, 64<<10)))
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.routes.ServeHTTP(w, r) }

// A reply writes an answer.
type reply func(http.ResponseWriter) error

// sync answers POST /sync.
func (h *Handler) sync(r *http.Request, body string) (reply, error) {
	began := time.Now()
	push, err := parsePush(body)
	if err != nil {
		return nil, err
	}
	push.MaxPull = h.o.MaxPullBytes
	space, err := h.space(r.Context())
	if err != nil {
		return nil, err
	}
	a, err := space.SyncV1(r.Context(), h.o.Owner(r.Context()), push)
	if err != nil {
		return nil, fmt.Errorf("sync client %q: %w", push.Device, err)
	}
	h.o.Log.Debug("round", "protocol", 1, "space", h.o.Space, "device", push.Device, "changes", len(push.Records), "applied", a.Applied,
		"rejected", len(a.Rejected), "conflicts", len(a.Conflicts), "pulled", len(a.Pull), "seq", a.Seq, "took", time.Since(began))
	if len(a.Rejected) > 0 {
		h.o.Log.Info("records refused", "protocol", 1, "space", h.o.Space, "device", push.Device, "records", len(a.Rejected))
	}
	out := answer{push.Head, a}
	return func(w http.ResponseWriter) error {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		return out.pieces(func(b []byte) error { _, err := w.Write(b); return err })
	}, nil
}

// ack answers POST /ack.
func (h *Handler) ack(r *http.Request, body string) (reply, error) {
	a, err := parseAck(body)
	if err != nil {
		return nil, err
	}
	space, err := h.space(r.Context())
	if err != nil {
		return nil, err
	}
	seq, lsn, err := space.AckV1(r.Context(), h.o.Owner(r.Context()), a.device, a.seq, a.lsn)
	if err != nil {
		return nil, fmt.Errorf("ack client %q: %w", a.device, err)
	}
	return func(w http.ResponseWriter) error {
		return write(w, http.StatusOK, map[string]any{
			"status": "ok", "device_id": a.device, "last_acked_client_lsn": lsn, "last_acked_server_seq": seq,
		})
	}, nil
}

// Stats returns what GET /stats says in the keys of protocol v1.
func (h *Handler) Stats(ctx context.Context) (map[string]any, error) {
	space, err := h.lookup(ctx)
	if errors.Is(err, store.ErrNoSpace) {
		return stats(&store.V1Stats{}), nil
	}
	if err != nil {
		return nil, err
	}
	st, err := space.StatsV1(ctx)
	if err != nil {
		return nil, err
	}
	return stats(st), nil
}

func stats(st *store.V1Stats) map[string]any {
	devices := make([]map[string]any, 0, len(st.Devices)) // [] where there is none, not null
	for _, d := range st.Devices {
		devices = append(devices, map[string]any{
			"device_id":             d.Name,
			"last_acked_client_lsn": d.LSN,
			"last_acked_server_seq": d.Acked,
			"updated_at":            float64(d.Contact.UnixMilli()) / 1e3,
		})
	}
	return map[string]any{"live_vectors": st.Live, "tombstones": st.Tombstones, "server_seq": st.Seq, "devices": devices}
}

func (h *Handler) space(ctx context.Context) (store.V1, error) {
	s, err := h.engine.Space(ctx, h.o.Space)
	return asV1(s, h.o.Space, err)
}

func (h *Handler) lookup(ctx context.Context) (store.V1, error) {
	s, err := h.engine.Lookup(ctx, h.o.Space)
	return asV1(s, h.o.Space, err)
}

func asV1(s store.Space, name string, err error) (store.V1, error) {
	if err != nil {
		return nil, fmt.Errorf("open space %q: %w", name, err)
	}
	v, ok := s.(store.V1)
	if !ok {
		return nil, fmt.Errorf("this store has nothing for protocol v1")
	}
	return v, nil
}

// errTooLarge and errBusy are answered as they say.
var (
	errTooLarge = errors.New("the body is too large: push less at a time")
	errBusy     = errors.New("too many requests at once: try again")
	// errMalformed stands in the log for all that is answered with 422.
	errMalformed = errors.New("the request is malformed, or contradicts what is known")
)

// writeTimeout is how long an answer may take to go out.
const writeTimeout = time.Minute

// handle reads the body, calls next, and sends its answer or answers its error.
func (h *Handler) handle(next func(*http.Request, string) (reply, error), limit int64) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := &writer{ResponseWriter: rw}
		send, err := h.take(w, r, limit, next)
		_ = http.NewResponseController(rw).SetWriteDeadline(time.Now().Add(writeTimeout)) // a test's recorder has none
		if err == nil {
			err = send(w)
		}
		if err != nil {
			h.fail(w, r, err)
		}
	})
}

// take reads the body and calls next with it.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, limit int64, next func(*http.Request, string) (reply, error)) (reply, error) {
	body, done, err := h.read(w, r, limit)
	defer done()
	if err != nil {
		return nil, err
	}
	return next(r, body)
}

// A writer knows whether the answer has begun.
type writer struct {
	http.ResponseWriter
	begun bool
}

func (w *writer) WriteHeader(status int) { w.begun = true; w.ResponseWriter.WriteHeader(status) }

func (w *writer) Write(b []byte) (int, error) { w.begun = true; return w.ResponseWriter.Write(b) }

// Unwrap lets http.ResponseController find what the writer can do.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// read reads a body, once there is room for it; the caller calls done when it needs it no
// more.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, limit int64) (body string, done func(), err error) {
	size := r.ContentLength
	if size > limit {
		discard(r.Body, limit)
		return "", func() {}, errTooLarge
	}
	if size < 0 {
		size = limit
	}
	wait, cancel := context.WithTimeout(r.Context(), h.o.BodyWait)
	defer cancel()
	if err := h.bodies.Acquire(wait, size); err != nil {
		if r.Context().Err() == nil {
			err = errBusy
		}
		return "", func() {}, err
	}
	done = func() { h.bodies.Release(size) }
	var text strings.Builder
	if r.ContentLength > 0 {
		text.Grow(int(r.ContentLength))
	}
	n, err := io.Copy(&text, io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		return "", done, &malformed{"the body could not be read: " + err.Error()}
	case n > limit:
		discard(r.Body, limit)
		return "", done, errTooLarge
	}
	// net/http goes on reading in the background, to see the client leave: the deadline of
	// the request must not look like its leaving.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return text.String(), done, nil
}

// discard reads what a client still sends, up to twice the limit: urllib and others look
// for the answer only when they have sent all.
func discard(r io.Reader, limit int64) { _, _ = io.CopyN(io.Discard, r, 2*limit) }

// fail answers an error and writes its log line.
func (h *Handler) fail(w *writer, r *http.Request, err error) {
	status, detail := problem(err)
	level := slog.LevelInfo
	switch status {
	case http.StatusUnprocessableEntity:
		err = errMalformed // the text quotes the request, and a log holds no row contents
	case http.StatusServiceUnavailable:
		level = slog.LevelWarn
	case http.StatusInternalServerError:
		level = slog.LevelError
	}
	if r.Context().Err() != nil {
		level = slog.LevelDebug // the client left
	}
	h.o.Log.Log(r.Context(), level, "request failed", "protocol", 1, "request", w.Header().Get("Velosync-Request"), "path", r.URL.Path,
		"space", h.o.Space, "status", status, "err", err)
	if w.begun {
		panic(http.ErrAbortHandler) // breaks the answer off
	}
	if status == http.StatusRequestEntityTooLarge {
		w.Header().Set("Connection", "close")
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "2")
	}
	_ = write(w, status, map[string]any{"detail": detail}) // it fails when the client is gone
}

// problem says how an error is answered.
func problem(err error) (status int, detail any) {
	var (
		bad      *malformed
		syntax   *syntaxError
		version  *versionError
		checksum *checksumError
		ack      *store.V1AckError
		owner    *store.OwnerError
	)
	plain := func(err error) string { return strings.TrimPrefix(err.Error(), "store: ") }
	switch {
	case errors.Is(err, errTooLarge):
		return http.StatusRequestEntityTooLarge, err.Error()
	case errors.Is(err, errBusy):
		return http.StatusServiceUnavailable, err.Error()
	case errors.As(err, &version):
		return http.StatusConflict, version.Error()
	case errors.As(err, &checksum):
		return http.StatusBadRequest, map[string]any{"error": "checksum_mismatch", "claimed": checksum.claimed, "computed": checksum.computed}
	case errors.As(err, &bad):
		return http.StatusUnprocessableEntity, bad.Error()
	case errors.As(err, &syntax):
		return http.StatusUnprocessableEntity, syntax.Error()
	case errors.As(err, &ack):
		return http.StatusUnprocessableEntity, plain(ack)
	case errors.As(err, &owner):
		return http.StatusForbidden, fmt.Sprintf("this device_id belongs to another token (device %v)", owner.Device)
	}
	return http.StatusInternalServerError, "masterd could not do it, nothing is applied; its log has the reason: try again later"
}

// write sends v as JSON.
func write(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, err = w.Write(append(body, '\n'))
	return err
}
