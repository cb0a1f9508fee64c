package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/velosync/velosync/replicator"
)

// doctorCmd is velosync doctor.
type doctorCmd struct {
	fileArg
	Master string `env:"VELOSYNC_MASTER" placeholder:"URL" help:"The master to compare all rows with (the one that FILE synced with last)."`
	Space  string `env:"VELOSYNC_SPACE" placeholder:"NAME" help:"The space (the one that FILE synced with last)."`
	Token  string `env:"VELOSYNC_TOKEN" placeholder:"TOKEN" help:"What masterd token new printed. The environment keeps it out of the process list."`
	Local  bool   `help:"Check FILE alone: no round, and nothing is compared with the master."`
	jsonFlag
}

// A finding is one thing that doctor says. Level is error (rows are wrong, or changes are
// missed), warning (something waits for a person) or note.
type finding struct {
	Level string `json:"level"`
	What  string `json:"what"`
	Where string `json:"where"`
	Do    string `json:"do"`

	more record // further fields, for programs
}

// Run checks a file, then syncs and compares all rows with the master. Errors and warnings end
// it with exitFound; else a master that rows could not be compared with, as it ends velosync
// sync.
func (c *doctorCmd) Run(ctx context.Context, std streams) error {
	db, err := openDatabase(ctx, c.File)
	if err != nil {
		return err
	}
	defer db.Close()
	list, status, err := db.examine(ctx)
	if err != nil {
		return err
	}
	comparison := &comparison{doctorCmd: c, status: status}
	if status.names != nil && !c.Local { // it is tracked, and can be read
		if err := comparison.run(ctx, std); err != nil {
			return err
		}
		list = append(list, comparison.findings()...)
	}
	if comparison.got.Round != nil {
		if status, err = db.one(ctx, `SELECT * FROM velosync_status`); err != nil {
			return err
		}
	}
	if status.names != nil {
		list = append(list, db.waits(status, comparison.failed != nil)...)
	}
	if err := c.show(std, list); err != nil {
		return err
	}
	comparison.sum(std)
	problems := 0
	for _, f := range list {
		if f.Level != "note" {
			problems++
		}
	}
	if problems > 0 {
		if comparison.failed != nil {
			std.say("Not compared with the master: %v", comparison.failed)
		}
		return &codeError{exitFound, fmt.Errorf("%s: %s, each with what to do", c.File, plural(problems, "problem"))}
	}
	if comparison.failed != nil {
		return fmt.Errorf("%s itself has no problem, its rows were not compared with the master: %w", c.File, comparison.failed)
	}
	std.say("%s: nothing is wrong.", c.File)
	return nil
}

// show prints findings.
func (c *doctorCmd) show(std streams, list []finding) error {
	records := make([]record, len(list))
	for i, f := range list {
		records[i] = record{}.add("level", f.Level).add("what", f.What).add("where", f.Where).add("do", f.Do)
		for k, name := range f.more.names {
			records[i] = records[i].add(name, f.more.values[k])
		}
	}
	if std.outTerm && !c.JSON {
		// Advice is read as sentences, not in the columns of a table.
		for _, f := range list {
			colour := map[string]text.Color{"error": text.FgRed, "warning": text.FgYellow}[f.Level]
			fmt.Fprintf(std.out, "%s %s: %s\n", std.paint(colour, "%s", f.Level), visible(f.Where), visible(f.What))
			if f.Do != "" {
				fmt.Fprintf(std.out, "    %s\n", visible(f.Do))
			}
		}
		return nil
	}
	return std.print(c.JSON, records, field("LEVEL", "level"), field("WHERE", "where"), field("WHAT", "what"), field("DO", "do"))
}

// examine checks the file itself, and what capture needs. It returns the status too, none
// where the file is damaged or tracks nothing.
func (d *database) examine(ctx context.Context) (list []finding, status record, err error) {
	file := quoteArg(d.path)
	add := func(level, where, do, what string, args ...any) {
		list = append(list, finding{Level: level, What: fmt.Sprintf(what, args...), Where: where, Do: do})
	}

	pages, err := d.query(ctx, `PRAGMA quick_check(20)`)
	if err != nil {
		return nil, status, err
	}
	damaged := false
	for _, r := range pages {
		if says := r.text("quick_check"); says != "ok" {
			damaged = true
			add("error", d.path, "make a copy of the file now, then restore a backup or run: sqlite3 "+file+" .recover", "%s", says)
		}
	}
	if damaged { // what else it says cannot be trusted
		return list, status, nil
	}

	var tracked int
	if err := d.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'velosync_status'`).Scan(&tracked); err != nil {
		return nil, status, d.explain(err)
	}
	if tracked == 0 {
		add("note", d.path, "velosync track "+file+" TABLE", "tracks no table yet")
		return list, status, nil
	}
	var own string
	if err := d.QueryRowContext(ctx, `SELECT velosync_doctor()`).Scan(&own); err != nil {
		return nil, status, d.explain(err)
	}
	var more []finding
	if err := json.Unmarshal([]byte(own), &more); err != nil {
		return nil, status, fmt.Errorf("read what velosync_doctor() found: %w", err)
	}
	for _, f := range more {
		f.Where = orWord(f.Where, d.path)
		f.Do = strings.ReplaceAll(f.Do, "FILE", file)
		list = append(list, f)
	}

	broken, err := d.query(ctx, `SELECT f."table" AS tbl, count(*) AS n, f.parent FROM pragma_foreign_key_check f
		JOIN _velosync_table t ON t.name = f."table" GROUP BY 1, 3`)
	if err != nil {
		return nil, status, err
	}
	for _, r := range broken {
		add("warning", r.text("tbl"), "insert the missing rows of "+r.text("parent")+", or delete these; PRAGMA foreign_key_check names them",
			"%s whose foreign key has no row in %s: the master refuses them", plural(r.number("n"), "row"), r.text("parent"))
	}

	s, err := d.one(ctx, `SELECT * FROM velosync_status`)
	if err != nil {
		return nil, status, err
	}
	return list, s, nil
}

// waits says what the last round left undone, by the status. Its error is left out where it was
// made just now, and failed: doctor ends with that.
func (d *database) waits(s record, failed bool) (list []finding) {
	if e := s.text("last_error"); e != "" && !failed {
		level := "warning"
		if strings.Contains(e, replicator.ErrOffline.Error()) { // a normal state
			level = "note"
		}
		list = append(list, finding{Level: level, Where: "last round", Do: "mend the cause, then " + syncCommand(d.path, s), What: e})
	}
	if n := s.number("pending"); n > 0 {
		list = append(list, finding{Level: "note", Where: "velosync_pending", Do: syncCommand(d.path, s), What: plural(n, "changed row") + " to send"})
	}
	return list
}
