/* The plain kernels: the meaning of the others, and the fallback on machines without them. */
#include <string.h>

#include "kernels.h"

/* at_f32 and at_f64 read element i wherever it lies; compilers make one load of the memcpy. */
static inline float at_f32(const void *v, size_t i) {
  float x;
  memcpy(&x, (const char *)v + 4 * i, 4);
  return x;
}

static inline double at_f64(const void *v, size_t i) {
  double x;
  memcpy(&x, (const char *)v + 8 * i, 8);
  return x;
}

static float dot_f32(const void *a, const void *b, size_t n) {
  float s = 0;
  for (size_t i = 0; i < n; i++) s += at_f32(a, i) * at_f32(b, i);
  return s;
}

static float dot_norm_f32(const void *a, const void *b, size_t n, float *aa) {
  *aa = dot_f32(a, a, n);
  return dot_f32(a, b, n);
}

static float l2sq_f32(const void *a, const void *b, size_t n) {
  float s = 0;
  for (size_t i = 0; i < n; i++) {
    float d = at_f32(a, i) - at_f32(b, i);
    s += d * d;
  }
  return s;
}

static double dot_f64(const void *a, const void *b, size_t n) {
  double s = 0;
  for (size_t i = 0; i < n; i++) s += at_f64(a, i) * at_f64(b, i);
  return s;
}

static double dot_norm_f64(const void *a, const void *b, size_t n, double *aa) {
  *aa = dot_f64(a, a, n);
  return dot_f64(a, b, n);
}

static double l2sq_f64(const void *a, const void *b, size_t n) {
  double s = 0;
  for (size_t i = 0; i < n; i++) {
    double d = at_f64(a, i) - at_f64(b, i);
    s += d * d;
  }
  return s;
}

const vs_kernels vs_ref = {"ref", 1, 1, dot_f32, dot_norm_f32, l2sq_f32, dot_f64, dot_norm_f64, l2sq_f64};
