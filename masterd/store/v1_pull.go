package store

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A v1Pull puts together what a client lacks, as of the head that it is told of.
type v1Pull struct {
	*v1Push
	*page
	dimension int
	left      int64 // bytes
	given     map[string]bool
}

// pullV1 fills in the answer.
func (s *space) pullV1(ctx context.Context, p *v1Push) error {
	p.answer.Seq = p.head
	return s.readers.withContext(ctx, func(c *vsql.Conn) error {
		return c.ReadTx(func() error {
			s.mu.Lock()
			g := v1Pull{v1Push: p, page: &page{Conn: c, space: s, sites: s.sites}, left: p.MaxPull, given: make(map[string]bool)}
			horizon := s.state.horizon
			s.mu.Unlock()
			var err error
			if g.dimension, _, err = p.table.v1Dimension(c); err != nil {
				return err
			}
			if err := g.changed(ctx); err != nil {
				return err
			}
			if err := g.demanded(); err != nil {
				return err
			}
			if p.client.cursor > 0 && p.client.cursor < horizon {
				return g.forgotten()
			}
			return nil
		})
	})
}

// changed collects what others changed since the client's cursor.
func (g *v1Pull) changed(ctx context.Context) error {
	must := make(map[string]bool, len(g.must))
	for _, id := range g.must {
		must[id] = true
	}
	n := 0
	err := g.page.Query(vsql.Master("v1_pull.sql"), []driver.Value{int64(g.client.cursor), int64(g.v1Push.head), g.table.id}, func(row []driver.Value) error {
		if n++; n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if g.left <= 0 {
			g.answer.Seq = change.Seq(row[0].(int64)) - 1
			return errStop
		}
		return g.add(row, must)
	})
	if err == errStop {
		err = nil
	}
	return err
}

// demanded collects what the client must hear of beside that: it lost, or it sent what was
// known. A row that moved on since comes with the next pull.
func (g *v1Pull) demanded() error {
	for _, id := range g.must {
		if g.given[id] {
			continue
		}
		found := false
		err := g.page.Query(vsql.Master("v1_row.sql"), []driver.Value{g.table.id, id}, func(row []driver.Value) error {
			found = true
			if row[0].(int64) > int64(g.v1Push.head) {
				return nil
			}
			return g.add(row, map[string]bool{id: true})
		})
		if err != nil {
			return err
		}
		if found {
			continue
		}
		// Its delete is forgotten, or it was deleted before anybody else had it.
		var clock driver.Value
		if _, err := g.page.Row(`SELECT clock FROM _velosync_v1_row WHERE vector_id = ?`, []driver.Value{id}, &clock); err != nil {
			return err
		}
		if err := g.gone(id, clock); err != nil {
			return err
		}
	}
	return nil
}

// forgotten collects the vectors whose deletes were forgotten while the client was away.
func (g *v1Pull) forgotten() error {
	return g.page.Query(vsql.Master("v1_forgotten.sql"), []driver.Value{g.table.id}, func(row []driver.Value) error {
		id, ok := row[0].(string)
		if !ok || g.given[id] {
			return nil
		}
		return g.gone(id, row[1])
	})
}

// add adds a row of v1_pull.sql, unless the client needs nothing of it.
func (g *v1Pull) add(row []driver.Value, must map[string]bool) error {
	id, ok := row[1].(string)
	if !ok {
		return nil // a blob as key, which a device may write, is no vector_id
	}
	feed, merged := change.Seq(row[0].(int64)), change.Seq(row[5].(int64))
	r := &g.scratch
	if err := g.table.readDots(row[3].([]byte), feed, g.page, r); err != nil {
		return fmt.Errorf("row %d of the feed: %w", feed, err)
	}
	if !must[id] && merged <= g.client.cursor && !g.lacks(r) {
		return nil
	}
	clock, err := parseClock(row[4])
	if err != nil {
		return err
	}
	clock[change.Master] = uint64(feed)
	newest := newestDot(r)
	if r.Deleted() {
		g.put(V1Record{ID: id, Metadata: "{}", Weight: max(0, newest.Rank.Weight), Updated: float64(newest.Rank.Time) / 1e3, Deleted: true, Clock: clock})
		return nil
	}
	values, err := readRow(g.page.Conn, g.table.table, []change.Value{id})
	if err != nil {
		return err
	}
	if values == nil {
		return fmt.Errorf("row %.100q is listed, its values are not there: the store is damaged", id)
	}
	record, ok := g.table.record(id, values, g.dimension, newest.Rank.Time)
	if !ok {
		g.space.log.Debug("row kept from clients of protocol v1: it is no vector of the table's dimension", "table", g.table.def.Name, "seq", feed)
		return nil
	}
	record.Clock = clock
	g.put(record)
	return nil
}

// lacks reports whether somebody else changed a row since the client's cursor.
func (g *v1Pull) lacks(r *change.Row) bool {
	acked, id := g.client.cursor, V1Device(g.Device)
	dots := r.Regs
	if r.Deleted() {
		dots = r.Tombs
	} else if r.Back > acked {
		return true
	}
	for i := range dots {
		if dots[i].Seq > acked && dots[i].Device != id {
			return true
		}
	}
	return false
}

// gone adds a vector of whose delete nothing is kept but the clock.
func (g *v1Pull) gone(id string, clock driver.Value) error {
	c, err := parseClock(clock)
	if err != nil {
		return err
	}
	c[change.Master] = uint64(g.v1Push.head)
	g.put(V1Record{ID: id, Metadata: "{}", Deleted: true, Clock: c})
	return nil
}

func (g *v1Pull) put(r V1Record) {
	g.given[r.ID] = true
	g.answer.Pull = append(g.answer.Pull, r)
	g.left -= int64(len(r.Embedding))*5/2 + int64(len(r.Metadata)+len(r.ID)+20*len(r.Clock)) + 150
	g.space.pullRows.Add(1)
}
