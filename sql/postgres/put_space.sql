UPDATE velosync_space
   SET stamp = $2, head = $3, forgotten = $4, server = $5, presumed = $6, pruned = $7
 WHERE space = $1
