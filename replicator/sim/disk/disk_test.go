package disk_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/replicator/sim/disk"
	vsql "github.com/velosync/velosync/sql"
	"github.com/velosync/velosync/sqlfuncs"
)

func newDisk(t *testing.T) (*disk.Disk, string) {
	t.Helper()
	dir := t.TempDir()
	d, err := disk.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d, dir
}

func open(t *testing.T, path string) *vsql.Conn {
	t.Helper()
	conn, err := sqlfuncs.Open(path+"?_journal_mode=WAL", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := vsql.NewConn(conn)
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), conn.Close()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func script(t *testing.T, c *vsql.Conn, text string) {
	t.Helper()
	if err := c.Script(text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func count(t *testing.T, c *vsql.Conn) (n int) {
	t.Helper()
	if _, err := c.Row(`SELECT count(*) FROM kv`, nil, &n); err != nil {
		t.Fatal(err)
	}
	var ok string
	if _, err := c.Row(`PRAGMA integrity_check`, nil, &ok); err != nil || ok != "ok" {
		t.Fatalf("integrity: %s, %v", ok, err)
	}
	return n
}

// afterCut opens what a power cut leaves of a database.
func afterCut(t *testing.T, d *disk.Disk, path string, seed uint64, keep float64) *vsql.Conn {
	t.Helper()
	to := filepath.Join(t.TempDir(), "cut.db")
	for _, suffix := range []string{"", "-wal"} {
		if err := d.Cut(path+suffix, to+suffix, seed, keep); err != nil {
			t.Fatal(err)
		}
	}
	return open(t, to)
}

func TestCut(t *testing.T) {
	d, dir := newDisk(t)
	path := filepath.Join(dir, "a.db")
	c := open(t, path)
	script(t, c, `PRAGMA synchronous = FULL; CREATE TABLE kv(k INTEGER PRIMARY KEY, v); INSERT INTO kv VALUES (1, 'synced')`)
	script(t, c, `PRAGMA synchronous = NORMAL`)
	for i := range 20 {
		script(t, c, fmt.Sprintf(`INSERT INTO kv VALUES (%d, zeroblob(3000))`, i+2))
	}
	if n := count(t, afterCut(t, d, path, 1, 1)); n != 21 {
		t.Errorf("with all that was written: %d rows, want 21", n)
	}
	if n := count(t, afterCut(t, d, path, 1, 0)); n != 1 {
		t.Errorf("with what was synced: %d rows, want 1", n)
	}
	seen := make(map[int]bool)
	for seed := range uint64(30) {
		seen[count(t, afterCut(t, d, path, seed, .95))] = true
	}
	if len(seen) < 4 || seen[0] {
		t.Errorf("with some of it: %v rows, want different numbers, and never none", seen)
	}
	script(t, c, `PRAGMA wal_checkpoint(TRUNCATE)`)
	if n := count(t, afterCut(t, d, path, 1, 0)); n != 21 {
		t.Errorf("after a checkpoint: %d rows, want 21", n)
	}
}

// TestCut_failedSync: what a failed sync has left out, the next one does not bring.
func TestCut_failedSync(t *testing.T) {
	d, dir := newDisk(t)
	path := filepath.Join(dir, "a.db")
	c := open(t, path)
	script(t, c, `PRAGMA synchronous = FULL; CREATE TABLE kv(k INTEGER PRIMARY KEY, v); PRAGMA synchronous = NORMAL; INSERT INTO kv VALUES (1, 1); PRAGMA synchronous = FULL`)
	d.Fail(disk.Fault{Ops: disk.Sync, Times: 1})
	if err := c.Script(`INSERT INTO kv VALUES (2, 2)`); err == nil {
		t.Fatal("a commit whose sync fails succeeds")
	}
	if n := d.Heal(); n != 1 {
		t.Fatalf("%d operations failed, want 1", n)
	}
	script(t, c, `INSERT INTO kv VALUES (3, 3)`)
	if n := count(t, c); n != 2 {
		t.Errorf("before the cut: %d rows, want 2", n)
	}
	if n := count(t, afterCut(t, d, path, 1, 1)); n != 0 {
		t.Errorf("after the cut: %d rows, want 0: what row 3 is synced behind was left out", n)
	}
}

func TestFail(t *testing.T) {
	for _, f := range []struct {
		fault disk.Fault
		want  sqlite3.ErrNo
	}{
		{disk.Fault{Ops: disk.Write, Times: 1}, sqlite3.ErrIoErr},
		{disk.Fault{Ops: disk.Write, After: 2, Times: 1, Torn: true}, sqlite3.ErrIoErr},
		{disk.Fault{Ops: disk.Write, Times: 100, Full: true}, sqlite3.ErrFull},
		{disk.Fault{Ops: disk.Sync, Times: 1}, sqlite3.ErrIoErr},
	} {
		t.Run(fmt.Sprintf("%+v", f.fault), func(t *testing.T) {
			d, dir := newDisk(t)
			c := open(t, filepath.Join(dir, "a.db"))
			script(t, c, `PRAGMA synchronous = FULL; CREATE TABLE kv(k INTEGER PRIMARY KEY, v); INSERT INTO kv VALUES (1, 1)`)
			d.Fail(f.fault)
			err := c.Script(`INSERT INTO kv VALUES (2, zeroblob(9000))`)
			var e sqlite3.Error
			if !errors.As(err, &e) || e.Code != f.want {
				t.Errorf("got %v, want %v", err, f.want)
			}
			if n := d.Heal(); n == 0 {
				t.Error("nothing has failed")
			}
			if n := count(t, c); n != 1 {
				t.Errorf("%d rows, want 1", n)
			}
			script(t, c, `INSERT INTO kv VALUES (2, zeroblob(9000))`)
		})
	}
}

// TestLayout compiles vfs.h beside go-sqlite3's header.
func TestLayout(t *testing.T) {
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	text, err := os.ReadFile("vfs.h")
	if err != nil {
		t.Fatal(err)
	}
	dir := run("go", "list", "-m", "-f", "{{.Dir}}", "github.com/mattn/go-sqlite3")
	var c strings.Builder
	c.WriteString("#include <stddef.h>\n#include \"sqlite3-binding.h\"\n#include \"vfs.h\"\n")
	fields := regexp.MustCompile(`\b(iVersion|szOsFile|mxPathname|pNext|zName|pAppData|pMethods|x[A-Z]\w+)\b`)
	for _, s := range []struct{ begin, end, ours, theirs string }{
		{"typedef struct disk_io {", "} disk_io;", "disk_io", "sqlite3_io_methods"},
		{"struct disk_file {", "};", "struct disk_file", "sqlite3_file"},
		{"struct disk_vfs {", "};", "struct disk_vfs", "sqlite3_vfs"},
	} {
		_, body, ok := strings.Cut(string(text), s.begin)
		body, _, ok2 := strings.Cut(body, s.end)
		if !ok || !ok2 {
			t.Fatalf("vfs.h has no %s", s.ours)
		}
		fmt.Fprintf(&c, "_Static_assert(sizeof(%s) == sizeof(%s), \"%s\");\n", s.ours, s.theirs, s.ours)
		for _, name := range fields.FindAllString(body, -1) {
			fmt.Fprintf(&c, "_Static_assert(offsetof(%s, %s) == offsetof(%s, %s), \"%s\");\n", s.ours, name, s.theirs, name, name)
		}
	}
	for ours, theirs := range map[string]string{"DISK_OK": "SQLITE_OK", "DISK_FULL": "SQLITE_FULL", "DISK_IOERR_READ": "SQLITE_IOERR_READ",
		"DISK_IOERR_WRITE": "SQLITE_IOERR_WRITE", "DISK_IOERR_FSYNC": "SQLITE_IOERR_FSYNC", "DISK_IOERR_TRUNCATE": "SQLITE_IOERR_TRUNCATE"} {
		fmt.Fprintf(&c, "_Static_assert(%s == %s, %q);\n", ours, theirs, ours)
	}
	file := filepath.Join(t.TempDir(), "layout.c")
	if err := os.WriteFile(file, []byte(c.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(run("go", "env", "CC"), "-fsyntax-only", "-I", dir, "-I", ".", file)
}

// What an error says does not depend on what its thread did before.
func TestFail_SameText(t *testing.T) {
	d, dir := newDisk(t)
	c := open(t, filepath.Join(dir, "a.db"))
	script(t, c, `CREATE TABLE kv(k, v)`)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if conn, err := sqlfuncs.Open(filepath.Join(dir, "none", "b.db"), nil); err == nil { // leaves errno at ENOENT
		t.Fatal(conn.Close(), "a database in a directory that is not there opens")
	}
	d.Fail(disk.Fault{Ops: disk.Write, Times: 1})
	_, err := c.Exec(`INSERT INTO kv VALUES (1, 2)`)
	var e sqlite3.Error
	if !errors.As(err, &e) || e.Code != sqlite3.ErrIoErr || e.SystemErrno != 0 {
		t.Errorf("got %v, want a disk I/O error without a number of the system's", err)
	}
}
