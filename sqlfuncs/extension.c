/* The way in when the functions are a loadable extension: .load ./velosync in the sqlite3 shell,
 * load_extension in Python and elsewhere. See DESIGN.md. */
#ifdef VS_EXTENSION
#include "functions.h"
#include "kernels.h"

void (*const *vs_routines)(void);

/* sqlite3_velosync_init is the name that SQLite derives from velosync.so. It adds everything to
 * db and returns a SQLite result code, with *error from sqlite3_mprintf if it could use it. */
__attribute__((visibility("default"))) int sqlite3_velosync_init(sqlite3 *db, char **error,
                                                                 const sqlite3_api_routines *api) {
  /* The dynamic linker loads a file once a process. If two copies of SQLite in one process load
   * it, memory from one must not be freed by the other. */
  if (vs_routines != NULL && vs_routines != api->slot) {
    *error = ((__typeof__(sqlite3_mprintf))api->slot[69])(
        "velosync is loaded already, by another copy of SQLite in this process");
    return SQLITE_ERROR;
  }
  vs_routines = api->slot;
  if (sqlite3_libversion_number() < VS_OLDEST_SQLITE) {
    *error = sqlite3_mprintf("velosync needs SQLite 3.38 or newer; this is %s", sqlite3_libversion());
    return SQLITE_ERROR;
  }
  vs_choose_kernels();
  return vs_register(db);
}
#endif
