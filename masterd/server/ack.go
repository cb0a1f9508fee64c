package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator/wire"
)

// maxAck is the most bytes of an ack's body, which has about 60.
const maxAck = 4 << 10

// ack answers POST /v1/{space}/ack: it records what the device has written down.
func (s *Server) ack(w *response, r *http.Request, c caller) error {
	ctx, cancel := context.WithTimeout(r.Context(), s.o.RequestTimeout)
	defer cancel()
	body, done, err := s.read(ctx, w, r, c, maxAck)
	if err != nil {
		return err
	}
	defer done()
	a, err := wire.DecodeAck(body, s.o.Limits)
	if err != nil {
		return err
	}
	w.device = a.Device.String()
	space, err := s.space(ctx, c)
	if err != nil {
		return err
	}
	seq, lsn, err := space.Ack(ctx, c.owner, a.Device, a.Seq, a.LSN)
	if err != nil {
		return fmt.Errorf("ack device %v: %w", a.Device, err)
	}
	reply, err := wire.EncodeAckReply(wire.AckReply{Seq: seq, LSN: lsn})
	if err != nil {
		return fmt.Errorf("encode ack reply: %w", internal{err})
	}
	s.log.Debug("ack", "space", c.space, "device", w.device, "seq", seq, "lsn", lsn)
	return s.send(w, reply)
}

// space opens the caller's space: one that a token is for is made if need be, others
// must exist.
func (s *Server) space(ctx context.Context, c caller) (store.Space, error) {
	open := s.engine.Space
	if s.o.Insecure {
		open = s.engine.Lookup
	}
	space, err := open(ctx, c.space)
	if err != nil {
		return nil, fmt.Errorf("open space %q: %w", c.space, err)
	}
	return space, nil
}
