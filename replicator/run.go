package replicator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/velosync/velosync/replicator/wire"
)

// pollEvery is how often Run looks whether another process has written to the file: one
// read of a counter in memory.
const pollEvery = 100 * time.Millisecond

// foldAfter is how long the vector indexes wait when rows came, so that rounds that follow
// each other go first.
const foldAfter = 10 * time.Millisecond

// Run syncs until ctx ends, then returns nil: at Wake, when another process has written,
// when the master has news, and otherwise as Options.Interval says. Between rounds it takes
// changed rows into the vector indexes of the file, a few at a time, and compares rows with
// the master as Options.DigestIdle says. It returns early only
// on an error that trying again can't mend, such as a token that was revoked.
func (r *Replicator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	// A space that nobody has pushed to has no events yet.
	listen := sync.OnceFunc(func() { wg.Go(func() { r.listen(ctx) }) })

	retry := backoff.NewExponentialBackOff() // jittered
	retry.InitialInterval, retry.MaxInterval = 250*time.Millisecond, time.Minute
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	idle := time.NewTimer(0)
	defer idle.Stop()
	var waiting time.Time     // until then the master is left alone
	var version, synced int64 // of the file: when it was polled, and as a round began
	due := true
	fold := time.NewTimer(0)
	defer fold.Stop()
	// Not at rounds, which an event begins on all devices at once: they would all ask at once.
	compare := time.NewTicker(r.o.DigestIdle)
	defer compare.Stop()
	if r.o.DigestEvery < 0 {
		compare.Stop()
	}
	for {
		if due && !time.Now().Before(waiting) {
			due = false
			fold.Reset(foldAfter)
			synced, _ = r.poll(synced)
			round, err := r.Sync(ctx)
			switch {
			case ctx.Err() != nil:
				return nil
			case permanent(err):
				return err
			case err != nil && round.Seen == 0: // a round that was complete is not tried again at once
				wait := max(retry.NextBackOff(), retryAfter(err))
				r.log.Log(ctx, levelOf(err), "sync failed, will retry", "err", err, "wait", wait)
				waiting, due = time.Now().Add(wait), true
			default:
				if err != nil {
					r.log.Warn("sync", "err", err)
				}
				listen()
				retry.Reset()
				idle.Reset(r.o.Interval)
			}
		}
		var rest <-chan time.Time
		if due {
			rest = time.After(time.Until(waiting))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
			due = due || r.committed(ctx, synced)
		case seq := <-r.remote: // it answers: no reason to wait longer
			// The round that was under way may have brought that seq, or made it.
			waiting, due = time.Time{}, due || r.status.behind(seq)
		case <-rest:
		case <-idle.C:
			due = due || !r.status.listening()
			idle.Reset(r.o.Interval)
		case <-poll.C:
			v, pending := r.poll(version)
			due = due || v != version && pending
			if v != version {
				fold.Reset(foldAfter)
			}
			version = v
		case <-compare.C:
			if !due && r.idle(ctx) > 0 { // due: offline, or just before a round
				fold.Reset(foldAfter)
			}
		case <-fold.C:
			// Half of the time is for others: while more rows come than that takes in, the
			// changed rows gather, and searches, which read all of them, fold as well.
			began := time.Now()
			if r.fold() {
				fold.Reset(max(foldAfter, time.Since(began)))
			}
		}
	}
}

// settle is how long a commit may take, from its hook on, until others see it; what takes
// longer is found by the poll.
const settle = 20 * time.Millisecond

// committed waits until the commit that woke Run can be seen: SQLite calls commit hooks
// before it commits, and a round that begins at once finds nothing to send. It reports
// whether the file has moved from a data version.
func (r *Replicator) committed(ctx context.Context, from int64) bool {
	began := time.Now()
	for wait := 20 * time.Microsecond; ; wait = min(2*wait, time.Millisecond) {
		if v, _ := r.poll(from); v != from {
			return true
		}
		if time.Since(began) > settle {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

// poll returns the file's data version, which moves when another connection commits, and
// whether something waits to be sent, which is looked for only when it has moved.
func (r *Replicator) poll(last int64) (version int64, pending bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return last, false
	}
	version, err := r.device.DataVersion()
	if err == nil && version != last {
		pending, err = r.device.Unsent()
	}
	if err != nil {
		r.log.Debug("poll", "err", err) // the next round will tell
	}
	return version, pending
}

// fold takes a few of the rows that changed into the vector indexes, and reports whether
// there are more.
func (r *Replicator) fold() (more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	more, err := r.device.Fold()
	if err != nil {
		r.log.Warn("vector index not folded: searches go on, more slowly", "err", err)
	}
	return r.o.Step("fold") == nil && more
}

// permanent reports whether trying again can't help.
func permanent(err error) bool {
	var p *wire.Problem
	if errors.Is(err, ErrClosed) {
		return true
	}
	if !errors.As(err, &p) || p.Temporary() || p.Code == "" {
		return false
	}
	switch p.Code {
	case wire.CodePage, wire.CodePart, wire.CodeTimeout, wire.CodeSchemaUnknown, wire.CodeForked, wire.CodeClash: // the next round begins anew
		return false
	}
	return true
}

func retryAfter(err error) time.Duration {
	var busy *busyError
	if errors.As(err, &busy) {
		return busy.wait
	}
	return 0
}

// listen follows the master's events, so that others' writes are pulled at once.
func (r *Replicator) listen(ctx context.Context) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 250*time.Millisecond, time.Minute
	for ctx.Err() == nil {
		began := time.Now()
		err := r.follow(ctx)
		r.status.setListening(false)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			retry.Reset()
		}
		wait := max(retry.NextBackOff(), retryAfter(err))
		r.log.Debug("event stream ended", "err", err, "wait", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// silence is how long an event stream may say nothing: masterd sends a comment every 15 s.
const silence = 50 * time.Second

// follow reads one event stream to its end.
func (r *Replicator) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	resp, err := r.client.request(ctx, http.MethodGet, "events", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	r.status.setListening(true)
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		watchdog.Reset(silence)
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var seq int64
		if _, err := fmt.Sscanf(strings.TrimSpace(data), `{"seq":%d}`, &seq); err != nil {
			return fmt.Errorf("event %.80q: %w", data, err)
		}
		if r.status.behind(seq) {
			select {
			case <-r.remote: // an older one, not looked at yet
			default:
			}
			r.remote <- seq // has room: nobody else sends
		}
	}
	return lines.Err()
}
