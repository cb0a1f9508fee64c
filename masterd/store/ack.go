package store

import (
	"context"

	"github.com/velosync/velosync/capture/change"
)

// Ack implements Space. Of a device that never pushed it records nothing. The commit
// does not wait for the disk: a power cut may cost an ack, which the device's next one
// makes good.
func (s *space) Ack(ctx context.Context, owner Owner, id change.DeviceID, seq change.Seq, lsn change.LSN) (change.Seq, change.LSN, error) {
	var d device
	err := s.write(&job{ctx: ctx, do: func(t *tx) error {
		d = t.device(id)
		if err := d.check(owner); err != nil {
			return err
		}
		if d.site == 0 {
			return nil
		}
		acked, heard := max(d.acked, min(seq, d.limit(t.head))), max(d.heard, min(lsn, d.lsn))
		if acked != d.acked || heard != d.heard {
			d.acked, d.heard, d.contact = acked, heard, t.now
			if err := t.putDevice(&d); err != nil {
				return err
			}
		}
		return t.collect()
	}})
	if err != nil {
		return 0, 0, err
	}
	return d.acked, d.heard, nil
}
