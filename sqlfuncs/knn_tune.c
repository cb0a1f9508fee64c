/* How many lists to read for a recall: measured with rows of the table. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "knn_fold.h"
#include "value.h"

#define SAMPLES 96 /* searches that measure recall */
#define TUNE_K 10

/* A trial is the rows that searches are measured with. */
typedef struct trial {
  int n;
  sqlite3_int64 id[SAMPLES];
  float *vector;                       /* SAMPLES * padded */
  float nearest[SAMPLES][TUNE_K + 1];  /* estimates that exact distances come to, ascending */
} trial;

/* pick reads SAMPLES rows at random. */
static int pick(knn_index *x, trial *t) {
  sqlite3_stmt *s;
  char *sql = sqlite3_mprintf("SELECT id FROM \"%w\".\"%w_rows\" ORDER BY random() LIMIT %d", x->schema, x->name, SAMPLES);
  if (sql == NULL) return SQLITE_NOMEM;
  int rc = sqlite3_prepare_v3(x->db, sql, -1, 0, &s, NULL), n = 0;
  sqlite3_free(sql);
  if (rc != SQLITE_OK) return knn_fail(x, rc, "%s", sqlite3_errmsg(x->db));
  while (n < SAMPLES && sqlite3_step(s) == SQLITE_ROW) t->id[n++] = sqlite3_column_int64(s, 0);
  if ((rc = sqlite3_finalize(s)) != SQLITE_OK) return knn_fail(x, rc, "%s", sqlite3_errmsg(x->db));
  if ((rc = knn_prepare(x, KNN_BASE_BY_ID, &s)) != SQLITE_OK) return rc;
  for (int i = 0; i < n && rc == SQLITE_OK; i++) {
    int found = 0;
    sqlite3_bind_int64(s, 1, t->id[i]);
    int step = sqlite3_step(s);
    if (step == SQLITE_ROW) rc = knn_read_vector(x, s, 0, t->vector + (size_t)t->n * x->padded, &found);
    int end = knn_done(x, s, rc == SQLITE_OK ? step : SQLITE_ROW);
    if (rc == SQLITE_OK) rc = end;
    if (found) t->id[t->n++] = t->id[i];
  }
  for (int i = 0; i < t->n; i++)
    for (int j = 0; j <= TUNE_K; j++) t->nearest[i][j] = INFINITY;
  return rc;
}

/* find_nearest compares the trial with all rows of the table. */
static int find_nearest(knn_index *x, trial *t) {
  size_t padded = x->padded;
  int by_angle = x->metric == KNN_COSINE || x->metric == KNN_DOT, n = 0, more = 1;
  float square[SAMPLES], *v = sqlite3_malloc64((KNN_NEAREST_ROWS * padded + KNN_NEAREST_ROWS * SAMPLES) * sizeof *v);
  if (v == NULL) return SQLITE_NOMEM;
  float *product = v + KNN_NEAREST_ROWS * padded;
  for (int i = 0; i < t->n; i++) square[i] = knn_dot(t->vector + (size_t)i * padded, t->vector + (size_t)i * padded, padded);
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_BASE_SCAN, &s), step = SQLITE_DONE;
  while (rc == SQLITE_OK && more) {
    int found = 0;
    more = (step = sqlite3_step(s)) == SQLITE_ROW;
    if (more) rc = knn_read_vector(x, s, 0, v + (size_t)n * padded, &found);
    n += found;
    if (rc != SQLITE_OK || (more && n < KNN_NEAREST_ROWS)) continue;
    knn_matrix(product, v, (size_t)n, t->vector, (size_t)t->n, padded);
    for (int r = 0; r < n; r++) {
      float own = by_angle ? 0 : knn_dot(v + (size_t)r * padded, v + (size_t)r * padded, padded);
      for (int i = 0; i < t->n; i++) {
        float e = (by_angle ? 0 : own + square[i]) - 2 * product[r * t->n + i], *nearest = t->nearest[i];
        if (!(e < nearest[TUNE_K])) continue;
        int j = TUNE_K;
        for (; j > 0 && nearest[j - 1] > e; j--) nearest[j] = nearest[j - 1];
        nearest[j] = e;
      }
    }
    n = 0;
  }
  if (s != NULL) {
    int end = knn_done(x, s, rc == SQLITE_OK ? step : SQLITE_ROW);
    if (rc == SQLITE_OK) rc = end;
  }
  sqlite3_free(v);
  return rc;
}

/* try_sample searches for the vector of row i of the trial in each number of lists, and adds to
 * hits how many of its neighbours were found. */
static int try_sample(knn_index *x, const trial *t, int i, const int *levels, int *hits) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_BASE_BY_ID, &s);
  if (rc != SQLITE_OK) return rc;
  sqlite3_value *value = NULL;
  sqlite3_bind_int64(s, 1, t->id[i]);
  int step = sqlite3_step(s);
  if (step == SQLITE_ROW && (value = sqlite3_value_dup(sqlite3_column_value(s, 0))) == NULL) rc = SQLITE_NOMEM;
  int end = knn_done(x, s, rc == SQLITE_OK ? step : SQLITE_ROW);
  if (rc == SQLITE_OK) rc = end;

  vs_vector q;
  vs_error e = {.nomem = 0};
  void *memory = NULL;
  if (rc == SQLITE_OK && value != NULL && vs_read_value(&q, value, 0, &memory, &e) == 0) {
    if (q.untagged && q.n == 2 * x->meta.dims)
      q = (vs_vector){.n = x->meta.dims, .type = VS_F64, .data = q.data, .f64 = q.data, .norm32 = -1, .norm8 = -1};
    float furthest = t->nearest[i][TUNE_K];
    knn_results some = {0};
    knn_request r = {.query = &q, .turned = t->vector + (size_t)i * x->padded, .k = TUNE_K + 1, .recall = KNN_RECALL};
    for (int l = 0; l < KNN_LEVELS && rc == SQLITE_OK; l++) {
      r.lists = levels[l];
      rc = knn_search(x, &r, &some);
      int hit = 0;
      for (int j = 0; j < some.n; j++)
        hit += knn_as_estimate(x->metric, some.result[j].distance) <= (double)furthest + 1e-5 * (fabs((double)furthest) + 1e-3);
      hits[l] += hit > 0 ? hit - 1 : 0; /* without the row itself */
      knn_results_free(&some);
    }
  }
  sqlite3_free(memory);
  sqlite3_value_free(value);
  return rc;
}

/* tune measures what recall comes of numbers of lists. */
int knn_tune(knn_index *x) {
  static const int levels[KNN_LEVELS] = {1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256};
  int hits[KNN_LEVELS] = {0};
  trial *t = sqlite3_malloc64(sizeof *t);
  if (t == NULL) return SQLITE_NOMEM;
  t->n = 0;
  t->vector = sqlite3_malloc64(SAMPLES * x->padded * sizeof(float));
  int rc = t->vector == NULL ? SQLITE_NOMEM : pick(x, t);
  x->meta.levels = 0;
  if (rc == SQLITE_OK && t->n >= SAMPLES / 4) {
    rc = find_nearest(x, t);
    for (int i = 0; i < t->n && rc == SQLITE_OK; i++) rc = try_sample(x, t, i, levels, hits);
    x->meta.levels = KNN_LEVELS;
    for (int i = 0; i < KNN_LEVELS; i++) {
      x->meta.lists[i] = levels[i];
      /* one more miss than there were: a sample cannot show that there are none */
      x->meta.recall[i] = (float)(hits[i] > 0 ? hits[i] - 1 : 0) / (float)(t->n * TUNE_K);
      if (i > 0 && x->meta.recall[i] < x->meta.recall[i - 1]) x->meta.recall[i] = x->meta.recall[i - 1];
    }
  }
  sqlite3_free(t->vector);
  sqlite3_free(t);
  return rc;
}

