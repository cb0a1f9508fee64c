-- The log: one row for each mutation of a tracked table, written by triggers in the
-- mutation's own transaction. It names the row and what changed; values are read from the
-- row itself when the log is shipped. Rows leave when the master has applied them. The
-- newest always stays, so that no lsn is used twice.
CREATE TABLE IF NOT EXISTS _velosync_wal (
  lsn    INTEGER PRIMARY KEY,
  tbl    INTEGER NOT NULL,               -- _velosync_table.id
  op     TEXT    NOT NULL,               -- I, U, D; P: there before the table was tracked; E: about to be evicted by a REPLACE; T: touched by hand;
                                         -- B: pushed back after a master's restore; X: spent
  pk     NOT NULL,                       -- the key value itself, a composite key as JSON array
  cols   INTEGER NOT NULL,               -- bit i: register i changed; -1: all
  seen   INTEGER NOT NULL,               -- _velosync_state.seen at that moment
  at     INTEGER NOT NULL,               -- unix ms; of op B: seen before the restore
  weight REAL,                           -- of a deleted row
  steps,                                 -- what was added to the table's counters, see capture/counter.go
  sets                                   -- what was done to the table's sets, see capture/set.go
);

-- What a row showed before a delete was laid under its pending edits: its registers are
-- as old as that. Written by the apply step, gone when the row has nothing pending. A seen
-- of -1 is 0, of a column that came since, unless the row is deleted.
CREATE TABLE IF NOT EXISTS _velosync_under (
  tbl  INTEGER NOT NULL,
  pk   NOT NULL,
  reg  INTEGER NOT NULL,
  seen INTEGER NOT NULL,
  PRIMARY KEY (tbl, pk, reg)
) WITHOUT ROWID;

-- Rows from the master that this file could not take, tried again in each round.
CREATE TABLE IF NOT EXISTS _velosync_parked (
  tbl    INTEGER NOT NULL,
  pk     NOT NULL,
  cols   INTEGER NOT NULL,               -- registers held; 0 and op D: a delete
  op     TEXT NOT NULL,                  -- U or D
  vals   TEXT,                           -- JSON object, column to value
  reason TEXT NOT NULL,
  at     INTEGER NOT NULL,
  PRIMARY KEY (tbl, pk)
) WITHOUT ROWID;
