package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gorilla/mux"
)

// A response is the http.ResponseWriter of a request, with what is known of both.
type response struct {
	http.ResponseWriter
	id     string // the request's
	route  string // its path with the names of variables, for metrics and log; "" until known
	space  string
	device string
	status int   // 0: nothing written yet
	bytes  int64 // of the body written
	stream bool  // an event stream: no duration worth a histogram
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController find what the writer can do.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// deadline gives what is written next so much time; 0 means any. Writers that have no
// deadlines, such as a test's recorder, go without.
func (w *response) deadline(d time.Duration) {
	var t time.Time
	if d > 0 {
		t = time.Now().Add(d)
	}
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(t)
}

// readFreely lifts the time limit of reading. It must be lifted once the body is read:
// net/http goes on reading in the background, to see the client leave, and would take
// the deadline for its leaving.
func (w *response) readFreely() {
	_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Time{})
}

// A handler answers one request; it returns the error that fail answers.
type handler func(w http.ResponseWriter, r *http.Request) error

// outer does for every request what does not depend on its route.
func (s *Server) outer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		began := time.Now()
		w := &response{ResponseWriter: rw, id: requestID()}
		w.Header().Set("Velosync-Request", w.id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !s.begin() {
			s.fail(w, r, errClosed)
			return
		}
		defer s.end()
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				s.log.Error("panic", "request", w.id, "panic", v, "stack", string(debug.Stack()))
				s.fail(w, r, fmt.Errorf("panic: %v", v))
			}
			s.metrics.observe(w, r, time.Since(began))
		}()
		next.ServeHTTP(w, r)
	})
}

func requestID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// handle runs a handler, and answers its error. who says whether the client may.
func (s *Server) handle(who func(*http.Request) (caller, error), next func(*response, *http.Request, caller) error) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := rw.(*response)
		if route := mux.CurrentRoute(r); route != nil {
			w.route, _ = route.GetPathTemplate()
		}
		c, err := who(r)
		if err == nil {
			w.space = c.space
			err = next(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)), c)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// open serves everyone.
func (s *Server) open(next handler) http.Handler {
	return s.handle(s.anyone, func(w *response, r *http.Request, _ caller) error { return next(w, r) })
}

// device serves a device of the space in the path.
func (s *Server) device(next func(*response, *http.Request, caller) error) http.Handler {
	return s.handle(func(r *http.Request) (caller, error) { return s.admit(r, mux.Vars(r)["space"]) }, next)
}

// bearer serves whoever has a token, of any space.
func (s *Server) bearer(next func(*response, *http.Request, caller) error) http.Handler {
	return s.handle(s.identify, next)
}

// operator serves this machine, unless a proxy speaks from here for others.
func (s *Server) operator(next http.Handler) http.Handler {
	return s.handle(s.local, func(w *response, r *http.Request, _ caller) error {
		next.ServeHTTP(w, r)
		return nil
	})
}

// v1 serves protocol v1, which has its own form of answer beyond this point.
func (s *Server) v1(next http.Handler) http.Handler {
	return s.handle(func(r *http.Request) (caller, error) { return s.admit(r, V1Space) },
		func(w *response, r *http.Request, _ caller) error {
			ctx, cancel := context.WithTimeout(r.Context(), s.o.RequestTimeout)
			defer cancel()
			next.ServeHTTP(w, r.WithContext(ctx))
			return nil
		})
}
