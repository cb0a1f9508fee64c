package replicator_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/replicator"
)

const views = `CREATE TABLE views(id TEXT PRIMARY KEY NOT NULL, slug TEXT UNIQUE, n INTEGER NOT NULL DEFAULT 0, likes INT NOT NULL DEFAULT 0)`
const trackViews = `SELECT velosync_track('views', '{"merge":{"n":"counter","likes":"counter"}}')`
const allViews = `SELECT * FROM views ORDER BY id`

func TestCounter(t *testing.T) {
	_, a, b := pair(t, views, trackViews, `INSERT INTO views VALUES ('p', 'a', 10, 1)`)
	// Any client may count: this one has none of our functions.
	other, err := sql.Open("sqlite3", a.file)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for range 3 {
		if _, err := other.Exec(`UPDATE views SET n = n + 2`); err != nil {
			t.Fatal(err)
		}
	}
	a.exec(`UPDATE views SET likes = likes - 1`)
	b.exec(`UPDATE views SET n = n - 1, likes = likes + 5, slug = 'b'`)
	settle(a, b)
	a.want(allViews, "p b 15 5")
	b.want(allViews, "p b 15 5")
	for _, d := range []*device{a, b} {
		d.want(`SELECT count(*) FROM velosync_conflicts`, "0")
		if r := d.sync(); r.PushedRows+r.PulledRows != 0 {
			t.Errorf("%s is not at rest: %+v", d.o.Name, r)
		}
	}
}

func TestCounter_refused(t *testing.T) {
	d := newDevice(t, masterdtest.New(t, masterdtest.Options{}), "a", nil)
	d.exec(views, trackViews, `INSERT INTO views(id) VALUES ('p')`)
	for statement, want := range map[string]string{
		`UPDATE views SET n = 0.5`:                                 "views.n is a counter: want an integer",
		`UPDATE views SET likes = 'many'`:                          "views.likes is a counter",
		`UPDATE views SET n = 4611686018427387904`:                 "within +-4611686018427387903",
		`INSERT INTO views(id, n) VALUES ('q', -9e18)`:             "views.n is a counter",
		`SELECT velosync_track('r', '{"merge":{"n":"counter"}}')`:  `declare it INTEGER NOT NULL DEFAULT 0`,
		`SELECT velosync_track('f', '{"merge":{"n":"counter"}}')`:  `declared "REAL NOT NULL"`,
		`SELECT velosync_track('v', '{"merge":{"n":"counter"}}')`:  `1 rows of "v" have a n that is no integer`,
		`SELECT velosync_track('v', '{"merge":{"id":"counter"}}')`: `in the primary key`,
	} {
		for name, column := range map[string]string{"r": "n INT", "f": "n REAL NOT NULL", "v": "n INT NOT NULL"} {
			d.exec(`CREATE TABLE IF NOT EXISTS `+name+`(id TEXT PRIMARY KEY NOT NULL, `+column+`)`, `INSERT OR REPLACE INTO `+name+` VALUES ('x', 'text')`)
		}
		if _, err := d.db.Exec(statement); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", statement, err, want)
		}
	}
}

// Answers get lost while the application goes on counting: each step counts once.
func TestCounter_lostAnswers(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	net := &switchboard{}
	a := newDevice(t, m, "a", func(o *replicator.Options) { o.Transport = net })
	b := newDevice(t, m, "b", nil)
	a.exec(views, trackViews, `INSERT INTO views VALUES ('p', 'a', 10, 0)`)
	a.sync()
	b.sync()
	lost := errors.New("no answer")
	want := 10
	for i := range 4 {
		net.set(nil, func(*http.Request) error { return lost })
		for range 3 {
			a.exec(fmt.Sprintf(`UPDATE views SET n = n + %d`, i+1))
			want += i + 1
		}
		if _, err := a.r.Sync(context.Background()); !errors.Is(err, lost) {
			t.Fatalf("sync: %v", err)
		}
		b.exec(`UPDATE views SET n = n + 100`)
		want += 100
		b.sync()
	}
	net.set(nil, nil)
	settle(a, b)
	a.want(`SELECT n FROM views`, strconv.Itoa(want))
	b.want(`SELECT n FROM views`, strconv.Itoa(want))
}

// What is written during a round stays on top of what is pulled.
func TestCounter_writesDuringRound(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	var a *device
	during := ""
	a = newDevice(t, m, "a", func(o *replicator.Options) {
		o.Step = func(step string) error {
			if step == during {
				a.exec(`UPDATE views SET n = n + 1`)
			}
			return nil
		}
	})
	b := newDevice(t, m, "b", nil)
	a.exec(views, trackViews, `INSERT INTO views VALUES ('p', 'a', 10, 0)`)
	a.sync()
	b.sync()
	want := 10
	for _, during = range []string{"push", "apply", "ack"} {
		b.exec(`UPDATE views SET n = n + 10`)
		b.sync()
		a.exec(`UPDATE views SET n = n + 1`)
		a.sync()
		want += 12
		a.want(`SELECT n FROM views`, strconv.Itoa(want))
	}
	during = ""
	settle(a, b)
	a.want(`SELECT n FROM views`, strconv.Itoa(want))
	b.want(`SELECT n FROM views`, strconv.Itoa(want))
}

// A REPLACE is announced during a round and does not happen: the row has nothing to send,
// though the log still holds what the round sent of it.
func TestSync_ignoredDuringRound(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	var a *device
	during := "push"
	a = newDevice(t, m, "a", func(o *replicator.Options) {
		o.Step = func(step string) error {
			if step == during {
				a.exec(`INSERT OR IGNORE INTO tags VALUES ('other', 'x')`)
			}
			return nil
		}
	})
	a.exec(`CREATE TABLE tags(id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE)`, `SELECT velosync_track('tags')`, `INSERT INTO tags VALUES ('t', 'x')`)
	a.sync()
	during = ""
	a.sync()
	if r := a.sync(); r.PushedRows > 0 {
		t.Errorf("%+v: want nothing to push", r)
	}
}

// One device writes the row in every way that SQLite knows, while the other counts: in the
// end the sum is what the first one shows, and what the other added.
func TestCounter_everyWayToWrite(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("VELOSYNC_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("VELOSYNC_SEED=%d repeats this", seed)
	for _, compact := range []int{0, 3} {
		t.Run(fmt.Sprint("compacted above ", compact), func(t *testing.T) { writeEveryWay(t, rand.New(rand.NewPCG(seed, 0)), compact) })
	}
}

func writeEveryWay(t *testing.T, rnd *rand.Rand, compact int) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", func(o *replicator.Options) { o.CompactAbove = compact }), newDevice(t, m, "b", nil)
	a.exec(views, trackViews, `INSERT INTO views VALUES ('p', 'a', 10, 1), ('q', 'b', 20, 2)`)
	settle(a, b)
	for round := range 12 {
		for range 1 + rnd.IntN(6) {
			id, v := "pq"[rnd.IntN(2):][:1], rnd.IntN(50)
			slug := "ab"[rnd.IntN(2):][:1]
			ways := []string{
				`UPDATE views SET n = n + %[2]d WHERE id = '%[1]s'`,
				`UPDATE views SET n = %[2]d, likes = likes + 1 WHERE id = '%[1]s'`,
				`INSERT OR REPLACE INTO views VALUES ('%[1]s', NULL, %[2]d, 3)`,
				`REPLACE INTO views VALUES ('%[1]s', '%[3]s', %[2]d, 4)`, // takes another row's slug, too
				`INSERT OR IGNORE INTO views VALUES ('%[1]s', '%[3]s', %[2]d, 5)`,
				`INSERT INTO views VALUES ('%[1]s', NULL, %[2]d, 6) ON CONFLICT(id) DO UPDATE SET n = n + excluded.n`,
				`DELETE FROM views WHERE id = '%[1]s'`,
				`UPDATE OR REPLACE views SET slug = '%[3]s' WHERE id = '%[1]s'`,
				`UPDATE OR REPLACE views SET id = 'q' WHERE id = 'p'`,
				`UPDATE views SET id = id WHERE id = '%[1]s'`,
			}
			a.exec(fmt.Sprintf(ways[rnd.IntN(len(ways))]+` -- %[1]s %[2]d %[3]s`, id, v, slug))
		}
		for _, id := range []string{"p", "q"} { // a row that is gone would take what the other adds with it
			a.exec(`INSERT OR IGNORE INTO views VALUES ('` + id + `', NULL, 7, 7)`)
		}
		// b has no slugs to give up, and its rank is lower: it only counts.
		by := rnd.IntN(9)
		b.exec(fmt.Sprintf(`UPDATE views SET n = n + %d`, by))
		want := a.rows(fmt.Sprintf(`SELECT id, n + %d, likes FROM views ORDER BY id`, by))
		settle(b, a)
		a.want(`SELECT id, n, likes FROM views ORDER BY id`, want)
		b.want(`SELECT id, n, likes FROM views ORDER BY id`, want)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

func TestCounter_rowMadeAnew(t *testing.T) {
	_, a, b := pair(t, views, trackViews, `INSERT INTO views VALUES ('p', 'a', 10, 0)`)
	a.exec(`DELETE FROM views`)
	a.sync()
	b.sync()
	b.exec(`INSERT INTO views VALUES ('p', 'b', 3, 0)`)
	settle(b, a)
	a.want(allViews, "p b 3 0")
}

// A copied file may have sent its steps already: they are not counted twice, and not lost.
func TestCounter_copiedFile(t *testing.T) {
	_, a, b := pair(t, views, trackViews, `INSERT INTO views VALUES ('p', 'a', 10, 0)`)
	a.exec(`UPDATE views SET n = n + 5`)
	unsent := a.copyOf()
	a.sync()
	a.restore(unsent) // has not heard that the 5 were sent
	a.exec(`INSERT INTO views VALUES ('new', NULL, 4, 0)`)
	a.sync()
	a.exec(`UPDATE views SET n = n + 1 WHERE id = 'p'`)
	settle(a, b)
	b.want(allViews, "new <nil> 4 0\np a 16 0")
	a.want(allViews, b.rows(allViews))
	a.want(`SELECT kind, rule, mine, theirs FROM velosync_conflicts`, `step-in-doubt copy {"n":5} {"n":15}`)
	a.exec(`SELECT velosync_resolve(1, 'mine')`) // they did not count, says the user
	settle(a, b)
	b.want(`SELECT n FROM views WHERE id = 'p'`, "21")
}

// A master restored from a backup gets a counter back by its value, and what was not sent
// yet beside it.
func TestCounter_masterRestored(t *testing.T) {
	m, a, b := pair(t, views, trackViews, `INSERT INTO views VALUES ('p', 'a', 10, 0), ('q', NULL, 1, 1)`)
	restore := backup(t, m)
	a.exec(`UPDATE views SET n = n + 5`, `INSERT INTO views VALUES ('late', NULL, 3, 0)`)
	settle(a, b)
	a.exec(`UPDATE views SET n = n + 100 WHERE id <> 'q'`)
	b.exec(`UPDATE views SET n = n + 1000 WHERE id = 'p'`)
	restore()
	settle(a, b)
	settle(a, b)
	want := "late <nil> 103 0\np a 1115 0\nq <nil> 6 1"
	a.want(allViews, want)
	b.want(allViews, want)
	c := newDevice(t, m, "c", nil)
	c.sync()
	c.want(allViews, want)
}

// The log folds what no push has carried.
func TestCounter_compaction(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	net := &switchboard{}
	a := newDevice(t, m, "a", func(o *replicator.Options) { o.CompactAbove, o.Transport = 20, net })
	b := newDevice(t, m, "b", nil)
	a.exec(views, trackViews, `INSERT INTO views VALUES ('p', 'a', 0, 0)`)
	a.sync()
	b.sync()
	net.set(func(*http.Request) error { return errors.New("offline") }, nil)
	want := 0
	for i := range 60 {
		a.exec(fmt.Sprintf(`UPDATE views SET n = n + %d`, i), `UPDATE views SET likes = likes + 1 WHERE likes < 9`, `REPLACE INTO views SELECT * FROM views WHERE n % 13 = 0`,
			`INSERT OR IGNORE INTO views VALUES ('p', 'a', 5, 5)`)
		want += i
		if i%20 == 0 {
			_, _ = a.r.Sync(context.Background())
		}
	}
	b.exec(`UPDATE views SET n = n + 10000`)
	b.sync()
	net.set(nil, nil)
	settle(a, b)
	b.want(`SELECT n, likes FROM views`, fmt.Sprint(want+10000, 9))
	a.want(`SELECT n, likes FROM views`, fmt.Sprint(want+10000, 9))
}

// A counter that comes later, one that goes, and writes that no trigger saw.
func TestCounter_changedTable(t *testing.T) {
	_, a, b := pair(t, `CREATE TABLE views(id TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0, likes INT NOT NULL DEFAULT 0, m INT NOT NULL DEFAULT 0)`,
		`SELECT velosync_track('views', '{"merge":{"n":"counter","likes":"counter","m":"counter"}}')`, `INSERT INTO views VALUES ('p', 1, 1, 1)`)
	a.exec(`UPDATE views SET n = n + 1, m = m + 5`, `SELECT velosync_alter('views', 'DROP COLUMN likes')`, `UPDATE views SET m = m + 1`)
	b.exec(`UPDATE views SET n = n + 10, likes = likes + 10, m = m + 10`)
	settle(b, a)
	a.want(allViews, "p 12 17")
	b.want(allViews, "p 12 11 17")
	// Without triggers it is not known what was added: the value travels.
	a.exec(`DROP TRIGGER _velosync_views_update`, `UPDATE views SET n = 50`)
	settle(a, b)
	b.want(allViews, "p 50 11 17")
	a.exec(`SELECT velosync_touch('views', 'p')`)
	settle(a, b)
	b.want(allViews, "p 50 11 17")
}

// A row that is too big to be sent waits, whole: what it counted meanwhile goes with it once
// it fits.
func TestCounter_heldRow(t *testing.T) {
	const table = `CREATE TABLE pages(id TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0, tags TEXT, body TEXT)`
	_, a, b := pair(t, table, `SELECT velosync_track('pages', '{"merge":{"n":"counter","tags":"set"}}')`, `INSERT INTO pages VALUES ('p', 10, '["x"]', '')`)
	a.exec(`UPDATE pages SET n = n + 1, tags = '["x","a"]', body = zeroblob(7000000)`)
	for range 2 { // each time it is logged anew
		var held *replicator.HeldError
		if err := a.fails(); !errors.As(err, &held) {
			t.Fatalf("sync: %v, want a held row", err)
		}
	}
	b.exec(`UPDATE pages SET n = n + 5, tags = '["x","b"]'`)
	b.sync()
	a.exec(`UPDATE pages SET body = 'short'`)
	settle(a, b)
	for _, d := range []*device{a, b} {
		d.want(`SELECT * FROM pages`, `p 16 ["a","b","x"] short`)
	}
}
