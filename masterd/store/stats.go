package store

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"
)

// Stats implements Space. It reads counters, no tables.
func (s *space) Stats(context.Context) (Stats, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return Stats{}, err
	}
	st := Stats{
		Space:          s.name,
		Bytes:          info.Size(),
		PushRows:       s.pushRows.Load(),
		PushDuplicates: s.pushDuplicates.Load(),
		PullRows:       s.pullRows.Load(),
		EchoRows:       s.echoRows.Load(),
		LostRows:       s.lostRows.Load(),
		RejectedRows:   s.rejectedRows.Load(),
		Digests:        s.digests.Load(),
		Divergences:    s.divergences.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Head, st.Rows, st.Tombstones, st.Conflicts = s.state.head, s.state.live, s.state.tombstones, s.state.conflicts
	for _, d := range s.devices {
		st.Devices = append(st.Devices, DeviceStats{ID: d.id, Owner: d.owner, LSN: d.lsn, Acked: d.acked, LastPut: time.UnixMilli(d.put)})
	}
	slices.SortFunc(st.Devices, func(a, b DeviceStats) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	return st, nil
}
