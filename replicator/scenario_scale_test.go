package replicator_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/replicator/wire"
)

// TestScenario_37_oneTransaction: a transaction of very many rows comes to the other device
// whole, although it is pushed in parts and pulled in pages and the line is cut between
// them; a reader there sees all of it or nothing.
func TestScenario_37_oneTransaction(t *testing.T) {
	rows := sized(4000, 100_000)
	m := masterdtest.New(t, masterdtest.Options{Log: quiet, Store: store.Options{PageRows: rows / 10}})
	sa, sb := &switchboard{}, &switchboard{}
	on := func(s *switchboard) func(*replicator.Options) {
		t.Cleanup(s.http.CloseIdleConnections)
		return func(o *replicator.Options) { o.Transport, o.Log, o.Parts.Rows = s, quiet, rows/10 }
	}
	a, b := newDevice(t, m, "a", on(sa)), newDevice(t, m, "b", on(sb))
	a.exec(`CREATE TABLE n(id INT PRIMARY KEY NOT NULL, version INT, text TEXT)`, `SELECT velosync_track('n')`)
	a.exec(fmt.Sprintf(`WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < %d) INSERT INTO n SELECT x, 0, 'row ' || x FROM i`, rows))
	settled(t, m, a, b)

	// A reader on b, all the time.
	stop, done := make(chan struct{}), make(chan error, 1)
	seen := [2]atomic.Int64{}
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			var count, low, high int64
			if err := b.db.QueryRow(`SELECT count(*), min(version), max(version) FROM n`).Scan(&count, &low, &high); err != nil {
				done <- err
				return
			}
			if want := int64(rows) - low*int64(rows/4); low != high || count != want {
				done <- fmt.Errorf("a reader sees %d rows of versions %d to %d", count, low, high)
				return
			}
			seen[low].Add(1)
		}
	}()
	began := time.Now()
	a.exec(fmt.Sprintf(`BEGIN; UPDATE n SET version = 1, text = text || '.'; DELETE FROM n WHERE id %% 2 = 0; INSERT INTO n SELECT id + 10000000, 1, 'new' FROM n WHERE id %% 4 = 1; COMMIT; -- %d changes`, rows))
	wrote := time.Since(began)
	cut := func(s *switchboard, d *device, n int) {
		calls := 0
		s.set(nil, func(*http.Request) error {
			if calls++; calls == n {
				return errCut
			}
			return nil
		})
		_ = d.fails()
		s.set(nil, nil)
	}
	for n := 1; n <= 8; n += 3 {
		cut(sa, a, n)
	}
	began = time.Now()
	a.sync()
	pushed := time.Since(began)
	for n := 1; n <= 8; n += 3 {
		cut(sb, b, n)
	}
	began = time.Now()
	before := seen[0].Load()
	b.sync()
	pulled := time.Since(began)
	for seen[1].Load() == 0 && len(done) == 0 {
		runtime.Gosched()
	}
	t.Logf("a transaction of %d changes: written in %v, pushed in %v, pulled and applied in %v; the reader saw version 0 %d times, then version 1 %d times",
		rows+rows/2+rows/4, wrote.Round(time.Millisecond), pushed.Round(time.Millisecond), pulled.Round(time.Millisecond), before, seen[1].Load())
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
	settled(t, m, a, b)
	b.want(`SELECT count(*), min(version), max(version) FROM n`, fmt.Sprintf("%d 1 1", rows-rows/4))
}

// lossy is a network that loses, repeats and cuts requests and answers, by dice.
type lossy struct {
	next http.Transport
	mu   sync.Mutex
	dice *rand.Rand
	on   bool
	hits int
}

func (l *lossy) roll() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.on {
		return 100
	}
	n := l.dice.IntN(12)
	if n < 5 {
		l.hits++
	}
	return n
}

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	send := func(body []byte) (*http.Response, error) {
		r := r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		return l.next.RoundTrip(r)
	}
	dice := l.roll()
	switch dice {
	case 0: // lost
		return nil, errCut
	case 1: // comes twice
		if resp, err := send(body); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	case 2: // cut
		body = body[:len(body)/2]
	}
	resp, err := send(body)
	if err != nil {
		return nil, err
	}
	switch dice {
	case 3: // the answer is lost
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return nil, errCut
	case 4: // or cut
		whole, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(whole[:len(whole)/2]))
	}
	return resp, nil
}

// weather makes devices whose lines are lossy.
func weather(t *testing.T, m *masterdtest.Master, dice *rand.Rand, n int) (devices []*device, lines []*lossy) {
	for i := range n {
		l := &lossy{dice: rand.New(rand.NewPCG(dice.Uint64(), 0))}
		t.Cleanup(l.next.CloseIdleConnections)
		lines = append(lines, l)
		devices = append(devices, newDevice(t, m, fmt.Sprint("d", i), func(o *replicator.Options) { o.Transport, o.Log = l, quiet; o.Parts.Rows = 3 }))
	}
	return devices, lines
}

// fate returns dice that VELOSYNC_SEED repeats.
func fate(t *testing.T) *rand.Rand {
	seed := uint64(sized(1, int(time.Now().UnixNano())))
	if s := os.Getenv("VELOSYNC_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("VELOSYNC_SEED: %v", err)
		}
	}
	t.Logf("VELOSYNC_SEED=%d repeats this", seed)
	return rand.New(rand.NewPCG(seed, 38))
}

// TestScenario_38_sessions: on each device, whatever the network does: it reads its own
// writes; nothing that it has read goes back; and who sees a write sees all that its author
// had read before it.
func TestScenario_38_sessions(t *testing.T) {
	dice := fate(t)
	m := masterdtest.New(t, masterdtest.Options{Log: quiet, Store: store.Options{PageRows: 2}})
	devices, lines := weather(t, m, dice, 4)
	// Each device counts up a row of its own, and writes beside the count what it has read of
	// the others.
	d0 := devices[0]
	d0.exec(`CREATE TABLE says(id INT PRIMARY KEY NOT NULL, n INT, heard TEXT)`, `SELECT velosync_track('says', '{"groups":[["n","heard"]]}')`)
	for i := range devices {
		d0.exec(fmt.Sprintf(`INSERT INTO says VALUES (%d, 0, '')`, i))
	}
	settled(t, m, devices...)
	read := func(d *device) (n []int, heard []string) {
		for _, line := range strings.Split(d.rows(`SELECT n, heard FROM says ORDER BY id`), "\n") {
			count, text, _ := strings.Cut(line, " ")
			v, err := strconv.Atoi(count)
			if err != nil {
				t.Fatal(err)
			}
			n, heard = append(n, v), append(heard, text)
		}
		return n, heard
	}
	last := make([][]int, len(devices)) // what each device read before
	for i := range last {
		last[i] = make([]int, len(devices))
	}
	wrote := make([]int, len(devices))
	check := func(i int, when string) {
		t.Helper()
		n, heard := read(devices[i])
		if n[i] != wrote[i] {
			t.Fatalf("%s: device %d reads %d of its own, it wrote %d", when, i, n[i], wrote[i])
		}
		for j := range n {
			if n[j] < last[i][j] {
				t.Fatalf("%s: device %d reads %d of device %d, it read %d before", when, i, n[j], j, last[i][j])
			}
			if heard[j] == "" {
				continue
			}
			for k, text := range strings.Split(heard[j], ",") {
				if v, _ := strconv.Atoi(text); n[k] < v {
					t.Fatalf("%s: device %d sees what device %d wrote after it read %d of device %d, and reads %d there", when, i, j, v, k, n[k])
				}
			}
		}
		last[i] = n
	}
	for _, l := range lines {
		l.on = true
	}
	steps := sized(250, 10_000)
	for step := range steps {
		i := dice.IntN(len(devices))
		d := devices[i]
		if dice.IntN(2) == 0 {
			n, _ := read(d)
			text := strings.Trim(strings.ReplaceAll(fmt.Sprint(n), " ", ","), "[]")
			wrote[i]++
			d.exec(fmt.Sprintf(`UPDATE says SET n = %d, heard = '%s' WHERE id = %d`, wrote[i], text, i))
		} else {
			_, _ = d.r.Sync(context.Background()) // as far as it gets
		}
		check(i, fmt.Sprint("step ", step))
	}
	hits := 0
	for _, l := range lines {
		l.on = false
		hits += l.hits
	}
	settled(t, m, devices...)
	for i := range devices {
		check(i, "at the end")
		devices[i].want(`SELECT count(*) FROM velosync_conflicts`, "0")
	}
	if hits < steps/10 {
		t.Errorf("%d faults in %d steps: nothing is tested", hits, steps)
	}
	t.Logf("%d steps, %d faults, %v writes", steps, hits, wrote)
}

// TestScenario_39_hotRow: many devices that have not heard of each other write one row; a
// device with nothing but poison among them holds nobody up.
func TestScenario_39_hotRow(t *testing.T) {
	devices := sized(40, 1000)
	m := masterdtest.New(t, masterdtest.Options{Log: quiet, Insecure: true})
	first := newDevice(t, m, "first", func(o *replicator.Options) { o.Log = quiet })
	first.exec(`CREATE TABLE hot(id TEXT PRIMARY KEY NOT NULL, v TEXT, n INT CHECK (n < 100000))`, `SELECT velosync_track('hot')`, `INSERT INTO hot VALUES ('hot', 'base', 0)`)
	settled(t, m, first)
	dir := t.TempDir()
	files := make([]string, devices)
	began := time.Now()
	for i := range files { // all have the row, and go offline
		files[i] = filepath.Join(dir, fmt.Sprint(i, ".db"))
		briefly(t, m, files[i], nil)
	}
	had := time.Since(began)
	began = time.Now()
	poison := devices / 2
	for i := range files {
		briefly(t, m, files[i], func(db *sql.DB) {
			if i == poison { // CHECK holds at the master, though not here; and every other row of its is good
				mustExec(t, db, `PRAGMA ignore_check_constraints = ON`, `UPDATE hot SET n = 1000000`, `INSERT INTO hot VALUES ('poison', 'p', 1000001), ('good', 'g', 1)`)
				return
			}
			mustExec(t, db, fmt.Sprintf(`UPDATE hot SET v = 'by %[1]d', n = %[1]d`, i), fmt.Sprintf(`UPDATE _velosync_wal SET at = at + %d`, i*2000))
		})
	}
	t.Logf("%d devices: first rounds %v, %v each; rounds that meet on one row %v, %v each", devices, had.Round(time.Millisecond), (had / time.Duration(devices)).Round(time.Microsecond),
		time.Since(began).Round(time.Millisecond), (time.Since(began) / time.Duration(devices)).Round(time.Microsecond))
	first.sync()
	settled(t, m, first)
	first.want(`SELECT * FROM hot ORDER BY id`, fmt.Sprintf("good g 1\nhot by %[1]d %[1]d", devices-1))
	st := spaceStats(t, m)
	if st.RejectedRows != 1 || st.Conflicts != int64(devices-1)+1 {
		t.Errorf("%d rows rejected, %d conflicts: want the poison, and of every device but the last its edit", st.RejectedRows, st.Conflicts)
	}
	// Every one hears of it, and holds the same.
	for _, i := range []int{0, poison, devices - 1} {
		briefly(t, m, files[i], nil)
		db := openFile(t, files[i])
		if got := content(t, db); got != masterContent(t, m) {
			t.Errorf("device %d: %s", i, firstDifference(got, masterContent(t, m)))
		}
		var conflicts int
		var reason sql.NullString
		if err := db.QueryRow(`SELECT count(*), max(reason) FROM velosync_conflicts`).Scan(&conflicts, &reason); err != nil {
			t.Fatal(err)
		}
		if want := map[int]int{0: 1, poison: 2, devices - 1: 0}[i]; conflicts != want || i == poison && !strings.Contains(reason.String, "CHECK") {
			t.Errorf("device %d has %d conflicts (%q), want %d", i, conflicts, reason.String, want)
		}
		db.Close()
	}
	// The row's metadata is that of one writer.
	db := masterDB(t, m)
	defer db.Close()
	var bytes int
	if err := db.QueryRow(`SELECT length(dots) FROM _velosync_row WHERE pk = 'hot'`).Scan(&bytes); err != nil {
		t.Fatal(err)
	}
	if bytes > 40 {
		t.Errorf("the row that %d devices wrote has %d bytes of dots", devices, bytes)
	}
}

// briefly opens a file, lets the application write, and syncs.
func briefly(t *testing.T, m *masterdtest.Master, file string, write func(*sql.DB)) {
	t.Helper()
	r, err := replicator.New(file, replicator.Options{Master: m.URL, Space: m.Space, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if write != nil {
		db := openFile(t, file)
		db.SetMaxOpenConns(1)
		write(db)
		db.Close()
	}
	if _, err := r.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func openFile(t *testing.T, file string) *sql.DB {
	t.Helper()
	db, err := sql.Open("velosync", file)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func mustExec(t *testing.T, db *sql.DB, script ...string) {
	t.Helper()
	for _, s := range script {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// TestScenario_39_poisonBatch: a batch that the master can't read is refused each time, its
// device says so, and the batches of others and its own later ones go on.
func TestScenario_39_poisonBatch(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	poison := &poisoner{}
	t.Cleanup(poison.next.CloseIdleConnections)
	a, b := newDevice(t, m, "a", func(o *replicator.Options) { o.Transport = poison }), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, threeNotes)
	settled(t, m, a, b)
	a.exec(`UPDATE notes SET title = 'poison' WHERE id = 'x'`)
	poison.on = true
	var p *wire.Problem
	for range 3 {
		if err := a.fails(); !errors.As(err, &p) || p.Temporary() {
			t.Errorf("the batch: %v, want it refused for good", err)
		}
		b.exec(`UPDATE notes SET body = body || '.' WHERE id = 'y'`)
		b.sync()
	}
	a.want(`SELECT pending, last_error IS NOT NULL FROM velosync_status`, "1 1")
	poison.on = false
	settled(t, m, a, b)
	b.want(allNotes, "x poison green 1\ny soup hot... 1\nz rice white 1")
}

// A poisoner breaks each push in its middle and signs it anew.
type poisoner struct {
	next http.Transport
	on   bool
}

func (p *poisoner) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.on && strings.HasSuffix(r.URL.Path, "/sync") {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body[len(body)/2] ^= 0xff
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.Header.Set("Content-Digest", wire.Digest(body))
	}
	return p.next.RoundTrip(r)
}

var requestID = regexp.MustCompile(`"request":"[^"]*"`)

// TestScenario_40_tenants: of space A nothing is seen from space B: no row, key, count or
// head, and no error that tells an existing space from one that does not exist.
func TestScenario_40_tenants(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	line := newTape(t)
	a := newDevice(t, m, "a", line.use)
	in := func(name string) *device {
		return newDevice(t, m, name, func(o *replicator.Options) { o.Space, o.Token = "other", m.TokenFor("other", name) })
	}
	b, b2 := in("b"), in("b2")
	const unique = `CREATE TABLE people(id TEXT PRIMARY KEY NOT NULL, mail TEXT UNIQUE)`
	for _, d := range []*device{a, b} {
		d.exec(unique, `SELECT velosync_track('people')`, notes, trackNotes)
	}
	a.exec(`INSERT INTO people VALUES ('secret', 'secret@a')`, `INSERT INTO notes VALUES ('x', 'of a', 'secret', 1)`, `CREATE TABLE only_a(id TEXT PRIMARY KEY NOT NULL)`, `SELECT velosync_track('only_a')`)
	a.sync()
	a.exec(`UPDATE notes SET body = 'more secret'`, `DELETE FROM people`)
	a.sync()
	// The same keys and unique values in the other space meet nothing.
	b.exec(`INSERT INTO people VALUES ('secret', 'secret@a')`, `INSERT INTO notes VALUES ('x', 'of b', '', 0)`)
	if r := b.sync(); r.LostRows+r.RejectedRows+r.PulledRows != 0 || r.Seen != 2 {
		t.Errorf("b's round: %+v, want seq 2 of its own space, and nothing met", r)
	}
	b2.sync()
	b2.want(`SELECT * FROM people`, "secret secret@a")
	b2.want(`SELECT title, body FROM notes`, "of b ")
	b2.want(`SELECT count(*) FROM sqlite_schema WHERE name = 'only_a'`, "0")
	a.sync()
	a.want(`SELECT title, body FROM notes`, "of a more secret")

	// b's token at a's door, and at one that is not there: the same answer but for its id.
	a.exec(`UPDATE notes SET title = 'x'`)
	a.sync()
	calls := line.take("sync")
	last := calls[len(calls)-1]
	ask := func(space, token string) string {
		c := last
		c.url = m.URL + "/v1/" + space + "/sync"
		c.header = last.header.Clone()
		c.header.Set("Authorization", "Bearer "+token)
		status, body := line.again(t, c)
		return fmt.Sprint(status, " ", requestID.ReplaceAllString(body, "")) // each request has an id of its own
	}
	there, not := ask("default", m.TokenFor("other", "b")), ask("nothing", m.TokenFor("other", "b"))
	if there != not || !strings.HasPrefix(there, "404") {
		t.Errorf("a space of others: %s\none that is not there: %s", there, not)
	}
	// Without a token, and with one that nobody gave out, space or none makes no difference.
	for _, token := range []string{"", "vst_" + strings.Repeat("A", 43)} {
		if there, not := ask("default", token), ask("nothing", token); there != not || !strings.HasPrefix(there, "401") {
			t.Errorf("token %q: a space that is there: %s\none that is not: %s", token, there, not)
		}
	}
	// What a token may count: its own space.
	req, err := http.NewRequest("GET", m.URL+"/stats", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.TokenFor("other", "b"))
	resp, err := line.http.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stats, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Contains(stats, []byte(`"other"`)) || bytes.Contains(stats, []byte(`"default"`)) {
		t.Errorf("/stats with b's token: %s, %v", stats, err)
	}
	// a's device id under b's token, in b's space: another device, which knows nothing.
	if got := ask("other", m.TokenFor("other", "b2")); strings.Contains(got, "secret") {
		t.Errorf("a's push in b's space: %s", got)
	}
}

// TestScenario_41_heals: after any weather, each device needs few rounds until all queues
// are empty and all hold the same.
func TestScenario_41_heals(t *testing.T) {
	dice := fate(t)
	m := masterdtest.New(t, masterdtest.Options{Log: quiet, Store: store.Options{PageRows: 3}})
	devices, lines := weather(t, m, dice, 4)
	devices[0].exec(notes, trackNotes, people, `SELECT velosync_track('people')`)
	settled(t, m, devices...)
	for _, l := range lines {
		l.on = true
	}
	id := func() string { return fmt.Sprint("k", dice.IntN(12)) }
	for range sized(300, 20_000) {
		d := devices[dice.IntN(len(devices))]
		n := dice.IntN(1000)
		statements := []string{
			fmt.Sprintf(`INSERT INTO notes VALUES ('%s', 't%d', 'b', %d) ON CONFLICT(id) DO UPDATE SET title = excluded.title`, id(), n, n%5),
			fmt.Sprintf(`UPDATE notes SET body = 'b%d', score = %d WHERE id = '%s'`, n, n%5, id()),
			fmt.Sprintf(`DELETE FROM notes WHERE id = '%s'`, id()),
			fmt.Sprintf(`UPDATE OR IGNORE notes SET id = '%s' WHERE id = '%s'`, id(), id()),
			fmt.Sprintf(`INSERT OR REPLACE INTO people VALUES ('%s', 'm%d', NULL)`, id(), n%8),
			fmt.Sprintf(`UPDATE OR IGNORE people SET boss = (SELECT id FROM people ORDER BY id LIMIT 1 OFFSET %d) WHERE id = '%s'`, n%4, id()),
			fmt.Sprintf(`DELETE FROM people WHERE id = '%s'`, id()),
		}
		if dice.IntN(3) == 0 {
			_, _ = d.r.Sync(context.Background())
		} else if _, err := d.db.Exec(statements[dice.IntN(len(statements))]); err != nil && !strings.Contains(err.Error(), "constraint failed") {
			t.Fatal(err)
		}
		if dice.IntN(60) == 0 {
			m.Reopen()
		}
	}
	for _, l := range lines {
		l.on = false
	}
	settled(t, m, devices...)
	for _, d := range devices {
		d.want(`SELECT count(*) FROM pragma_foreign_key_check`, "0")
	}
}

// TestScenario_42_versions: between a device of protocol version N and a master of N + 1,
// either way, nothing moves, both say why, and all goes on when the older one is updated.
func TestScenario_42_versions(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	v := &newer{}
	t.Cleanup(v.next.CloseIdleConnections)
	a, b := newDevice(t, m, "a", func(o *replicator.Options) { o.Transport = v }), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, threeNotes)
	settled(t, m, a, b)
	b.exec(`UPDATE notes SET body = 'by b' WHERE id = 'y'`)
	b.sync()
	a.exec(`UPDATE notes SET title = 'by a' WHERE id = 'x'`)
	before := a.rows(allNotes)

	v.push = true // the device is newer
	var p *wire.Problem
	if err := a.fails(); !errors.As(err, &p) || p.Code != wire.CodeVersion || p.Temporary() || len(p.Versions) != 1 || p.Versions[0] != wire.Version {
		t.Errorf("a newer device: %v (%+v), want it refused, with the versions that the master speaks", err, p)
	}
	if err := a.r.Run(context.Background()); !errors.As(err, &p) {
		t.Errorf("Run goes on with a version that nobody understands: %v", err)
	}
	v.push, v.pull = false, true // the master is
	var version *wire.VersionError
	if err := a.fails(); !errors.As(err, &version) || version.Got != wire.Version+1 || version.Want != wire.Version {
		t.Errorf("a newer master: %v, want both versions named", err)
	}
	a.want(allNotes, before)
	a.want(`SELECT pending, last_error IS NOT NULL FROM velosync_status`, "1 1")
	v.pull = false
	settled(t, m, a, b)
	b.want(`SELECT title, body FROM notes WHERE id < 'z' ORDER BY id`, "by a green\nsoup by b")
	a.want(`SELECT count(*) FROM velosync_conflicts`, "0")
	// A file that a newer program has written is left alone.
	a.exec(`UPDATE _velosync_state SET format = 2`)
	if r, err := replicator.New(a.file, a.o); err == nil || !strings.Contains(err.Error(), "update the program") {
		t.Errorf("a file of format 2: %v", err)
		if err == nil {
			r.Close()
		}
	}
	a.exec(`UPDATE _velosync_state SET format = 1`)
}

// newer is a network with a proxy that says the next version on one side's behalf.
type newer struct {
	next       http.Transport
	push, pull bool
}

// next1 writes version N + 1 into a message: the first member of its envelope.
func next1(body []byte) []byte {
	dec, _ := zstd.NewReader(nil)
	defer dec.Close()
	doc, err := dec.DecodeAll(body, nil)
	if err != nil {
		panic(err)
	}
	doc[1] = wire.Version + 1 // after the head of the array
	enc, _ := zstd.NewWriter(nil, zstd.WithSingleSegment(true))
	defer enc.Close()
	return enc.EncodeAll(doc, nil)
}

func (v *newer) RoundTrip(r *http.Request) (*http.Response, error) {
	if v.push && r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = next1(body)
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Digest", wire.Digest(body))
	}
	resp, err := v.next.RoundTrip(r)
	if err != nil || !v.pull || resp.StatusCode != 200 || !strings.HasSuffix(r.URL.Path, "/sync") {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	body = next1(body)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Set("Content-Digest", wire.Digest(body))
	return resp, nil
}
