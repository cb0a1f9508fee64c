/* The part of SQLite's C interface that this package calls, declared by hand.
 *
 * The symbols come from the copy of SQLite inside github.com/mattn/go-sqlite3, which every
 * program with this package links. Its header cannot be included from another Go package, so
 * a user would need the same sqlite3.h installed, or a build tag. The interface below is
 * frozen: SQLite has kept it since version 3 began (frombind since 3.28).
 *
 * The declarations are weak because cgo first links each package alone, without go-sqlite3,
 * to look at its symbols. In the real program the linker finds them. */
#ifndef VS_SQLITE_API_H
#define VS_SQLITE_API_H

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_context sqlite3_context;
typedef struct sqlite3_value sqlite3_value;
typedef long long int sqlite3_int64;
typedef unsigned long long int sqlite3_uint64;

#define VS_WEAK __attribute__((weak))

/* result codes and type codes */
#define SQLITE_OK 0
#define SQLITE_INTEGER 1
#define SQLITE_FLOAT 2
#define SQLITE_TEXT 3
#define SQLITE_BLOB 4
#define SQLITE_NULL 5

/* encoding and flags of a function */
#define SQLITE_UTF8 1
#define SQLITE_DETERMINISTIC 0x000000800
#define SQLITE_INNOCUOUS 0x000200000

#define SQLITE_TRANSIENT ((void (*)(void *))-1)

VS_WEAK extern int sqlite3_auto_extension(void (*entry)(void));
VS_WEAK extern int sqlite3_create_function_v2(sqlite3 *, const char *name, int nArg, int flags,
    void *user, void (*func)(sqlite3_context *, int, sqlite3_value **),
    void (*step)(sqlite3_context *, int, sqlite3_value **), void (*final)(sqlite3_context *),
    void (*destroy)(void *));

VS_WEAK extern void *sqlite3_user_data(sqlite3_context *);
VS_WEAK extern void *sqlite3_get_auxdata(sqlite3_context *, int n);
VS_WEAK extern void sqlite3_set_auxdata(sqlite3_context *, int n, void *, void (*)(void *));

VS_WEAK extern int sqlite3_value_type(sqlite3_value *);
VS_WEAK extern int sqlite3_value_bytes(sqlite3_value *);
VS_WEAK extern const void *sqlite3_value_blob(sqlite3_value *);
VS_WEAK extern const unsigned char *sqlite3_value_text(sqlite3_value *);
VS_WEAK extern int sqlite3_value_frombind(sqlite3_value *);

VS_WEAK extern void sqlite3_result_null(sqlite3_context *);
VS_WEAK extern void sqlite3_result_int(sqlite3_context *, int);
VS_WEAK extern void sqlite3_result_double(sqlite3_context *, double);
VS_WEAK extern void sqlite3_result_blob(sqlite3_context *, const void *, int n, void (*)(void *));
VS_WEAK extern void sqlite3_result_text(sqlite3_context *, const char *, int n, void (*)(void *));
VS_WEAK extern void sqlite3_result_error(sqlite3_context *, const char *, int n);
VS_WEAK extern void sqlite3_result_error_nomem(sqlite3_context *);

VS_WEAK extern void *sqlite3_malloc64(sqlite3_uint64);
VS_WEAK extern void sqlite3_free(void *);
VS_WEAK extern char *sqlite3_mprintf(const char *, ...);
VS_WEAK extern char *sqlite3_vmprintf(const char *, __builtin_va_list);

#endif
