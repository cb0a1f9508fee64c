package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A Snapshot says what Space.Snapshot read.
type Snapshot struct {
	Head change.Seq // it holds everything up to here
	Rows int64

	version int64 // of the space's tables
	epochs  []change.Epoch
}

// Snapshot implements Space. It reads table by table, in the order that the rows lie in: the
// feed would ask for each row by its key, and for its dots, which a snapshot does not need.
func (s *space) Snapshot(ctx context.Context, schema [32]byte, page func(*change.Pull) error) (shot *Snapshot, err error) {
	err = s.readers.withContext(ctx, func(c *vsql.Conn) error {
		return c.ReadTx(func() error {
			var err error
			shot, err = s.copyTo(ctx, c, schema, page)
			return err
		})
	})
	var gone *PageError
	if err != nil && !errors.As(err, &gone) {
		err = fmt.Errorf("store: snapshot of space %q: %w", s.name, err)
	}
	return shot, err
}

// copyTo hands the space's rows to page, on a connection that is in a transaction.
func (s *space) copyTo(ctx context.Context, c *vsql.Conn, schema [32]byte, page func(*change.Pull) error) (*Snapshot, error) {
	var st state
	if err := st.read(c); err != nil {
		return nil, err
	}
	g := copying{Conn: c, limits: &s.engine.o, page: page, head: st.head, epochs: epochsTo(st.epochs, st.head)}
	tables, err := readSchema(c)
	if err != nil {
		return nil, err
	}
	view, err := viewOf(c, tables, schema)
	if err != nil {
		return nil, err
	}
	if view == nil {
		return nil, &PageError{Reason: "the device's tables are not known here"}
	}
	g.begin()
	g.pull.Tables, g.pull.Rows = view.list, int(st.live)
	for _, t := range view.tables {
		if t.ownRegs(t.table.all) == 0 { // the device has nothing of it but its name
			var rows int64
			if _, err := c.Row("SELECT count(*) FROM "+t.name(), nil, &rows); err != nil {
				return nil, err
			}
			g.pull.Rows -= int(rows)
		}
	}
	for _, t := range view.tables {
		if err := g.table(ctx, t); err != nil {
			return nil, fmt.Errorf("copy table %q: %w", t.def.Name, err)
		}
	}
	if g.copied != st.live {
		return nil, fmt.Errorf("%d rows are there, %d are counted: the store is damaged", g.copied, st.live)
	}
	if err := g.flush(); err != nil {
		return nil, err
	}
	s.pullRows.Add(g.copied)
	return &Snapshot{Head: st.head, Rows: st.live, version: tables.version, epochs: g.epochs}, nil
}

// epochsTo returns the epochs that something up to seq was written in.
func epochsTo(epochs []change.Epoch, seq change.Seq) []change.Epoch {
	n := slices.IndexFunc(epochs, func(e change.Epoch) bool { return e.First > seq })
	if n < 0 {
		n = len(epochs)
	}
	return slices.Clone(epochs[:n])
}

// A copying is a snapshot while it is read.
type copying struct {
	*vsql.Conn
	limits *Options
	page   func(*change.Pull) error
	head   change.Seq
	epochs []change.Epoch

	pull   *change.Pull // the page that is being filled
	rows   int
	bytes  int64
	copied int64 // rows of all pages
}

func (g *copying) begin() {
	g.pull, g.rows, g.bytes = &change.Pull{To: g.head, Full: true, Epochs: g.epochs}, 0, 0
}

// flush hands out the page that is being filled. The first one may be empty: it brings the
// tables.
func (g *copying) flush() error {
	if g.rows == 0 && g.pull.Tables == nil {
		return nil
	}
	err := g.page(g.pull)
	g.begin()
	return err
}

// table copies a table, all registers that the device has of it.
func (g *copying) table(ctx context.Context, t *viewTable) error {
	own := t.ownRegs(t.table.all)
	cols := change.ColumnsOf(t.registers, own)
	names := append(make([]string, 0, 1+len(cols)), "+"+(&vsql.Declaration{Table: t.def}).KeyExpression(""))
	for _, col := range cols {
		names = append(names, "+"+vsql.Quote(t.def.Columns[t.columnOf[col]].Name))
	}
	var b *change.Block
	rows := 0 // of the last page: the next one's will be about as many
	return g.Query("SELECT "+strings.Join(names, ", ")+" FROM "+t.name(), nil, func(row []driver.Value) error {
		g.copied++
		if own == 0 {
			return nil
		}
		if g.rows >= g.limits.PageRows || g.rows > 0 && g.bytes >= g.limits.PageBytes {
			rows = g.rows
			if err := errors.Join(ctx.Err(), g.flush()); err != nil {
				return err
			}
			b = nil
		}
		if b == nil {
			g.pull.Blocks = append(g.pull.Blocks, change.Block{Table: t.place, Regs: own, Keys: make([]change.Value, 0, rows), Columns: make([][]change.Value, len(cols))})
			b = &g.pull.Blocks[len(g.pull.Blocks)-1]
			for i := range b.Columns {
				b.Columns[i] = make([]change.Value, 0, rows)
			}
		}
		b.Keys = append(b.Keys, row[0])
		g.bytes += sizeOf(row[0])
		for i, v := range row[1:] {
			b.Columns[i] = append(b.Columns[i], v)
			g.bytes += sizeOf(v)
		}
		g.rows++
		return nil
	})
}

// Serve implements Space.
func (s *space) Serve(ctx context.Context, owner Owner, id change.DeviceID, shot *Snapshot) error {
	d := s.device(id)
	if err := d.check(owner); err != nil {
		return err
	}
	if d.site == 0 {
		return &PageError{Reason: fmt.Sprintf("device %v has not pushed here", id)}
	}
	if err := s.leaveClean(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	st := s.state
	s.mu.Unlock()
	switch {
	case shot == nil:
		return nil
	case shot.Head > st.head || !slices.Equal(shot.epochs, epochsTo(st.all(), shot.Head)):
		return &PageError{Reason: "the snapshot is of another history of the space"}
	case shot.Head < st.horizon:
		return &PageError{Reason: fmt.Sprintf("deletes were forgotten since the snapshot at %d", shot.Head)}
	case shot.version != st.schema.version:
		return &PageError{Reason: "the space's tables changed since the snapshot"}
	}
	s.serve(id, shot.Head)
	return nil
}
