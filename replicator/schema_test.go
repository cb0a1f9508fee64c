package replicator_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/velosync/velosync/masterd/masterdtest"
)

func TestScenario_26_AddColumnOnOneDeviceFirst(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1), ('z', 'nuts', 'dry', 1)`)
	a.sync()
	b.sync()

	// What is written between the ALTER and the next round is not missed, and the rows that
	// nobody gave a value are not sent.
	a.exec(`ALTER TABLE notes ADD COLUMN lang TEXT DEFAULT 'en'`, `UPDATE notes SET lang = 'ja' WHERE id = 'x'`)
	if r := a.sync(); r.PushedRows != 1 {
		t.Errorf("a pushes %d rows, 1 has a value in the new column", r.PushedRows)
	}
	a.exec(`INSERT INTO notes VALUES ('v', 'pie', 'apple', 1, 'fr')`, `UPDATE notes SET title = 'hot soup' WHERE id = 'y'`)
	a.sync()

	// A device without the column goes on, both ways.
	b.exec(`UPDATE notes SET body = 'black' WHERE id = 'x'`, `INSERT INTO notes VALUES ('w', 'rice', 'white', 1)`, `DELETE FROM notes WHERE id = 'z'`)
	b.sync()
	b.want(`SELECT * FROM notes ORDER BY id`, "v pie apple 1\nw rice white 1\nx tea black 1\ny hot soup hot 1")
	a.sync()
	const all = `SELECT id, title, body, score, lang FROM notes ORDER BY id`
	const want = "v pie apple 1 fr\nw rice white 1 en\nx tea black 1 ja\ny hot soup hot 1 en"
	a.want(all, want)

	// When it gets the column, it gets what others wrote there, and keeps what it wrote.
	b.exec(`ALTER TABLE notes ADD COLUMN lang TEXT DEFAULT 'en'`, `UPDATE notes SET lang = 'zh' WHERE id = 'w'`)
	if r := b.sync(); r.PushedRows != 1 || r.PulledRows != 2 || r.LostRows != 0 {
		t.Errorf("b with its new column: %+v", r)
	}
	a.sync()
	a.want(all, strings.Replace(want, "white 1 en", "white 1 zh", 1))
	b.want(all, a.rows(all))
	if r := b.sync(); r.PushedRows+r.PulledRows != 0 {
		t.Errorf("b is done, and yet: %+v", r)
	}
	c := newDevice(t, m, "c", nil)
	c.sync()
	c.want(all, a.rows(all))
	c.want(`SELECT sql FROM sqlite_schema WHERE name = 'notes'`, a.rows(`SELECT sql FROM sqlite_schema WHERE name = 'notes'`))
	for _, d := range []*device{a, b, c} {
		d.want(`SELECT count(*) FROM velosync_conflicts`, "0")
		d.want(`SELECT pending, parked FROM velosync_status`, "0 0")
	}
}

func TestScenario_26_SameColumnOnTwoDevices(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1)`)
	a.sync()
	b.sync()

	// Both write the column of x before they meet: a conflict, though b had seen the row.
	// Of y only a writes it; b's default is no value that it wrote.
	a.exec(`ALTER TABLE notes ADD COLUMN lang TEXT`, `UPDATE notes SET lang = 'ja', score = 9 WHERE id = 'x'`, `UPDATE notes SET lang = 'fr' WHERE id = 'y'`)
	a.sync()
	b.exec(`UPDATE notes SET title = 'black tea' WHERE id = 'x'`)
	b.sync()
	b.exec(`ALTER TABLE notes ADD COLUMN lang TEXT`, `UPDATE notes SET lang = 'zh', score = 2 WHERE id = 'x'`, `INSERT OR REPLACE INTO notes(id, title, score) VALUES ('y', 'cold soup', 1)`)
	if r := b.sync(); r.LostRows != 1 {
		t.Errorf("b lost %d, want 1: %+v", r.LostRows, r)
	}
	b.want(`SELECT rule, mine, theirs FROM velosync_conflicts`, `weight {"lang":"zh"} {"lang":"ja"}`)
	a.sync()
	const all = `SELECT * FROM notes ORDER BY id`
	a.want(all, "x black tea green 2 ja\ny cold soup <nil> 1 fr")
	b.want(all, a.rows(all))
}

func TestScenario_26_DifferentColumnsOnTwoDevices(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	b.sync()
	a.exec(`ALTER TABLE notes ADD COLUMN lang TEXT`, `UPDATE notes SET lang = 'ja'`)
	b.exec(`ALTER TABLE notes ADD COLUMN stars INT NOT NULL DEFAULT 3`, `UPDATE notes SET stars = 5`)
	a.sync()
	b.sync()
	a.exec(`ALTER TABLE notes ADD COLUMN stars INT NOT NULL DEFAULT 3`, `INSERT INTO notes(id, title, lang) VALUES ('y', 'soup', 'fr')`)
	b.exec(`ALTER TABLE notes ADD COLUMN lang TEXT`, `INSERT INTO notes(id, title, stars) VALUES ('z', 'nuts', 1)`)
	a.sync()
	b.sync()
	a.sync()
	const all = `SELECT id, title, lang, stars FROM notes ORDER BY id`
	a.want(all, "x tea ja 5\ny soup fr 3\nz nuts <nil> 1")
	b.want(all, a.rows(all))
	c := newDevice(t, m, "c", nil)
	c.sync()
	c.want(all, a.rows(all))
	// A register of one device is another one's, elsewhere.
	a.exec(`UPDATE notes SET stars = 2 WHERE id = 'x'`)
	b.exec(`UPDATE notes SET lang = 'de' WHERE id = 'x'`)
	a.sync()
	b.sync()
	a.sync()
	a.want(all, "x tea de 2\ny soup fr 3\nz nuts <nil> 1")
	b.want(all, a.rows(all))
	a.want(`SELECT count(*) FROM velosync_conflicts`, "0")
	b.want(`SELECT count(*) FROM velosync_conflicts`, "0")
}

func TestScenario_26_SameColumnDeclaredOtherwise(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	b.sync()
	a.exec(`ALTER TABLE notes ADD COLUMN stars INT`)
	a.sync()
	b.exec(`ALTER TABLE notes ADD COLUMN stars TEXT`, `UPDATE notes SET stars = '***'`)
	if _, err := b.r.Sync(context.Background()); err == nil || !strings.Contains(err.Error(), `column "stars" is "stars" INT in the space and "stars" TEXT on the device`) {
		t.Errorf("b's round: %v", err)
	}
	if got := b.rows(`SELECT last_error FROM velosync_status`); !strings.Contains(got, "make the device's table like the space's") {
		t.Errorf("the status says %s", got)
	}
	// Nothing is lost: with the column as the space has it, all goes on.
	b.exec(`ALTER TABLE notes RENAME COLUMN stars TO stars_text`, `ALTER TABLE notes ADD COLUMN stars INT`, `UPDATE notes SET stars = length(stars_text)`)
	b.sync()
	a.sync()
	a.want(`SELECT id, stars FROM notes`, "x 3")
}

func TestScenario_26_ColumnOfTheWholeRow(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(`CREATE TABLE docs(id TEXT PRIMARY KEY NOT NULL, body TEXT, embedding BLOB)`, `SELECT velosync_track('docs')`,
		`INSERT INTO docs VALUES ('x', 'tea', x'01'), ('y', 'soup', x'02')`)
	a.sync()
	b.sync()
	a.exec(`ALTER TABLE docs ADD COLUMN model TEXT DEFAULT 'm1'`)
	a.sync()
	a.exec(`UPDATE docs SET body = 'green tea', embedding = x'11', model = 'm2' WHERE id = 'x'`)
	a.sync()
	// b has not the column: it writes the others, and the column stays.
	b.sync()
	b.exec(`UPDATE docs SET body = 'hot soup', embedding = x'12' WHERE id = 'y'`, `INSERT INTO docs VALUES ('z', 'nuts', x'03')`)
	b.sync()
	a.sync()
	const all = `SELECT id, body, hex(embedding), model FROM docs ORDER BY id`
	a.want(all, "x green tea 11 m2\ny hot soup 12 m1\nz nuts 03 m1")
	// b gets it: what it writes before it has a's values leaves them alone.
	b.exec(`ALTER TABLE docs ADD COLUMN model TEXT DEFAULT 'm1'`, `UPDATE docs SET body = 'black tea' WHERE id = 'x'`)
	b.sync()
	b.want(all, "x black tea 11 m2\ny hot soup 12 m1\nz nuts 03 m1")
	a.sync()
	a.want(all, b.rows(all))
	// The whole row is one register, the new column too.
	a.exec(`UPDATE docs SET model = 'm3' WHERE id = 'x'`)
	b.exec(`UPDATE docs SET body = 'white tea' WHERE id = 'x'`, `UPDATE _velosync_wal SET at = at + 1000`)
	a.sync()
	if r := b.sync(); r.LostRows != 0 {
		t.Errorf("b wrote later, and lost %d", r.LostRows)
	}
	a.sync()
	a.want(`SELECT body, model FROM docs WHERE id = 'x'`, "white tea m2")
	b.want(all, a.rows(all))
	a.want(`SELECT rule, mine FROM velosync_conflicts`, `time {"body":"black tea","embedding":{"$blob":"11"},"model":"m3"}`)
}

func TestScenario_26_RebuildAsToolsDoIt(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, `SELECT velosync_track('notes')`, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1), ('z', 'nuts', 'dry', 1)`)
	a.sync()
	b.sync()
	b.exec(`UPDATE notes SET title = 'black tea' WHERE id = 'x'`)
	b.sync()
	// Without triggers for a moment; a has not seen what b wrote.
	a.exec(`BEGIN; CREATE TABLE notes_new(id TEXT PRIMARY KEY NOT NULL, title TEXT, stars INT DEFAULT 3, body TEXT, score REAL);
		INSERT INTO notes_new(id, title, body, score) SELECT * FROM notes; DROP TABLE notes; ALTER TABLE notes_new RENAME TO notes;
		UPDATE notes SET body = 'cold' WHERE id = 'y'; COMMIT`)
	if r := a.sync(); r.PushedRows != 3 || r.PulledRows != 1 {
		t.Errorf("a pushes all three rows and pulls one: %+v", r)
	}
	a.want(`SELECT id, title, body, stars FROM notes ORDER BY id`, "x black tea green 3\ny soup cold 3\nz nuts dry 3")
	if r := b.sync(); r.PulledRows != 1 {
		t.Errorf("one row changed, b pulls %d", r.PulledRows)
	}
	b.want(`SELECT * FROM notes ORDER BY id`, "x black tea green 1\ny soup cold 1\nz nuts dry 1")
	a.exec(`UPDATE notes SET stars = 5, body = 'strong' WHERE id = 'x'`)
	a.sync()
	b.sync()
	b.want(`SELECT body FROM notes WHERE id = 'x'`, "strong")
	a.want(`SELECT count(*) FROM velosync_status WHERE pending = 0 AND parked = 0`, "1")
	// What stood on a and what b wrote differ: b's stays, and the conflict is logged.
	a.want(`SELECT mine, theirs FROM velosync_conflicts`, `{"title":"tea"} {"title":"black tea"}`)
}

func TestScenario_27_OldDeviceOnAnOldLog(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	b.sync()
	// b logs for long, under the old columns, and gets the new one before it sends anything.
	b.exec(`INSERT INTO notes VALUES ('w', 'rice', 'white', 1)`, `UPDATE notes SET body = 'brown' WHERE id = 'w'`, `UPDATE notes SET title = 'herbs' WHERE id = 'x'`)
	a.exec(`ALTER TABLE notes ADD COLUMN lang TEXT NOT NULL DEFAULT 'en'`, `UPDATE notes SET lang = 'ja'`)
	a.sync()
	b.exec(`ALTER TABLE notes ADD COLUMN lang TEXT NOT NULL DEFAULT 'en'`)
	b.sync()
	a.sync()
	const all = `SELECT * FROM notes ORDER BY id`
	a.want(all, "w rice brown 1 en\nx herbs green 1 ja")
	b.want(all, a.rows(all))
	a.exec(`DELETE FROM notes WHERE id = 'x'`)
	a.sync()
	b.sync()
	b.want(all, "w rice brown 1 en")
}

func TestScenario_28_TableMadeAgainWithAnotherShape(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	b.sync()
	b.exec(`DROP TABLE notes`, `CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title BLOB, score REAL)`, `INSERT INTO notes VALUES ('y', 'soup', 1)`)
	_, err := b.r.Sync(context.Background())
	if err == nil || !strings.Contains(err.Error(), `column "title" is "title" TEXT in the space and "title" BLOB on the device`) {
		t.Errorf("b's round: %v", err)
	}
	b.want(`SELECT * FROM notes`, "y soup 1")
	// With the space's columns it joins again; what it has not is not deleted.
	b.exec(`DROP TABLE notes`, strings.Replace(notes, "score REAL", "score REAL, extra", 1), `INSERT INTO notes VALUES ('y', 'soup', 'hot', 1, 2)`)
	b.sync()
	a.sync()
	a.want(`SELECT id FROM notes ORDER BY id`, "x\ny")
	a.want(`SELECT count(*) FROM velosync_conflicts`, "0")
	// Untracked and dropped, it comes back whole with the next rounds.
	b.exec(`SELECT velosync_untrack('notes')`, `DROP TABLE notes`)
	b.sync()
	b.sync()
	b.want(`SELECT id, title FROM notes ORDER BY id`, "x tea\ny soup")
}

func TestScenario_26_DropColumn(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1)`)
	a.sync()
	b.sync()
	if _, err := a.db.Exec(`ALTER TABLE notes DROP COLUMN title`); err == nil || !strings.Contains(err.Error(), "_velosync_notes") {
		t.Errorf("a plain DROP COLUMN: %v", err)
	}
	// What is pending keeps its columns, whose registers move.
	a.exec(`UPDATE notes SET body = 'black' WHERE id = 'x'`, `UPDATE notes SET title = 'broth' WHERE id = 'y'`, `SELECT velosync_alter('notes', 'DROP COLUMN title')`)
	b.exec(`UPDATE notes SET title = 'herbs', score = 2 WHERE id = 'x'`)
	if r := a.sync(); r.PushedRows != 1 {
		t.Errorf("a pushes %d rows, of one it wrote only what is gone", r.PushedRows)
	}
	b.sync()
	b.want(`SELECT * FROM notes ORDER BY id`, "x herbs black 2\ny soup hot 1")
	a.exec(`INSERT INTO notes VALUES ('z', 'dry', 1)`, `UPDATE notes SET score = 3 WHERE id = 'y'`)
	a.sync()
	b.sync()
	a.sync()
	a.want(`SELECT * FROM notes ORDER BY id`, "x black 2\ny hot 3\nz dry 1")
	b.want(`SELECT * FROM notes ORDER BY id`, "x herbs black 2\ny soup hot 3\nz <nil> dry 1")
	// It comes back with what the others kept.
	a.exec(`SELECT velosync_alter('notes', 'ADD COLUMN title TEXT')`)
	a.sync()
	a.want(`SELECT id, title FROM notes ORDER BY id`, "x herbs\ny soup\nz <nil>")
	for _, bad := range []string{`RENAME TO other`, `DROP COLUMN body; DELETE FROM notes`, `DROP COLUMN score`} {
		if _, err := a.db.Exec(`SELECT velosync_alter('notes', ?)`, bad); err == nil {
			t.Errorf("velosync_alter takes %q", bad)
		}
	}
	a.exec(`UPDATE notes SET body = 'white' WHERE id = 'x'`)
	if r := a.sync(); r.PushedRows != 1 {
		t.Errorf("after refusals: %+v", r)
	}
}

func TestScenario_26_Renames(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1), ('y', 'soup', 'hot', 1)`)
	a.sync()
	b.sync()
	// A rename sends no rows; what is written under the new names comes to b under the old.
	a.exec(`ALTER TABLE notes RENAME COLUMN title TO heading`, `ALTER TABLE notes RENAME COLUMN score TO "the weight"`, `ALTER TABLE notes RENAME TO pages`)
	if r := a.sync(); r.PushedRows+r.PulledRows != 0 {
		t.Errorf("a renamed, and that is all: %+v", r)
	}
	a.exec(`UPDATE pages SET heading = 'black tea', "the weight" = 2 WHERE id = 'x'`)
	b.exec(`UPDATE notes SET title = 'broth' WHERE id = 'y'`, `INSERT INTO notes VALUES ('z', 'nuts', 'dry', 1)`)
	a.sync()
	b.sync()
	a.sync()
	const want = "x black tea green 2\ny broth hot 1\nz nuts dry 1"
	a.want(`SELECT id, heading, body, "the weight" FROM pages ORDER BY id`, want)
	b.want(`SELECT id, title, body, score FROM notes ORDER BY id`, want)
	a.want(`SELECT count(*) FROM sqlite_schema WHERE name = 'notes'`, "0")
	b.want(`SELECT count(*) FROM sqlite_schema WHERE name = 'pages'`, "0")

	// A new device gets the new names; b goes on under the old ones, also when its tables
	// change otherwise, and it hears of conflicts in its own words.
	c := newDevice(t, m, "c", nil)
	c.sync()
	c.want(`SELECT id, heading, body, "the weight" FROM pages ORDER BY id`, want)
	b.exec(`ALTER TABLE notes ADD COLUMN lang TEXT`, `UPDATE notes SET lang = 'en', title = 'mine', score = 1 WHERE id = 'x'`)
	a.exec(`UPDATE pages SET heading = 'theirs', "the weight" = 7 WHERE id = 'x'`)
	a.sync()
	b.sync()
	a.sync()
	b.want(`SELECT title, score, lang FROM notes WHERE id = 'x'`, "theirs 7 en")
	b.want(`SELECT tbl, mine, theirs FROM velosync_conflicts`, `notes {"title":"mine","score":1.0} {"title":"theirs","score":7.0}`)
	// When b's app is updated too, all is one again.
	b.exec(`ALTER TABLE notes RENAME TO pages`, `ALTER TABLE pages RENAME COLUMN title TO heading`, `ALTER TABLE pages RENAME COLUMN score TO "the weight"`)
	b.exec(`UPDATE pages SET heading = 'ours' WHERE id = 'x'`)
	a.exec(`ALTER TABLE pages ADD COLUMN lang TEXT`)
	b.sync()
	a.sync()
	const all = `SELECT id, heading, body, "the weight", lang FROM pages ORDER BY id`
	a.want(all, "x ours green 7 en\ny broth hot 1 <nil>\nz nuts dry 1 <nil>")
	b.want(all, a.rows(all))
	c.sync()
	c.exec(`ALTER TABLE pages ADD COLUMN lang TEXT`)
	c.sync()
	c.want(all, a.rows(all))
	for _, d := range []*device{a, b, c} {
		d.want(`SELECT pending, parked FROM velosync_status`, "0 0")
		if r := d.sync(); r.PushedRows+r.PulledRows != 0 {
			t.Errorf("%s is not done: %+v", d.o.Name, r)
		}
	}
}

func TestScenario_26_SameColumnOfTheWholeRow(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(`CREATE TABLE docs(id TEXT PRIMARY KEY NOT NULL, body TEXT, embedding BLOB)`, `SELECT velosync_track('docs')`,
		`INSERT INTO docs VALUES ('x', 'tea', x'01'), ('y', 'soup', x'02')`)
	a.sync()
	b.sync()
	a.exec(`ALTER TABLE docs ADD COLUMN model TEXT`, `UPDATE docs SET model = 'a' WHERE id = 'x'`)
	a.sync()
	b.sync()
	// b has seen a's push, but not the column: of x that is a conflict, of y it is none.
	b.exec(`ALTER TABLE docs ADD COLUMN model TEXT`, `UPDATE docs SET model = 'b'`, `UPDATE _velosync_wal SET at = at + 1000`)
	b.sync()
	a.sync()
	const all = `SELECT id, body, hex(embedding), model FROM docs ORDER BY id`
	a.want(all, "x tea 01 b\ny soup 02 b")
	b.want(all, a.rows(all))
	a.want(`SELECT "key", json_extract(mine, '$.model'), json_extract(theirs, '$.model') FROM velosync_conflicts`, "x a b")
}

// A row is deleted while the round goes on that brings a new column: the delete knew of
// that column what it knew of the row, as one before the round does. What is written there
// anew did not know it.
func TestScenario_26_DeleteWhileTheColumnComes(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("made again %v", again), func(t *testing.T) {
			m := masterdtest.New(t, masterdtest.Options{})
			var during string // what is written here while an answer is on its way
			a, b := newDevice(t, m, "a", nil), (*device)(nil)
			b = newDevice(t, m, "b", atStep("apply", func() error { b.exec(during); return nil }))
			const column = `ALTER TABLE notes ADD COLUMN lang TEXT`
			a.exec(notes, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
			a.sync()
			b.sync()
			a.exec(column, `UPDATE notes SET lang = 'ja'`)
			a.sync()
			b.sync()
			b.exec(column)
			during = `DELETE FROM notes WHERE id = 'x'`
			b.sync()
			during = ""
			if again {
				b.exec(`INSERT INTO notes VALUES ('x', 'coffee', 'black', 1, 'it')`)
			}
			b.sync()
			a.sync()
			const all, conflicts = `SELECT * FROM notes`, `SELECT kind, mine, theirs FROM velosync_conflicts`
			if again {
				a.want(all, "x coffee black 1 it")
				a.want(conflicts, `update-lost {"lang":"ja"} {"lang":"it"}`)
			} else {
				a.want(all, "")
				a.want(conflicts, "")
			}
			b.want(all, a.rows(all))
			b.want(conflicts, "")
		})
	}
}

// A delete has seen of a column that its author lacked what it had seen of the row, whether
// the column came before the delete was sent or not.
func TestScenario_26_DeleteBeforeTheColumnComes(t *testing.T) {
	told := make(map[bool]string)
	for _, comes := range []bool{false, true} {
		m := masterdtest.New(t, masterdtest.Options{})
		var during string // what is written here while an answer is on its way
		a, b := newDevice(t, m, "a", nil), (*device)(nil)
		b = newDevice(t, m, "b", atStep("apply", func() error { b.exec(during); return nil }))
		const column = `ALTER TABLE notes ADD COLUMN lang TEXT`
		a.exec(notes, `SELECT velosync_track('notes', '{"groups":[]}')`, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
		a.sync()
		b.sync()
		a.exec(column, `UPDATE notes SET lang = 'ja'`)
		a.sync()
		during = `UPDATE notes SET title = 'chai'` // without the other's edit
		b.sync()
		during = ""
		b.exec(`DELETE FROM notes`) // with it, but for the column
		if comes {
			b.exec(column)
		}
		b.sync()
		a.sync()
		a.want(`SELECT count(*) FROM notes`, "0")
		told[comes] = a.rows(`SELECT kind, mine, theirs FROM velosync_conflicts`)
	}
	if told[false] == "" || told[true] != told[false] {
		t.Errorf("the column's author hears %q where the delete was sent without the column, %q with it", told[false], told[true])
	}
}

// A column's name may be a word that its table says elsewhere: a type, or a column of
// another table. A rename concerns the column alone.
func TestRename_WordsOfTheTable(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(`CREATE TABLE lists(id TEXT PRIMARY KEY NOT NULL, text TEXT UNIQUE)`,
		`CREATE TABLE items(id TEXT PRIMARY KEY NOT NULL, text TEXT CHECK (text <> 'text'), list TEXT REFERENCES lists(text), real REAL, UNIQUE (text, real))`,
		`CREATE UNIQUE INDEX items_text ON items(CAST(text AS TEXT), real)`,
		`SELECT velosync_track('lists')`, `SELECT velosync_track('items')`,
		`INSERT INTO lists VALUES ('l', 'food')`, `INSERT INTO items VALUES ('i', 'tea', 'food', 1)`)
	a.sync()
	b.sync()
	a.exec(`ALTER TABLE items RENAME COLUMN text TO words`, `ALTER TABLE items RENAME COLUMN real TO number`, `UPDATE items SET words = 'black tea' WHERE id = 'i'`)
	a.sync()
	b.exec(`UPDATE items SET real = 2 WHERE id = 'i'`, `ALTER TABLE items ADD COLUMN more TEXT CHECK (more <> text)`)
	b.sync()
	a.sync()
	a.want(`SELECT id, words, list, number FROM items`, "i black tea food 2")
	b.want(`SELECT id, text, list, real FROM items`, "i black tea food 2")
}

// A table is rebuilt, or renamed, and written to in the middle of a round. No trigger has
// logged that, so the answer must not be laid over it: the round begins again.
func TestRound_TableAlteredMeanwhile(t *testing.T) {
	for what, alter := range map[string]string{
		"rebuilt": `CREATE TABLE fresh(id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, score REAL); INSERT INTO fresh SELECT * FROM notes;
			DROP TABLE notes; ALTER TABLE fresh RENAME TO notes; UPDATE notes SET title = 'mine' WHERE id = 'x'`,
		"renamed": `ALTER TABLE notes RENAME TO pages; UPDATE pages SET title = 'mine', score = 3 WHERE id = 'x'`,
	} {
		t.Run(what, func(t *testing.T) {
			m := masterdtest.New(t, masterdtest.Options{})
			a := newDevice(t, m, "a", nil)
			var b *device
			rounds := 0
			b = newDevice(t, m, "b", atStep("apply", func() error {
				if rounds++; rounds == 2 {
					b.exec(alter)
				}
				return nil
			}))
			a.exec(`CREATE TABLE notes(id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, score REAL)`, trackNotes, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
			a.sync()
			b.sync()
			a.exec(`UPDATE notes SET title = 'theirs', body = 'black', score = 2 WHERE id = 'x'`) // the heavier one stays
			a.sync()
			if r := b.sync(); r.Tries != 2 {
				t.Errorf("%d tries, want 2", r.Tries)
			}
			a.sync()
			if what == "renamed" {
				a.want(`SELECT title, body FROM notes`, "mine black")
				a.want(`SELECT json_extract(mine, '$.title') FROM velosync_conflicts`, "theirs")
				return
			}
			// What no trigger saw counts as old as the last round, and is kept.
			b.want(`SELECT title, body FROM notes`, "theirs black")
			b.want(`SELECT json_extract(mine, '$.title') FROM velosync_conflicts`, "mine")
		})
	}
}

// A master is restored, and has a column in a group that a device has not: its fingerprint
// of the group says nothing to that device, which pushes back what it has of it.
func TestRestored_GroupWithAnUnknownColumn(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(notes, `SELECT velosync_track('notes', '{"groups": [["title", "body", "score"]]}')`, `INSERT INTO notes VALUES ('x', 'tea', 'green', 1)`)
	a.sync()
	b.sync()
	a.exec(`ALTER TABLE notes ADD COLUMN lang TEXT`, `UPDATE notes SET lang = 'en'`)
	a.sync()
	b.sync()
	restore := backup(t, m)
	b.exec(`UPDATE notes SET title = 'black tea'`)
	b.sync()
	restore()
	b.sync()
	a.sync()
	b.want(`SELECT title FROM notes`, "black tea")
	a.want(`SELECT title, lang FROM notes`, "black tea en")
}
