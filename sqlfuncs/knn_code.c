#include "knn_code.h"

#include <math.h>
#include <string.h>

#include "knn_machine.h"

int knn_forced_plain;

void knn_use_plain(int plain) { knn_forced_plain = plain; }

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
  if (!knn_forced_plain)
    products_neon(out, codes, n, q, padded);
  else
#endif
    products_plain(out, codes, n, q, padded);
}
