#include "kernels.h"

#define MAX_KERNELS 8

const vs_kernels *vs_best = &vs_ref;

#if !defined(__x86_64__) && !defined(__aarch64__)
int vs_machine_kernels(const vs_kernels **list, int max) {
  (void)list, (void)max;
  return 0;
}
#endif

const vs_kernels *vs_kernels_at(int i) {
  const vs_kernels *list[MAX_KERNELS];
  if (i == 0) return &vs_ref;
  int n = vs_machine_kernels(list, MAX_KERNELS);
  return i > 0 && i <= n ? list[i - 1] : NULL;
}

void vs_choose_kernels(void) {
  const vs_kernels *list[MAX_KERNELS];
  int n = vs_machine_kernels(list, MAX_KERNELS);
  vs_best = n > 0 ? list[n - 1] : &vs_ref;
}
