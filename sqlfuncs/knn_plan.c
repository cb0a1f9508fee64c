/* Which arguments a search gets of a statement, and what it costs. */
#include "knn_table.h"

/* Cost is in rows read of a table, about: a search reads some thousand codes and tens of rows. */
#define SEARCH_COST 2000.0

/* number_at reads what number a literal or a bound parameter is, or returns otherwise. */
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

int knn_best_index(sqlite3_vtab *table, sqlite3_index_info *info) {
  knn_index *x = (knn_index *)table;
  int keys = x->keys == 0 ? 1 : x->keys;
  int match = -1, k = -1, recall = -1, limit = -1, key = -1, in = 0;
  for (int i = 0; i < info->nConstraint; i++) {
    const struct sqlite3_index_constraint *c = &info->aConstraint[i];
    int column = c->iColumn - keys;
    if (c->op == SQLITE_INDEX_CONSTRAINT_LIMIT) {
      if (c->usable) limit = i;
    } else if (c->op == SQLITE_INDEX_CONSTRAINT_MATCH && column == KNN_VECTOR) {
      if (!c->usable) return SQLITE_CONSTRAINT; /* the query comes from a table that must be read first */
      match = i;
    } else if (c->op == SQLITE_INDEX_CONSTRAINT_EQ && (column == KNN_K || column == KNN_RECALL_ASKED)) {
      if (!c->usable) return SQLITE_CONSTRAINT;
      *(column == KNN_K ? &k : &recall) = i;
    } else if (c->op == SQLITE_INDEX_CONSTRAINT_EQ && c->iColumn == 0 && keys == 1 && c->usable && key < 0) {
      int is_in;
      if (narrows(info, i, &is_in)) key = i, in = is_in;
    }
  }
  int by_distance = info->nOrderBy == 1 && info->aOrderBy[0].iColumn == keys + KNN_DISTANCE && !info->aOrderBy[0].desc;
  int plan = 0, argument = 0;
  const struct {
    int at;
    enum knn_plan plan;
    int omit;
  } uses[] = {{match, KNN_PLAN_MATCH, 1}, {k, KNN_PLAN_K, 1}, {recall, KNN_PLAN_RECALL, 1}, {limit, KNN_PLAN_LIMIT, 0},
              {key, in ? KNN_PLAN_IN : KNN_PLAN_IS, 1}};
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
    if (uses[i].plan == KNN_PLAN_LIMIT && !(by_distance || info->nOrderBy == 0)) continue;
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
