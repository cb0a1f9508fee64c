package replicator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/wire"
)

// ErrOffline is matched by errors that say that the master can't be reached, or did not
// answer. Nothing is lost; try again later.
var ErrOffline = errors.New("replicator: the master can't be reached")

// An offlineError is an ErrOffline with its cause.
type offlineError struct {
	cause error
	// unsent says that the request never left this machine.
	unsent bool
}

func (e *offlineError) Error() string        { return ErrOffline.Error() + ": " + e.cause.Error() }
func (e *offlineError) Unwrap() error        { return e.cause }
func (e *offlineError) Is(target error) bool { return target == ErrOffline }

// A busyError is a problem that waiting solves.
type busyError struct {
	*wire.Problem
	wait time.Duration
}

func (e *busyError) Unwrap() error { return e.Problem }

// A client speaks to one space of one master.
type client struct {
	http    *http.Client
	own     *http.Transport // closed with the client; nil if the transport is the caller's
	base    string
	token   string
	limits  wire.Limits
	timeout time.Duration
}

func newClient(master *url.URL, o Options) *client {
	c := &client{base: master.JoinPath("v1", o.Space).String(), token: o.Token, limits: o.Limits, timeout: o.Timeout}
	transport := o.Transport
	if transport == nil {
		c.own = http.DefaultTransport.(*http.Transport).Clone()
		c.own.DisableCompression = true // bodies are zstd already
		c.own.MaxIdleConnsPerHost = 4
		transport = c.own
	}
	// A redirect would carry the token to another place.
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c
}

func (c *client) close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

func (c *client) request(ctx context.Context, method, call string, body []byte) (*http.Response, error) {
	return c.do(ctx, method, call, body, nil)
}

// do sends a request. An answer that is no success is an error.
func (c *client) do(ctx context.Context, method, call string, body []byte, header http.Header) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/"+call, reader)
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		req.Header[key] = values
	}
	if body != nil {
		req.Header.Set("Content-Type", wire.ContentType)
		req.Header.Set("Content-Digest", wire.Digest(body))
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		return nil, &offlineError{cause: err, unsent: errors.As(err, &op) && op.Op == "dial"}
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent && header.Get("Range") != "" {
		return resp, nil
	}
	defer resp.Body.Close()
	p := wire.ReadProblem(resp.StatusCode, resp.Body)
	if p.Code == wire.CodeBusy {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // 0: as soon as we would anyway
		return nil, &busyError{p, time.Duration(min(max(seconds, 0), 3600)) * time.Second}
	}
	return nil, p
}

// post sends a body and returns the body of the answer.
func (c *client) post(ctx context.Context, call string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.request(ctx, http.MethodPost, call, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := wire.ReadBody(resp.Body, c.limits.Body)
	if err != nil {
		var limit *wire.LimitError
		if errors.As(err, &limit) {
			return nil, err
		}
		return nil, &offlineError{cause: err}
	}
	if err := wire.CheckDigest(resp.Header.Get("Content-Digest"), answer); err != nil {
		return nil, err
	}
	return answer, nil
}

// sync posts an encoded push and returns the body of the pull.
func (c *client) sync(ctx context.Context, push []byte) ([]byte, error) {
	return c.post(ctx, "sync", push)
}

func (c *client) ack(ctx context.Context, device change.DeviceID, seq change.Seq, lsn change.LSN) error {
	body, err := wire.EncodeAck(wire.Ack{Device: device, Seq: seq, LSN: lsn})
	if err != nil {
		return err
	}
	answer, err := c.post(ctx, "ack", body)
	if err != nil {
		return err
	}
	if _, err := wire.DecodeAckReply(answer, c.limits); err != nil {
		return fmt.Errorf("answer to the ack: %w", err)
	}
	return nil
}

// nothingApplied reports whether an error of a push says that the master never took it: it
// was never sent, or it is one that the master refuses each time. Other refusals may be of
// a second copy that the network made: the last part of a push that was applied finds its
// other parts gone, say.
func nothingApplied(err error) bool {
	var offline *offlineError
	var problem *wire.Problem
	var resent *resentError
	switch {
	case errors.As(err, &resent):
		return false
	case errors.As(err, &offline):
		return offline.unsent
	case errors.As(err, &problem):
		switch problem.Code {
		case wire.CodeForbidden:
			return !problem.Owned // else the file takes a new id, if it still has that push's name
		case wire.CodeUnauthorized, wire.CodeNoSpace, wire.CodeVersion, wire.CodeMediaType, wire.CodeMalformed,
			wire.CodeSchemaUnknown, wire.CodeSchemaMismatch, wire.CodeTooLarge, wire.CodeClash:
			return true
		}
	}
	return false
}
