-- The rows of a table that changed in a part of the feed, with the clocks of v1 clients.
SELECT r.feed, r.pk, r.deleted, r.dots, v.clock, coalesce(v.merged, 0)
  FROM _velosync_row r
  LEFT JOIN _velosync_v1_row v ON v.vector_id = r.pk
 WHERE r.feed > ? AND r.feed <= ? AND r.tbl = ?
 ORDER BY r.feed
