/* Two vectors, one number. */
#ifndef VS_COMPARE_H
#define VS_COMPARE_H

#include "vector.h"

enum vs_op { VS_COSINE, VS_DOT, VS_L2, VS_L1, VS_HAMMING };

/* vs_compare computes op over a and b into *result: the cosine of their angle (-1..1, 0 if
 * either is zero), their inner product, their Euclidean or their Manhattan distance, or how many
 * of their bits differ.
 *
 * Floats of any types are compared with each other, int8 with int8 and bits with bits; text is
 * what the other is. VS_HAMMING takes bits only. Two vectors of float32, float16 or bfloat16, of
 * one type or one of them float32, are summed in float32, other floats in float64 (see kernels.h
 * for the error). Sums that leave the safe range of their type are done again in float64, scaled
 * by powers of two, so finite input gives the right result however large or small it is. Sums of
 * int8 and bits are exact.
 *
 * keeps_a, keeps_b  nonzero if the vector will be compared again: its norm is then stored in it.
 *
 * Returns 0, or -1 with e filled and *wrong naming the vector that it is about: 1, 2, or 0 for
 * both. Errors: different dimensions, too many of them, types that do not go together, an element
 * that is not finite, a result beyond float64. Allocates nothing. */
int vs_compare(enum vs_op op, vs_vector *a, vs_vector *b, int keeps_a, int keeps_b, double *result, vs_error *e,
               int *wrong);

/* vs_agree makes the dimensions of a and b equal, by reading an untagged blob of 8 bytes for each
 * of the other's elements as float64. Returns and errors as vs_compare. */
int vs_agree(vs_vector *a, vs_vector *b, vs_error *e, int *wrong);

#endif
