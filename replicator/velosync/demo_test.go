package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// The whole demo, as make demo runs it.
func TestDemo(t *testing.T) {
	temp := t.TempDir()
	r := command(t, []string{"TMPDIR=" + temp}, "", program(t, "velosync"), "demo").want(t, 0)
	lines := strings.Split(strings.TrimRight(r.out, "\n"), "\n")
	t.Logf("%d lines:\n%s", len(lines), r.out)
	if last := lines[len(lines)-1]; !regexp.MustCompile(`^converged: \d+ rows identical on 2 devices and master$`).MatchString(last) {
		t.Errorf("the last line is %q", last)
	}
	if len(lines) > 90 {
		t.Errorf("%d lines are more than two screens", len(lines))
	}
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n > 100 {
			t.Errorf("a line of %d columns: %s", n, line)
		}
		if strings.Contains(line, "\x1b") {
			t.Errorf("colours, though this is no terminal: %q", line)
		}
	}
	for _, want := range []string{"decided by weight 0.6 < 0.9", "decided by time", "compaction", "echo suppression", "velosync_resolve"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("the demo does not show %q", want)
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("the demo leaves %v behind (%v)", left, err)
	}
}

// A folder of texts, kept for the other commands.
func TestDemo_folder(t *testing.T) {
	files := make(map[string]string)
	for i := range 8 {
		files[fmt.Sprintf("part%d/text.md", i)] = fmt.Sprintf("# Topic %d\n\nAll about topic %d, at length.\n\n## More\n\nMore about topic %d, and then some.\n", i, i, i)
	}
	keep := filepath.Join(t.TempDir(), "kept")
	r := velosync(t, "demo", writeTree(t, files), "--json", "--keep", keep).want(t, 0)
	events := make(map[string]int)
	var last map[string]any
	for _, o := range r.objects(t) {
		events[fmt.Sprint(o["event"])]++
		last = o
	}
	if last["event"] != "converged" || last["rows"].(float64) < 16 {
		t.Errorf("the last event is %v", last)
	}
	for _, event := range []string{"index", "search", "round", "offline", "saved", "conflict", "neighbour"} {
		if events[event] == 0 {
			t.Errorf("no event %s among %v", event, events)
		}
	}
	if s := velosync(t, "status", filepath.Join(keep, "laptop.db"), "--json").want(t, 0).objects(t); s[0]["name"] != "laptop" || s[0]["space"] != "docs" {
		t.Errorf("the laptop's status: %v", s)
	}
	velosync(t, "demo", "--keep", keep).want(t, exitUsage, "not empty")
}

func TestDemo_tooLittle(t *testing.T) {
	velosync(t, "demo", writeTree(t, map[string]string{"a.md": "one passage"})).want(t, exitFailed, "the demo needs 10", "folder with more")
	velosync(t, "demo", filepath.Join(t.TempDir(), "missing")).want(t, exitFailed, "give a folder")
}

// The comparison behind the last line finds any difference.
func TestCompareTables(t *testing.T) {
	const table = `CREATE TABLE docs(id TEXT PRIMARY KEY NOT NULL, x);`
	const rows = `INSERT INTO docs VALUES ('a', 1), ('b', 0.5), ('c', x'00ff'), ('d', NULL), ('e', 'text');`
	for _, test := range []struct{ name, change, want string }{
		{"the same", ``, ""},
		{"a row less", `DELETE FROM docs WHERE id = 'c'`, "only one has c"},
		{"a row more", `INSERT INTO docs VALUES ('cc', 1)`, "only two has cc"},
		{"a row more at the end", `INSERT INTO docs VALUES ('z', 1)`, "only two has z"},
		{"another type", `UPDATE docs SET x = 1.0 WHERE id = 'a'`, "x of a"},
		{"a blob for a text", `UPDATE docs SET x = CAST(x AS BLOB) WHERE id = 'e'`, "x of e"},
		{"the last bit", `UPDATE docs SET x = 0.5000000000000001 WHERE id = 'b'`, "x of b"},
		{"a byte of a blob", `UPDATE docs SET x = x'00fe' WHERE id = 'c'`, "x of c"},
		{"a value for NULL", `UPDATE docs SET x = '' WHERE id = 'd'`, "x of d"},
		{"another column", `ALTER TABLE docs RENAME COLUMN x TO y`, "columns"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var list []named
			for i, name := range []string{"one", "two"} {
				path := newFile(t, table+rows)
				if i == 1 && test.change != "" {
					execSQL(t, path, test.change)
				}
				db, err := openDatabase(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				list = append(list, named{name, db})
			}
			n, err := compareTables(t.Context(), "docs", list)
			switch {
			case test.want == "" && (err != nil || n != 5):
				t.Errorf("compareTables: %d, %v; want 5 rows", n, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("compareTables: %d, %v; want an error with %q", n, err, test.want)
			}
		})
	}
}
