package store

import (
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// A tableText is a CREATE TABLE, taken apart.
type tableText struct {
	columns     map[string]columnItem // by name in lower case, generated ones too
	constraints []string              // of the table: their tokens, sorted
	tail        string                // the tokens behind the closing parenthesis
}

// A columnItem is what a CREATE TABLE says of one column.
type columnItem struct {
	text   string   // as it is written
	tokens []string // after the name
}

// readTableText takes a CREATE TABLE apart; ok is false when it is none.
func readTableText(t *change.Table) (parts tableText, ok bool) {
	items, tail, ok := sqlItems(t.SQL)
	if !ok {
		return parts, false
	}
	parts.columns = make(map[string]columnItem)
	columns := make(map[string]bool, len(t.Columns))
	for _, c := range t.Columns {
		columns[lower(c.Name)] = true
	}
	for _, text := range items {
		tokens, ok := sqlTokens(text)
		if !ok || len(tokens) == 0 {
			return parts, false
		}
		name := lower(strings.TrimPrefix(tokens[0], `"`))
		if _, again := parts.columns[name]; slices.Contains(constraintWords, tokens[0]) && (!columns[name] || again) {
			parts.constraints = append(parts.constraints, strings.Join(tokens, " "))
			continue
		}
		parts.columns[name] = columnItem{strings.TrimSpace(text), tokens[1:]}
	}
	slices.Sort(parts.constraints)
	tokens, ok := sqlTokens(tail)
	parts.tail = strings.Join(tokens, " ")
	return parts, ok
}

// constraintWords begin a constraint of the table, where no column has that name.
var constraintWords = []string{"constraint", "primary", "unique", "check", "foreign"}

// sqlItems returns what stands between the commas of the outer parentheses of a statement,
// and what follows them.
func sqlItems(text string) (items []string, tail string, ok bool) {
	depth, start := 0, 0
	for i := 0; i < len(text); {
		ch := text[i]
		switch {
		case strings.HasPrefix(text[i:], "--"):
			end := strings.IndexByte(text[i:], '\n')
			if end < 0 {
				return nil, "", false
			}
			i += end
			continue
		case strings.HasPrefix(text[i:], "/*"):
			end := strings.Index(text[i+2:], "*/")
			if end < 0 {
				return nil, "", false
			}
			i += end + 4
			continue
		case ch == '\'' || ch == '"' || ch == '`' || ch == '[':
			_, n := quoted(text[i:])
			if n == 0 {
				return nil, "", false
			}
			i += n
			continue
		case ch == '(':
			if depth++; depth == 1 {
				start = i + 1
			}
		case ch == ',' && depth == 1:
			items = append(items, text[start:i])
			start = i + 1
		case ch == ')':
			if depth--; depth == 0 {
				return append(items, text[start:i]), text[i+1:], true
			}
		}
		i++
	}
	return nil, "", false
}
