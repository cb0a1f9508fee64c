package capture

import (
	"fmt"
	"strings"

	"github.com/velosync/velosync/capture/change"
)

// rowKey names a row of a tracked table inside this process. A blob key is held as its
// bytes in a type of their own, so that x'61' and 'a' stay two rows.
type rowKey struct {
	tbl int64
	pk  any
}

type blobKey string

func keyFor(tbl int64, pk change.Value) rowKey {
	if b, ok := pk.([]byte); ok {
		return rowKey{tbl, blobKey(b)}
	}
	return rowKey{tbl, pk}
}

func (k rowKey) value() change.Value {
	if b, ok := k.pk.(blobKey); ok {
		return []byte(b)
	}
	return k.pk
}

// A logRow is one row of the log.
type logRow struct {
	lsn    int64
	op     byte
	cols   change.Bits
	seen   int64
	at     int64
	weight change.Value
	steps  change.Value
	sets   change.Value
}

// An edit is all pending mutations of one row, compacted: per register the smallest
// seen and the largest lsn, and the newest mutation's time.
type edit struct {
	key       rowKey
	lsn       int64 // the newest mutation's
	existence int64 // the smallest seen of any
	birth
	at        int64
	weight    change.Value // of the newest delete
	cols      change.Bits
	mutations int
	// live says that there are mutations of the application, liveCols which registers they
	// wrote. back are the registers that are pushed back after a master's restore, by
	// mutations up to backLSN that rank by backAt; see Comparison.
	live     bool
	liveCols change.Bits
	back     change.Bits
	backLSN  int64
	backAt   int64
	// evicted says that the log has only warnings of a REPLACE: the row counts if it is gone.
	evicted bool
	// blind are registers of which an edit has seen nothing, unless it is a delete.
	blind change.Bits
	// seen and newest are by register, and empty while all mutations agree with seen0 and
	// lsn: most edits are one mutation.
	seen0  int64
	seen   []int64
	newest []int64
	count  count
}

// A birth says whether the mutations of a row begin with its insert.
type birth struct {
	made    int64 // the lsn of that insert, the newest if the row came and went before; or 0
	present bool  // that insert is from before the table was tracked
	went    bool  // the row came and went: its number is nobody's
	known   bool
}

// add adds a log row, in the order of their lsn.
func (b *birth) add(r logRow) {
	if (r.op == 'I' || r.op == 'P') && (!b.known || b.went) {
		b.made, b.present = r.lsn, r.op == 'P'
	}
	b.known, b.went = true, b.made != 0 && r.op == 'D'
}

// pending reads the log and compacts it, in the order of each row's newest mutation's
// first appearance. Rows without a mutation after acked are not pending: what the log
// still holds of them has been applied.
func (d *Device) pending(acked change.LSN) ([]*edit, error) {
	at := make(map[rowKey]*edit)
	var order []*edit
	s, err := d.State()
	if err != nil {
		return nil, err
	}
	bounds, err := d.bounds()
	if err != nil {
		return nil, err
	}
	err = d.c.Query(`SELECT lsn, tbl, op, cols, seen, at, weight, pk, steps, sets FROM _velosync_wal WHERE op <> 'X' ORDER BY lsn`, nil, func(v []change.Value) error {
		r, t, why := d.readLogRow(v, &s)
		r.steps, r.sets = v[8], v[9]
		if why != "" {
			return fmt.Errorf("log row %v is damaged: %s. Nothing is sent: look at it in _velosync_wal, delete it, and log its row by hand: SELECT velosync_touch(table, key)", v[0], why)
		}
		k := keyFor(t.id, v[7])
		e := at[k]
		if e == nil {
			if _, err := change.SplitKey(v[7], len(t.d.Key)); len(t.d.Key) > 1 && err != nil {
				return fmt.Errorf("log row %d is damaged: %w", r.lsn, err)
			}
			e = &edit{key: k, evicted: true, existence: r.seen, seen0: r.seen, count: count{bounds: bounds}}
			at[k] = e
			order = append(order, e)
		}
		e.birth.add(r)
		e.add(r, len(t.registers))
		if r.lsn > int64(acked) {
			e.count.add(r, t)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	kept := order[:0]
	for _, e := range order {
		if e.lsn > int64(acked) {
			kept = append(kept, e)
		}
	}
	if err := d.lowerUnder(at); err != nil {
		return nil, err
	}
	return kept, nil
}

// readLogRow reads a row of the log, lsn, table, op, cols, seen, at, weight; or it says
// what no trigger of ours writes there.
func (d *Device) readLogRow(v []change.Value, s *State) (r logRow, t *table, why string) {
	var n [5]int64 // lsn, table, cols, seen, at
	for i, at := range [...]int{0, 1, 3, 4, 5} {
		var ok bool
		if n[i], ok = v[at].(int64); !ok {
			return r, nil, fmt.Sprintf("%v stands where a number belongs", v[at])
		}
	}
	op, _ := v[2].(string)
	if t = d.byID(n[1]); t == nil {
		return r, nil, "it is of a table that is not tracked"
	}
	if len(op) != 1 || !strings.Contains("IUDETBP", op) {
		return r, nil, fmt.Sprintf("there is no operation %q", op)
	}
	r = logRow{lsn: n[0], op: op[0], cols: change.Bits(n[2]), seen: n[3], at: n[4], weight: v[6]}
	switch {
	case r.op != 'E' && r.lsn > int64(s.Acked) && r.cols&change.AllBits(len(t.registers)) == 0: // older ones may stay for a delete alone
		return r, nil, fmt.Sprintf("it names no columns of %q", t.d.Name)
	case r.seen < 0 || r.seen > int64(s.Seen):
		return r, nil, fmt.Sprintf("it has seen %d, the device %d", r.seen, s.Seen)
	}
	return r, t, ""
}

func (e *edit) add(r logRow, registers int) {
	cols := r.cols & change.AllBits(registers)
	first := e.mutations == 0
	e.mutations++
	if r.op == 'E' {
		cols = 0 // says nothing of columns unless the row is gone; then existence does
	} else {
		e.evicted = false
	}
	if r.op == 'D' {
		e.weight = r.weight
	}
	if r.op == 'B' {
		e.back |= cols
		e.backLSN, e.backAt = max(e.backLSN, r.lsn), max(e.backAt, r.at)
	} else {
		e.live = true
		e.liveCols |= cols
		e.at = r.at // a clock that was set back since does not leave a time to come
	}
	e.existence = min(e.existence, r.seen)
	switch {
	case first:
		e.lsn = r.lsn
	case e.seen == nil && r.seen >= e.seen0 && cols == e.cols: // the same registers: as old as the first
	case e.seen == nil && r.seen == e.seen0 && e.cols&^cols == 0: // covers all that came before
	default:
		e.split(registers)
	}
	if e.seen != nil {
		cols.Each(func(i int) {
			if e.cols.Has(i) {
				e.seen[i] = min(e.seen[i], r.seen)
			} else {
				e.seen[i] = r.seen
			}
			e.newest[i] = r.lsn
		})
	}
	e.lsn = max(e.lsn, r.lsn)
	e.cols |= cols
}

// split gives each register a seen and an lsn of its own.
func (e *edit) split(registers int) {
	if e.seen != nil {
		return
	}
	e.seen, e.newest = make([]int64, registers), make([]int64, registers)
	for i := range e.seen {
		e.seen[i], e.newest[i] = e.seen0, e.lsn
	}
}

// unlessGone stands in _velosync_under for a seen of 0 that does not count for a delete.
const unlessGone = -1

// lowerUnder takes the registers that a pulled delete left as old as they were, and those
// that came with a new column.
func (d *Device) lowerUnder(at map[rowKey]*edit) error {
	return d.c.Query(`SELECT tbl, pk, reg, seen FROM _velosync_under`, nil, func(v []change.Value) error {
		t := d.byID(v[0].(int64))
		if t == nil {
			return nil
		}
		e := at[keyFor(t.id, v[1])]
		if e == nil {
			return nil
		}
		e.split(len(t.registers))
		if i := int(v[2].(int64)); i < len(e.seen) && e.cols.Has(i) {
			if v[3].(int64) == unlessGone {
				e.blind |= change.Bit(i)
			} else {
				e.seen[i] = min(e.seen[i], v[3].(int64))
				e.count.limit(i, v[3].(int64))
			}
		}
		return nil
	})
}

// lowerBlind takes the blind registers as unseen: the row is there.
func (e *edit) lowerBlind() {
	e.blind.Each(func(i int) {
		e.seen[i] = 0
		e.count.limit(i, 0)
	})
}

// stamp returns the edit's clock for the registers in set. A register that no mutation
// wrote (of a delete, or a row that is shipped whole) is as old as the row's oldest.
func (e *edit) stamp(set change.Bits) change.EditStamp {
	s := change.EditStamp{LSN: change.LSN(e.lsn), Time: e.at, Existence: change.Seq(e.existence), Seen: change.Seq(e.seen0)}
	if e.seen == nil && set == e.cols {
		return s
	}
	// The row's seen is its most frequent one: that of the first register will do, since
	// nearly all edits have one.
	first := true
	set.Each(func(i int) {
		seen, lsn := e.register(i)
		if first {
			s.Seen, first = change.Seq(seen), false
		}
		if seen != int64(s.Seen) || lsn != e.lsn {
			s.Regs = append(s.Regs, change.RegEdit{Reg: i, Seen: change.Seq(seen), LSN: change.LSN(lsn)})
		}
	})
	return s
}

// pushedBack returns which registers the edit pushes back, none where what the application
// has written since says it all; of a counter it says only what was added. A row is pushed back whole where the master may lack it.
func (e *edit) pushedBack(t *table) change.Bits {
	all := change.AllBits(len(t.registers))
	rest := e.back &^ (e.liveCols &^ e.count.added(t, e.liveCols))
	if rest != 0 && e.back == all {
		return all
	}
	return rest
}

// backStamp is stamp for what is pushed back: its rank is below that of every live edit.
func (e *edit) backStamp(set change.Bits) change.EditStamp {
	s := e.stamp(set)
	s.LSN, s.Time, s.Weight = change.LSN(e.backLSN), e.backAt, change.PushedBack
	s.Regs = nil
	set.Each(func(i int) {
		seen, lsn := e.register(i)
		lsn = min(lsn, e.backLSN) // else the register was written since, and is shipped again
		if seen != int64(s.Seen) || lsn != e.backLSN {
			s.Regs = append(s.Regs, change.RegEdit{Reg: i, Seen: change.Seq(seen), LSN: change.LSN(lsn)})
		}
	})
	return s
}

func (e *edit) register(i int) (seen, lsn int64) {
	switch {
	case !e.cols.Has(i):
		return e.existence, e.lsn
	case e.seen == nil:
		return e.seen0, e.lsn
	}
	return e.seen[i], e.newest[i]
}

// Compact folds log rows in place, so that a long time offline does not grow the log
// without end: of the mutations of one row that saw the same and are in no push, the
// newest stands for all. It does nothing while the log is short (Options.CompactAbove), and
// returns how many rows it took away.
func (d *Device) Compact() (gone int64, err error) {
	var span int
	if _, err := d.c.Row(`SELECT max(lsn) - min(lsn) FROM _velosync_wal`, nil, &span); err != nil || span < d.o.CompactAbove {
		return 0, err
	}
	err = d.c.Tx(func() error {
		if err := d.refresh(); err != nil {
			return err
		}
		s, err := d.State()
		if err != nil {
			return err
		}
		type group struct {
			rowKey
			seen   int64
			back   bool
			valued bool // counters travel by their value
			whole  bool // sets travel by their value
		}
		type sum struct {
			lsn   int64
			cols  change.Bits
			n     int
			tbl   int64
			made  byte // the op of the row's insert, where that is the first; or 0
			last  byte
			steps change.Value
			sets  change.Value
		}
		type place struct {
			lsn int64
			key rowKey
			sum *sum
		}
		var rows []place
		apart := make(map[rowKey]bool) // rows whose mutations can't be folded
		// What a push may have carried keeps its lsn: the master skips by it.
		from := max(s.Sent, s.Acked)
		sums := make(map[group]*sum)
		err = d.c.Query(`SELECT lsn, tbl, op, pk, cols, seen, steps, sets FROM _velosync_wal WHERE lsn > ? AND op <> 'X' ORDER BY lsn`, []change.Value{int64(from)}, func(v []change.Value) error {
			g := group{keyFor(v[1].(int64), v[3]), v[5].(int64), v[2].(string) == "B", v[6] == nil, v[7] == nil}
			x := sums[g]
			if x == nil {
				x = &sum{tbl: g.tbl, steps: v[6], sets: v[7]}
				sums[g] = x
			} else if folded, sets, ok := d.fold(g.tbl, x.steps, v[6], x.sets, v[7]); ok {
				x.steps, x.sets = folded, sets
			} else {
				apart[g.rowKey] = true
			}
			rows = append(rows, place{v[0].(int64), g.rowKey, x})
			op := v[2].(string)[0]
			if op == 'E' && v[6] != nil { // whether it counts depends on what follows it
				apart[g.rowKey] = true
			}
			if (op == 'I' || op == 'P') && (x.n == 0 || x.made != 0 && x.last == 'D') {
				x.made = op
			}
			if op == 'E' && x.n > 0 {
				op = x.last // a warning only: it says less than what it is folded into
			}
			x.lsn, x.n, x.last = v[0].(int64), x.n+1, op
			x.cols |= change.Bits(v[4].(int64))
			return nil
		})
		if err != nil {
			return err
		}
		for _, r := range rows {
			x := r.sum
			switch {
			case apart[r.key] || x.n == 1:
				continue
			case r.lsn != x.lsn:
				if _, err := d.c.Exec(`DELETE FROM _velosync_wal WHERE lsn = ?`, r.lsn); err != nil {
					return err
				}
				gone++
				continue
			}
			op := x.last
			switch {
			case x.made != 0 && op != 'D':
				op = x.made
			case x.made != 0 && d.byID(x.tbl).renumbers():
				op, x.cols = 'X', 0 // it came and went, and is nobody's: its number may be another row's elsewhere
			}
			if _, err := d.c.Exec(`UPDATE _velosync_wal SET cols = ?, op = ?, steps = ?, sets = ? WHERE lsn = ?`, int64(x.cols), string(op), x.steps, x.sets, x.lsn); err != nil {
				return err
			}
		}
		_, err = d.c.Exec(`UPDATE _velosync_state SET folded = folded + 1`)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("compact the log: %w", err)
	}
	return gone, nil
}

// fold makes one of what two mutations of a row did to its counters and sets.
func (d *Device) fold(tbl int64, steps, newer, sets, newerSets change.Value) (_, _ change.Value, ok bool) {
	folded, ok := foldSteps(steps, newer)
	if t := d.byID(tbl); t != nil && ok {
		sets, ok = foldSets(sets, newerSets, len(t.sets))
	}
	return folded, sets, ok
}
