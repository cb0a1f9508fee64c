package main

import (
	"context"
	"slices"
	"time"
)

// logCmd is velosync log.
type logCmd struct {
	fileArg
	Table string `placeholder:"TABLE" help:"Only this table's."`
	Limit int    `default:"100" placeholder:"N" help:"The newest N (${default}); 0: all."`
	jsonFlag
}

// opNames are the words for the letters in the log.
var opNames = map[string]string{
	"I": "insert", "U": "update", "D": "delete", "E": "replaced", "T": "touch", "B": "push back", "X": "spent",
}

// Run shows the log, oldest first.
func (c *logCmd) Run(ctx context.Context, std streams) error {
	if c.Limit < 0 {
		return usage("--limit %d: give a number of log rows, 0 for all", c.Limit)
	}
	db, err := openSynced(ctx, c.File)
	if err != nil {
		return err
	}
	defer db.Close()
	const columns = `(SELECT group_concat(r.columns) FROM _velosync_register r WHERE r.tbl = w.tbl AND (w.cols >> r.reg) & 1)`
	list, err := db.query(ctx, `SELECT w.lsn, t.name AS tbl, w.op, w.pk AS "key", `+columns+` AS columns, w.seen, w.at, w.weight
		FROM _velosync_wal w LEFT JOIN _velosync_table t ON t.id = w.tbl
		WHERE w.op <> 'X' AND (?1 = '' OR lower(t.name) = lower(?1)) ORDER BY w.lsn DESC LIMIT ?2`, c.Table, limitOrAll(c.Limit))
	if err != nil {
		return err
	}
	if len(list) == 0 {
		std.say("The log is empty: the master has all changes.")
	}
	slices.Reverse(list)
	for _, r := range list {
		if word := opNames[r.text("op")]; word != "" {
			r.values[slices.Index(r.names, "op")] = word
		}
	}
	return std.print(c.JSON, list, numeric("LSN", "lsn"), field("TABLE", "tbl"), field("CHANGE", "op"), keyColumn, field("COLUMNS", "columns"),
		numeric("SEEN", "seen"), moment("AT", "at", time.Now()))
}

// limitOrAll turns 0 into SQLite's word for no limit.
func limitOrAll(n int) int {
	if n == 0 {
		return -1
	}
	return n
}
