-- Made with the first feed of a file (capture/feed.go). A row for each that follows the
-- file; rounds write _velosync_feed only while there is one. Rows leave when their feed is
-- closed, or with the first round after until, when its process is taken to be gone.
CREATE TABLE IF NOT EXISTS _velosync_feed_reader (
  id    INTEGER PRIMARY KEY,             -- random
  until INTEGER NOT NULL,                -- unix ms
  seen  INTEGER NOT NULL                 -- _velosync_state.seen up to which rounds were written down for it
);

-- What rounds brought, and what they took from the log. Of the newest rows only; read by
-- feeds; all leave when nobody follows.
CREATE TABLE IF NOT EXISTS _velosync_feed (
  n   INTEGER PRIMARY KEY,               -- 1, 2, 3, … without gaps: the newest row always stays
  lsn INTEGER,                           -- of a log row that left; NULL: brought by a round
  tbl INTEGER NOT NULL,
  op  TEXT    NOT NULL,                  -- as in _velosync_wal; I, U or D of what a round brought; L: too much, or unknown
  pk
);
