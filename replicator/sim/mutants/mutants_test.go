package main

import (
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
