package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/velosync/velosync/replicator"
)

func TestProgress(t *testing.T) {
	for _, test := range []struct {
		name  string
		term  bool
		wait  time.Duration
		total int64
		want  string // a part of what is drawn; empty: nothing is
	}{
		{"long phase", true, time.Second, 100, "receiving  40%"},
		{"length not known", true, time.Second, 0, "receiving (20/-"},
		{"short phase", true, time.Millisecond, 100, ""},
		{"no terminal", false, time.Second, 100, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				p := &progress{std: streams{err: &out, errTerm: test.term}}
				for _, rows := range []int64{0, 20, 40} {
					p.show(replicator.Progress{Phase: "pull", Rows: rows, Total: test.total})
					time.Sleep(test.wait)
				}
				p.finish()
				got := out.String()
				if test.want == "" && got != "" || !strings.Contains(got, test.want) {
					t.Errorf("drawn: %q, want %q", got, test.want)
				}
				if got != "" && !strings.HasSuffix(got, "\x1b[2K\r") {
					t.Errorf("the bar is left behind: %q", got)
				}
			})
		})
	}
}
