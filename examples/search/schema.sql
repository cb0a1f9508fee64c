-- One row a document, written by this program, and by sync where a master is named. The id is drawn
-- from the document's path, so that two devices which index the same folder have the same rows.
-- It is the rowid, which the full-text table needs: a rowid that is no INTEGER PRIMARY KEY
-- changes at VACUUM.
CREATE TABLE IF NOT EXISTS docs(
  id        INTEGER PRIMARY KEY,
  path      TEXT NOT NULL,
  title     TEXT NOT NULL,
  body      TEXT NOT NULL,
  embedding BLOB NOT NULL
);
SELECT velosync_track('docs', '{"ids": "random"}');

-- The nearest vectors. The index keeps itself up to date, whoever writes to docs.
CREATE VIRTUAL TABLE IF NOT EXISTS docs_knn USING velosync_knn(docs, embedding, metric=cosine);
