package driver

import (
	"errors"
	"fmt"
	"go/build"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const defaults = "_foreign_keys=1&_txlock=immediate&_cache_size=-65536&_busy_timeout=5000"

func TestParseDSN(t *testing.T) {
	tests := []struct {
		name  string
		dsn   string
		want  Config // Space and MmapBytes at their defaults need not be written
		opens string
		wal   bool
	}{
		{name: "plain", dsn: "app.db", want: Config{DSN: "app.db", Path: "app.db"}, opens: "app.db?" + defaults, wal: true},
		{name: "plain with nothing behind ?", dsn: "app.db?", want: Config{DSN: "app.db", Path: "app.db"}, opens: "app.db?" + defaults, wal: true},
		{name: "uri", dsn: "file:app.db", want: Config{DSN: "file:app.db", Path: "app.db"}, opens: "file:app.db?" + defaults, wal: true},
		{name: "uri with escapes", dsn: "file:///tmp/my%20app.db?cache=private",
			want:  Config{DSN: "file:///tmp/my%20app.db?cache=private", Path: "/tmp/my app.db"},
			opens: "file:///tmp/my%20app.db?cache=private&" + defaults, wal: true},
		{name: "uri with host", dsn: "file://localhost/tmp/app.db", want: Config{DSN: "file://localhost/tmp/app.db", Path: "/tmp/app.db"},
			opens: "file://localhost/tmp/app.db?" + defaults, wal: true},
		{name: "path with percent and hash", dsn: "50%25#1.db", want: Config{DSN: "50%25#1.db", Path: "50%25#1.db"}, opens: "50%25#1.db?" + defaults, wal: true},
		{name: "fragment", dsn: "file:app.db?mode=rw#x", want: Config{DSN: "file:app.db?mode=rw", Path: "app.db"}, opens: "file:app.db?mode=rw&" + defaults, wal: true},
		{name: "fragment in front of keys", dsn: "file:app.db#x?mode=ro", want: Config{DSN: "file:app.db", Path: "app.db"}, opens: "file:app.db?" + defaults, wal: true},
		{name: "memory", dsn: ":memory:", want: Config{DSN: ":memory:"}, opens: ":memory:?" + defaults},
		{name: "shared memory", dsn: "file::memory:?cache=shared", want: Config{DSN: "file::memory:?cache=shared"}, opens: "file::memory:?cache=shared&" + defaults},
		{name: "named memory", dsn: "file:x?mode=memory", want: Config{DSN: "file:x?mode=memory"}, opens: "file:x?mode=memory&" + defaults},
		{name: "read-only", dsn: "file:app.db?mode=ro", want: Config{DSN: "file:app.db?mode=ro", Path: "app.db", ReadOnly: true}, opens: "file:app.db?mode=ro&" + defaults},
		{name: "immutable", dsn: "file:app.db?immutable=1", want: Config{DSN: "file:app.db?immutable=1", Path: "app.db", ReadOnly: true}, opens: "file:app.db?immutable=1&" + defaults},
		{name: "everything said", dsn: "app.db?_journal=DELETE&_fk=0&_txlock=deferred&_cache_size=10&_timeout=7",
			want:  Config{DSN: "app.db?_journal=DELETE&_fk=0&_txlock=deferred&_cache_size=10&_timeout=7", Path: "app.db"},
			opens: "app.db?_journal=DELETE&_fk=0&_txlock=deferred&_cache_size=10&_timeout=7"},
		{name: "empty values are not said", dsn: "app.db?_fk=&_journal_mode=", want: Config{DSN: "app.db?_fk=&_journal_mode=", Path: "app.db"},
			opens: "app.db?_fk=&_journal_mode=&" + defaults, wal: true},
		{name: "query only", dsn: "app.db?_query_only=1", want: Config{DSN: "app.db?_query_only=1", Path: "app.db"},
			opens: "app.db?_query_only=1&_foreign_keys=1&_cache_size=-65536&_busy_timeout=5000"},
		{name: "keys of a vfs", dsn: "file:app.db?vfs=unix&other=1", want: Config{DSN: "file:app.db?vfs=unix&other=1", Path: "app.db"},
			opens: "file:app.db?vfs=unix&other=1&" + defaults, wal: true},
		{name: "sync", dsn: "app.db?_velosync_master=https://sync.example.com/&_fk=1&_velosync_space=notes_1&_velosync_token=a.b~c%2B/d=&_velosync_interval=250ms&" +
			"_velosync_track=notes,%20Tags&_velosync_device_name=Ada%27s+phone&_velosync_mmap_bytes=0&_velosync_digest_every=8",
			want: Config{DSN: "app.db?_fk=1", Path: "app.db", Master: "https://sync.example.com", Space: "notes_1", Token: "a.b~c+/d=",
				Interval: 250 * time.Millisecond, DigestEvery: 8, Track: []string{"notes", "Tags"}, DeviceName: "Ada's phone", MmapBytes: -1},
			opens: "app.db?_fk=1&_txlock=immediate&_cache_size=-65536&_busy_timeout=5000", wal: true},
		{name: "no digests", dsn: "app.db?_velosync_digest_every=0", want: Config{DSN: "app.db", Path: "app.db", DigestEvery: -1}, opens: "app.db?" + defaults, wal: true},
		{name: "digests off", dsn: "app.db?_velosync_digest_every=off", want: Config{DSN: "app.db", Path: "app.db", DigestEvery: -1}, opens: "app.db?" + defaults, wal: true},
		{name: "escaped key", dsn: "app.db?%5Fvelosync_space=a&_loc=auto", want: Config{DSN: "app.db?_loc=auto", Path: "app.db", Space: "a"},
			opens: "app.db?_loc=auto&" + defaults, wal: true},
		{name: "tracking in memory", dsn: ":memory:?_velosync_track=a", want: Config{DSN: ":memory:", Track: []string{"a"}}, opens: ":memory:?" + defaults},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want.Space == "" {
				tt.want.Space = "default"
			}
			switch tt.want.MmapBytes {
			case 0:
				tt.want.MmapBytes = defaultConfig().MmapBytes
			case -1:
				tt.want.MmapBytes = 0
			}
			got, open, err := parseDSN(tt.dsn)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
			if open.dsn != tt.opens {
				t.Errorf("opens\n%s\nwant\n%s", open.dsn, tt.opens)
			}
			if open.wal != tt.wal {
				t.Errorf("wal = %t, want %t", open.wal, tt.wal)
			}
			// What the replicator opens again must mean the same.
			again, open2, err := parseDSN(got.DSN)
			if err != nil {
				t.Fatal(err)
			}
			if again.DSN != got.DSN || open2.dsn != open.dsn {
				t.Errorf("Config.DSN opens %s, the DSN itself %s", open2.dsn, open.dsn)
			}
		})
	}
}

func TestParseDSN_Errors(t *testing.T) {
	const master = "an http or https URL without user, query or fragment, such as https://sync.example.com"
	tests := []struct{ dsn, want string }{
		{"", `velosync: data source name names no file; write one, or ":memory:"`},
		{"?_fk=1", `velosync: data source name names no file; write one, or ":memory:"`},
		{"app.db?_velosync_mater=https://x", "velosync: data source name has an unknown key _velosync_mater; the nearest known one is _velosync_master"},
		{"app.db?velosync_space=a", "velosync: data source name has an unknown key velosync_space; the nearest known one is _velosync_space"},
		{"app.db?_velosync_devicename=a", "velosync: data source name has an unknown key _velosync_devicename; the nearest known one is _velosync_device_name"},
		{"app.db?_Velosync_space=a", "velosync: data source name has an unknown key _Velosync_space; the nearest known one is _velosync_space"},
		{"app.db?_forein_keys=1", "velosync: data source name has an unknown key _forein_keys; the nearest known one is _foreign_keys"},
		{"app.db?_busytimeout=1", "velosync: data source name has an unknown key _busytimeout; the nearest known one is _busy_timeout"},
		{"app.db?foreign_keys=1", "velosync: data source name has an unknown key foreign_keys; the nearest known one is _foreign_keys"},
		{"app.db?mode=ro", "velosync: data source name has the key mode, which SQLite reads only in names that begin with file: (write file:app.db?mode=…)"},
		{"app.db?_velosync_master=", "velosync: data source name has _velosync_master=; it accepts " + master},
		{"app.db?_velosync_master=sync.example.com", "velosync: data source name has _velosync_master=sync.example.com; it accepts " + master},
		{"app.db?_velosync_master=ftp://x", "velosync: data source name has _velosync_master=ftp://x; it accepts " + master},
		{"app.db?_velosync_master=https://", "velosync: data source name has _velosync_master=https://; it accepts " + master},
		{"app.db?_velosync_master=https://me:secret@x", "velosync: data source name has _velosync_master=https://me:xxxxx@x; it accepts " + master + "; the token goes into _velosync_token"},
		{"app.db?_velosync_space=No", "velosync: data source name has _velosync_space=No; it accepts 1 to 64 of a-z, 0-9, _ and -"},
		{"app.db?_velosync_space=", "velosync: data source name has _velosync_space=; it accepts 1 to 64 of a-z, 0-9, _ and -"},
		{"app.db?_velosync_space=" + strings.Repeat("a", 65), "velosync: data source name has _velosync_space=" + strings.Repeat("a", 65) + "; it accepts 1 to 64 of a-z, 0-9, _ and -"},
		{"app.db?_velosync_token=secret%0A", "velosync: data source name has _velosync_token=(hidden); it accepts visible ASCII characters without spaces"},
		{"app.db?_velosync_token=", "velosync: data source name has _velosync_token=(hidden); it accepts visible ASCII characters without spaces"},
		{"app.db?_velosync_interval=5", "velosync: data source name has _velosync_interval=5; it accepts a positive Go duration, such as 500ms or 5s"},
		{"app.db?_velosync_interval=-1s", "velosync: data source name has _velosync_interval=-1s; it accepts a positive Go duration, such as 500ms or 5s"},
		{"app.db?_velosync_track=a,,b", "velosync: data source name has _velosync_track=a,,b; it accepts names of tables separated by commas, each once, such as notes,tags"},
		{"app.db?_velosync_track=a,A", "velosync: data source name has _velosync_track=a,A; it accepts names of tables separated by commas, each once, such as notes,tags"},
		{"app.db?_velosync_device_name=a%00", "velosync: data source name has _velosync_device_name=a\x00; it accepts 1 to 128 bytes of UTF-8 without control characters"},
		{"app.db?_velosync_mmap_bytes=1GB", "velosync: data source name has _velosync_mmap_bytes=1GB; it accepts a whole number of bytes; 0 turns memory mapping off"},
		{"app.db?_velosync_space=a&_velosync_space=b", "velosync: data source name has _velosync_space more than once"},
		{"file:app.db?mode=ro&_velosync_track=a", "velosync: data source name opens the database read-only, but _velosync_track writes to it"},
		{"file:app.db?immutable=1&_velosync_master=http://x", "velosync: data source name opens the database read-only, but _velosync_master writes to it"},
		{":memory:?_velosync_master=http://x", "velosync: data source name opens a database in memory, but _velosync_master needs a file: the replicator opens it too"},
		{"app.db?_fk=%zz", `velosync: data source name: invalid URL escape "%zz"`},
	}
	for _, tt := range tests {
		t.Run(tt.dsn, func(t *testing.T) {
			_, _, err := parseDSN(tt.dsn)
			if err == nil {
				t.Fatal("no error")
			}
			if err.Error() != tt.want {
				t.Errorf("got\n%q\nwant\n%q", err, tt.want)
			}
			var dsnErr *DSNError
			if !strings.Contains(tt.dsn, "%zz") && !errors.As(err, &dsnErr) {
				t.Errorf("got a %T, want a *DSNError", err)
			}
		})
	}
}

func TestConfig_HidesToken(t *testing.T) {
	cfg, _, err := parseDSN("app.db?_velosync_token=secret&_velosync_master=http://x")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Token != "secret" {
		t.Errorf("token = %q, want secret", cfg.Token)
	}
	for _, text := range []string{fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), cfg.LogValue().String()} {
		if strings.Contains(text, "secret") || !strings.Contains(text, "hidden") {
			t.Errorf("prints as %s", text)
		}
	}
}

// The keys that go-sqlite3 reads stand in its source and nowhere else, and an upgrade may add some.
func TestSQLiteKeys(t *testing.T) {
	pkg, err := build.Import("github.com/mattn/go-sqlite3", ".", build.FindOnly)
	if err != nil {
		t.Fatal("no source of go-sqlite3:", err)
	}
	source, err := os.ReadFile(filepath.Join(pkg.Dir, "sqlite3.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, m := range regexp.MustCompile(`params(?:\.Get\(|\[)"(_\w+)"`).FindAllSubmatch(source, -1) {
		found[string(m[1])] = true
	}
	want := slices.Sorted(maps.Keys(found))
	if len(want) < 20 {
		t.Fatalf("found only %q in the source", want)
	}
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(sqliteKeys))); diff != "" {
		t.Errorf("keys (-go-sqlite3 +ours):\n%s", diff)
	}
}
