package capture

import (
	"errors"

	"github.com/velosync/velosync/capture/change"
)

// prune forgets the log rows that the master has applied. A row's older mutations stay,
// narrowed to the registers that a later pending one still hides, and for its delete:
// their smaller seen is the truth for those registers.
func (a *applier) prune() error {
	d, through := a.d, int64(a.r.Through)
	var newest int64
	if _, err := d.c.Row(`SELECT coalesce(max(lsn), 0) FROM _velosync_wal`, nil, &newest); err != nil {
		return err
	}
	if len(a.later) > 0 || len(a.notices) > 0 || len(a.r.held) > 0 {
		if err := a.pruneRows(through); err != nil {
			return err
		}
	} else if _, err := d.c.Exec(`DELETE FROM _velosync_wal WHERE lsn <= ? AND lsn < ?`, through, newest); err != nil {
		return err
	}
	// The newest row always stays, so that its lsn is not given again.
	var top int64
	if _, err := d.c.Row(`SELECT coalesce(max(lsn), 0) FROM _velosync_wal`, nil, &top); err != nil {
		return err
	}
	if top < newest {
		return errors.New("the newest log row was lost")
	}
	if _, err := d.c.Exec(`UPDATE _velosync_wal SET op = 'X', cols = 0, weight = NULL, sets = NULL WHERE lsn = ? AND lsn <= ? AND op <> 'X'`, top, through); err != nil {
		return err
	}
	if len(a.later) == 0 {
		_, err := d.c.Exec(`DELETE FROM _velosync_under`)
		return err
	}
	var under []rowKey
	err := d.c.Query(`SELECT DISTINCT tbl, pk FROM _velosync_under`, nil, func(v []change.Value) error {
		if k := keyFor(v[0].(int64), v[1]); !a.isLater(k) {
			under = append(under, k)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range under {
		if _, err := d.c.Exec(`DELETE FROM _velosync_under WHERE tbl = ? AND pk = ?`, k.tbl, k.value()); err != nil {
			return err
		}
	}
	return nil
}

// pruneRows is prune where some log rows must stay.
func (a *applier) pruneRows(through int64) error {
	d := a.d
	type row struct {
		lsn  int64
		cols change.Bits
		key  rowKey
	}
	var newest int64
	var rows []row
	err := d.c.Query(`SELECT lsn, cols, tbl, pk FROM _velosync_wal ORDER BY lsn`, nil, func(v []change.Value) error {
		newest = v[0].(int64)
		k := keyFor(v[2].(int64), v[3])
		if newest <= through || a.notices[k] {
			rows = append(rows, row{newest, change.Bits(v[1].(int64)), k})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range rows {
		later, pending := a.later[r.key]
		switch {
		case a.notices[r.key]:
			if r.lsn == newest {
				_, err = d.c.Exec(`UPDATE _velosync_wal SET op = 'X', cols = 0, weight = NULL WHERE lsn = ?`, r.lsn)
			} else {
				_, err = d.c.Exec(`DELETE FROM _velosync_wal WHERE lsn = ?`, r.lsn)
			}
		case a.r.held[r.key]: // not shipped: logged again, behind what the master has applied
			_, err = d.c.Exec(`INSERT INTO _velosync_wal(tbl, op, pk, cols, seen, at, weight, steps, sets)
				SELECT tbl, op, pk, cols, seen, at, weight, steps, sets FROM _velosync_wal WHERE lsn = ? AND op <> 'X'`, r.lsn)
			if err == nil {
				_, err = d.c.Exec(`DELETE FROM _velosync_wal WHERE lsn = ?`, r.lsn)
			}
		case pending:
			if narrow := r.cols & later.cols; narrow != r.cols {
				_, err = d.c.Exec(`UPDATE _velosync_wal SET cols = ? WHERE lsn = ?`, int64(narrow), r.lsn)
			}
		case r.lsn != newest:
			_, err = d.c.Exec(`DELETE FROM _velosync_wal WHERE lsn = ?`, r.lsn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) isLater(k rowKey) bool { _, ok := a.later[k]; return ok }
