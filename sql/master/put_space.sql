UPDATE _velosync_space
   SET head = ?, horizon = ?, version = ?, clean = ?, live = ?, tombstones = ?, conflicts = ?, conflict = ?
 WHERE id = 1
