package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/velosync/velosync/capture"
	_ "github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/masterd/store/pgtest"
	"github.com/velosync/velosync/replicator"
)

// asMasterd makes this test binary a masterd.
const asMasterd = "VELOSYNC_TEST_AS_MASTERD"

func TestMain(m *testing.M) {
	if os.Getenv(asMasterd) != "" {
		main()
	}
	os.Exit(m.Run())
}

// patience bounds what a test waits for.
const patience = 2 * time.Minute

// A process is a masterd on the database of a test, with a cache of its own.
type process struct {
	t     *testing.T
	cache string
	flags []string

	mu  sync.Mutex
	url *url.URL
	cmd *exec.Cmd
	end chan struct{}
}

func startProcess(t *testing.T, database string, flags ...string) *process {
	t.Helper()
	p := &process{t: t, cache: filepath.Join(t.TempDir(), "cache")}
	p.flags = append([]string{"--listen", "127.0.0.1:0", "--insecure", "--log-level", "warn", "--data", p.cache, "--database", database}, flags...)
	p.start()
	t.Cleanup(func() { p.stop(os.Interrupt) })
	return p
}

func (p *process) start() {
	p.t.Helper()
	cmd := exec.Command(os.Args[0], p.flags...)
	cmd.Env = append(os.Environ(), asMasterd+"=1")
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	address, end := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(end)
		listening := regexp.MustCompile(`listening on (\S+), data in database`)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			p.t.Log("masterd:", lines.Text())
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
		_ = cmd.Wait() // stop sees to its exit code
	}()
	select {
	case a := <-address:
		u, err := url.Parse(a)
		if err != nil {
			p.t.Fatal(err)
		}
		p.mu.Lock()
		p.url, p.cmd, p.end = u, cmd, end
		p.mu.Unlock()
	case <-end:
		p.t.Fatal("masterd ended before it listened")
	}
}

func (p *process) stop(signal os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(signal)
	<-p.end
	if code := p.cmd.ProcessState.ExitCode(); signal == os.Interrupt && code != 0 {
		p.t.Errorf("masterd ended with %d", code)
	}
	p.cmd = nil
}

func (p *process) address() *url.URL {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.url
}

// balancer sends each request to another process than the one before.
func balancer(t *testing.T, processes ...*process) string {
	t.Helper()
	var n atomic.Uint64
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	transport := &http.Transport{}
	s := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(processes[n.Add(1)%uint64(len(processes))].address())
		},
		Transport: transport, ErrorLog: quiet,
	})
	t.Cleanup(func() { s.Close(); transport.CloseIdleConnections() })
	return s.URL
}

// A device is a file, and what syncs it.
type device struct {
	t    *testing.T
	name string
	db   *sql.DB
	r    *replicator.Replicator
}

func newDevice(t *testing.T, master, name string) *device {
	t.Helper()
	d := &device{t: t, name: name}
	file := filepath.Join(t.TempDir(), name+".db")
	var err error
	if d.db, err = sql.Open("velosync", file); err != nil {
		t.Fatal(err)
	}
	d.exec(`CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, title TEXT CHECK (length(title) < 20), n INTEGER UNIQUE, body BLOB)`)
	d.exec(`SELECT velosync_track('notes')`)
	d.r, err = replicator.New(file, replicator.Options{Master: master, Space: "notes", Name: name,
		Parts: capture.Limits{Rows: 2}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.r.Close(), d.db.Close()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *device) exec(q string, args ...any) {
	if _, err := d.db.Exec(q, args...); err != nil {
		d.t.Errorf("%s: %s: %v", d.name, q, err)
	}
}

func (d *device) text(q string) string {
	d.t.Helper()
	var s sql.NullString
	if err := d.db.QueryRow(q).Scan(&s); err != nil {
		d.t.Errorf("%s: %s: %v", d.name, q, err)
	}
	return s.String
}

// sync runs a round, as often as it takes where a masterd is down. It returns how often.
func (d *device) sync() (rounds int) {
	for end := time.Now().Add(patience); ; {
		rounds++
		_, err := d.r.Sync(context.Background())
		if err == nil {
			return rounds
		}
		if time.Now().After(end) {
			d.t.Errorf("%s: %v", d.name, err)
			return rounds
		}
	}
}

// write changes some rows, its own and some that all devices write.
func (d *device) write(rnd *rand.Rand, round int) {
	for i := range 2 + rnd.IntN(6) {
		switch rnd.IntN(8) {
		case 0:
			d.exec(`DELETE FROM notes WHERE id = ?`, fmt.Sprint("shared", rnd.IntN(6)))
		case 1: // the collation says that it is the same key
			d.exec(`UPDATE OR IGNORE notes SET id = ? WHERE id = ? COLLATE BINARY`, fmt.Sprint("SHARED", rnd.IntN(6)), fmt.Sprint("shared", rnd.IntN(6)))
		case 2, 3, 4:
			key := fmt.Sprint("shared", rnd.IntN(6))
			d.exec(`INSERT INTO notes VALUES (?1, ?2, NULL, x'00ff') ON CONFLICT (id) DO UPDATE SET title = ?2`, key, fmt.Sprint(d.name, " ", round, " ", i))
		default:
			d.exec(`INSERT OR IGNORE INTO notes VALUES (?, ?, ?, randomblob(100))`, fmt.Sprint(d.name, "-", round, "-", i), d.name, rnd.IntN(1000))
		}
	}
}

const everyNote = `SELECT group_concat(quote(id) || quote(title) || quote(n) || quote(body), x'0a') FROM (SELECT * FROM notes ORDER BY id)`

func TestScenario_47_twoMasters(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("VELOSYNC_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("VELOSYNC_SEED=%d repeats the writes", seed)
	server := pgtest.Start(t)
	a := startProcess(t, server.URL("masters"))
	b := startProcess(t, server.URL("masters"))
	master := balancer(t, a, b)

	const devices, rounds = 4, 12
	var list []*device
	var ids []string
	for i := range devices {
		d := newDevice(t, master, fmt.Sprint("d", i))
		list = append(list, d)
		ids = append(ids, d.text(`SELECT velosync_device()`))
	}
	// In the middle of it one masterd is killed and loses its cache, the other one goes on.
	half := make(chan struct{}, devices*rounds)
	replaced := make(chan struct{})
	go func() {
		defer close(replaced)
		for range devices * rounds / 2 {
			<-half
		}
		a.stop(os.Kill)
		if err := os.RemoveAll(a.cache); err != nil {
			t.Error(err)
		}
		a.start()
	}()
	var wait sync.WaitGroup
	for i, d := range list {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		wait.Go(func() {
			for round := range rounds {
				d.write(rnd, round)
				d.sync()
				half <- struct{}{}
			}
		})
	}
	wait.Wait()
	<-replaced
	// With both of them there, each round comes through at once, in however many parts.
	for range 3 {
		for _, d := range list {
			d.write(rand.New(rand.NewPCG(seed, 99)), 99)
			if n := d.sync(); n != 1 {
				t.Errorf("%s took %d rounds", d.name, n)
			}
		}
	}
	for range 2 {
		for _, d := range list {
			d.sync()
		}
	}
	want := list[0].text(everyNote)
	if strings.Count(want, "\n") < devices*rounds {
		t.Errorf("there are only these notes:\n%s", want)
	}
	for i, d := range list {
		if got := d.text(everyNote); got != want {
			t.Errorf("%s has\n%s\n%s has\n%s", d.name, got, list[0].name, want)
		}
		if got := d.text(`SELECT velosync_device()`); got != ids[i] {
			t.Errorf("%s took a new id: a master seemed another", d.name)
		}
		if got := d.text(`SELECT pending FROM velosync_status`); got != "0" {
			t.Errorf("%s: %s pending", d.name, got)
		}
	}
	// Each masterd's cache holds the same, dots included.
	var dumps []string
	for _, p := range []*process{a, b} {
		resp, err := http.Get(p.address().String() + "/stats") // brings the cache up to date
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		p.stop(os.Interrupt)
		dumps = append(dumps, dump(t, filepath.Join(p.cache, "spaces", "notes.db")))
	}
	if dumps[0] != dumps[1] {
		t.Errorf("one cache holds\n%s\nthe other\n%s", dumps[0], dumps[1])
	}
}

// dump prints what a space's file holds.
func dump(t *testing.T, path string) string {
	t.Helper()
	db, err := sql.Open("velosync", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var all strings.Builder
	for _, q := range []string{everyNote,
		`SELECT group_concat(feed || ' ' || quote(pk) || quote(deleted) || quote(dots) || quote(trash), x'0a') FROM (SELECT * FROM _velosync_row ORDER BY feed)`,
		`SELECT group_concat(quote(id) || quote(name) || quote(lsn) || quote(acked), x'0a') FROM (SELECT * FROM _velosync_device ORDER BY site)`,
		`SELECT group_concat(quote(id) || quote(pk) || quote(seq) || kind, x'0a') FROM (SELECT * FROM _velosync_conflict ORDER BY id)`,
		`SELECT group_concat(first || quote(id), x'0a') FROM (SELECT * FROM _velosync_epoch ORDER BY first)`,
		`SELECT group_concat(quote(head) || quote(live) || quote(tombstones) || quote(conflicts), x'0a') FROM _velosync_space`,
	} {
		var s sql.NullString
		if err := db.QueryRow(q).Scan(&s); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, s.String)
	}
	return all.String()
}
