package store

import (
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/velosync/velosync/capture/change"
)

const (
	// collectEvery is how often acks look for what may be forgotten, and collectRows how
	// much one ack forgets: while there is more, the next one goes on.
	collectEvery = time.Minute
	collectRows  = 1000
)

// collect forgets tombstones that every live device has acknowledged, or that are past
// the retention, and conflicts past theirs. A device that was away longer starts again
// from a snapshot, see horizon.
func (t *tx) collect() error {
	if t.now-t.collected < collectEvery.Milliseconds() && t.collected <= t.now {
		return nil
	}
	tombstones, err := t.collectTombstones()
	if err != nil {
		return fmt.Errorf("forget tombstones: %w", err)
	}
	conflicts, err := t.collectConflicts()
	if err != nil {
		return fmt.Errorf("forget conflicts: %w", err)
	}
	if tombstones < collectRows && conflicts < collectRows {
		t.collected = t.now
	}
	if tombstones+conflicts > 0 {
		t.space.log.Info("forgotten", "tombstones", tombstones, "conflicts", conflicts, "horizon", t.horizon)
	}
	return nil
}

// acknowledged returns the seq that is past the retention, and the one that, or past which,
// every device that counts has acknowledged.
func (t *tx) acknowledged() (past, all change.Seq, err error) {
	since := t.now - t.space.engine.o.Retention.Milliseconds()
	var mark, low int64
	if _, err := t.Row(`SELECT coalesce(max(seq), 0) FROM _velosync_mark WHERE at <= ?`, []driver.Value{since}, &mark); err != nil {
		return 0, 0, err
	}
	if _, err := t.Exec(`DELETE FROM _velosync_mark WHERE seq < ?`, mark); err != nil {
		return 0, 0, err
	}
	_, err = t.Row(`SELECT coalesce(min(acked), 0) FROM _velosync_device WHERE contact > ?`, []driver.Value{since}, &low)
	return change.Seq(mark), change.Seq(max(mark, low)), err
}

func (t *tx) collectTombstones() (int, error) {
	past, all, err := t.acknowledged()
	if err != nil || t.tombstones == 0 || all == 0 {
		return 0, err
	}
	// Of a row that was lost in a restore (it left no trash) devices may have the row that are
	// not known here, since they came after the backup. Tombstones are forgotten in order.
	var lost int64
	_, err = t.Row(`SELECT coalesce(min(feed), 0) FROM _velosync_row WHERE deleted = 1 AND feed > ? AND feed <= ? AND coalesce(length(trash), 0) = 0`,
		[]driver.Value{int64(past), int64(all)}, &lost)
	if err != nil {
		return 0, err
	}
	if lost > 0 {
		all = change.Seq(lost - 1)
	}
	var feeds []int64
	err = t.Query(`SELECT feed FROM _velosync_row WHERE deleted = 1 AND feed <= ? ORDER BY feed LIMIT ?`, []driver.Value{int64(all), int64(collectRows)},
		func(row []driver.Value) error { feeds = append(feeds, row[0].(int64)); return nil })
	if err != nil {
		return 0, err
	}
	for _, feed := range feeds {
		if _, err := t.Exec(`DELETE FROM _velosync_row WHERE feed = ?`, feed); err != nil {
			return 0, err
		}
		t.horizon = max(t.horizon, change.Seq(feed))
		t.tombstones--
	}
	return len(feeds), nil
}

// collectConflicts forgets old conflicts. What a device lost and has not heard of goes
// only with the device's place in the feed: it starts again from a snapshot.
func (t *tx) collectConflicts() (int, error) {
	if t.conflicts == 0 {
		return 0, nil
	}
	old := t.now - t.space.engine.o.ConflictRetention.Milliseconds()
	dead := t.now - t.space.engine.o.Retention.Milliseconds()
	var ids []int64
	err := t.Query(`SELECT c.id, c.seq, c.seq > d.acked FROM _velosync_conflict c JOIN _velosync_device d ON d.site = c.site
		WHERE c.id <= (SELECT min(id) FROM _velosync_conflict) + ? AND c.at < ? AND (c.seq <= d.acked OR d.contact < ?) ORDER BY c.id`,
		[]driver.Value{int64(collectRows), old, dead}, func(row []driver.Value) error {
			ids = append(ids, row[0].(int64))
			if row[2].(int64) != 0 {
				t.horizon = max(t.horizon, change.Seq(row[1].(int64)))
			}
			return nil
		})
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if _, err := t.Exec(`DELETE FROM _velosync_conflict_value WHERE conflict = ?`, id); err != nil {
			return 0, err
		}
		if _, err := t.Exec(`DELETE FROM _velosync_conflict WHERE id = ?`, id); err != nil {
			return 0, err
		}
		t.conflicts--
	}
	return len(ids), nil
}

// putMark notes now and then when a seq was given, a thousand times in a retention.
func (t *tx) putMark() error {
	t.space.mu.Lock()
	moved := t.head != t.space.state.head
	t.space.mu.Unlock()
	every := max(t.space.engine.o.Retention.Milliseconds()/1000, 1)
	if !moved || t.now-t.mark < every {
		return nil
	}
	t.mark = t.now
	_, err := t.Exec(`INSERT OR REPLACE INTO _velosync_mark (seq, at) VALUES (?, ?)`, int64(t.head), t.now)
	return err
}
