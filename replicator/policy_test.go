package replicator_test

import (
	"strings"
	"testing"

	"github.com/velosync/velosync/masterd/masterdtest"
)

const pages = `CREATE TABLE pages(id TEXT PRIMARY KEY NOT NULL, title TEXT, read_to INT, first_read TEXT, embedding BLOB)`
const trackPages = `SELECT velosync_track('pages', '{"merge":{"READ_TO":"max","first_read":"min"}}')`

// pair returns two devices that hold what the first one wrote.
func pair(t *testing.T, script ...string) (*masterdtest.Master, *device, *device) {
	t.Helper()
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(script...)
	a.sync()
	b.sync()
	return m, a, b
}

// settle lets devices sync until all know all.
func settle(devices ...*device) {
	for range 2 {
		for _, d := range devices {
			d.sync()
		}
	}
}

func TestPolicy_maxAndMin(t *testing.T) {
	_, a, b := pair(t, pages, trackPages, `INSERT INTO pages VALUES ('p', 'one', 3, '2026-05-01', x'00000000')`)
	a.exec(`UPDATE pages SET read_to = 9, title = 'two'`)
	b.exec(`UPDATE pages SET read_to = 5, first_read = '2026-04-01'`)
	settle(a, b)
	a.want(`SELECT id, title, read_to, first_read FROM pages`, "p two 9 2026-04-01")
	b.want(`SELECT id, title, read_to, first_read FROM pages`, "p two 9 2026-04-01")
	b.want(`SELECT count(*) FROM velosync_conflicts`, "0")

	// Whoever has seen the 9 may lower it.
	b.exec(`UPDATE pages SET read_to = 1`)
	settle(b, a)
	a.want(`SELECT read_to FROM pages`, "1")

	// The policies go with the columns' names.
	a.exec(`ALTER TABLE pages RENAME COLUMN read_to TO up_to`)
	settle(a)
	a.exec(`UPDATE pages SET up_to = 40`)
	b.exec(`UPDATE pages SET read_to = 30`)
	settle(b, a)
	a.want(`SELECT up_to FROM pages`, "40")
	b.want(`SELECT read_to FROM pages`, "40")
	b.want(`SELECT count(*) FROM velosync_conflicts`, "0")
}

func TestPolicy_expression(t *testing.T) {
	_, a, b := pair(t, `CREATE TABLE pages(id TEXT PRIMARY KEY NOT NULL, title TEXT, read_to INT, score REAL)`,
		`SELECT velosync_track('pages', '{"weight":"score","merge":{"TITLE":"mine || '' / '' || theirs","read_to":"json(mine)"}}')`,
		`INSERT INTO pages VALUES ('p', 'one', 3, 1)`)
	a.exec(`UPDATE pages SET title = 'from a'`)
	b.exec(`UPDATE pages SET title = 'from b', read_to = '7', score = 2`) // the heavier one
	settle(a, b)
	for _, d := range []*device{a, b} {
		d.want(`SELECT title, read_to FROM pages`, "from b / from a 7")
		d.want(`SELECT count(*) FROM velosync_conflicts`, "0")
	}
	a.exec(`UPDATE pages SET title = 'one'`) // has seen both
	a.exec(`UPDATE pages SET read_to = 'no JSON'`)
	b.exec(`UPDATE pages SET read_to = 'this neither', score = 3`)
	settle(b, a)
	for _, d := range []*device{a, b} {
		d.want(`SELECT title, read_to FROM pages`, "one this neither")
	}
	a.want(`SELECT rule, reason FROM velosync_conflicts`, "weight column read_to: merge expression: malformed JSON")
}

func TestPolicy_refusedAtTrack(t *testing.T) {
	d := newDevice(t, masterdtest.New(t, masterdtest.Options{}), "a", nil)
	d.exec(pages)
	for options, want := range map[string]string{
		`{"merge":{"read_to":"most"}}`:                               `merge policy "most" is not known`,
		`{"merge":{"pages":"max"}}`:                                  `no stored column of "pages"`,
		`{"merge":{"id":"max"}}`:                                     `in the primary key`,
		`{"merge":{"read_to":3}}`:                                    `want "max", "min", "counter", "set" or an SQL expression`,
		`{"merge":{"read_to":"max(mine, title)"}}`:                   `no such column: title`,
		`{"merge":{"read_to":"mine + random()"}}`:                    `not authorized to use function: random`,
		`{"merge":{"read_to":"(SELECT 1) + mine"}}`:                  `column "read_to": merge expression`,
		`{"weight":"read_to","merge":{"read_to":"max"}}`:             `is the weight`,
		`{"groups":[["title","read_to"]],"merge":{"read_to":"max"}}`: `in a group`,
	} {
		_, err := d.db.Exec(`SELECT velosync_track('pages', ?)`, options)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", options, err, want)
		}
	}
}
