/* Products with activations [positions, inputs]: linear layers. */
#include <stdlib.h>

#include "operators.h"

/* Inputs of 8 bits come in multiples of QUANTUM, and a job rounds so many ROWS. */
enum { QUANTUM = 16, ROWS = 16 };

/* What all jobs of one call share. A job is a tile and a part of the block rows. */
typedef struct {
  const Inputs *given;
  float *y;
  unsigned char *bytes; /* activations of 8 bits, */
  float *scales;        /* and the scale of each position */
  int64_t inputs, outputs, positions, block_rows, parts;
  Tiling tiling;
  int failed;
} Call;

static void run_job(void *user, size_t job) {
  Call *call = user;
  void *const *data = call->given->data;
  const Kernel *kernel = call->given->kernel;
  int64_t part = (int64_t)job % call->parts, rows = kernel->rows;
  int variant, int8 = call->bytes != NULL;
  int64_t start = find_tile(&call->tiling, kernel, (int64_t)job / call->parts, &variant);
  int64_t in[2] = {call->positions, int8 ? call->inputs / 4 : call->inputs};
  int64_t out[2] = {call->positions, call->outputs};
  int64_t values[2] = {call->given->size[INDEX], rows}, index[1] = {call->given->size[INDEX]};
  int64_t offsets[1] = {call->block_rows + 1}, bias[2] = {call->block_rows, rows};
  int code = int8 ? CODE_INTEGER : CODE_FLOAT;
  Tensor tensors[10] = {
      tensor(int8 ? (void *)call->bytes : data[X], code, 32, 2, in),
      tensor(data[VALUES], code, 32, 2, values),
      tensor(data[INDEX], CODE_INTEGER, 32, 1, index),
      tensor(data[OFFSETS], CODE_INTEGER, 32, 1, offsets),
      tensor(data[BIAS], CODE_FLOAT, 32, 2, bias),
      tensor(data[ADDED] ? data[ADDED] : call->y, CODE_FLOAT, 32, 2, out),
      tensor(call->y, CODE_FLOAT, 32, 2, out),
      tensor(call->scales, CODE_FLOAT, 32, 1, &call->positions),
      tensor(data[SCALES], CODE_FLOAT, 32, 2, bias),
      tensor(data[SUMS], CODE_INTEGER, 32, 2, bias),
  };
  int64_t numbers[4] = {start, 1, call->block_rows * part / call->parts,
                        call->block_rows * (part + 1) / call->parts};
  if (call_packed(kernel->functions[variant], tensors, int8 ? 10 : 7, numbers, 4)) call->failed = 1;
}

static void run_quantize(void *user, size_t job) {
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

static OrtStatus *run(const Inputs *given, int int8) {
  Call call = {.given = given};
  OrtStatus *status;
  int64_t dims[RANK];
  if (given->rank < 1) return refuse(given->api, "autoprune: x needs a dimension");
  for (size_t d = 0; d < given->rank; d++) dims[d] = given->dims[d];
  call.inputs = dims[given->rank - 1];
  call.outputs = dims[given->rank - 1] = given->size[BIAS];
  call.positions = given->size[X] ? given->size[X] / call.inputs : 0;
  call.block_rows = given->size[OFFSETS] - 1;
  if (given->data[ADDED] && given->size[ADDED] != call.outputs * call.positions)
    return refuse(given->api, "autoprune: the added tensor has another shape");
  if (int8 && (!given->kernel->quantize || call.inputs % QUANTUM ||
               given->size[SCALES] != call.outputs || given->size[SUMS] != call.outputs))
    return refuse(given->api, "autoprune: not prepared for 8 bits");
  if ((status = output(given, dims, given->rank, &call.y)) || !call.positions) return status;
  if (int8) {
    int64_t elements = call.inputs * call.positions;
    /* The scales first: they want the alignment that malloc gives. */
    size_t size = (size_t)call.positions * sizeof(float);
    call.scales = malloc(size + (size_t)elements);
    if (!call.scales) return out_of_memory(given->api);
    call.bytes = (unsigned char *)call.scales + size;
    status = for_each(given, elements, run_quantize, (call.positions + ROWS - 1) / ROWS, &call);
  }
  call.tiling = divide(given->kernel, call.positions);
  int64_t parts = (JOBS + call.tiling.total - 1) / call.tiling.total;
  call.parts = parts < call.block_rows ? parts : call.block_rows;
  if (!status)
    status = for_each(given, given->size[VALUES] * call.positions, run_job,
                      call.tiling.total * call.parts, &call);
  free(call.scales);
  return status || !call.failed ? status : kernel_failed(given->api);
}

OrtStatus *run_linear(const Inputs *given) { return run(given, 0); }
OrtStatus *run_linear_int8(const Inputs *given) { return run(given, 1); }
