-- Who is admitted to which space. Written by masterd token new and revoke, read by each
-- request that brings a token. A token itself is not kept.
CREATE TABLE IF NOT EXISTS _velosync_token (
  hash         BLOB PRIMARY KEY,  -- SHA-256 of the token
  space        TEXT NOT NULL,
  device       TEXT NOT NULL,     -- a name for people
  created      INTEGER NOT NULL,  -- unix ms
  UNIQUE (space, device)
) WITHOUT ROWID;
