-- Where the comparison of this file with the master, range by range, goes on. One row,
-- written by rounds. See capture/digest.go.
CREATE TABLE IF NOT EXISTS _velosync_digest (
  id  INTEGER PRIMARY KEY CHECK (id = 1),
  tbl INTEGER NOT NULL,                  -- _velosync_table.id
  pk                                     -- the last key that was compared; NULL: none of the table yet
);

DROP VIEW IF EXISTS velosync_status;
CREATE VIEW velosync_status AS
SELECT lower(hex(s.device)) AS device, y.name, y.master, y.space, s.seen,
  (SELECT coalesce(max(lsn), 0) FROM _velosync_wal) AS lsn,
  s.acked AS acked_lsn,
  (SELECT count(*) FROM (SELECT DISTINCT tbl, pk FROM _velosync_wal WHERE lsn > s.acked AND op <> 'X')) AS pending,
  (SELECT count(*) FROM _velosync_conflict WHERE settled IS NULL) AS conflicts,
  (SELECT count(*) FROM _velosync_conflict WHERE settled IS NULL AND kind = 'diverged') AS diverged,
  (SELECT count(*) FROM _velosync_parked) AS parked,
  (SELECT group_concat(name, ', ') FROM (SELECT name FROM _velosync_table ORDER BY name)) AS tables,
  y.last_sync, y.last_error
FROM _velosync_state s, _velosync_sync y;
