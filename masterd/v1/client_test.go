package v1_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	_ "github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/v1"
	"github.com/velosync/velosync/replicator"
)

// A pythonClient is a running testdata/v1/client.py.
type pythonClient struct {
	t      testing.TB
	device string
	url    string
	in     io.Writer
	out    *bufio.Scanner
}

func newPython(t testing.TB, url, device string) *pythonClient {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("this test needs python3: %v", err)
	}
	cmd := exec.Command(python, "../../testdata/v1/client.py", filepath.Join(t.TempDir(), device+".db"), "serve")
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it ends with its input
		if err := cmd.Wait(); err != nil {
			t.Errorf("client %s: %v", device, err)
		}
	})
	p := &pythonClient{t: t, device: device, url: url, in: in, out: bufio.NewScanner(out)}
	p.out.Buffer(nil, 1<<20)
	p.run("init", device)
	return p
}

// try runs a command of the program. It returns the result, or what ended it: 4 for an
// answer of 4xx, 5 for one of 5xx, and its detail.
func (p *pythonClient) try(args ...string) (result json.RawMessage, status int, detail string) {
	p.t.Helper()
	line, err := json.Marshal(args)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		p.t.Fatalf("client %s %s: %v", p.device, args, err)
	}
	if !p.out.Scan() {
		p.t.Fatalf("client %s %s has ended: %v", p.device, args, p.out.Err())
	}
	var answer struct {
		Result json.RawMessage `json:"result"`
		Status int             `json:"status"`
		Detail string          `json:"detail"`
	}
	if err := json.Unmarshal(p.out.Bytes(), &answer); err != nil {
		p.t.Fatal(err)
	}
	return answer.Result, answer.Status, answer.Detail
}

func (p *pythonClient) run(args ...string) json.RawMessage {
	p.t.Helper()
	result, status, detail := p.try(args...)
	if status != 0 {
		p.t.Fatalf("client %s %s: %s", p.device, args, detail)
	}
	return result
}

// put writes a row; more are its weight, time and metadata.
func (p *pythonClient) put(id, embedding string, more ...string) {
	p.t.Helper()
	p.run(append([]string{"put", id, embedding}, more...)...)
}

func (p *pythonClient) sync(options ...string) reply {
	p.t.Helper()
	var r reply
	if err := json.Unmarshal(p.run(append([]string{"sync", p.url}, options...)...), &r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// A row is what all ends must agree on. A device has no clocks.
type row struct {
	Embedding []float64
	Metadata  string
	Weight    float64
	Updated   float64
}

func (p *pythonClient) rows() (rows map[string]row, pending int) {
	p.t.Helper()
	var dump struct {
		Rows    []record `json:"rows"`
		Pending int      `json:"pending"`
	}
	if err := json.Unmarshal(p.run("dump"), &dump); err != nil {
		p.t.Fatal(err)
	}
	rows = make(map[string]row)
	for _, r := range dump.Rows {
		rows[r.ID] = row{r.Embedding, compact(string(r.Metadata)), r.Weight, r.Updated}
	}
	return rows, dump.Pending
}

// compact takes the white space out of metadata; a device may have other text there.
func compact(text string) string {
	var b bytes.Buffer
	if json.Compact(&b, []byte(text)) != nil {
		return text
	}
	return b.String()
}

// A device is a new one.
type device struct {
	t  testing.TB
	db *sql.DB
	r  *replicator.Replicator
}

func newDevice(t testing.TB, m *masterdtest.Master) *device {
	t.Helper()
	path := filepath.Join(t.TempDir(), "device.db")
	db, err := sql.Open("velosync", path)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, db: db}
	d.exec(`CREATE TABLE other(x)`) // makes the file
	d.r, err = replicator.New(path, replicator.Options{Master: m.URL, Space: m.Space, Token: m.Token("new"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.r.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *device) exec(query string, args ...any) {
	d.t.Helper()
	if _, err := d.db.Exec(query, args...); err != nil {
		d.t.Fatalf("%s: %v", query, err)
	}
}

func (d *device) sync() replicator.Round {
	d.t.Helper()
	round, err := d.r.Sync(context.Background())
	if err != nil {
		d.t.Fatalf("the device syncs: %v", err)
	}
	return round
}

func (d *device) rows() map[string]row {
	d.t.Helper()
	rows, err := d.db.Query(`SELECT vector_id, embedding, coalesce(metadata, '{}'), coalesce(semantic_weight, 0.0), updated_at FROM vectors`)
	if err != nil {
		d.t.Fatal(err)
	}
	defer rows.Close()
	all := make(map[string]row)
	for rows.Next() {
		var id, metadata string
		var blob []byte
		var r row
		var updated sql.NullFloat64
		if err := rows.Scan(&id, &blob, &metadata, &r.Weight, &updated); err != nil {
			d.t.Fatal(err)
		}
		r.Metadata, r.Updated = compact(metadata), -1
		if updated.Valid {
			r.Updated = updated.Float64
		}
		for i := 0; i+8 <= len(blob); i += 8 {
			r.Embedding = append(r.Embedding, math.Float64frombits(binary.LittleEndian.Uint64(blob[i:])))
		}
		all[id] = r
	}
	if err := rows.Err(); err != nil {
		d.t.Fatal(err)
	}
	return all
}

func blob(elements ...float64) []byte {
	var b []byte
	for _, x := range elements {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
	}
	return b
}

// same syncs all ends until nothing moves, and checks that they hold the same rows.
func same(t *testing.T, d *device, clients ...*pythonClient) map[string]row {
	t.Helper()
	for range 2 {
		for _, p := range clients {
			p.sync()
		}
		d.sync()
	}
	want := d.rows()
	for _, p := range clients {
		r := p.sync()
		if len(r.Pull) > 0 || len(r.Conflicts) > 0 || r.Applied > 0 {
			t.Errorf("client %s is not at rest: %+v", p.device, r)
		}
		got, pending := p.rows()
		if pending > 0 {
			t.Errorf("client %s has %d changes left", p.device, pending)
		}
		for id, r := range got { // where the device has no time, a client has that of the write
			if want[id].Updated == -1 && r.Updated > 1.7e9 {
				r.Updated = -1
				got[id] = r
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("client %s (-device +client):\n%s", p.device, diff)
		}
	}
	return want
}

// conflicts reads the conflict log of the master.
func conflicts(t testing.TB, m *masterdtest.Master) (list []string) {
	t.Helper()
	db, err := sql.Open("velosync", filepath.Join(m.Dir, "spaces", m.Space+".db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT "key" || ' ' || kind || ' ' || rule FROM velosync_conflicts ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		list = append(list, line)
	}
	return list
}

func TestClients(t *testing.T) {
	m := newMaster(t, v1.Options{})
	a, b := newPython(t, m.URL, "a"), newPython(t, m.URL, "b")

	a.put("one", "[0.1,0.2]", "0.5", "1700000000.25", `{"title":"caf\u00e9","n":[1,2.5]}`)
	a.put("two", "[1,2]")
	if r := a.sync(); r.Applied != 2 || len(r.Pull) != 0 {
		t.Fatalf("first push: %+v", r)
	}
	d := newDevice(t, m)
	if got := d.sync(); got.PulledRows != 2 {
		t.Fatalf("the device pulls %+v", got)
	}
	rows := same(t, d, a, b)
	if got := rows["one"]; len(rows) != 2 || got.Weight != 0.5 || got.Updated != 1700000000.25 || got.Metadata != `{"title":"caf\u00e9","n":[1,2.5]}` {
		t.Fatalf("rows %+v", rows)
	}

	t.Run("a device writes", func(t *testing.T) {
		d.exec(`INSERT INTO vectors (vector_id, embedding) VALUES ('three', ?)`, blob(3, 4))
		d.exec(`INSERT INTO vectors VALUES ('four', vec_f64('[5,6]'), 2, 'a word', 0.25, 1700000001)`)
		d.exec(`INSERT INTO vectors VALUES ('five', vec_f32('[7,8]'), 2, NULL, NULL, NULL)`)
		d.exec(`INSERT INTO vectors VALUES ('wrong', ?, 3, '{}', 1, 1)`, blob(1, 2, 3))
		d.exec(`INSERT INTO vectors VALUES ('none', NULL, NULL, '{}', 1, 1)`)
		d.exec(`UPDATE vectors SET semantic_weight = 0.75 WHERE vector_id = 'two'`)
		d.sync()
		if r := a.sync(); len(r.Pull) != 4 || len(r.Conflicts) != 0 {
			t.Errorf("a pulls %+v, want 4 rows", r)
		}
		b.sync()
		got, _ := b.rows()
		if got["three"].Metadata != "{}" || got["three"].Updated < 1e9 || got["three"].Weight != 0 || got["four"].Metadata != `{"value":"a word"}` ||
			got["four"].Embedding[1] != 6 || got["five"].Embedding[0] != 7 || got["two"].Weight != 0.75 {
			t.Errorf("b has %+v", got)
		}
		// An edit of what a device wrote, by a client: it follows.
		b.put("three", "[3,5]", "0.5")
		if r := b.sync(); r.Applied != 1 || len(r.Conflicts) != 0 {
			t.Errorf("b edits a device's row: %+v", r)
		}
		d.sync()
		if got := d.rows()["three"]; got.Embedding[1] != 5 || got.Weight != 0.5 {
			t.Errorf("the device has %+v", got)
		}
		d.exec(`DELETE FROM vectors WHERE vector_id IN ('four', 'five', 'wrong', 'none')`)
		d.sync()
		same(t, d, a, b)
	})

	t.Run("conflicts", func(t *testing.T) {
		// Between clients, by weight; the loser is the later one.
		a.put("one", "[1,1]", "0.9", "1700000010")
		b.put("one", "[2,2]", "0.8", "1700000020")
		a.sync()
		if r := b.sync(); len(r.Conflicts) != 1 || r.Conflicts[0].Resolution != "concurrent_semantic_local" {
			t.Errorf("b: %+v", r.Conflicts)
		}
		if rows := same(t, d, a, b); rows["one"].Weight != 0.9 {
			t.Errorf("one is %+v", rows["one"])
		}
		// Between a client and a device, by time. The device's time is now.
		a.put("two", "[1,1]", "0.75", "1700000030")
		d.exec(`UPDATE vectors SET embedding = ?, updated_at = 5 WHERE vector_id = 'two'`, blob(9, 9))
		d.sync()
		if r := a.sync(); len(r.Conflicts) != 1 || r.Conflicts[0].Resolution != "concurrent_lww_local" {
			t.Errorf("a: %+v", r.Conflicts)
		}
		if rows := same(t, d, a, b); rows["two"].Embedding[0] != 9 {
			t.Errorf("two is %+v", rows["two"])
		}
		// The other way round: the client comes first, and outranks.
		b.put("two", "[4,4]", "2.0")
		d.exec(`UPDATE vectors SET embedding = ? WHERE vector_id = 'two'`, blob(8, 8))
		b.sync()
		if got := d.sync(); got.LostRows != 1 {
			t.Errorf("the device: %+v", got)
		}
		if rows := same(t, d, a, b); rows["two"].Embedding[0] != 4 {
			t.Errorf("two is %+v", rows["two"])
		}
		// A full tie, between clients.
		a.put("tie", "[1,1]", "1", "1700000000")
		b.put("tie", "[2,2]", "1", "1700000000")
		b.sync()
		a.sync()
		same(t, d, a, b)
		// A delete against an edit, and the other way round.
		a.run("delete", "one", "1700000050")
		b.put("one", "[3,3]", "0.95", "1700000040")
		a.sync()
		b.sync()
		if rows := same(t, d, a, b); rows["one"].Weight != 0.95 {
			t.Errorf("one, deleted and edited with more weight: %+v", rows["one"])
		}
		a.run("delete", "one")
		d.exec(`UPDATE vectors SET semantic_weight = 0.1 WHERE vector_id = 'one'`)
		d.sync()
		a.sync()
		if rows := same(t, d, a, b); len(rows["one"].Embedding) > 0 {
			t.Errorf("one, deleted with more weight than the edit: %+v", rows["one"])
		}
	})

	t.Run("lost answers", func(t *testing.T) {
		a.put("lost", "[1,2]", "0.5")
		a.sync("lose-push")
		a.sync("lose-answer")
		a.put("lost", "[1,3]", "0.4")
		if r := a.sync("lose-ack"); r.Applied != 1 || len(r.Conflicts) > 0 || r.Replay {
			t.Errorf("after a lost answer: %+v", r)
		}
		b.put("lost2", "[1,4]")
		b.sync("lose-answer")
		if r := a.sync(); r.Applied != 0 || len(r.Conflicts) > 0 {
			t.Errorf("after a lost ack: %+v", r)
		}
		same(t, d, a, b)
		// The loser's answer is lost, and it edits the same row again.
		a.put("lost", "[5,5]", "0.9")
		b.put("lost", "[6,6]", "0.6")
		a.sync()
		b.sync("lose-answer")
		b.put("lost", "[7,7]", "0.7")
		if r := b.sync(); len(r.Conflicts) != 1 || r.Conflicts[0].Resolution != "concurrent_semantic_local" {
			t.Errorf("b edits on top of what lost: %+v", r.Conflicts)
		}
		if rows := same(t, d, a, b); rows["lost"].Embedding[0] != 5 {
			t.Errorf("lost is %+v", rows["lost"])
		}
		// The same against a device, whose writes no client counts.
		d.exec(`UPDATE vectors SET embedding = ?, semantic_weight = 1.9 WHERE vector_id = 'lost'`, blob(8, 8))
		d.sync()
		b.put("lost", "[6,6]", "1.6")
		b.sync("lose-answer")
		b.put("lost", "[7,7]", "1.7")
		if r := b.sync(); len(r.Conflicts) != 1 || r.Conflicts[0].Resolution != "concurrent_semantic_local" {
			t.Errorf("b edits on top of what lost to a device: %+v", r.Conflicts)
		}
		if rows := same(t, d, a, b); rows["lost"].Embedding[0] != 8 {
			t.Errorf("lost is %+v", rows["lost"])
		}
		// Losers are in the log of conflicts, each once.
		var lost int
		for _, c := range conflicts(t, m) {
			if c == "lost update-lost weight" {
				lost++
			}
		}
		if lost != 4 {
			t.Errorf("%d versions of lost are in the conflict log, want 4: %q", lost, conflicts(t, m))
		}
	})

	t.Run("replay", func(t *testing.T) {
		a.put("again", "[1,2]")
		a.sync("keep-log")
		if r := a.sync("keep-log"); !r.Replay || r.Applied != 0 {
			t.Errorf("the window again: %+v", r)
		}
		b.sync()
		b.put("again", "[2,2]", "0.1")
		b.sync()
		r := a.sync()
		if !r.Replay || len(r.Pull) != 1 {
			t.Errorf("the window again, with news: %+v", r)
		}
		same(t, d, a, b)
		// The database is made anew under the same name.
		fresh := newPython(t, m.URL, "a")
		fresh.put("fresh", "[1,2]")
		if r := fresh.sync(); r.Replay || r.Applied != 1 {
			t.Errorf("a new database under an old name: %+v", r)
		}
		if got, _ := fresh.rows(); got["lost"].Embedding[0] != 8 {
			t.Errorf("it has %v, and hears no more of what its name had", got)
		}
		fresh.put("lost", "[0,1]", "0.1")
		if r := fresh.sync(); r.Applied != 1 || len(r.Pull) != 0 {
			t.Errorf("its second sync: %+v", r)
		}
		fresh2 := newPython(t, m.URL, "c") // has to hear everything
		b.sync()
		d.sync()
		if rows := same(t, d, b, fresh2); rows["fresh"].Embedding[1] != 2 || rows["lost"].Embedding[1] != 1 {
			t.Errorf("rows %+v", rows)
		}
	})

	t.Run("a refusal", func(t *testing.T) {
		b.put("bad", "[1,2,3]")
		b.put("good", "[1,2]")
		if r := b.sync(); r.Applied != 1 || len(r.Rejected) != 1 || r.Rejected[0].ID != "bad" {
			t.Errorf("a wrong dimension: %+v", r)
		}
		b.put("bad", "[1,2]")
		b.put("bad", "[1,3]")
		if r := b.sync(); r.Applied != 1 || len(r.Rejected) != 0 {
			t.Errorf("mended: %+v", r)
		}
	})

	t.Run("restart", func(t *testing.T) {
		a.put("late", "[1,2]")
		m.Reopen()
		b.sync()
		if r := a.sync(); r.Applied < 1 {
			t.Errorf("after a restart: %+v", r)
		}
		d.sync()
		if _, ok := d.rows()["late"]; !ok {
			t.Error("the device lacks what came after the restart")
		}
	})

	t.Run("4xx", func(t *testing.T) {
		if _, status, detail := newPython(t, m.URL, "master").try("sync", m.URL); status != 4 || !strings.HasPrefix(detail, "422 ") {
			t.Errorf("a client called master: %d %s", status, detail)
		}
	})
}

var faultSeeds = flag.Int("v1.seeds", 3, "schedules of TestClients_Faults")

// TestClients_Faults lets three clients and a device write the same few rows through a
// proxy that loses requests and answers.
func TestClients_Faults(t *testing.T) {
	for seed := range *faultSeeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { faults(t, rand.New(rand.NewPCG(uint64(seed), 1))) })
	}
}

func faults(t *testing.T, r *rand.Rand) {
	m := newMaster(t, v1.Options{})
	target, err := url.Parse(m.URL)
	if err != nil {
		t.Fatal(err)
	}
	var quiet bool // no request is under way when it is set
	forward := httputil.NewSingleHostReverseProxy(target)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if dice := r.IntN(10); !quiet && dice < 4 { // one request at a time
			if dice < 2 { // it is applied, and the answer is lost
				forward.ServeHTTP(httptest.NewRecorder(), req)
			}
			http.Error(w, "lost", http.StatusBadGateway)
			return
		}
		forward.ServeHTTP(w, req)
	}))
	t.Cleanup(proxy.Close)

	var clients []*pythonClient
	for _, name := range []string{"a", "b", "c"} {
		clients = append(clients, newPython(t, proxy.URL, name))
	}
	d := newDevice(t, m)
	clients[0].put("v0", "[0,0]")
	quiet = true
	clients[0].sync()
	quiet = false
	d.sync()
	for i := range 80 {
		p := clients[r.IntN(len(clients))]
		id := fmt.Sprint("v", r.IntN(4))
		switch action := r.IntN(12); {
		case action == 0:
			if rows, _ := p.rows(); len(rows[id].Embedding) > 0 {
				p.run("delete", id, fmt.Sprint(1700000000+r.IntN(60)))
			}
		case action < 5:
			p.put(id, fmt.Sprintf("[%d,%d]", i, r.IntN(9)), fmt.Sprint(r.IntN(3)), fmt.Sprint(1700000000+r.IntN(60)))
		case action < 9:
			option := []string{"", "", "lose-push", "lose-answer", "lose-ack", "keep-log"}[r.IntN(6)]
			if _, status, detail := p.try("sync", p.url, option); status == 4 {
				t.Fatalf("step %d: client %s: %s", i, p.device, detail)
			}
		case action == 9:
			d.sync()
		case action == 10:
			d.exec(`INSERT OR REPLACE INTO vectors VALUES (?, ?, 2, NULL, ?, NULL)`, id, blob(float64(i), -1), r.IntN(3))
		default:
			d.exec(`DELETE FROM vectors WHERE vector_id = ?`, id)
		}
	}
	quiet = true
	for range 2 { // what was pushed while others were cut off
		for _, p := range clients {
			p.sync()
		}
		d.sync()
	}
	same(t, d, clients...)
}

func TestClients_Token(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{V1: withTokens})
	var n int
	for _, token := range []string{m.Token("proxy"), m.TokenFor("notes", "proxy"), ""} {
		req, err := http.NewRequest("POST", m.URL+"/sync", strings.NewReader(body("a", 0, 1, vec{id: "x", clock: clock("a", 1)}.String())))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if want := []int{200, 404, 401}[n]; resp.StatusCode != want {
			t.Errorf("token %d: %d, want %d", n, resp.StatusCode, want)
		}
		n++
	}
	// A device_id is the token's that used it first.
	req, _ := http.NewRequest("POST", m.URL+"/sync", strings.NewReader(body("a", 1, 2, vec{id: "y", clock: clock("a", 1)}.String())))
	req.Header.Set("Authorization", "Bearer "+m.Token("another"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("another token's device_id: %d, want 403", resp.StatusCode)
	}
}
