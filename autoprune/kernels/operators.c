/* Sparse products as operators of ONNX Runtime, in the domain `autoprune`.
 *
 *   SparseConv        x [batch, inputs, positions...] -> y [batch, outputs, positions...]
 *   SparseLinear      x [positions..., inputs]        -> y [positions..., outputs]
 *   SparseLinearInt8  the same, with x rounded to 8 bits row by row
 *
 * Further inputs are values, index, offsets, bias, for 8 bits scales and shifts of the weights, and,
 * optionally, a tensor of the output's shape that is added. The attribute `kernel` is a row of the
 * table `kernels`, which the compiler writes beside this file together with the functions themselves
 * (kernels.h). */
#include "ort.h"

#include <stdlib.h>

/* How TVM's functions take their arguments. */
typedef struct {
  int32_t type;
  uint32_t padding;
  union {
    int64_t integer;
    void *pointer;
  };
} Argument;

typedef struct {
  void *data;
  int32_t device_type, device_id;
  int32_t ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} Tensor;

enum { ARGUMENT_INTEGER = 1, ARGUMENT_TENSOR = 7, CPU = 1 };
enum { CODE_INTEGER = 0, CODE_UNSIGNED = 1, CODE_FLOAT = 2 };

typedef int32_t (*Packed)(void *, const Argument *, int32_t, Argument *);

enum { VARIANTS = 3, QUANTUM = 16 };

/* Functions for tiles of falling size; the last size that is not 0 is 1. Inputs of 8 bits come in
 * multiples of QUANTUM. */
typedef struct {
  int64_t rows;
  int64_t tiles[VARIANTS];
  Packed functions[VARIANTS];
  Packed quantize; /* of activations, for 8 bits; otherwise NULL */
} Kernel;

#include "kernels.h" /* static const Kernel kernels[]; static const int kernel_count; */

/* The only thing TVM's functions ask of their runtime. A false return value reports the failure. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  (void)kind, (void)parts, (void)count;
}

enum { X, VALUES, INDEX, OFFSETS, BIAS, ADDED, SCALES, SHIFTS, ROLES };

typedef struct {
  OrtCustomOp interface;
  const char *name;
  int rowwise, int8;
  size_t count;      /* of inputs, */
  int roles[ROLES];  /* and what they are */
} Operator;

typedef struct {
  OrtApi api;
  const Kernel *kernel;
  const Operator *op;
} State;

/* What all jobs of one call share. A job is a tile of one batch and a part of the block rows. */
typedef struct {
  const Kernel *kernel;
  const Operator *op;
  void *data[ROLES];
  float *y;
  unsigned char *bytes; /* activations of 8 bits, */
  float *scales;        /* and the scale of each row */
  int64_t inputs, outputs, positions, block_rows, blocks;
  int64_t counts[VARIANTS];  /* tiles of each size, */
  int64_t starts[VARIANTS];  /* from which position on, */
  int64_t last;              /* and where the last of the second size begins, if not there */
  int64_t tiles, parts;
  int failed;
} Call;

static Tensor tensor(void *data, int code, int bits, int ndim, int64_t *shape) {
  Tensor made = {data, CPU, 0, ndim, (uint8_t)code, (uint8_t)bits, 1, shape, NULL, 0};
  return made;
}

enum { MOST = 14 };

static int call_packed(Packed function, Tensor *tensors, int32_t count, const int64_t *numbers,
                       int32_t more) {
  Argument arguments[MOST], result = {0, 0, {0}};
  for (int32_t i = 0; i < count + more; i++) {
    arguments[i].padding = 0;
    if (i < count) {
      arguments[i].type = ARGUMENT_TENSOR;
      arguments[i].pointer = &tensors[i];
    } else {
      arguments[i].type = ARGUMENT_INTEGER;
      arguments[i].integer = numbers[i - count];
    }
  }
  return function(NULL, arguments, count + more, &result);
}

static void run_job(void *user, size_t job) {
  Call *call = user;
  int64_t part = (int64_t)job % call->parts, tile = (int64_t)job / call->parts;
  int64_t batch = tile / call->tiles;
  int variant = 0, int8 = call->op->int8;
  tile %= call->tiles;
  while (tile >= call->counts[variant]) tile -= call->counts[variant++];
  int64_t start = call->starts[variant] + tile * call->kernel->tiles[variant];
  if (variant == 1 && tile == call->counts[1] - 1 && call->last >= 0) start = call->last;

  int64_t rows = call->kernel->rows;
  int64_t in[2] = {call->inputs, call->positions}, out[2] = {call->outputs, call->positions};
  if (call->op->rowwise) {
    in[0] = out[0] = call->positions;
    in[1] = int8 ? call->inputs / 4 : call->inputs;
    out[1] = call->outputs;
  }
  int64_t values[2] = {call->blocks, rows}, index[1] = {call->blocks};
  int64_t offsets[1] = {call->block_rows + 1}, bias[2] = {call->block_rows, rows};
  int64_t x_step = batch * call->inputs * call->positions;
  int64_t y_step = batch * call->outputs * call->positions;
  float *added = call->data[ADDED] ? call->data[ADDED] : call->y;
  int code = int8 ? CODE_INTEGER : CODE_FLOAT;
  void *x = int8 ? (void *)call->bytes : (void *)((float *)call->data[X] + x_step);
  Tensor tensors[10] = {
      tensor(x, code, 32, 2, in),
      tensor(call->data[VALUES], code, 32, 2, values),
      tensor(call->data[INDEX], CODE_INTEGER, 32, 1, index),
      tensor(call->data[OFFSETS], CODE_INTEGER, 32, 1, offsets),
      tensor(call->data[BIAS], CODE_FLOAT, 32, 2, bias),
      tensor(added + y_step, CODE_FLOAT, 32, 2, out),
      tensor(call->y + y_step, CODE_FLOAT, 32, 2, out),
      tensor(call->scales, CODE_FLOAT, 32, 1, &call->positions),
      tensor(call->data[SCALES], CODE_FLOAT, 32, 2, bias),
      tensor(call->data[SHIFTS], CODE_INTEGER, 32, 2, bias),
  };
  int64_t numbers[4] = {start, 1, call->block_rows * part / call->parts,
                        call->block_rows * (part + 1) / call->parts};
  Packed function = call->kernel->functions[variant];
  if (call_packed(function, tensors, int8 ? 10 : 7, numbers, 4)) call->failed = 1;
}

/* Rows that a job rounds to 8 bits. */
enum { ROWS = 16 };

static void run_quantize(void *user, size_t job) {
  Call *call = user;
  int64_t first = (int64_t)job * ROWS, rows = call->positions - first;
  if (rows > ROWS) rows = ROWS;
  int64_t shape[2] = {rows, call->inputs};
  Tensor tensors[3] = {
      tensor((float *)call->data[X] + first * call->inputs, CODE_FLOAT, 32, 2, shape),
      tensor(call->bytes + first * call->inputs, CODE_UNSIGNED, 8, 2, shape),
      tensor(call->scales + first, CODE_FLOAT, 32, 1, &shape[0]),
  };
  if (call_packed(call->kernel->quantize, tensors, 3, NULL, 0)) call->failed = 1;
}

/* Fewest multiply-adds for which it pays to wake other threads, and jobs to make then. */
enum { WORTHWHILE = 1 << 16, JOBS = 16 };

static void divide(Call *call, int64_t batches) {
  const int64_t *size = call->kernel->tiles;
  int64_t rest = call->positions;
  call->last = -1;
  call->tiles = 0;
  for (int v = 0; v < VARIANTS; v++) {
    call->starts[v] = call->positions - rest;
    call->counts[v] = size[v] ? rest / size[v] : 0;
    /* A rest is covered by a tile that reaches back, rather than one by one. */
    if (v == 1 && size[2] && rest % size[1] && call->positions >= size[1]) {
      call->counts[1]++;
      call->last = call->positions - size[1];
      rest = 0;
    }
    rest -= rest ? call->counts[v] * size[v] : 0;
    call->tiles += call->counts[v];
  }
  int64_t parts = (JOBS + batches * call->tiles - 1) / (batches * call->tiles);
  call->parts = parts < call->block_rows ? parts : call->block_rows;
}

static OrtStatus *for_each(const State *state, OrtKernelContext *context, Call *call, int64_t work,
                           void (*job)(void *, size_t), size_t jobs) {
  if (work >= WORTHWHILE) return ORT(state->api, ParallelFor)(context, job, jobs, 0, call);
  for (size_t i = 0; i < jobs; i++) job(call, i);
  return NULL;
}

static OrtStatus *run(const State *state, OrtKernelContext *context, Call *call, int64_t batches,
                      int64_t weights) {
  OrtStatus *status = NULL;
  int64_t elements = call->inputs * call->positions;
  if (call->op->int8) {
    /* The scales first: they want the alignment that malloc gives. */
    size_t size = (size_t)call->positions * sizeof(float);
    call->scales = malloc(size + (size_t)elements);
    if (!call->scales) return ORT(state->api, CreateStatus)(RUNTIME_EXCEPTION, "out of memory");
    call->bytes = (unsigned char *)call->scales + size;
    size_t jobs = (size_t)(call->positions + ROWS - 1) / ROWS;
    status = for_each(state, context, call, elements, run_quantize, jobs);
  }
  divide(call, batches);
  size_t jobs = (size_t)(batches * call->tiles * call->parts);
  if (!status)
    status = for_each(state, context, call, weights * call->positions * batches, run_job, jobs);
  if (call->op->int8) free(call->scales);
  if (!status && call->failed)
    return ORT(state->api, CreateStatus)(RUNTIME_EXCEPTION,
                                         "autoprune: a kernel refused its arguments");
  return status;
}

static OrtStatus *compute(void *self, OrtKernelContext *context) {
  const State *state = self;
  OrtApi api = state->api;
  OrtStatus *status;
  Call call = {.kernel = state->kernel, .op = state->op};
  int64_t dims[8], size[ROLES] = {0};
  size_t ndim = 0, given;
#define TRY(expression) \
  if ((status = (expression))) return status
  TRY(ORT(api, GetInputCount)(context, &given));
  for (size_t i = 0; i < given && i < state->op->count; i++) {
    const OrtValue *value = NULL;
    OrtTensorInfo *info;
    size_t count;
    int64_t shape[8];
    int role = state->op->roles[i];
    TRY(ORT(api, GetInput)(context, i, &value));
    if (!value) continue;
    TRY(ORT(api, GetTensorMutableData)(value, &call.data[role]));
    TRY(ORT(api, GetTensorTypeAndShape)(value, &info));
    status = ORT(api, GetDimensionsCount)(info, &count);
    if (!status && count > 8)
      status = ORT(api, CreateStatus)(INVALID_ARGUMENT, "autoprune: more than 8 dimensions");
    if (!status) status = ORT(api, GetDimensions)(info, shape, count);
    ORT(api, ReleaseTensorInfo)(info);
    if (status) return status;
    size[role] = 1;
    for (size_t d = 0; d < count; d++) size[role] *= shape[d];
    if (role == X) {
      ndim = count;
      for (size_t d = 0; d < count; d++) dims[d] = shape[d];
    }
  }
  if (ndim < 2) return ORT(api, CreateStatus)(INVALID_ARGUMENT, "autoprune: x needs 2 dimensions");

  size_t channels = state->op->rowwise ? ndim - 1 : 1;
  int64_t batches = state->op->rowwise ? 1 : dims[0];
  call.inputs = dims[channels];
  call.outputs = size[BIAS];
  call.blocks = size[INDEX];
  call.block_rows = size[OFFSETS] - 1;
  call.positions = size[X] ? size[X] / call.inputs / batches : 0;
  if (call.block_rows * call.kernel->rows != call.outputs ||
      call.blocks * call.kernel->rows != size[VALUES])
    return ORT(api, CreateStatus)(INVALID_ARGUMENT, "autoprune: weights and kernel do not match");
  if (call.op->int8 && (!call.kernel->quantize || call.inputs % QUANTUM ||
                        size[SCALES] != call.outputs || size[SHIFTS] != call.outputs))
    return ORT(api, CreateStatus)(INVALID_ARGUMENT, "autoprune: not prepared for 8 bits");
  if (call.data[ADDED] && size[ADDED] != batches * call.outputs * call.positions)
    return ORT(api, CreateStatus)(INVALID_ARGUMENT, "autoprune: the added tensor has another shape");

  dims[channels] = call.outputs;
  OrtValue *y;
  TRY(ORT(api, GetOutput)(context, 0, dims, ndim, &y));
  TRY(ORT(api, GetTensorMutableData)(y, (void **)&call.y));
  if (!call.positions || !batches) return NULL;
  return run(state, context, &call, batches, size[VALUES]);
#undef TRY
}

static OrtStatus *create(const OrtCustomOp *op, OrtApi api, const OrtKernelInfo *info, void **made) {
  int64_t kernel;
  OrtStatus *status = ORT(api, GetIntAttribute)(info, "kernel", &kernel);
  if (status) return status;
  if (kernel < 0 || kernel >= kernel_count)
    return ORT(api, CreateStatus)(INVALID_ARGUMENT, "autoprune: the library has no such kernel");
  State *state = malloc(sizeof *state);
  if (!state) return ORT(api, CreateStatus)(RUNTIME_EXCEPTION, "autoprune: out of memory");
  state->api = api;
  state->kernel = &kernels[kernel];
  state->op = (const Operator *)op;
  *made = state;
  return NULL;
}

static const char *name(const OrtCustomOp *op) { return ((const Operator *)op)->name; }
static const char *provider(const OrtCustomOp *op) { return (void)op, (const char *)NULL; }
static size_t input_count(const OrtCustomOp *op) { return ((const Operator *)op)->count; }
static size_t output_count(const OrtCustomOp *op) { return (void)op, (size_t)1; }
static int role(const OrtCustomOp *op, size_t i) { return ((const Operator *)op)->roles[i]; }
static int input_type(const OrtCustomOp *op, size_t i) {
  int is = role(op, i), int8 = ((const Operator *)op)->int8;
  return is == INDEX || is == OFFSETS || is == SHIFTS || (is == VALUES && int8) ? INT32 : FLOAT;
}
static int output_type(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, FLOAT; }
static int input_kind(const OrtCustomOp *op, size_t i) {
  return role(op, i) == ADDED ? OPTIONAL : REQUIRED;
}
static int output_kind(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, REQUIRED; }
static int memory_type(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, 0; }
static int arity(const OrtCustomOp *op) { return (void)op, 1; }
static int homogeneous(const OrtCustomOp *op) { return (void)op, 1; }
static int start_version(const OrtCustomOp *op) { return (void)op, 1; }
static int end_version(const OrtCustomOp *op) { return (void)op, 2147483647; }

#define INTERFACE                                                                             \
  {API, NULL, name, provider, input_type, input_count, output_type, output_count, NULL, free, \
   input_kind, output_kind, memory_type, arity, homogeneous, arity, homogeneous, create,      \
   compute, NULL, start_version, end_version, NULL, NULL, NULL, NULL}

#define FLOAT_INPUTS 6, {X, VALUES, INDEX, OFFSETS, BIAS, ADDED}
#define INT8_INPUTS 8, {X, VALUES, INDEX, OFFSETS, BIAS, SCALES, SHIFTS, ADDED}

static const Operator operators[] = {
    {INTERFACE, "SparseConv", 0, 0, FLOAT_INPUTS},
    {INTERFACE, "SparseLinear", 1, 0, FLOAT_INPUTS},
    {INTERFACE, "SparseLinearInt8", 1, 1, INT8_INPUTS},
};

__attribute__((visibility("default"))) OrtStatus *RegisterCustomOps(OrtSessionOptions *options,
                                                                    const OrtApiBase *base) {
  OrtApi api = base->GetApi(API);
  if (!api) {
    OrtApi oldest = base->GetApi(1);
    return ORT(oldest, CreateStatus)(
        RUNTIME_EXCEPTION, "autoprune's operators need ONNX Runtime 1.18 or newer: upgrade it");
  }
  OrtCustomOpDomain *domain;
  OrtStatus *status = ORT(api, CreateCustomOpDomain)("autoprune", &domain);
  for (size_t i = 0; !status && i < sizeof operators / sizeof *operators; i++)
    status = ORT(api, CustomOpDomain_Add)(domain, &operators[i]);
  return status ? status : ORT(api, AddCustomOpDomain)(options, domain);
}
