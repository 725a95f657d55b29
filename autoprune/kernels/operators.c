/* Sparse products as operators of ONNX Runtime, in the domain `autoprune`.
 *
 *   SparseConv    x [batch, inputs, positions...] -> y [batch, outputs, positions...]
 *   SparseLinear  x [positions..., inputs]        -> y [positions..., outputs]
 *
 * Further inputs are values, index, offsets, bias and, optionally, a tensor of the output's shape that
 * is added. The attribute `kernel` is a row of the table `kernels`, which the compiler writes beside
 * this file together with the functions themselves (kernels.h). */
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

enum { ARGUMENT_INTEGER = 1, ARGUMENT_TENSOR = 7, CPU = 1, CODE_INTEGER = 0, CODE_FLOAT = 2 };

typedef int32_t (*Packed)(void *, const Argument *, int32_t, Argument *);

enum { VARIANTS = 3 };

/* Functions for tiles of falling size; the last size that is not 0 is 1. */
typedef struct {
  int64_t rows;
  int64_t tiles[VARIANTS];
  Packed functions[VARIANTS];
} Kernel;

#include "kernels.h" /* static const Kernel kernels[]; static const int kernel_count; */

/* The only thing TVM's functions ask of their runtime. A false return value reports the failure. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  (void)kind, (void)parts, (void)count;
}

enum { X, VALUES, INDEX, OFFSETS, BIAS, ADDED, INPUTS };

typedef struct {
  OrtApi api;
  const Kernel *kernel;
  int rowwise;
} State;

/* What all jobs of one call share. A job is a tile of one batch and a part of the block rows. */
typedef struct {
  const Kernel *kernel;
  int rowwise;
  float *data[INPUTS], *y;
  int64_t inputs, outputs, positions, block_rows, blocks;
  int64_t counts[VARIANTS];  /* tiles of each size, */
  int64_t starts[VARIANTS];  /* from which position on, */
  int64_t last;              /* and where the last of the second size begins, if not there */
  int64_t tiles, parts;
  int failed;
} Call;

static Tensor tensor(void *data, int code, int ndim, int64_t *shape) {
  Tensor made = {data, CPU, 0, ndim, (uint8_t)code, 32, 1, shape, NULL, 0};
  return made;
}

static void run_job(void *user, size_t job) {
  Call *call = user;
  int64_t part = (int64_t)job % call->parts, tile = (int64_t)job / call->parts;
  int64_t batch = tile / call->tiles;
  int variant = 0;
  tile %= call->tiles;
  while (tile >= call->counts[variant]) tile -= call->counts[variant++];
  int64_t start = call->starts[variant] + tile * call->kernel->tiles[variant];
  if (variant == 1 && tile == call->counts[1] - 1 && call->last >= 0) start = call->last;

  int64_t rows = call->kernel->rows;
  int64_t in[2] = {call->inputs, call->positions}, out[2] = {call->outputs, call->positions};
  if (call->rowwise) {
    in[0] = out[0] = call->positions;
    in[1] = call->inputs;
    out[1] = call->outputs;
  }
  int64_t values[2] = {call->blocks, rows}, index[1] = {call->blocks};
  int64_t offsets[1] = {call->block_rows + 1}, bias[2] = {call->block_rows, rows};
  int64_t x_step = batch * call->inputs * call->positions;
  int64_t y_step = batch * call->outputs * call->positions;
  float *added = call->data[ADDED] ? call->data[ADDED] : call->y;
  Tensor tensors[7] = {
      tensor(call->data[X] + x_step, CODE_FLOAT, 2, in),
      tensor(call->data[VALUES], CODE_FLOAT, 2, values),
      tensor(call->data[INDEX], CODE_INTEGER, 1, index),
      tensor(call->data[OFFSETS], CODE_INTEGER, 1, offsets),
      tensor(call->data[BIAS], CODE_FLOAT, 2, bias),
      tensor(added + y_step, CODE_FLOAT, 2, out),
      tensor(call->y + y_step, CODE_FLOAT, 2, out),
  };
  int64_t numbers[4] = {start, 1, call->block_rows * part / call->parts,
                        call->block_rows * (part + 1) / call->parts};
  Argument arguments[11];
  for (int i = 0; i < 11; i++) {
    arguments[i].padding = 0;
    if (i < 7) {
      arguments[i].type = ARGUMENT_TENSOR;
      arguments[i].pointer = &tensors[i];
    } else {
      arguments[i].type = ARGUMENT_INTEGER;
      arguments[i].integer = numbers[i - 7];
    }
  }
  Argument result = {0, 0, {0}};
  if (call->kernel->functions[variant](NULL, arguments, 11, &result)) call->failed = 1;
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

static OrtStatus *compute(void *self, OrtKernelContext *context) {
  const State *state = self;
  OrtApi api = state->api;
  OrtStatus *status;
  Call call = {.kernel = state->kernel, .rowwise = state->rowwise};
  int64_t dims[8], size[INPUTS] = {0};
  size_t ndim = 0, given;
#define TRY(expression) \
  if ((status = (expression))) return status
  TRY(ORT(api, GetInputCount)(context, &given));
  for (size_t i = 0; i < given && i < INPUTS; i++) {
    const OrtValue *value = NULL;
    OrtTensorInfo *info;
    size_t count;
    int64_t shape[8];
    TRY(ORT(api, GetInput)(context, i, &value));
    if (!value) continue;
    TRY(ORT(api, GetTensorMutableData)(value, (void **)&call.data[i]));
    TRY(ORT(api, GetTensorTypeAndShape)(value, &info));
    status = ORT(api, GetDimensionsCount)(info, &count);
    if (!status && count > 8)
      status = ORT(api, CreateStatus)(INVALID_ARGUMENT, "autoprune: more than 8 dimensions");
    if (!status) status = ORT(api, GetDimensions)(info, shape, count);
    ORT(api, ReleaseTensorInfo)(info);
    if (status) return status;
    size[i] = 1;
    for (size_t d = 0; d < count; d++) size[i] *= shape[d];
    if (i == X) {
      ndim = count;
      for (size_t d = 0; d < count; d++) dims[d] = shape[d];
    }
  }
  if (ndim < 2) return ORT(api, CreateStatus)(INVALID_ARGUMENT, "autoprune: x needs 2 dimensions");

  size_t channels = state->rowwise ? ndim - 1 : 1;
  int64_t batches = state->rowwise ? 1 : dims[0];
  call.inputs = dims[channels];
  call.outputs = size[BIAS];
  call.blocks = size[INDEX];
  call.block_rows = size[OFFSETS] - 1;
  int64_t whole = size[X];
  call.positions = whole && batches ? whole / call.inputs / batches : 0;
  if (call.block_rows * call.kernel->rows != call.outputs ||
      call.blocks * call.kernel->rows != size[VALUES])
    return ORT(api, CreateStatus)(INVALID_ARGUMENT, "autoprune: weights and kernel do not match");
  if (call.data[ADDED] && size[ADDED] != batches * call.outputs * call.positions)
    return ORT(api, CreateStatus)(INVALID_ARGUMENT, "autoprune: the added tensor has another shape");

  dims[channels] = call.outputs;
  OrtValue *y;
  TRY(ORT(api, GetOutput)(context, 0, dims, ndim, &y));
  TRY(ORT(api, GetTensorMutableData)(y, (void **)&call.y));
  if (!call.positions || !batches) return NULL;
  divide(&call, batches);
  size_t jobs = (size_t)(batches * call.tiles * call.parts);
  if (size[VALUES] * call.positions * batches < WORTHWHILE) {
    for (size_t job = 0; job < jobs; job++) run_job(&call, job);
  } else {
    TRY(ORT(api, ParallelFor)(context, run_job, jobs, 0, &call));
  }
  if (call.failed)
    return ORT(api, CreateStatus)(RUNTIME_EXCEPTION, "autoprune: a kernel refused its arguments");
  return NULL;
#undef TRY
}

typedef struct {
  OrtCustomOp interface;
  const char *name;
  int rowwise;
} Operator;

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
  state->rowwise = ((const Operator *)op)->rowwise;
  *made = state;
  return NULL;
}

static const char *name(const OrtCustomOp *op) { return ((const Operator *)op)->name; }
static const char *provider(const OrtCustomOp *op) { return (void)op, (const char *)NULL; }
static size_t input_count(const OrtCustomOp *op) { return (void)op, (size_t)INPUTS; }
static size_t output_count(const OrtCustomOp *op) { return (void)op, (size_t)1; }
static int input_type(const OrtCustomOp *op, size_t i) {
  return (void)op, i == INDEX || i == OFFSETS ? INT32 : FLOAT;
}
static int output_type(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, FLOAT; }
static int input_kind(const OrtCustomOp *op, size_t i) {
  return (void)op, i == ADDED ? OPTIONAL : REQUIRED;
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

static const Operator operators[] = {
    {INTERFACE, "SparseConv", 0},
    {INTERFACE, "SparseLinear", 1},
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
