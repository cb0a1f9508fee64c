package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// maxNewer is how many rows may have changed since a device's seen where it asks whether
// a range is the same.
const maxNewer = 1000

// digest tells a device whether the space holds the same of a range as it does, and if not,
// what the space holds. It changes nothing, and can't tell where the device is not where its
// last round left it.
func (s *space) digest(ctx context.Context, owner Owner, p *change.Push) (pull *change.Pull, err error) {
	d := s.device(p.Device)
	if err := d.check(owner); err != nil {
		return nil, err
	}
	var differs string
	err = s.readers.withContext(ctx, func(c *vsql.Conn) error {
		return c.ReadTx(func() error {
			g := page{Conn: c, space: s, at: make(map[blockKey]int)}
			if err := g.look(); err != nil {
				return err
			}
			pull = &change.Pull{To: g.head, Done: true, Epochs: g.epochs, Now: s.engine.o.Now().UnixMilli()}
			if d.site == 0 || p.Seen > d.limit(g.head) || !sameHistory(p, g.epochs) {
				return nil
			}
			var err error
			if g.view, err = viewOf(c, g.schema, p.Schema); err != nil || g.view == nil {
				return err
			}
			differs, err = g.digest(ctx, p, pull)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("store: compare a range with space %q: %w", s.name, err)
	}
	if pull.Digest != change.RangeUnknown {
		s.digests.Add(1)
	}
	if differs != "" {
		s.divergences.Add(1)
		s.log.Warn("a device's rows are not the space's: it gets these", "device", p.Device, "table", differs,
			"after", p.Digest.After, "to", p.Digest.To, "rows", p.Digest.Rows)
	}
	return pull, nil
}

// sameHistory reports whether the device's epochs are those of the space up to its seen.
func sameHistory(p *change.Push, epochs []change.Epoch) bool {
	n := len(p.Epochs)
	return n <= len(epochs) && slices.Equal(p.Epochs, epochs[:n]) && (n == len(epochs) || epochs[n].First > p.Seen)
}

// digest fills in the answer, and names the table if it is sure that the device differs.
func (g *page) digest(ctx context.Context, p *change.Push, pull *change.Pull) (differs string, err error) {
	o, r := &g.space.engine.o, p.Digest
	if r.Table >= len(g.view.own) {
		return "", &RequestError{Reason: fmt.Sprintf("a digest of table %d of %d", r.Table, len(g.view.own))}
	}
	t := g.view.own[r.Table]
	cols := change.ColumnsOf(t.registers, t.all)
	own := make([]int, len(cols))
	for i, c := range cols {
		if own[i] = t.columnOf[c]; own[i] < 0 {
			return "", nil
		}
	}
	except := make(map[rowID]bool)
	for _, k := range r.Except {
		except[idOf(t.id, k)] = true
	}
	newer := 0
	deletes := change.Block{Table: t.place, Delete: true}
	err = g.Query(`SELECT tbl, +pk FROM _velosync_row WHERE feed > ? ORDER BY feed LIMIT ?`, []driver.Value{int64(p.Seen), int64(maxNewer) + 1}, func(row []driver.Value) error {
		newer++
		if row[0].(int64) == t.id {
			except[idOf(t.id, row[1])] = true
			deletes.Keys = append(deletes.Keys, row[1])
		}
		return nil
	})
	if err != nil || newer > maxNewer {
		return "", err
	}
	args, err := vsql.RangeArgs(&t.def, r.After, r.To, o.PageRows+1)
	if err != nil {
		return "", &RequestError{Reason: "a digest: " + err.Error()}
	}
	block := change.Block{Table: t.place, Regs: t.all, Columns: make([][]change.Value, len(cols))}
	var prints change.Fingerprinter
	var rows, seen, sum int64
	bytes := o.PageBytes
	err = g.Query(vsql.SelectRange(&t.def, own, r.After != nil, r.To != nil), args, func(v []driver.Value) error {
		if seen++; seen%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if seen > int64(o.PageRows) {
			pull.Done = false
			return errStop
		}
		if except[idOf(t.id, v[0])] {
			return nil
		}
		rows++
		sum += prints.OfRow(v[0], v[1:])
		if rows > 1 && bytes <= 0 {
			pull.Done = false
			return nil
		}
		block.Keys = append(block.Keys, v[0])
		for i := range cols {
			block.Columns[i] = append(block.Columns[i], v[1+i])
			bytes -= sizeOf(v[1+i])
		}
		return nil
	})
	if err != nil && err != errStop {
		return "", err
	}
	if rows == r.Rows && sum == r.Sum && err == nil {
		pull.Digest, pull.Done = change.RangeEqual, true
		return "", nil
	}
	pull.Digest, pull.Blocks = change.RangeDiffers, []change.Block{block, deletes}
	if len(deletes.Keys) > 0 {
		return "", nil // these may be all the difference
	}
	return t.own.Name, nil
}
