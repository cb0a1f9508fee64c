#include "vector.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "number.h"
#include "sqlite_api.h"

/* fail fills e and returns -1. */
__attribute__((format(printf, 2, 3))) static int fail(vs_error *e, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(e->text, sizeof e->text, format, args);
  va_end(args);
  return -1;
}

int vs_read_blob(vs_vector *v, const void *blob, size_t bytes, vs_error *e) {
  static const char *const later[] = {
      [VS_TAG_BIT] = "1-bit", [VS_TAG_Q8] = "8-bit", [VS_TAG_F16] = "float16", [VS_TAG_BF16] = "bfloat16"};

  *v = (vs_vector){.norm32 = -1};
  if (bytes == 0) return fail(e, "is an empty blob; a vector has at least one element");
  if (bytes % 2 == 0) {
    if (bytes % 4 != 0)
      return fail(e, "is a blob of %zu bytes; a float32 vector takes a multiple of 4, other types one more byte "
                     "that names the type: write vectors with vec_f32 or vec_f64", bytes);
    v->n = bytes / 4;
    v->f32 = blob;
    v->untagged = 1;
    return 0;
  }
  int tag = ((const unsigned char *)blob)[bytes - 1];
  size_t size = tag == VS_TAG_F32 ? 4 : 8;
  switch (tag) {
  case VS_TAG_F32:
  case VS_TAG_F64:
    if (bytes == 1) return fail(e, "has no elements before its type byte; a vector has at least one");
    if ((bytes - 1) % size != 0)
      return fail(e, "is a blob of %zu bytes with type byte %d (%s); it takes a multiple of %zu and the type byte",
                  bytes, tag, tag == VS_TAG_F32 ? "float32" : "float64", size);
    v->n = (bytes - 1) / size;
    *(tag == VS_TAG_F32 ? &v->f32 : &v->f64) = blob;
    return 0;
  case VS_TAG_BIT:
  case VS_TAG_Q8:
  case VS_TAG_F16:
  case VS_TAG_BF16:
    return fail(e, "has type byte %d (%s), which is not supported yet by this build; store it with vec_f32 or vec_f64",
                tag, later[tag]);
  }
  return fail(e, "is a blob of %zu bytes with the unknown type byte %d; an odd length ends with 1 (float32) or 2 "
                 "(float64), an even one is float32", bytes, tag);
}

static int is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* unexpected reports the byte at offset i. Everything before it is ASCII, so that its number
 * counts characters as well as bytes. */
static int unexpected(vs_error *e, const char *text, size_t bytes, size_t i, const char *want) {
  if (i >= bytes)
    return fail(e, "is not a JSON array of numbers: the text ends after character %zu, where %s should follow", bytes,
                want);
  unsigned char c = (unsigned char)text[i];
  char name[8];
  snprintf(name, sizeof name, c >= 0x20 && c < 0x7f ? "'%c'" : "\\x%02x", c);
  return fail(e, "is not a JSON array of numbers: %s at character %zu, where %s should be", name, i + 1, want);
}

int vs_read_text(vs_vector *v, const char *text, size_t bytes, void **memory, vs_error *e) {
  *v = (vs_vector){.is_text = 1, .norm32 = -1};
  *memory = NULL;

  /* One more than the commas is room for every element. */
  size_t room = 1;
  for (size_t i = 0; i < bytes; i++) room += text[i] == ',';
  if (room > VS_MAX_DIMS) room = VS_MAX_DIMS;
  double *f64 = sqlite3_malloc64(room * (sizeof(double) + sizeof(float)));
  if (f64 == NULL) {
    e->nomem = 1;
    return -1;
  }
  float *f32 = (float *)(f64 + room);

  size_t i = 0, n = 0;
  int fits = 1, rc;
#define SKIP() \
  while (i < bytes && is_space(text[i])) i++
  SKIP();
  if (i >= bytes || text[i] != '[') {
    rc = unexpected(e, text, bytes, i, "'['");
    goto failed;
  }
  i++;
  SKIP();
  if (i < bytes && text[i] == ']') {
    rc = fail(e, "is an empty JSON array; a vector has at least one element");
    goto failed;
  }
  for (;; i++) {
    SKIP();
    double x = 0;
    long len = vs_scan_number(text + i, bytes - i, &x);
    if (len < 0) {
      rc = unexpected(e, text, bytes, i + (size_t)(-len - 1), len == -1 ? "a number" : "a digit");
      goto failed;
    }
    if (!isfinite(x)) {
      rc = fail(e, "has a number at character %zu that is beyond the range of a float64", i + 1);
      goto failed;
    }
    if (n == room) {
      rc = fail(e, "has more than %d dimensions", VS_MAX_DIMS);
      goto failed;
    }
    f64[n] = x;
    f32[n] = (float)x;
    fits &= isfinite(f32[n]) != 0;
    n++;
    i += (size_t)len;
    SKIP();
    if (i < bytes && text[i] == ']') break;
    if (i >= bytes || text[i] != ',') {
      rc = unexpected(e, text, bytes, i, "',' or ']'");
      goto failed;
    }
  }
  i++;
  SKIP();
  if (i < bytes) {
    rc = unexpected(e, text, bytes, i, "the end");
    goto failed;
  }
#undef SKIP
  v->n = n;
  v->f64 = f64;
  v->f32 = fits ? f32 : NULL;
  *memory = f64;
  return 0;

failed:
  sqlite3_free(f64);
  return rc;
}

int vs_check_dims(const vs_vector *v, vs_error *e) {
  if (v->n <= VS_MAX_DIMS) return 0;
  return fail(e, "has %zu dimensions; the most is %d", v->n, VS_MAX_DIMS);
}

double vs_at(const vs_vector *v, size_t i) {
  if (v->f64 != NULL) {
    double x;
    memcpy(&x, (const char *)v->f64 + 8 * i, 8);
    return x;
  }
  float x;
  memcpy(&x, (const char *)v->f32 + 4 * i, 4);
  return x;
}

int vs_check_finite(const vs_vector *v, vs_error *e) {
  for (size_t i = 0; i < v->n; i++) {
    double x = vs_at(v, i);
    if (!isfinite(x))
      return fail(e, "has %s as element [%zu], counting from 0; vectors hold finite numbers",
                  isnan(x) ? "NaN" : x > 0 ? "infinity" : "-infinity", i);
  }
  return 0;
}

int vs_fits_f32(const vs_vector *v, vs_error *e) {
  if (vs_check_finite(v, e) != 0) return -1;
  if (v->f64 == NULL) return 0;
  for (size_t i = 0; i < v->n; i++)
    if (!isfinite((float)vs_at(v, i)))
      return fail(e, "has an element [%zu], counting from 0, beyond the range of a float32; keep it as float64 "
                     "with vec_f64", i);
  return 0;
}
