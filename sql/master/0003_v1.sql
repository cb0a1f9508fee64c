-- What the master keeps for clients of protocol v1, in the space that they are served from.
-- Made by the first of their requests.

-- One row for each device_id that ever synced; never deleted. It is a device of
-- _velosync_device too, under an id made from its name (store.V1Device).
CREATE TABLE _velosync_v1_device (
  name         TEXT PRIMARY KEY,  -- the client's device_id
  site         INTEGER NOT NULL UNIQUE, -- in _velosync_device
  sent         INTEGER NOT NULL,  -- the highest head_lsn that it sent
  lsn          INTEGER NOT NULL,  -- it acknowledged its log up to here
  issued       INTEGER NOT NULL,  -- the highest server_seq that it was told
  acked        INTEGER NOT NULL,  -- it acknowledged the feed up to here
  file_lsn     INTEGER NOT NULL,  -- lsn and acked as far as its present file goes: where a client made its
  cursor       INTEGER NOT NULL,  -- database anew, they begin again at 0
  contact      INTEGER NOT NULL   -- unix ms of its last request
) WITHOUT ROWID;

-- One row for each vector that a client wrote. Never deleted: a count that a client has
-- used must not count as new again, also when the vector is gone.
CREATE TABLE _velosync_v1_row (
  vector_id    TEXT PRIMARY KEY,
  clock        TEXT NOT NULL,     -- device_id -> count as JSON, the maximum of all vectors applied or lost
  seen         INTEGER NOT NULL,  -- a clock that covers this one has seen the row up to this seq
  merged       INTEGER NOT NULL   -- the row's place in the feed when versions were merged last; 0: never
) WITHOUT ROWID;

-- The counts of records that were refused for what they held: the next one goes on from
-- there. Never deleted.
CREATE TABLE _velosync_v1_refused (
  vector_id    TEXT NOT NULL,
  name         TEXT NOT NULL,     -- of the device
  count        INTEGER NOT NULL,
  PRIMARY KEY (vector_id, name)
) WITHOUT ROWID;

-- One row, once there was a live vector: all others have its dimension.
CREATE TABLE _velosync_v1_dimension (
  id           INTEGER PRIMARY KEY CHECK (id = 1),
  dimension    INTEGER NOT NULL
);
