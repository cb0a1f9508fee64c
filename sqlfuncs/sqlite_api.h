/* The part of SQLite's C interface that this package calls, declared by hand.
 *
 * The symbols come from the copy of SQLite inside github.com/mattn/go-sqlite3, which every
 * program with this package links. Its header cannot be included from another Go package, so
 * a user would need the same sqlite3.h installed, or a build tag. SQLite has never changed a
 * declaration or a layout below, only added to them; TestSQLiteAPI compiles this file beside
 * go-sqlite3's header and compares every type, offset, constant and slot.
 *
 * The declarations are weak because cgo first links each package alone, without go-sqlite3,
 * to look at its symbols. In the real program the linker finds them.
 *
 * In the loadable extension (VS_EXTENSION) the same names go through the table of routines
 * that the host hands to the entry point; see the end of this file. To call another function
 * of SQLite, declare it here and give it its slot there. */
#ifndef VS_SQLITE_API_H
#define VS_SQLITE_API_H

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_stmt sqlite3_stmt;
typedef struct sqlite3_blob sqlite3_blob;
typedef struct sqlite3_context sqlite3_context;
typedef struct sqlite3_value sqlite3_value;
typedef long long int sqlite3_int64;
typedef unsigned long long int sqlite3_uint64;

#define VS_WEAK __attribute__((weak))

/* result codes */
#define SQLITE_OK 0
#define SQLITE_ERROR 1
#define SQLITE_ABORT 4
#define SQLITE_BUSY 5
#define SQLITE_LOCKED 6
#define SQLITE_NOMEM 7
#define SQLITE_READONLY 8
#define SQLITE_INTERRUPT 9
#define SQLITE_CORRUPT 11
#define SQLITE_FULL 13
#define SQLITE_SCHEMA 17
#define SQLITE_TOOBIG 18
#define SQLITE_CONSTRAINT 19
#define SQLITE_MISMATCH 20
#define SQLITE_MISUSE 21
#define SQLITE_RANGE 25
#define SQLITE_ROW 100
#define SQLITE_DONE 101
#define SQLITE_CORRUPT_VTAB (SQLITE_CORRUPT | (1 << 8))
#define SQLITE_CONSTRAINT_VTAB (SQLITE_CONSTRAINT | (9 << 8))

/* type codes of values */
#define SQLITE_INTEGER 1
#define SQLITE_FLOAT 2
#define SQLITE_TEXT 3
#define SQLITE_BLOB 4
#define SQLITE_NULL 5

/* encoding and flags of a function */
#define SQLITE_UTF8 1
#define SQLITE_DETERMINISTIC 0x000000800
#define SQLITE_DIRECTONLY 0x000080000
#define SQLITE_INNOCUOUS 0x000200000

/* flag of sqlite3_prepare_v3 */
#define SQLITE_PREPARE_PERSISTENT 0x01

#define SQLITE_STATIC ((void (*)(void *))0)
#define SQLITE_TRANSIENT ((void (*)(void *))-1)

/* ---- virtual tables ---- */

typedef struct sqlite3_module sqlite3_module;
typedef struct sqlite3_index_info sqlite3_index_info;

typedef struct sqlite3_vtab {
  const sqlite3_module *pModule;
  int nRef;
  char *zErrMsg; /* from sqlite3_mprintf; SQLite frees it */
} sqlite3_vtab;

typedef struct sqlite3_vtab_cursor {
  sqlite3_vtab *pVtab;
} sqlite3_vtab_cursor;

/* iVersion says how far SQLite may read: 1 to xRename, 2 to xRollbackTo, 3 to xShadowName, 4 to
 * xIntegrity. A SQLite older than a version ignores what that version added. */
struct sqlite3_module {
  int iVersion;
  int (*xCreate)(sqlite3 *, void *pAux, int argc, const char *const *argv, sqlite3_vtab **ppVTab, char **);
  int (*xConnect)(sqlite3 *, void *pAux, int argc, const char *const *argv, sqlite3_vtab **ppVTab, char **);
  int (*xBestIndex)(sqlite3_vtab *pVTab, sqlite3_index_info *);
  int (*xDisconnect)(sqlite3_vtab *pVTab);
  int (*xDestroy)(sqlite3_vtab *pVTab);
  int (*xOpen)(sqlite3_vtab *pVTab, sqlite3_vtab_cursor **ppCursor);
  int (*xClose)(sqlite3_vtab_cursor *);
  int (*xFilter)(sqlite3_vtab_cursor *, int idxNum, const char *idxStr, int argc, sqlite3_value **argv);
  int (*xNext)(sqlite3_vtab_cursor *);
  int (*xEof)(sqlite3_vtab_cursor *);
  int (*xColumn)(sqlite3_vtab_cursor *, sqlite3_context *, int);
  int (*xRowid)(sqlite3_vtab_cursor *, sqlite3_int64 *pRowid);
  int (*xUpdate)(sqlite3_vtab *, int, sqlite3_value **, sqlite3_int64 *);
  int (*xBegin)(sqlite3_vtab *pVTab);
  int (*xSync)(sqlite3_vtab *pVTab);
  int (*xCommit)(sqlite3_vtab *pVTab);
  int (*xRollback)(sqlite3_vtab *pVTab);
  int (*xFindFunction)(sqlite3_vtab *pVtab, int nArg, const char *zName,
      void (**pxFunc)(sqlite3_context *, int, sqlite3_value **), void **ppArg);
  int (*xRename)(sqlite3_vtab *pVtab, const char *zNew);
  int (*xSavepoint)(sqlite3_vtab *pVTab, int);
  int (*xRelease)(sqlite3_vtab *pVTab, int);
  int (*xRollbackTo)(sqlite3_vtab *pVTab, int);
  int (*xShadowName)(const char *);
  int (*xIntegrity)(sqlite3_vtab *pVTab, const char *zSchema, const char *zTabName, int mFlags, char **pzErr);
};

struct sqlite3_index_info {
  int nConstraint;
  struct sqlite3_index_constraint {
    int iColumn; /* -1 for the rowid */
    unsigned char op;
    unsigned char usable;
    int iTermOffset;
  } *aConstraint;
  int nOrderBy;
  struct sqlite3_index_orderby {
    int iColumn;
    unsigned char desc;
  } *aOrderBy;
  struct sqlite3_index_constraint_usage {
    int argvIndex;
    unsigned char omit;
  } *aConstraintUsage;
  int idxNum;
  char *idxStr;
  int needToFreeIdxStr;
  int orderByConsumed;
  double estimatedCost;
  sqlite3_int64 estimatedRows; /* since 3.8.2 */
  int idxFlags;                /* since 3.9.0 */
  sqlite3_uint64 colUsed;      /* since 3.10.0 */
};

#define SQLITE_INDEX_SCAN_UNIQUE 0x00000001

#define SQLITE_INDEX_CONSTRAINT_EQ 2
#define SQLITE_INDEX_CONSTRAINT_GT 4
#define SQLITE_INDEX_CONSTRAINT_LE 8
#define SQLITE_INDEX_CONSTRAINT_LT 16
#define SQLITE_INDEX_CONSTRAINT_GE 32
#define SQLITE_INDEX_CONSTRAINT_MATCH 64
#define SQLITE_INDEX_CONSTRAINT_NE 68
#define SQLITE_INDEX_CONSTRAINT_ISNULL 71
#define SQLITE_INDEX_CONSTRAINT_IS 72
#define SQLITE_INDEX_CONSTRAINT_LIMIT 73
#define SQLITE_INDEX_CONSTRAINT_OFFSET 74
#define SQLITE_INDEX_CONSTRAINT_FUNCTION 150

/* options of sqlite3_vtab_config */
#define SQLITE_VTAB_CONSTRAINT_SUPPORT 1
#define SQLITE_VTAB_INNOCUOUS 2
#define SQLITE_VTAB_DIRECTONLY 3

/* answers of sqlite3_vtab_on_conflict (SQLITE_ABORT, above, is one too) */
#define SQLITE_ROLLBACK 1
#define SQLITE_FAIL 3
#define SQLITE_REPLACE 5

VS_WEAK extern int sqlite3_create_module_v2(sqlite3 *, const char *name, const sqlite3_module *, void *client,
    void (*destroy)(void *));
VS_WEAK extern int sqlite3_declare_vtab(sqlite3 *, const char *sql);
VS_WEAK extern int sqlite3_vtab_config(sqlite3 *, int op, ...);
VS_WEAK extern int sqlite3_vtab_on_conflict(sqlite3 *);
VS_WEAK extern int sqlite3_vtab_nochange(sqlite3_context *);
VS_WEAK extern const char *sqlite3_vtab_collation(sqlite3_index_info *, int);
VS_WEAK extern int sqlite3_vtab_distinct(sqlite3_index_info *);                        /* since 3.38 */
VS_WEAK extern int sqlite3_vtab_in(sqlite3_index_info *, int cons, int handle);        /* since 3.38 */
VS_WEAK extern int sqlite3_vtab_in_first(sqlite3_value *, sqlite3_value **out);        /* since 3.38 */
VS_WEAK extern int sqlite3_vtab_in_next(sqlite3_value *, sqlite3_value **out);         /* since 3.38 */
VS_WEAK extern int sqlite3_vtab_rhs_value(sqlite3_index_info *, int, sqlite3_value **); /* since 3.38 */

/* ---- functions ---- */

VS_WEAK extern int sqlite3_auto_extension(void (*entry)(void)); /* not in the extension */
VS_WEAK extern int sqlite3_create_function_v2(sqlite3 *, const char *name, int nArg, int flags,
    void *user, void (*func)(sqlite3_context *, int, sqlite3_value **),
    void (*step)(sqlite3_context *, int, sqlite3_value **), void (*final)(sqlite3_context *),
    void (*destroy)(void *));
VS_WEAK extern int sqlite3_overload_function(sqlite3 *, const char *name, int nArg);

VS_WEAK extern void *sqlite3_user_data(sqlite3_context *);
VS_WEAK extern sqlite3 *sqlite3_context_db_handle(sqlite3_context *);
VS_WEAK extern void *sqlite3_get_auxdata(sqlite3_context *, int n);
VS_WEAK extern void sqlite3_set_auxdata(sqlite3_context *, int n, void *, void (*)(void *));
VS_WEAK extern void *sqlite3_aggregate_context(sqlite3_context *, int bytes);

VS_WEAK extern int sqlite3_value_type(sqlite3_value *);
VS_WEAK extern int sqlite3_value_numeric_type(sqlite3_value *);
VS_WEAK extern int sqlite3_value_bytes(sqlite3_value *);
VS_WEAK extern const void *sqlite3_value_blob(sqlite3_value *);
VS_WEAK extern const unsigned char *sqlite3_value_text(sqlite3_value *);
VS_WEAK extern int sqlite3_value_int(sqlite3_value *);
VS_WEAK extern sqlite3_int64 sqlite3_value_int64(sqlite3_value *);
VS_WEAK extern double sqlite3_value_double(sqlite3_value *);
VS_WEAK extern int sqlite3_value_frombind(sqlite3_value *); /* since 3.28 */
VS_WEAK extern int sqlite3_value_nochange(sqlite3_value *);
VS_WEAK extern sqlite3_value *sqlite3_value_dup(const sqlite3_value *);
VS_WEAK extern void sqlite3_value_free(sqlite3_value *);

VS_WEAK extern void sqlite3_result_null(sqlite3_context *);
VS_WEAK extern void sqlite3_result_int(sqlite3_context *, int);
VS_WEAK extern void sqlite3_result_int64(sqlite3_context *, sqlite3_int64);
VS_WEAK extern void sqlite3_result_double(sqlite3_context *, double);
VS_WEAK extern void sqlite3_result_blob(sqlite3_context *, const void *, int n, void (*)(void *));
VS_WEAK extern void sqlite3_result_text(sqlite3_context *, const char *, int n, void (*)(void *));
VS_WEAK extern void sqlite3_result_value(sqlite3_context *, sqlite3_value *);
VS_WEAK extern void sqlite3_result_error(sqlite3_context *, const char *, int n);
VS_WEAK extern void sqlite3_result_error_code(sqlite3_context *, int);
VS_WEAK extern void sqlite3_result_error_nomem(sqlite3_context *);

/* ---- statements and blobs ---- */

VS_WEAK extern int sqlite3_exec(sqlite3 *, const char *sql, int (*row)(void *, int, char **, char **), void *,
    char **error);
VS_WEAK extern int sqlite3_prepare_v3(sqlite3 *, const char *sql, int bytes, unsigned int flags, sqlite3_stmt **,
    const char **tail);
VS_WEAK extern int sqlite3_step(sqlite3_stmt *);
VS_WEAK extern int sqlite3_reset(sqlite3_stmt *);
VS_WEAK extern int sqlite3_finalize(sqlite3_stmt *);
VS_WEAK extern int sqlite3_clear_bindings(sqlite3_stmt *);
VS_WEAK extern sqlite3 *sqlite3_db_handle(sqlite3_stmt *);

VS_WEAK extern int sqlite3_bind_blob(sqlite3_stmt *, int, const void *, int n, void (*)(void *));
VS_WEAK extern int sqlite3_bind_zeroblob(sqlite3_stmt *, int, int n);
VS_WEAK extern int sqlite3_bind_double(sqlite3_stmt *, int, double);
VS_WEAK extern int sqlite3_bind_int(sqlite3_stmt *, int, int);
VS_WEAK extern int sqlite3_bind_int64(sqlite3_stmt *, int, sqlite3_int64);
VS_WEAK extern int sqlite3_bind_null(sqlite3_stmt *, int);
VS_WEAK extern int sqlite3_bind_text(sqlite3_stmt *, int, const char *, int n, void (*)(void *));
VS_WEAK extern int sqlite3_bind_value(sqlite3_stmt *, int, const sqlite3_value *);

VS_WEAK extern int sqlite3_column_count(sqlite3_stmt *);
VS_WEAK extern const char *sqlite3_column_name(sqlite3_stmt *, int);
VS_WEAK extern int sqlite3_column_type(sqlite3_stmt *, int);
VS_WEAK extern int sqlite3_column_bytes(sqlite3_stmt *, int);
VS_WEAK extern const void *sqlite3_column_blob(sqlite3_stmt *, int);
VS_WEAK extern double sqlite3_column_double(sqlite3_stmt *, int);
VS_WEAK extern int sqlite3_column_int(sqlite3_stmt *, int);
VS_WEAK extern sqlite3_int64 sqlite3_column_int64(sqlite3_stmt *, int);
VS_WEAK extern const unsigned char *sqlite3_column_text(sqlite3_stmt *, int);
VS_WEAK extern sqlite3_value *sqlite3_column_value(sqlite3_stmt *, int);

VS_WEAK extern int sqlite3_blob_open(sqlite3 *, const char *schema, const char *table, const char *column,
    sqlite3_int64 rowid, int flags, sqlite3_blob **);
VS_WEAK extern int sqlite3_blob_reopen(sqlite3_blob *, sqlite3_int64 rowid);
VS_WEAK extern int sqlite3_blob_close(sqlite3_blob *);
VS_WEAK extern int sqlite3_blob_bytes(sqlite3_blob *);
VS_WEAK extern int sqlite3_blob_read(sqlite3_blob *, void *, int n, int offset);
VS_WEAK extern int sqlite3_blob_write(sqlite3_blob *, const void *, int n, int offset);

/* ---- the connection ---- */

VS_WEAK extern int sqlite3_libversion_number(void);
VS_WEAK extern const char *sqlite3_libversion(void);
VS_WEAK extern const char *sqlite3_errmsg(sqlite3 *);
VS_WEAK extern int sqlite3_errcode(sqlite3 *);
VS_WEAK extern int sqlite3_extended_errcode(sqlite3 *);
VS_WEAK extern const char *sqlite3_errstr(int);
VS_WEAK extern int sqlite3_changes(sqlite3 *);
VS_WEAK extern int sqlite3_total_changes(sqlite3 *);
VS_WEAK extern sqlite3_int64 sqlite3_last_insert_rowid(sqlite3 *);
VS_WEAK extern void sqlite3_set_last_insert_rowid(sqlite3 *, sqlite3_int64);
VS_WEAK extern int sqlite3_get_autocommit(sqlite3 *);
VS_WEAK extern int sqlite3_db_readonly(sqlite3 *, const char *schema);
VS_WEAK extern int sqlite3_table_column_metadata(sqlite3 *, const char *schema, const char *table,
    const char *column, char const **type, char const **collation, int *not_null, int *primary, int *autoinc);

/* ---- memory and text ---- */

VS_WEAK extern void *sqlite3_malloc64(sqlite3_uint64);
VS_WEAK extern void *sqlite3_realloc64(void *, sqlite3_uint64);
VS_WEAK extern void sqlite3_free(void *);
VS_WEAK extern char *sqlite3_mprintf(const char *, ...);
VS_WEAK extern char *sqlite3_vmprintf(const char *, __builtin_va_list);
VS_WEAK extern int sqlite3_stricmp(const char *, const char *);
VS_WEAK extern int sqlite3_strnicmp(const char *, const char *, int);
VS_WEAK extern void sqlite3_randomness(int n, void *);

/* ---- the extension: the same functions by their slot in the host's table ----
 *
 * A host may have linked SQLite statically, hide its symbols, or load it without making them
 * global (Python does), so the names above may not resolve, or resolve to some other copy of
 * SQLite. The host therefore hands its entry point a table of pointers, struct
 * sqlite3_api_routines, whose slots never move. VS_ROUTINE calls one with the type declared
 * above; inside a macro its own name is not expanded again. */
#ifdef VS_EXTENSION

typedef struct sqlite3_api_routines {
  void (*slot[1])(void); /* as many as the host's version has */
} sqlite3_api_routines;

/* vs_routines is the table of the host, set by the entry point before anything else. */
extern __attribute__((visibility("hidden"))) void (*const *vs_routines)(void);

/* VS_OLDEST_SQLITE is the first version whose table has every slot below. */
#define VS_OLDEST_SQLITE 3038000

#define VS_ROUTINE(name, slot) ((__typeof__(&name))vs_routines[slot])

#define sqlite3_create_module_v2 VS_ROUTINE(sqlite3_create_module_v2, 119)
#define sqlite3_declare_vtab VS_ROUTINE(sqlite3_declare_vtab, 50)
#define sqlite3_vtab_config VS_ROUTINE(sqlite3_vtab_config, 177)
#define sqlite3_vtab_on_conflict VS_ROUTINE(sqlite3_vtab_on_conflict, 178)
#define sqlite3_vtab_nochange VS_ROUTINE(sqlite3_vtab_nochange, 222)
#define sqlite3_vtab_collation VS_ROUTINE(sqlite3_vtab_collation, 224)
#define sqlite3_vtab_distinct VS_ROUTINE(sqlite3_vtab_distinct, 258)
#define sqlite3_vtab_in VS_ROUTINE(sqlite3_vtab_in, 259)
#define sqlite3_vtab_in_first VS_ROUTINE(sqlite3_vtab_in_first, 260)
#define sqlite3_vtab_in_next VS_ROUTINE(sqlite3_vtab_in_next, 261)
#define sqlite3_vtab_rhs_value VS_ROUTINE(sqlite3_vtab_rhs_value, 257)
#define sqlite3_create_function_v2 VS_ROUTINE(sqlite3_create_function_v2, 162)
#define sqlite3_overload_function VS_ROUTINE(sqlite3_overload_function, 115)
#define sqlite3_user_data VS_ROUTINE(sqlite3_user_data, 101)
#define sqlite3_context_db_handle VS_ROUTINE(sqlite3_context_db_handle, 149)
#define sqlite3_get_auxdata VS_ROUTINE(sqlite3_get_auxdata, 61)
#define sqlite3_set_auxdata VS_ROUTINE(sqlite3_set_auxdata, 92)
#define sqlite3_aggregate_context VS_ROUTINE(sqlite3_aggregate_context, 0)
#define sqlite3_value_type VS_ROUTINE(sqlite3_value_type, 113)
#define sqlite3_value_numeric_type VS_ROUTINE(sqlite3_value_numeric_type, 108)
#define sqlite3_value_bytes VS_ROUTINE(sqlite3_value_bytes, 103)
#define sqlite3_value_blob VS_ROUTINE(sqlite3_value_blob, 102)
#define sqlite3_value_text VS_ROUTINE(sqlite3_value_text, 109)
#define sqlite3_value_int VS_ROUTINE(sqlite3_value_int, 106)
#define sqlite3_value_int64 VS_ROUTINE(sqlite3_value_int64, 107)
#define sqlite3_value_double VS_ROUTINE(sqlite3_value_double, 105)
#define sqlite3_value_frombind VS_ROUTINE(sqlite3_value_frombind, 242)
#define sqlite3_value_nochange VS_ROUTINE(sqlite3_value_nochange, 223)
#define sqlite3_value_dup VS_ROUTINE(sqlite3_value_dup, 204)
#define sqlite3_value_free VS_ROUTINE(sqlite3_value_free, 205)
#define sqlite3_result_null VS_ROUTINE(sqlite3_result_null, 84)
#define sqlite3_result_int VS_ROUTINE(sqlite3_result_int, 82)
#define sqlite3_result_int64 VS_ROUTINE(sqlite3_result_int64, 83)
#define sqlite3_result_double VS_ROUTINE(sqlite3_result_double, 79)
#define sqlite3_result_blob VS_ROUTINE(sqlite3_result_blob, 78)
#define sqlite3_result_text VS_ROUTINE(sqlite3_result_text, 85)
#define sqlite3_result_value VS_ROUTINE(sqlite3_result_value, 89)
#define sqlite3_result_error VS_ROUTINE(sqlite3_result_error, 80)
#define sqlite3_result_error_code VS_ROUTINE(sqlite3_result_error_code, 146)
#define sqlite3_result_error_nomem VS_ROUTINE(sqlite3_result_error_nomem, 137)
#define sqlite3_exec VS_ROUTINE(sqlite3_exec, 55)
#define sqlite3_prepare_v3 VS_ROUTINE(sqlite3_prepare_v3, 217)
#define sqlite3_step VS_ROUTINE(sqlite3_step, 94)
#define sqlite3_reset VS_ROUTINE(sqlite3_reset, 77)
#define sqlite3_finalize VS_ROUTINE(sqlite3_finalize, 57)
#define sqlite3_clear_bindings VS_ROUTINE(sqlite3_clear_bindings, 118)
#define sqlite3_db_handle VS_ROUTINE(sqlite3_db_handle, 49)
#define sqlite3_bind_blob VS_ROUTINE(sqlite3_bind_blob, 2)
#define sqlite3_bind_zeroblob VS_ROUTINE(sqlite3_bind_zeroblob, 120)
#define sqlite3_bind_double VS_ROUTINE(sqlite3_bind_double, 3)
#define sqlite3_bind_int VS_ROUTINE(sqlite3_bind_int, 4)
#define sqlite3_bind_int64 VS_ROUTINE(sqlite3_bind_int64, 5)
#define sqlite3_bind_null VS_ROUTINE(sqlite3_bind_null, 6)
#define sqlite3_bind_text VS_ROUTINE(sqlite3_bind_text, 10)
#define sqlite3_bind_value VS_ROUTINE(sqlite3_bind_value, 12)
#define sqlite3_column_count VS_ROUTINE(sqlite3_column_count, 22)
#define sqlite3_column_name VS_ROUTINE(sqlite3_column_name, 30)
#define sqlite3_column_type VS_ROUTINE(sqlite3_column_type, 38)
#define sqlite3_column_bytes VS_ROUTINE(sqlite3_column_bytes, 20)
#define sqlite3_column_blob VS_ROUTINE(sqlite3_column_blob, 19)
#define sqlite3_column_double VS_ROUTINE(sqlite3_column_double, 27)
#define sqlite3_column_int VS_ROUTINE(sqlite3_column_int, 28)
#define sqlite3_column_int64 VS_ROUTINE(sqlite3_column_int64, 29)
#define sqlite3_column_text VS_ROUTINE(sqlite3_column_text, 36)
#define sqlite3_column_value VS_ROUTINE(sqlite3_column_value, 39)
#define sqlite3_blob_open VS_ROUTINE(sqlite3_blob_open, 123)
#define sqlite3_blob_reopen VS_ROUTINE(sqlite3_blob_reopen, 176)
#define sqlite3_blob_close VS_ROUTINE(sqlite3_blob_close, 122)
#define sqlite3_blob_bytes VS_ROUTINE(sqlite3_blob_bytes, 121)
#define sqlite3_blob_read VS_ROUTINE(sqlite3_blob_read, 124)
#define sqlite3_blob_write VS_ROUTINE(sqlite3_blob_write, 125)
#define sqlite3_libversion_number VS_ROUTINE(sqlite3_libversion_number, 67)
#define sqlite3_libversion VS_ROUTINE(sqlite3_libversion, 66)
#define sqlite3_errmsg VS_ROUTINE(sqlite3_errmsg, 53)
#define sqlite3_errcode VS_ROUTINE(sqlite3_errcode, 52)
#define sqlite3_extended_errcode VS_ROUTINE(sqlite3_extended_errcode, 166)
#define sqlite3_errstr VS_ROUTINE(sqlite3_errstr, 183)
#define sqlite3_changes VS_ROUTINE(sqlite3_changes, 15)
#define sqlite3_total_changes VS_ROUTINE(sqlite3_total_changes, 97)
#define sqlite3_last_insert_rowid VS_ROUTINE(sqlite3_last_insert_rowid, 65)
#define sqlite3_set_last_insert_rowid VS_ROUTINE(sqlite3_set_last_insert_rowid, 216)
#define sqlite3_get_autocommit VS_ROUTINE(sqlite3_get_autocommit, 60)
#define sqlite3_db_readonly VS_ROUTINE(sqlite3_db_readonly, 181)
#define sqlite3_table_column_metadata VS_ROUTINE(sqlite3_table_column_metadata, 95)
#define sqlite3_malloc64 VS_ROUTINE(sqlite3_malloc64, 197)
#define sqlite3_realloc64 VS_ROUTINE(sqlite3_realloc64, 199)
#define sqlite3_free VS_ROUTINE(sqlite3_free, 58)
#define sqlite3_mprintf VS_ROUTINE(sqlite3_mprintf, 69)
#define sqlite3_vmprintf VS_ROUTINE(sqlite3_vmprintf, 114)
#define sqlite3_stricmp VS_ROUTINE(sqlite3_stricmp, 186)
#define sqlite3_strnicmp VS_ROUTINE(sqlite3_strnicmp, 171)
#define sqlite3_randomness VS_ROUTINE(sqlite3_randomness, 148)

#endif
#endif
