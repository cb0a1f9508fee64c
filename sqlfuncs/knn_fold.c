/* Changed rows into the lists, a piece at a time; knn_split.c keeps the lists at their proper sizes. */
#include <stdlib.h>
#include <string.h>

#include "knn_fold.h"

static int by_list(const void *a, const void *b) {
  const knn_move *m = a, *n = b;
  if (m->list != n->list) return m->list < n->list ? -1 : 1;
  return (m->row >= 0) - (n->row >= 0); /* out before in */
}

/* take_changed reads up to most changed rows into c. */
static int take_changed(knn_index *x, knn_chunk *c, int most) {
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_DIRTY_TAKE, &s), step = SQLITE_DONE;
  if (rc != SQLITE_OK) return rc;
  sqlite3_bind_int64(s, 1, most);
  while (c->n < most && (step = sqlite3_step(s)) == SQLITE_ROW) {
    int i = c->n++;
    memset(c->key[i], 0, sizeof c->key[i]);
    c->known[i] = sqlite3_column_type(s, 1) != SQLITE_NULL;
    c->id[i] = sqlite3_column_int64(s, 1);
    c->a[i] = sqlite3_column_int64(s, 2);
    c->b[i] = sqlite3_column_int64(s, 3);
    for (int j = 0; j < x->keys && rc == SQLITE_OK; j++)
      if ((c->key[i][j] = sqlite3_value_dup(sqlite3_column_value(s, 4 + j))) == NULL) rc = SQLITE_NOMEM;
    if (rc == SQLITE_OK) rc = knn_read_vector(x, s, 0, c->vector + (size_t)i * x->padded, &c->found[i]);
    if (rc != SQLITE_OK) break;
  }
  int end = knn_done(x, s, rc == SQLITE_OK ? step : SQLITE_ROW);
  return rc == SQLITE_OK ? end : rc;
}

static void add_move(knn_chunk *c, int list, int row, sqlite3_int64 id) { c->moves[c->n_moves++] = (knn_move){list, row, id}; }

/* plan_moves says what goes where, and writes the tables of rows and of changed rows. */
static int plan_moves(knn_index *x, knn_chunk *c, const knn_chooser *h) {
  sqlite3_int64 fresh = 0;
  int rc = x->rowid_key ? SQLITE_OK : knn_number(x, KNN_ROW_NEXT, &fresh), place = 0;
  for (int i = 0; i < c->n && rc == SQLITE_OK; i++) {
    sqlite3_stmt *s;
    if (c->known[i]) {
      if (knn_find_list(x, c->a[i]) >= 0) add_move(c, (int)c->a[i], -1, c->id[i]);
      if (c->b[i] != 0 && knn_find_list(x, c->b[i]) >= 0) add_move(c, (int)c->b[i], -1, c->id[i]);
    }
    if (c->found[i]) {
      if (!c->known[i]) c->id[i] = x->rowid_key ? sqlite3_value_int64(c->key[i][0]) : fresh++, x->meta.rows++;
      int a = x->lists.id[h->first[place]], b = h->second[place] < 0 ? 0 : x->lists.id[h->second[place]];
      add_move(c, a, i, c->id[i]);
      if (b != 0) add_move(c, b, i, c->id[i]);
      rc = knn_write_row(x, c->id[i], a, b, c->key[i]);
      place++;
    } else if (c->known[i]) {
      x->meta.rows--;
      if ((rc = knn_prepare(x, KNN_ROW_DELETE, &s)) != SQLITE_OK) break;
      sqlite3_bind_int64(s, 1, c->id[i]);
      rc = knn_run(x, s);
    }
    if (rc == SQLITE_OK) rc = knn_prepare(x, KNN_DIRTY_DELETE, &s);
    if (rc != SQLITE_OK) break;
    for (int j = 0; j < x->keys; j++) sqlite3_bind_value(s, j + 1, c->key[i][j]);
    rc = knn_run(x, s);
  }
  return rc;
}

/* move_list does the moves of one list: m, n of them. */
static int move_list(knn_index *x, knn_chunk *c, const knn_move *m, int n) {
  int at = knn_find_list(x, m->list), rc;
  knn_codes *codes = &c->codes;
  if ((rc = knn_read_list(x, m->list, codes)) != SQLITE_OK) return rc;
  size_t code = x->padded / 2;
  int from = codes->n;
  for (; n > 0 && m->row < 0; m++, n--) {
    int i = 0;
    while (i < codes->n && codes->id[i] != m->id) i++;
    if (i == codes->n) continue;
    int last = --codes->n; /* the last fills the hole */
    codes->id[i] = codes->id[last];
    codes->scale[i] = codes->scale[last];
    codes->offset[i] = codes->offset[last];
    memcpy(codes->code + (size_t)i * code, codes->code + (size_t)last * code, code);
    if (i < from) from = i;
  }
  if (codes->n < from) from = codes->n;
  if (n == 0 && codes->n < KNN_LIST_MERGE) c->shrunk = x->lists.id[at];
  knn_centroid(x, at, c->centroid);
  float *spread = &x->lists.spread[at];
  for (; n > 0; m++, n--) {
    float square;
    rc = knn_append(x, codes, m->id, c->vector + (size_t)m->row * x->padded, c->centroid, c->work, &square);
    if (rc != SQLITE_OK) return rc;
    *spread += (square - *spread) / (float)codes->n;
  }
  x->lists.rows[at] = codes->n;
  rc = knn_write_list(x, x->lists.id[at], codes, from);
  return rc == SQLITE_OK ? knn_write_count(x, at) : rc;
}

/* fold_chunk folds up to most <= KNN_CHUNK changed rows; *n is how many there were. */
static int fold_chunk(knn_index *x, knn_chunk *c, knn_chooser *h, int most, int *n) {
  int rc = take_changed(x, c, most);
  *n = c->n;
  if (rc != SQLITE_OK || c->n == 0) return rc;
  /* the vectors found move together, for choose */
  int found = 0;
  int place[KNN_CHUNK];
  for (int i = 0; i < c->n; i++) {
    place[i] = found;
    if (!c->found[i]) continue;
    if (found != i) memcpy(c->vector + (size_t)found * x->padded, c->vector + (size_t)i * x->padded, x->padded * sizeof(float));
    found++;
  }
  knn_choose(x, h, c->vector, found);
  rc = plan_moves(x, c, h);
  for (int i = 0; i < c->n_moves; i++)
    if (c->moves[i].row >= 0) c->moves[i].row = place[c->moves[i].row];
  qsort(c->moves, (size_t)c->n_moves, sizeof *c->moves, by_list);
  for (int i = 0, j; i < c->n_moves && rc == SQLITE_OK; i = j) {
    for (j = i + 1; j < c->n_moves && c->moves[j].list == c->moves[i].list;) j++;
    rc = move_list(x, c, c->moves + i, j - i);
  }
  return rc;
}

int knn_fold_lists(knn_index *x, sqlite3_int64 most, int lists, int *left) {
  knn_chunk *c = NULL;
  knn_chooser *h = NULL;
  sqlite3_int64 waiting;
  int rc = knn_number(x, KNN_DIRTY_COUNT, &waiting), n = 0, moved = 0, changed = 0;
  if (rc == SQLITE_OK) rc = knn_chunk_make(x, &c);
  if (rc == SQLITE_OK) rc = knn_chooser_make(x, waiting < most ? waiting : most, &h);
  *left = 1;
  while (rc == SQLITE_OK && *left && most > 0) {
    int some = most < KNN_CHUNK ? (int)most : KNN_CHUNK;
    rc = fold_chunk(x, c, h, some, &n);
    knn_chunk_clear(c);
    moved += n;
    most -= n;
    *left = n == some;
  }
  if (rc == SQLITE_OK) rc = knn_split_long(x, &c->codes, lists, &changed);
  /* New lists wait for the rows of old ones: as long as any row waits, short is only what shrank. */
  int at = c != NULL && c->shrunk != 0 && lists > 0 ? knn_find_list(x, c->shrunk) : -1;
  if (rc == SQLITE_OK && changed == 0 && *left && at >= 0 && x->lists.n > 1) {
    rc = knn_dissolve(x, at, &c->codes);
    changed++;
  }
  if (rc == SQLITE_OK && changed == 0 && !*left) rc = knn_dissolve_short(x, &c->codes, lists, &changed);
  if (changed > 0) *left = 1;
  knn_chooser_free(h);
  knn_chunk_free(c);
  return rc == SQLITE_OK && moved + changed > 0 ? knn_save_meta(x) : rc;
}
