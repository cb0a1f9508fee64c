#include "compare.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

/* Within these bounds a sum of squares or products lost nothing that matters to overflow or
 * underflow: what an element too small to square adds is below 65,536 * 2^-149 = 1e-40. */
#define SAFE32_MIN 1e-30
#define SAFE64_MIN 1e-140
#define SAFE64_MAX 1e140

/* Which types go together; text goes with each of them. */
enum kind { ANY, FLOAT, WHOLE, BITS };

static enum kind kind_of(const vs_vector *v) {
  return v->type == VS_TEXT ? ANY : v->type == VS_INT8 ? WHOLE : v->type == VS_BIT ? BITS : FLOAT;
}

/* as_f64 reads an untagged blob as float64: half as many elements. */
static vs_vector as_f64(const vs_vector *v) {
  return (vs_vector){.n = v->n / 2, .type = VS_F64, .data = v->data, .f64 = v->data, .norm32 = -1, .norm8 = -1};
}

int vs_agree(vs_vector *a, vs_vector *b, vs_error *e, int *wrong) {
  *wrong = 0;
  if (kind_of(a) != kind_of(b) && kind_of(a) != ANY && kind_of(b) != ANY)
    return vs_fail(e, "the first is %s, the second %s; floats go with floats, int8 with int8 and bits with bits: convert "
                      "one of them", vs_type_name(a->type), vs_type_name(b->type));
  if (a->n != b->n) {
    if (a->untagged && a->n == 2 * b->n) {
      *a = as_f64(a);
    } else if (b->untagged && b->n == 2 * a->n) {
      *b = as_f64(b);
    } else {
      return vs_fail(e, "the first has %zu dimensions, the second %zu; compare vectors that one model made", a->n, b->n);
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

/* carefully is vs_compare of floats for any finite input, one element at a time. */
static int carefully(enum vs_op op, const vs_vector *a, const vs_vector *b, double *result, vs_error *e, int *wrong) {
  *wrong = 1;
  if (vs_check_finite(a, e) != 0) return -1;
  *wrong = 2;
  if (vs_check_finite(b, e) != 0) return -1;
  *wrong = 0;

  int zero_a, zero_b;
  int ea = exponent(a, &zero_a), eb = exponent(b, &zero_b);
  if (op == VS_L2 || op == VS_L1) {
    /* If a difference overflows, so does the result. Scale by the largest one, which may be
     * much smaller than the elements. */
    int ed = 0;
    double max = 0, sum = 0;
    for (size_t i = 0; i < a->n; i++) max = fmax(max, fabs(vs_at(a, i) - vs_at(b, i)));
    frexp(max, &ed);
    for (size_t i = 0; i < a->n; i++) {
      double d = ldexp(fabs(vs_at(a, i) - vs_at(b, i)), -ed);
      sum += op == VS_L2 ? d * d : d;
    }
    *result = ldexp(op == VS_L2 ? sqrt(sum) : sum, ed);
  } else if (zero_a || zero_b) {
    *result = 0;
  } else {
    double dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < a->n; i++) {
      double x = scaled(a, i, ea), y = scaled(b, i, eb);
      /* Rounded before it is added, or products that should cancel to 0 leave their rounding error:
       * on arm64 compilers fuse x * y + dot. */
      volatile double product = x * y;
      dot += product;
      aa += x * x;
      bb += y * y;
    }
    *result = op == VS_COSINE ? clamp(dot / sqrt(aa * bb)) : ldexp(dot, ea + eb);
  }
  if (!isfinite(*result)) return vs_fail(e, "the result is beyond the range of a float64; scale the vectors down");
  return 0;
}

static void swap(vs_vector **a, vs_vector **b, int *keeps_a, int *keeps_b) {
  vs_vector *v = *a;
  int keeps = *keeps_a;
  *a = *b, *b = v;
  *keeps_a = *keeps_b, *keeps_b = keeps;
}

static int is_half(const vs_vector *v) { return v->type == VS_F16 || v->type == VS_BF16; }

/* pair returns the float32 sums for a and b, or -1 where float64 is needed. With *swapped set,
 * it is for b and a. */
static int pair(const vs_vector *a, const vs_vector *b, int *swapped) {
  *swapped = 0;
  if (a->f32 != NULL && b->f32 != NULL) return a->type == VS_TEXT && b->type == VS_TEXT ? -1 : VS_F32_F32;
  if (b->f32 != NULL && is_half(a)) return a->type == VS_F16 ? VS_F16_F32 : VS_BF16_F32;
  if (a->f32 != NULL && is_half(b)) {
    *swapped = 1;
    return b->type == VS_F16 ? VS_F16_F32 : VS_BF16_F32;
  }
  if (is_half(a) && a->type == b->type) return a->type == VS_F16 ? VS_F16_F16 : VS_BF16_BF16;
  return -1;
}

/* compare32 sets *result from float32 sums. Returns 1 if they cannot be trusted. Inlined, because
 * a scan of float32 rows calls it with a constant pair. */
static inline __attribute__((always_inline)) int compare32(enum vs_op op, int pair, vs_vector *a, vs_vector *b, int keeps_a, int keeps_b, double *result) {
  const vs_sums32 *sums = &vs_best->sums32[pair];
  int same = pair == VS_F32_F32 || pair == VS_F16_F16 || pair == VS_BF16_BF16;
  if (op == VS_COSINE && same && keeps_a && !keeps_b) swap(&a, &b, &keeps_a, &keeps_b); /* its norm is known */

  const void *x = pair == VS_F32_F32 ? a->f32 : a->data;
  const void *y = pair == VS_F16_F16 || pair == VS_BF16_BF16 ? b->data : b->f32;
  size_t n = a->n;
  if (op == VS_L2) {
    double s = sums->l2sq(x, y, n);
    *result = sqrt(s);
    return !(s >= SAFE32_MIN && s <= FLT_MAX);
  }
  if (op == VS_L1) {
    *result = sums->l1(x, y, n);
    return !(*result <= FLT_MAX);
  }
  if (op == VS_DOT) {
    *result = sums->dot(x, y, n);
    return !(fabs(*result) >= SAFE32_MIN && fabs(*result) <= FLT_MAX);
  }
  float aa;
  double dot = sums->dot_norm(x, y, n, &aa), bb = b->norm32;
  if (bb < 0) {
    bb = vs_best->sums32[same ? pair : VS_F32_F32].dot(y, y, n);
    if (keeps_b) b->norm32 = bb;
  }
  *result = clamp(dot / sqrt((double)aa * bb));
  return !(aa >= SAFE32_MIN && aa <= FLT_MAX && bb >= SAFE32_MIN && bb <= FLT_MAX && fabs(dot) <= FLT_MAX);
}

/* CHUNK elements are widened at a time where a vector that is no float64 meets one. */
#define CHUNK 256

/* piece returns CHUNK or fewer elements from i on as float64, in place or widened into room. */
static const void *piece(const vs_vector *v, size_t i, size_t n, double *room) {
  if (v->f64 != NULL) return (const char *)v->f64 + 8 * i;
  if (v->f32 != NULL) {
    const char *p = (const char *)v->f32 + 4 * i;
    for (size_t j = 0; j < n; j++) {
      float x;
      memcpy(&x, p + 4 * j, 4);
      room[j] = x;
    }
  } else {
    for (size_t j = 0; j < n; j++) room[j] = vs_at(v, i + j);
  }
  return room;
}

/* compare64 sets *result from float64 sums. Returns 1 if they cannot be trusted. */
static int compare64(enum vs_op op, vs_vector *a, vs_vector *b, double *result) {
  const vs_sums64 *sums = &vs_best->sums64;
  double room_a[CHUNK], room_b[CHUNK];
  double s = 0, aa = 0, bb = 0;
  /* in one go where both are float64 already */
  size_t step = a->f64 != NULL && b->f64 != NULL ? a->n : CHUNK;
  for (size_t i = 0; i < a->n; i += step) {
    size_t n = a->n - i < step ? a->n - i : step;
    const void *x = piece(a, i, n, room_a), *y = piece(b, i, n, room_b);
    double part;
    switch (op) {
    case VS_L2: s += sums->l2sq(x, y, n); break;
    case VS_L1: s += sums->l1(x, y, n); break;
    case VS_DOT: s += sums->dot(x, y, n); break;
    default:
      s += sums->dot_norm(x, y, n, &part);
      aa += part;
      bb += sums->dot(y, y, n);
    }
  }
  if (op == VS_COSINE) {
    *result = clamp(s / sqrt(aa * bb));
    return !(aa >= SAFE64_MIN && aa <= SAFE64_MAX && bb >= SAFE64_MIN && bb <= SAFE64_MAX);
  }
  *result = op == VS_L2 ? sqrt(s) : s;
  return !((op == VS_L1 || fabs(s) >= SAFE64_MIN) && fabs(s) <= DBL_MAX);
}

/* compare_exact sets *result where all sums are whole numbers: int8 or bits. */
static void compare_exact(enum vs_op op, vs_vector *a, vs_vector *b, int bits, int keeps_a, int keeps_b,
                          double *result) {
  const vs_sums8 *s8 = &vs_best->sums8;
  const vs_sums1 *s1 = &vs_best->sums1;
  size_t n = a->n;
  if (op != VS_COSINE) {
    const void *x = bits ? a->bits : a->i8, *y = bits ? b->bits : b->i8;
    int64_t s = op == VS_DOT ? (bits ? s1->both : s8->dot)(x, y, n)
                : op == VS_L2 ? (bits ? s1->differ : s8->l2sq)(x, y, n)
                              : (bits ? s1->differ : s8->l1)(x, y, n);
    *result = op == VS_L2 ? sqrt((double)s) : (double)s;
    return;
  }
  if (keeps_a && !keeps_b) swap(&a, &b, &keeps_a, &keeps_b);
  int64_t dot, aa;
  double bb = b->norm8;
  if (bits) {
    dot = s1->both(a->bits, b->bits, n);
    aa = s1->ones(a->bits, n);
    if (bb < 0) bb = (double)s1->ones(b->bits, n);
  } else {
    dot = s8->dot_norm(a->i8, b->i8, n, &aa);
    if (bb < 0) bb = (double)s8->dot(b->i8, b->i8, n);
  }
  if (keeps_b) b->norm8 = bb;
  *result = aa == 0 || bb == 0 ? 0 : clamp((double)dot / sqrt((double)aa * bb));
}

/* exact compares int8 or bits. Only text may lack the form. */
static int exact(enum vs_op op, int bits, vs_vector *a, vs_vector *b, int keeps_a, int keeps_b, double *result,
                 vs_error *e, int *wrong) {
  const vs_vector *both[] = {a, b};
  for (int i = 0; i < 2; i++) {
    if ((bits ? both[i]->bits : both[i]->i8) != NULL) continue;
    *wrong = i + 1;
    return vs_fail(e, bits ? "has an element that is neither 0 nor 1, beside a vector of bits"
                           : "has an element that is no whole number from -128 to 127, beside a vector of int8");
  }
  compare_exact(op, a, b, bits, keeps_a, keeps_b, result);
  return 0;
}

int vs_compare(enum vs_op op, vs_vector *a, vs_vector *b, int keeps_a, int keeps_b, double *result, vs_error *e,
               int *wrong) {
  if (a->type == VS_F32 && b->type == VS_F32 && a->n == b->n && a->n <= VS_MAX_DIMS && op != VS_HAMMING) {
    if (!compare32(op, VS_F32_F32, a, b, keeps_a, keeps_b, result)) return 0; /* nearly every row of nearly every scan */
    return carefully(op, a, b, result, e, wrong);
  }
  vs_vector va, vb; /* as read for this comparison alone */
  if (op == VS_HAMMING) {
    const vs_vector *both[] = {a, b};
    for (int i = 0; i < 2; i++) {
      *wrong = i + 1;
      if (kind_of(both[i]) == FLOAT || kind_of(both[i]) == WHOLE)
        return vs_fail(e, "is %s; a Hamming distance is between bits, which vec_quantize_binary makes of any vector",
                       vs_type_name(both[i]->type));
    }
  }
  enum kind kind = kind_of(a) == ANY ? kind_of(b) : kind_of(a);
  if (a->n != b->n || a->n > VS_MAX_DIMS || (kind != kind_of(b) && kind_of(b) != ANY)) {
    va = *a, vb = *b;
    a = &va, b = &vb;
    keeps_a = keeps_b = 0;
    if (vs_agree(a, b, e, wrong) != 0) return -1;
  }
  if (op == VS_HAMMING || kind == WHOLE || kind == BITS)
    return exact(op, op == VS_HAMMING || kind == BITS, a, b, keeps_a, keeps_b, result, e, wrong);

  int swapped, again, which = pair(a, b, &swapped);
  if (which < 0)
    again = compare64(op, a, b, result);
  else if (swapped)
    again = compare32(op, which, b, a, keeps_b, keeps_a, result);
  else
    again = compare32(op, which, a, b, keeps_a, keeps_b, result);
  if (!again) return 0;
  return carefully(op, a, b, result, e, wrong);
}
