-- What the master keeps of a space beside the users' tables, which stand in the same file.
-- A write of the name _velosync_ is masterd's alone; people may read everything.

-- The space itself, one row. Written by every transaction that applies something.
CREATE TABLE _velosync_space (
  id           INTEGER PRIMARY KEY CHECK (id = 1),
  format       INTEGER NOT NULL,  -- of these tables: 1
  head         INTEGER NOT NULL,  -- the newest seq
  horizon      INTEGER NOT NULL,  -- the newest feed of a tombstone that was forgotten
  version      INTEGER NOT NULL,  -- of the schema: counts the changes of _velosync_table
  fixed        INTEGER NOT NULL,  -- 1: the operator gave the tables, devices add none
  clean        INTEGER NOT NULL,  -- 1: closed in order, so _velosync_device.served is exact
  live         INTEGER NOT NULL,  -- rows of all tables
  tombstones   INTEGER NOT NULL,
  conflicts    INTEGER NOT NULL,
  conflict     INTEGER NOT NULL   -- the newest id of _velosync_conflict, given once
);

-- Openings of this file that wrote: written with the opening's first change. Never deleted.
CREATE TABLE _velosync_epoch (
  first        INTEGER PRIMARY KEY,  -- the first seq that it gave
  id           BLOB NOT NULL         -- 16 random bytes
);

-- The tables of the space. Never deleted.
CREATE TABLE _velosync_table (
  id           INTEGER PRIMARY KEY,
  name         TEXT NOT NULL UNIQUE,
  definition   TEXT NOT NULL,     -- change.Table as JSON
  open         INTEGER NOT NULL,  -- 1: given by the operator; the first device that has it settles its options
  since        TEXT NOT NULL,     -- for each column the head when it came, as JSON: rows up to there have no dot for it
  former       TEXT NOT NULL DEFAULT '{}' -- names that the table (-1) and its columns (their place) had before, as JSON
);

-- The tables of devices: what a digest means. The oldest leave when there are too many.
CREATE TABLE _velosync_schema (
  digest       BLOB NOT NULL UNIQUE,
  tables       TEXT NOT NULL      -- those tables, and which of the space's they and their columns are, as JSON
);

-- One row for each row of a user's table, and for each that was deleted, until every
-- device knows; in feed order. Its values stand in the user's table, and in trash once it
-- is deleted.
CREATE TABLE _velosync_row (
  feed         INTEGER PRIMARY KEY,  -- its newest seq
  tbl          INTEGER NOT NULL,     -- _velosync_table.id
  pk           NOT NULL,             -- the row's name, see change.SplitKey; 1 and 1.0 are two names
  deleted      INTEGER NOT NULL,
  dots         BLOB NOT NULL,        -- who wrote what, see store/dots.go
  trash        BLOB                  -- values of a deleted row, see store/values.go
);
CREATE INDEX _velosync_row_pk ON _velosync_row (tbl, pk);
CREATE INDEX _velosync_row_deleted ON _velosync_row (deleted) WHERE deleted = 1;

-- One row for each device id that ever pushed; never deleted, so that no id is used for
-- two histories.
CREATE TABLE _velosync_device (
  site         INTEGER PRIMARY KEY,  -- names the device in dots
  id           BLOB NOT NULL UNIQUE, -- 16 bytes
  owner        TEXT NOT NULL,        -- the token's device name
  name         BLOB NOT NULL,        -- of the last push applied
  lsn          INTEGER NOT NULL,     -- its log is applied up to here
  acked        INTEGER NOT NULL,     -- it holds everything up to this seq
  heard        INTEGER NOT NULL,     -- it knows that its log is applied up to this lsn
  served       INTEGER NOT NULL,     -- it was sent everything up to this seq, see _velosync_space.clean
  put          INTEGER NOT NULL,     -- unix ms of its last push
  contact      INTEGER NOT NULL      -- unix ms of its last push or ack
);

-- When a seq was given: now and then a mark, for the retention of tombstones. Written with
-- the change that it marks; older ones leave when the garbage collector has used a newer.
CREATE TABLE _velosync_mark (
  seq          INTEGER PRIMARY KEY,
  at           INTEGER NOT NULL      -- unix ms
);
