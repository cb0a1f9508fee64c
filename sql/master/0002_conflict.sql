-- Versions that did not stay. Written by the push that decided; rows leave after the
-- retention time, see store/gc.go.
CREATE TABLE _velosync_conflict (
  id           INTEGER PRIMARY KEY,
  seq          INTEGER NOT NULL,  -- of the change that decided
  site         INTEGER NOT NULL,  -- _velosync_device: the loser's author
  tbl          INTEGER NOT NULL,  -- _velosync_table
  pk           NOT NULL,
  kind         TEXT NOT NULL,     -- change.Kind
  rule         TEXT NOT NULL,     -- change.Rule
  reason       TEXT NOT NULL,     -- what a constraint said
  at           INTEGER NOT NULL,  -- unix ms
  regs         INTEGER NOT NULL,  -- bit i: register i was lost
  has_lost     INTEGER NOT NULL,  -- 0: a delete was lost, there are no values
  has_kept     INTEGER NOT NULL,  -- 0: a delete stands, or there is no row
  lost_clock   TEXT,              -- change.Clock as JSON
  lost_weight  REAL NOT NULL,
  lost_time    INTEGER NOT NULL,
  kept_clock   TEXT,
  kept_weight  REAL NOT NULL,
  kept_time    INTEGER NOT NULL,
  kept_site    INTEGER NOT NULL   -- 0: nobody
);
CREATE INDEX _velosync_conflict_site ON _velosync_conflict (site, seq);

-- The values of a conflict, one row a column.
CREATE TABLE _velosync_conflict_value (
  conflict     INTEGER NOT NULL,
  place        INTEGER NOT NULL,
  name         TEXT NOT NULL,     -- of the column
  lost,
  kept,
  PRIMARY KEY (conflict, place)
) WITHOUT ROWID;

-- For people. Blobs are shown as hex.
CREATE VIEW velosync_conflicts AS
SELECT c.id, t.name AS "table", c.pk AS "key", c.kind, c.rule, c.reason,
       CASE c.has_lost WHEN 1 THEN (
         SELECT json_group_object(v.name, CASE typeof(v.lost) WHEN 'blob' THEN hex(v.lost) ELSE v.lost END)
           FROM _velosync_conflict_value v WHERE v.conflict = c.id) END AS lost,
       CASE c.has_kept WHEN 1 THEN (
         SELECT json_group_object(v.name, CASE typeof(v.kept) WHEN 'blob' THEN hex(v.kept) ELSE v.kept END)
           FROM _velosync_conflict_value v WHERE v.conflict = c.id) END AS kept,
       c.lost_clock, c.kept_clock, lower(hex(d.id)) AS device, d.owner,
       c.seq, strftime('%Y-%m-%dT%H:%M:%SZ', c.at / 1000, 'unixepoch') AS at
  FROM _velosync_conflict c
  LEFT JOIN _velosync_table t ON t.id = c.tbl
  LEFT JOIN _velosync_device d ON d.site = c.site;
