package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
)

// A sharedStaging keeps the parts of long pushes in the engine, so that a push whose parts
// come to several masterds comes through. Nothing is taken out of there for a request: one
// whose parts go away under it is tried again by its device.
type sharedStaging struct {
	o      Options
	engine store.Stager

	mu    sync.Mutex
	swept time.Time
}

// dropTime is how long a request waits for parts to be dropped that it has used.
const dropTime = 10 * time.Second

func (k uploadKey) sender() store.Sender {
	return store.Sender{Space: k.space, Owner: k.owner, Device: k.device}
}

// find returns the parts of a push; those of another are dropped, for the device has gone on.
func (g *sharedStaging) find(ctx context.Context, k uploadKey, name change.Name) (*upload, error) {
	list, err := g.engine.Parts(ctx, k.sender())
	if err != nil {
		return nil, err
	}
	u := &upload{key: k, name: name}
	for i, p := range list {
		if p.Push != name || p.Number != i {
			return &upload{key: k, name: name}, g.engine.DropParts(ctx, k.sender(), change.Name{})
		}
		if i == 0 {
			u.seen, u.schema = p.Seen, p.Schema
		}
		u.parts = append(u.parts, part{size: p.Size, rows: p.Rows, sum: p.Sum})
	}
	return u, nil
}

func (g *sharedStaging) add(ctx context.Context, k uploadKey, p *change.Push, body []byte) error {
	g.sweep(ctx)
	name, sum := p.Names[len(p.Names)-1], sha256.Sum256(body)
	u, err := g.find(ctx, k, name)
	if err != nil {
		return err
	}
	if err := u.check(p); err != nil {
		return err
	}
	if p.Part < len(u.parts) && u.parts[p.Part].sum == sum {
		return nil // its answer was lost
	}
	if p.Part >= g.o.MaxParts {
		return errors.Join(tooManyParts(g.o), g.engine.DropParts(ctx, k.sender(), name))
	}
	err = g.engine.PutPart(ctx, k.sender(), store.Part{Push: name, Number: p.Part, Seen: p.Seen, Schema: p.Schema,
		Rows: rowsOf(p.Blocks), Sum: sum, Came: g.o.Now()}, body, store.PartLimits{Owner: g.o.MaxPushBytes, Total: g.o.MaxStagedBytes})
	var full *store.StagedError
	if !errors.As(err, &full) {
		return err
	}
	err = tooManyStaged(g.o, full.Total)
	if full.Owner+charge(int64(len(body))) > g.o.MaxPushBytes {
		err = tooManyBytes(g.o)
	}
	return errors.Join(err, g.engine.DropParts(ctx, k.sender(), name))
}

func (g *sharedStaging) take(ctx context.Context, k uploadKey, last *change.Push) (*upload, error) {
	if last.Paging {
		return nil, nil
	}
	if last.Part == 0 && len(last.Blocks) == 0 {
		return nil, nil // brings nothing: the parts of an earlier push expire
	}
	if last.Part == 0 {
		return nil, g.engine.DropParts(ctx, k.sender(), change.Name{})
	}
	u, err := g.find(ctx, k, last.Names[len(last.Names)-1])
	if err != nil {
		return nil, err
	}
	if err := u.check(last); err != nil {
		return nil, err
	}
	u.parts = u.parts[:last.Part]
	return u, nil
}

func (g *sharedStaging) put(*upload) {}

func (g *sharedStaging) drop(u *upload) {
	if u == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dropTime) // the request may have ended
	defer cancel()
	if err := g.engine.DropParts(ctx, u.key.sender(), u.name); err != nil {
		g.o.Log.Warn("staged parts not dropped, they expire", "space", u.key.space, "device", u.key.device, "err", err)
	}
}

// sweep drops the parts of pushes whose next part did not come, a few times in their life.
func (g *sharedStaging) sweep(ctx context.Context) {
	now := g.o.Now()
	g.mu.Lock()
	due := now.Sub(g.swept) >= g.o.PartExpiry/4
	if due {
		g.swept = now
	}
	g.mu.Unlock()
	if !due {
		return
	}
	n, err := g.engine.ExpireParts(ctx, now.Add(-g.o.PartExpiry))
	if n > 0 || err != nil {
		g.o.Log.Info("staged parts expired", "parts", n, "err", err)
	}
}

// parts yields the parts of u, read anew each time, then last.
func (g *sharedStaging) parts(ctx context.Context, u *upload, last *change.Push, l wire.Limits) iter.Seq2[*change.Push, error] {
	return func(yield func(*change.Push, error) bool) {
		for i := range u.count() {
			p, err := g.decode(ctx, u, i, l)
			if err != nil {
				yield(nil, fmt.Errorf("staged part %d: %w", i, err))
				return
			}
			if !yield(p, nil) {
				return
			}
		}
		yield(last, nil)
	}
}

func (g *sharedStaging) decode(ctx context.Context, u *upload, i int, l wire.Limits) (*change.Push, error) {
	body, err := g.engine.PartBody(ctx, u.key.sender(), i)
	if errors.Is(err, store.ErrNoPart) || err == nil && sha256.Sum256(body) != u.parts[i].sum {
		return nil, as(http.StatusConflict, codePart, "part %d was there when the last one came, and is gone: send the push again from part 0", i)
	}
	if err != nil {
		return nil, err
	}
	p, err := wire.DecodePush(body, l)
	if err != nil {
		return nil, internal{err}
	}
	return p, nil
}

func (g *sharedStaging) bytes() int64 { return 0 } // of the database, not of this process
func (g *sharedStaging) ready() error { return nil }
func (g *sharedStaging) close() error { return nil }
