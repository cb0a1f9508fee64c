package capture

import (
	"fmt"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A Pass compares all rows of all tracked tables with the master once, range after range.
// Rounds, and writes, may come between any two.
//
//	for p := d.Pass(); ; {
//		g, err := p.Next(256) // nil: all is compared
//		…                     // as for a Digest
//	}
type Pass struct {
	d     *Device
	id    int64 // of the table whose turn it is
	after change.Value
	done  map[int64]bool // tables, by id
}

// Pass begins a pass.
func (d *Device) Pass() *Pass { return &Pass{d: d, done: make(map[int64]bool)} }

// Next reads the next range, of at most so many rows, or the same again if Finish was not
// called for it, or not to the end. It returns nil when all tables are compared. With an
// *UncomparedError a round may help; Skip goes on without.
func (p *Pass) Next(rows int) (*Digest, error) {
	g := &Digest{d: p.d, pass: p}
	err := g.begin(rows, func() (*table, change.Value, error) {
		if t := p.d.byID(p.id); t != nil && !p.done[p.id] {
			return t, p.after, nil
		}
		for _, t := range p.d.tables {
			if !p.done[t.id] {
				p.id, p.after = t.id, nil // a table that went away meanwhile is not waited for
				return t, nil, nil
			}
		}
		return nil, nil, nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("compare a range with the master: %w", err)
	case g.t == nil:
		return nil, nil
	}
	return g, nil
}

// next notes that a table is compared up to a key, nil for all of it.
func (p *Pass) next(id int64, to change.Value) {
	p.id, p.after = id, to
	if to == nil {
		p.done[id] = true
	}
}

// Skip leaves out the rest of the table whose turn it is.
func (p *Pass) Skip() { p.next(p.id, nil) }

// Rows returns how many rows the tracked tables have.
func (p *Pass) Rows() (n int64, err error) {
	err = p.d.c.ReadTx(func() error {
		if err := p.d.refresh(); err != nil {
			return err
		}
		for _, t := range p.d.tables {
			var rows int64
			if _, err := p.d.c.Row("SELECT count(*) FROM main."+vsql.Quote(t.d.Name), nil, &rows); err != nil {
				return err
			}
			n += rows
		}
		return nil
	})
	return n, err
}
