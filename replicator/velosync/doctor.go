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
	jsonFlag
}

// A finding is one thing that doctor says. Level is error (rows are wrong, or changes are
// missed), warning (something waits for a person) or note.
type finding struct {
	Level string `json:"level"`
	What  string `json:"what"`
	Where string `json:"where"`
	Do    string `json:"do"`
}

// Run checks a file. Errors and warnings end it with exitFound.
func (c *doctorCmd) Run(ctx context.Context, std streams) error {
	db, err := openDatabase(ctx, c.File)
	if err != nil {
		return err
	}
	defer db.Close()
	list, err := db.examine(ctx)
	if err != nil {
		return err
	}
	records := make([]record, len(list))
	problems := 0
	for i, f := range list {
		if f.Level != "note" {
			problems++
		}
		records[i] = record{}.add("level", f.Level).add("what", f.What).add("where", f.Where).add("do", f.Do)
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
	} else if err := std.print(c.JSON, records, field("LEVEL", "level"), field("WHERE", "where"), field("WHAT", "what"), field("DO", "do")); err != nil {
		return err
	}
	if problems > 0 {
		return &codeError{exitFound, fmt.Errorf("%s: %s, each with what to do", c.File, plural(problems, "problem"))}
	}
	std.say("%s: nothing is wrong.", c.File)
	return nil
}

// examine checks the file itself, what capture needs, and what waits for a person.
func (d *database) examine(ctx context.Context) ([]finding, error) {
	file := quoteArg(d.path)
	var list []finding
	add := func(level, where, do, what string, args ...any) {
		list = append(list, finding{Level: level, What: fmt.Sprintf(what, args...), Where: where, Do: do})
	}

	pages, err := d.query(ctx, `PRAGMA quick_check(20)`)
	if err != nil {
		return nil, err
	}
	damaged := false
	for _, r := range pages {
		if says := r.text("quick_check"); says != "ok" {
			damaged = true
			add("error", d.path, "make a copy of the file now, then restore a backup or run: sqlite3 "+file+" .recover", "%s", says)
		}
	}
	if damaged { // what else it says cannot be trusted
		return list, nil
	}

	var tracked int
	if err := d.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'velosync_status'`).Scan(&tracked); err != nil {
		return nil, d.explain(err)
	}
	if tracked == 0 {
		add("note", d.path, "velosync track "+file+" TABLE", "tracks no table yet")
		return list, nil
	}
	var own string
	if err := d.QueryRowContext(ctx, `SELECT velosync_doctor()`).Scan(&own); err != nil {
		return nil, d.explain(err)
	}
	var more []finding
	if err := json.Unmarshal([]byte(own), &more); err != nil {
		return nil, fmt.Errorf("read what velosync_doctor() found: %w", err)
	}
	for _, f := range more {
		f.Where = orWord(f.Where, d.path)
		f.Do = strings.ReplaceAll(f.Do, "FILE", file)
		list = append(list, f)
	}

	broken, err := d.query(ctx, `SELECT f."table" AS tbl, count(*) AS n, f.parent FROM pragma_foreign_key_check f
		JOIN _velosync_table t ON t.name = f."table" GROUP BY 1, 3`)
	if err != nil {
		return nil, err
	}
	for _, r := range broken {
		add("warning", r.text("tbl"), "insert the missing rows of "+r.text("parent")+", or delete these; PRAGMA foreign_key_check names them",
			"%s whose foreign key has no row in %s: the master refuses them", plural(r.number("n"), "row"), r.text("parent"))
	}

	s, err := d.one(ctx, `SELECT * FROM velosync_status`)
	if err != nil {
		return nil, err
	}
	if e := s.text("last_error"); e != "" {
		level := "warning"
		if strings.Contains(e, replicator.ErrOffline.Error()) { // a normal state
			level = "note"
		}
		add(level, "last round", "mend the cause, then "+syncCommand(d.path, s), "%s", e)
	}
	if n := s.number("pending"); n > 0 {
		add("note", "velosync_pending", syncCommand(d.path, s), "%s to send", plural(n, "changed row"))
	}
	return list, nil
}
