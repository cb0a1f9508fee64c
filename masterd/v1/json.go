package v1

import (
	"errors"
	"fmt"
	"hash"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A scanner moves over JSON text as Python's json module reads it: NaN, Infinity and
// -Infinity are numbers, an escape may name half of a surrogate pair. The text is UTF-8;
// whoever makes a scanner has checked that.
type scanner struct {
	text  string
	at    int
	depth int
}

// maxDepth bounds how deep arrays and objects lie in each other.
const maxDepth = 64

// A syntaxError says what is no JSON.
type syntaxError struct {
	at     int
	reason string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("no JSON: byte %d: %s", e.at, e.reason) }

func (s *scanner) fail(format string, args ...any) error {
	return &syntaxError{at: s.at, reason: fmt.Sprintf(format, args...)}
}

// next moves past white space and returns the byte there; 0 at the end.
func (s *scanner) next() byte {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// take moves past one byte and the white space before it.
func (s *scanner) take(c byte) error {
	if s.next() != c || s.at == len(s.text) {
		return s.unexpected(strconv.QuoteRune(rune(c)))
	}
	s.at++
	return nil
}

func (s *scanner) unexpected(want string) error {
	if s.at >= len(s.text) {
		return s.fail("the text ends where %s should follow", want)
	}
	return s.fail("got %q, want %s", s.text[s.at], want)
}

// end checks that nothing follows.
func (s *scanner) end() error {
	if s.next() != 0 || s.at < len(s.text) {
		return s.unexpected("the end")
	}
	return nil
}

// value moves past a value and returns its text.
func (s *scanner) value() (string, error) {
	c := s.next()
	start := s.at
	var err error
	switch c {
	case '{':
		err = s.object(func(string) error { _, err := s.value(); return err })
	case '[':
		err = s.array(func() error { _, err := s.value(); return err })
	default:
		return s.scalar()
	}
	return s.text[start:s.at], err
}

// object moves past an object. It calls f behind each key, which is given as it is
// written; f moves past the value.
func (s *scanner) object(f func(key string) error) error {
	return s.list('{', '}', func() error {
		key, err := s.str()
		if err != nil {
			return err
		}
		if err := s.take(':'); err != nil {
			return err
		}
		return f(key)
	})
}

// array moves past an array. It calls f for each element, which f moves past.
func (s *scanner) array(f func() error) error { return s.list('[', ']', f) }

func (s *scanner) list(open, end byte, f func() error) error {
	if err := s.take(open); err != nil {
		return err
	}
	if s.depth++; s.depth > maxDepth {
		return s.fail("more than %d levels", maxDepth)
	}
	defer func() { s.depth-- }()
	if s.next() == end {
		s.at++
		return nil
	}
	for {
		if err := f(); err != nil {
			return err
		}
		switch s.next() {
		case ',':
			s.at++
		case end:
			s.at++
			return nil
		default:
			return s.unexpected("',' or " + strconv.QuoteRune(rune(end)))
		}
	}
}

// scalar moves past a string, a number or a word and returns it as it is written.
func (s *scanner) scalar() (string, error) {
	c := s.next()
	if c == '"' {
		return s.str()
	}
	start := s.at
	if c >= 'A' && c <= 'z' || c == '-' && strings.HasPrefix(s.text[s.at:], "-I") {
		for _, word := range [...]string{"true", "false", "null", "NaN", "Infinity", "-Infinity"} {
			if strings.HasPrefix(s.text[s.at:], word) {
				s.at += len(word)
				return s.text[start:s.at], nil
			}
		}
		return "", s.unexpected("a value")
	}
	if c == '-' {
		s.at++
	}
	if s.at < len(s.text) && s.text[s.at] == '0' {
		s.at++
	} else if !s.digits() {
		return "", s.unexpected("a value")
	}
	if s.at < len(s.text) && s.text[s.at] == '.' {
		s.at++
		if !s.digits() {
			return "", s.unexpected("a digit")
		}
	}
	if s.at < len(s.text) && (s.text[s.at] == 'e' || s.text[s.at] == 'E') {
		s.at++
		if s.at < len(s.text) && (s.text[s.at] == '+' || s.text[s.at] == '-') {
			s.at++
		}
		if !s.digits() {
			return "", s.unexpected("a digit")
		}
	}
	return s.text[start:s.at], nil
}

func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.text) && s.text[s.at] >= '0' && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

// str moves past a string and returns it as it is written, with its quotes.
func (s *scanner) str() (string, error) {
	if s.next() != '"' {
		return "", s.unexpected("a string")
	}
	start := s.at
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return s.text[start:s.at], nil
		case c < 0x20:
			return "", s.fail("a control character in a string")
		case c == '\\':
			if err := s.escape(); err != nil {
				return "", err
			}
		}
	}
	return "", s.unexpected("the end of a string")
}

// escape moves to the last byte of an escape.
func (s *scanner) escape() error {
	if s.at++; s.at >= len(s.text) {
		return s.unexpected("an escape")
	}
	switch s.text[s.at] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
		if _, ok := hex4(s.text[s.at+1:]); !ok {
			return s.fail("want four hex digits behind \\u")
		}
		s.at += 4
		return nil
	}
	return s.unexpected("an escape")
}

func hex4(text string) (unit rune, ok bool) {
	if len(text) < 4 {
		return 0, false
	}
	for i := range 4 {
		c := text[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		unit = unit<<4 | rune(c)
	}
	return unit, true
}

// unquote returns what a string token says. A surrogate without its other half becomes
// the three bytes that UTF-8 would make of it, so that bytes sort as code points do; lone
// says that there is one.
func unquote(token string) (text string, lone bool) {
	token = token[1 : len(token)-1]
	i := strings.IndexByte(token, '\\')
	if i < 0 {
		return token, false
	}
	b := append(make([]byte, 0, len(token)), token[:i]...)
	for ; i < len(token); i++ {
		if token[i] != '\\' {
			b = append(b, token[i])
			continue
		}
		i++
		switch c := token[i]; c {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			unit, _ := hex4(token[i+1:])
			i += 4
			if low, ok := lowHalf(token[i+1:]); ok && unit >= 0xd800 && unit < 0xdc00 {
				unit = 0x10000 + (unit-0xd800)<<10 + (low - 0xdc00)
				i += 6
			}
			if unit >= 0xd800 && unit < 0xe000 {
				lone = true
				b = append(b, 0xe0|byte(unit>>12), 0x80|byte(unit>>6&0x3f), 0x80|byte(unit&0x3f))
			} else {
				b = utf8.AppendRune(b, unit)
			}
		default:
			b = append(b, c)
		}
	}
	return string(b), lone
}

// lowHalf reads an escape of the second half of a pair.
func lowHalf(text string) (unit rune, ok bool) {
	if !strings.HasPrefix(text, `\u`) {
		return 0, false
	}
	unit, ok = hex4(text[2:])
	return unit, ok && unit >= 0xdc00 && unit < 0xe000
}

// A canonicaliser writes JSON text again without white space and with the keys of each
// object sorted by code points, of equal keys the last one; scalars stay as they are
// written.
type canonicaliser struct {
	scanner
	out     []byte
	members []member // of the objects that are open
	sorted  []byte
}

// A member is a key and its value.
type member struct {
	key      string
	from, to int // in out
}

// maxMembers bounds the members of the objects that are open at a time.
const maxMembers = 1 << 18

// canonical returns text in canonical form.
func canonical(text string) ([]byte, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("no JSON: not UTF-8")
	}
	c := canonicaliser{scanner: scanner{text: text}, out: make([]byte, 0, len(text))}
	if err := c.write(); err != nil {
		return nil, err
	}
	return c.out, c.end()
}

// hashArray hashes an array in canonical form, one element at a time.
func hashArray(text string, h hash.Hash) error {
	c := canonicaliser{scanner: scanner{text: text}}
	first := true
	h.Write([]byte{'['})
	err := c.array(func() error {
		c.out = c.out[:0]
		if !first {
			c.out = append(c.out, ',')
		}
		first = false
		if err := c.write(); err != nil {
			return err
		}
		h.Write(c.out)
		return nil
	})
	h.Write([]byte{']'})
	return err
}

// write moves past a value and writes it.
func (c *canonicaliser) write() error {
	switch c.next() {
	case '{':
		return c.writeObject()
	case '[':
		c.out = append(c.out, '[')
		first := true
		err := c.array(func() error {
			if !first {
				c.out = append(c.out, ',')
			}
			first = false
			return c.write()
		})
		c.out = append(c.out, ']')
		return err
	}
	token, err := c.scalar()
	c.out = append(c.out, token...)
	return err
}

func (c *canonicaliser) writeObject() error {
	first, start := len(c.members), len(c.out)
	inOrder := true
	err := c.object(func(token string) error {
		if len(c.members) >= maxMembers {
			return c.fail("more than %d keys in objects within each other", maxMembers)
		}
		key, _ := unquote(token)
		if n := len(c.members); n > first && key <= c.members[n-1].key {
			inOrder = false
		}
		c.out = append(c.out, ',') // '{' for the first
		m := member{key: key, from: len(c.out)}
		c.out = append(append(c.out, token...), ':')
		if err := c.write(); err != nil {
			return err
		}
		m.to = len(c.out)
		c.members = append(c.members, m)
		return nil
	})
	if err != nil {
		return err
	}
	if members := c.members[first:]; !inOrder {
		slices.SortStableFunc(members, func(a, b member) int { return strings.Compare(a.key, b.key) })
		c.sorted = c.sorted[:0]
		for i, m := range members {
			if i+1 < len(members) && members[i+1].key == m.key {
				continue // said again
			}
			c.sorted = append(append(c.sorted, ','), c.out[m.from:m.to]...)
		}
		c.out = append(c.out[:start], c.sorted...)
	}
	if len(c.out) == start {
		c.out = append(c.out, '{')
	}
	c.out[start] = '{'
	c.out = append(c.out, '}')
	c.members = c.members[:first]
	return nil
}

// A number is a JSON number as Python reads it.
type number struct {
	float   float64 // NaN and infinity too
	integer int64
	whole   bool // it is written as an integer, and integer holds it
}

// maxNumber is the most characters of a number that is used.
const maxNumber = 700

var errLongNumber = errors.New("a number is too long")

// parseNumber reads a scalar; ok is false when it is none.
func parseNumber(token string) (n number, ok bool, err error) {
	switch token {
	case "NaN":
		return number{float: math.NaN()}, true, nil
	case "Infinity":
		return number{float: math.Inf(1)}, true, nil
	case "-Infinity":
		return number{float: math.Inf(-1)}, true, nil
	}
	if token == "" || token[0] != '-' && (token[0] < '0' || token[0] > '9') {
		return n, false, nil
	}
	if len(token) > maxNumber { // ParseFloat miscounts digits beyond the 800th
		return n, true, errLongNumber
	}
	n.float, _ = strconv.ParseFloat(token, 64) // out of range: infinity, as in Python
	if len(token) < 20 && !strings.ContainsAny(token, ".eE") {
		i, err := strconv.ParseInt(token, 10, 64)
		n.integer, n.whole = i, err == nil // else it is beyond an int64
	}
	return n, true, nil
}

// checkPlain says why a value can't be kept and sent on: every reader of JSON must take
// it, and Python's takes more.
func checkPlain(value string) (reason string) {
	s := scanner{text: value}
	scalar := func(token string) {
		if reason != "" {
			return
		}
		if token[0] == '"' {
			if _, lone := unquote(token); lone {
				reason = "a lone surrogate"
			}
			return
		}
		n, ok, err := parseNumber(token)
		switch {
		case err != nil:
			reason = err.Error()
		case ok && (math.IsNaN(n.float) || math.IsInf(n.float, 0)):
			reason = "a number that is not finite"
		}
	}
	var walk func() error
	walk = func() error {
		switch s.next() {
		case '{':
			return s.object(func(key string) error { scalar(key); return walk() })
		case '[':
			return s.array(walk)
		}
		token, err := s.scalar()
		if err == nil {
			scalar(token)
		}
		return err
	}
	err := walk()
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return err.Error()
	}
	return reason
}
