package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/sqlfuncs"
)

func TestRecord_MarshalJSON(t *testing.T) {
	r := record{}.add("id", int64(7)).add("key", "a\"b\x01").add("mine", `{"b":1,"a":{"$blob":"00ff"}}`).
		add("theirs", nil).add("columns", "title,body").add("blob", []byte{0, 255}).add("weight", 0.5).add("inf", math.Inf(1))
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":7,"key":"a\"b\u0001","mine":{"b":1,"a":{"$blob":"00ff"}},"theirs":null,"columns":"title,body",` +
		`"blob":{"$blob":"00ff"},"weight":0.5,"inf":"+Inf"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPrint(t *testing.T) {
	list := []record{
		record{}.add("id", int64(1)).add("title", "tab\there").add("hidden", "x"),
		record{}.add("id", int64(2000)).add("title", "line\nbreak\x1b[31m").add("hidden", nil),
	}
	columns := []column{numeric("ID", "id"), field("TITLE", "title")}
	for _, test := range []struct {
		name string
		json bool
		term bool
		want string
	}{
		{"columns", false, false, "1\ttab\\there\n2000\tline\\nbreak\x1b[31m\n"},
		{"JSON", true, true, "{\"id\":1,\"title\":\"tab\\there\",\"hidden\":\"x\"}\n{\"id\":2000,\"title\":\"line\\nbreak\\u001b[31m\",\"hidden\":null}\n"},
		{"table", false, true, "   ID  TITLE\n    1  tab here\n2,000  line break [31m\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			s := streams{out: &out, err: io.Discard, outTerm: test.term, width: 80}
			if err := s.print(test.json, list, columns...); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("want -, got +\n%s", diff)
			}
		})
	}
}

func TestTable_fitsTheTerminal(t *testing.T) {
	long := strings.Repeat("long ", 60)
	s := streams{width: 60}
	text := s.table([]record{record{}.add("id", int64(1)).add("a", long).add("b", long).add("c", "short")},
		[]column{numeric("ID", "id"), field("A", "a"), field("B", "b"), field("C", "c")})
	for line := range strings.SplitSeq(text, "\n") {
		if n := len([]rune(line)); n > 60 {
			t.Errorf("line of %d columns on a terminal of 60: %s", n, line)
		}
	}
	if !strings.Contains(text, "short") || !strings.Contains(text, "…") {
		t.Errorf("want the short column whole and the long ones cut:\n%s", text)
	}
}

func TestFit(t *testing.T) {
	for _, test := range []struct {
		widest []int
		width  int
		want   []int
	}{
		{[]int{3, 5}, 80, []int{3, 5}},
		{[]int{3, 100}, 53, []int{3, 50}},
		{[]int{10, 100, 100}, 90, []int{10, 40, 40}},
		{[]int{20, 60, 100}, 100, []int{20, 40, 40}},
		{[]int{50, 50}, 4, []int{8, 8}}, // narrower says nothing
	} {
		if diff := cmp.Diff(test.want, fit(test.widest, test.width)); diff != "" {
			t.Errorf("fit(%v, %d): want -, got +\n%s", test.widest, test.width, diff)
		}
	}
}

func TestDescribeObject(t *testing.T) {
	f32, err := sqlfuncs.PackF32(make([]float32, 256))
	if err != nil {
		t.Fatal(err)
	}
	f64, err := sqlfuncs.PackF64([]float64{1, 2, 3, 4, 5, 6, 7, 8, 9})
	if err != nil {
		t.Fatal(err)
	}
	for object, want := range map[string]string{
		`{"title":"a b","n":null,"x":0.5,"big":9007199254740993}`:   "title: a b, n: NULL, x: 0.5, big: 9007199254740993",
		`{"embedding":{"$blob":"` + hex.EncodeToString(f32) + `"}}`: "embedding: vector(256 × f32)",
		`{"embedding":{"$blob":"` + hex.EncodeToString(f64) + `"}}`: "embedding: vector(9 × f64)",
		`{"id":{"$blob":"00112233445566778899aabbccddeeff"}}`:       "id: blob(16 bytes) 0011223344556677…",
		`{"b":{"$blob":""}}`:          "b: blob(0 bytes)",
		`{"b":{"$blob":"not hex"}}`:   `b: {"$blob":"not hex"}`,
		`{"t":"{\"$blob\":\"00\"}"}`:  `t: {"$blob":"00"}`,
		`not JSON`:                    "not JSON",
		`{"cut":`:                     `{"cut":`,
		"":                            "",
		`{"json":[1,{"a":2}],"e":""}`: `json: [1,{"a":2}], e: `,
		`{"body":"` + "x\ty" + `"}`:   `{"body":"` + "x\ty" + `"}`, // no JSON: a raw tab
		`{"s":{"$blob":"` + hex.EncodeToString([]byte(strings.Repeat("plain text here ", 4))) + `"}}`: "s: " + describeBlob([]byte(strings.Repeat("plain text here ", 4))),
	} {
		if got := describeObject(object); got != want {
			t.Errorf("describeObject(%.60s) = %q, want %q", object, got, want)
		}
	}
}

func TestWhen(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	for ago, want := range map[time.Duration]string{
		-time.Hour:       "",
		5 * time.Second:  " (5 s ago)",
		3 * time.Minute:  " (3 min ago)",
		30 * time.Hour:   " (30 h ago)",
		72 * time.Hour:   " (3 days ago)",
		59 * time.Second: " (59 s ago)",
	} {
		at := now.Add(-ago)
		if got, want := when(at.UnixMilli(), now), at.Format("2006-01-02 15:04:05")+want; got != want {
			t.Errorf("%v ago: %q, want %q", ago, got, want)
		}
	}
	if got := when(0, now); got != "never" {
		t.Errorf("when(0) = %q, want never", got)
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 2_300_000: "2.3 MB", 4_000_000_000: "4.0 GB"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int]string{1: "1 row", 0: "0 rows", 1200: "1,200 rows"} {
		if got := plural(n, "row"); got != want {
			t.Errorf("plural(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestQuoteArg(t *testing.T) {
	for name, want := range map[string]string{
		"app.db": "app.db", "a b.db": "'a b.db'", "it's.db": `'it'\''s.db'`, "": "''", "a$b": "'a$b'", "ä.db": "ä.db",
	} {
		if got := quoteArg(name); got != want {
			t.Errorf("quoteArg(%q) = %s, want %s", name, got, want)
		}
	}
}

func TestCards(t *testing.T) {
	var out bytes.Buffer
	s := streams{out: &out, err: io.Discard, outTerm: true, width: 60}
	at := time.Now().Add(-5 * time.Minute).UnixMilli()
	s.cards([]record{
		record{}.add("id", int64(1)).add("tbl", "notes").add("key", `["ta","i7"]`).add("kind", "update-lost").add("rule", "weight").
			add("mine", `{"body":"`+strings.Repeat("long ", 40)+`"}`).add("theirs", `{"body":"short"}`).
			add("mine_weight", 0.5).add("theirs_weight", 0.9).add("at", at).add("settled", nil),
		record{}.add("id", int64(2)).add("tbl", "notes").add("key", int64(3)).add("kind", "rejected").add("rule", "constraint").
			add("reason", "UNIQUE constraint failed: notes.mail").add("mine", `{"mail":"x"}`).add("theirs", nil).add("at", at).add("settled", "mine"),
	})
	const want = `1 notes a, 7: update lost, decided by weight 0.5 < 0.9, 5 m…
   mine    body: long long long long long long long long lo…
   theirs  body: short
2 notes 3: rejected, decided by constraint: UNIQUE constrai…
   mine    mail: x
   theirs  (the row as the master has it)
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
}

func TestSyncReport_restored(t *testing.T) {
	var out, words bytes.Buffer
	c := &syncCmd{}
	c.File = "app.db"
	if err := c.report(newStreams(&out, &words), replicator.Round{Restored: true, PushedBackRows: 1234}); err != nil {
		t.Fatal(err)
	}
	if want := "The master was restored from an older copy: " + plural(1234, "row") + " pushed back from here"; !strings.Contains(words.String(), want) {
		t.Errorf("got %q, want %q", words.String(), want)
	}
}
