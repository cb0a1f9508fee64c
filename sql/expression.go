package vsql

import (
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
)

// An Expressions evaluates SQL expressions of two values, mine and theirs, that come from
// strangers. It has a database of its own, in memory, with nothing in it: an authorizer
// lets an expression read the two and call functions from a list. The zero Expressions is
// ready to use, by several goroutines.
type Expressions struct {
	mu      sync.Mutex
	conn    *Conn
	trusted bool // our own statement is compiled
	selects int  // by the statement that is being compiled
}

// Bounds of an expression. SQLite checks for an interrupt between instructions, not inside
// a function, so what bounds the time is that no function of the list takes more than the
// square of its arguments, and that those are short.
const (
	MaxExpressionValue  = 32 << 10  // bytes of mine, and of theirs
	maxExpressionLength = 128 << 10 // bytes of anything in between, and of the result
	maxExpressionSteps  = 1000      // instructions
	maxExpressionDepth  = 50
)

// expressionFunctions are deterministic, and quick. Not replace, instr, trim, like, glob and
// printf: on long texts they take minutes.
var expressionFunctions = map[string]bool{}

func init() {
	for _, f := range strings.Fields(`abs round sign coalesce ifnull iif if nullif max min length octet_length lower upper substr substring
		typeof hex unicode concat concat_ws json json_array json_array_length json_extract json_insert json_object json_patch json_quote
		json_remove json_replace json_set json_type json_valid -> ->>`) {
		expressionFunctions[f] = true
	}
}

// CheckExpressions returns an error that says what is wrong with a merge policy that is an
// expression.
func CheckExpressions(o *change.Options) error {
	var x Expressions
	defer x.Close()
	for name, p := range o.Merge {
		if !p.Expression() {
			continue
		}
		if err := x.Check(string(p)); err != nil {
			return fmt.Errorf("column %q: merge expression %q: %w: want built-in functions of mine and theirs that give the same each time, and no subquery", name, string(p), err)
		}
	}
	return nil
}

// Check returns an error that says why text is not such an expression.
func (x *Expressions) Check(text string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, err := x.compile(text)
	return err
}

// Value evaluates an expression. Texts, blobs and numbers come back as SQLite has them.
func (x *Expressions) Value(text string, mine, theirs driver.Value) (v driver.Value, err error) {
	for _, in := range [...]driver.Value{mine, theirs} {
		if n := Size(in); n > MaxExpressionValue {
			return nil, fmt.Errorf("a value has %d bytes, want at most %d", n, MaxExpressionValue)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	query, err := x.compile(text)
	if err != nil {
		return nil, err
	}
	x.trusted = true
	_, err = x.conn.Exec("UPDATE v SET mine = ?, theirs = ?", mine, theirs)
	x.trusted = false
	if err != nil {
		return nil, err
	}
	x.selects = 0 // SQLite may compile it again
	if _, err := x.conn.Row(query, nil, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// Close frees the database; the next call opens another one.
func (x *Expressions) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.conn == nil {
		return nil
	}
	err := x.conn.Close()
	if e := x.conn.Raw().Close(); err == nil {
		err = e
	}
	x.conn = nil
	return err
}

// compile returns the query of an expression, once SQLite takes it. In one pair of brackets
// and in two: a text that closes them is taken in one of these at most.
func (x *Expressions) compile(text string) (query string, err error) {
	if err := x.open(); err != nil {
		return "", fmt.Errorf("open a database for expressions: %w", err)
	}
	query = "SELECT ((\n" + text + "\n)) FROM v"
	for _, q := range []string{"SELECT (\n" + text + "\n) FROM v", query} {
		if _, ok := x.conn.stmts[q]; ok {
			continue
		}
		x.selects = 0
		s, err := x.conn.prepare(q)
		if err != nil {
			return "", err
		}
		if s.NumInput() > 0 {
			return "", fmt.Errorf("it has a parameter")
		}
	}
	return query, nil
}

func (x *Expressions) open() error {
	if x.conn != nil {
		return nil
	}
	raw, err := new(sqlite3.SQLiteDriver).Open("file::memory:")
	if err != nil {
		return err
	}
	c := NewConn(raw.(*sqlite3.SQLiteConn))
	// Columns without a type, so that values come out as they went in.
	if err := c.Script("PRAGMA trusted_schema = 0; CREATE TABLE v(mine, theirs); INSERT INTO v VALUES (NULL, NULL)"); err != nil {
		_ = c.Raw().Close()
		return err
	}
	for limit, n := range map[int]int{
		sqlite3.SQLITE_LIMIT_LENGTH: maxExpressionLength, sqlite3.SQLITE_LIMIT_VDBE_OP: maxExpressionSteps, sqlite3.SQLITE_LIMIT_EXPR_DEPTH: maxExpressionDepth,
		sqlite3.SQLITE_LIMIT_ATTACHED: 0, sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 1,
	} {
		c.Raw().SetLimit(limit, n)
	}
	c.Raw().RegisterAuthorizer(x.authorize)
	x.conn = c
	return nil
}

func (x *Expressions) authorize(action int, a, b, _ string) int {
	ok := x.trusted
	switch action {
	case sqlite3.SQLITE_SELECT:
		x.selects++
		ok = ok || x.selects == 1
	case sqlite3.SQLITE_READ:
		ok = ok || a == "v" && (b == "mine" || b == "theirs")
	case sqlite3.SQLITE_FUNCTION:
		ok = ok || expressionFunctions[strings.ToLower(b)]
	}
	if ok {
		return sqlite3.SQLITE_OK
	}
	return sqlite3.SQLITE_DENY
}
