-- Makes a space unless it is there: one without tables, whose first change gives it those of
-- the operator.
WITH made AS (
  INSERT INTO velosync_space (space, change, stamp, head, forgotten, pruned, server, presumed)
  VALUES ($1, 0, $2, 0, 0, 0, '', 0)
  ON CONFLICT (space) DO NOTHING
  RETURNING space, change, stamp)
INSERT INTO velosync_change (space, change, stamp)
SELECT space, change, stamp FROM made
