#include "spatial.h"

#include <stdlib.h>
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
  int64_t offsets[1] = {w->block_rows + 1}, bias[2] = {w->block_rows, rows}, one[1] = {1};
  int int8 = planes->x_scale != NULL, code = int8 ? CODE_INTEGER : CODE_FLOAT;
  Tensor tensors[10] = {
      tensor(planes->x, code, 32, 1, extent),
      tensor(w->values, code, 32, 2, values),
      tensor(w->index, CODE_INTEGER, 32, 1, index),
      tensor(w->offsets, CODE_INTEGER, 32, 1, offsets),
      tensor(w->bias, CODE_FLOAT, 32, 2, bias),
      tensor(planes->added ? planes->added : planes->y, CODE_FLOAT, 32, 2, out),
      tensor(planes->y, CODE_FLOAT, 32, 2, out),
      tensor(planes->x_scale, CODE_FLOAT, 32, 1, one),
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

Weights some_rows(const Weights *w, int64_t rows, int64_t first, int64_t last) {
  Weights part = *w;
  part.offsets += first;
  part.bias += first * rows;
  if (part.scales) part.scales += first * rows, part.sums += first * rows;
  part.block_rows = last - first;
  return part;
}

/* What the jobs of rounding share. A job is a part of the channels of an image. */
typedef struct {
  const Inputs *given;
  const float *x;
  float *most; /* of every part */
  Rounded *made;
  int64_t quads, plane, parts;
  int failed;
} Rounding;

/* The first four channels of a job, counted through all images, and how many of them. */
static int64_t first_quad(const Rounding *r, size_t job, int64_t *count) {
  int64_t part = (int64_t)job % r->parts, image = (int64_t)job / r->parts;
  int64_t first = r->quads * part / r->parts;
  *count = r->quads * (part + 1) / r->parts - first;
  return image * r->quads + first;
}

static void run_largest(void *user, size_t job) {
  Rounding *r = user;
  int64_t quads, first = first_quad(r, job, &quads), count[1] = {4 * quads * r->plane};
  int64_t one[1] = {1};
  Tensor tensors[2] = {
      tensor(r->x + first * 4 * r->plane, CODE_FLOAT, 32, 1, count),
      tensor(r->most + job, CODE_FLOAT, 32, 1, one),
  };
  if (call_packed(r->given->kernel->largest, tensors, 2, NULL, 0)) r->failed = 1;
}

static void run_round(void *user, size_t job) {
  Rounding *r = user;
  int64_t quads, first = first_quad(r, job, &quads);
  int64_t from[2] = {4 * quads, r->plane}, to[2] = {quads, r->plane}, one[1] = {1};
  Tensor tensors[3] = {
      tensor(r->x + first * 4 * r->plane, CODE_FLOAT, 32, 2, from),
      tensor(r->made->bytes + first * r->plane, CODE_INTEGER, 32, 2, to),
      tensor(r->made->scales + (int64_t)job / r->parts, CODE_FLOAT, 32, 1, one),
  };
  if (call_packed(r->given->kernel->quantize, tensors, 3, NULL, 0)) r->failed = 1;
}

OrtStatus *round_images(const Inputs *given, const float *x, int64_t images, int64_t channels,
                        int64_t plane, Rounded *made) {
  made->bytes = NULL, made->scales = NULL;
  if (!given->data[SCALES]) return NULL;
  int64_t outputs = given->size[BIAS], quads = channels / 4;
  if (!given->kernel->quantize || !given->kernel->largest || channels % 4 || !quads ||
      given->size[SCALES] != outputs || given->size[SUMS] != outputs)
    return refuse(given->api, "autoprune: not prepared for 8 bits");
  int64_t parts = quads < JOBS ? quads : JOBS, jobs = images * parts;
  made->bytes = malloc((size_t)(images * quads * plane + images + jobs) * sizeof(int32_t));
  if (!made->bytes) return out_of_memory(given->api);
  made->scales = (float *)(made->bytes + images * quads * plane);
  Rounding r = {given, x, made->scales + images, made, quads, plane, parts, 0};
  OrtStatus *status = for_each(given, images * quads * plane, run_largest, jobs, &r);
  for (int64_t i = 0; i < images; i++) {
    float most = 1e-30f; /* so that zeros have a scale, too */
    for (int64_t p = 0; p < parts; p++)
      if (r.most[i * parts + p] > most) most = r.most[i * parts + p];
    made->scales[i] = most / 127;
  }
  if (!status) status = for_each(given, images * quads * plane, run_round, jobs, &r);
  return status || !r.failed ? status : kernel_failed(given->api);
}
