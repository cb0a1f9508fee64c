INSERT INTO _velosync_conflict (id, seq, site, tbl, pk, kind, rule, reason, at, regs, has_lost, has_kept,
  lost_clock, lost_weight, lost_time, kept_clock, kept_weight, kept_time, kept_site)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
