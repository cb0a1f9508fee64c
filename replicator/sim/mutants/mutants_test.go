package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// All mutants fit the code as it is; make mutants then shows that each is found.
func TestMutants_fit(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if err := valid(root, mutants); err != nil {
		t.Error(err)
	}
	gone := broken("no such text", "capture/change/row.go", "no such text", "")
	if err := valid(root, []mutant{gone}); err == nil || !strings.Contains(err.Error(), "change the mutant") {
		t.Errorf("a text that is not there: %v", err)
	}
}

// A run of some mutants leaves the lines of the others.
func TestTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "table.md")
	list := []mutant{{name: "one"}, {name: "two"}, {name: "three"}, {name: "four"}}
	for _, results := range [][]result{
		{{mutant: list[0], hunted: hunted{Found: true, By: "schedules: a|b", Runs: 3, Operations: 400}}, {mutant: list[1], hunted: hunted{Runs: 9}}},
		{{mutant: list[1], hunted: hunted{Found: true, By: "go test -run X ."}}, {mutant: list[0], err: os.ErrClosed}, {mutant: list[2], hunted: hunted{Runs: 7, Operations: 8}}},
	} {
		table, err := readTable(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := range results {
			table.put(&results[i])
		}
		if err := table.write(file, list); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := tableHead + "| one | schedules: a\\|b | 3 | 400 |\n| two | `go test -run X .` |  |  |\n| three | **nothing** | 7 | 8 |\n\n4 mutants: 2 found, 1 not found, 1 not looked for yet.\n"
	if string(got) != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
