package store

import (
	"context"
	"iter"

	"github.com/velosync/velosync/capture/change"
)

// A shared is a space that lies in a database. Each call first brings the space's file up to
// the database, so that a device finds what it did through another masterd, and is answered
// from the file.
type shared struct {
	*space
	origin *origin
}

var (
	_ Space = (*shared)(nil)
	_ V1    = (*shared)(nil)
)

// Sync implements Space. Errors of its own, beside those that the interface names, are a
// *LockedError, ErrClosed, an *UnavailableError and those of the database; after the last two the
// push may have been applied.
func (s *shared) Sync(ctx context.Context, owner Owner, last *change.Push, parts iter.Seq2[*change.Push, error]) (pull *change.Pull, err error) {
	defer unavailable(ctx, &err)
	if err := s.origin.look(ctx, last.Device); err != nil {
		return nil, err
	}
	before := s.space.device(last.Device)
	if pull, err = s.space.Sync(ctx, owner, last, parts); err != nil {
		return nil, err
	}
	if err := s.origin.told(ctx, before); err != nil {
		return nil, err
	}
	return pull, nil
}

// Ack implements Space.
func (s *shared) Ack(ctx context.Context, owner Owner, id change.DeviceID, seq change.Seq, lsn change.LSN) (_ change.Seq, _ change.LSN, err error) {
	defer unavailable(ctx, &err)
	if err := s.origin.look(ctx, id); err != nil {
		return 0, 0, err
	}
	return s.space.Ack(ctx, owner, id, seq, lsn)
}

// Snapshot implements Space.
func (s *shared) Snapshot(ctx context.Context, schema [32]byte, page func(*change.Pull) error) (_ *Snapshot, err error) {
	defer unavailable(ctx, &err)
	if err := s.origin.look(ctx, change.DeviceID{}); err != nil {
		return nil, err
	}
	return s.space.Snapshot(ctx, schema, page)
}

// Serve implements Space.
func (s *shared) Serve(ctx context.Context, owner Owner, id change.DeviceID, shot *Snapshot) (err error) {
	defer unavailable(ctx, &err)
	if err := s.origin.look(ctx, id); err != nil {
		return err
	}
	before := s.space.device(id)
	if err := s.space.Serve(ctx, owner, id, shot); err != nil {
		return err
	}
	return s.origin.told(ctx, before)
}

// Stats implements Space.
func (s *shared) Stats(ctx context.Context) (_ Stats, err error) {
	defer unavailable(ctx, &err)
	if err := s.origin.look(ctx, change.DeviceID{}); err != nil {
		return Stats{}, err
	}
	return s.space.Stats(ctx)
}

// Schema implements Space.
func (s *shared) Schema(ctx context.Context) (_ change.Schema, err error) {
	defer unavailable(ctx, &err)
	if err := s.origin.look(ctx, change.DeviceID{}); err != nil {
		return nil, err
	}
	return s.space.Schema(ctx)
}

// SyncV1 implements V1.
func (s *shared) SyncV1(ctx context.Context, owner Owner, push *V1Push) (_ *V1Answer, err error) {
	defer unavailable(ctx, &err)
	if err := s.origin.look(ctx, V1Device(push.Device)); err != nil {
		return nil, err
	}
	return s.space.SyncV1(ctx, owner, push)
}

// AckV1 implements V1.
func (s *shared) AckV1(ctx context.Context, owner Owner, device string, seq change.Seq, lsn change.LSN) (_ change.Seq, _ change.LSN, err error) {
	defer unavailable(ctx, &err)
	if err := s.origin.look(ctx, V1Device(device)); err != nil {
		return 0, 0, err
	}
	return s.space.AckV1(ctx, owner, device, seq, lsn)
}

// StatsV1 implements V1.
func (s *shared) StatsV1(ctx context.Context) (_ *V1Stats, err error) {
	defer unavailable(ctx, &err)
	if err := s.origin.look(ctx, change.DeviceID{}); err != nil {
		return nil, err
	}
	return s.space.StatsV1(ctx)
}
