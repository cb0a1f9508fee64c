package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/sim/disk"
)

// TestWriter_failedSync: a sync fails, later ones do not, then the power is cut. What was
// acknowledged is there, though commits before the failed sync never came to the disk's log.
func TestWriter_failedSync(t *testing.T) {
	dir, cut := t.TempDir(), t.TempDir()
	d, err := disk.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	_, s := openTest(t, dir, Options{})
	push := func(n int) error {
		_, err := s.syncOne(pushOf(byte(n), []change.Name{{1}, {2}}, 10))
		return err
	}
	if err := push(1); err != nil {
		t.Fatal(err)
	}
	reader, err := s.openConn(false) // else the log ends with its last connection
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := reader.Row(`SELECT count(*) FROM _velosync_space`, nil, &n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(reader.Close(), reader.Raw().Close()); err != nil {
			t.Error(err)
		}
	})
	if _, _, err := s.Ack(context.Background(), "", change.DeviceID{1}, 1, 1); err != nil { // nobody waits for the disk
		t.Fatal(err)
	}
	d.Fail(disk.Fault{Ops: disk.Sync, Times: 1})
	if err := push(2); err == nil || d.Heal() != 1 {
		t.Fatalf("a push whose sync fails: %v", err)
	}
	if err := push(3); err != nil {
		t.Fatal(err)
	}
	want, _ := s.Head()
	if err := os.Mkdir(filepath.Join(cut, "spaces"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		if err := d.Cut(s.path+suffix, filepath.Join(cut, "spaces", filepath.Base(s.path)+suffix), 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	_, s = openTest(t, cut, Options{})
	if got, _ := s.Head(); got != want {
		t.Errorf("after a power cut the head is %d, want %d", got, want)
	}
}

// TestWriter_failedOpening: each write of a space's making fails once. It does not keep the
// space locked.
func TestWriter_failedOpening(t *testing.T) {
	dir := t.TempDir()
	d, err := disk.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	for after, failed := 0, 1; failed > 0; after++ {
		e, err := OpenSQLite(filepath.Join(dir, fmt.Sprint(after)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		d.Fail(disk.Fault{Ops: disk.Write | disk.Sync, After: after, Times: 1})
		_, broken := e.Space(context.Background(), "notes")
		failed = d.Heal()
		_, err = e.Space(context.Background(), "notes")
		if err := errors.Join(err, e.Close()); err != nil {
			t.Errorf("after write %d failed, with %v: %v", after, broken, err)
		}
	}
}
