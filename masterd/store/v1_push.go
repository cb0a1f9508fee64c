package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A v1Push is a push of protocol v1 on its way in.
//
// Its records are whole rows with version vectors; the space decides by what an edit's
// author had seen. A vector says that in two ways: its entry for the master is the seq that
// the client's copy stands on, and where it covers the vectors of all clients that are
// known of the row, its author had seen the row as it was when the last of them came, but
// for what devices wrote. A vector whose own entry is not above what is known brings
// nothing new.
type v1Push struct {
	*V1Push
	owner  Owner
	answer V1Answer

	*tx       // while it is applied
	id        change.DeviceID
	client    v1Device
	table     *v1Table
	head      change.Seq // after it
	dimension int
	recorded  bool // dimension is in the file

	rows  map[string]*v1Row
	order []*v1Row // those with an edit, as they came
	must  []string // vectors that the client has to hear of
	loses []v1Loss // to be logged
	fresh bool     // some record brought something new
}

// A v1Row is what is known of a vector, and what the push makes of it.
type v1Row struct {
	id     string
	row    *change.Row  // nil: nothing
	clock  change.Clock // of clients, without the master
	seen   change.Seq   // a clock that covers this one has seen the row up to here
	merged change.Seq
	stored bool   // clock is in the file
	own    uint64 // this client's count, with what the push brings

	edit    *V1Record // the newest
	changes int       // that it stands for
	fork    bool      // it is another branch of the client's own last write
}

// A v1Loss is a version that did not stay though its clock says that it was known: it
// comes from a database that was made anew under an old name.
type v1Loss struct {
	row        *v1Row
	rule       change.Rule
	lost, kept []change.Value // whole rows
	loser      change.Dot
	winner     change.Dot
}

// apply applies the push inside a write transaction. It may run again from the start, in
// another transaction.
func (p *v1Push) apply(t *tx) error {
	*p = v1Push{V1Push: p.V1Push, owner: p.owner, tx: t, id: V1Device(p.Device), rows: make(map[string]*v1Row)}
	defer func() { p.tx = nil }()
	d := t.device(p.id)
	if err := d.check(p.owner); err != nil {
		return err
	}
	var err error
	if p.table, err = t.openV1(); err != nil {
		return err
	}
	if p.client, _, err = readV1Device(t.Conn, p.Device); err != nil {
		return err
	}
	if p.dimension, p.recorded, err = p.table.v1Dimension(t.Conn); err != nil {
		return err
	}
	for i := range p.Records {
		if err := p.take(&p.Records[i]); err != nil {
			return fmt.Errorf("take a vector: %w", err)
		}
	}
	if d.owner == "" {
		d.owner = p.owner
	}
	last := d.lsn
	d.lsn += change.LSN(len(p.order))
	d.put, d.contact = t.now, t.now
	if err := t.putDevice(&d); err != nil { // gives it its site
		return err
	}
	d.lsn = last
	if err := p.run(d); err != nil {
		return err
	}
	p.answer.Replay = len(p.Records) > 0 && !p.fresh && p.Head <= p.client.lsn
	if p.answer.Replay {
		p.answer.Conflicts = nil
	}
	if p.fresh && p.Head < p.client.fileLSN {
		// The log goes on only, so this is another file than the one that acknowledged: it
		// lacks what that one had.
		p.client.fileLSN, p.client.cursor = 0, 0
	}
	p.head = t.head
	p.client.site = d.site
	p.client.sent, p.client.issued = max(p.client.sent, p.Head), p.head
	return t.putV1Device(&p.client)
}

// take decides what a record is: refused, known, or an edit.
func (p *v1Push) take(r *V1Record) error {
	if r.Problem != "" {
		p.tx.counts.rejected++
		return p.refuse(r, r.Problem)
	}
	row, err := p.row(r.ID)
	if err != nil {
		return err
	}
	reason, err := p.checkClock(row, r)
	if err != nil {
		return err
	}
	if reason != "" {
		p.tx.counts.rejected++
		p.reject(r, reason)
		return nil
	}
	if n := len(r.Embedding) / 8; !r.Deleted && n != p.dimension {
		if p.dimension > 0 {
			p.tx.counts.rejected++
			return p.refuse(r, fmt.Sprintf("the embedding has %d dimensions, the table's have %d", n, p.dimension))
		}
		p.dimension = n
	}
	mine := r.Clock[p.Device]
	if mine <= row.own && (row.row != nil || row.stored || row.edit != nil) {
		return p.known(row, r)
	}
	row.own = max(row.own, mine)
	p.edit(row, r)
	return nil
}

// edit makes a record the row's edit; an earlier one of this push is behind it.
func (p *v1Push) edit(row *v1Row, r *V1Record) {
	if row.edit == nil {
		p.order = append(p.order, row)
	}
	row.edit = r
	row.changes++
	p.fresh = true
}

// row returns what is known of a vector.
func (p *v1Push) row(id string) (*v1Row, error) {
	if row := p.rows[id]; row != nil {
		return row, nil
	}
	row := &v1Row{id: id}
	var clock change.Value
	var seen, merged int64
	found, err := p.Row(`SELECT clock, seen, merged FROM _velosync_v1_row WHERE vector_id = ?`, []change.Value{id}, &clock, &seen, &merged)
	if err != nil {
		return nil, err
	}
	if row.clock, err = parseClock(clock); err != nil {
		return nil, err
	}
	row.stored, row.seen, row.merged = found, change.Seq(seen), change.Seq(merged)
	row.own = row.clock[p.Device]
	err = p.Query(`SELECT feed, dots FROM _velosync_row WHERE tbl = ? AND pk = ?`, []change.Value{p.table.id, id}, func(v []change.Value) error {
		row.row = new(change.Row)
		return p.table.readDots(v[1].([]byte), change.Seq(v[0].(int64)), p.tx, row.row)
	})
	if err != nil {
		return nil, err
	}
	p.rows[id] = row
	return row, nil
}

// reject refuses a record, alone.
func (p *v1Push) reject(r *V1Record, reason string) {
	p.answer.Rejected = append(p.answer.Rejected, V1Rejection{Name: r.Name, Reason: reason})
}

// refuse is reject for what the record holds. Its count is remembered: the client's next
// write of the vector goes on from there.
func (p *v1Push) refuse(r *V1Record, reason string) error {
	p.reject(r, reason)
	mine := r.Clock[p.Device]
	if r.ID == "" || mine == 0 {
		return nil
	}
	row, err := p.row(r.ID)
	if err != nil {
		return err
	}
	if why, err := p.checkClock(row, r); err != nil || why != "" {
		return err
	}
	_, err = p.Exec(`INSERT INTO _velosync_v1_refused (vector_id, name, count) VALUES (?, ?, ?)
		ON CONFLICT (vector_id, name) DO UPDATE SET count = max(count, excluded.count)`, r.ID, p.Device, int64(mine))
	return err
}

// checkClock returns why a record's clock can't be: a client raises its own count only,
// and by no more than it sent changes.
func (p *v1Push) checkClock(row *v1Row, r *V1Record) (reason string, err error) {
	for site, n := range r.Clock {
		switch {
		case site == change.Master && n > uint64(p.tx.head):
			return fmt.Sprintf("the clock counts %d for the master, which is at %d", n, p.tx.head), nil
		case site == change.Master:
		case site != p.Device && n > row.clock[site]:
			return fmt.Sprintf("the clock counts %d for another device, of which %d are known", n, row.clock[site]), nil
		case site == p.Device && n > row.own+p.Raise:
			var refused int64
			_, err := p.Row(`SELECT count FROM _velosync_v1_refused WHERE vector_id = ? AND name = ?`, []change.Value{r.ID, p.Device}, &refused)
			if err != nil {
				return "", err
			}
			if n > max(row.own, uint64(refused))+p.Raise {
				return fmt.Sprintf("the clock counts %d for the device itself, of which %d are known, and %d changes were sent",
					n, max(row.own, uint64(refused)), p.Raise), nil
			}
		}
	}
	return "", nil
}

// covers reports whether a clock counts at least as much as another for every client.
func covers(clock, other change.Clock) bool {
	for site, n := range other {
		if site != change.Master && clock[site] < n {
			return false
		}
	}
	return true
}

// known deals with a record that brings no new count of its client.
func (p *v1Push) known(row *v1Row, r *V1Record) error {
	p.tx.pushed++
	p.tx.duplicates++
	if row.edit != nil { // an older change of this very push
		return nil
	}
	current, err := p.current(row)
	if err != nil {
		return err
	}
	same := p.same(r, current)
	newest := change.Dot{}
	if row.row != nil {
		newest = newestDot(row.row)
	}
	latest := row.row != nil && row.row.Feed == row.seen && covers(r.Clock, row.clock)
	switch {
	case latest && same: // identical history
		return nil
	case latest && newest.Device == p.id:
		p.fork(row, r, current, newest)
		return nil
	case same && row.row == nil:
		return nil
	}
	p.must = append(p.must, row.id)
	if same {
		return nil
	}
	p.answer.Conflicts = append(p.answer.Conflicts, V1Conflict{row.id, V1LocalDominates})
	if p.Head <= p.client.lsn {
		// The client acknowledged this window, or made its database anew and counts from the
		// start again. In the second case this is a version that nobody has.
		p.loses = append(p.loses, v1Loss{row: row, rule: change.ByCausality, lost: p.whole(r), kept: current, loser: p.dot(r), winner: newest})
	}
	return nil
}

// fork decides between a client's last write and another one with the same clock: its
// database was made anew, and counts from the start again. The greater rank stays, and of
// equals the greater content, in whatever order they come.
func (p *v1Push) fork(row *v1Row, r *V1Record, current []change.Value, newest change.Dot) {
	incoming := p.dot(r)
	c, rule := incoming.Rank.Compare(newest.Rank)
	if c == 0 {
		c = compareVectors(p.table, p.whole(r), current)
	}
	p.must = append(p.must, row.id)
	if c <= 0 {
		p.answer.Conflicts = append(p.answer.Conflicts, V1Conflict{row.id, concurrentV1(rule, change.Local)})
		p.loses = append(p.loses, v1Loss{row: row, rule: rule, lost: p.whole(r), kept: current, loser: incoming, winner: newest})
		p.fresh = true
		return
	}
	p.answer.Conflicts = append(p.answer.Conflicts, V1Conflict{row.id, concurrentV1(rule, change.Remote)})
	p.loses = append(p.loses, v1Loss{row: row, rule: rule, lost: current, kept: p.whole(r), loser: newest, winner: incoming})
	row.fork = true
	p.edit(row, r)
}

// compareVectors orders two rows by content; a deleted one is the least.
func compareVectors(t *v1Table, a, b []change.Value) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return cmp.Or(bytes.Compare(appendValues(nil, a[t.embedding:t.embedding+1]), appendValues(nil, b[t.embedding:t.embedding+1])),
		bytes.Compare(appendValues(nil, a[t.metadata:t.metadata+1]), appendValues(nil, b[t.metadata:t.metadata+1])))
}

// newestDot returns the newest write of a row.
func newestDot(r *change.Row) change.Dot {
	newest := r.Regs[0]
	for _, list := range [][]change.Dot{r.Regs, r.Tombs} {
		for _, d := range list {
			if d.Seq > newest.Seq {
				newest = d
			}
		}
	}
	return newest
}

// dot returns a record as the write that it would be.
func (p *v1Push) dot(r *V1Record) change.Dot {
	return change.Dot{Seq: p.tx.head, Device: p.id, LSN: change.LSN(min(r.Clock[p.Device], math.MaxInt64)), Rank: p.rank(r)}
}

func (p *v1Push) rank(r *V1Record) change.Rank {
	at := math.Round(r.Updated * 1e3)
	at = max(-math.MaxInt64/8, min(at, math.MaxInt64/8))
	return change.Rank{Weight: r.Weight, Time: change.CorrectTime(int64(at), 0, p.now), Device: p.id}
}

// current reads a row's values in table order; nil when it is deleted or not there.
func (p *v1Push) current(row *v1Row) ([]change.Value, error) {
	if row.row == nil || row.row.Deleted() {
		return nil, nil
	}
	return readRow(p.Conn, p.table.table, []change.Value{row.id})
}

// whole returns a record as a row of the table; nil for a deleted one.
func (p *v1Push) whole(r *V1Record) []change.Value {
	if r.Deleted {
		return nil
	}
	row := p.table.row([]change.Value{r.ID})
	values := p.table.values(r, p.table.all, nil)
	for i, c := range p.table.columns(p.table.all) {
		row[c] = values[i]
	}
	return row
}

// same reports whether a record says what the row holds.
func (p *v1Push) same(r *V1Record, current []change.Value) bool {
	if r.Deleted || current == nil {
		return r.Deleted && current == nil
	}
	have, ok := p.table.record(r.ID, current, 0, 0)
	return ok && bytes.Equal(have.Embedding, r.Embedding) && have.Metadata == r.Metadata && have.Weight == r.Weight && have.Updated == r.Updated
}

// run applies the edits and answers what became of them.
func (p *v1Push) run(d device) error {
	a := application{tx: p.tx, device: d, seen: p.tx.head}
	var order []*v1Row
	a.edits, order = p.batches(d.lsn)
	a.report = func(outcomes []outcome) error {
		if len(outcomes) != len(order) {
			return errors.New("outcomes are missing")
		}
		for i := range outcomes {
			if err := p.settle(order[i], &outcomes[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(order) > 0 {
		if err := a.run(); err != nil {
			return err
		}
	}
	for i := range p.loses {
		if err := p.log(&a, &p.loses[i]); err != nil {
			return err
		}
	}
	if p.dimension > 0 && !p.recorded {
		_, err := p.Exec(`INSERT OR REPLACE INTO _velosync_v1_dimension (id, dimension) VALUES (1, ?)`, int64(p.dimension))
		return err
	}
	return nil
}

// batches returns the edits, and their rows in the same order: deletes, which may free
// what a unique index holds, then rows that are known, then new ones. A record names no
// columns, so the last are written whole.
func (p *v1Push) batches(last change.LSN) (iter.Seq2[*batch, error], []*v1Row) {
	var kinds [3][]*v1Row
	for _, row := range p.order {
		switch {
		case row.edit.Deleted:
			kinds[0] = append(kinds[0], row)
		case row.row != nil:
			kinds[1] = append(kinds[1], row)
		default:
			kinds[2] = append(kinds[2], row)
		}
	}
	regs := [3]change.Bits{0, p.table.regs, p.table.all}
	order := slices.Concat(kinds[:]...)
	return func(yield func(*batch, error) bool) {
		lsn := last
		for kind, rows := range kinds {
			for chunk := range slices.Chunk(rows, batchRows) {
				b := batch{table: p.table.table, regs: regs[kind]}
				for _, row := range chunk {
					lsn++
					e, err := p.rowEdit(row, regs[kind], lsn)
					if err != nil {
						yield(nil, err)
						return
					}
					b.edits = append(b.edits, e)
				}
				if !yield(&b, nil) {
					return
				}
			}
		}
	}, order
}

// rowEdit makes an edit of a row's newest record.
func (p *v1Push) rowEdit(row *v1Row, regs change.Bits, lsn change.LSN) (rowEdit, error) {
	r := row.edit
	seen := p.seenBy(row)
	e := change.Edit{Device: p.id, Delete: r.Deleted, LSN: lsn, Seen: seen, Rank: p.rank(r)}
	set := regs
	var values []change.Value
	if r.Deleted {
		set = p.table.all
	} else {
		var current []change.Value
		if p.table.extra {
			var err error
			if current, err = p.current(row); err != nil {
				return rowEdit{}, err
			}
		}
		values = p.table.values(r, regs, current)
	}
	set.Each(func(i int) { e.Regs = append(e.Regs, change.RegEdit{Reg: i, Seen: seen, LSN: lsn}) })
	return rowEdit{key: row.id, edit: e, values: values}, nil
}

// seenBy returns up to where the author of a row's edit had seen the row.
func (p *v1Push) seenBy(row *v1Row) change.Seq {
	seen := change.Seq(min(row.edit.Clock[change.Master], math.MaxInt64)) // at most the head: see checkClock
	if covers(row.edit.Clock, row.clock) {
		seen = max(seen, row.seen)
	}
	return seen
}

// settle answers what became of an edit, and raises the row's clock.
func (p *v1Push) settle(row *v1Row, o *outcome) error {
	if o.reason != "" {
		return p.refuse(row.edit, o.reason)
	}
	resolution := p.resolution(row, o)
	switch resolution {
	case V1SemanticLocal, V1LastWriterLocal:
		p.answer.Conflicts = append(p.answer.Conflicts, V1Conflict{row.id, resolution})
	case V1SemanticRemote, V1LastWriterRemote:
		p.answer.Conflicts = append(p.answer.Conflicts, V1Conflict{row.id, resolution})
		p.answer.Applied += row.changes
	default:
		p.answer.Applied += row.changes
	}
	feed := o.seq
	if o.after != nil {
		feed = o.after.Feed
	}
	merged := row.merged
	if len(o.Losses) > 0 || row.fork || !covers(row.edit.Clock, row.clock) {
		merged = feed // the client lacks a part of the clock
		p.must = append(p.must, row.id)
	}
	clock := maps.Clone(row.clock)
	for site, n := range row.edit.Clock {
		if site != change.Master && n > clock[site] {
			clock[site] = n
		}
	}
	seen, err := p.seenAfter(row, o, feed)
	if err != nil {
		return err
	}
	_, err = p.Exec(vsql.Master("put_v1_row.sql"), row.id, clockText(clock), int64(seen), int64(merged))
	if err != nil {
		return fmt.Errorf("record the clock of a vector: %w", err)
	}
	return nil
}

// seenAfter returns up to where a clock has seen the row that covers all of its clients'
// now. What a device wrote, and this edit's author had not seen, is in no such clock.
func (p *v1Push) seenAfter(row *v1Row, o *outcome, feed change.Seq) (change.Seq, error) {
	if o.before == nil {
		return feed, nil
	}
	seen := p.seenBy(row)
	for _, list := range [][]change.Dot{o.before.Regs, o.before.Tombs} {
		for i, d := range list {
			if d.Seq <= seen || d.Device == p.id || i > 0 && d == list[i-1] {
				continue
			}
			var client bool
			if _, err := p.Row(`SELECT count(*) FROM _velosync_v1_device WHERE site = ?`, []change.Value{p.siteOf(d.Device)}, &client); err != nil {
				return 0, err
			}
			if !client {
				return row.seen, nil
			}
		}
	}
	return feed, nil
}

// resolution names what Merge decided.
func (p *v1Push) resolution(row *v1Row, o *outcome) V1Resolution {
	for i := range o.Losses {
		if l := &o.Losses[i]; l.Incoming && (row.edit.Deleted || o.Take == 0 || o.after.Deleted()) {
			return concurrentV1(l.Rule, change.Local)
		}
	}
	switch {
	case len(o.Losses) > 0:
		return concurrentV1(o.Losses[0].Rule, change.Remote)
	case o.before == nil:
		return V1NoLocalCopy
	}
	return V1RemoteDominates
}

// log writes a loss into the conflict log.
func (p *v1Push) log(a *application, l *v1Loss) error {
	w := rowWrite{application: a, table: p.table.table, edit: &rowEdit{key: l.row.id}, seq: max(p.tx.head, 1)}
	x := loss{kind: change.UpdateLost, rule: l.rule, regs: p.table.all, columns: p.table.columns(p.table.all),
		loser: l.loser, winner: l.winner, lost: l.lost, kept: l.kept, lostClock: clockOf(l.loser.Seq, l.loser)}
	if l.winner != (change.Dot{}) {
		x.keptClock = clockOf(l.winner.Seq, l.winner)
	}
	switch {
	case l.lost == nil && l.kept == nil:
		return nil // two deletes
	case l.lost == nil:
		x.kind = change.DeleteLost
	case l.kept == nil:
		x.kind = change.UpdateLostToDelete
	}
	p.tx.lost++
	return w.log(&x)
}
