package main

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// report writes results.jsonl, table.md, summary.md and the plot to dir, and prints the table.
func report(dir string, s *set, records []record, left []string) error {
	if err := writeRecords(dir, records); err != nil {
		return err
	}
	full := table(s, records, left)
	fmt.Print(full)
	for name, text := range map[string]string{"table.md": full, "summary.md": summaryTable(s, records, left)} {
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

// targets are the recalls that the summary compares at.
var targets = []float64{0.95, 0.98, 0.99}

// cheapest returns the fastest of the records with this recall; false if there is none.
func cheapest(records []record, recall float64) (best record, ok bool) {
	for _, r := range records {
		if r.Recall >= recall && (!ok || r.P50 < best.P50) {
			best, ok = r, true
		}
	}
	return best, ok
}

// summaryTable has a line a peer. What depends on how it searches is that of the way to a recall of
// 0.95 or, where there is none, to its best.
func summaryTable(s *set, records []record, left []string) string {
	rows := [][]string{{"", "ms at 0.95", "ms at 0.98", "ms at 0.99", "best recall", "build s", "build MB", "search MB", "bytes a row", "cold ms", "insert ms", "1 % filter ms", "half deleted"}}
	for _, peer := range peersOf(records) {
		best := slices.MaxFunc(peer, func(a, b record) int { return cmp.Compare(a.Recall, b.Recall) })
		r, ok := cheapest(peer, targets[0])
		if !ok {
			r = best
		}
		cells := []string{r.name(line(r))}
		for _, target := range targets {
			cell := "–"
			if at, ok := cheapest(peer, target); ok {
				cell = number(at.P50)
			}
			cells = append(cells, cell)
		}
		rows = append(rows, append(append(cells, fmt.Sprintf("%.3f", best.Recall)), r.costs()...))
	}
	return markdown(rows) + about(s, left)
}

// table has a line for each way to search.
func table(s *set, records []record, left []string) string {
	rows := [][]string{{"", "recall@10", "p50 ms", "p95 ms", "build s", "build MB", "search MB", "bytes a row", "cold ms", "insert ms", "1 % filter ms", "half deleted"}}
	for _, r := range records {
		cells := []string{r.name(r.Peer + ", " + r.Mode), fmt.Sprintf("%.3f", r.Recall), number(r.P50), number(r.P95)}
		rows = append(rows, append(cells, r.costs()...))
	}
	return markdown(rows) + about(s, left)
}

// peersOf returns the records of each line of the plot, in the order they came in.
func peersOf(records []record) [][]record {
	var peers [][]record
	for _, r := range records {
		at := slices.IndexFunc(peers, func(p []record) bool { return line(p[0]) == line(r) })
		if at < 0 {
			at, peers = len(peers), append(peers, nil)
		}
		peers[at] = append(peers[at], r)
	}
	return peers
}

func (r record) name(name string) string {
	if r.Rows > 0 {
		name += fmt.Sprintf(", first %d rows", r.Rows)
	}
	if r.InMemory {
		name += " *"
	}
	return name
}

// costs are the columns that both tables have.
func (r record) costs() []string {
	cells := []string{number(r.BuildSeconds), number(r.BuildMB), number(r.SearchMB), fmt.Sprintf("%.0f", r.RowBytes), number(r.Cold), number(r.Insert), "–", "–"}
	if r.MappedMB > 0 {
		cells[2] += " (" + number(r.MappedMB) + ")"
	}
	if r.Filter > 0 {
		cells[6] = fmt.Sprintf("%s (%.3f)", number(r.Filter), r.FilterRecall)
	}
	if r.Shrink > 0 {
		cells[7] = fmt.Sprintf("%.0f %%", 100*r.Shrink)
	}
	return cells
}

// markdown lays out a table that reads well in a terminal too.
func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
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
	return b.String()
}

// about says what was measured, and what was not.
func about(s *set, left []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d x %d float32, %s; cosine, k = 10, %d queries that are not among the rows; one thread each, on %s/%s, %s.\n",
		s.Rows, s.Dims, s.What, s.Queries, runtime.GOOS, runtime.GOARCH, processor())
	b.WriteString("* (dashed) is an index in memory, which a program loads as a whole. – is what a peer does not offer or was not measured. " +
		"MB are the most that was resident, in a process that builds and in a fresh one that searches; in brackets, mapped files. " +
		"A row's own vector is in the bytes.\n")
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
	case x >= 99.95:
		return fmt.Sprintf("%.0f", x)
	case x >= 9.995:
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

// colours are those of the runners: Okabe and Ito's, which stay apart for colour-blind eyes, and
// some more. Ours are the strong blue.
var colours = map[string]color.RGBA{
	"velosync": {0, 114, 178, 255}, "velosync_knn": {0, 114, 178, 255},
	"sqlite-vec": {0, 158, 115, 255}, "sqlite-vector": {140, 86, 75, 255}, "libsql": {204, 121, 167, 255}, "lancedb": {120, 120, 120, 255},
	"vectorlite": {110, 60, 160, 255}, "coder-hnsw": {0, 0, 0, 255}, "usearch": {230, 159, 0, 255}, "hnswlib": {213, 94, 0, 255}, "faiss": {86, 180, 233, 255},
}

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
	least, most := math.Inf(1), 0.0
	for _, peer := range peersOf(records) {
		var points plotter.XYs
		for _, r := range peer {
			if r.Recall >= leastRecall {
				points = append(points, plotter.XY{X: r.P50, Y: r.Recall})
				least, most = min(least, r.P50), max(most, r.P50)
			}
		}
		if len(points) == 0 {
			continue
		}
		lines, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		lines.Color, dots.Color, dots.Shape = colours[peer[0].Runner], colours[peer[0].Runner], draw.CircleGlyph{}
		lines.Width, dots.Radius = vg.Points(1.2), vg.Points(2.5)
		if peer[0].InMemory {
			lines.Dashes = []vg.Length{vg.Points(4), vg.Points(2)}
		}
		if exact(peer[0]) {
			dots.Shape, dots.Radius = draw.BoxGlyph{}, vg.Points(3)
		}
		if strings.HasPrefix(peer[0].Peer, "VeloSync") {
			lines.Width, dots.Radius = vg.Points(2.6), vg.Points(4)
		}
		p.Add(lines, dots)
		p.Legend.Add(peer[0].name(line(peer[0])), lines, dots)
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

func exact(r record) bool { return strings.Contains(r.Mode, "exact") }

// line is what the plot calls a peer: its modes are one line, exact ones stand alone. What a mode has
// before a comma tells apart the indexes of a peer.
func line(r record) string {
	if exact(r) {
		return r.Peer + ", " + r.Mode
	}
	if kind, _, ok := strings.Cut(r.Mode, ","); ok {
		return r.Peer + ", " + kind
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
