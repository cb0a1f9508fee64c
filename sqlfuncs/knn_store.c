/* Statements, the lists in memory, codes to and from blobs. KNN.md has the layouts. */
#include <math.h>
#include <string.h>

#include "kernels.h"
#include "knn.h"

/* ---- statements ---- */

/* What joined writes for each key column. */
enum piece { BASE, DIRTY, BASE_IS_DIRTY, ROWS_IS_DIRTY, BASE_IS_VALUE, OWN_IS_VALUE, OWN, VALUE_FROM_4 };

static char *piece_of(const knn_index *x, enum piece piece, int i) {
  switch (piece) {
  case BASE: return sqlite3_mprintf("b.\"%w\"", x->key[i]);
  case DIRTY: return sqlite3_mprintf("d.k%d", i);
  case BASE_IS_DIRTY: return sqlite3_mprintf("b.\"%w\" = d.k%d", x->key[i], i);
  case ROWS_IS_DIRTY: return sqlite3_mprintf("r.k%d = d.k%d", i, i);
  case BASE_IS_VALUE: return sqlite3_mprintf("b.\"%w\" = ?%d", x->key[i], i + 1);
  case OWN_IS_VALUE: return sqlite3_mprintf("k%d = ?%d", i, i + 1);
  case OWN: return sqlite3_mprintf("k%d", i);
  case VALUE_FROM_4: return sqlite3_mprintf(", ?%d", i + 4);
  }
  return NULL;
}

/* joined writes a piece for each key column, from sqlite3_mprintf. */
static char *joined(const knn_index *x, enum piece piece, const char *between) {
  char *all = sqlite3_mprintf("");
  for (int i = 0; i < x->keys && all != NULL; i++) {
    char *one = piece_of(x, piece, i);
    char *both = one == NULL ? NULL : sqlite3_mprintf("%s%s%s", all, i == 0 ? "" : between, one);
    sqlite3_free(one);
    sqlite3_free(all);
    all = both;
  }
  return all;
}

/* text_of returns the text of a statement, from sqlite3_mprintf. */
static char *text_of(const knn_index *x, enum knn_statement which) {
  const char *s = x->schema, *n = x->name, *t = x->table, *c = x->column;
  char *keys = joined(x, BASE, ", "), *own = joined(x, DIRTY, ", "), *bare = joined(x, OWN, ", ");
  char *on_base = joined(x, BASE_IS_DIRTY, " AND "), *on_rows = joined(x, ROWS_IS_DIRTY, " AND ");
  char *numbered = joined(x, BASE_IS_VALUE, " AND "), *mine = joined(x, OWN_IS_VALUE, " AND ");
  char *marks = joined(x, VALUE_FROM_4, ""), *sql = NULL;
  if (keys == NULL || own == NULL || bare == NULL || on_base == NULL || on_rows == NULL || numbered == NULL || mine == NULL ||
      marks == NULL)
    goto done;
  switch (which) {
  case KNN_SCHEMA_VERSION: sql = sqlite3_mprintf("PRAGMA \"%w\".schema_version", s); break;
  case KNN_META_READ:
    sql = sqlite3_mprintf("SELECT format, stamp, rows, dims, seed, tuning FROM \"%w\".\"%w_meta\" WHERE id = 1", s, n);
    break;
  case KNN_META_WRITE:
    sql = sqlite3_mprintf("INSERT OR REPLACE INTO \"%w\".\"%w_meta\" VALUES(1, ?1, ?2, ?3, ?4, ?5, ?6)", s, n);
    break;
  case KNN_LISTS_READ:
    sql = sqlite3_mprintf("SELECT id, rows, spread, centroid FROM \"%w\".\"%w_lists\" ORDER BY id", s, n);
    break;
  case KNN_LIST_WRITE:
    sql = sqlite3_mprintf("INSERT OR REPLACE INTO \"%w\".\"%w_lists\" VALUES(?1, ?2, ?3, ?4)", s, n);
    break;
  case KNN_LIST_COUNT:
    sql = sqlite3_mprintf("UPDATE \"%w\".\"%w_lists\" SET rows = ?2, spread = ?3 WHERE id = ?1", s, n);
    break;
  case KNN_LIST_DELETE: sql = sqlite3_mprintf("DELETE FROM \"%w\".\"%w_lists\" WHERE id = ?1", s, n); break;
  case KNN_SEGMENTS_READ:
    sql = sqlite3_mprintf("SELECT id, codes FROM \"%w\".\"%w_codes\" WHERE id BETWEEN ?1 AND ?2 ORDER BY id", s, n);
    break;
  case KNN_SEGMENT_WRITE: sql = sqlite3_mprintf("INSERT OR REPLACE INTO \"%w\".\"%w_codes\" VALUES(?1, ?2)", s, n); break;
  case KNN_SEGMENT_DELETE: sql = sqlite3_mprintf("DELETE FROM \"%w\".\"%w_codes\" WHERE id BETWEEN ?1 AND ?2", s, n); break;
  case KNN_ROW_WRITE:
    sql = sqlite3_mprintf("INSERT OR REPLACE INTO \"%w\".\"%w_rows\" VALUES(?1, ?2, ?3%s)", s, n, x->rowid_key ? "" : marks);
    break;
  case KNN_ROW_DELETE: sql = sqlite3_mprintf("DELETE FROM \"%w\".\"%w_rows\" WHERE id = ?1", s, n); break;
  case KNN_ROW_FIND:
    sql = sqlite3_mprintf("SELECT id FROM \"%w\".\"%w_rows\" WHERE %s", s, n, x->rowid_key ? "id = ?1" : mine);
    break;
  case KNN_ROW_KEY:
    sql = sqlite3_mprintf("SELECT %s FROM \"%w\".\"%w_rows\" WHERE id = ?1", x->rowid_key ? "id" : bare, s, n);
    break;
  case KNN_ROW_LISTS: sql = sqlite3_mprintf("SELECT a, b FROM \"%w\".\"%w_rows\" WHERE id = ?1", s, n); break;
  case KNN_ROW_MOVE: sql = sqlite3_mprintf("UPDATE \"%w\".\"%w_rows\" SET a = ?2, b = ?3 WHERE id = ?1", s, n); break;
  case KNN_ROW_NEXT: sql = sqlite3_mprintf("SELECT coalesce(max(id), 0) + 1 FROM \"%w\".\"%w_rows\"", s, n); break;
  case KNN_DIRTY_COUNT: sql = sqlite3_mprintf("SELECT count(*) FROM \"%w\".\"%w_dirty\"", s, n); break;
  case KNN_DIRTY_TAKE:
    sql = sqlite3_mprintf("SELECT b.\"%w\", r.id, r.a, r.b, %s FROM \"%w\".\"%w_dirty\" d LEFT JOIN \"%w\".\"%w_rows\" r ON %s "
                          "LEFT JOIN \"%w\".\"%w\" b ON %s LIMIT ?1",
                          c, own, s, n, s, n, x->rowid_key ? "r.id = d.k0" : on_rows, s, t, on_base);
    break;
  case KNN_DIRTY_SCAN:
    sql = x->rowid_key
        ? sqlite3_mprintf("SELECT b.\"%w\", d.k0, %s FROM \"%w\".\"%w_dirty\" d LEFT JOIN \"%w\".\"%w\" b ON %s", c, keys, s, n,
                          s, t, on_base)
        : sqlite3_mprintf("SELECT b.\"%w\", r.id, %s FROM \"%w\".\"%w_dirty\" d LEFT JOIN \"%w\".\"%w_rows\" r ON %s "
                          "LEFT JOIN \"%w\".\"%w\" b ON %s",
                          c, keys, s, n, s, n, on_rows, s, t, on_base);
    break;
  case KNN_DIRTY_DELETE: sql = sqlite3_mprintf("DELETE FROM \"%w\".\"%w_dirty\" WHERE %s", s, n, mine); break;
  case KNN_DIRTY_ID:
    sql = x->rowid_key ? sqlite3_mprintf("INSERT OR IGNORE INTO \"%w\".\"%w_dirty\" VALUES(?1)", s, n)
                       : sqlite3_mprintf("INSERT OR IGNORE INTO \"%w\".\"%w_dirty\" SELECT %s FROM \"%w\".\"%w_rows\" WHERE id = ?1",
                                         s, n, bare, s, n);
    break;
  case KNN_ROWS_SCAN:
    sql = x->rowid_key
        ? sqlite3_mprintf("SELECT b.\"%w\", r.id, r.a, r.b FROM \"%w\".\"%w_rows\" r CROSS JOIN \"%w\".\"%w\" b ON b.\"%w\" = r.id", c,
                          s, n, s, t, x->key[0])
        : sqlite3_mprintf("SELECT b.\"%w\", d.id, d.a, d.b FROM \"%w\".\"%w_rows\" d CROSS JOIN \"%w\".\"%w\" b ON %s", c, s, n, s, t,
                          on_base);
    break;
  case KNN_BASE_SCAN: sql = sqlite3_mprintf("SELECT b.\"%w\", %s FROM \"%w\".\"%w\" b", c, keys, s, t); break;
  case KNN_BASE_KEYS: sql = sqlite3_mprintf("SELECT %s FROM \"%w\".\"%w\" b WHERE b.\"%w\" IS NOT NULL", keys, s, t, c); break;
  case KNN_BASE_BY_ID:
    if (!x->rowid_key) {
      sql = sqlite3_mprintf("SELECT b.\"%w\", %s FROM \"%w\".\"%w_rows\" d CROSS JOIN \"%w\".\"%w\" b ON %s WHERE d.id = ?1", c, keys,
                            s, n, s, t, on_base);
      break;
    } /* fallthrough */
  case KNN_BASE_BY_KEY:
    sql = sqlite3_mprintf("SELECT b.\"%w\", %s FROM \"%w\".\"%w\" b WHERE %s", c, keys, s, t, numbered);
    break;
  case KNN_BASE_COUNT: sql = sqlite3_mprintf("SELECT count(*) FROM \"%w\".\"%w\"", s, t); break;
  case KNN_STATEMENTS: break;
  }
done:
  sqlite3_free(keys), sqlite3_free(own), sqlite3_free(on_base), sqlite3_free(on_rows);
  sqlite3_free(numbered), sqlite3_free(mine), sqlite3_free(bare), sqlite3_free(marks);
  return sql;
}

int knn_prepare(knn_index *x, enum knn_statement which, sqlite3_stmt **out) {
  if (x->statement[which] == NULL) {
    char *sql = text_of(x, which);
    if (sql == NULL) return SQLITE_NOMEM;
    int rc = sqlite3_prepare_v3(x->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &x->statement[which], NULL);
    sqlite3_free(sql);
    if (rc != SQLITE_OK) return knn_fail(x, rc, "%s", sqlite3_errmsg(x->db));
  }
  *out = x->statement[which];
  return SQLITE_OK;
}

void knn_finalize(knn_index *x) {
  for (int i = 0; i < KNN_STATEMENTS; i++) {
    sqlite3_finalize(x->statement[i]);
    x->statement[i] = NULL;
  }
}

int knn_done(knn_index *x, sqlite3_stmt *s, int rc) {
  int again = sqlite3_reset(s);
  sqlite3_clear_bindings(s);
  if (rc == SQLITE_ROW || rc == SQLITE_DONE) rc = again;
  if (rc != SQLITE_OK && x->base.zErrMsg == NULL && (rc & 0xff) != SQLITE_NOMEM)
    knn_fail(x, rc, "%s", sqlite3_errmsg(x->db));
  return rc;
}

/* ---- meta and lists ---- */

void knn_free_lists(knn_lists *l) {
  sqlite3_free(l->id), sqlite3_free(l->rows), sqlite3_free(l->spread), sqlite3_free(l->squares), sqlite3_free(l->halves);
  memset(l, 0, sizeof *l);
}

/* resize makes *p hold count elements of size bytes. */
static int resize(void *p, size_t count, size_t size) {
  void *old, *fresh;
  memcpy(&old, p, sizeof old);
  if ((fresh = sqlite3_realloc64(old, count * size)) == NULL) return SQLITE_NOMEM;
  memcpy(p, &fresh, sizeof fresh);
  return SQLITE_OK;
}

static int grow_lists(knn_index *x, int room) {
  knn_lists *l = &x->lists;
  if (room <= l->room) return SQLITE_OK;
  room = room < 64 ? 64 : room + room / 2;
  size_t n = (size_t)room;
  if (resize(&l->id, n, sizeof *l->id) || resize(&l->rows, n, sizeof *l->rows) || resize(&l->spread, n, sizeof *l->spread) ||
      resize(&l->squares, n, sizeof *l->squares) || resize(&l->halves, n * x->padded, sizeof *l->halves))
    return SQLITE_NOMEM;
  l->room = room;
  return SQLITE_OK;
}

void knn_centroid(const knn_index *x, int at, float *c) {
  const uint16_t *h = x->lists.halves + (size_t)at * x->padded;
  for (size_t i = 0; i < x->padded; i++) {
    uint32_t bits = (uint32_t)h[i] << 16;
    memcpy(c + i, &bits, 4);
  }
}

/* take_squares computes |c|^2 of list at and returns whether it is finite. */
static int take_squares(knn_index *x, int at) {
  const uint16_t *h = x->lists.halves + (size_t)at * x->padded;
  float square = vs_best->sums32[VS_BF16_BF16].dot(h, h, x->padded);
  x->lists.squares[at] = square;
  return isfinite(square);
}

int knn_use_dims(knn_index *x, size_t dims) {
  if (dims == x->meta.dims && x->signs != NULL && x->signs_seed == x->meta.seed) return SQLITE_OK;
  size_t padded = knn_padded(dims);
  if (padded != x->padded) knn_free_lists(&x->lists);
  x->meta.dims = dims;
  x->padded = padded;
  if (dims == 0) return SQLITE_OK;
  if (resize(&x->signs, 4 * padded, sizeof *x->signs)) return SQLITE_NOMEM;
  knn_signs(x->signs, padded, (uint64_t)x->meta.seed);
  x->signs_seed = x->meta.seed;
  return SQLITE_OK;
}

#define KNN_LEVEL_BYTES (4 + 4 * KNN_TUNED)

static int read_tuning(knn_index *x, const unsigned char *blob, int bytes) {
  knn_meta *m = &x->meta;
  uint32_t levels = 0;
  m->freedom = (float)x->padded;
  m->levels = 0;
  if (bytes == 0) return SQLITE_OK;
  if (bytes >= 8) memcpy(&m->freedom, blob, 4), memcpy(&levels, blob + 4, 4);
  if (bytes < 8 || levels > KNN_LEVELS || bytes != 8 + KNN_LEVEL_BYTES * (int)levels)
    return knn_corrupt(x, "its tuning has %d bytes", bytes);
  for (uint32_t i = 0; i < levels; i++) {
    const unsigned char *level = blob + 8 + KNN_LEVEL_BYTES * i;
    int32_t lists;
    memcpy(&lists, level, 4);
    m->lists[i] = lists;
    for (int k = 0; k < KNN_TUNED; k++) {
      memcpy(&m->recall[k][i], level + 4 + 4 * k, 4);
      if (lists < 1 || lists > KNN_MAX_LISTS || !(m->recall[k][i] >= 0 && m->recall[k][i] <= 1))
        return knn_corrupt(x, "its tuning says %d lists give a recall of %f", lists, (double)m->recall[k][i]);
    }
  }
  if (!(m->freedom >= 1)) return knn_corrupt(x, "its tuning is not a number");
  m->levels = (int)levels;
  return SQLITE_OK;
}

static int read_meta(knn_index *x, sqlite3_stmt *s) {
  sqlite3_int64 format = sqlite3_column_int64(s, 0), dims = sqlite3_column_int64(s, 3);
  if (format != KNN_FORMAT)
    return knn_fail(x, SQLITE_ERROR, "the index has format %lld, this version reads %d: INSERT INTO %s(%s) VALUES('rebuild')", format,
                    KNN_FORMAT, x->name, x->name);
  if (dims < 0 || dims > VS_MAX_DIMS) return knn_corrupt(x, "it says its vectors have %lld dimensions", dims);
  x->meta.stamp = sqlite3_column_int64(s, 1);
  x->meta.rows = sqlite3_column_int64(s, 2);
  x->meta.seed = sqlite3_column_int64(s, 4);
  int rc = knn_use_dims(x, (size_t)dims);
  if (rc != SQLITE_OK) return rc;
  return read_tuning(x, sqlite3_column_blob(s, 5), sqlite3_column_bytes(s, 5));
}

static int read_lists(knn_index *x) {
  knn_lists *l = &x->lists;
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_LISTS_READ, &s);
  if (rc != SQLITE_OK) return rc;
  l->n = 0;
  l->loaded = 0;
  int step;
  while ((step = sqlite3_step(s)) == SQLITE_ROW) {
    sqlite3_int64 id = sqlite3_column_int64(s, 0), rows = sqlite3_column_int64(s, 1);
    double spread = sqlite3_column_double(s, 2);
    const void *c = sqlite3_column_blob(s, 3);
    int bytes = sqlite3_column_bytes(s, 3);
    if (id < 0 || id > INT32_MAX || rows < 0 || rows > INT32_MAX || l->n == KNN_MAX_LISTS || !(spread >= 0 && spread < 3e38) ||
        (size_t)bytes != 2 * x->padded || bytes == 0) {
      rc = knn_corrupt(x, "list %lld has %lld codes and a centroid of %d bytes", id, rows, bytes);
      break;
    }
    if ((rc = grow_lists(x, l->n + 1)) != SQLITE_OK) break;
    l->id[l->n] = (int)id;
    l->rows[l->n] = (int)rows;
    l->spread[l->n] = (float)spread;
    memcpy(l->halves + (size_t)l->n * x->padded, c, (size_t)bytes);
    if (!take_squares(x, l->n)) {
      rc = knn_corrupt(x, "the centroid of list %lld is not a number", id);
      break;
    }
    l->n++;
  }
  int end = knn_done(x, s, step);
  if (rc == SQLITE_OK) rc = end;
  if (rc != SQLITE_OK) return rc;
  l->stamp = x->meta.stamp;
  l->loaded = 1;
  return SQLITE_OK;
}

int knn_load(knn_index *x) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_META_READ, &s);
  if (rc != SQLITE_OK) return rc;
  int step = sqlite3_step(s);
  if (step == SQLITE_ROW && x->lists.loaded && sqlite3_column_int64(s, 1) == x->lists.stamp &&
      x->meta.stamp == x->lists.stamp)
    return knn_done(x, s, step); /* nothing changed since */
  if (step == SQLITE_ROW)
    rc = read_meta(x, s);
  else if (step == SQLITE_DONE)
    rc = knn_corrupt(x, "its meta table is empty");
  int end = knn_done(x, s, step);
  if (rc == SQLITE_OK) rc = end;
  return rc == SQLITE_OK ? read_lists(x) : rc;
}

int knn_save_meta(knn_index *x) {
  knn_meta *m = &x->meta;
  unsigned char tuning[8 + KNN_LEVEL_BYTES * KNN_LEVELS];
  uint32_t levels = (uint32_t)m->levels;
  if (!(m->freedom >= 1)) m->freedom = 1; /* not measured yet */
  memcpy(tuning, &m->freedom, 4);
  memcpy(tuning + 4, &levels, 4);
  for (uint32_t i = 0; i < levels; i++) {
    int32_t lists = m->lists[i];
    unsigned char *level = tuning + 8 + KNN_LEVEL_BYTES * i;
    memcpy(level, &lists, 4);
    for (int k = 0; k < KNN_TUNED; k++) memcpy(level + 4 + 4 * k, &m->recall[k][i], 4);
  }
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_META_WRITE, &s);
  if (rc != SQLITE_OK) return rc;
  m->stamp = (sqlite3_int64)(knn_random(&x->random) >> 1);
  sqlite3_bind_int64(s, 1, KNN_FORMAT);
  sqlite3_bind_int64(s, 2, m->stamp);
  sqlite3_bind_int64(s, 3, m->rows);
  sqlite3_bind_int64(s, 4, (sqlite3_int64)m->dims);
  sqlite3_bind_int64(s, 5, m->seed);
  sqlite3_bind_blob(s, 6, tuning, 8 + KNN_LEVEL_BYTES * m->levels, SQLITE_TRANSIENT);
  rc = knn_done(x, s, sqlite3_step(s));
  x->lists.stamp = m->stamp;
  return rc;
}

int knn_find_list(const knn_index *x, sqlite3_int64 id) {
  int low = 0, high = x->lists.n;
  while (low < high) {
    int middle = low + (high - low) / 2;
    if (x->lists.id[middle] < id)
      low = middle + 1;
    else
      high = middle;
  }
  return low < x->lists.n && x->lists.id[low] == id ? low : -1;
}

int knn_add_list(knn_index *x, const float *c) {
  knn_lists *l = &x->lists;
  int rc = grow_lists(x, l->n + 1);
  if (rc != SQLITE_OK) return rc;
  int at = l->n;
  if (at == KNN_MAX_LISTS || (at > 0 && l->id[at - 1] == INT32_MAX)) return knn_fail(x, SQLITE_FULL, "no list number is free");
  uint16_t *h = l->halves + (size_t)at * x->padded;
  for (size_t i = 0; i < x->padded; i++) { /* nearest, halves away from zero: which of the two does not matter */
    uint32_t bits;
    memcpy(&bits, c + i, 4);
    h[i] = (uint16_t)((bits + 0x8000u) >> 16);
  }
  l->id[at] = at == 0 ? 1 : l->id[at - 1] + 1;
  l->rows[at] = 0;
  l->spread[at] = 0;
  if (!take_squares(x, at)) return knn_fail(x, SQLITE_ERROR, "the vectors are too large for an index");
  l->n++;
  sqlite3_stmt *s;
  rc = knn_prepare(x, KNN_LIST_WRITE, &s);
  if (rc != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, l->id[at]);
  sqlite3_bind_int64(s, 2, 0);
  sqlite3_bind_double(s, 3, 0);
  sqlite3_bind_blob(s, 4, h, (int)(2 * x->padded), SQLITE_TRANSIENT);
  return knn_done(x, s, sqlite3_step(s));
}

int knn_remove_list(knn_index *x, int at) {
  knn_lists *l = &x->lists;
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_LIST_DELETE, &s);
  if (rc != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, l->id[at]);
  rc = knn_done(x, s, sqlite3_step(s));
  size_t after = (size_t)(l->n - at - 1), p = x->padded;
  memmove(l->id + at, l->id + at + 1, after * sizeof *l->id);
  memmove(l->rows + at, l->rows + at + 1, after * sizeof *l->rows);
  memmove(l->spread + at, l->spread + at + 1, after * sizeof *l->spread);
  memmove(l->squares + at, l->squares + at + 1, after * sizeof *l->squares);
  memmove(l->halves + (size_t)at * p, l->halves + (size_t)(at + 1) * p, after * p * sizeof *l->halves);
  l->n--;
  return rc;
}

/* ---- codes ---- */

#define SEGMENT_HEAD 16

int knn_segment_rows(const knn_index *x) {
  size_t n = KNN_SEGMENT_BYTES / (12 + x->padded / 2);
  return n < 32 ? 32 : n > 256 ? 256 : (int)n;
}

int knn_read_segment(knn_index *x, knn_segment *s, const void *blob, int bytes) {
  const unsigned char *b = blob;
  if (bytes < SEGMENT_HEAD || b[0] != KNN_FORMAT || (b[1] != 4 && b[1] != 8))
    return knn_corrupt(x, "a segment of codes of %d bytes has a wrong head", bytes);
  uint16_t n;
  memcpy(&n, b + 2, 2);
  memcpy(&s->first, b + 8, 8);
  s->n = n;
  s->width = b[1];
  size_t want = SEGMENT_HEAD + (size_t)n * ((size_t)s->width + 8 + x->padded / 2);
  if (n == 0 || want != (size_t)bytes)
    return knn_corrupt(x, "a segment of %d codes has %d bytes, not %lld", n, bytes, (long long)want);
  s->ids = b + SEGMENT_HEAD;
  s->scales = s->ids + (size_t)n * (size_t)s->width;
  s->offsets = s->scales + 4 * (size_t)n;
  s->codes = s->offsets + 4 * (size_t)n;
  return SQLITE_OK;
}

sqlite3_int64 knn_segment_id(const knn_segment *s, int i) {
  if (s->width == 4) {
    uint32_t d;
    memcpy(&d, s->ids + 4 * (size_t)i, 4);
    return (sqlite3_int64)((sqlite3_uint64)s->first + d);
  }
  sqlite3_uint64 d;
  memcpy(&d, s->ids + 8 * (size_t)i, 8);
  return (sqlite3_int64)((sqlite3_uint64)s->first + d);
}

int knn_codes_grow(knn_index *x, knn_codes *c, int room) {
  if (room <= c->room) return SQLITE_OK;
  room = room < 32 ? 32 : room + room / 2;
  size_t n = (size_t)room;
  if (resize(&c->id, n, sizeof *c->id) || resize(&c->scale, n, sizeof *c->scale) || resize(&c->offset, n, sizeof *c->offset) ||
      resize(&c->code, n * x->padded / 2, 1))
    return SQLITE_NOMEM;
  c->room = room;
  return SQLITE_OK;
}

void knn_codes_free(knn_codes *c) {
  sqlite3_free(c->id), sqlite3_free(c->scale), sqlite3_free(c->offset), sqlite3_free(c->code);
  memset(c, 0, sizeof *c);
}

int knn_read_list(knn_index *x, int id, knn_codes *c) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_SEGMENTS_READ, &s);
  if (rc != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, (sqlite3_int64)id << 16);
  sqlite3_bind_int64(s, 2, (sqlite3_int64)id << 16 | 0xffff);
  c->n = 0;
  int step;
  while (rc == SQLITE_OK && (step = sqlite3_step(s)) == SQLITE_ROW) {
    knn_segment g;
    if ((rc = knn_read_segment(x, &g, sqlite3_column_blob(s, 1), sqlite3_column_bytes(s, 1))) != SQLITE_OK) break;
    if ((rc = knn_codes_grow(x, c, c->n + g.n)) != SQLITE_OK) break;
    size_t at = (size_t)c->n, n = (size_t)g.n;
    for (int i = 0; i < g.n; i++) c->id[at + (size_t)i] = knn_segment_id(&g, i);
    memcpy(c->scale + at, g.scales, 4 * n);
    memcpy(c->offset + at, g.offsets, 4 * n);
    memcpy(c->code + at * x->padded / 2, g.codes, n * x->padded / 2);
    c->n += g.n;
  }
  int end = knn_done(x, s, rc == SQLITE_OK ? step : SQLITE_ROW);
  return rc == SQLITE_OK ? end : rc;
}

int knn_write_segment(knn_index *x, int id, int segment, const knn_codes *c, int from, int n) {
  if (segment > 0xffff) return knn_fail(x, SQLITE_FULL, "list %d has too many codes", id);
  sqlite3_int64 first = c->id[from], last = first;
  for (int i = from; i < from + n; i++) {
    if (c->id[i] < first) first = c->id[i];
    if (c->id[i] > last) last = c->id[i];
  }
  size_t width = (sqlite3_uint64)last - (sqlite3_uint64)first <= UINT32_MAX ? 4 : 8, code = x->padded / 2;
  size_t bytes = SEGMENT_HEAD + (size_t)n * (width + 8 + code);
  unsigned char *b = sqlite3_malloc64(bytes);
  if (b == NULL) return SQLITE_NOMEM;
  uint16_t count = (uint16_t)n;
  memset(b, 0, SEGMENT_HEAD);
  b[0] = KNN_FORMAT;
  b[1] = (unsigned char)width;
  memcpy(b + 2, &count, 2);
  memcpy(b + 8, &first, 8);
  unsigned char *p = b + SEGMENT_HEAD;
  for (int i = from; i < from + n; i++, p += width) {
    sqlite3_uint64 d = (sqlite3_uint64)c->id[i] - (sqlite3_uint64)first;
    memcpy(p, &d, width);
  }
  memcpy(p, c->scale + from, 4 * (size_t)n);
  memcpy(p + 4 * (size_t)n, c->offset + from, 4 * (size_t)n);
  memcpy(p + 8 * (size_t)n, c->code + (size_t)from * code, (size_t)n * code);
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_SEGMENT_WRITE, &s);
  if (rc != SQLITE_OK) {
    sqlite3_free(b);
    return rc;
  }
  sqlite3_bind_int64(s, 1, (sqlite3_int64)id << 16 | segment);
  sqlite3_bind_blob(s, 2, b, (int)bytes, sqlite3_free);
  return knn_done(x, s, sqlite3_step(s));
}

int knn_write_list(knn_index *x, int id, const knn_codes *c, int from) {
  int each = knn_segment_rows(x), segment = from / each, rc = SQLITE_OK;
  for (int i = segment * each; i < c->n && rc == SQLITE_OK; i += each, segment++)
    rc = knn_write_segment(x, id, segment, c, i, c->n - i < each ? c->n - i : each);
  if (rc != SQLITE_OK) return rc;
  sqlite3_stmt *s;
  if (segment > 0xffff) return SQLITE_OK;
  if ((rc = knn_prepare(x, KNN_SEGMENT_DELETE, &s)) != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, (sqlite3_int64)id << 16 | segment);
  sqlite3_bind_int64(s, 2, (sqlite3_int64)id << 16 | 0xffff);
  return knn_done(x, s, sqlite3_step(s));
}

/* ---- vectors and metrics ---- */

enum vs_op knn_op(enum knn_metric m) {
  return m == KNN_COSINE ? VS_COSINE : m == KNN_DOT ? VS_DOT : m == KNN_HAMMING ? VS_HAMMING : VS_L2;
}

double knn_distance(enum knn_metric m, double result) { return m == KNN_COSINE ? 1 - result : m == KNN_DOT ? -result : result; }

float knn_offset(const knn_index *x, const knn_factors *f) {
  return x->metric == KNN_COSINE || x->metric == KNN_DOT ? -2 * f->along : f->square;
}

/* normalise gives x length 1, unless it is zero. Numbers whose squares leave the range of a float
 * are scaled first. */
static void normalise(float *v, size_t padded) {
  float square = knn_dot(v, v, padded);
  if (!(square > 1e-30f && square < 1e30f)) {
    float most = 0;
    for (size_t i = 0; i < padded; i++) most = fabsf(v[i]) > most ? fabsf(v[i]) : most;
    if (most == 0) return;
    int e;
    frexpf(most, &e);
    for (size_t i = 0; i < padded; i++) v[i] = ldexpf(v[i], -e);
    square = knn_dot(v, v, padded);
  }
  float scale = 1 / sqrtf(square);
  for (size_t i = 0; i < padded; i++) v[i] *= scale;
}

void knn_place(knn_index *x, float *out) {
  memset(out + x->meta.dims, 0, (x->padded - x->meta.dims) * sizeof *out);
  if (x->metric == KNN_COSINE) normalise(out, x->padded);
  knn_rotate(out, x->padded, x->signs);
}

int knn_read_vector(knn_index *x, sqlite3_stmt *s, int i, float *out, int *found) {
  vs_vector v;
  vs_error e;
  void *memory = NULL;
  e.nomem = 0;
  *found = 0;
  int type = sqlite3_column_type(s, i), rc;
  if (type == SQLITE_BLOB) {
    const void *blob = sqlite3_column_blob(s, i);
    rc = vs_read_blob(&v, blob, (size_t)sqlite3_column_bytes(s, i), &e);
  } else if (type == SQLITE_TEXT) {
    const char *text = (const char *)sqlite3_column_text(s, i);
    rc = vs_read_text(&v, text, (size_t)sqlite3_column_bytes(s, i), &memory, &e);
  } else {
    return SQLITE_OK;
  }
  if (rc != 0) return e.nomem ? SQLITE_NOMEM : SQLITE_OK;
  size_t dims = x->meta.dims;
  if (v.untagged && v.n == 2 * dims) v = (vs_vector){.n = dims, .type = VS_F64, .data = v.data, .f64 = v.data};
  if (v.n == dims) {
    if (v.type == VS_F32)
      memcpy(out, v.f32, 4 * dims);
    else
      for (size_t j = 0; j < dims; j++) out[j] = (float)vs_at(&v, j);
    float most = 0, bad = 0;
    for (size_t j = 0; j < dims; j++) {
      bad += out[j] * 0; /* NaN where the element is no finite number */
      most = fabsf(out[j]) > most ? fabsf(out[j]) : most;
    }
    /* beyond, squares would not fit a float */
    *found = bad == 0 && (x->metric == KNN_COSINE || most < 1e16f);
    if (*found) knn_place(x, out);
  }
  sqlite3_free(memory);
  return SQLITE_OK;
}
