-- The vectors that clients wrote and whose deletes are forgotten since. The plus takes the
-- affinity away, which would keep the index on (tbl, pk) from being used.
SELECT v.vector_id, v.clock
  FROM _velosync_v1_row v
 WHERE NOT EXISTS (SELECT 1 FROM _velosync_row r WHERE r.tbl = ? AND r.pk = +v.vector_id)
 ORDER BY v.vector_id
