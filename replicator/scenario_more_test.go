package replicator_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/replicator"
	"github.com/velosync/velosync/sqlfuncs"
)

// TestScenario_43_textAndEmbedding: one device edits a text, another embeds it anew with
// another model, both offline: one version of the row stays, whole, on every device.
func TestScenario_43_textAndEmbedding(t *testing.T) {
	for _, first := range []string{"a", "b"} {
		for _, heavier := range []string{"a", "b"} {
			t.Run(first+" first, "+heavier+" heavier", func(t *testing.T) {
				m := masterdtest.New(t, masterdtest.Options{})
				a, b, c := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
				a.exec(`CREATE TABLE docs(id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT, embedding BLOB, model TEXT, weight REAL)`,
					`SELECT velosync_track('docs', '{"weight":"weight","groups":[["body","embedding","model","weight"]]}')`)
				mustExec2(t, a.db, `INSERT INTO docs VALUES ('x', 'tea', 'green tea', ?, 'small-1', 1)`, sqlfuncs.Vector{1, 0})
				settled(t, m, a, b, c)
				weight := map[string]int{heavier: 3}
				mustExec2(t, a.db, `UPDATE docs SET body = 'green tea from Uji', embedding = ?, weight = ?`, sqlfuncs.Vector{.9, .1}, 2+weight["a"])
				mustExec2(t, b.db, `UPDATE docs SET embedding = ?, model = 'large-2', title = 'Tea', weight = ?`, sqlfuncs.Vector{.1, .2, .3, .4}, 2+weight["b"])
				if first == "a" {
					a.sync()
				}
				settled(t, m, b, a, c)
				won, lost, loser := "green tea from Uji small-1 2 5", `{"body":"green tea","embedding":{"$blob":"`, b
				if heavier == "b" {
					won, lost, loser = "green tea large-2 4 5", `{"body":"green tea from Uji","embedding":{"$blob":"`, a
				}
				for _, d := range []*device{a, b, c} {
					d.want(`SELECT body, model, vec_length(embedding), weight FROM docs`, won)
					d.want(`SELECT title FROM docs`, "Tea") // a column of no group
				}
				if got := loser.rows(`SELECT mine FROM velosync_conflicts`); !strings.HasPrefix(got, lost) {
					t.Errorf("the loser's log: %s", got)
				}
				// The loser's version is whole too, and can be brought back whole.
				loser.exec(`SELECT velosync_resolve(id, 'mine') FROM velosync_conflicts`)
				settled(t, m, loser, a, b, c)
				if heavier == "b" {
					c.want(`SELECT body, model, vec_length(embedding), weight FROM docs`, "green tea from Uji small-1 2 2")
				} else {
					c.want(`SELECT body, model, vec_length(embedding), weight FROM docs`, "green tea large-2 4 2")
				}
			})
		}
	}
}

// TestScenario_44_switchedOnInPlace: a database that is in use, of 1 GB in make soak, is
// tracked while an application and the sqlite3 shell write to it, and synced while they go
// on: nothing is missed.
func TestScenario_44_switchedOnInPlace(t *testing.T) {
	rows, bytes := sized(3000, 500_000), 2000
	m := masterdtest.New(t, masterdtest.Options{Log: quiet})
	a, b := newDevice(t, m, "a", func(o *replicator.Options) { o.Log = quiet }), newDevice(t, m, "b", func(o *replicator.Options) { o.Log = quiet })
	a.exec(`CREATE TABLE big(id TEXT PRIMARY KEY NOT NULL, n INT, text TEXT, data BLOB)`,
		fmt.Sprintf(`WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < %d) INSERT INTO big SELECT printf('row %%08d', x), x, 'text of ' || x, randomblob(%d) FROM i`, rows, bytes))
	inUse := startWriters(t, a, "big", rows)
	inUse.until(20)
	began := time.Now()
	a.exec(`SELECT velosync_track('big')`)
	tracked := time.Since(began)
	inUse.until(20)
	began = time.Now()
	r := a.sync()
	pushed := time.Since(began)
	inUse.until(20)
	began = time.Now()
	b.sync()
	pulled := time.Since(began)
	writes, longest := inUse.stop()
	settled(t, m, a, b)
	info, err := os.Stat(a.file)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows, a file of %d MB: tracked in %v, first push %v (%d rows, %d MB), first pull %v; meanwhile %d writes, the longest of which waited %v",
		rows, info.Size()>>20, tracked.Round(time.Millisecond), pushed.Round(time.Millisecond), r.PushedRows, r.PushedBytes>>20, pulled.Round(time.Millisecond), writes, longest.Round(time.Millisecond))
}

// writers write to a table of a device's file, as an application with its own connections
// and as the sqlite3 shell.
type writers struct {
	end chan struct{}
	all sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	count   int64
	longest time.Duration
	running int
}

func startWriters(t *testing.T, d *device, table string, rows int) *writers {
	w := &writers{end: make(chan struct{}), running: 3}
	w.changed = sync.NewCond(&w.mu)
	db := openFile(t, d.file)
	for n := range 2 {
		dice := rand.New(rand.NewPCG(44, uint64(n)))
		w.all.Go(func() {
			defer w.ended()
			for i := 0; ; i++ {
				select {
				case <-w.end:
					return
				default:
				}
				key := fmt.Sprintf("row %08d", 101+dice.IntN(rows-100)) // the first hundred stay
				statements := [][]string{
					{fmt.Sprintf(`UPDATE %s SET n = n + 1 WHERE id = '%s'`, table, key)},
					{fmt.Sprintf(`INSERT INTO %s(id, n) VALUES ('new %d %d', 0)`, table, n, i)},
					{fmt.Sprintf(`DELETE FROM %s WHERE id = '%s'`, table, key)},
					{fmt.Sprintf(`UPDATE %s SET text = 'moved' WHERE id = '%s'`, table, key), fmt.Sprintf(`UPDATE %s SET n = -1 WHERE id = 'new %d %d'`, table, n, max(0, i-2))},
				}[i%4]
				began := time.Now()
				err := inTransaction(db, statements)
				var e sqlite3.Error
				if errors.As(err, &e) && e.Code == sqlite3.ErrBusy { // it waited for its busy_timeout: the application's affair
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", statements, err)
					return
				}
				w.wrote(time.Since(began))
			}
		})
	}
	w.all.Go(func() {
		defer w.ended()
		for i := 0; ; i++ {
			select {
			case <-w.end:
				return
			default:
			}
			began := time.Now()
			shell(t, d.file, fmt.Sprintf(".timeout 60000\nINSERT INTO %[1]s(id, n) VALUES ('shell %[2]d', %[2]d); UPDATE %[1]s SET n = n + 1000 WHERE id = 'row %08[2]d'", table, i))
			w.wrote(time.Since(began))
		}
	})
	t.Cleanup(func() { db.Close() })
	return w
}

func inTransaction(db *sql.DB, statements []string) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	for _, s := range statements {
		if _, err := tx.Exec(s); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

func (w *writers) wrote(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count++
	w.longest = max(w.longest, took)
	w.changed.Broadcast()
}

func (w *writers) ended() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
	w.changed.Broadcast()
}

// until returns after n more writes, or when a writer failed.
func (w *writers) until(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for want := w.count + n; w.count < want && w.running == 3; {
		w.changed.Wait()
	}
}

// stop ends the writers.
func (w *writers) stop() (writes int64, longest time.Duration) {
	close(w.end)
	w.all.Wait()
	return w.count, w.longest
}

// TestScenario_45_poisonRow: a row that others can't take is parked alone, on whichever side
// it can't be taken; the rows behind it go on, and the device shows why.
func TestScenario_45_poisonRow(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(`CREATE TABLE docs(id TEXT PRIMARY KEY NOT NULL, n INT CHECK (n < 100), embedding BLOB CHECK (length(embedding) = 8))`, `SELECT velosync_track('docs')`, `INSERT INTO docs VALUES ('old', 1, zeroblob(8))`)
	settled(t, m, a, b)
	t.Run("pushed", func(t *testing.T) {
		conn := openFile(t, a.file)
		defer conn.Close()
		conn.SetMaxOpenConns(1)
		// Another program, or a bug, goes past the checks.
		mustExec(t, conn, `PRAGMA ignore_check_constraints = ON`, `INSERT INTO docs VALUES ('1 good', 1, zeroblob(8)), ('2 wrong dimension', 1, zeroblob(12)), ('3 check', 100, zeroblob(8)), ('4 good', 1, NULL)`,
			`UPDATE docs SET embedding = x'00' WHERE id = 'old'`)
		if r := a.sync(); r.RejectedRows != 3 || r.PushedRows != 5 {
			t.Errorf("%+v: want three rows of five rejected", r)
		}
		a.exec(`INSERT INTO docs VALUES ('5 behind', 1, zeroblob(8))`)
		settled(t, m, a, b)
		b.want(`SELECT id FROM docs ORDER BY id`, "1 good\n4 good\n5 behind\nold")
		b.want(`SELECT hex(embedding) FROM docs WHERE id = 'old'`, "0000000000000000")
		a.want(`SELECT "key", kind, substr(reason, 1, 23) FROM velosync_conflicts ORDER BY "key"`, "2 wrong dimension rejected CHECK constraint failed\n3 check rejected CHECK constraint failed\nold rejected CHECK constraint failed")
		if st := spaceStats(t, m); st.RejectedRows != 3 {
			t.Errorf("the master counts %d rejected rows", st.RejectedRows)
		}
		// Mended, it ships.
		a.exec(`INSERT INTO docs VALUES ('3 check', 99, zeroblob(8))`)
		settled(t, m, a, b)
		b.want(`SELECT n FROM docs WHERE id = '3 check'`, "99")
	})
	t.Run("not a number", func(t *testing.T) {
		// A vector with NaN in it is a blob like others, which search refuses and sync carries; as
		// a number SQLite has no NaN.
		mustExec2(t, a.db, `INSERT INTO docs VALUES ('nan', ?, ?)`, sql.NullFloat64{}, []byte{0, 0, 0xc0, 0x7f, 0, 0, 0xc0, 0x7f})
		settled(t, m, a, b)
		if _, err := b.db.Exec(`SELECT cosine_similarity(embedding, embedding) FROM docs WHERE id = 'nan'`); err == nil || !strings.Contains(strings.ToLower(err.Error()), "nan") {
			t.Errorf("a search over NaN: %v", err)
		}
	})
	t.Run("pulled", func(t *testing.T) {
		b.exec(`CREATE TRIGGER strict BEFORE INSERT ON docs WHEN NEW.id LIKE '%bad%' BEGIN SELECT RAISE(ABORT, 'not on this device'); END`)
		a.exec(`INSERT INTO docs VALUES ('6 bad', 1, NULL), ('7 good', 55, NULL), ('8 bad', 55, NULL), ('9 behind', 1, NULL)`)
		a.sync()
		if r := b.sync(); r.ParkedRows != 2 {
			t.Errorf("%+v: want two rows parked", r)
		}
		b.want(`SELECT count(*) FROM docs WHERE id > '6'`, "4") // 7, 9, nan and old
		b.want(`SELECT parked FROM velosync_status`, "2")
		b.want(`SELECT pk, reason LIKE '%not on this device%' FROM _velosync_parked ORDER BY pk`, "6 bad 1\n8 bad 1")
		b.want(`SELECT velosync_doctor() LIKE '%rows from the master that wait%'`, "1")
		a.exec(`INSERT INTO docs VALUES ('later', 1, NULL)`)
		a.sync()
		if r := b.sync(); r.ParkedRows != 2 || r.PulledRows != 1 {
			t.Errorf("%+v: want the later row, and two parked", r)
		}
		b.exec(`DROP TRIGGER strict`)
		b.sync()
		settled(t, m, a, b)
		b.want(`SELECT count(*) FROM docs WHERE id > '6'`, "7")
	})
}

func mustExec2(t *testing.T, db *sql.DB, q string, args ...any) {
	t.Helper()
	if _, err := db.Exec(q, args...); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

// TestScenario_46_manyWriters: of very many devices each wrote a row of its own, and a
// common one, once. What is kept of a row, on a device and at the master, is as small as if
// one had written them all.
func TestScenario_46_manyWriters(t *testing.T) {
	rows := sized(40, 10_000)
	type kept struct {
		dots, common float64 // bytes at the master of a row's clock, and of the common row's
		master       float64 // bytes of its file, a row
		device       float64 // bytes of VeloSync's own tables on a device, in all
	}
	measure := func(writers int) (k kept) {
		m := masterdtest.New(t, masterdtest.Options{Log: quiet, Insecure: true})
		first := newDevice(t, m, "first", func(o *replicator.Options) { o.Log = quiet })
		first.exec(notes, `SELECT velosync_track('notes')`, `INSERT INTO notes VALUES ('common', 'base', '', 1)`)
		settled(t, m, first)
		file := first.copyOf() // each writer is a copy of the one before it, with an id of its own
		began := time.Now()
		for i := range writers {
			briefly(t, m, file, func(db *sql.DB) {
				mustExec(t, db, fmt.Sprintf(`UPDATE _velosync_state SET device = x'%032x'`, i+1), `DELETE FROM _velosync_name`)
				for j := i; j < rows; j += writers {
					mustExec(t, db, fmt.Sprintf(`INSERT INTO notes VALUES ('row %06d', 'title', 'body', 1)`, j), fmt.Sprintf(`UPDATE notes SET title = 'by %d' WHERE id = 'common'`, j))
				}
			})
		}
		settled(t, m, first)
		m.Reopen() // its file holds everything then
		db := masterDB(t, m)
		defer db.Close()
		var n, known int
		err := db.QueryRow(`SELECT (SELECT avg(length(dots)) FROM _velosync_row WHERE pk <> 'common'), (SELECT length(dots) FROM _velosync_row WHERE pk = 'common'),
			(SELECT count(*) FROM _velosync_row), (SELECT count(*) FROM _velosync_device)`).Scan(&k.dots, &k.common, &n, &known)
		if err != nil {
			t.Fatal(err)
		}
		if n != rows+1 || known != writers+1 {
			t.Fatalf("the master has %d rows of %d devices", n, known)
		}
		k.master = float64(spaceStats(t, m).Bytes) / float64(rows)
		for _, c := range strings.Split(first.rows(`SELECT s.name || ' ' || c.name FROM sqlite_schema s JOIN pragma_table_info(s.name) c WHERE s.type = 'table' AND s.name LIKE '\_velosync\_%' ESCAPE '\'`), "\n") {
			table, column, _ := strings.Cut(c, " ")
			var bytes float64
			if err := first.db.QueryRow(fmt.Sprintf(`SELECT coalesce(sum(length(CAST("%s" AS BLOB))), 0) FROM "%s"`, column, table)).Scan(&bytes); err != nil {
				t.Fatal(err)
			}
			k.device += bytes
		}
		t.Logf("%d rows by %d devices, in %v: the master keeps %.1f bytes of clocks a row, %.0f of the row that all wrote, and its file has %.0f bytes a row; VeloSync's tables on a device hold %.0f bytes",
			rows, writers, time.Since(began).Round(time.Millisecond), k.dots, k.common, k.master, k.device)
		return k
	}
	one, many := measure(1), measure(rows)
	if many.dots > one.dots+3 || many.common > one.common+8 { // a device's number takes up to three bytes
		t.Errorf("clocks of a row: %.1f bytes with one writer, %.1f with %d; of the common row %.0f and %.0f", one.dots, many.dots, rows, one.common, many.common)
	}
	if many.device > one.device+8 {
		t.Errorf("VeloSync's tables on a device: %.0f bytes with one writer, %.0f with %d", one.device, many.device, rows)
	}
}

// TestScenario_49_editInFlight: a column is edited again while its older edit is in flight
// and loses: the newer edit has not seen the winner, so it is concurrent with it.
func TestScenario_49_editInFlight(t *testing.T) {
	for _, x := range []struct{ name, edit, want, lost string }{
		{"lighter", `UPDATE notes SET title = 'newer', score = 2 WHERE id = 'x'`, "by b", `{"title":"older","score":1.5},{"title":"newer","score":2.0}`},
		{"heavier", `UPDATE notes SET title = 'newer', score = 9 WHERE id = 'x'`, "newer", `{"title":"older","score":1.5}`},
		{"a delete, lighter", `UPDATE notes SET score = 2 WHERE id = 'x'; DELETE FROM notes WHERE id = 'x'`, "by b", `{"title":"older","score":1.5},a delete`},
	} {
		for _, step := range []string{"push", "apply"} {
			t.Run(x.name+" before "+step, func(t *testing.T) {
				m := masterdtest.New(t, masterdtest.Options{})
				var write func()
				a := newDevice(t, m, "a", func(o *replicator.Options) {
					o.Step = func(s string) error {
						if s == step && write != nil {
							write()
							write = nil
						}
						return nil
					}
				})
				b, c := newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
				a.exec(notes, trackNotes, threeNotes)
				settled(t, m, a, b, c)
				b.exec(`UPDATE notes SET title = 'by b', score = 5 WHERE id = 'x'`)
				b.sync()
				a.exec(`UPDATE notes SET title = 'older', score = 1.5 WHERE id = 'x'`)
				write = func() { a.exec(x.edit) }
				a.sync()
				settled(t, m, a, b, c)
				c.want(`SELECT title FROM notes WHERE id = 'x'`, x.want)
				a.want(`SELECT group_concat(coalesce(mine, 'a delete')) FROM (SELECT mine FROM velosync_conflicts ORDER BY id)`, x.lost)
				if x.want == "newer" {
					b.want(`SELECT mine FROM velosync_conflicts`, `{"title":"by b","score":5.0}`)
				} else {
					b.want(`SELECT count(*) FROM velosync_conflicts`, "0")
				}
			})
		}
	}
}

// TestScenario_50_answerOfAConflictLost: the master settled a conflict against the device,
// which has not heard of it and edits the row again.
func TestScenario_50_answerOfAConflictLost(t *testing.T) {
	for _, x := range []struct{ name, edit, want, lost string }{
		{"the same column, lighter", `UPDATE notes SET title = 'again', score = 2 WHERE id = 'x'`, "x by b green 5", `{"title":"mine","score":1.5},{"title":"again","score":2.0}`},
		{"the same column, heavier", `UPDATE notes SET title = 'again', score = 9 WHERE id = 'x'`, "x again green 9", `{"title":"mine","score":1.5}`},
		{"another column", `UPDATE notes SET body = 'again' WHERE id = 'x'`, "x by b again 5", `{"title":"mine","score":1.5}`},
	} {
		for _, times := range []int{1, 3} {
			t.Run(fmt.Sprint(x.name, ", answers lost: ", times), func(t *testing.T) {
				m := masterdtest.New(t, masterdtest.Options{})
				line := &switchboard{}
				t.Cleanup(line.http.CloseIdleConnections)
				a, b, c := newDevice(t, m, "a", func(o *replicator.Options) { o.Transport = line }), newDevice(t, m, "b", nil), newDevice(t, m, "c", nil)
				a.exec(notes, trackNotes, threeNotes)
				settled(t, m, a, b, c)
				b.exec(`UPDATE notes SET title = 'by b', score = 5 WHERE id = 'x'`)
				b.sync()
				a.exec(`UPDATE notes SET title = 'mine', score = 1.5 WHERE id = 'x'`)
				line.set(nil, func(*http.Request) error { return errCut })
				for range times {
					_ = a.fails()
				}
				if got := spaceStats(t, m).Conflicts; got != 1 {
					t.Fatalf("%d conflicts at the master, want that it settled one", got)
				}
				line.set(nil, nil)
				a.exec(x.edit)
				settled(t, m, a, b, c)
				c.want(`SELECT * FROM notes WHERE id = 'x'`, x.want)
				a.want(`SELECT group_concat(mine) FROM (SELECT mine FROM velosync_conflicts ORDER BY id)`, x.lost)
			})
		}
	}
}
