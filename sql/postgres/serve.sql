INSERT INTO velosync_served AS d (space, device, served, horizon)
VALUES ($1, $2, $3, $4)
ON CONFLICT (space, device) DO UPDATE SET
  served = greatest(d.served, excluded.served), horizon = excluded.horizon
