package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// conflictsCmd is velosync conflicts.
type conflictsCmd struct {
	fileArg
	All bool `help:"Show the settled ones too."`
	jsonFlag
}

// Run lists conflicts.
func (c *conflictsCmd) Run(ctx context.Context, std streams) error {
	db, err := openSynced(ctx, c.File)
	if err != nil {
		return err
	}
	defer db.Close()
	list, err := db.query(ctx, `SELECT * FROM velosync_conflicts WHERE ? OR settled IS NULL ORDER BY id`, c.All)
	if err != nil {
		return err
	}
	if std.outTerm && !c.JSON {
		std.cards(list)
	} else if err := std.print(c.JSON, list, conflictColumns...); err != nil {
		return err
	}
	open := 0
	for _, r := range list {
		if r.get("settled") == nil {
			open++
		}
	}
	switch {
	case open > 0:
		std.say("%s. velosync resolve %s ID mine brings mine back, theirs agrees; --json shows whole values.", plural(open, "conflict"), quoteArg(c.File))
	case len(list) == 0:
		std.say("No conflicts.")
	}
	return nil
}

// conflictColumns are for programs; people get cards, which have room for the values.
var conflictColumns = []column{
	numeric("ID", "id"), field("TABLE", "tbl"), keyColumn, field("WHAT", "kind"), {head: "RULE", cell: ruleText},
	{head: "MINE", cell: func(r record) string { return sideText(r, "mine") }},
	{head: "THEIRS", cell: func(r record) string { return sideText(r, "theirs") }},
	moment("AT", "at", time.Time{}), field("SETTLED", "settled"),
}

// cards shows conflicts to people, three lines each.
func (s streams) cards(list []record) {
	now := time.Now()
	for _, r := range list {
		settled := ""
		if side := r.text("settled"); side != "" {
			settled = ", settled: " + side
		}
		head := fmt.Sprintf("%d  %s %s: %s, decided by %s%s, %s", r.number("id"), r.text("tbl"), clip(keyText(r), 40),
			strings.ReplaceAll(r.text("kind"), "-", " "), ruleText(r), settled, ago(r.number("at"), now))
		fmt.Fprintln(s.out, s.paint(bold, "%s", clip(head, s.width)))
		for _, side := range []string{"mine", "theirs"} {
			fmt.Fprintf(s.out, "   %-6s  %s\n", side, clip(sideText(r, side), s.width-11))
		}
	}
}

// keyColumn shows the key of a row.
var keyColumn = column{head: "KEY", cell: keyText}

// keyText shows the key of a row; see change.SplitKey for that of several columns.
func keyText(r record) string {
	switch key := r.get("key").(type) {
	case []byte:
		return describeBlob(key)
	case string:
		var parts []string
		if strings.HasPrefix(key, `["`) && json.Unmarshal([]byte(key), &parts) == nil {
			for i, p := range parts {
				if p != "" {
					parts[i] = p[1:] // without the letter of its type
				}
			}
			return strings.Join(parts, ", ")
		}
		return key
	}
	return r.text("key")
}

// ruleText says what decided: the rule, and the numbers that it compared.
func ruleText(r record) string {
	switch rule := r.text("rule"); rule {
	case "weight":
		return fmt.Sprintf("weight %s < %s", r.text("mine_weight"), r.text("theirs_weight"))
	case "time":
		return fmt.Sprintf("time (%d ms older)", r.number("theirs_time")-r.number("mine_time"))
	case "constraint":
		return "constraint: " + r.text("reason")
	default:
		return rule
	}
}

// sideText shows the values of one side, mine or theirs.
func sideText(r record, side string) string {
	switch v := r.text(side); {
	case v != "":
		return describeObject(v)
	case side == "mine" || r.text("kind") != "rejected":
		return "(deleted)"
	}
	return "(the row as the master has it)"
}

// resolveCmd is velosync resolve.
type resolveCmd struct {
	fileArg
	ID   int64  `arg:"" placeholder:"ID" help:"The conflict's id, from velosync conflicts."`
	Side string `arg:"" enum:"mine,theirs" placeholder:"mine|theirs" help:"mine writes this device's values again; theirs leaves the row as it is."`
	jsonFlag
}

// Run settles a conflict.
func (c *resolveCmd) Run(ctx context.Context, std streams) error {
	db, err := openSynced(ctx, c.File)
	if err != nil {
		return err
	}
	defer db.Close()
	list, err := db.query(ctx, `SELECT settled FROM velosync_conflicts WHERE id = ?`, c.ID)
	if err != nil {
		return err
	}
	switch {
	case len(list) == 0:
		return fmt.Errorf("%s has no conflict %d: velosync conflicts %s lists them", c.File, c.ID, quoteArg(c.File))
	case list[0].get("settled") != nil:
		return fmt.Errorf("conflict %d was settled as %s already: change the row itself, or see velosync conflicts %s --all",
			c.ID, list[0].text("settled"), quoteArg(c.File))
	}
	if _, err := db.ExecContext(ctx, `SELECT velosync_resolve(?, ?)`, c.ID, c.Side); err != nil {
		return db.explain(err)
	}
	r, err := db.one(ctx, `SELECT id, tbl, "key", settled FROM velosync_conflicts WHERE id = ?`, c.ID)
	if err != nil {
		return err
	}
	if err := std.print(c.JSON, []record{r}, numeric("ID", "id"), field("TABLE", "tbl"), keyColumn, field("SETTLED", "settled")); err != nil {
		return err
	}
	if c.Side == "mine" {
		std.say("Settled: mine is a change like any other now, for the next velosync sync %s.", quoteArg(c.File))
	} else {
		std.say("Settled: the row stays as it is.")
	}
	return nil
}
