/* Lists into their proper sizes (SPFresh, Xu et al., SOSP 2023).
 *
 * A list that has grown too long is replaced by two, which share its rows; a list too short is taken
 * away. Rows that another list may suit better then go on the list of changed rows: those of a list
 * taken away, those that were nearer to the old centroid than to both new ones, and those around
 * that a new centroid is nearer to. Searches read them exactly until they are folded in again, so
 * after each step the index is right. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "knn_fold.h"

#define MEANS_ROWS 2048 /* of a list, from which its halves are found */
#define NEAR_LISTS 64   /* whose rows are asked whether a new list is nearer to them */
#define NEAR_DOUBT 1.0f /* standard deviations of an estimate for which the answer is yes */

/* make_changed puts the row of an id on the list of changed rows. */
static int make_changed(knn_index *x, sqlite3_int64 id) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_DIRTY_ID, &s);
  if (rc != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, id);
  return knn_run(x, s);
}

int knn_dissolve(knn_index *x, int at, knn_codes *codes) {
  int id = x->lists.id[at], rc = knn_read_list(x, id, codes);
  for (int i = 0; i < codes->n && rc == SQLITE_OK; i++) rc = make_changed(x, codes->id[i]);
  codes->n = 0;
  if (rc == SQLITE_OK) rc = knn_write_list(x, id, codes, 0);
  return rc == SQLITE_OK ? knn_remove_list(x, at) : rc;
}

int knn_dissolve_short(knn_index *x, knn_codes *codes, int most, int *n) {
  int rc = SQLITE_OK;
  for (int at = x->lists.n - 1; at >= 0 && x->lists.n > 1 && rc == SQLITE_OK && most > 0; at--) {
    if (x->lists.rows[at] >= KNN_LIST_MERGE) continue;
    rc = knn_dissolve(x, at, codes);
    ++*n;
    most--;
  }
  return rc;
}

/* ---- rows that a new list draws from its neighbours ---- */

/* nearest_lists finds up to NEAR_LISTS of the first lists lists, of those with codes, in the order of
 * their distance from c, of padded floats. It returns how many; square[i] is that of at[i]. */
static int nearest_lists(const knn_index *x, const float *c, int lists, int *at, float *square) {
  const knn_lists *l = &x->lists;
  float (*dot)(const void *, const void *, size_t) = vs_best->sums32[VS_BF16_F32].dot;
  float own = knn_dot(c, c, x->padded);
  int n = 0;
  for (int j = 0; j < lists; j++) {
    if (l->rows[j] == 0) continue;
    float d = own + l->squares[j] - 2 * dot(l->halves + (size_t)j * x->padded, c, x->padded);
    if (n == NEAR_LISTS && !(d < square[n - 1])) continue;
    int i = n < NEAR_LISTS ? n++ : n - 1;
    for (; i > 0 && square[i - 1] > d; i--) at[i] = at[i - 1], square[i] = square[i - 1];
    at[i] = j, square[i] = d;
  }
  return n;
}

/* draw makes changed rows of those in the lists around c, the centroid of a new list, that may be
 * nearer to c than to their own; the first lists lists are the older ones. With r = v - b the residual of a row v in the list of b,
 *
 *   |v - c|^2 - |v - b|^2  =  |c - b|^2 - 2 <r, c - b>
 *
 * and its code has an estimate of <r, c - b> (SPFresh reads the vectors). */
static int draw(knn_index *x, const float *c, int lists, knn_codes *codes) {
  size_t padded = x->padded;
  int at[NEAR_LISTS] = {0}, rc = SQLITE_OK;
  float square[NEAR_LISTS], *y = sqlite3_malloc64(padded * (sizeof *y + 1));
  if (y == NULL) return SQLITE_NOMEM;
  int8_t *room = (int8_t *)(y + padded);
  int n = nearest_lists(x, c, lists, at, square);
  for (int i = 0; i < n && rc == SQLITE_OK; i++) {
    knn_query q;
    int32_t product;
    knn_centroid(x, at[i], y);
    for (size_t j = 0; j < padded; j++) y[j] = c[j] - y[j];
    knn_quantize(&q, room, y, padded);
    float most = knn_dot(y, y, padded);
    float doubt = NEAR_DOUBT * 0.11f * sqrtf(most * x->lists.spread[at[i]] / (float)padded);
    rc = knn_read_list(x, x->lists.id[at[i]], codes);
    for (int r = 0; r < codes->n && rc == SQLITE_OK; r++) {
      knn_products(&product, codes->code + (size_t)r * padded / 2, 1, &q, padded);
      float along = codes->scale[r] * q.unit * ((float)product - 7.5f * (float)q.sum);
      if (2 * (along + doubt) > most) rc = make_changed(x, codes->id[r]);
    }
  }
  codes->n = 0;
  sqlite3_free(y);
  return rc;
}

/* ---- splitting ---- */

/* A half is one of the two lists that a long one becomes. */
typedef struct half {
  int at;          /* its place */
  float *centroid; /* as the list keeps it */
  knn_codes codes;
  double spread;   /* sum of the squared residuals */
} half;

/* read_row reads the vector of a row by its id. */
static int read_row(knn_index *x, sqlite3_int64 id, float *v, int *found) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_BASE_BY_ID, &s);
  *found = 0;
  if (rc != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, id);
  int step = sqlite3_step(s);
  if (step == SQLITE_ROW) rc = knn_read_vector(x, s, 0, v, found);
  int end = knn_done(x, s, rc == SQLITE_OK ? step : SQLITE_ROW);
  return rc == SQLITE_OK ? end : rc;
}

/* find_halves places two centroids, c and c + padded, among the vectors of a list, of which it reads
 * no more than MEANS_ROWS. *done is 0 where these are too much alike. */
static int find_halves(knn_index *x, const knn_codes *codes, float *c, int *done) {
  size_t padded = x->padded, most = codes->n < MEANS_ROWS ? (size_t)codes->n : MEANS_ROWS, n = 0, left = 0;
  float *v = sqlite3_malloc64((most * padded + KNN_MEANS_WORK(2, padded)) * sizeof *v);
  int *owner = sqlite3_malloc64(most * sizeof *owner), rc = v == NULL || owner == NULL ? SQLITE_NOMEM : SQLITE_OK;
  *done = 0;
  for (size_t i = 0; i < most && rc == SQLITE_OK; i++) {
    int found;
    rc = read_row(x, codes->id[i], v + n * padded, &found);
    n += (size_t)found;
  }
  if (rc == SQLITE_OK && n >= 4) {
    rc = knn_means(c, 2, v, n, padded, 6, knn_random(&x->random), v + most * padded, owner, knn_go_on, x);
    for (size_t i = 0; i < n; i++) left += owner[i] == 0;
    *done = left > 0 && left < n && memcmp(c, c + padded, padded * sizeof *c) != 0;
  }
  sqlite3_free(v), sqlite3_free(owner);
  return rc;
}

/* move_row puts a row of list old into the nearer half, and into the other too if it is near the
 * border and in no second list. work takes 3 * padded floats. */
static int move_row(knn_index *x, sqlite3_int64 id, int old, const float *centroid, half *h, float *work) {
  size_t padded = x->padded;
  float *v = work + 2 * padded, square[2], before;
  sqlite3_stmt *s;
  int found, rc = read_row(x, id, v, &found);
  if (rc != SQLITE_OK || !found) return rc == SQLITE_OK ? make_changed(x, id) : rc;
  for (int i = 0; i < 2; i++) {
    for (size_t d = 0; d < padded; d++) work[d] = v[d] - h[i].centroid[d];
    square[i] = knn_dot(work, work, padded);
  }
  for (size_t d = 0; d < padded; d++) work[d] = v[d] - centroid[d];
  before = knn_dot(work, work, padded);
  int near = square[1] < square[0], at[2] = {x->lists.id[h[near].at], 0};
  if ((rc = knn_prepare(x, KNN_ROW_LISTS, &s)) != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, id);
  int step = sqlite3_step(s), a = 0, b = 0;
  if (step == SQLITE_ROW) a = sqlite3_column_int(s, 0), b = sqlite3_column_int(s, 1);
  if ((rc = knn_done(x, s, step)) != SQLITE_OK) return rc;
  if (a != old && b != old) return knn_corrupt(x, "list %d has row %lld, which is in lists %d and %d", old, id, a, b);
  if (a != old)
    at[1] = at[0], at[0] = a;
  else if (b != 0)
    at[1] = b;
  else if (square[!near] <= KNN_BORDER * square[near])
    at[1] = x->lists.id[h[!near].at];
  for (int i = 0; i < 2 && rc == SQLITE_OK; i++) {
    half *to = at[i] == x->lists.id[h[0].at] ? &h[0] : at[i] == x->lists.id[h[1].at] ? &h[1] : NULL;
    float r;
    if (to == NULL) continue;
    rc = knn_append(x, &to->codes, id, v, to->centroid, work, &r);
    to->spread += r;
  }
  if (rc == SQLITE_OK) rc = knn_prepare(x, KNN_ROW_MOVE, &s);
  if (rc != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, id);
  sqlite3_bind_int64(s, 2, at[0]);
  if (at[1] != 0) sqlite3_bind_int64(s, 3, at[1]);
  rc = knn_run(x, s);
  return rc == SQLITE_OK && before < square[near] ? make_changed(x, id) : rc;
}

/* share moves all rows of list at, whose codes are given, into the halves, and takes the list away. */
static int share(knn_index *x, int at, knn_codes *codes, half *h) {
  size_t padded = x->padded;
  int old = x->lists.id[at], rc;
  float *centroid = sqlite3_malloc64(4 * padded * sizeof *centroid);
  if (centroid == NULL) return SQLITE_NOMEM;
  knn_centroid(x, at, centroid);
  for (int i = rc = 0; i < codes->n && rc == SQLITE_OK; i++) rc = move_row(x, codes->id[i], old, centroid, h, centroid + padded);
  for (int i = 0; i < 2 && rc == SQLITE_OK; i++) {
    int n = h[i].codes.n;
    x->lists.rows[h[i].at] = n;
    x->lists.spread[h[i].at] = n > 0 ? (float)(h[i].spread / n) : 0;
    rc = knn_write_list(x, x->lists.id[h[i].at], &h[i].codes, 0);
    if (rc == SQLITE_OK) rc = knn_write_count(x, h[i].at);
  }
  codes->n = 0;
  if (rc == SQLITE_OK) rc = knn_write_list(x, old, codes, 0);
  if (rc == SQLITE_OK) rc = knn_remove_list(x, at);
  sqlite3_free(centroid);
  return rc;
}

/* split replaces list at by two. *done is 0 where its vectors are too much alike for that. */
static int split(knn_index *x, int at, knn_codes *codes, int *done) {
  size_t padded = x->padded;
  half h[2] = {{0}};
  float *c = sqlite3_malloc64(2 * padded * sizeof *c);
  int rc = c == NULL ? SQLITE_NOMEM : knn_read_list(x, x->lists.id[at], codes);
  *done = 0;
  if (rc == SQLITE_OK && codes->n >= 4) rc = find_halves(x, codes, c, done);
  for (int i = 0; i < 2 && *done && rc == SQLITE_OK; i++) {
    h[i] = (half){.at = x->lists.n, .centroid = c + (size_t)i * padded};
    if ((rc = knn_add_list(x, h[i].centroid)) == SQLITE_OK) knn_centroid(x, h[i].at, h[i].centroid);
  }
  if (*done && rc == SQLITE_OK) rc = share(x, at, codes, h);
  for (int i = 0; i < 2 && *done && rc == SQLITE_OK; i++) rc = draw(x, h[i].centroid, x->lists.n - 2, codes);
  knn_codes_free(&h[0].codes), knn_codes_free(&h[1].codes);
  sqlite3_free(c);
  return rc;
}

int knn_split_long(knn_index *x, knn_codes *codes, int most, int *n) {
  int rc = SQLITE_OK, limit = INT32_MAX;
  while (rc == SQLITE_OK && most-- > 0) {
    int at = -1, rows = KNN_LIST_SPLIT, done;
    for (int i = 0; i < x->lists.n; i++)
      if (x->lists.rows[i] > rows && x->lists.rows[i] < limit) at = i, rows = x->lists.rows[i];
    if (at < 0) break;
    rc = split(x, at, codes, &done);
    if (!done) limit = rows; /* its vectors are alike: go on with shorter lists */
    *n += done;
  }
  return rc;
}
