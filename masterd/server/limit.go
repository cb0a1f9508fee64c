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

// A gates bounds the work in hand: bodies by their bytes, for each caller and for all, and
// syncs by number, for each space and for all.
type gates struct {
	wait    time.Duration
	bodies  *semaphore.Weighted
	callers shares
	total   *semaphore.Weighted
	spaces  shares
}

func newGates(o Options) *gates {
	return &gates{
		wait:    o.QueueWait,
		bodies:  semaphore.NewWeighted(o.MaxBodyBytes),
		callers: shares{size: o.MaxTokenBodyBytes, byKey: make(map[string]*share)},
		total:   semaphore.NewWeighted(int64(o.MaxSyncsTotal)),
		spaces:  shares{size: int64(o.MaxSyncs), byKey: make(map[string]*share)},
	}
}

// shares are what each key may have of something, for the keys that have or want any.
type shares struct {
	size  int64
	mu    sync.Mutex
	byKey map[string]*share
}

type share struct {
	users int // that hold some of it or wait for it
	*semaphore.Weighted
}

// of returns the share of a key; the caller calls leave.
func (s *shares) of(key string) (at *share, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at = s.byKey[key]
	if at == nil {
		at = &share{Weighted: semaphore.NewWeighted(s.size)}
		s.byKey[key] = at
	}
	at.users++
	return at, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if at.users--; at.users == 0 {
			delete(s.byKey, key)
		}
	}
}

// body waits until n bytes of body may be read, of a caller and of all, so that one who
// sends slowly holds up nobody else; the caller calls done.
func (g *gates) body(ctx context.Context, key string, n int64) (done func(), err error) {
	full := busy(http.StatusTooManyRequests, 2*time.Second, "%v in line behind other bodies of this token: send fewer at once, each without a pause", g.wait)
	return g.both(ctx, &g.callers, key, full, g.bodies, n)
}

// enter waits for a place in the space, then for one among all, so that one busy
// space holds up itself alone; the caller calls done.
func (g *gates) enter(ctx context.Context, space string) (done func(), err error) {
	return g.both(ctx, &g.spaces, space, g.full(), g.total, 1)
}

func (g *gates) full() error {
	return busy(http.StatusServiceUnavailable, 2*time.Second, "%v in line and not served yet: try again later", g.wait)
}

// both waits for n of a key's share, and then of what all have; full says that the share was
// taken all the time.
func (g *gates) both(ctx context.Context, each *shares, key string, full error, all *semaphore.Weighted, n int64) (done func(), err error) {
	own, leave := each.of(key)
	if err := g.acquire(ctx, own.Weighted, n, full); err != nil {
		leave()
		return nil, err
	}
	if err := g.acquire(ctx, all, n, g.full()); err != nil {
		own.Release(n)
		leave()
		return nil, err
	}
	return func() { all.Release(n); own.Release(n); leave() }, nil
}

func (g *gates) acquire(ctx context.Context, sem *semaphore.Weighted, n int64, full error) error {
	bounded, cancel := context.WithTimeout(ctx, g.wait)
	defer cancel()
	err := sem.Acquire(bounded, n)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return full
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
