package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// trackCmd is velosync track.
type trackCmd struct {
	fileArg
	Table   string   `arg:"" placeholder:"TABLE" help:"The table; it needs a primary key."`
	Weight  string   `placeholder:"COLUMN" help:"Column of the semantic weight: of two concurrent changes the heavier wins."`
	Group   []string `sep:"none" placeholder:"A,B" help:"Columns that mean nothing without each other, such as a text and its embedding. May be given again."`
	Merge   []string `sep:"none" placeholder:"COLUMN=counter|set|max|min|EXPRESSION" help:"How concurrent values of a column become one, in the place of the heavier. May be given again."`
	IDs     string   `name:"ids" placeholder:"random|local|renumber" help:"Accept an INTEGER PRIMARY KEY: its numbers are random, or this table has one writer, or rows that two devices made under one number get others."`
	Options string   `placeholder:"JSON" help:"All options as velosync_track() takes them, in place of the flags above."`
	jsonFlag
}

// Run tracks a table.
func (c *trackCmd) Run(ctx context.Context, std streams) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	db, err := openDatabase(ctx, c.File)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.checkTable(ctx, "track", c.Table); err != nil {
		return err
	}
	var name string
	if err := db.QueryRowContext(ctx, `SELECT velosync_track(?, ?)`, c.Table, options).Scan(&name); err != nil {
		return db.explain(err)
	}
	r, err := db.one(ctx, `SELECT ? AS "table", count(*) AS pending FROM velosync_pending WHERE tbl = ?`, name, name)
	if err != nil {
		return err
	}
	if err := std.print(c.JSON, []record{r}, field("TABLE", "table"), numeric("PENDING", "pending")); err != nil {
		return err
	}
	std.say("%s is tracked, whoever writes to it. Next: velosync sync %s --master URL --space NAME", name, quoteArg(c.File))
	return nil
}

// options returns what velosync_track takes.
func (c *trackCmd) options() (string, error) {
	if c.Options != "" {
		if c.Weight != "" || len(c.Group) > 0 || len(c.Merge) > 0 || c.IDs != "" {
			return "", usage("--options says everything: leave out --weight, --group, --merge and --ids, or write them into the JSON")
		}
		if !json.Valid([]byte(c.Options)) {
			return "", usage(`--options %s is not JSON: write an object such as {"weight":"confidence","groups":[["body","embedding"]]}`, c.Options)
		}
		return c.Options, nil
	}
	if !change.ValidIDs(c.IDs) {
		return "", usage("--ids %s: write random if the program draws them at random, local if only this device inserts, or renumber if rows may get other numbers", c.IDs)
	}
	o := change.Options{Weight: c.Weight, IDs: c.IDs}
	for _, g := range c.Group {
		columns := strings.Split(g, ",")
		for i := range columns {
			columns[i] = strings.TrimSpace(columns[i])
		}
		if len(columns) < 2 || slices.Contains(columns, "") {
			return "", usage("--group %s: a group is two columns or more, separated by commas", g)
		}
		o.Groups = append(o.Groups, columns)
	}
	for _, m := range c.Merge {
		column, policy, ok := strings.Cut(m, "=")
		if !ok {
			return "", usage("--merge %s: write a column and how its values are merged, such as seen_at=max", m)
		}
		o.SetMerge(strings.TrimSpace(column), change.Policy(strings.TrimSpace(policy)))
	}
	b, err := json.Marshal(o)
	return string(b), err
}

// checkTable says which tables there are when name is none of them.
func (d *database) checkTable(ctx context.Context, command, name string) error {
	names, err := d.tables(ctx)
	if err != nil {
		return err
	}
	switch {
	case slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }):
		return nil
	case len(names) == 0:
		return fmt.Errorf("%s has no tables: create %s first", d.path, name)
	}
	// A view or a virtual table has better advice from SQL.
	var other int
	if err := d.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE type IN ('table', 'view') AND lower(name) = lower(?)`, name).Scan(&other); err != nil {
		return d.explain(err)
	}
	if other > 0 {
		return nil
	}
	const most = 8
	list := strings.Join(names[:min(most, len(names))], ", ")
	if len(names) > most {
		list += ", …"
	}
	return fmt.Errorf("%s has no table %s; it has %s: velosync %s %s %s", d.path, name, list, command, quoteArg(d.path), quoteArg(names[0]))
}

// untrackCmd is velosync untrack.
type untrackCmd struct {
	fileArg
	Table string `arg:"" placeholder:"TABLE" help:"The table."`
	jsonFlag
}

// Run stops tracking a table.
func (c *untrackCmd) Run(ctx context.Context, std streams) error {
	db, err := openSynced(ctx, c.File)
	if err != nil {
		return err
	}
	defer db.Close()
	r, err := db.one(ctx, `SELECT ? AS "table", count(*) AS pending FROM velosync_pending WHERE lower(tbl) = lower(?)`, c.Table, c.Table)
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, `SELECT velosync_untrack(?)`, c.Table); err != nil {
		return db.explain(err)
	}
	if err := std.print(c.JSON, []record{r}, field("TABLE", "table"), numeric("PENDING", "pending")); err != nil {
		return err
	}
	if n := r.number("pending"); n > 0 {
		std.say("%s is no longer tracked; %s had not been sent. velosync track %s %s sends all rows again.",
			c.Table, plural(n, "changed row"), quoteArg(c.File), quoteArg(c.Table))
		return nil
	}
	std.say("%s is no longer tracked; its rows stay.", c.Table)
	return nil
}
