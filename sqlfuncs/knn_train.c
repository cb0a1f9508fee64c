/* Where the lists are: centroids from a sample of the user's table. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "knn_fold.h"

/* find_dims takes the dimensions from the first vector of the table. */
int knn_find_dims(knn_index *x) {
  sqlite3_stmt *s;
  size_t dims = x->fixed_dims;
  int rc = knn_prepare(x, KNN_BASE_SCAN, &s), step;
  if (rc != SQLITE_OK) return rc;
  while (dims == 0 && (step = sqlite3_step(s)) == SQLITE_ROW) {
    vs_vector v;
    vs_error e = {.nomem = 0};
    void *memory = NULL;
    int type = sqlite3_column_type(s, 0), failed = 1;
    if (type == SQLITE_BLOB) {
      const void *blob = sqlite3_column_blob(s, 0);
      failed = vs_read_blob(&v, blob, (size_t)sqlite3_column_bytes(s, 0), &e);
    } else if (type == SQLITE_TEXT) {
      const char *text = (const char *)sqlite3_column_text(s, 0);
      failed = vs_read_text(&v, text, (size_t)sqlite3_column_bytes(s, 0), &memory, &e);
    }
    if (!failed && vs_check_dims(&v, &e) == 0) dims = v.n;
    sqlite3_free(memory);
  }
  rc = knn_done(x, s, SQLITE_ROW);
  return rc == SQLITE_OK ? knn_use_dims(x, dims) : rc;
}

/* sample reads n of count rows, evenly spread, into v; *n becomes how many had a vector. */
static int sample(knn_index *x, sqlite3_int64 count, float *v, size_t *n) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_BASE_SCAN, &s), step = SQLITE_DONE;
  if (rc != SQLITE_OK) return rc;
  sqlite3_int64 most = (sqlite3_int64)*n, row = 0;
  size_t have = 0;
  while (have < (size_t)most && (step = sqlite3_step(s)) == SQLITE_ROW) {
    /* row i is taken where i * most / count steps up */
    if (row * most / count == (row + 1) * most / count && row + 1 < count) {
      row++;
      continue;
    }
    row++;
    int found;
    if ((rc = knn_read_vector(x, s, 0, v + have * x->padded, &found)) != SQLITE_OK) break;
    have += (size_t)found;
  }
  *n = have;
  int end = knn_done(x, s, SQLITE_ROW);
  return rc == SQLITE_OK ? end : rc;
}

/* measure_freedom finds of how many dimensions residuals look like being: one over the mean square
 * of the cosine between a row's residual and a neighbour, both from that row's centroid. */
static int measure_freedom(knn_index *x, const float *v, size_t n, const float *centroids, int k, const int *owner) {
  size_t padded = x->padded, pairs = 0, seen = n < 4000 ? n : 4000;
  float *squares = sqlite3_malloc64(((size_t)k + KNN_PACKED(k, padded) + 2 * padded + KNN_NEAREST_WORK(k)) * sizeof *squares);
  if (squares == NULL) return SQLITE_NOMEM;
  float *packed = squares + k, *y = packed + KNN_PACKED(k, padded), *r = y + padded, *work = r + padded;
  int first[KNN_NEAREST_ROWS], second[KNN_NEAREST_ROWS];
  float d1[KNN_NEAREST_ROWS], d2[KNN_NEAREST_ROWS];
  for (int j = 0; j < k; j++) squares[j] = knn_dot(centroids + (size_t)j * padded, centroids + (size_t)j * padded, padded);
  knn_pack(packed, centroids, (size_t)k, padded);
  double sum = 0;
  for (size_t i = 0; i + 1 < seen && pairs < 1000; i++) {
    size_t at = i % KNN_NEAREST_ROWS, some = n - i < KNN_NEAREST_ROWS ? n - i : KNN_NEAREST_ROWS, j = i + 1;
    if (at == 0) knn_nearest(first, second, d1, d2, v + i * padded, some, packed, squares, k, padded, work);
    while (second[at] >= 0 && j < n && owner[j] != second[at]) j++;
    if (second[at] < 0 || j == n) continue;
    const float *c = centroids + (size_t)second[at] * padded;
    for (size_t d = 0; d < padded; d++) y[d] = v[i * padded + d] - c[d], r[d] = v[j * padded + d] - c[d];
    float rr = knn_dot(r, r, padded), yy = knn_dot(y, y, padded), ry = knn_dot(r, y, padded);
    if (!(rr > 0 && yy > 0)) continue;
    sum += (double)ry * ry / ((double)rr * yy);
    pairs++;
  }
  double freedom = sum > 0 ? (double)pairs / sum : (double)padded;
  x->meta.freedom = (float)(freedom < 1 ? 1 : freedom > (double)padded ? (double)padded : freedom);
  sqlite3_free(squares);
  return SQLITE_OK;
}

/* drop takes away those of k centroids that fewer than least of the n vectors are nearest to, and
 * says of each vector which of the others is. Returns how many are left. */
static int drop(const knn_index *x, float *c, int k, int least, const float *v, size_t n, int *owner, float *work) {
  size_t padded = x->padded;
  int *count = (int *)work, left = 0;
  memset(count, 0, (size_t)k * sizeof *count);
  for (size_t i = 0; i < n; i++) count[owner[i]]++;
  for (int j = 0; j < k; j++) {
    if (count[j] < least) continue;
    if (left != j) memcpy(c + (size_t)left * padded, c + (size_t)j * padded, padded * sizeof *c);
    left++;
  }
  if (left == 0 || left == k) return k;
  float *squares = work + KNN_NEAREST_WORK(left), *packed = squares + left;
  for (int j = 0; j < left; j++) squares[j] = knn_dot(c + (size_t)j * padded, c + (size_t)j * padded, padded);
  knn_pack(packed, c, (size_t)left, padded);
  knn_nearest(owner, NULL, NULL, NULL, v, n, packed, squares, left, padded, work);
  return left;
}

/* halve gives the crowded of k centroids a second one each, until none has more than limit of the n
 * vectors or most are made: k-means alone leaves some lists far too long. v is put in another order.
 * Returns how many there are then. */
static int halve(knn_index *x, float *c, int k, int most, size_t limit, float *v, size_t n, int *owner, float *work) {
  size_t padded = x->padded;
  for (int rounds = most - k; rounds > 0; rounds--) {
    int *count = (int *)work;
    memset(count, 0, (size_t)k * sizeof *count);
    int crowded = 0;
    for (size_t i = 0; i < n; i++)
      if (++count[owner[i]] > count[crowded]) crowded = owner[i];
    if ((size_t)count[crowded] <= limit) break;
    size_t members = 0; /* its vectors to the front */
    for (size_t i = 0; i < n; i++) {
      if (owner[i] != crowded) continue;
      for (size_t d = 0; i != members && d < padded; d++) {
        float t = v[members * padded + d];
        v[members * padded + d] = v[i * padded + d], v[i * padded + d] = t;
      }
      owner[i] = owner[members];
      owner[members++] = crowded;
    }
    float two[2 * KNN_BLOCK], *pair = padded <= KNN_BLOCK ? two : sqlite3_malloc64(2 * padded * sizeof *pair);
    if (pair == NULL) break;
    int stopped = knn_means(pair, 2, v, members, padded, 4, knn_random(&x->random), work, owner, knn_go_on, x);
    memcpy(c + (size_t)crowded * padded, pair, padded * sizeof *c);
    memcpy(c + (size_t)k * padded, pair + padded, padded * sizeof *c);
    if (pair != two) sqlite3_free(pair);
    for (size_t i = 0; i < members; i++) owner[i] = owner[i] == 0 ? crowded : k;
    k++;
    if (stopped != 0) break;
  }
  return k;
}

/* means_by_groups is knn_means for many centroids: it divides the vectors into about sqrt(k) groups
 * first, and each group into its share of k. *k becomes how many there are. */
static int means_by_groups(knn_index *x, float *c, int *k, const float *v, size_t n, int *owner, float *work) {
  size_t padded = x->padded, groups = (size_t)sqrtf((float)*k), at = 0, largest = 0;
  size_t *size = sqlite3_malloc64(groups * sizeof *size), *place = sqlite3_malloc64(n * sizeof *place);
  float *centre = sqlite3_malloc64(groups * padded * sizeof *centre), *members = NULL;
  int *group = sqlite3_malloc64(n * sizeof *group);
  int rc = size == NULL || place == NULL || centre == NULL || group == NULL ? SQLITE_NOMEM : SQLITE_OK;
  if (rc == SQLITE_OK) rc = knn_means(centre, (int)groups, v, n, padded, 6, (uint64_t)x->meta.seed, work, group, knn_go_on, x);
  if (rc == SQLITE_OK) {
    memset(size, 0, groups * sizeof *size);
    for (size_t i = 0; i < n; i++)
      if (++size[group[i]] > largest) largest = size[group[i]];
    members = sqlite3_malloc64(largest * padded * sizeof *members);
    if (members == NULL) rc = SQLITE_NOMEM;
  }
  for (size_t g = 0; g < groups && rc == SQLITE_OK; g++) {
    size_t m = 0, share = size[g] * (size_t)*k / n;
    if (size[g] == 0) continue;
    if (share == 0) share = 1;
    if (at + share > (size_t)*k) share = (size_t)*k - at;
    if (share == 0) share = 1, at--; /* the last list takes the rest */
    for (size_t i = 0; i < n; i++) {
      if ((size_t)group[i] != g) continue;
      memcpy(members + m * padded, v + i * padded, padded * sizeof *v);
      place[m++] = i;
    }
    int *local = sqlite3_malloc64(m * sizeof *local);
    if (local == NULL) {
      rc = SQLITE_NOMEM;
      break;
    }
    rc = knn_means(c + at * padded, (int)share, members, m, padded, 6, knn_random(&x->random), work, local, knn_go_on, x);
    for (size_t i = 0; i < m; i++) owner[place[i]] = (int)at + local[i];
    sqlite3_free(local);
    at += share;
  }
  *k = (int)at;
  sqlite3_free(size), sqlite3_free(place), sqlite3_free(centre), sqlite3_free(group), sqlite3_free(members);
  return rc;
}

#define SAMPLE_BYTES 536870912
#define GROUPS_FROM 1024 /* lists from which k-means goes by groups */

int knn_train(knn_index *x, sqlite3_int64 count, int k, int per) {
  size_t padded = x->padded, n = (size_t)k * (size_t)per, room = SAMPLE_BYTES / (padded * sizeof(float));
  if ((sqlite3_int64)n > count) n = (size_t)count;
  if (n > room) n = room;
  if ((size_t)k > n / 4) k = n < 4 ? 1 : (int)(n / 4);
  int most = k + k / 2 + 1;
  size_t work = KNN_MEANS_WORK(most, padded);
  float *v = sqlite3_malloc64(n * padded * sizeof *v), *c = sqlite3_malloc64(((size_t)most * padded + work) * sizeof *c);
  int *owner = sqlite3_malloc64(n * sizeof *owner);
  int rc = v == NULL || c == NULL || owner == NULL ? SQLITE_NOMEM : sample(x, count, v, &n);
  if (rc == SQLITE_OK && n > 0) {
    if ((size_t)k > n) k = most = (int)n;
    float *after = c + (size_t)most * padded;
    if (k >= GROUPS_FROM)
      rc = means_by_groups(x, c, &k, v, n, owner, after);
    else
      rc = knn_means(c, k, v, n, padded, 6, (uint64_t)x->meta.seed, after, owner, knn_go_on, x);
    if (rc == SQLITE_OK) {
      /* A list gets count / n rows for each vector here, and a third of them is coded twice. */
      float codes = 1.33f * (float)count / (float)n;
      k = halve(x, c, k, most, (size_t)(KNN_LIST_SPLIT * 0.85f / codes), v, n, owner, after);
      k = drop(x, c, k, (int)(KNN_LIST_MERGE * 1.5f / codes), v, n, owner, after);
      rc = measure_freedom(x, v, n, c, k, owner);
    }
    for (int i = 0; i < k && rc == SQLITE_OK; i++) rc = knn_add_list(x, c + (size_t)i * padded);
  }
  sqlite3_free(v), sqlite3_free(c), sqlite3_free(owner);
  return rc;
}
