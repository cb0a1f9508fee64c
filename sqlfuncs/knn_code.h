/* The arithmetic of the index: rotation and 4-bit codes (knn_code.c), nearest centroids and k-means
 * (knn_means.c). No SQLite. KNN.md explains the method, and has the layout of a code to the byte. */
#ifndef VS_KNN_CODE_H
#define VS_KNN_CODE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

/* Codes come in blocks of this many dimensions; vectors are padded with zeros to a multiple. */
#define KNN_BLOCK 64

/* knn_padded returns dims rounded up to whole blocks. */
static inline size_t knn_padded(size_t dims) { return (dims + KNN_BLOCK - 1) / KNN_BLOCK * KNN_BLOCK; }

/* knn_signs fills 4 * padded floats with +1 and -1 drawn from seed: the same on every machine. */
void knn_signs(float *signs, size_t padded, uint64_t seed);

/* knn_rotate turns x, of padded floats, in place: four rounds of flipped signs and a Hadamard
 * transform, of the first and of the last power of two elements in turn. Lengths and angles stay. */
void knn_rotate(float *x, size_t padded, const float *signs);

/* A knn_factors goes with each code. With r the residual (the rotated vector minus its list's
 * centroid), z the code (z_i = u_i - 7.5) and y any vector, <y, r> is about scale * <y, z>. */
typedef struct knn_factors {
  float scale;   /* |r|^2 / <z, r> */
  float square;  /* |r|^2 */
  float along;   /* <c, r>, c the centroid */
} knn_factors;

/* knn_encode writes the code of x in the list of centroid c, both of padded floats: padded / 2
 * bytes. work takes 2 * padded floats. */
void knn_encode(uint8_t *code, knn_factors *f, const float *x, const float *c, size_t padded, float *work);

/* A knn_query is a residual of the query in eight bits an element, in the order of the codes. */
typedef struct knn_query {
  const int8_t *low, *high; /* padded / 2 each: the elements of low and of high halves of bytes */
  float unit;               /* what 1 stands for */
  int32_t sum;              /* of all elements */
} knn_query;

/* knn_quantize makes a knn_query of y in room, of padded bytes. */
void knn_quantize(knn_query *q, int8_t *room, const float *y, size_t padded);

/* knn_products writes into out, for each of n codes that follow each other, the sum over the
 * elements of u_i * q_i, exactly. <y, z> is about (out - 7.5 * q->sum) * q->unit. */
void knn_products(int32_t *out, const uint8_t *codes, size_t n, const knn_query *q, size_t padded);

/* knn_pack lays k vectors out for knn_matrix and knn_nearest, in KNN_PACKED floats: sixteen
 * beside each other, element by element. */
void knn_pack(float *packed, const float *c, size_t k, size_t padded);
#define KNN_PACKED(k, padded) (((size_t)(k) + 15) / 16 * 16 * (padded))

/* knn_matrix writes the inner products of n vectors x with k packed ones, all of padded floats:
 * out[i * k + j] is that of x_i and c_j. */
void knn_matrix(float *out, const float *x, size_t n, const float *packed, size_t k, size_t padded);

/* A knn_two is the two smallest of what it was offered. */
typedef struct knn_two {
  float best, next;
  int at, at2; /* -1: nothing yet */
} knn_two;
#define KNN_NONE ((knn_two){INFINITY, INFINITY, -1, -1})

static inline void knn_offer(knn_two *t, float value, int at) {
  if (!(value < t->next)) return;
  if (value < t->best)
    t->next = t->best, t->at2 = t->at, t->best = value, t->at = at;
  else
    t->next = value, t->at2 = at;
}

/* knn_nearest finds for each of n vectors the nearest two of k packed centroids. squares holds
 * |c|^2 of the centroids.
 *
 * first, second        n numbers of centroids each; second is -1 where k is 1
 * distance1, distance2 n squared distances each; all but first may be NULL
 * work                 KNN_NEAREST_WORK(k) floats */
void knn_nearest(int *first, int *second, float *distance1, float *distance2, const float *x, size_t n,
                 const float *packed, const float *squares, int k, size_t padded, float *work);
#define KNN_NEAREST_ROWS 64
#define KNN_NEAREST_WORK(k) ((size_t)KNN_NEAREST_ROWS * (size_t)(k))

/* knn_means places k centroids among n >= k vectors x by rounds of k-means, starting from vectors
 * that seed picks. work takes KNN_MEANS_WORK floats, owner n ints. After each round it asks stop,
 * and leaves with its answer if that is not 0. Returns 0 at the end. */
int knn_means(float *centroids, int k, const float *x, size_t n, size_t padded, int rounds, uint64_t seed, float *work,
              int *owner, int (*stop)(void *), void *arg);
#define KNN_MEANS_WORK(k, padded) (KNN_NEAREST_WORK(k) + 2 * (size_t)(k) + KNN_PACKED(k, padded))

/* knn_dot is the inner product of n floats, n a multiple of KNN_BLOCK. */
float knn_dot(const float *a, const float *b, size_t n);

/* knn_random steps a generator of 64 bits (splitmix64). */
static inline uint64_t knn_random(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* knn_use_plain makes all of the above run without special instructions, for tests. */
void knn_use_plain(int plain);

#endif
