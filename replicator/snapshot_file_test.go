package replicator_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/replicator/wire"
)

// A relay stands between a device's process and the master. It counts the bytes of
// snapshots, and after so many of one it holds the line until the device is gone.
type relay struct {
	*httptest.Server
	mu    sync.Mutex
	bytes int64
	hold  int64 // 0: never
	held  chan struct{}
}

func newRelay(t *testing.T, m *masterdtest.Master) *relay {
	t.Helper()
	to, err := url.Parse(m.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{held: make(chan struct{}, 1)}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.FlushInterval = -1
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.ModifyResponse = func(resp *http.Response) error {
		if strings.HasSuffix(resp.Request.URL.Path, "/snapshot") {
			resp.Body = &relayed{ReadCloser: resp.Body, r: r, gone: resp.Request.Context().Done()}
		}
		return nil
	}
	r.Server = httptest.NewServer(proxy)
	t.Cleanup(r.Close)
	return r
}

func (r *relay) sent() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes
}

func (r *relay) set(hold int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes, r.hold = 0, hold
}

type relayed struct {
	io.ReadCloser
	r    *relay
	n    int64
	gone <-chan struct{}
}

func (b *relayed) Read(p []byte) (int, error) {
	b.r.mu.Lock()
	hold := b.r.hold
	b.r.mu.Unlock()
	if hold > 0 {
		if b.n >= hold {
			b.r.held <- struct{}{}
			<-b.gone
			return 0, errCut
		}
		p = p[:min(int64(len(p)), hold-b.n)]
	}
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	b.r.bytes += int64(n)
	return n, err
}

func kept(file string) string { return file + "-velosync-snapshot" }

// size returns the size of a file, 0 if there is none.
func size(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Lstat(name)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return 0
	}
	return info.Size()
}

// manyTexts are rows that compression can't make small.
const manyTexts = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO notes SELECT 'k' || i, 't' || i, hex(randomblob(500)), i FROM n`

// A source is a master with a snapshot of many bytes, and a device that has all of it.
func source(t *testing.T) (m *masterdtest.Master, a *device, bytes int64) {
	m = snapshotMaster(t, store.Options{}, server.Options{Rate: -1, Insecure: true})
	a = newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes, manyTexts)
	a.sync()
	whole := &snapshots{}
	newDevice(t, m, "whole", through(whole)).sync()
	return m, a, whole.bytes
}

// The process of a new device is killed again and again in the middle of a snapshot. The
// next one goes on with what is there.
func TestSnapshot_killed(t *testing.T) {
	m, a, whole := source(t)
	line := newRelay(t, m)
	b := newDevice(t, m, "b", nil)
	if err := b.r.Close(); err != nil { // its replicator is another process
		t.Fatal(err)
	}
	process := child{Role: "replicator", File: b.file, Master: line.URL, Token: b.o.Token}
	line.set(whole / 5)
	kills := 0
	for ; size(t, kept(b.file)) < whole*3/4; kills++ {
		before := size(t, kept(b.file))
		if kills == 20 {
			t.Fatalf("after %d kills %d bytes are kept of a snapshot of %d", kills, before, whole)
		}
		cmd := process.start(t)
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		<-line.held
		for deadline := time.Now().Add(20 * time.Second); size(t, kept(b.file)) < before+whole/10; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("after %d kills %d bytes are kept, then %d of a snapshot of %d", kills, before, size(t, kept(b.file)), whole)
			}
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("the process was not killed: %v", err)
		}
		b.want(`SELECT count(*) FROM sqlite_schema WHERE name = 'notes'`, "0")
	}
	if info, err := os.Stat(kept(b.file)); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	if n := line.sent(); kills < 3 || n > whole*5/4 {
		t.Errorf("%d bytes in %d pieces, of %d: it began anew", n, kills, whole)
	}

	line.set(0)
	process.DieAt = 5 // begin, push, snapshot, page, apply
	if !process.run(t) {
		t.Fatal("the process was not killed before it applied the snapshot")
	}
	if n := line.sent(); n == 0 || n > whole/3 {
		t.Errorf("%d bytes after the last kill, of %d", n, whole)
	}
	b.want(`SELECT count(*) FROM sqlite_schema WHERE name = 'notes'`, "0")
	a.exec(`UPDATE notes SET title = 'meanwhile' WHERE id = 'k7'`, `DELETE FROM notes WHERE id = 'k8'`)
	a.sync()
	line.set(0)
	process.DieAt = 0
	process.run(t)
	if n := line.sent(); n > 0 {
		t.Errorf("%d bytes of a snapshot that had come whole", n)
	}
	b.want(allNotes, a.rows(allNotes))
	if n := size(t, kept(b.file)); n > 0 {
		t.Errorf("%d bytes are left of a snapshot that was applied", n)
	}
}

// again ends the replicator and begins another one on the file, as another process would.
func (d *device) again(o replicator.Options) {
	d.t.Helper()
	if err := d.r.Close(); err != nil {
		d.t.Fatal(err)
	}
	r, err := replicator.New(d.file, o)
	if err != nil {
		d.t.Fatal(err)
	}
	d.r, d.o = r, o
}

// halfway lets a new device get somewhat more than half of a snapshot.
func halfway(t *testing.T, m *masterdtest.Master, name string, whole int64) (*device, *snapshots) {
	t.Helper()
	line := &snapshots{cut: whole * 6 / 10}
	b := newDevice(t, m, name, through(line))
	line.before = func() {
		if line.asked > 1 {
			line.cut = 1 // from here on nothing comes
		}
	}
	if _, err := b.r.Sync(context.Background()); !errors.Is(err, replicator.ErrOffline) {
		t.Fatalf("got %v, want ErrOffline", err)
	}
	if n := size(t, kept(b.file)); n < whole/2 || n > whole {
		t.Fatalf("%d bytes are kept of %d", n, whole)
	}
	*line = snapshots{}
	return b, line
}

// records returns where the records of a kept snapshot begin, from the first to where the
// next would be.
func records(t *testing.T, file []byte) (at []int) {
	t.Helper()
	n := bytes.IndexByte(file, '{')
	n += bytes.IndexByte(file[n:], '\n') + 1
	for n+wire.SnapshotHeader <= len(file) {
		at = append(at, n)
		n += wire.SnapshotHeader + int(binary.LittleEndian.Uint32(file[n:]))
	}
	return append(at, n)
}

// What an earlier process left is gone on with as far as it is sound, and where it is of use
// at all; in the end it is away.
func TestSnapshot_left(t *testing.T) {
	m, a, whole := source(t)
	type left struct {
		b    *device
		line *snapshots
		file []byte // that is kept
		at   []int  // of its records
	}
	// rest says how much of a snapshot has to come.
	rest := func(x left, keeps int) int64 { return whole - int64(x.at[keeps]-x.at[0]) }
	n := func(x left) int { return len(x.at) - 1 }
	for _, tt := range []struct {
		name string
		do   func(x left) []byte // what is found, in the place of file; nil: as it is
		want func(x left) int64  // bytes that come
	}{
		{"sound", func(x left) []byte { return x.file }, func(x left) int64 { return rest(x, n(x)) }},
		{"torn in a body", func(x left) []byte { return x.file[:x.at[n(x)]-1] }, func(x left) int64 { return rest(x, n(x)-1) }},
		{"torn in a header", func(x left) []byte { return x.file[:x.at[n(x)-1]+7] }, func(x left) int64 { return rest(x, n(x)-1) }},
		{"zeros at the end", func(x left) []byte { return append(x.file, make([]byte, 5000)...) }, func(x left) int64 { return rest(x, n(x)) }},
		{"zeros over the end", func(x left) []byte { clear(x.file[x.at[n(x)-2]:]); return x.file }, func(x left) int64 { return rest(x, n(x)-2) }},
		{"a bit of a body in the middle", func(x left) []byte { x.file[x.at[3]+100] ^= 4; return x.file }, func(x left) int64 { return rest(x, 3) }},
		{"a bit of a length in the middle", func(x left) []byte { x.file[x.at[4]+3] ^= 128; return x.file }, func(x left) int64 { return rest(x, 4) }},
		{"a bit of the first record", func(x left) []byte { x.file[x.at[0]+50] ^= 1; return x.file }, func(x left) int64 { return whole }},
		{"no record", func(x left) []byte { return x.file[:x.at[0]] }, func(x left) int64 { return whole }},
		{"half of a header", func(x left) []byte { return x.file[:x.at[0]/2] }, func(x left) int64 { return whole }},
		{"nothing", func(x left) []byte { return []byte{} }, func(x left) int64 { return whole }},
		{"another version", func(x left) []byte {
			return bytes.Replace(x.file, []byte("velosync snapshot 1\n"), []byte("velosync snapshot 2\n"), 1)
		}, func(x left) int64 { return whole }},
		{"another space", func(x left) []byte { return bytes.Replace(x.file, []byte("/v1/"+m.Space), []byte("/v1/other"), 1) }, func(x left) int64 { return whole }},
		{"another ETag", func(x left) []byte {
			i := bytes.Index(x.file, []byte(`"etag":"\"`)) + 10
			x.file[i] = "10"[x.file[i]&1] // a digit that it is not
			return x.file
		}, func(x left) int64 { return whole }},
		{"the device has another table now", func(x left) []byte { x.b.exec(notes, trackNotes); return x.file }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, line := halfway(t, m, "b", whole)
			if err := b.r.Close(); err != nil {
				t.Fatal(err)
			}
			file, err := os.ReadFile(kept(b.file))
			if err != nil {
				t.Fatal(err)
			}
			x := left{b, line, file, records(t, file)}
			if n(x) < 8 || x.at[n(x)] != len(file) {
				t.Fatalf("%d bytes are kept, records at %v", len(file), x.at)
			}
			before := bytes.Clone(file)
			found := tt.do(x)
			if err := os.WriteFile(kept(b.file), found, 0o600); err != nil {
				t.Fatal(err)
			}
			if tt.name != "sound" && bytes.Equal(found, before) && tt.want != nil {
				t.Fatal("nothing was changed")
			}
			b.again(b.o)
			if r := b.sync(); r.SnapshotRows != 400 {
				t.Errorf("%d rows by snapshot, want 400", r.SnapshotRows)
			}
			if tt.want != nil && line.bytes != tt.want(x) {
				t.Errorf("%d bytes came of %d, want %d: %d are kept", line.bytes, whole, tt.want(x), x.at[n(x)]-x.at[0])
			}
			b.want(allNotes, a.rows(allNotes))
			if n := size(t, kept(b.file)); n > 0 {
				t.Errorf("%d bytes are left", n)
			}
		})
	}
}

// The master's snapshot is another one when the next process asks for the rest.
func TestSnapshot_leftOfAnother(t *testing.T) {
	m, a, whole := source(t)
	b, line := halfway(t, m, "b", whole)
	a.exec(`UPDATE notes SET body = hex(randomblob(500))`)
	a.sync()
	m.Reopen() // which has the old one no more
	b.again(b.o)
	if r := b.sync(); r.SnapshotRows != 400 || line.bytes < whole*9/10 || line.asked != 1 {
		t.Errorf("%d rows in %d bytes of %d, asked for %d", r.SnapshotRows, line.bytes, whole, line.asked)
	}
	equal(t, allNotes, a, b)
	if n := size(t, kept(b.file)); n > 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// The database is copied, with what is kept of a snapshot, after that came whole: the copy
// takes another device id, and the master, which has not sent it the snapshot, sends it the
// end. A restored file goes on with it as well.
func TestSnapshot_leftToCopy(t *testing.T) {
	m, a, whole := source(t)
	line := &snapshots{failPages: 2} // the push is answered
	b := newDevice(t, m, "b", through(line))
	b.exec(`CREATE TABLE mine(id)`)
	older := filepath.Join(t.TempDir(), "older.db")
	b.exec(`VACUUM INTO '` + older + `'`)
	if _, err := b.r.Sync(context.Background()); !errors.Is(err, replicator.ErrOffline) || line.bytes != whole {
		t.Fatalf("got %v after %d bytes of %d, want ErrOffline", err, line.bytes, whole)
	}
	if err := b.r.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(kept(b.file))
	if err != nil {
		t.Fatal(err)
	}
	c := newDevice(t, m, "c", through(line))
	if err := c.r.Close(); err != nil {
		t.Fatal(err)
	}
	c.file += "2"
	b.exec(`VACUUM INTO '` + c.file + `'`)
	if err := os.WriteFile(kept(c.file), file, 0o600); err != nil {
		t.Fatal(err)
	}
	b.again(b.o)
	*line = snapshots{}
	if r := b.sync(); r.SnapshotRows != 400 || line.asked != 0 {
		t.Errorf("%d rows by snapshot, asked for %d, want 400 and none", r.SnapshotRows, line.asked)
	}
	for _, name := range []string{c.file, older} {
		if name == older {
			if err := os.WriteFile(kept(older), file, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d := &device{t: t, file: name, db: openDatabase(t, name)}
		d.exec(`PRAGMA user_version`) // in WAL mode from here on
		*line = snapshots{}
		o := b.o
		o.Token = m.Token(filepath.Base(name))
		r, err := replicator.New(name, o)
		if err != nil {
			t.Fatal(err)
		}
		round, err := r.Sync(context.Background())
		if err = errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		if round.SnapshotRows != 400 || line.bytes != wire.SnapshotHeader {
			t.Errorf("%s: %d rows by snapshot, %d bytes, want 400 and the end", name, round.SnapshotRows, line.bytes)
		}
		d.want(allNotes, a.rows(allNotes))
		if n := size(t, kept(name)); n > 0 {
			t.Errorf("%d bytes are left", n)
		}
	}
}

func openDatabase(t *testing.T, file string) *sql.DB {
	t.Helper()
	db, err := sql.Open("velosync", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// The device has other tables when the next process finds a snapshot that came whole: it is
// of no use, though the master need not be asked for more of it.
func TestSnapshot_leftOfOtherTables(t *testing.T) {
	m, a, whole := source(t)
	line := &snapshots{failPages: 2} // the push is answered
	b := newDevice(t, m, "b", through(line))
	if _, err := b.r.Sync(context.Background()); !errors.Is(err, replicator.ErrOffline) || line.bytes != whole {
		t.Fatalf("got %v after %d bytes of %d, want ErrOffline", err, line.bytes, whole)
	}
	b.exec(notes, trackNotes, `INSERT INTO notes VALUES ('of b', 'it', 'writes', 1)`)
	b.again(b.o)
	*line = snapshots{}
	if r := b.sync(); r.SnapshotRows != 401 || line.asked != 1 || line.bytes < whole*9/10 { // its own too, which the master has by then
		t.Errorf("%d rows by snapshot, asked for %d, %d bytes of %d, want all", r.SnapshotRows, line.asked, line.bytes, whole)
	}
	equal(t, allNotes, a, b)
	b.want(`SELECT count(*) FROM notes`, "401")
}

// What is not ours stays, where a snapshot would be kept; the log says so, and the snapshot
// comes by way of a temporary file.
func TestSnapshot_foreignFile(t *testing.T) {
	m, a, whole := source(t)
	other, _ := halfway(t, m, "other", whole)
	fits, err := os.ReadFile(kept(other.file))
	if err != nil {
		t.Fatal(err)
	}
	letter := []byte(strings.Repeat("Dear Sir or Madam. ", 300))
	for name, put := range map[string]func(t *testing.T, path string) (looks func() bool){
		"text": func(t *testing.T, path string) func() bool {
			write(t, path, letter)
			return func() bool { b, _ := os.ReadFile(path); return bytes.Equal(b, letter) }
		},
		"link": func(t *testing.T, path string) func() bool { // to one that could be gone on with
			to := filepath.Join(t.TempDir(), "precious")
			write(t, to, fits)
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
			return func() bool {
				b, _ := os.ReadFile(to)
				at, _ := os.Readlink(path)
				return bytes.Equal(b, fits) && at == to
			}
		},
		"link to nowhere": func(t *testing.T, path string) func() bool {
			to := filepath.Join(t.TempDir(), "none")
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
			return func() bool { at, _ := os.Readlink(path); return at == to && size(t, to) == 0 }
		},
		"directory": func(t *testing.T, path string) func() bool {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			return func() bool { info, err := os.Lstat(path); return err == nil && info.IsDir() }
		},
		"pipe": func(t *testing.T, path string) func() bool {
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			return func() bool { info, err := os.Lstat(path); return err == nil && info.Mode()&os.ModeNamedPipe != 0 }
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			line := &snapshots{cut: 100_000, failPages: 2}
			b := newDevice(t, m, "b", func(o *replicator.Options) {
				o.Transport, o.Log = line, slog.New(slog.NewTextHandler(&log, nil))
			})
			looks := put(t, kept(b.file))
			if _, err := b.r.Sync(context.Background()); !errors.Is(err, replicator.ErrOffline) || line.asked < 3 {
				t.Fatalf("got %v after %d pieces, want ErrOffline", err, line.asked)
			}
			asked := line.asked
			if r := b.sync(); r.SnapshotRows != 400 || line.asked != asked {
				t.Errorf("%d rows by snapshot, asked for %d more, want 400 and none", r.SnapshotRows, line.asked-asked)
			}
			b.want(allNotes, a.rows(allNotes))
			if !looks() {
				t.Error("what is not ours was changed")
			}
			if !strings.Contains(log.String(), kept(b.file)) || !strings.Contains(log.String(), "temporary file") {
				t.Errorf("the log does not say why nothing is kept: %s", &log)
			}
			b.again(b.o)
			if b.sync(); !looks() {
				t.Error("what is not ours was tidied away")
			}
		})
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A device that needs no snapshot any more lets go of what was kept of one, once.
func TestSnapshot_tidy(t *testing.T) {
	m, a, whole := source(t)
	b, _ := halfway(t, m, "b", whole)
	if err := b.r.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(kept(b.file))
	if err != nil {
		t.Fatal(err)
	}
	write(t, kept(a.file), file)
	if a.sync(); size(t, kept(a.file)) == 0 {
		t.Fatal("a looks in every round")
	}
	a.again(a.o)
	if a.sync(); size(t, kept(a.file)) > 0 {
		t.Error("it is still there")
	}
	if n := size(t, kept(b.file)); n != int64(len(file)) {
		t.Errorf("of b's %d bytes are there, want %d", n, len(file))
	}
}

// Where leases are lost, two replicators of a file do not share what one has of a snapshot.
func TestSnapshot_withoutLease(t *testing.T) {
	m, a, whole := source(t)
	b, line := halfway(t, m, "b", whole)
	before := size(t, kept(b.file))
	if err := os.Remove(b.file + "-velosync-lock"); err != nil { // as a file system without locks
		t.Fatal(err)
	}
	other := &snapshots{cut: whole / 2, failPages: 2}
	o := b.o
	o.Transport = other
	second, err := replicator.New(b.file, o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = second.Sync(context.Background())
	if !errors.Is(err, replicator.ErrOffline) || other.bytes < whole {
		t.Errorf("got %v after %d bytes of %d, want ErrOffline", err, other.bytes, whole)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if n := size(t, kept(b.file)); n != before {
		t.Errorf("the file that another has has %d bytes, want %d", n, before)
	}
	if r := b.sync(); r.SnapshotRows != 400 || line.bytes > whole/2 {
		t.Errorf("%d rows by snapshot, %d bytes more of %d", r.SnapshotRows, line.bytes, whole)
	}
	b.want(allNotes, a.rows(allNotes))
}

// The disk is full while a snapshot comes: the round says so, and what came is there when
// there is room again.
func TestSnapshot_noRoom(t *testing.T) {
	m := snapshotMaster(t, store.Options{}, server.Options{Rate: -1})
	a := newDevice(t, m, "a", nil)
	a.exec(notes, trackNotes, strings.Replace(manyTexts, "i < 400", "i < 4000", 1))
	a.sync()
	line := newRelay(t, m)
	b := newDevice(t, m, "b", nil)
	newDevice(t, m, "whole", func(o *replicator.Options) { o.Master = line.URL }).sync()
	whole := line.sent()
	if err := b.r.Close(); err != nil {
		t.Fatal(err)
	}
	const room = 800_000 // for the database, but not for the snapshot
	process := child{Role: "replicator", File: b.file, Master: line.URL, Token: b.o.Token, MostBytes: room}
	for range 2 {
		var out strings.Builder
		cmd := process.command(t)
		cmd.Stderr = &out
		if err := cmd.Run(); err == nil || !strings.Contains(out.String(), "make room") || !strings.Contains(out.String(), kept(b.file)) {
			t.Fatalf("%v: %s: want it to say that there is no room for %s", err, &out, kept(b.file))
		}
		if n := size(t, kept(b.file)); n < room*9/10 || n > room || whole < 2*room {
			t.Errorf("%d bytes are kept of %d, with room for %d", n, whole, room)
		}
		b.want(`SELECT count(*) FROM sqlite_schema WHERE name = 'notes'`, "0")
	}
	line.set(0)
	process.MostBytes = 0
	process.run(t)
	if n := line.sent(); n > whole-room*8/10 {
		t.Errorf("%d bytes of %d came once there was room, though there was room for %d before", n, whole, room)
	}
	b.want(allNotes, a.rows(allNotes))
}
