/* Two vectors, one number. */
#ifndef VS_COMPARE_H
#define VS_COMPARE_H

#include "vector.h"

enum vs_op { VS_COSINE, VS_DOT, VS_L2 };

/* vs_compare computes op over a and b into *result: the cosine of their angle (-1..1, 0 if
 * either is zero), their inner product, or their Euclidean distance.
 *
 * Two float32 vectors are summed in float32 and everything else in float64 (see kernels.h for
 * the error). Sums that leave the safe range of their type are done again in float64, scaled by
 * powers of two, so finite input gives the right result however large or small it is.
 *
 * keeps_a, keeps_b  nonzero if the vector will be compared again: its norm is then stored in it.
 *
 * Returns 0, or -1 with e filled and *wrong naming the vector that it is about: 1, 2, or 0 for
 * both. Errors: different dimensions, too many of them, an element that is not finite, a result
 * beyond float64. Allocates nothing. */
int vs_compare(enum vs_op op, vs_vector *a, vs_vector *b, int keeps_a, int keeps_b, double *result, vs_error *e,
               int *wrong);

#endif
