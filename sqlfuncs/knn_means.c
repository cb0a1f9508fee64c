/* Many vectors against many centroids: inner products, the nearest, k-means. */
#include <math.h>
#include <string.h>

#include "knn_code.h"
#include "knn_machine.h"

#define PANEL 16 /* vectors beside each other in a packed block */
#define TILE 6   /* rows that share one reading of a panel: their sums and the panel fit 16 registers of AVX2 */

void knn_pack(float *packed, const float *c, size_t k, size_t padded) {
  for (size_t j = 0; j < k; j += PANEL, packed += PANEL * padded)
    for (size_t t = 0; t < PANEL; t++) {
      const float *v = c + (j + t < k ? j + t : k - 1) * padded;
      for (size_t d = 0; d < padded; d++) packed[d * PANEL + t] = v[d];
    }
}

INLINE void put(float *out, size_t n, const v16 *sum) {
  if (n >= PANEL)
    store(out, sum);
  else
    memcpy(out, sum, n * sizeof *out);
}

/* The sums are six variables, not an array, so that they stay in registers. */
INLINE int body_matrix(float *out, const float *x, size_t n, const float *packed, size_t k, size_t padded) {
  for (size_t j = 0; j < k; j += PANEL, packed += PANEL * padded)
    for (size_t i = 0; i < n; i += TILE) {
      const float *row[TILE];
      for (size_t t = 0; t < TILE; t++) row[t] = x + (i + t < n ? i + t : n - 1) * padded;
      const float *r0 = row[0], *r1 = row[1], *r2 = row[2], *r3 = row[3], *r4 = row[4], *r5 = row[5];
      v16 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, s4 = {0}, s5 = {0}, c;
      for (size_t d = 0; d < padded; d++) {
        load(&c, packed + d * PANEL);
        s0 += r0[d] * c, s1 += r1[d] * c, s2 += r2[d] * c;
        s3 += r3[d] * c, s4 += r4[d] * c, s5 += r5[d] * c;
      }
      float *to = out + i * k + j;
      put(to, k - j, &s0);
      if (i + 1 < n) put(to + k, k - j, &s1);
      if (i + 2 < n) put(to + 2 * k, k - j, &s2);
      if (i + 3 < n) put(to + 3 * k, k - j, &s3);
      if (i + 4 < n) put(to + 4 * k, k - j, &s4);
      if (i + 5 < n) put(to + 5 * k, k - j, &s5);
    }
  return 0;
}
DISPATCH(int, matrix, (float *out, const float *x, size_t n, const float *packed, size_t k, size_t padded),
         (out, x, n, packed, k, padded))

void knn_matrix(float *out, const float *x, size_t n, const float *packed, size_t k, size_t padded) {
  matrix(out, x, n, packed, k, padded);
}

void knn_nearest(int *first, int *second, float *distance1, float *distance2, const float *x, size_t n,
                 const float *packed, const float *squares, int k, size_t padded, float *work) {
  for (size_t at = 0; at < n; at += KNN_NEAREST_ROWS) {
    size_t rows = n - at < KNN_NEAREST_ROWS ? n - at : KNN_NEAREST_ROWS;
    knn_matrix(work, x + at * padded, rows, packed, (size_t)k, padded);
    for (size_t i = 0; i < rows; i++) {
      const float *product = work + i * (size_t)k, *v = x + (at + i) * padded;
      knn_two two = KNN_NONE;
      for (int j = 0; j < k; j++) knn_offer(&two, squares[j] - 2 * product[j], j);
      float square = distance1 != NULL ? knn_dot(v, v, padded) : 0;
      first[at + i] = two.at < 0 ? 0 : two.at; /* never without one, whatever the numbers are */
      if (distance1 != NULL) distance1[at + i] = fmaxf(two.best + square, 0);
      if (second != NULL) {
        second[at + i] = two.at2;
        distance2[at + i] = fmaxf(two.next + square, 0);
      }
    }
  }
}

int knn_means(float *centroids, int k, const float *x, size_t n, size_t padded, int rounds, uint64_t seed, float *work,
              int *owner, int (*stop)(void *), void *arg) {
  float *squares = work + KNN_NEAREST_WORK(k), *packed = squares + k;
  int *count = (int *)(packed + KNN_PACKED(k, padded));
  /* One vector out of each of k stretches. */
  for (int j = 0; j < k; j++) {
    size_t from = n * (size_t)j / (size_t)k, to = n * (size_t)(j + 1) / (size_t)k;
    memcpy(centroids + (size_t)j * padded, x + (from + knn_random(&seed) % (to - from)) * padded, padded * sizeof *x);
  }
  for (int round = 0; round < rounds; round++) {
    for (int j = 0; j < k; j++) squares[j] = knn_dot(centroids + (size_t)j * padded, centroids + (size_t)j * padded, padded);
    knn_pack(packed, centroids, (size_t)k, padded);
    knn_nearest(owner, NULL, NULL, NULL, x, n, packed, squares, k, padded, work);
    memset(centroids, 0, (size_t)k * padded * sizeof *centroids);
    memset(count, 0, (size_t)k * sizeof *count);
    for (size_t i = 0; i < n; i++) {
      float *c = centroids + (size_t)owner[i] * padded;
      const float *v = x + i * padded;
      count[owner[i]]++;
      for (size_t d = 0; d < padded; d++) c[d] += v[d];
    }
    for (int j = 0; j < k; j++) {
      float *c = centroids + (size_t)j * padded;
      if (count[j] == 0) /* nobody's nearest: start again elsewhere */
        memcpy(c, x + knn_random(&seed) % n * padded, padded * sizeof *c);
      else
        for (size_t d = 0; d < padded; d++) c[d] /= (float)count[j];
    }
    int rc = stop(arg);
    if (rc != 0) return rc;
  }
  return 0;
}
