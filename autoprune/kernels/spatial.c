#include "spatial.h"

#include <string.h>

enum { CHUNK = 4 };

void clear(float *to, int64_t count) { memset(to, 0, (size_t)count * sizeof *to); }

/* Rows are short: calls of memcpy would take longer than the copies. */
void copy_row(float *to, const float *from, int64_t count) {
  if (count < CHUNK) {
    for (int64_t i = 0; i < count; i++) to[i] = from[i];
    return;
  }
  for (int64_t i = 0; i < count - CHUNK; i += CHUNK) memcpy(to + i, from + i, sizeof(float[CHUNK]));
  memcpy(to + count - CHUNK, from + count - CHUNK, sizeof(float[CHUNK]));
}

void split_row(float *to, int64_t phase, const float *from, int64_t width, int64_t begin,
               int64_t step) {
  if (step == 1) {
    copy_row(to + begin, from, width);
    return;
  }
  for (int64_t first = 0; first < step && first < width; first++) {
    int64_t column = first + begin, count = (width - first + step - 1) / step;
    float *part = to + column % step * phase + column / step;
    const float *source = from + first;
    if (step == 2) /* a constant, for which compilers have vectors */
      for (int64_t i = 0; i < count; i++) part[i] = source[2 * i];
    else
      for (int64_t i = 0; i < count; i++) part[i] = source[i * step];
  }
}

int product(const Kernel *kernel, const Weights *w, const Planes *planes, int64_t first,
            int64_t last, int variant, int64_t start, int64_t tiles) {
  int64_t rows = kernel->rows, out[2] = {w->block_rows * rows, planes->plane};
  int64_t values[2] = {w->blocks, rows}, index[1] = {w->blocks}, extent[1] = {planes->extent};
  int64_t offsets[1] = {w->block_rows + 1}, bias[2] = {w->block_rows, rows};
  Tensor tensors[7] = {
      tensor(planes->x, CODE_FLOAT, 32, 1, extent),
      tensor(w->values, CODE_FLOAT, 32, 2, values),
      tensor(w->index, CODE_INTEGER, 32, 1, index),
      tensor(w->offsets, CODE_INTEGER, 32, 1, offsets),
      tensor(w->bias, CODE_FLOAT, 32, 2, bias),
      tensor(planes->added ? planes->added : planes->y, CODE_FLOAT, 32, 2, out),
      tensor(planes->y, CODE_FLOAT, 32, 2, out),
  };
  int64_t numbers[4] = {start, tiles, first, last};
  return call_packed(kernel->functions[variant], tensors, 7, numbers, 4);
}

int whole_product(const Kernel *kernel, const Weights *w, const Planes *planes, int64_t positions) {
  Tiling tiling = divide(kernel, positions);
  int failed = 0;
  for (int v = 0; v < VARIANTS; v++) {
    int64_t count = tiling.count[v];
    if (tiling.back >= 0 && v == tiling.variant) {
      count--;
      failed |= product(kernel, w, planes, 0, w->block_rows, v, tiling.back, 1);
    }
    if (count) failed |= product(kernel, w, planes, 0, w->block_rows, v, tiling.start[v], count);
  }
  return failed;
}

Weights some_rows(const Weights *w, int64_t rows, int64_t first, int64_t last) {
  Weights part = *w;
  part.offsets += first;
  part.bias += first * rows;
  part.block_rows = last - first;
  return part;
}
