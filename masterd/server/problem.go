package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
)

// Codes that only masterd gives; the others are wire's.
const (
	codeNotFound   = "not-found"          // 404: no such path
	codeMethod     = "method-not-allowed" // 405
	codeTimeout    = wire.CodeTimeout
	codePart       = wire.CodePart
	codeBadRequest = "bad-request" // 422: the message contradicts itself
)

// A problem is an error answer (RFC 9457); as an error, it says so from anywhere in a
// handler. The package comment lists the codes.
type problem struct {
	wire.Problem
	Request string `json:"request,omitempty"` // its id
	Limit   int64  `json:"limit,omitempty"`   // with too-large: what was allowed

	wait time.Duration // Retry-After; 0: not said
}

func (p *problem) Error() string { return fmt.Sprintf("server: %s: %s", p.Code, p.Detail) }

// as returns a problem with a detail that people read.
func as(status int, code, format string, args ...any) *problem {
	return &problem{Problem: wire.Problem{Status: status, Code: code, Detail: fmt.Sprintf(format, args...)}}
}

// busy returns a problem that waiting solves.
func busy(status int, wait time.Duration, format string, args ...any) *problem {
	p := as(status, wire.CodeBusy, format, args...)
	p.wait = max(wait, time.Second)
	return p
}

var (
	errNotFound = as(http.StatusNotFound, codeNotFound, "no such path: devices call POST /v1/{space}/sync")
	errClosed   = busy(http.StatusServiceUnavailable, 2*time.Second, "this masterd is stopping: try again in a moment")
	// errNoSpace is one answer for a space that does not exist and for one that belongs to
	// others, so that names can't be tried out.
	errNoSpace = as(http.StatusNotFound, wire.CodeNoSpace, "no such space, or not a space of this token: check the space's name; "+
		"masterd token new makes a token for a space")
)

// tooLarge says what of a request is beyond which limit.
func tooLarge(limit int64, format string, args ...any) *problem {
	p := as(http.StatusRequestEntityTooLarge, wire.CodeTooLarge, format, args...)
	p.Limit = limit
	return p
}

// problemOf says how an error is answered. What is not known by type is internal, and
// its text stays in the log.
func problemOf(err error) *problem {
	var (
		own      *problem
		schema   *store.SchemaError
		forked   *store.ForkedError
		restored *store.RestoredError
		owner    *store.OwnerError
		clash    *store.ClashError
		page     *store.PageError
		request  *store.RequestError
		limit    *wire.LimitError
		timeout  net.Error

		unavailable *store.UnavailableError
	)
	switch {
	case errors.As(err, &unavailable):
		return busy(http.StatusServiceUnavailable, 2*time.Second, "masterd has no database just now; its log has the reason under this request's id: try again")
	case errors.As(err, &own):
		p := *own
		return &p
	case errors.As(err, &schema) && schema.Unknown:
		return as(http.StatusConflict, wire.CodeSchemaUnknown, "%s", plain(schema))
	case errors.As(err, &schema):
		p := as(http.StatusConflict, wire.CodeSchemaMismatch, "%s", plain(schema))
		p.Table = schema.Table
		return p
	case errors.As(err, &forked):
		return as(http.StatusConflict, wire.CodeForked, "%s", plain(forked))
	case errors.As(err, &restored):
		p := as(http.StatusConflict, wire.CodeRestored, "%s", plain(restored))
		p.Seen, p.Head, p.Common = int64(restored.Seen), int64(restored.Head), int64(restored.Common)
		return p
	case errors.As(err, &clash):
		p := as(http.StatusConflict, wire.CodeClash, "%s", plain(clash))
		p.Clashes = clash.Clashes
		return p
	case errors.As(err, &owner):
		p := as(http.StatusForbidden, wire.CodeForbidden, "%s: use the token that it was made with, or let the file take a new device id", plain(owner))
		p.Owned = true
		return p
	case errors.As(err, &page):
		return as(http.StatusConflict, wire.CodePage, "%s: begin a new round", plain(page))
	case errors.As(err, &request):
		return as(http.StatusUnprocessableEntity, codeBadRequest, "%s", plain(request))
	case errors.Is(err, store.ErrNoSpace):
		p := *errNoSpace
		return &p
	case errors.As(err, &limit):
		return tooLarge(limit.Limit, "%s", plain(limit))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return as(http.StatusBadRequest, wire.CodeMalformed, "the body ended before its announced length")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return as(http.StatusRequestTimeout, codeTimeout, "the request came in too slowly: push less at a time")
	case errors.Is(err, context.DeadlineExceeded):
		return busy(http.StatusServiceUnavailable, 5*time.Second, "not done in time: try again later, or push less at a time")
	case errors.As(err, &timeout) && timeout.Timeout():
		return as(http.StatusRequestTimeout, codeTimeout, "the request came in too slowly: push less at a time")
	}
	if p := wire.ProblemOf(err); p != nil {
		p.Detail = plain(err)
		return &problem{Problem: *p}
	}
	return as(http.StatusInternalServerError, wire.CodeInternal, "masterd could not do it; its log has the reason under this request's id: try again later")
}

// plain is an error's text without the name of the package that made it.
func plain(err error) string {
	s := err.Error()
	for _, pkg := range []string{"store: ", "wire: ", "server: "} {
		s = strings.TrimPrefix(s, pkg)
	}
	return s
}

// fail answers an error and writes its log line: the only place that does either.
func (s *Server) fail(w *response, r *http.Request, err error) {
	p := problemOf(err)
	gone := r.Context().Err() != nil && p.Status >= 500 // the client left, or this was cut at shutdown
	if gone {
		p = problemOf(errClosed)
	}
	p.Type, p.Title, p.Request = "about:blank", http.StatusText(p.Status), w.id
	level := slog.LevelInfo
	switch {
	case gone, w.status != 0, p.Status == http.StatusTooManyRequests, p.Code == codeNotFound, p.Code == codeMethod:
		level = slog.LevelDebug // as many as anyone cares to send
	case p.Status == http.StatusServiceUnavailable:
		level = slog.LevelWarn
	case p.Status >= 500:
		level = slog.LevelError
	}
	s.log.Log(r.Context(), level, "request failed", "request", w.id, "method", r.Method, "route", w.route, "space", w.space,
		"device", w.device, "address", s.address(r), "status", p.Status, "code", p.Code, "err", err)
	if w.status != 0 {
		return // the answer has begun: all that is left is to break it off
	}
	if p.Status == http.StatusRequestEntityTooLarge || p.Status == http.StatusRequestTimeout {
		w.Header().Set("Connection", "close") // rather than read what is still coming
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="velosync"`)
	}
	if p.wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.wait.Seconds()))))
	}
	w.Header().Del("Content-Digest")
	body, err := json.Marshal(p)
	if err != nil {
		panic("server: a problem does not marshal: " + err.Error()) // strings and numbers only
	}
	s.write(w, p.Status, wire.ProblemType, append(body, '\n'))
}

// write sends a whole answer within the time that is allowed for it.
func (s *Server) write(w *response, status int, contentType string, body []byte) error {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	w.deadline(s.o.WriteTimeout)
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}

// methodNotAllowed names the methods that the path has.
func methodNotAllowed(routes *mux.Router, w http.ResponseWriter, r *http.Request) error {
	var allowed []string
	for _, method := range []string{"GET", "HEAD", "POST"} {
		var match mux.RouteMatch
		other := *r
		other.Method = method
		if routes.Match(&other, &match) && match.MatchErr == nil {
			allowed = append(allowed, method)
		}
	}
	allow := strings.Join(allowed, ", ")
	w.Header().Set("Allow", allow)
	return as(http.StatusMethodNotAllowed, codeMethod, "this path takes %s", allow)
}
