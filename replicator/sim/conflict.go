package sim

import (
	"fmt"
	"slices"

	"github.com/velosync/velosync/capture/change"
)

// lossText writes a conflict for comparing.
func (w *world) lossText(kind change.Kind, rule change.Rule, key string, lost, kept *event, lostRank, keptRank rank) string {
	name := func(r rank) string {
		for _, d := range w.devices {
			if d.id == r.device {
				return fmt.Sprintf("%s weight %g time %d", d, r.weight, r.time)
			}
		}
		return "nobody"
	}
	return fmt.Sprintf("%s by %s: row %s: %s (%s) to %s (%s)", kind, rule, key, lost, name(lostRank), kept, name(keptRank))
}

// A conflict is a row of the master's log.
type conflict struct {
	id, seq         int64
	key, kind, rule string
	lost            []change.Value
}

// readConflicts reads what came to the master's log, as lossText writes it: a line for
// each register.
func (m *master) readConflicts() (lines []string) {
	w := m.w
	if m.watch == nil && !m.watching() {
		return nil
	}
	type found struct {
		conflict
		regs             change.Bits
		hasLost, hasKept bool
		loser, winner    rank
	}
	var rows []found
	err := m.watch.Query(`SELECT c.id, c.seq, +c.pk, c.kind, c.rule, c.regs, c.has_lost, c.has_kept, c.lost_weight, c.lost_time, d.id,
			c.kept_weight, c.kept_time, coalesce(k.id, x'')
		FROM _velosync_conflict c JOIN _velosync_device d ON d.site = c.site LEFT JOIN _velosync_device k ON k.site = c.kept_site
		WHERE c.id > ?1 AND c.tbl IN (SELECT id FROM _velosync_table WHERE name = 'notes' OR ?2 AND name = 'counts') ORDER BY c.id`, []change.Value{m.conflict, w.life == nil}, func(v []change.Value) error {
		f := found{conflict: conflict{id: v[0].(int64), seq: v[1].(int64), key: w.name(v[2]), kind: v[3].(string), rule: v[4].(string)},
			regs: change.Bits(v[5].(int64)), hasLost: v[6].(int64) != 0, hasKept: v[7].(int64) != 0,
			loser: rank{weight: v[8].(float64), time: v[9].(int64)}, winner: rank{weight: v[11].(float64), time: v[12].(int64)}}
		copy(f.loser.device[:], v[10].([]byte))
		copy(f.winner.device[:], v[13].([]byte))
		rows = append(rows, f)
		return nil
	})
	w.must(err, "read the master's conflicts")
	for _, f := range rows {
		lost, kept := make([]change.Value, len(columns)), make([]change.Value, len(columns))
		err := m.watch.Query(`SELECT name, +lost, +kept FROM _velosync_conflict_value WHERE conflict = ? ORDER BY place`, []change.Value{f.id}, func(v []change.Value) error {
			c := slices.Index(columns, v[0].(string))
			if c < 0 {
				return fmt.Errorf("conflict %d has a column %v", f.id, v[0])
			}
			lost[c], kept[c] = v[1], v[2]
			f.lost = append(f.lost, v[1])
			return nil
		})
		w.must(err, "read the values of a conflict")
		m.conflict = f.id
		m.lostBy[f.loser.device] = append(m.lostBy[f.loser.device], f.conflict)
		kind, rule := change.Kind(f.kind), change.Rule(f.rule)
		if !f.hasLost {
			w.logLoss(kind, rule, f.key, nil, nil)
			lines = append(lines, w.lossText(kind, rule, f.key, nil, nil, f.loser, f.winner))
			continue
		}
		f.regs.Each(func(r int) {
			if r >= len(w.shape.regs) {
				return
			}
			var k *event
			if kind == change.UpdateLost {
				k = w.version("the conflict log (kept)", f.key, r, textOf(pick(kept, w.shape.regs[r])))
			}
			l := w.version("the conflict log (lost)", f.key, r, textOf(pick(lost, w.shape.regs[r])))
			w.logLoss(kind, rule, f.key, l, k)
			lines = append(lines, w.lossText(kind, rule, f.key, l, k, f.loser, f.winner))
		})
	}
	return lines
}
