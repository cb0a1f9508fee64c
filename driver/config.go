package driver

import (
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The keys of a data source name that are ours, each with what it accepts.
const (
	keyMaster     = "_velosync_master"
	keySpace      = "_velosync_space"
	keyToken      = "_velosync_token"
	keyInterval   = "_velosync_interval"
	keyTrack      = "_velosync_track"
	keyDeviceName = "_velosync_device_name"
	keyMmapBytes  = "_velosync_mmap_bytes"
	keyDigest     = "_velosync_digest_every"
)

// A Config is what a data source name says about sync, and where the database is. Of the keys,
// only _velosync_master makes anything sync; the others tune it.
type Config struct {
	// DSN opens the same database with the same go-sqlite3 settings, but without the
	// _velosync_ keys: for connections that the replicator makes itself.
	DSN string

	// Path is the database file as SQLite sees it, percent-decoded, or "" if the database is
	// in memory.
	Path string

	// ReadOnly is whether mode=ro or immutable forbids writing. Neither Master nor Track can be
	// set then.
	ReadOnly bool

	// Master is the URL of masterd, http or https, from _velosync_master. Empty: no sync.
	Master string

	// Space is the space to sync, from _velosync_space: 1 to 64 of a-z, 0-9, _ and -. It is
	// "default" if the key is missing.
	Space string

	// Token is the bearer token sent to the master, from _velosync_token, or empty. It is left
	// out where a Config is printed or logged.
	Token string

	// Interval is the longest that a local change waits before it is sent, from
	// _velosync_interval, a Go duration such as 500ms. Zero leaves it to the replicator.
	Interval time.Duration

	// DigestEvery says after how many rounds one compares a range of rows with the master, from
	// _velosync_digest_every. -1, from 0 or off: never, and not while idle either. Zero, if the
	// key is missing, leaves it to the replicator.
	DigestEvery int

	// Track names the tables to track at open, from _velosync_track, separated by commas. Empty:
	// whatever the file itself tracks already.
	Track []string

	// DeviceName is what people see this device called, from _velosync_device_name: up to 128
	// bytes of UTF-8. It identifies nothing; the device's id is in the file.
	DeviceName string

	// MmapBytes is how much of the file each connection maps into memory, from
	// _velosync_mmap_bytes. 0 turns it off, which a network file system or a file that others
	// truncate calls for. If the key is missing it is 1 GiB, and 0 on 32-bit machines.
	MmapBytes int64
}

// maxDigestEvery is more rounds than anybody waits for: one a second takes 11 days.
const maxDigestEvery = 1_000_000

// String describes the Config without its token.
func (c Config) String() string {
	token := "none"
	if c.Token != "" {
		token = "hidden"
	}
	return fmt.Sprintf("{path %q, read-only %t, master %q, space %q, token %s, interval %v, digest every %d, track %q, device name %q, mmap %d}",
		c.Path, c.ReadOnly, c.Master, c.Space, token, c.Interval, c.DigestEvery, c.Track, c.DeviceName, c.MmapBytes)
}

// LogValue implements [slog.LogValuer], without the token.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

func defaultConfig() Config {
	c := Config{Space: "default"}
	if strconv.IntSize == 64 {
		c.MmapBytes = 1 << 30
	}
	return c
}

// set gives the field of a key its value. An error is a *DSNError.
func (c *Config) set(key, value string) error {
	bad := func(accepts string) error { return &DSNError{Key: key, Value: value, Accepts: accepts} }
	switch key {
	case keyMaster:
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
			u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			const accepts = "an http or https URL without user, query or fragment, such as https://sync.example.com"
			if err == nil && u.User != nil { // do not print a password
				return &DSNError{Key: key, Value: u.Redacted(), Accepts: accepts + "; the token goes into " + keyToken}
			}
			return bad(accepts)
		}
		c.Master = strings.TrimRight(value, "/")
	case keySpace:
		if !validSpace(value) {
			return bad("1 to 64 of a-z, 0-9, _ and -")
		}
		c.Space = value
	case keyToken:
		// A token goes into an HTTP header: RFC 6750 allows visible ASCII.
		if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return &DSNError{Key: key, Value: "(hidden)", Accepts: "visible ASCII characters without spaces"}
		}
		c.Token = value
	case keyInterval:
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return bad("a positive Go duration, such as 500ms or 5s")
		}
		c.Interval = d
	case keyDigest:
		n, err := strconv.Atoi(value)
		switch {
		case value == "off" || err == nil && n == 0:
			c.DigestEvery = -1
		case err != nil || n < 0 || n > maxDigestEvery:
			return bad("a number of rounds from 1 to 1000000; 0 or off compares no rows")
		default:
			c.DigestEvery = n
		}
	case keyTrack:
		seen := make(map[string]bool)
		for name := range strings.SplitSeq(value, ",") {
			name = strings.TrimSpace(name)
			if name == "" || seen[strings.ToLower(name)] {
				return bad("names of tables separated by commas, each once, such as notes,tags")
			}
			seen[strings.ToLower(name)] = true
			c.Track = append(c.Track, name)
		}
	case keyDeviceName:
		if value == "" || len(value) > 128 || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			return bad("1 to 128 bytes of UTF-8 without control characters")
		}
		c.DeviceName = value
	case keyMmapBytes:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return bad("a whole number of bytes; 0 turns memory mapping off")
		}
		c.MmapBytes = n
	}
	return nil
}

// validSpace agrees with masterd's store.
func validSpace(name string) bool {
	ok := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' }
	return len(name) >= 1 && len(name) <= 64 && !strings.ContainsFunc(name, func(r rune) bool { return !ok(r) })
}
