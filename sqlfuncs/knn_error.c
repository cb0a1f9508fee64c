/* Messages of the index, on its virtual table. */
#include <stdarg.h>

#include "knn.h"

int knn_fail(knn_index *x, int rc, const char *format, ...) {
  va_list args;
  va_start(args, format);
  char *text = sqlite3_vmprintf(format, args);
  va_end(args);
  sqlite3_free(x->base.zErrMsg);
  x->base.zErrMsg = text == NULL ? NULL : sqlite3_mprintf("%s: %s", x->name, text);
  sqlite3_free(text);
  return rc;
}

int knn_corrupt(knn_index *x, const char *format, ...) {
  va_list args;
  va_start(args, format);
  char *text = sqlite3_vmprintf(format, args);
  va_end(args);
  int rc = knn_fail(x, SQLITE_CORRUPT_VTAB, "the index is damaged: %s; INSERT INTO %s(%s) VALUES('rebuild') mends it",
                    text == NULL ? "" : text, x->name, x->name);
  sqlite3_free(text);
  return rc;
}

int knn_no_table(knn_index *x) {
  return knn_fail(x, SQLITE_ERROR,
                  "its triggers are gone, as after table \"%s\" was dropped: drop the index, or once the table is there "
                  "again INSERT INTO %s(%s) VALUES('rebuild')",
                  x->argument, x->name, x->name);
}
