package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// built is the folder of the built commands, once a test has asked for one.
var built struct {
	sync.Once
	dir string
	err error
}

// program returns the path of masterd or velosync, built from this module: the tests below
// run them as people do.
func program(t *testing.T, name string) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "velosync-bin-"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", built.dir+string(filepath.Separator), "../../masterd", ".").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("build the commands: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, name)
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// patience bounds everything that a test waits for.
const patience = time.Minute

// command runs a program to its end, with the environment added to ours.
func command(t *testing.T, env []string, stdin, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", name, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// shell runs statements with the sqlite3 shell, which knows nothing of VeloSync, and returns
// what it prints.
func shell(t *testing.T, path, statements string) string {
	t.Helper()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Fatalf("%v: .ci/setup installs the sqlite3 shell", err)
	}
	r := command(t, nil, ".timeout 10000\n"+statements+"\n", program, "-batch", "-bail", path)
	if r.code != 0 {
		t.Fatalf("sqlite3 %s: %s", statements, r.err)
	}
	return strings.TrimSpace(r.out)
}

// A service is a masterd process, and the tokens that it gave out.
type service struct {
	url  string
	data string
	stop func()
}

// startMaster runs the built masterd on a free port until the test ends or stop is called.
func startMaster(t *testing.T, data, listen string, flags ...string) *service {
	t.Helper()
	cmd := exec.Command(program(t, "masterd"), append([]string{"--listen", listen, "--data", data}, flags...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address, read := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(read)
		listening := regexp.MustCompile(`listening on (\S+),`)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			t.Log("masterd:", lines.Text())
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	stopped := false
	s := &service{data: data}
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cmd.Process.Signal(syscall.SIGTERM)
		<-read // before Wait, which closes the pipe
		if err := cmd.Wait(); err != nil {
			t.Errorf("masterd ends with: %v", err)
		}
	}
	t.Cleanup(s.stop)
	select {
	case s.url = <-address:
	case <-read:
		t.Fatal("masterd ended before it listened")
	case <-time.After(patience):
		t.Fatal("masterd does not listen")
	}
	return s
}

// newToken runs masterd token new.
func newToken(t *testing.T, data, space, device string) string {
	t.Helper()
	r := command(t, nil, "", program(t, "masterd"), "token", "new", "--space", space, "--device", device, "--data", data)
	r.want(t, 0)
	return strings.TrimSpace(r.out)
}

// A device is a database file and the token of its owner.
type device struct {
	path, token string
	url, space  string
}

// run runs the built velosync.
func (d device) run(t *testing.T, args ...string) result {
	t.Helper()
	return command(t, []string{"VELOSYNC_TOKEN=" + d.token, "VELOSYNC_MASTER=" + d.url, "VELOSYNC_SPACE=" + d.space},
		"", program(t, "velosync"), args...)
}

// sync runs velosync sync, and returns the round.
func (d device) sync(t *testing.T) map[string]any {
	t.Helper()
	list := d.run(t, "sync", d.path, "--json").want(t, 0).objects(t)
	if len(list) != 1 {
		t.Fatalf("velosync sync --json prints %v, want one round", list)
	}
	return list[0]
}

// twoDevices starts a masterd with tokens for two devices of the space notes, whose files do
// not exist yet.
func twoDevices(t *testing.T) (*service, device, device) {
	t.Helper()
	dir := t.TempDir()
	data := filepath.Join(dir, "master")
	laptop := device{path: filepath.Join(dir, "laptop.db"), token: newToken(t, data, "notes", "laptop"), space: "notes"}
	phone := device{path: filepath.Join(dir, "phone.db"), token: newToken(t, data, "notes", "phone"), space: "notes"}
	m := startMaster(t, data, "127.0.0.1:0")
	laptop.url, phone.url = m.url, m.url
	return m, laptop, phone
}

const notesTable = `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT NOT NULL, body TEXT, embedding BLOB, confidence REAL);`

// A row that the plain sqlite3 shell inserts on one device arrives on another.
func TestEndToEnd_shell(t *testing.T) {
	_, laptop, phone := twoDevices(t)
	shell(t, laptop.path, notesTable+`INSERT INTO notes(id, title) VALUES ('old', 'there before tracking');`)
	r := laptop.run(t, "track", laptop.path, "notes", "--weight", "confidence", "--group", "body,embedding").want(t, 0, "velosync sync")
	if r.out != "notes\t1\n" {
		t.Errorf("velosync track prints %q", r.out)
	}
	shell(t, laptop.path, `INSERT INTO notes VALUES ('new', 'from the shell', 'text', x'0000803f00000040', 0.5);`)

	round := laptop.sync(t)
	if round["pushed_rows"] != 2.0 || round["mutations"] != 2.0 || round["first_sync"] != true {
		t.Errorf("the laptop's round: %v", round)
	}
	phone.sync(t) // its file is new: the tables come too
	const all = `SELECT id, title, body, hex(embedding), confidence FROM notes ORDER BY id;`
	want := shell(t, laptop.path, all)
	if got := shell(t, phone.path, all); got != want || !strings.Contains(got, "new|from the shell|text|0000803F00000040|0.5") {
		t.Errorf("the phone has\n%s\nwant\n%s", got, want)
	}
	declared := `SELECT sql FROM sqlite_schema WHERE name = 'notes';`
	if got, want := shell(t, phone.path, declared), shell(t, laptop.path, declared); got != want {
		t.Errorf("the phone declares\n%s\nwant\n%s", got, want)
	}

	// And back, written by Python.
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("%v: .ci/setup installs python3", err)
	}
	command(t, nil, "", python, "-c", `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("UPDATE notes SET title = 'from Python' WHERE id = 'new'")
db.execute("DELETE FROM notes WHERE id = 'old'")
db.commit()
`, phone.path).want(t, 0)
	if round := phone.sync(t); round["pushed_rows"] != 2.0 {
		t.Errorf("the phone's round: %v", round)
	}
	laptop.sync(t)
	const back = "new|from Python|text|0000803F00000040|0.5"
	if got := shell(t, laptop.path, all); got != back {
		t.Errorf("the laptop has %q, want %q", got, back)
	}
	if round := laptop.sync(t); round["pushed_rows"] != 0.0 || round["pulled_rows"] != 0.0 {
		t.Errorf("a round with nothing to do: %v", round)
	}
}

func TestEndToEnd_conflict(t *testing.T) {
	_, laptop, phone := twoDevices(t)
	shell(t, laptop.path, notesTable+`INSERT INTO notes VALUES ('1', 'title', 'body', NULL, 0.5);`)
	laptop.run(t, "track", laptop.path, "notes", "--options", `{"weight":"confidence","groups":[["body","embedding"]]}`).want(t, 0)
	laptop.sync(t)
	phone.sync(t)
	r := laptop.run(t, "conflicts", laptop.path).want(t, 0, "No conflicts")
	if r.out != "" {
		t.Errorf("no conflicts, but %q", r.out)
	}

	vector := strings.Repeat("0000803f", 16)
	shell(t, laptop.path, `UPDATE notes SET body = 'sure', confidence = 0.9;`)
	shell(t, phone.path, `UPDATE notes SET body = 'perhaps', embedding = x'`+vector+`', confidence = 0.6, title = 'phone';`)
	laptop.sync(t)
	r = phone.run(t, "sync", phone.path).want(t, 0, "1 row lost", "velosync conflicts")
	if fields := strings.Split(strings.TrimSpace(r.out), "\t"); len(fields) != len(roundColumns) {
		t.Errorf("velosync sync prints %q, want %d columns", r.out, len(roundColumns))
	}
	laptop.sync(t)
	const all = `SELECT id, title, body, hex(embedding), confidence FROM notes;`
	if got, want := shell(t, phone.path, all), "1|phone|sure||0.9"; got != want {
		t.Errorf("the phone has %q, want %q", got, want)
	}
	if got, want := shell(t, laptop.path, all), shell(t, phone.path, all); got != want {
		t.Errorf("the laptop has %q, the phone %q", got, want)
	}

	list := phone.run(t, "conflicts", phone.path, "--json").want(t, 0).objects(t)
	if len(list) != 1 {
		t.Fatalf("conflicts on the phone: %v", list)
	}
	c := list[0]
	mine, _ := c["mine"].(map[string]any)
	theirs, _ := c["theirs"].(map[string]any)
	if c["rule"] != "weight" || c["key"] != "1" || c["tbl"] != "notes" || mine["body"] != "perhaps" || theirs["body"] != "sure" ||
		c["mine_weight"] != 0.6 || c["theirs_weight"] != 0.9 || c["settled"] != nil {
		t.Errorf("the conflict: %v", c)
	}
	for _, clock := range []string{"mine_clock", "theirs_clock"} {
		if m, ok := c[clock].(map[string]any); !ok || len(m) == 0 {
			t.Errorf("%s is %v, want an object of counters", clock, c[clock])
		}
	}
	r = phone.run(t, "conflicts", phone.path).want(t, 0, "velosync resolve")
	for _, want := range []string{"weight 0.6 < 0.9", "body: perhaps", "embedding: vector(16 × f32)", "body: sure", "embedding: NULL"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("velosync conflicts lacks %q:\n%s", want, r.out)
		}
	}
	phone.run(t, "doctor", phone.path).want(t, exitFound)

	id := fmt.Sprint(c["id"])
	phone.run(t, "resolve", phone.path, "999", "mine").want(t, exitFailed, "no conflict 999", "velosync conflicts")
	phone.run(t, "resolve", phone.path, id, "mine").want(t, 0)
	phone.run(t, "resolve", phone.path, id, "theirs").want(t, exitFailed, "was settled as mine")
	phone.run(t, "conflicts", phone.path).want(t, 0, "No conflicts")
	if r := phone.run(t, "conflicts", phone.path, "--all").want(t, 0); !strings.HasSuffix(r.out, "\tmine\n") {
		t.Errorf("velosync conflicts --all: %q", r.out)
	}
	phone.sync(t)
	laptop.sync(t)
	for _, d := range []device{laptop, phone} {
		if got, want := shell(t, d.path, `SELECT body, hex(embedding) FROM notes;`), "perhaps|"+strings.ToUpper(vector); got != want {
			t.Errorf("%s has %q after the conflict was settled, want %q", filepath.Base(d.path), got, want)
		}
	}
	phone.run(t, "doctor", phone.path).want(t, 0, "nothing is wrong")
}

// Offline is a normal state: the code says so, and nothing is lost.
func TestEndToEnd_offline(t *testing.T) {
	m, laptop, _ := twoDevices(t)
	shell(t, laptop.path, notesTable+`INSERT INTO notes(id, title) VALUES ('1', 'a'), ('2', 'b');`)
	laptop.run(t, "track", laptop.path, "notes", "--group", "body,embedding").want(t, 0)
	shell(t, laptop.path, `UPDATE notes SET title = 'c' WHERE id = '2';`)
	m.stop()
	laptop.run(t, "sync", laptop.path).want(t, exitOffline, "is masterd running at "+m.url)

	status := laptop.run(t, "status", laptop.path, "--json").want(t, 0).objects(t)
	if len(status) != 1 || status[0]["pending"] != 2.0 || status[0]["tables"] != "notes" {
		t.Errorf("status while offline: %v", status)
	}
	pending := laptop.run(t, "status", laptop.path, "--pending", "--json").want(t, 0).objects(t)
	if len(pending) != 2 || pending[1]["key"] != "2" || pending[1]["mutations"] != 2.0 {
		t.Errorf("pending while offline: %v", pending)
	}
	log := laptop.run(t, "log", laptop.path, "--json").want(t, 0).objects(t)
	if len(log) != 3 || log[2]["op"] != "update" || log[2]["columns"] != "title" || log[2]["key"] != "2" {
		t.Errorf("log while offline: %v", log)
	}
	if log := laptop.run(t, "log", laptop.path, "--limit", "1").want(t, 0); !strings.Contains(log.out, "\tnotes\tupdate\t2\ttitle\t") {
		t.Errorf("the newest log row: %q", log.out)
	}
	laptop.run(t, "wait", laptop.path, "--timeout", "200ms").want(t, exitFound, "2 changed rows still pending")

	startMaster(t, m.data, strings.TrimPrefix(m.url, "http://"))
	laptop.sync(t)
	if r := laptop.run(t, "wait", laptop.path, "--json").want(t, 0).objects(t); len(r) != 1 || r[0]["pending"] != 0.0 {
		t.Errorf("wait after a sync: %v", r)
	}
	if r := laptop.run(t, "status", laptop.path).want(t, 0); !regexp.MustCompile(`(?m)^pending\t0$`).MatchString(r.out) {
		t.Errorf("status after a sync: %s", r.out)
	}
}

func TestEndToEnd_refused(t *testing.T) {
	_, laptop, phone := twoDevices(t)
	shell(t, laptop.path, notesTable)
	laptop.run(t, "track", laptop.path, "notes").want(t, 0)

	stranger := laptop
	stranger.token = strings.Repeat("x", len(laptop.token))
	stranger.run(t, "sync", laptop.path).want(t, exitFailed, "401", "masterd token new --space notes")
	stranger.token = ""
	stranger.run(t, "sync", laptop.path).want(t, exitFailed, "VELOSYNC_TOKEN")
	elsewhere := laptop
	elsewhere.space = "other"
	elsewhere.run(t, "sync", laptop.path).want(t, exitFailed, "is it the one for other")

	laptop.sync(t)
	shell(t, phone.path, `CREATE TABLE notes(id INT PRIMARY KEY NOT NULL, title TEXT);`)
	phone.run(t, "track", phone.path, "notes").want(t, 0)
	phone.run(t, "sync", phone.path).want(t, exitFailed, "notes", "velosync untrack")
}

// Two devices that watch show each other's rows without a command in between.
func TestEndToEnd_watch(t *testing.T) {
	_, laptop, phone := twoDevices(t)
	shell(t, laptop.path, notesTable)
	laptop.run(t, "track", laptop.path, "notes").want(t, 0)
	laptop.sync(t)
	phone.sync(t)
	stopLaptop, stopPhone := laptop.watch(t), phone.watch(t)
	for i := range 3 {
		from, to := laptop, phone
		if i%2 == 1 {
			from, to = phone, laptop
		}
		id := fmt.Sprintf("row%d", i)
		shell(t, from.path, `INSERT INTO notes(id, title) VALUES ('`+id+`', 'x');`)
		eventually(t, id+" arrives", func() bool {
			return shell(t, to.path, `SELECT count(*) FROM notes WHERE id = '`+id+`';`) == "1"
		})
	}
	laptop.run(t, "wait", laptop.path).want(t, 0)
	laptop.run(t, "sync", laptop.path).want(t, exitFile, "velosync wait")
	stopLaptop()
	stopPhone()
	laptop.sync(t)
}

// watch runs velosync sync --watch until stop is called, and waits until it holds the file.
func (d device) watch(t *testing.T) (stop func()) {
	t.Helper()
	cmd := exec.Command(program(t, "velosync"), "sync", d.path, "--watch", "--json", "--interval", "200ms")
	cmd.Env = append(os.Environ(), "VELOSYNC_TOKEN="+d.token, "VELOSYNC_MASTER="+d.url, "VELOSYNC_SPACE="+d.space)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var round map[string]any
			if err := json.Unmarshal(lines.Bytes(), &round); err != nil {
				t.Errorf("velosync sync --watch --json prints %q: %v", lines.Text(), err)
			}
		}
		io.Copy(io.Discard, out)
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cmd.Process.Signal(syscall.SIGTERM)
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("velosync sync --watch ends with: %v\n%s", err, errs.String())
		}
	}
	t.Cleanup(stop)
	return stop
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

// Doctor finds what other programs do to a file, and says what mends it.
func TestEndToEnd_doctor(t *testing.T) {
	_, laptop, phone := twoDevices(t)
	shell(t, laptop.path, notesTable)
	laptop.run(t, "track", laptop.path, "notes").want(t, 0)
	laptop.sync(t)
	laptop.run(t, "doctor", laptop.path).want(t, 0, "nothing is wrong")

	trigger := shell(t, laptop.path, `SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '%insert%' LIMIT 1;`)
	if trigger == "" {
		t.Fatal("no insert trigger")
	}
	shell(t, laptop.path, `DROP TRIGGER "`+trigger+`"; INSERT INTO notes(id, title) VALUES ('missed', 'x');`)
	found := laptop.run(t, "doctor", laptop.path, "--json").want(t, exitFound, "1 problem").objects(t)
	if len(found) == 0 || found[0]["level"] != "error" || found[0]["where"] != "notes" || found[0]["do"] == "" {
		t.Errorf("doctor says %v of a missing trigger", found)
	}
	laptop.sync(t)
	laptop.run(t, "doctor", laptop.path).want(t, 0, "nothing is wrong")
	phone.sync(t)
	if got := shell(t, phone.path, `SELECT id FROM notes;`); got != "missed" {
		t.Errorf("the phone has %q, want the row that was written without a trigger", got)
	}

	// A page that does not read is found before anything else is believed.
	b, err := os.ReadFile(laptop.path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged.db")
	for i := len(b) - 4096; i < len(b)-2048; i++ {
		b[i] = 0xff
	}
	if err := os.WriteFile(damaged, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := laptop.run(t, "doctor", damaged); r.code != exitFound && r.code != exitFile || !strings.Contains(r.out+r.err, "recover") {
		t.Errorf("doctor of a damaged file: exit code %d, %s%s", r.code, r.out, r.err)
	}
}

// Doctor compares all rows with the master, heals what no trigger saw, and says what it did.
func TestEndToEnd_doctorCompares(t *testing.T) {
	m, laptop, phone := twoDevices(t)
	shell(t, laptop.path, notesTable+`CREATE TABLE pairs(x INT NOT NULL, y TEXT NOT NULL, PRIMARY KEY (x, y));`+
		`WITH n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 699) INSERT INTO notes(id, title) SELECT 'n' || i, 'title' FROM n;`+
		`WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) INSERT INTO pairs SELECT i, 'y' FROM n;`)
	laptop.run(t, "track", laptop.path, "notes").want(t, 0)
	laptop.run(t, "track", laptop.path, "pairs").want(t, 0)
	laptop.sync(t)
	phone.sync(t)
	behind := func(d device, statement string) {
		t.Helper()
		shell(t, d.path, `UPDATE _velosync_state SET applying = 1; `+statement+`; UPDATE _velosync_state SET applying = 0;`)
	}

	// The file knows its master and its space, and only the token has to be said.
	bare := device{path: phone.path, token: phone.token}
	r := bare.run(t, "doctor", phone.path).want(t, 0, "Synced first: 0 rows sent, 0 rows received", "Compared with "+m.url+": 2 tables, 900 rows, 5 ranges, in", "nothing differs", "nothing is wrong")
	if !strings.Contains(r.out, "note\tnotes\t600 rows compared with the master, in 3 ranges\t\n") {
		t.Errorf("doctor prints %q", r.out)
	}
	list := bare.run(t, "doctor", phone.path, "--json").want(t, 0).objects(t)
	if len(list) != 2 || list[1]["table"] != "pairs" || list[1]["rows"] != 300.0 || list[1]["ranges"] != 2.0 || list[1]["left_out"] != "" {
		t.Errorf("doctor --json prints %v", list)
	}

	behind(phone, `UPDATE notes SET title = 'rot' WHERE id IN ('n101', 'n400'); DELETE FROM pairs WHERE x = 299`)
	phone.run(t, "doctor", phone.path, "--local").want(t, 0, "nothing is wrong") // which nothing here can tell
	r = phone.run(t, "doctor", phone.path, "--json").want(t, exitFound, "3 rows differed, 3 healed", "2 problems")
	list = r.objects(t)
	if len(list) != 4 || list[2]["level"] != "error" || list[2]["differed"] != 2.0 || list[2]["healed"] != 2.0 || list[2]["after"] != nil || list[2]["to"] != "n611" ||
		list[3]["table"] != "pairs" || list[3]["after"] != `["i256","ty"]` || list[3]["to"] != nil || !strings.Contains(fmt.Sprint(list[3]["what"]), "after the key 256, y") {
		t.Errorf("doctor --json prints %v", list)
	}
	if got := shell(t, phone.path, `SELECT count(*) FILTER (WHERE title = 'title'), (SELECT count(*) FROM pairs) FROM notes;`); got != "600|300" {
		t.Errorf("after it the phone has %s", got)
	}
	phone.run(t, "doctor", phone.path).want(t, exitFound, "nothing differs", "1 problem") // the conflicts, which a person looks at
	if got := phone.run(t, "conflicts", phone.path, "--json").want(t, 0).objects(t); len(got) != 3 || got[0]["kind"] != "diverged" {
		t.Errorf("conflicts: %v", got)
	}

	// Beside a process that syncs.
	stop := laptop.watch(t)
	eventually(t, "it holds the file", func() bool { return laptop.run(t, "sync", laptop.path).code == exitFile })
	behind(laptop, `UPDATE notes SET title = 'rot' WHERE id = 'n500'`)
	laptop.run(t, "doctor", laptop.path).want(t, exitFound, "Another process syncs", "1 row differed, 1 healed")
	stop()
	if got := shell(t, laptop.path, `SELECT title FROM notes WHERE id = 'n500';`); got != "title" {
		t.Errorf("the laptop has %q", got)
	}
	shell(t, laptop.path, `UPDATE _velosync_conflict SET settled = 'theirs';`)

	// What keeps it from comparing.
	laptop.run(t, "doctor", laptop.path, "--space", "other").want(t, exitUsage, "syncs with the space notes", "--local")
	laptop.run(t, "doctor", laptop.path, "--master", "example.com").want(t, exitUsage, "--master", "https://")
	for range 2 {
		device{path: laptop.path}.run(t, "doctor", laptop.path).want(t, exitFailed, "not compared", "VELOSYNC_TOKEN")
	}
	laptop.run(t, "doctor", laptop.path).want(t, 0)
	m.stop()
	laptop.run(t, "doctor", laptop.path).want(t, exitOffline, "itself has no problem", "is masterd running at "+m.url)
	laptop.run(t, "doctor", laptop.path, "--local").want(t, 0, "nothing is wrong")
	shell(t, laptop.path, `DROP TRIGGER _velosync_notes_insert;`)
	laptop.run(t, "doctor", laptop.path).want(t, exitFound, "1 problem", "Not compared with the master: ")
	never := newFile(t, notesTable)
	velosync(t, "track", never, "notes").want(t, 0)
	if r := velosync(t, "doctor", never).want(t, 0); !strings.Contains(r.out, "no master is known") {
		t.Errorf("doctor of a file that never synced prints %q", r.out)
	}
}

// The example for applications in other languages does what it says.
func TestEndToEnd_sidecar(t *testing.T) {
	cmd := filepath.Dir(program(t, "velosync"))
	data := filepath.Join(t.TempDir(), "master")
	m := startMaster(t, data, "127.0.0.1:0", "--insecure")
	r := command(t, []string{"PATH=" + cmd + string(filepath.ListSeparator) + os.Getenv("PATH")}, "", "../../examples/sidecar/sidecar.sh", m.url).want(t, 0)
	if !strings.HasSuffix(r.out, "cake|400\ntea|300\n") {
		t.Errorf("the office has:\n%s", r.out)
	}
}

func TestTrack_refused(t *testing.T) {
	path := newFile(t, `
		CREATE TABLE nokey(x);
		CREATE TABLE counted(id INTEGER PRIMARY KEY, x);
		CREATE TABLE good(id TEXT PRIMARY KEY NOT NULL, body, embedding, w);
		CREATE VIEW seen AS SELECT * FROM good;`)
	for _, test := range []struct {
		name string
		args []string
		says []string
	}{
		{"no such table", []string{"goood"}, []string{"has no table goood", "counted, good, nokey"}},
		{"no primary key", []string{"nokey"}, []string{"primary key"}},
		{"counted keys", []string{"counted"}, []string{"INTEGER PRIMARY KEY", "random"}},
		{"a view", []string{"seen"}, []string{"is a view"}},
		{"a weight that is no column", []string{"good", "--weight", "confidence"}, []string{"confidence", "body, embedding, w"}},
		{"an option that is none", []string{"good", "--options", `{"wieght":"w"}`}, []string{"wieght"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			velosync(t, append([]string{"track", path}, test.args...)...).want(t, exitFailed, test.says...)
		})
	}
	velosync(t, "track", path, "counted", "--ids", "random").want(t, 0)
	r := velosync(t, "track", path, "good", "--weight", "w", "--group", "body, embedding", "--json").want(t, 0)
	if o := r.objects(t); len(o) != 1 || o[0]["table"] != "good" || o[0]["pending"] != 0.0 {
		t.Errorf("track prints %v", o)
	}
	if s := velosync(t, "status", path, "--json").want(t, 0).objects(t); s[0]["tables"] != "counted, good" {
		t.Errorf("status: %v", s)
	}
	velosync(t, "untrack", path, "good").want(t, 0, "no longer tracked")
	if s := velosync(t, "status", path, "--json").want(t, 0).objects(t); s[0]["tables"] != "counted" {
		t.Errorf("status: %v", s)
	}
	velosync(t, "untrack", path, "good").want(t, exitFailed)
}
