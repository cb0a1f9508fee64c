package sqlfuncs

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// buildExtension runs make extension, into a folder of the test.
func buildExtension(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "velosync.so")
	run(t, "make", "--silent", "-C", "..", "extension", "EXTENSION="+path)
	return path
}

// The functions work in any program that can load an extension, through the table of routines
// that its SQLite hands over: not one symbol of SQLite is looked up.
func TestExtension(t *testing.T) {
	path := buildExtension(t)
	t.Run("symbols", func(t *testing.T) {
		out := run(t, "nm", "-D", path)
		var exported []string
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			if strings.Contains(line, "sqlite3_") && len(f) == 2 {
				t.Errorf("refers to %s", f[1])
			}
			if len(f) == 3 && f[1] == "T" {
				exported = append(exported, f[2])
			}
		}
		if len(exported) != 1 || exported[0] != "sqlite3_velosync_init" {
			t.Errorf("exports %v, want the entry point alone", exported)
		}
	})
	const search = `SELECT group_concat(id, ' ') FROM (SELECT id FROM n ORDER BY vec_distance_cosine(e, '[1,0.1]') LIMIT 2)`
	t.Run("sqlite3 shell", func(t *testing.T) {
		cmd := exec.Command("sqlite3", "-bail", ":memory:")
		cmd.Stdin = strings.NewReader(".load " + strings.TrimSuffix(path, ".so") + `
			CREATE TABLE n(id INTEGER PRIMARY KEY, e BLOB CHECK (vec_length(e) = 2));
			INSERT INTO n VALUES (1, vec_f16('[0,1]')), (2, vec_f16('[1,0]')), (3, vec_f32('[1,1]'));
			` + search + `;
			SELECT vec_to_json(vec_avg(e)) FROM n;
			SELECT sum(value) FROM n, vec_each(e);
			SELECT vec_distance_hamming(vec_bit(x'00'), vec_bit(x'ff')), dot_product(vec_int8('[1,2]'), '[3,4]');
			SELECT vec_debug() LIKE '%sqlite: ' || sqlite_version() || '%';
			`)
		out, err := cmd.CombinedOutput()
		if want := "2 3\n[0.6666667,0.6666667]\n4.0\n8.0|11.0\n1\n"; err != nil || string(out) != want {
			t.Errorf("got %v and\n%swant\n%s", err, out, want)
		}
	})
	t.Run("Python", func(t *testing.T) {
		out := run(t, python(t), "-c", `
import array, sqlite3, sys
db = sqlite3.connect(":memory:")
db.enable_load_extension(True)
db.load_extension(sys.argv[1])
db.execute("CREATE TABLE n(id INTEGER PRIMARY KEY, e BLOB)")
db.executemany("INSERT INTO n VALUES (?, ?)", [(i, array.array("f", v).tobytes()) for i, v in ((1, (0, 1)), (2, (1, 0)), (3, (1, 1)))])
print(db.execute(sys.argv[2]).fetchone()[0])
print(db.execute("SELECT vec_to_json(vec_add(e, '[0.5,0]')), vec_type(vec_int8(x'0102')) FROM n").fetchone())
try:
    db.execute("SELECT dot_product(e, '[1,2,3]') FROM n").fetchall()
except sqlite3.OperationalError as e:
    print(e)
`, path, search)
		want := "2 3\n('[0.5,1]', 'int8')\n" +
			"dot_product: the first has 2 dimensions, the second 3; compare vectors that one model made\n"
		if out != want {
			t.Errorf("got\n%swant\n%s", out, want)
		}
	})
	t.Run("another copy of SQLite in one process", func(t *testing.T) {
		// The second host is played by a table whose only routine is mprintf.
		out := run(t, python(t), "-c", `
import ctypes, sqlite3, sys
db = sqlite3.connect(":memory:")
db.enable_load_extension(True)
db.load_extension(sys.argv[1])
lib = ctypes.CDLL(sys.argv[1])
said = []
@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)
def mprintf(text):
    said.append(text.decode())
    return None
table = (ctypes.c_void_p * 400)()
table[69] = ctypes.cast(mprintf, ctypes.c_void_p)
error = ctypes.c_char_p()
print(lib.sqlite3_velosync_init(None, ctypes.byref(error), table), *said)
print(db.execute("SELECT vec_length('[1,2]')").fetchone()[0])
`, path)
		want := "1 velosync is loaded already, by another copy of SQLite in this process\n2\n"
		if out != want {
			t.Errorf("got\n%swant\n%s", out, want)
		}
	})
	t.Run("a program with its own SQLite", func(t *testing.T) {
		conn, err := (&sqlite3.SQLiteDriver{Extensions: []string{path}}).Open(":memory:")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if !knows(t, conn.(*sqlite3.SQLiteConn)) {
			t.Error("the connection lacks the functions")
		}
	})
}

// python returns a python3 whose sqlite3 can load extensions; some are built without.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		path, err := exec.LookPath(name)
		if err == nil && exec.Command(path, "-c", "import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)").Run() == nil {
			return path
		}
	}
	t.Fatal("no python3 here can load SQLite extensions: .ci/setup installs Debian's, which can")
	return ""
}
