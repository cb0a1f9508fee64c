package store

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// comparedBytes is how many bytes of values one page of a comparison reads, in multiples
// of what a page of a pull may hold: they are hashed, not sent.
const comparedBytes = 8

// compare serves a page of a comparison: fingerprints of the rows that changed after
// p.Page. A device asks for it after a restore; it need not have pushed here.
func (s *space) compare(ctx context.Context, owner Owner, p *change.Push) (pull *change.Pull, err error) {
	d := s.device(p.Device)
	if err := d.check(owner); err != nil {
		return nil, err
	}
	err = s.readers.withContext(ctx, func(c *vsql.Conn) error {
		return c.ReadTx(func() error {
			g := page{Conn: c, space: s, at: make(map[blockKey]int)}
			if err := g.look(); err != nil {
				return err
			}
			// The space as it is: the device finds its own columns by their names, and the
			// restored master may not know the device's tables.
			if g.view, err = newView(g.schema, nil); err != nil {
				return err
			}
			pull, err = g.compare(ctx, p)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("store: compare with space %q: %w", s.name, err)
	}
	return pull, nil
}

func (g *page) compare(ctx context.Context, p *change.Push) (*change.Pull, error) {
	o := &g.space.engine.o
	g.to = g.head
	rows, bytes := 0, o.PageBytes*comparedBytes
	var prints change.Fingerprinter
	err := g.Query(feedQuery, []driver.Value{int64(p.Page), int64(o.PageRows) + 1}, func(row []driver.Value) error {
		feed := change.Seq(row[0].(int64))
		if rows == o.PageRows || rows > 0 && bytes <= 0 {
			g.to = feed - 1
			return errStop
		}
		if rows%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		rows++
		t := g.view.byID[row[1].(int64)]
		if t == nil {
			return fmt.Errorf("row %d of the feed is of table %v, which is not there: the store is damaged", feed, row[1])
		}
		if row[4].(int64) != 0 {
			if p.Page > 0 { // an earlier page may have named it
				b := g.block(blockKey{place: t.place, deleted: true})
				b.Keys = append(b.Keys, row[2])
			}
			return nil
		}
		if err := t.readDots(row[3].([]byte), feed, g, &g.scratch); err != nil {
			return fmt.Errorf("row %d of the feed: %w", feed, err)
		}
		size, err := g.fingerprint(t, row[2], p.Seen, &prints)
		bytes -= size
		return err
	})
	if err != nil && err != errStop {
		return nil, err
	}
	pull := &change.Pull{To: g.to, Done: g.to == g.head, Epochs: g.epochs, Now: o.Now().UnixMilli(), Blocks: g.blocks}
	if p.Known != g.view.digest {
		pull.Tables = g.view.list
	}
	return pull, nil
}

// fingerprint adds a live row, whose dots are in scratch: a fingerprint of each register,
// and whether the device that has common in common with this history can have seen it, or
// it was pushed back.
func (g *page) fingerprint(t *viewTable, pk change.Value, common change.Seq, prints *change.Fingerprinter) (size int64, err error) {
	key, err := change.SplitKey(pk, len(t.def.Key))
	if err != nil {
		return 0, err
	}
	row, err := readRow(g.Conn, t.table, key)
	if err == nil && row == nil {
		err = fmt.Errorf("row %.100v of %q is listed, its values are not there: the store is damaged", pk, t.def.Name)
	}
	if err != nil {
		return 0, err
	}
	b := g.block(blockKey{place: t.place, regs: t.all})
	if b.Columns == nil {
		b.Columns = make([][]change.Value, len(t.registers)+1)
	}
	b.Keys = append(b.Keys, pk)
	var old int64
	for r, cols := range t.registers {
		values := make([]change.Value, len(cols))
		for i, c := range cols {
			values[i] = row[c]
			size += sizeOf(row[c])
		}
		b.Columns[r] = append(b.Columns[r], prints.Of(values))
		if d := &g.scratch.Regs[r]; d.Seq <= common || d.Rank.Weight == change.PushedBack {
			old = 1
		}
	}
	b.Columns[len(t.registers)] = append(b.Columns[len(t.registers)], old)
	return size, nil
}
