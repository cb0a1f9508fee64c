/* The vector functions of SQL. */
#ifndef VS_FUNCTIONS_H
#define VS_FUNCTIONS_H

#include "sqlite_api.h"

/* vs_register_functions adds every function to one connection, as deterministic (usable in
 * indexes and generated columns) and innocuous (usable in views and triggers under
 * trusted_schema=OFF). Returns a SQLite result code. vs_choose_kernels must have run. */
int vs_register_functions(sqlite3 *db);

#endif
