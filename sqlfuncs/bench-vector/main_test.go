package main

import (
	"bytes"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be what a peer starts for itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "peer") {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestBench runs what needs no installs: our own two ways to search, from vectors to plot.
func TestBench(t *testing.T) {
	b := bench{source: ".", out: t.TempDir(), build: time.Minute, limit: 2 * time.Minute, cpu: -1}
	s, err := b.makeSet("clusters", 3000, 20)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.makeSet("clusters", 3000, 20)
	if err != nil || fmt.Sprint(again.query, again.extra) != fmt.Sprint(s.query, s.extra) {
		t.Fatalf("the set reads back otherwise than it was made: %v", err)
	}
	var records []record
	for _, r := range runners[:2] {
		found, err := b.measure(r, s)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, found...)
	}
	if len(records) != 6 {
		t.Fatalf("%d records, want 1 of the scan and 5 of the index", len(records))
	}
	for _, r := range records {
		// With so few rows the index reads the table.
		if r.Recall < 0.999 || r.FilterRecall < 0.999 || r.P50 <= 0 || r.P95 < r.P50 || r.RowBytes < 512 || r.BuildSeconds <= 0 || r.Cold <= 0 || r.Insert <= 0 || r.Shrink > 0.8 ||
			runtime.GOOS == "linux" && (r.BuildMB < 5 || r.SearchMB < 5 || r.MappedMB <= 0 || r.MappedMB > r.SearchMB) {
			t.Errorf("%+v", r)
		}
	}
	if err := report(b.out, s, records, []string{"other: not installed"}); err != nil {
		t.Fatal(err)
	}
	if kept, err := readRecords(b.out); err != nil || len(kept) != 6 || kept[5] != records[5] {
		t.Errorf("results read back: %+v, %v", kept, err)
	}
	table, err := os.ReadFile(filepath.Join(b.out, "summary.md"))
	if err != nil || strings.Count(string(table), "| VeloSync") != 2 || !strings.Contains(string(table), "Left out: other: not installed.") {
		t.Errorf("summary: %v\n%s", err, table)
	}
	image, err := os.ReadFile(filepath.Join(b.out, "recall-latency.png"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(image)); err != nil {
		t.Error(err)
	}
	if svg, err := os.ReadFile(filepath.Join(b.out, "recall-latency.svg")); err != nil || !strings.Contains(string(svg), "velosync_knn") {
		t.Errorf("svg: %v", err)
	}
}

// TestEmbedTexts: texts about the same come out close, equal ones once.
func TestEmbedTexts(t *testing.T) {
	var texts []string
	for i := range 120 {
		subject, kind := i%10, i/10%4
		texts = append(texts, fmt.Sprintf("topic%d word%d more%d kind%d%d", subject, subject, subject, subject, kind))
	}
	vectors := embedTexts(texts, 10)
	if len(vectors) != 40 {
		t.Fatalf("%d vectors, want 40: equal texts count once", len(vectors))
	}
	var same, other float32
	for i, v := range vectors[0] {
		same += v * vectors[10][i]
		other += v * vectors[1][i]
	}
	if same < other+0.3 {
		t.Errorf("cosine with the same subject %.2f, with another %.2f", same, other)
	}
}
