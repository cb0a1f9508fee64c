/* Arithmetic over packed vectors: no SQLite, no allocation, no errors.
 *
 * Elements are little-endian and may start at any address (SQLite blobs do). n counts
 * elements, not bytes; n = 0 gives 0. Kernels do not look for NaN or infinity: what they
 * find in the input comes out in the result, which is how callers notice it.
 *
 * To compare two blobs use vs_read_blob (vector.h) and vs_compare (compare.h), which choose a
 * kernel by type and mend what overflows. Call a kernel directly where the type is settled, as
 * in vs_best->sums32[VS_F16_F32].dot(row, query, n). */
#ifndef VS_KERNELS_H
#define VS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packed vectors are little-endian and read in place: a big-endian machine needs its own kernels"
#endif

/* The element types of the two vectors of a float32 sum. A float16 or bfloat16 is widened in
 * registers, exactly; a row against a query is best VS_F16_F32 or VS_BF16_F32, with the query
 * widened once. All these sums are symmetric, so swap the vectors for the other order. */
enum vs_pair { VS_F32_F32, VS_F16_F32, VS_BF16_F32, VS_F16_F16, VS_BF16_BF16, VS_PAIRS };

/* Four sums in float32:
 *
 * dot        the inner product of a and b.
 * dot_norm   the same inner product, bit for bit, and in *aa the inner product of a with
 *            itself; reads a once.
 * l2sq       the sum of the squared differences.
 * l1         the sum of the absolute differences.
 *
 * They are summed in several lanes. With S the sum of the absolute values of the terms, each
 * result is within (n/lanes32 + 16) * 2^-24 * S + n * 2^-149 of the exact sum, as long as
 * S <= FLT_MAX; beyond, it may be infinite or NaN.
 * dot(a, a), dot_norm(a, a) and its *aa are equal bit for bit, also where a is float16 on one
 * side and the same numbers as float32 on the other, so a vector's cosine with itself is
 * exactly 1. */
typedef struct vs_sums32 {
  float (*dot)(const void *a, const void *b, size_t n);
  float (*dot_norm)(const void *a, const void *b, size_t n, float *aa);
  float (*l2sq)(const void *a, const void *b, size_t n);
  float (*l1)(const void *a, const void *b, size_t n);
} vs_sums32;

/* The same for float64, summed in float64: lanes64, 2^-53, 2^-1074 and DBL_MAX. */
typedef struct vs_sums64 {
  double (*dot)(const void *a, const void *b, size_t n);
  double (*dot_norm)(const void *a, const void *b, size_t n, double *aa);
  double (*l2sq)(const void *a, const void *b, size_t n);
  double (*l1)(const void *a, const void *b, size_t n);
} vs_sums64;

/* The same for int8. The results are exact for n <= 65,536, VS_MAX_DIMS: the largest possible,
 * 255 * 255 * 65,536, is below 2^32. */
typedef struct vs_sums8 {
  int64_t (*dot)(const void *a, const void *b, size_t n);
  int64_t (*dot_norm)(const void *a, const void *b, size_t n, int64_t *aa);
  int64_t (*l2sq)(const void *a, const void *b, size_t n);
  int64_t (*l1)(const void *a, const void *b, size_t n);
} vs_sums8;

/* Counts over n bits, the lowest of each byte first. Bits of the last byte beyond n are not
 * looked at, and no byte beyond (n + 7) / 8 is read. Exact.
 *
 * both       how many bits are set in a and b: the inner product of elements 0 and 1.
 * differ     how many differ: hamming, L1 and squared L2 distance.
 * ones       how many are set in a. */
typedef struct vs_sums1 {
  int64_t (*both)(const void *a, const void *b, size_t n);
  int64_t (*differ)(const void *a, const void *b, size_t n);
  int64_t (*ones)(const void *a, size_t n);
} vs_sums1;

/* A vs_kernels is one implementation of all sums. */
typedef struct vs_kernels {
  const char *name; /* "ref", "avx2", "avx512", "avx512-vnni", "avx512-vnni-popcnt", "neon" */
  int lanes32, lanes64; /* independent partial sums */
  vs_sums32 sums32[VS_PAIRS];
  vs_sums64 sums64;
  vs_sums8 sums8;
  vs_sums1 sums1;
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
