/* vec_each(x): a table of the elements of a vector.
 *
 *   SELECT rowid, value FROM vec_each(vec_f32('[1, 2, 3]'))
 *
 * rowid counts from 0; value is a REAL, or an INTEGER where x is int8 or bits. NULL has no rows.
 * The module is eponymous: it needs no CREATE VIRTUAL TABLE. */
#include <string.h>

#include "functions.h"
#include "value.h"

enum column { VALUE, VECTOR };

typedef struct cursor {
  sqlite3_vtab_cursor base;
  sqlite3_value *argument; /* a copy, which v points into */
  void *memory;            /* of v, if the argument is text */
  vs_vector v;
  size_t i;
} cursor;

static int connect_each(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **table, char **error) {
  (void)aux, (void)argc, (void)argv, (void)error;
  int rc = sqlite3_declare_vtab(db, "CREATE TABLE vec_each(value, vector HIDDEN)");
  if (rc != SQLITE_OK) return rc;
  sqlite3_vtab_config(db, SQLITE_VTAB_INNOCUOUS);
  if ((*table = sqlite3_malloc64(sizeof **table)) == NULL) return SQLITE_NOMEM;
  memset(*table, 0, sizeof **table);
  return SQLITE_OK;
}

static int disconnect_each(sqlite3_vtab *table) {
  sqlite3_free(table);
  return SQLITE_OK;
}

/* There is one plan, idxNum 1: the vector is given. Without it, idxNum 0 is an error in filter. */
static int best_index(sqlite3_vtab *table, sqlite3_index_info *info) {
  (void)table;
  int given = 0;
  for (int i = 0; i < info->nConstraint; i++) {
    const struct sqlite3_index_constraint *c = &info->aConstraint[i];
    if (c->iColumn != VECTOR || c->op != SQLITE_INDEX_CONSTRAINT_EQ) continue;
    if (!c->usable) return SQLITE_CONSTRAINT; /* it comes from a table that must be read first */
    info->aConstraintUsage[i].argvIndex = 1;
    info->aConstraintUsage[i].omit = 1;
    given = 1;
    break;
  }
  info->idxNum = given;
  info->estimatedCost = given ? 500 : 1e99;
  info->estimatedRows = 500;
  info->orderByConsumed = info->nOrderBy == 1 && info->aOrderBy[0].iColumn == -1 && !info->aOrderBy[0].desc;
  return SQLITE_OK;
}

static int open_each(sqlite3_vtab *table, sqlite3_vtab_cursor **base) {
  (void)table;
  cursor *c = sqlite3_malloc64(sizeof *c);
  if (c == NULL) return SQLITE_NOMEM;
  memset(c, 0, sizeof *c);
  *base = &c->base;
  return SQLITE_OK;
}

static void clear(cursor *c) {
  sqlite3_free(c->memory);
  sqlite3_value_free(c->argument);
  c->memory = NULL;
  c->argument = NULL;
  c->v.n = c->i = 0;
}

static int close_each(sqlite3_vtab_cursor *base) {
  clear((cursor *)base);
  sqlite3_free(base);
  return SQLITE_OK;
}

static int filter(sqlite3_vtab_cursor *base, int plan, const char *text, int argc, sqlite3_value **argv) {
  (void)text;
  cursor *c = (cursor *)base;
  vs_error e;
  e.nomem = 0;
  clear(c);
  if (plan == 0 || argc != 1) {
    vs_fail(&e, "takes a vector, as in vec_each('[1, 2]')");
    goto failed;
  }
  if (sqlite3_value_type(argv[0]) == SQLITE_NULL) return SQLITE_OK;
  if ((c->argument = sqlite3_value_dup(argv[0])) == NULL) return SQLITE_NOMEM;
  if (vs_read_value(&c->v, c->argument, 0, &c->memory, &e) == 0 && vs_check_dims(&c->v, &e) == 0 &&
      vs_check_finite(&c->v, &e) == 0)
    return SQLITE_OK;
failed:
  clear(c);
  if (e.nomem) return SQLITE_NOMEM;
  sqlite3_free(base->pVtab->zErrMsg);
  base->pVtab->zErrMsg = sqlite3_mprintf(plan == 0 ? "vec_each: %s" : "vec_each: argument 1 %s", e.text);
  return SQLITE_ERROR;
}

static int next(sqlite3_vtab_cursor *base) {
  ((cursor *)base)->i++;
  return SQLITE_OK;
}

static int eof(sqlite3_vtab_cursor *base) {
  cursor *c = (cursor *)base;
  return c->i >= c->v.n;
}

static int column(sqlite3_vtab_cursor *base, sqlite3_context *ctx, int i) {
  cursor *c = (cursor *)base;
  if (i == VECTOR)
    sqlite3_result_value(ctx, c->argument);
  else if (c->v.type == VS_INT8 || c->v.type == VS_BIT)
    sqlite3_result_int(ctx, (int)vs_at(&c->v, c->i));
  else
    sqlite3_result_double(ctx, vs_at(&c->v, c->i));
  return SQLITE_OK;
}

static int rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *id) {
  *id = (sqlite3_int64)((cursor *)base)->i;
  return SQLITE_OK;
}

int vs_register_each(sqlite3 *db) {
  static const sqlite3_module module = {
      .iVersion = 1,
      .xConnect = connect_each,
      .xBestIndex = best_index,
      .xDisconnect = disconnect_each,
      .xOpen = open_each,
      .xClose = close_each,
      .xFilter = filter,
      .xNext = next,
      .xEof = eof,
      .xColumn = column,
      .xRowid = rowid,
  };
  return sqlite3_create_module_v2(db, "vec_each", &module, NULL, NULL);
}
