/* What folding, splitting and building write; knn_write.c. Results are SQLite result codes, as in knn.h. */
#ifndef VS_KNN_WRITE_H
#define VS_KNN_WRITE_H

#include "knn.h"

#define KNN_CHUNK 4096 /* rows that are placed in one go */

/* knn_run executes a statement without result, knn_number reads the integer that one without
 * arguments yields. */
int knn_run(knn_index *x, sqlite3_stmt *s);
int knn_number(knn_index *x, enum knn_statement which, sqlite3_int64 *out);

/* knn_write_row says which lists a row is in, b = 0 for one only; knn_write_count writes what
 * memory says of list at. */
int knn_write_row(knn_index *x, sqlite3_int64 id, int a, int b, sqlite3_value *const *key);
int knn_write_count(knn_index *x, int at);

/* knn_append adds the code of v in the list of centroid to c, and gives |r|^2 in *square. work takes
 * 2 * padded floats. */
int knn_append(knn_index *x, knn_codes *c, sqlite3_int64 id, const float *v, const float *centroid, float *work, float *square);

/* A move is one code into or out of a list. */
typedef struct knn_move {
  int list;  /* its number in the file */
  int row;   /* of the chunk, if the code goes in, else -1 */
  sqlite3_int64 id;
} knn_move;

/* A chunk is rows on their way into lists. */
typedef struct knn_chunk {
  int n;
  float *vector;  /* KNN_CHUNK * padded */
  int found[KNN_CHUNK];
  int known[KNN_CHUNK]; /* has an id */
  sqlite3_int64 id[KNN_CHUNK], a[KNN_CHUNK], b[KNN_CHUNK];
  sqlite3_value *key[KNN_CHUNK][KNN_MAX_KEYS];
  knn_move moves[4 * KNN_CHUNK];
  int n_moves;
  float *centroid, *work;
  knn_codes codes;
  int shrunk; /* the number of a list that lost rows and has few left, or 0 */
} knn_chunk;

int knn_chunk_make(knn_index *x, knn_chunk **out);
void knn_chunk_clear(knn_chunk *c);
void knn_chunk_free(knn_chunk *c);

/* knn_clear_tables empties the index's own tables, but not the list of changed rows, which
 * knn_forget_changed does. */
int knn_clear_tables(knn_index *x);
int knn_forget_changed(knn_index *x);

/* knn_go_on is the question of knn_means: has the application interrupted? */
int knn_go_on(void *index);

#endif
