package replicator_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/velosync/velosync/capture"
	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/replicator"
)

// A crawl is a line on which each request's body takes its time.
type crawl time.Duration

func (c crawl) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r = r.Clone(r.Context())
		r.Body = &crawling{ReadCloser: r.Body, wait: time.Duration(c)}
	}
	return http.DefaultTransport.RoundTrip(r)
}

type crawling struct {
	io.ReadCloser
	wait time.Duration
	n    int
}

// Read sends the first byte at once and the rest later.
func (c *crawling) Read(b []byte) (int, error) {
	if c.n++; c.n == 1 {
		b = b[:min(1, len(b))]
	} else if c.n == 2 {
		time.Sleep(c.wait)
	}
	return c.ReadCloser.Read(b)
}

// What a push takes to come does not make its edits later: neither that of the parts before
// the last, nor that of the last one's body.
func TestSkew_slowPush(t *testing.T) {
	const slow = 900 * time.Millisecond
	for name, change := range map[string]func(o *replicator.Options){
		"a body": func(o *replicator.Options) { o.Transport = crawl(slow) },
		"parts":  func(o *replicator.Options) { o.Transport, o.Parts = crawl(slow), capture.Limits{Rows: 1} },
	} {
		t.Run(name, func(t *testing.T) {
			m := masterdtest.New(t, masterdtest.Options{})
			a, b := newDevice(t, m, "a", change), newDevice(t, m, "b", nil)
			b.exec(notes, `SELECT velosync_track('notes')`, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1)`)
			b.sync()
			a.sync()
			a.exec(`UPDATE notes SET title = 'of a'`)
			time.Sleep(slow / 2)
			b.exec(`UPDATE notes SET title = 'of b, later'`)
			b.sync()
			a.sync()
			a.want(`SELECT DISTINCT title FROM notes`, "of b, later")
		})
	}
}
