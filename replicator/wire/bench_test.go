package wire

import (
	"fmt"
	"testing"

	"github.com/velosync/velosync/capture/change"
)

// Shapes: docs is a first push, titles an update of one short column.
func BenchmarkPush(b *testing.B) {
	for _, shape := range []struct {
		name string
		make func(rows int) change.Block
		rows int
	}{
		{"docs", docsBlock, 5000},
		{"docs", docsBlock, 1000},
		{"docs", docsBlock, 100},
		{"docs", docsBlock, 1},
		{"titles", titlesBlock, 1000},
	} {
		push := pushOf(shape.make(shape.rows))
		body, err := EncodePush(push)
		if err != nil {
			b.Fatal(err)
		}
		report := func(b *testing.B) {
			rows := float64(shape.rows * b.N)
			b.ReportMetric(float64(len(body))/float64(shape.rows), "B/row")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/1e3/rows, "µs/row")
			b.ReportMetric(rows/b.Elapsed().Seconds(), "rows/s")
		}
		b.Run(fmt.Sprintf("encode/%s/rows=%d", shape.name, shape.rows), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := EncodePush(push); err != nil {
					b.Fatal(err)
				}
			}
			report(b)
		})
		b.Run(fmt.Sprintf("decode/%s/rows=%d", shape.name, shape.rows), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodePush(body, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
			report(b)
		})
	}
}
