package capture

import (
	"fmt"
	"strings"

	vsql "github.com/velosync/velosync/sql"
)

// A Finding is something that is wrong with a device's tracking.
type Finding struct {
	Level string `json:"level"` // "error": writes are missed; "warning": something waits for you
	What  string `json:"what"`
	Where string `json:"where"` // the table
	Do    string `json:"do"`    // what mends it
}

// Doctor looks for writes that are not logged, and for rows that wait. It changes nothing.
func (d *Device) Doctor() ([]Finding, error) {
	var list []Finding
	if err := d.refresh(); err != nil {
		return []Finding{{"error", err.Error(), "", "make the table again, or untrack it"}}, nil
	}
	for _, t := range d.tables {
		got, err := d.ourTriggers(t.d.Name)
		if err != nil {
			return nil, err
		}
		if !sameTriggers(got, t.triggers()) {
			list = append(list, Finding{"error", "its triggers are missing or stale: writes may not be logged", t.d.Name,
				"velosync sync mends them and logs every row"})
		}
		var null []string
		for _, c := range t.keyColumns() {
			null = append(null, c+" IS NULL")
		}
		var n int
		if _, err := d.c.Row("SELECT count(*) FROM "+vsql.Quote(t.d.Name)+" WHERE "+strings.Join(null, " OR "), nil, &n); err != nil {
			return nil, err
		}
		if n > 0 {
			list = append(list, Finding{"error", fmt.Sprintf("%d rows have a NULL in their key: they have no name and stay on this device", n), t.d.Name,
				"give them a key, and declare the key NOT NULL"})
		}
	}
	_, deletes, err := d.userTriggers("")
	if err != nil {
		return nil, err
	}
	for name, table := range deletes {
		list = append(list, Finding{"error", fmt.Sprintf("trigger %q deletes from a tracked table, also while remote changes are applied: devices will differ", name), table, quietTrigger})
	}
	for _, q := range []struct{ query, level, what, do string }{
		{`SELECT count(*) FROM _velosync_parked`, "warning", "rows from the master that wait, since this file can't take them",
			"SELECT reason FROM _velosync_parked says why; they are tried again in each round"},
		{`SELECT count(*) FROM _velosync_conflict WHERE settled IS NULL`, "warning", "conflicts that are not settled", "velosync conflicts FILE lists them"},
	} {
		var n int
		if _, err := d.c.Row(q.query, nil, &n); err != nil {
			return nil, err
		}
		if n > 0 {
			list = append(list, Finding{q.level, fmt.Sprintf("%s: %d", q.what, n), "", q.do})
		}
	}
	return list, nil
}
