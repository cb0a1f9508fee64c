#include "compare.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels.h"

/* Within these bounds a sum of squares or products lost nothing that matters to overflow or
 * underflow: what an element too small to square adds is below 65,536 * 2^-149 = 1e-40. */
#define SAFE32_MIN 1e-30
#define SAFE64_MIN 1e-140
#define SAFE64_MAX 1e140

/* as_f64 reads an untagged blob as float64: half as many elements. */
static vs_vector as_f64(const vs_vector *v) {
  return (vs_vector){.n = v->n / 2, .f64 = v->f32, .norm32 = -1};
}

/* agree makes the dimensions equal, by reading an untagged blob of 8 bytes for each of the
 * other's elements as float64. */
static int agree(vs_vector *a, vs_vector *b, vs_error *e, int *wrong) {
  *wrong = 0;
  if (a->n != b->n) {
    if (a->untagged && a->n == 2 * b->n) {
      *a = as_f64(a);
    } else if (b->untagged && b->n == 2 * a->n) {
      *b = as_f64(b);
    } else {
      snprintf(e->text, sizeof e->text,
               "the first has %zu dimensions, the second %zu; compare vectors that one model made", a->n, b->n);
      return -1;
    }
  }
  *wrong = 1;
  return vs_check_dims(a, e);
}

/* clamp keeps a cosine in its range: rounding may leave it by an ulp. */
static double clamp(double x) { return x > 1 ? 1 : x < -1 ? -1 : x; }

/* exponent returns e with |x| < 2^e for all elements x, or 0 where no scaling is needed: squares
 * and their sums, and products of two such sums, are then far from both ends of float64. */
static int exponent(const vs_vector *v, int *zero) {
  double max = 0;
  int e = 0;
  for (size_t i = 0; i < v->n; i++) {
    double x = fabs(vs_at(v, i));
    if (x > max) max = x;
  }
  *zero = max == 0;
  frexp(max, &e);
  return e > -200 && e < 200 ? 0 : e;
}

static double scaled(const vs_vector *v, size_t i, int e) {
  double x = vs_at(v, i);
  return e == 0 ? x : ldexp(x, -e);
}

/* carefully is vs_compare for any finite input, one element at a time. */
static int carefully(enum vs_op op, const vs_vector *a, const vs_vector *b, double *result, vs_error *e, int *wrong) {
  *wrong = 1;
  if (vs_check_finite(a, e) != 0) return -1;
  *wrong = 2;
  if (vs_check_finite(b, e) != 0) return -1;
  *wrong = 0;

  int zero_a, zero_b;
  int ea = exponent(a, &zero_a), eb = exponent(b, &zero_b);
  if (op == VS_L2) {
    /* If a difference overflows, so does the result. Scale by the largest one, which may be
     * much smaller than the elements. */
    int ed = 0;
    double max = 0, sum = 0;
    for (size_t i = 0; i < a->n; i++) max = fmax(max, fabs(vs_at(a, i) - vs_at(b, i)));
    frexp(max, &ed);
    for (size_t i = 0; i < a->n; i++) {
      double d = ldexp(vs_at(a, i) - vs_at(b, i), -ed);
      sum += d * d;
    }
    *result = ldexp(sqrt(sum), ed);
  } else if (zero_a || zero_b) {
    *result = 0;
  } else {
    double dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < a->n; i++) {
      double x = scaled(a, i, ea), y = scaled(b, i, eb);
      dot += x * y;
      aa += x * x;
      bb += y * y;
    }
    *result = op == VS_COSINE ? clamp(dot / sqrt(aa * bb)) : ldexp(dot, ea + eb);
  }
  if (!isfinite(*result)) {
    snprintf(e->text, sizeof e->text, "the result is beyond the range of a float64; scale the vectors down");
    return -1;
  }
  return 0;
}

/* compare32 sets *result from float32 sums. Returns 1 if they cannot be trusted. */
static int compare32(enum vs_op op, vs_vector *a, vs_vector *b, int keeps_a, int keeps_b, double *result) {
  const vs_kernels *k = vs_best;
  size_t n = a->n;
  if (op == VS_L2) {
    double s = k->l2sq_f32(a->f32, b->f32, n);
    *result = sqrt(s);
    return !(s >= SAFE32_MIN && s <= FLT_MAX);
  }
  if (op == VS_DOT) {
    *result = k->dot_f32(a->f32, b->f32, n);
    return !(fabs(*result) >= SAFE32_MIN && fabs(*result) <= FLT_MAX);
  }
  if (keeps_a && !keeps_b) { /* the one that is kept goes second: its norm is known */
    vs_vector *t = a;
    a = b, b = t;
    keeps_b = 1;
  }
  float aa;
  double dot = k->dot_norm_f32(a->f32, b->f32, n, &aa), bb = b->norm32;
  if (bb < 0) {
    bb = k->dot_f32(b->f32, b->f32, n);
    if (keeps_b) b->norm32 = bb;
  }
  *result = clamp(dot / sqrt((double)aa * bb));
  return !(aa >= SAFE32_MIN && aa <= FLT_MAX && bb >= SAFE32_MIN && bb <= FLT_MAX && fabs(dot) <= FLT_MAX);
}

/* CHUNK elements are widened at a time where a float32 vector meets a float64 one. */
#define CHUNK 256

/* piece returns CHUNK or fewer elements from i on as float64, in place or widened into room. */
static const void *piece(const vs_vector *v, int wide, size_t i, size_t n, double *room) {
  if (wide) return (const char *)v->f64 + 8 * i;
  const char *p = (const char *)v->f32 + 4 * i;
  for (size_t j = 0; j < n; j++) {
    float x;
    memcpy(&x, p + 4 * j, 4);
    room[j] = x;
  }
  return room;
}

/* compare64 sets *result from float64 sums. Returns 1 if they cannot be trusted. */
static int compare64(enum vs_op op, vs_vector *a, vs_vector *b, double *result) {
  const vs_kernels *k = vs_best;
  double room_a[CHUNK], room_b[CHUNK];
  double s = 0, aa = 0, bb = 0;
  int wide_a = a->f64 != NULL, wide_b = b->f64 != NULL;
  /* in one go where both are float64 already */
  size_t step = wide_a && wide_b ? a->n : CHUNK;
  for (size_t i = 0; i < a->n; i += step) {
    size_t n = a->n - i < step ? a->n - i : step;
    const void *x = piece(a, wide_a, i, n, room_a), *y = piece(b, wide_b, i, n, room_b);
    switch (op) {
    case VS_L2:
      s += k->l2sq_f64(x, y, n);
      break;
    case VS_DOT:
      s += k->dot_f64(x, y, n);
      break;
    case VS_COSINE: {
      double part;
      s += k->dot_norm_f64(x, y, n, &part);
      aa += part;
      bb += k->dot_f64(y, y, n);
    }
    }
  }
  if (op == VS_COSINE) {
    *result = clamp(s / sqrt(aa * bb));
    return !(aa >= SAFE64_MIN && aa <= SAFE64_MAX && bb >= SAFE64_MIN && bb <= SAFE64_MAX);
  }
  *result = op == VS_L2 ? sqrt(s) : s;
  return !(fabs(s) >= SAFE64_MIN && fabs(s) <= DBL_MAX);
}

int vs_compare(enum vs_op op, vs_vector *a, vs_vector *b, int keeps_a, int keeps_b, double *result, vs_error *e,
               int *wrong) {
  vs_vector va, vb; /* as read for this comparison alone */
  if (a->n != b->n || a->n > VS_MAX_DIMS) {
    va = *a, vb = *b;
    a = &va, b = &vb;
    keeps_a = keeps_b = 0;
    if (agree(a, b, e, wrong) != 0) return -1;
  }
  /* Text is float32 beside float32, if its numbers fit. */
  int narrow = a->f32 != NULL && b->f32 != NULL && !(a->is_text && b->is_text);
  int again = narrow ? compare32(op, a, b, keeps_a, keeps_b, result) : compare64(op, a, b, result);
  if (!again) return 0;
  return carefully(op, a, b, result, e, wrong);
}
