package capture

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/velosync/velosync/capture/change"
)

// Rows that wait in a table of ours, parked or in conflict, are JSON objects from column
// to value: readable in any client, and read back bit by bit. What JSON can't hold is an
// object of one key: {"$blob":hex}, {"$text":hex of bytes that are not UTF-8 or hold a
// NUL}, {"$real":"Inf"}.

func encodeRow(names []string, values []change.Value) string {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		writeText(&b, name)
		b.WriteByte(':')
		writeValue(&b, values[i])
	}
	b.WriteByte('}')
	return b.String()
}

func writeText(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s)       // a string always encodes
	b.Truncate(b.Len() - 1) // Encode ends with a newline
}

func writeValue(b *bytes.Buffer, v change.Value) {
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			fmt.Fprintf(b, `{"$real":"%g"}`, v)
			return
		}
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0" // else it would come back as an integer
		}
		b.WriteString(s)
	case string:
		if !utf8.ValidString(v) || strings.IndexByte(v, 0) >= 0 {
			fmt.Fprintf(b, `{"$text":"%x"}`, v)
			return
		}
		writeText(b, v)
	case []byte:
		fmt.Fprintf(b, `{"$blob":"%x"}`, v)
	default:
		panic(fmt.Sprintf("capture: a value of type %T came from SQLite", v))
	}
}

// decodeRow reads what encodeRow wrote.
func decodeRow(text string) (map[string]change.Value, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var raw map[string]any
	if err := dec.Decode(&raw); err != nil {
		return nil, fmt.Errorf("a row kept as JSON: %w", err)
	}
	row := make(map[string]change.Value, len(raw))
	for name, v := range raw {
		value, err := decodeValue(v)
		if err != nil {
			return nil, fmt.Errorf("a row kept as JSON: column %q: %w", name, err)
		}
		row[name] = value
	}
	return row, nil
}

func decodeValue(v any) (change.Value, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return v, nil
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return v.Float64()
		}
		return v.Int64()
	case map[string]any:
		for kind, x := range v {
			s, _ := x.(string)
			switch kind {
			case "$blob":
				return hex.DecodeString(s)
			case "$text":
				b, err := hex.DecodeString(s)
				return string(b), err
			case "$real":
				return strconv.ParseFloat(s, 64)
			}
		}
	}
	return nil, fmt.Errorf("no SQLite value: %v", v)
}

func encodeNames(names []string) string {
	b, _ := json.Marshal(names) // strings always encode
	return string(b)
}

func encodeClock(c change.Clock) change.Value {
	if c == nil {
		return nil
	}
	b, _ := json.Marshal(c) // numbers always encode
	return string(b)
}
