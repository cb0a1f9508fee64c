package replicator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/replicator/wire"
)

// A cuttingLine loses each request of a round but the first once: on the way there, on the
// way back, or in a proxy that answers in the master's place.
type cuttingLine struct {
	http http.Transport

	mu       sync.Mutex
	seen     map[string]bool // parts and pages
	requests int
	lost     [3]int
}

func (l *cuttingLine) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/sync") {
		return l.http.RoundTrip(r)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	p, err := wire.DecodePush(b, wire.Limits{})
	if err != nil {
		return nil, err
	}
	name := fmt.Sprint(p.Part, p.Page)
	again := l.seen[name]
	if l.seen[name] = true; again || len(l.seen) == 1 {
		return l.http.RoundTrip(r)
	}
	way := len(l.seen) % len(l.lost)
	l.lost[way]++
	if way == 0 {
		return nil, errors.New("the request is lost")
	}
	resp, err := l.http.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if way == 1 {
		return nil, errors.New("the answer is lost")
	}
	return &http.Response{StatusCode: http.StatusGatewayTimeout, Header: make(http.Header), Body: io.NopCloser(strings.NewReader("no answer in time"))}, nil
}

// TestRetry: a line that loses each request once costs a push and a pull those requests,
// and nothing is sent from the start again.
func TestRetry(t *testing.T) {
	for parts := 9; parts < 12; parts++ { // the last is lost in each of the three ways
		t.Run(fmt.Sprint(parts, " parts"), func(t *testing.T) {
			m := masterdtest.New(t, masterdtest.Options{Store: store.Options{PageRows: 10, SnapshotRows: 1e6}})
			var lines [2]*cuttingLine
			var devices [2]*device
			for i := range devices {
				lines[i] = &cuttingLine{seen: make(map[string]bool)}
				devices[i] = newDevice(t, m, fmt.Sprint("d", i), func(o *replicator.Options) {
					o.Transport, o.Parts, o.Retry = lines[i], capture.Limits{Rows: 10}, replicator.Retry{Times: 1, Pause: time.Millisecond}
				})
			}
			a, b := devices[0], devices[1]
			a.exec(notes, trackNotes, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO notes SELECT 'k' || i, 't' || i, 'b', i FROM n`, 10*parts))
			if r := a.sync(); r.Tries != 1 || r.PushedRows != 10*parts {
				t.Errorf("%+v: want %d rows pushed at the first try", r, 10*parts)
			}
			if got, want := lines[0].requests, 2*parts-1; got != want {
				t.Errorf("%d requests of the push, want %d: each part but the first twice", got, want)
			}
			if st := spaceStats(t, m); st.PushRows-st.PushDuplicates != int64(10*parts) || st.PushDuplicates > 10 {
				t.Errorf("the master took %d rows, %d of them twice, want %d, and at most the last part twice", st.PushRows, st.PushDuplicates, 10*parts)
			}
			if r := b.sync(); r.Tries != 1 || r.PulledRows != 10*parts || r.Pages != parts {
				t.Errorf("%+v: want %d rows in %d pages at the first try", r, 10*parts, parts)
			}
			if got, want := lines[1].requests, 2*parts-1; got != want {
				t.Errorf("%d requests of the pull, want %d: each page but the first twice", got, want)
			}
			b.want(allNotes, a.rows(allNotes))
			for i, l := range lines {
				if min(l.lost[0], l.lost[1], l.lost[2]) == 0 {
					t.Errorf("line %d lost %v requests: want some in each way", i, l.lost)
				}
			}
			a.want(`SELECT pending FROM velosync_status`, "0")
		})
	}
}

// TestRetry_ends: a line that stays dead ends the round, at once where it was dead as the
// round began.
func TestRetry_ends(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	line := &switchboard{}
	a := newDevice(t, m, "a", func(o *replicator.Options) {
		o.Transport, o.Parts, o.Retry = line, capture.Limits{Rows: 1}, replicator.Retry{Times: 3, Pause: time.Millisecond}
	})
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1), ('z', 'pie', 'cold', 1)`)
	for dead, want := range []int{1, 1 + 4, 2 + 4} {
		requests := 0
		line.set(func(*http.Request) error {
			if requests++; requests > dead {
				return errors.New("no line")
			}
			return nil
		}, nil)
		if _, err := a.r.Sync(context.Background()); !errors.Is(err, replicator.ErrOffline) {
			t.Errorf("dead after %d requests: %v, want ErrOffline", dead, err)
		}
		if requests != want {
			t.Errorf("dead after %d requests: %d were made, want %d", dead, requests, want)
		}
	}
	line.set(nil, nil)
	a.sync()
	a.want(`SELECT pending FROM velosync_status`, "0")
}

// TestRetry_maybeApplied: where a push was applied, its answer lost, and the line is dead as
// it is sent again, the file remembers that push: else it would be taken for a copy.
func TestRetry_maybeApplied(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	line := &switchboard{}
	a := newDevice(t, m, "a", func(o *replicator.Options) {
		o.Transport, o.Parts, o.Retry = line, capture.Limits{Rows: 1}, replicator.Retry{Times: 1, Pause: time.Millisecond}
	})
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1)`)
	requests := 0
	line.set(func(*http.Request) error {
		if requests++; requests > 2 {
			return &net.OpError{Op: "dial", Err: errors.New("no line")}
		}
		return nil
	}, func(*http.Request) error {
		if requests == 2 {
			return errors.New("the answer is lost")
		}
		return nil
	})
	id := a.id()
	if _, err := a.r.Sync(context.Background()); !errors.Is(err, replicator.ErrOffline) || requests != 3 {
		t.Fatalf("%v after %d requests, want ErrOffline after 3", err, requests)
	}
	line.set(nil, nil)
	if r := a.sync(); r.Tries != 1 || a.id() != id {
		t.Errorf("%+v, device %s: want one try as %s", r, a.id(), id)
	}
}
