/* How many lists to read for a recall: measured with rows of the table.
 *
 * Exact answers say in which lists the neighbours of some rows are coded. How near these lists are
 * among all, counted from the row, says what any number of lists would have found: nothing has to
 * be searched for. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "knn_fold.h"

#define SAMPLES 512 /* rows whose neighbours are found */
#define TUNE_K 100   /* how many of these; recall is noted of 10 and of all */
#define FEW 10

typedef struct neighbour {
  float distance; /* in the unit of estimates; infinite: none */
  int a, b;       /* the lists it is coded in, b = 0 for one only */
} neighbour;

/* A trial is the rows that recall is measured with. */
typedef struct trial {
  int n;
  sqlite3_int64 id[SAMPLES];
  float *vector;                      /* SAMPLES * padded */
  neighbour nearest[SAMPLES][TUNE_K]; /* the nearest first */
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
    for (int j = 0; j < TUNE_K; j++) t->nearest[i][j].distance = INFINITY;
  return rc;
}

/* offer_row offers a row of the table to all of the trial: product has its inner products with them. */
static void offer_row(trial *t, const float *product, const float *square, float own, sqlite3_int64 id, neighbour row) {
  for (int i = 0; i < t->n; i++) {
    neighbour *nearest = t->nearest[i];
    row.distance = own + square[i] - 2 * product[i];
    if (!(row.distance < nearest[TUNE_K - 1].distance) || id == t->id[i]) continue;
    int j = TUNE_K - 1;
    for (; j > 0 && nearest[j - 1].distance > row.distance; j--) nearest[j] = nearest[j - 1];
    nearest[j] = row;
  }
}

/* find_nearest compares the trial with all rows of the index. */
static int find_nearest(knn_index *x, trial *t) {
  size_t padded = x->padded;
  int by_angle = x->metric == KNN_COSINE || x->metric == KNN_DOT, n = 0, more = 1;
  float square[SAMPLES], *v;
  v = sqlite3_malloc64((KNN_NEAREST_ROWS * (padded + SAMPLES) + KNN_PACKED(SAMPLES, padded)) * sizeof *v);
  if (v == NULL) return SQLITE_NOMEM;
  float *product = v + KNN_NEAREST_ROWS * padded, *packed = product + KNN_NEAREST_ROWS * SAMPLES;
  sqlite3_int64 id[KNN_NEAREST_ROWS];
  neighbour row[KNN_NEAREST_ROWS];
  knn_pack(packed, t->vector, (size_t)t->n, padded);
  for (int i = 0; i < t->n; i++)
    square[i] = by_angle ? 0 : knn_dot(t->vector + (size_t)i * padded, t->vector + (size_t)i * padded, padded);
  sqlite3_stmt *s = NULL;
  int rc = knn_prepare(x, KNN_ROWS_SCAN, &s), step = SQLITE_DONE;
  while (rc == SQLITE_OK && more) {
    int found = 0;
    more = (step = sqlite3_step(s)) == SQLITE_ROW;
    if (more) {
      id[n] = sqlite3_column_int64(s, 1);
      row[n] = (neighbour){INFINITY, sqlite3_column_int(s, 2), sqlite3_column_int(s, 3)};
      rc = knn_read_vector(x, s, 0, v + (size_t)n * padded, &found);
    }
    n += found;
    if (rc != SQLITE_OK || n == 0 || (more && n < KNN_NEAREST_ROWS)) continue;
    knn_matrix(product, v, (size_t)n, packed, (size_t)t->n, padded);
    for (int r = 0; r < n; r++) {
      const float *own = v + (size_t)r * padded;
      offer_row(t, product + (size_t)r * (size_t)t->n, square, by_angle ? 0 : knn_dot(own, own, padded), id[r], row[r]);
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

/* A place is a list in the order in which a search reads them. */
typedef struct place {
  float distance;
  int at;
} place;

static int by_distance(const void *a, const void *b) {
  const place *p = a, *q = b;
  return (p->distance > q->distance) - (p->distance < q->distance);
}

/* rank returns how many lists are read before list id. */
static int rank(const knn_index *x, const int *ranks, int id) {
  int at = id == 0 ? -1 : knn_find_list(x, id);
  return at < 0 ? INT32_MAX : ranks[at];
}

/* count_found adds to found, for each level, how many neighbours that many lists have, and to total
 * how many there are: of the nearest FEW, and of all. order and ranks have room for all lists. */
static void count_found(const knn_index *x, const trial *t, const int *levels, int found[KNN_TUNED][KNN_LEVELS], int *total,
                        place *order, int *ranks) {
  float (*dot)(const void *, const void *, size_t) = vs_best->sums32[VS_BF16_F32].dot;
  const knn_lists *l = &x->lists;
  for (int i = 0; i < t->n; i++) {
    const float *v = t->vector + (size_t)i * x->padded;
    for (int j = 0; j < l->n; j++) {
      float product = dot(l->halves + (size_t)j * x->padded, v, x->padded);
      order[j] = (place){x->metric == KNN_DOT ? -product : l->squares[j] - 2 * product, j}; /* as scan_lists has it */
    }
    qsort(order, (size_t)l->n, sizeof *order, by_distance);
    for (int j = 0; j < l->n; j++) ranks[order[j].at] = j;
    for (int j = 0; j < TUNE_K && isfinite(t->nearest[i][j].distance); j++) {
      int a = rank(x, ranks, t->nearest[i][j].a), b = rank(x, ranks, t->nearest[i][j].b), first = a < b ? a : b;
      for (int k = j < FEW ? 0 : 1; k < KNN_TUNED; k++) {
        total[k]++;
        for (int e = 0; e < KNN_LEVELS; e++) found[k][e] += first < levels[e];
      }
    }
  }
}

int knn_tune(knn_index *x) {
  static const int levels[KNN_LEVELS] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048};
  int found[KNN_TUNED][KNN_LEVELS] = {{0}}, total[KNN_TUNED] = {0};
  trial *t = sqlite3_malloc64(sizeof *t);
  place *order = sqlite3_malloc64((size_t)x->lists.n * sizeof *order);
  int *ranks = sqlite3_malloc64((size_t)x->lists.n * sizeof *ranks);
  int rc = t == NULL || order == NULL || ranks == NULL ? SQLITE_NOMEM : SQLITE_OK;
  if (rc == SQLITE_OK) {
    t->n = 0;
    t->vector = sqlite3_malloc64(SAMPLES * x->padded * sizeof(float));
    rc = t->vector == NULL ? SQLITE_NOMEM : pick(x, t);
    if (rc == SQLITE_OK && t->n > 0) rc = find_nearest(x, t);
    if (rc == SQLITE_OK) count_found(x, t, levels, found, total, order, ranks);
    sqlite3_free(t->vector);
  }
  x->meta.levels = 0;
  for (int i = 0; i < KNN_LEVELS && rc == SQLITE_OK && total[0] > 0; i++, x->meta.levels++) {
    x->meta.lists[i] = levels[i];
    /* one more miss than there were: a sample cannot show that there are none */
    for (int k = 0; k < KNN_TUNED; k++) x->meta.recall[k][i] = (float)(found[k][i] > 0 ? found[k][i] - 1 : 0) / (float)total[k];
  }
  sqlite3_free(order), sqlite3_free(ranks);
  sqlite3_free(t);
  return rc;
}
