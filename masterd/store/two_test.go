package store_test

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
)

// A two is two engines on one database, with a balancer that asks the other one each time.
type two struct {
	engines [2]store.Engine
	asked   atomic.Uint64
}

func (e *two) next() store.Engine { return e.engines[e.asked.Add(1)%2] }

func (e *two) Space(ctx context.Context, name string) (store.Space, error) {
	return e.both(func(x store.Engine) (store.Space, error) { return x.Space(ctx, name) })
}

func (e *two) Lookup(ctx context.Context, name string) (store.Space, error) {
	return e.both(func(x store.Engine) (store.Space, error) { return x.Lookup(ctx, name) })
}

func (e *two) both(open func(store.Engine) (store.Space, error)) (store.Space, error) {
	var s twoSpace
	for i := range e.engines {
		var err error
		if s.spaces[i], err = open(e.engines[i]); err != nil {
			return nil, err
		}
	}
	return &s, nil
}

func (e *two) Spaces(ctx context.Context) ([]string, error) { return e.next().Spaces(ctx) }

func (e *two) AddToken(ctx context.Context, hash [32]byte, t store.Token) error {
	return e.next().AddToken(ctx, hash, t)
}

func (e *two) FindToken(ctx context.Context, hash [32]byte) (store.Token, error) {
	return e.next().FindToken(ctx, hash)
}

func (e *two) Tokens(ctx context.Context) ([]store.Token, error) { return e.next().Tokens(ctx) }

func (e *two) RevokeToken(ctx context.Context, space, device string) error {
	return e.next().RevokeToken(ctx, space, device)
}

func (e *two) Ping(ctx context.Context) error { return e.next().Ping(ctx) }

func (e *two) Close() error { return errors.Join(e.engines[0].Close(), e.engines[1].Close()) }

type twoSpace struct {
	spaces [2]store.Space
	asked  atomic.Uint64
}

func (s *twoSpace) next() store.Space { return s.spaces[s.asked.Add(1)%2] }

func (s *twoSpace) Sync(ctx context.Context, owner store.Owner, last *change.Push, parts iter.Seq2[*change.Push, error]) (*change.Pull, error) {
	return s.next().Sync(ctx, owner, last, parts)
}

func (s *twoSpace) Ack(ctx context.Context, owner store.Owner, id change.DeviceID, seq change.Seq, lsn change.LSN) (change.Seq, change.LSN, error) {
	return s.next().Ack(ctx, owner, id, seq, lsn)
}

// Head asks the engine that is asked next, once it has heard of what the other one did.
func (s *twoSpace) Head() (change.Seq, <-chan struct{}) {
	next := s.spaces[(s.asked.Load()+1)%2]
	if _, err := next.Stats(context.Background()); err != nil {
		panic(err)
	}
	return next.Head()
}

func (s *twoSpace) Snapshot(ctx context.Context, schema [32]byte, page func(*change.Pull) error) (*store.Snapshot, error) {
	return s.next().Snapshot(ctx, schema, page)
}

func (s *twoSpace) Serve(ctx context.Context, owner store.Owner, id change.DeviceID, shot *store.Snapshot) error {
	return s.next().Serve(ctx, owner, id, shot)
}

// Stats adds up what each counts for itself.
func (s *twoSpace) Stats(ctx context.Context) (store.Stats, error) {
	a, err := s.spaces[0].Stats(ctx)
	if err != nil {
		return a, err
	}
	b, err := s.spaces[1].Stats(ctx)
	b.PushRows += a.PushRows
	b.PushDuplicates += a.PushDuplicates
	b.PullRows += a.PullRows
	b.EchoRows += a.EchoRows
	b.LostRows += a.LostRows
	b.RejectedRows += a.RejectedRows
	b.Digests += a.Digests
	b.Divergences += a.Divergences
	return b, err
}

func (s *twoSpace) Schema(ctx context.Context) (change.Schema, error) { return s.next().Schema(ctx) }
