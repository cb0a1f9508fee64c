-- What a device knows of itself. One row, read by every trigger: it stays small.
CREATE TABLE IF NOT EXISTS _velosync_state (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  format   INTEGER NOT NULL,             -- version of these tables: 1
  device   BLOB    NOT NULL,             -- the file's id, 16 random bytes
  seen     INTEGER NOT NULL DEFAULT 0,   -- the device holds everything up to this seq
  acked    INTEGER NOT NULL DEFAULT 0,   -- the master's answers cover the log up to this lsn
  sent     INTEGER NOT NULL DEFAULT 0,   -- pushes under way cover it up to this lsn
  folded   INTEGER NOT NULL DEFAULT 0,   -- how often the log was compacted in place
  doubt    INTEGER NOT NULL DEFAULT 0,   -- steps up to this lsn may be another copy's too
  applying INTEGER NOT NULL DEFAULT 0    -- 1 while remote changes are applied: triggers stay quiet
);

-- What people and the next round want to know of the master. One row, written by rounds.
CREATE TABLE IF NOT EXISTS _velosync_sync (
  id         INTEGER PRIMARY KEY CHECK (id = 1),
  name       TEXT,                       -- of this device, for people
  master     TEXT,                       -- URL
  space      TEXT,
  tables     TEXT,                       -- the space's schema, JSON
  was        INTEGER NOT NULL DEFAULT 0, -- after a master's restore, until the next pull: seen before it; 0: none
  compared   INTEGER NOT NULL DEFAULT 0, -- as long: the master's head when rows were compared with it
  last_sync  INTEGER,                    -- of the last complete round, unix ms
  last_error TEXT,                       -- of the last round; NULL when it was complete
  rounds     INTEGER NOT NULL DEFAULT 0  -- that were complete
);

-- Names of the last answered push and of those without an answer, oldest first. Written
-- before a push is sent; they tell the master's branches of a copied file apart. A round
-- that has nothing to tell goes by the newest.
CREATE TABLE IF NOT EXISTS _velosync_name (
  n       INTEGER PRIMARY KEY,
  name    BLOB NOT NULL,
  through INTEGER NOT NULL DEFAULT 0     -- the push covers the log up to this lsn
);

-- The master's epochs up to seen, in their order. Replaced by each round.
CREATE TABLE IF NOT EXISTS _velosync_epoch (
  first INTEGER PRIMARY KEY,             -- the first seq that the epoch can give
  epoch BLOB NOT NULL
);

-- The tracked tables. Written by velosync_track and velosync_untrack; made by whoever makes
-- the triggers, held by rounds.
CREATE TABLE IF NOT EXISTS _velosync_table (
  id      INTEGER PRIMARY KEY,
  name    TEXT NOT NULL UNIQUE COLLATE NOCASE,
  options TEXT NOT NULL,                 -- change.Options as JSON, defaults filled in
  made    TEXT NOT NULL DEFAULT '',      -- the table as its triggers were made for, change.Table as JSON
  texts   TEXT NOT NULL DEFAULT '',      -- what those triggers say, a digest
  held    TEXT,                          -- names of its columns as of the last complete round, JSON; NULL: none was
  was     TEXT NOT NULL DEFAULT '{}'     -- names that columns had then which were renamed since, JSON; "" is the table
);

-- The names of each register's columns, for the views. Written with _velosync_table.
CREATE TABLE IF NOT EXISTS _velosync_register (
  tbl     INTEGER NOT NULL,
  reg     INTEGER NOT NULL,              -- the bit in _velosync_wal.cols
  columns TEXT NOT NULL,
  PRIMARY KEY (tbl, reg)
) WITHOUT ROWID;
