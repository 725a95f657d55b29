/* Products with activations [batch, channels, height, width]: convolutions.
 *
 * A convolution is a product with one input for each channel and tap. All taps of a channel read the
 * same padded plane, from different places on. With strides, every `stride`-th row and column is
 * a plane of its own, so that neighbouring outputs read neighbours. What is computed between two
 * rows of the output is dropped. */
#include <stdlib.h>
#include <string.h>

#include "operators.h"

/* Of a padded channel, and of the outputs computed on it. */
typedef struct {
  int64_t in[2], out[2];  /* height and width */
  int64_t phase;          /* elements of every stride-th row and column */
  int64_t pitch;          /* of a row, */
  int64_t plane;          /* and of the whole channel */
  int64_t positions;      /* computed, the last row without what is dropped */
  int64_t taps;
} Layout;

static Layout lay_out(const Geometry *g, int64_t height, int64_t width) {
  Layout made = {.in = {height, width}, .taps = g->kernel[0] * g->kernel[1]};
  int64_t padded[2];
  for (int d = 0; d < 2; d++) {
    padded[d] = made.in[d] + g->begin[d] + g->end[d];
    int64_t reach = g->dilation[d] * (g->kernel[d] - 1) + 1;
    made.out[d] = padded[d] < reach ? 0 : (padded[d] - reach) / g->stride[d] + 1;
  }
  made.pitch = (padded[1] + g->stride[1] - 1) / g->stride[1];
  made.phase = (padded[0] + g->stride[0] - 1) / g->stride[0] * made.pitch;
  made.plane = g->stride[0] * g->stride[1] * made.phase;
  made.positions = made.out[0] ? (made.out[0] - 1) * made.pitch + made.out[1] : 0;
  return made;
}

/* Where the positions of a tap begin in the plane of a channel. */
static int64_t tap_start(const Geometry *g, const Layout *l, int64_t tap) {
  int64_t row = tap / g->kernel[1] * g->dilation[0], column = tap % g->kernel[1] * g->dilation[1];
  int64_t phase = row % g->stride[0] * g->stride[1] + column % g->stride[1];
  return phase * l->phase + row / g->stride[0] * l->pitch + column / g->stride[1];
}

static void pad(const Geometry *g, const Layout *l, const float *from, float *to, int64_t channels) {
  int64_t width = l->in[1], step = g->stride[1];
  memset(to, 0, (size_t)(channels * l->plane) * sizeof *to);
  for (int64_t c = 0; c < channels; c++, to += l->plane)
    for (int64_t h = 0; h < l->in[0]; h++, from += width) {
      int64_t row = h + g->begin[0];
      float *start = to + row % g->stride[0] * step * l->phase + row / g->stride[0] * l->pitch;
      if (step == 1) {
        memcpy(start + g->begin[1], from, (size_t)width * sizeof *to);
        continue;
      }
      for (int64_t first = 0; first < step && first < width; first++) {
        int64_t column = first + g->begin[1], count = (width - first + step - 1) / step;
        float *phase = start + column % step * l->phase + column / step;
        for (int64_t i = 0; i < count; i++) phase[i] = from[first + i * step];
      }
    }
}

/* Rows of the output, from and to where they are `pitch` apart. */
static void crop(const Layout *l, const float *from, float *to, int64_t channels) {
  for (int64_t c = 0; c < channels; c++, from += l->positions)
    for (int64_t h = 0; h < l->out[0]; h++, to += l->out[1])
      memcpy(to, from + h * l->pitch, (size_t)l->out[1] * sizeof *to);
}

static void spread(const Layout *l, const float *from, float *to, int64_t channels) {
  for (int64_t c = 0; c < channels; c++, to += l->positions)
    for (int64_t h = 0; h < l->out[0]; h++, from += l->out[1])
      memcpy(to + h * l->pitch, from, (size_t)l->out[1] * sizeof *to);
}

/* Block rows of a product at some tiles; `x` is flat, `y` and `added` are [outputs, positions]. */
static int product(const Kernel *kernel, const Weights *w, const float *x, int64_t extent,
                   const float *added, float *y, int64_t positions, int64_t first, int64_t last,
                   int variant, int64_t start, int64_t tiles) {
  int64_t rows = kernel->rows, out[2] = {w->block_rows * rows, positions};
  int64_t values[2] = {w->blocks, rows}, index[1] = {w->blocks};
  int64_t offsets[1] = {w->block_rows + 1}, bias[2] = {w->block_rows, rows};
  Tensor tensors[7] = {
      tensor(x, CODE_FLOAT, 32, 1, &extent),
      tensor(w->values, CODE_FLOAT, 32, 2, values),
      tensor(w->index, CODE_INTEGER, 32, 1, index),
      tensor(w->offsets, CODE_INTEGER, 32, 1, offsets),
      tensor(w->bias, CODE_FLOAT, 32, 2, bias),
      tensor(added ? added : y, CODE_FLOAT, 32, 2, out),
      tensor(y, CODE_FLOAT, 32, 2, out),
  };
  int64_t numbers[4] = {start, tiles, first, last};
  return call_packed(kernel->functions[variant], tensors, 7, numbers, 4);
}

/* All positions of all block rows. */
static int whole_product(const Kernel *kernel, const Weights *w, const float *x, int64_t extent,
                         const float *added, float *y, int64_t positions) {
  Tiling tiling = divide(kernel, positions);
  int failed = 0;
  for (int v = 0; v < VARIANTS; v++) {
    int64_t count = tiling.count[v];
    if (tiling.back >= 0 && v == tiling.variant) {
      count--;
      failed |= product(kernel, w, x, extent, added, y, positions, 0, w->block_rows, v, tiling.back,
                        1);
    }
    if (count)
      failed |= product(kernel, w, x, extent, added, y, positions, 0, w->block_rows, v,
                        tiling.start[v], count);
  }
  return failed;
}

/* Some block rows of a product; values and index stay where they are. */
static Weights some_rows(const Weights *w, int64_t rows, int64_t first, int64_t last) {
  Weights part = *w;
  part.offsets += first;
  part.bias += first * rows;
  part.block_rows = last - first;
  return part;
}

/* What all jobs of one call share. */
typedef struct {
  const Inputs *given;
  const float *x, *added;
  float *y;
  Weights weights;       /* of the sparse product, */
  const float *taps, *shift; /* and of the depthwise convolution after it */
  int32_t *index;        /* where the positions of every block begin */
  int32_t *tap_index, *tap_offsets;
  float *padded;
  Layout layout;
  Tiling tiling;
  int64_t channels, outputs, parts;
  int failed;
} Call;

/* One tile of positions, of one image and a part of the block rows. */
static void run_pointwise(void *user, size_t job) {
  Call *call = user;
  const Kernel *kernel = call->given->kernel;
  int64_t part = (int64_t)job % call->parts, tile = (int64_t)job / call->parts;
  int64_t batch = tile / call->tiling.total, positions = call->layout.positions;
  int64_t x = batch * call->channels * positions, y = batch * call->outputs * positions;
  int64_t block_rows = call->weights.block_rows;
  int variant;
  int64_t start = find_tile(&call->tiling, kernel, tile % call->tiling.total, &variant);
  if (product(kernel, &call->weights, call->x + x, call->channels * positions,
              call->added ? call->added + y : NULL, call->y + y, positions,
              block_rows * part / call->parts, block_rows * (part + 1) / call->parts, variant,
              start, 1))
    call->failed = 1;
}

static void run_pad(void *user, size_t channel) {
  Call *call = user;
  int64_t plane = call->layout.in[0] * call->layout.in[1];
  pad(&call->given->geometry, &call->layout, call->x + (int64_t)channel * plane,
      call->padded + (int64_t)channel * call->layout.plane, 1);
}

/* A part of the block rows, at all positions of one image. */
static void run_spatial(void *user, size_t job) {
  Call *call = user;
  const Layout *l = &call->layout;
  const Kernel *kernel = call->given->kernel;
  int64_t part = (int64_t)job % call->parts, batch = (int64_t)job / call->parts;
  int64_t first = call->weights.block_rows * part / call->parts;
  int64_t last = call->weights.block_rows * (part + 1) / call->parts;
  int64_t outputs = (last - first) * kernel->rows, plane = l->out[0] * l->out[1];
  int64_t place = (batch * call->outputs + first * kernel->rows) * plane;
  size_t size = (size_t)(outputs * l->positions) * sizeof(float);
  float *y = malloc(call->added ? 2 * size : size), *added = NULL;
  if (!y) {
    call->failed = 1;
    return;
  }
  if (call->added) {
    added = y + outputs * l->positions;
    spread(l, call->added + place, added, outputs);
  }
  Weights part_of = some_rows(&call->weights, kernel->rows, first, last);
  if (whole_product(kernel, &part_of, call->padded + batch * call->channels * l->plane,
                    call->channels * l->plane, added, y, l->positions))
    call->failed = 1;
  crop(l, y, call->y + place, outputs);
  free(y);
}

/* Some channels of a depthwise convolution of one image, and the product before it, if any. */
static void run_channels(void *user, size_t job) {
  Call *call = user;
  const Layout *l = &call->layout;
  const Kernel *kernel = call->given->kernel, *depthwise = call->given->depthwise;
  int64_t part = (int64_t)job % call->parts, batch = (int64_t)job / call->parts;
  int64_t rows = kernel ? kernel->rows : 1, block_rows = call->outputs / rows;
  int64_t first = block_rows * part / call->parts, last = block_rows * (part + 1) / call->parts;
  int64_t outputs = (last - first) * rows, before = l->in[0] * l->in[1];
  size_t needed = (size_t)(outputs * (l->plane + l->positions + (kernel ? before : 0)));
  float *padded = malloc(needed * sizeof(float)), *y = padded + outputs * l->plane;
  if (!padded) {
    call->failed = 1;
    return;
  }
  const float *x = call->x + (batch * call->outputs + first) * before;
  if (kernel) {
    float *made = y + outputs * l->positions;
    Weights part_of = some_rows(&call->weights, rows, first, last);
    if (whole_product(kernel, &part_of, call->x + batch * call->channels * before,
                      call->channels * before, NULL, made, before))
      call->failed = 1;
    x = made;
  }
  pad(&call->given->geometry, l, x, padded, outputs);
  Weights taps = {
      call->taps + first * rows * l->taps, call->tap_index, call->tap_offsets,
      call->shift + first * rows, outputs * l->taps, outputs,
  };
  if (whole_product(depthwise, &taps, padded, outputs * l->plane, NULL, y, l->positions))
    call->failed = 1;
  crop(l, y, call->y + (batch * call->outputs + first * rows) * l->out[0] * l->out[1], outputs);
  free(padded);
}

static int is_pointwise(const Geometry *g) {
  for (int d = 0; d < 2; d++)
    if (g->kernel[d] != 1 || g->stride[d] != 1 || g->begin[d] || g->end[d]) return 0;
  return 1;
}

/* Height and width of x, where further dimensions are taken together if that makes no difference. */
static OrtStatus *shape_of(const Inputs *given, int64_t *size) {
  size[0] = size[1] = 1;
  if (given->rank < 2) return refuse(given->api, "autoprune: x needs 2 dimensions");
  if (is_pointwise(&given->geometry)) {
    for (size_t d = 2; d < given->rank; d++) size[1] *= given->dims[d];
    return NULL;
  }
  if (given->rank != 4) return refuse(given->api, "autoprune: x needs 4 dimensions");
  size[0] = given->dims[2], size[1] = given->dims[3];
  return NULL;
}

/* Kernels count activations with 32 bits. */
static OrtStatus *check_size(const Call *call) {
  int64_t plane = call->layout.plane, before = call->layout.in[0] * call->layout.in[1];
  int64_t channels = call->channels > call->outputs ? call->channels : call->outputs;
  int64_t most = plane > before ? plane : before;
  if (most && channels > INT32_MAX / most)
    return refuse(call->given->api, "autoprune: more than 2^31 activations in an image");
  return NULL;
}

static OrtStatus *make_output(const Inputs *given, Call *call) {
  int64_t dims[RANK];
  for (size_t d = 0; d < given->rank; d++) dims[d] = given->dims[d];
  dims[1] = call->outputs;
  if (!is_pointwise(&given->geometry)) dims[2] = call->layout.out[0], dims[3] = call->layout.out[1];
  return output(given, dims, given->rank, &call->y);
}

static Call prepare(const Inputs *given, const int64_t *size) {
  Call call = {.given = given, .x = given->data[X], .added = given->data[ADDED]};
  call.weights = (Weights){given->data[VALUES], given->data[INDEX], given->data[OFFSETS],
                           given->data[BIAS],   given->size[INDEX], given->size[OFFSETS] - 1};
  call.layout = lay_out(&given->geometry, size[0], size[1]);
  call.channels = given->dims[1];
  return call;
}

OrtStatus *run_convolution(const Inputs *given) {
  int64_t size[2];
  OrtStatus *status = shape_of(given, size);
  if (status) return status;
  Call call = prepare(given, size);
  const Layout *l = &call.layout;
  int64_t batches = given->dims[0], blocks = call.weights.blocks, taps = l->taps;
  call.outputs = given->size[BIAS];
  if (call.added && given->size[ADDED] != batches * call.outputs * l->out[0] * l->out[1])
    return refuse(given->api, "autoprune: the added tensor has another shape");
  if ((status = check_size(&call)) || (status = make_output(given, &call)) || !l->positions || !batches) return status;

  int pointwise = is_pointwise(&given->geometry);
  size_t padded = pointwise ? 0 : (size_t)(batches * call.channels * l->plane) * sizeof(float);
  call.index = malloc(padded + (size_t)(blocks + taps) * sizeof(int32_t));
  if (!call.index) return out_of_memory(given->api);
  call.padded = (float *)(call.index + blocks + taps);
  int32_t *starts = call.index + blocks;
  for (int64_t t = 0; t < taps; t++) starts[t] = (int32_t)tap_start(&given->geometry, l, t);
  for (int64_t b = 0; b < blocks; b++) {
    int64_t input = call.weights.index[b];
    call.index[b] = (int32_t)(input / taps * l->plane) + starts[input % taps];
  }
  call.weights.index = call.index;
  int64_t work = given->size[VALUES] * l->positions * batches, block_rows = call.weights.block_rows;
  if (pointwise) {
    call.tiling = divide(given->kernel, l->positions);
    int64_t parts = (JOBS + batches * call.tiling.total - 1) / (batches * call.tiling.total);
    call.parts = parts < block_rows ? parts : block_rows;
    status = for_each(given, work, run_pointwise, batches * call.tiling.total * call.parts, &call);
  } else {
    call.parts = block_rows < JOBS ? block_rows : JOBS;
    status = for_each(given, work, run_pad, batches * call.channels, &call);
    if (!status) status = for_each(given, work, run_spatial, batches * call.parts, &call);
  }
  free(call.index);
  return status || !call.failed ? status : kernel_failed(given->api);
}

/* Bytes that the channels of a job may take, so that they stay in the cache between its steps. */
enum { CACHED = 1 << 18 };

OrtStatus *run_depthwise(const Inputs *given) {
  int64_t size[2];
  OrtStatus *status = shape_of(given, size);
  if (status) return status;
  Call call = prepare(given, size);
  const Layout *l = &call.layout;
  call.outputs = given->size[SHIFT];
  call.taps = given->data[TAPS];
  call.shift = given->data[SHIFT];
  int64_t batches = given->dims[0], rows = 1, before = size[0] * size[1], blocks = 0;
  if (given->kernel) {
    rows = given->kernel->rows;
    blocks = call.weights.blocks;
    if (given->size[BIAS] != call.outputs)
      return refuse(given->api, "autoprune: weights and kernel do not match");
  } else if (call.channels != call.outputs) {
    return refuse(given->api, "autoprune: x has another number of channels");
  }
  if (given->size[TAPS] != call.outputs * l->taps || call.outputs % rows)
    return refuse(given->api, "autoprune: weights and kernel do not match");
  if ((status = check_size(&call)) || (status = make_output(given, &call)) || !l->positions || !batches) return status;

  int64_t block_rows = call.outputs / rows, each = (l->plane + l->positions + before) * rows * 4;
  int64_t most = each < CACHED ? CACHED / each : 1; /* block rows of a job */
  call.parts = (block_rows + most - 1) / most;
  if (call.parts < JOBS) call.parts = block_rows < JOBS ? block_rows : JOBS;
  int64_t channels = (block_rows + call.parts - 1) / call.parts * rows;
  call.index = malloc((size_t)(blocks + channels * (l->taps + 1) + 1) * sizeof(int32_t));
  if (!call.index) return out_of_memory(given->api);
  for (int64_t b = 0; b < blocks; b++)
    call.index[b] = (int32_t)(call.weights.index[b] * before);
  call.weights.index = call.index;
  call.tap_index = call.index + blocks;
  call.tap_offsets = call.tap_index + channels * l->taps;
  for (int64_t t = 0; t < l->taps; t++) {
    int64_t start = tap_start(&given->geometry, l, t);
    for (int64_t c = 0; c < channels; c++)
      call.tap_index[c * l->taps + t] = (int32_t)(c * l->plane + start);
  }
  for (int64_t c = 0; c <= channels; c++) call.tap_offsets[c] = (int32_t)(c * l->taps);
  int64_t work = batches * (given->size[VALUES] * before + given->size[TAPS] * l->positions);
  status = for_each(given, work, run_channels, batches * call.parts, &call);
  free(call.index);
  return status || !call.failed ? status : kernel_failed(given->api);
}
