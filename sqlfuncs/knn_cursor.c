/* The rows of a search, or the keys of all rows, one after the other. */
#include <stdlib.h>
#include <string.h>

#include "functions.h"
#include "knn_table.h"
#include "value.h"

typedef struct cursor {
  sqlite3_vtab_cursor base;
  int plan;
  sqlite3_value *query; /* what MATCH was given */
  void *text, *wide;    /* memory of the vector */
  vs_vector vector;
  float *turned;
  knn_request request;
  int asked_k;          /* k = ?, or -1: as many as are read */
  knn_results results;
  int at;               /* in results */
  knn_results given;    /* without k: what was handed out before results were searched again */
  sqlite3_int64 rowid;
} cursor;

int knn_open(sqlite3_vtab *table, sqlite3_vtab_cursor **out) {
  (void)table;
  cursor *c = sqlite3_malloc64(sizeof *c);
  if (c == NULL) return SQLITE_NOMEM;
  memset(c, 0, sizeof *c);
  *out = &c->base;
  return SQLITE_OK;
}

static void clear(cursor *c) {
  knn_results_free(&c->results);
  knn_results_free(&c->given);
  for (int i = 0; i < c->request.keys; i++) sqlite3_value_free(c->request.key[i]);
  sqlite3_free(c->request.key), sqlite3_free(c->request.id);
  sqlite3_free(c->text), sqlite3_free(c->wide), sqlite3_free(c->turned);
  sqlite3_value_free(c->query);
  sqlite3_vtab_cursor base = c->base;
  memset(c, 0, sizeof *c);
  c->base = base;
}

int knn_close(sqlite3_vtab_cursor *base) {
  clear((cursor *)base);
  sqlite3_free(base);
  return SQLITE_OK;
}

static int fail_vector(knn_index *x, const vs_error *e) {
  return e->nomem ? SQLITE_NOMEM : knn_fail(x, SQLITE_ERROR, "the query %s", e->text);
}

/* first_dims finds the dimensions of the first vector of the table, where the index knows none. */
static int first_dims(knn_index *x, size_t *dims) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_BASE_SCAN, &s), step = SQLITE_DONE;
  if (rc != SQLITE_OK) return rc;
  *dims = 0;
  while (*dims == 0 && (step = sqlite3_step(s)) == SQLITE_ROW) {
    vs_vector v;
    vs_error e = {.nomem = 0};
    void *memory = NULL;
    if (sqlite3_column_type(s, 0) == SQLITE_NULL) continue;
    if (vs_read_value(&v, sqlite3_column_value(s, 0), 0, &memory, &e) == 0) *dims = v.n;
    sqlite3_free(memory);
  }
  return knn_done(x, s, step);
}

/* read_query reads what MATCH was given. */
static int read_query(knn_index *x, cursor *c, sqlite3_value *value) {
  vs_error e = {.nomem = 0};
  if ((c->query = sqlite3_value_dup(value)) == NULL) return SQLITE_NOMEM;
  if (vs_read_value(&c->vector, c->query, 0, &c->text, &e) != 0 || vs_check_dims(&c->vector, &e) != 0) return fail_vector(x, &e);
  size_t dims = x->meta.dims;
  int rc = dims == 0 ? first_dims(x, &dims) : SQLITE_OK;
  if (rc != SQLITE_OK) return rc;
  vs_vector *v = &c->vector;
  if (v->untagged && v->n == 2 * dims)
    *v = (vs_vector){.n = dims, .type = VS_F64, .data = v->data, .f64 = v->data, .norm32 = -1, .norm8 = -1};
  if (dims != 0 && v->n != dims && !(x->meta.dims == 0 && dims == 2 * v->n))
    return knn_fail(x, SQLITE_ERROR, "the query has %lld dimensions, the vectors of \"%s\" have %lld", (long long)v->n, x->table,
                    (long long)dims);
  if (vs_check_finite(v, &e) != 0) return fail_vector(x, &e);
  size_t bytes = vs_widen_bytes(v);
  if (bytes > 0) {
    if ((c->wide = sqlite3_malloc64(bytes)) == NULL) return SQLITE_NOMEM;
    vs_widen(v, c->wide);
  }
  c->request.query = v;
  if (x->lists.n == 0 || c->request.recall >= 1) return SQLITE_OK;
  if ((c->turned = sqlite3_malloc64(x->padded * sizeof *c->turned)) == NULL) return SQLITE_NOMEM;
  for (size_t i = 0; i < dims; i++) c->turned[i] = (float)vs_at(v, i);
  knn_place(x, c->turned);
  c->request.turned = c->turned;
  return SQLITE_OK;
}

static int ascending(const void *a, const void *b) {
  sqlite3_int64 x, y;
  memcpy(&x, a, sizeof x);
  memcpy(&y, b, sizeof y);
  return x < y ? -1 : x > y;
}

static int add_key(cursor *c, const sqlite3_value *v) {
  knn_request *r = &c->request;
  if ((r->keys & (r->keys - 1)) == 0) { /* room for the next power of two */
    sqlite3_value **more = sqlite3_realloc64(r->key, (r->keys == 0 ? 1 : 2 * (size_t)r->keys) * sizeof *more);
    if (more == NULL) return SQLITE_NOMEM;
    r->key = more;
  }
  if ((r->key[r->keys] = sqlite3_value_dup(v)) == NULL) return SQLITE_NOMEM;
  r->keys++;
  return SQLITE_OK;
}

static int add_id(cursor *c, sqlite3_int64 id) {
  knn_request *r = &c->request;
  if ((r->n & (r->n - 1)) == 0) {
    sqlite3_int64 *more = sqlite3_realloc64(r->id, (r->n == 0 ? 1 : 2 * (size_t)r->n) * sizeof *more);
    if (more == NULL) return SQLITE_NOMEM;
    r->id = more;
  }
  r->id[r->n++] = id;
  return SQLITE_OK;
}

/* whole returns whether v is, or is written as, an integer, as a key of type INTEGER reads it. */
static int whole(sqlite3_value *v, sqlite3_int64 *id) {
  int type = sqlite3_value_numeric_type(v);
  *id = sqlite3_value_int64(v);
  return type == SQLITE_INTEGER || (type == SQLITE_FLOAT && sqlite3_value_double(v) == (double)*id);
}

/* find_ids splits the keys of a large filter into those with an id and the others. */
static int find_ids(knn_index *x, cursor *c) {
  knn_request *r = &c->request;
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_ROW_FIND, &s), left = 0, n = r->keys;
  for (int i = 0; i < n && rc == SQLITE_OK; i++) {
    rc = sqlite3_bind_value(s, 1, r->key[i]);
    if (rc != SQLITE_OK) break;
    int step = sqlite3_step(s), found = step == SQLITE_ROW;
    sqlite3_int64 id = sqlite3_column_int64(s, 0);
    if ((rc = knn_done(x, s, step)) != SQLITE_OK) break;
    if (found) {
      sqlite3_value_free(r->key[i]);
      r->key[i] = NULL;
      rc = add_id(c, id);
    } else {
      r->key[left++] = r->key[i];
      if (left != i + 1) r->key[i] = NULL;
    }
  }
  if (rc == SQLITE_OK) r->keys = left;
  return rc;
}

/* read_filter reads id IN (…), or id = a constant. */
static int read_filter(knn_index *x, cursor *c, sqlite3_value *value, int in) {
  knn_request *r = &c->request;
  sqlite3_value *v = value;
  int rc = in ? sqlite3_vtab_in_first(value, &v) : SQLITE_OK;
  r->filtered = 1;
  for (; rc == SQLITE_OK && v != NULL; rc = in ? sqlite3_vtab_in_next(value, &v) : SQLITE_DONE) {
    if (sqlite3_value_type(v) == SQLITE_NULL) continue;
    sqlite3_int64 id;
    if (!x->rowid_key)
      rc = add_key(c, v);
    else if (whole(v, &id))
      rc = add_id(c, id);
    if (rc != SQLITE_OK) break;
  }
  if (rc != SQLITE_OK && rc != SQLITE_DONE) return rc;
  int n = r->n + r->keys;
  /* Reading a row costs as much as some fifty codes, and the fewer rows there are the more codes
   * have to be read to find k of them. */
  r->exact = r->turned == NULL || (n <= x->meta.rows / 50 && (double)n * n <= 128.0 * (double)x->meta.rows);
  if (!r->exact && !x->rowid_key && (rc = find_ids(x, c)) != SQLITE_OK) return rc;
  if (r->n > 1) {
    qsort(r->id, (size_t)r->n, sizeof *r->id, ascending);
    int kept = 1;
    for (int i = 1; i < r->n; i++)
      if (r->id[i] != r->id[kept - 1]) r->id[kept++] = r->id[i];
    r->n = kept;
  }
  return SQLITE_OK;
}

static int list_keys(knn_index *x, cursor *c) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_BASE_KEYS, &s), step = SQLITE_DONE;
  knn_results *r = &c->results;
  while (rc == SQLITE_OK && (step = sqlite3_step(s)) == SQLITE_ROW) {
    if (r->n == r->room) {
      int room = r->room < 64 ? 64 : 2 * r->room;
      knn_result *more = sqlite3_realloc64(r->result, (size_t)room * sizeof *more);
      if (more == NULL) {
        rc = SQLITE_NOMEM;
        break;
      }
      r->result = more;
      r->room = room;
    }
    knn_result *one = &r->result[r->n++];
    memset(one, 0, sizeof *one);
    for (int i = 0; i < x->keys && rc == SQLITE_OK; i++)
      if ((one->key[i] = sqlite3_value_dup(sqlite3_column_value(s, i))) == NULL) rc = SQLITE_NOMEM;
  }
  int end = s == NULL ? rc : knn_done(x, s, rc == SQLITE_OK ? step : SQLITE_ROW);
  return rc == SQLITE_OK ? end : rc;
}

/* A piece of folding. */
typedef struct piece {
  sqlite3_int64 rows;
  int lists;
} piece;

static int fold_piece(knn_index *x, void *arg) {
  const piece *p = arg;
  int left;
  return knn_fold(x, p->rows, p->lists, &left);
}

/* tidy folds some of the changed rows if there are many, where that holds up nobody: not in a
 * transaction of the application, and not if another connection writes. A SELECT must not fail
 * for it, so errors are forgotten: the rows stay changed and are read exactly. */
static void tidy(knn_index *x) {
  sqlite3_stmt *s;
  sqlite3_int64 changed = 0;
  if (!sqlite3_get_autocommit(x->db) || sqlite3_db_readonly(x->db, x->schema) != 0 || x->folding) return;
  if (knn_prepare(x, KNN_DIRTY_COUNT, &s) != SQLITE_OK) return;
  int rc = sqlite3_step(s);
  if (rc == SQLITE_ROW) changed = sqlite3_column_int64(s, 0);
  if (knn_done(x, s, rc) != SQLITE_OK || changed < KNN_FOLD_FROM) return;
  sqlite3_int64 last = sqlite3_last_insert_rowid(x->db);
  piece p = {changed / KNN_FOLD_PART, changed < KNN_FOLD_CALM}; /* a split makes some hundreds more */
  if (p.rows < KNN_FOLD_LEAST) p.rows = KNN_FOLD_LEAST;
  if (p.rows > KNN_FOLD_MOST) p.rows = KNN_FOLD_MOST;
  rc = knn_atomic(x, fold_piece, &p);
  sqlite3_set_last_insert_rowid(x->db, last);
  if (rc != SQLITE_OK) {
    sqlite3_free(x->base.zErrMsg);
    x->base.zErrMsg = NULL;
  }
}

int knn_filter(sqlite3_vtab_cursor *base, int plan, const char *text, int argc, sqlite3_value **argv) {
  (void)text, (void)argc;
  cursor *c = (cursor *)base;
  knn_index *x = (knn_index *)base->pVtab;
  clear(c);
  c->plan = plan;
  int rc = knn_refresh(x);
  if (rc != SQLITE_OK) return rc;
  if (x->table == NULL || x->keys == 0) return knn_no_table(x);
  if (plan == 0) return list_keys(x, c);
  tidy(x);
  if ((rc = knn_load(x)) != SQLITE_OK) return rc;

  sqlite3_value **next = argv, *query = *next++;
  knn_request *r = &c->request;
  r->recall = KNN_RECALL;
  c->asked_k = -1;
  r->k = 16;
  if (plan & KNN_PLAN_K) {
    sqlite3_int64 k = sqlite3_value_int64(*next);
    if (sqlite3_value_numeric_type(*next++) != SQLITE_INTEGER || k < 0 || k > KNN_MAX_K)
      return knn_fail(x, SQLITE_ERROR, "k takes an integer from 0 to %d", KNN_MAX_K);
    c->asked_k = r->k = (int)k;
  }
  if (plan & KNN_PLAN_RECALL) {
    int type = sqlite3_value_numeric_type(*next);
    r->recall = sqlite3_value_double(*next++);
    if ((type != SQLITE_FLOAT && type != SQLITE_INTEGER) || !(r->recall > 0 && r->recall <= 1))
      return knn_fail(x, SQLITE_ERROR, "recall takes a number above 0, at most 1");
  }
  if (plan & KNN_PLAN_LIMIT) {
    sqlite3_int64 n = sqlite3_value_int64(*next++);
    if (c->asked_k < 0 && n > 0 && n <= KNN_MAX_K) r->k = (int)n;
  }
  if (sqlite3_value_type(query) == SQLITE_NULL) return SQLITE_OK; /* nothing is near NULL */
  if ((rc = read_query(x, c, query)) != SQLITE_OK) return rc;
  if (plan & (KNN_PLAN_IN | KNN_PLAN_IS)) rc = read_filter(x, c, *next, (plan & KNN_PLAN_IN) != 0);
  return rc == SQLITE_OK ? knn_search(x, r, &c->results) : rc;
}

/* handed_out says whether a result has been given already. */
static int handed_out(const cursor *c, const knn_result *r) {
  const knn_index *x = (const knn_index *)c->base.pVtab;
  for (int i = c->given.n; i-- > 0;) {
    const knn_result *g = &c->given.result[i];
    if (g->distance < r->distance) return 0; /* given is ascending */
    int same = 1;
    for (int j = 0; j < x->keys && same; j++) {
      int type = sqlite3_value_type(g->key[j]), n = sqlite3_value_bytes(g->key[j]);
      same = type == sqlite3_value_type(r->key[j]) && n == sqlite3_value_bytes(r->key[j]) &&
             (n == 0 || memcmp(sqlite3_value_blob(g->key[j]), sqlite3_value_blob(r->key[j]), (size_t)n) == 0);
    }
    if (same) return 1;
  }
  return 0;
}

/* more searches again for four times as many, when all that was found has been read and more is
 * wanted, and goes on after what was given. */
static int more(knn_index *x, cursor *c) {
  knn_request *r = &c->request;
  while (c->at >= c->results.n && c->results.n == r->k && r->k < KNN_MAX_K) {
    double last = c->results.result[c->results.n - 1].distance;
    knn_results_free(&c->given);
    c->given = c->results;
    memset(&c->results, 0, sizeof c->results);
    r->k = r->k > KNN_MAX_K / 4 ? KNN_MAX_K : 4 * r->k;
    int rc = knn_load(x);
    if (rc == SQLITE_OK) rc = knn_search(x, r, &c->results);
    if (rc != SQLITE_OK) return rc;
    c->at = 0;
    while (c->at < c->results.n &&
           (c->results.result[c->at].distance < last || handed_out(c, &c->results.result[c->at])))
      c->at++;
  }
  return SQLITE_OK;
}

int knn_next(sqlite3_vtab_cursor *base) {
  cursor *c = (cursor *)base;
  c->at++;
  c->rowid++;
  if (c->plan == 0 || c->asked_k >= 0 || c->request.query == NULL) return SQLITE_OK;
  return more((knn_index *)base->pVtab, c);
}

int knn_eof(sqlite3_vtab_cursor *base) {
  cursor *c = (cursor *)base;
  return c->at >= c->results.n;
}

/* vector_of reads the vector of a result from the user's table. */
static int vector_of(knn_index *x, const knn_result *r, sqlite3_context *ctx) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_BASE_BY_KEY, &s);
  if (rc != SQLITE_OK) return rc;
  for (int i = 0; i < x->keys; i++) sqlite3_bind_value(s, i + 1, r->key[i]);
  if ((rc = sqlite3_step(s)) == SQLITE_ROW) sqlite3_result_value(ctx, sqlite3_column_value(s, 0));
  return knn_done(x, s, rc);
}

int knn_column_at(sqlite3_vtab_cursor *base, sqlite3_context *ctx, int i) {
  cursor *c = (cursor *)base;
  knn_index *x = (knn_index *)base->pVtab;
  const knn_result *r = &c->results.result[c->at];
  if (i < x->keys) {
    sqlite3_result_value(ctx, r->key[i]);
    return SQLITE_OK;
  }
  switch ((enum knn_column)(i - x->keys)) {
  case KNN_VECTOR: return vector_of(x, r, ctx);
  case KNN_DISTANCE:
    if (c->plan != 0) sqlite3_result_double(ctx, r->distance);
    break;
  case KNN_K:
    if (c->plan & KNN_PLAN_K) sqlite3_result_int(ctx, c->asked_k);
    break;
  case KNN_RECALL_ASKED:
    if (c->plan != 0) sqlite3_result_double(ctx, c->request.recall);
    break;
  case KNN_COMMAND:
  case KNN_COLUMNS: break;
  }
  return SQLITE_OK;
}

int knn_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *id) {
  *id = ((cursor *)base)->rowid + 1;
  return SQLITE_OK;
}
