/* float16 (IEEE 754 binary16) and bfloat16 (the upper half of a float32), one number at a time. */
#ifndef VS_HALF_H
#define VS_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* vs_f16_value and vs_bf16_value return the number that 16 bits stand for, exactly; NaN and
 * infinity too. */
static inline float vs_f16_value(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, exp = (half >> 10) & 31, mantissa = half & 0x3ff, bits;
  float x;
  if (exp == 0) { /* zero and denormals */
    x = (float)mantissa * 0x1p-24f;
    memcpy(&bits, &x, 4);
  } else {
    bits = (exp == 31 ? 0x7f800000u : (exp + 112) << 23) | mantissa << 13;
  }
  bits |= sign;
  memcpy(&x, &bits, 4);
  return x;
}

static inline float vs_bf16_value(uint16_t half) {
  uint32_t bits = (uint32_t)half << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

/* vs_half returns the 16 bits nearest to a finite x, ties to even, rounded once; the bits of
 * infinity where x is beyond the range. mantissa is 10 for float16 and 7 for bfloat16. */
static inline uint16_t vs_half(double x, int mantissa) {
  int bias = (1 << (14 - mantissa)) - 1, exp;
  uint32_t sign = signbit(x) ? 0x8000 : 0, infinity = (uint32_t)(2 * bias + 1) << mantissa;
  x = fabs(x);
  frexp(x, &exp);
  if (--exp < 1 - bias || x == 0) exp = 1 - bias; /* denormals share the smallest exponent */
  if (exp > bias) return (uint16_t)(sign | infinity);
  uint32_t units = (uint32_t)rint(ldexp(x, mantissa - exp));
  uint32_t bits = ((uint32_t)(exp + bias - 1) << mantissa) + units; /* a carry raises the exponent */
  return (uint16_t)(sign | (bits < infinity ? bits : infinity));
}

static inline uint16_t vs_f16_bits(double x) { return vs_half(x, 10); }
static inline uint16_t vs_bf16_bits(double x) { return vs_half(x, 7); }

#endif
