#include "vector.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "half.h"
#include "number.h"
#include "sqlite_api.h"

int vs_fail(vs_error *e, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(e->text, sizeof e->text, format, args);
  va_end(args);
  return -1;
}

const char *vs_type_name(enum vs_type type) {
  switch (type) {
  case VS_TEXT:
  case VS_F32: return "float32";
  case VS_F64: return "float64";
  case VS_BIT: return "bit";
  case VS_Q8: return "float8";
  case VS_F16: return "float16";
  case VS_BF16: return "bfloat16";
  case VS_INT8: return "int8";
  }
  return "unknown";
}

#define EMPTY (vs_vector){.norm32 = -1, .norm8 = -1}

/* wrong_length reports a tagged blob whose elements are no whole number of size bytes each. */
static int wrong_length(vs_error *e, size_t bytes, enum vs_type type, size_t size) {
  return vs_fail(e, "is a blob of %zu bytes with type byte %d (%s); it takes a multiple of %zu and the type byte", bytes,
                 (int)type, vs_type_name(type), size);
}

/* read_bit and read_q8 read what libSQL writes: bytes[size - 2] says how much of what stands
 * before the type byte is no element. FORMAT.md explains it. */
static int read_bit(vs_vector *v, const unsigned char *blob, size_t bytes, vs_error *e) {
  size_t trailing = bytes >= 3 ? blob[bytes - 2] : 0, bits = 8 * (bytes - 1);
  size_t n = bits - trailing, data = (n + 7) / 8;
  /* one byte after the elements says how many, and one before it where their number is even */
  if (bytes < 3 || trailing >= bits || data + (data % 2 == 0) + 2 != bytes)
    return vs_fail(e, "is a blob of %zu bytes with type byte 3 (bit), and the byte before it is %zu; that is no number "
                      "of unused bits that fits: write vectors with vec_bit or vec_quantize_binary", bytes, trailing);
  v->n = n;
  v->bits = blob;
  return 0;
}

static int read_q8(vs_vector *v, const unsigned char *blob, size_t bytes, vs_error *e) {
  size_t trailing = bytes >= 2 ? blob[bytes - 2] : 0;
  if (bytes < 15 || (bytes - 11) % 4 != 0 || trailing > 3)
    return vs_fail(e, "is a blob of %zu bytes with type byte 4 (float8), and the byte before it is %zu; it takes a "
                      "multiple of 4 and 11 more, and 0 to 3 unused bytes", bytes, trailing);
  v->n = bytes - 11 - trailing;
  memcpy(&v->scale, blob + bytes - 11, 4);
  memcpy(&v->shift, blob + bytes - 7, 4);
  return 0;
}

int vs_read_blob(vs_vector *v, const void *blob, size_t bytes, vs_error *e) {
  *v = EMPTY;
  if (bytes == 0) return vs_fail(e, "is an empty blob; a vector has at least one element");
  v->data = blob;
  if (bytes % 2 == 0) {
    if (bytes % 4 != 0)
      return vs_fail(e, "is a blob of %zu bytes; a float32 vector takes a multiple of 4, other types one more byte "
                        "that names the type: write vectors with vec_f32 or vec_f64", bytes);
    v->type = VS_F32;
    v->n = bytes / 4;
    v->f32 = blob;
    v->untagged = 1;
    return 0;
  }
  const unsigned char *end = (const unsigned char *)blob + bytes - 1;
  int tag = *end;
  size_t size = 4;
  switch (tag) {
  case VS_BIT:
  case VS_Q8:
    v->type = (enum vs_type)tag;
    return tag == VS_BIT ? read_bit(v, blob, bytes, e) : read_q8(v, blob, bytes, e);
  case VS_F32: v->f32 = blob; break;
  case VS_F64: v->f64 = blob, size = 8; break;
  case VS_F16:
  case VS_BF16: size = 2; break;
  case VS_INT8:
  case VS_INT8 + 1: v->i8 = blob, size = 1; break;
  default:
    return vs_fail(e, "is a blob of %zu bytes with the unknown type byte %d; an odd length ends with 1 (float32), "
                      "2 (float64), 3 (bit), 4 (float8), 5 (float16), 6 (bfloat16), 16 or 17 (int8), an even one is "
                      "float32", bytes, tag);
  }
  v->type = tag == VS_INT8 + 1 ? VS_INT8 : (enum vs_type)tag;
  bytes -= 1;
  if (tag == VS_INT8 + 1) { /* an odd number of elements, and a zero to make the length odd */
    if (bytes < 2 || end[-1] != 0)
      return vs_fail(e, "ends with type byte 17 (int8), but the byte before it is not 0; an even number of int8 ends "
                        "with 16: write vectors with vec_int8");
    bytes -= 1;
  }
  if (bytes == 0) return vs_fail(e, "has no elements before its type byte; a vector has at least one");
  if (bytes % size != 0) return wrong_length(e, bytes + 1, v->type, size);
  v->n = bytes / size;
  return 0;
}

int vs_read_raw(vs_vector *v, enum vs_type type, const void *blob, size_t bytes, vs_error *e) {
  if (bytes == 0 || (bytes % 2 != 0 && bytes != 1)) return vs_read_blob(v, blob, bytes, e);
  *v = EMPTY;
  v->type = type;
  v->data = blob;
  v->n = type == VS_BIT ? 8 * bytes : bytes;
  *(type == VS_BIT ? &v->bits : &v->i8) = blob;
  return 0;
}

static int is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* unexpected reports the byte at offset i. Everything before it is ASCII, so that its number
 * counts characters as well as bytes. */
static int unexpected(vs_error *e, const char *text, size_t bytes, size_t i, const char *want) {
  if (i >= bytes)
    return vs_fail(e, "is not a JSON array of numbers: the text ends after character %zu, where %s should follow", bytes,
                want);
  unsigned char c = (unsigned char)text[i];
  char name[8];
  snprintf(name, sizeof name, c >= 0x20 && c < 0x7f ? "'%c'" : "\\x%02x", c);
  return vs_fail(e, "is not a JSON array of numbers: %s at character %zu, where %s should be", name, i + 1, want);
}

int vs_read_text(vs_vector *v, const char *text, size_t bytes, void **memory, vs_error *e) {
  *v = EMPTY;
  *memory = NULL;

  /* One more than the commas is room for every element. */
  size_t room = 1;
  for (size_t i = 0; i < bytes; i++) room += text[i] == ',';
  if (room > VS_MAX_DIMS) room = VS_MAX_DIMS;
  double *f64 = sqlite3_malloc64(room * (sizeof(double) + sizeof(float) + 1) + (room + 7) / 8 + VS_LINE);
  if (f64 == NULL) {
    e->nomem = 1;
    return -1;
  }
  float *f32 = vs_next_line(f64 + room);
  signed char *i8 = (signed char *)(f32 + room);
  unsigned char *bits = (unsigned char *)(i8 + room);
  memset(bits, 0, (room + 7) / 8);

  size_t i = 0, n = 0;
  int fits = 1, fits_i8 = 1, fits_bit = 1, rc;
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
    rc = vs_fail(e, "is an empty JSON array; a vector has at least one element");
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
      rc = vs_fail(e, "has a number at character %zu that is beyond the range of a float64", i + 1);
      goto failed;
    }
    if (n == room) {
      rc = vs_fail(e, "has more than %d dimensions", VS_MAX_DIMS);
      goto failed;
    }
    f64[n] = x;
    f32[n] = (float)x;
    fits &= isfinite(f32[n]) != 0;
    fits_i8 = fits_i8 && x >= -128 && x <= 127 && x == floor(x);
    fits_bit = fits_bit && (x == 0 || x == 1);
    i8[n] = fits_i8 ? (signed char)x : 0;
    bits[n / 8] |= (unsigned char)((x == 1) << n % 8);
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
  v->i8 = fits_i8 ? i8 : NULL;
  v->bits = fits_bit ? bits : NULL;
  *memory = f64;
  return 0;

failed:
  sqlite3_free(f64);
  return rc;
}

int vs_check_dims(const vs_vector *v, vs_error *e) {
  if (v->n <= VS_MAX_DIMS) return 0;
  return vs_fail(e, "has %zu dimensions; the most is %d", v->n, VS_MAX_DIMS);
}

size_t vs_widen_bytes(const vs_vector *v) {
  return v->type == VS_Q8 ? 8 * v->n : v->type == VS_F16 || v->type == VS_BF16 ? 4 * v->n : 0;
}

void vs_widen(vs_vector *v, void *room) {
  if (v->type == VS_Q8) {
    double *f64 = room;
    for (size_t i = 0; i < v->n; i++) f64[i] = vs_at(v, i);
    v->f64 = f64;
  } else if (v->type == VS_F16 || v->type == VS_BF16) {
    float *f32 = room;
    for (size_t i = 0; i < v->n; i++) f32[i] = (float)vs_at(v, i);
    v->f32 = f32;
  }
}

double vs_at(const vs_vector *v, size_t i) {
  double f64;
  float f32;
  uint16_t half;
  switch (v->type) {
  case VS_TEXT:
  case VS_F64:
    memcpy(&f64, (const char *)v->f64 + 8 * i, 8);
    return f64;
  case VS_F32:
    memcpy(&f32, (const char *)v->f32 + 4 * i, 4);
    return f32;
  case VS_F16:
  case VS_BF16:
    memcpy(&half, (const char *)v->data + 2 * i, 2);
    return v->type == VS_F16 ? vs_f16_value(half) : vs_bf16_value(half);
  case VS_INT8: return ((const signed char *)v->i8)[i];
  case VS_BIT: return (((const unsigned char *)v->bits)[i / 8] >> i % 8) & 1;
  case VS_Q8: return (double)v->scale * ((const unsigned char *)v->data)[i] + (double)v->shift;
  }
  return 0;
}

int vs_check_finite(const vs_vector *v, vs_error *e) {
  if (v->type == VS_INT8 || v->type == VS_BIT || v->type == VS_TEXT) return 0;
  for (size_t i = 0; i < v->n; i++) {
    double x = vs_at(v, i);
    if (!isfinite(x))
      return vs_fail(e, "has %s as element [%zu], counting from 0; vectors hold finite numbers",
                     isnan(x) ? "NaN" : x > 0 ? "infinity" : "-infinity", i);
  }
  return 0;
}
