package replicator_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
)

var update = flag.Bool("update", false, "write into CONFLICTS.md what it shows now")

// TestConflictsPage runs the transcripts of CONFLICTS.md, and compares what they show.
func TestConflictsPage(t *testing.T) {
	const page = "CONFLICTS.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	var run *transcript
	inside, commands := false, 0
	for _, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "## "):
			run = newTranscript(t)
		case line == "```":
			inside = !inside
		case inside:
			name, command, ok := strings.Cut(line, "> ")
			if !ok || run == nil || run.devices[name] == nil {
				continue // what a command shows, which comes anew
			}
			commands++
			shown = append(shown, line)
			line = run.do(name, command)
			if line == "" {
				continue
			}
		}
		shown = append(shown, line)
	}
	got := strings.Join(shown, "\n")
	if *update {
		if err := os.WriteFile(page, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(text); got != want && !*update {
		t.Errorf("%s shows something else now (go test -run %s -update writes it): %s", page, t.Name(), firstDifference(got, want))
	}
	if commands < 40 {
		t.Errorf("only %d commands were found", commands)
	}
}

// A transcript is two devices and a master, whose clocks move by a minute with each command.
type transcript struct {
	t       *testing.T
	now     time.Time
	devices map[string]*device
}

func newTranscript(t *testing.T) *transcript {
	s := &transcript{t: t, now: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), devices: map[string]*device{}}
	clock := func() time.Time { return s.now }
	m := masterdtest.New(t, masterdtest.Options{Log: quiet, Store: store.Options{Now: clock}, Server: server.Options{Rate: -1, Now: clock}})
	for _, name := range []string{"laptop", "phone"} {
		s.devices[name] = newDevice(t, m, name, func(o *replicator.Options) { o.Now, o.Log = clock, quiet })
	}
	return s
}

// do runs a command on a device, and returns what it shows.
func (s *transcript) do(name, command string) string {
	s.now = s.now.Add(time.Minute)
	d := s.devices[name]
	if command == ".sync" {
		r, err := d.r.Sync(context.Background())
		if err != nil {
			return "Error: " + err.Error()
		}
		return fmt.Sprintf("pushed %d, pulled %d, lost %d", r.PushedRows, r.PulledRows, r.LostRows)
	}
	defer d.tick(s.now)
	rows, err := d.db.Query(command)
	if err != nil {
		return "Error: " + err.Error()
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		s.t.Fatal(err)
	}
	var lines []string
	if len(cols) > 0 && !strings.Contains(cols[0], "velosync_") { // a function's name says it all
		lines = append(lines, strings.Join(cols, " | "))
	}
	for rows.Next() {
		v, p := make([]any, len(cols)), make([]any, len(cols))
		for i := range v {
			p[i] = &v[i]
		}
		if err := rows.Scan(p...); err != nil {
			return "Error: " + err.Error()
		}
		texts := make([]string, len(cols))
		for i := range v {
			if texts[i] = fmt.Sprint(v[i]); v[i] == nil {
				texts[i] = "NULL"
			}
		}
		lines = append(lines, strings.Join(texts, " | "))
	}
	if err := rows.Err(); err != nil {
		return "Error: " + err.Error()
	}
	return strings.Join(lines, "\n")
}

// tick gives what was just logged the transcript's time.
func (d *device) tick(now time.Time) {
	if d.rows(`SELECT count(*) FROM sqlite_schema WHERE name = '_velosync_wal'`) == "1" {
		d.exec(fmt.Sprintf(`UPDATE _velosync_wal SET at = %d WHERE at > %[1]d OR at < %d`, now.UnixMilli(), now.Add(-24*time.Hour).UnixMilli()))
	}
}
