package change

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// SplitKey returns the values of the n key columns that name a row. A single key
// column names it by its value, several by a JSON array of texts, each led by the
// first letter of its type: i (integer), r (real), t (text), b (blob, as hex). SQLite
// alone builds that array, in triggers, so its text is the same wherever it is made.
func SplitKey(key Value, n int) ([]Value, error) {
	if n == 1 {
		if key == nil {
			return nil, fmt.Errorf("key is NULL")
		}
		return []Value{key}, nil
	}
	s, ok := key.(string)
	if !ok {
		return nil, fmt.Errorf("composite key is %T, want a JSON array in text", key)
	}
	parts, err := splitArray(s)
	if err != nil {
		return nil, fmt.Errorf("composite key %.40q: %w", s, err)
	}
	if len(parts) != n {
		return nil, fmt.Errorf("composite key %.40q has %d columns, the table's key has %d", s, len(parts), n)
	}
	values := make([]Value, n)
	for i, p := range parts {
		if p == "" {
			return nil, fmt.Errorf("composite key %.40q: column %d has no type letter", s, i+1)
		}
		switch p[0] {
		case 'i':
			values[i], err = strconv.ParseInt(p[1:], 10, 64)
		case 'r':
			values[i], err = strconv.ParseFloat(p[1:], 64)
		case 't':
			values[i] = p[1:]
		case 'b':
			values[i], err = hex.DecodeString(p[1:])
		default:
			err = fmt.Errorf("unknown type letter %q", p[0])
		}
		if err != nil {
			return nil, fmt.Errorf("composite key %.40q: column %d: %w", s, i+1, err)
		}
	}
	return values, nil
}

// splitArray reads a JSON array of texts as SQLite writes it: with the bytes of each text
// as they are, also where they are no UTF-8. The decoder would exchange those, and two keys
// would be one; so it gets them as so many runes below 256.
func splitArray(s string) (parts []string, err error) {
	if utf8.ValidString(s) {
		err = json.Unmarshal([]byte(s), &parts)
		return parts, err
	}
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	if err := json.Unmarshal([]byte(string(runes)), &parts); err != nil {
		return nil, err
	}
	for i, p := range parts {
		b := make([]byte, 0, len(p))
		for _, r := range p {
			if r > 0xff {
				return nil, fmt.Errorf("column %d: an escaped %U beside bytes that are no UTF-8", i+1, r)
			}
			b = append(b, byte(r))
		}
		parts[i] = string(b)
	}
	return parts, nil
}
