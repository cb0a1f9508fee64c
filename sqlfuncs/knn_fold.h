/* What folding, building and tuning share. Results are SQLite result codes, as in knn.h. */
#ifndef VS_KNN_FOLD_H
#define VS_KNN_FOLD_H

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

/* A chooser finds lists for rows: for each the nearest in first, and in second the one where it is
 * coded once more, or -1. knn_choose.c says how. */
typedef struct knn_chooser {
  int n;            /* lists */
  float *centroids; /* n * padded; NULL: it reads those of the index */
  float *packed, *squares, *work;
  struct knn_groups *groups; /* or NULL: each row is compared with all lists */
  int first[KNN_CHUNK], second[KNN_CHUNK];
  float distance1[KNN_CHUNK], distance2[KNN_CHUNK];
} knn_chooser;

/* knn_chooser_make makes one for about rows rows; the lists must stay as they are. */
int knn_chooser_make(knn_index *x, sqlite3_int64 rows, knn_chooser **out);
void knn_chooser_free(knn_chooser *c);

/* knn_choose finds lists for n <= KNN_CHUNK vectors. */
void knn_choose(knn_index *x, knn_chooser *c, const float *v, int n);

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

/* knn_split_long splits at most most lists that are too long, the longest first, and
 * knn_dissolve_short takes away at most most that are too short. *n counts them. knn_dissolve takes
 * list at away. codes is work. */
int knn_split_long(knn_index *x, knn_codes *codes, int most, int *n);
int knn_dissolve_short(knn_index *x, knn_codes *codes, int most, int *n);
int knn_dissolve(knn_index *x, int at, knn_codes *codes);

/* knn_fold_lists is knn_fold where there are lists. */
int knn_fold_lists(knn_index *x, sqlite3_int64 most, int lists, int *left);

/* knn_clear_tables empties the index's own tables, but not the list of changed rows, which
 * knn_forget_changed does. */
int knn_clear_tables(knn_index *x);
int knn_forget_changed(knn_index *x);

/* knn_go_on is the question of knn_means: has the application interrupted? */
int knn_go_on(void *index);

/* knn_find_dims takes the dimensions from the first vector of the table. */
int knn_find_dims(knn_index *x);

/* knn_train adds about k lists, from a sample of per rows for each out of count. */
int knn_train(knn_index *x, sqlite3_int64 count, int k, int per);

/* knn_tune measures what recall comes of numbers of lists. */
int knn_tune(knn_index *x);

/* knn_build_lists makes lists for a table of count rows. knn_grow begins lists for a large table
 * that has none, as after an import: a few, and all rows on the list of changed ones. */
int knn_build_lists(knn_index *x, sqlite3_int64 count);
int knn_grow(knn_index *x);

#endif
