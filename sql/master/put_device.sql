INSERT INTO _velosync_device (site, id, owner, name, lsn, acked, heard, served, put, contact)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (site) DO UPDATE SET
  owner = excluded.owner, name = excluded.name, lsn = excluded.lsn, acked = excluded.acked,
  heard = excluded.heard, served = excluded.served, put = excluded.put, contact = excluded.contact
