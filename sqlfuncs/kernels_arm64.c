/* NEON kernels. Every arm64 processor has NEON, so nothing is asked at start-up. The shape is
 * that of kernels_amd64.c: four registers of partial sums, and one loop body for all sums and
 * pairs of types, chosen by constants when it is inlined. Loads go through bytes, which needs no
 * alignment.
 *
 * Go takes the file by its name; the guard is for make extension, which compiles all. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))

enum element { F32, F16, BF16 };
enum sum { DOT, DOT_NORM, L2SQ, L1 };
enum bit_op { BOTH, DIFFER, ONES };

INLINE const unsigned char *byte_at(const void *p, size_t i) { return (const unsigned char *)p + i; }

INLINE float32x4_t widen4(enum element type, uint16x4_t x) {
  if (type == F16) return vcvt_f32_f16(vreinterpret_f16_u16(x));
  return vreinterpretq_f32_u32(vshll_n_u16(x, 16));
}

INLINE float32x4_t load4(enum element type, const void *p, size_t i) {
  if (type == F32) return vreinterpretq_f32_u8(vld1q_u8(byte_at(p, 4 * i)));
  return widen4(type, vreinterpret_u16_u8(vld1_u8(byte_at(p, 2 * i))));
}

INLINE float64x2_t load2(const void *p, size_t i) { return vreinterpretq_f64_u8(vld1q_u8(byte_at(p, 8 * i))); }

/* tail4 reads the r last elements, r < 4, and zeros after them; tail2 the last one. */
INLINE float32x4_t tail4(enum element type, const void *p, size_t i, size_t r) {
  unsigned char x[16] = {0};
  size_t size = type == F32 ? 4 : 2;
  memcpy(x, byte_at(p, size * i), size * r);
  return load4(type, x, 0);
}

INLINE float64x2_t tail2(const void *p, size_t i) {
  unsigned char x[16] = {0};
  memcpy(x, byte_at(p, 8 * i), 8);
  return load2(x, 0);
}

INLINE float sum4(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d) {
  return vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)));
}

INLINE double sum2(float64x2_t a, float64x2_t b, float64x2_t c, float64x2_t d) {
  return vaddvq_f64(vaddq_f64(vaddq_f64(a, b), vaddq_f64(c, d)));
}

INLINE float neon_sum32(enum sum op, enum element ta, enum element tb, const void *a, const void *b, size_t n,
                        float *aa) {
  float32x4_t s0 = vdupq_n_f32(0), s1 = s0, s2 = s0, s3 = s0;
  float32x4_t t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)                                         \
  do {                                                           \
    float32x4_t x_ = (x), y_ = (y);                              \
    if (op == L2SQ || op == L1) x_ = vsubq_f32(x_, y_);          \
    if (op == L2SQ) s = vfmaq_f32(s, x_, x_);                    \
    if (op == L1) s = vaddq_f32(s, vabsq_f32(x_));               \
    if (op == DOT || op == DOT_NORM) s = vfmaq_f32(s, x_, y_);   \
    if (op == DOT_NORM) t = vfmaq_f32(t, x_, x_);                \
  } while (0)
  for (; i + 16 <= n; i += 16) {
    STEP(load4(ta, a, i), load4(tb, b, i), s0, t0);
    STEP(load4(ta, a, i + 4), load4(tb, b, i + 4), s1, t1);
    STEP(load4(ta, a, i + 8), load4(tb, b, i + 8), s2, t2);
    STEP(load4(ta, a, i + 12), load4(tb, b, i + 12), s3, t3);
  }
  for (; i + 4 <= n; i += 4) STEP(load4(ta, a, i), load4(tb, b, i), s0, t0);
  if (i < n) STEP(tail4(ta, a, i, n - i), tail4(tb, b, i, n - i), s1, t1);
#undef STEP
  if (op == DOT_NORM) *aa = sum4(t0, t1, t2, t3);
  return sum4(s0, s1, s2, s3);
}

INLINE double neon_sum64(enum sum op, const void *a, const void *b, size_t n, double *aa) {
  float64x2_t s0 = vdupq_n_f64(0), s1 = s0, s2 = s0, s3 = s0;
  float64x2_t t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  size_t i = 0;
#define STEP(x, y, s, t)                                         \
  do {                                                           \
    float64x2_t x_ = (x), y_ = (y);                              \
    if (op == L2SQ || op == L1) x_ = vsubq_f64(x_, y_);          \
    if (op == L2SQ) s = vfmaq_f64(s, x_, x_);                    \
    if (op == L1) s = vaddq_f64(s, vabsq_f64(x_));               \
    if (op == DOT || op == DOT_NORM) s = vfmaq_f64(s, x_, y_);   \
    if (op == DOT_NORM) t = vfmaq_f64(t, x_, x_);                \
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
  if (op == DOT_NORM) *aa = sum2(t0, t1, t2, t3);
  return sum2(s0, s1, s2, s3);
}

/* Products of two int8 fit 16 bits, and so, without a sign, does the square of a difference. They
 * are added by pairs into 32 bits: a lane takes 65,536 / 16 steps of at most 4 * 255 * 255, which
 * is 2^29.99 and fits. */
INLINE int64_t neon_sum_i8(enum sum op, const void *a, const void *b, size_t n, int64_t *aa) {
  int32x4_t s = vdupq_n_s32(0), t = s;
  uint32x4_t u = vdupq_n_u32(0);
  size_t i = 0;
#define PRODUCTS(acc, x, y)                                                        \
  acc = vpadalq_s16(vpadalq_s16(acc, vmull_s8(vget_low_s8(x), vget_low_s8(y))),    \
                    vmull_s8(vget_high_s8(x), vget_high_s8(y)))
#define STEP(p, q)                                                                                   \
  do {                                                                                               \
    int8x16_t x_ = vreinterpretq_s8_u8(vld1q_u8(p)), y_ = vreinterpretq_s8_u8(vld1q_u8(q));          \
    uint8x16_t d_ = vreinterpretq_u8_s8(vabdq_s8(x_, y_));                                           \
    if (op == L1) u = vpadalq_u16(u, vpaddlq_u8(d_));                                                \
    if (op == L2SQ)                                                                                  \
      u = vpadalq_u16(vpadalq_u16(u, vmull_u8(vget_low_u8(d_), vget_low_u8(d_))),                    \
                      vmull_u8(vget_high_u8(d_), vget_high_u8(d_)));                                 \
    if (op == DOT || op == DOT_NORM) PRODUCTS(s, x_, y_);                                            \
    if (op == DOT_NORM) PRODUCTS(t, x_, x_);                                                         \
  } while (0)
  for (; i + 16 <= n; i += 16) STEP(byte_at(a, i), byte_at(b, i));
  if (i < n) {
    unsigned char x[16] = {0}, y[16] = {0};
    memcpy(x, byte_at(a, i), n - i);
    memcpy(y, byte_at(b, i), n - i);
    STEP(x, y);
  }
#undef STEP
#undef PRODUCTS
  if (op == DOT_NORM) *aa = vaddlvq_s32(t);
  return op == L1 || op == L2SQ ? (int64_t)vaddlvq_u32(u) : vaddlvq_s32(s);
}

INLINE int64_t neon_count(enum bit_op op, const void *a, const void *b, size_t n) {
  uint32x4_t s = vdupq_n_u32(0);
  size_t i = 0, bytes = n / 8;
#define STEP(p, q)                                                                      \
  do {                                                                                  \
    uint8x16_t x_ = vld1q_u8(p), y_ = vld1q_u8(q);                                      \
    x_ = op == BOTH ? vandq_u8(x_, y_) : op == DIFFER ? veorq_u8(x_, y_) : x_;          \
    s = vpadalq_u16(s, vpaddlq_u8(vcntq_u8(x_)));                                       \
  } while (0)
  for (; i + 16 <= bytes; i += 16) STEP(byte_at(a, i), byte_at(b, i));
  if (8 * i < n) { /* the rest, with the bits beyond n cut off */
    unsigned char x[16] = {0}, y[16] = {0};
    memcpy(x, byte_at(a, i), (n + 7) / 8 - i);
    memcpy(y, byte_at(b, i), (n + 7) / 8 - i);
    if (n % 8 != 0) {
      x[bytes - i] &= (unsigned char)((1u << n % 8) - 1);
      y[bytes - i] &= (unsigned char)((1u << n % 8) - 1);
    }
    STEP(x, y);
  }
#undef STEP
  return (int64_t)vaddlvq_u32(s);
}

/* SUMS defines the four sums of one pair of types as body(op, …) inlined. */
#define SUMS(name, T, body, ...)                                                                              \
  static T dot_##name(const void *a, const void *b, size_t n) { return body(DOT, __VA_ARGS__ a, b, n, NULL); } \
  static T dot_norm_##name(const void *a, const void *b, size_t n, T *aa) {                                   \
    return body(DOT_NORM, __VA_ARGS__ a, b, n, aa);                                                           \
  }                                                                                                           \
  static T l2sq_##name(const void *a, const void *b, size_t n) { return body(L2SQ, __VA_ARGS__ a, b, n, NULL); } \
  static T l1_##name(const void *a, const void *b, size_t n) { return body(L1, __VA_ARGS__ a, b, n, NULL); }
#define COMMA ,

SUMS(f32_f32, float, neon_sum32, F32 COMMA F32 COMMA)
SUMS(f16_f32, float, neon_sum32, F16 COMMA F32 COMMA)
SUMS(bf16_f32, float, neon_sum32, BF16 COMMA F32 COMMA)
SUMS(f16_f16, float, neon_sum32, F16 COMMA F16 COMMA)
SUMS(bf16_bf16, float, neon_sum32, BF16 COMMA BF16 COMMA)
SUMS(f64, double, neon_sum64, )
SUMS(i8, int64_t, neon_sum_i8, )

static int64_t both(const void *a, const void *b, size_t n) { return neon_count(BOTH, a, b, n); }
static int64_t differ(const void *a, const void *b, size_t n) { return neon_count(DIFFER, a, b, n); }
static int64_t ones(const void *a, size_t n) { return neon_count(ONES, a, a, n); }

#define LIST(name) {dot_##name, dot_norm_##name, l2sq_##name, l1_##name}

static const vs_kernels neon = {.name = "neon", .lanes32 = 16, .lanes64 = 8,
                                .sums32 = {[VS_F32_F32] = LIST(f32_f32),
                                           [VS_F16_F32] = LIST(f16_f32),
                                           [VS_BF16_F32] = LIST(bf16_f32),
                                           [VS_F16_F16] = LIST(f16_f16),
                                           [VS_BF16_BF16] = LIST(bf16_bf16)},
                                .sums64 = LIST(f64), .sums8 = LIST(i8), .sums1 = {both, differ, ones}};

int vs_machine_kernels(const vs_kernels **list, int max) {
  if (max < 1) return 0;
  list[0] = &neon;
  return 1;
}
#endif
