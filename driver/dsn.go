package driver

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A DSNError reports a data source name that cannot be used, and what to write instead.
type DSNError struct {
	Key     string // the key, or "" if the error is not about one
	Value   string // its value, if that is wrong; never a secret
	Accepts string // what a value of Key may be, or what to do
	Nearest string // the known key that is most like Key, if Key is unknown
}

func (e *DSNError) Error() string {
	switch {
	case e.Nearest != "":
		return fmt.Sprintf("velosync: data source name has an unknown key %s; the nearest known one is %s", e.Key, e.Nearest)
	case e.Key != "":
		return fmt.Sprintf("velosync: data source name has %s=%s; it accepts %s", e.Key, e.Value, e.Accepts)
	}
	return "velosync: data source name " + e.Accepts
}

var ourKeys = []string{keyMaster, keySpace, keyToken, keyInterval, keyTrack, keyDeviceName, keyMmapBytes, keyDigest}

// sqliteKeys are go-sqlite3's, in the order of its SQLiteDriver.Open.
var sqliteKeys = []string{
	"_auth", "_auth_user", "_auth_pass", "_auth_crypt", "_auth_salt", "_loc", "_mutex", "_txlock",
	"_auto_vacuum", "_vacuum", "_busy_timeout", "_timeout", "_case_sensitive_like", "_cslike",
	"_defer_foreign_keys", "_defer_fk", "_foreign_keys", "_fk", "_ignore_check_constraints",
	"_journal_mode", "_journal", "_locking_mode", "_locking", "_query_only", "_recursive_triggers", "_rt",
	"_secure_delete", "_synchronous", "_sync", "_writable_schema", "_cache_size", "_stmt_cache_size",
}

// uriKeys are SQLite's own, which it reads only in names that begin with "file:".
var uriKeys = []string{"mode", "cache", "immutable", "nolock", "psow", "modeof"}

// parseDSN takes a data source name apart. An error is a *DSNError or comes from net/url.
func parseDSN(dsn string) (Config, settings, error) {
	fail := func(err error) (Config, settings, error) { return Config{}, settings{}, err }
	name, query, _ := strings.Cut(dsn, "?")
	uri := strings.HasPrefix(name, "file:")
	if name == "" {
		return fail(&DSNError{Accepts: `names no file; write one, or ":memory:"`})
	}
	if uri { // SQLite reads nothing behind "#", not even keys
		if before, _, found := strings.Cut(name, "#"); found {
			name, query = before, ""
		}
		query, _, _ = strings.Cut(query, "#")
	}

	params, err := url.ParseQuery(query)
	if err != nil {
		return fail(fmt.Errorf("velosync: data source name: %w", err))
	}
	cfg := defaultConfig()
	for _, key := range slices.Sorted(maps.Keys(params)) {
		if err := checkKey(key, uri); err != nil {
			return fail(err)
		}
		if !slices.Contains(ourKeys, key) {
			continue
		}
		if len(params[key]) > 1 {
			return fail(&DSNError{Accepts: "has " + key + " more than once"})
		}
		if err := cfg.set(key, params.Get(key)); err != nil {
			return fail(err)
		}
	}

	cfg.Path = filePath(name, uri)
	memory := cfg.Path == ":memory:" || uri && params.Get("mode") == "memory" || params.Get("vfs") == "memdb"
	if memory {
		cfg.Path = ""
	}
	cfg.ReadOnly = uri && (params.Get("mode") == "ro" || isTrue(params.Get("immutable")))
	for _, needs := range []struct {
		key string
		set bool
	}{{keyMaster, cfg.Master != ""}, {keyTrack, len(cfg.Track) > 0}} {
		switch {
		case needs.set && cfg.ReadOnly:
			return fail(&DSNError{Accepts: "opens the database read-only, but " + needs.key + " writes to it"})
		case needs.set && memory && needs.key == keyMaster:
			return fail(&DSNError{Accepts: "opens a database in memory, but " + needs.key + " needs a file: the replicator opens it too"})
		}
	}

	rest := withoutOurKeys(query)
	cfg.DSN = join(name, rest)
	open := settings{mmapBytes: cfg.MmapBytes, busy: busyTimeout(params)}
	queryOnly := isTrue(params.Get("_query_only"))
	open.wal = !has(params, "_journal_mode", "_journal") && !cfg.ReadOnly && !queryOnly && !memory
	if !has(params, "_foreign_keys", "_fk") {
		rest = append(rest, "_foreign_keys=1")
	}
	// BEGIN IMMEDIATE fails where query_only forbids writing.
	if !has(params, "_txlock") && !queryOnly {
		rest = append(rest, "_txlock=immediate")
	}
	if !has(params, "_cache_size") {
		rest = append(rest, "_cache_size=-65536")
	}
	// go-sqlite3 waits 5 s by itself; written out, the default does not depend on its version.
	if !has(params, "_busy_timeout", "_timeout") {
		rest = append(rest, "_busy_timeout="+strconv.Itoa(defaultBusyMillis))
	}
	open.dsn = join(name, rest)
	return cfg, open, nil
}

// checkKey says no to a key that nobody would read.
func checkKey(key string, uri bool) error {
	switch {
	case slices.Contains(ourKeys, key) || slices.Contains(sqliteKeys, key):
		return nil
	case strings.HasPrefix(key, "_"),
		strings.HasPrefix(key, "velosync"),
		slices.Contains(sqliteKeys, "_"+key): // the underscore is missing
		return &DSNError{Key: key, Nearest: nearest(key)}
	case !uri && slices.Contains(uriKeys, key):
		return &DSNError{Accepts: fmt.Sprintf("has the key %s, which SQLite reads only in names that begin with file: "+
			"(write file:app.db?%s=…)", key, key)}
	}
	return nil // a custom VFS may read it
}

// nearest returns the known key that takes the fewest edits to get from key.
func nearest(key string) string {
	best, least := "", -1
	for _, known := range slices.Concat(ourKeys, sqliteKeys) {
		if d := editDistance(key, known); least < 0 || d < least {
			best, least = known, d
		}
	}
	return best
}

// editDistance is how many bytes must be inserted, deleted or replaced to turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// withoutOurKeys returns the other key=value pairs as they were written: SQLite and net/url do
// not agree on "+", so decoding and encoding again could change them.
func withoutOurKeys(query string) []string {
	var rest []string
	for pair := range strings.SplitSeq(query, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(key); err == nil {
			key = decoded
		}
		if pair != "" && !slices.Contains(ourKeys, key) {
			rest = append(rest, pair)
		}
	}
	return rest
}

func join(name string, pairs []string) string {
	if len(pairs) > 0 {
		name += "?" + strings.Join(pairs, "&")
	}
	return name
}

// filePath returns the path in a name, which is a URI (file:app.db, file:///tmp/app.db,
// file://localhost/tmp/app.db) or the path itself.
func filePath(name string, uri bool) string {
	if !uri {
		return name
	}
	path := strings.TrimPrefix(name, "file:")
	if authority, found := strings.CutPrefix(path, "//"); found {
		path = ""
		if i := strings.IndexByte(authority, '/'); i >= 0 {
			path = authority[i:]
		}
	}
	if decoded, err := url.PathUnescape(path); err == nil {
		return decoded
	}
	return path
}

const defaultBusyMillis = 5000

// busyTimeout returns what go-sqlite3 will set; it reports a value that is no number itself.
func busyTimeout(params url.Values) time.Duration {
	ms := int64(defaultBusyMillis)
	for _, key := range []string{"_busy_timeout", "_timeout"} { // the second outranks the first
		if n, err := strconv.ParseInt(params.Get(key), 10, 64); err == nil {
			ms = n
		}
	}
	return time.Duration(ms) * time.Millisecond
}

func has(params url.Values, keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return params.Get(key) != "" })
}

// isTrue reads a boolean as SQLite does.
func isTrue(value string) bool {
	switch strings.ToLower(value) {
	case "1", "yes", "true", "on":
		return true
	}
	return false
}
