package capture

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A user's trigger fires on apply too: a full-text index must follow. But what it writes
// to a tracked table would not be logged then, and its author's device has captured the
// same already: the devices would differ for ever. So what it inserts and updates there is
// left out while remote changes are applied. A DELETE can't be left out: such a trigger must
// stay quiet by itself, as ours do.

// userTriggers looks at the user's triggers of the tracked tables, of extra, and of those that
// foreign keys' actions reach from there, that write to a tracked table or to extra without asking whether remote changes are applied. writes
// says that some insert or update; deletes are those that delete, name to table.
func (d *Device) userTriggers(extra string) (writes bool, deletes map[string]string, err error) {
	names := []string{}
	err = d.c.Query(`SELECT name FROM _velosync_table`, nil, func(v []change.Value) error {
		names = append(names, v[0].(string))
		return nil
	})
	if err != nil {
		return false, nil, err
	}
	if extra != "" {
		names = append(names, extra)
	}
	if len(names) == 0 {
		return false, nil, nil
	}
	fires, err := d.acted(names)
	if err != nil {
		return false, nil, err
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = regexp.QuoteMeta(n)
	}
	to := "\\s+[\"'`\\[]?(" + strings.Join(quoted, "|") + ")(\\W|$)"
	write := regexp.MustCompile(`(?is)\b(INTO|UPDATE(\s+OR\s+\w+)?)` + to)
	remove := regexp.MustCompile(`(?is)\bDELETE\s+FROM` + to)
	deletes = map[string]string{}
	err = d.c.Query(`SELECT name, tbl_name, sql FROM main.sqlite_schema WHERE type = 'trigger' AND substr(name, 1, 10) <> '_velosync_'`, nil, func(v []change.Value) error {
		name, table, text := v[0].(string), v[1].(string), v[2].(string)
		body := text
		if i := strings.Index(strings.ToUpper(text), "BEGIN"); i >= 0 {
			body = text[i:]
		}
		if strings.Contains(text, "_velosync_state") {
			return nil
		}
		// Of another table too: a trigger of a tracked one may write there.
		writes = writes || write.MatchString(body)
		if fires[strings.ToLower(table)] && remove.MatchString(body) {
			deletes[name] = table
		}
		return nil
	})
	return writes, deletes, err
}

// acted returns these tables and those that refer to them, and so on, in lower case: where
// rows are written while remote changes are applied.
func (d *Device) acted(names []string) (map[string]bool, error) {
	referring, err := d.c.Referring()
	if err != nil {
		return nil, err
	}
	children := make(map[string][]string)
	for child, parents := range referring {
		for _, p := range parents {
			children[strings.ToLower(p)] = append(children[strings.ToLower(p)], strings.ToLower(child))
		}
	}
	all := make(map[string]bool)
	var add func(name string)
	add = func(name string) {
		if !all[name] {
			all[name] = true
			for _, c := range children[name] {
				add(c)
			}
		}
	}
	for _, n := range names {
		add(strings.ToLower(n))
	}
	return all, nil
}

const quietTrigger = "add WHEN (SELECT applying FROM _velosync_state) = 0 to it, so that it stays quiet while remote changes are applied"

// checkUserTriggers refuses triggers that would make devices differ: of the tracked tables,
// and of one that is about to be; decl may be nil. It remembers whether others have to be
// kept quiet.
func (d *Device) checkUserTriggers(decl *vsql.Declaration) error {
	extra := ""
	if decl != nil {
		extra = decl.Name
	}
	writes, deletes, err := d.userTriggers(extra)
	if err != nil {
		return err
	}
	for name, table := range deletes {
		return fmt.Errorf("trigger %q on %q deletes from a tracked table: what it deletes was captured where the change was made, and would be deleted twice; %s",
			name, table, quietTrigger)
	}
	d.loud = writes
	return nil
}

// quietly runs f, which applies remote changes, in a transaction: user's triggers write
// nothing to tracked tables meanwhile. ErrMoved: our triggers do not stand as Mend left them.
func (d *Device) quietly(f func() error) error {
	if watched, err := d.watched(); err != nil {
		return err
	} else if !watched {
		return ErrMoved // what no trigger logged is not to be written over
	}
	if err := d.refresh(); err != nil {
		return err
	}
	if d.calm != d.schemaVersion { // a trigger was made since the round began
		if err := d.checkUserTriggers(nil); err != nil {
			return err
		}
		d.calm = d.schemaVersion
	}
	if !d.loud {
		return f()
	}
	names := make([]string, len(d.tables))
	for i, t := range d.tables {
		names[i] = t.d.Name
	}
	return d.c.Quiet(names, f)
}
