package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/mattn/go-isatty"
	"golang.org/x/term"
)

// streams is where a command writes: data to out, words for people to err.
type streams struct {
	out, err         io.Writer
	outTerm, errTerm bool // a person watches
	color            bool
	width            int // of the terminal, in columns
}

func newStreams(out, err io.Writer) streams {
	s := streams{out: out, err: err, outTerm: terminal(out), errTerm: terminal(err), width: 100}
	s.color = s.outTerm && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if f, ok := out.(*os.File); ok && s.outTerm {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			s.width = w
		}
	}
	return s
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

// say writes a line for people.
func (s streams) say(format string, args ...any) { fmt.Fprintf(s.err, format+"\n", args...) }

// paint colours text on a terminal.
func (s streams) paint(c text.Color, format string, args ...any) string {
	line := fmt.Sprintf(format, args...)
	if !s.color {
		return line
	}
	return c.EscapeSeq() + line + text.Reset.EscapeSeq()
}

// A record is a row of a result, or an object that is printed.
type record struct {
	names  []string
	values []any
}

// add returns the record with one more field.
func (r record) add(name string, value any) record {
	return record{append(r.names[:len(r.names):len(r.names)], name), append(r.values[:len(r.values):len(r.values)], value)}
}

// get returns a field, nil when there is none.
func (r record) get(name string) any {
	for i, n := range r.names {
		if n == name {
			return r.values[i]
		}
	}
	return nil
}

// text returns a field as text, empty when it is NULL.
func (r record) text(name string) string {
	switch v := r.get(name).(type) {
	case nil:
		return ""
	case []byte:
		return string(v)
	default:
		return fmt.Sprint(v)
	}
}

// number returns a field as an integer, 0 when it is none.
func (r record) number(name string) int64 {
	n, _ := r.get(name).(int64)
	return n
}

// rawJSON names the fields that hold JSON, which become part of the object.
var rawJSON = map[string]bool{
	"columns": true, "mine": true, "theirs": true, "mine_clock": true, "theirs_clock": true,
}

// MarshalJSON writes an object with the fields in their order.
func (r record) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range r.names {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(name))
		b.WriteByte(':')
		value, err := json.Marshal(jsonValue(name, r.values[i]))
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", name, err)
		}
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func jsonValue(name string, v any) any {
	switch v := v.(type) {
	case string:
		if rawJSON[name] && json.Valid([]byte(v)) {
			return json.RawMessage(v)
		}
	case []byte:
		return map[string]string{"$blob": hex.EncodeToString(v)}
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) { // JSON has none
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
	}
	return v
}

// emit prints one JSON object on a line of its own.
func (s streams) emit(v any) error {
	to := json.NewEncoder(s.out)
	to.SetEscapeHTML(false)
	return to.Encode(v)
}

// A column of a table: its heading, and what a record shows there.
type column struct {
	head  string
	cell  func(record) string
	plain func(record) string // in place of cell where programs read; nil: the same
	right bool                // numbers
}

// text returns what a record shows to people, or to programs.
func (c column) text(r record, people bool) string {
	if c.plain != nil && !people {
		return c.plain(r)
	}
	return c.cell(r)
}

// print shows records: as JSON objects with all their fields, or the columns as a table on a
// terminal, and tab-separated without headings elsewhere.
func (s streams) print(asJSON bool, list []record, columns ...column) error {
	switch {
	case asJSON:
		for _, r := range list {
			if err := s.emit(r); err != nil {
				return err
			}
		}
		return nil
	case len(list) == 0:
		return nil
	case s.outTerm:
		_, err := fmt.Fprintln(s.out, s.table(list, columns))
		return err
	}
	for _, r := range list {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = oneLine(c.text(r, false))
		}
		if _, err := fmt.Fprintln(s.out, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return nil
}

// table draws a table for people, as wide as the terminal at most.
func (s streams) table(list []record, columns []column) string {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	if s.color {
		style.Color.Header = text.Colors{text.Bold}
	}
	t.SetStyle(style)
	t.SuppressTrailingSpaces()

	heads := make(table.Row, len(columns))
	widest := make([]int, len(columns))
	rows := make([]table.Row, len(list))
	for i, c := range columns {
		heads[i] = c.head
		widest[i] = text.StringWidthWithoutEscSequences(c.head)
	}
	for n, r := range list {
		rows[n] = make(table.Row, len(columns))
		for i, c := range columns {
			cell := visible(c.text(r, true))
			rows[n][i] = cell
			widest[i] = max(widest[i], text.StringWidthWithoutEscSequences(cell))
		}
	}
	limit := fit(widest, s.width-2*len(columns))
	configs := make([]table.ColumnConfig, len(columns))
	for i, c := range columns {
		configs[i] = table.ColumnConfig{Number: i + 1, WidthMax: limit[i], WidthMaxEnforcer: snip}
		if c.right {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	t.SetColumnConfigs(configs)
	t.AppendHeader(heads)
	t.AppendRows(rows)
	return t.Render()
}

func snip(s string, width int) string { return text.Snip(s, width, "…") }

// fit cuts the widest columns to one width, so that all together are at most width wide. None is
// cut below 8, even where that is too wide.
func fit(widest []int, width int) []int {
	const least = 8
	most := max(width, least)
	limit := make([]int, len(widest))
	for {
		sum := 0
		for i, w := range widest {
			limit[i] = min(w, most)
			sum += limit[i]
		}
		if sum <= width || most <= least {
			return limit
		}
		most--
	}
}

// oneLine keeps a value in its field: what separates fields and lines is escaped.
func oneLine(s string) string {
	return strings.NewReplacer("\t", `\t`, "\n", `\n`, "\r", `\r`).Replace(s)
}

// visible keeps a value from moving the cursor: control characters become spaces, and runs of
// spaces one.
func visible(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}

// blobJSON is how a blob stands in JSON.
type blobJSON struct {
	Hex *string `json:"$blob"`
}

// describe shows one SQLite value in JSON, as the views hold them: blobs by what they are.
func describe(raw json.RawMessage) string {
	var blob blobJSON
	if bytes.HasPrefix(raw, []byte("{")) && json.Unmarshal(raw, &blob) == nil && blob.Hex != nil {
		if b, err := hex.DecodeString(*blob.Hex); err == nil {
			return describeBlob(b)
		}
	}
	var s string
	if json.Unmarshal(raw, &s) == nil && !bytes.Equal(raw, []byte("null")) {
		return s
	}
	if bytes.Equal(raw, []byte("null")) {
		return "NULL"
	}
	return string(raw)
}

// describeBlob names a vector by its dimensions and type, and shows any other blob by its
// length and first bytes. The layout of vectors is that of package sqlfuncs: an odd length
// ends in the type. Under eight elements a blob is as likely an id or a digest.
func describeBlob(b []byte) string {
	const fewest = 8
	if n := len(b); n%2 == 1 {
		body := n - 1
		switch kind := b[n-1]; {
		case kind == 1 && body%4 == 0 && body/4 >= fewest:
			return fmt.Sprintf("vector(%d × f32)", body/4)
		case kind == 2 && body%8 == 0 && body/8 >= fewest:
			return fmt.Sprintf("vector(%d × f64)", body/8)
		case kind == 5 && body%2 == 0 && body/2 >= fewest:
			return fmt.Sprintf("vector(%d × f16)", body/2)
		case kind == 6 && body%2 == 0 && body/2 >= fewest:
			return fmt.Sprintf("vector(%d × bf16)", body/2)
		}
	} else if n%4 == 0 && n/4 >= fewest && plausible(b) {
		return fmt.Sprintf("vector(%d × f32)", n/4)
	}
	shown := fmt.Sprintf("blob(%d bytes)", len(b))
	if len(b) > 0 {
		shown += " " + hex.EncodeToString(b[:min(8, len(b))])
	}
	if len(b) > 8 {
		shown += "…"
	}
	return shown
}

// plausible reports whether a blob reads as float32 that an embedding would have: text, images
// and digests soon give one that is far too large, too small, infinite or NaN.
func plausible(b []byte) bool {
	for ; len(b) >= 4; b = b[4:] {
		x := math.Float32frombits(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
		size := math.Abs(float64(x))
		if x != x || size > 1e9 || x != 0 && size < 1e-18 {
			return false
		}
	}
	return true
}

// describeObject shows a JSON object of columns and values on one line.
func describeObject(object string) string {
	if object == "" {
		return ""
	}
	d := json.NewDecoder(strings.NewReader(object))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return object
	}
	var parts []string
	for d.More() { // by hand, to keep the order of the columns
		name, err := d.Token()
		if err != nil {
			return object
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return object
		}
		parts = append(parts, fmt.Sprintf("%v: %s", name, describe(value)))
	}
	return strings.Join(parts, ", ")
}

// when shows a time in unix milliseconds, and how long ago it was.
func when(ms int64, now time.Time) string {
	if ms == 0 {
		return "never"
	}
	at := time.UnixMilli(ms).Format("2006-01-02 15:04:05")
	if past := ago(ms, now); past != "" {
		at += " (" + past + ")"
	}
	return at
}

// ago shows how long ago a time was, "" if it is yet to come.
func ago(ms int64, now time.Time) string {
	past := now.Sub(time.UnixMilli(ms))
	switch {
	case past < 0:
		return ""
	case past < time.Minute:
		return fmt.Sprintf("%d s ago", int(past.Seconds()))
	case past < time.Hour:
		return fmt.Sprintf("%d min ago", int(past.Minutes()))
	case past < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(past.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(past.Hours()/24))
}

// bytesText shows a number of bytes as people read it.
func bytesText(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// count shows a number with its thousands apart.
func count[T int | int64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural writes a number with its noun.
func plural[T int | int64](n T, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

// field is a column that shows a field as it is.
func field(head, name string) column {
	return column{head: head, cell: func(r record) string { return r.text(name) }}
}

// numeric is field for a number: aligned to the right, for people with its thousands apart.
func numeric(head, name string) column {
	c := field(head, name)
	c.plain, c.right = c.cell, true
	c.cell = func(r record) string {
		if n, ok := r.get(name).(int64); ok {
			return count(n)
		}
		return r.text(name)
	}
	return c
}

// size is field for a number of bytes.
func size(head, name string) column {
	c := numeric(head, name)
	c.cell = func(r record) string { return bytesText(r.number(name)) }
	return c
}

// moment is field for a time in unix milliseconds: for people how long ago it was.
func moment(head, name string, now time.Time) column {
	return column{
		head: head,
		cell: func(r record) string { return ago(r.number(name), now) },
		plain: func(r record) string {
			if r.number(name) == 0 {
				return ""
			}
			return time.UnixMilli(r.number(name)).UTC().Format("2006-01-02T15:04:05.000Z")
		},
	}
}

const bold = text.Bold
