/* What folding, splitting and building write: rows, codes, the counts of lists. */
#include <string.h>

#include "knn_write.h"

/* run executes a statement without result. */
int knn_run(knn_index *x, sqlite3_stmt *s) { return knn_done(x, s, sqlite3_step(s)); }

/* number reads the integer that a statement without arguments yields. */
int knn_number(knn_index *x, enum knn_statement which, sqlite3_int64 *out) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, which, &s);
  if (rc != SQLITE_OK) return rc;
  int step = sqlite3_step(s);
  *out = step == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
  return knn_done(x, s, step);
}

int knn_write_row(knn_index *x, sqlite3_int64 id, int a, int b, sqlite3_value *const *key) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_ROW_WRITE, &s);
  if (rc != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, id);
  sqlite3_bind_int64(s, 2, a);
  if (b != 0) sqlite3_bind_int64(s, 3, b);
  for (int i = 0; i < x->keys && !x->rowid_key; i++) sqlite3_bind_value(s, 4 + i, key[i]);
  return knn_run(x, s);
}

int knn_write_count(knn_index *x, int at) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_LIST_COUNT, &s);
  if (rc != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, x->lists.id[at]);
  sqlite3_bind_int64(s, 2, x->lists.rows[at]);
  sqlite3_bind_double(s, 3, x->lists.spread[at]);
  return knn_run(x, s);
}

/* append codes v into c. Returns |r|^2 in *square. */
int knn_append(knn_index *x, knn_codes *c, sqlite3_int64 id, const float *v, const float *centroid, float *work, float *square) {
  int rc = knn_codes_grow(x, c, c->n + 1);
  if (rc != SQLITE_OK) return rc;
  knn_factors f;
  knn_encode(c->code + (size_t)c->n * x->padded / 2, &f, v, centroid, x->padded, work);
  c->id[c->n] = id;
  c->scale[c->n] = f.scale;
  c->offset[c->n] = knn_offset(x, &f);
  *square = f.square;
  c->n++;
  return SQLITE_OK;
}

void knn_chunk_clear(knn_chunk *c) {
  for (int i = 0; i < c->n; i++)
    for (int j = 0; j < KNN_MAX_KEYS; j++) sqlite3_value_free(c->key[i][j]);
  c->n = c->n_moves = 0;
}

void knn_chunk_free(knn_chunk *c) {
  if (c == NULL) return;
  knn_chunk_clear(c);
  knn_codes_free(&c->codes);
  sqlite3_free(c->vector), sqlite3_free(c->centroid), sqlite3_free(c->work);
  sqlite3_free(c);
}

int knn_chunk_make(knn_index *x, knn_chunk **out) {
  knn_chunk *c = *out = sqlite3_malloc64(sizeof *c);
  if (c == NULL) return SQLITE_NOMEM;
  memset(c, 0, sizeof *c);
  c->vector = sqlite3_malloc64(KNN_CHUNK * x->padded * sizeof(float));
  c->centroid = sqlite3_malloc64(x->padded * sizeof(float));
  c->work = sqlite3_malloc64(2 * x->padded * sizeof(float));
  if (c->vector != NULL && c->centroid != NULL && c->work != NULL) return SQLITE_OK;
  knn_chunk_free(c);
  *out = NULL;
  return SQLITE_NOMEM;
}

/* knn_go_on is the question of knn_means: has the application interrupted? */
int knn_go_on(void *arg) {
  knn_index *x = arg;
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_SCHEMA_VERSION, &s);
  return rc == SQLITE_OK ? knn_run(x, s) : rc;
}

/* clear_tables empties the index's own tables, but not the list of changed rows. */
int knn_clear_tables(knn_index *x) {
  static const char *const tables[] = {"lists", "codes", "rows"};
  int rc = SQLITE_OK;
  for (int i = 0; i < 3 && rc == SQLITE_OK; i++)
    rc = knn_exec(x, sqlite3_mprintf("DELETE FROM \"%w\".\"%w_%s\"", x->schema, x->name, tables[i]));
  x->lists.n = 0;
  x->meta.rows = 0;
  x->meta.levels = 0;
  return rc;
}

int knn_forget_changed(knn_index *x) {
  return knn_exec(x, sqlite3_mprintf("DELETE FROM \"%w\".\"%w_dirty\"", x->schema, x->name));
}
