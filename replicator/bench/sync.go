package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/velosync/velosync/replicator"
)

const wireNote = "request or answer bodies, HTTP headers left out"

// A device is a file, open for an application and for syncing.
type device struct {
	db *database
	r  *replicator.Replicator
}

func (d *device) close() error {
	var errs []error
	if d.r != nil {
		errs = append(errs, d.r.Close())
	}
	if d.db != nil {
		errs = append(errs, d.db.remove())
	}
	return errors.Join(errs...)
}

// sync runs a round, and tells what it took.
func (d *device) sync(ctx context.Context) (round replicator.Round, c cost, err error) {
	c, err = measure(func() error {
		round, err = d.r.Sync(ctx)
		return err
	})
	return round, c, err
}

// plain measures what the rows cost in a file that is not tracked, in one transaction: the
// floor of what moves all of them.
func (b *bench) plain(ctx context.Context) error {
	db, err := openDocs(ctx, filepath.Join(b.dir, "floor.db"), false, "")
	if err != nil {
		return err
	}
	b.plainInsert, err = measure(func() error { return db.insert(ctx, b.docs, len(b.docs)) })
	if err == nil {
		b.plainBytes, err = db.checkpoint(ctx)
	}
	return errors.Join(err, db.remove())
}

// sync measures rounds between two devices.
func (b *bench) sync(ctx context.Context) (err error) {
	if err := b.plain(ctx); err != nil {
		return err
	}
	m, err := startMaster(filepath.Join(b.dir, "master"))
	if err != nil {
		return err
	}
	b.docsMaster = m
	defer func() { err = errors.Join(err, m.stop()) }()
	var one, two device
	defer func() { err = errors.Join(err, one.close(), two.close()) }()
	if one.db, err = openDocs(ctx, filepath.Join(b.dir, "one.db"), true, ""); err != nil {
		return err
	}
	if err := one.db.insert(ctx, b.docs, len(b.docs)); err != nil {
		return err
	}
	if one.r, err = m.replicator(ctx, one.db.path, "docs", "one"); err != nil {
		return err
	}
	if two.r, err = m.replicator(ctx, filepath.Join(b.dir, "two.db"), "docs", "two"); err != nil {
		return err
	}
	if two.db, err = openFile(filepath.Join(b.dir, "two.db"), ""); err != nil {
		return err
	}
	steps := []func(context.Context, *device, *device) error{b.push, b.bootstrap, b.title, b.churn}
	for _, step := range steps {
		if err := step(ctx, &one, &two); err != nil {
			return err
		}
	}
	return nil
}

// whole describes a round that moved all rows.
func (b *bench) whole(work string, c cost, bytes int64, least, most float64, rate, size string) []row {
	n := float64(b.size.rows)
	speed := row{
		Work: work, Figure: n / c.wall.Seconds(), Unit: "rows/s", Ratio: c.wall.Seconds() / b.plainInsert.wall.Seconds(), Floor: "time of the plain insert", Elsewhere: rate,
		Note: fmt.Sprintf("%d rows in %.2f s; the plain insert %.2f s", b.size.rows, c.wall.Seconds(), b.plainInsert.wall.Seconds()),
	}
	if least > 0 {
		speed = speed.aims(atLeast(least))
	}
	compute := row{
		Work: work, Figure: c.cpu.Seconds() * 1e6 / n, Unit: "us CPU a row", Ratio: c.cpu.Seconds() / b.plainInsert.cpu.Seconds(), Floor: "CPU of the plain insert",
		Note: "device, HTTP and masterd together, which is all that one process has",
	}
	volume := row{Work: work, Figure: float64(bytes) / n, Unit: "bytes a row", Ratio: float64(bytes) / n / packedBytes, Floor: "the row packed, 1,822 B", Elsewhere: size, Note: wireNote}
	if most > 0 {
		volume = volume.aims(atMost(most))
	}
	return []row{speed, compute, volume}
}

func (b *bench) push(ctx context.Context, one, _ *device) error {
	round, c, err := one.sync(ctx)
	if err != nil {
		return err
	}
	if round.PushedRows != b.size.rows {
		return fmt.Errorf("pushed %d rows, want %d", round.PushedRows, b.size.rows)
	}
	b.add(b.whole("first push", c, round.PushedBytes, 40_000, 1450, "12.9k", "1,804")...)
	used, err := one.db.checkpoint(ctx)
	if err != nil {
		return err
	}
	log, err := one.db.number(ctx, `SELECT count(*) FROM _velosync_wal`)
	if err != nil {
		return err
	}
	b.add(row{
		Work: "file, all shipped and the log pruned", Figure: float64(used) / float64(b.size.rows), Unit: "bytes a row",
		Ratio: float64(used) / float64(b.plainBytes), Floor: "plain SQLite", Elsewhere: "1.31 x",
		Note: fmt.Sprintf("pages in use; %d log row left; pages that the log freed are used again", log),
	}.aims(ratioAtMost(1.02)))
	return nil
}

func (b *bench) bootstrap(ctx context.Context, _, two *device) error {
	round, c, err := two.sync(ctx)
	if err != nil {
		return err
	}
	work := "bootstrap of a new device"
	if round.SnapshotRows > 0 {
		work += " by snapshot, which is written for it"
	}
	if round.PulledRows != b.size.rows {
		return fmt.Errorf("pulled %d rows, want %d", round.PulledRows, b.size.rows)
	}
	b.add(b.whole(work, c, round.PulledBytes, 75_000, 0, "75k", "")...)
	if round.SnapshotRows == 0 {
		return nil
	}
	if err := b.another(ctx, "bootstrap of the next device by the same snapshot", "three", false, 75_000); err != nil {
		return err
	}
	return b.another(ctx, "bootstrap of a new device by pull", "four", true, 0)
}

// another measures a new device that is gone after it.
func (b *bench) another(ctx context.Context, work, name string, inPages bool, least float64) (err error) {
	var d device
	path := filepath.Join(b.dir, name+".db")
	if d.r, err = b.docsMaster.fresh(ctx, path, "docs", name, inPages); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if d.db, err = openFile(path, ""); err != nil {
		return err
	}
	round, c, err := d.sync(ctx)
	if err != nil {
		return err
	}
	if round.PulledRows != b.size.rows || (round.SnapshotRows == 0) != inPages {
		return fmt.Errorf("%s: pulled %d rows, %d of them by snapshot, want %d", work, round.PulledRows, round.SnapshotRows, b.size.rows)
	}
	b.add(b.whole(work, c, round.PulledBytes, least, 0, "75k", "")...)
	return nil
}

// carry syncs what one has with two, and adds the figures of n rows.
func (b *bench) carry(ctx context.Context, work, note string, most float64, elsewhere string, n int, one, two *device) (replicator.Round, error) {
	pushed, c, err := one.sync(ctx)
	if err != nil {
		return pushed, err
	}
	pulled, d, err := two.sync(ctx)
	if err != nil {
		return pushed, err
	}
	if pushed.PushedRows != n || pulled.PulledRows != n {
		return pushed, fmt.Errorf("%s: pushed %d rows, pulled %d, want %d", work, pushed.PushedRows, pulled.PulledRows, n)
	}
	figure := func(verb string, bytes int64, c cost) row {
		return row{
			Work: work + ": " + verb, Figure: float64(bytes) / float64(n), Unit: "bytes a row", Elsewhere: elsewhere,
			Note: fmt.Sprintf("%s; the round took %s ms", note, number(c.wall.Seconds()*1e3)),
		}.aims(atMost(most))
	}
	b.add(figure("push", pushed.PushedBytes, c), figure("pull", pulled.PulledBytes, d))
	return pushed, nil
}

// retitle gives the first n docs new titles, in one transaction.
func (b *bench) retitle(ctx context.Context, db *database, n int, g *generator) error {
	return db.each(ctx, `UPDATE docs SET title = ? WHERE id = ?`, n, func(i int) []any { return []any{g.title(), b.docs[i].id} })
}

func (b *bench) title(ctx context.Context, one, two *device) error {
	n := b.size.thousand
	if err := b.retitle(ctx, one.db, n, newGenerator(3)); err != nil {
		return err
	}
	_, err := b.carry(ctx, "1k titles changed", `tracked with {"groups":[]}: a title ships without the embedding`, 60, "66", n, one, two)
	return err
}

// churns is how often each row changes offline.
const churns = 100

func (b *bench) churn(ctx context.Context, one, two *device) error {
	n := b.size.thousand
	g := newGenerator(4)
	for range churns {
		if err := b.retitle(ctx, one.db, n, g); err != nil {
			return err
		}
	}
	const work = "1k rows changed 100 times offline"
	before, err := one.db.number(ctx, `SELECT count(*) FROM _velosync_wal`)
	if err != nil {
		return err
	}
	pushed, err := b.carry(ctx, work, "titles", 45, "47.5", n, one, two)
	if err != nil {
		return err
	}
	after, err := one.db.number(ctx, `SELECT count(*) FROM _velosync_wal`)
	if err != nil {
		return err
	}
	b.add(
		row{Work: work, Figure: float64(pushed.Mutations), Unit: "mutations", Note: "compacted into one edit a row"},
		row{Work: work + ": log before", Figure: float64(before), Unit: "log rows"},
		row{Work: work + ": log after", Figure: float64(after), Unit: "log rows", Note: "the newest always stays, so that no lsn is used twice"}.aims(atMost(1)),
	)
	return nil
}
