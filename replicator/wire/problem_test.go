package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProblemOf(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{CheckDigest("", nil), 400, CodeDigest},
		{fmt.Errorf("sync: %w", &VersionError{Got: 2, Want: 1}), 400, CodeVersion},
		{fmt.Errorf("sync: %w", &LimitError{What: "rows"}), 413, CodeTooLarge},
		{fmt.Errorf("sync: %w", bad("no")), 400, CodeMalformed},
	} {
		p := ProblemOf(tt.err)
		if p == nil || p.Status != tt.status || p.Code != tt.code || p.Detail != tt.err.Error() {
			t.Errorf("%v: got %+v, want %d %s", tt.err, p, tt.status, tt.code)
		}
	}
	if p := ProblemOf(errors.New("disk full")); p != nil {
		t.Errorf("an error of another package: got %+v, want nil", p)
	}
	if p := ProblemOf(nil); p != nil {
		t.Errorf("no error: got %+v, want nil", p)
	}
}

func TestReadProblem(t *testing.T) {
	want := &Problem{Title: "Conflict", Status: 409, Code: CodeRestored, Detail: "the master was restored", Seen: 9, Head: 8, Common: 7}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, ReadProblem(409, strings.NewReader(string(b)))); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	for _, page := range []string{"<html>502</html>", "", "{}", "[]"} {
		p := ReadProblem(502, strings.NewReader(page))
		if p.Status != 502 || p.Code != "" || !p.Temporary() || !strings.Contains(p.Error(), "not an answer of masterd") {
			t.Errorf("%q: got %+v", page, p)
		}
	}
}
