/* What the index calls of SQLite beyond sqlite_api.h, by the same rules. */
#ifndef VS_KNN_API_H
#define VS_KNN_API_H

#include "sqlite_api.h"

#ifndef sqlite3_set_last_insert_rowid
VS_WEAK extern void sqlite3_set_last_insert_rowid(sqlite3 *, sqlite3_int64);
#ifdef VS_EXTENSION
#define sqlite3_set_last_insert_rowid VS_ROUTINE(sqlite3_set_last_insert_rowid, 216)
#endif
#endif

#endif
