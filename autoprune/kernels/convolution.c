/* Products with activations [batch, channels, height, width]: convolutions.
 *
 * A convolution is a product with one input for each channel and tap. All taps of a channel read
 * the same padded plane, from different places on. With strides, every `stride`-th row and column is
 * a plane of its own, so that neighbouring outputs read neighbours. What is computed between two
 * rows of the output is dropped. */
#include <stdlib.h>

#include "spatial.h"

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

static void pad(const Geometry *g, const Layout *l, const float *from, float *to) {
  int64_t width = l->in[1];
  clear(to, l->plane);
  for (int64_t h = 0; h < l->in[0]; h++, from += width) {
    int64_t row = h + g->begin[0];
    int64_t phase = row % g->stride[0] * g->stride[1];
    float *start = to + phase * l->phase + row / g->stride[0] * l->pitch;
    split_row(start, l->phase, from, width, g->begin[1], g->stride[1]);
  }
}

/* Rows of the output, from and to where they are `pitch` apart. */
static void crop(const Layout *l, const float *from, float *to, int64_t channels) {
  for (int64_t c = 0; c < channels; c++, from += l->positions)
    for (int64_t h = 0; h < l->out[0]; h++, to += l->out[1])
      copy_row(to, from + h * l->pitch, l->out[1]);
}

static void spread(const Layout *l, const float *from, float *to, int64_t channels) {
  for (int64_t c = 0; c < channels; c++, to += l->positions)
    for (int64_t h = 0; h < l->out[0]; h++, from += l->out[1])
      copy_row(to + h * l->pitch, from, l->out[1]);
}

/* What all jobs of one call share. */
typedef struct {
  const Inputs *given;
  const float *x, *added;
  float *y;
  Weights weights;
  int32_t *index; /* where the positions of every block begin */
  float *padded;
  Rounded rounded;
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
  Planes planes = {call->x + x, NULL, call->channels * positions,
                   call->added ? call->added + y : NULL, call->y + y, positions};
  if (call->rounded.bytes) {
    planes.extent /= 4;
    planes.x = call->rounded.bytes + batch * planes.extent;
    planes.x_scale = call->rounded.scales + batch;
  }
  if (product(kernel, &call->weights, &planes, block_rows * part / call->parts,
              block_rows * (part + 1) / call->parts, variant, start, 1))
    call->failed = 1;
}

static void run_pad(void *user, size_t channel) {
  Call *call = user;
  int64_t plane = call->layout.in[0] * call->layout.in[1];
  pad(&call->given->geometry, &call->layout, call->x + (int64_t)channel * plane,
      call->padded + (int64_t)channel * call->layout.plane);
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
  int64_t extent = call->channels * l->plane;
  Planes planes = {call->padded + batch * extent, NULL, extent, added, y, l->positions};
  if (whole_product(kernel, &part_of, &planes, l->positions)) call->failed = 1;
  crop(l, y, call->y + place, outputs);
  free(y);
}

static int is_pointwise(const Geometry *g) {
  for (int d = 0; d < 2; d++)
    if (g->kernel[d] != 1 || g->stride[d] != 1 || g->begin[d] || g->end[d]) return 0;
  return 1;
}

/* Height and width of x; other dimensions are taken together if that makes no difference. */
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
  call.weights = weights_of(given);
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
  if ((status = check_size(&call)) || (status = make_output(given, &call))) return status;
  if (!l->positions || !batches) return NULL;

  int pointwise = is_pointwise(&given->geometry);
  size_t padded = pointwise ? 0 : (size_t)(batches * call.channels * l->plane) * sizeof(float);
  call.index = malloc(padded + (size_t)(blocks + taps) * sizeof(int32_t));
  if (!call.index) return out_of_memory(given->api);
  call.padded = (float *)(call.index + blocks + taps);
  int32_t *starts = call.index + blocks;
  for (int64_t t = 0; t < taps; t++) starts[t] = (int32_t)tap_start(&given->geometry, l, t);
  for (int64_t b = 0; b < blocks; b++) {
    int32_t input = call.weights.index[b]; /* division is slow, and of 32 bits half as slow */
    int32_t channel = taps == 1 ? input : input / (int32_t)taps;
    call.index[b] = (int32_t)(channel * l->plane) + starts[input - channel * (int32_t)taps];
  }
  call.weights.index = call.index;
  int64_t work = given->size[VALUES] * l->positions * batches, block_rows = call.weights.block_rows;
  if (given->data[SCALES] && !pointwise)
    status = refuse(given->api, "autoprune: 8 bits are for convolutions of one tap");
  if (!status)
    status = round_images(given, call.x, batches, call.channels, l->plane, &call.rounded);
  if (status) {
    /* Nothing was computed that could be used. */
  } else if (pointwise) {
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
  free(call.rounded.bytes);
  return status || !call.failed ? status : kernel_failed(given->api);
}
