/* Packed vectors as they come out of SQLite: found, checked and described, not yet computed with.
 * FORMAT.md has their layout to the byte. Text is a JSON array of numbers.
 *
 * To compare two blobs (compare.h has vs_compare):
 *
 *   vs_vector row, query;
 *   vs_error e = {.nomem = 0};
 *   int wrong;                                       which of the two an error is about
 *   double distance;
 *   if (vs_read_blob(&query, q, q_bytes, &e) != 0) …  once
 *   if (vs_read_blob(&row, r, r_bytes, &e) != 0 ||    for each row, in place, no allocation
 *       vs_compare(VS_L2, &row, &query, 0, 1, &distance, &e, &wrong) != 0) …
 *
 * The query keeps its norm from call to call (keeps_b = 1). vs_widen makes a query of 16-bit
 * floats as fast as one of float32. */
#ifndef VS_VECTOR_H
#define VS_VECTOR_H

#include <stddef.h>
#include <stdint.h>

#define VS_MAX_DIMS 65536

/* vs_next_line returns the start of a cache line at or after p, less than VS_LINE bytes on. Every
 * row is compared with the query, so the query's registers should not straddle lines: at a bad
 * address a scan of 100k x 384 takes 2 ms more. */
#define VS_LINE 64
static inline void *vs_next_line(void *p) { return (char *)p + (VS_LINE - (uintptr_t)p % VS_LINE) % VS_LINE; }

/* What elements are. The number is the type byte at the end of a blob of odd length. */
enum vs_type {
  VS_TEXT = 0, /* not packed: each element is what the other vector's are */
  VS_F32 = 1,
  VS_F64 = 2,
  VS_BIT = 3,  /* elements 0 and 1 */
  VS_Q8 = 4,   /* libSQL's 8-bit: scale * byte + shift; read, not written */
  VS_F16 = 5,
  VS_BF16 = 6,
  VS_INT8 = 16 /* and 17 where a zero byte stands before the type byte */
};

/* A vs_error says what is wrong with one vector, as the rest of a sentence that begins with its
 * name: "has 3 elements …". nomem is set instead when there was no memory. */
typedef struct vs_error {
  char text[320];
  int nomem;
} vs_error;

/* vs_fail fills e->text and returns -1. */
__attribute__((format(printf, 2, 3))) int vs_fail(vs_error *e, const char *format, ...);

/* A vs_vector is a vector to read. It owns nothing, but see vs_read_text. Its elements are
 * there in one or more forms: a blob in its own, 16-bit floats after vs_widen in float32 too,
 * text in every form that holds all its numbers. */
typedef struct vs_vector {
  size_t n;          /* elements */
  enum vs_type type;
  int untagged;      /* a blob of even length: float32, but where n differs from the other
                        vector's, it may be n / 2 float64 */
  const void *data;  /* the elements as they lie in the blob; NULL for text */
  const void *f32;   /* n float32, or NULL */
  const void *f64;   /* n float64, or NULL */
  const void *i8;    /* n int8, or NULL */
  const void *bits;  /* n bits, or NULL */
  float scale, shift; /* of VS_Q8 */
  double norm32;     /* dot(v, v) of f32 by vs_best, or -1 if nobody computed it yet */
  double norm8;      /* dot(v, v) of i8 or bits, or -1 */
} vs_vector;

/* vs_read_blob describes a packed vector in place: v points into blob.
 *
 * Returns 0, or -1 with e filled: no element, a length that is no vector, an unknown type.
 * Elements and the limit of VS_MAX_DIMS are not checked yet: an untagged blob may turn out to
 * be half as many float64. Allocates nothing. */
int vs_read_blob(vs_vector *v, const void *blob, size_t bytes, vs_error *e);

/* vs_read_raw is vs_read_blob, but a blob of even length, or of one byte, is raw elements of
 * type VS_INT8 or VS_BIT, eight bits a byte: what sqlite-vec takes for vec_int8 and vec_bit. */
int vs_read_raw(vs_vector *v, enum vs_type type, const void *blob, size_t bytes, vs_error *e);

/* vs_read_text parses JSON text into *memory, which the caller frees with sqlite3_free, and
 * describes it in v. White space is allowed between tokens, as in RFC 8259, and nothing else.
 *
 * Returns 0, or -1 with e filled and *memory NULL. All elements are finite. */
int vs_read_text(vs_vector *v, const char *text, size_t bytes, void **memory, vs_error *e);

/* vs_widen gives 16-bit floats their float32 form in room, and VS_Q8 its float64 form; other
 * types stay as they are. room takes vs_widen_bytes(v), 0 if none is needed, lives as long as
 * v and is aligned to 8. v must have passed vs_check_dims. */
size_t vs_widen_bytes(const vs_vector *v);
void vs_widen(vs_vector *v, void *room);

/* vs_check_dims returns 0 if v has at most VS_MAX_DIMS elements, or -1 with e filled. */
int vs_check_dims(const vs_vector *v, vs_error *e);

/* vs_check_finite returns 0 if no element is NaN or infinite, or -1 with e naming the first
 * that is. */
int vs_check_finite(const vs_vector *v, vs_error *e);

/* vs_at returns element i as float64, which holds every element exactly (of VS_Q8, correctly
 * rounded). */
double vs_at(const vs_vector *v, size_t i);

/* vs_type_name returns what vec_type says: "float32", …; text counts as float32. */
const char *vs_type_name(enum vs_type type);

#endif
