package replicator_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/velosync/velosync/replicator"
)

func TestNew_unusableFiles(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "letter.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("Dear Sir or Madam. ", 300)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ dsn, want string }{
		{text, "not a database"},
		{dir, "unable to open"},
		{"file:" + filepath.Join(dir, "none.db") + "?mode=ro", "unable to open"},
	} {
		r, err := replicator.New(tt.dsn, replicator.Options{Master: "http://127.0.0.1:1"})
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("New(%s): %v, want it to name the file and say %q", tt.dsn, err, tt.want)
		}
	}
	if got, _ := os.ReadFile(text); !strings.HasPrefix(string(got), "Dear Sir") {
		t.Error("the file that is no database was changed")
	}
}
