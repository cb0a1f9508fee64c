/* One search: the changed rows exactly, the nearest lists by their codes, the best of those
 * exactly from the user's table. KNN.md has the mathematics.
 *
 * Estimates are squared distances for l2 and hamming, and -2 <q, x> for cosine and dot; each is
 * base(list) + offset(row) - 2 * scale(row) * <q - c, z>, where offset is |r|^2 or -2 <c, r>. */
#include <math.h>
#include <string.h>

#include "kernels.h"
#include "knn.h"
#include "knn_set.h"

/* ---- exact distances ---- */

typedef struct search {
  knn_index *x;
  knn_request *q;
  knn_results *out; /* a heap while searching, the furthest first */
  float *near;      /* a heap of the nearest estimates, the furthest first */
  int nears, most_near;
  struct candidate *pool; /* a heap, the furthest first */
  int pooled, most_pooled;
  float lists;      /* how many to read */
  float gain;       /* results that a list must be expected to hold to be read */
  float deviations; /* how wrong an estimate may be, in standard deviations, for its row to be read */
  knn_set changed, wanted;
} search;

void knn_results_free(knn_results *r) {
  for (int i = 0; i < r->n; i++)
    for (int j = 0; j < KNN_MAX_KEYS; j++) sqlite3_value_free(r->result[i].key[j]);
  sqlite3_free(r->result);
  memset(r, 0, sizeof *r);
}

/* further orders results: by distance, and where that is equal by integer keys, as a scan of the
 * table comes upon them. */
static int further(const knn_result *a, const knn_result *b) {
  if (a->distance != b->distance) return a->distance > b->distance;
  return sqlite3_value_type(a->key[0]) == SQLITE_INTEGER && sqlite3_value_type(b->key[0]) == SQLITE_INTEGER &&
         sqlite3_value_int64(a->key[0]) > sqlite3_value_int64(b->key[0]);
}

static void sink(knn_result *h, int n, int i) {
  for (;;) {
    int c = 2 * i + 1;
    if (c >= n) return;
    if (c + 1 < n && further(&h[c + 1], &h[c])) c++;
    if (!further(&h[c], &h[i])) return;
    knn_result t = h[c];
    h[c] = h[i], h[i] = t;
    i = c;
  }
}

/* keep offers a row, whose keys are columns first, … of s, to the results. */
static int keep(search *w, double distance, sqlite3_stmt *s, int first) {
  knn_results *r = w->out;
  int full = r->n == w->q->k;
  if (full && !(distance <= r->result[0].distance)) return SQLITE_OK;
  knn_result fresh;
  memset(&fresh, 0, sizeof fresh);
  fresh.distance = distance;
  for (int j = 0; j < w->x->keys; j++)
    if ((fresh.key[j] = sqlite3_value_dup(sqlite3_column_value(s, first + j))) == NULL) {
      while (j-- > 0) sqlite3_value_free(fresh.key[j]);
      return SQLITE_NOMEM;
    }
  if (full) {
    knn_result *out = further(&r->result[0], &fresh) ? &r->result[0] : &fresh;
    for (int j = 0; j < w->x->keys; j++) sqlite3_value_free(out->key[j]);
    if (out == &fresh) return SQLITE_OK;
    r->result[0] = fresh;
    sink(r->result, r->n, 0);
    return SQLITE_OK;
  }
  if (r->n == r->room) {
    int room = r->room < 16 ? 16 : 2 * r->room;
    knn_result *more = sqlite3_realloc64(r->result, (size_t)room * sizeof *more);
    if (more == NULL) {
      for (int j = 0; j < w->x->keys; j++) sqlite3_value_free(fresh.key[j]);
      return SQLITE_NOMEM;
    }
    r->result = more;
    r->room = room;
  }
  int i = r->n++;
  for (; i > 0 && further(&fresh, &r->result[(i - 1) / 2]); i = (i - 1) / 2) r->result[i] = r->result[(i - 1) / 2];
  r->result[i] = fresh;
  return SQLITE_OK;
}

/* measure computes the distance of the vector in column 0 of s. *found is 0 if it holds none of
 * the query's dimensions, or numbers that are not finite: such rows are not in the index. */
static int measure(search *w, sqlite3_stmt *s, double *distance, int *found) {
  vs_vector row;
  vs_error e;
  void *memory = NULL;
  int wrong = 0, rc = SQLITE_OK, type = sqlite3_column_type(s, 0), failed;
  e.nomem = 0;
  *found = 0;
  if (type == SQLITE_BLOB) {
    const void *blob = sqlite3_column_blob(s, 0);
    failed = vs_read_blob(&row, blob, (size_t)sqlite3_column_bytes(s, 0), &e);
  } else if (type == SQLITE_TEXT) {
    const char *text = (const char *)sqlite3_column_text(s, 0);
    failed = vs_read_text(&row, text, (size_t)sqlite3_column_bytes(s, 0), &memory, &e);
  } else {
    return SQLITE_OK;
  }
  vs_vector *q = w->q->query;
  if (failed) {
    rc = e.nomem ? SQLITE_NOMEM : SQLITE_OK;
  } else if (row.n == q->n || (row.untagged && row.n == 2 * q->n)) {
    double result;
    if (vs_compare(knn_op(w->x->metric), &row, q, 0, 1, &result, &e, &wrong) == 0) {
      *distance = knn_distance(w->x->metric, result);
      *found = 1;
    } else if (wrong == 0) { /* types that do not go together, or a result that no float64 holds */
      rc = knn_fail(w->x, SQLITE_ERROR, "comparing column \"%s\" with the query: %s", w->x->column, e.text);
    } else if (wrong == 2) {
      rc = knn_fail(w->x, SQLITE_ERROR, "the query %s", e.text);
    }
  }
  sqlite3_free(memory);
  return rc;
}

/* read_rows offers every row that s yields. */
static int read_rows(search *w, sqlite3_stmt *s) {
  int rc = SQLITE_OK, step;
  while ((step = sqlite3_step(s)) == SQLITE_ROW) {
    double distance;
    int found;
    if ((rc = measure(w, s, &distance, &found)) == SQLITE_OK && found) rc = keep(w, distance, s, 1);
    if (rc != SQLITE_OK) break;
  }
  int end = knn_done(w->x, s, rc == SQLITE_OK ? step : SQLITE_ROW);
  return rc == SQLITE_OK ? end : rc;
}

static int scan_table(search *w) {
  sqlite3_stmt *s;
  int rc = knn_prepare(w->x, KNN_BASE_SCAN, &s);
  return rc == SQLITE_OK ? read_rows(w, s) : rc;
}

/* scan_keys reads the rows of the keys of the filter, or with ids those of its ids. */
static int scan_keys(search *w, int ids) {
  sqlite3_stmt *s;
  int n = ids ? w->q->n : w->q->keys, rc = knn_prepare(w->x, KNN_BASE_BY_KEY, &s);
  for (int i = 0; i < n && rc == SQLITE_OK; i++) {
    rc = ids ? sqlite3_bind_int64(s, 1, w->q->id[i]) : sqlite3_bind_value(s, 1, w->q->key[i]);
    if (rc == SQLITE_OK) rc = read_rows(w, s);
  }
  return rc;
}

/* ---- estimates ---- */

typedef struct candidate {
  float estimate, error; /* error: one standard deviation */
  sqlite3_int64 id;
} candidate;

static void put_near(search *w, float e) {
  float *h = w->near;
  int i;
  if (w->nears < w->most_near) {
    for (i = w->nears++; i > 0 && h[(i - 1) / 2] < e; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = e;
    return;
  }
  if (!(e < h[0])) return;
  for (i = 0;;) {
    int c = 2 * i + 1;
    if (c >= w->nears) break;
    if (c + 1 < w->nears && h[c + 1] > h[c]) c++;
    if (h[c] <= e) break;
    h[i] = h[c];
    i = c;
  }
  h[i] = e;
}

static void put_pool(search *w, candidate e) {
  candidate *h = w->pool;
  int i;
  if (w->pooled < w->most_pooled) {
    for (i = w->pooled++; i > 0 && h[(i - 1) / 2].estimate < e.estimate; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = e;
    return;
  }
  for (i = 0;;) {
    int c = 2 * i + 1;
    if (c >= w->pooled) break;
    if (c + 1 < w->pooled && h[c + 1].estimate > h[c].estimate) c++;
    if (h[c].estimate <= e.estimate) break;
    h[i] = h[c];
    i = c;
  }
  h[i] = e;
}

/* as_estimate turns an exact distance into the unit of estimates. */
static double as_estimate(enum knn_metric m, double d) {
  return m == KNN_COSINE ? 2 * d - 2 : m == KNN_DOT ? 2 * d : m == KNN_L2 ? d * d : d;
}

#define CHUNK 256

/* Residuals are not normal: the cosines that matter are the rare large ones, and there are more. */
#define DOUBT 0.6f

/* scan_segment offers the codes of a segment. */
static void scan_segment(search *w, const knn_segment *g, const knn_query *y, float base, float error) {
  size_t padded = w->x->padded;
  int32_t product[CHUNK];
  float estimate[CHUNK], scale[CHUNK], offset[CHUNK];
  const float unit = -2 * y->unit, shift = -7.5f * (float)y->sum;
  for (int at = 0; at < g->n; at += CHUNK) {
    int n = g->n - at < CHUNK ? g->n - at : CHUNK;
    knn_products(product, g->codes + (size_t)at * padded / 2, (size_t)n, y, padded);
    memcpy(scale, g->scales + 4 * (size_t)at, 4 * (size_t)n);
    memcpy(offset, g->offsets + 4 * (size_t)at, 4 * (size_t)n);
    for (int i = 0; i < n; i++) estimate[i] = base + offset[i] + unit * scale[i] * ((float)product[i] + shift);
    float limit = w->pooled < w->most_pooled ? INFINITY : w->pool[0].estimate;
    for (int i = 0; i < n; i++) {
      if (!(estimate[i] < limit)) continue;
      sqlite3_int64 id = knn_segment_id(g, at + i);
      if (knn_set_has(&w->changed, id) || (w->q->filtered && !knn_set_has(&w->wanted, id))) continue;
      put_pool(w, (candidate){estimate[i], error, id});
      put_near(w, estimate[i]);
      if (w->pooled == w->most_pooled) limit = w->pool[0].estimate;
    }
  }
}

/* What there is to know about a list before reading it. */
typedef struct outlook {
  float distance; /* what lists are read in the order of */
  int at;
} outlook;

static void sink_outlook(outlook *h, int n, int i) {
  outlook t = h[i];
  for (;;) {
    int c = 2 * i + 1;
    if (c >= n) break;
    if (c + 1 < n && h[c + 1].distance < h[c].distance) c++;
    if (h[c].distance >= t.distance) break;
    h[i] = h[c];
    i = c;
  }
  h[i] = t;
}

/* tail is about the chance that a normal variable exceeds z. */
static float tail(float z) {
  float a = fabsf(z);
  if (a > 6) return z > 0 ? 0 : 1;
  float q = 0.5f * expf(-0.717f * a - 0.416f * a * a);
  return z > 0 ? q : 1 - q;
}

/* read_list offers the codes of list at. y and room are work. */
static int read_list(search *w, int at, float base, float error, float *y, int8_t *room) {
  knn_index *x = w->x;
  knn_query quantized;
  knn_centroid(x, at, y);
  for (size_t i = 0; i < x->padded; i++) y[i] = w->q->turned[i] - y[i];
  knn_quantize(&quantized, room, y, x->padded);
  sqlite3_stmt *s;
  int rc = knn_prepare(x, KNN_SEGMENTS_READ, &s), step = SQLITE_DONE;
  if (rc != SQLITE_OK) return rc;
  sqlite3_int64 id = (sqlite3_int64)x->lists.id[at] << 16;
  sqlite3_bind_int64(s, 1, id);
  sqlite3_bind_int64(s, 2, id | 0xffff);
  while ((step = sqlite3_step(s)) == SQLITE_ROW) {
    knn_segment g;
    const void *blob = sqlite3_column_blob(s, 1);
    if ((rc = knn_read_segment(x, &g, blob, sqlite3_column_bytes(s, 1))) != SQLITE_OK) break;
    scan_segment(w, &g, &quantized, base, error);
  }
  int end = knn_done(x, s, rc == SQLITE_OK ? step : SQLITE_ROW);
  return rc == SQLITE_OK ? end : rc;
}

/* lists_for finds how many lists to read for a recall, measured as measured: between the levels, on
 * a straight line of logarithms. */
static float lists_for(const knn_index *x, const float *measured, double recall) {
  const knn_meta *m = &x->meta;
  /* A tenth of the loss is left for what else a search loses, and for chance in measuring. */
  float loss = fmaxf((float)(1 - recall) * 0.9f, 1e-4f), before = 0, lists = 0, all = (float)x->lists.n;
  if (m->levels < 2) return fmaxf(4, 0.4f / loss); /* not measured yet */
  for (int i = 0; i < m->levels; i++) {
    float l = fmaxf(1 - measured[i], 1e-4f), here = (float)m->lists[i];
    if (l <= loss) {
      if (i == 0 || before <= l) return here;
      float f = (logf(before) - logf(loss)) / (logf(before) - logf(l));
      return fminf(lists * powf(here / lists, f), all);
    }
    before = l;
    lists = here;
  }
  return fminf(lists * before / loss, all);
}

/* wanted_lists finds how many lists to read for k neighbours, on such a line through 10 and 100. */
static float wanted_lists(const knn_index *x, int k, double recall) {
  float few = lists_for(x, x->meta.recall[0], recall), many = lists_for(x, x->meta.recall[1], recall);
  return k <= 10 ? few : few * powf(many / few, log10f((float)k) - 1);
}

static int scan_lists(search *w) {
  knn_index *x = w->x;
  knn_lists *l = &x->lists;
  size_t n = (size_t)l->n, padded = x->padded;
  /* one piece of memory: per list an outlook, base, rise and slope; y; its quantized form */
  char *memory = sqlite3_malloc64(n * (sizeof(outlook) + 3 * sizeof(float)) + padded * (sizeof(float) + 1));
  if (memory == NULL) return SQLITE_NOMEM;
  outlook *order = (outlook *)memory;
  float *base = (float *)(order + n), *rise = base + n, *slope = rise + n, *y = slope + n;
  int8_t *room = (int8_t *)(y + padded);

  const float *q = w->q->turned;
  int by_dot = x->metric == KNN_DOT, by_angle = by_dot || x->metric == KNN_COSINE;
  float qq = knn_dot(q, q, padded), freedom = sqrtf(DOUBT * x->meta.freedom);
  float (*dot)(const void *, const void *, size_t) = vs_best->sums32[VS_BF16_F32].dot;
  for (size_t j = 0; j < n; j++) {
    float product = dot(l->halves + j * padded, q, padded), square = fmaxf(qq + l->squares[j] - 2 * product, 0);
    float spread = fmaxf(l->spread[j], 1e-20f);
    base[j] = by_angle ? -2 * product : square;
    order[j] = (outlook){by_dot ? -product : square, (int)j};
    float room_of = 2 * sqrtf(fmaxf(by_dot ? qq : square, 1e-20f) * spread);
    slope[j] = freedom / room_of;
    /* For unit vectors t = squared distance - 2. */
    rise[j] = (by_dot ? -2 * product : spread + square - (by_angle ? 2 : 0)) * slope[j];
  }
  for (int i = (int)n / 2; i-- > 0;) sink_outlook(order, (int)n, i);

  float share = w->q->filtered && x->meta.rows > 0 ? fminf((float)w->q->n / (float)x->meta.rows, 1) : 1;
  float most = w->lists * powf(1 / share, 0.7f); /* a filter spreads the results over more lists */
  int rc = SQLITE_OK;
  for (int left = (int)n, done = 0; left > 0 && rc == SQLITE_OK && ((float)done < most || w->nears < w->most_near); done++) {
    int at = order[0].at;
    float square = by_dot ? qq : order[0].distance;
    order[0] = order[--left];
    sink_outlook(order, left, 0);
    if (l->rows[at] == 0) continue;
    /* A row of this list beats the estimate t if the cosine of its residual with q - c (for dot:
     * with q) exceeds so many standard deviations of such a cosine; see KNN.md. */
    if (done >= KNN_LEAST_LISTS && w->nears == w->most_near &&
        (float)l->rows[at] * share * tail(rise[at] - w->near[0] * slope[at]) < w->gain) continue;
    float error = 2 * 0.11f * sqrtf(square * l->spread[at] / (float)padded);
    rc = read_list(w, at, base[at], error, y, room);
  }
  sqlite3_free(memory);
  return rc;
}

/* by_estimate sorts candidates by a heap: memory is bounded and the order of equals does not matter. */
static void sort_pool(candidate *h, int n) {
  /* h is a heap, the furthest first: taking the first off again and again sorts it */
  for (int end = n - 1; end > 0; end--) {
    candidate t = h[end], top = h[0];
    int i = 0;
    for (;;) {
      int c = 2 * i + 1;
      if (c >= end) break;
      if (c + 1 < end && h[c + 1].estimate > h[c].estimate) c++;
      if (h[c].estimate <= t.estimate) break;
      h[i] = h[c];
      i = c;
    }
    h[i] = t;
    h[end] = top;
  }
}

/* rescore reads candidates from the user's table, the best first, until the next would have to be
 * wrong by more than the recall allows to belong to the results. */
static int rescore(search *w) {
  knn_index *x = w->x;
  sqlite3_stmt *s;
  knn_set seen = {0};
  int rc = knn_set_make(&seen, (size_t)w->pooled);
  if (rc == SQLITE_OK) rc = knn_prepare(x, KNN_BASE_BY_ID, &s);
  sort_pool(w->pool, w->pooled);
  for (int i = 0; i < w->pooled && rc == SQLITE_OK; i++) {
    candidate *c = &w->pool[i];
    if (w->out->n == w->q->k &&
        c->estimate - w->deviations * c->error > as_estimate(x->metric, w->out->result[0].distance))
      break;
    if (knn_set_has(&seen, c->id)) continue; /* coded in two lists */
    knn_set_put(&seen, c->id);
    rc = sqlite3_bind_int64(s, 1, c->id);
    if (rc == SQLITE_OK) rc = read_rows(w, s);
  }
  sqlite3_free(seen.slot);
  return rc;
}

/* scan_changed offers the changed rows, and collects them so that their codes do not count. */
static int scan_changed(search *w) {
  sqlite3_stmt *s;
  sqlite3_int64 *id = NULL;
  size_t n = 0, room = 0;
  int rc = knn_prepare(w->x, KNN_DIRTY_SCAN, &s), step;
  if (rc != SQLITE_OK) return rc;
  while ((step = sqlite3_step(s)) == SQLITE_ROW) {
    int known = sqlite3_column_type(s, 1) != SQLITE_NULL;
    sqlite3_int64 row = sqlite3_column_int64(s, 1);
    if (known) {
      if (n == room) {
        room = room == 0 ? 64 : 2 * room;
        sqlite3_int64 *more = sqlite3_realloc64(id, room * sizeof *more);
        if (more == NULL) {
          rc = SQLITE_NOMEM;
          break;
        }
        id = more;
      }
      id[n++] = row;
    }
    /* A row that has no id yet is read by its key, see knn_search. */
    if (w->q->filtered && (!known || !knn_set_has(&w->wanted, row))) continue;
    double distance;
    int found;
    if ((rc = measure(w, s, &distance, &found)) != SQLITE_OK) break;
    if (!found) continue;
    if ((rc = keep(w, distance, s, 2)) != SQLITE_OK) break;
    put_near(w, (float)as_estimate(w->x->metric, distance));
  }
  int end = knn_done(w->x, s, rc == SQLITE_OK ? step : SQLITE_ROW);
  if (rc == SQLITE_OK) rc = end;
  if (rc == SQLITE_OK && n > 0) rc = knn_set_make(&w->changed, n);
  for (size_t i = 0; i < n && rc == SQLITE_OK; i++) knn_set_put(&w->changed, id[i]);
  sqlite3_free(id);
  return rc;
}

static int search_lists(search *w) {
  knn_request *q = w->q;
  int rc = SQLITE_OK;
  w->most_near = q->k + q->k / 4 + 1;
  w->lists = wanted_lists(w->x, q->k, q->recall);
  if (q->recall >= 0.9) w->lists = fmaxf(w->lists, KNN_LEAST_LISTS);
  float effort = fminf(w->lists, (float)w->x->lists.n);
  /* What is measured for a number of lists is measured with these; KNN.md has the figures. */
  w->gain = 1e-5f * (float)q->k;
  w->deviations = sqrtf(-2 * logf(fmaxf((float)(1 - q->recall), 1e-6f)));
  w->most_pooled = 4 * q->k + 24 + (int)((float)q->k * fminf(effort / 4, 60));
  w->near = sqlite3_malloc64((size_t)w->most_near * sizeof *w->near);
  w->pool = sqlite3_malloc64((size_t)w->most_pooled * sizeof *w->pool);
  if (w->near == NULL || w->pool == NULL) rc = SQLITE_NOMEM;
  if (rc == SQLITE_OK && q->filtered) {
    rc = knn_set_make(&w->wanted, (size_t)q->n);
    for (int i = 0; i < q->n && rc == SQLITE_OK; i++) knn_set_put(&w->wanted, q->id[i]);
  }
  if (rc == SQLITE_OK) rc = scan_changed(w);
  /* Keys of the filter without an id: rows that are new, or not there. */
  if (rc == SQLITE_OK && q->filtered && !w->x->rowid_key) rc = scan_keys(w, 0);
  if (rc == SQLITE_OK) rc = scan_lists(w);
  if (rc == SQLITE_OK) rc = rescore(w);
  sqlite3_free(w->near), sqlite3_free(w->pool);
  sqlite3_free(w->changed.slot), sqlite3_free(w->wanted.slot);
  return rc;
}

int knn_search(knn_index *x, knn_request *q, knn_results *out) {
  search w = {.x = x, .q = q, .out = out};
  int rc;
  out->n = 0;
  if (q->k <= 0) return SQLITE_OK;
  if (q->filtered && q->exact)
    rc = scan_keys(&w, x->rowid_key);
  else if (q->turned == NULL)
    rc = scan_table(&w);
  else
    rc = search_lists(&w);
  if (rc != SQLITE_OK) {
    knn_results_free(out);
    return rc;
  }
  for (int end = out->n - 1; end > 0; end--) {
    knn_result t = out->result[end];
    out->result[end] = out->result[0];
    out->result[0] = t;
    sink(out->result, end, 0);
  }
  return SQLITE_OK;
}
