package replicator_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
)

var errCut = errors.New("line cut")

// quiet is for tests with more rounds than anyone reads.
var quiet = slog.New(slog.DiscardHandler)

// The tests named TestScenario_NN are what any two-way sync must pass, by number: order
// 1-8, conflicts 9-18, values 19-20, capture 21-25, schema 26-28, lifecycle 29-36, scale
// 37-42, and what users of other systems met 43-50. Each runs real files, the driver's
// connections, and the replicator over HTTP to a real masterd.

// sized is how many of something a test takes: few in make test, all of them in make soak.
func sized(few, all int) int {
	if os.Getenv("VELOSYNC_FULL") != "" {
		return all
	}
	return few
}

// content returns every row of the application's tables, one line a row, sorted: each
// value with its storage class and every bit. Generated columns are read too.
func content(t *testing.T, db *sql.DB) string {
	t.Helper()
	ctx := context.Background()
	var lines []string
	query := func(q string, row func([]any)) {
		t.Helper()
		rows, err := db.QueryContext(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		cols, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		v, p := make([]any, len(cols)), make([]any, len(cols))
		for i := range v {
			p[i] = &v[i]
		}
		for rows.Next() {
			if err := rows.Scan(p...); err != nil {
				t.Fatal(err)
			}
			row(v)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	columns := map[string][]string{}
	// The plus keeps the connection from reading a column by its declared type.
	query(`SELECT +s.name, '+"' || replace(c.name, '"', '""') || '"' FROM sqlite_schema s JOIN pragma_table_xinfo(s.name) c
		WHERE s.type = 'table' AND s.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND s.name NOT LIKE '\_velosync\_%' ESCAPE '\' AND c.hidden <> 1 ORDER BY s.name, c.name`,
		func(v []any) { columns[v[0].(string)] = append(columns[v[0].(string)], v[1].(string)) })
	for table, cols := range columns {
		query(`SELECT `+strings.Join(cols, ", ")+` FROM "`+strings.ReplaceAll(table, `"`, `""`)+`"`, func(v []any) {
			line := table
			for _, x := range v {
				line += " " + exactly(x)
			}
			lines = append(lines, line)
		})
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// exactly shows a value with its storage class and every bit, long ones by their hash.
func exactly(v any) string {
	const long = 1 << 10
	if s, ok := v.(string); ok && len(s) > long {
		return fmt.Sprintf("t %d bytes %x", len(s), sha256.Sum256([]byte(s)))
	}
	if b, ok := v.([]byte); ok && len(b) > long {
		return fmt.Sprintf("b %d bytes %x", len(b), sha256.Sum256(b))
	}
	switch v := v.(type) {
	case nil:
		return "null"
	case int64:
		return fmt.Sprint("i", v)
	case float64:
		return fmt.Sprintf("r%016x(%v)", math.Float64bits(v), v)
	case string:
		return fmt.Sprintf("t%q", v)
	case []byte:
		return fmt.Sprintf("b%x", v)
	}
	return fmt.Sprintf("%T %v", v, v)
}

// masterDB opens the master's file of the space, to be read.
func masterDB(t *testing.T, m *masterdtest.Master) *sql.DB {
	t.Helper()
	db, err := sql.Open("velosync", "file:"+filepath.Join(m.Dir, "spaces", m.Space+".db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func masterContent(t *testing.T, m *masterdtest.Master) string {
	t.Helper()
	db := masterDB(t, m)
	defer db.Close()
	return content(t, db)
}

// settled syncs the devices in turn until none has anything to send or fetch, which may
// take few turns, and checks that master and devices hold the same: tables equal in every
// bit, queues empty, nothing parked.
func settled(t *testing.T, m *masterdtest.Master, devices ...*device) {
	t.Helper()
	const turns = 4
	for turn := 0; ; turn++ {
		work := 0
		for _, d := range devices {
			r := d.sync()
			work += r.PushedRows + r.PulledRows
		}
		if work == 0 {
			break
		}
		if turn == turns {
			t.Fatalf("%d turns, and %d rows still move", turns, work)
		}
	}
	same(t, m, devices...)
}

// same checks that master and devices hold the same, and have nothing to do.
func same(t *testing.T, m *masterdtest.Master, devices ...*device) {
	t.Helper()
	want := masterContent(t, m)
	for _, d := range devices {
		if got := content(t, d.db); got != want {
			t.Errorf("%s and the master differ: %s", d.o.Name, firstDifference(got, want))
		}
		d.want(`SELECT pending, parked, coalesce(last_error, '') FROM velosync_status`, "0 0 ")
	}
}

// firstDifference shows the first line that two sorted texts do not share.
func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		a, b := "nothing", "nothing"
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return fmt.Sprintf("%d lines and %d, at line %d\n  %.300s\n  %.300s", len(g), len(w), i+1, a, b)
		}
	}
	return "no line differs"
}

// fails syncs, and returns the error that there must be.
func (d *device) fails() error {
	d.t.Helper()
	_, err := d.r.Sync(context.Background())
	if err == nil {
		d.t.Fatalf("sync %s: no error", d.o.Name)
	}
	return err
}

// called gives the file an id of its own choice, so that the order among devices is known.
// It has not synced yet.
func (d *device) called(n byte) *device {
	d.exec(fmt.Sprintf(`UPDATE _velosync_state SET device = x'%032x'`, n))
	return d
}

// A tape is a network that keeps what went over it.
type tape struct {
	http  http.Transport
	mu    sync.Mutex
	calls []call
	down  bool // requests are kept and not delivered
}

// A call is a request as it was sent, and its answer.
type call struct {
	url    string
	header http.Header
	body   []byte
	status int
	answer []byte
}

func newTape(t *testing.T) *tape {
	p := &tape{}
	t.Cleanup(p.http.CloseIdleConnections)
	return p
}

func (p *tape) use(o *replicator.Options) { o.Transport = p }

func (p *tape) RoundTrip(r *http.Request) (*http.Response, error) {
	c := call{url: r.URL.String(), header: r.Header.Clone()}
	if r.Body != nil {
		var err error
		if c.body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(c.body))
	}
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		p.keep(c)
		return nil, errCut
	}
	resp, err := p.http.RoundTrip(r)
	if err != nil {
		p.keep(c)
		return nil, err
	}
	defer resp.Body.Close()
	c.status = resp.StatusCode
	if c.answer, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	p.keep(c)
	resp.Body = io.NopCloser(bytes.NewReader(c.answer))
	return resp, nil
}

func (p *tape) keep(c call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, c)
}

// take returns the calls of one kind, "sync" or "ack", since the last take, and forgets all.
func (p *tape) take(kind string) []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []call
	for _, c := range p.calls {
		if strings.HasSuffix(c.url, "/"+kind) {
			list = append(list, c)
		}
	}
	p.calls = nil
	return list
}

// again delivers a call once more and returns the status and the body of the answer.
func (p *tape) again(t *testing.T, c call) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, c.url, bytes.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = c.header.Clone()
	resp, err := p.http.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// deviceStats returns what the master keeps of a device.
func deviceStats(t *testing.T, m *masterdtest.Master, d *device) store.DeviceStats {
	t.Helper()
	for _, s := range spaceStats(t, m).Devices {
		if s.ID.String() == d.id() {
			return s
		}
	}
	t.Fatalf("the master does not know %s", d.o.Name)
	return store.DeviceStats{}
}

func sortedLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
