#include "knn_code.h"

#include <math.h>
#include <string.h>

/* The float code is written once, over vectors of the compiler (16 floats), and compiled for
 * several machines: BODY is inlined into a function for each. The compiler splits the vectors
 * where registers are shorter. */
#define INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#endif

enum level { PLAIN, SMALL, LARGE, LARGE_VNNI };

static int forced_plain;

void knn_use_plain(int plain) { forced_plain = plain; }

/* level says what this machine can run; the compiler's answer is cached by the processor model. */
static enum level level(void) {
  if (forced_plain) return PLAIN;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return __builtin_cpu_supports("avx512vnni") ? LARGE_VNNI : LARGE;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return SMALL;
#endif
  return PLAIN;
}

#if defined(__x86_64__)
/* DISPATCH defines name(params) as body_name inlined for each machine. */
#define DISPATCH(type, name, params, args)                              \
  static type name##_plain params { return body_##name args; }          \
  AVX2 static type name##_small params { return body_##name args; }     \
  AVX512 static type name##_large params { return body_##name args; }   \
  static type name params {                                             \
    enum level l = level();                                             \
    if (l >= LARGE) return name##_large args;                           \
    return l == SMALL ? name##_small args : name##_plain args;          \
  }
#else
#define DISPATCH(type, name, params, args) \
  static type name params { return body_##name args; }
#endif

typedef float v16 __attribute__((vector_size(64)));
typedef float v8 __attribute__((vector_size(32)));
typedef float v4 __attribute__((vector_size(16)));
typedef int32_t i16 __attribute__((vector_size(64)));

/* Vectors go through pointers: a vector of 64 bytes by value has another calling convention on
 * each machine, and these are all inlined. */
INLINE void load(v16 *v, const float *p) { memcpy(v, p, sizeof *v); }
INLINE void store(float *p, const v16 *v) { memcpy(p, v, sizeof *v); }
INLINE float total(const v16 *v) {
  v8 a, b;
  memcpy(&a, v, sizeof a);
  memcpy(&b, (const char *)v + sizeof a, sizeof b);
  a += b;
  v4 c, d;
  memcpy(&c, &a, sizeof c);
  memcpy(&d, (const char *)&a + sizeof c, sizeof d);
  c += d;
  return (c[0] + c[2]) + (c[1] + c[3]);
}

/* ---- rotation ---- */

void knn_signs(float *signs, size_t padded, uint64_t seed) {
  uint64_t bits = 0;
  for (size_t i = 0; i < 4 * padded; i++) {
    if (i % 64 == 0) bits = knn_random(&seed);
    signs[i] = (bits >> i % 64) & 1 ? -1 : 1;
  }
}

/* hadamard transforms n floats, n a power of two from 64 on, scaled so that lengths stay. */
INLINE void hadamard(float *x, size_t n) {
  for (size_t half = 1; half < 16; half *= 2)
    for (size_t i = 0; i < n; i += 16) {
      v16 v, sign;
      i16 other;
      load(&v, x + i);
      for (int j = 0; j < 16; j++) {
        other[j] = j ^ (int)half;
        sign[j] = j & (int)half ? -1.0f : 1.0f;
      }
#if defined(__clang__)
      v16 swapped;
      for (int j = 0; j < 16; j++) swapped[j] = v[other[j]];
#else
      v16 swapped = __builtin_shuffle(v, other);
#endif
      v = swapped + v * sign;
      store(x + i, &v);
    }
  for (size_t half = 16; half < n; half *= 2)
    for (size_t i = 0; i < n; i += 2 * half)
      for (size_t j = i; j < i + half; j += 16) {
        v16 a, b, s, d;
        load(&a, x + j);
        load(&b, x + j + half);
        s = a + b;
        d = a - b;
        store(x + j, &s);
        store(x + j + half, &d);
      }
  float scale = 1 / sqrtf((float)n);
  for (size_t i = 0; i < n; i += 16) {
    v16 v;
    load(&v, x + i);
    v *= scale;
    store(x + i, &v);
  }
}

INLINE int body_rotate(float *x, size_t padded, const float *signs) {
  size_t power = KNN_BLOCK;
  while (2 * power <= padded) power *= 2;
  for (size_t round = 0; round < 4; round++) {
    for (size_t i = 0; i < padded; i += 16) {
      v16 v, s;
      load(&v, x + i);
      load(&s, signs + round * padded + i);
      v *= s;
      store(x + i, &v);
    }
    hadamard(x + (round % 2 ? padded - power : 0), power);
  }
  return 0;
}
DISPATCH(int, rotate, (float *x, size_t padded, const float *signs), (x, padded, signs))

void knn_rotate(float *x, size_t padded, const float *signs) { rotate(x, padded, signs); }

/* ---- inner products ---- */

INLINE float body_dot(const float *a, const float *b, size_t n) {
  v16 s0 = {0}, s1 = {0}, x, y;
  for (size_t i = 0; i < n; i += 32) {
    load(&x, a + i), load(&y, b + i);
    s0 += x * y;
    load(&x, a + i + 16), load(&y, b + i + 16);
    s1 += x * y;
  }
  s0 += s1;
  return total(&s0);
}
DISPATCH(float, dot, (const float *a, const float *b, size_t n), (a, b, n))

float knn_dot(const float *a, const float *b, size_t n) { return dot(a, b, n); }

/* tile computes out[i * k + j] = <x_i, c_j>, four by four at a time. */
INLINE int body_tile(float *out, const float *x, size_t rows, const float *c, size_t k, size_t padded) {
  for (size_t j = 0; j < k; j += 4)
    for (size_t i = 0; i < rows; i += 4) {
      const float *a[4], *b[4];
      v16 s[4][4] = {{{0}}}, u[4], v;
      for (size_t t = 0; t < 4; t++) {
        a[t] = x + (i + t < rows ? i + t : rows - 1) * padded;
        b[t] = c + (j + t < k ? j + t : k - 1) * padded;
      }
      for (size_t d = 0; d < padded; d += 16) {
        for (int t = 0; t < 4; t++) load(&u[t], b[t] + d);
        for (int p = 0; p < 4; p++) {
          load(&v, a[p] + d);
          for (int q = 0; q < 4; q++) s[p][q] += v * u[q];
        }
      }
      for (size_t p = 0; p < 4 && i + p < rows; p++)
        for (size_t q = 0; q < 4 && j + q < k; q++) out[(i + p) * k + j + q] = total(&s[p][q]);
    }
  return 0;
}
DISPATCH(int, tile, (float *out, const float *x, size_t rows, const float *c, size_t k, size_t padded),
         (out, x, rows, c, k, padded))

void knn_matrix(float *out, const float *x, size_t n, const float *c, size_t k, size_t padded) { tile(out, x, n, c, k, padded); }

void knn_nearest(int *first, int *second, float *distance1, float *distance2, const float *x, size_t n,
                 const float *centroids, const float *squares, int k, size_t padded, float *work) {
  for (size_t at = 0; at < n; at += KNN_NEAREST_ROWS) {
    size_t rows = n - at < KNN_NEAREST_ROWS ? n - at : KNN_NEAREST_ROWS;
    tile(work, x + at * padded, rows, centroids, (size_t)k, padded);
    for (size_t i = 0; i < rows; i++) {
      const float *product = work + i * (size_t)k;
      float best = INFINITY, next = INFINITY;
      int b = 0, m = -1;
      for (int j = 0; j < k; j++) {
        float d = squares[j] - 2 * product[j];
        if (d >= next) continue;
        if (d < best) {
          next = best, m = j > 0 ? b : -1;
          best = d, b = j;
        } else {
          next = d, m = j;
        }
      }
      const float *v = x + (at + i) * padded;
      float square = dot(v, v, padded);
      first[at + i] = b;
      if (distance1 != NULL) distance1[at + i] = fmaxf(best + square, 0);
      if (second != NULL) {
        second[at + i] = m;
        distance2[at + i] = m < 0 ? INFINITY : fmaxf(next + square, 0);
      }
    }
  }
}

int knn_means(float *centroids, int k, const float *x, size_t n, size_t padded, int rounds, uint64_t seed, float *work,
              int *owner, int (*stop)(void *), void *arg) {
  float *squares = work + KNN_NEAREST_WORK(k);
  float *counts = squares + k; /* k of the n floats */
  /* One vector out of each of k stretches. */
  for (int j = 0; j < k; j++) {
    size_t from = n * (size_t)j / (size_t)k, to = n * (size_t)(j + 1) / (size_t)k;
    memcpy(centroids + (size_t)j * padded, x + (from + knn_random(&seed) % (to - from)) * padded, padded * sizeof *x);
  }
  for (int round = 0; round < rounds; round++) {
    for (int j = 0; j < k; j++) squares[j] = dot(centroids + (size_t)j * padded, centroids + (size_t)j * padded, padded);
    knn_nearest(owner, NULL, NULL, NULL, x, n, centroids, squares, k, padded, work);
    memset(centroids, 0, (size_t)k * padded * sizeof *centroids);
    memset(counts, 0, (size_t)k * sizeof *counts);
    for (size_t i = 0; i < n; i++) {
      float *c = centroids + (size_t)owner[i] * padded;
      const float *v = x + i * padded;
      counts[owner[i]]++;
      for (size_t d = 0; d < padded; d++) c[d] += v[d];
    }
    for (int j = 0; j < k; j++) {
      float *c = centroids + (size_t)j * padded;
      if (counts[j] == 0) /* nobody's nearest: start again elsewhere */
        memcpy(c, x + knn_random(&seed) % n * padded, padded * sizeof *c);
      else
        for (size_t d = 0; d < padded; d++) c[d] /= counts[j];
    }
    int rc = stop(arg);
    if (rc != 0) return rc;
  }
  return 0;
}

/* ---- codes ---- */

/* The code of r with the best of eight scales: u_i = r_i * s + 7.5 rounded, within 0..15. */
INLINE int body_encode(uint8_t *u, knn_factors *f, const float *r, size_t padded) {
  float most = 0;
  v16 square = {0};
  for (size_t i = 0; i < padded; i += 16) {
    v16 v;
    load(&v, r + i);
    square += v * v;
    for (int j = 0; j < 16; j++) {
      float a = fabsf(r[i + (size_t)j]);
      most = a > most ? a : most;
    }
  }
  f->square = total(&square);
  f->scale = 0;
  if (!(most > 0)) {
    memset(u, 8, padded);
    return 0;
  }
  float best = -1, s = 0, product = 1;
  for (int step = 8; step <= 15; step++) {
    float scale = 7.5f / (most * (float)step / 15);
    v16 dp = {0}, zz = {0};
    for (size_t i = 0; i < padded; i += 16) {
      v16 v, t;
      load(&v, r + i);
      t = v * scale + 8.0f;
      i16 over = t > 15.5f, under = t < 0.0f;
      t = (v16)(((i16)t & ~over) | ((i16)(v16){15.5f, 15.5f, 15.5f, 15.5f, 15.5f, 15.5f, 15.5f, 15.5f, 15.5f, 15.5f, 15.5f,
                                               15.5f, 15.5f, 15.5f, 15.5f, 15.5f} & over));
      t = (v16)((i16)t & ~under);
      v16 z = __builtin_convertvector(__builtin_convertvector(t, i16), v16) - 7.5f;
      dp += z * v;
      zz += z * z;
    }
    float d = total(&dp), cosine = d / sqrtf(total(&zz));
    if (cosine > best) best = cosine, s = scale, product = d;
  }
  f->scale = product > 0 ? f->square / product : 0;
  for (size_t i = 0; i < padded; i++) {
    float t = r[i] * s + 8.0f;
    t = t > 15.5f ? 15.5f : t < 0 ? 0 : t;
    u[i] = (uint8_t)t;
  }
  return 0;
}
DISPATCH(int, encode, (uint8_t *u, knn_factors *f, const float *r, size_t padded), (u, f, r, padded))

void knn_encode(uint8_t *code, knn_factors *f, const float *x, const float *c, size_t padded, float *work) {
  uint8_t u[KNN_BLOCK];
  float *r = work;
  for (size_t i = 0; i < padded; i++) r[i] = x[i] - c[i];
  f->along = dot(c, r, padded);
  uint8_t *all = (uint8_t *)(work + padded);
  encode(all, f, r, padded);
  for (size_t b = 0; b < padded; b += KNN_BLOCK) {
    memcpy(u, all + b, KNN_BLOCK);
    for (size_t i = 0; i < KNN_BLOCK / 2; i++) code[b / 2 + i] = (uint8_t)(u[i] | u[i + KNN_BLOCK / 2] << 4);
  }
}

INLINE int body_quantize(int8_t *low, int8_t *high, float *unit, int32_t *sum, const float *y, size_t padded) {
  float most = 0;
  for (size_t i = 0; i < padded; i++) most = fabsf(y[i]) > most ? fabsf(y[i]) : most;
  float scale = most > 0 ? 127 / most : 0;
  int32_t s = 0;
  for (size_t b = 0; b < padded; b += KNN_BLOCK)
    for (size_t i = 0; i < KNN_BLOCK / 2; i++) {
      /* rounded by adding 128.5 and cutting off, which the compiler can do many at a time */
      int32_t l = (int32_t)(y[b + i] * scale + 128.5f) - 128;
      int32_t h = (int32_t)(y[b + i + KNN_BLOCK / 2] * scale + 128.5f) - 128;
      low[b / 2 + i] = (int8_t)l;
      high[b / 2 + i] = (int8_t)h;
      s += l + h;
    }
  *unit = most / 127;
  *sum = s;
  return 0;
}
DISPATCH(int, quantize, (int8_t *low, int8_t *high, float *unit, int32_t *sum, const float *y, size_t padded),
         (low, high, unit, sum, y, padded))

void knn_quantize(knn_query *q, int8_t *room, const float *y, size_t padded) {
  quantize(room, room + padded / 2, &q->unit, &q->sum, y, padded);
  q->low = room;
  q->high = room + padded / 2;
}

static void products_plain(int32_t *out, const uint8_t *codes, size_t n, const knn_query *q, size_t padded) {
  for (size_t r = 0; r < n; r++, codes += padded / 2) {
    int32_t s = 0;
    for (size_t i = 0; i < padded / 2; i++) s += (codes[i] & 15) * q->low[i] + (codes[i] >> 4) * q->high[i];
    out[r] = s;
  }
}

#if defined(__x86_64__)
/* Products of pairs are at most 2 * 15 * 127 = 3,810; four of them fit 16 bits. */
AVX2 static void products_small(int32_t *out, const uint8_t *codes, size_t n, const knn_query *q, size_t padded) {
  const __m256i mask = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);
  for (size_t r = 0; r < n; r++, codes += padded / 2) {
    __m256i s = _mm256_setzero_si256();
    for (size_t i = 0; i < padded / 2; i += 32) {
      __m256i c = _mm256_loadu_si256((const __m256i *)(codes + i));
      __m256i l = _mm256_maddubs_epi16(_mm256_and_si256(c, mask), _mm256_loadu_si256((const __m256i *)(q->low + i)));
      __m256i h = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(c, 4), mask),
                                       _mm256_loadu_si256((const __m256i *)(q->high + i)));
      s = _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_add_epi16(l, h), one));
    }
    __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1));
    out[r] = _mm_cvtsi128_si32(t);
  }
}

VNNI static void products_vnni(int32_t *out, const uint8_t *codes, size_t n, const knn_query *q, size_t padded) {
  const __m512i mask = _mm512_set1_epi8(15);
  size_t bytes = padded / 2, whole = bytes / 64 * 64;
  for (size_t r = 0; r < n; r++, codes += bytes) {
    __m512i s = _mm512_setzero_si512(), t = s;
    for (size_t i = 0; i < whole; i += 64) {
      __m512i c = _mm512_loadu_si512(codes + i);
      s = _mm512_dpbusd_epi32(s, _mm512_and_si512(c, mask), _mm512_loadu_si512(q->low + i));
      t = _mm512_dpbusd_epi32(t, _mm512_and_si512(_mm512_srli_epi16(c, 4), mask), _mm512_loadu_si512(q->high + i));
    }
    if (whole < bytes) { /* one block of 32 bytes is left */
      __m256i c = _mm256_loadu_si256((const __m256i *)(codes + whole)), m = _mm512_castsi512_si256(mask);
      __m256i u = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_and_si256(c, m),
                                      _mm256_loadu_si256((const __m256i *)(q->low + whole)));
      u = _mm256_dpbusd_epi32(u, _mm256_and_si256(_mm256_srli_epi16(c, 4), m),
                              _mm256_loadu_si256((const __m256i *)(q->high + whole)));
      s = _mm512_add_epi32(s, _mm512_zextsi256_si512(u));
    }
    out[r] = _mm512_reduce_add_epi32(_mm512_add_epi32(s, t));
  }
}
#elif defined(__aarch64__)
#include <arm_neon.h>
/* Products of bytes are at most 15 * 127; the pairwise sums go to 32 bits at once. */
static void products_neon(int32_t *out, const uint8_t *codes, size_t n, const knn_query *q, size_t padded) {
  const uint8x16_t mask = vdupq_n_u8(15);
  for (size_t r = 0; r < n; r++, codes += padded / 2) {
    int32x4_t s = vdupq_n_s32(0);
    for (size_t i = 0; i < padded / 2; i += 16) {
      uint8x16_t c = vld1q_u8(codes + i);
      int8x16_t l = vreinterpretq_s8_u8(vandq_u8(c, mask)), h = vreinterpretq_s8_u8(vshrq_n_u8(c, 4));
      int8x16_t ql = vld1q_s8(q->low + i), qh = vld1q_s8(q->high + i);
      int16x8_t p = vmull_s8(vget_low_s8(l), vget_low_s8(ql));
      p = vmlal_s8(p, vget_high_s8(l), vget_high_s8(ql));
      p = vmlal_s8(p, vget_low_s8(h), vget_low_s8(qh));
      p = vmlal_s8(p, vget_high_s8(h), vget_high_s8(qh));
      s = vpadalq_s16(s, p);
    }
    out[r] = vaddvq_s32(s);
  }
}
#endif

void knn_products(int32_t *out, const uint8_t *codes, size_t n, const knn_query *q, size_t padded) {
#if defined(__x86_64__)
  enum level l = level();
  if (l == LARGE_VNNI)
    products_vnni(out, codes, n, q, padded);
  else if (l >= SMALL)
    products_small(out, codes, n, q, padded);
  else
#elif defined(__aarch64__)
  if (!forced_plain)
    products_neon(out, codes, n, q, padded);
  else
#endif
    products_plain(out, codes, n, q, padded);
}
