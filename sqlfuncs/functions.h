/* The vector functions of SQL. */
#ifndef VS_FUNCTIONS_H
#define VS_FUNCTIONS_H

#include "sqlite_api.h"

/* vs_register adds everything this package has to one connection: the functions below, the
 * aggregates, vec_each and the index. Returns a SQLite result code. vs_choose_kernels must have
 * run. */
int vs_register(sqlite3 *db);

/* vs_register_functions adds the scalar functions, vs_register_aggregates vec_sum and vec_avg, as
 * deterministic (usable in indexes and generated columns) and innocuous (usable in views and
 * triggers under trusted_schema=OFF). vs_register_each adds the table function vec_each. Each
 * returns a SQLite result code. */
int vs_register_functions(sqlite3 *db);
int vs_register_aggregates(sqlite3 *db);
int vs_register_each(sqlite3 *db);

/* vs_register_knn adds the index; knn*.c defines it. Weak, so that the functions build alone. */
__attribute__((weak)) int vs_register_knn(sqlite3 *db);

#endif
