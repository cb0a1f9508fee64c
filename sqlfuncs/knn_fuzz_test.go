package sqlfuncs

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// damage changes one value of the index's own tables, as seed says.
var damages = []string{
	`UPDATE notes_knn_codes SET codes = ?1 WHERE id = (SELECT id FROM notes_knn_codes ORDER BY id LIMIT 1 OFFSET ?2 % (SELECT count(*) FROM notes_knn_codes))`,
	`UPDATE notes_knn_codes SET codes = substr(codes, 1, ?2 % 40) || ?1 || substr(codes, ?2 % 40 + length(?1) + 1) WHERE id % 3 = ?2 % 3`,
	`UPDATE notes_knn_codes SET codes = substr(codes, 1, length(codes) - ?2 % 100)`,
	`UPDATE notes_knn_codes SET codes = codes || ?1`,
	`UPDATE notes_knn_codes SET id = id + ?2 * 65536`,
	`UPDATE notes_knn_lists SET centroid = ?1 WHERE id % 3 = ?2 % 3`,
	`UPDATE notes_knn_lists SET centroid = substr(?1 || centroid, 1, length(centroid))`,
	`UPDATE notes_knn_lists SET rows = ?2 - 500, spread = ?1 WHERE id % 2 = 0`,
	`UPDATE notes_knn_lists SET rows = ?2 * 1000003, spread = ?2 * 1e30`,
	`UPDATE notes_knn_lists SET id = -id`,
	`DELETE FROM notes_knn_lists WHERE id % 2 = ?2 % 2`,
	`DELETE FROM notes_knn_codes WHERE (id >> 16) % 2 = ?2 % 2`,
	`DELETE FROM notes_knn_rows WHERE id % 5 = ?2 % 5`,
	`DELETE FROM notes_knn_meta`,
	`UPDATE notes_knn_rows SET a = ?2, b = ?1`,
	`UPDATE notes_knn_rows SET a = -a, b = a + 1`,
	`UPDATE notes_knn_meta SET tuning = ?1`,
	`UPDATE notes_knn_meta SET tuning = substr(tuning, 1, ?2 % 20) || ?1`,
	`UPDATE notes_knn_meta SET dims = ?2, stamp = stamp + 1`,
	`UPDATE notes_knn_meta SET dims = 16 * ?2, seed = ?2, stamp = ?2`,
	`UPDATE notes_knn_meta SET rows = -?2, format = 1 + ?2 % 2, stamp = stamp - 1`,
	`UPDATE notes_knn_meta SET dims = ?1, rows = ?1, seed = ?1`,
	`INSERT OR IGNORE INTO notes_knn_dirty VALUES (?2), (-?2), (-9223372036854775808), (9223372036854775807)`,
}

// FuzzKNN damages the index's tables and uses it. Anything may come out but a crash; the user's own
// table must stay as it is, and 'rebuild' must mend the index.
func FuzzKNN(f *testing.F) {
	for i := range damages {
		f.Add(uint8(i), uint16(i*37), []byte{1, 4, 3, 0, 0xff, 0xff, 0x7f, 0x80})
	}
	db, c := notesDB(f, ":memory:", 400, 16, ", lists_from=100")
	queries := [][]byte{blob(c.draw()), blob(c.draw())}
	f.Fuzz(func(t *testing.T, which uint8, n uint16, data []byte) {
		mustExec(t, db, `SAVEPOINT damage`)
		defer mustExec(t, db, `ROLLBACK TO damage; RELEASE damage`)
		r := rand.New(rand.NewPCG(uint64(n), 5))
		for i := range 1 + r.IntN(2) {
			_, _ = db.Exec(damages[(int(which)+i*r.IntN(100))%len(damages)], data, n) // what a constraint refuses is no damage
		}
		mustExec(t, db, `UPDATE notes_knn_meta SET stamp = coalesce(stamp, 0) + 1 + ?`, n) // or the lists in memory are used
		for range 2 {
			for i, statement := range []string{
				`SELECT id, distance FROM notes_knn WHERE embedding MATCH ?1 AND k = 10`,
				`SELECT id, distance FROM notes_knn WHERE embedding MATCH ?1 AND k = 300 AND recall = 0.999`,
				`SELECT id, distance FROM notes_knn WHERE embedding MATCH ?1 AND k = 5 AND id IN (SELECT id FROM notes WHERE id % 2)`,
			} {
				rows, err := db.Query(statement, queries[i%2])
				if err != nil {
					continue
				}
				for rows.Next() {
				}
				rows.Close()
			}
			_, _ = db.Exec(`INSERT OR REPLACE INTO notes VALUES (?1 % 500, 'en', ?2)`, n, queries[0])
			_, _ = db.Exec(`DELETE FROM notes WHERE id = (?1 + 7) % 500`, n)
			for _, command := range []string{"fold", "integrity-check", "optimize"} {
				_, _ = db.Exec(`INSERT INTO notes_knn(notes_knn) VALUES (?)`, command)
			}
		}
		if _, err := db.Exec(`INSERT INTO notes_knn(notes_knn) VALUES ('rebuild')`); err != nil {
			t.Fatal(err)
		}
		checkIndex(t, db, "notes_knn")
	})
}

// TestKNN_Damage says what each kind of damage is answered with.
func TestKNN_Damage(t *testing.T) {
	for i, damage := range damages {
		if i == len(damages)-1 {
			continue // changed rows that are not there are no damage
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			db, _ := notesDB(t, ":memory:", 400, 16, ", lists_from=100")
			mustExec(t, db, damage, []byte{1, 4, 3, 0, 0xff, 0xff, 0x7f, 0x80}, 7)
			mustExec(t, db, `UPDATE notes_knn_meta SET stamp = 1`)
			if _, err := db.Exec(`INSERT INTO notes_knn(notes_knn) VALUES ('integrity-check')`); err == nil {
				t.Errorf("%s: integrity-check finds nothing", damage)
			}
			mustExec(t, db, `INSERT INTO notes_knn(notes_knn) VALUES ('rebuild')`)
			checkIndex(t, db, "notes_knn")
		})
	}
}
