-- What masterds that share a database keep in it. The space is the first column of every
-- key, so that all of a space can stand on one node. Values are SQLite's, as store/values.go
-- writes them; text is bytea, for SQLite's may hold NUL and what is no UTF-8.

-- One row for each space. Every transaction that changes the space updates it first, so that
-- it is the lock that makes the order of commits and that of seq one.
CREATE TABLE IF NOT EXISTS velosync_space (
  space        TEXT NOT NULL PRIMARY KEY,
  change       BIGINT NOT NULL,    -- how many transactions changed it; 0: its tables are not made yet
  stamp        BYTEA NOT NULL,     -- 16 random bytes, drawn by the last of them
  head         BIGINT NOT NULL,    -- the newest seq
  forgotten    BIGINT NOT NULL,    -- tombstones up to this seq are forgotten
  pruned       BIGINT NOT NULL,    -- velosync_change and what is gone from velosync_item go back to here
  server       TEXT NOT NULL,      -- the run of the database server that last changed it
  presumed     BIGINT NOT NULL     -- each device is taken to have been served up to here, see velosync_served
);

-- The stamps of the last changes, by which a masterd sees whether the file that it has of a
-- space is an older state of this one, or of another. Old ones leave with a later change.
CREATE TABLE IF NOT EXISTS velosync_change (
  space        TEXT NOT NULL,
  change       BIGINT NOT NULL,
  stamp        BYTEA NOT NULL,
  PRIMARY KEY (space, change)
);

-- One row for each row of a user's table, and for each deleted one that is not forgotten.
-- Each stands at its newest seq.
CREATE TABLE IF NOT EXISTS velosync_row (
  space        TEXT NOT NULL,
  tbl          BIGINT NOT NULL,    -- the table's id in the space
  key          BYTEA NOT NULL,     -- the row's name, or a hash of it where that is long
  seq          BIGINT NOT NULL,
  pk           BYTEA,              -- the row's name where key is a hash
  deleted      BOOLEAN NOT NULL,
  dots         BYTEA NOT NULL,     -- who wrote what, see store/dots.go
  vals         BYTEA NOT NULL,     -- of all columns that the table had when the row was written
  PRIMARY KEY (space, tbl, key),
  UNIQUE (space, seq)
);
CREATE INDEX IF NOT EXISTS velosync_row_deleted ON velosync_row (space, seq) WHERE deleted;

-- Everything else that a space's file holds: the rows of its small tables, each at its newest
-- change, and under the kind ddl the SQL of each user's table.
CREATE TABLE IF NOT EXISTS velosync_item (
  space        TEXT NOT NULL,
  kind         TEXT NOT NULL,      -- the table in the file
  key          BYTEA NOT NULL,     -- its primary key, or a hash of it where that is long
  change       BIGINT NOT NULL,
  gone         BOOLEAN NOT NULL,
  vals         BYTEA NOT NULL,     -- of all its columns; of one that is gone, its primary key
  PRIMARY KEY (space, kind, key)
);
CREATE INDEX IF NOT EXISTS velosync_item_change ON velosync_item (space, change);

-- Up to where each device was served, written before the answer leaves, without the space's
-- lock. A crash of the server may lose the newest, and then velosync_space.presumed is raised.
CREATE TABLE IF NOT EXISTS velosync_served (
  space        TEXT NOT NULL,
  device       BYTEA NOT NULL,
  served       BIGINT NOT NULL,
  horizon      BIGINT,             -- the space's when the device's pull began
  PRIMARY KEY (space, device)
);

-- Who is admitted to which space. A token itself is not kept.
CREATE TABLE IF NOT EXISTS velosync_token (
  hash         BYTEA NOT NULL PRIMARY KEY, -- SHA-256 of the token
  space        TEXT NOT NULL,
  device       TEXT NOT NULL,      -- a name for people
  created      BIGINT NOT NULL,    -- unix ms
  UNIQUE (space, device)
);

-- The parts of long pushes until the last one has come, to whichever masterd.
CREATE TABLE IF NOT EXISTS velosync_part (
  space        TEXT NOT NULL,
  owner        TEXT NOT NULL,
  device       BYTEA NOT NULL,
  part         BIGINT NOT NULL,
  push         BYTEA NOT NULL,     -- its name
  seen         BIGINT NOT NULL,
  digest       BYTEA NOT NULL,     -- of the device's tables
  rows         BIGINT NOT NULL,
  size         BIGINT NOT NULL,    -- of body
  sum          BYTEA NOT NULL,     -- SHA-256 of body
  at           BIGINT NOT NULL,    -- unix ms
  body         BYTEA NOT NULL,     -- as it was received
  PRIMARY KEY (space, owner, device, part)
);
