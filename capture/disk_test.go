package capture

import (
	"path/filepath"
	"testing"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator/sim/disk"
)

// TestBegin_failedSync: the sync of a fence fails, that of the next does not, then the power is
// cut. What the second round sent is there, though the commits before the failed sync never
// came to the disk's log.
func TestBegin_failedSync(t *testing.T) {
	dir := t.TempDir()
	disks, err := disk.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	path, cut := filepath.Join(dir, "a.db"), filepath.Join(t.TempDir(), "a.db")
	t.Cleanup(disks.Close) // after the files
	w, _ := openFile(t, path)
	r, _ := openFile(t, path)
	f := &file{Device: w, reader: r}
	run(t, w, kv+`INSERT INTO kv(k) VALUES ('x')`)
	disks.Fail(disk.Fault{Ops: disk.Sync, Times: 1})
	_, failed := f.Begin(f.reader, change.Name{1}, true)
	if disks.Heal() != 1 || failed == nil {
		t.Fatalf("a fence whose sync fails: %v", failed)
	}
	if err := f.Failed(failed); err != nil {
		t.Fatal(err)
	}
	sent := f.begin(t).Through
	for _, suffix := range []string{"", "-wal"} {
		if err := disks.Cut(path+suffix, cut+suffix, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	after, _ := openFile(t, cut)
	if got := dump(t, after, `SELECT max(lsn) FROM _velosync_wal`); sent != 1 || got != "int64:1" {
		t.Errorf("after a power cut the log ends at %s, and a push through %d was sent", got, sent)
	}
}
