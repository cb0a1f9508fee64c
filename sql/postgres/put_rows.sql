INSERT INTO velosync_row (space, tbl, key, seq, pk, deleted, dots, vals)
SELECT $1, u.tbl, u.key, u.seq, u.pk, u.deleted, u.dots, u.vals
  FROM unnest($2::bigint[], $3::bytea[], $4::bigint[], $5::bytea[], $6::boolean[], $7::bytea[], $8::bytea[])
    AS u(tbl, key, seq, pk, deleted, dots, vals)
ON CONFLICT (space, tbl, key) DO UPDATE SET
  seq = excluded.seq, pk = excluded.pk, deleted = excluded.deleted, dots = excluded.dots, vals = excluded.vals
