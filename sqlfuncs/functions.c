#include "functions.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "compare.h"
#include "number.h"
#include "vector.h"

/* What a function is called, for its errors, and which of several it is. */
typedef struct function {
  const char *name;
  int args;
  void (*call)(sqlite3_context *, int, sqlite3_value **);
  enum vs_op op;  /* compare: what to compute */
  int distance;   /* compare: 1 less the cosine */
} function;

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

/* raise_error makes "name: argument i <text>" the result; i = 0 leaves the argument out. */
static void raise_error(sqlite3_context *ctx, int i, const vs_error *e) {
  if (e->nomem) {
    sqlite3_result_error_nomem(ctx);
    return;
  }
  const function *f = sqlite3_user_data(ctx);
  char *text = i > 0 ? sqlite3_mprintf("%s: argument %d %s", f->name, i, e->text)
                     : sqlite3_mprintf("%s: %s", f->name, e->text);
  if (text == NULL) {
    sqlite3_result_error_nomem(ctx);
    return;
  }
  sqlite3_result_error(ctx, text, -1);
  sqlite3_free(text);
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
    const void *blob = sqlite3_value_blob(value);
    size_t bytes = (size_t)sqlite3_value_bytes(value);
    if ((k = sqlite3_malloc64(sizeof *k + bytes)) == NULL) goto nomem;
    if (bytes > 0) memcpy(k + 1, blob, bytes);
    k->memory = NULL;
    if (vs_read_blob(&k->v, k + 1, bytes, e) != 0) {
      sqlite3_free(k);
      return NULL;
    }
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
  static const char number[] = "is a number; a vector is a blob, or a JSON array as text";
  memcpy(e->text, number, sizeof number);
  return NULL;
}

/* ---- two vectors, one number ---- */

/* cosine_similarity(a, b)    the cosine of the angle, -1..1; 0 if either vector is zero
 * vec_distance_cosine(a, b)  1 less that, 0..2
 * dot_product(a, b)          the inner product
 * vec_distance_L2(a, b)      the Euclidean distance
 *
 * NULL if either argument is NULL. An error if one is no vector, if their dimensions differ, or
 * an element is not finite. */
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
    raise_error(ctx, 1, &e);
    return;
  }
  vs_vector *b = argument(ctx, 1, argv[1], &room_b, &keeps_b, &e);
  if (b == NULL) {
    raise_error(ctx, 2, &e);
    return;
  }
  if (vs_compare(f->op, a, b, keeps_a, keeps_b, &result, &e, &wrong) != 0) {
    raise_error(ctx, wrong, &e);
    return;
  }
  sqlite3_result_double(ctx, f->distance ? 1 - result : result);
}

/* ---- one vector ---- */

/* An operand is the only argument of a function. memory belongs to it. */
typedef struct operand {
  vs_vector v;
  void *memory;
} operand;

/* read_operand returns 1 with o filled, or 0 with the result set: NULL for NULL, or an error. */
static int read_operand(sqlite3_context *ctx, sqlite3_value *value, operand *o) {
  vs_error e;
  int keeps;
  e.nomem = 0;
  o->memory = NULL;
  switch (sqlite3_value_type(value)) {
  case SQLITE_NULL:
    sqlite3_result_null(ctx);
    return 0;
  case SQLITE_TEXT: {
    const char *text = (const char *)sqlite3_value_text(value);
    if (text == NULL) {
      sqlite3_result_error_nomem(ctx);
      return 0;
    }
    if (vs_read_text(&o->v, text, (size_t)sqlite3_value_bytes(value), &o->memory, &e) == 0) return 1;
    break;
  }
  case SQLITE_BLOB: {
    const void *blob = sqlite3_value_blob(value);
    if (vs_read_blob(&o->v, blob, (size_t)sqlite3_value_bytes(value), &e) == 0 && vs_check_dims(&o->v, &e) == 0) return 1;
    break;
  }
  default:
    argument(ctx, 0, value, &o->v, &keeps, &e);
  }
  raise_error(ctx, 1, &e);
  return 0;
}

/* result_vector makes a vector of n elements the result; wide adds the type byte of float64.
 * blob has room for that byte and now belongs to SQLite. */
static void result_vector(sqlite3_context *ctx, char *blob, size_t n, int wide) {
  size_t bytes = n * (wide ? 8 : 4);
  if (wide) blob[bytes++] = VS_TAG_F64;
  sqlite3_result_blob(ctx, blob, (int)bytes, sqlite3_free);
}

/* convert writes v / divisor as float32 or float64. */
static void convert(sqlite3_context *ctx, const vs_vector *v, int wide, double (*each)(const vs_vector *, size_t, void *),
                    void *with) {
  char *blob = sqlite3_malloc64(v->n * (wide ? 8 : 4) + 1);
  if (blob == NULL) {
    sqlite3_result_error_nomem(ctx);
    return;
  }
  for (size_t i = 0; i < v->n; i++) {
    double x = each(v, i, with);
    float y = (float)x;
    if (wide)
      memcpy(blob + 8 * i, &x, 8);
    else
      memcpy(blob + 4 * i, &y, 4);
  }
  result_vector(ctx, blob, v->n, wide);
}

static double as_is(const vs_vector *v, size_t i, void *with) {
  (void)with;
  return vs_at(v, i);
}

/* vec_f32(x): x as untagged float32. An error if an element does not fit; smaller ones are
 * rounded. */
static void vec_f32(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  operand o;
  vs_error e;
  if (!read_operand(ctx, argv[0], &o)) return;
  if (vs_fits_f32(&o.v, &e) != 0) {
    e.nomem = 0;
    raise_error(ctx, 1, &e);
  } else {
    convert(ctx, &o.v, 0, as_is, NULL);
  }
  sqlite3_free(o.memory);
}

/* vec_f64(x): x as float64 with its type byte. A float32 keeps its exact value. */
static void vec_f64(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  operand o;
  vs_error e;
  if (!read_operand(ctx, argv[0], &o)) return;
  if (vs_check_finite(&o.v, &e) != 0) {
    e.nomem = 0;
    raise_error(ctx, 1, &e);
  } else {
    convert(ctx, &o.v, 1, as_is, NULL);
  }
  sqlite3_free(o.memory);
}

/* The scale of vec_normalize: elements are multiplied by 2^-exp and divided by norm. */
typedef struct scale {
  int exp;
  double norm;
} scale;

static double divided(const vs_vector *v, size_t i, void *with) {
  const scale *s = with;
  return ldexp(vs_at(v, i), -s->exp) / s->norm;
}

/* vec_normalize(x): x divided by its length, in the type of x (text gives float32). The zero
 * vector stays as it is: it has no direction, and its cosine with anything is 0. */
static void vec_normalize(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  operand o;
  vs_error e;
  if (!read_operand(ctx, argv[0], &o)) return;
  if (vs_check_finite(&o.v, &e) != 0) {
    e.nomem = 0;
    raise_error(ctx, 1, &e);
    sqlite3_free(o.memory);
    return;
  }
  double max = 0, sum = 0;
  for (size_t i = 0; i < o.v.n; i++) max = fmax(max, fabs(vs_at(&o.v, i)));
  scale s = {0, 1};
  if (max > 0) {
    frexp(max, &s.exp); /* squares of scaled elements neither overflow nor vanish together */
    for (size_t i = 0; i < o.v.n; i++) {
      double x = ldexp(vs_at(&o.v, i), -s.exp);
      sum += x * x;
    }
    s.norm = sqrt(sum);
  }
  convert(ctx, &o.v, o.v.f64 != NULL && !o.v.is_text, divided, &s);
  sqlite3_free(o.memory);
}

/* vec_to_json(x): x as a JSON array, each number as short as it can be without losing bits. */
static void vec_to_json(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  operand o;
  vs_error e;
  if (!read_operand(ctx, argv[0], &o)) return;
  if (vs_check_finite(&o.v, &e) != 0) {
    e.nomem = 0;
    raise_error(ctx, 1, &e);
    sqlite3_free(o.memory);
    return;
  }
  char *text = sqlite3_malloc64(o.v.n * VS_NUMBER_MAX + 2);
  if (text == NULL) {
    sqlite3_result_error_nomem(ctx);
    sqlite3_free(o.memory);
    return;
  }
  size_t len = 0;
  for (size_t i = 0; i < o.v.n; i++) {
    double x = vs_at(&o.v, i);
    text[len++] = i == 0 ? '[' : ',';
    len += (size_t)(o.v.f64 != NULL ? vs_print_f64(text + len, x) : vs_print_f32(text + len, (float)x));
  }
  text[len++] = ']';
  sqlite3_result_text(ctx, text, (int)len, sqlite3_free);
  sqlite3_free(o.memory);
}

/* vec_length(x): the number of elements. Does not look at the elements of a blob. */
static void vec_length(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  operand o;
  if (!read_operand(ctx, argv[0], &o)) return;
  sqlite3_result_int(ctx, (int)o.v.n);
  sqlite3_free(o.memory);
}

/* vec_type(x): 'float32' or 'float64', the type that x has or, if it is text, would get. */
static void vec_type(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  operand o;
  if (!read_operand(ctx, argv[0], &o)) return;
  sqlite3_result_text(ctx, o.v.f64 != NULL && !o.v.is_text ? "float64" : "float32", 7, SQLITE_TRANSIENT);
  sqlite3_free(o.memory);
}

int vs_register_functions(sqlite3 *db) {
  static const function functions[] = {
      {"cosine_similarity", 2, compare, VS_COSINE, 0},
      {"vec_distance_cosine", 2, compare, VS_COSINE, 1},
      {"dot_product", 2, compare, VS_DOT, 0},
      {"vec_distance_L2", 2, compare, VS_L2, 0},
      {"vec_f32", 1, vec_f32, 0, 0},
      {"vec_f64", 1, vec_f64, 0, 0},
      {"vec_normalize", 1, vec_normalize, 0, 0},
      {"vec_to_json", 1, vec_to_json, 0, 0},
      {"vec_length", 1, vec_length, 0, 0},
      {"vec_type", 1, vec_type, 0, 0},
  };
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    const function *f = &functions[i];
    int rc = sqlite3_create_function_v2(db, f->name, f->args, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS,
                                        (void *)f, f->call, NULL, NULL, NULL);
    if (rc != SQLITE_OK) return rc;
  }
  return SQLITE_OK;
}
