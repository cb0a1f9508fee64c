-- What a device lost after a seq, oldest first.
SELECT id, seq, tbl, pk, kind, rule, reason, regs, has_lost, has_kept,
       lost_clock, lost_weight, lost_time, kept_clock, kept_weight, kept_time, kept_site
  FROM _velosync_conflict
 WHERE site = ? AND seq > ?
 ORDER BY seq, id
 LIMIT ?
