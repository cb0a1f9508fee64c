package change

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
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
	var parts []string
	if err := json.Unmarshal([]byte(s), &parts); err != nil {
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
		var err error
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
