-- The first statement of every change: whoever else wants to change the space waits here.
UPDATE velosync_space SET change = change + 1
 WHERE space = $1
RETURNING change - 1, stamp, head, forgotten, pruned, server, presumed, $RUN
