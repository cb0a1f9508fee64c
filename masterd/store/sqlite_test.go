package store_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/masterd/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var config = storetest.Config{
	Open:  func(dir string, o store.Options) (store.Engine, error) { return store.OpenSQLite(dir, o) },
	Crash: crash,
}

func TestSQLite(t *testing.T) { storetest.Run(t, config) }

// crash copies the files as they are: what SQLite has not written yet is lost, and so is
// what it keeps in shared memory.
func crash(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.Join(to, strings.TrimPrefix(path, dir))
		switch {
		case d.IsDir():
			return os.MkdirAll(name, 0o700)
		case strings.HasSuffix(path, "-shm"):
			return nil
		}
		return copyFile(path, name)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
