#include "functions.h"

#include <math.h>
#include <string.h>

#include "compare.h"
#include "kernels.h"
#include "number.h"
#include "value.h"

/* VS_VERSION is what vec_version says; the format of vectors has its own, see FORMAT.md. */
#define VS_VERSION "v0.1.0"

/* What a function is called, for its errors, and which of several it is. */
typedef struct function {
  const char *name;
  int args;
  void (*call)(sqlite3_context *, int, sqlite3_value **);
  enum vs_op op;     /* compare: what to compute */
  int distance;      /* compare: 1 less the cosine */
  enum vs_type type; /* construct: what to make */
  int sign;          /* add: 1 or -1 */
  int varies;        /* from machine to machine or version to version: not deterministic */
} function;

static const char *name_of(sqlite3_context *ctx) { return ((const function *)sqlite3_user_data(ctx))->name; }

/* A kept is a vector that lives in SQLite's auxiliary data while its argument stays the same. */
typedef struct kept {
  vs_vector v;
  void *memory; /* of v, or NULL if its elements follow this struct */
} kept;

static void free_kept(void *p) {
  kept *k = p;
  sqlite3_free(k->memory);
  sqlite3_free(k);
}

/* keep parses argument i into memory and hands it to SQLite, which frees it when the argument
 * changes: at the end of this call for a column, of the statement for a parameter. */
static vs_vector *keep(sqlite3_context *ctx, int i, sqlite3_value *value, vs_error *e) {
  kept *k;
  if (sqlite3_value_type(value) == SQLITE_TEXT) {
    const char *text = (const char *)sqlite3_value_text(value);
    if (text == NULL || (k = sqlite3_malloc64(sizeof *k)) == NULL) goto nomem;
    if (vs_read_text(&k->v, text, (size_t)sqlite3_value_bytes(value), &k->memory, e) != 0) {
      sqlite3_free(k);
      return NULL;
    }
  } else {
    vs_vector v;
    const void *blob = sqlite3_value_blob(value);
    size_t bytes = (size_t)sqlite3_value_bytes(value);
    if (vs_read_blob(&v, blob, bytes, e) != 0) return NULL;
    size_t wide = v.n <= VS_MAX_DIMS ? vs_widen_bytes(&v) : 0;
    if ((k = sqlite3_malloc64(sizeof *k + (bytes + VS_LINE) + (wide + VS_LINE))) == NULL) goto nomem;
    void *copy = memcpy(vs_next_line(k + 1), blob, bytes);
    k->memory = NULL;
    vs_read_blob(&k->v, copy, bytes, e);
    if (wide > 0) vs_widen(&k->v, vs_next_line((char *)copy + bytes));
  }
  sqlite3_set_auxdata(ctx, i, k, free_kept);
  /* If SQLite had no memory for it, k is freed already. */
  if ((k = sqlite3_get_auxdata(ctx, i)) != NULL) return &k->v;
nomem:
  e->nomem = 1;
  return NULL;
}

/* argument returns argument i as a vector, or NULL with e filled. It uses room for a blob that
 * may change from row to row, and sets *keeps where the vector outlives this call: parameters
 * are copied once and text is parsed once a statement, not once a row. */
static vs_vector *argument(sqlite3_context *ctx, int i, sqlite3_value *value, vs_vector *room, int *keeps,
                           vs_error *e) {
  int type = sqlite3_value_type(value);
  *keeps = 0;
  if (type == SQLITE_BLOB && !sqlite3_value_frombind(value)) {
    const void *blob = sqlite3_value_blob(value);
    return vs_read_blob(room, blob, (size_t)sqlite3_value_bytes(value), e) == 0 ? room : NULL;
  }
  if (type == SQLITE_BLOB || type == SQLITE_TEXT) {
    kept *k = sqlite3_get_auxdata(ctx, i);
    *keeps = 1;
    return k != NULL ? &k->v : keep(ctx, i, value, e);
  }
  vs_fail(e, "is a number; a vector is a blob, or a JSON array as text");
  return NULL;
}

/* ---- two vectors, one number ---- */

/* cosine_similarity(a, b)     the cosine of the angle, -1..1; 0 if either vector is zero
 * vec_distance_cosine(a, b)   1 less that, 0..2
 * dot_product(a, b)           the inner product
 * vec_distance_L2(a, b)       the Euclidean distance
 * vec_distance_L1(a, b)       the Manhattan distance
 * vec_distance_hamming(a, b)  how many bits differ
 *
 * NULL if either argument is NULL. An error if one is no vector, if their types do not go
 * together (see vs_compare) or their dimensions differ, or an element is not finite. */
static void compare(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  const function *f = sqlite3_user_data(ctx);
  vs_error e;
  vs_vector room_a, room_b;
  int keeps_a, keeps_b, wrong = 0;
  double result;

  e.nomem = 0;
  if (sqlite3_value_type(argv[0]) == SQLITE_NULL || sqlite3_value_type(argv[1]) == SQLITE_NULL) {
    sqlite3_result_null(ctx);
    return;
  }
  vs_vector *a = argument(ctx, 0, argv[0], &room_a, &keeps_a, &e);
  if (a == NULL) {
    vs_result_error(ctx, f->name, 1, &e);
    return;
  }
  vs_vector *b = argument(ctx, 1, argv[1], &room_b, &keeps_b, &e);
  if (b == NULL) {
    vs_result_error(ctx, f->name, 2, &e);
    return;
  }
  if (vs_compare(f->op, a, b, keeps_a, keeps_b, &result, &e, &wrong) != 0) {
    vs_result_error(ctx, f->name, wrong, &e);
    return;
  }
  sqlite3_result_double(ctx, f->distance ? 1 - result : result);
}

/* ---- one vector ---- */

/* An operand is a vector among the arguments of a function. memory belongs to it. */
typedef struct operand {
  vs_vector v;
  void *memory;
} operand;

/* read_raw returns 1 with o filled, or 0 with the result set: NULL for NULL, or an error. See
 * vs_read_value for raw. read_operand takes no raw blobs, read_finite no NaN or infinity. */
static int read_raw(sqlite3_context *ctx, sqlite3_value **argv, int i, int raw, operand *o) {
  vs_error e;
  e.nomem = 0;
  if (sqlite3_value_type(argv[i]) == SQLITE_NULL) {
    sqlite3_result_null(ctx);
    return 0;
  }
  if (vs_read_value(&o->v, argv[i], raw, &o->memory, &e) == 0 && vs_check_dims(&o->v, &e) == 0) return 1;
  vs_result_error(ctx, name_of(ctx), i + 1, &e); /* text has no more than VS_MAX_DIMS elements: nothing to free */
  return 0;
}

static int read_operand(sqlite3_context *ctx, sqlite3_value **argv, int i, operand *o) {
  return read_raw(ctx, argv, i, 0, o);
}

static int only_finite(sqlite3_context *ctx, int i, operand *o) {
  vs_error e;
  e.nomem = 0;
  if (vs_check_finite(&o->v, &e) == 0) return 1;
  vs_result_error(ctx, name_of(ctx), i + 1, &e);
  sqlite3_free(o->memory);
  return 0;
}

static int read_finite(sqlite3_context *ctx, sqlite3_value **argv, int i, operand *o) {
  return read_operand(ctx, argv, i, o) && only_finite(ctx, i, o);
}

/* The type of a result that is not exact: text, int8 and bits give float32. */
static enum vs_type float_type(enum vs_type type) {
  return type == VS_F64 || type == VS_F16 || type == VS_BF16 ? type : VS_F32;
}

/* vec_f32(x), vec_f64(x), vec_f16(x), vec_bf16(x), vec_int8(x), vec_bit(x): x packed in that
 * type, each element rounded to the nearest; float32 without a type byte. An error if an element
 * does not fit. For the last two a blob of even length is raw elements, as in sqlite-vec. */
static void construct(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  const function *f = sqlite3_user_data(ctx);
  operand o;
  vs_packed p;
  vs_error e;
  size_t bytes;
  e.nomem = 0;
  if (!read_raw(ctx, argv, 0, f->type == VS_INT8 || f->type == VS_BIT ? (int)f->type : 0, &o)) return;
  if (!only_finite(ctx, 0, &o)) return;
  if (vs_pack(&p, f->type, &o.v, &bytes, &e) != 0)
    vs_result_error(ctx, f->name, 1, &e);
  else
    sqlite3_result_blob(ctx, p.blob, (int)bytes, sqlite3_free);
  sqlite3_free(o.memory);
}

/* vec_normalize(x): x divided by its length, in the type of x if that is a float, else float32.
 * The zero vector stays as it is: it has no direction, and its cosine with anything is 0. */
static void vec_normalize(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  operand o;
  vs_packed p;
  vs_error e;
  e.nomem = 0;
  if (!read_finite(ctx, argv, 0, &o)) return;
  double max = 0, sum = 0, norm = 1;
  int exp = 0;
  for (size_t i = 0; i < o.v.n; i++) max = fmax(max, fabs(vs_at(&o.v, i)));
  if (max > 0) {
    frexp(max, &exp); /* squares of scaled elements neither overflow nor vanish together */
    for (size_t i = 0; i < o.v.n; i++) {
      double x = ldexp(vs_at(&o.v, i), -exp);
      sum += x * x;
    }
    norm = sqrt(sum);
  }
  if (vs_pack_begin(&p, float_type(o.v.type), o.v.n, &e) == 0) {
    for (size_t i = 0; i < o.v.n; i++) vs_pack_put(&p, i, ldexp(vs_at(&o.v, i), -exp) / norm, &e);
    vs_result_packed(ctx, &p);
  } else {
    vs_result_error(ctx, name_of(ctx), 0, &e);
  }
  sqlite3_free(o.memory);
}

/* print writes element i as short as its type allows. */
static int print(char *out, const vs_vector *v, size_t i) {
  double x = vs_at(v, i);
  if (v->type == VS_F16) return vs_print_f16(out, (float)x);
  if (v->type == VS_BF16) return vs_print_bf16(out, (float)x);
  if (v->type == VS_F64 || v->type == VS_TEXT || isinf((float)x)) return vs_print_f64(out, x);
  return vs_print_f32(out, (float)x);
}

/* vec_to_json(x): x as a JSON array, each number as short as it can be without losing bits of
 * its type. */
static void vec_to_json(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  operand o;
  if (!read_finite(ctx, argv, 0, &o)) return;
  char *text = sqlite3_malloc64(o.v.n * VS_NUMBER_MAX + 2);
  if (text == NULL) {
    sqlite3_result_error_nomem(ctx);
    sqlite3_free(o.memory);
    return;
  }
  size_t len = 0;
  for (size_t i = 0; i < o.v.n; i++) {
    text[len++] = i == 0 ? '[' : ',';
    len += (size_t)print(text + len, &o.v, i);
  }
  text[len++] = ']';
  sqlite3_result_text(ctx, text, (int)len, sqlite3_free);
  sqlite3_free(o.memory);
}

/* vec_length(x): the number of elements. Does not look at the elements of a blob. */
static void vec_length(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  operand o;
  if (!read_operand(ctx, argv, 0, &o)) return;
  sqlite3_result_int(ctx, (int)o.v.n);
  sqlite3_free(o.memory);
}

/* vec_type(x): 'float32', 'float64', 'float16', 'bfloat16', 'int8', 'bit' or libSQL's 'float8':
 * the type that x has; text is 'float32'. */
static void vec_type(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  operand o;
  if (!read_operand(ctx, argv, 0, &o)) return;
  sqlite3_result_text(ctx, vs_type_name(o.v.type), -1, SQLITE_TRANSIENT);
  sqlite3_free(o.memory);
}

/* vec_slice(x, start, end): the elements from start on, counting from 0, up to but not including
 * end, in the type of x; text and libSQL's 8-bit give float32. */
static void vec_slice(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  operand o;
  vs_packed p;
  vs_error e;
  e.nomem = 0;
  for (int i = 1; i <= 2; i++) {
    int type = sqlite3_value_type(argv[i]);
    if (type == SQLITE_NULL) {
      sqlite3_result_null(ctx);
      return;
    }
    if (type != SQLITE_INTEGER) {
      vs_fail(&e, "is no whole number; a slice is vec_slice(vector, start, end)");
      vs_result_error(ctx, name_of(ctx), i + 1, &e);
      return;
    }
  }
  if (!read_finite(ctx, argv, 0, &o)) return;
  sqlite3_int64 start = sqlite3_value_int64(argv[1]), end = sqlite3_value_int64(argv[2]);
  if (start < 0 || end <= start || end > (sqlite3_int64)o.v.n) {
    vs_fail(&e, "from %lld up to %lld is no slice of %zu elements; it takes 0 <= start < end <= %zu", start, end, o.v.n, o.v.n);
    goto failed;
  }
  enum vs_type type = o.v.type == VS_INT8 || o.v.type == VS_BIT ? o.v.type : float_type(o.v.type);
  if (vs_pack_begin(&p, type, (size_t)(end - start), &e) != 0) goto failed;
  for (size_t i = 0; i < p.n; i++) {
    if (vs_pack_put(&p, i, vs_at(&o.v, (size_t)start + i), &e) == 0) continue;
    sqlite3_free(p.blob);
    goto failed;
  }
  vs_result_packed(ctx, &p);
  sqlite3_free(o.memory);
  return;
failed:
  vs_result_error(ctx, name_of(ctx), 0, &e);
  sqlite3_free(o.memory);
}

/* vec_quantize_binary(x): bits, 1 where an element is above zero. */
static void vec_quantize_binary(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  operand o;
  vs_packed p;
  vs_error e;
  e.nomem = 0;
  if (!read_finite(ctx, argv, 0, &o)) return;
  if (vs_pack_begin(&p, VS_BIT, o.v.n, &e) == 0) {
    for (size_t i = 0; i < o.v.n; i++) vs_pack_put(&p, i, vs_at(&o.v, i) > 0, &e);
    vs_result_packed(ctx, &p);
  } else {
    vs_result_error(ctx, name_of(ctx), 0, &e);
  }
  sqlite3_free(o.memory);
}

/* vec_quantize_int8(x, 'unit'): int8, -1 to 1 spread over -128 to 127 as sqlite-vec does it, so
 * that both make the same bytes: steps of 2/255 in float32, what is left cut off (1 gives 126),
 * and what lies beyond is the nearest end. A unit vector stays within. */
static void vec_quantize_int8(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  static const float step = 2.0 / 255;
  operand o;
  vs_packed p;
  vs_error e;
  e.nomem = 0;
  if (sqlite3_value_type(argv[0]) == SQLITE_NULL) {
    sqlite3_result_null(ctx);
    return;
  }
  const char *range = sqlite3_value_type(argv[1]) == SQLITE_TEXT ? (const char *)sqlite3_value_text(argv[1]) : NULL;
  if (range == NULL || sqlite3_stricmp(range, "unit") != 0) {
    vs_fail(&e, "is not 'unit', the one range there is: -1 to 1");
    vs_result_error(ctx, name_of(ctx), 2, &e);
    return;
  }
  if (!read_finite(ctx, argv, 0, &o)) return;
  if (vs_pack_begin(&p, VS_INT8, o.v.n, &e) == 0) {
    for (size_t i = 0; i < o.v.n; i++)
      vs_pack_put(&p, i, trunc(fmax(-128, fmin(127, (vs_at(&o.v, i) + 1.0) / step - 128))), &e);
    vs_result_packed(ctx, &p);
  } else {
    vs_result_error(ctx, name_of(ctx), 0, &e);
  }
  sqlite3_free(o.memory);
}

/* ---- two vectors, one vector ---- */

/* sum_type is the narrowest type that holds the elements of both. */
static enum vs_type sum_type(enum vs_type a, enum vs_type b) {
  if (a == VS_TEXT) a = b;
  if (b == VS_TEXT) b = a;
  if (a == b && a == VS_INT8) return a;
  if (a == VS_F64 || b == VS_F64) return VS_F64;
  return a == b ? float_type(a) : VS_F32;
}

/* vec_add(a, b), vec_sub(a, b): element by element. Floats give the wider type of the two, and
 * float32 where it is neither; int8 gives int8, and an error where an element leaves its range.
 * Bits have no sum. */
static void add(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  const function *f = sqlite3_user_data(ctx);
  operand a, b;
  vs_packed p;
  vs_error e;
  int wrong = 0;
  e.nomem = 0;
  if (sqlite3_value_type(argv[0]) == SQLITE_NULL || sqlite3_value_type(argv[1]) == SQLITE_NULL) {
    sqlite3_result_null(ctx);
    return;
  }
  /* Elements and dimensions count only once it is clear that a blob is not float64. */
  a.memory = b.memory = NULL;
  wrong = 1;
  if (vs_read_value(&a.v, argv[0], 0, &a.memory, &e) != 0) goto failed;
  wrong = 2;
  if (vs_read_value(&b.v, argv[1], 0, &b.memory, &e) != 0) goto failed;
  if (vs_agree(&a.v, &b.v, &e, &wrong) != 0) goto failed;
  wrong = 1;
  if (vs_check_finite(&a.v, &e) != 0) goto failed;
  wrong = 2;
  if (vs_check_finite(&b.v, &e) != 0) goto failed;
  wrong = 0;
  if (a.v.type == VS_BIT || b.v.type == VS_BIT) {
    vs_fail(&e, "bits have no sum; convert them with vec_int8 or vec_f32");
    goto failed;
  }
  if (vs_pack_begin(&p, sum_type(a.v.type, b.v.type), a.v.n, &e) != 0) goto failed;
  for (size_t i = 0; i < p.n; i++) {
    double x = vs_at(&a.v, i) + f->sign * vs_at(&b.v, i);
    if (isfinite(x) && vs_pack_put(&p, i, x, &e) == 0) continue;
    vs_fail(&e, "the result has an element [%zu], counting from 0, that %s cannot hold; convert the vectors to a wider "
                "type", i, p.type == VS_INT8 ? "int8" : vs_type_name(p.type));
    sqlite3_free(p.blob);
    goto failed;
  }
  vs_result_packed(ctx, &p);
  sqlite3_free(a.memory);
  sqlite3_free(b.memory);
  return;
failed:
  vs_result_error(ctx, f->name, wrong, &e);
  sqlite3_free(a.memory);
  sqlite3_free(b.memory);
}

/* ---- no vector ---- */

/* vec_version(): the version of these functions. */
static void vec_version(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc, (void)argv;
  sqlite3_result_text(ctx, VS_VERSION, -1, SQLITE_TRANSIENT);
}

/* vec_debug(): for a bug report, a line each: version, kernels in use, SQLite, compiler. */
static void vec_debug(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc, (void)argv;
  char *text = sqlite3_mprintf("version: velosync %s\nkernels: %s\nsqlite: %s\ncompiler: %s\n", VS_VERSION, vs_best->name,
                               sqlite3_libversion(), __VERSION__);
  if (text == NULL)
    sqlite3_result_error_nomem(ctx);
  else
    sqlite3_result_text(ctx, text, -1, sqlite3_free);
}

int vs_register(sqlite3 *db) {
  int rc = vs_register_functions(db);
  if (rc == SQLITE_OK) rc = vs_register_aggregates(db);
  if (rc == SQLITE_OK) rc = vs_register_each(db);
  if (rc == SQLITE_OK && vs_register_knn != NULL) rc = vs_register_knn(db);
  return rc;
}

int vs_register_functions(sqlite3 *db) {
  static const function functions[] = {
      {"cosine_similarity", 2, compare, .op = VS_COSINE},
      {"vec_distance_cosine", 2, compare, .op = VS_COSINE, .distance = 1},
      {"dot_product", 2, compare, .op = VS_DOT},
      {"vec_distance_L2", 2, compare, .op = VS_L2},
      {"vec_distance_L1", 2, compare, .op = VS_L1},
      {"vec_distance_hamming", 2, compare, .op = VS_HAMMING},
      {"vec_f32", 1, construct, .type = VS_F32},
      {"vec_f64", 1, construct, .type = VS_F64},
      {"vec_f16", 1, construct, .type = VS_F16},
      {"vec_bf16", 1, construct, .type = VS_BF16},
      {"vec_int8", 1, construct, .type = VS_INT8},
      {"vec_bit", 1, construct, .type = VS_BIT},
      {"vec_normalize", 1, vec_normalize},
      {"vec_to_json", 1, vec_to_json},
      {"vec_length", 1, vec_length},
      {"vec_type", 1, vec_type},
      {"vec_slice", 3, vec_slice},
      {"vec_add", 2, add, .sign = 1},
      {"vec_sub", 2, add, .sign = -1},
      {"vec_quantize_binary", 1, vec_quantize_binary},
      {"vec_quantize_int8", 2, vec_quantize_int8},
      {"vec_version", 0, vec_version, .varies = 1},
      {"vec_debug", 0, vec_debug, .varies = 1},
  };
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    const function *f = &functions[i];
    int flags = SQLITE_UTF8 | SQLITE_INNOCUOUS | (f->varies ? 0 : SQLITE_DETERMINISTIC);
    int rc = sqlite3_create_function_v2(db, f->name, f->args, flags, (void *)f, f->call, NULL, NULL, NULL);
    if (rc != SQLITE_OK) return rc;
  }
  return SQLITE_OK;
}
