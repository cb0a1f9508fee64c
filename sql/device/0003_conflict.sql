-- What writes of this device lost. Written by the apply step from the master's answer,
-- settled by velosync_resolve; settled rows leave after 30 days.
CREATE TABLE IF NOT EXISTS _velosync_conflict (
  id         INTEGER PRIMARY KEY,
  master_id  INTEGER,                    -- the id in the master's own log; with seq, unique
  seq        INTEGER NOT NULL,
  tbl        TEXT NOT NULL,
  pk         NOT NULL,
  kind       TEXT NOT NULL,
  rule       TEXT NOT NULL,
  reason     TEXT NOT NULL,
  columns    TEXT NOT NULL,              -- JSON array of names
  mine       TEXT,                       -- JSON object; NULL: mine was a delete
  theirs     TEXT,                       -- JSON object; NULL: a delete stands
  local      TEXT,                       -- the whole row as it stood here, JSON; NULL: there was none
  mine_clock TEXT, theirs_clock TEXT,
  mine_weight REAL, theirs_weight REAL,
  mine_time INTEGER, theirs_time INTEGER,
  mine_device TEXT, theirs_device TEXT,
  at         INTEGER NOT NULL,
  settled    TEXT,                       -- NULL, 'mine' or 'theirs'
  settled_at INTEGER
);
CREATE UNIQUE INDEX IF NOT EXISTS _velosync_conflict_master ON _velosync_conflict(seq, master_id, tbl, pk);
