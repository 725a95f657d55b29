/* Products with activations [batch, channels, height, width]: convolutions.
 *
 * A convolution is a product with one input for each channel and tap. All taps of a channel read
 * the same padded plane, from different places on. With strides, every `stride`-th row and column is
 * a plane of its own, so that neighbouring outputs read neighbours. What is computed between two
 * rows of the output is dropped.
 *
 * Of 8-bit integers, a plane is that of four channels. */
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

static void pad(const Geometry *g, const Layout *l, const Word *from, Word *to, Word zero) {
  int64_t width = l->in[1];
  fill(to, zero, l->plane);
  for (int64_t h = 0; h < l->in[0]; h++, from += width) {
    int64_t row = h + g->begin[0];
    int64_t phase = row % g->stride[0] * g->stride[1];
    Word *start = to + phase * l->phase + row / g->stride[0] * l->pitch;
    split_row(start, l->phase, from, width, g->begin[1], g->stride[1]);
  }
}

/* Rows of the output, from and to where they are `pitch` apart. */
static void crop(const Layout *l, const Word *from, Word *to, int64_t planes) {
  for (int64_t p = 0; p < planes; p++, from += l->positions)
    for (int64_t h = 0; h < l->out[0]; h++, to += l->out[1])
      copy_row(to, from + h * l->pitch, l->out[1]);
}

static void spread(const Layout *l, const Word *from, Word *to, int64_t planes) {
  for (int64_t p = 0; p < planes; p++, to += l->positions)
    for (int64_t h = 0; h < l->out[0]; h++, from += l->out[1])
      copy_row(to + h * l->pitch, from, l->out[1]);
}

/* What all jobs of one call share. */
typedef struct {
  const Inputs *given;
  const Word *x, *added;
  Word *y;
  const float *numbers;   /* of the first image on activations of 8 bits, NULL for floats, */
  int64_t count, further; /* how many, and how many further on are those of the next image */
  Weights weights;
  int32_t *index; /* where the positions of every block begin */
  Word *padded, zero;
  Rounded rounded;
  Layout layout;
  Tiling tiling;
  int64_t inputs, outputs; /* planes of an image */
  int64_t parts;
  int failed;
} Call;

/* What a product reads of an image. */
static Planes planes_of(const Call *call, const Word *x, int64_t image, int64_t extent) {
  return (Planes){
      .x = x + image * extent,
      .extent = extent,
      .numbers = call->numbers ? call->numbers + image * call->further : NULL,
      .count = call->count,
  };
}

/* One tile of positions, of one image and a part of the block rows. */
static void run_pointwise(void *user, size_t job) {
  Call *call = user;
  const Kernel *kernel = call->given->kernel;
  int64_t part = (int64_t)job % call->parts, tile = (int64_t)job / call->parts;
  int64_t image = tile / call->tiling.total, positions = call->layout.positions;
  int64_t extent = call->inputs * positions, y = image * call->outputs * positions;
  int64_t block_rows = call->weights.block_rows;
  int variant;
  int64_t start = find_tile(&call->tiling, kernel, tile % call->tiling.total, &variant);
  Planes planes = planes_of(call, call->x, image, extent);
  planes.added = call->added ? call->added + y : NULL;
  planes.y = call->y + y;
  planes.plane = positions;
  if (product(kernel, &call->weights, &planes, block_rows * part / call->parts,
              block_rows * (part + 1) / call->parts, variant, start, 1))
    call->failed = 1;
}

static void run_pad(void *user, size_t plane) {
  Call *call = user;
  int64_t size = call->layout.in[0] * call->layout.in[1];
  pad(&call->given->geometry, &call->layout, call->x + (int64_t)plane * size,
      call->padded + (int64_t)plane * call->layout.plane, call->zero);
}

/* A part of the block rows, at all positions of one image. */
static void run_spatial(void *user, size_t job) {
  Call *call = user;
  const Layout *l = &call->layout;
  const Kernel *kernel = call->given->kernel;
  int64_t part = (int64_t)job % call->parts, image = (int64_t)job / call->parts;
  int64_t first = call->weights.block_rows * part / call->parts;
  int64_t last = call->weights.block_rows * (part + 1) / call->parts;
  int64_t outputs = (last - first) * planes_of_block(kernel), size = l->out[0] * l->out[1];
  int64_t place = (image * call->outputs + first * planes_of_block(kernel)) * size;
  size_t taken = (size_t)(outputs * l->positions) * sizeof(Word);
  Word *y = malloc(call->added ? 2 * taken : taken), *added = NULL;
  if (!y) {
    call->failed = 1;
    return;
  }
  if (call->added) {
    added = y + outputs * l->positions;
    spread(l, call->added + place, added, outputs);
  }
  Weights part_of = some_rows(&call->weights, kernel->rows, first, last);
  Planes planes = planes_of(call, call->padded, image, call->inputs * l->plane);
  planes.added = added;
  planes.y = y;
  planes.plane = l->positions;
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
  int64_t planes = call->inputs > call->outputs ? call->inputs : call->outputs;
  int64_t most = plane > before ? plane : before;
  if (most && planes > INT32_MAX / most)
    return refuse(call->given->api, "autoprune: more than 2^31 activations in an image");
  return NULL;
}

static OrtStatus *make_output(const Inputs *given, Call *call) {
  int64_t dims[RANK];
  for (size_t d = 0; d < given->rank; d++) dims[d] = given->dims[d];
  dims[1] = call->outputs;
  if (!is_pointwise(&given->geometry)) dims[2] = call->layout.out[0], dims[3] = call->layout.out[1];
  return output(given, dims, given->rank, (void **)&call->y);
}

/* Where the positions of every block begin, for products to read instead of its number. */
static void find_starts(Call *call, int32_t *starts) {
  const Layout *l = &call->layout;
  int32_t taps = (int32_t)l->taps;
  for (int32_t t = 0; t < taps; t++) starts[t] = (int32_t)tap_start(&call->given->geometry, l, t);
  for (int64_t b = 0; b < call->weights.blocks; b++) {
    int32_t input = call->weights.index[b]; /* division is slow, and of 32 bits half as slow */
    int32_t plane = taps == 1 ? input : input / taps;
    call->index[b] = (int32_t)(plane * l->plane) + starts[input - plane * taps];
  }
  call->weights.index = call->index;
}

/* Compute y of x, which is as products read it. */
static OrtStatus *convolve(Call *call, int64_t images) {
  const Inputs *given = call->given;
  const Layout *l = &call->layout;
  int64_t block_rows = call->weights.block_rows, blocks = call->weights.blocks, taps = l->taps;
  int64_t work = given->size[VALUES] * l->positions * images;
  int pointwise = is_pointwise(&given->geometry);
  size_t padded = pointwise ? 0 : (size_t)(images * call->inputs * l->plane) * sizeof(Word);
  call->index = malloc(padded + (size_t)(blocks + taps) * sizeof(int32_t));
  if (!call->index) return out_of_memory(given->api);
  find_starts(call, call->index + blocks);
  call->padded = (Word *)(call->index + blocks + taps);
  OrtStatus *status;
  if (pointwise) {
    call->tiling = divide(given->kernel, l->positions);
    int64_t tiles = images * call->tiling.total, parts = (JOBS + tiles - 1) / tiles;
    call->parts = parts < block_rows ? parts : block_rows;
    status = for_each(given, work, run_pointwise, tiles * call->parts, call);
  } else {
    call->parts = block_rows < JOBS ? block_rows : JOBS;
    status = for_each(given, work, run_pad, images * call->inputs, call);
    if (!status) status = for_each(given, work, run_spatial, images * call->parts, call);
  }
  free(call->index);
  return status || !call->failed ? status : kernel_failed(given->api);
}

/* Everything about a call but what activations are. */
static OrtStatus *prepare(const Inputs *given, Call *call) {
  int64_t size[2];
  OrtStatus *status = shape_of(given, size);
  if (status) return status;
  *call = (Call){.given = given, .x = given->data[X], .added = given->data[ADDED]};
  call->weights = weights_of(given);
  call->layout = lay_out(&given->geometry, size[0], size[1]);
  call->inputs = given->dims[1];
  call->outputs = call->weights.block_rows * planes_of_block(given->kernel);
  int64_t positions = call->layout.out[0] * call->layout.out[1];
  if (call->added && given->size[ADDED] != given->dims[0] * call->outputs * positions)
    return refuse(given->api, "autoprune: the added tensor has another shape");
  if ((status = check_size(call))) return status;
  return make_output(given, call);
}

OrtStatus *run_convolution(const Inputs *given) {
  Call call;
  OrtStatus *status = prepare(given, &call);
  int64_t images = given->dims[0];
  if (status || !call.layout.positions || !images) return status;
  return convolve(&call, images);
}

OrtStatus *run_convolution_int8(const Inputs *given) {
  Call call;
  OrtStatus *status = prepare(given, &call);
  int64_t images = given->dims[0], plane = call.layout.in[0] * call.layout.in[1];
  if (status || !call.layout.positions || !images) return status;
  status = round_images(given, given->data[X], images, call.inputs, plane, &call.rounded);
  call.x = call.rounded.bytes;
  call.inputs /= 4;
  call.zero = zeros(given->kernel, MIDDLE);
  call.numbers = call.rounded.numbers;
  call.count = call.further = 2;
  if (!status) status = convolve(&call, images);
  free(call.rounded.bytes);
  return status;
}

OrtStatus *run_quantized(const Inputs *given) {
  if (!given->kernel->unpack || given->size[NUMBERS] != 3 ||
      given->size[SCALES] != given->size[BIAS] || given->size[SUMS] != given->size[BIAS])
    return refuse(given->api, "autoprune: not prepared for 8 bits");
  Call call;
  OrtStatus *status = prepare(given, &call);
  int64_t images = given->dims[0];
  if (status || !call.layout.positions || !images) return status;
  call.zero = zeros(given->kernel, given->zero);
  call.numbers = given->data[NUMBERS];
  call.count = 3;
  return convolve(&call, images);
}

/* Words that kernels of depthwise convolutions reach beyond the last row, at most. */
enum { BEYOND = 64 };

/* Some planes of one image, by a depthwise convolution. */
static void run_planes(void *user, size_t job) {
  Call *call = user;
  const Inputs *given = call->given;
  const Kernel *kernel = given->kernel;
  Layout l = call->layout;
  int64_t part = (int64_t)job % call->parts, image = (int64_t)job / call->parts;
  int64_t first = call->inputs * part / call->parts;
  int64_t count = call->inputs * (part + 1) / call->parts - first;
  int64_t before = l.in[0] * l.in[1], after = l.out[0] * l.out[1];
  int64_t beyond = BEYOND + l.pitch;
  l.positions = l.out[0] * l.pitch;
  Word *padded = malloc((size_t)(count * (l.plane + l.positions) + 2 * beyond) * sizeof(Word));
  if (!padded) {
    call->failed = 1;
    return;
  }
  Word *y = padded + count * l.plane + beyond;
  for (int64_t p = 0; p < count; p++)
    pad(&given->geometry, &l, call->x + (image * call->inputs + first + p) * before,
        padded + p * l.plane, call->zero);
  fill(y - beyond, call->zero, beyond);
  int64_t x_size[1] = {count * l.plane + beyond}, y_size[1] = {count * l.positions + beyond};
  int64_t width = 4 * ((given->geometry.kernel[1] + 3) / 4), each = width * given->geometry.kernel[0];
  int64_t taps[4] = {count, given->geometry.kernel[0], width / 4, 4}, four[2] = {count, 4};
  int64_t three[1] = {3};
  Tensor tensors[7] = {
      tensor(padded, CODE_INTEGER, 32, 1, x_size),
      tensor((int32_t *)given->data[TAPS] + first * each, CODE_INTEGER, 32, 4, taps),
      tensor((float *)given->data[BIAS] + first * 4, CODE_FLOAT, 32, 2, four),
      tensor(y, CODE_INTEGER, 32, 1, y_size),
      tensor(call->numbers, CODE_FLOAT, 32, 1, three),
      tensor((float *)given->data[SCALES] + first * 4, CODE_FLOAT, 32, 2, four),
      tensor((int32_t *)given->data[SUMS] + first * 4, CODE_INTEGER, 32, 2, four),
  };
  int64_t numbers[5] = {l.plane, l.positions, l.phase, l.pitch, l.out[0]};
  int v = 0;
  while (kernel->heights[v] > l.out[0]) v++;
  if (call_packed(kernel->functions[v], tensors, 7, numbers, 5)) call->failed = 1;
  crop(&l, y, call->y + (image * call->inputs + first) * after, count);
  free(padded);
}

/* Words that the planes of a job may take, so that they stay in the cache between its steps. */
enum { CACHED = 1 << 14 };

OrtStatus *run_quantized_depthwise(const Inputs *given) {
  Call call = {.given = given, .x = given->data[X], .numbers = given->data[NUMBERS]};
  int64_t planes = given->dims[1];
  const Geometry *g = &given->geometry;
  int64_t taps = 4 * g->kernel[0] * ((g->kernel[1] + 3) / 4);
  if (given->rank != 4) return refuse(given->api, "autoprune: x needs 4 dimensions");
  if (given->size[BIAS] != 4 * planes || given->size[SCALES] != 4 * planes ||
      given->size[SUMS] != 4 * planes || given->size[TAPS] != planes * taps ||
      given->size[NUMBERS] != 3 || !given->kernel->unpack)
    return refuse(given->api, "autoprune: not prepared for 8 bits");
  call.layout = lay_out(g, given->dims[2], given->dims[3]);
  call.inputs = call.outputs = planes;
  call.zero = zeros(given->kernel, given->zero);
  OrtStatus *status = check_size(&call);
  int64_t dims[4] = {given->dims[0], planes, call.layout.out[0], call.layout.out[1]};
  if (!status) status = output(given, dims, 4, (void **)&call.y);
  if (status || !call.layout.positions || !given->dims[0] || !planes) return status;
  int64_t most = CACHED / (call.layout.plane + call.layout.out[0] * call.layout.pitch) + 1;
  call.parts = (planes + most - 1) / most;
  if (call.parts < JOBS) call.parts = planes < JOBS ? planes : JOBS;
  int64_t work = given->dims[0] * given->size[TAPS] * call.layout.positions;
  status = for_each(given, work, run_planes, given->dims[0] * call.parts, &call);
  return status || !call.failed ? status : kernel_failed(given->api);
}
