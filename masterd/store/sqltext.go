package store

import (
	"strings"
	"unicode/utf8"
)

// sqlTokens splits SQL into its tokens, without white space and comments. Bare words,
// which SQLite compares without case, are in lower case; names in quotes of any kind
// stand as they are between them, but led by a quote unless a bare word could say the
// same. It returns false where the text ends inside a quote or comment, or is no UTF-8.
func sqlTokens(text string) ([]string, bool) {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return nil, false
	}
	var tokens []string
	for i := 0; i < len(text); {
		ch := text[i]
		switch {
		case strings.IndexByte(" \t\n\f\r", ch) >= 0:
			i++
		case strings.HasPrefix(text[i:], "--"):
			end := strings.IndexByte(text[i:], '\n')
			if end < 0 {
				return tokens, true
			}
			i += end
		case strings.HasPrefix(text[i:], "/*"):
			end := strings.Index(text[i+2:], "*/")
			if end < 0 {
				return nil, false
			}
			i += end + 4
		case ch == '\'' || ch == '"' || ch == '`' || ch == '[':
			value, n := quoted(text[i:])
			if n == 0 {
				return nil, false
			}
			switch {
			case ch == '\'':
				value = "'" + value
			case !bareWord(value):
				value = `"` + value
			}
			tokens = append(tokens, value)
			i += n
		case wordStart(ch) || ch >= '0' && ch <= '9' || ch == '.' && i+1 < len(text) && text[i+1] >= '0' && text[i+1] <= '9':
			n := 1
			for i+n < len(text) && (wordStart(text[i+n]) || text[i+n] >= '0' && text[i+n] <= '9' || text[i+n] == '.' && !wordStart(ch) || strings.IndexByte("+-", text[i+n]) >= 0 && !wordStart(ch) && !hex(text[i:i+n]) && strings.IndexByte("eE", text[i+n-1]) >= 0) {
				n++
			}
			word := text[i : i+n]
			if (word == "x" || word == "X") && i+n < len(text) && text[i+n] == '\'' { // a blob
				value, m := quoted(text[i+n:])
				if m == 0 {
					return nil, false
				}
				word, n = "x'"+value, n+m
			}
			tokens = append(tokens, lower(word))
			i += n
		default:
			n := 1
			for _, op := range [...]string{"->>", "||", "<=", ">=", "<>", "<<", ">>", "!=", "==", "->"} {
				if strings.HasPrefix(text[i:], op) {
					n = len(op)
					break
				}
			}
			tokens = append(tokens, text[i:i+n])
			i += n
		}
	}
	return tokens, true
}

// quoted reads a quoted token at the start of text: its value and its length, 0 when it
// does not end.
func quoted(text string) (value string, n int) {
	end := text[0]
	if end == '[' {
		end = ']'
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		if text[i] != end {
			b.WriteByte(text[i])
			continue
		}
		if end != ']' && i+1 < len(text) && text[i+1] == end {
			b.WriteByte(end)
			i++
			continue
		}
		return b.String(), i + 1
	}
	return "", 0
}

func wordStart(ch byte) bool {
	return ch == '_' || ch == '$' || ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch >= 0x80
}

func hex(number string) bool { return len(number) > 1 && (number[1] == 'x' || number[1] == 'X') }

// bareWord reports whether the word, folded as SQLite folds it, is itself.
func bareWord(s string) bool {
	if s == "" || !wordStart(s[0]) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !wordStart(s[i]) && !(s[i] >= '0' && s[i] <= '9') || s[i] >= 'A' && s[i] <= 'Z' {
			return false
		}
	}
	return true
}

// lower folds ASCII, as SQLite does.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
