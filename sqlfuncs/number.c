#include "number.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"

/* A float64 needs at most 767 significant digits to be rounded right; what follows only
 * matters by being zero or not. */
#define MAX_DIGITS 800

static int is_digit(char c) { return c >= '0' && c <= '9'; }

/* decimal returns the float64 nearest to (digits read as a whole number) * 10^exp. */
static double decimal(const char *digits, int n, long long exp) {
  /* Both factors exact, one rounding: right without more ado. */
  if (n <= 15 && exp >= -22 && exp <= 22) {
    static const double pow10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                   1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    uint64_t m = 0;
    for (int i = 0; i < n; i++) m = 10 * m + (uint64_t)(digits[i] - '0');
    return exp < 0 ? (double)m / pow10[-exp] : (double)m * pow10[exp];
  }
  /* A number without a point reads the same under every locale. */
  char buf[MAX_DIGITS + 16];
  if (exp > 99999) exp = 99999;
  if (exp < -99999) exp = -99999;
  memcpy(buf, digits, (size_t)n);
  snprintf(buf + n, sizeof buf - (size_t)n, "e%d", (int)exp);
  return strtod(buf, NULL);
}

/* A decimal_digits is the digits of a number without zeros in front, and the power of ten that
 * they are to be multiplied by. */
typedef struct decimal_digits {
  char digits[MAX_DIGITS];
  int n;
  long long exp;
} decimal_digits;

/* take_digits adds the digits from text + i on to s and returns the offset behind them. */
static size_t take_digits(decimal_digits *s, const char *text, size_t len, size_t i, int fraction) {
  for (; i < len && is_digit(text[i]); i++) {
    s->exp -= fraction;
    if (s->n == 0 && text[i] == '0') continue;
    if (s->n < MAX_DIGITS) {
      s->digits[s->n++] = text[i];
      continue;
    }
    s->exp++;
    if (text[i] != '0') s->digits[MAX_DIGITS - 1] = '1'; /* not zero: enough to round by */
  }
  return i;
}

long vs_scan_number(const char *text, size_t len, double *value) {
  decimal_digits s;
  size_t i = 0;
  s.n = 0, s.exp = 0;

  int negative = len > 0 && text[0] == '-';
  i += (size_t)negative;
  if (i >= len || !is_digit(text[i])) return -(long)(i + 1);
  i = text[i] == '0' ? i + 1 : take_digits(&s, text, len, i, 0);
  if (i < len && text[i] == '.') {
    i++;
    if (i >= len || !is_digit(text[i])) return -(long)(i + 1);
    i = take_digits(&s, text, len, i, 1);
  }
  if (i < len && (text[i] == 'e' || text[i] == 'E')) {
    long long e = 0;
    i++;
    int minus = i < len && text[i] == '-';
    if (i < len && (text[i] == '+' || text[i] == '-')) i++;
    if (i >= len || !is_digit(text[i])) return -(long)(i + 1);
    for (; i < len && is_digit(text[i]); i++)
      if (e < 10000000000LL) e = 10 * e + (text[i] - '0');
    s.exp += minus ? -e : e;
  }
  double x = s.n == 0 ? 0 : decimal(s.digits, s.n, s.exp);
  *value = negative ? -x : x;
  return (long)i;
}

/* layout writes sign, n digits and exponent as JSON; the value is 0.DIGITS * 10^point. */
static int layout(char *out, int negative, const char *digits, int n, int point) {
  char *p = out;
  while (n > 1 && digits[n - 1] == '0') n--;
  if (negative) *p++ = '-';
  if (point > 0 && point <= 17) { /* 12.5, 1200 */
    for (int i = 0; i < point || i < n; i++) {
      if (i == point) *p++ = '.';
      *p++ = i < n ? digits[i] : '0';
    }
  } else if (point <= 0 && point > -5) { /* 0.00125 */
    *p++ = '0', *p++ = '.';
    for (int i = point; i < 0; i++) *p++ = '0';
    memcpy(p, digits, (size_t)n), p += n;
  } else { /* 1.25e-7 */
    *p++ = digits[0];
    if (n > 1) *p++ = '.';
    memcpy(p, digits + 1, (size_t)(n - 1)), p += n - 1;
    p += sprintf(p, "e%d", point - 1);
  }
  *p = 0;
  return (int)(p - out);
}

/* same reports whether x and back are one number of so many bits of mantissa. */
static int same(double x, double back, int bits) {
  switch (bits) {
  case 8: return vs_bf16_bits(x) == vs_bf16_bits(back);
  case 11: return vs_f16_bits(x) == vs_f16_bits(back);
  case 24: return (float)x == (float)back;
  default: return x == back;
  }
}

/* print tries least, least + 1, … most significant digits until the number reads back. */
static int print(char *out, double x, int least, int most, int bits) {
  if (x == 0) return layout(out, 1 / x < 0, "0", 1, 1);
  int len = 0;
  if (fabs(x) < (bits == 53 ? DBL_MIN : FLT_MIN)) least = 1; /* denormals hold fewer digits */
  for (int n = least; n <= most; n++) {
    char buf[48], digits[24];
    int k = 0, i = 0;
    snprintf(buf, sizeof buf, "%.*e", n - 1, fabs(x));
    for (; buf[i] != 'e'; i++) /* the byte or bytes between digits are the locale's point */
      if (is_digit(buf[i])) digits[k++] = buf[i];
    len = layout(out, x < 0, digits, k, atoi(buf + i + 1) + 1);
    double back;
    vs_scan_number(out, (size_t)len, &back);
    if (same(x, back, bits)) break;
  }
  return len;
}

/* 65504 would read back from 65500 too, but whoever sees a whole number takes it for exact. */
static int is_small_whole(float x) { return x == floorf(x) && fabsf(x) < 100000; }

int vs_print_bf16(char out[VS_NUMBER_MAX], float x) {
  return is_small_whole(x) ? vs_print_f32(out, x) : print(out, x, 1, 4, 8);
}

int vs_print_f16(char out[VS_NUMBER_MAX], float x) {
  return is_small_whole(x) ? vs_print_f32(out, x) : print(out, x, 1, 5, 11);
}

int vs_print_f32(char out[VS_NUMBER_MAX], float x) { return print(out, x, 6, 9, 24); }

int vs_print_f64(char out[VS_NUMBER_MAX], double x) { return print(out, x, 15, 17, 53); }
