/* A whole index at once. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "knn_fold.h"

#define BULK_BYTES 201326592 /* codes that a build holds in memory before it writes some out */
#define GROW_LISTS 64        /* lists a search begins with where a large table has none */

/* A bulk is all codes of a build, by list. */
typedef struct bulk {
  knn_codes *codes;  /* one for each list */
  int *segments;     /* written already */
  double *spread;    /* sums of |r|^2 */
  size_t held;       /* bytes */
} bulk;

/* write_bulk writes codes out: all, or where more follow, whole segments only. */
static int write_bulk(knn_index *x, bulk *b, int all) {
  int each = knn_segment_rows(x), rc = SQLITE_OK;
  for (int i = 0; i < x->lists.n && rc == SQLITE_OK; i++) {
    knn_codes *c = &b->codes[i];
    int at = 0;
    while (rc == SQLITE_OK && at < c->n && (all || c->n - at >= each)) {
      int n = c->n - at < each ? c->n - at : each;
      rc = knn_write_segment(x, x->lists.id[i], b->segments[i]++, c, at, n);
      at += n;
    }
    size_t left = (size_t)(c->n - at), from = (size_t)at;
    memmove(c->id, c->id + from, left * sizeof *c->id);
    memmove(c->scale, c->scale + from, left * sizeof *c->scale);
    memmove(c->offset, c->offset + from, left * sizeof *c->offset);
    memmove(c->code, c->code + from * x->padded / 2, left * x->padded / 2);
    c->n = (int)left;
    if (all) knn_codes_free(c);
  }
  b->held = 0;
  return rc;
}

/* add_rows codes n vectors whose keys are known. */
static int add_rows(knn_index *x, bulk *b, knn_chooser *h, knn_chunk *c) {
  int rc = SQLITE_OK;
  knn_choose(x, h, c->vector, c->n);
  for (int i = 0; i < c->n && rc == SQLITE_OK; i++) {
    int lists[2] = {h->first[i], h->second[i]};
    for (int j = 0; j < 2 && lists[j] >= 0 && rc == SQLITE_OK; j++) {
      float square;
      rc = knn_append(x, &b->codes[lists[j]], c->id[i], c->vector + (size_t)i * x->padded, h->centroids + (size_t)lists[j] * x->padded,
                  c->work, &square);
      x->lists.rows[lists[j]]++;
      b->spread[lists[j]] += square;
      b->held += 16 + x->padded / 2;
    }
    if (rc == SQLITE_OK)
      rc = knn_write_row(x, c->id[i], x->lists.id[lists[0]], lists[1] < 0 ? 0 : x->lists.id[lists[1]], c->key[i]);
    x->meta.rows++;
  }
  knn_chunk_clear(c);
  return rc == SQLITE_OK && b->held > BULK_BYTES ? write_bulk(x, b, 0) : rc;
}

/* fill codes all rows of the table, about count, into lists that are empty. */
static int fill(knn_index *x, sqlite3_int64 count) {
  knn_chunk *c = NULL;
  knn_chooser *h = NULL;
  size_t n = (size_t)x->lists.n;
  bulk b = {.codes = sqlite3_malloc64(n * sizeof *b.codes), .segments = sqlite3_malloc64(n * sizeof *b.segments),
            .spread = sqlite3_malloc64(n * sizeof *b.spread)};
  sqlite3_stmt *s = NULL;
  int rc = b.codes == NULL || b.segments == NULL || b.spread == NULL ? SQLITE_NOMEM : SQLITE_OK, step = SQLITE_DONE;
  if (rc == SQLITE_OK) {
    memset(b.codes, 0, n * sizeof *b.codes), memset(b.segments, 0, n * sizeof *b.segments), memset(b.spread, 0, n * sizeof *b.spread);
    rc = knn_chunk_make(x, &c);
  }
  if (rc == SQLITE_OK) rc = knn_chooser_make(x, count, &h);
  if (rc == SQLITE_OK) rc = knn_prepare(x, KNN_BASE_SCAN, &s);
  sqlite3_int64 id = 0;
  while (rc == SQLITE_OK && (step = sqlite3_step(s)) == SQLITE_ROW) {
    int found, null = 0, i = c->n;
    for (int j = 0; j < x->keys; j++) null |= sqlite3_column_type(s, 1 + j) == SQLITE_NULL;
    if (null) continue; /* a key that is NULL names no row */
    if ((rc = knn_read_vector(x, s, 0, c->vector + (size_t)i * x->padded, &found)) != SQLITE_OK || !found) continue;
    memset(c->key[i], 0, sizeof c->key[i]);
    c->n++;
    for (int j = 0; j < x->keys && rc == SQLITE_OK; j++)
      if ((c->key[i][j] = sqlite3_value_dup(sqlite3_column_value(s, 1 + j))) == NULL) rc = SQLITE_NOMEM;
    if (rc != SQLITE_OK) break;
    c->id[i] = x->rowid_key ? sqlite3_value_int64(c->key[i][0]) : ++id;
    if (c->n == KNN_CHUNK) rc = add_rows(x, &b, h, c);
  }
  if (s != NULL) {
    int end = knn_done(x, s, rc == SQLITE_OK ? step : SQLITE_ROW);
    if (rc == SQLITE_OK) rc = end;
  }
  if (rc == SQLITE_OK) rc = add_rows(x, &b, h, c);
  if (rc == SQLITE_OK) rc = write_bulk(x, &b, 1);
  for (int i = 0; i < x->lists.n && rc == SQLITE_OK; i++) {
    x->lists.spread[i] = x->lists.rows[i] > 0 ? (float)(b.spread[i] / x->lists.rows[i]) : 0;
    rc = knn_write_count(x, i);
  }
  for (size_t i = 0; b.codes != NULL && i < n; i++) knn_codes_free(&b.codes[i]);
  sqlite3_free(b.codes), sqlite3_free(b.segments), sqlite3_free(b.spread);
  knn_chooser_free(h);
  knn_chunk_free(c);
  return rc;
}

/* build makes lists for a table of count rows. */
int knn_build_lists(knn_index *x, sqlite3_int64 count) {
  int left = 1;
  int rc = knn_clear_tables(x);
  if (rc == SQLITE_OK && (rc = knn_forget_changed(x)) == SQLITE_OK && x->meta.dims == 0) rc = knn_find_dims(x);
  if (rc != SQLITE_OK) return rc;
  if (x->meta.dims != 0 && count >= x->lists_from) {
    sqlite3_int64 k = count / KNN_LIST_ROWS + 1;
    rc = knn_train(x, count, k > KNN_MAX_LISTS / 2 ? KNN_MAX_LISTS / 2 : (int)k, 40);
    if (rc == SQLITE_OK && x->lists.n > 0) rc = fill(x, count);
    x->lists.loaded = 1;
    for (int round = 0; round < KNN_ROUNDS && left && rc == SQLITE_OK && x->lists.n > 0; round++)
      rc = knn_fold_lists(x, INT64_MAX, 64, &left); /* where the sample did not show how long lists get */
    if (rc == SQLITE_OK && x->lists.n > 0) rc = knn_tune(x);
  }
  return rc == SQLITE_OK ? knn_save_meta(x) : rc;
}

/* grow begins lists for a large table that has none, as after an import: a few lists, and all rows
 * on the list of changed ones. */
int knn_grow(knn_index *x) {
  sqlite3_int64 count;
  int rc = knn_clear_tables(x);
  if (rc == SQLITE_OK && x->meta.dims == 0) rc = knn_find_dims(x);
  if (rc == SQLITE_OK) rc = knn_number(x, KNN_BASE_COUNT, &count);
  if (rc != SQLITE_OK || x->meta.dims == 0) return rc;
  rc = knn_train(x, count, GROW_LISTS, 40);
  char *keys = sqlite3_mprintf(""), *set = sqlite3_mprintf("");
  for (int i = 0; i < x->keys && keys != NULL && set != NULL; i++) {
    char *k = sqlite3_mprintf("%s%s\"%w\"", keys, i == 0 ? "" : ", ", x->key[i]);
    char *n = sqlite3_mprintf("%s AND \"%w\" IS NOT NULL", set, x->key[i]);
    sqlite3_free(keys), sqlite3_free(set);
    keys = k, set = n;
  }
  if (rc == SQLITE_OK)
    rc = keys == NULL || set == NULL ? SQLITE_NOMEM
        : knn_exec(x, sqlite3_mprintf("INSERT OR IGNORE INTO \"%w\".\"%w_dirty\" SELECT %s FROM \"%w\".\"%w\" WHERE \"%w\" IS NOT NULL%s",
                                      x->schema, x->name, keys, x->schema, x->table, x->column, set));
  sqlite3_free(keys), sqlite3_free(set);
  return rc == SQLITE_OK ? knn_save_meta(x) : rc;
}
