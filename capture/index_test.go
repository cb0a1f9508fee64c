package capture

import (
	"path/filepath"
	"testing"
)

const indexed = `
CREATE TABLE notes(id INTEGER PRIMARY KEY, embedding BLOB);
WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
	INSERT INTO notes SELECT i, vec_f32(json_array(random() % 1000, random() % 1000, random() % 1000)) FROM n;
CREATE VIRTUAL TABLE "my notes" USING velosync_knn(notes, embedding, metric=l2, lists_from=1000);
CREATE TABLE other(comment TEXT DEFAULT 'using velosync_knn');`

func TestDevice_Fold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.db")
	d, _ := openFile(t, file)
	run(t, d, indexed)
	changed := func() (n int) {
		t.Helper()
		if _, err := d.c.Row(`SELECT count(*) FROM "my notes_dirty"`, nil, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	fold := func(want bool) {
		t.Helper()
		more, err := d.Fold()
		if err != nil || more != want {
			t.Fatalf("Fold: more %v, error %v, want more %v; %d changed rows", more, err, want, changed())
		}
	}
	run(t, d, `UPDATE notes SET embedding = vec_f32('[1,2,3]') WHERE id <= 127`)
	if fold(false); changed() != 127 {
		t.Errorf("%d changed rows: few are left to searches", changed())
	}
	run(t, d, `UPDATE notes SET embedding = vec_f32(json_array(id, 1, 2)) WHERE id <= 300`)
	if fold(true); changed() != 300-foldRows {
		t.Errorf("%d changed rows after a piece of %d of 300", changed(), foldRows)
	}
	// Another's transaction is not waited for (else this test takes ten minutes), and the
	// connection waits as long as before for what comes after.
	run(t, d, `PRAGMA busy_timeout = 600000`)
	_, other := openFile(t, file)
	exec := func(query string) {
		t.Helper()
		if _, err := other.Exec(query, nil); err != nil { //nolint:staticcheck // no context here
			t.Fatal(err)
		}
	}
	exec(`BEGIN IMMEDIATE`)
	if fold(true); changed() != 300-foldRows {
		t.Errorf("%d changed rows after a fold that could not write", changed())
	}
	exec(`ROLLBACK`)
	var timeout int
	if _, err := d.c.Row(`PRAGMA busy_timeout`, nil, &timeout); err != nil || timeout != 600000 {
		t.Errorf("busy_timeout is %d: %v", timeout, err)
	}
	for changed() >= foldFrom+foldRows {
		fold(true)
	}
	if fold(false); changed() >= foldFrom {
		t.Errorf("%d changed rows are left", changed())
	}
	run(t, d, `INSERT INTO "my notes"("my notes") VALUES ('integrity-check')`)
}
