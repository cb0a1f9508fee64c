-- What is staged, of one owner, or of one device where $3 is not NULL, and of all.
SELECT coalesce(sum(b) FILTER (WHERE space = $1 AND owner = $2 AND ($3::bytea IS NULL OR device = $3)), 0)::bigint,
       coalesce(sum(b), 0)::bigint
  FROM (SELECT space, owner, device, (size + 4095) / 4096 * 4096 AS b FROM velosync_part) AS p
