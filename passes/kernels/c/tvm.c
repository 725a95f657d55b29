#include "tvm.h"

#include <stddef.h>

enum { ARGUMENT_INTEGER = 1, ARGUMENT_TENSOR = 7, CPU = 1, MOST = 16 };

/* The only thing TVM's functions ask of their runtime. A false return value reports the failure. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  (void)kind, (void)parts, (void)count;
}

Tensor tensor(const void *data, int code, int bits, int ndim, int64_t *shape) {
  Tensor made = {(void *)data, CPU, 0, ndim, (uint8_t)code, (uint8_t)bits, 1, shape, NULL, 0};
  return made;
}

int call_packed(Packed function, const Tensor *tensors, int count, const int64_t *numbers,
                int more) {
  Argument arguments[MOST], result = {0, 0, {0}};
  for (int i = 0; i < count + more; i++) {
    arguments[i].padding = 0;
    if (i < count) {
      arguments[i].type = ARGUMENT_TENSOR;
      arguments[i].pointer = (void *)&tensors[i];
    } else {
      arguments[i].type = ARGUMENT_INTEGER;
      arguments[i].integer = numbers[i - count];
    }
  }
  return function(NULL, arguments, count + more, &result);
}

Tiling divide(const Kernel *kernel, int64_t positions) {
  Tiling made = {.back = -1};
  int64_t rest = positions;
  for (int v = 0; v < VARIANTS && kernel->tiles[v]; v++) {
    int64_t size = kernel->tiles[v];
    int smallest = size > 1 && (v + 1 == VARIANTS || kernel->tiles[v + 1] <= 1);
    made.start[v] = positions - rest;
    made.count[v] = rest / size;
    rest -= made.count[v] * size;
    if (smallest && rest && positions >= size) {
      made.back = positions - size;
      made.variant = v;
      made.count[v]++;
      rest = 0;
    }
    made.total += made.count[v];
  }
  return made;
}

int64_t find_tile(const Tiling *tiling, const Kernel *kernel, int64_t number, int *variant) {
  int v = 0;
  while (number >= tiling->count[v]) number -= tiling->count[v++];
  *variant = v;
  if (v == tiling->variant && tiling->back >= 0 && number == tiling->count[v] - 1)
    return tiling->back;
  return tiling->start[v] + number * kernel->tiles[v];
}
