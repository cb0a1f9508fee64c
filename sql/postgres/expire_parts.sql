-- The parts of devices that sent none after then.
DELETE FROM velosync_part AS p
 USING (SELECT space, owner, device FROM velosync_part GROUP BY space, owner, device HAVING max(at) <= $1) AS old
 WHERE p.space = old.space AND p.owner = old.owner AND p.device = old.device
