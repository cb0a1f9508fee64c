#include "pack.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "half.h"
#include "sqlite_api.h"

static size_t data_bytes(enum vs_type type, size_t n) {
  switch (type) {
  case VS_F64: return 8 * n;
  case VS_F16:
  case VS_BF16: return 2 * n;
  case VS_INT8: return n;
  case VS_BIT: return (n + 7) / 8;
  default: return 4 * n;
  }
}

int vs_pack_begin(vs_packed *p, enum vs_type type, size_t n, vs_error *e) {
  size_t bytes = data_bytes(type, n) + 3; /* at most three follow the elements */
  *p = (vs_packed){.type = type, .n = n, .blob = sqlite3_malloc64(bytes)};
  if (p->blob == NULL) {
    e->nomem = 1;
    return -1;
  }
  memset(p->blob, 0, bytes);
  return 0;
}

int vs_pack_put(vs_packed *p, size_t i, double x, vs_error *e) {
  float f32;
  uint16_t half;
  switch (p->type) {
  case VS_F64: memcpy(p->blob + 8 * i, &x, 8); return 0;
  case VS_F16:
    half = vs_f16_bits(x);
    memcpy(p->blob + 2 * i, &half, 2);
    if ((half & 0x7fff) < 0x7c00) return 0;
    return vs_fail(e, "has an element [%zu], counting from 0, beyond the range of a float16, 65504; keep it as float32 "
                      "with vec_f32", i);
  case VS_BF16:
    half = vs_bf16_bits(x);
    memcpy(p->blob + 2 * i, &half, 2);
    if ((half & 0x7fff) < 0x7f80) return 0;
    return vs_fail(e, "has an element [%zu], counting from 0, beyond the range of a bfloat16; keep it as float64 with "
                      "vec_f64", i);
  case VS_INT8:
    if (!(x >= -128 && x <= 127 && x == floor(x)))
      return vs_fail(e, "has an element [%zu], counting from 0, that is no whole number from -128 to 127; "
                        "vec_quantize_int8 makes int8 of a unit vector", i);
    p->blob[i] = (unsigned char)(signed char)x;
    return 0;
  case VS_BIT:
    if (x != 0 && x != 1)
      return vs_fail(e, "has an element [%zu], counting from 0, that is neither 0 nor 1; vec_quantize_binary makes "
                        "bits of any vector", i);
    p->blob[i / 8] |= (unsigned char)((x == 1) << i % 8);
    return 0;
  default:
    f32 = (float)x;
    memcpy(p->blob + 4 * i, &f32, 4);
    if (isfinite(f32)) return 0;
    return vs_fail(e, "has an element [%zu], counting from 0, beyond the range of a float32; keep it as float64 "
                      "with vec_f64", i);
  }
}

size_t vs_pack_end(vs_packed *p) {
  size_t bytes = data_bytes(p->type, p->n);
  switch (p->type) {
  case VS_F32: return bytes;
  case VS_BIT:
    bytes += bytes % 2 == 0; /* a zero, so that the length becomes odd */
    p->blob[bytes] = (unsigned char)(8 * (bytes + 1) - p->n);
    bytes++;
    break;
  case VS_INT8:
    if (bytes % 2 != 0) { /* a zero here too */
      p->blob[bytes + 1] = VS_INT8 + 1;
      return bytes + 2;
    }
    break;
  default: break;
  }
  p->blob[bytes] = (unsigned char)p->type;
  return bytes + 1;
}

int vs_pack(vs_packed *p, enum vs_type type, const vs_vector *v, size_t *bytes, vs_error *e) {
  if (vs_pack_begin(p, type, v->n, e) != 0) return -1;
  for (size_t i = 0; i < v->n; i++) {
    if (vs_pack_put(p, i, vs_at(v, i), e) == 0) continue;
    sqlite3_free(p->blob);
    p->blob = NULL;
    return -1;
  }
  *bytes = vs_pack_end(p);
  return 0;
}
