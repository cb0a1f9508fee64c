/* AVX2 and AVX-512 kernels. The target attribute turns the instructions on for each function
 * alone, so the file needs no compiler flag and the program still starts on older processors.
 *
 * Every kernel keeps four vector registers of partial sums, which hides the latency of the
 * fused multiply-add. dot and dot_norm share one loop body, so that they round alike. */
#include <immintrin.h>

#include "kernels.h"

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f")))
#define INLINE static inline __attribute__((always_inline))

/* ---- AVX2: 8 float32 or 4 float64 a register ---- */

AVX2 INLINE __m256 load8(const void *p, size_t i) { return _mm256_loadu_ps((const float *)p + i); }
AVX2 INLINE __m256d load4(const void *p, size_t i) { return _mm256_loadu_pd((const double *)p + i); }

/* tail8 reads the r last elements, r < 8, and zeros after them; it touches no byte beyond. */
AVX2 INLINE __m256 tail8(const void *p, size_t i, size_t r) {
  static const int mask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
  return _mm256_maskload_ps((const float *)p + i, _mm256_loadu_si256((const __m256i *)(mask + 8 - r)));
}

AVX2 INLINE __m256d tail4(const void *p, size_t i, size_t r) {
  static const long long mask[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
  return _mm256_maskload_pd((const double *)p + i, _mm256_loadu_si256((const __m256i *)(mask + 4 - r)));
}

AVX2 INLINE float sum8(__m256 a, __m256 b, __m256 c, __m256 d) {
  __m256 s = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

AVX2 INLINE double sum4(__m256d a, __m256d b, __m256d c, __m256d d) {
  __m256d s = _mm256_add_pd(_mm256_add_pd(a, b), _mm256_add_pd(c, d));
  __m128d q = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));
  return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}

AVX2 INLINE float avx2_dot_f32_body(const void *a, const void *b, size_t n, float *aa, int norm) {
  __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
  __m256 t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)                     \
  do {                                       \
    __m256 x_ = (x), y_ = (y);               \
    s = _mm256_fmadd_ps(x_, y_, s);          \
    if (norm) t = _mm256_fmadd_ps(x_, x_, t); \
  } while (0)
  for (; i + 32 <= n; i += 32) {
    STEP(load8(a, i), load8(b, i), s0, t0);
    STEP(load8(a, i + 8), load8(b, i + 8), s1, t1);
    STEP(load8(a, i + 16), load8(b, i + 16), s2, t2);
    STEP(load8(a, i + 24), load8(b, i + 24), s3, t3);
  }
  for (; i + 8 <= n; i += 8) STEP(load8(a, i), load8(b, i), s0, t0);
  if (i < n) STEP(tail8(a, i, n - i), tail8(b, i, n - i), s1, t1);
#undef STEP
  if (norm) *aa = sum8(t0, t1, t2, t3);
  return sum8(s0, s1, s2, s3);
}

AVX2 static float avx2_dot_f32(const void *a, const void *b, size_t n) {
  return avx2_dot_f32_body(a, b, n, NULL, 0);
}

AVX2 static float avx2_dot_norm_f32(const void *a, const void *b, size_t n, float *aa) {
  return avx2_dot_f32_body(a, b, n, aa, 1);
}

AVX2 static float avx2_l2sq_f32(const void *a, const void *b, size_t n) {
  __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
  size_t i = 0;
#define STEP(x, y, s)                       \
  do {                                      \
    __m256 d_ = _mm256_sub_ps((x), (y));    \
    s = _mm256_fmadd_ps(d_, d_, s);         \
  } while (0)
  for (; i + 32 <= n; i += 32) {
    STEP(load8(a, i), load8(b, i), s0);
    STEP(load8(a, i + 8), load8(b, i + 8), s1);
    STEP(load8(a, i + 16), load8(b, i + 16), s2);
    STEP(load8(a, i + 24), load8(b, i + 24), s3);
  }
  for (; i + 8 <= n; i += 8) STEP(load8(a, i), load8(b, i), s0);
  if (i < n) STEP(tail8(a, i, n - i), tail8(b, i, n - i), s1);
#undef STEP
  return sum8(s0, s1, s2, s3);
}

AVX2 INLINE double avx2_dot_f64_body(const void *a, const void *b, size_t n, double *aa, int norm) {
  __m256d s0 = _mm256_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
  __m256d t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)                     \
  do {                                       \
    __m256d x_ = (x), y_ = (y);              \
    s = _mm256_fmadd_pd(x_, y_, s);          \
    if (norm) t = _mm256_fmadd_pd(x_, x_, t); \
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

AVX2 static double avx2_dot_f64(const void *a, const void *b, size_t n) {
  return avx2_dot_f64_body(a, b, n, NULL, 0);
}

AVX2 static double avx2_dot_norm_f64(const void *a, const void *b, size_t n, double *aa) {
  return avx2_dot_f64_body(a, b, n, aa, 1);
}

AVX2 static double avx2_l2sq_f64(const void *a, const void *b, size_t n) {
  __m256d s0 = _mm256_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
  size_t i = 0;
#define STEP(x, y, s)                       \
  do {                                      \
    __m256d d_ = _mm256_sub_pd((x), (y));   \
    s = _mm256_fmadd_pd(d_, d_, s);         \
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

static const vs_kernels avx2 = {
    "avx2",       32, 16, avx2_dot_f32, avx2_dot_norm_f32, avx2_l2sq_f32, avx2_dot_f64, avx2_dot_norm_f64,
    avx2_l2sq_f64};

/* ---- AVX-512: 16 float32 or 8 float64 a register, the tail by mask ---- */

AVX512 INLINE __m512 load16(const void *p, size_t i) { return _mm512_loadu_ps((const float *)p + i); }
AVX512 INLINE __m512d load8d(const void *p, size_t i) { return _mm512_loadu_pd((const double *)p + i); }

AVX512 INLINE __m512 tail16(const void *p, size_t i, size_t r) {
  return _mm512_maskz_loadu_ps((__mmask16)((1u << r) - 1), (const float *)p + i);
}

AVX512 INLINE __m512d tail8d(const void *p, size_t i, size_t r) {
  return _mm512_maskz_loadu_pd((__mmask8)((1u << r) - 1), (const double *)p + i);
}

AVX512 INLINE float sum16(__m512 a, __m512 b, __m512 c, __m512 d) {
  return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
}

AVX512 INLINE double sum8d(__m512d a, __m512d b, __m512d c, __m512d d) {
  return _mm512_reduce_add_pd(_mm512_add_pd(_mm512_add_pd(a, b), _mm512_add_pd(c, d)));
}

AVX512 INLINE float avx512_dot_f32_body(const void *a, const void *b, size_t n, float *aa, int norm) {
  __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
  __m512 t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)                     \
  do {                                       \
    __m512 x_ = (x), y_ = (y);               \
    s = _mm512_fmadd_ps(x_, y_, s);          \
    if (norm) t = _mm512_fmadd_ps(x_, x_, t); \
  } while (0)
  for (; i + 64 <= n; i += 64) {
    STEP(load16(a, i), load16(b, i), s0, t0);
    STEP(load16(a, i + 16), load16(b, i + 16), s1, t1);
    STEP(load16(a, i + 32), load16(b, i + 32), s2, t2);
    STEP(load16(a, i + 48), load16(b, i + 48), s3, t3);
  }
  for (; i + 16 <= n; i += 16) STEP(load16(a, i), load16(b, i), s0, t0);
  if (i < n) STEP(tail16(a, i, n - i), tail16(b, i, n - i), s1, t1);
#undef STEP
  if (norm) *aa = sum16(t0, t1, t2, t3);
  return sum16(s0, s1, s2, s3);
}

AVX512 static float avx512_dot_f32(const void *a, const void *b, size_t n) {
  return avx512_dot_f32_body(a, b, n, NULL, 0);
}

AVX512 static float avx512_dot_norm_f32(const void *a, const void *b, size_t n, float *aa) {
  return avx512_dot_f32_body(a, b, n, aa, 1);
}

AVX512 static float avx512_l2sq_f32(const void *a, const void *b, size_t n) {
  __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
  size_t i = 0;
#define STEP(x, y, s)                       \
  do {                                      \
    __m512 d_ = _mm512_sub_ps((x), (y));    \
    s = _mm512_fmadd_ps(d_, d_, s);         \
  } while (0)
  for (; i + 64 <= n; i += 64) {
    STEP(load16(a, i), load16(b, i), s0);
    STEP(load16(a, i + 16), load16(b, i + 16), s1);
    STEP(load16(a, i + 32), load16(b, i + 32), s2);
    STEP(load16(a, i + 48), load16(b, i + 48), s3);
  }
  for (; i + 16 <= n; i += 16) STEP(load16(a, i), load16(b, i), s0);
  if (i < n) STEP(tail16(a, i, n - i), tail16(b, i, n - i), s1);
#undef STEP
  return sum16(s0, s1, s2, s3);
}

AVX512 INLINE double avx512_dot_f64_body(const void *a, const void *b, size_t n, double *aa, int norm) {
  __m512d s0 = _mm512_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
  __m512d t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)                     \
  do {                                       \
    __m512d x_ = (x), y_ = (y);              \
    s = _mm512_fmadd_pd(x_, y_, s);          \
    if (norm) t = _mm512_fmadd_pd(x_, x_, t); \
  } while (0)
  for (; i + 32 <= n; i += 32) {
    STEP(load8d(a, i), load8d(b, i), s0, t0);
    STEP(load8d(a, i + 8), load8d(b, i + 8), s1, t1);
    STEP(load8d(a, i + 16), load8d(b, i + 16), s2, t2);
    STEP(load8d(a, i + 24), load8d(b, i + 24), s3, t3);
  }
  for (; i + 8 <= n; i += 8) STEP(load8d(a, i), load8d(b, i), s0, t0);
  if (i < n) STEP(tail8d(a, i, n - i), tail8d(b, i, n - i), s1, t1);
#undef STEP
  if (norm) *aa = sum8d(t0, t1, t2, t3);
  return sum8d(s0, s1, s2, s3);
}

AVX512 static double avx512_dot_f64(const void *a, const void *b, size_t n) {
  return avx512_dot_f64_body(a, b, n, NULL, 0);
}

AVX512 static double avx512_dot_norm_f64(const void *a, const void *b, size_t n, double *aa) {
  return avx512_dot_f64_body(a, b, n, aa, 1);
}

AVX512 static double avx512_l2sq_f64(const void *a, const void *b, size_t n) {
  __m512d s0 = _mm512_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
  size_t i = 0;
#define STEP(x, y, s)                       \
  do {                                      \
    __m512d d_ = _mm512_sub_pd((x), (y));   \
    s = _mm512_fmadd_pd(d_, d_, s);         \
  } while (0)
  for (; i + 32 <= n; i += 32) {
    STEP(load8d(a, i), load8d(b, i), s0);
    STEP(load8d(a, i + 8), load8d(b, i + 8), s1);
    STEP(load8d(a, i + 16), load8d(b, i + 16), s2);
    STEP(load8d(a, i + 24), load8d(b, i + 24), s3);
  }
  for (; i + 8 <= n; i += 8) STEP(load8d(a, i), load8d(b, i), s0);
  if (i < n) STEP(tail8d(a, i, n - i), tail8d(b, i, n - i), s1);
#undef STEP
  return sum8d(s0, s1, s2, s3);
}

static const vs_kernels avx512 = {
    "avx512",         64, 32, avx512_dot_f32, avx512_dot_norm_f32, avx512_l2sq_f32, avx512_dot_f64, avx512_dot_norm_f64,
    avx512_l2sq_f64};

int vs_machine_kernels(const vs_kernels **list, int max) {
  int n = 0;
  __builtin_cpu_init(); /* asks the operating system too: registers it does not save do not count */
  if (n < max && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) list[n++] = &avx2;
  if (n < max && __builtin_cpu_supports("avx512f")) list[n++] = &avx512;
  return n;
}
