package main

import (
	"context"
	"fmt"
	"time"
)

// statusCmd is velosync status.
type statusCmd struct {
	fileArg
	Pending bool `help:"Show the rows that are pending, one a line, in place of the summary."`
	jsonFlag
}

// Run shows the status.
func (c *statusCmd) Run(ctx context.Context, std streams) error {
	db, err := openSynced(ctx, c.File)
	if err != nil {
		return err
	}
	defer db.Close()
	if c.Pending {
		list, err := db.query(ctx, `SELECT * FROM velosync_pending ORDER BY first_lsn`)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			std.say("Nothing is pending.")
		}
		return std.print(c.JSON, list, field("TABLE", "tbl"), keyColumn, field("CHANGE", "op"), field("COLUMNS", "columns"),
			numeric("MUTATIONS", "mutations"), moment("SINCE", "since", time.Now()))
	}
	r, err := db.one(ctx, `SELECT * FROM velosync_status`)
	if err != nil {
		return err
	}
	if c.JSON {
		return std.emit(r)
	}
	var lines []record
	for _, name := range r.names {
		value := field("", name)
		if name == "last_sync" {
			value = moment("", name, time.Now())
			value.cell = func(r record) string { return when(r.number(name), time.Now()) }
		}
		lines = append(lines, record{}.add("name", name).add("value", value.text(r, std.outTerm)))
	}
	if std.outTerm {
		for _, l := range lines {
			fmt.Fprintf(std.out, "%s  %s\n", std.paint(bold, "%-10s", l.text("name")), visible(l.text("value")))
		}
	} else if err := std.print(false, lines, field("NAME", "name"), field("VALUE", "value")); err != nil {
		return err
	}
	advise(std, c.File, r)
	return nil
}

// advise says what a person would do next about a status.
func advise(std streams, path string, status record) {
	if n := status.number("pending"); n > 0 {
		std.say("%s to send: %s", plural(n, "changed row"), syncCommand(path, status))
	}
	if n := status.number("conflicts"); n > 0 {
		std.say("%s to look at: velosync conflicts %s", plural(n, "conflict"), quoteArg(path))
	}
	if n := status.number("parked"); n > 0 {
		std.say("%s from the master that this file refuses: velosync doctor %s", plural(n, "row"), quoteArg(path))
	}
}

// syncCommand returns the velosync sync that suits a status, with words where that is silent.
func syncCommand(path string, status record) string {
	return fmt.Sprintf("velosync sync %s --master %s --space %s", quoteArg(path),
		orWord(status.text("master"), "URL"), orWord(status.text("space"), "NAME"))
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

// waitCmd is velosync wait.
type waitCmd struct {
	fileArg
	Timeout time.Duration `default:"30s" help:"How long to wait (${default})."`
	Poll    time.Duration `default:"100ms" hidden:"" help:"How often to look."`
	jsonFlag
}

// Run waits until nothing is pending.
func (c *waitCmd) Run(ctx context.Context, std streams) error {
	if c.Timeout <= 0 || c.Poll <= 0 {
		return usage("--timeout %v: give a positive time, such as 30s or 5m", c.Timeout)
	}
	db, err := openSynced(ctx, c.File)
	if err != nil {
		return err
	}
	defer db.Close()
	deadline := time.NewTimer(c.Timeout)
	defer deadline.Stop()
	look := time.NewTicker(c.Poll)
	defer look.Stop()
	for {
		r, err := db.one(ctx, `SELECT pending, lsn, acked_lsn, seen, last_error FROM velosync_status`)
		if err != nil {
			return err
		}
		if r.number("pending") == 0 {
			return std.print(c.JSON, []record{r}, numeric("PENDING", "pending"), numeric("LSN", "lsn"), numeric("SEEN", "seen"))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			why := "does a process sync this file? velosync sync " + quoteArg(c.File) + " --master URL does"
			if e := r.text("last_error"); e != "" {
				why = "the last round failed: " + e
			}
			return &codeError{exitFound, fmt.Errorf("%s still pending after %v: %s", plural(r.number("pending"), "changed row"), c.Timeout, why)}
		case <-look.C:
		}
	}
}
