// Package examples_test compiles and runs what users copy from: the program in the README
// and each example.
package examples_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/masterd/masterdtest"
)

// build compiles a program of this module.
func build(t *testing.T, what, out string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), out)
	if text, err := exec.Command("go", "build", "-o", bin, what).CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", what, err, text)
	}
	return bin
}

func output(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var errText strings.Builder
	cmd.Stderr = &errText
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, out, errText.String())
	}
	return string(out)
}

// TestREADME: at most ten lines of Go track a table, sync and search by vector.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```go\n")
	program, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the README has no Go program")
	}
	_, body, _ := strings.Cut(program, "func main() {\n")
	body, _, _ = strings.Cut(body, "\n}")
	if lines := strings.Count(body, "\n") + 1; lines > 10 {
		t.Errorf("the program has %d lines, want at most 10", lines)
	}
	m := masterdtest.New(t, masterdtest.Options{Insecure: true})
	const url = "http://127.0.0.1:8440"
	if !strings.Contains(program, url) {
		t.Fatalf("the program does not name %s", url)
	}
	src := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(src, []byte(strings.Replace(program, url, m.URL, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := build(t, src, "readme")
	for _, device := range []string{"first", "second"} {
		if got := output(t, t.TempDir(), nil, bin); got != "tea\n" {
			t.Errorf("%s device prints %q, want tea", device, got)
		}
	}
	space, err := m.Engine.Lookup(context.Background(), "default")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := space.Stats(context.Background()); err != nil || st.Rows != 3 || len(st.Devices) != 2 {
		t.Errorf("master: %+v, %v; want 3 rows of 2 devices", st, err)
	}
}

func TestExamples(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{Insecure: true})
	velosync := build(t, "../replicator/velosync", "velosync")
	tests := []struct {
		name string
		run  func(t *testing.T) string
		want string
	}{
		{"quickstart", func(t *testing.T) string { return output(t, "", nil, build(t, "./quickstart", "x")) },
			"tea      0.995\ncoffee   0.992\n3 rows wait for a master\n"},
		{"gorm", func(t *testing.T) string { return output(t, "", nil, build(t, "./gorm", "x")) },
			"tea\ncoffee\n3 rows wait, 4 mutations\n"},
		{"two-devices", func(t *testing.T) string {
			return output(t, "", nil, build(t, "./two-devices", "x"), "-master", m.URL, "-space", "default")
		}, `phone.db:
  id=soup  title=Tomato soup  steps=chop, boil  tested=0.9
laptop.db:
  id=soup  title=Tomato soup  steps=chop, boil  tested=0.9
conflicts on the laptop:
  id=1  key=soup  rule=weight  mine={"title":"Hot soup","tested":0.2}  theirs={"title":"Tomato soup","tested":0.9}
phone.db, after the laptop settled it with 'mine':
  id=soup  title=Hot soup  steps=chop, boil  tested=0.2
`},
		{"feed", func(t *testing.T) string {
			return output(t, "", nil, build(t, "./feed", "x"), "-master", m.URL, "-space", "feed")
		}, `read: [buy tea] [boil water]
update of 2 elsewhere: [buy tea] [boil two cups]
delete of 1 here: [boil two cups]
`},
		{"sidecar", func(t *testing.T) string {
			path := "PATH=" + filepath.Dir(velosync) + string(os.PathListSeparator) + os.Getenv("PATH")
			return output(t, "", []string{path}, "./sidecar/sidecar.sh", m.URL, "sidecar")
		}, "cake|400\ntea|300\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.run(t)
			if tt.name == "sidecar" { // velosync's own words come first
				lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
				got = strings.Join(lines[max(0, len(lines)-2):], "\n") + "\n"
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}
