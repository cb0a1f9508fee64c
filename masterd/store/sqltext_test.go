package store

import (
	"strings"
	"testing"
)

func TestSQLTokens(t *testing.T) {
	for _, x := range []struct{ text, want string }{
		{"CREATE  TABLE\tt(a INT)", "create|table|t|(|a|int|)"},
		{"a--b\nc /* d ' */ e--", "a|c|e"},
		{`"a" [b] ` + "`c`" + ` "A" "a b" 'A'`, `a|b|c|"A|"a b|'A`},
		{`"a""b" 'it''s'`, `"a"b|'it's`},
		{"x'AB' X'ab' xy 'x'", "x'ab|x'ab|xy|'x"},
		{"1 1.5 .5 1e-3 1e+3 0xAF-1 a.b 1-1", "1|1.5|.5|1e-3|1e+3|0xaf|-|1|a|.|b|1|-|1"},
		{"a||b<=c<>d->>e", "a||||b|<=|c|<>|d|->>|e"},
		{"Ümlaut ÜMLAUT", "Ümlaut|Ümlaut"}, // SQLite folds ASCII alone
	} {
		got, ok := sqlTokens(x.text)
		if !ok || strings.Join(got, "|") != x.want {
			t.Errorf("%q gives %q, %v, want %q", x.text, strings.Join(got, "|"), ok, x.want)
		}
	}
	for _, bad := range []string{`'a`, `"a`, `[a`, "`a", "/* a", "x'ab", "\xff", "a\x00b"} {
		if got, ok := sqlTokens(bad); ok {
			t.Errorf("%q gives %q, want an error", bad, got)
		}
	}
}

func FuzzSQLTokens(f *testing.F) {
	f.Add(`CREATE TABLE "t"(a /* x */ INT DEFAULT 'b''c', -- y
		[d] BLOB DEFAULT x'00')`)
	f.Fuzz(func(t *testing.T, text string) {
		tokens, ok := sqlTokens(text)
		for _, token := range tokens {
			if ok && token == "" {
				t.Errorf("%q has an empty token", text)
			}
		}
	})
}
