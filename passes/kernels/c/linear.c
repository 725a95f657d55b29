/* Products with activations [positions, inputs]: linear layers. */
#include <stdlib.h>

#include "operators.h"

/* Inputs of 8 bits come in multiples of QUANTUM, and a job rounds so many ROWS. */
enum { QUANTUM = 16, ROWS = 16 };

enum { MOST = 8 }; /* outputs */

/* An output, and the block rows that make it, of all that there are. */
typedef struct {
  float *y;
  int64_t first, last;
} Output;

/* What all jobs of one call share. A job is a tile and a part of the block rows. */
typedef struct {
  const Inputs *given;
  Weights weights;
  Output outputs[MOST];
  int count;            /* of outputs */
  unsigned char *bytes; /* activations of 8 bits, */
  float *scales;        /* and the scale of each position */
  int64_t inputs, positions, parts;
  Tiling tiling;
  int failed;
} Call;

/* Block rows `first` to `last` of an output, at one tile. */
static int make_rows(Call *call, const Output *output, int64_t first, int64_t last, int variant,
                     int64_t start) {
  const Kernel *kernel = call->given->kernel;
  Weights w = some_rows(&call->weights, kernel->rows, output->first, output->last);
  void *x = call->given->data[X], *added = call->given->data[ADDED];
  int int8 = call->bytes != NULL, code = int8 ? CODE_INTEGER : CODE_FLOAT;
  int64_t in[2] = {call->positions, int8 ? call->inputs / 4 : call->inputs};
  int64_t out[2] = {call->positions, w.block_rows * kernel->rows};
  int64_t values[2] = {w.blocks, kernel->rows}, index[1] = {w.blocks};
  int64_t offsets[1] = {w.block_rows + 1}, bias[2] = {w.block_rows, kernel->rows};
  Tensor tensors[10] = {
      tensor(int8 ? call->bytes : x, code, 32, 2, in),
      tensor(w.values, code, 32, 2, values),
      tensor(w.index, CODE_INTEGER, 32, 1, index),
      tensor(w.offsets, CODE_INTEGER, 32, 1, offsets),
      tensor(w.bias, CODE_FLOAT, 32, 2, bias),
      tensor(added ? added : output->y, CODE_FLOAT, 32, 2, out),
      tensor(output->y, CODE_FLOAT, 32, 2, out),
      tensor(call->scales, CODE_FLOAT, 32, 1, &call->positions),
      tensor(w.scales, CODE_FLOAT, 32, 2, bias),
      tensor(w.sums, CODE_INTEGER, 32, 2, bias),
  };
  int64_t numbers[4] = {start, 1, first - output->first, last - output->first};
  return call_packed(kernel->functions[variant], tensors, int8 ? 10 : 7, numbers, 4);
}

static void run_job(void *user, size_t job) {
  Call *call = user;
  int variant;
  int64_t part = (int64_t)job % call->parts, tile = (int64_t)job / call->parts;
  int64_t start = find_tile(&call->tiling, call->given->kernel, tile, &variant);
  int64_t first = call->weights.block_rows * part / call->parts;
  int64_t last = call->weights.block_rows * (part + 1) / call->parts;
  for (int i = 0; i < call->count; i++) {
    const Output *output = &call->outputs[i];
    int64_t from = first > output->first ? first : output->first;
    int64_t to = last < output->last ? last : output->last;
    if (from < to && make_rows(call, output, from, to, variant, start)) call->failed = 1;
  }
}

static void run_round(void *user, size_t job) {
  Call *call = user;
  int64_t first = (int64_t)job * ROWS, rows = call->positions - first;
  if (rows > ROWS) rows = ROWS;
  int64_t shape[2] = {rows, call->inputs};
  float *x = call->given->data[X];
  Tensor tensors[3] = {
      tensor(x + first * call->inputs, CODE_FLOAT, 32, 2, shape),
      tensor(call->bytes + first * call->inputs, CODE_UNSIGNED, 8, 2, shape),
      tensor(call->scales + first, CODE_FLOAT, 32, 1, &shape[0]),
  };
  if (call_packed(call->given->kernel->quantize, tensors, 3, NULL, 0)) call->failed = 1;
}

/* The outputs, of as many block rows as ENDS says, or one of all. */
static OrtStatus *make_outputs(Call *call) {
  const Inputs *given = call->given;
  const int32_t *ends = given->data[ENDS];
  int64_t dims[RANK], before = 0, count = ends ? given->size[ENDS] : 1;
  size_t there;
  OrtStatus *status = ORT(given->api, GetOutputCount)(given->context, &there);
  if (status) return status;
  if (count < 1 || count > MOST || (int64_t)there != count || (ends && given->data[ADDED]))
    return refuse(given->api, "autoprune: outputs and their ends do not match");
  for (size_t d = 0; d < given->rank; d++) dims[d] = given->dims[d];
  for (call->count = 0; call->count < count; call->count++) {
    Output *made = &call->outputs[call->count];
    made->first = before;
    made->last = before = ends ? ends[call->count] : call->weights.block_rows;
    if (made->first > made->last || made->last > call->weights.block_rows)
      return refuse(given->api, "autoprune: the ends of outputs are out of range");
    dims[given->rank - 1] = (made->last - made->first) * given->kernel->rows;
    status = output_at(given, (size_t)call->count, dims, given->rank, (void **)&made->y);
    if (status) return status;
  }
  return before == call->weights.block_rows
             ? NULL
             : refuse(given->api, "autoprune: the ends of outputs are out of range");
}

static OrtStatus *run(const Inputs *given, int int8) {
  Call call = {.given = given, .weights = weights_of(given)};
  OrtStatus *status;
  if (given->rank < 1) return refuse(given->api, "autoprune: x needs a dimension");
  int64_t outputs = given->size[BIAS], block_rows = call.weights.block_rows;
  call.inputs = given->dims[given->rank - 1];
  call.positions = given->size[X] ? given->size[X] / call.inputs : 0;
  if (given->data[ADDED] && given->size[ADDED] != outputs * call.positions)
    return refuse(given->api, "autoprune: the added tensor has another shape");
  if (int8 && (!given->kernel->quantize || call.inputs % QUANTUM ||
               given->size[SCALES] != outputs || given->size[SUMS] != outputs))
    return refuse(given->api, "autoprune: not prepared for 8 bits");
  if ((status = make_outputs(&call)) || !call.positions) return status;
  if (int8) {
    int64_t elements = call.inputs * call.positions;
    /* The scales first: they want the alignment that malloc gives. */
    size_t size = (size_t)call.positions * sizeof(float);
    call.scales = malloc(size + (size_t)elements);
    if (!call.scales) return out_of_memory(given->api);
    call.bytes = (unsigned char *)call.scales + size;
    status = for_each(given, elements, run_round, (call.positions + ROWS - 1) / ROWS, &call);
  }
  call.tiling = divide(given->kernel, call.positions);
  int64_t parts = (JOBS + call.tiling.total - 1) / call.tiling.total;
  call.parts = parts < block_rows ? parts : block_rows;
  if (!status)
    status = for_each(given, given->size[VALUES] * call.positions, run_job,
                      call.tiling.total * call.parts, &call);
  free(call.scales);
  return status || !call.failed ? status : kernel_failed(given->api);
}

OrtStatus *run_linear(const Inputs *given) { return run(given, 0); }
OrtStatus *run_linear_int8(const Inputs *given) { return run(given, 1); }
