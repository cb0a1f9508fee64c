-- How far some spaces are.
SELECT s.space, s.change
  FROM unnest($1::text[]) AS n(space)
  JOIN velosync_space s ON s.space = n.space
