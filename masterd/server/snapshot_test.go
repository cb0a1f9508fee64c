package server_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/replicator/wire"
)

// A source is a space with rows, and a device that wrote them.
type source struct {
	t     *testing.T
	m     *masterdtest.Master
	space string
	db    *sql.DB
	r     *replicator.Replicator
	line  *http.Transport
}

func newSource(t *testing.T, m *masterdtest.Master, space string, rows int) *source {
	t.Helper()
	s := &source{t: t, m: m, space: space, line: &http.Transport{DisableKeepAlives: true}}
	file := filepath.Join(t.TempDir(), "source.db")
	var err error
	if s.db, err = sql.Open("velosync", file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	s.exec(`CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, text TEXT); SELECT velosync_track('notes')`)
	s.exec(fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO notes SELECT 'k' || i, hex(randomblob(200)) FROM n`, rows))
	if s.r, err = replicator.New(file, replicator.Options{Master: m.URL, Space: space, Token: m.TokenFor(space, "source"), Transport: s.line}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.r.Close() })
	s.sync()
	return s
}

func (s *source) exec(script string) {
	s.t.Helper()
	if _, err := s.db.Exec(script); err != nil {
		s.t.Fatal(err)
	}
}

func (s *source) sync() {
	s.t.Helper()
	if _, err := s.r.Sync(context.Background()); err != nil {
		s.t.Fatal(err)
	}
}

// query names the device and its schema, as it asks for a snapshot.
func (s *source) query() string {
	s.t.Helper()
	var device string
	if err := s.db.QueryRow(`SELECT velosync_device()`).Scan(&device); err != nil {
		s.t.Fatal(err)
	}
	return "device=" + device + "&schema=" + strings.Repeat("0", 64) // a schema of no tables
}

type got struct {
	status int
	header http.Header
	body   []byte
}

func (g got) code(t *testing.T) string {
	t.Helper()
	var p wire.Problem
	if err := json.Unmarshal(g.body, &p); err != nil {
		t.Fatalf("status %d, body %.100q: %v", g.status, g.body, err)
	}
	return p.Code
}

func (s *source) request(query, token string, header ...string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequest("GET", s.m.URL+"/v1/"+s.space+"/snapshot?"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.line.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

func (s *source) get(query, token string, header ...string) got {
	s.t.Helper()
	resp := s.request(query, token, header...)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return got{resp.StatusCode, resp.Header, body}
}

func (s *source) token() string { return s.m.TokenFor(s.space, "source") }

// files lists the snapshots on the disk, and their bytes.
func files(t *testing.T, m *masterdtest.Master) (n int, bytes int64) {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(m.Dir, "snapshots"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		n, bytes = n+1, bytes+info.Size()
	}
	return n, bytes
}

func TestSnapshot_pieces(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Store: store.Options{PageRows: 30}})
	s := newSource(t, m, m.Space, 100)
	whole := s.get(s.query(), s.token())
	etag := whole.header.Get("ETag")
	if whole.status != 200 || etag == "" || whole.header.Get("Content-Type") != wire.SnapshotType || whole.header.Get("Accept-Ranges") != "bytes" {
		t.Fatalf("status %d, header %v", whole.status, whole.header)
	}
	var sum wire.SnapshotSum
	rows, records := 0, 0
	for r := bytes.NewReader(whole.body); ; records++ {
		record, err := sum.ReadRecord(r, nil, wire.Limits{})
		if err == io.EOF {
			if r.Len() > 0 {
				t.Errorf("%d bytes follow the end", r.Len())
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		pull, err := wire.DecodePull(record.Body(), wire.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range pull.Blocks {
			rows += len(b.Keys)
		}
		if !pull.Full || pull.Done || pull.To != 100 || (pull.Tables != nil) != (records == 0) {
			t.Errorf("record %d: %+v", records, pull)
		}
	}
	if rows != 100 || records != 4 || sum.ETag() != etag {
		t.Errorf("%d rows in %d records, ETag %s, want %s", rows, records, sum.ETag(), etag)
	}
	cut := len(whole.body) / 3
	rest := s.get(s.query(), s.token(), "Range", fmt.Sprintf("bytes=%d-", cut), "If-Range", etag)
	if rest.status != 206 || !bytes.Equal(append(whole.body[:cut:cut], rest.body...), whole.body) {
		t.Errorf("the rest: status %d, %d bytes of %d from %d on", rest.status, len(rest.body), len(whole.body), cut)
	}
	if g := s.get(s.query(), s.token(), "Range", fmt.Sprintf("bytes=%d-", cut), "If-Range", `"another"`); g.status != 200 || !bytes.Equal(g.body, whole.body) {
		t.Errorf("the rest of another: status %d, %d bytes", g.status, len(g.body))
	}
	// A few rows change: a new device gets the same file, one that has a part of it too. Many
	// change: only the latter does.
	s.exec(`UPDATE notes SET text = 'new' WHERE id = 'k1'`)
	s.sync()
	if g := s.get(s.query(), s.token()); !bytes.Equal(g.body, whole.body) {
		t.Error("another file, one change later")
	}
	s.exec(`UPDATE notes SET text = 'newer'`)
	s.sync()
	if g := s.get(s.query(), s.token(), "Range", fmt.Sprintf("bytes=%d-", cut), "If-Range", etag); g.status != 206 || !bytes.Equal(g.body, rest.body) {
		t.Errorf("the rest, 101 changes later: status %d, %d bytes", g.status, len(g.body))
	}
	if g := s.get(s.query(), s.token()); g.header.Get("ETag") == etag {
		t.Error("the same file, 101 changes later")
	}
	// What is the same has the same name after a restart: a download goes on.
	now := s.get(s.query(), s.token())
	m.Reopen()
	if n, _ := files(t, m); n != 0 {
		t.Errorf("%d files are there after a restart", n)
	}
	if g := s.get(s.query(), s.token(), "Range", "bytes=40-", "If-Range", now.header.Get("ETag")); g.status != 206 || !bytes.Equal(g.body, now.body[40:]) {
		t.Errorf("the rest after a restart: status %d, %d bytes of %d", g.status, len(g.body), len(now.body))
	}
}

func TestSnapshot_refused(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	s := newSource(t, m, m.Space, 10)
	for _, c := range []struct {
		name, query, token, code string
		status                   int
	}{
		{"no token", s.query(), "", wire.CodeUnauthorized, 401},
		{"the token of another space", s.query(), m.TokenFor("other", "source"), wire.CodeNoSpace, 404},
		{"the token of another device", s.query(), m.Token("thief"), wire.CodeForbidden, 403},
		{"no device", "schema=" + strings.Repeat("0", 64), s.token(), "bad-request", 422},
		{"no schema", strings.Split(s.query(), "&")[0], s.token(), "bad-request", 422},
		{"a schema that nobody has", strings.Split(s.query(), "&")[0] + "&schema=" + strings.Repeat("7", 64), s.token(), wire.CodePage, 409},
		{"a device that has not pushed", "device=" + strings.Repeat("7", 32) + "&schema=" + strings.Repeat("0", 64), s.token(), wire.CodePage, 409},
	} {
		if g := s.get(c.query, c.token); g.status != c.status || g.code(t) != c.code {
			t.Errorf("%s: %d %s, want %d %s", c.name, g.status, g.body, c.status, c.code)
		}
	}
	if n, _ := files(t, m); n != 0 {
		t.Errorf("%d files were written", n)
	}
}

// Files are bounded in number and bytes, and go when nobody asks for them; files in use stay.
func TestSnapshot_bounds(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	dir := t.TempDir()
	left := filepath.Join(dir, "snapshots", "snapshot-7")
	if err := os.MkdirAll(filepath.Dir(left), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, []byte("of an earlier run"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := masterdtest.New(t, masterdtest.Options{Dir: dir, Server: server.Options{MaxSnapshots: 2, MaxSnapshotBytes: 400 << 10, Rate: -1, Now: clock}})
	a, b, c := newSource(t, m, "a", 300), newSource(t, m, "b", 300), newSource(t, m, "c", 300)
	huge := newSource(t, m, "huge", 3000)
	first := a.get(a.query(), a.token())
	if n, bytes := files(t, m); n != 1 || bytes != int64(len(first.body)) {
		t.Errorf("%d files of %d bytes after the first, of %d", n, bytes, len(first.body))
	}
	// Twenty devices at once are one file.
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			g := b.get(b.query(), b.token())
			if g.status != 200 && g.status != 429 {
				t.Errorf("status %d: %s", g.status, g.body)
			}
		})
	}
	all.Wait()
	if n, _ := files(t, m); n != 2 {
		t.Errorf("%d files after two spaces", n)
	}
	c.get(c.query(), c.token()) // takes the place of a's
	if n, bytes := files(t, m); n != 2 || bytes > 400<<10 {
		t.Errorf("%d files of %d bytes after three spaces, want 2", n, bytes)
	}
	if g := huge.get(huge.query(), huge.token()); g.status != 413 || g.code(t) != wire.CodeTooLarge {
		t.Errorf("a snapshot beyond the limit: %d %.200s", g.status, g.body)
	}
	if _, bytes := files(t, m); bytes > 400<<10 {
		t.Errorf("%d bytes after one that was too large", bytes)
	}
	mu.Lock()
	now = now.Add(11 * time.Minute)
	mu.Unlock()
	a.get(a.query(), a.token())
	if n, _ := files(t, m); n != 1 {
		t.Errorf("%d files 11 minutes later, want a's alone", n)
	}
	m.Close()
	if n, _ := files(t, m); n != 0 {
		t.Errorf("%d files after the end", n)
	}
}

// A reader that stands still is let go, and its file with it.
func TestSnapshot_slowReader(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Server: server.Options{MaxSnapshots: 1, WriteTimeout: 300 * time.Millisecond, Rate: -1}})
	a, b := newSource(t, m, "a", 30_000), newSource(t, m, "b", 10) // more than sockets hold
	resp := a.request(a.query(), a.token())
	defer resp.Body.Close()
	if g := b.get(b.query(), b.token()); g.status != 503 || g.header.Get("Retry-After") == "" {
		t.Errorf("while the only place is in use: %d %.200s", g.status, g.body)
	}
	for end := time.Now().Add(20 * time.Second); ; {
		g := b.get(b.query(), b.token())
		if g.status == 200 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the slow reader keeps its file: %d %.200s", g.status, g.body)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
