package replicator_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/masterd/server"
	"github.com/velosync/velosync/masterd/store"
	"github.com/velosync/velosync/replicator"
)

// A stopped clock is one that everybody reads, so that no skew is measured.
var stopped = time.UnixMilli(1_900_000_000_000)

func stoppedMaster(t *testing.T) *masterdtest.Master {
	now := func() time.Time { return stopped }
	return masterdtest.New(t, masterdtest.Options{Log: quiet, Server: server.Options{Rate: -1, Now: now}, Store: store.Options{Now: now}})
}

// stoppedDevices returns n devices whose ids are 1, 2, …
func stoppedDevices(t *testing.T, m *masterdtest.Master, n int) []*device {
	var list []*device
	for i := range n {
		list = append(list, newDevice(t, m, string(rune('a'+i)), func(o *replicator.Options) {
			o.Now, o.Log = func() time.Time { return stopped }, quiet
		}).called(byte(i+1)))
	}
	return list
}

// at sets the time of all that is pending, in seconds after the clocks stopped.
func (d *device) at(second int) {
	d.t.Helper()
	d.exec(fmt.Sprintf(`UPDATE _velosync_wal SET at = %d WHERE lsn > (SELECT acked FROM _velosync_state)`, stopped.UnixMilli()+1000*int64(second)))
}

// TestScenario_09_ties: concurrent edits of equal weight and time, by 2 to 5 devices, in
// all orders of arrival: the greatest device id stays, on every replica. Of the 120 orders
// of five make test takes every fifth.
func TestScenario_09_ties(t *testing.T) {
	m := stoppedMaster(t)
	devices := stoppedDevices(t, m, 5)
	a := devices[0]
	a.exec(notes, trackNotes)
	type trial struct {
		key   string
		order []int
	}
	var trials []trial
	for n := 2; n <= len(devices); n++ {
		for i, order := range permutations(n) {
			if n == 5 && i%sized(5, 1) != 0 {
				continue
			}
			key := fmt.Sprint(order)
			trials = append(trials, trial{key, order})
			a.exec(fmt.Sprintf(`INSERT INTO notes VALUES ('%s', 'base', 'base', 1)`, key))
		}
	}
	settled(t, m, devices...)
	lost := make([]int, len(devices))
	var want []string
	for _, x := range trials {
		for _, i := range x.order { // the row that all know, and one that all make
			d := devices[i]
			d.exec(fmt.Sprintf(`UPDATE notes SET title = 'by %d' WHERE id = '%s'`, i, x.key),
				fmt.Sprintf(`INSERT INTO notes VALUES ('made %[2]s', 'by %[1]d', 'by %[1]d', 1)`, i, x.key))
			d.at(0)
			if i < len(x.order)-1 {
				lost[i] += 2
			}
		}
		for _, i := range x.order {
			devices[i].sync()
		}
		last := fmt.Sprintf("by %d", len(x.order)-1)
		want = append(want, fmt.Sprintf("%s %s base 1", x.key, last), fmt.Sprintf("made %s %[2]s %[2]s 1", x.key, last))
	}
	settled(t, m, devices...)
	if got := a.rows(`SELECT * FROM notes ORDER BY replace(id, 'made ', ''), id LIKE 'made%'`); sortedLines(got) != sortedLines(strings.Join(want, "\n")) {
		t.Errorf("not the greatest id stayed: %s", firstDifference(sortedLines(got), sortedLines(strings.Join(want, "\n"))))
	}
	for i, d := range devices {
		d.want(`SELECT count(*), coalesce(min(rule), 'device'), coalesce(max(rule), 'device') FROM velosync_conflicts`, fmt.Sprint(lost[i], " device device"))
	}
}

// TestScenario_10_loserEditsAgain: of three concurrent edits two lose. A loser who writes
// once more before it knows is concurrent still; one who has seen the winner follows it.
// An edit weighs what its row weighs when it ships, so each sets its weight.
func TestScenario_10_loserEditsAgain(t *testing.T) {
	for _, x := range []struct {
		name  string
		again string // a's second edit
		late  bool   // made after the pull was applied
		want  string
		lost  string // by a
	}{
		{"lighter, before it knows", `UPDATE notes SET title = 'a again', score = -1`, false, "by c", `{"title":"by a"},{"title":"a again","score":-1.0}`},
		{"heavier, before it knows", `UPDATE notes SET title = 'a again', score = 9`, false, "a again", `{"title":"by a"}`},
		{"lighter, when it knows", `UPDATE notes SET title = 'a again', score = -5`, true, "a again", `{"title":"by a"}`},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := masterdtest.New(t, masterdtest.Options{})
			var again func()
			a := newDevice(t, m, "a", func(o *replicator.Options) {
				o.Step = func(step string) error {
					if step == "apply" && again != nil {
						again()
						again = nil
					}
					return nil
				}
			})
			b, c := newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
			a.exec(`CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, score REAL)`, trackNotes, `INSERT INTO notes VALUES ('x', 'base', 'base', 0)`)
			settled(t, m, a, b, c)
			a.exec(`UPDATE notes SET title = 'by a'`)
			b.exec(`UPDATE notes SET title = 'by b', score = 2`)
			c.exec(`UPDATE notes SET title = 'by c', score = 3`)
			c.sync()
			b.sync()
			if x.late {
				a.sync()
				a.exec(x.again)
			} else {
				again = func() { a.exec(x.again) }
			}
			settled(t, m, a, b, c)
			b.want(`SELECT title FROM notes`, x.want)
			a.want(`SELECT group_concat(mine) FROM (SELECT mine FROM velosync_conflicts ORDER BY id)`, x.lost)
			b.want(`SELECT mine FROM velosync_conflicts`, `{"title":"by b","score":2.0}`)
			if x.want == "a again" && !x.late {
				c.want(`SELECT json_extract(mine, '$.title') FROM velosync_conflicts`, "by c")
			}
		})
	}
}

// TestScenario_11_editBetweenPushAndApply: what the application writes while the answer is
// on its way stays on top of it, and is resolved in the next round.
func TestScenario_11_editBetweenPushAndApply(t *testing.T) {
	for _, x := range []struct{ name, theirs, mine, shown, want, lost string }{
		{"the same column", `UPDATE notes SET title = 'theirs' WHERE id = 'x'`, `UPDATE notes SET title = 'mine', score = 2 WHERE id = 'x'`,
			"x mine green 2", "x mine green 2", ""},
		{"the same column, lighter", `UPDATE notes SET title = 'theirs', score = 5 WHERE id = 'x'`, `UPDATE notes SET title = 'mine', score = 2 WHERE id = 'x'`,
			"x mine green 2", "x theirs green 5", `{"title":"mine","score":2.0}`},
		{"another column", `UPDATE notes SET title = 'theirs' WHERE id = 'x'`, `UPDATE notes SET body = 'mine' WHERE id = 'x'`,
			"x theirs mine 1", "x theirs mine 1", ""},
		{"an update of what is deleted", `DELETE FROM notes WHERE id = 'x'`, `UPDATE notes SET title = 'mine', score = 2 WHERE id = 'x'`,
			"x mine green 2", "x mine green 2", ""},
		{"a delete of what is updated", `UPDATE notes SET title = 'theirs', score = 5 WHERE id = 'x'`, `DELETE FROM notes WHERE id = 'x'`,
			"", "x theirs green 5", "a delete"},
		{"a delete of what is deleted", `DELETE FROM notes WHERE id = 'x'`, `DELETE FROM notes WHERE id = 'x'`, "", "", ""},
		{"the same key inserted", `INSERT INTO notes VALUES ('new', 'theirs', 'theirs', 5)`, `INSERT INTO notes VALUES ('new', 'mine', 'mine', 1)`,
			"new mine mine 1\nx tea green 1", "new theirs theirs 5\nx tea green 1", `{"title":"mine","body":"mine","score":1.0}`},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := masterdtest.New(t, masterdtest.Options{})
			var write func()
			a := newDevice(t, m, "a", func(o *replicator.Options) {
				o.Step = func(step string) error {
					if step == "apply" && write != nil {
						write()
						write = nil
					}
					return nil
				}
			})
			b := newDevice(t, m, "b", nil)
			a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
			settled(t, m, a, b)
			b.exec(x.theirs)
			b.sync()
			write = func() { a.exec(x.mine) }
			if r := a.sync(); r.LostRows != 0 {
				t.Errorf("%+v: the edit was not pushed, and lost", r)
			}
			a.want(allNotes, x.shown)
			settled(t, m, a, b)
			b.want(allNotes, x.want)
			a.want(`SELECT coalesce(group_concat(coalesce(mine, 'a delete')), '') FROM velosync_conflicts`, x.lost)
		})
	}
}

// TestScenario_12_deletes: a delete against an update, another delete, and a row made anew,
// in both orders of arrival.
func TestScenario_12_deletes(t *testing.T) {
	for _, x := range []struct{ name, a, b, want, lostA, lostB string }{
		{"update outranks delete", `DELETE FROM notes`, `UPDATE notes SET title = 'b', score = 5`, "x b green 5", "a delete", ""},
		{"delete outranks update", `DELETE FROM notes`, `UPDATE notes SET title = 'b', score = -5`, "", "", `{"title":"b","score":-5.0}`},
		{"delete and delete", `DELETE FROM notes`, `DELETE FROM notes`, "", "", ""},
		{"both make it anew", `DELETE FROM notes; INSERT INTO notes VALUES ('x', 'a', 'a', 3)`, `DELETE FROM notes; INSERT INTO notes VALUES ('x', 'b', 'b', 4)`,
			"x b b 4", `{"title":"a","body":"a","score":3.0}`, ""},
		{"one makes it anew, the other deletes", `DELETE FROM notes; INSERT INTO notes VALUES ('x', 'a', 'a', 3)`, `DELETE FROM notes`, "x a a 3", "", "a delete"},
		{"one makes it anew, the other updates a column", `DELETE FROM notes; INSERT INTO notes VALUES ('x', 'a', 'a', 3)`, `UPDATE notes SET title = 'b', score = 9`,
			"x b a 9", `{"title":"a","score":3.0}`, ""},
		{"made and deleted before anyone saw it", `DELETE FROM notes; INSERT INTO notes VALUES ('y', 'a', 'a', 3); DELETE FROM notes`, `UPDATE notes SET title = title`, "", "", ""},
	} {
		for _, first := range []string{"a", "b"} {
			t.Run(x.name+", "+first+" first", func(t *testing.T) {
				m := masterdtest.New(t, masterdtest.Options{})
				a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
				a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
				settled(t, m, a, b, c)
				a.exec(x.a)
				b.exec(x.b)
				if first == "a" {
					a.sync()
				}
				settled(t, m, b, a, c)
				c.want(allNotes, x.want)
				const lost = `SELECT coalesce(group_concat(coalesce(mine, 'a delete')), '') FROM velosync_conflicts`
				a.want(lost, x.lostA)
				b.want(lost, x.lostB)
			})
		}
	}
	// A new device, and one that was offline all the time, hear of the delete of a row that
	// they never had.
	t.Run("delete seen without its insert", func(t *testing.T) {
		m := masterdtest.New(t, masterdtest.Options{})
		a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
		a.exec(notes, trackNotes)
		settled(t, m, a, b)
		a.exec(`INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
		a.sync()
		a.exec(`DELETE FROM notes`)
		a.sync()
		c := newDevice(t, m, "c", nil)
		settled(t, m, c, b, a)
		c.want(`SELECT count(*) FROM notes`, "0")
	})
	// After a restore the master gets the delete from b before a pushes back the insert. It does
	// not know the row, and keeps the delete all the same.
	t.Run("delete pushed before its insert", func(t *testing.T) {
		m := masterdtest.New(t, masterdtest.Options{})
		a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
		a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('stays', 'soup', 'hot', 1)`)
		settled(t, m, a, b)
		restore := backup(t, m)
		a.exec(`INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
		settled(t, m, a, b)
		restore()
		b.exec(`DELETE FROM notes WHERE id = 'x'`)
		b.sync()
		settled(t, m, a, b)
		b.want(allNotes, "stays soup hot 1")
		a.want(`SELECT "key", kind FROM velosync_conflicts`, "x update-lost-to-delete")
	})
}

// TestScenario_13_weightNeverBeatsCausality: an edit that has seen another one replaces it,
// however light, and whatever the clocks say.
func TestScenario_13_weightNeverBeatsCausality(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'heavy', 'heavy', 1000000000)`)
	a.exec(`UPDATE _velosync_wal SET at = at + 3600000`) // an hour ahead
	settled(t, m, a, b, c)
	b.exec(`UPDATE notes SET title = 'light', body = 'light', score = -1000000000`, `UPDATE _velosync_wal SET at = 1000`) // and in 1970
	settled(t, m, b, a, c)
	c.want(allNotes, "x light light -1e+09")
	c.exec(`DELETE FROM notes`, `UPDATE _velosync_wal SET at = 1`)
	settled(t, m, c, a, b)
	a.exec(`INSERT INTO notes VALUES ('x', 'again', '', NULL)`, `UPDATE _velosync_wal SET at = 1`)
	settled(t, m, a, b, c)
	c.want(`SELECT title FROM notes`, "again")
	for _, d := range []*device{a, b, c} {
		d.want(`SELECT count(*) FROM velosync_conflicts`, "0")
	}
}

// TestScenario_14_weights: all pairs of odd weights, in both orders of arrival: they rank
// as numbers do, NULL as 0, and equal ones by device. What is no number is refused where it
// is written.
func TestScenario_14_weights(t *testing.T) {
	weights := []struct {
		sql  string
		rank int // equal ranks are equal weights
	}{
		{"-1000000000", 0}, {"-1e-300", 1}, {"-0.0", 2}, {"0", 2}, {"NULL", 2}, {"9e999 - 9e999", 2}, // the last is NaN, which SQLite makes NULL
		{"5e-324", 3}, {"0.1", 4}, {"1", 5}, {"1.0", 5}, {"1000000000", 6},
	}
	m := stoppedMaster(t)
	devices := stoppedDevices(t, m, 2)
	a, b := devices[0], devices[1]
	a.exec(`CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, score)`, trackNotes) // no affinity: every type is kept
	for _, order := range [][]*device{{a, b}, {b, a}} {
		first := order[0].o.Name
		var want []string
		for i := range weights {
			for j := range weights {
				a.exec(fmt.Sprintf(`INSERT INTO notes VALUES ('%s %d %d', 'base', '', 0)`, first, i, j))
			}
		}
		settled(t, m, a, b)
		for i, w := range weights {
			for j, v := range weights {
				// The weight itself is a register too, which would differ by its own value: both
				// write it, and what is compared is the title.
				key := fmt.Sprintf("%s %d %d", first, i, j)
				a.exec(fmt.Sprintf(`UPDATE notes SET title = 'a', score = %s WHERE id = '%s'`, w.sql, key))
				b.exec(fmt.Sprintf(`UPDATE notes SET title = 'b', score = %s WHERE id = '%s'`, v.sql, key))
				if w.rank > v.rank {
					want = append(want, key+" a")
				} else {
					want = append(want, key+" b") // equal: the greater id
				}
			}
		}
		a.at(0)
		b.at(0)
		order[0].sync()
		settled(t, m, order[1], order[0])
		if got := sortedLines(a.rows(`SELECT id, title FROM notes WHERE id LIKE '` + first + `%'`)); got != sortedLines(strings.Join(want, "\n")) {
			t.Errorf("%s first: %s", first, firstDifference(got, sortedLines(strings.Join(want, "\n"))))
		}
	}
	for _, bad := range []string{"9e999", "-9e999", "'high'", "'1'", "x'31'", "1000000001", "''"} {
		if _, err := a.db.Exec(`UPDATE notes SET score = ` + bad); err == nil || !strings.Contains(err.Error(), "semantic weight") {
			t.Errorf("weight %s: %v, want it refused", bad, err)
		}
	}
	// Written while no trigger watched, it counts as 0 and holds nothing up.
	for _, trigger := range strings.Split(a.rows(`SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'notes'`), "\n") {
		a.exec(`DROP TRIGGER ` + trigger)
	}
	a.exec(`UPDATE notes SET title = 'text', score = 'high' WHERE id = 'a 0 0'`)
	b.exec(`UPDATE notes SET title = 'a little more', score = 0.5 WHERE id = 'a 0 0'`)
	settled(t, m, a, b)
	a.want(`SELECT title FROM notes WHERE id = 'a 0 0'`, "a little more")
	// No device can lack the column: it would rank by something else than the others.
	t.Run("missing column", func(t *testing.T) {
		m := masterdtest.New(t, masterdtest.Options{})
		a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
		a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
		a.sync()
		if _, err := a.db.Exec(`SELECT velosync_alter('notes', 'DROP COLUMN score')`); err == nil {
			t.Error("the weight column can be dropped")
		}
		b.exec(`CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT)`)
		if _, err := b.db.Exec(trackNotes); err == nil || !strings.Contains(err.Error(), `names "score"`) {
			t.Errorf("tracking by a weight that is no column: %v", err)
		}
		b.exec(`SELECT velosync_track('notes')`, `INSERT INTO notes VALUES ('y', 'soup', 'hot')`)
		if err := b.fails(); !strings.Contains(err.Error(), "options") {
			t.Errorf("another device's table has no weight: %v", err)
		}
		b.want(allNotes, "y soup hot")
		settled(t, m, a)
	})
}

// TestScenario_15_keys: keys that change, are exchanged, are of every kind, and are equal
// only by collation or affinity.
func TestScenario_15_keys(t *testing.T) {
	for _, x := range []struct {
		name, table    string
		options        string
		rows           string // VALUES for (key…, v)
		swap           []string
		a, b           string // concurrent inserts of keys that are equal to the index, if any
		rejected, want string
	}{
		{name: "text", table: `k TEXT PRIMARY KEY NOT NULL, v)`, rows: `('x', 1), ('y', 2), ('', 3), ('ünï🌍', 4), ('a' || char(0) || 'b', 5)`,
			swap: []string{`UPDATE t SET k = 'tmp' WHERE k = 'x'`, `UPDATE t SET k = 'x' WHERE k = 'y'`, `UPDATE t SET k = 'y' WHERE k = 'tmp'`}},
		{name: "blob", table: `k BLOB PRIMARY KEY NOT NULL, v)`, rows: `(x'01', 1), (x'02', 2), (x'', 3), (x'00', 4)`,
			swap: []string{`UPDATE t SET k = x'ff' WHERE k = x'01'`, `UPDATE t SET k = x'01' WHERE k = x'02'`, `UPDATE t SET k = x'02' WHERE k = x'ff'`}},
		{name: "composite", table: `k1 TEXT NOT NULL, k2 NOT NULL, v, PRIMARY KEY(k2, k1))`, rows: `('x', 1, 1), ('x', '1', 2), ('x', x'31', 3), ('y', 1.5, 4)`,
			swap: []string{`UPDATE t SET k1 = 'tmp' WHERE k1 = 'x' AND k2 = 1`, `UPDATE t SET k2 = 1 WHERE k1 = 'x' AND k2 = '1'`, `UPDATE t SET k1 = 'x', k2 = '1' WHERE k1 = 'tmp'`}},
		{name: "without rowid", table: `k TEXT NOT NULL, n INT NOT NULL, v, PRIMARY KEY(k, n))`, options: ` WITHOUT ROWID`, rows: `('x', 1, 1), ('x', 2, 2)`,
			swap: []string{`UPDATE t SET n = 3 WHERE n = 1`, `UPDATE t SET n = 1 WHERE n = 2`, `UPDATE t SET n = 2 WHERE n = 3`}},
		{name: "integer", table: `k INT PRIMARY KEY NOT NULL, v)`, rows: `(9223372036854775807, 1), (-9223372036854775808, 2), (0, 3)`,
			swap: []string{`UPDATE t SET k = 7 WHERE k = 0`}},
		{name: "equal by collation", table: `k TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, v)`, rows: `('x', 1), ('y', 2)`,
			swap: []string{`UPDATE t SET k = 'X' WHERE k = 'x'`}, a: `INSERT INTO t VALUES ('Key', 'a')`, b: `INSERT INTO t VALUES ('KEY', 'b')`, rejected: "UNIQUE", want: "Key"},
		{name: "equal by value", table: `k PRIMARY KEY NOT NULL, v)`, rows: `('x', 1)`,
			swap: []string{`UPDATE t SET k = x'78' WHERE k = 'x'`}, a: `INSERT INTO t VALUES (1, 'a'), ('1', 'text')`, b: `INSERT INTO t VALUES (1.0, 'b')`, rejected: "UNIQUE", want: "1"},
		{name: "one by affinity", table: `k TEXT PRIMARY KEY NOT NULL, v)`, rows: `('x', 1)`,
			swap: []string{`UPDATE t SET k = 5 WHERE k = 'x'`}, a: `INSERT INTO t VALUES (1, 'a')`, b: `INSERT INTO t VALUES ('1', 'b')`, want: "1"}, // the same key: a conflict, not a violation
	} {
		t.Run(x.name, func(t *testing.T) {
			m := masterdtest.New(t, masterdtest.Options{})
			a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
			a.exec(`CREATE TABLE t(`+x.table+x.options, `SELECT velosync_track('t')`, `INSERT INTO t VALUES `+x.rows)
			settled(t, m, a, b, c)
			// b edits a row whose key a changes: the row that b knew is gone, what stood there
			// and what b wrote is in the log or in the row.
			a.exec(x.swap...)
			a.sync()
			settled(t, m, b, a, c)
			a.exec(`UPDATE t SET v = 'by a'`)
			settled(t, m, a, b, c)
			b.want(`SELECT count(*) FROM t WHERE v = 'by a'`, a.rows(`SELECT count(*) FROM t`))
			for _, d := range []*device{a, b, c} {
				d.want(`SELECT count(*) FROM velosync_conflicts`, "0")
			}
			if x.a == "" {
				return
			}
			a.exec(x.a)
			b.exec(x.b)
			a.sync()
			b.sync()
			settled(t, m, a, b, c)
			c.want(`SELECT +k FROM t WHERE v IN ('a', 'b')`, x.want)
			if x.rejected != "" {
				if got := b.rows(`SELECT kind, reason FROM velosync_conflicts`); !strings.HasPrefix(got, "rejected") || !strings.Contains(got, x.rejected) {
					t.Errorf("b hears %q, want a rejection: %s", got, x.rejected)
				}
			} else if got := a.rows(`SELECT count(*) FROM velosync_conflicts`) + b.rows(`SELECT count(*) FROM velosync_conflicts`); got != "01" && got != "10" {
				t.Errorf("conflicts of a and b: %s, want one", got)
			}
		})
	}
	t.Run("changed here, edited there", func(t *testing.T) {
		m := masterdtest.New(t, masterdtest.Options{})
		a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
		a.exec(notes, trackNotes, threeNotes)
		settled(t, m, a, b, c)
		a.exec(`UPDATE notes SET id = 'renamed' WHERE id = 'x'`, `UPDATE notes SET id = 'renamed too' WHERE id = 'y'`)
		b.exec(`UPDATE notes SET body = 'light', score = 0 WHERE id = 'x'`, `UPDATE notes SET body = 'heavy', score = 2 WHERE id = 'y'`)
		a.sync()
		settled(t, m, b, a, c)
		c.want(allNotes, "renamed tea green 1\nrenamed too soup hot 1\ny soup heavy 2\nz rice white 1")
		b.want(`SELECT "key", mine FROM velosync_conflicts`, `x {"body":"light","score":0.0}`)
		a.want(`SELECT "key", coalesce(mine, 'a delete') FROM velosync_conflicts`, `y a delete`)
	})
}

const people = `CREATE TABLE people(id TEXT PRIMARY KEY NOT NULL, mail TEXT UNIQUE, boss TEXT REFERENCES people(id))`

// TestScenario_16_constraintsOfTheMerge: rows that are fine on their devices break a
// constraint once they meet: the later one is rejected alone, and nothing waits for it.
func TestScenario_16_constraintsOfTheMerge(t *testing.T) {
	for _, first := range []string{"a", "b"} {
		t.Run(first+" first", func(t *testing.T) {
			m := masterdtest.New(t, masterdtest.Options{})
			a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
			a.exec(people, `SELECT velosync_track('people')`, `INSERT INTO people VALUES ('boss', 'boss@x', NULL), ('old', 'old@x', NULL), ('two', 'two@x', NULL)`)
			settled(t, m, a, b, c)
			a.exec(`INSERT INTO people VALUES ('ann', 'ann@x', NULL), ('fine a', NULL, NULL)`, `UPDATE people SET mail = 'new@x' WHERE id = 'old'`, `DELETE FROM people WHERE id = 'boss'`)
			b.exec(`INSERT INTO people VALUES ('anna', 'ann@x', NULL), ('fine b', NULL, NULL)`, `UPDATE people SET mail = 'new@x' WHERE id = 'two'`, `INSERT INTO people VALUES ('kid', NULL, 'boss'), ('grandkid', NULL, 'kid')`)
			early, late := a, b
			if first == "b" {
				early, late = b, a
			}
			early.sync()
			if r := late.sync(); r.RejectedRows == 0 {
				t.Errorf("%+v: want rows rejected", r)
			}
			settled(t, m, a, b, c)
			if first == "a" {
				c.want(`SELECT id, mail, boss FROM people ORDER BY id`, "ann ann@x <nil>\nfine a <nil> <nil>\nfine b <nil> <nil>\nold new@x <nil>\ntwo two@x <nil>")
				b.want(`SELECT "key", substr(reason, 1, 11) FROM velosync_conflicts ORDER BY "key"`, "anna UNIQUE cons\ngrandkid FOREIGN KEY\nkid FOREIGN KEY\ntwo UNIQUE cons")
			} else {
				c.want(`SELECT id, mail, boss FROM people ORDER BY id`,
					"anna ann@x <nil>\nboss boss@x <nil>\nfine a <nil> <nil>\nfine b <nil> <nil>\ngrandkid <nil> kid\nkid <nil> boss\nold old@x <nil>\ntwo new@x <nil>")
				a.want(`SELECT "key", substr(reason, 1, 11) FROM velosync_conflicts ORDER BY "key"`, "ann UNIQUE cons\nboss FOREIGN KEY\nold UNIQUE cons")
			}
			early.want(`SELECT count(*) FROM velosync_conflicts`, "0")
			// What was rejected is there, to be settled; and the queue goes on.
			late.exec(`INSERT INTO people VALUES ('later', 'later@x', NULL)`)
			settled(t, m, late, early, c)
			c.want(`SELECT count(*) FROM people WHERE id = 'later'`, "1")
		})
	}
}

// TestScenario_17_parentAndChild: a parent deleted here, a child added there.
func TestScenario_17_parentAndChild(t *testing.T) {
	for _, action := range []string{"", "ON DELETE CASCADE", "ON DELETE SET NULL"} {
		for _, first := range []string{"parent", "child"} {
			t.Run(action+" "+first+" first", func(t *testing.T) {
				m := masterdtest.New(t, masterdtest.Options{})
				a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
				a.exec(`CREATE TABLE parent(id TEXT PRIMARY KEY NOT NULL, name TEXT)`, `CREATE TABLE child(id TEXT PRIMARY KEY NOT NULL, p TEXT REFERENCES parent(id) `+action+`)`,
					`SELECT velosync_track('parent'), velosync_track('child')`, `INSERT INTO parent VALUES ('p', 'x'), ('q', 'y')`, `INSERT INTO child VALUES ('of q', 'q')`)
				if action != "" {
					a.exec(`INSERT INTO child VALUES ('old', 'p')`)
				}
				settled(t, m, a, b, c)
				a.exec(`DELETE FROM parent WHERE id = 'p'`)
				b.exec(`INSERT INTO child VALUES ('new', 'p')`)
				if first == "parent" {
					a.sync()
					b.sync()
				} else {
					b.sync()
					a.sync()
				}
				settled(t, m, a, b, c)
				if first == "parent" { // the child is rejected
					c.want(`SELECT id FROM parent`, "q")
					c.want(`SELECT count(*) FROM child WHERE id = 'new'`, "0")
					b.want(`SELECT tbl, "key", kind, mine FROM velosync_conflicts`, `child new rejected {"p":"p"}`)
					// Its user can bring it back under another parent.
					b.exec(`SELECT velosync_resolve(id, 'theirs') FROM velosync_conflicts`, `INSERT INTO child VALUES ('new', 'q')`)
					settled(t, m, b, a, c)
					a.want(`SELECT p FROM child WHERE id = 'new'`, "q")
				} else { // the delete of the parent is
					c.want(`SELECT id FROM parent ORDER BY id`, "p\nq")
					c.want(`SELECT p FROM child WHERE id = 'new'`, "p")
					a.want(`SELECT tbl, "key", kind, coalesce(mine, 'a delete') FROM velosync_conflicts WHERE tbl = 'parent'`, `parent p rejected a delete`)
				}
				for _, d := range []*device{a, b, c} {
					d.want(`SELECT count(*) FROM pragma_foreign_key_check`, "0")
				}
			})
		}
	}
}

// TestScenario_17_writesDuringEachTry: the application breaks a key again while each answer
// is applied. The round ends all the same, no key is broken, and what could not stand comes
// in with the next one.
func TestScenario_17_writesDuringEachTry(t *testing.T) {
	for _, x := range []struct {
		name, remote, local   string // local: once a try, ? is its number
		parked, parents, kids string // after that round
		healed                string // parents, children
	}{
		{"children pulled, parents deleted", `INSERT INTO child(id, p) SELECT 'of ' || id, id FROM parent; INSERT INTO child(id, above) SELECT 'below ' || id, 'of ' || id FROM parent`,
			`DELETE FROM parent WHERE id = ?`, "below 5\nof 5", "1,2,3,4,6", "of 1,of 2,of 3,of 4,of 6", "6 12"},
		{"parents deleted, children made", `DELETE FROM parent`,
			`INSERT INTO child(id, p) VALUES ('mine ' || ?1, ?1)`, "5", "5", "mine 5", "0 0"},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := masterdtest.New(t, masterdtest.Options{})
			a, tries := newDevice(t, m, "a", nil), 0
			var b *device
			b = newDevice(t, m, "b", atStep("apply", func() error {
				if tries++; tries < 2 || tries > 6 { // the first is that of the empty file
					return nil
				}
				_, err := b.db.Exec(x.local, strconv.Itoa(tries-1))
				return err
			}))
			a.exec(`CREATE TABLE parent(id TEXT PRIMARY KEY NOT NULL)`, `CREATE TABLE child(id TEXT PRIMARY KEY NOT NULL, p TEXT REFERENCES parent(id), above TEXT REFERENCES child(id))`,
				`SELECT velosync_track('parent'), velosync_track('child')`, `INSERT INTO parent VALUES ('1'), ('2'), ('3'), ('4'), ('5'), ('6')`)
			a.sync()
			b.sync()
			for _, q := range strings.Split(x.remote, "; ") {
				a.exec(q)
			}
			a.sync()
			r := b.sync()
			if want := 1 + strings.Count(x.parked, "\n"); r.ParkedRows != want || r.Tries != 5 {
				t.Errorf("%d rows parked in try %d, want %d in the one after the fourth collision", r.ParkedRows, r.Tries, want)
			}
			b.want(`SELECT count(*) FROM pragma_foreign_key_check`, "0")
			b.want(`SELECT pk FROM _velosync_parked WHERE reason LIKE 'FOREIGN KEY: row%' ORDER BY pk`, x.parked)
			b.want(`SELECT group_concat(id) FROM (SELECT id FROM parent ORDER BY id)`, x.parents)
			b.want(`SELECT group_concat(id) FROM (SELECT id FROM child WHERE p IS NOT NULL ORDER BY id)`, x.kids)
			settled(t, m, b, a)
			a.want(`SELECT (SELECT count(*) FROM parent), (SELECT count(*) FROM child)`, x.healed)
			for _, d := range []*device{a, b} {
				d.want(`SELECT count(*) FROM pragma_foreign_key_check`, "0")
			}
		})
	}
}

// TestScenario_18_columnsAndRows: columns merge apart, the columns of a group as one, and
// a table with a vector whole.
func TestScenario_18_columnsAndRows(t *testing.T) {
	for _, x := range []struct{ name, table, track, want, lost string }{
		{"by column", `id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, extra TEXT`, `SELECT velosync_track('docs')`, "by a|by b|base", ""},
		{"by group", `id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, extra TEXT`, `SELECT velosync_track('docs', '{"groups":[["title","body"]]}')`, "base|by b|base", `{"title":"by a","body":"base"}`},
		{"another group", `id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, extra TEXT`, `SELECT velosync_track('docs', '{"groups":[["body","extra"]]}')`, "by a|by b|base", ""},
		{"a vector", `id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, extra TEXT, embedding BLOB`, `SELECT velosync_track('docs')`, "base|by b|base", `{"title":"by a","body":"base","extra":"base","embedding":null}`},
		{"a vector, apart", `id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, extra TEXT, embedding BLOB`, `SELECT velosync_track('docs', '{"groups":[]}')`, "by a|by b|base", ""},
	} {
		for _, first := range []string{"a", "b"} {
			t.Run(x.name+", "+first+" first", func(t *testing.T) {
				m := masterdtest.New(t, masterdtest.Options{})
				a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
				a.exec(`CREATE TABLE docs(`+x.table+`)`, x.track, `INSERT INTO docs(id, title, body, extra) VALUES ('x', 'base', 'base', 'base')`)
				settled(t, m, a, b, c)
				a.exec(`UPDATE docs SET title = 'by a'`)
				b.exec(`UPDATE docs SET body = 'by b'`, `UPDATE _velosync_wal SET at = at + 2000`)
				if first == "a" {
					a.sync()
				}
				settled(t, m, b, a, c)
				c.want(`SELECT title || '|' || body || '|' || extra FROM docs`, x.want)
				a.want(`SELECT coalesce(group_concat(mine), '') FROM velosync_conflicts`, x.lost)
				b.want(`SELECT count(*) FROM velosync_conflicts`, "0")
			})
		}
	}
}
