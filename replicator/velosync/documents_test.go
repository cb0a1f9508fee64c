package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writeTree writes files, named by their path below a new folder.
func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestGoDocuments(t *testing.T) {
	goroot := writeTree(t, map[string]string{
		"src/net/wire/wire.go": `// Package wire sends things.
package wire

// Limits of a thing.
const (
	Most = 9
	least = 1
)

// A Thing can be sent.
type Thing struct{ n int }

// NewThing makes a Thing.
func NewThing(
	n int,
) *Thing {
	return &Thing{n}
}

// Send sends t.
func (t *Thing) Send(to string) error { return nil }

func Undocumented() {}

// hidden is not exported.
func hidden() {}
`,
		"src/net/wire/wire_test.go":    "// Package wire is tested here.\npackage wire\n",
		"src/net/wire/wire_plan9.go":   "package wire\n\n// Plan9 is for another system.\nfunc Plan9() {}\n",
		"src/net/internal/x/x.go":      "// Package x is internal.\npackage x\n",
		"src/vendor/example.com/v.go":  "// Package v is vendored.\npackage v\n",
		"src/cmd/tool/main.go":         "// Tool is a command.\npackage main\n",
		"src/net/wire/testdata/bad.go": "not Go",
	})
	got, err := goDocuments(t.Context(), goroot)
	if err != nil {
		t.Fatal(err)
	}
	want := []document{
		{"net/wire", "net/wire", "", "package net/wire", "Package wire sends things."},
		{"net/wire.Most", "net/wire", "Most", "const Most", "Limits of a thing."},
		{"net/wire.NewThing", "net/wire", "NewThing", "func NewThing(n int) *Thing", "NewThing makes a Thing."},
		{"net/wire.Thing", "net/wire", "Thing", "type Thing", "A Thing can be sent."},
		{"net/wire.Thing.Send", "net/wire", "Thing.Send", "func (t *Thing) Send(to string) error", "Send sends t."},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
}

// The demo's input: the Go that runs this test.
func TestGoDocuments_installed(t *testing.T) {
	goroot, err := findGOROOT(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	docs, err := goDocuments(t.Context(), goroot)
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) < 3000 {
		t.Errorf("found %d documents, want thousands", len(docs))
	}
	for _, id := range []string{"bufio.Scanner", "io.Copy", "net/http.Client.Do", "compress/gzip"} {
		if !slices.ContainsFunc(docs, func(d document) bool { return d.ID == id }) {
			t.Errorf("no document %s", id)
		}
	}
	for _, d := range docs {
		if d.Title == "" || d.Body == "" || len(d.Body) > maxBody {
			t.Fatalf("document %s: title %q, body of %d bytes", d.ID, d.Title, len(d.Body))
		}
	}
}

func TestTextDocuments(t *testing.T) {
	long := strings.Repeat("word ", 100)
	dir := writeTree(t, map[string]string{
		"guide/start.md":   "# Start\r\n\r\nFirst steps.\r\n\r\n## Next\n\nMore steps.\n",
		"notes.txt":        "One line\nand another\n\n" + long + "\n\n" + long,
		"image.png":        "\x89PNG",
		"binary":           "\xff\xfe\x00",
		".hidden/a.md":     "hidden",
		"empty.md":         "\n\n",
		"only heading.md":  "# Alone\n",
		"guide/.config.md": "hidden",
	})
	got, err := textDocuments(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	long = strings.TrimSpace(long)
	want := []document{
		{"guide/start.md#1", "guide", "start.md", "Start", "First steps."},
		{"guide/start.md#2", "guide", "start.md", "Next", "More steps."},
		{"notes.txt#1", ".", "notes.txt", "One line", "One line\nand another\n\n" + long},
		{"notes.txt#2", ".", "notes.txt", cut(long, 100), long},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
}

func TestTextDocuments_wrongFolder(t *testing.T) {
	dir := writeTree(t, map[string]string{"a.md": "text"})
	for path, want := range map[string]string{
		filepath.Join(dir, "missing"): "give a folder",
		filepath.Join(dir, "a.md"):    "is no folder",
	} {
		if _, err := textDocuments(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("textDocuments(%s): %v, want an error that says %q", path, err, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, test := range []struct {
		text string
		n    int
		want string
	}{
		{"short", 10, "short"},
		{"exactly 10", 10, "exactly 10"},
		{"more than ten", 10, "more th…"},
		{"ääääääää", 10, "äää…"}, // 2 bytes each, and 3 for the dots
		{"日本語日本語", 10, "日本…"},
	} {
		if got := cut(test.text, test.n); got != test.want {
			t.Errorf("cut(%q, %d) = %q, want %q", test.text, test.n, got, test.want)
		}
	}
}
