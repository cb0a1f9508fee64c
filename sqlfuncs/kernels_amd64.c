/* AVX2 and AVX-512 kernels. The target attribute turns the instructions on for each function
 * alone, so the file needs no compiler flag and the program still starts on older processors.
 *
 * Every float kernel keeps four vector registers of partial sums, which hides the latency of the
 * fused multiply-add. dot and dot_norm share one loop body, and all pairs of types share it too,
 * so that they round alike: only the loads differ, chosen by constants when it is inlined.
 *
 * Go takes the file by its name; the guard is for make extension, which compiles all. */
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#include "kernels.h"

#define AVX2 __attribute__((target("avx2,fma,f16c,popcnt")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define POPCNT __attribute__((target("avx512f,avx512bw,avx512vl,avx512vpopcntdq")))
#define INLINE static inline __attribute__((always_inline))

enum element { F32, F16, BF16 };
enum bit_op { BOTH, DIFFER, ONES };

INLINE const char *byte_at(const void *p, size_t i) { return (const char *)p + i; }

/* last_bits counts the bits of the last byte, if n is not a multiple of 8. */
INLINE int64_t last_bits(enum bit_op op, const void *a, const void *b, size_t n) {
  if (n % 8 == 0) return 0;
  unsigned x = ((const unsigned char *)a)[n / 8], y = ((const unsigned char *)b)[n / 8];
  unsigned z = op == BOTH ? x & y : op == DIFFER ? x ^ y : x;
  return __builtin_popcount(z & ((1u << n % 8) - 1));
}

/* ---- AVX2: 8 float32, 4 float64, 16 int8 or 256 bits at a time ---- */

AVX2 INLINE __m256 widen8(enum element type, __m128i x) {
  if (type == F16) return _mm256_cvtph_ps(x);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}

AVX2 INLINE __m256 load8(enum element type, const void *p, size_t i) {
  if (type == F32) return _mm256_loadu_ps((const float *)p + i);
  return widen8(type, _mm_loadu_si128((const __m128i *)byte_at(p, 2 * i)));
}

AVX2 INLINE __m256d load4(const void *p, size_t i) { return _mm256_loadu_pd((const double *)p + i); }

/* tail8 reads the r last elements, r < 8, and zeros after them; it touches no byte beyond. */
AVX2 INLINE __m256 tail8(enum element type, const void *p, size_t i, size_t r) {
  if (type != F32) {
    uint16_t x[8] = {0};
    memcpy(x, byte_at(p, 2 * i), 2 * r);
    return widen8(type, _mm_loadu_si128((const __m128i *)x));
  }
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

/* What a loop computes: the inner product, also with the norm of a, or a distance. */
enum sum { DOT, DOT_NORM, L2SQ, L1 };

AVX2 INLINE float avx2_sum32(enum sum op, enum element ta, enum element tb, const void *a, const void *b, size_t n,
                             float *aa) {
  const __m256 positive = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
  __m256 t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)                                                \
  do {                                                                  \
    __m256 x_ = (x), y_ = (y);                                          \
    if (op == L2SQ || op == L1) x_ = _mm256_sub_ps(x_, y_);             \
    if (op == L2SQ) s = _mm256_fmadd_ps(x_, x_, s);                     \
    if (op == L1) s = _mm256_add_ps(s, _mm256_and_ps(positive, x_));    \
    if (op == DOT || op == DOT_NORM) s = _mm256_fmadd_ps(x_, y_, s);    \
    if (op == DOT_NORM) t = _mm256_fmadd_ps(x_, x_, t);                 \
  } while (0)
  for (; i + 32 <= n; i += 32) {
    STEP(load8(ta, a, i), load8(tb, b, i), s0, t0);
    STEP(load8(ta, a, i + 8), load8(tb, b, i + 8), s1, t1);
    STEP(load8(ta, a, i + 16), load8(tb, b, i + 16), s2, t2);
    STEP(load8(ta, a, i + 24), load8(tb, b, i + 24), s3, t3);
  }
  for (; i + 8 <= n; i += 8) STEP(load8(ta, a, i), load8(tb, b, i), s0, t0);
  if (i < n) STEP(tail8(ta, a, i, n - i), tail8(tb, b, i, n - i), s1, t1);
#undef STEP
  if (op == DOT_NORM) *aa = sum8(t0, t1, t2, t3);
  return sum8(s0, s1, s2, s3);
}

AVX2 INLINE double avx2_sum64(enum sum op, const void *a, const void *b, size_t n, double *aa) {
  const __m256d positive = _mm256_castsi256_pd(_mm256_set1_epi64x(0x7fffffffffffffff));
  __m256d s0 = _mm256_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
  __m256d t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)                                                \
  do {                                                                  \
    __m256d x_ = (x), y_ = (y);                                         \
    if (op == L2SQ || op == L1) x_ = _mm256_sub_pd(x_, y_);             \
    if (op == L2SQ) s = _mm256_fmadd_pd(x_, x_, s);                     \
    if (op == L1) s = _mm256_add_pd(s, _mm256_and_pd(positive, x_));    \
    if (op == DOT || op == DOT_NORM) s = _mm256_fmadd_pd(x_, y_, s);    \
    if (op == DOT_NORM) t = _mm256_fmadd_pd(x_, x_, t);                 \
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
  if (op == DOT_NORM) *aa = sum4(t0, t1, t2, t3);
  return sum4(s0, s1, s2, s3);
}

AVX2 INLINE int64_t sum8_epi32(__m256i s) {
  __m256i wide = _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(s)),
                                  _mm256_cvtepi32_epi64(_mm256_extracti128_si256(s, 1)));
  __m128i q = _mm_add_epi64(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  return _mm_cvtsi128_si64(_mm_add_epi64(q, _mm_unpackhi_epi64(q, q)));
}

AVX2 INLINE int64_t sum4_epi64(__m256i s) {
  __m128i q = _mm_add_epi64(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  return _mm_cvtsi128_si64(_mm_add_epi64(q, _mm_unpackhi_epi64(q, q)));
}

/* Products of two int8 and squares of a difference fit 16 and 17 bits; madd adds pairs of them in
 * 32. A lane takes 65,536 / 16 steps of at most 2 * 255 * 255: 2^29.1. */
AVX2 INLINE int64_t avx2_sum_i8(enum sum op, const void *a, const void *b, size_t n, int64_t *aa) {
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, t0 = s0, t1 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)                                                          \
  do {                                                                            \
    __m256i x_ = _mm256_cvtepi8_epi16(x), y_ = _mm256_cvtepi8_epi16(y);           \
    if (op == L2SQ || op == L1) x_ = _mm256_sub_epi16(x_, y_);                    \
    if (op == L1) s = _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_abs_epi16(x_), _mm256_set1_epi16(1))); \
    if (op == L2SQ) s = _mm256_add_epi32(s, _mm256_madd_epi16(x_, x_));           \
    if (op == DOT || op == DOT_NORM) s = _mm256_add_epi32(s, _mm256_madd_epi16(x_, y_)); \
    if (op == DOT_NORM) t = _mm256_add_epi32(t, _mm256_madd_epi16(x_, x_));       \
  } while (0)
#define LOAD(p, i) _mm_loadu_si128((const __m128i *)byte_at(p, i))
  for (; i + 32 <= n; i += 32) {
    STEP(LOAD(a, i), LOAD(b, i), s0, t0);
    STEP(LOAD(a, i + 16), LOAD(b, i + 16), s1, t1);
  }
  if (i + 16 <= n) {
    STEP(LOAD(a, i), LOAD(b, i), s0, t0);
    i += 16;
  }
  if (i < n) {
    char x[16] = {0}, y[16] = {0};
    memcpy(x, byte_at(a, i), n - i);
    memcpy(y, byte_at(b, i), n - i);
    STEP(LOAD(x, 0), LOAD(y, 0), s1, t1);
  }
#undef LOAD
#undef STEP
  if (op == DOT_NORM) *aa = sum8_epi32(t0) + sum8_epi32(t1);
  return sum8_epi32(s0) + sum8_epi32(s1);
}

/* The bits of each byte are looked up by halves and added up by 8 bytes. */
AVX2 INLINE int64_t avx2_count(enum bit_op op, const void *a, const void *b, size_t n) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2,
                                         3, 2, 3, 3, 4);
  const __m256i low = _mm256_set1_epi8(15);
  __m256i s = _mm256_setzero_si256();
  size_t i = 0, bytes = n / 8;
#define STEP(x, y)                                                                                  \
  do {                                                                                              \
    __m256i x_ = (x), y_ = (y);                                                                     \
    x_ = op == BOTH ? _mm256_and_si256(x_, y_) : op == DIFFER ? _mm256_xor_si256(x_, y_) : x_;      \
    __m256i c_ = _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(x_, low)),             \
                                 _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x_, 4), low))); \
    s = _mm256_add_epi64(s, _mm256_sad_epu8(c_, _mm256_setzero_si256()));                           \
  } while (0)
#define LOAD(p, i) _mm256_loadu_si256((const __m256i *)byte_at(p, i))
  for (; i + 32 <= bytes; i += 32) STEP(LOAD(a, i), LOAD(b, i));
#undef LOAD
#undef STEP
  int64_t rest = 0;
  while (i < bytes) { /* the last 31 bytes or fewer, eight at a time */
    uint64_t x = 0, y = 0;
    size_t r = bytes - i < 8 ? bytes - i : 8;
    memcpy(&x, byte_at(a, i), r);
    memcpy(&y, byte_at(b, i), r);
    rest += __builtin_popcountll(op == BOTH ? x & y : op == DIFFER ? x ^ y : x);
    i += r;
  }
  return sum4_epi64(s) + rest + last_bits(op, a, b, n);
}

/* ---- AVX-512: 16 float32, 8 float64, 32 or 64 int8, 512 bits at a time; the tail by mask ---- */

AVX512 INLINE __m512 widen16(enum element type, __m256i x) {
  if (type == F16) return _mm512_cvtph_ps(x);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

AVX512 INLINE __m512 load16(enum element type, const void *p, size_t i) {
  if (type == F32) return _mm512_loadu_ps((const float *)p + i);
  return widen16(type, _mm256_loadu_si256((const __m256i *)byte_at(p, 2 * i)));
}

AVX512 INLINE __m512d load8d(const void *p, size_t i) { return _mm512_loadu_pd((const double *)p + i); }

AVX512 INLINE __m512 tail16(enum element type, const void *p, size_t i, size_t r) {
  __mmask16 mask = (__mmask16)((1u << r) - 1);
  if (type == F32) return _mm512_maskz_loadu_ps(mask, (const float *)p + i);
  return widen16(type, _mm256_maskz_loadu_epi16(mask, byte_at(p, 2 * i)));
}

AVX512 INLINE __m512d tail8d(const void *p, size_t i, size_t r) {
  return _mm512_maskz_loadu_pd((__mmask8)((1u << r) - 1), (const double *)p + i);
}

AVX512 INLINE __m512i load64(const void *p, size_t i) { return _mm512_loadu_si512(byte_at(p, i)); }

AVX512 INLINE __m512i tail64(const void *p, size_t i, size_t r) {
  return _mm512_maskz_loadu_epi8((__mmask64)((1ull << r) - 1), byte_at(p, i));
}

AVX512 INLINE float sum16(__m512 a, __m512 b, __m512 c, __m512 d) {
  return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
}

AVX512 INLINE double sum8d(__m512d a, __m512d b, __m512d c, __m512d d) {
  return _mm512_reduce_add_pd(_mm512_add_pd(_mm512_add_pd(a, b), _mm512_add_pd(c, d)));
}

AVX512 INLINE float avx512_sum32(enum sum op, enum element ta, enum element tb, const void *a, const void *b, size_t n,
                                 float *aa) {
  __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
  __m512 t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)                                             \
  do {                                                               \
    __m512 x_ = (x), y_ = (y);                                       \
    if (op == L2SQ || op == L1) x_ = _mm512_sub_ps(x_, y_);          \
    if (op == L2SQ) s = _mm512_fmadd_ps(x_, x_, s);                  \
    if (op == L1) s = _mm512_add_ps(s, _mm512_abs_ps(x_));           \
    if (op == DOT || op == DOT_NORM) s = _mm512_fmadd_ps(x_, y_, s); \
    if (op == DOT_NORM) t = _mm512_fmadd_ps(x_, x_, t);              \
  } while (0)
  for (; i + 64 <= n; i += 64) {
    STEP(load16(ta, a, i), load16(tb, b, i), s0, t0);
    STEP(load16(ta, a, i + 16), load16(tb, b, i + 16), s1, t1);
    STEP(load16(ta, a, i + 32), load16(tb, b, i + 32), s2, t2);
    STEP(load16(ta, a, i + 48), load16(tb, b, i + 48), s3, t3);
  }
  for (; i + 16 <= n; i += 16) STEP(load16(ta, a, i), load16(tb, b, i), s0, t0);
  if (i < n) STEP(tail16(ta, a, i, n - i), tail16(tb, b, i, n - i), s1, t1);
#undef STEP
  if (op == DOT_NORM) *aa = sum16(t0, t1, t2, t3);
  return sum16(s0, s1, s2, s3);
}

AVX512 INLINE double avx512_sum64(enum sum op, const void *a, const void *b, size_t n, double *aa) {
  __m512d s0 = _mm512_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
  __m512d t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)                                             \
  do {                                                               \
    __m512d x_ = (x), y_ = (y);                                      \
    if (op == L2SQ || op == L1) x_ = _mm512_sub_pd(x_, y_);          \
    if (op == L2SQ) s = _mm512_fmadd_pd(x_, x_, s);                  \
    if (op == L1) s = _mm512_add_pd(s, _mm512_abs_pd(x_));           \
    if (op == DOT || op == DOT_NORM) s = _mm512_fmadd_pd(x_, y_, s); \
    if (op == DOT_NORM) t = _mm512_fmadd_pd(x_, x_, t);              \
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
  if (op == DOT_NORM) *aa = sum8d(t0, t1, t2, t3);
  return sum8d(s0, s1, s2, s3);
}

AVX512 INLINE int64_t sum16_epi32(__m512i s) {
  return _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(s)),
                                                  _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(s, 1))));
}

/* As avx2_sum_i8, 32 elements a step. */
AVX512 INLINE int64_t avx512_sum_i8(enum sum op, const void *a, const void *b, size_t n, int64_t *aa) {
  __m512i s0 = _mm512_setzero_si512(), s1 = s0, t0 = s0, t1 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)                                                          \
  do {                                                                            \
    __m512i x_ = _mm512_cvtepi8_epi16(x), y_ = _mm512_cvtepi8_epi16(y);           \
    if (op == L2SQ) x_ = _mm512_sub_epi16(x_, y_);                                \
    if (op == L2SQ) s = _mm512_add_epi32(s, _mm512_madd_epi16(x_, x_));           \
    if (op == DOT || op == DOT_NORM) s = _mm512_add_epi32(s, _mm512_madd_epi16(x_, y_)); \
    if (op == DOT_NORM) t = _mm512_add_epi32(t, _mm512_madd_epi16(x_, x_));       \
  } while (0)
#define BOTH_HALVES(x, y)                                                                   \
  do {                                                                                      \
    __m512i u_ = (x), v_ = (y);                                                             \
    STEP(_mm512_castsi512_si256(u_), _mm512_castsi512_si256(v_), s0, t0);                   \
    STEP(_mm512_extracti64x4_epi64(u_, 1), _mm512_extracti64x4_epi64(v_, 1), s1, t1);       \
  } while (0)
  for (; i + 64 <= n; i += 64) BOTH_HALVES(load64(a, i), load64(b, i));
  if (i < n) BOTH_HALVES(tail64(a, i, n - i), tail64(b, i, n - i));
#undef BOTH_HALVES
#undef STEP
  if (op == DOT_NORM) *aa = sum16_epi32(t0) + sum16_epi32(t1);
  return sum16_epi32(s0) + sum16_epi32(s1);
}

/* |x - y| as bytes: both moved up to 0..255, then the instruction for sums of differences. */
AVX512 INLINE int64_t avx512_l1_i8_body(const void *a, const void *b, size_t n) {
  const __m512i up = _mm512_set1_epi8((char)0x80);
  __m512i s = _mm512_setzero_si512();
  size_t i = 0;
#define STEP(x, y) s = _mm512_add_epi64(s, _mm512_sad_epu8(_mm512_xor_si512(x, up), _mm512_xor_si512(y, up)))
  for (; i + 64 <= n; i += 64) STEP(load64(a, i), load64(b, i));
  if (i < n) STEP(tail64(a, i, n - i), tail64(b, i, n - i));
#undef STEP
  return _mm512_reduce_add_epi64(s);
}

AVX512 INLINE int64_t avx512_count(enum bit_op op, const void *a, const void *b, size_t n) {
  const __m512i table =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m512i low = _mm512_set1_epi8(15);
  __m512i s = _mm512_setzero_si512();
  size_t i = 0, bytes = n / 8;
#define STEP(x, y)                                                                                  \
  do {                                                                                              \
    __m512i x_ = (x), y_ = (y);                                                                     \
    x_ = op == BOTH ? _mm512_and_si512(x_, y_) : op == DIFFER ? _mm512_xor_si512(x_, y_) : x_;      \
    __m512i c_ = _mm512_add_epi8(_mm512_shuffle_epi8(table, _mm512_and_si512(x_, low)),             \
                                 _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(x_, 4), low))); \
    s = _mm512_add_epi64(s, _mm512_sad_epu8(c_, _mm512_setzero_si512()));                           \
  } while (0)
  for (; i + 64 <= bytes; i += 64) STEP(load64(a, i), load64(b, i));
  if (i < bytes) STEP(tail64(a, i, bytes - i), tail64(b, i, bytes - i));
#undef STEP
  return _mm512_reduce_add_epi64(s) + last_bits(op, a, b, n);
}

/* ---- AVX-512 VNNI: four products of bytes a lane and instruction, unsigned by signed ----
 *
 * x * y = (x + 128) * y - 128 * y, and x + 128 is an unsigned byte. Both sums fit a lane: together
 * they are at most 65,536 / 16 * 256 * 128 = 2^27. */
VNNI INLINE int64_t vnni_dot(enum sum op, const void *a, const void *b, size_t n, int64_t *aa) {
  const __m512i up = _mm512_set1_epi8((char)0x80);
  __m512i s = _mm512_setzero_si512(), s128 = s, t = s, t128 = s;
  size_t i = 0;
#define STEP(x, y)                                    \
  do {                                                \
    __m512i x_ = (x), y_ = (y);                       \
    __m512i u_ = _mm512_xor_si512(x_, up);            \
    s = _mm512_dpbusd_epi32(s, u_, y_);               \
    s128 = _mm512_dpbusd_epi32(s128, up, y_);         \
    if (op == DOT_NORM) {                             \
      t = _mm512_dpbusd_epi32(t, u_, x_);             \
      t128 = _mm512_dpbusd_epi32(t128, up, x_);       \
    }                                                 \
  } while (0)
  for (; i + 64 <= n; i += 64) STEP(load64(a, i), load64(b, i));
  if (i < n) STEP(tail64(a, i, n - i), tail64(b, i, n - i));
#undef STEP
  if (op == DOT_NORM) *aa = sum16_epi32(_mm512_sub_epi32(t, t128));
  return sum16_epi32(_mm512_sub_epi32(s, s128));
}

/* |x - y| is an unsigned byte; its square is added up as 16-bit numbers, in any order. */
VNNI INLINE int64_t vnni_l2sq_body(const void *a, const void *b, size_t n) {
  const __m512i zero = _mm512_setzero_si512();
  __m512i s0 = zero, s1 = zero;
  size_t i = 0;
#define STEP(x, y)                                                                   \
  do {                                                                               \
    __m512i x_ = (x), y_ = (y);                                                      \
    __m512i d_ = _mm512_sub_epi8(_mm512_max_epi8(x_, y_), _mm512_min_epi8(x_, y_));  \
    __m512i l_ = _mm512_unpacklo_epi8(d_, zero), h_ = _mm512_unpackhi_epi8(d_, zero); \
    s0 = _mm512_dpwssd_epi32(s0, l_, l_);                                            \
    s1 = _mm512_dpwssd_epi32(s1, h_, h_);                                            \
  } while (0)
  for (; i + 64 <= n; i += 64) STEP(load64(a, i), load64(b, i));
  if (i < n) STEP(tail64(a, i, n - i), tail64(b, i, n - i));
#undef STEP
  return sum16_epi32(s0) + sum16_epi32(s1);
}

/* ---- AVX-512 VPOPCNTDQ ---- */

POPCNT INLINE int64_t popcnt_count(enum bit_op op, const void *a, const void *b, size_t n) {
  __m512i s = _mm512_setzero_si512();
  size_t i = 0, bytes = n / 8;
#define STEP(x, y)                                                                             \
  do {                                                                                         \
    __m512i x_ = (x), y_ = (y);                                                                \
    x_ = op == BOTH ? _mm512_and_si512(x_, y_) : op == DIFFER ? _mm512_xor_si512(x_, y_) : x_; \
    s = _mm512_add_epi64(s, _mm512_popcnt_epi64(x_));                                          \
  } while (0)
  for (; i + 64 <= bytes; i += 64) STEP(load64(a, i), load64(b, i));
  if (i < bytes) STEP(tail64(a, i, bytes - i), tail64(b, i, bytes - i));
#undef STEP
  return _mm512_reduce_add_epi64(s) + last_bits(op, a, b, n);
}

/* ---- the functions of the tables ---- */

/* SUMS defines the four sums of one pair of types as body(op, …) inlined. */
#define SUMS(TARGET, name, T, body, ...)                                                                         \
  TARGET static T dot_##name(const void *a, const void *b, size_t n) { return body(DOT, __VA_ARGS__ a, b, n, NULL); } \
  TARGET static T dot_norm_##name(const void *a, const void *b, size_t n, T *aa) {                               \
    return body(DOT_NORM, __VA_ARGS__ a, b, n, aa);                                                              \
  }                                                                                                              \
  TARGET static T l2sq_##name(const void *a, const void *b, size_t n) { return body(L2SQ, __VA_ARGS__ a, b, n, NULL); } \
  TARGET static T l1_##name(const void *a, const void *b, size_t n) { return body(L1, __VA_ARGS__ a, b, n, NULL); }
#define COMMA ,

#define FLOATS(TARGET, isa)                                                      \
  SUMS(TARGET, isa##_f32_f32, float, isa##_sum32, F32 COMMA F32 COMMA)           \
  SUMS(TARGET, isa##_f16_f32, float, isa##_sum32, F16 COMMA F32 COMMA)           \
  SUMS(TARGET, isa##_bf16_f32, float, isa##_sum32, BF16 COMMA F32 COMMA)         \
  SUMS(TARGET, isa##_f16_f16, float, isa##_sum32, F16 COMMA F16 COMMA)           \
  SUMS(TARGET, isa##_bf16_bf16, float, isa##_sum32, BF16 COMMA BF16 COMMA)       \
  SUMS(TARGET, isa##_f64, double, isa##_sum64, )

#define BITS(TARGET, isa)                                                                                        \
  TARGET static int64_t both_##isa(const void *a, const void *b, size_t n) { return isa##_count(BOTH, a, b, n); } \
  TARGET static int64_t differ_##isa(const void *a, const void *b, size_t n) { return isa##_count(DIFFER, a, b, n); } \
  TARGET static int64_t ones_##isa(const void *a, size_t n) { return isa##_count(ONES, a, a, n); }

FLOATS(AVX2, avx2)
SUMS(AVX2, avx2_i8, int64_t, avx2_sum_i8, )
BITS(AVX2, avx2)

FLOATS(AVX512, avx512)
AVX512 static int64_t dot_avx512_i8(const void *a, const void *b, size_t n) {
  return avx512_sum_i8(DOT, a, b, n, NULL);
}
AVX512 static int64_t dot_norm_avx512_i8(const void *a, const void *b, size_t n, int64_t *aa) {
  return avx512_sum_i8(DOT_NORM, a, b, n, aa);
}
AVX512 static int64_t l2sq_avx512_i8(const void *a, const void *b, size_t n) {
  return avx512_sum_i8(L2SQ, a, b, n, NULL);
}
AVX512 static int64_t l1_avx512_i8(const void *a, const void *b, size_t n) { return avx512_l1_i8_body(a, b, n); }
BITS(AVX512, avx512)

VNNI static int64_t dot_vnni_i8(const void *a, const void *b, size_t n) { return vnni_dot(DOT, a, b, n, NULL); }
VNNI static int64_t dot_norm_vnni_i8(const void *a, const void *b, size_t n, int64_t *aa) {
  return vnni_dot(DOT_NORM, a, b, n, aa);
}
VNNI static int64_t l2sq_vnni_i8(const void *a, const void *b, size_t n) { return vnni_l2sq_body(a, b, n); }

BITS(POPCNT, popcnt)

#define LIST(name) {dot_##name, dot_norm_##name, l2sq_##name, l1_##name}
#define FLOAT_LISTS(isa)                       \
  .sums32 = {[VS_F32_F32] = LIST(isa##_f32_f32),     \
             [VS_F16_F32] = LIST(isa##_f16_f32),     \
             [VS_BF16_F32] = LIST(isa##_bf16_f32),   \
             [VS_F16_F16] = LIST(isa##_f16_f16),     \
             [VS_BF16_BF16] = LIST(isa##_bf16_bf16)}, \
  .sums64 = LIST(isa##_f64)
#define VNNI_LIST {dot_vnni_i8, dot_norm_vnni_i8, l2sq_vnni_i8, l1_avx512_i8}

static const vs_kernels avx2 = {.name = "avx2", .lanes32 = 32, .lanes64 = 16, FLOAT_LISTS(avx2),
                                .sums8 = LIST(avx2_i8), .sums1 = {both_avx2, differ_avx2, ones_avx2}};

static const vs_kernels avx512 = {.name = "avx512", .lanes32 = 64, .lanes64 = 32, FLOAT_LISTS(avx512),
                                  .sums8 = LIST(avx512_i8), .sums1 = {both_avx512, differ_avx512, ones_avx512}};

static const vs_kernels avx512_vnni = {.name = "avx512-vnni", .lanes32 = 64, .lanes64 = 32, FLOAT_LISTS(avx512),
                                       .sums8 = VNNI_LIST, .sums1 = {both_avx512, differ_avx512, ones_avx512}};

static const vs_kernels avx512_popcnt = {.name = "avx512-vnni-popcnt", .lanes32 = 64, .lanes64 = 32,
                                         FLOAT_LISTS(avx512), .sums8 = VNNI_LIST,
                                         .sums1 = {both_popcnt, differ_popcnt, ones_popcnt}};

/* has_f16c asks the processor itself: not every compiler knows the word "f16c". */
static int has_f16c(void) {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}

int vs_machine_kernels(const vs_kernels **list, int max) {
  int n = 0;
  __builtin_cpu_init(); /* asks the operating system too: registers it does not save do not count */
  if (n < max && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("popcnt") && has_f16c())
    list[n++] = &avx2;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl"))
    return n;
  if (n < max) list[n++] = &avx512;
  if (!__builtin_cpu_supports("avx512vnni")) return n;
  if (n < max) list[n++] = &avx512_vnni;
  if (n < max && __builtin_cpu_supports("avx512vpopcntdq")) list[n++] = &avx512_popcnt;
  return n;
}
#endif
