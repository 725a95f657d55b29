/* Linear layers whose weights are stored one by one.
 *
 * A weight alone has to be used for a whole vector of positions, so positions go to panels with the
 * inputs [inputs, panel], the product is one of `spatial`, and its outputs are brought back. */
#include <stdlib.h>

#include "spatial.h"

enum {
  PANEL = 64, /* positions at most: all inputs of a panel should stay in the second cache */
  SIDE = 4,   /* of the blocks that are transposed in registers */
  STRIPE = 64 /* inputs that one job transposes */
};

typedef float Lanes __attribute__((vector_size(SIDE * sizeof(float)), aligned(sizeof(float))));
typedef int32_t Places __attribute__((vector_size(SIDE * sizeof(int32_t))));

/* to[c][r] = from[r][c] of a block of SIDE rows and columns. */
static void transpose_block(const float *from, int64_t from_row, float *to, int64_t to_row) {
  Lanes a = *(const Lanes *)from, b = *(const Lanes *)(from + from_row);
  Lanes c = *(const Lanes *)(from + 2 * from_row), d = *(const Lanes *)(from + 3 * from_row);
  const Places low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, first = {0, 1, 4, 5}, second = {2, 3, 6, 7};
  Lanes ab_low = __builtin_shuffle(a, b, low), ab_high = __builtin_shuffle(a, b, high);
  Lanes cd_low = __builtin_shuffle(c, d, low), cd_high = __builtin_shuffle(c, d, high);
  *(Lanes *)to = __builtin_shuffle(ab_low, cd_low, first);
  *(Lanes *)(to + to_row) = __builtin_shuffle(ab_low, cd_low, second);
  *(Lanes *)(to + 2 * to_row) = __builtin_shuffle(ab_high, cd_high, first);
  *(Lanes *)(to + 3 * to_row) = __builtin_shuffle(ab_high, cd_high, second);
}

/* to[c][r] = from[r][c], where rows of each are so many elements apart. */
static void transpose(const float *from, int64_t from_row, int64_t rows, int64_t columns, float *to,
                      int64_t to_row) {
  int64_t c = 0;
  for (; c + SIDE <= columns; c += SIDE) {
    int64_t r = 0;
    for (; r + SIDE <= rows; r += SIDE)
      transpose_block(from + r * from_row + c, from_row, to + c * to_row + r, to_row);
    for (; r < rows; r++)
      for (int64_t i = c; i < c + SIDE; i++) to[i * to_row + r] = from[r * from_row + i];
  }
  for (; c < columns; c++)
    for (int64_t r = 0; r < rows; r++) to[c * to_row + r] = from[r * from_row + c];
}

/* What all jobs of one call share. */
typedef struct {
  const Inputs *given;
  const float *x, *added;
  float *y, *panels;
  Weights weights;
  int64_t inputs, outputs, positions;
  int64_t panel, count; /* positions of a panel, and panels */
  int64_t stripes, parts;
  int failed;
} Call;

/* Positions that are there of those of a panel. */
static int64_t filled(const Call *call, int64_t number) {
  int64_t rest = call->positions - number * call->panel;
  return rest < call->panel ? rest : call->panel;
}

static void run_transpose(void *user, size_t job) {
  Call *call = user;
  int64_t number = (int64_t)job / call->stripes, first = (int64_t)job % call->stripes * STRIPE;
  int64_t count = call->inputs - first < STRIPE ? call->inputs - first : STRIPE;
  int64_t there = filled(call, number), size = call->panel;
  float *to = call->panels + (number * call->inputs + first) * size;
  if (there < size)
    for (int64_t i = 0; i < count; i++) fill(to + i * size + there, 0, size - there);
  transpose(call->x + number * size * call->inputs + first, call->inputs, there, count, to, size);
}

/* A part of the outputs, of one panel. */
static void run_product(void *user, size_t job) {
  Call *call = user;
  int64_t number = (int64_t)job / call->parts, part = (int64_t)job % call->parts;
  int64_t first = call->outputs * part / call->parts;
  int64_t outputs = call->outputs * (part + 1) / call->parts - first;
  int64_t there = filled(call, number), size = call->panel, extent = call->inputs * size;
  size_t bytes = (size_t)(outputs * size) * sizeof(float);
  float *y = malloc(call->added ? 2 * bytes : bytes), *added = NULL;
  if (!y) {
    call->failed = 1;
    return;
  }
  int64_t corner = number * size * call->outputs + first;
  if (call->added) {
    added = y + outputs * size;
    if (there < size) fill(added, 0, outputs * size);
    transpose(call->added + corner, call->outputs, there, outputs, added, size);
  }
  Weights part_of = some_rows(&call->weights, 1, first, first + outputs);
  Planes planes = {.x = call->panels + number * extent, .extent = extent, .added = added, .y = y,
                   .plane = size};
  if (whole_product(call->given->kernel, &part_of, &planes, size)) call->failed = 1;
  transpose(y, size, outputs, there, call->y + corner, call->outputs);
  free(y);
}

/* Panels of equal size, a multiple of the smallest vector. */
static void divide_positions(Call *call) {
  const Kernel *kernel = call->given->kernel;
  int64_t vector = 1;
  for (int v = 0; v < VARIANTS && kernel->tiles[v] > 1; v++) vector = kernel->tiles[v];
  int64_t most = (call->positions + PANEL - 1) / PANEL;
  int64_t even = (call->positions + most - 1) / most;
  call->panel = (even + vector - 1) / vector * vector;
  call->count = (call->positions + call->panel - 1) / call->panel;
}

OrtStatus *run_linear_scattered(const Inputs *given) {
  Call call = {.given = given, .x = given->data[X], .added = given->data[ADDED]};
  OrtStatus *status;
  int64_t dims[RANK];
  if (given->rank < 1) return refuse(given->api, "autoprune: x needs a dimension");
  for (size_t d = 0; d < given->rank; d++) dims[d] = given->dims[d];
  call.inputs = dims[given->rank - 1];
  call.outputs = dims[given->rank - 1] = given->size[BIAS];
  call.positions = given->size[X] ? given->size[X] / call.inputs : 0;
  call.weights = weights_of(given);
  if (given->kernel->rows != 1)
    return refuse(given->api, "autoprune: the kernel is for other weights");
  if (call.added && given->size[ADDED] != call.outputs * call.positions)
    return refuse(given->api, "autoprune: the added tensor has another shape");
  if ((status = output(given, dims, given->rank, (void **)&call.y)) || !call.positions) return status;
  divide_positions(&call);
  int64_t most = call.inputs > call.outputs ? call.inputs : call.outputs;
  if (most > INT32_MAX / call.panel)
    return refuse(given->api, "autoprune: more than 2^31 activations in a panel");

  int64_t blocks = call.weights.blocks, elements = call.count * call.panel * call.inputs;
  call.panels = malloc((size_t)elements * sizeof(float) + (size_t)blocks * sizeof(int32_t));
  if (!call.panels) return out_of_memory(given->api);
  int32_t *index = (int32_t *)(call.panels + elements);
  for (int64_t b = 0; b < blocks; b++) index[b] = call.weights.index[b] * (int32_t)call.panel;
  call.weights.index = index;
  call.stripes = (call.inputs + STRIPE - 1) / STRIPE;
  int64_t parts = (JOBS + call.count - 1) / call.count;
  call.parts = parts < call.outputs ? parts : call.outputs;
  status = for_each(given, elements, run_transpose, call.count * call.stripes, &call);
  if (!status)
    status = for_each(given, given->size[VALUES] * call.positions, run_product,
                      call.count * call.parts, &call);
  free(call.panels);
  return status || !call.failed ? status : kernel_failed(given->api);
}
