#include "value.h"

#include <string.h>

int vs_read_value(vs_vector *v, sqlite3_value *value, int raw, void **memory, vs_error *e) {
  const void *bytes;
  *memory = NULL;
  switch (sqlite3_value_type(value)) {
  case SQLITE_TEXT:
    bytes = sqlite3_value_text(value);
    if (bytes == NULL) {
      e->nomem = 1;
      return -1;
    }
    return vs_read_text(v, bytes, (size_t)sqlite3_value_bytes(value), memory, e);
  case SQLITE_BLOB: {
    bytes = sqlite3_value_blob(value);
    size_t n = (size_t)sqlite3_value_bytes(value);
    return raw ? vs_read_raw(v, (enum vs_type)raw, bytes, n, e) : vs_read_blob(v, bytes, n, e);
  }
  }
  return vs_fail(e, "is a number; a vector is a blob, or a JSON array as text");
}

void vs_result_error(sqlite3_context *ctx, const char *name, int i, const vs_error *e) {
  if (e->nomem) {
    sqlite3_result_error_nomem(ctx);
    return;
  }
  char *text = i > 0 ? sqlite3_mprintf("%s: argument %d %s", name, i, e->text) : sqlite3_mprintf("%s: %s", name, e->text);
  if (text == NULL) {
    sqlite3_result_error_nomem(ctx);
    return;
  }
  sqlite3_result_error(ctx, text, -1);
  sqlite3_free(text);
}

void vs_result_packed(sqlite3_context *ctx, vs_packed *p) {
  size_t bytes = vs_pack_end(p);
  sqlite3_result_blob(ctx, p->blob, (int)bytes, sqlite3_free);
}
