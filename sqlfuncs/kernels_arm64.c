/* NEON kernels. Every arm64 processor has NEON, so nothing is asked at start-up. The shape is
 * that of kernels_amd64.c: four registers of partial sums, one loop body for dot and dot_norm.
 * Loads go through bytes, which needs no alignment. */
#include <arm_neon.h>
#include <string.h>

#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE float32x4_t load4(const void *p, size_t i) {
  return vreinterpretq_f32_u8(vld1q_u8((const unsigned char *)p + 4 * i));
}

INLINE float64x2_t load2(const void *p, size_t i) {
  return vreinterpretq_f64_u8(vld1q_u8((const unsigned char *)p + 8 * i));
}

/* tail4 reads the r last elements, r < 4, and zeros after them; tail2 the last one. */
INLINE float32x4_t tail4(const void *p, size_t i, size_t r) {
  float x[4] = {0, 0, 0, 0};
  memcpy(x, (const char *)p + 4 * i, 4 * r);
  return vld1q_f32(x);
}

INLINE float64x2_t tail2(const void *p, size_t i) {
  double x[2] = {0, 0};
  memcpy(x, (const char *)p + 8 * i, 8);
  return vld1q_f64(x);
}

INLINE float sum4(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d) {
  return vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)));
}

INLINE double sum2(float64x2_t a, float64x2_t b, float64x2_t c, float64x2_t d) {
  return vaddvq_f64(vaddq_f64(vaddq_f64(a, b), vaddq_f64(c, d)));
}

INLINE float dot_f32_body(const void *a, const void *b, size_t n, float *aa, int norm) {
  float32x4_t s0 = vdupq_n_f32(0), s1 = s0, s2 = s0, s3 = s0;
  float32x4_t t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)               \
  do {                                 \
    float32x4_t x_ = (x), y_ = (y);    \
    s = vfmaq_f32(s, x_, y_);          \
    if (norm) t = vfmaq_f32(t, x_, x_); \
  } while (0)
  for (; i + 16 <= n; i += 16) {
    STEP(load4(a, i), load4(b, i), s0, t0);
    STEP(load4(a, i + 4), load4(b, i + 4), s1, t1);
    STEP(load4(a, i + 8), load4(b, i + 8), s2, t2);
    STEP(load4(a, i + 12), load4(b, i + 12), s3, t3);
  }
  for (; i + 4 <= n; i += 4) STEP(load4(a, i), load4(b, i), s0, t0);
  if (i < n) STEP(tail4(a, i, n - i), tail4(b, i, n - i), s1, t1);
#undef STEP
  if (norm) *aa = sum4(t0, t1, t2, t3);
  return sum4(s0, s1, s2, s3);
}

static float dot_f32(const void *a, const void *b, size_t n) { return dot_f32_body(a, b, n, NULL, 0); }

static float dot_norm_f32(const void *a, const void *b, size_t n, float *aa) {
  return dot_f32_body(a, b, n, aa, 1);
}

static float l2sq_f32(const void *a, const void *b, size_t n) {
  float32x4_t s0 = vdupq_n_f32(0), s1 = s0, s2 = s0, s3 = s0;
  size_t i = 0;
#define STEP(x, y, s)                    \
  do {                                   \
    float32x4_t d_ = vsubq_f32((x), (y)); \
    s = vfmaq_f32(s, d_, d_);            \
  } while (0)
  for (; i + 16 <= n; i += 16) {
    STEP(load4(a, i), load4(b, i), s0);
    STEP(load4(a, i + 4), load4(b, i + 4), s1);
    STEP(load4(a, i + 8), load4(b, i + 8), s2);
    STEP(load4(a, i + 12), load4(b, i + 12), s3);
  }
  for (; i + 4 <= n; i += 4) STEP(load4(a, i), load4(b, i), s0);
  if (i < n) STEP(tail4(a, i, n - i), tail4(b, i, n - i), s1);
#undef STEP
  return sum4(s0, s1, s2, s3);
}

INLINE double dot_f64_body(const void *a, const void *b, size_t n, double *aa, int norm) {
  float64x2_t s0 = vdupq_n_f64(0), s1 = s0, s2 = s0, s3 = s0;
  float64x2_t t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)               \
  do {                                 \
    float64x2_t x_ = (x), y_ = (y);    \
    s = vfmaq_f64(s, x_, y_);          \
    if (norm) t = vfmaq_f64(t, x_, x_); \
  } while (0)
  for (; i + 8 <= n; i += 8) {
    STEP(load2(a, i), load2(b, i), s0, t0);
    STEP(load2(a, i + 2), load2(b, i + 2), s1, t1);
    STEP(load2(a, i + 4), load2(b, i + 4), s2, t2);
    STEP(load2(a, i + 6), load2(b, i + 6), s3, t3);
  }
  for (; i + 2 <= n; i += 2) STEP(load2(a, i), load2(b, i), s0, t0);
  if (i < n) STEP(tail2(a, i), tail2(b, i), s1, t1);
#undef STEP
  if (norm) *aa = sum2(t0, t1, t2, t3);
  return sum2(s0, s1, s2, s3);
}

static double dot_f64(const void *a, const void *b, size_t n) { return dot_f64_body(a, b, n, NULL, 0); }

static double dot_norm_f64(const void *a, const void *b, size_t n, double *aa) {
  return dot_f64_body(a, b, n, aa, 1);
}

static double l2sq_f64(const void *a, const void *b, size_t n) {
  float64x2_t s0 = vdupq_n_f64(0), s1 = s0, s2 = s0, s3 = s0;
  size_t i = 0;
#define STEP(x, y, s)                    \
  do {                                   \
    float64x2_t d_ = vsubq_f64((x), (y)); \
    s = vfmaq_f64(s, d_, d_);            \
  } while (0)
  for (; i + 8 <= n; i += 8) {
    STEP(load2(a, i), load2(b, i), s0);
    STEP(load2(a, i + 2), load2(b, i + 2), s1);
    STEP(load2(a, i + 4), load2(b, i + 4), s2);
    STEP(load2(a, i + 6), load2(b, i + 6), s3);
  }
  for (; i + 2 <= n; i += 2) STEP(load2(a, i), load2(b, i), s0);
  if (i < n) STEP(tail2(a, i), tail2(b, i), s1);
#undef STEP
  return sum2(s0, s1, s2, s3);
}

static const vs_kernels neon = {"neon", 16, 8, dot_f32, dot_norm_f32, l2sq_f32, dot_f64, dot_norm_f64, l2sq_f64};

int vs_machine_kernels(const vs_kernels **list, int max) {
  if (max < 1) return 0;
  list[0] = &neon;
  return 1;
}
