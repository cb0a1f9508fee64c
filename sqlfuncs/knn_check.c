/* INSERT INTO notes_knn(notes_knn) VALUES('integrity-check'): every code against its row of the
 * user's table, and every row against its codes. Changed rows may have any codes or none: searches
 * do not look at them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "knn.h"
#include "knn_set.h"

typedef struct check {
  knn_index *x;
  knn_set changed;
  knn_codes codes;
  float *vector, *centroid, *work;
  sqlite3_int64 found; /* codes of rows that did not change */
} check;

static int read_changed(check *k) {
  knn_index *x = k->x;
  sqlite3_stmt *s;
  sqlite3_int64 n = 0;
  int rc = knn_prepare(x, KNN_DIRTY_COUNT, &s), step;
  if (rc != SQLITE_OK) return rc;
  if ((step = sqlite3_step(s)) == SQLITE_ROW) n = sqlite3_column_int64(s, 0);
  if ((rc = knn_done(x, s, step)) == SQLITE_OK) rc = knn_set_make(&k->changed, (size_t)n + 1);
  if (rc == SQLITE_OK) rc = knn_prepare(x, KNN_DIRTY_SCAN, &s);
  if (rc != SQLITE_OK) return rc;
  while ((step = sqlite3_step(s)) == SQLITE_ROW)
    if (sqlite3_column_type(s, 1) != SQLITE_NULL) knn_set_put(&k->changed, sqlite3_column_int64(s, 1));
  return knn_done(x, s, step);
}

static int ascending(const void *a, const void *b) {
  sqlite3_int64 x, y;
  memcpy(&x, a, sizeof x);
  memcpy(&y, b, sizeof y);
  return x < y ? -1 : x > y;
}

/* close_to allows for rounding, which differs between processors. */
static int close_to(float a, float b, float scale) { return fabsf(a - b) <= 1e-3f * (fabsf(a) + fabsf(b) + scale); }

/* check_code compares code i of list at with the row that it is of. */
static int check_code(check *k, int at, int i) {
  knn_index *x = k->x;
  sqlite3_int64 id = k->codes.id[i], a = 0, b = 0;
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_ROW_LISTS, &s), found = 0, there;
  if (rc != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, id);
  int step = sqlite3_step(s);
  if ((there = step == SQLITE_ROW)) a = sqlite3_column_int64(s, 0), b = sqlite3_column_int64(s, 1);
  if ((rc = knn_done(x, s, step)) != SQLITE_OK) return rc;
  if (!there || (a != x->lists.id[at] && b != x->lists.id[at]))
    return knn_corrupt(x, "list %d has a code of row %lld, which is not in it", x->lists.id[at], id);
  k->found++;
  if ((rc = knn_prepare(x, KNN_BASE_BY_ID, &s)) != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, id);
  if ((step = sqlite3_step(s)) == SQLITE_ROW) rc = knn_read_vector(x, s, 0, k->vector, &found);
  int end = knn_done(x, s, rc == SQLITE_OK ? step : SQLITE_ROW);
  if (rc == SQLITE_OK) rc = end;
  if (rc != SQLITE_OK || step != SQLITE_ROW) return rc; /* a row that was replaced, see knn_ghosts */
  if (!found) return knn_corrupt(x, "list %d has a code of row %lld, which has no such vector", x->lists.id[at], id);
  knn_factors f;
  knn_encode(k->codes.code + (size_t)k->codes.room * x->padded / 2 - x->padded / 2, &f, k->vector, k->centroid, x->padded, k->work);
  if (!close_to(k->codes.scale[i], f.scale, 0) || !close_to(k->codes.offset[i], knn_offset(x, &f), f.square))
    return knn_corrupt(x, "the code of row %lld in list %d is not of its vector", id, x->lists.id[at]);
  return SQLITE_OK;
}

static int check_list(check *k, int at) {
  knn_index *x = k->x;
  int rc = knn_read_list(x, x->lists.id[at], &k->codes);
  if (rc != SQLITE_OK) return rc;
  if (k->codes.n != x->lists.rows[at])
    return knn_corrupt(x, "list %d has %d codes, and says %d", x->lists.id[at], k->codes.n, x->lists.rows[at]);
  if ((rc = knn_codes_grow(x, &k->codes, k->codes.n + 1)) != SQLITE_OK) return rc; /* the last one is work */
  knn_centroid(x, at, k->centroid);
  for (int i = 0; i < k->codes.n && rc == SQLITE_OK; i++)
    if (!knn_set_has(&k->changed, k->codes.id[i])) rc = check_code(k, at, i);
  if (rc != SQLITE_OK) return rc;
  qsort(k->codes.id, (size_t)k->codes.n, sizeof *k->codes.id, ascending);
  for (int i = 1; i < k->codes.n; i++)
    if (k->codes.id[i] == k->codes.id[i - 1])
      return knn_corrupt(x, "list %d has two codes of row %lld", x->lists.id[at], k->codes.id[i]);
  return SQLITE_OK;
}

/* check_rows counts the codes there should be, and the codes of lists that are not there. */
static int check_rows(check *k) {
  knn_index *x = k->x;
  sqlite3_stmt *s;
  sqlite3_int64 rows = 0, codes = 0;
  char *sql = sqlite3_mprintf("SELECT id, a, b FROM \"%w\".\"%w_rows\"", x->schema, x->name);
  if (sql == NULL) return SQLITE_NOMEM;
  int rc = sqlite3_prepare_v3(x->db, sql, -1, 0, &s, NULL), wrong = 0;
  sqlite3_free(sql);
  if (rc != SQLITE_OK) return knn_fail(x, rc, "%s", sqlite3_errmsg(x->db));
  while (!wrong && sqlite3_step(s) == SQLITE_ROW) {
    sqlite3_int64 id = sqlite3_column_int64(s, 0), a = sqlite3_column_int64(s, 1), b = sqlite3_column_int64(s, 2);
    rows++;
    if (knn_set_has(&k->changed, id)) continue;
    codes += 1 + (b != 0);
    if (knn_find_list(x, a) < 0 || (b != 0 && knn_find_list(x, b) < 0)) {
      rc = knn_corrupt(x, "row %lld is in a list that does not exist", id);
      wrong = 1;
    }
  }
  int end = sqlite3_finalize(s);
  if (wrong) return rc;
  if (end != SQLITE_OK) return knn_fail(x, end, "%s", sqlite3_errmsg(x->db));
  if (rows != x->meta.rows) return knn_corrupt(x, "it has %lld rows, and says %lld", rows, x->meta.rows);
  if (codes != k->found) return knn_corrupt(x, "it has %lld codes of unchanged rows, and should have %lld", k->found, codes);
  return SQLITE_OK;
}

/* check_table looks for rows of the user's table that are neither in lists nor changed. */
static int check_table(check *k) {
  knn_index *x = k->x;
  char *known = sqlite3_mprintf(""), *changed = sqlite3_mprintf(""), *set = sqlite3_mprintf("");
  for (int i = 0; i < x->keys && known != NULL && changed != NULL && set != NULL; i++) {
    char *a = x->rowid_key ? sqlite3_mprintf("r.id = b.\"%w\"", x->key[i])
                           : sqlite3_mprintf("%s%sr.k%d = b.\"%w\"", known, i == 0 ? "" : " AND ", i, x->key[i]);
    char *b = sqlite3_mprintf("%s%sd.k%d = b.\"%w\"", changed, i == 0 ? "" : " AND ", i, x->key[i]);
    char *c = sqlite3_mprintf("%s AND b.\"%w\" IS NOT NULL", set, x->key[i]);
    sqlite3_free(known), sqlite3_free(changed), sqlite3_free(set);
    known = a, changed = b, set = c;
  }
  char *sql = known == NULL || changed == NULL || set == NULL ? NULL
      : sqlite3_mprintf("SELECT b.\"%w\" FROM \"%w\".\"%w\" b WHERE NOT EXISTS (SELECT 1 FROM \"%w\".\"%w_rows\" r WHERE %s) "
                        "AND NOT EXISTS (SELECT 1 FROM \"%w\".\"%w_dirty\" d WHERE %s)%s",
                        x->column, x->schema, x->table, x->schema, x->name, known, x->schema, x->name, changed, set);
  sqlite3_free(known), sqlite3_free(changed), sqlite3_free(set);
  if (sql == NULL) return SQLITE_NOMEM;
  sqlite3_stmt *s;
  int rc = sqlite3_prepare_v3(x->db, sql, -1, 0, &s, NULL), missing = 0;
  sqlite3_free(sql);
  if (rc != SQLITE_OK) return knn_fail(x, rc, "%s", sqlite3_errmsg(x->db));
  while (rc == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW) {
    int found;
    rc = knn_read_vector(x, s, 0, k->vector, &found);
    missing += found;
  }
  int end = sqlite3_finalize(s);
  if (rc == SQLITE_OK && end != SQLITE_OK) rc = knn_fail(x, end, "%s", sqlite3_errmsg(x->db));
  return rc == SQLITE_OK && missing > 0 ? knn_corrupt(x, "it lacks %d rows of table \"%s\"", missing, x->table) : rc;
}

int knn_check(knn_index *x) {
  check k = {.x = x};
  int rc = knn_load(x);
  if (rc != SQLITE_OK || x->lists.n == 0) return rc; /* without lists searches read the table */
  k.vector = sqlite3_malloc64(x->padded * sizeof(float));
  k.centroid = sqlite3_malloc64(x->padded * sizeof(float));
  k.work = sqlite3_malloc64(2 * x->padded * sizeof(float));
  if (k.vector == NULL || k.centroid == NULL || k.work == NULL) rc = SQLITE_NOMEM;
  if (rc == SQLITE_OK) rc = read_changed(&k);
  for (int i = 0; i < x->lists.n && rc == SQLITE_OK; i++) rc = check_list(&k, i);
  if (rc == SQLITE_OK) rc = check_rows(&k);
  if (rc == SQLITE_OK) rc = check_table(&k);
  knn_codes_free(&k.codes);
  sqlite3_free(k.vector), sqlite3_free(k.centroid), sqlite3_free(k.work), sqlite3_free(k.changed.slot);
  return rc;
}
