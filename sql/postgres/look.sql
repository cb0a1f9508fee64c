-- What state a space is in, and what a device was served of it.
SELECT s.change, s.stamp, s.presumed, coalesce(d.served, 0), d.horizon
  FROM velosync_space s
  LEFT JOIN velosync_served d ON d.space = s.space AND d.device = $2
 WHERE s.space = $1
