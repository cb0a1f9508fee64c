-- For people, in any client: built-in functions only.
CREATE VIEW IF NOT EXISTS velosync_status AS
SELECT lower(hex(s.device)) AS device, y.name, y.master, y.space, s.seen,
  (SELECT coalesce(max(lsn), 0) FROM _velosync_wal) AS lsn,
  s.acked AS acked_lsn,
  (SELECT count(*) FROM (SELECT DISTINCT tbl, pk FROM _velosync_wal WHERE lsn > s.acked AND op <> 'X')) AS pending,
  (SELECT count(*) FROM _velosync_conflict WHERE settled IS NULL) AS conflicts,
  (SELECT count(*) FROM _velosync_parked) AS parked,
  (SELECT group_concat(name, ', ') FROM (SELECT name FROM _velosync_table ORDER BY name)) AS tables,
  y.last_sync, y.last_error
FROM _velosync_state s, _velosync_sync y;

CREATE VIEW IF NOT EXISTS velosync_pending AS
SELECT p.tbl, p."key",
  CASE v.op WHEN 'D' THEN 'delete' WHEN 'I' THEN 'insert' WHEN 'P' THEN 'insert' WHEN 'T' THEN 'touch' WHEN 'E' THEN 'replaced' WHEN 'B' THEN 'push back' ELSE 'update' END AS op,
  p.columns, p.mutations, p.first_lsn, p.last_lsn, p.since
FROM (
  SELECT t.name AS tbl, w.pk AS "key", group_concat(DISTINCT r.columns) AS columns,
    count(DISTINCT w.lsn) AS mutations, min(w.lsn) AS first_lsn, max(w.lsn) AS last_lsn, min(w.at) AS since
  FROM _velosync_state s JOIN _velosync_wal w ON w.lsn > s.acked AND w.op <> 'X'
    JOIN _velosync_table t ON t.id = w.tbl
    LEFT JOIN _velosync_register r ON r.tbl = w.tbl AND (w.cols >> r.reg) & 1
  GROUP BY w.tbl, w.pk
) p JOIN _velosync_wal v ON v.lsn = p.last_lsn;

CREATE VIEW IF NOT EXISTS velosync_conflicts AS
SELECT id, tbl, pk AS "key", kind, rule, reason, columns, mine, theirs, mine_clock, theirs_clock, mine_weight, theirs_weight,
  mine_time, theirs_time, mine_device, theirs_device, at, settled
FROM _velosync_conflict;
