/* vec_sum(x) and vec_avg(x) over the rows of a group. */
#include <math.h>
#include <string.h>

#include "functions.h"
#include "value.h"

/* A total is the sum of the vectors so far, in float64. Elements from LARGE on are added up apart
 * and scaled down, so that an average that fits is found also where the sum does not fit, and
 * small elements beside them keep their bits. */
typedef struct total {
  size_t n;          /* elements; 0 before the first row */
  sqlite3_int64 rows;
  double *small;     /* n sums of elements below LARGE */
  double *large;     /* n sums of the others, times 2^-SHIFT; NULL until there is one */
  int wide;          /* some row was float64 */
  int failed;        /* the result is an error already */
} total;

#define LARGE 0x1p900
#define SHIFT 100

static const char *name_of(sqlite3_context *ctx) { return sqlite3_user_data(ctx); }

static double *zeros(size_t n) {
  double *x = sqlite3_malloc64(n * sizeof *x);
  if (x != NULL) memset(x, 0, n * sizeof *x);
  return x;
}

/* add_row adds v. Returns 0, or -1 with e filled. */
static int add_row(total *t, const vs_vector *v, vs_error *e) {
  if (vs_check_dims(v, e) != 0 || vs_check_finite(v, e) != 0) return -1;
  if (t->n == 0) {
    if ((t->small = zeros(v->n)) == NULL) goto nomem;
    t->n = v->n;
  } else if (t->n != v->n) {
    return vs_fail(e, "has %zu dimensions, those before it %zu; add up vectors that one model made", v->n, t->n);
  }
  t->wide |= v->type == VS_F64;
  t->rows++;
  for (size_t i = 0; i < v->n; i++) {
    double x = vs_at(v, i);
    if (fabs(x) < LARGE) {
      t->small[i] += x;
      continue;
    }
    if (t->large == NULL && (t->large = zeros(v->n)) == NULL) goto nomem;
    t->large[i] += ldexp(x, -SHIFT);
  }
  return 0;
nomem:
  e->nomem = 1;
  return -1;
}

static void step(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  if (sqlite3_value_type(argv[0]) == SQLITE_NULL) return;
  total *t = sqlite3_aggregate_context(ctx, sizeof *t);
  if (t == NULL) {
    sqlite3_result_error_nomem(ctx);
    return;
  }
  if (t->failed) return;
  vs_vector v;
  vs_error e;
  void *memory;
  e.nomem = 0;
  t->failed = vs_read_value(&v, argv[0], 0, &memory, &e) != 0 || add_row(t, &v, &e) != 0;
  if (t->failed) vs_result_error(ctx, name_of(ctx), 1, &e);
  sqlite3_free(memory);
}

/* finish makes the total, divided by divisor, the result. */
static void finish(sqlite3_context *ctx, total *t, double divisor) {
  vs_packed p;
  vs_error e;
  e.nomem = 0;
  if (vs_pack_begin(&p, t->wide ? VS_F64 : VS_F32, t->n, &e) != 0) {
    sqlite3_result_error_nomem(ctx);
    return;
  }
  for (size_t i = 0; i < t->n; i++) {
    double x = t->small[i] / divisor;
    if (t->large != NULL && t->large[i] != 0) x = ldexp(t->large[i] / divisor + ldexp(x, -SHIFT), SHIFT);
    if (isfinite(x) && vs_pack_put(&p, i, x, &e) == 0) continue;
    vs_fail(&e, "the result has an element [%zu], counting from 0, that %s cannot hold", i, vs_type_name(p.type));
    vs_result_error(ctx, name_of(ctx), 0, &e);
    sqlite3_free(p.blob);
    return;
  }
  vs_result_packed(ctx, &p);
}

static void end(sqlite3_context *ctx, int average) {
  total *t = sqlite3_aggregate_context(ctx, 0);
  if (t == NULL) { /* no row but NULL */
    sqlite3_result_null(ctx);
    return;
  }
  if (!t->failed && t->n > 0) finish(ctx, t, average ? (double)t->rows : 1);
  sqlite3_free(t->small);
  sqlite3_free(t->large);
}

/* vec_sum(x), vec_avg(x): element by element over all rows but NULL; NULL if there is none. The
 * result is float64 if a row is, else float32, also of int8 and bits. Summed in float64, within
 * rows * 2^-53 times the sum of the absolute values. An error if dimensions differ. */
static void end_sum(sqlite3_context *ctx) { end(ctx, 0); }
static void end_avg(sqlite3_context *ctx) { end(ctx, 1); }

int vs_register_aggregates(sqlite3 *db) {
  const int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
  int rc = sqlite3_create_function_v2(db, "vec_sum", 1, flags, "vec_sum", NULL, step, end_sum, NULL);
  if (rc != SQLITE_OK) return rc;
  return sqlite3_create_function_v2(db, "vec_avg", 1, flags, "vec_avg", NULL, step, end_avg, NULL);
}
