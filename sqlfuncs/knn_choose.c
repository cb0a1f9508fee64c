/* Which lists a row belongs to.
 *
 * For a few rows the centroids are compared as they lie in the index; for more they are laid out
 * for knn_matrix first. For a whole table with many lists that would be most of the work, so the
 * lists are put into groups, and a row is compared with those of the nearest groups only. */
#include <math.h>
#include <string.h>

#include "kernels.h"
#include "knn_fold.h"

#define FEW 64          /* rows up to which laying out does not pay */
#define GROUPS_FROM 512 /* lists from which groups pay */
#define NEAR_GROUPS 16  /* groups that a row is compared with; KNN.md says what that misses */

/* A knn_groups is the lists by group: those of group g are member[start[g]] up to member[start[g + 1]],
 * and packed together. */
typedef struct knn_groups {
  int n;
  int *start, *member;     /* n + 1, and one for each list */
  size_t *at;              /* where the group's packed centroids begin */
  float *packed, *squares; /* in the order of member */
  float *centres, *centre_squares; /* n, packed */
  int *row;                /* KNN_CHUNK * NEAR_GROUPS: rows by group */
  int *begin;              /* n + 1: where the rows of a group begin */
  uint16_t (*near)[NEAR_GROUPS]; /* KNN_CHUNK: the groups of each row */
  float *rows, *work;      /* KNN_NEAREST_ROWS rows of a group together, and what knn_matrix made of them */
  knn_two two[KNN_CHUNK];
} knn_groups;

static void free_groups(knn_groups *g) {
  if (g == NULL) return;
  sqlite3_free(g->start), sqlite3_free(g->member), sqlite3_free(g->at), sqlite3_free(g->packed), sqlite3_free(g->squares);
  sqlite3_free(g->centres), sqlite3_free(g->centre_squares), sqlite3_free(g->row), sqlite3_free(g->begin), sqlite3_free(g->near);
  sqlite3_free(g->rows), sqlite3_free(g->work);
  sqlite3_free(g);
}

void knn_chooser_free(knn_chooser *c) {
  if (c == NULL) return;
  free_groups(c->groups);
  sqlite3_free(c->centroids), sqlite3_free(c->packed), sqlite3_free(c->squares), sqlite3_free(c->work);
  sqlite3_free(c);
}

/* arrange puts the lists into the order of their groups: owner says the group of each. */
static int arrange(knn_groups *g, const knn_chooser *c, const int *owner, size_t padded) {
  size_t room = 0, largest = (size_t)g->n;
  memset(g->start, 0, ((size_t)g->n + 1) * sizeof *g->start);
  for (int i = 0; i < c->n; i++) g->start[owner[i] + 1]++;
  for (int j = 0; j < g->n; j++) {
    size_t size = (size_t)g->start[j + 1];
    g->at[j] = room;
    room += KNN_PACKED(size, padded);
    if (size > largest) largest = size;
    g->start[j + 1] += g->start[j];
    g->begin[j] = g->start[j];
  }
  g->packed = sqlite3_malloc64(room * sizeof *g->packed);
  g->work = sqlite3_malloc64(KNN_NEAREST_WORK(largest) * sizeof *g->work);
  float *members = sqlite3_malloc64(largest * padded * sizeof *members);
  if (g->packed == NULL || g->work == NULL || members == NULL) {
    sqlite3_free(members);
    return SQLITE_NOMEM;
  }
  for (int i = 0; i < c->n; i++) g->member[g->begin[owner[i]]++] = i;
  for (int j = 0; j < g->n; j++) {
    size_t size = (size_t)(g->start[j + 1] - g->start[j]);
    for (size_t i = 0; i < size; i++) {
      int list = g->member[(size_t)g->start[j] + i];
      memcpy(members + i * padded, c->centroids + (size_t)list * padded, padded * sizeof *members);
      g->squares[(size_t)g->start[j] + i] = c->squares[list];
    }
    knn_pack(g->packed + g->at[j], members, size, padded);
  }
  sqlite3_free(members);
  return SQLITE_OK;
}

/* make_groups groups the lists of c by k-means: as many groups as make comparing with the centres
 * as dear as with the lists of the near ones. */
static int make_groups(knn_index *x, knn_chooser *c) {
  knn_groups *g = c->groups = sqlite3_malloc64(sizeof *g);
  if (g == NULL) return SQLITE_NOMEM;
  memset(g, 0, sizeof *g);
  size_t padded = x->padded, lists = (size_t)c->n, n = (size_t)sqrtf((float)(lists * NEAR_GROUPS));
  g->n = (int)n;
  g->start = sqlite3_malloc64((n + 1) * sizeof *g->start);
  g->begin = sqlite3_malloc64((n + 1) * sizeof *g->begin);
  g->at = sqlite3_malloc64(n * sizeof *g->at);
  g->member = sqlite3_malloc64(lists * sizeof *g->member);
  g->squares = sqlite3_malloc64(lists * sizeof *g->squares);
  g->centres = sqlite3_malloc64(KNN_PACKED(n, padded) * sizeof *g->centres);
  g->centre_squares = sqlite3_malloc64(n * sizeof *g->centre_squares);
  g->row = sqlite3_malloc64(KNN_CHUNK * NEAR_GROUPS * sizeof *g->row);
  g->near = sqlite3_malloc64(KNN_CHUNK * sizeof *g->near);
  g->rows = sqlite3_malloc64(KNN_NEAREST_ROWS * padded * sizeof *g->rows);
  float *centres = sqlite3_malloc64(n * padded * sizeof *centres), *work = sqlite3_malloc64(KNN_MEANS_WORK(n, padded) * sizeof *work);
  int *owner = sqlite3_malloc64(lists * sizeof *owner), rc = SQLITE_NOMEM;
  if (g->start != NULL && g->begin != NULL && g->at != NULL && g->member != NULL && g->squares != NULL && g->centres != NULL &&
      g->centre_squares != NULL && g->row != NULL && g->near != NULL && g->rows != NULL && centres != NULL && work != NULL && owner != NULL)
    rc = knn_means(centres, g->n, c->centroids, lists, padded, 5, knn_random(&x->random), work, owner, knn_go_on, x);
  if (rc == SQLITE_OK) {
    for (size_t j = 0; j < n; j++) g->centre_squares[j] = knn_dot(centres + j * padded, centres + j * padded, padded);
    knn_pack(g->centres, centres, n, padded);
    rc = arrange(g, c, owner, padded);
  }
  sqlite3_free(centres), sqlite3_free(work), sqlite3_free(owner);
  return rc;
}

int knn_chooser_make(knn_index *x, sqlite3_int64 rows, knn_chooser **out) {
  knn_chooser *c = *out = sqlite3_malloc64(sizeof *c);
  if (c == NULL) return SQLITE_NOMEM;
  memset(c, 0, sizeof *c);
  c->n = x->lists.n;
  if (rows <= FEW) return SQLITE_OK;
  size_t n = (size_t)c->n;
  int rc = SQLITE_NOMEM;
  c->centroids = sqlite3_malloc64(n * x->padded * sizeof(float));
  c->squares = sqlite3_malloc64(n * sizeof(float));
  if (c->centroids != NULL && c->squares != NULL) {
    for (int i = 0; i < c->n; i++) knn_centroid(x, i, c->centroids + (size_t)i * x->padded);
    memcpy(c->squares, x->lists.squares, n * sizeof(float));
    if (c->n >= GROUPS_FROM && rows >= KNN_CHUNK) {
      rc = make_groups(x, c);
    } else {
      c->packed = sqlite3_malloc64(KNN_PACKED(n, x->padded) * sizeof(float));
      c->work = sqlite3_malloc64(KNN_NEAREST_WORK(n) * sizeof(float));
      if (c->packed != NULL && c->work != NULL) {
        knn_pack(c->packed, c->centroids, n, x->padded);
        rc = SQLITE_OK;
      }
    }
  }
  if (rc != SQLITE_OK) {
    knn_chooser_free(c);
    *out = NULL;
  }
  return rc;
}

/* find_groups fills near with the nearest groups of n vectors, and row and begin with the rows of
 * each group. */
static void find_groups(knn_groups *g, const float *v, size_t n, size_t padded) {
  int most = g->n < NEAR_GROUPS ? g->n : NEAR_GROUPS;
  memset(g->begin, 0, ((size_t)g->n + 1) * sizeof *g->begin);
  for (size_t i = 0; i < n; i++) {
    if (i % KNN_NEAREST_ROWS == 0)
      knn_matrix(g->work, v + i * padded, n - i < KNN_NEAREST_ROWS ? n - i : KNN_NEAREST_ROWS, g->centres, (size_t)g->n, padded);
    const float *product = g->work + i % KNN_NEAREST_ROWS * (size_t)g->n;
    float distance[NEAR_GROUPS];
    uint16_t *near = g->near[i];
    int have = 0;
    for (int j = 0; j < g->n; j++) {
      float d = g->centre_squares[j] - 2 * product[j];
      if (have == most && !(d < distance[have - 1])) continue;
      int at = have < most ? have++ : most - 1;
      for (; at > 0 && distance[at - 1] > d; at--) distance[at] = distance[at - 1], near[at] = near[at - 1];
      distance[at] = d, near[at] = (uint16_t)j;
    }
    for (int j = 0; j < most; j++) g->begin[near[j]]++;
  }
  for (int j = 0, sum = 0; j <= g->n; j++) sum += g->begin[j], g->begin[j] = sum;
  for (size_t i = n; i-- > 0;) /* from the ends of the groups to their beginnings */
    for (int j = 0; j < most; j++) g->row[--g->begin[g->near[i][j]]] = (int)i;
}

/* nearest_by_groups is knn_nearest over the lists of the nearest groups. */
static void nearest_by_groups(knn_chooser *c, const float *v, size_t n, size_t padded) {
  knn_groups *g = c->groups;
  find_groups(g, v, n, padded);
  for (size_t i = 0; i < n; i++) g->two[i] = KNN_NONE;
  for (int j = 0; j < g->n; j++) {
    int lists = g->start[j + 1] - g->start[j];
    const int *member = g->member + g->start[j];
    const float *squares = g->squares + g->start[j];
    for (int from = g->begin[j]; from < g->begin[j + 1]; from += KNN_NEAREST_ROWS) {
      int rows = g->begin[j + 1] - from < KNN_NEAREST_ROWS ? g->begin[j + 1] - from : KNN_NEAREST_ROWS;
      for (int i = 0; i < rows; i++)
        memcpy(g->rows + (size_t)i * padded, v + (size_t)g->row[from + i] * padded, padded * sizeof *v);
      knn_matrix(g->work, g->rows, (size_t)rows, g->packed + g->at[j], (size_t)lists, padded);
      for (int i = 0; i < rows; i++) {
        knn_two *two = &g->two[g->row[from + i]];
        const float *product = g->work + (size_t)i * (size_t)lists;
        for (int l = 0; l < lists; l++) knn_offer(two, squares[l] - 2 * product[l], member[l]);
      }
    }
  }
  for (size_t i = 0; i < n; i++) {
    float square = knn_dot(v + i * padded, v + i * padded, padded);
    c->first[i] = g->two[i].at < 0 ? 0 : g->two[i].at;
    c->second[i] = g->two[i].at2;
    c->distance1[i] = fmaxf(g->two[i].best + square, 0);
    c->distance2[i] = fmaxf(g->two[i].next + square, 0);
  }
}

/* nearest_in_place is knn_nearest over the centroids of the index as they are. */
static void nearest_in_place(const knn_index *x, knn_chooser *c, const float *v, int n) {
  float (*dot)(const void *, const void *, size_t) = vs_best->sums32[VS_BF16_F32].dot;
  for (int i = 0; i < n; i++, v += x->padded) {
    knn_two two = KNN_NONE;
    for (int j = 0; j < c->n; j++)
      knn_offer(&two, x->lists.squares[j] - 2 * dot(x->lists.halves + (size_t)j * x->padded, v, x->padded), j);
    float square = knn_dot(v, v, x->padded);
    c->first[i] = two.at < 0 ? 0 : two.at;
    c->second[i] = two.at2;
    c->distance1[i] = fmaxf(two.best + square, 0);
    c->distance2[i] = fmaxf(two.next + square, 0);
  }
}

void knn_choose(knn_index *x, knn_chooser *c, const float *v, int n) {
  if (c->groups != NULL)
    nearest_by_groups(c, v, (size_t)n, x->padded);
  else if (c->packed != NULL)
    knn_nearest(c->first, c->second, c->distance1, c->distance2, v, (size_t)n, c->packed, c->squares, c->n, x->padded, c->work);
  else
    nearest_in_place(x, c, v, n);
  for (int i = 0; i < n; i++) {
    int far = !(c->distance2[i] <= KNN_BORDER * c->distance1[i]) || c->distance1[i] == 0;
    /* A list that is long can do without the rows of others. */
    if (far || (c->second[i] >= 0 && x->lists.rows[c->second[i]] >= KNN_LIST_FULL)) c->second[i] = -1;
  }
}
