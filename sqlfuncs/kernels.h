/* Arithmetic over packed vectors: no SQLite, no allocation, no errors.
 *
 * Elements are little-endian and may start at any address (SQLite blobs do). n counts
 * elements, not bytes; n = 0 gives 0. Kernels do not look for NaN or infinity: what they
 * find in the input comes out in the result, which is how callers notice it. */
#ifndef VS_KERNELS_H
#define VS_KERNELS_H

#include <stddef.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packed vectors are little-endian and read in place: a big-endian machine needs its own kernels"
#endif

/* A vs_kernels is one implementation of the six sums.
 *
 * dot        the inner product of a and b.
 * dot_norm   the same inner product, bit for bit, and in *aa the inner product of a with
 *            itself; reads a once.
 * l2sq       the sum of the squared differences.
 *
 * A float32 kernel sums in float32 in several lanes. With S the sum of the absolute values
 * of the terms, each result is within (n/lanes + 16) * 2^-24 * S + n * 2^-149 of the exact
 * sum, as long as S <= FLT_MAX; beyond, it may be infinite or NaN. float64 kernels are the
 * same with 2^-53, 2^-1074 and DBL_MAX. lanes is lanes32 or lanes64.
 * dot(a, a), dot_norm(a, a) and its *aa are equal bit for bit, so a vector's
 * cosine with itself is exactly 1. */
typedef struct vs_kernels {
  const char *name; /* "ref", "avx2", "avx512", "neon" */
  int lanes32, lanes64; /* independent partial sums */
  float (*dot_f32)(const void *a, const void *b, size_t n);
  float (*dot_norm_f32)(const void *a, const void *b, size_t n, float *aa);
  float (*l2sq_f32)(const void *a, const void *b, size_t n);
  double (*dot_f64)(const void *a, const void *b, size_t n);
  double (*dot_norm_f64)(const void *a, const void *b, size_t n, double *aa);
  double (*l2sq_f64)(const void *a, const void *b, size_t n);
} vs_kernels;

/* vs_best is what the SQL functions use. It is vs_ref until vs_choose_kernels has run. */
extern const vs_kernels *vs_best;

/* vs_ref is plain C, one sum after the other; the others are tested against it. */
extern const vs_kernels vs_ref;

/* vs_choose_kernels sets vs_best to the fastest implementation that this processor and its
 * operating system can run. Call it once, before any other thread uses vs_best. */
void vs_choose_kernels(void);

/* vs_kernels_at returns the i-th implementation that this machine can run, counting from 0
 * in order of rising speed, or NULL past the last. vs_ref is the first. */
const vs_kernels *vs_kernels_at(int i);

/* vs_machine_kernels fills list with what this processor can run beyond vs_ref, slowest
 * first, at most max, and returns how many. One file per architecture defines it. */
int vs_machine_kernels(const vs_kernels **list, int max);

#endif
