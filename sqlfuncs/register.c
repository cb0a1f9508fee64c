/* In the program that links SQLite. The loadable extension has its own way in, extension.c. */
#ifndef VS_EXTENSION
#include "register.h"

#include "functions.h"

/* What this thread is doing between vs_begin_open and vs_end_open. */
static __thread enum { IDLE, WANTED, DONE } state;

/* on_open runs in each sqlite3_open of the process, on the thread that opens. SQLite calls it
 * with these three arguments although it is registered as taking none. It takes the first
 * connection only: a connect hook may open others. */
static int on_open(sqlite3 *db, char **error, const void *api) {
  (void)error, (void)api;
  if (state != WANTED) return SQLITE_OK;
  int rc = vs_register(db);
  state = rc == SQLITE_OK ? DONE : IDLE;
  return rc;
}

int vs_begin_open(void) {
  /* SQLite keeps one entry however often it is added, so adding it each time costs a short
   * search and survives a sqlite3_reset_auto_extension by someone else. */
  int rc = sqlite3_auto_extension((void (*)(void))on_open);
  state = rc == SQLITE_OK ? WANTED : IDLE;
  return rc;
}

int vs_end_open(void) {
  int done = state == DONE;
  state = IDLE;
  return done;
}
#endif
