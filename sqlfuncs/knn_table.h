/* What the parts of the virtual table share: knn.c, knn_plan.c, knn_cursor.c. */
#ifndef VS_KNN_TABLE_H
#define VS_KNN_TABLE_H

#include "knn.h"

/* The columns of the virtual table: the key columns, then these. */
enum knn_column { KNN_VECTOR, KNN_DISTANCE, KNN_K, KNN_RECALL_ASKED, KNN_COMMAND, KNN_COLUMNS };

/* idxNum says which arguments knn_filter gets, in this order. 0 lists the keys of all rows. */
enum knn_plan { KNN_PLAN_MATCH = 1, KNN_PLAN_K = 2, KNN_PLAN_RECALL = 4, KNN_PLAN_LIMIT = 8, KNN_PLAN_IN = 16, KNN_PLAN_IS = 32 };

/* Methods of the module, as SQLite names them: xBestIndex, xOpen, xClose, xFilter, xNext, xEof,
 * xColumn, xRowid. */
int knn_best_index(sqlite3_vtab *table, sqlite3_index_info *info);
int knn_open(sqlite3_vtab *table, sqlite3_vtab_cursor **out);
int knn_close(sqlite3_vtab_cursor *base);
int knn_filter(sqlite3_vtab_cursor *base, int plan, const char *text, int argc, sqlite3_value **argv);
int knn_next(sqlite3_vtab_cursor *base);
int knn_eof(sqlite3_vtab_cursor *base);
int knn_column_at(sqlite3_vtab_cursor *base, sqlite3_context *ctx, int i);
int knn_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *id);

#endif
