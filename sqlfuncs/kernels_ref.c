/* The plain kernels: the meaning of the others, and the fallback on machines without them. */
#include <math.h>
#include <string.h>

#include "half.h"
#include "kernels.h"

/* at_… read element i wherever it lies; compilers make one load of the memcpy. */
static inline float at_f32(const void *v, size_t i) {
  float x;
  memcpy(&x, (const char *)v + 4 * i, 4);
  return x;
}

static inline float at_f16(const void *v, size_t i) {
  uint16_t x;
  memcpy(&x, (const char *)v + 2 * i, 2);
  return vs_f16_value(x);
}

static inline float at_bf16(const void *v, size_t i) {
  uint16_t x;
  memcpy(&x, (const char *)v + 2 * i, 2);
  return vs_bf16_value(x);
}

static inline double at_f64(const void *v, size_t i) {
  double x;
  memcpy(&x, (const char *)v + 8 * i, 8);
  return x;
}

static inline int64_t at_i8(const void *v, size_t i) { return ((const signed char *)v)[i]; }

/* SUMS defines the four sums of type T over elements that A and B read. */
#define SUMS(pair, T, A, B, ABS)                                                         \
  static T dot_##pair(const void *a, const void *b, size_t n) {                          \
    T s = 0;                                                                             \
    for (size_t i = 0; i < n; i++) s += A(a, i) * B(b, i);                               \
    return s;                                                                            \
  }                                                                                      \
  static T dot_norm_##pair(const void *a, const void *b, size_t n, T *aa) {              \
    T s = 0;                                                                             \
    for (size_t i = 0; i < n; i++) s += A(a, i) * A(a, i);                               \
    *aa = s;                                                                             \
    return dot_##pair(a, b, n);                                                          \
  }                                                                                      \
  static T l2sq_##pair(const void *a, const void *b, size_t n) {                         \
    T s = 0;                                                                             \
    for (size_t i = 0; i < n; i++) {                                                     \
      T d = A(a, i) - B(b, i);                                                           \
      s += d * d;                                                                        \
    }                                                                                    \
    return s;                                                                            \
  }                                                                                      \
  static T l1_##pair(const void *a, const void *b, size_t n) {                           \
    T s = 0;                                                                             \
    for (size_t i = 0; i < n; i++) s += ABS(A(a, i) - B(b, i));                          \
    return s;                                                                            \
  }

#define WHOLE_ABS(x) ((x) < 0 ? -(x) : (x))

SUMS(f32_f32, float, at_f32, at_f32, fabsf)
SUMS(f16_f32, float, at_f16, at_f32, fabsf)
SUMS(bf16_f32, float, at_bf16, at_f32, fabsf)
SUMS(f16_f16, float, at_f16, at_f16, fabsf)
SUMS(bf16_bf16, float, at_bf16, at_bf16, fabsf)
SUMS(f64, double, at_f64, at_f64, fabs)
SUMS(i8, int64_t, at_i8, at_i8, WHOLE_ABS)

/* count adds the set bits of f(a, b) over n bits, eight bytes at a time. */
enum bit_op { BOTH, DIFFER, ONES };

static inline uint64_t combine(enum bit_op op, uint64_t x, uint64_t y) {
  return op == BOTH ? x & y : op == DIFFER ? x ^ y : x;
}

static inline __attribute__((always_inline)) int64_t count(enum bit_op op, const void *a, const void *b, size_t n) {
  const unsigned char *p = a, *q = b;
  size_t i = 0;
  int64_t s = 0;
  for (; 8 * i + 64 <= n; i += 8) {
    uint64_t x, y;
    memcpy(&x, p + i, 8);
    memcpy(&y, q + i, 8);
    s += __builtin_popcountll(combine(op, x, y));
  }
  for (; 8 * i + 8 <= n; i++) s += __builtin_popcountll(combine(op, p[i], q[i]));
  if (8 * i < n) s += __builtin_popcountll(combine(op, p[i], q[i]) & ((1u << (n - 8 * i)) - 1));
  return s;
}

static int64_t both(const void *a, const void *b, size_t n) { return count(BOTH, a, b, n); }
static int64_t differ(const void *a, const void *b, size_t n) { return count(DIFFER, a, b, n); }
static int64_t ones(const void *a, size_t n) { return count(ONES, a, a, n); }

#define LIST(pair) {dot_##pair, dot_norm_##pair, l2sq_##pair, l1_##pair}

const vs_kernels vs_ref = {
    .name = "ref",
    .lanes32 = 1,
    .lanes64 = 1,
    .sums32 = {[VS_F32_F32] = LIST(f32_f32),
               [VS_F16_F32] = LIST(f16_f32),
               [VS_BF16_F32] = LIST(bf16_f32),
               [VS_F16_F16] = LIST(f16_f16),
               [VS_BF16_BF16] = LIST(bf16_bf16)},
    .sums64 = LIST(f64),
    .sums8 = LIST(i8),
    .sums1 = {both, differ, ones},
};
