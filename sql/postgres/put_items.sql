-- What did not change keeps its place.
INSERT INTO velosync_item AS i (space, kind, key, change, gone, vals)
SELECT $1, u.kind, u.key, $2, u.gone, u.vals
  FROM unnest($3::text[], $4::bytea[], $5::boolean[], $6::bytea[]) AS u(kind, key, gone, vals)
ON CONFLICT (space, kind, key) DO UPDATE SET
  change = excluded.change, gone = excluded.gone, vals = excluded.vals
 WHERE i.vals <> excluded.vals OR i.gone <> excluded.gone
