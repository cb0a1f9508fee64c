package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	vsql "github.com/velosync/velosync/sql"
)

// text prints a line for people; with --json there is none.
func (d *demo) text(format string, args ...any) {
	if !d.JSON {
		fmt.Fprintf(d.std.out, format+"\n", args...)
	}
}

// event prints a JSON object; without --json there is none.
func (d *demo) event(name string, fields record) {
	if d.JSON {
		// What fails here fails at the end too: the objects hold numbers and text.
		d.std.emit(record{}.add("event", name).join(fields))
	}
}

// heading begins a step.
func (d *demo) heading(format string, args ...any) {
	d.step++
	d.text("\n%s", d.bold(fmt.Sprintf("%d  %s", d.step, fmt.Sprintf(format, args...))))
}

func (d *demo) bold(s string) string { return d.std.paint(text.Bold, "%s", s) }
func (d *demo) dim(s string) string  { return d.std.paint(text.Faint, "%s", s) }
func (d *demo) good(s string) string { return d.std.paint(text.FgGreen, "%s", s) }

// join returns the fields of both records.
func (r record) join(o record) record {
	for i, name := range o.names {
		r = r.add(name, o.values[i])
	}
	return r
}

// clip shortens a text to at most width columns.
func clip(s string, width int) string { return snip(visible(s), width) }

// short is clip for an id in a sentence.
func short(id string) string { return clip(id, 20) }

func milliseconds(d time.Duration) string { return count(d.Milliseconds()) + " ms" }

// named is a database with its name for people.
type named struct {
	name string
	db   *database
}

// compareTables returns how many rows a table has, if it is the same table in all databases:
// the same rows, each value of the same type and, blobs and floats too, the same bits. Else
// the error names rows that differ. The key is the first column, a text.
func compareTables(ctx context.Context, table string, databases []named) (int, error) {
	var want []record
	for i, d := range databases {
		got, err := d.db.query(ctx, `SELECT * FROM `+vsql.Quote(table)+` ORDER BY 1`)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", d.name, err)
		}
		if i == 0 {
			want = got
			continue
		}
		if differences := differing(databases[0].name, want, d.name, got); len(differences) > 0 {
			return 0, fmt.Errorf("%s and %s differ: %s", databases[0].name, d.name, strings.Join(differences, "; "))
		}
	}
	if len(want) == 0 {
		return 0, errors.New("there is no row to compare")
	}
	return len(want), nil
}

// differing describes the first few rows in which two tables, ordered by key, are not the same.
func differing(oneName string, one []record, otherName string, other []record) []string {
	const most = 5
	var list []string
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if len(one) > 0 && len(other) > 0 && !slices.Equal(one[0].names, other[0].names) {
		say("%s has the columns %v, %s has %v", oneName, one[0].names, otherName, other[0].names)
		return list
	}
	key := func(r record) string { return fmt.Sprint(r.values[0]) }
	for i, j := 0, 0; len(list) < most && (i < len(one) || j < len(other)); {
		switch {
		case j == len(other) || i < len(one) && key(one[i]) < key(other[j]):
			say("only %s has %s", oneName, key(one[i]))
			i++
		case i == len(one) || key(one[i]) > key(other[j]):
			say("only %s has %s", otherName, key(other[j]))
			j++
		default:
			for c, name := range one[i].names {
				if a, b := one[i].values[c], other[j].values[c]; !sameValue(a, b) {
					say("%s of %s is %s on %s and %s on %s", name, key(one[i]), clip(fmt.Sprint(a), 40), oneName, clip(fmt.Sprint(b), 40), otherName)
				}
			}
			i, j = i+1, j+1
		}
	}
	return list
}

// sameValue compares two SQLite values with their types, floats bit by bit.
func sameValue(a, b any) bool {
	switch a := a.(type) {
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case float64:
		b, ok := b.(float64)
		return ok && math.Float64bits(a) == math.Float64bits(b)
	}
	if _, ok := b.([]byte); ok {
		return false
	}
	return a == b
}
