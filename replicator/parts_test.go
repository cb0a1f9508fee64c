package replicator_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/replicator"
)

// A stutterer is a network that delivers a number of pushes twice, and brings the second
// answer.
type stutterer struct {
	http http.Transport
	left int
}

func (s *stutterer) RoundTrip(r *http.Request) (*http.Response, error) {
	if again, err := r.GetBody(); err == nil && s.left > 0 && strings.HasSuffix(r.URL.Path, "/sync") {
		s.left--
		resp, err := s.http.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		r = r.Clone(r.Context())
		r.Body = again
	}
	return s.http.RoundTrip(r)
}

const threeNotes = `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1), ('z', 'rice', 'white', 1)`

// TestSync_lastPartComesTwice: the second copy of a push's last part is answered although the
// parts before it are used up, for the push was applied.
func TestSync_lastPartComesTwice(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	line := &stutterer{left: 3} // two parts, and the last one
	t.Cleanup(line.http.CloseIdleConnections)
	a := newDevice(t, m, "a", func(o *replicator.Options) { o.Transport, o.Parts = line, capture.Limits{Rows: 1} })
	a.exec(notes, trackNotes, threeNotes)
	id := a.rows(`SELECT velosync_device()`)
	if r := a.sync(); r.Tries != 1 || r.LostRows > 0 {
		t.Errorf("round: %+v, want one try, and no conflict", r)
	}
	a.want(`SELECT pending FROM velosync_status`, "0")
	a.want(`SELECT velosync_device()`, id)
	b := newDevice(t, m, "b", nil)
	b.sync()
	b.want(`SELECT * FROM notes ORDER BY id`, a.rows(`SELECT * FROM notes ORDER BY id`))
}

// TestSync_masterRestartsBetweenParts: what masterd had of the push is gone, so the push
// is sent again.
func TestSync_masterRestartsBetweenParts(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	restarts := 1
	a := newDevice(t, m, "a", func(o *replicator.Options) {
		o.Parts = capture.Limits{Rows: 1}
		o.Step = func(step string) error {
			if step == "push" && restarts > 0 {
				restarts--
				m.Reopen()
			}
			return nil
		}
	})
	a.exec(notes, trackNotes, threeNotes)
	if r := a.sync(); r.Tries != 2 || r.PushedRows != 3 {
		t.Errorf("round: %+v, want 3 rows in 2 tries", r)
	}
	a.want(`SELECT pending FROM velosync_status`, "0")
}
