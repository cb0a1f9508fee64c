package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tiny is enough to run everything once, and says nothing of speed.
var tiny = sizes{rows: 400, pairs: 2, singles: 20, batched: 80, thousand: 40, writes: 3, gap: time.Millisecond, scans: 2, devices: []int{1, 2},
	arrivals: []arrival{{rows: 1, commits: 2, gap: time.Millisecond}, {rows: 20, commits: 2, gap: 2 * time.Millisecond}}, calm: time.Millisecond}

func TestMeasureAll(t *testing.T) {
	dir := t.TempDir()
	rows, err := (&bench{size: tiny, say: t.Logf}).measureAll(t.Context(), nil, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if !(r.Figure > 0) || math.IsInf(r.Figure, 0) || !(r.Ratio >= 0) || math.IsInf(r.Ratio, 0) {
			t.Errorf("%s: figure %v %s, ratio %v", r.Work, r.Figure, r.Unit, r.Ratio)
		}
		if (r.Ratio > 0) != (r.Floor != "") || (r.Met != nil) != (r.Aim != "") || r.Unit == "" {
			t.Errorf("incomplete: %+v", r)
		}
	}
	for _, want := range []string{
		"capture: insert, 1-row transactions", "capture: insert, 1-row transactions, prepared each time", "capture: insert, 1k-row transactions", "capture: insert, one 400 transaction",
		"capture: update of 1k titles", "capture: update of 1k whole rows", "capture: delete of 1k rows", "capture: file, nothing shipped yet",
		"first push", "file, all shipped and the log pruned", "bootstrap of a new device",
		"1k titles changed: push", "1k titles changed: pull",
		"1k rows changed 100 times offline: push", "1k rows changed 100 times offline: pull",
		"1k rows changed 100 times offline", "1k rows changed 100 times offline: log before", "1k rows changed 100 times offline: log after",
		"digest: all of 400 rows", "digest: device", "digest: master", "digest: traffic",
		"one fsync of a 4 KiB append, p50", "one HTTP round trip, p50", "write on A seen on B, p50", "write on A seen on B, p95",
		"exact ORDER BY cosine_similarity LIMIT 10, 400 x 384",
		"search while rows arrive by sync, before, recall@10", "search while rows arrive by sync, 20 a commit, 10,000 rows/s, p95", "search while rows arrive by sync, after, p50",
		"metadata of a row that 1 device wrote: device", "metadata of a row that 2 devices wrote: master",
	} {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.Work == want }) {
			t.Errorf("no row %q", want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
	var out bytes.Buffer
	if err := show(&out, rows, false); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if len(lines) != len(rows)+1 {
		t.Errorf("%d lines for %d rows", len(lines), len(rows))
	}
	for _, line := range lines {
		if got := strings.Count(line, "\t") + 1; got != len(heads) {
			t.Errorf("%d columns, want %d: %s", got, len(heads), line)
		}
	}
	out.Reset()
	if err := show(&out, rows, true); err != nil {
		t.Fatal(err)
	}
	for from := json.NewDecoder(&out); from.More(); {
		var r row
		if err := from.Decode(&r); err != nil || r.Work == "" {
			t.Fatalf("a line of JSON: %+v, %v", r, err)
		}
	}
	drawn := draw(rows)
	for _, r := range rows {
		if !strings.Contains(drawn, r.Work) || !strings.Contains(drawn, r.Note) {
			t.Errorf("the table lacks %q, or its note:\n%s", r.Work, drawn)
		}
	}
}

func TestRun_errors(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--only", "speed"}, "want some of capture, sync"},
		{[]string{"--rows", "5"}, "at least 10000"},
		{[]string{"--nonsense"}, "see bench --help"},
	} {
		err := run(t.Context(), c.args, &bytes.Buffer{}, &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &out, &out); err != nil || !strings.Contains(out.String(), "--quick") {
		t.Errorf("--help: %v\n%s", err, out.String())
	}
}

func TestGenerator(t *testing.T) {
	a, err := newGenerator(1).docs(50)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newGenerator(1).docs(50)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range a {
		if got := len(d.id) + len(d.title) + len(d.body) + len(d.embedding) + 8 + 8 + 4; got != packedBytes {
			t.Fatalf("a row has %d bytes, want %d", got, packedBytes)
		}
		if d.id != b[i].id || d.body != b[i].body || !bytes.Equal(d.embedding, b[i].embedding) {
			t.Fatalf("row %d differs for the same seed", i)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0.1234: "0.123", 1: "1", 35.44: "35.4", 60: "60", 1376.2: "1376", 40_000: "40,000", 1234567: "1,234,567"} {
		if got := number(v); got != want {
			t.Errorf("%v prints as %s, want %s", v, got, want)
		}
	}
}

// TestReadPool reads a folder of the shape that bench-vector makes.
func TestReadPool(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readPool(dir); err == nil || !strings.Contains(err.Error(), "dist/bench-vector/data") {
		t.Errorf("no set: %v", err)
	}
	write("meta.json", `{"name":"words","what":"words","rows":3,"dims":2,"queries":1}`)
	write("base.f32", "aaaabbbbccccddddeeeeffff")
	write("query.f32", "gggghhhh")
	p, err := readPool(dir)
	if err != nil || p.what != "words" || fmt.Sprintf("%s %s", p.rows, p.queries) != "[aaaabbbb ccccdddd eeeeffff] [gggghhhh]" {
		t.Errorf("%q %s, %v", p.rows, p.queries, err)
	}
	write("query.f32", "gggghhhhi")
	if _, err := readPool(dir); err == nil || !strings.Contains(err.Error(), "9 bytes are no vectors of 2 dimensions") {
		t.Errorf("cut: %v", err)
	}
}

func TestAddLookups(t *testing.T) {
	b := &bench{size: tiny, dir: t.TempDir()}
	b.addLookups([]lookup{
		{Phase: "before", Took: 2, Checked: true, Recall: 1}, {Phase: "before", Took: 4},
		{Phase: "after", Took: 9, Checked: true, Recall: 0.5, Changed: 7}, {Phase: "after", Took: 9, Checked: true, Recall: 0.7, Changed: 3},
	}, "rows")
	if len(b.rows) != 6 || b.rows[0].Figure != 3 || b.rows[2].Figure != 1 || b.rows[3].Ratio != 3 || b.rows[5].Figure != 0.6 || !strings.Contains(b.rows[3].Note, "7 at most, 3 at the end") {
		t.Errorf("%+v", b.rows)
	}
}
