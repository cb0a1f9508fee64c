package v1

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/sqlfuncs"
)

// Limits of a request, beside those of its bytes and of the scanner. What is beyond the
// first two makes the request malformed, the others a record.
const (
	maxChanges = 1 << 18
	maxDevice  = 256     // bytes of a device_id
	maxID      = 4 << 10 // bytes of a vector_id
	maxSites   = 4096    // entries of a version vector
	maxTime    = 1e15    // unix seconds, either side of 0
)

// A malformed says what is wrong with a request as a whole.
type malformed struct{ reason string }

func (e *malformed) Error() string { return e.reason }

func malform(format string, args ...any) error { return &malformed{fmt.Sprintf(format, args...)} }

// A versionError is a request of another protocol.
type versionError struct{ version string }

func (e *versionError) Error() string {
	return fmt.Sprintf("protocol_version %s is not spoken here, this is version 1", e.version)
}

// A checksumError says that the changes are not those that the client summed up.
type checksumError struct{ claimed, computed string }

func (e *checksumError) Error() string {
	return fmt.Sprintf("checksum of the changes is %s, the request says %s", e.computed, e.claimed)
}

// fields reads the members of an object as they are written; of equal keys the last.
func fields(text string) (map[string]string, error) {
	s := scanner{text: text}
	if s.next() != '{' {
		return nil, malform("want an object, got %.40q", text)
	}
	m := make(map[string]string, 12)
	err := s.object(func(key string) error {
		if len(m) > 1000 {
			return malform("more than 1000 keys in an object")
		}
		name, _ := unquote(key)
		value, err := s.value()
		m[name] = value
		return err
	})
	if err == nil {
		err = s.end()
	}
	return m, err
}

// count reads an integer of at least 0.
func count(m map[string]string, name string) (int64, error) {
	token, ok := m[name]
	if !ok {
		return 0, malform("%s is missing", name)
	}
	n, ok, err := parseNumber(token)
	if !ok || err != nil || !n.whole || n.integer < 0 {
		return 0, malform("%s is %.40s, want an integer of at least 0", name, token)
	}
	return n.integer, nil
}

// text reads a string without lone surrogates, of 1 to limit bytes.
func text(m map[string]string, name string, limit int) (string, error) {
	token, ok := m[name]
	if !ok {
		return "", malform("%s is missing", name)
	}
	if token[0] != '"' {
		return "", malform("%s is %.40s, want a string", name, token)
	}
	s, lone := unquote(token)
	if lone || s == "" || len(s) > limit {
		return "", malform("%s: want 1 to %d bytes of text", name, limit)
	}
	return s, nil
}

// checkVersion checks protocol_version, where it is given.
func checkVersion(m map[string]string, required bool) error {
	token, ok := m["protocol_version"]
	if !ok && !required {
		return nil
	}
	if !ok {
		return malform("protocol_version is missing")
	}
	n, ok, err := parseNumber(token)
	if !ok || err != nil || !n.whole {
		return malform("protocol_version is %.40s, want an integer", token)
	}
	if n.integer != 1 {
		return &versionError{token}
	}
	return nil
}

// device reads device_id. The master counts in clocks too, so its name is not a client's.
func device(m map[string]string) (string, error) {
	name, err := text(m, "device_id", maxDevice)
	if err == nil && name == change.Master {
		err = malform("device_id %q is what the master is called in clocks: take another", name)
	}
	return name, err
}

// parsePush reads the body of POST /sync. Errors are a *malformed, a *syntaxError, a
// *versionError or a *checksumError.
func parsePush(body string) (*store.V1Push, error) {
	if !utf8.ValidString(body) {
		return nil, malform("the body is not UTF-8")
	}
	m, err := fields(body)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(m, true); err != nil {
		return nil, err
	}
	p := &store.V1Push{}
	if p.Device, err = device(m); err != nil {
		return nil, err
	}
	var counts [4]int64
	for i, name := range [...]string{"base_lsn", "head_lsn", "change_count", "raw_wal_entries"} {
		if counts[i], err = count(m, name); err != nil {
			return nil, err
		}
	}
	claimed, err := text(m, "checksum_sha256", 2*sha256.Size)
	if err != nil {
		return nil, err
	}
	if sum, err := hex.DecodeString(claimed); err != nil || len(sum) != sha256.Size {
		return nil, malform("checksum_sha256 is %.80q, want 64 hex digits", claimed)
	}
	changes, ok := m["changes"]
	if !ok || changes[0] != '[' {
		return nil, malform("changes is missing, or no list")
	}
	if p.Records, err = parseChanges(changes, p.Device); err != nil {
		return nil, err
	}
	if n := int64(len(p.Records)); n != counts[2] {
		return nil, malform("change_count is %d, the list has %d", counts[2], n)
	}
	h := sha256.New()
	if err := hashArray(changes, h); err != nil {
		return nil, err
	}
	if computed := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(computed, claimed) {
		return nil, &checksumError{claimed, computed}
	}
	// Changes that compaction folded into one raised the clock each; there are no more of
	// them than log entries.
	p.Head = change.LSN(counts[1])
	window := max(counts[1]-counts[0], 0)
	p.Raise = uint64(max(counts[2], min(counts[3], window)))
	return p, nil
}

// parseChanges reads the list of changes.
func parseChanges(list, device string) (records []store.V1Record, err error) {
	s := scanner{text: list}
	err = s.array(func() error {
		if len(records) >= maxChanges {
			return malform("more than %d changes", maxChanges)
		}
		value, err := s.value()
		if err != nil {
			return err
		}
		r, err := parseChange(value)
		if err != nil {
			return malform("change %d: %v", len(records), err)
		}
		records = append(records, r)
		return nil
	})
	return records, err
}

// parseChange reads an entry of changes. An error makes the request malformed; what is
// wrong with the record alone is its Problem.
func parseChange(entry string) (r store.V1Record, err error) {
	m, err := fields(entry)
	if err != nil {
		return r, err
	}
	if _, err := count(m, "lsn"); err != nil {
		return r, err
	}
	switch m["op"] {
	case `"INSERT"`, `"UPDATE"`, `"DELETE"`:
	default:
		return r, malform("op is %.40s, want INSERT, UPDATE or DELETE", m["op"])
	}
	record, ok := m["record"]
	if !ok {
		return r, malform("record is missing")
	}
	if m2, err := fields(record); err != nil {
		return r, malform("record: %v", err)
	} else if r, err = parseRecord(m2); err != nil {
		return r, malform("record: %v", err)
	}
	if m["op"] == `"DELETE"` && !r.Deleted {
		r.Deleted, r.Embedding = true, nil
	}
	if !r.Deleted && len(r.Embedding) == 0 && r.Problem == "" {
		r.Problem = "the embedding of a live record is empty"
	}
	return r, nil
}

// parseRecord reads a record.
func parseRecord(m map[string]string) (r store.V1Record, err error) {
	kinds := [...]struct{ name, first, kind string }{
		{"vector_id", `"`, "a string"}, {"embedding", "[", "a list"}, {"metadata", "{", "an object"}, {"version_vector", "", ""},
		{"updated_at", "-0123456789NI", "a number"}, {"is_deleted", "tf", "true or false"},
	}
	for _, k := range kinds {
		value, ok := m[k.name]
		if !ok {
			return r, malform("%s is missing", k.name)
		}
		if k.first != "" && !strings.ContainsRune(k.first, rune(value[0])) {
			return r, malform("%s is %.40s, want %s", k.name, value, k.kind)
		}
	}
	weight, ok := m["semantic_weight"]
	if !ok {
		weight = "1.0"
	}
	r.Deleted = m["is_deleted"] == "true"
	problem := func(format string, args ...any) {
		if r.Problem == "" {
			r.Problem = fmt.Sprintf(format, args...)
		}
	}
	r.Name = m["vector_id"]
	id, lone := unquote(r.Name)
	switch {
	case lone:
		problem("vector_id has a lone surrogate")
	case id == "" || len(id) > maxID:
		problem("vector_id has %d bytes, want 1 to %d", len(id), maxID)
	default:
		r.ID = id
	}
	if r.Clock, err = parseClock(m["version_vector"]); err != nil {
		problem("version_vector: %v", err)
		r.Clock = nil
	}
	switch n, ok, err := parseNumber(weight); {
	case !ok:
		return r, malform("semantic_weight is %.40s, want a number", weight)
	case err != nil || !(n.float >= 0 && n.float <= change.MaxWeight): // NaN is neither
		problem("semantic_weight is %.40s, want 0 to %g", weight, float64(change.MaxWeight))
	default:
		r.Weight = n.float + 0 // -0.0 is 0
	}
	switch n, ok, err := parseNumber(m["updated_at"]); {
	case !ok:
		return r, malform("updated_at is %.40s, want a number", m["updated_at"])
	case err != nil || !(math.Abs(n.float) <= maxTime):
		problem("updated_at is %.40s, want unix seconds within ±%g", m["updated_at"], float64(maxTime))
	default:
		r.Updated = n.float
	}
	r.Metadata = m["metadata"]
	if reason := checkPlain(r.Metadata); reason != "" {
		problem("metadata has %s", reason)
	}
	if r.Embedding, err = parseEmbedding(m["embedding"]); err != nil {
		problem("embedding: %v", err)
	}
	if r.Deleted {
		r.Embedding = nil
	}
	return r, nil
}

// parseEmbedding reads a list of finite numbers.
func parseEmbedding(list string) ([]byte, error) {
	s := scanner{text: list}
	b := make([]byte, 0, 8*(1+strings.Count(list, ",")))
	err := s.array(func() error {
		if c := s.next(); c == '[' || c == '{' || c == '"' {
			return malform("element %d is no number", len(b)/8)
		}
		token, err := s.scalar()
		if err != nil {
			return err
		}
		n, ok, err := parseNumber(token)
		switch {
		case !ok:
			return malform("element %d is %.40s, want a number", len(b)/8, token)
		case err != nil:
			return malform("element %d: %v", len(b)/8, err)
		case math.IsNaN(n.float) || math.IsInf(n.float, 0):
			return malform("element %d is %.40s, want a finite number", len(b)/8, token)
		case len(b) >= 8*sqlfuncs.MaxDims:
			return malform("more than %d dimensions", sqlfuncs.MaxDims)
		}
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(n.float))
		return nil
	})
	return b, err
}

// parseClock reads a version vector; entries of 0 say nothing and are left out.
func parseClock(object string) (change.Clock, error) {
	s := scanner{text: object}
	if s.next() != '{' {
		return nil, malform("want an object, got %.40s", object)
	}
	clock := change.Clock{}
	err := s.object(func(key string) error {
		site, lone := unquote(key)
		if lone || site == "" || len(site) > maxDevice {
			return malform("want names of 1 to %d bytes of text", maxDevice)
		}
		if len(clock) >= maxSites {
			return malform("more than %d entries", maxSites)
		}
		if c := s.next(); c == '[' || c == '{' {
			return malform("want counts, got a list or an object")
		}
		token, err := s.scalar()
		if err != nil {
			return err
		}
		n, ok, err := parseNumber(token)
		if !ok || err != nil || !n.whole || n.integer < 0 {
			return malform("a count is %.40s, want an integer of at least 0", token)
		}
		delete(clock, site)
		if n.integer > 0 {
			clock[site] = uint64(n.integer)
		}
		return nil
	})
	return clock, err
}

// An ack is the body of POST /ack.
type ack struct {
	device string
	lsn    change.LSN
	seq    change.Seq
}

// parseAck reads the body of POST /ack.
func parseAck(body string) (a ack, err error) {
	if !utf8.ValidString(body) {
		return a, malform("the body is not UTF-8")
	}
	m, err := fields(body)
	if err != nil {
		return a, err
	}
	if err := checkVersion(m, false); err != nil {
		return a, err
	}
	if a.device, err = device(m); err != nil {
		return a, err
	}
	lsn, err := count(m, "acked_head_lsn")
	if err != nil {
		return a, err
	}
	seq, err := count(m, "acked_server_seq")
	a.lsn, a.seq = change.LSN(lsn), change.Seq(seq)
	return a, err
}

// appendNumber writes a float as Python does, so that it reads it as a float.
func appendNumber(b []byte, x float64) []byte {
	if a := math.Abs(x); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.AppendFloat(b, x, 'e', -1, 64)
	}
	start := len(b)
	b = strconv.AppendFloat(b, x, 'f', -1, 64)
	for _, c := range b[start:] {
		if c == '.' {
			return b
		}
	}
	return append(b, ".0"...)
}
