/* What keeps a whole index in shape: a bounded fold, a build, optimize, each as one transaction. */
#include "knn_fold.h"

int knn_fold(knn_index *x, sqlite3_int64 most, int lists, int *left) {
  x->folding = 1;
  sqlite3_int64 count = 0;
  *left = 0;
  int rc = knn_load(x);
  if (rc == SQLITE_OK && x->lists.n > 0 && x->meta.rows >= x->lists_from / 4) {
    rc = knn_fold_lists(x, most, lists, left);
  } else if (rc == SQLITE_OK && (rc = knn_number(x, KNN_BASE_COUNT, &count)) == SQLITE_OK) {
    if (count >= 2 * x->lists_from && x->lists.n == 0)
      rc = knn_grow(x); /* too many to build in passing */
    else if (count >= x->lists_from && x->lists.n == 0)
      rc = knn_build_lists(x, count);
    else if (x->lists.n > 0 && count >= x->lists_from / 4)
      rc = knn_fold_lists(x, most, lists, left); /* lists that are being filled */
    else if ((rc = knn_clear_tables(x)) == SQLITE_OK && (rc = knn_forget_changed(x)) == SQLITE_OK)
      rc = knn_save_meta(x); /* few rows: a search reads the table */
  }
  if (rc != SQLITE_OK) x->lists.loaded = 0;
  x->folding = 0;
  return rc;
}

int knn_atomic(knn_index *x, int (*f)(knn_index *, void *), void *arg) {
  int rc = sqlite3_exec(x->db, "SAVEPOINT velosync_knn", NULL, NULL, NULL);
  if (rc != SQLITE_OK) return rc;
  rc = f(x, arg);
  if (rc != SQLITE_OK) {
    sqlite3_exec(x->db, "ROLLBACK TO velosync_knn", NULL, NULL, NULL);
    x->lists.loaded = 0;
  }
  int end = sqlite3_exec(x->db, "RELEASE velosync_knn", NULL, NULL, NULL);
  if (end != SQLITE_OK) { /* the commit did not work: busy, or the disk is full */
    sqlite3_exec(x->db, "ROLLBACK TO velosync_knn", NULL, NULL, NULL);
    sqlite3_exec(x->db, "RELEASE velosync_knn", NULL, NULL, NULL);
    x->lists.loaded = 0;
  }
  return rc == SQLITE_OK ? end : rc;
}

int knn_build(knn_index *x) {
  sqlite3_int64 count;
  x->folding = 1;
  knn_free_lists(&x->lists);
  x->meta.seed = (sqlite3_int64)(knn_random(&x->random) >> 1);
  x->meta.dims = 0;
  x->padded = 0;
  int rc = knn_use_dims(x, x->fixed_dims);
  if (rc == SQLITE_OK) rc = knn_number(x, KNN_BASE_COUNT, &count);
  if (rc == SQLITE_OK) rc = knn_build_lists(x, count);
  if (rc != SQLITE_OK) x->lists.loaded = 0;
  x->folding = 0;
  return rc;
}

int knn_ghosts(knn_index *x) {
  char *same = sqlite3_mprintf(""), *keys = sqlite3_mprintf("");
  for (int i = 0; i < x->keys && same != NULL && keys != NULL; i++) {
    const char *own = x->rowid_key ? "id" : NULL;
    char *k = own != NULL ? sqlite3_mprintf("r.id") : sqlite3_mprintf("r.k%d", i);
    char *s = k == NULL ? NULL : sqlite3_mprintf("%s%sb.\"%w\" = %s", same, i == 0 ? "" : " AND ", x->key[i], k);
    char *l = k == NULL ? NULL : sqlite3_mprintf("%s%s%s", keys, i == 0 ? "" : ", ", k);
    sqlite3_free(k), sqlite3_free(same), sqlite3_free(keys);
    same = s, keys = l;
  }
  int rc = same == NULL || keys == NULL ? SQLITE_NOMEM
      : knn_exec(x, sqlite3_mprintf("INSERT OR IGNORE INTO \"%w\".\"%w_dirty\" SELECT %s FROM \"%w\".\"%w_rows\" r "
                                    "WHERE NOT EXISTS (SELECT 1 FROM \"%w\".\"%w\" b WHERE %s)",
                                    x->schema, x->name, keys, x->schema, x->name, x->schema, x->table, same));
  sqlite3_free(same), sqlite3_free(keys);
  return rc;
}

int knn_optimize(knn_index *x) {
  int left = 1, rc = SQLITE_OK;
  sqlite3_int64 count = 0;
  if ((rc = knn_load(x)) == SQLITE_OK && x->lists.n == 0) {
    rc = knn_number(x, KNN_BASE_COUNT, &count);
    return rc == SQLITE_OK && count >= x->lists_from ? knn_build(x) : rc == SQLITE_OK ? knn_fold(x, 1, 1, &left) : rc;
  }
  if (rc == SQLITE_OK) rc = knn_ghosts(x);
  /* Each round may split or dissolve lists, whose rows the next one folds. */
  for (int round = 0; round < KNN_ROUNDS && left && rc == SQLITE_OK; round++) rc = knn_fold(x, INT64_MAX, 64, &left);
  if (rc != SQLITE_OK || x->lists.n == 0) return rc;
  if ((rc = knn_tune(x)) != SQLITE_OK) return rc;
  return knn_save_meta(x);
}
