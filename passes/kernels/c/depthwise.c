/* Depthwise convolutions, alone or of the outputs of a sparse product.
 *
 * Rows of x and y are `gap` elements apart, whatever is between them. With zeros there, a row ends
 * with the padding that the next one begins with: nothing has to be copied to be padded. With
 * strides, every `stride`-th row and column of the padded x, a phase, is a plane of its own, so
 * that neighbouring outputs read neighbours; a product before the convolution is computed phase by
 * phase, so that only its few inputs have to be split. */
#include <stdlib.h>

#include "spatial.h"

/* Of the channels of a job. */
typedef struct {
  int64_t height, width;        /* of x; */
  int64_t apart;                /* its rows, and */
  int64_t pitch;                /* those of a padded channel without strides */
  int64_t out[2], out_pitch;    /* of y */
  int64_t lead, plane;          /* zeros before a padded channel, and the size of it with them */
  int64_t phase;                /* elements of every stride-th row and column; 0 without strides */
  int64_t taps;
} Layout;

static int64_t ceiling(int64_t a, int64_t b) { return a > 0 ? (a + b - 1) / b : 0; }

static OrtStatus *lay_out(const Inputs *given, Layout *l) {
  const Geometry *g = &given->geometry;
  *l = (Layout){.height = given->dims[2], .width = given->dims[3] - given->x_gap,
                .apart = given->dims[3], .taps = g->kernel[0] * g->kernel[1]};
  l->pitch = l->width + given->gap;
  if (l->width < 0) return refuse(given->api, "autoprune: x is narrower than the gap");
  int64_t in[2] = {l->height, l->width}, reach[2];
  for (int d = 0; d < 2; d++) {
    int64_t padded = in[d] + g->begin[d] + g->end[d];
    reach[d] = g->dilation[d] * (g->kernel[d] - 1);
    l->out[d] = padded <= reach[d] ? 0 : (padded - reach[d] - 1) / g->stride[d] + 1;
  }
  l->out_pitch = l->out[1] + given->gap;
  if (g->stride[0] == 1 && g->stride[1] == 1) {
    int64_t side = g->begin[1] > g->end[1] ? g->begin[1] : g->end[1];
    if (side > given->gap || l->out[1] != l->width)
      return refuse(given->api, "autoprune: the gap is too small, or the width changes");
    l->lead = g->begin[0] * l->pitch + g->begin[1];
    /* To the end of what the last tap of the last position reads, and a row at the least. */
    l->plane = (l->out[0] + reach[0]) * l->pitch + reach[1];
    if (l->plane < l->lead + l->height * l->pitch) l->plane = l->lead + l->height * l->pitch;
    return NULL;
  }
  if (reach[1] / g->stride[1] > given->gap)
    return refuse(given->api, "autoprune: the gap is too small");
  int64_t rows = (l->height + g->begin[0] + g->end[0] + g->stride[0] - 1) / g->stride[0];
  if (rows < l->out[0] + reach[0] / g->stride[0]) rows = l->out[0] + reach[0] / g->stride[0];
  /* One more row: columns beyond the last output reach into it. */
  l->phase = (rows + 1) * l->out_pitch;
  l->plane = g->stride[0] * g->stride[1] * l->phase;
  return NULL;
}

/* Zeros where a padded channel has its padding. */
static void clear_padding(const Geometry *g, const Layout *l, float *plane) {
  if (!l->phase) {
    int64_t end = l->lead + l->height * l->pitch;
    fill(plane, 0, l->lead);
    for (int64_t h = 0; h < l->height; h++)
      for (int64_t w = l->width; w < l->pitch; w++) plane[l->lead + h * l->pitch + w] = 0;
    fill(plane + end, 0, l->plane - end);
    return;
  }
  for (int64_t p = 0; p < g->stride[0] * g->stride[1]; p++, plane += l->phase) {
    int64_t row = p / g->stride[1], column = p % g->stride[1], rows = l->phase / l->out_pitch;
    /* Columns that are in the image: those from `left` to `right`. */
    int64_t left = ceiling(g->begin[1] - column, g->stride[1]);
    int64_t right = ceiling(g->begin[1] + l->width - column, g->stride[1]);
    if (right > l->out_pitch) right = l->out_pitch;
    for (int64_t r = 0; r < rows; r++) {
      float *start = plane + r * l->out_pitch;
      int64_t h = r * g->stride[0] + row - g->begin[0];
      int64_t from = h < 0 || h >= l->height ? 0 : right;
      for (int64_t w = 0; w < left && from; w++) start[w] = 0;
      for (int64_t w = from; w < l->out_pitch; w++) start[w] = 0;
    }
  }
}

/* Rows and columns of a channel go to their phases, as far as an output reads them. */
static void split(const Geometry *g, const Layout *l, const float *from, float *to) {
  int64_t columns = l->out_pitch * g->stride[1] - g->begin[1];
  int64_t width = l->width < columns ? l->width : columns;
  for (int64_t h = 0; h < l->height; h++) {
    int64_t row = h + g->begin[0];
    float *start =
        to + row % g->stride[0] * g->stride[1] * l->phase + row / g->stride[0] * l->out_pitch;
    split_row(start, l->phase, from + h * l->apart, width, g->begin[1], g->stride[1]);
  }
}

/* What all jobs of one call share. */
typedef struct {
  const Inputs *given;
  const float *x;
  float *y;
  Weights weights;      /* of the product, */
  int32_t *index;       /* where the positions of its blocks begin, */
  float *phases;        /* its x in phases, with strides, */
  Rounded rounded;      /* and in 8 bits */
  Layout layout;
  int64_t rows, block_rows, channels, outputs, parts;
  int failed;
} Call;

static void run_split(void *user, size_t channel) {
  Call *call = user;
  const Layout *l = &call->layout;
  float *to = call->phases + (int64_t)channel * l->plane;
  fill(to, 0, l->plane);
  split(&call->given->geometry, l, call->x + (int64_t)channel * l->height * l->apart, to);
}

static int convolve(const Call *call, const float *padded, int64_t first, int64_t channels,
                    float *y) {
  const Layout *l = &call->layout;
  const Kernel *kernel = call->given->depthwise;
  int64_t x_size[1] = {channels * l->plane}, y_size[2] = {channels, l->out[0] * l->out_pitch};
  int64_t taps[2] = {channels, l->taps};
  Tensor tensors[4] = {
      tensor(padded, CODE_FLOAT, 32, 1, x_size),
      tensor((float *)call->given->data[TAPS] + first * l->taps, CODE_FLOAT, 32, 2, taps),
      tensor((float *)call->given->data[SHIFT] + first, CODE_FLOAT, 32, 1, taps),
      tensor(y, CODE_FLOAT, 32, 2, y_size),
  };
  int64_t numbers[4] = {l->plane, l->phase, l->out_pitch, l->out[0]};
  int v = 0;
  while (kernel->tiles[v] > l->out_pitch || kernel->heights[v] > l->out[0]) v++;
  return call_packed(kernel->functions[v], tensors, 4, numbers, 4);
}

/* Some channels of one image, and the product before them, if any. */
static void run_channels(void *user, size_t job) {
  Call *call = user;
  const Layout *l = &call->layout;
  const Inputs *given = call->given;
  int64_t part = (int64_t)job % call->parts, batch = (int64_t)job / call->parts;
  int64_t first = call->block_rows * part / call->parts;
  int64_t last = call->block_rows * (part + 1) / call->parts;
  int64_t outputs = (last - first) * call->rows, from = first * call->rows;
  int64_t before = l->height * l->apart, after = l->out[0] * l->out_pitch;
  float *padded = malloc((size_t)(outputs * l->plane) * sizeof(float));
  if (!padded) {
    call->failed = 1;
    return;
  }
  if (given->kernel) {
    /* The product writes where taps read. */
    int64_t plane = l->phase ? l->plane : before, extent = call->channels * plane;
    const float *x = (l->phase ? call->phases : call->x) + batch * extent;
    Weights part_of = some_rows(&call->weights, call->rows, first, last);
    Planes planes = {.x = x, .extent = extent, .y = padded + l->lead, .plane = l->plane};
    if (call->rounded.bytes) {
      planes.extent /= 4;
      planes.x = call->rounded.bytes + batch * planes.extent;
      planes.numbers = call->rounded.numbers + 2 * batch;
      planes.count = 2;
    }
    if (whole_product(given->kernel, &part_of, &planes, plane)) call->failed = 1;
  }
  for (int64_t c = 0; c < outputs; c++) {
    const float *x = call->x + (batch * call->outputs + from + c) * before;
    float *plane = padded + c * l->plane;
    if (!given->kernel && l->phase) split(&given->geometry, l, x, plane);
    for (int64_t h = 0; !given->kernel && !l->phase && h < l->height; h++)
      copy_row(plane + l->lead + h * l->pitch, x + h * l->apart, l->width);
    clear_padding(&given->geometry, l, plane);
  }
  float *y = call->y + (batch * call->outputs + from) * after;
  if (convolve(call, padded, from, outputs, y)) call->failed = 1;
  free(padded);
}

static OrtStatus *check(const Inputs *given, const Call *call) {
  const Layout *l = &call->layout;
  if (given->size[TAPS] != call->outputs * l->taps || call->outputs % call->rows ||
      (given->kernel && given->size[BIAS] != call->outputs))
    return refuse(given->api, "autoprune: weights and kernel do not match");
  if (given->kernel && given->x_gap != given->gap)
    return refuse(given->api, "autoprune: x and y have other gaps, with a product before");
  if (!given->kernel && call->channels != call->outputs)
    return refuse(given->api, "autoprune: x has another number of channels");
  int64_t before = l->height * l->apart, most = before > l->plane ? before : l->plane;
  int64_t channels = call->channels > call->outputs ? call->channels : call->outputs;
  if (most && channels > INT32_MAX / most)
    return refuse(given->api, "autoprune: more than 2^31 activations in an image");
  return NULL;
}

/* Bytes that the channels of a job may take, so that they stay in the cache between its steps. */
enum { CACHED = 1 << 18 };

OrtStatus *run_depthwise(const Inputs *given) {
  OrtStatus *status;
  if (given->rank != 4) return refuse(given->api, "autoprune: x needs 4 dimensions");
  Call call = {
      .given = given, .x = given->data[X], .channels = given->dims[1],
      .outputs = given->size[SHIFT], .rows = given->kernel ? given->kernel->rows : 1,
      .weights = weights_of(given),
  };
  Layout *l = &call.layout;
  if ((status = lay_out(given, l)) || (status = check(given, &call))) return status;
  int64_t batches = given->dims[0];
  int64_t dims[4] = {batches, call.outputs, l->out[0], l->out_pitch};
  if ((status = output(given, dims, 4, (void **)&call.y))) return status;
  if (!batches || !l->out[0] || !l->out[1] || !call.outputs) return NULL;

  call.block_rows = call.outputs / call.rows;
  int64_t each = l->plane * call.rows * (int64_t)sizeof(float);
  int64_t most = each < CACHED ? CACHED / each : 1; /* block rows of a job */
  call.parts = (call.block_rows + most - 1) / most;
  if (call.parts < JOBS) call.parts = call.block_rows < JOBS ? call.block_rows : JOBS;
  int64_t before = l->height * l->apart, after = l->out[0] * l->out_pitch;
  if (given->kernel) {
    int64_t blocks = call.weights.blocks, plane = l->phase ? l->plane : before;
    size_t phases = l->phase ? (size_t)(batches * call.channels * plane) * sizeof(float) : 0;
    call.index = malloc(phases + (size_t)(blocks + 1) * sizeof(int32_t));
    if (!call.index) return out_of_memory(given->api);
    call.phases = (float *)(call.index + blocks);
    for (int64_t b = 0; b < blocks; b++) call.index[b] = (int32_t)(call.weights.index[b] * plane);
    call.weights.index = call.index;
    if (l->phase)
      status = for_each(given, batches * call.channels * plane, run_split,
                        batches * call.channels, &call);
    if (!status && given->data[SCALES])
      status = round_images(given, l->phase ? call.phases : call.x, batches, call.channels, plane,
                            &call.rounded);
  }
  int64_t work = batches * (given->size[VALUES] * before + given->size[TAPS] * after);
  if (!status) status = for_each(given, work, run_channels, batches * call.parts, &call);
  free(call.index);
  free(call.rounded.bytes);
  return status || !call.failed ? status : kernel_failed(given->api);
}

/* Rows of x, `width` long, further apart or closer together. */
static OrtStatus *move_rows(const Inputs *given, int64_t width, int64_t pitch) {
  float *y;
  const float *x = given->data[X];
  int64_t dims[4] = {given->dims[0], given->dims[1], given->dims[2], pitch};
  OrtStatus *status = output(given, dims, 4, (void **)&y);
  if (status) return status;
  int64_t rows = dims[0] * dims[1] * dims[2];
  for (int64_t r = 0; r < rows; r++, x += given->dims[3], y += pitch) {
    copy_row(y, x, width);
    for (int64_t w = width; w < pitch; w++) y[w] = 0;
  }
  return NULL;
}

OrtStatus *run_widen(const Inputs *given) {
  if (given->rank != 4) return refuse(given->api, "autoprune: x needs 4 dimensions");
  return move_rows(given, given->dims[3], given->dims[3] + given->gap);
}

OrtStatus *run_narrow(const Inputs *given) {
  if (given->rank != 4 || given->dims[3] < given->gap)
    return refuse(given->api, "autoprune: x needs 4 dimensions, the last with a gap");
  return move_rows(given, given->dims[3] - given->gap, given->dims[3] - given->gap);
}
