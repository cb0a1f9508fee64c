/* CREATE VIRTUAL TABLE notes_knn USING velosync_knn(notes, embedding, metric=cosine): arguments
 * and commands. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "functions.h"
#include "knn_table.h"
#include "value.h"

/* ---- arguments ---- */

/* unquoted copies an argument without the quotes around it. */
static char *unquoted(const char *text) {
  while (isspace((unsigned char)*text)) text++;
  size_t n = strlen(text);
  while (n > 0 && isspace((unsigned char)text[n - 1])) n--;
  char *copy = sqlite3_malloc64(n + 1), *to = copy;
  if (copy == NULL) return NULL;
  char close = n >= 2 ? text[0] == '[' ? ']' : text[0] : 0;
  if (close != 0 && strchr("\"'`]", close) != NULL && text[n - 1] == close) {
    for (size_t i = 1; i + 1 < n; i++) {
      *to++ = text[i];
      if (text[i] == close && close != ']' && text[i + 1] == close && i + 2 < n) i++;
    }
  } else {
    memcpy(to, text, n);
    to += n;
  }
  *to = '\0';
  return copy;
}

static const struct {
  const char *name;
  enum knn_metric metric;
} metrics[] = {{"cosine", KNN_COSINE}, {"l2", KNN_L2}, {"dot", KNN_DOT}, {"hamming", KNN_HAMMING}};

/* read_number returns the number from 1 to most that text is, or 0. */
static long read_number(const char *text, long most) {
  char *end;
  long n = strtol(text, &end, 10);
  return *text != '\0' && *end == '\0' && n > 0 && n <= most ? n : 0;
}

/* read_option takes one name=value. Returns 0, or -1 with *error. */
static int read_option(knn_index *x, const char *text, char **error) {
  const char *equals = strchr(text, '=');
  char *name = equals == NULL ? NULL : sqlite3_mprintf("%.*s", (int)(equals - text), text);
  char *bare = name == NULL ? NULL : unquoted(name), *value = equals == NULL ? NULL : unquoted(equals + 1);
  int known = 0;
  if (bare != NULL && value != NULL && sqlite3_stricmp(bare, "metric") == 0) {
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
      if (sqlite3_stricmp(value, metrics[i].name) == 0) x->metric = metrics[i].metric, known = 1;
    if (!known) *error = sqlite3_mprintf("velosync_knn: metric=%s is none of cosine, l2, dot and hamming", value);
  } else if (bare != NULL && value != NULL && sqlite3_stricmp(bare, "dims") == 0) {
    long n = read_number(value, VS_MAX_DIMS);
    known = n > 0;
    if (known) x->fixed_dims = (size_t)n;
    else *error = sqlite3_mprintf("velosync_knn: dims=%s is no number from 1 to %d", value, VS_MAX_DIMS);
  } else if (bare != NULL && value != NULL && sqlite3_stricmp(bare, "lists_from") == 0) {
    x->lists_from = read_number(value, 1000000000);
    known = x->lists_from > 0;
    if (!known) *error = sqlite3_mprintf("velosync_knn: lists_from=%s is no number from 1 to 1000000000", value);
  } else {
    *error = sqlite3_mprintf("velosync_knn: unknown argument %s; it takes (table, column, metric=cosine, dims=384, lists_from=%d)",
                             text, KNN_LISTS_FROM);
  }
  sqlite3_free(name), sqlite3_free(bare), sqlite3_free(value);
  return known ? 0 : -1;
}

static void release(knn_index *x) {
  if (x == NULL) return;
  knn_finalize(x);
  knn_free_lists(&x->lists);
  for (int i = 0; i < KNN_MAX_KEYS; i++) sqlite3_free(x->key[i]), sqlite3_free(x->key_type[i]), sqlite3_free(x->key_collation[i]);
  sqlite3_free(x->schema), sqlite3_free(x->name), sqlite3_free(x->argument), sqlite3_free(x->table), sqlite3_free(x->column);
  sqlite3_free(x->signs), sqlite3_free(x->base.zErrMsg);
  sqlite3_free(x);
}

/* declare tells SQLite the columns. Where the user's table is gone its key is called id: the index
 * can then be dropped, or built again when the table is back. */
static int declare(knn_index *x, const char *vector) {
  char *keys = sqlite3_mprintf(x->keys == 0 ? "id, " : "");
  for (int i = 0; i < x->keys && keys != NULL; i++) {
    char *more = sqlite3_mprintf("%s\"%w\" %s, ", keys, x->key[i], x->key_type[i]);
    sqlite3_free(keys);
    keys = more;
  }
  char *sql = keys == NULL ? NULL : sqlite3_mprintf("CREATE TABLE x(%s\"%w\", distance REAL, k INTEGER HIDDEN, recall REAL HIDDEN, \"%w\" HIDDEN)",
                                                    keys, vector, x->name);
  sqlite3_free(keys);
  if (sql == NULL) return SQLITE_NOMEM;
  int rc = sqlite3_declare_vtab(x->db, sql);
  sqlite3_free(sql);
  return rc;
}

static int is_reserved(const char *name, const char *index) {
  return sqlite3_stricmp(name, "distance") == 0 || sqlite3_stricmp(name, "k") == 0 || sqlite3_stricmp(name, "recall") == 0 ||
         sqlite3_stricmp(name, index) == 0;
}

/* start makes the index's own tables and triggers and fills them. */
static int start(knn_index *x) {
  int rc = knn_create_tables(x);
  if (rc == SQLITE_OK) rc = knn_create_triggers(x);
  return rc == SQLITE_OK ? knn_build(x) : rc;
}

static int make(sqlite3 *db, int create, int argc, const char *const *argv, sqlite3_vtab **table, char **error) {
  if (argc < 5) {
    *error = sqlite3_mprintf("velosync_knn takes the table and the column: USING velosync_knn(notes, embedding, metric=cosine)");
    return SQLITE_ERROR;
  }
  knn_index *x = sqlite3_malloc64(sizeof *x);
  if (x == NULL) return SQLITE_NOMEM;
  memset(x, 0, sizeof *x);
  x->db = db;
  x->lists_from = KNN_LISTS_FROM;
  sqlite3_randomness(sizeof x->random, &x->random);
  x->schema = sqlite3_mprintf("%s", argv[1]);
  x->name = sqlite3_mprintf("%s", argv[2]);
  x->argument = unquoted(argv[3]);
  x->column = unquoted(argv[4]);
  x->table = x->argument == NULL ? NULL : sqlite3_mprintf("%s", x->argument);
  char *vector = x->column == NULL ? NULL : sqlite3_mprintf("%s", x->column);
  int rc = x->schema == NULL || x->name == NULL || x->table == NULL || vector == NULL ? SQLITE_NOMEM : SQLITE_OK;
  for (int i = 5; i < argc && rc == SQLITE_OK; i++)
    if (read_option(x, argv[i], error) != 0) rc = SQLITE_ERROR;
  if (rc == SQLITE_OK) rc = create ? knn_describe(x) : knn_refresh(x);
  /* An index whose table is gone, or has changed past recognition, must be there to be dropped. */
  if (rc == SQLITE_ERROR && !create) rc = SQLITE_OK;
  for (int i = 0; i < x->keys && rc == SQLITE_OK; i++)
    if (create && is_reserved(x->key[i], x->name))
      rc = knn_fail(x, SQLITE_ERROR, "the key column \"%s\" has the name of a column of the index; rename one of them", x->key[i]);
  if (rc == SQLITE_OK && create && is_reserved(vector, x->name))
    rc = knn_fail(x, SQLITE_ERROR, "the column \"%s\" has the name of a column of the index; rename one of them", vector);
  if (rc == SQLITE_OK) rc = declare(x, vector);
  int started = rc == SQLITE_OK && create;
  if (started) rc = start(x);
  sqlite3_free(vector);
  if (rc != SQLITE_OK) {
    if (*error == NULL && x->base.zErrMsg != NULL) *error = sqlite3_mprintf("%s", x->base.zErrMsg);
    if (started) { /* in a transaction, what stands before the failure would stay */
      knn_finalize(x);
      if (knn_drop_triggers(x) == SQLITE_OK) knn_drop_tables(x);
    }
    release(x);
    return rc;
  }
  sqlite3_free(x->base.zErrMsg);
  x->base.zErrMsg = NULL;
  *table = &x->base;
  return SQLITE_OK;
}

static int create_index(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **table, char **error) {
  (void)aux;
  return make(db, 1, argc, argv, table, error);
}

static int connect_index(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **table, char **error) {
  (void)aux;
  return make(db, 0, argc, argv, table, error);
}

static int disconnect_index(sqlite3_vtab *table) {
  release((knn_index *)table);
  return SQLITE_OK;
}

static int destroy_index(sqlite3_vtab *table) {
  knn_index *x = (knn_index *)table;
  knn_finalize(x);
  int rc = knn_drop_triggers(x);
  if (rc == SQLITE_OK) rc = knn_drop_tables(x);
  if (rc == SQLITE_OK) release(x);
  return rc;
}

static int rename_index(sqlite3_vtab *table, const char *name) { return knn_rename((knn_index *)table, name); }

/* ---- commands ---- */

/* Commands run within an INSERT, which undoes them if they fail for want of memory, disk or
 * patience; other failures mean that the index was damaged before. */
static int rebuild(knn_index *x) {
  int rc = SQLITE_OK;
  if (x->table == NULL) { /* the table was made again: take it up under the name it had */
    if ((x->table = sqlite3_mprintf("%s", x->argument)) == NULL) return SQLITE_NOMEM;
    rc = knn_describe(x);
  }
  /* Tables cannot be dropped within a statement; knn_build empties them. */
  if (rc == SQLITE_OK) rc = knn_drop_triggers(x);
  return rc == SQLITE_OK ? start(x) : rc;
}

/* INSERT INTO notes_knn(notes_knn) VALUES('optimize'), or with a number: (notes_knn, k). */
static int run_command(knn_index *x, const char *command, sqlite3_value *number) {
  int rc = knn_refresh(x);
  if (sqlite3_stricmp(command, "rebuild") == 0) {
    if (rc == SQLITE_ERROR) rc = SQLITE_OK;
    return rc == SQLITE_OK ? rebuild(x) : rc;
  }
  if (rc != SQLITE_OK) return rc;
  if (x->table == NULL || x->keys == 0) return knn_no_table(x);
  if (sqlite3_stricmp(command, "optimize") == 0) return knn_optimize(x);
  if (sqlite3_stricmp(command, "integrity-check") == 0) return knn_check(x);
  if (sqlite3_stricmp(command, "fold") == 0) {
    sqlite3_int64 most = sqlite3_value_type(number) == SQLITE_NULL ? 1000 : sqlite3_value_int64(number);
    int left;
    return most <= 0 ? SQLITE_OK : knn_fold(x, most, 1, &left);
  }
  return knn_fail(x, SQLITE_ERROR, "unknown command '%s'; there are optimize, fold, rebuild and integrity-check", command);
}

static int update(sqlite3_vtab *table, int argc, sqlite3_value **argv, sqlite3_int64 *id) {
  knn_index *x = (knn_index *)table;
  int keys = x->keys == 0 ? 1 : x->keys;
  /* argv: the old rowid, the new one, then the columns */
  if (argc != 2 + keys + KNN_COLUMNS || sqlite3_value_type(argv[0]) != SQLITE_NULL ||
      sqlite3_value_type(argv[2 + keys + KNN_COMMAND]) != SQLITE_TEXT)
    return knn_fail(x, SQLITE_ERROR, "is an index: write to table \"%s\"; commands are INSERT INTO %s(%s) VALUES('optimize')",
                    x->table == NULL ? x->argument : x->table, x->name, x->name);
  char *command = sqlite3_mprintf("%s", (const char *)sqlite3_value_text(argv[2 + keys + KNN_COMMAND]));
  if (command == NULL) return SQLITE_NOMEM;
  *id = 0;
  sqlite3_int64 last = sqlite3_last_insert_rowid(x->db);
  int rc = run_command(x, command, argv[2 + keys + KNN_K]);
  sqlite3_set_last_insert_rowid(x->db, last);
  sqlite3_free(command);
  return rc;
}

int vs_register_knn(sqlite3 *db) {
  static const sqlite3_module module = {
      .iVersion = 3,
      .xCreate = create_index,
      .xConnect = connect_index,
      .xBestIndex = knn_best_index,
      .xDisconnect = disconnect_index,
      .xDestroy = destroy_index,
      .xOpen = knn_open,
      .xClose = knn_close,
      .xFilter = knn_filter,
      .xNext = knn_next,
      .xEof = knn_eof,
      .xColumn = knn_column_at,
      .xRowid = knn_rowid,
      .xUpdate = update,
      .xRename = rename_index,
      .xShadowName = knn_is_shadow,
  };
  return sqlite3_create_module_v2(db, "velosync_knn", &module, NULL, NULL);
}
