/* The index: a virtual table that answers nearest-neighbour queries over a table of the user.
 *
 * KNN.md says what it stores and how it searches. The files:
 *   knn.c         the virtual table: arguments, commands; knn_plan.c plans, knn_cursor.c cursors
 *   knn_schema.c  the user's table, the index's own tables, triggers
 *   knn_error.c   messages
 *   knn_store.c   statements, the lists in memory, codes to and from blobs
 *   knn_search.c  one search
 *   knn_write.c   rows, codes and counts, for all that changes lists
 *   knn_fold.c    changes into the lists; knn_choose.c which lists; knn_split.c lists too long or too short
 *   knn_build.c   all lists at once; knn_train.c their centroids, knn_tune.c their recall
 *   knn_maintain.c  a fold, a build or optimize, whichever the index needs
 *   knn_check.c   integrity-check
 *   knn_code.c    arithmetic of codes; knn_means.c of centroids
 *   knn_set.h     sets of ids */
#ifndef VS_KNN_H
#define VS_KNN_H

#include "compare.h"
#include "knn_code.h"
#include "sqlite_api.h"
#include "vector.h"

/* Where a choice was measured, KNN.md has the figures. */
#define KNN_FORMAT 1
#define KNN_MAX_KEYS 8         /* columns of a primary key */
#define KNN_LISTS_FROM 8192    /* with fewer rows there are no lists: a search reads the table */
#define KNN_LIST_ROWS 200      /* codes a list should have */
#define KNN_LIST_SPLIT 512     /* a list with more is split */
#define KNN_LIST_FULL 384      /* one with as many takes no rows that are nearer to another */
#define KNN_LIST_MERGE 24      /* a list with fewer is dissolved */
#define KNN_SEGMENT_BYTES 24576
#define KNN_MAX_LISTS 1000000
#define KNN_BORDER 1.1f        /* a row is coded twice if its second list is at most this much further away, squared */
#define KNN_FOLD_FROM 128      /* changed rows from which a search folds some of them */
#define KNN_FOLD_LEAST 8        /* how many, */
#define KNN_FOLD_PART 64        /* or this part of them, */
#define KNN_FOLD_MOST 256       /* at most; */
#define KNN_FOLD_CALM 512       /* with fewer than this a list may be split */
#define KNN_LEAST_LISTS 4       /* a search reads, unless it is content with a recall below 0.9 */
#define KNN_RECALL 0.98
#define KNN_MAX_K 1000000

enum knn_metric { KNN_COSINE, KNN_L2, KNN_DOT, KNN_HAMMING };

/* Statements kept per index; knn_store.c has their text. */
enum knn_statement {
  KNN_SCHEMA_VERSION,
  KNN_META_READ,
  KNN_META_WRITE,
  KNN_LISTS_READ,
  KNN_LIST_WRITE,
  KNN_LIST_COUNT,
  KNN_LIST_DELETE,
  KNN_SEGMENTS_READ,
  KNN_SEGMENT_WRITE,
  KNN_SEGMENT_DELETE,
  KNN_ROW_WRITE,
  KNN_ROW_DELETE,
  KNN_ROW_FIND,    /* id by key */
  KNN_ROW_KEY,     /* keys by id */
  KNN_ROW_LISTS,   /* lists by id */
  KNN_ROW_MOVE,    /* sets them */
  KNN_ROW_NEXT,    /* a fresh id */
  KNN_DIRTY_COUNT,
  KNN_DIRTY_TAKE,  /* keys, id, lists, vector of changed rows */
  KNN_DIRTY_SCAN,  /* vector, id, keys of changed rows */
  KNN_DIRTY_DELETE,
  KNN_DIRTY_ID,    /* makes the row of an id changed */
  KNN_ROWS_SCAN,   /* vector, id, lists of all rows in lists */
  KNN_BASE_SCAN,   /* vector, keys of all rows */
  KNN_BASE_KEYS,   /* keys of all rows that have a vector */
  KNN_BASE_BY_KEY, /* vector, keys of one row, by key */
  KNN_BASE_BY_ID,  /* the same, by id */
  KNN_BASE_COUNT,
  KNN_STATEMENTS
};

/* A knn_lists is what a connection keeps in memory: the centroids. stamp is that of the file when
 * they were read. */
typedef struct knn_lists {
  sqlite3_int64 stamp;
  int loaded;
  int n, room;
  int *id;          /* numbers in the file, ascending */
  int *rows;        /* codes in each */
  float *spread;    /* mean |r|^2 of each */
  float *squares;   /* |c|^2 */
  uint16_t *halves; /* n * padded bfloat16 */
} knn_lists;

#define KNN_LEVELS 12
#define KNN_TUNED 2

/* What the file says in its meta table. */
typedef struct knn_meta {
  sqlite3_int64 stamp; /* a random number, new with each change of the index */
  sqlite3_int64 rows;  /* in lists */
  size_t dims;         /* 0: not known yet */
  sqlite3_int64 seed;  /* of the rotation */
  float freedom;       /* dimensions that residuals behave as if they had */
  int levels;          /* of the two arrays in use */
  int lists[KNN_LEVELS]; /* numbers of lists to read, and the recall that each gave */
  float recall[KNN_TUNED][KNN_LEVELS]; /* of 10 and of 100 neighbours */
} knn_meta;

typedef struct knn_index {
  sqlite3_vtab base;
  sqlite3 *db;
  char *schema, *name;    /* of the index */
  char *argument;         /* the user's table as CREATE VIRTUAL TABLE named it */
  char *table;            /* as it is called now; NULL: unknown, see knn_refresh */
  char *column;           /* with the vectors */
  enum knn_metric metric;
  size_t fixed_dims;      /* of the argument dims=, or 0 */
  sqlite3_int64 lists_from; /* of the argument lists_from=, or KNN_LISTS_FROM */
  int keys;
  char *key[KNN_MAX_KEYS];
  char *key_type[KNN_MAX_KEYS];
  char *key_collation[KNN_MAX_KEYS];
  int rowid_key;          /* the key is INTEGER PRIMARY KEY: ids are keys */
  int generated;          /* the vector column is generated */
  sqlite3_int64 schema_version;
  sqlite3_stmt *statement[KNN_STATEMENTS];
  knn_meta meta;
  knn_lists lists;
  size_t padded;          /* of meta.dims */
  sqlite3_int64 signs_seed; /* what signs was made of, with padded */
  float *signs;
  uint64_t random;
  int folding;            /* guards against a search within a fold */
} knn_index;

/* All functions below return a SQLite result code, and on failure leave a message in
 * index->base.zErrMsg where SQLite's own would not do. */

/* knn_fail sets the message and returns rc. */
__attribute__((format(printf, 3, 4))) int knn_fail(knn_index *x, int rc, const char *format, ...);

/* knn_corrupt is knn_fail with SQLITE_CORRUPT_VTAB and a word on what to do. */
__attribute__((format(printf, 2, 3))) int knn_corrupt(knn_index *x, const char *format, ...);

/* knn_no_table says that the user's table is not there. */
int knn_no_table(knn_index *x);

/* ---- knn_schema.c ---- */

/* knn_describe finds the primary key of the user's table. */
int knn_describe(knn_index *x);

/* knn_create_tables makes the index's own tables; knn_create_triggers the triggers on the user's;
 * the drop functions take them away, where they exist. */
int knn_create_tables(knn_index *x);
int knn_create_triggers(knn_index *x);
int knn_drop_tables(knn_index *x);
int knn_drop_triggers(knn_index *x);
int knn_rename(knn_index *x, const char *name);

/* knn_refresh notices when the schema changed since the last call, and finds the user's table
 * again: the triggers know its name after it was renamed. */
int knn_refresh(knn_index *x);

/* knn_is_shadow is xShadowName. */
int knn_is_shadow(const char *suffix);

/* knn_exec runs one statement of sqlite3_mprintf, which it frees. */
int knn_exec(knn_index *x, char *sql);

/* ---- knn_store.c ---- */

/* knn_prepare returns a statement that is reset and unbound in *out. */
int knn_prepare(knn_index *x, enum knn_statement which, sqlite3_stmt **out);
void knn_finalize(knn_index *x);

/* knn_done resets s and returns rc, or where that is SQLITE_ROW or SQLITE_DONE, what resetting gave. */
int knn_done(knn_index *x, sqlite3_stmt *s, int rc);

/* knn_load reads meta, and lists if they are not those in memory. knn_save_meta writes it with a
 * new stamp, which the lists in memory take over. */
int knn_load(knn_index *x);
int knn_save_meta(knn_index *x);

/* knn_free_lists forgets what is in memory. */
void knn_free_lists(knn_lists *l);

/* knn_add_list appends a list without codes to memory and file; c has padded floats and is rounded
 * to what the list keeps. knn_remove_list takes list number at away from both; its codes must be
 * gone. */
int knn_add_list(knn_index *x, const float *c);
int knn_remove_list(knn_index *x, int at);
int knn_find_list(const knn_index *x, sqlite3_int64 id); /* its place, or -1 */

/* knn_centroid writes the centroid of list at as floats. */
void knn_centroid(const knn_index *x, int at, float *c);

/* A knn_segment is a blob of codes, described in place. */
typedef struct knn_segment {
  int n;
  int width;             /* bytes an id takes: 4 or 8 */
  sqlite3_int64 first;   /* what ids are counted from */
  const unsigned char *ids;
  const unsigned char *scales, *offsets; /* n float32 each */
  const unsigned char *codes;
} knn_segment;

/* knn_read_segment checks a blob against its length. */
int knn_read_segment(knn_index *x, knn_segment *s, const void *blob, int bytes);
sqlite3_int64 knn_segment_id(const knn_segment *s, int i);

/* A knn_codes is the codes of one list on their way to the file. */
typedef struct knn_codes {
  int n, room;
  sqlite3_int64 *id;
  float *scale, *offset;
  uint8_t *code; /* n * padded / 2 */
} knn_codes;

int knn_codes_grow(knn_index *x, knn_codes *c, int room);
void knn_codes_free(knn_codes *c);

/* knn_read_list reads all codes of list id, knn_write_list writes them from code number from on,
 * which starts a segment, and drops segments beyond. knn_segment_rows is how many one holds. */
int knn_read_list(knn_index *x, int id, knn_codes *c);
int knn_write_list(knn_index *x, int id, const knn_codes *c, int from);
int knn_segment_rows(const knn_index *x);

/* knn_write_segment writes n codes, from number from on, as a segment of list id. */
int knn_write_segment(knn_index *x, int id, int segment, const knn_codes *c, int from, int n);

/* knn_offset is what goes beside a code, so that distances come out in the metric: see knn_search.c. */
float knn_offset(const knn_index *x, const knn_factors *f);

/* ---- vectors ---- */

/* knn_read_vector reads column i of s as padded floats of the index's space: turned, and of length
 * 1 where the metric is cosine. *found is 0 where there is no vector of meta.dims dimensions; then
 * the row is not indexed. With meta.dims 0 it takes the dimensions from this vector. */
int knn_read_vector(knn_index *x, sqlite3_stmt *s, int i, float *out, int *found);

/* knn_place turns n = meta.dims numbers in out into the index's space. */
void knn_place(knn_index *x, float *out);

/* knn_use_dims sets meta.dims and what follows from it. */
int knn_use_dims(knn_index *x, size_t dims);

/* knn_op is the function that the metric stands for; knn_distance makes its result a distance. */
enum vs_op knn_op(enum knn_metric m);
double knn_distance(enum knn_metric m, double result);

/* ---- knn_search.c ---- */

typedef struct knn_result {
  double distance;
  sqlite3_value *key[KNN_MAX_KEYS];
} knn_result;

typedef struct knn_results {
  int n, room;
  knn_result *result;
} knn_results;

void knn_results_free(knn_results *r);

/* A knn_request is what to look for. With a filter only rows count that it names: where ids are
 * keys by id, else by id those that have one, and by key; exact says to read just these rows, and
 * then key has all keys, else only those without an id. */
typedef struct knn_request {
  vs_vector *query;
  const float *turned; /* the query in the index's space; NULL: read the whole table */
  int k;
  double recall;
  int filtered, exact;
  int n, keys;
  sqlite3_int64 *id;
  sqlite3_value **key;
} knn_request;

/* knn_search finds the k nearest rows, nearest first. knn_load has run. */
int knn_search(knn_index *x, knn_request *q, knn_results *out);

/* ---- knn_maintain.c ---- */

/* knn_fold moves up to most changed rows into the lists, and splits or dissolves up to lists of
 * these, whose rows are changed rows then. *left is set to 1 if there are some at the end.
 * Where there are no lists it makes some if there are rows enough, else it forgets the changed
 * rows: a search reads the table. */
int knn_fold(knn_index *x, sqlite3_int64 most, int lists, int *left);

/* knn_build makes the index anew from the user's table. */
int knn_build(knn_index *x);

/* knn_optimize folds everything and restores the lists to their proper sizes. */
int knn_optimize(knn_index *x);

/* knn_ghosts makes changed rows of those that the lists have and the table has not. An INSERT OR
 * REPLACE that replaces another row than that of its key takes it away without running triggers. */
int knn_ghosts(knn_index *x);

/* knn_atomic runs f in a savepoint, and undoes what it did if it fails. It cannot within a
 * statement that writes: there it fails. */
int knn_atomic(knn_index *x, int (*f)(knn_index *, void *), void *arg);

/* ---- knn_check.c ---- */

/* knn_check compares the index with the user's table; a difference is SQLITE_CORRUPT_VTAB. */
int knn_check(knn_index *x);

#endif
