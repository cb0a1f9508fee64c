package capture

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A trigger is made of built-in functions only: the sqlite3 shell, Python or another
// process can write to the file, and the mutation is logged all the same.
type trigger struct{ name, text string }

// now is the unix time in milliseconds. unixepoch('subsec') is NULL before SQLite 3.42,
// and whoever writes may bring an old one.
const now = "CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER)"

const triggerPrefix = "_velosync_"

// triggers returns the triggers of a table, by name.
func (t *table) triggers() []trigger {
	keyKnown := func(prefix string) string { // SQLite lets keys be NULL; such a row has no name
		if t.d.WithoutRowID || t.d.IntegerKey {
			return ""
		}
		var s strings.Builder
		for _, k := range t.d.Key {
			if c := t.d.Columns[k]; !c.NotNull {
				s.WriteString(" AND " + prefix + vsql.Quote(c.Name) + " IS NOT NULL")
			}
		}
		return s.String()
	}
	weight := func(prefix string) string {
		if t.weight < 0 {
			return "NULL"
		}
		return prefix + vsql.Quote(t.d.Columns[t.weight].Name)
	}
	stepsColumns := ""
	if len(t.counters) > 0 {
		stepsColumns = ", steps"
	}
	if len(t.sets) > 0 {
		stepsColumns += ", sets"
	}
	name := triggerPrefix + t.d.Name
	fill := []string{
		"$TABLE", vsql.Quote(t.d.Name),
		"$ID", strconv.FormatInt(t.id, 10),
		"$NOW", now,
		"$NEW_KEY_KNOWN", keyKnown("NEW."), "$OLD_KEY_KNOWN", keyKnown("OLD."), "$O_KEY_KNOWN", keyKnown("o."),
		"$NEW_KEY", t.d.KeyExpression("NEW."), "$OLD_KEY", t.d.KeyExpression("OLD."), "$O_KEY", t.d.KeyExpression("o."),
		"$OLD_WEIGHT", weight("OLD."), "$O_WEIGHT", weight("o."),
		"$CHECKS", t.checkWeight() + t.checkCounters() + t.checkSets(),
		"$STEPS_ON", t.addTo("", "NEW.") + t.setsTo("", "NEW."), "$STEPS_OFF", t.addTo("OLD.", "") + t.setsTo("OLD.", ""),
		"$STEPS_BY", t.addTo("OLD.", "NEW.") + t.setsTo("OLD.", "NEW."), "$STEPS_GONE", t.addTo("o.", "") + t.noSets(),
		"$STEPS", stepsColumns,
		"$KEY_COLUMNS", strings.Join(t.keyColumns(), ", "),
		"$SAME_KEY", t.sameKey("OLD.", "NEW."),
		"$CHANGED", t.changed(),
	}
	fromTemplate := func(file, suffix string, extra ...string) trigger {
		f := append([]string{"$NAME", vsql.Quote(name + "_" + suffix)}, append(extra, fill...)...)
		return trigger{name + "_" + suffix, strings.TrimSpace(vsql.Fill(vsql.Device(file), f...))}
	}
	list := []trigger{fromTemplate("trigger_insert.sql.tmpl", "insert"), fromTemplate("trigger_delete.sql.tmpl", "delete"), fromTemplate("trigger_key.sql.tmpl", "key")}
	if len(t.registers[0]) > 0 {
		list = append(list, fromTemplate("trigger_update.sql.tmpl", "update"))
	}
	if len(t.d.Uniques) > 0 || len(t.counters) > 0 {
		var insert, update []string
		columns := map[string]bool{}
		if len(t.counters) > 0 { // what a REPLACE of the row itself takes from them, too
			match := t.match(vsql.UniqueIndex{Columns: t.d.KeyNames(), Collations: slices.Repeat([]string{"BINARY"}, len(t.d.Key))}) + " AND " + t.sameKey("o.", "NEW.")
			insert = append(insert, vsql.Fill(strings.TrimSpace(vsql.Device("evict.sql.tmpl")), append([]string{"$MATCH", match, "$NOT_ITSELF", ""}, fill...)...))
			update = append(update, vsql.Fill(strings.TrimSpace(vsql.Device("evict.sql.tmpl")), append([]string{"$MATCH", match,
				"$NOT_ITSELF", " AND NOT (" + t.sameKey("o.", "OLD.") + ")"}, fill...)...))
			for _, c := range t.d.KeyNames() {
				columns[c] = true
			}
		}
		for _, u := range t.d.Uniques {
			match := t.match(u)
			insert = append(insert, vsql.Fill(strings.TrimSpace(vsql.Device("evict.sql.tmpl")), append([]string{"$MATCH", match,
				"$NOT_ITSELF", " AND NOT (" + t.sameKey("o.", "NEW.") + ")"}, fill...)...))
			update = append(update, vsql.Fill(strings.TrimSpace(vsql.Device("evict.sql.tmpl")), append([]string{"$MATCH", match,
				"$NOT_ITSELF", " AND NOT (" + t.sameKey("o.", "OLD.") + ")"}, fill...)...))
			for _, c := range u.Columns {
				columns[c] = true
			}
			if u.Where != "" {
				columns[""] = true // any column may matter
			}
		}
		event := "UPDATE"
		if !columns[""] {
			var names []string
			for c := range columns {
				names = append(names, vsql.Quote(c))
			}
			sort.Strings(names)
			event = "UPDATE OF " + strings.Join(names, ", ")
		}
		list = append(list,
			fromTemplate("trigger_evict.sql.tmpl", "evict_insert", "$EVENT", "INSERT", "$STATEMENTS", strings.Join(insert, "\n  ")),
			fromTemplate("trigger_evict.sql.tmpl", "evict_update", "$EVENT", event, "$STATEMENTS", strings.Join(update, "\n  ")))
	}
	sort.Slice(list, func(i, j int) bool { return list[i].name < list[j].name })
	return list
}

func (t *table) keyColumns() []string {
	names := make([]string, len(t.d.Key))
	for i, k := range t.d.Key {
		names[i] = vsql.Quote(t.d.Columns[k].Name)
	}
	return names
}

// differ is true when two columns hold different values: byte by byte, whatever the
// column's collation, and by type, since 1 and 1.0 are equal to SQLite.
func differ(a, b string) string {
	return fmt.Sprintf("(%s IS NOT (%s COLLATE BINARY) OR typeof(%s) <> typeof(%s))", a, b, a, b)
}

func (t *table) sameKey(a, b string) string {
	parts := make([]string, len(t.d.Key))
	for i, k := range t.d.Key {
		col := vsql.Quote(t.d.Columns[k].Name)
		parts[i] = "NOT " + differ(a+col, b+col)
	}
	return strings.Join(parts, " AND ")
}

// changed is the mask of the registers whose values an update really changed. The LIMIT
// that the trigger puts behind it keeps SQLite from computing it twice, for the log row and
// for the condition that it is not 0.
func (t *table) changed() string {
	parts := make([]string, 0, len(t.registers))
	for r, cols := range t.registers {
		any := make([]string, len(cols))
		for i, c := range cols {
			col := vsql.Quote(t.d.Columns[c].Name)
			any[i] = differ("OLD."+col, "NEW."+col)
		}
		if len(any) > 0 {
			parts = append(parts, "(("+strings.Join(any, " OR ")+") << "+strconv.Itoa(r)+")")
		}
	}
	return strings.Join(parts, " | ")
}

// checkWeight refuses what could not be compared on another device: the column was
// declared to be the weight, so a wrong one is the writer's error, and told at once. Text
// and blobs sort after all numbers, and NULL is no answer to BETWEEN; the plus keeps a text
// column's affinity from the bounds. A list of types (typeof(…) IN …) would do too, but in
// a trigger SQLite fills it anew for each row, which is dearer than all else together.
func (t *table) checkWeight() string {
	if t.weight < 0 {
		return ""
	}
	col := "NEW." + vsql.Quote(t.d.Columns[t.weight].Name)
	text := fmt.Sprintf("velosync: %s.%s is the semantic weight: want NULL or a number within +-%g", t.d.Name, t.d.Columns[t.weight].Name, float64(change.MaxWeight))
	return fmt.Sprintf("SELECT RAISE(ABORT, %s) WHERE +%s NOT BETWEEN -%d AND %d;\n  ",
		vsql.QuoteText(text), col, int64(change.MaxWeight), int64(change.MaxWeight))
}

// match is the condition that row o stands in the way of NEW in a unique index.
func (t *table) match(u vsql.UniqueIndex) string {
	// In these subqueries the bare column names of an index's expressions mean one side's
	// columns, and nothing else that is in scope.
	of := func(prefix, expr string) string {
		cols := make([]string, len(t.d.Columns))
		for i, c := range t.d.Columns {
			cols[i] = prefix + vsql.Quote(c.Name) + " AS " + vsql.Quote(c.Name)
		}
		return "(SELECT (" + expr + ") FROM (SELECT " + strings.Join(cols, ", ") + "))"
	}
	var parts []string
	for i, c := range u.Columns {
		if c != "" {
			parts = append(parts, fmt.Sprintf("o.%s = NEW.%s COLLATE %s", vsql.Quote(c), vsql.Quote(c), vsql.Quote(u.Collations[i])))
			continue
		}
		e := u.Expressions[i]
		parts = append(parts, fmt.Sprintf("%s = %s COLLATE %s", of("o.", e), of("NEW.", e), vsql.Quote(u.Collations[i])))
	}
	if u.Where != "" {
		parts = append(parts, of("o.", u.Where), of("NEW.", u.Where))
	}
	return strings.Join(parts, " AND ")
}
