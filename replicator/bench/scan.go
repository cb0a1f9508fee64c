package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/velosync/velosync/sqlfuncs"
)

// scan measures an exact search over all rows.
func (b *bench) scan(ctx context.Context) (err error) {
	db, err := openDocs(ctx, filepath.Join(b.dir, "scan.db"), false, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.remove()) }()
	if err := db.insert(ctx, b.docs, len(b.docs)); err != nil {
		return err
	}
	if _, err := db.checkpoint(ctx); err != nil {
		return err
	}
	g := newGenerator(5)
	search := func() error {
		query, err := sqlfuncs.PackF32(g.vector())
		if err != nil {
			return err
		}
		rows, err := db.QueryContext(ctx, `SELECT id, title FROM docs ORDER BY cosine_similarity(embedding, ?) DESC LIMIT 10`, query)
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for ; rows.Next(); n++ {
			var id, title string
			if err := rows.Scan(&id, &title); err != nil {
				return err
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if n != 10 {
			return fmt.Errorf("a search found %d rows, want 10", n)
		}
		return nil
	}
	floor := func() error {
		_, err := db.number(ctx, `SELECT sum(length(embedding)) FROM docs`)
		return err
	}
	var took, floors []float64
	for i := range b.size.scans + 1 {
		for _, run := range []struct {
			f    func() error
			into *[]float64
		}{{search, &took}, {floor, &floors}} {
			began := time.Now()
			if err := run.f(); err != nil {
				return err
			}
			if i > 0 { // the first one reads the file
				*run.into = append(*run.into, time.Since(began).Seconds()*1e3)
			}
		}
	}
	b.add(row{
		Work: fmt.Sprintf("exact ORDER BY cosine_similarity LIMIT 10, %s x %d", short(b.size.rows), dims), Figure: median(took), Unit: "ms",
		Ratio: median(took) / median(floors), Floor: "SELECT sum(length(embedding))", Elsewhere: "109; 46 in its own table",
		Note: fmt.Sprintf("median of %d, 4 KiB pages, warm; the floor took %s ms, and reads no vector but its length", len(took), number(median(floors))),
	}.aims(atMost(42 * float64(b.size.rows) / 100_000)))
	return nil
}
