-- What lock.sql returns, without the lock.
SELECT change, stamp, head, forgotten, pruned, server, presumed, $RUN
  FROM velosync_space
 WHERE space = $1
