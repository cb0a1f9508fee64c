package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	vsql "github.com/velosync/velosync/sql"
)

// metadata measures what a row costs beside its values once several devices have written
// it, one after the other.
func (b *bench) metadata(ctx context.Context) (err error) {
	m, err := startMaster(filepath.Join(b.dir, "master3"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	for _, devices := range b.size.devices {
		if err := b.written(ctx, m, devices); err != nil {
			return fmt.Errorf("%d devices: %w", devices, err)
		}
	}
	return nil
}

// written lets so many devices write the same rows in a space of their own.
func (b *bench) written(ctx context.Context, m *master, devices int) error {
	n := b.size.thousand
	space := fmt.Sprintf("written-by-%d", devices)
	g := newGenerator(6)
	var onDevice float64
	for i := range devices {
		err := func() (err error) {
			var d device
			defer func() { err = errors.Join(err, d.close()) }()
			path := filepath.Join(b.dir, fmt.Sprintf("writer-%d.db", i))
			if i == 0 {
				if d.db, err = openDocs(ctx, path, true, ""); err == nil {
					err = d.db.insert(ctx, b.docs[:n], n)
				}
			} else {
				d.db, err = openFile(path, "")
			}
			if err != nil {
				return err
			}
			if d.r, err = m.replicator(ctx, path, space, fmt.Sprintf("writer-%d", i)); err != nil {
				return err
			}
			if _, err := d.r.Sync(ctx); err != nil {
				return err
			}
			if i > 0 {
				if err := b.retitle(ctx, d.db, n, g); err != nil {
					return err
				}
				if _, err := d.r.Sync(ctx); err != nil {
					return err
				}
			}
			if i == devices-1 {
				onDevice, err = d.db.ownBytes(ctx)
			}
			return err
		}()
		if err != nil {
			return fmt.Errorf("writer %d: %w", i, err)
		}
	}
	store, err := openFile(m.file(space), "&_query_only=1")
	if err != nil {
		return err
	}
	var onMaster float64
	err = store.QueryRowContext(ctx, `SELECT avg(length(dots)) FROM _velosync_row`).Scan(&onMaster)
	if err := errors.Join(err, store.Close()); err != nil {
		return err
	}
	work := fmt.Sprintf("metadata of a row that %d devices wrote: ", devices)
	dots := "the dots: of the title, and of the other columns"
	if devices == 1 {
		work, dots = "metadata of a row that 1 device wrote: ", "the row's dot"
	}
	b.add(
		row{Work: work + "device", Figure: onDevice / float64(n), Unit: "bytes a row", Elsewhere: "349", Note: fmt.Sprintf("values in VeloSync's own tables, divided by %d rows", n)}.aims(atMost(20)),
		row{Work: work + "master", Figure: onMaster, Unit: "bytes a row", Elsewhere: "349", Note: dots},
	)
	return nil
}

// ownBytes adds up the values in VeloSync's own tables that grow with rows: not those that
// hold the schema.
func (db *database) ownBytes(ctx context.Context) (total float64, err error) {
	for _, name := range []string{"_velosync_wal", "_velosync_under", "_velosync_parked", "_velosync_name", "_velosync_epoch", "_velosync_state", "_velosync_conflict"} {
		rows, err := db.QueryContext(ctx, `SELECT name FROM pragma_table_info(?)`, name)
		if err != nil {
			return 0, err
		}
		var lengths []string
		for rows.Next() {
			var column string
			if err := rows.Scan(&column); err != nil {
				return 0, errors.Join(err, rows.Close())
			}
			lengths = append(lengths, "coalesce(length(CAST("+vsql.Quote(column)+" AS BLOB)), 0)")
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return 0, err
		}
		n, err := db.number(ctx, "SELECT coalesce(sum("+strings.Join(lengths, " + ")+"), 0) FROM "+vsql.Quote(name))
		if err != nil {
			return 0, err
		}
		total += float64(n)
	}
	return total, nil
}
