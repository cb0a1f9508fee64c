package sqlfuncs

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseJSON reads a JSON array of numbers, as strictly as vs_read_text and with its errors:
// numbers and white space as in RFC 8259, and nothing but numbers inside the brackets.
func parseJSON(text string) ([]float64, error) {
	p := jsonParser{text: text}
	p.space()
	if !p.take('[') {
		return nil, p.unexpected("'['")
	}
	p.space()
	if p.peek(']') {
		return nil, notVector("is an empty JSON array; a vector has at least one element")
	}
	var v []float64
	for {
		p.space()
		start := p.at
		if err := p.number(); err != nil {
			return nil, err
		}
		x, err := parseNumber(text[start:p.at])
		if math.IsInf(x, 0) {
			return nil, notVector("has a number at character %d that is beyond the range of a float64", start+1)
		}
		if err != nil {
			return nil, notVector("has an unreadable number at character %d: %v", start+1, err)
		}
		if len(v) == MaxDims {
			return nil, notVector("has more than %d dimensions", MaxDims)
		}
		v = append(v, x)
		p.space()
		if p.take(']') {
			break
		}
		if !p.take(',') {
			return nil, p.unexpected("',' or ']'")
		}
	}
	p.space()
	if p.at < len(text) {
		return nil, p.unexpected("the end")
	}
	return v, nil
}

// parseNumber is strconv.ParseFloat for a JSON number of any length. ParseFloat (Go 1.26) does not
// count whole digits beyond the 800th: it reads "1" + 800 zeros + "e-800" as 0.1. Behind the
// point it does.
func parseNumber(text string) (float64, error) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if len(whole) < 800 {
		return strconv.ParseFloat(text, 64)
	}
	e, _ := strconv.ParseInt(exponent, 10, 64) // the nearest int64 if it does not fit, 0 if missing
	e = max(-1e15, min(e, 1e15))
	digits, negative := strings.CutPrefix(whole, "-")
	x, err := strconv.ParseFloat("0."+digits+fraction+"e"+strconv.FormatInt(e+int64(len(digits)), 10), 64)
	if negative {
		x = -x
	}
	return x, err
}

// A jsonParser stands at the next byte of text. All bytes before it are ASCII, so its place
// counts characters too.
type jsonParser struct {
	text string
	at   int
}

func (p *jsonParser) peek(c byte) bool { return p.at < len(p.text) && p.text[p.at] == c }

func (p *jsonParser) take(c byte) bool {
	if !p.peek(c) {
		return false
	}
	p.at++
	return true
}

func (p *jsonParser) space() {
	for p.take(' ') || p.take('\t') || p.take('\n') || p.take('\r') {
	}
}

// digits moves past digits and reports whether there was one.
func (p *jsonParser) digits() bool {
	start := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	return p.at > start
}

// number moves past one number.
func (p *jsonParser) number() error {
	start := p.at
	p.take('-')
	if !p.take('0') && !p.digits() { // after a leading zero come no digits
		if p.at == start {
			return p.unexpected("a number")
		}
		return p.unexpected("a digit")
	}
	if p.take('.') && !p.digits() {
		return p.unexpected("a digit")
	}
	if p.take('e') || p.take('E') {
		if !p.take('+') {
			p.take('-')
		}
		if !p.digits() {
			return p.unexpected("a digit")
		}
	}
	return nil
}

func (p *jsonParser) unexpected(want string) error {
	if p.at >= len(p.text) {
		return notVector("is not a JSON array of numbers: the text ends after character %d, where %s should follow",
			len(p.text), want)
	}
	name := fmt.Sprintf(`\x%02x`, p.text[p.at])
	if c := p.text[p.at]; c >= 0x20 && c < 0x7f {
		name = "'" + string(rune(c)) + "'"
	}
	return notVector("is not a JSON array of numbers: %s at character %d, where %s should be", name, p.at+1, want)
}
