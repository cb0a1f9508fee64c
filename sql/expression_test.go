package vsql

import (
	"database/sql/driver"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestExpressions_Value(t *testing.T) {
	var x Expressions
	defer x.Close()
	for _, tt := range []struct {
		text               string
		mine, theirs, want driver.Value
	}{
		{"max(mine, theirs)", int64(3), int64(5), int64(5)},
		{"coalesce(mine, theirs)", nil, "b", "b"},
		{"mine || ' / ' || theirs", "a", "b", "a / b"},
		{"(mine + theirs) / 2.0", int64(1), int64(2), 1.5},
		{"CASE WHEN length(mine) < length(theirs) THEN theirs ELSE mine END", "abc", "ab", "abc"},
		{"json_patch(theirs, mine)", `{"a":1}`, `{"b":2}`, `{"b":2,"a":1}`},
		{"mine -> '$.a'", `{"a":[1]}`, nil, "[1]"},
		{"mine", []byte{0, 1}, nil, []byte{0, 1}},
		{"mine IN ('a', 'b') -- which is known", "a", nil, int64(1)},
		{"typeof(mine)", "7", nil, "text"},
	} {
		got, err := x.Value(tt.text, tt.mine, tt.theirs)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s of %v and %v: %#v, %v, want %#v", tt.text, tt.mine, tt.theirs, got, err, tt.want)
		}
	}
}

func TestExpressions_Check(t *testing.T) {
	var x Expressions
	defer x.Close()
	for _, text := range []string{
		"", "most", "mine theirs", "other + mine", "v.rowid", "random()", "mine || random()", "date('now')", "CURRENT_TIMESTAMP", "randomblob(9)",
		"load_extension('x')", "readfile('/etc/passwd')", "(SELECT mine)", "EXISTS (SELECT 1)", "mine IN (SELECT 1)", "(SELECT sql FROM sqlite_schema)",
		"1) FROM v /*", "1)) FROM v /*", "1) FROM v; DROP TABLE v; --", "1), (2", "1) UNION ALL SELECT (2", "(WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x FROM r) SELECT x FROM r)",
		"mine LIKE theirs", "mine GLOB '*'", "replace(mine, 'a', theirs)", "printf('%1000000d', 1)", "zeroblob(1000000000)", "count(*) OVER ()", "?1", ":mine", "mine; theirs",
		"RAISE(ABORT, 'x')", strings.Repeat("abs(", 200) + "mine" + strings.Repeat(")", 200), "mine MATCH theirs", "sqlite_version()", "group_concat(mine)",
	} {
		if err := x.Check(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if v, err := x.Value("mine", int64(7), nil); err != nil || v != int64(7) {
		t.Errorf("after all that: %v, %v", v, err)
	}
}

// What a hostile expression can cost: an error, and little time.
func TestExpressions_bounds(t *testing.T) {
	var x Expressions
	defer x.Close()
	if _, err := x.Value("mine", strings.Repeat("a", MaxExpressionValue+1), nil); err == nil {
		t.Error("a long value is taken")
	}
	long := strings.Repeat("a", MaxExpressionValue)
	if _, err := x.Value("mine || mine || mine || mine || mine", long, nil); err == nil {
		t.Error("a long result is taken")
	}
	if _, err := x.Value("json(mine)", "{", nil); err == nil {
		t.Error("malformed JSON is taken")
	}
	var one, other strings.Builder
	for i := range 3000 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		one.WriteString(sep + `"a` + string(rune('a'+i%26)) + strings.Repeat("x", i%3) + `":1`)
		other.WriteString(sep + `"b` + string(rune('a'+i%26)) + `":1`)
	}
	began := time.Now()
	if _, err := x.Value("json_patch(json_patch(mine, theirs), json_patch(theirs, mine))", one.String()+"}", other.String()+"}"); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	} else {
		t.Log(took)
	}
}
