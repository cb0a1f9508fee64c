package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/velosync/velosync/driver"
	"github.com/velosync/velosync/replicator"
)

// demoSchema is what an application would write. A body and its embedding are one merge
// group: a text never meets another text's embedding. Confidence is the semantic weight.
const (
	demoSchema = `CREATE TABLE docs (
  id         TEXT PRIMARY KEY NOT NULL,
  package    TEXT,
  name       TEXT,
  title      TEXT NOT NULL,
  body       TEXT,
  embedding  BLOB,
  confidence REAL,
  updated_at INTEGER
)`
	demoTrack  = `SELECT velosync_track('docs', '{"weight":"confidence","groups":[["body","embedding"]]}')`
	demoSearch = `SELECT id, title, cosine_similarity(embedding, ?) FROM docs ORDER BY 3 DESC, id LIMIT ?`
)

// demoConfidence is the confidence of a row that no one has judged.
const demoConfidence = 0.5

// A demoDevice is an application with its database. It writes plain SQL.
type demoDevice struct {
	name  string
	path  string
	token string
	db    *sql.DB
}

// openDemoDevice makes a new database with the table docs.
func openDemoDevice(ctx context.Context, name, path string) (*demoDevice, error) {
	db, err := sql.Open(driver.Name, path)
	if err != nil {
		return nil, err
	}
	d := &demoDevice{name: name, path: path, db: db}
	if err := d.exec(ctx, demoSchema); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := d.exec(ctx, demoTrack); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return d, nil
}

func (d *demoDevice) exec(ctx context.Context, query string, args ...any) error {
	if _, err := d.db.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	return nil
}

// changes runs a statement and returns how many rows it changed.
func (d *demoDevice) changes(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := d.db.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", d.name, err)
	}
	return result.RowsAffected()
}

// index inserts documents with their embeddings, in one transaction.
func (d *demoDevice) index(ctx context.Context, docs []document) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	defer tx.Rollback() // after a commit it does nothing
	insert, err := tx.PrepareContext(ctx, `INSERT INTO docs VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	for _, doc := range docs {
		if _, err := insert.ExecContext(ctx, doc.ID, doc.Package, doc.Name, doc.Title, doc.Body, embed(doc.Body), demoConfidence, time.Now().UnixMilli()); err != nil {
			return fmt.Errorf("%s: index %s: %w", d.name, doc.ID, err)
		}
	}
	return tx.Commit()
}

// rewrite gives a row another body, with the embedding that belongs to it.
func (d *demoDevice) rewrite(ctx context.Context, id, body string, confidence float64) error {
	return d.exec(ctx, `UPDATE docs SET body = ?, embedding = ?, confidence = ?, updated_at = ? WHERE id = ?`,
		body, embed(body), confidence, time.Now().UnixMilli(), id)
}

// A neighbour is a search result.
type neighbour struct {
	ID         string  `json:"id"`
	Title      string  `json:"title"`
	Similarity float64 `json:"similarity"`
}

// search returns the n documents nearest to a text.
func (d *demoDevice) search(ctx context.Context, text string, n int) ([]neighbour, error) {
	rows, err := d.db.QueryContext(ctx, demoSearch, embed(text), n)
	if err != nil {
		return nil, fmt.Errorf("%s: search: %w", d.name, err)
	}
	defer rows.Close()
	var list []neighbour
	for rows.Next() {
		var r neighbour
		if err := rows.Scan(&r.ID, &r.Title, &r.Similarity); err != nil {
			return nil, fmt.Errorf("%s: search: %w", d.name, err)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// sync runs one round against the master.
func (d *demoDevice) sync(ctx context.Context, url string, bars *progress) (round replicator.Round, err error) {
	r, err := replicator.New(d.path, replicator.Options{
		Master: url, Space: demoSpace, Token: d.token, Name: d.name, Log: slog.New(slog.DiscardHandler), Progress: bars.show,
	})
	if err != nil {
		return round, fmt.Errorf("%s: %w", d.name, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	defer bars.finish()
	round, err = r.Sync(ctx)
	if err != nil {
		return round, fmt.Errorf("%s: sync: %w", d.name, err)
	}
	return round, nil
}

// database returns the device as the commands see it.
func (d *demoDevice) database() *database { return &database{d.db, d.path} }
