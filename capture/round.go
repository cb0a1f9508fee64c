package capture

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// Limits bound a part of a push. The zero value is ready to use.
type Limits struct {
	// Rows is the most rows of a part. Zero means 5,000.
	Rows int
	// Bytes is the most bytes of a part's values; a row that has more is held back, and
	// told. Zero means 6 MiB, which a body of 8 MiB holds even where nothing compresses.
	Bytes int
}

func (l Limits) defaults() Limits {
	if l.Rows <= 0 {
		l.Rows = 5000
	}
	if l.Bytes <= 0 {
		l.Bytes = 6 << 20
	}
	return l
}

// ErrMoved reports that another replicator moved the file since the round began. Nothing
// was done; the next round begins from where the file is now.
var ErrMoved = errors.New("capture: the file moved since the round began")

// A Round is one push and the pull that answers it.
type Round struct {
	Name    change.Name
	Names   []change.Name // the last answered push, those without an answer, this one
	Device  change.DeviceID
	Seen    change.Seq
	Through change.LSN // the push covers the log up to here
	Epochs  []change.Epoch
	// Compared is the master's head as of the comparison that the push goes by; 0: none.
	Compared change.Seq
	Doubt    change.LSN         // steps up to here may be another copy's too
	Tables   change.Schema      // this device's
	Space    change.Schema      // the space's, as the device knows it; nil: not yet
	Pending  bool               // there is something to push
	Fresh    []change.ColumnRef // columns that the last complete round did not know
	Renames  []change.Rename    // tables and columns that it knew under another name

	// Counted while Parts runs:
	Rows      int // rows that the push has
	Mutations int // log rows that they were folded from
	Held      []HeldRow

	held   map[rowKey]bool
	acked  change.LSN
	folded int64
	reader *Device // holds the read transaction that the push is read from; nil: released
}

// A HeldRow is a pending row that can't be shipped as it is.
type HeldRow struct {
	Table  string
	Key    change.Value
	Reason string
}

// Begin starts a round. reader is the same file through another connection: it keeps one
// state of the file, in a read transaction, until the round is released, so that a push
// holds transactions whole and writers are not held up.
//
// Then comes the fence: the push's name is written into the file and synced to the disk,
// with all that the push can carry, before anything is sent. So a power cut can't roll the
// file back behind what the master has seen, and the master can tell a copy of the file
// from the file. A round with nothing to push is not synced: at worst it is forgotten, and
// the file takes a new id.
func (d *Device) Begin(reader *Device, name change.Name) (*Round, error) {
	if _, err := d.Mend(); err != nil {
		return nil, err
	}
	if d.failed {
		if err := d.renewLog(); err != nil {
			return nil, err
		}
	}
	r := &Round{Name: name, held: make(map[rowKey]bool), reader: reader}
	err := r.open()
	if err == nil {
		err = d.fence(r)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin a round: %w", err), r.Release())
	}
	return r, nil
}

// open begins the read transaction, and reads in it where the device stands.
func (r *Round) open() error {
	d := r.reader
	if _, err := d.c.Exec("BEGIN"); err != nil {
		r.reader = nil
		return err
	}
	s, err := d.State()
	if err != nil {
		return err
	}
	r.Device, r.Seen, r.acked, r.folded = s.Device, s.Seen, s.Acked, s.Folded
	var last int64
	if _, err := d.c.Row(`SELECT coalesce(max(lsn), 0) FROM _velosync_wal`, nil, &last); err != nil {
		return err
	}
	r.Through = max(change.LSN(last), s.Acked)
	if r.Pending, err = d.Pending(); err != nil {
		return err
	}
	if r.Epochs, err = d.epochs(); err != nil {
		return err
	}
	var compared int64
	if _, err := d.c.Row(`SELECT compared FROM _velosync_sync`, nil, &compared); err != nil {
		return err
	}
	r.Compared = change.Seq(compared)
	var doubt int64
	if _, err := d.c.Row(`SELECT doubt FROM _velosync_state`, nil, &doubt); err != nil {
		return err
	}
	r.Doubt = change.LSN(doubt)
	if r.Tables, err = d.Tables(); err != nil {
		return err
	}
	if r.Fresh, err = d.fresh(s.Seen); err != nil {
		return err
	}
	if r.Renames, err = d.renames(); err != nil {
		return err
	}
	r.Space, err = d.space()
	return err
}

// fresh returns the columns that the device's tables had not when its last round was
// complete. It returns ErrMoved where a table changed since its triggers were made: what
// was written to it meanwhile is to be logged first.
func (d *Device) fresh(seen change.Seq) (list []change.ColumnRef, err error) {
	for i, t := range d.tables {
		var made string
		var held []string
		var text change.Value
		if _, err := d.c.Row(`SELECT made, held FROM _velosync_table WHERE id = ?`, []change.Value{t.id}, &made, &text); err != nil {
			return nil, err
		}
		var old change.Table
		if err := json.Unmarshal([]byte(made), &old); err != nil {
			return nil, fmt.Errorf("table %q as its triggers were made for: %w", t.d.Name, err)
		}
		if !sameColumns(&old, &t.d.Table) {
			return nil, ErrMoved
		}
		if text == nil && seen == 0 { // tracked, and all that others have of it is still to come
			continue
		}
		if text, ok := text.(string); ok {
			if err := json.Unmarshal([]byte(text), &held); err != nil {
				return nil, fmt.Errorf("the columns that are held of %q: %w", t.d.Name, err)
			}
		}
		for c, col := range t.d.Columns {
			if !slices.Contains(held, col.Name) && !slices.Contains(t.d.Key, c) {
				list = append(list, change.ColumnRef{Table: i, Column: c})
			}
		}
	}
	return list, nil
}

func (d *Device) fence(r *Round) error {
	level := "NORMAL"
	if r.Pending {
		level = "FULL"
	}
	if err := d.c.Script("PRAGMA synchronous = " + level); err != nil {
		return err
	}
	return d.c.Tx(func() error {
		s, err := d.State()
		if err != nil {
			return err
		}
		if s.Device != r.Device || s.Seen != r.Seen || s.Folded != r.folded {
			return ErrMoved // or what the push holds was given newer LSNs since it was read
		}
		if _, err := d.c.Exec(`INSERT INTO _velosync_name(name, through) VALUES (?, ?)`, r.Name[:], int64(r.Through)); err != nil {
			return err
		}
		if _, err := d.c.Exec(`UPDATE _velosync_state SET sent = max(sent, ?)`, int64(r.Through)); err != nil {
			return err
		}
		r.Names, err = d.names()
		return err
	})
}

// Release ends the round's read transaction: the push is answered, or given up. It may be
// called twice.
func (r *Round) Release() error {
	if r.reader == nil {
		return nil
	}
	d := r.reader
	r.reader = nil
	_, err := d.c.Exec("ROLLBACK")
	return err
}

// Abandon takes the round's name back: the push did not reach the master, or the master
// said that it applied nothing.
func (d *Device) Abandon(r *Round) error {
	if _, err := d.c.Exec(`DELETE FROM _velosync_name WHERE name = ?`, r.Name[:]); err != nil {
		return fmt.Errorf("abandon a round: %w", err)
	}
	return nil
}

func (d *Device) names() (names []change.Name, err error) {
	err = d.c.Query(`SELECT name FROM _velosync_name ORDER BY n`, nil, func(v []change.Value) error {
		b, _ := v[0].([]byte)
		if len(b) != len(change.Name{}) {
			return fmt.Errorf("a push name has %d bytes", len(b))
		}
		names = append(names, change.Name(b))
		return nil
	})
	return names, err
}

func (d *Device) epochs() (epochs []change.Epoch, err error) {
	err = d.c.Query(`SELECT epoch, first FROM _velosync_epoch ORDER BY first`, nil, func(v []change.Value) error {
		b, _ := v[0].([]byte)
		if len(b) != len(change.Name{}) {
			return fmt.Errorf("an epoch has %d bytes", len(b))
		}
		epochs = append(epochs, change.Epoch{ID: change.Name(b), First: change.Seq(v[1].(int64))})
		return nil
	})
	return epochs, err
}

func (d *Device) space() (change.Schema, error) {
	var text string
	if _, err := d.c.Row(`SELECT tables FROM _velosync_sync`, nil, &text); err != nil || text == "" {
		return nil, err
	}
	var s change.Schema
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("the space's tables as kept here: %w", err)
	}
	return s, nil
}

var errStopped = errors.New("stopped")

// Parts yields the push, in parts that follow each other; the last has More unset. All of
// them read one state of the file: the log and the rows that it names. It may be ranged
// over again, when the master asks for the push again, until the round is released.
func (r *Round) Parts(l Limits) iter.Seq2[*change.Push, error] {
	return func(yield func(*change.Push, error) bool) {
		r.Rows, r.Mutations, r.Held = 0, 0, nil
		clear(r.held)
		if err := r.parts(l.defaults(), yield); err != nil && err != errStopped {
			yield(nil, fmt.Errorf("read what is pending: %w", err))
		}
	}
}

func (r *Round) parts(l Limits, yield func(*change.Push, error) bool) error {
	if r.reader == nil {
		return errors.New("the round is released")
	}
	d := r.reader
	edits, err := d.pending(r.acked)
	if err != nil {
		return err
	}
	p := newPart(r, l, d.now())
	// Blocks name tables by their place among this device's, ordered by name.
	place := make(map[int64]int, len(d.tables))
	for i, t := range d.tables {
		place[t.id] = i
	}
	// What is pushed back comes first: a row that the master lost is there, then, for what
	// was written on it since.
	var list []shipping
	for _, e := range edits {
		if e.back != 0 {
			list = append(list, shipping{e, true})
		}
	}
	for _, e := range edits {
		if e.live {
			list = append(list, shipping{e, false})
		}
	}
	for _, s := range list {
		e := s.edit
		t := d.byID(e.key.tbl)
		row, err := d.readRow(t, e, s.back)
		if err != nil {
			return err
		}
		if row.skip {
			continue
		}
		if row.bytes > l.Bytes {
			h := HeldRow{Table: t.d.Name, Key: e.key.value(), Reason: fmt.Sprintf("the row has %d bytes, a push takes %d", row.bytes, l.Bytes)}
			r.Held, r.held[e.key] = append(r.Held, h), true
			continue
		}
		if p.full(row.bytes) {
			if !yield(p.push(true), nil) {
				return errStopped
			}
			p = p.next()
		}
		p.add(place[t.id], row, s)
		r.Rows++
		if !s.back || !e.live {
			r.Mutations += e.mutations
		}
	}
	if !yield(p.push(false), nil) {
		return errStopped
	}
	return nil
}

// A shipping is an edit on its way out: what of it is pushed back, or the application's.
type shipping struct {
	*edit
	back bool
}

// A shippedRow is an edit with the values that the row has now.
type shippedRow struct {
	gone   bool
	skip   bool
	regs   change.Bits
	values []change.Value // of regs' columns
	steps  []change.Step
	stamp  change.EditStamp
	bytes  int
}

func (d *Device) readRow(t *table, e *edit, back bool) (shippedRow, error) {
	all := change.AllBits(len(t.registers))
	row := shippedRow{regs: e.liveCols}
	if back {
		row.regs = e.pushedBack(t)
	}
	found, weight, err := d.readBy(t, t.selectRegisters(row.regs), e.key.value(), func(v []change.Value) {
		row.values = slices.Clone(v)
	})
	if err != nil {
		return row, fmt.Errorf("read row %v of %q: %w", e.key.value(), t.d.Name, err)
	}
	switch {
	case back && !found && e.live, back && found && row.regs == 0:
		row.skip = true // the application has deleted the row, or written over all of it, since
		return row, nil
	case !found:
		row.gone, row.regs, row.values = true, all, nil
		row.stamp = e.stamp(all)
		weight = e.weight
	case e.evicted, !back && row.regs == 0:
		row.skip = true // the REPLACE that was announced did not happen, or all of it is pushed back
		return row, nil
	default:
		e.lowerBlind()
		row.stamp = e.stamp(row.regs)
	}
	if t.renumbers() {
		row.stamp.Made, row.stamp.Present = change.LSN(e.made), e.present
	}
	if err := t.readCounters(e, &row, back); err != nil {
		return row, fmt.Errorf("row %v of %q: %w", e.key.value(), t.d.Name, err)
	}
	row.bytes = 64 + size(e.key.value()) + 16*len(row.steps)
	for i := range row.steps {
		row.bytes += len(row.steps[i].Element)
	}
	for _, v := range row.values {
		row.bytes += size(v)
	}
	if back {
		row.stamp = e.backStamp(row.regs)
		return row, nil
	}
	w, err := change.WeightOf(weight)
	if err != nil {
		w = 0 // written while no trigger watched; a weight that says nothing outranks nothing
	}
	row.stamp.Weight, row.stamp.Steps = w, row.steps
	return row, nil
}

// readColumns hands the values of a row's columns, and its weight, to f.
func (d *Device) readColumns(t *table, pk change.Value, cols []int, f func([]change.Value)) (found bool, weight change.Value, err error) {
	return d.readBy(t, t.selectRow(cols), pk, f)
}

// readBy is readColumns with a query of selectRow.
func (d *Device) readBy(t *table, query string, pk change.Value, f func([]change.Value)) (found bool, weight change.Value, err error) {
	key, err := change.SplitKey(pk, len(t.d.Key))
	if err != nil {
		return false, nil, err
	}
	err = d.c.Query(query, key, func(v []change.Value) error {
		// The key's index may call another key equal (NOCASE): the row is this one by its bytes.
		if !sameKeyValue(v[0], pk) {
			return nil
		}
		found, weight = true, v[1]
		f(v[2:])
		return nil
	})
	return found, weight, err
}

// selectRegisters is selectRow of the columns of some registers. A push reads row by row,
// and most rows ask for the same: so the last one is kept.
func (t *table) selectRegisters(regs change.Bits) string {
	if t.selected == "" || t.selectedRegs != regs {
		t.selected, t.selectedRegs = t.selectRow(change.ColumnsOf(t.registers, regs)), regs
	}
	return t.selected
}

// selectRow reads key, weight and columns of the row with a key.
func (t *table) selectRow(cols []int) string {
	weight := "NULL"
	if t.weight >= 0 {
		weight = plain(vsql.Quote(t.d.Columns[t.weight].Name))
	}
	q := "SELECT " + plain(t.d.KeyExpression("")) + ", " + weight
	for _, c := range cols {
		q += ", " + plain(vsql.Quote(t.d.Columns[c].Name))
	}
	return q + " FROM " + vsql.Quote(t.d.Name) + " WHERE " + vsql.KeyCondition(&t.d.Table)
}

func size(v change.Value) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	}
	return 8
}

// A part collects rows into blocks.
type part struct {
	r      *Round
	now    int64 // the device's clock
	l      Limits
	n      int
	rows   int
	bytes  int
	blocks []*change.Block
	at     map[blockKey]*change.Block
}

type blockKey struct {
	table int
	gone  bool
	back  bool
	regs  change.Bits
}

func newPart(r *Round, l Limits, now int64) *part {
	return &part{r: r, l: l, now: now, at: make(map[blockKey]*change.Block)}
}

func (p *part) next() *part {
	n := newPart(p.r, p.l, p.now)
	n.n = p.n + 1
	return n
}

func (p *part) full(bytes int) bool {
	return p.rows > 0 && (p.rows >= p.l.Rows || p.bytes+bytes > p.l.Bytes)
}

func (p *part) add(table int, row shippedRow, e shipping) {
	k := blockKey{table, row.gone, e.back, row.regs}
	b := p.at[k]
	if b == nil {
		b = &change.Block{Table: table, Delete: row.gone}
		if !row.gone {
			b.Regs = row.regs
			b.Columns = make([][]change.Value, len(row.values))
		}
		p.at[k] = b
		p.blocks = append(p.blocks, b)
	}
	b.Keys = append(b.Keys, e.key.value())
	for i, v := range row.values {
		b.Columns[i] = append(b.Columns[i], v)
	}
	b.Stamps = append(b.Stamps, row.stamp)
	p.rows++
	p.bytes += row.bytes
}

func (p *part) push(more bool) *change.Push {
	r := p.r
	push := &change.Push{
		Device:   r.Device,
		Names:    r.Names,
		Epochs:   r.Epochs,
		Compared: r.Compared,
		Doubt:    r.Doubt,
		Seen:     r.Seen,
		Through:  r.Through,
		Now:      p.now,
		Schema:   r.Tables.Digest(),
		Fresh:    r.Fresh,
		Renames:  r.Renames,
		Part:     p.n,
		More:     more,
	}
	if r.Space != nil {
		push.Known = r.Space.Digest()
	}
	for _, b := range p.blocks {
		push.Blocks = append(push.Blocks, *b)
	}
	return push
}

// Page returns the request for the page of the round's pull that follows seq; now is the device's clock in unix milliseconds.
func (r *Round) Page(seq change.Seq, now int64) *change.Push {
	p := newPart(r, Limits{}, now).push(false)
	p.Paging, p.Page = true, seq
	return p
}

// stands says whether the file is where the round left it, else ErrMoved: a second
// replicator may have moved it since.
func (d *Device) stands(r *Round) error {
	s, err := d.State()
	if err != nil {
		return err
	}
	var name []byte
	if _, err := d.c.Row(`SELECT name FROM _velosync_name ORDER BY n DESC LIMIT 1`, nil, &name); err != nil {
		return err
	}
	if s.Device != r.Device || s.Seen != r.Seen || string(name) != string(r.Name[:]) {
		return ErrMoved
	}
	return nil
}

// Fork gives the file a new id: the master answered the round's push that it knows another
// branch of the file, a copy or the file that a backup was made of. What is pending stays,
// as edits of the new device. With ErrMoved nothing changed: a second replicator has pushed
// since, and its push is that other branch.
func (d *Device) Fork(r *Round) (change.DeviceID, error) {
	id, err := change.NewDeviceID(d.o.Random)
	if err != nil {
		return id, err
	}
	err = d.c.Tx(func() error {
		if err := d.stands(r); err != nil {
			return err
		}
		// What is pending, the other branch may have sent.
		if _, err := d.c.Exec(`UPDATE _velosync_state SET doubt = (SELECT coalesce(max(lsn), 0) FROM _velosync_wal)`); err != nil {
			return err
		}
		return d.rename(id)
	})
	if err != nil {
		return id, fmt.Errorf("take a new device id: %w", err)
	}
	return id, nil
}

// rename gives the file an id that has pushed nothing.
func (d *Device) rename(id change.DeviceID) error {
	if _, err := d.c.Exec(`UPDATE _velosync_state SET device = ?`, id[:]); err != nil {
		return err
	}
	_, err := d.c.Exec(`DELETE FROM _velosync_name`)
	return err
}

// Describe writes down what people want to know: the device's name, and which master and
// space it syncs with.
func (d *Device) Describe(name, master, space string) error {
	_, err := d.c.Exec(`UPDATE _velosync_sync SET name = coalesce(nullif(?1, ''), name), master = ?2, space = ?3
		WHERE name IS NOT coalesce(nullif(?1, ''), name) OR master IS NOT ?2 OR space IS NOT ?3`, name, master, space)
	return err
}

// renewLog brings the write-ahead log into the database file and begins it anew. After a
// sync that failed, Linux takes what it did not write for clean: earlier commits of the
// application may be missing in the log on the disk, no later fence would bring them, and a
// power cut would take the file back behind what was sent.
func (d *Device) renewLog() error {
	var busy, frames, moved int
	if _, err := d.c.Row(`PRAGMA wal_checkpoint(TRUNCATE)`, nil, &busy, &frames, &moved); err != nil {
		return fmt.Errorf("begin the log anew after a write that failed: %w", err)
	}
	if busy != 0 {
		return errors.New("begin the log anew after a write that failed: another connection holds it")
	}
	d.failed = false
	return nil
}

// Failed writes down why a round did not complete, for velosync_status.
func (d *Device) Failed(why error) error {
	_, err := d.c.Exec(`UPDATE _velosync_sync SET last_error = ?1 WHERE last_error IS NOT ?1`, why.Error())
	d.failed = d.failed || isDiskError(why) || isDiskError(err)
	return err
}

func isDiskError(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && e.Code == sqlite3.ErrIoErr
}
