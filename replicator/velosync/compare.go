package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/velosync/velosync/capture/change"
	"github.com/velosync/velosync/replicator"
)

// A comparison is what doctor does with the master.
type comparison struct {
	*doctorCmd
	status record // of the file, before
	sync   syncCmd
	none   bool // the file has no master yet, and the flags name none
	got    replicator.Verification
	failed error // what kept rows from being compared, with its exit code
}

// run syncs, and compares all rows. An error is one of the flags: what goes wrong later is no
// reason to keep quiet about the file.
func (c *comparison) run(ctx context.Context, std streams) error {
	known := c.status.text("space")
	if c.Space != "" && known != "" && c.Space != known {
		return usage("--space %s: %s syncs with the space %s, and would be pushed to another one whole; to check the file alone: velosync doctor %s --local",
			c.Space, c.File, known, quoteArg(c.File))
	}
	c.sync = syncCmd{fileArg: c.fileArg, Master: orWord(c.Master, c.status.text("master")), Space: orWord(orWord(c.Space, known), "default"), Token: c.Token,
		Interval: time.Second, Digest: "off"}
	if c.none = c.sync.Master == ""; c.none {
		return nil
	}
	if _, err := c.sync.check(); err != nil {
		return err
	}
	bars := &progress{std: std}
	defer bars.finish()
	// What the log would tell, the findings do.
	r, err := replicator.New(fileDSN(c.File, "rw"), replicator.Options{Master: c.sync.Master, Space: c.sync.Space, Token: c.Token,
		DigestEvery: -1, Log: slog.New(slog.DiscardHandler), Progress: bars.show})
	if err == nil {
		c.got, err = r.Verify(ctx)
		err = errors.Join(err, r.Close())
	}
	c.failed = c.sync.explain(err)
	return nil
}

// findings says what was compared, and what differed.
func (c *comparison) findings() (list []finding) {
	file := quoteArg(c.File)
	if c.none {
		return []finding{{Level: "note", Where: c.File, What: "no master is known: rows are not compared", Do: "velosync doctor " + file + " --master URL --space NAME"}}
	}
	for _, t := range c.got.Tables {
		f := finding{Level: "note", Where: t.Table, What: fmt.Sprintf("%s compared with the master, in %s", plural(t.Rows, "row"), plural(t.Ranges, "range"))}
		if t.Waiting > 0 {
			f.What += fmt.Sprintf("; %s left out, since edits of them wait", plural(t.Waiting, "row"))
		}
		if t.LeftOut != "" {
			f.Level = "warning"
			f.What += "; the rest was not: " + t.LeftOut
			f.Do = fmt.Sprintf("velosync sync %s --master %s --space %s, and look again", file, c.sync.Master, c.sync.Space)
		}
		f.more = record{}.add("table", t.Table).add("rows", t.Rows).add("ranges", int64(t.Ranges)).add("waiting", int64(t.Waiting)).add("left_out", t.LeftOut)
		list = append(list, f)
	}
	for _, d := range c.got.Divergences {
		f := finding{Level: "error", Where: d.Table, What: fmt.Sprintf("%s %s differed from the master's, and no write of them was logged: ", plural(d.Rows, "row"), between(d.After, d.To))}
		if d.Refused == "" {
			f.What += "they are the master's now"
			f.Do = "velosync conflicts " + file + " shows what was here; velosync resolve " + file + " ID mine brings it back"
		} else {
			f.What += "this file does not take the master's: " + d.Refused
			f.Do = "mend the cause, then velosync doctor " + file
		}
		f.more = record{}.add("table", d.Table).add("after", d.After).add("to", d.To).add("differed", int64(d.Rows)).add("healed", int64(d.Healed))
		list = append(list, f)
	}
	return list
}

// between names a range of keys.
func between(after, to change.Value) string {
	key := func(v change.Value) string { return keyText(record{}.add("key", v)) }
	switch {
	case after == nil && to == nil:
		return "in all of the table"
	case after == nil:
		return "up to the key " + key(to)
	case to == nil:
		return "after the key " + key(after)
	}
	return "after the key " + key(after) + " and up to " + key(to)
}

// sum says in a sentence or two what was done.
func (c *comparison) sum(std streams) {
	if len(c.got.Tables) == 0 {
		return
	}
	if r := c.got.Round; r == nil {
		std.say("Another process syncs %s, and goes on: no round was made here.", c.File)
	} else {
		std.say("Synced first: %s sent, %s received.", plural(r.PushedRows, "row"), plural(r.PulledRows, "row"))
		c.sync.tell(std, *r)
	}
	var rows int64
	ranges, differed, healed := 0, 0, 0
	for _, t := range c.got.Tables {
		rows += t.Rows
		ranges += t.Ranges
	}
	for _, d := range c.got.Divergences {
		differed += d.Rows
		healed += d.Healed
	}
	what := "nothing differs"
	if differed > 0 {
		what = fmt.Sprintf("%s differed, %s healed", plural(differed, "row"), count(healed))
	}
	std.say("Compared with %s: %s, %s, %s, in %.1f s; %s.", c.sync.Master, plural(len(c.got.Tables), "table"), plural(rows, "row"), plural(ranges, "range"), c.got.Took.Seconds(), what)
}
