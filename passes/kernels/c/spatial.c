#include "spatial.h"

#include <string.h>

enum { CHUNK = 4 };

void fill(void *to, Word value, int64_t count) {
  Word *words = to;
  if (value == 0) {
    memset(to, 0, (size_t)count * sizeof value);
    return;
  }
  for (int64_t i = 0; i < count; i++) words[i] = value;
}

/* Rows are short: calls of memcpy would take longer than the copies. */
void copy_row(void *to, const void *from, int64_t count) {
  Word *target = to;
  const Word *source = from;
  if (count < CHUNK) {
    for (int64_t i = 0; i < count; i++) target[i] = source[i];
    return;
  }
  for (int64_t i = 0; i < count - CHUNK; i += CHUNK)
    memcpy(target + i, source + i, sizeof(Word[CHUNK]));
  memcpy(target + count - CHUNK, source + count - CHUNK, sizeof(Word[CHUNK]));
}

void split_row(void *to, int64_t phase, const void *from, int64_t width, int64_t begin,
               int64_t step) {
  Word *target = to;
  const Word *row = from;
  if (step == 1) {
    copy_row(target + begin, row, width);
    return;
  }
  for (int64_t first = 0; first < step && first < width; first++) {
    int64_t column = first + begin, count = (width - first + step - 1) / step;
    Word *part = target + column % step * phase + column / step;
    const Word *source = row + first;
    if (step == 2) /* a constant, for which compilers have vectors */
      for (int64_t i = 0; i < count; i++) part[i] = source[2 * i];
    else
      for (int64_t i = 0; i < count; i++) part[i] = source[i * step];
  }
}

int64_t planes_of_block(const Kernel *kernel) {
  return kernel->unpack ? kernel->rows / 4 : kernel->rows;
}

Word zeros(const Kernel *kernel, int64_t zero) {
  return (Word)((zero - MIDDLE + kernel->offset) & 255) * 0x01010101u;
}

int product(const Kernel *kernel, const Weights *w, const Planes *planes, int64_t first,
            int64_t last, int variant, int64_t start, int64_t tiles) {
  int64_t rows = kernel->rows, out[2] = {w->block_rows * planes_of_block(kernel), planes->plane};
  int64_t values[2] = {w->blocks, rows}, index[1] = {w->blocks}, extent[1] = {planes->extent};
  int64_t offsets[1] = {w->block_rows + 1}, bias[2] = {w->block_rows, rows};
  int64_t count[1] = {planes->count};
  int int8 = planes->numbers != NULL, code = int8 ? CODE_INTEGER : CODE_FLOAT;
  int made = kernel->unpack ? CODE_INTEGER : CODE_FLOAT;
  Tensor tensors[10] = {
      tensor(planes->x, code, 32, 1, extent),
      tensor(w->values, code, 32, 2, values),
      tensor(w->index, CODE_INTEGER, 32, 1, index),
      tensor(w->offsets, CODE_INTEGER, 32, 1, offsets),
      tensor(w->bias, CODE_FLOAT, 32, 2, bias),
      tensor(planes->added ? planes->added : planes->y, made, 32, 2, out),
      tensor(planes->y, made, 32, 2, out),
      tensor(planes->numbers, CODE_FLOAT, 32, 1, count),
      tensor(w->scales, CODE_FLOAT, 32, 2, bias),
      tensor(w->sums, CODE_INTEGER, 32, 2, bias),
  };
  int64_t numbers[4] = {start, tiles, first, last};
  return call_packed(kernel->functions[variant], tensors, int8 ? 10 : 7, numbers, 4);
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
