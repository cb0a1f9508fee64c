package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/mattn/go-isatty"
)

// A row is one figure.
type row struct {
	Work   string  `json:"work"`
	Figure float64 `json:"figure"`
	Unit   string  `json:"unit"`
	// Aim is what design section 10 asks for; empty where it asks for nothing. Met says
	// whether this run kept to it.
	Aim string `json:"aim,omitempty"`
	Met *bool  `json:"met,omitempty"`
	// Ratio is to Floor, measured in the same run; 0 where there is none.
	Ratio float64 `json:"ratio,omitempty"`
	Floor string  `json:"floor,omitempty"`
	// Note says how it was measured.
	Note string `json:"note,omitempty"`
	// Elsewhere is the best that others reach, measured at another time on another machine.
	Elsewhere string `json:"elsewhere_on_another_machine,omitempty"`
}

// An aim is a bound of design section 10.
type aim struct {
	least, most float64 // 0: no bound
	ratio       bool    // it bounds the ratio, not the figure
}

func atMost(most float64) aim      { return aim{most: most} }
func atLeast(least float64) aim    { return aim{least: least} }
func ratioAtMost(most float64) aim { return aim{most: most, ratio: true} }
func (a aim) met(v float64) bool   { return (a.most == 0 || v <= a.most) && v >= a.least }
func (a aim) bound() (string, float64) {
	if a.least > 0 {
		return ">=", a.least
	}
	return "<=", a.most
}

// aims fills in Aim and Met.
func (r row) aims(a aim) row {
	v := r.Figure
	sign, bound := a.bound()
	r.Aim = sign + " " + number(bound)
	if a.ratio {
		v = r.Ratio
		r.Aim += " x"
	}
	met := a.met(v)
	r.Met = &met
	return r
}

// number prints three or four digits.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 10_000:
		s := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return trim(strconv.FormatFloat(v, 'f', 1, 64))
	}
	return trim(strconv.FormatFloat(v, 'f', 3, 64))
}

func trim(s string) string { return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") }

// heads are the columns where programs read; people get the last one as footnotes.
var heads = []string{"work", "figure", "unit", "aim", "met", "ratio", "to", "elsewhere, other machine", "how"}

func (r row) cells() []string {
	cells := []string{r.Work, number(r.Figure), r.Unit, r.Aim, "", "", r.Floor, r.Elsewhere, r.Note}
	if r.Met != nil {
		cells[4] = map[bool]string{true: "yes", false: "no"}[*r.Met]
	}
	if r.Ratio != 0 {
		cells[5] = strconv.FormatFloat(r.Ratio, 'f', 3, 64)
	}
	return cells
}

// show writes rows: one JSON object a line, a table on a terminal, tab-separated columns
// elsewhere.
func show(out io.Writer, rows []row, asJSON bool) error {
	if asJSON {
		to := json.NewEncoder(out)
		to.SetEscapeHTML(false)
		for _, r := range rows {
			if err := to.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	if f, ok := out.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		_, err := fmt.Fprintln(out, draw(rows))
		return err
	}
	lines := [][]string{heads}
	for _, r := range rows {
		lines = append(lines, r.cells())
	}
	for _, cells := range lines {
		if _, err := fmt.Fprintln(out, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return nil
}

// draw lays rows out for people, with footnotes.
func draw(rows []row) string {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	last := len(heads) - 1
	line := func(cells []string, note string) table.Row {
		r := make(table.Row, len(heads))
		for i, c := range cells[:last] {
			r[i] = c
		}
		r[last] = note
		return r
	}
	t.AppendHeader(line(heads, ""))
	var notes []string
	at := make(map[string]int)
	for _, r := range rows {
		note := ""
		if r.Note != "" {
			if at[r.Note] == 0 {
				notes = append(notes, r.Note)
				at[r.Note] = len(notes)
			}
			note = fmt.Sprintf("[%d]", at[r.Note])
		}
		t.AppendRow(line(r.cells(), note))
	}
	t.SetColumnConfigs([]table.ColumnConfig{
		{Number: 2, Align: text.AlignRight, AlignHeader: text.AlignRight},
		{Number: 4, Align: text.AlignRight, AlignHeader: text.AlignRight},
		{Number: 6, Align: text.AlignRight, AlignHeader: text.AlignRight},
	})
	out := t.Render()
	for i, note := range notes {
		out += fmt.Sprintf("\n[%d] %s", i+1, note)
	}
	return out
}
