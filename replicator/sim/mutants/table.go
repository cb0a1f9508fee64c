package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// tableFile is where the results are kept, from the module's root.
const tableFile = "replicator/sim/MUTANTS.md"

const tableHead = `# Mutants

Breaks of our own code, one place at a time, and what finds each. ` + "`make mutants`" + ` writes this page; with ` + "`MUTANTS=expression`" + ` it runs those
with such names and leaves the other lines as they are. A simulation finds a mutant in so many runs, with so many transactions of applications and requests of
devices; a mutant of a kind that no schedule shows names the test that finds it.

| mutant | found by | runs | operations |
| --- | --- | --: | --: |
`

// A resultTable is the lines of tableFile, by mutant.
type resultTable map[string]string

// readTable reads the table; a file that is not there is an empty one.
func readTable(file string) (resultTable, error) {
	lines := make(resultTable)
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " |"); ok && strings.HasPrefix(line, "| ") {
			lines[name] = strings.TrimSuffix(line, "\n")
		}
	}
	return lines, nil
}

// put notes a result. An error is none: the line stays as it was.
func (t resultTable) put(r *result) {
	if r.err != nil {
		return
	}
	by, runs, operations := strings.ReplaceAll(r.By, "|", `\|`), fmt.Sprint(r.Runs), fmt.Sprint(r.Operations)
	switch {
	case !r.Found:
		by = "**nothing**"
	case r.Runs == 0:
		by, runs, operations = "`"+by+"`", "", ""
	}
	t[r.name] = fmt.Sprintf("| %s | %s | %s | %s |", r.name, by, runs, operations)
}

// write writes the lines of the mutants that there are, in their order.
func (t resultTable) write(file string, list []mutant) error {
	var b strings.Builder
	b.WriteString(tableHead)
	found, open := 0, 0
	for _, m := range list {
		line, ok := t[m.name]
		switch {
		case !ok:
			open++
			continue
		case !strings.Contains(line, "| **nothing** |"):
			found++
		}
		b.WriteString(line + "\n")
	}
	fmt.Fprintf(&b, "\n%d mutants: %d found, %d not found, %d not looked for yet.\n", len(list), found, len(list)-found-open, open)
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
