package replicator_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/velosync/velosync/masterd/masterdtest"
	"github.com/velosync/velosync/replicator"
)

// TestSync_index: an index is each device's own, and follows what arrives by sync at once.
func TestSync_index(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	a, b := newDevice(t, m, "a", nil), newDevice(t, m, "b", nil)
	a.exec(`CREATE TABLE docs(id TEXT PRIMARY KEY NOT NULL, embedding BLOB)`, `SELECT velosync_track('docs')`,
		`INSERT INTO docs VALUES ('east', vec_f32('[1,0]')), ('north', vec_f32('[0,1]'))`)
	a.sync()
	b.sync()
	b.exec(`CREATE VIRTUAL TABLE docs_knn USING velosync_knn(docs, embedding, metric=cosine)`)
	near := func(query string) string {
		return strings.ReplaceAll(b.rows(fmt.Sprintf(`SELECT id FROM docs_knn WHERE embedding MATCH '%s' AND k = 2 ORDER BY distance`, query)), "\n", " ")
	}
	if got := near("[1,0.1]"); got != "east north" {
		t.Errorf("near [1,0.1]: %s", got)
	}
	a.exec(`INSERT INTO docs VALUES ('northeast', vec_f32('[1,1]'))`, `UPDATE docs SET embedding = vec_f32('[-1,0]') WHERE id = 'east'`)
	a.sync()
	b.sync()
	if got := near("[1,0.1]"); got != "northeast north" {
		t.Errorf("after a round, near [1,0.1]: %s", got)
	}
	a.exec(`DELETE FROM docs WHERE id = 'northeast'`)
	a.sync()
	b.sync()
	if got := near("[1,0.1]"); got != "north east" {
		t.Errorf("after a delete, near [1,0.1]: %s", got)
	}
	b.exec(`INSERT INTO docs_knn(docs_knn) VALUES ('integrity-check')`)
	// The index is not sent: the master and a know the table alone.
	if r := b.sync(); r.PushedRows != 0 {
		t.Errorf("%+v: the index was sent", r)
	}
	a.want(`SELECT count(*) FROM sqlite_schema WHERE name LIKE 'docs_knn%'`, "0")
}

// TestRun_foldsIndex: a device that never searches takes what it pulls into its index.
func TestRun_foldsIndex(t *testing.T) {
	m := masterdtest.New(t, masterdtest.Options{})
	folded := make(chan struct{}, 1)
	a := newDevice(t, m, "a", nil)
	b := newDevice(t, m, "b", func(o *replicator.Options) {
		o.Step = func(step string) error {
			if step == "fold" {
				select {
				case folded <- struct{}{}:
				default:
				}
			}
			return nil
		}
	})
	a.exec(`CREATE TABLE docs(id TEXT PRIMARY KEY NOT NULL, embedding BLOB)`, `SELECT velosync_track('docs')`,
		`WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
			INSERT INTO docs SELECT 'd' || i, vec_f32(json_array(random() % 1000, random() % 1000, random() % 1000)) FROM n`)
	a.sync()
	b.sync()
	b.exec(`CREATE VIRTUAL TABLE docs_knn USING velosync_knn(docs, embedding, metric=l2, lists_from=1000)`)
	a.exec(`UPDATE docs SET embedding = vec_f32('[1,2,3]') WHERE rowid <= 300`)
	a.sync()
	b.sync()
	b.want(`SELECT count(*) FROM docs_knn_dirty`, "300")

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.r.Run(ctx) }()
	limit := time.After(time.Minute)
	for left := 300; left >= 128; fmt.Sscan(b.rows(`SELECT count(*) FROM docs_knn_dirty`), &left) {
		select {
		case <-folded:
		case <-limit:
			t.Fatalf("%d rows are left to fold", left)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.exec(`INSERT INTO docs_knn(docs_knn) VALUES ('integrity-check')`)
}
