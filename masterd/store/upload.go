package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// An upload writes to the database what a transaction of the file changed.
type upload struct {
	*vsql.Conn
	origin  *origin
	at      *spot
	version int64 // of the schema before

	batch pgx.Batch
	size  int // bytes in batch
	rows  rowColumns
	items itemColumns
}

// Rows and items travel as columns, so many at a time, about.
const (
	uploadRows  = 1000
	uploadBytes = 1 << 20 // of one statement
	batchBytes  = 8 << 20 // of the statements that are sent together
)

type rowColumns struct {
	tbl       []int64
	key       [][]byte
	seq       []int64
	pk        [][]byte
	deleted   []bool
	dots      [][]byte
	vals      [][]byte
	bytes     int
	forgotten change.Seq
}

type itemColumns struct {
	kind  []string
	key   [][]byte
	gone  []bool
	vals  [][]byte
	bytes int
}

// collect sends what changed. changed is false when that is nothing.
func (u *upload) collect(ctx context.Context, q pgx.Tx, t *tx) (changed bool, err error) {
	first := u.at.change == 0
	if first {
		if _, err := u.Exec(`INSERT INTO temp._velosync_changed SELECT '_velosync_table', id, NULL FROM _velosync_table`); err != nil {
			return false, err
		}
	}
	var noted int64
	if _, err := u.Row(`SELECT count(*) FROM (SELECT 1 FROM temp._velosync_changed WHERE kind <> '_velosync_space' LIMIT 1)`, nil, &noted); err != nil {
		return false, err
	}
	if !first && noted == 0 && t.head == u.at.head && t.schema.version == u.version {
		return false, nil
	}
	if first || t.schema.version != u.version {
		if err := u.addTables(); err != nil {
			return false, err
		}
	}
	if err := u.addRows(ctx, q, t); err != nil {
		return false, err
	}
	return true, u.addItems(ctx, q)
}

// addTables adds the SQL of all users' tables.
func (u *upload) addTables() error {
	texts, err := tableSQLs(u.Conn)
	if err != nil {
		return err
	}
	for id, text := range texts {
		key, _ := itemKey(id)
		u.items.add(ddlKind, key, false, appendValues(nil, []change.Value{id, text.sql}))
	}
	return nil
}

// addRows adds the rows that changed: those that are in the feed behind the old head.
func (u *upload) addRows(ctx context.Context, q pgx.Tx, t *tx) error {
	return u.Query(`SELECT feed, tbl, pk, deleted, dots, trash FROM _velosync_row WHERE feed > ? ORDER BY feed`, []driver.Value{int64(u.at.head)},
		func(row []driver.Value) error {
			table := t.schema.byID[row[1].(int64)]
			if table == nil {
				return fmt.Errorf("row %d of the feed is of table %v, which is not there", row[0], row[1])
			}
			key, long := itemKey(row[2])
			var pk []byte
			if long {
				pk = appendValues(nil, row[2:3])
			}
			deleted := row[3].(int64) != 0
			vals, _ := row[5].([]byte)
			if !deleted {
				names, err := change.SplitKey(row[2], len(table.def.Key))
				if err != nil {
					return err
				}
				values, err := readRow(u.Conn, table, names)
				if err == nil && values == nil {
					err = fmt.Errorf("row %d of the feed is listed, its values are not there", row[0])
				}
				if err != nil {
					return err
				}
				vals = appendValues(nil, values)
			}
			r := &u.rows
			r.tbl, r.key, r.seq, r.pk = append(r.tbl, table.id), append(r.key, key), append(r.seq, row[0].(int64)), append(r.pk, pk)
			r.deleted, r.dots, r.vals = append(r.deleted, deleted), append(r.dots, row[4].([]byte)), append(r.vals, notNil(vals))
			r.bytes += len(key) + len(pk) + len(vals) + 64
			if len(r.tbl) >= uploadRows || r.bytes >= uploadBytes {
				return u.flush(ctx, q)
			}
			return nil
		})
}

// notNil makes an empty value of none: to the database nil is NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// addItems adds the rows of small tables that changed.
func (u *upload) addItems(ctx context.Context, q pgx.Tx) error {
	return u.Query(`SELECT DISTINCT kind, k1, k2 FROM temp._velosync_changed`, nil, func(row []driver.Value) error {
		name := row[0].(string)
		if name == rowTable {
			u.rows.forgotten = max(u.rows.forgotten, change.Seq(row[1].(int64)))
			return nil
		}
		k, err := u.origin.kind(name)
		if err != nil {
			return err
		}
		names := row[1 : 1+len(k.key)]
		gone, vals := true, appendValues(nil, names)
		err = u.Query(k.read, names, func(values []driver.Value) error {
			gone, vals = false, appendValues(nil, values)
			return nil
		})
		if err != nil {
			return err
		}
		key, _ := itemKey(names...)
		u.items.add(name, key, gone, vals)
		if len(u.items.kind) >= uploadRows || u.items.bytes >= uploadBytes {
			return u.flush(ctx, q)
		}
		return nil
	})
}

func (c *itemColumns) add(kind string, key []byte, gone bool, vals []byte) {
	c.kind, c.key, c.gone, c.vals = append(c.kind, kind), append(c.key, key), append(c.gone, gone), append(c.vals, vals)
	c.bytes += len(key) + len(vals) + 64
}

// flush makes statements of the columns, and sends them when there are enough.
func (u *upload) flush(ctx context.Context, q pgx.Tx) error {
	if r := &u.rows; len(r.tbl) > 0 {
		u.batch.Queue(vsql.Postgres("put_rows.sql"), u.origin.name, r.tbl, r.key, r.seq, r.pk, r.deleted, r.dots, r.vals)
		u.size += r.bytes
		*r = rowColumns{forgotten: r.forgotten}
	}
	if c := &u.items; len(c.kind) > 0 {
		u.batch.Queue(vsql.Postgres("put_items.sql"), u.origin.name, u.at.change+1, c.kind, c.key, c.gone, c.vals)
		u.size += c.bytes
		*c = itemColumns{}
	}
	if u.size < batchBytes {
		return nil
	}
	return u.send(ctx, q)
}

func (u *upload) send(ctx context.Context, q pgx.Tx) error {
	err := q.SendBatch(ctx, &u.batch).Close()
	u.batch, u.size = pgx.Batch{}, 0
	if err != nil {
		return fmt.Errorf("write to the database: %w", err)
	}
	return nil
}

// pruneEvery is how many changes come between two prunings, and keepChanges how far back a
// file may be that is not filled anew.
const (
	pruneEvery  = 1000
	keepChanges = 10_000
)

// finish writes the space's row, and sends what is left.
func (u *upload) finish(ctx context.Context, q pgx.Tx, t *tx, next place) error {
	if t.head < u.at.head {
		return errors.New("the head went back")
	}
	if err := u.flush(ctx, q); err != nil {
		return err
	}
	name, at, b := u.origin.name, u.at, &u.batch
	if u.rows.forgotten > at.forgotten {
		at.forgotten = u.rows.forgotten
		// The oldest are forgotten first, so that is all of them up to there.
		b.Queue(`DELETE FROM velosync_row WHERE space = $1 AND deleted AND seq <= $2`, name, at.forgotten)
	}
	if old := next.change - keepChanges; next.change%pruneEvery == 0 && old > 0 {
		at.pruned = old
		b.Queue(`DELETE FROM velosync_change WHERE space = $1 AND change < $2`, name, old)
		b.Queue(`DELETE FROM velosync_item WHERE space = $1 AND gone AND change <= $2`, name, old)
	}
	b.Queue(`INSERT INTO velosync_change (space, change, stamp) VALUES ($1, $2, $3)`, name, next.change, next.stamp[:])
	b.Queue(vsql.Postgres("put_space.sql"), name, next.stamp[:], t.head, at.forgotten, at.server, at.presumed, at.pruned)
	return u.send(ctx, q)
}
