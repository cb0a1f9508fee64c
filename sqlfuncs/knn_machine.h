/* Vectors of the compiler and functions compiled for several machines, for knn_code.c and
 * knn_means.c. */
#ifndef VS_KNN_MACHINE_H
#define VS_KNN_MACHINE_H

#include <stdint.h>
#include <string.h>

/* The float code is written once, over vectors of the compiler (16 floats), and compiled for
 * several machines: BODY is inlined into a function for each. The compiler splits the vectors
 * where registers are shorter. */
#define INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#endif

enum level { PLAIN, SMALL, LARGE, LARGE_VNNI };

/* knn_forced_plain is what knn_use_plain was told last. */
extern int knn_forced_plain;

/* level says what this machine can run; the compiler's answer is cached by the processor model. */
static inline enum level level(void) {
  if (knn_forced_plain) return PLAIN;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return __builtin_cpu_supports("avx512vnni") ? LARGE_VNNI : LARGE;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return SMALL;
#endif
  return PLAIN;
}

#if defined(__x86_64__)
/* DISPATCH defines name(params) as body_name inlined for each machine. */
#define DISPATCH(type, name, params, args)                              \
  static type name##_plain params { return body_##name args; }          \
  AVX2 static type name##_small params { return body_##name args; }     \
  AVX512 static type name##_large params { return body_##name args; }   \
  static type name params {                                             \
    enum level l = level();                                             \
    if (l >= LARGE) return name##_large args;                           \
    return l == SMALL ? name##_small args : name##_plain args;          \
  }
#else
#define DISPATCH(type, name, params, args) \
  static type name params { return body_##name args; }
#endif

typedef float v16 __attribute__((vector_size(64)));
typedef float v8 __attribute__((vector_size(32)));
typedef float v4 __attribute__((vector_size(16)));
typedef int32_t i16 __attribute__((vector_size(64)));

/* Vectors go through pointers: a vector of 64 bytes by value has another calling convention on
 * each machine, and these are all inlined. */
INLINE void load(v16 *v, const float *p) { memcpy(v, p, sizeof *v); }
INLINE void store(float *p, const v16 *v) { memcpy(p, v, sizeof *v); }
INLINE float total(const v16 *v) {
  v8 a, b;
  memcpy(&a, v, sizeof a);
  memcpy(&b, (const char *)v + sizeof a, sizeof b);
  a += b;
  v4 c, d;
  memcpy(&c, &a, sizeof c);
  memcpy(&d, (const char *)&a + sizeof c, sizeof d);
  c += d;
  return (c[0] + c[2]) + (c[1] + c[3]);
}

#endif
