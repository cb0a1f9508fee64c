/* Vectors from and to SQL values, for functions, aggregates and table functions alike. */
#ifndef VS_VALUE_H
#define VS_VALUE_H

#include "pack.h"
#include "sqlite_api.h"
#include "vector.h"

/* vs_read_value describes a SQL value that is not NULL: a blob in place, valid as long as the
 * value, or text parsed into *memory, which the caller frees with sqlite3_free (it is NULL for a
 * blob). With raw other than 0, blobs of even length are raw elements of that type, see
 * vs_read_raw. Returns 0, or -1 with e filled and *memory NULL: not a vector. Dimensions and
 * elements of a blob are not checked yet, see vs_read_blob. */
int vs_read_value(vs_vector *v, sqlite3_value *value, int raw, void **memory, vs_error *e);

/* vs_result_error makes "name: argument i <text>" the result; i = 0 leaves the argument out. */
void vs_result_error(sqlite3_context *ctx, const char *name, int i, const vs_error *e);

/* vs_result_packed ends p and makes it the result, which then owns its memory. */
void vs_result_packed(sqlite3_context *ctx, vs_packed *p);

#endif
