package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// report writes results.jsonl, table.md, summary.md and the plot to dir, and prints the table.
func report(dir string, s *set, records []record, left []string) error {
	var lines strings.Builder
	for _, r := range records {
		if err := json.NewEncoder(&lines).Encode(r); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "results.jsonl"), []byte(lines.String()), 0o644); err != nil {
		return err
	}
	full := table(s, records, left)
	fmt.Print(full)
	for name, text := range map[string]string{"table.md": full, "summary.md": table(s, summary(records), left)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, ending := range []string{"svg", "png"} {
		file := filepath.Join(dir, "recall-latency."+ending)
		if err := savePlot(file, s, records); err != nil {
			return err
		}
		fmt.Println(file)
	}
	return nil
}

// enough is the recall that the summary compares at.
const enough = 0.95

// summary has one record a peer: the fastest with enough recall, or where none has, the one with
// the most.
func summary(records []record) []record {
	best := make(map[string]record)
	var peers []string
	for _, r := range records {
		old, ok := best[line(r)]
		if !ok {
			peers = append(peers, line(r))
		}
		if !ok || r.Recall >= enough && (old.Recall < enough || r.P50 < old.P50) || r.Recall > old.Recall && old.Recall < enough {
			best[line(r)] = r
		}
	}
	var list []record
	for _, peer := range peers {
		list = append(list, best[peer])
	}
	return list
}

// table is Markdown that reads well in a terminal too.
func table(s *set, records []record, left []string) string {
	head := []string{"", "recall@10", "p50 ms", "p95 ms", "build s", "bytes a row", "cold ms", "insert ms", "1 % filter ms (recall)", "half deleted"}
	rows := [][]string{head}
	for _, r := range records {
		filter := "–"
		if r.Filter > 0 {
			filter = fmt.Sprintf("%s (%.3f)", number(r.Filter), r.FilterRecall)
		}
		shrink := "–"
		if r.Shrink > 0 {
			shrink = fmt.Sprintf("%.0f %%", 100*r.Shrink)
		}
		name := r.Peer + ", " + r.Mode
		if r.InMemory {
			name += " *"
		}
		recall := "–"
		if r.Recall > 0 {
			recall = fmt.Sprintf("%.3f", r.Recall)
		}
		rows = append(rows, []string{name, recall, number(r.P50), number(r.P95), number(r.BuildSeconds),
			fmt.Sprintf("%.0f", r.RowBytes), number(r.Cold), number(r.Insert), filter, shrink})
	}
	widths := make([]int, len(head))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i == 0 {
				fmt.Fprintf(&b, "| %s%s |", cell, pad)
			} else {
				fmt.Fprintf(&b, " %s%s |", pad, cell)
			}
		}
		b.WriteByte('\n')
		if n == 0 {
			for i, w := range widths {
				if i == 0 {
					b.WriteString("| " + strings.Repeat("-", w) + " |")
				} else {
					b.WriteString(" " + strings.Repeat("-", w-1) + ": |")
				}
			}
			b.WriteByte('\n')
		}
	}
	fmt.Fprintf(&b, "\n%d x %d float32, %s; cosine, k = 10, %d queries that are not among the rows; one thread each, on %s/%s, %s.\n",
		s.Rows, s.Dims, s.What, s.Queries, runtime.GOOS, runtime.GOARCH, processor())
	b.WriteString("* is an index in memory that a program saves and loads as a whole. A row's own vector is in the bytes. – is what a peer does not offer or was not measured.\n")
	for _, reason := range left {
		fmt.Fprintf(&b, "Left out: %s.\n", strings.TrimSuffix(reason, "."))
	}
	return b.String()
}

// number has three digits that matter.
func number(x float64) string {
	switch {
	case x == 0:
		return "–"
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.*f", min(4, 2-int(math.Floor(math.Log10(x)))), x)
}

// processor names the machine's, where Linux tells.
func processor() string {
	data, _ := os.ReadFile("/proc/cpuinfo") // what is missing is said below
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// colours are Okabe and Ito's, which stay apart for colour-blind eyes; ours is the strong blue.
var colours = []color.RGBA{{0, 114, 178, 255}, {0, 114, 178, 255}, {230, 159, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255},
	{213, 94, 0, 255}, {86, 180, 233, 255}, {120, 120, 120, 255}, {160, 140, 20, 255}, {110, 60, 160, 255}}

// leastRecall is where the plot begins: nobody wants less.
const leastRecall = 0.8

func savePlot(file string, s *set, records []record) error {
	p := plot.New()
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	p.Title.Text = fmt.Sprintf("%d x %d, %s: up and left is better", s.Rows, s.Dims, s.What)
	p.Title.TextStyle.Font.Size = vg.Points(12)
	p.Title.Padding = vg.Points(10)
	p.X.Label.Text = "median time of a search, one thread (ms)"
	p.Y.Label.Text = "recall@10"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, decades{}
	p.Y.Min, p.Y.Max = leastRecall, 1.005
	p.Legend.Left, p.Legend.Top = false, false
	p.Legend.ThumbnailWidth, p.Legend.Padding = vg.Points(24), vg.Points(2)
	p.Add(plotter.NewGrid())
	var peers []string
	for _, r := range records {
		if !slices.Contains(peers, line(r)) {
			peers = append(peers, line(r))
		}
	}
	least, most := math.Inf(1), 0.0
	for i, peer := range peers {
		var points plotter.XYs
		for _, r := range records {
			if line(r) == peer && r.Recall >= leastRecall {
				points = append(points, plotter.XY{X: r.P50, Y: r.Recall})
				least, most = min(least, r.P50), max(most, r.P50)
			}
		}
		if len(points) == 0 {
			continue
		}
		slices.SortFunc(points, func(a, b plotter.XY) int { return cmp.Compare(a.X, b.X) })
		lines, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		lines.Color, dots.Color, dots.Shape = colours[i%len(colours)], colours[i%len(colours)], draw.CircleGlyph{}
		lines.Width, dots.Radius = vg.Points(1.2), vg.Points(2.5)
		if strings.HasPrefix(peer, "VeloSync") {
			lines.Width, dots.Radius = vg.Points(2.6), vg.Points(4)
			if len(points) == 1 {
				dots.Shape = draw.BoxGlyph{}
			}
		}
		p.Add(lines, dots)
		p.Legend.Add(peer, lines, dots)
	}
	if most == 0 {
		return fmt.Errorf("no peer has a recall of %g", leastRecall)
	}
	p.X.Min, p.X.Max = least/1.3, most*6 // room for the legend
	ending := strings.TrimPrefix(filepath.Ext(file), ".")
	canvas, err := p.WriterTo(22*vg.Centimeter, 13*vg.Centimeter, ending)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	// Where the font is not installed, one as wide has to do.
	image := bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;"))
	return os.WriteFile(file, image, 0o644)
}

// line is what the plot calls a peer: its modes are one line, exact ones stand alone.
func line(r record) string {
	if strings.Contains(r.Mode, "exact") {
		return r.Peer + ", " + r.Mode
	}
	return r.Peer
}

// decades marks 1, 2 and 5 times the powers of ten, in plain numbers.
type decades struct{}

func (decades) Ticks(least, most float64) []plot.Tick {
	var ticks []plot.Tick
	for power := math.Floor(math.Log10(least)); power <= math.Ceil(math.Log10(most)); power++ {
		for _, times := range []float64{1, 2, 5} {
			if x := times * math.Pow(10, power); x >= least && x <= most {
				ticks = append(ticks, plot.Tick{Value: x, Label: fmt.Sprintf("%g", math.Round(x*1e6)/1e6)})
			}
		}
	}
	return ticks
}
