package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A page is a part of a pull while it is put together: what changed in (after, To] for a
// device that has seen everything up to seen.
type page struct {
	*vsql.Conn
	space   *space
	schema  *schema
	view    *view
	fresh   map[int64]change.Bits // by table: registers with columns that the device has only now
	whole   map[int64]change.Bits // of them, those that hold other columns too
	sites   []change.DeviceID
	device  device
	seen    change.Seq
	after   change.Seq
	copied  change.Seq // the pull began with the snapshot of this seq; 0: with none
	first   bool       // of its pull
	head    change.Seq
	horizon change.Seq
	live    int64 // rows of the space
	full    bool
	epochs  []change.Epoch

	items   []item
	byRow   map[rowID]int // in items; only where conflicts need rows
	scratch change.Row
	lost    []lostVersion
	echoes  []change.Seq // of rows that the device wrote itself
	to      change.Seq
	blocks  []change.Block
	at      map[blockKey]int // in blocks
}

// An item is a row that the device needs, for what happened at seq.
type item struct {
	seq     change.Seq
	table   *viewTable
	pk      change.Value
	regs    change.Bits // the space's
	deleted bool
}

type blockKey struct {
	place   int
	deleted bool
	regs    change.Bits
}

// scanRows bounds the rows that a page looks at, in multiples of those that it may hold:
// a device does not need what it wrote itself.
const scanRows = 20

// firstPage answers a push.
func (s *space) firstPage(ctx context.Context, p *change.Push) (*change.Pull, error) {
	return s.page(ctx, p, true)
}

// nextPage answers a request for a page.
func (s *space) nextPage(ctx context.Context, owner Owner, p *change.Push) (*change.Pull, error) {
	d := s.device(p.Device)
	if err := d.check(owner); err != nil {
		return nil, err
	}
	if err := d.checkPage(p); err != nil {
		return nil, err
	}
	if err := s.leaveClean(ctx); err != nil {
		return nil, err
	}
	return s.page(ctx, p, false)
}

// checkPage checks that a pull can go on: since its push nothing was pushed under this
// id, and the cursor is one that the device can have been given.
func (d *device) checkPage(p *change.Push) error {
	switch {
	case d.site == 0:
		return &PageError{Reason: fmt.Sprintf("device %v has not pushed here", p.Device)}
	case max(p.Page, p.Snapshot) > d.served:
		return &PageError{Reason: fmt.Sprintf("the page after %d was not reached: served up to %d", max(p.Page, p.Snapshot), d.served)}
	}
	return nil
}

// leaveClean sees that the file says that it is open. What is served from now on is
// written down only when the space is closed.
func (s *space) leaveClean(ctx context.Context) error {
	s.mu.Lock()
	clean := s.state.clean
	s.mu.Unlock()
	if !clean {
		return nil
	}
	return s.write(&job{ctx: ctx, durable: true, do: func(*tx) error { return nil }})
}

// page serves the page of a pull that follows p.Page, or the first one.
func (s *space) page(ctx context.Context, p *change.Push, first bool) (pull *change.Pull, err error) {
	err = s.readers.withContext(ctx, func(c *vsql.Conn) error {
		return c.ReadTx(func() error {
			g := page{Conn: c, space: s, first: first}
			if err := g.begin(p); err != nil {
				return err
			}
			if g.offers() {
				pull = g.offer(p)
				return nil
			}
			pull, err = g.fill(ctx, p)
			return err
		})
	})
	var gone *PageError
	if err != nil && !errors.As(err, &gone) {
		err = fmt.Errorf("store: pull from space %q: %w", s.name, err)
	}
	return pull, err
}

// begin reads where the space is, and decides from where the page goes on.
func (g *page) begin(p *change.Push) error {
	s := g.space
	if err := g.look(); err != nil {
		return err
	}
	g.device = s.device(p.Device)
	var name []byte // as of this read
	if _, err := g.Row(`SELECT name FROM _velosync_device WHERE site = ?`, []driver.Value{g.device.site}, &name); err != nil {
		return err
	}
	if last := p.Names[len(p.Names)-1]; string(name) != string(last[:]) {
		// A copy of the file may have pushed: what it wrote would be left out as this one's own.
		return &PageError{Reason: fmt.Sprintf("another push came under device %v since", p.Device)}
	}
	g.seen = min(p.Seen, g.device.limit(g.head))
	g.copied = p.Snapshot
	g.full = g.seen < g.horizon || g.copied > 0
	if err := g.sight(p); err != nil {
		return err
	}
	g.after = p.Page
	if g.first {
		g.after = g.seen
		if g.full || len(g.fresh) > 0 {
			g.after = 0
		}
		s.beginPull(p.Device, g.horizon)
		return nil
	}
	switch {
	case g.copied > g.head:
		return &PageError{Reason: fmt.Sprintf("the snapshot at %d, head is %d", g.copied, g.head)}
	case g.copied > 0 && g.copied < g.horizon:
		// A row that the snapshot named may be one whose delete is forgotten now.
		return &PageError{Reason: fmt.Sprintf("deletes were forgotten since the snapshot at %d", g.copied)}
	case g.after > g.head:
		return &PageError{Reason: fmt.Sprintf("the page after %d, head is %d", g.after, g.head)}
	case !g.full && len(g.fresh) == 0 && g.after < g.seen:
		return &PageError{Reason: fmt.Sprintf("the page after %d, the device has seen %d", g.after, g.seen)}
	case g.full && g.copied == 0 && g.horizon > g.after && (!g.device.pulling || g.device.horizon != g.horizon):
		// A row that an earlier page named may be one whose delete is forgotten now.
		return &PageError{Reason: "deletes were forgotten since the pull began"}
	}
	return nil
}

// look reads where the space is.
func (g *page) look() (err error) {
	s := g.space
	var head, horizon, version int64
	if _, err := g.Row(`SELECT head, horizon, version, live FROM _velosync_space`, nil, &head, &horizon, &version, &g.live); err != nil {
		return err
	}
	g.head, g.horizon = change.Seq(head), change.Seq(horizon)
	s.mu.Lock()
	g.schema, g.epochs, g.sites = s.state.schema, s.state.all(), s.sites
	s.mu.Unlock()
	if g.schema.version != version { // another commit came between
		g.schema, err = readSchema(g.Conn)
	}
	return err
}

// sight finds how the device sees the space, and what it has only now.
func (g *page) sight(p *change.Push) error {
	var err error
	if g.view, err = viewOf(g.Conn, g.schema, p.Schema); err != nil {
		return err
	}
	if g.view == nil {
		return &PageError{Reason: "the device's tables are not known any more"}
	}
	g.fresh, g.whole = make(map[int64]change.Bits), make(map[int64]change.Bits)
	for _, f := range p.Fresh {
		if g.seen == 0 || f.Table >= len(g.view.own) {
			continue
		}
		t := g.view.own[f.Table]
		if f.Column >= len(t.columnOf) || t.columnOf[f.Column] < 0 || t.key[t.columnOf[f.Column]] {
			continue
		}
		r := t.registerOf[t.columnOf[f.Column]]
		g.fresh[t.id] |= change.Bit(r)
		if len(t.table.registers[r]) > 1 {
			g.whole[t.id] |= change.Bit(r)
		}
	}
	return nil
}

// beginPull notes up to where deletes are forgotten as a device's pull begins.
func (s *space) beginPull(id change.DeviceID, horizon change.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.devices[id]; d != nil {
		d.horizon, d.pulling = horizon, true
	}
}

// offers reports whether the device is better off with a snapshot: it has nothing, or all
// that it has is to be compared, and there is much that it did not write itself.
func (g *page) offers() bool {
	rows := g.live
	if !g.full {
		rows -= int64(g.device.lsn) // it wrote no more rows than that
	}
	return g.first && (g.full || g.seen == 0) && rows >= int64(g.space.engine.o.SnapshotRows)
}

// offer is a first page of nothing. A device that takes no snapshot goes on from its
// beginning.
func (g *page) offer(p *change.Push) *change.Pull {
	pull := &change.Pull{Applied: g.device.lsn, Full: g.full, Epochs: g.epochs, Now: g.space.engine.o.Now().UnixMilli(), Rows: int(g.live)}
	if p.Known != g.view.digest {
		pull.Tables = g.view.list
	}
	return pull
}

// deviceAt implements sites.
func (g *page) deviceAt(site int64) (change.DeviceID, error) {
	if site >= 1 && site <= int64(len(g.sites)) {
		return g.sites[site-1], nil
	}
	var b []byte // of a device that another commit brought
	if _, err := g.Row(`SELECT id FROM _velosync_device WHERE site = ?`, []driver.Value{site}, &b); err != nil {
		return change.DeviceID{}, err
	}
	var id change.DeviceID
	if !readID(b, id[:]) {
		return id, errDots
	}
	return id, nil
}

func (g *page) siteOf(id change.DeviceID) int64 { return g.space.device(id).site }

// fill puts the page together.
func (g *page) fill(ctx context.Context, p *change.Push) (*change.Pull, error) {
	o := &g.space.engine.o
	var err error
	after := max(g.seen, g.after)
	g.lost, err = readLost(g.Conn, g.schema, g, g.device.site, g.device.id, after, max(o.PageRows, minLost)+1)
	if err != nil {
		return nil, err
	}
	if err := g.collect(o.PageRows); err != nil {
		return nil, err
	}
	if err := g.read(ctx, o.PageBytes); err != nil {
		return nil, err
	}
	pull := &change.Pull{
		Applied: g.device.lsn,
		To:      g.to,
		Done:    g.to == g.head,
		Full:    g.full,
		Epochs:  g.epochs,
		Now:     o.Now().UnixMilli(),
		Blocks:  g.blocks,
	}
	if p.Known != g.view.digest {
		pull.Tables = g.view.list
	}
	for i := range g.lost {
		g.view.byID[g.lost[i].table.id].call(&g.lost[i].Conflict)
		pull.Lost = append(pull.Lost, g.lost[i].Conflict)
	}
	rows := 0
	for i := range g.blocks {
		rows += len(g.blocks[i].Keys)
	}
	for _, seq := range g.echoes {
		if seq <= g.to {
			pull.Saved.EchoRows++
		}
	}
	if g.first {
		pull.Rows = rows
		if !pull.Done {
			if _, err := g.Row(`SELECT count(*) FROM _velosync_row WHERE feed > ?`, []driver.Value{int64(g.to)}, &pull.Rows); err != nil {
				return nil, err
			}
			pull.Rows += rows
		}
	}
	g.space.pullRows.Add(int64(rows))
	g.space.echoRows.Add(int64(pull.Saved.EchoRows))
	g.space.serve(g.device.id, g.to)
	return pull, nil
}

var feedQuery = `SELECT feed, tbl, pk, dots, deleted FROM _velosync_row WHERE feed > ? ORDER BY feed LIMIT ?`

// minLost is more conflicts than one edit can bring a device: 64 registers and a delete.
const minLost = 200

// collect lists the rows that the device needs, in the order of what happened, and sets
// to: all of it up to there is in the list.
func (g *page) collect(limit int) error {
	g.to = g.head
	conflicts := g.lost
	if n := max(limit, minLost); len(conflicts) > n {
		g.to = conflicts[n].Seq - 1 // all of one seq, or none
	}
	if len(conflicts) > 0 {
		g.byRow = make(map[rowID]int)
	}
	// conflictsUpTo adds those up to seq; it returns errStop when the page is full.
	conflictsUpTo := func(seq change.Seq) error {
		for ; len(conflicts) > 0 && conflicts[0].Seq <= min(seq, g.to); conflicts = conflicts[1:] {
			v := &conflicts[0]
			if n := len(g.items); n >= limit && g.items[n-1].seq < v.Seq {
				g.to = v.Seq - 1
				return errStop
			}
			if err := g.need(v); err != nil {
				return err
			}
		}
		return nil
	}
	scanned, scan := 0, limit*scanRows
	err := g.Query(feedQuery, []driver.Value{int64(max(g.after, g.copied)), int64(scan)}, func(row []driver.Value) error {
		feed := change.Seq(row[0].(int64))
		scanned++
		if err := conflictsUpTo(feed - 1); err != nil {
			return err
		}
		if feed > g.to {
			return errStop
		}
		if len(g.items) >= limit {
			g.to = feed - 1
			return errStop
		}
		if scanned == scan {
			g.to = feed
		}
		if err := conflictsUpTo(feed); err != nil {
			return err
		}
		return g.row(feed, row)
	})
	if err == nil {
		err = conflictsUpTo(g.to)
	}
	if err == errStop {
		return nil
	}
	return err
}

var errStop = errors.New("stop")

// row decides what the device needs of a row of the feed.
func (g *page) row(feed change.Seq, row []driver.Value) error {
	t := g.view.byID[row[1].(int64)]
	if t == nil {
		return fmt.Errorf("row %d of the feed is of table %v, which is not there: the store is damaged", feed, row[1])
	}
	known := !g.full && feed <= g.seen // but for what is fresh to the device
	if known && g.fresh[t.id] == 0 {
		return nil
	}
	r := &g.scratch
	if err := t.readDots(row[3].([]byte), feed, g, r); err != nil {
		return fmt.Errorf("row %d of the feed: %w", feed, err)
	}
	it := item{seq: feed, table: t, pk: row[2], deleted: r.Deleted()}
	if it.deleted {
		if known || g.full && g.first { // a row that a snapshot does not name is gone
			return nil
		}
		if g.copied == 0 && !g.needsDelete(r) {
			g.echoes = append(g.echoes, feed)
			return nil
		}
	} else if it.regs = g.needsOf(t, r); t.ownRegs(it.regs) == 0 {
		if !known {
			g.echoes = append(g.echoes, feed)
		}
		return nil
	}
	g.add(it)
	return nil
}

// needsOf returns the registers of a live row that the device lacks.
func (g *page) needsOf(t *viewTable, r *change.Row) (regs change.Bits) {
	all, fresh, whole := t.table.all, g.fresh[t.id], g.whole[t.id]
	if g.full || r.Back > g.seen {
		return all
	}
	var unwritten change.Bits
	for i := range r.Regs {
		d := &r.Regs[i]
		news := d.Seq > g.seen
		switch {
		case d.Seq == 0:
			unwritten |= change.Bit(i)
		case news && d.Device != g.device.id, !news && fresh.Has(i), whole.Has(i):
			regs |= change.Bit(i)
		}
	}
	if regs|unwritten == all && regs != 0 { // the row may be new to the device: it comes whole
		return all
	}
	return regs
}

// needsDelete reports whether the device has to hear that a row is deleted: not of its
// own delete.
func (g *page) needsDelete(r *change.Row) bool {
	for i := range r.Tombs {
		if r.Tombs[i].Device != g.device.id {
			return true
		}
	}
	return false
}

// need adds the row of a conflict that the device lost, as it is now.
func (g *page) need(v *lostVersion) error {
	it := item{seq: v.Seq, table: g.view.byID[v.table.id], pk: v.Key, regs: v.needs(), deleted: true}
	err := g.Query(`SELECT pk, deleted FROM _velosync_row WHERE tbl = ? AND pk = ?`, []driver.Value{v.table.id, v.Key}, func(row []driver.Value) error {
		if idOf(v.table.id, row[0]) == idOf(v.table.id, v.Key) {
			it.deleted = row[1].(int64) != 0
		}
		return nil
	})
	g.add(it)
	return err
}

// add adds a row, or to a row.
func (g *page) add(it item) {
	if g.byRow != nil {
		id := idOf(it.table.id, it.pk)
		if i, ok := g.byRow[id]; ok {
			g.items[i].regs |= it.regs
			return
		}
		g.byRow[id] = len(g.items)
	}
	g.items = append(g.items, it)
}

// read reads the values of the rows into blocks, and those of the conflicts, up to so
// many bytes. It cuts the page short where there are more.
func (g *page) read(ctx context.Context, limit int64) error {
	g.at = make(map[blockKey]int)
	lost := 0
	// room reads the conflicts up to seq, and reports whether what follows them is still
	// of this page, as the first thing always is.
	room := func(seq change.Seq) (bool, error) {
		for ; lost < len(g.lost) && g.lost[lost].Seq <= seq; lost++ {
			v := &g.lost[lost]
			if limit <= 0 && lost > 0 && v.Seq != g.lost[lost-1].Seq {
				g.to = v.Seq - 1
				return false, nil
			}
			if err := v.readValues(g.Conn); err != nil {
				return false, err
			}
			limit -= v.size
		}
		return true, nil
	}
	for i := range g.items {
		it := &g.items[i]
		if i%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		more, err := room(it.seq)
		if err != nil {
			return err
		}
		if more && i > 0 && limit <= 0 {
			more, g.to = false, it.seq-1
		}
		if !more {
			break
		}
		size, err := g.readItem(it)
		if err != nil {
			return err
		}
		limit -= size
	}
	if _, err := room(g.to); err != nil {
		return err
	}
	for n := range g.lost { // what lies after to comes with a later page
		if g.lost[n].Seq > g.to {
			g.lost = g.lost[:n]
			break
		}
	}
	return nil
}

// readItem reads a row into its block and returns about how many bytes it has.
func (g *page) readItem(it *item) (int64, error) {
	t := it.table
	key, err := change.SplitKey(it.pk, len(t.def.Key))
	if err != nil {
		return 0, err
	}
	size := sizeOf(it.pk)
	if it.deleted {
		b := g.block(blockKey{place: t.place, deleted: true})
		b.Keys = append(b.Keys, it.pk)
		return size, nil
	}
	found := false
	regs := t.ownRegs(it.regs)
	if regs == 0 {
		return size, nil
	}
	err = g.Query(t.selectOwn(regs), key, func(values []driver.Value) error {
		found = true
		cols := change.ColumnsOf(t.registers, regs)
		b := g.block(blockKey{place: t.place, regs: regs})
		if b.Columns == nil {
			b.Columns = make([][]change.Value, len(cols))
		}
		b.Keys = append(b.Keys, it.pk)
		for i := range cols {
			b.Columns[i] = append(b.Columns[i], values[i])
			size += sizeOf(values[i])
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read row %.100v of %q: %w", it.pk, t.def.Name, err)
	}
	if !found {
		return 0, fmt.Errorf("row %.100v of %q is listed, its values are not there: the store is damaged", it.pk, t.def.Name)
	}
	return size, nil
}

// block returns the block that a row belongs to.
func (g *page) block(k blockKey) *change.Block {
	i, ok := g.at[k]
	if !ok {
		i = len(g.blocks)
		g.at[k] = i
		g.blocks = append(g.blocks, change.Block{Table: k.place, Delete: k.deleted, Regs: k.regs})
	}
	return &g.blocks[i]
}
