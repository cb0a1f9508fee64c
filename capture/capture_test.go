package capture

import (
	"log/slog"
	"path/filepath"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"
	"go.uber.org/goleak"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/sqlfuncs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = Options{Log: slog.New(slog.DiscardHandler)}

// openFile opens a database file with the admin functions, and its device.
func openFile(t *testing.T, path string) (*Device, *sqlite3.SQLiteConn) {
	t.Helper()
	conn, err := sqlfuncs.Open(path+"?_journal_mode=WAL&_busy_timeout=5000", func(c *sqlite3.SQLiteConn) error { return Register(c, quiet) })
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(conn, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, conn
}

func newDevice(t *testing.T, script string) *Device {
	t.Helper()
	d, _ := openFile(t, filepath.Join(t.TempDir(), "a.db"))
	run(t, d, script)
	return d
}

func run(t *testing.T, d *Device, script string) {
	t.Helper()
	if err := d.c.Script(script); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}

func fails(t *testing.T, d *Device, script string) error {
	t.Helper()
	err := d.c.Script(script)
	if err == nil {
		t.Fatalf("%s: no error", script)
	}
	return err
}

// column reads the first column of a query, all rows.
func column(t *testing.T, d *Device, query string) []change.Value {
	t.Helper()
	var list []change.Value
	if err := d.c.Query(query, nil, func(v []change.Value) error {
		list = append(list, v[0])
		return nil
	}); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return list
}
