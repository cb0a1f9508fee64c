package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/velosync/velosync/masterd/store"
)

// health answers GET /health: the process runs. The keys are those of protocol v1.
func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	return s.json(w, map[string]any{"status": "ok", "protocol_version": 1, "time": float64(time.Now().UnixMicro()) / 1e6})
}

// ready answers GET /ready: a request would be served.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	select {
	case <-s.closing:
		return errClosed
	default:
	}
	if err := errors.Join(s.staging.ready(), s.engine.Ping(ctx)); err != nil {
		s.log.Warn("not ready", "err", err)
		return busy(http.StatusServiceUnavailable, 5*time.Second, "the store does not answer; the log has the reason")
	}
	return s.json(w, map[string]any{"status": "ok"})
}

// spaceStats is store.Stats as /stats prints it.
type spaceStats struct {
	Space          string        `json:"space"`
	Head           int64         `json:"head"`
	Rows           int64         `json:"rows"`
	Tombstones     int64         `json:"tombstones"`
	Conflicts      int64         `json:"conflicts"`
	Bytes          int64         `json:"bytes"`
	PushRows       int64         `json:"push_rows"`
	PushDuplicates int64         `json:"push_duplicates"`
	PullRows       int64         `json:"pull_rows"`
	EchoRows       int64         `json:"echo_rows"`
	LostRows       int64         `json:"lost_rows"`
	RejectedRows   int64         `json:"rejected_rows"`
	Digests        int64         `json:"digests"`
	Divergences    int64         `json:"divergences"`
	Devices        []deviceStats `json:"devices"`
}

type deviceStats struct {
	Device  string `json:"device"`
	Owner   string `json:"owner,omitempty"`
	LSN     int64  `json:"lsn"`
	Acked   int64  `json:"acked"`
	LastPut string `json:"last_put,omitempty"` // RFC 3339
}

// stats answers GET /stats: what the token's space holds; without tokens, every space.
func (s *Server) stats(w *response, r *http.Request, c caller) error {
	ctx, cancel := context.WithTimeout(r.Context(), s.o.RequestTimeout)
	defer cancel()
	names := []string{c.space}
	if s.o.Insecure {
		var err error
		if names, err = s.engine.Spaces(ctx); err != nil {
			return fmt.Errorf("list spaces: %w", err)
		}
	}
	all, err := s.spaceStats(ctx, names)
	if err != nil {
		return err
	}
	spaces := make([]spaceStats, 0, len(all)) // [] where there is none, not null
	answer := map[string]any{"event_streams": s.streams.count()}
	if s.o.V1 != nil && (s.o.Insecure || c.space == V1Space) {
		addV1(answer, store.Stats{})
	}
	for _, st := range all {
		spaces = append(spaces, printed(st))
		if s.o.V1 != nil && st.Space == V1Space {
			addV1(answer, st)
		}
	}
	if v1, ok := s.o.V1.(v1Stats); ok && (s.o.Insecure || c.space == V1Space) {
		own, err := v1.Stats(ctx)
		if err != nil {
			return err
		}
		maps.Copy(answer, own)
	}
	answer["spaces"] = spaces
	return s.json(w, answer)
}

// spaceStats reads the stats of spaces; one that does not exist (yet) is left out.
func (s *Server) spaceStats(ctx context.Context, names []string) ([]store.Stats, error) {
	var all []store.Stats
	for _, name := range names {
		space, err := s.engine.Lookup(ctx, name)
		if errors.Is(err, store.ErrNoSpace) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open space %q: %w", name, err)
		}
		st, err := space.Stats(ctx)
		if err != nil {
			return nil, fmt.Errorf("stats of space %q: %w", name, err)
		}
		st.Space = name
		all = append(all, st)
	}
	return all, nil
}

func printed(st store.Stats) spaceStats {
	p := spaceStats{
		Space: st.Space, Head: int64(st.Head), Rows: st.Rows, Tombstones: st.Tombstones, Conflicts: st.Conflicts, Bytes: st.Bytes,
		PushRows: st.PushRows, PushDuplicates: st.PushDuplicates, PullRows: st.PullRows, EchoRows: st.EchoRows,
		LostRows: st.LostRows, RejectedRows: st.RejectedRows, Digests: st.Digests, Divergences: st.Divergences,
		Devices: make([]deviceStats, 0, len(st.Devices)),
	}
	for _, d := range st.Devices {
		o := deviceStats{Device: d.ID.String(), Owner: string(d.Owner), LSN: int64(d.LSN), Acked: int64(d.Acked)}
		if !d.LastPut.IsZero() {
			o.LastPut = d.LastPut.UTC().Format(time.RFC3339)
		}
		p.Devices = append(p.Devices, o)
	}
	return p
}

// A v1Stats is an Options.V1 that knows its clients by their own names.
type v1Stats interface {
	// Stats returns what /stats says in the keys of protocol v1.
	Stats(context.Context) (map[string]any, error)
}

// addV1 adds the keys of protocol v1, as far as the space knows them.
func addV1(answer map[string]any, st store.Stats) {
	devices := make([]map[string]any, 0, len(st.Devices))
	for _, d := range st.Devices {
		updated := 0.0
		if !d.LastPut.IsZero() {
			updated = float64(d.LastPut.UnixMilli()) / 1e3
		}
		devices = append(devices, map[string]any{
			"device_id":             d.ID.String(),
			"last_acked_client_lsn": d.LSN,
			"last_acked_server_seq": d.Acked,
			"updated_at":            updated,
		})
	}
	answer["live_vectors"] = st.Rows
	answer["tombstones"] = st.Tombstones
	answer["server_seq"] = st.Head
	answer["devices"] = devices
}

// json sends v.
func (s *Server) json(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return s.write(w.(*response), http.StatusOK, "application/json", append(body, '\n'))
}
