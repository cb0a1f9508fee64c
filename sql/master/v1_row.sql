-- One row of a table, as v1_pull.sql finds them.
SELECT r.feed, r.pk, r.deleted, r.dots, v.clock, coalesce(v.merged, 0)
  FROM _velosync_row r
  LEFT JOIN _velosync_v1_row v ON v.vector_id = r.pk
 WHERE r.tbl = ? AND r.pk = ?
