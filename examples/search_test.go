package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSearch runs examples/search as its comment says, and without the build tag.
func TestSearch(t *testing.T) {
	notes := t.TempDir()
	for name, text := range map[string]string{
		"kitchen.md":      "# Tea\n\nPour boiling water over the leaves, add lemon.\n\n# Coffee\n\nGrind the beans, then pour water slowly.\n",
		"garden.md":       "# Lemons\n\nA lemon tree in a pot wants sun. Bring it indoors before frost.\n",
		"locks.txt":       "Encryption at rest: the disk asks for a passphrase at boot.\n",
		"skip/.hidden.md": "tea tea tea\n",
	} {
		file := filepath.Join(notes, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "notes.db")

	t.Run("words and vectors", func(t *testing.T) {
		bin := filepath.Join(t.TempDir(), "search")
		if text, err := exec.Command("go", "build", "-tags", "sqlite_fts5", "-o", bin, "./search").CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, text)
		}
		const want = `
 1  Tea  kitchen.md
    0.0328  words #1, vectors #1
    Pour boiling water over the leaves, add lemon.

 2  Lemons  garden.md
    0.0323  words #2, vectors #2
    A lemon tree in a pot wants sun. Bring it indoors before frost.
`
		for _, run := range []string{"new file", "file as it was left"} {
			got := output(t, "", nil, bin, "-dir", notes, "-db", file, "-n", "2", "tea with lemon")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", run, diff)
			}
		}
		// No document has this word, but one has a piece of it.
		got := output(t, "", nil, bin, "-db", file, "-n", "1", "encrypting")
		if !strings.Contains(got, "locks.txt") || !strings.Contains(got, "vectors #1\n") {
			t.Errorf("encrypting finds %s", got)
		}
		// Operators of FTS5 are words here.
		output(t, "", nil, bin, "-db", file, `NOT "tea AND (`)

		// What another program changes is found at once: the words by trigger, the vectors too,
		// though nobody computed a new one for the changed text.
		sqlite, err := exec.LookPath("sqlite3")
		if err != nil {
			t.Fatal("no sqlite3 shell: .ci/setup installs it")
		}
		output(t, "", nil, sqlite, file, `DELETE FROM docs WHERE title = 'Tea'; UPDATE docs SET body = 'Tea and lemon, too.' WHERE title = 'Coffee'`)
		got = output(t, "", nil, bin, "-db", file, "tea with lemon")
		if strings.Contains(got, "  Tea  ") || !strings.Contains(got, "words #1") || !strings.Contains(got, "Tea and lemon, too.") {
			t.Errorf("after a change in the shell: %s", got)
		}
		output(t, "", nil, sqlite, file, `INSERT INTO docs_fts(docs_fts, rank) VALUES ('integrity-check', 1)`)
	})

	t.Run("without the tag", func(t *testing.T) {
		got := output(t, "", nil, build(t, "./search", "search"), "-dir", notes, "-n", "1", "tea with lemon")
		first, rest, _ := strings.Cut(got, "\n")
		if !strings.Contains(first, "-tags sqlite_fts5") || !strings.Contains(rest, " 1  Tea  kitchen.md\n    0.0164  words -, vectors #1\n") {
			t.Errorf("got %s", got)
		}
	})
}
