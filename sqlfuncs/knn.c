/* CREATE VIRTUAL TABLE notes_knn USING velosync_knn(notes, embedding, metric=cosine): arguments,
 * plans, cursors, commands. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "functions.h"
#include "knn.h"
#include "value.h"

/* The columns of the virtual table: the key columns, then these. */
enum column { VECTOR, DISTANCE, K, RECALL, COMMAND, COLUMNS };

/* ---- arguments ---- */

/* unquoted copies an argument without the quotes around it. */
static char *unquoted(const char *text) {
  while (isspace((unsigned char)*text)) text++;
  size_t n = strlen(text);
  while (n > 0 && isspace((unsigned char)text[n - 1])) n--;
  char *copy = sqlite3_malloc64(n + 1), *to = copy;
  if (copy == NULL) return NULL;
  char close = n >= 2 ? text[0] == '[' ? ']' : text[0] : 0;
  if (close != 0 && strchr("\"'`]", close) != NULL && text[n - 1] == close) {
    for (size_t i = 1; i + 1 < n; i++) {
      *to++ = text[i];
      if (text[i] == close && close != ']' && text[i + 1] == close && i + 2 < n) i++;
    }
  } else {
    memcpy(to, text, n);
    to += n;
  }
  *to = '\0';
  return copy;
}

static const struct {
  const char *name;
  enum knn_metric metric;
} metrics[] = {{"cosine", KNN_COSINE}, {"l2", KNN_L2}, {"dot", KNN_DOT}, {"hamming", KNN_HAMMING}};

/* read_number returns the number from 1 to most that text is, or 0. */
static long read_number(const char *text, long most) {
  char *end;
  long n = strtol(text, &end, 10);
  return *text != '\0' && *end == '\0' && n > 0 && n <= most ? n : 0;
}

/* read_option takes one name=value. Returns 0, or -1 with *error. */
static int read_option(knn_index *x, const char *text, char **error) {
  const char *equals = strchr(text, '=');
  char *name = equals == NULL ? NULL : sqlite3_mprintf("%.*s", (int)(equals - text), text);
  char *bare = name == NULL ? NULL : unquoted(name), *value = equals == NULL ? NULL : unquoted(equals + 1);
  int known = 0;
  if (bare != NULL && value != NULL && sqlite3_stricmp(bare, "metric") == 0) {
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
      if (sqlite3_stricmp(value, metrics[i].name) == 0) x->metric = metrics[i].metric, known = 1;
    if (!known) *error = sqlite3_mprintf("velosync_knn: metric=%s is none of cosine, l2, dot and hamming", value);
  } else if (bare != NULL && value != NULL && sqlite3_stricmp(bare, "dims") == 0) {
    long n = read_number(value, VS_MAX_DIMS);
    known = n > 0;
    if (known) x->fixed_dims = (size_t)n;
    else *error = sqlite3_mprintf("velosync_knn: dims=%s is no number from 1 to %d", value, VS_MAX_DIMS);
  } else if (bare != NULL && value != NULL && sqlite3_stricmp(bare, "lists_from") == 0) {
    x->lists_from = read_number(value, 1000000000);
    known = x->lists_from > 0;
    if (!known) *error = sqlite3_mprintf("velosync_knn: lists_from=%s is no number from 1 to 1000000000", value);
  } else {
    *error = sqlite3_mprintf("velosync_knn: unknown argument %s; it takes (table, column, metric=cosine, dims=384, lists_from=%d)",
                             text, KNN_LISTS_FROM);
  }
  sqlite3_free(name), sqlite3_free(bare), sqlite3_free(value);
  return known ? 0 : -1;
}

static void release(knn_index *x) {
  if (x == NULL) return;
  knn_finalize(x);
  knn_free_lists(&x->lists);
  for (int i = 0; i < KNN_MAX_KEYS; i++) sqlite3_free(x->key[i]), sqlite3_free(x->key_type[i]), sqlite3_free(x->key_collation[i]);
  sqlite3_free(x->schema), sqlite3_free(x->name), sqlite3_free(x->argument), sqlite3_free(x->table), sqlite3_free(x->column);
  sqlite3_free(x->signs), sqlite3_free(x->base.zErrMsg);
  sqlite3_free(x);
}

/* declare tells SQLite the columns. Where the user's table is gone its key is called id: the index
 * can then be dropped, or built again when the table is back. */
static int declare(knn_index *x, const char *vector) {
  char *keys = sqlite3_mprintf(x->keys == 0 ? "id, " : "");
  for (int i = 0; i < x->keys && keys != NULL; i++) {
    char *more = sqlite3_mprintf("%s\"%w\" %s, ", keys, x->key[i], x->key_type[i]);
    sqlite3_free(keys);
    keys = more;
  }
  char *sql = keys == NULL ? NULL : sqlite3_mprintf("CREATE TABLE x(%s\"%w\", distance REAL, k INTEGER HIDDEN, recall REAL HIDDEN, \"%w\" HIDDEN)",
                                                    keys, vector, x->name);
  sqlite3_free(keys);
  if (sql == NULL) return SQLITE_NOMEM;
  int rc = sqlite3_declare_vtab(x->db, sql);
  sqlite3_free(sql);
  return rc;
}

static int is_reserved(const char *name, const char *index) {
  return sqlite3_stricmp(name, "distance") == 0 || sqlite3_stricmp(name, "k") == 0 || sqlite3_stricmp(name, "recall") == 0 ||
         sqlite3_stricmp(name, index) == 0;
}

/* start makes the index's own tables and triggers and fills them. */
static int start(knn_index *x) {
  int rc = knn_create_tables(x);
  if (rc == SQLITE_OK) rc = knn_create_triggers(x);
  return rc == SQLITE_OK ? knn_build(x) : rc;
}

static int make(sqlite3 *db, int create, int argc, const char *const *argv, sqlite3_vtab **table, char **error) {
  if (argc < 5) {
    *error = sqlite3_mprintf("velosync_knn takes the table and the column: USING velosync_knn(notes, embedding, metric=cosine)");
    return SQLITE_ERROR;
  }
  knn_index *x = sqlite3_malloc64(sizeof *x);
  if (x == NULL) return SQLITE_NOMEM;
  memset(x, 0, sizeof *x);
  x->db = db;
  x->lists_from = KNN_LISTS_FROM;
  sqlite3_randomness(sizeof x->random, &x->random);
  x->schema = sqlite3_mprintf("%s", argv[1]);
  x->name = sqlite3_mprintf("%s", argv[2]);
  x->argument = unquoted(argv[3]);
  x->column = unquoted(argv[4]);
  x->table = x->argument == NULL ? NULL : sqlite3_mprintf("%s", x->argument);
  char *vector = x->column == NULL ? NULL : sqlite3_mprintf("%s", x->column);
  int rc = x->schema == NULL || x->name == NULL || x->table == NULL || vector == NULL ? SQLITE_NOMEM : SQLITE_OK;
  for (int i = 5; i < argc && rc == SQLITE_OK; i++)
    if (read_option(x, argv[i], error) != 0) rc = SQLITE_ERROR;
  if (rc == SQLITE_OK) rc = create ? knn_describe(x) : knn_refresh(x);
  /* An index whose table is gone, or has changed past recognition, must be there to be dropped. */
  if (rc == SQLITE_ERROR && !create) rc = SQLITE_OK;
  for (int i = 0; i < x->keys && rc == SQLITE_OK; i++)
    if (create && is_reserved(x->key[i], x->name))
      rc = knn_fail(x, SQLITE_ERROR, "the key column \"%s\" has the name of a column of the index; rename one of them", x->key[i]);
  if (rc == SQLITE_OK && create && is_reserved(vector, x->name))
    rc = knn_fail(x, SQLITE_ERROR, "the column \"%s\" has the name of a column of the index; rename one of them", vector);
  if (rc == SQLITE_OK) rc = declare(x, vector);
  int started = rc == SQLITE_OK && create;
  if (started) rc = start(x);
  sqlite3_free(vector);
  if (rc != SQLITE_OK) {
    if (*error == NULL && x->base.zErrMsg != NULL) *error = sqlite3_mprintf("%s", x->base.zErrMsg);
    if (started) { /* in a transaction, what stands before the failure would stay */
      knn_finalize(x);
      if (knn_drop_triggers(x) == SQLITE_OK) knn_drop_tables(x);
    }
    release(x);
    return rc;
  }
  sqlite3_free(x->base.zErrMsg);
  x->base.zErrMsg = NULL;
  *table = &x->base;
  return SQLITE_OK;
}

static int create_index(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **table, char **error) {
  (void)aux;
  return make(db, 1, argc, argv, table, error);
}

static int connect_index(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **table, char **error) {
  (void)aux;
  return make(db, 0, argc, argv, table, error);
}

static int disconnect_index(sqlite3_vtab *table) {
  release((knn_index *)table);
  return SQLITE_OK;
}

static int destroy_index(sqlite3_vtab *table) {
  knn_index *x = (knn_index *)table;
  knn_finalize(x);
  int rc = knn_drop_triggers(x);
  if (rc == SQLITE_OK) rc = knn_drop_tables(x);
  if (rc == SQLITE_OK) release(x);
  return rc;
}

static int rename_index(sqlite3_vtab *table, const char *name) { return knn_rename((knn_index *)table, name); }

/* ---- plans ---- */

/* idxNum says which arguments filter gets, in this order. 0 lists the keys of all rows. */
enum plan { PLAN_MATCH = 1, PLAN_K = 2, PLAN_RECALL = 4, PLAN_LIMIT = 8, PLAN_IN = 16, PLAN_IS = 32 };

/* Cost is in rows read of a table, about: a search reads some thousand codes and tens of rows. */
#define SEARCH_COST 2000.0

/* constant_rows reads what number a literal or a bound parameter is, or returns otherwise. */
static double number_at(sqlite3_index_info *info, int i, double otherwise) {
  sqlite3_value *v = NULL;
  if (i < 0 || sqlite3_vtab_rhs_value(info, i, &v) != SQLITE_OK || v == NULL || sqlite3_value_type(v) != SQLITE_INTEGER)
    return otherwise;
  double n = sqlite3_value_double(v);
  return n < 1 ? 1 : n;
}

/* A condition on the key narrows the search only where it cannot mean a join: k.id IN (…), or a
 * constant. k.id = n.id is checked by SQLite afterwards, so that the order in which it puts the
 * tables does not change what the query means. */
static int narrows(sqlite3_index_info *info, int i, int *in) {
  sqlite3_value *v = NULL;
  *in = sqlite3_vtab_in(info, i, -1);
  return *in || (sqlite3_vtab_rhs_value(info, i, &v) == SQLITE_OK && v != NULL);
}

static int best_index(sqlite3_vtab *table, sqlite3_index_info *info) {
  knn_index *x = (knn_index *)table;
  int keys = x->keys == 0 ? 1 : x->keys;
  int match = -1, k = -1, recall = -1, limit = -1, key = -1, in = 0;
  for (int i = 0; i < info->nConstraint; i++) {
    const struct sqlite3_index_constraint *c = &info->aConstraint[i];
    int column = c->iColumn - keys;
    if (c->op == SQLITE_INDEX_CONSTRAINT_LIMIT) {
      if (c->usable) limit = i;
    } else if (c->op == SQLITE_INDEX_CONSTRAINT_MATCH && column == VECTOR) {
      if (!c->usable) return SQLITE_CONSTRAINT; /* the query comes from a table that must be read first */
      match = i;
    } else if (c->op == SQLITE_INDEX_CONSTRAINT_EQ && (column == K || column == RECALL)) {
      if (!c->usable) return SQLITE_CONSTRAINT;
      *(column == K ? &k : &recall) = i;
    } else if (c->op == SQLITE_INDEX_CONSTRAINT_EQ && c->iColumn == 0 && keys == 1 && c->usable && key < 0) {
      int is_in;
      if (narrows(info, i, &is_in)) key = i, in = is_in;
    }
  }
  int by_distance = info->nOrderBy == 1 && info->aOrderBy[0].iColumn == keys + DISTANCE && !info->aOrderBy[0].desc;
  int plan = 0, argument = 0;
  const struct {
    int at;
    enum plan plan;
    int omit;
  } uses[] = {{match, PLAN_MATCH, 1}, {k, PLAN_K, 1}, {recall, PLAN_RECALL, 1}, {limit, PLAN_LIMIT, 0},
              {key, in ? PLAN_IN : PLAN_IS, 1}};
  if (match < 0) { /* a list of keys, in no order */
    if (k >= 0 || recall >= 0) {
      sqlite3_free(x->base.zErrMsg);
      x->base.zErrMsg = sqlite3_mprintf("%s: k and recall belong to a search: WHERE %s MATCH ? AND k = 10", x->name, x->column);
      return SQLITE_ERROR;
    }
    info->idxNum = 0;
    info->estimatedCost = 1e6;
    info->estimatedRows = 100000;
    return SQLITE_OK;
  }
  for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
    if (uses[i].at < 0) continue;
    /* LIMIT counts rows in SQLite's order, so it says how many to find only if that is ours. */
    if (uses[i].plan == PLAN_LIMIT && !(by_distance || info->nOrderBy == 0)) continue;
    plan |= uses[i].plan;
    info->aConstraintUsage[uses[i].at].argvIndex = ++argument;
    info->aConstraintUsage[uses[i].at].omit = (unsigned char)uses[i].omit;
  }
  if (key >= 0 && in) sqlite3_vtab_in(info, key, 1);
  double rows = k >= 0 ? number_at(info, k, 10) : number_at(info, limit, 25);
  if (key >= 0 && !in) rows = 1, info->idxFlags = SQLITE_INDEX_SCAN_UNIQUE;
  info->idxNum = plan;
  info->orderByConsumed = by_distance;
  info->estimatedRows = (sqlite3_int64)rows;
  info->estimatedCost = SEARCH_COST + 10 * rows;
  return SQLITE_OK;
}

/* ---- cursors ---- */

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

static int open_cursor(sqlite3_vtab *table, sqlite3_vtab_cursor **out) {
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

static int close_cursor(sqlite3_vtab_cursor *base) {
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

static int no_table(knn_index *x) {
  return knn_fail(x, SQLITE_ERROR,
                  "its triggers are gone, as after table \"%s\" was dropped: drop the index, or once the table is there "
                  "again INSERT INTO %s(%s) VALUES('rebuild')",
                  x->argument, x->name, x->name);
}

static int filter(sqlite3_vtab_cursor *base, int plan, const char *text, int argc, sqlite3_value **argv) {
  (void)text, (void)argc;
  cursor *c = (cursor *)base;
  knn_index *x = (knn_index *)base->pVtab;
  clear(c);
  c->plan = plan;
  int rc = knn_refresh(x);
  if (rc != SQLITE_OK) return rc;
  if (x->table == NULL || x->keys == 0) return no_table(x);
  if (plan == 0) return list_keys(x, c);
  tidy(x);
  if ((rc = knn_load(x)) != SQLITE_OK) return rc;

  sqlite3_value **next = argv, *query = *next++;
  knn_request *r = &c->request;
  r->recall = KNN_RECALL;
  c->asked_k = -1;
  r->k = 16;
  if (plan & PLAN_K) {
    sqlite3_int64 k = sqlite3_value_int64(*next);
    if (sqlite3_value_numeric_type(*next++) != SQLITE_INTEGER || k < 0 || k > KNN_MAX_K)
      return knn_fail(x, SQLITE_ERROR, "k takes an integer from 0 to %d", KNN_MAX_K);
    c->asked_k = r->k = (int)k;
  }
  if (plan & PLAN_RECALL) {
    int type = sqlite3_value_numeric_type(*next);
    r->recall = sqlite3_value_double(*next++);
    if ((type != SQLITE_FLOAT && type != SQLITE_INTEGER) || !(r->recall > 0 && r->recall <= 1))
      return knn_fail(x, SQLITE_ERROR, "recall takes a number above 0, at most 1");
  }
  if (plan & PLAN_LIMIT) {
    sqlite3_int64 n = sqlite3_value_int64(*next++);
    if (c->asked_k < 0 && n > 0 && n <= KNN_MAX_K) r->k = (int)n;
  }
  if (sqlite3_value_type(query) == SQLITE_NULL) return SQLITE_OK; /* nothing is near NULL */
  if ((rc = read_query(x, c, query)) != SQLITE_OK) return rc;
  if (plan & (PLAN_IN | PLAN_IS)) rc = read_filter(x, c, *next, (plan & PLAN_IN) != 0);
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

static int next(sqlite3_vtab_cursor *base) {
  cursor *c = (cursor *)base;
  c->at++;
  c->rowid++;
  if (c->plan == 0 || c->asked_k >= 0 || c->request.query == NULL) return SQLITE_OK;
  return more((knn_index *)base->pVtab, c);
}

static int eof(sqlite3_vtab_cursor *base) {
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

static int column(sqlite3_vtab_cursor *base, sqlite3_context *ctx, int i) {
  cursor *c = (cursor *)base;
  knn_index *x = (knn_index *)base->pVtab;
  const knn_result *r = &c->results.result[c->at];
  if (i < x->keys) {
    sqlite3_result_value(ctx, r->key[i]);
    return SQLITE_OK;
  }
  switch ((enum column)(i - x->keys)) {
  case VECTOR: return vector_of(x, r, ctx);
  case DISTANCE:
    if (c->plan != 0) sqlite3_result_double(ctx, r->distance);
    break;
  case K:
    if (c->plan & PLAN_K) sqlite3_result_int(ctx, c->asked_k);
    break;
  case RECALL:
    if (c->plan != 0) sqlite3_result_double(ctx, c->request.recall);
    break;
  case COMMAND:
  case COLUMNS: break;
  }
  return SQLITE_OK;
}

static int rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *id) {
  *id = ((cursor *)base)->rowid + 1;
  return SQLITE_OK;
}

/* ---- commands ---- */

/* Commands run within an INSERT, which undoes them if they fail for want of memory, disk or
 * patience; other failures mean that the index was damaged before. */
static int rebuild(knn_index *x) {
  int rc = SQLITE_OK;
  if (x->table == NULL) { /* the table was made again: take it up under the name it had */
    if ((x->table = sqlite3_mprintf("%s", x->argument)) == NULL) return SQLITE_NOMEM;
    rc = knn_describe(x);
  }
  /* Tables cannot be dropped within a statement; knn_build empties them. */
  if (rc == SQLITE_OK) rc = knn_drop_triggers(x);
  return rc == SQLITE_OK ? start(x) : rc;
}

/* INSERT INTO notes_knn(notes_knn) VALUES('optimize'), or with a number: (notes_knn, k). */
static int run_command(knn_index *x, const char *command, sqlite3_value *number) {
  int rc = knn_refresh(x);
  if (sqlite3_stricmp(command, "rebuild") == 0) {
    if (rc == SQLITE_ERROR) rc = SQLITE_OK;
    return rc == SQLITE_OK ? rebuild(x) : rc;
  }
  if (rc != SQLITE_OK) return rc;
  if (x->table == NULL || x->keys == 0) return no_table(x);
  if (sqlite3_stricmp(command, "optimize") == 0) return knn_optimize(x);
  if (sqlite3_stricmp(command, "integrity-check") == 0) return knn_check(x);
  if (sqlite3_stricmp(command, "fold") == 0) {
    sqlite3_int64 most = sqlite3_value_type(number) == SQLITE_NULL ? 1000 : sqlite3_value_int64(number);
    piece p = {most, 1};
    return most <= 0 ? SQLITE_OK : fold_piece(x, &p);
  }
  return knn_fail(x, SQLITE_ERROR, "unknown command '%s'; there are optimize, fold, rebuild and integrity-check", command);
}

static int update(sqlite3_vtab *table, int argc, sqlite3_value **argv, sqlite3_int64 *id) {
  knn_index *x = (knn_index *)table;
  int keys = x->keys == 0 ? 1 : x->keys;
  /* argv: the old rowid, the new one, then the columns */
  if (argc != 2 + keys + COLUMNS || sqlite3_value_type(argv[0]) != SQLITE_NULL ||
      sqlite3_value_type(argv[2 + keys + COMMAND]) != SQLITE_TEXT)
    return knn_fail(x, SQLITE_ERROR, "is an index: write to table \"%s\"; commands are INSERT INTO %s(%s) VALUES('optimize')",
                    x->table == NULL ? x->argument : x->table, x->name, x->name);
  char *command = sqlite3_mprintf("%s", (const char *)sqlite3_value_text(argv[2 + keys + COMMAND]));
  if (command == NULL) return SQLITE_NOMEM;
  *id = 0;
  sqlite3_int64 last = sqlite3_last_insert_rowid(x->db);
  int rc = run_command(x, command, argv[2 + keys + K]);
  sqlite3_set_last_insert_rowid(x->db, last);
  sqlite3_free(command);
  return rc;
}

int vs_register_knn(sqlite3 *db) {
  static const sqlite3_module module = {
      .iVersion = 3,
      .xCreate = create_index,
      .xConnect = connect_index,
      .xBestIndex = best_index,
      .xDisconnect = disconnect_index,
      .xDestroy = destroy_index,
      .xOpen = open_cursor,
      .xClose = close_cursor,
      .xFilter = filter,
      .xNext = next,
      .xEof = eof,
      .xColumn = column,
      .xRowid = rowid,
      .xUpdate = update,
      .xRename = rename_index,
      .xShadowName = knn_is_shadow,
  };
  return sqlite3_create_module_v2(db, "velosync_knn", &module, NULL, NULL);
}
