CREATE TABLE vectors(
  vector_id TEXT PRIMARY KEY,
  embedding BLOB,
  dimension INTEGER,
  metadata TEXT,
  semantic_weight REAL,
  updated_at REAL
)
