package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/velosync/velosync/driver"
)

// A result is what a command did.
type result struct {
	out, err string // standard output, standard error
	code     int
}

// velosync runs the command in this process.
func velosync(t *testing.T, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	failed := run(t.Context(), args, &out, &err)
	if failed != nil {
		err.WriteString("velosync: " + failed.Error() + "\n") // as main does
	}
	return result{out.String(), err.String(), exitCode(failed)}
}

// want fails the test unless the command ended with this code, and said all the words on
// standard error.
func (r result) want(t *testing.T, code int, words ...string) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d; output:\n%s%s", r.code, code, r.out, r.err)
	}
	for _, w := range words {
		if !strings.Contains(r.err, w) {
			t.Errorf("standard error lacks %q:\n%s", w, r.err)
		}
	}
	return r
}

// objects reads standard output as JSON, one object a line.
func (r result) objects(t *testing.T) []map[string]any {
	t.Helper()
	var list []map[string]any
	for line := range strings.Lines(r.out) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("not a JSON object: %q: %v", line, err)
		}
		list = append(list, o)
	}
	return list
}

// newFile makes a database by SQL statements and returns its path.
func newFile(t *testing.T, statements string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.db")
	execSQL(t, path, statements)
	return path
}

func execSQL(t *testing.T, path, statements string) {
	t.Helper()
	db, err := sql.Open("velosync", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(err)
	}
}

func TestUsage(t *testing.T) {
	file := newFile(t, `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL)`)
	for _, test := range []struct {
		name string
		args []string
		says []string
	}{
		{"no command", nil, []string{"expected one of", "velosync --help"}},
		{"misspelt command", []string{"stauts", file}, []string{`did you mean "status"`}},
		{"misspelt flag", []string{"status", file, "--jsno"}, []string{"--jsno", `"--json"`, "velosync status --help"}},
		{"no file", []string{"status"}, []string{"<file>", "velosync status --help"}},
		{"track without a table", []string{"track", file}, []string{"<table>", "velosync track --help"}},
		{"a side that is none", []string{"resolve", file, "1", "ours"}, []string{`"mine","theirs"`}},
		{"an id that is none", []string{"resolve", file, "one", "mine"}, []string{"<id>"}},
		{"options and a flag", []string{"track", file, "notes", "--options", "{}", "--weight", "w"}, []string{"leave out --weight"}},
		{"options that are no JSON", []string{"track", file, "notes", "--options", "{weight:w}"}, []string{"is not JSON", `{"weight":`}},
		{"a policy without a column", []string{"track", file, "notes", "--merge", "max"}, []string{"seen_at=max"}},
		{"a group of one", []string{"track", file, "notes", "--group", "body"}, []string{"two columns or more"}},
		{"ids of another kind", []string{"track", file, "notes", "--ids", "uuid"}, []string{"random", "local"}},
		{"a negative limit", []string{"log", file, "--limit=-1"}, []string{"--limit"}},
		{"no time to wait", []string{"wait", file, "--timeout", "0s"}, []string{"--timeout"}},
		{"a time that is none", []string{"wait", file, "--timeout", "soon"}, []string{"timeout"}},
		{"sync without a master", []string{"sync", file}, []string{"--master"}},
		{"sync once and for ever", []string{"sync", file, "--master", "http://127.0.0.1:1", "--once", "--watch"}, []string{"--once", "--watch"}},
		{"a master that is no URL", []string{"sync", file, "--master", "sync.example.com"}, []string{"--master", "https://"}},
		{"a token in the URL", []string{"sync", file, "--master", "https://me:secret@example.com"}, []string{"VELOSYNC_TOKEN"}},
		{"a device name that is none", []string{"sync", file, "--master", "http://127.0.0.1:1", "--device-name", "a\nb"}, []string{"--device-name", "control characters"}},
		{"no time between rounds", []string{"sync", file, "--master", "http://127.0.0.1:1", "--interval", "0s"}, []string{"--interval", "positive"}},
		{"digests that are none", []string{"sync", file, "--master", "http://127.0.0.1:1", "--digest-every", "often"}, []string{"--digest-every", "0 or off"}},
		{"a space that is none", []string{"sync", file, "--master", "http://127.0.0.1:1", "--space", "My Notes"}, []string{"--space", "a-z"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := velosync(t, test.args...).want(t, exitUsage, test.says...)
			if r.out != "" {
				t.Errorf("standard output is not empty: %s", r.out)
			}
			if strings.Contains(r.err, "secret") {
				t.Errorf("the password is printed: %s", r.err)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	r := velosync(t, "--help").want(t, 0)
	for _, want := range []string{"Exit codes:", "demo", "track", "untrack", "status", "sync", "wait", "conflicts", "resolve", "log", "doctor"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("help lacks %q:\n%s", want, r.out)
		}
	}
	for _, command := range []string{"demo", "track", "untrack", "status", "sync", "wait", "conflicts", "resolve", "log", "doctor"} {
		if r := velosync(t, command, "--help").want(t, 0); !strings.Contains(r.out, "--json") {
			t.Errorf("velosync %s has no --json:\n%s", command, r.out)
		}
	}
}

// Each command says of an unusable file what it is and what to do, and does not change it.
func TestBadFile(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte("dear diary, today I wrote a long line that is no database"), 0o644); err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(dir, "short.db")
	if err := os.WriteFile(short, []byte("SQLite"), 0o644); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty.db")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	untracked := newFile(t, `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL)`)
	missing := filepath.Join(dir, "missing.db")

	commands := map[string][]string{ // what follows FILE
		"track": {"notes"}, "untrack": {"notes"}, "status": nil, "wait": nil, "conflicts": nil,
		"resolve": {"1", "mine"}, "log": nil, "doctor": nil,
	}
	for command, rest := range commands {
		t.Run(command, func(t *testing.T) {
			args := func(path string) []string { return append([]string{command, path}, rest...) }
			velosync(t, args(missing)...).want(t, exitFile, "there is no "+missing, "velosync sync")
			if _, err := os.Stat(missing); err == nil {
				t.Error("the missing file was made")
			}
			velosync(t, args(dir)...).want(t, exitFile, "is a folder")
			velosync(t, args(text)...).want(t, exitFile, text, "is not a SQLite database")
			velosync(t, args(short)...).want(t, exitFile, short, "is not a SQLite database")
			switch command {
			case "track": // an untracked file is what it is for
				velosync(t, args(empty)...).want(t, exitFailed, "has no tables")
			case "doctor":
				velosync(t, args(untracked)...).want(t, 0)
			default:
				velosync(t, args(empty)...).want(t, exitFile, "tracks no table yet", "velosync track")
				velosync(t, args(untracked)...).want(t, exitFile, "tracks no table yet", "velosync track "+untracked)
			}
		})
	}
	for path, want := range map[string]string{text: "dear diary, today I wrote a long line that is no database", short: "SQLite"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is now %q (%v)", path, got, err)
		}
	}
}

// A path may hold what a URI gives a meaning to.
func TestOpenDatabase_oddNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a b.db", "50%.db", "what?.db", "no#1.db", "a&b=c.db", "file:x.db", "ä.db", "it's.db"} {
		path := filepath.Join(dir, name)
		db, err := createDatabase(t.Context(), path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := db.Exec(`CREATE TABLE t(x)`); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		db.Close()
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: the database is elsewhere: %v", name, err)
		}
	}
}
