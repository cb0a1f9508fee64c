package server

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
)

// tokenPrefix lets people and secret scanners see what a token is.
const tokenPrefix = "vst_"

// NewToken draws a token from random, which is crypto/rand.Reader outside tests. The
// token goes to the device, its hash to Engine.AddToken.
func NewToken(random io.Reader) (token string, hash [32]byte, err error) {
	var b [32]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", hash, fmt.Errorf("draw a token: %w", err)
	}
	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	return token, sha256.Sum256([]byte(token)), nil
}

// HashToken returns the hash that a token is stored under; ok is false when it is not
// written as a token.
func HashToken(token string) (hash [32]byte, ok bool) {
	text, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok || len(text) != base64.RawURLEncoding.EncodedLen(32) {
		return hash, false
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(text); err != nil {
		return hash, false
	}
	return sha256.Sum256([]byte(token)), true
}

// A caller is who makes a request.
type caller struct {
	space string      // of the token; without tokens, of the path
	owner store.Owner // "" without tokens
	hash  [32]byte    // of the token; zero without
	key   string      // what rate and streams are counted by
}

type callerKey struct{}

// OwnerOf returns who makes the request with this context, for Options.V1.
func OwnerOf(ctx context.Context) store.Owner {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c.owner
}

// admit says who makes a request of a space. A space of others and one that does not
// exist are the same to it.
func (s *Server) admit(r *http.Request, space string) (caller, error) {
	c, err := s.identify(r)
	if err != nil {
		return caller{}, err
	}
	if s.o.Insecure {
		c.space = space
	}
	if c.space != space || !store.ValidSpace(space) {
		return caller{}, errNoSpace
	}
	return c, nil
}

// identify finds the token of a request, whatever its space.
func (s *Server) identify(r *http.Request) (caller, error) {
	if s.o.Insecure {
		if err := s.checkLocal(r); err != nil {
			return caller{}, err
		}
		return s.anyone(r)
	}
	address := s.address(r)
	c, err := s.find(r, address)
	if err != nil {
		return caller{}, err
	}
	if wait, ok := s.rate.allow(c.key, s.o.Now()); !ok {
		return caller{}, busy(http.StatusTooManyRequests, wait, "more than %g requests a second with this token", s.o.Rate)
	}
	return c, nil
}

// find looks the token up. The store finds it by its SHA-256, so what a comparison's
// time could tell is a piece of a hash, which leads to no token. An address that sent
// too many wrong ones is not looked up any more, except for tokens that were right
// before: others behind the same address go on.
func (s *Server) find(r *http.Request, address string) (caller, error) {
	refused := as(http.StatusUnauthorized, wire.CodeUnauthorized, "no valid token: send the header Authorization: Bearer vst_…; masterd token new makes one")
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme == "" {
		return caller{}, refused // asks what is needed: no attempt
	}
	now := s.o.Now()
	hash, ok := HashToken(strings.TrimSpace(token))
	ok = ok && strings.EqualFold(scheme, "Bearer")
	if wait, free := s.failed.peek(address, now); !free && !(ok && s.accepted.has(string(hash[:]))) {
		return caller{}, busy(http.StatusTooManyRequests, wait, "too many wrong tokens from this address")
	}
	if ok {
		t, err := s.engine.FindToken(r.Context(), hash)
		if err == nil {
			s.accepted.add(string(hash[:]))
			return caller{space: t.Space, owner: store.Owner(t.Device), hash: hash, key: string(hash[:])}, nil
		}
		if !errors.Is(err, store.ErrNoToken) {
			return caller{}, fmt.Errorf("find token: %w", err)
		}
	}
	s.failed.allow(address, now)
	return caller{}, refused
}

// anyone lets everyone in, so many times a second.
func (s *Server) anyone(r *http.Request) (caller, error) {
	address := s.address(r)
	if wait, ok := s.rate.allow(address, s.o.Now()); !ok {
		return caller{}, busy(http.StatusTooManyRequests, wait, "more than %g requests a second from this address", s.o.Rate)
	}
	return caller{key: address}, nil
}

// local lets in who connects from this machine.
func (s *Server) local(r *http.Request) (caller, error) {
	if s.o.Insecure {
		return s.identify(r)
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() || s.o.BehindProxy {
		return caller{}, errNotFound // there is nothing here for others
	}
	return s.anyone(r)
}

// checkLocal guards a server without tokens against web pages: a name that an attacker
// points at 127.0.0.1 makes a browser send here what his page says, but under that name.
func (s *Server) checkLocal(r *http.Request) error {
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && !loopback(addr) {
		return as(http.StatusForbidden, wire.CodeForbidden, "this masterd asks for no tokens and so serves loopback addresses only")
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return nil
	}
	return as(http.StatusForbidden, wire.CodeForbidden, "this masterd asks for no tokens and so answers to localhost and to IP addresses only, not to %q", host)
}

// address names where a request comes from: an IPv4 address, or the /64 that one
// subscriber has of IPv6.
func (s *Server) address(r *http.Request) string {
	text := r.RemoteAddr
	if s.o.BehindProxy {
		if v := r.Header.Values("X-Forwarded-For"); len(v) > 0 {
			list := strings.Split(v[len(v)-1], ",")
			text = strings.TrimSpace(list[len(list)-1]) // the one that our proxy wrote
		}
	}
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		ap, err := netip.ParseAddrPort(text)
		if err != nil {
			return "unknown"
		}
		addr = ap.Addr()
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is6() && !addr.IsLoopback() {
		p, _ := addr.Prefix(64) // 64 bits of an IPv6 address: always there
		return p.String()
	}
	return addr.String()
}
