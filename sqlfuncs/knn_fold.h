/* What choosing, splitting, folding, training, tuning and building offer each other, lowest first.
 * Results are SQLite result codes, as in knn.h. */
#ifndef VS_KNN_FOLD_H
#define VS_KNN_FOLD_H

#include "knn_write.h"

#define KNN_ROUNDS 256 /* of splitting and dissolving, at most */

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

/* knn_split_long splits at most most lists that are too long, the longest first, and
 * knn_dissolve_short takes away at most most that are too short. *n counts them. knn_dissolve takes
 * list at away. codes is work. */
int knn_split_long(knn_index *x, knn_codes *codes, int most, int *n);
int knn_dissolve_short(knn_index *x, knn_codes *codes, int most, int *n);
int knn_dissolve(knn_index *x, int at, knn_codes *codes);

/* knn_fold_lists is knn_fold where there are lists. */
int knn_fold_lists(knn_index *x, sqlite3_int64 most, int lists, int *left);

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
