// Package vsql holds VeloSync's SQL and what every user of it needs: the embedded
// files, identifiers quoted in one way, a connection that prepares a statement once,
// and the reading of a table's declaration. Import it as vsql.
//
//	err := c.Script(vsql.Device("0001_state.sql"))
package vsql

import (
	"embed"
	"strings"
)

//go:embed device/* master/* postgres/*
var files embed.FS

// Device returns the text of sql/device/name. It panics when there is no such file.
func Device(name string) string { return read("device/" + name) }

// Master returns the text of sql/master/name. It panics when there is no such file.
func Master(name string) string { return read("master/" + name) }

// Postgres returns the text of sql/postgres/name. It panics when there is no such file.
func Postgres(name string) string { return read("postgres/" + name) }

func read(name string) string {
	b, err := files.ReadFile(name)
	if err != nil {
		panic("vsql: " + err.Error()) // the name is a constant of the program
	}
	return string(b)
}

// Quote returns name as an SQL identifier.
func Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// QuoteText returns s as an SQL text literal, for the few places where SQLite takes no
// parameter, such as a trigger's body.
func QuoteText(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }

// Fill replaces $NAME in a template by its value; names are pairs of name and value.
func Fill(template string, names ...string) string {
	return strings.NewReplacer(names...).Replace(template)
}
