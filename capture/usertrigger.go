package capture

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A user's trigger fires on apply too: a full-text index must follow. But what it writes
// to a tracked table would not be logged then, and its author's device has captured the
// same already: the devices would differ for ever. So such a trigger must stay quiet while
// remote changes are applied, as ours do.

// restless returns the user's triggers that write to a tracked table, or to extra, without
// asking whether remote changes are applied: trigger name to table.
func (d *Device) restless(extra string) (map[string]string, error) {
	names := []string{}
	err := d.c.Query(`SELECT name FROM _velosync_table`, nil, func(v []change.Value) error {
		names = append(names, v[0].(string))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if extra != "" {
		names = append(names, extra)
	}
	if len(names) == 0 {
		return nil, nil
	}
	for i, n := range names {
		names[i] = regexp.QuoteMeta(n)
	}
	writes := regexp.MustCompile("(?is)\\b(INTO|UPDATE(\\s+OR\\s+\\w+)?|DELETE\\s+FROM)\\s+[\"'`\\[]?(" + strings.Join(names, "|") + ")(\\W|$)")
	found := map[string]string{}
	err = d.c.Query(`SELECT name, tbl_name, sql FROM main.sqlite_schema WHERE type = 'trigger' AND substr(name, 1, 10) <> '_velosync_'`, nil, func(v []change.Value) error {
		name, table, text := v[0].(string), v[1].(string), v[2].(string)
		on := slices.ContainsFunc(names, func(n string) bool { return equalFold(n, regexp.QuoteMeta(table)) })
		body := text
		if i := strings.Index(strings.ToUpper(text), "BEGIN"); i >= 0 {
			body = text[i:]
		}
		if on && writes.MatchString(body) && !strings.Contains(text, "_velosync_state") {
			found[name] = table
		}
		return nil
	})
	return found, err
}

const quietTrigger = "add WHEN (SELECT applying FROM _velosync_state) = 0 to it, so that it stays quiet while remote changes are applied"

// checkUserTriggers refuses triggers that would make devices differ: of the tracked tables,
// and of one that is about to be; decl may be nil.
func (d *Device) checkUserTriggers(decl *vsql.Declaration) error {
	extra := ""
	if decl != nil {
		extra = decl.Name
	}
	found, err := d.restless(extra)
	if err != nil {
		return err
	}
	for name, table := range found {
		return fmt.Errorf("trigger %q on %q writes to a tracked table: what it writes was captured where the change was made, and would come twice; %s",
			name, table, quietTrigger)
	}
	return nil
}
