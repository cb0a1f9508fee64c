package main

import (
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/velosync/velosync/replicator"
)

// A progress shows how far a round is, on standard error when that is a terminal. Each
// phase has a bar of its own, which leaves nothing behind; a phase that is over at once has
// none.
type progress struct {
	std   streams
	phase string
	began time.Time
	bar   *progressbar.ProgressBar
}

// barAfter is how long a phase takes before people wonder.
const barAfter = 250 * time.Millisecond

// phaseWords say what a phase does.
var phaseWords = map[string]string{"push": "sending", "pull": "receiving", "apply": "writing", "compare": "comparing"}

// show draws p.
func (b *progress) show(p replicator.Progress) {
	if !b.std.errTerm {
		return
	}
	if p.Phase != b.phase {
		b.finish()
		b.phase, b.began = p.Phase, time.Now()
	}
	if time.Since(b.began) < barAfter {
		return
	}
	total := p.Total
	if total == 0 {
		total = -1 // not known: a spinner
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(b.std.err),
			progressbar.OptionSetDescription(phaseWords[p.Phase]),
			progressbar.OptionSetItsString("rows"),
			progressbar.OptionShowIts(),
			progressbar.OptionShowCount(),
			progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(50*time.Millisecond),
			progressbar.OptionSetSpinnerChangeInterval(0), // else a goroutine goes on drawing
			progressbar.OptionClearOnFinish(),
			progressbar.OptionUseANSICodes(true))
	}
	if b.bar.GetMax64() != total {
		b.bar.ChangeMax64(total)
	}
	b.bar.Set64(p.Rows) // an error would be the terminal's, where nobody could read it
}

// finish takes the bar away.
func (b *progress) finish() {
	if b.bar != nil {
		b.bar.Clear()
	}
	b.bar, b.phase = nil, ""
}
