package v1

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math"
	"os/exec"
	"strings"
	"testing"
)

func TestCanonical(t *testing.T) {
	cases := []struct{ name, in, want string }{
		{"white space", " [ 1 ,\t{ \"b\" : 2 , \"a\" : [ ] } , {\n} ] ", `[1,{"a":[],"b":2},{}]`},
		{"numbers stay as written", `[1.0,1e-07,-0.0,1E+5,0.10,NaN,-Infinity,Infinity,123456789012345678901234567890]`, `[1.0,1e-07,-0.0,1E+5,0.10,NaN,-Infinity,Infinity,123456789012345678901234567890]`},
		{"escapes stay as written", `["\u00e9","é","\/","\ud83d\ude00","\ud800","\n"]`, `["\u00e9","é","\/","\ud83d\ude00","\ud800","\n"]`},
		{"keys sort as what they say", `{"\u007a":1,"b":2,"\u0061":3}`, `{"\u0061":3,"b":2,"\u007a":1}`},
		{"beyond the first plane", `{"\ud83d\ude00":1,"\uffff":2,"\ud83d":3,"z":4}`, `{"z":4,"\ud83d":3,"\uffff":2,"\ud83d\ude00":1}`},
		{"raw and escaped", `{"\ud83d\ude01":1,"😀":2}`, `{"😀":2,"\ud83d\ude01":1}`},
		{"halves in the wrong order", `{"\ude00\ud83d":1,"\ud83d\ude00":2}`, `{"\ude00\ud83d":1,"\ud83d\ude00":2}`},
		{"prefixes", `{"ab":1,"a":2,"":3}`, `{"":3,"a":2,"ab":1}`},
		{"the last of equal keys", `{"a":1,"b":2,"\u0061":{"x":1},"a":3}`, `{"a":3,"b":2}`},
		{"the last of equal keys, in order", `{"a":1,"a":2}`, `{"a":2}`},
		{"objects in objects", `{"b":{"d":1,"c":{"f":1,"e":2}},"a":{"h":1,"g":2}}`, `{"a":{"g":2,"h":1},"b":{"c":{"e":2,"f":1},"d":1}}`},
		{"words", `[true,false,null]`, `[true,false,null]`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := canonical(tc.in)
			if err != nil || string(got) != tc.want {
				t.Errorf("got %s, %v, want %s", got, err, tc.want)
			}
			list := "[" + tc.in + "," + tc.in + "]"
			h := sha256.New()
			if err := hashArray(list, h); err != nil {
				t.Fatal(err)
			}
			if want := sha256.Sum256([]byte("[" + tc.want + "," + tc.want + "]")); !bytes.Equal(h.Sum(nil), want[:]) {
				t.Errorf("hashed in pieces it is another text")
			}
		})
	}
}

func TestCanonical_Refuses(t *testing.T) {
	for _, in := range []string{"", " ", "{", "[1,]", "[,1]", `{"a"}`, `{"a":}`, `{a:1}`, `{"a":1,}`, `"`, `"\`, `"\x"`, `"\u12g4"`, `"\u12`, "\"\t\"", "01", "-", "1.", ".5", "1e", "+1",
		"nul", "nan", "Nan", "-NaN", "--1", "Infinit", "1 2", "[1]]", "\xff", "\"\xed\xa0\x80\"", "'a'", "\ufeff1", "[1 2]",
		strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)} {
		if got, err := canonical(in); err == nil {
			t.Errorf("%.40q is taken as %s", in, got)
		}
	}
	if _, err := canonical(strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth)); err != nil {
		t.Error(err)
	}
	var b strings.Builder
	b.WriteString(`{"k":0`)
	for range maxMembers {
		b.WriteString(`,"k":0`)
	}
	b.WriteString("}")
	var syntax *syntaxError
	if _, err := canonical(b.String()); !errors.As(err, &syntax) {
		t.Errorf("too many members: %v", err)
	}
}

// TestCanonical_Python compares with what json.dumps writes, where Python writes tokens as
// they came.
func TestCanonical_Python(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("this test needs python3: %v", err)
	}
	const program = `
import json, random, sys
r = random.Random(7)
def text():
    return "".join(r.choice(["a", "b", "Z", "_", "\u00e9", "\u4e2d", "\uffff", "\U0001f600", "\ud800", "\udc00", '"', "\\", "\n", "\x7f", "/", "\x00"]) for _ in range(r.randrange(4)))
def value(depth):
    k = r.randrange(9 if depth < 5 else 6)
    if k == 0: return r.choice([True, False, None])
    if k == 1: return r.randrange(-10**r.randrange(1, 25), 10**r.randrange(1, 25))
    if k == 2: return r.choice([0.0, -0.0, 1e-07, 1e16, 5e-324, float("nan"), float("inf"), float("-inf"), r.random() * 10**r.randrange(-20, 20)])
    if k <= 5: return text()
    if k == 6: return [value(depth + 1) for _ in range(r.randrange(4))]
    return {text(): value(depth + 1) for _ in range(r.randrange(5))}
for i in range(3000):
    v = value(0)
    print(json.dumps([json.dumps(v, indent=r.choice([None, 2])), json.dumps(v, sort_keys=True, separators=(",", ":"))]))
`
	out, err := exec.Command(python, "-c", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, line := range lines {
		var pair [2]string
		if err := json.Unmarshal([]byte(line), &pair); err != nil {
			t.Fatal(err)
		}
		got, err := canonical(pair[0])
		if err != nil || string(got) != pair[1] {
			t.Fatalf("of %s\ngot %s, %v\nwant %s", pair[0], got, err, pair[1])
		}
	}
	if len(lines) != 3000 {
		t.Errorf("%d texts, want 3000", len(lines))
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{`{"b":[1.0,NaN],"a":{"\ud800":"\u00e9"}}`, `{"a":1,"\u0061":2}`, `[[[]],{"":{}}]`, `"\`, `-Infinity`, `{"a":{"b":1,"a":2},"A":0}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		once, err := canonical(in)
		if err != nil {
			return
		}
		twice, err := canonical(string(once))
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("of %q: %s, again %s, %v", in, once, twice, err)
		}
		if json.Valid([]byte(in)) && !json.Valid(once) {
			t.Errorf("of %q: %s is no JSON", in, once)
		}
	})
}

func FuzzParsePush(f *testing.F) {
	f.Add(`{"protocol_version":1,"device_id":"a","base_lsn":0,"head_lsn":1,"change_count":1,"raw_wal_entries":1,"changes":[{"lsn":1,"op":"INSERT","record":{"vector_id":"x","embedding":[1,2e0],"metadata":{"a":"\ud83d\ude00"},"semantic_weight":1.0,"version_vector":{"a":1},"updated_at":1.5,"is_deleted":false}}],"checksum_sha256":"0000000000000000000000000000000000000000000000000000000000000000"}`)
	f.Fuzz(func(t *testing.T, in string) {
		_, _ = parsePush(in)
		_, _ = parseAck(in)
	})
}

func TestAppendNumber(t *testing.T) {
	for _, tc := range []struct {
		x    float64
		want string
	}{{0, "0.0"}, {math.Copysign(0, -1), "-0.0"}, {1, "1.0"}, {-1.5, "-1.5"}, {0.1, "0.1"}, {1e-4, "0.0001"}, {1e-5, "1e-05"}, {1e-7, "1e-07"}, {1e15, "1000000000000000.0"}, {1e16, "1e+16"},
		{123456789.125, "123456789.125"}, {5e-324, "5e-324"}, {1.7976931348623157e308, "1.7976931348623157e+308"}} {
		if got := string(appendNumber(nil, tc.x)); got != tc.want {
			t.Errorf("%g is written %s, want %s", tc.x, got, tc.want)
		}
	}
}

func TestAppendMetadata(t *testing.T) {
	for in, want := range map[string]string{
		`{"a": 1}`:         `{"a": 1}`,
		`[1]`:              `{"value":[1]}`,
		`plain text`:       `{"value":"plain text"}`,
		``:                 `{"value":""}`,
		`{"a":NaN}`:        `{"value":"{\"a\":NaN}"}`,
		"{\"a\":\"\xff\"}": "{\"a\":\"\ufffd\"}",
		`"\ud800"`:         `{"value":"\"\\ud800\""}`,
	} {
		if got := string(appendMetadata(nil, in)); got != want || !json.Valid([]byte(got)) {
			t.Errorf("%q is written %s, want %s", in, got, want)
		}
	}
}

func TestParseNumber_Long(t *testing.T) {
	if _, ok, err := parseNumber("1" + strings.Repeat("0", 1000) + "e-1000"); !ok || err == nil {
		t.Errorf("a number of 1000 digits: %v, %v", ok, err)
	}
}
