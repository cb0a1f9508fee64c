package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// A pair is what the same work took in a plain and in a tracked file, one after the other:
// the ratio within a pair says more than either figure where others use the machine.
type pair struct{ plain, tracked cost }

// overhead sums up pairs of n rows each. The figure is the tracked file's.
func overhead(work string, pairs []pair, n int) []row {
	var cpu, wall, cpuRatio, wallRatio []float64
	for _, p := range pairs {
		cpu = append(cpu, p.tracked.cpu.Seconds()*1e6/float64(n))
		wall = append(wall, p.tracked.wall.Seconds()*1e6/float64(n))
		cpuRatio = append(cpuRatio, p.tracked.cpu.Seconds()/p.plain.cpu.Seconds())
		wallRatio = append(wallRatio, p.tracked.wall.Seconds()/p.plain.wall.Seconds())
	}
	note := fmt.Sprintf("median of %d pairs of %d rows, ratios %s to %s", len(pairs), n, number(slices.Min(cpuRatio)), number(slices.Max(cpuRatio)))
	return []row{
		{Work: "capture: " + work, Figure: median(cpu), Unit: "us CPU a row", Ratio: median(cpuRatio), Floor: "plain SQLite", Note: note},
		{Work: "capture: " + work, Figure: median(wall), Unit: "us a row", Ratio: median(wallRatio), Floor: "plain SQLite"},
	}
}

func median(v []float64) float64 { return quantile(v, 0.5) }

// quantile returns a value of v, or one between two of them.
func quantile(v []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(v))
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 == len(s) {
		return s[i]
	}
	return s[i] + (at-float64(i))*(s[i+1]-s[i])
}

// capture measures what tracking costs the application.
func (b *bench) capture(ctx context.Context) error {
	const peers = "1.8-2.6 x"
	shapes := []struct {
		work       string
		rows, per  int
		most       float64
		elsewhere  string
		keepLatest bool
	}{
		{"insert, 1-row transactions", b.size.singles, 1, 1.25, peers, false},
		{"insert, 1-row transactions, prepared each time", b.size.singles, 0, 0, "", false},
		{"insert, 1k-row transactions", b.size.batched, b.size.thousand, 1.25, peers, false},
		{fmt.Sprintf("insert, one %s transaction", short(b.size.rows)), b.size.rows, b.size.rows, 1.4, "2.17 x; 2.4-7 x", true},
	}
	var growth row
	for _, s := range shapes {
		var pairs []pair
		for i := range b.size.pairs {
			p, kept, err := b.insertPair(ctx, s.rows, s.per, i)
			if err != nil {
				return err
			}
			pairs = append(pairs, p)
			if s.keepLatest && i == b.size.pairs-1 {
				if growth, err = b.growth(ctx, kept); err == nil {
					err = b.changes(ctx, kept)
				}
			}
			if err := errors.Join(err, kept.remove()); err != nil {
				return err
			}
		}
		list := overhead(s.work, pairs, s.rows)
		if s.most > 0 {
			list[0] = list[0].aims(ratioAtMost(s.most))
			list[0].Elsewhere = s.elsewhere
		}
		b.add(list...)
	}
	b.add(b.changed...)
	b.add(growth)
	return nil
}

// files are a plain and a tracked database with the same rows.
type files struct{ plain, tracked *database }

func (f files) remove() error { return errors.Join(f.plain.remove(), f.tracked.remove()) }

// insertPair inserts the same rows into two new files, the tracked one first every other time.
func (b *bench) insertPair(ctx context.Context, rows, per, turn int) (p pair, f files, err error) {
	open := func(name string, tracked bool) (*database, error) {
		return openDocs(ctx, filepath.Join(b.dir, name), tracked, "")
	}
	if f.plain, err = open("plain.db", false); err != nil {
		return p, f, err
	}
	if f.tracked, err = open("tracked.db", true); err != nil {
		return p, f, errors.Join(err, f.plain.remove())
	}
	p, err = inTurn(turn, f, func(db *database) error { return db.insert(ctx, b.docs[:rows], per) })
	if err != nil {
		return p, f, errors.Join(err, f.remove())
	}
	return p, f, nil
}

// inTurn measures the same work in both files, beginning with one, then with the other.
func inTurn(turn int, f files, work func(*database) error) (p pair, err error) {
	steps := []func() error{
		func() (err error) { p.plain, err = measure(func() error { return work(f.plain) }); return err },
		func() (err error) { p.tracked, err = measure(func() error { return work(f.tracked) }); return err },
	}
	if turn%2 == 1 {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return p, err
		}
	}
	return p, nil
}

// growth compares the files before anything is shipped.
func (b *bench) growth(ctx context.Context, f files) (row, error) {
	plain, err := f.plain.checkpoint(ctx)
	if err != nil {
		return row{}, err
	}
	tracked, err := f.tracked.checkpoint(ctx)
	if err != nil {
		return row{}, err
	}
	return row{
		Work: "capture: file, nothing shipped yet", Figure: float64(tracked) / float64(b.size.rows), Unit: "bytes a row",
		Ratio: float64(tracked) / float64(plain), Floor: "plain SQLite", Elsewhere: "1.31 x",
		Note: fmt.Sprintf("plain %s B; each row has one log row", number(float64(plain)/float64(b.size.rows))),
	}.aims(ratioAtMost(1.02)), nil
}

// changes measures updates and deletes in files that hold all rows.
func (b *bench) changes(ctx context.Context, f files) error {
	n := b.size.thousand
	g := newGenerator(2)
	works := []struct {
		work string
		run  func(db *database, from, turn int) error
	}{
		{"update of 1k titles", func(db *database, from, turn int) error {
			return db.each(ctx, `UPDATE docs SET title = ? WHERE id = ?`, n, func(i int) []any {
				d := &b.docs[from+i]
				return []any{b.titles[(i+turn)%len(b.titles)], d.id}
			})
		}},
		{"update of 1k whole rows", func(db *database, from, turn int) error {
			return db.each(ctx, `UPDATE docs SET title = ?, body = ?, embedding = ?, weight = ?, updated_at = ? WHERE id = ?`, n, func(i int) []any {
				other := &b.docs[(from+i+n)%len(b.docs)]
				return []any{other.title, other.body, other.embedding, other.weight, other.updatedAt, b.docs[from+i].id}
			})
		}},
		{"delete of 1k rows", func(db *database, from, turn int) error {
			return db.each(ctx, `DELETE FROM docs WHERE id = ?`, n, func(i int) []any { return []any{b.docs[from+i].id} })
		}},
	}
	for len(b.titles) < n+1 {
		b.titles = append(b.titles, g.title())
	}
	turns := min(4*b.size.pairs, b.size.rows/(2*n)) // of each row, one delete
	for _, w := range works {
		var pairs []pair
		for turn := range turns {
			p, err := inTurn(turn, f, func(db *database) error { return w.run(db, turn*n, turn) })
			if err != nil {
				return err
			}
			pairs = append(pairs, p)
		}
		b.changed = append(b.changed, overhead(w.work, pairs, n)...)
	}
	return nil
}
