package server

import (
	"container/list"
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// maxKeys bounds what is remembered of clients; the least recently seen is forgotten.
const maxKeys = 16 << 10

// A limits holds a rate limiter for each key, for the keys seen last.
type limits struct {
	rate  rate.Limit
	burst int
	mu    sync.Mutex
	byKey map[string]*list.Element
	order list.List // of *limited, the last seen in front
}

type limited struct {
	key     string
	limiter *rate.Limiter
}

// newLimits returns limits of so many events a second; 0 or less means no limit.
func newLimits(perSecond float64, burst int) *limits {
	return &limits{rate: rate.Limit(perSecond), burst: burst, byKey: make(map[string]*list.Element)}
}

// allow counts an event, or says how long it must wait.
func (l *limits) allow(key string, now time.Time) (wait time.Duration, ok bool) {
	if l.rate <= 0 {
		return 0, true
	}
	r := l.add(key).ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait, false
	}
	return 0, true
}

// peek says what allow would, and counts nothing.
func (l *limits) peek(key string, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	e := l.byKey[key]
	l.mu.Unlock()
	if e == nil {
		return 0, true
	}
	if missing := 1 - e.Value.(*limited).limiter.TokensAt(now); missing > 0 {
		return time.Duration(missing / float64(l.rate) * float64(time.Second)), false
	}
	return 0, true
}

// has reports whether key was added and is not forgotten yet.
func (l *limits) has(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byKey[key] != nil
}

// add returns the limiter of a key, and makes it the last one seen.
func (l *limits) add(key string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.byKey[key]; e != nil {
		l.order.MoveToFront(e)
		return e.Value.(*limited).limiter
	}
	if len(l.byKey) >= maxKeys {
		oldest := l.order.Back()
		delete(l.byKey, l.order.Remove(oldest).(*limited).key)
	}
	v := &limited{key: key, limiter: rate.NewLimiter(l.rate, l.burst)}
	l.byKey[key] = l.order.PushFront(v)
	return v.limiter
}

// A gates bounds the work in hand: bodies by their bytes, syncs by number, for each
// space and for all.
type gates struct {
	wait   time.Duration
	bodies *semaphore.Weighted
	total  *semaphore.Weighted
	each   int64
	mu     sync.Mutex
	spaces map[string]*gate
}

type gate struct {
	users int // that hold it or wait for it
	sem   *semaphore.Weighted
}

func newGates(o Options) *gates {
	return &gates{
		wait:   o.QueueWait,
		bodies: semaphore.NewWeighted(o.MaxBodyBytes),
		total:  semaphore.NewWeighted(int64(o.MaxSyncsTotal)),
		each:   int64(o.MaxSyncs),
		spaces: make(map[string]*gate),
	}
}

// body waits until n bytes of body may be read; the caller calls done.
func (g *gates) body(ctx context.Context, n int64) (done func(), err error) {
	if err := g.acquire(ctx, g.bodies, n); err != nil {
		return nil, err
	}
	return func() { g.bodies.Release(n) }, nil
}

// enter waits for a place in the space, then for one among all, so that one busy
// space holds up itself alone; the caller calls done.
func (g *gates) enter(ctx context.Context, space string) (done func(), err error) {
	g.mu.Lock()
	at := g.spaces[space]
	if at == nil {
		at = &gate{sem: semaphore.NewWeighted(g.each)}
		g.spaces[space] = at
	}
	at.users++
	g.mu.Unlock()
	leave := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if at.users--; at.users == 0 {
			delete(g.spaces, space)
		}
	}
	if err := g.acquire(ctx, at.sem, 1); err != nil {
		leave()
		return nil, err
	}
	if err := g.acquire(ctx, g.total, 1); err != nil {
		at.sem.Release(1)
		leave()
		return nil, err
	}
	return func() { g.total.Release(1); at.sem.Release(1); leave() }, nil
}

func (g *gates) acquire(ctx context.Context, sem *semaphore.Weighted, n int64) error {
	bounded, cancel := context.WithTimeout(ctx, g.wait)
	defer cancel()
	err := sem.Acquire(bounded, n)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return busy(http.StatusServiceUnavailable, 2*time.Second, "%v in line and not served yet: try again later", g.wait)
	}
	return err
}

// A streams counts event streams.
type streams struct {
	mu    sync.Mutex
	byKey map[string]int
	total int
}

// open counts a stream in, unless that key, or all keys, have too many; max 0 means
// no limit.
func (s *streams) open(key string, max, maxTotal int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if max > 0 && s.byKey[key] >= max || s.total >= maxTotal {
		return false
	}
	s.byKey[key]++
	s.total++
	return true
}

func (s *streams) close(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.byKey[key]--; s.byKey[key] == 0 {
		delete(s.byKey, key)
	}
}

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}
