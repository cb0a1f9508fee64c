INSERT INTO _velosync_v1_device (name, site, sent, lsn, issued, acked, file_lsn, cursor, contact)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
  sent = excluded.sent, lsn = excluded.lsn, issued = excluded.issued, acked = excluded.acked,
  file_lsn = excluded.file_lsn, cursor = excluded.cursor, contact = excluded.contact
