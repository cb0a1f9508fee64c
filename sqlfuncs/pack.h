/* Packed vectors on their way into SQLite. */
#ifndef VS_PACK_H
#define VS_PACK_H

#include "vector.h"

/* A vs_packed is a blob that is being written: n elements of one type, in memory from
 * sqlite3_malloc64 with room for what ends it. */
typedef struct vs_packed {
  enum vs_type type; /* not VS_TEXT, not VS_Q8 */
  size_t n;
  unsigned char *blob; /* NULL if there was no memory */
} vs_packed;

/* vs_pack_begin allocates a blob of n >= 1 elements that are zero. Returns 0, or -1 with e->nomem
 * set. vs_pack_put writes element i, rounded to the nearest that the type has, ties to even.
 * Returns 0, or -1 with e filled where x is beyond the type: too large, for int8 not whole, for a
 * bit neither 0 nor 1. x is finite. vs_pack_end writes the type byte and what stands before it,
 * and returns the length of the blob. */
int vs_pack_begin(vs_packed *p, enum vs_type type, size_t n, vs_error *e);
int vs_pack_put(vs_packed *p, size_t i, double x, vs_error *e);
size_t vs_pack_end(vs_packed *p);

/* vs_pack writes a finite vector in any type: vs_pack_begin, the elements, vs_pack_end into
 * *bytes. Returns 0, or -1 with e filled and p->blob freed. */
int vs_pack(vs_packed *p, enum vs_type type, const vs_vector *v, size_t *bytes, vs_error *e);

#endif
