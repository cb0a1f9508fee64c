/* The user's table, the index's own tables, and the triggers between them. */
#include <string.h>

#include "knn.h"

int knn_exec(knn_index *x, char *sql) {
  if (sql == NULL) return SQLITE_NOMEM;
  char *error = NULL;
  int rc = sqlite3_exec(x->db, sql, NULL, NULL, &error);
  if (rc != SQLITE_OK && rc != SQLITE_NOMEM) knn_fail(x, rc, "%s", error == NULL ? sqlite3_errstr(rc) : error);
  sqlite3_free(error);
  sqlite3_free(sql);
  return rc;
}

/* query prepares a statement of sqlite3_mprintf, which it frees. */
static int query(knn_index *x, sqlite3_stmt **s, char *sql) {
  *s = NULL;
  if (sql == NULL) return SQLITE_NOMEM;
  int rc = sqlite3_prepare_v3(x->db, sql, -1, 0, s, NULL);
  sqlite3_free(sql);
  return rc == SQLITE_OK ? rc : knn_fail(x, rc, "%s", sqlite3_errmsg(x->db));
}

static char *copy(const unsigned char *text) { return sqlite3_mprintf("%s", text == NULL ? "" : (const char *)text); }

static void forget_keys(knn_index *x) {
  for (int i = 0; i < KNN_MAX_KEYS; i++) {
    sqlite3_free(x->key[i]), sqlite3_free(x->key_type[i]), sqlite3_free(x->key_collation[i]);
    x->key[i] = x->key_type[i] = x->key_collation[i] = NULL;
  }
  x->keys = 0;
}

/* key_is_rowid says whether the key is another name of the rowid: then SQLite keeps no index for it. */
static int key_is_rowid(knn_index *x) {
  sqlite3_stmt *s;
  int rc = query(x, &s, sqlite3_mprintf("SELECT 1 FROM pragma_index_list(%Q, %Q) WHERE origin = 'pk'", x->table, x->schema));
  if (rc != SQLITE_OK) return rc;
  x->rowid_key = x->keys == 1 && sqlite3_step(s) != SQLITE_ROW;
  return sqlite3_finalize(s);
}

int knn_describe(knn_index *x) {
  sqlite3_stmt *s;
  int rc = query(x, &s, sqlite3_mprintf("SELECT name, type, pk, hidden FROM pragma_table_xinfo(%Q, %Q) ORDER BY pk", x->table,
                                        x->schema));
  if (rc != SQLITE_OK) return rc;
  int columns = 0, found = 0;
  forget_keys(x);
  while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
    columns++;
    const char *name = (const char *)sqlite3_column_text(s, 0);
    if (name == NULL) continue;
    if (sqlite3_stricmp(name, x->column) == 0) found = 1, x->generated = sqlite3_column_int(s, 3) != 0;
    if (sqlite3_column_int(s, 2) == 0) continue;
    if (x->keys == KNN_MAX_KEYS) {
      sqlite3_finalize(s);
      return knn_fail(x, SQLITE_ERROR, "the primary key of table \"%s\" has more than %d columns", x->table, KNN_MAX_KEYS);
    }
    x->key[x->keys] = copy(sqlite3_column_text(s, 0));
    x->key_type[x->keys] = copy(sqlite3_column_text(s, 1));
    x->keys++;
  }
  rc = sqlite3_finalize(s);
  if (rc != SQLITE_OK) return knn_fail(x, rc, "%s", sqlite3_errmsg(x->db));
  if (columns == 0) return knn_fail(x, SQLITE_ERROR, "no such table: %s.%s", x->schema, x->table);
  if (!found) return knn_fail(x, SQLITE_ERROR, "table \"%s\" has no column \"%s\"", x->table, x->column);
  if (x->keys == 0)
    return knn_fail(x, SQLITE_ERROR,
                    "table \"%s\" has no PRIMARY KEY; the index names rows by it, because VACUUM may renumber rowids",
                    x->table);
  for (int i = 0; i < x->keys; i++) {
    if (sqlite3_stricmp(x->key[i], x->column) == 0)
      return knn_fail(x, SQLITE_ERROR, "column \"%s\" is of the primary key; the index is for another column", x->column);
    const char *type, *collation;
    int not_null, primary, autoinc;
    rc = sqlite3_table_column_metadata(x->db, x->schema, x->table, x->key[i], &type, &collation, &not_null, &primary, &autoinc);
    if (rc != SQLITE_OK) return knn_fail(x, rc, "%s", sqlite3_errmsg(x->db));
    x->key_collation[i] = sqlite3_mprintf("%s", collation == NULL ? "BINARY" : collation);
    if (x->key[i] == NULL || x->key_type[i] == NULL || x->key_collation[i] == NULL) return SQLITE_NOMEM;
  }
  return key_is_rowid(x);
}

/* key_list writes a text for each key column, with %s or %d of each replaced, joined by between. */
enum piece { PIECE_DEFINE, PIECE_OWN, PIECE_NEW, PIECE_OLD, PIECE_NEW_SET, PIECE_OLD_SET, PIECE_NEW_SAME, PIECE_OLD_SAME, PIECE_CHANGED };

static char *key_list(knn_index *x, enum piece piece, const char *between) {
  char *all = sqlite3_mprintf("");
  for (int i = 0; i < x->keys && all != NULL; i++) {
    char *one = NULL;
    switch (piece) {
    case PIECE_DEFINE: one = sqlite3_mprintf("k%d COLLATE \"%w\"", i, x->key_collation[i]); break;
    case PIECE_OWN: one = sqlite3_mprintf("k%d", i); break;
    case PIECE_NEW: one = sqlite3_mprintf("new.\"%w\"", x->key[i]); break;
    case PIECE_OLD: one = sqlite3_mprintf("old.\"%w\"", x->key[i]); break;
    case PIECE_NEW_SET: one = sqlite3_mprintf("new.\"%w\" IS NOT NULL", x->key[i]); break;
    case PIECE_OLD_SET: one = sqlite3_mprintf("old.\"%w\" IS NOT NULL", x->key[i]); break;
    case PIECE_NEW_SAME: one = sqlite3_mprintf("k%d = new.\"%w\"", i, x->key[i]); break;
    case PIECE_OLD_SAME: one = sqlite3_mprintf("k%d = old.\"%w\"", i, x->key[i]); break;
    case PIECE_CHANGED: one = sqlite3_mprintf("old.\"%w\" IS NOT new.\"%w\" COLLATE BINARY", x->key[i], x->key[i]); break;
    }
    char *joined = one == NULL ? NULL : sqlite3_mprintf("%s%s%s", all, i == 0 ? "" : between, one);
    sqlite3_free(one);
    sqlite3_free(all);
    all = joined;
  }
  return all;
}

int knn_create_tables(knn_index *x) {
  char *define = key_list(x, PIECE_DEFINE, ", "), *own = key_list(x, PIECE_OWN, ", ");
  int rc = define == NULL || own == NULL ? SQLITE_NOMEM : SQLITE_OK;
  if (rc == SQLITE_OK)
    rc = knn_exec(x, sqlite3_mprintf(
        "CREATE TABLE IF NOT EXISTS \"%w\".\"%w_meta\"(id INTEGER PRIMARY KEY, format INTEGER, stamp INTEGER, rows INTEGER, dims INTEGER,"
        " seed INTEGER, tuning BLOB);"
        "CREATE TABLE IF NOT EXISTS \"%w\".\"%w_lists\"(id INTEGER PRIMARY KEY, rows INTEGER, spread REAL, centroid BLOB);"
        "CREATE TABLE IF NOT EXISTS \"%w\".\"%w_codes\"(id INTEGER PRIMARY KEY, codes BLOB);",
        x->schema, x->name, x->schema, x->name, x->schema, x->name));
  if (rc == SQLITE_OK)
    rc = knn_exec(x, x->rowid_key
        ? sqlite3_mprintf("CREATE TABLE IF NOT EXISTS \"%w\".\"%w_rows\"(id INTEGER PRIMARY KEY, a INTEGER, b INTEGER);"
                          "CREATE TABLE IF NOT EXISTS \"%w\".\"%w_dirty\"(k0 INTEGER PRIMARY KEY);",
                          x->schema, x->name, x->schema, x->name)
        : sqlite3_mprintf("CREATE TABLE IF NOT EXISTS \"%w\".\"%w_rows\"(id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, %s, UNIQUE(%s));"
                          "CREATE TABLE IF NOT EXISTS \"%w\".\"%w_dirty\"(%s, PRIMARY KEY(%s)) WITHOUT ROWID;",
                          x->schema, x->name, define, own, x->schema, x->name, define, own));
  sqlite3_free(define);
  sqlite3_free(own);
  return rc;
}

/* Not INSERT OR IGNORE: in a trigger the conflict clause of the outer statement would replace it,
 * and INSERT OR FAIL INTO notes would then fail on a key that is on the list already. */
int knn_create_triggers(knn_index *x) {
  enum { NEW, OLD };
  char *mark[2];
  for (int i = 0; i < 2; i++) {
    char *value = key_list(x, i == NEW ? PIECE_NEW : PIECE_OLD, ", "), *set = key_list(x, i == NEW ? PIECE_NEW_SET : PIECE_OLD_SET, " AND ");
    char *same = key_list(x, i == NEW ? PIECE_NEW_SAME : PIECE_OLD_SAME, " AND ");
    mark[i] = value == NULL || set == NULL || same == NULL ? NULL
        : sqlite3_mprintf("INSERT INTO \"%w_dirty\" SELECT %s WHERE %s AND NOT EXISTS (SELECT 1 FROM \"%w_dirty\" WHERE %s);",
                          x->name, value, set, x->name, same);
    sqlite3_free(value), sqlite3_free(set), sqlite3_free(same);
  }
  char *changed = key_list(x, PIECE_CHANGED, " OR ");
  int rc = mark[NEW] == NULL || mark[OLD] == NULL || changed == NULL ? SQLITE_NOMEM : SQLITE_OK;
  if (rc == SQLITE_OK)
    rc = knn_exec(x, sqlite3_mprintf("CREATE TRIGGER \"%w\".\"velosync_knn_%w_insert\" AFTER INSERT ON \"%w\" BEGIN %s END",
                                     x->schema, x->name, x->table, mark[NEW]));
  if (rc == SQLITE_OK)
    rc = knn_exec(x, sqlite3_mprintf("CREATE TRIGGER \"%w\".\"velosync_knn_%w_delete\" AFTER DELETE ON \"%w\" BEGIN %s END",
                                     x->schema, x->name, x->table, mark[OLD]));
  /* knn_refresh reads the column's name out of this one, after it was renamed. */
  if (rc == SQLITE_OK)
    rc = knn_exec(x, x->generated
        ? sqlite3_mprintf("CREATE TRIGGER \"%w\".\"velosync_knn_%w_update\" AFTER UPDATE ON \"%w\" "
                          "WHEN old.\"%w\" IS NOT new.\"%w\" BEGIN %s END",
                          x->schema, x->name, x->table, x->column, x->column, mark[NEW])
        : sqlite3_mprintf("CREATE TRIGGER \"%w\".\"velosync_knn_%w_update\" AFTER UPDATE OF \"%w\" ON \"%w\" BEGIN %s END",
                          x->schema, x->name, x->column, x->table, mark[NEW]));
  /* Not OF the key: UPDATE … SET rowid = … changes it too. */
  if (rc == SQLITE_OK)
    rc = knn_exec(x, sqlite3_mprintf("CREATE TRIGGER \"%w\".\"velosync_knn_%w_key\" AFTER UPDATE ON \"%w\" WHEN %s "
                                     "BEGIN %s %s END",
                                     x->schema, x->name, x->table, changed, mark[OLD], mark[NEW]));
  sqlite3_free(mark[NEW]), sqlite3_free(mark[OLD]), sqlite3_free(changed);
  return rc;
}

static const char *const tables[] = {"meta", "lists", "codes", "rows", "dirty"};
static const char *const triggers[] = {"insert", "delete", "update", "key"};
#define COUNT(a) (sizeof(a) / sizeof *(a))

int knn_drop_tables(knn_index *x) {
  int rc = SQLITE_OK;
  for (size_t i = 0; i < COUNT(tables) && rc == SQLITE_OK; i++)
    rc = knn_exec(x, sqlite3_mprintf("DROP TABLE IF EXISTS \"%w\".\"%w_%s\"", x->schema, x->name, tables[i]));
  return rc;
}

int knn_drop_triggers(knn_index *x) {
  int rc = SQLITE_OK;
  for (size_t i = 0; i < COUNT(triggers) && rc == SQLITE_OK; i++)
    rc = knn_exec(x, sqlite3_mprintf("DROP TRIGGER IF EXISTS \"%w\".\"velosync_knn_%w_%s\"", x->schema, x->name, triggers[i]));
  return rc;
}

int knn_rename(knn_index *x, const char *name) {
  char *fresh = sqlite3_mprintf("%s", name);
  if (fresh == NULL) return SQLITE_NOMEM;
  int rc = knn_refresh(x), has_triggers = x->table != NULL;
  if (rc == SQLITE_OK) rc = knn_drop_triggers(x);
  for (size_t i = 0; i < COUNT(tables) && rc == SQLITE_OK; i++)
    rc = knn_exec(x, sqlite3_mprintf("ALTER TABLE \"%w\".\"%w_%s\" RENAME TO \"%w_%s\"", x->schema, x->name, tables[i], name,
                                     tables[i]));
  if (rc != SQLITE_OK) {
    sqlite3_free(fresh);
    return rc;
  }
  sqlite3_free(x->name);
  x->name = fresh;
  knn_finalize(x);
  return has_triggers ? knn_create_triggers(x) : SQLITE_OK;
}

/* dirty is written by triggers on connections without this module, so it is a plain table. */
int knn_is_shadow(const char *suffix) {
  return sqlite3_stricmp(suffix, "meta") == 0 || sqlite3_stricmp(suffix, "lists") == 0 ||
         sqlite3_stricmp(suffix, "codes") == 0 || sqlite3_stricmp(suffix, "rows") == 0;
}

/* quoted copies the first identifier in double quotes after mark in sql, or returns NULL. */
static char *quoted(const char *sql, const char *mark) {
  const char *p = strstr(sql, mark);
  if (p == NULL || (p = strchr(p + strlen(mark), '"')) == NULL) return NULL;
  char *name = sqlite3_malloc64(strlen(p)), *to = name;
  if (name == NULL) return NULL;
  for (p++; *p != '\0'; p++) {
    if (*p == '"' && *++p != '"') break;
    *to++ = *p;
  }
  *to = '\0';
  return name;
}

/* find_table reads from the update trigger what table and column are called now. */
static int find_table(knn_index *x) {
  sqlite3_stmt *s;
  int rc = query(x, &s, sqlite3_mprintf("SELECT tbl_name, sql FROM \"%w\".sqlite_schema WHERE type = 'trigger' AND name = "
                                        "'velosync_knn_%q_update'", x->schema, x->name));
  if (rc != SQLITE_OK) return rc;
  char *table = NULL, *column = NULL;
  if (sqlite3_step(s) == SQLITE_ROW) {
    const char *sql = (const char *)sqlite3_column_text(s, 1);
    table = copy(sqlite3_column_text(s, 0));
    if (sql != NULL) column = quoted(sql, "UPDATE OF");
    if (sql != NULL && column == NULL) column = quoted(sql, "WHEN old.");
  }
  rc = sqlite3_finalize(s);
  if (rc == SQLITE_OK || table == NULL) {
    sqlite3_free(x->table);
    x->table = table;
    if (table != NULL && column != NULL) {
      sqlite3_free(x->column);
      x->column = column;
      column = NULL;
    }
  }
  sqlite3_free(column);
  return rc;
}

int knn_refresh(knn_index *x) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_SCHEMA_VERSION, &s);
  if (rc != SQLITE_OK) return rc;
  sqlite3_int64 version = 0;
  if ((rc = sqlite3_step(s)) == SQLITE_ROW) version = sqlite3_column_int64(s, 0);
  rc = knn_done(x, s, rc);
  if (rc != SQLITE_OK || version == x->schema_version) return rc;
  int keys = x->keys, rowid_key = x->rowid_key;
  knn_finalize(x);
  rc = find_table(x);
  if (rc == SQLITE_OK && x->table != NULL) {
    rc = knn_describe(x);
    if (rc == SQLITE_OK && keys != 0 && (keys != x->keys || rowid_key != x->rowid_key))
      rc = knn_fail(x, SQLITE_ERROR, "the primary key of table \"%s\" has changed; drop the index and create it again", x->table);
  }
  if (rc == SQLITE_OK) x->schema_version = version;
  return rc;
}
