/* Packed vectors as they come out of SQLite: found, checked and described, not yet computed with.
 *
 * A packed vector is little-endian, elements first. Even length: float32. Odd length: the last
 * byte is the type, see enum vs_tag. Text is a JSON array of numbers. */
#ifndef VS_VECTOR_H
#define VS_VECTOR_H

#include <stddef.h>

#define VS_MAX_DIMS 65536

/* the type byte at the end of a blob of odd length */
enum vs_tag { VS_TAG_F32 = 1, VS_TAG_F64 = 2, VS_TAG_BIT = 3, VS_TAG_Q8 = 4, VS_TAG_F16 = 5, VS_TAG_BF16 = 6 };

/* A vs_error says what is wrong with one vector, as the rest of a sentence that begins with its
 * name: "has 3 elements …". nomem is set instead when there was no memory. */
typedef struct vs_error {
  char text[240];
  int nomem;
} vs_error;

/* A vs_vector is a vector to read. It owns nothing, but see vs_read_text. */
typedef struct vs_vector {
  size_t n;        /* elements */
  const void *f32; /* n float32, or NULL */
  const void *f64; /* n float64, or NULL; text has both, f32 only if all its numbers fit */
  int is_text;     /* read from JSON: float64 beside float64, float32 beside float32 */
  int untagged;    /* a blob of even length; where n differs from the other vector's,
                      it may be n / 2 float64 */
  double norm32;   /* dot(v, v) of f32 by vs_best, or -1 if nobody computed it yet */
} vs_vector;

/* vs_read_blob describes a packed vector in place: v points into blob.
 *
 * Returns 0, or -1 with e filled: no element, a length that is no vector, a type that this
 * build cannot read. Elements and the limit of VS_MAX_DIMS are not checked yet: an untagged
 * blob may turn out to be half as many float64. Allocates nothing. */
int vs_read_blob(vs_vector *v, const void *blob, size_t bytes, vs_error *e);

/* vs_read_text parses JSON text into *memory, which the caller frees with sqlite3_free, and
 * describes it in v. White space is allowed between tokens, as in RFC 8259, and nothing else.
 *
 * Returns 0, or -1 with e filled and *memory NULL. All elements are finite. */
int vs_read_text(vs_vector *v, const char *text, size_t bytes, void **memory, vs_error *e);

/* vs_check_dims returns 0 if v has at most VS_MAX_DIMS elements, or -1 with e filled. */
int vs_check_dims(const vs_vector *v, vs_error *e);

/* vs_check_finite returns 0 if no element is NaN or infinite, or -1 with e naming the first
 * that is. */
int vs_check_finite(const vs_vector *v, vs_error *e);

/* vs_fits_f32 returns 0 if every element is finite as a float32, or -1 with e naming the first
 * that is not. */
int vs_fits_f32(const vs_vector *v, vs_error *e);

/* vs_at returns element i as float64, which holds every float32 exactly. */
double vs_at(const vs_vector *v, size_t i);

#endif
