INSERT INTO _velosync_v1_row (vector_id, clock, seen, merged)
VALUES (?, ?, ?, ?)
ON CONFLICT (vector_id) DO UPDATE SET
  clock = excluded.clock, seen = excluded.seen, merged = excluded.merged
