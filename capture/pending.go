package capture

import (
	"github.com/velosync/velosync/capture/change"
)

// A pendingRow is what of a row was written since the push.
type pendingRow struct {
	known bool
	cols  change.Bits
	// evicted says that there are only warnings of a REPLACE: pending if the row is gone.
	evicted bool
	made    bool // the first of it is the row's insert
	count   count
}

// and adds a log row.
func (p *pendingRow) and(r logRow) {
	evict := r.op == 'E'
	p.evicted = evict && (!p.known || p.evicted)
	if !evict {
		p.cols |= r.cols
	}
	p.made = p.made || !p.known && r.op == 'I'
	p.known = true
}

// readPending reads what the log has of each row after an lsn, and what was added to its
// counters after another one.
func (d *Device) readPending(after, counted change.LSN) (map[rowKey]pendingRow, error) {
	rows := make(map[rowKey]pendingRow)
	err := d.c.Query(`SELECT lsn, tbl, pk, cols, op, steps, seen, sets FROM _velosync_wal WHERE lsn > ? AND op <> 'X' ORDER BY lsn`, []change.Value{int64(after)}, func(v []change.Value) error {
		k := keyFor(v[1].(int64), v[2])
		r, p := logRow{lsn: v[0].(int64), cols: change.Bits(v[3].(int64)), op: v[4].(string)[0], steps: v[5], seen: v[6].(int64), sets: v[7]}, rows[k]
		p.and(r)
		if t := d.byID(k.tbl); t != nil && r.lsn > int64(counted) {
			p.count.add(r, t)
		}
		rows[k] = p
		return nil
	})
	return rows, err
}
