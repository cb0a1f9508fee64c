/* Sets of row ids, by open addressing. */
#ifndef VS_KNN_SET_H
#define VS_KNN_SET_H

#include "sqlite_api.h"

typedef struct knn_set {
  size_t mask;  /* slots - 1; 0: never made, and empty */
  int has_free; /* the id that marks a free slot is in the set */
  sqlite3_int64 *slot;
} knn_set;

#define KNN_FREE ((sqlite3_int64)((sqlite3_uint64)1 << 63))

/* knn_set_make makes room for n ids; sqlite3_free(s->slot) ends it. Returns a SQLite result code. */
static inline int knn_set_make(knn_set *s, size_t n) {
  size_t slots = 16;
  while (slots < 2 * n) slots *= 2;
  if ((s->slot = sqlite3_malloc64(slots * sizeof *s->slot)) == NULL) return SQLITE_NOMEM;
  for (size_t i = 0; i < slots; i++) s->slot[i] = KNN_FREE;
  s->mask = slots - 1;
  s->has_free = 0;
  return SQLITE_OK;
}

static inline size_t knn_set_place(const knn_set *s, sqlite3_int64 id) {
  size_t i = (size_t)(((sqlite3_uint64)id * 0x9e3779b97f4a7c15u) >> 32) & s->mask;
  while (s->slot[i] != KNN_FREE && s->slot[i] != id) i = (i + 1) & s->mask;
  return i;
}

/* knn_set_put adds an id, at most as many as there was room made for. */
static inline void knn_set_put(knn_set *s, sqlite3_int64 id) {
  if (id == KNN_FREE)
    s->has_free = 1;
  else
    s->slot[knn_set_place(s, id)] = id;
}

static inline int knn_set_has(const knn_set *s, sqlite3_int64 id) {
  if (s->mask == 0) return 0;
  return id == KNN_FREE ? s->has_free : s->slot[knn_set_place(s, id)] == id;
}

#endif
