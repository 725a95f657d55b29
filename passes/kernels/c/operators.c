/* Sparse products as operators of ONNX Runtime, in the domain `autoprune`.
 *
 *   SparseConv           x [batch, inputs, positions...] -> y [batch, outputs, positions...]
 *   SparseConvDepthwise  SparseConv of one tap, then DepthwiseConv
 *   DepthwiseConv        x [batch, channels, height, width + x_gap] -> y [..., width + gap]
 *   Widen, Narrow        x [batch, channels, height, width] -> y [..., width + gap], and back
 *   SparseLinear         x [positions..., inputs]        -> y [positions..., outputs], or several
 *   SparseLinearScattered  the same with weights that are stored one by one
 *   SparseLinearInt8     the same, with x rounded to 8 bits row by row; SparseConvInt8 and
 *                        SparseConvDepthwiseInt8, image by image
 *   QuantizedConv        SparseConv of x and y in bytes, four channels of which are an int32
 *   QuantizedDepthwise   the same for depthwise convolutions
 *   QuantizedMaxPool     the largest bytes of windows
 *   Quantize, Dequantize x [batch, channels, ...] -> y [batch, channels / 4, ...], and back
 *
 * Further inputs are values, index, offsets and bias of the sparse weights, for 8 bits their scales
 * and sums, and numbers on activations in bytes, taps and bias of a depthwise convolution, and,
 * optionally, a tensor of the output's shape that is added. The attributes `kernel` and `depthwise` are rows of the table `kernels`,
 * which the compiler writes beside this file together with the functions themselves (kernels.h); others
 * are the geometry of a convolution. The index of a convolution is input * taps + tap. */
#include "operators.h"

#include <stdlib.h>

#include "kernels.h" /* static const Kernel kernels[]; static const int kernel_count; */

typedef struct {
  OrtCustomOp interface;
  const char *name;
  OrtStatus *(*run)(const Inputs *);
  int kernel, depthwise, geometry, gap, int8; /* what there is, */
  int reads, writes;                     /* what x and y are, */
  size_t count;                          /* of inputs, */
  int roles[ROLES];                      /* and what they are */
} Operator;

typedef struct {
  OrtApi api;
  const Operator *op;
  const Kernel *kernel, *depthwise;
  Geometry geometry;
  int64_t gap, x_gap, zero;
} State;

OrtStatus *refuse(OrtApi api, const char *message) {
  return ORT(api, CreateStatus)(INVALID_ARGUMENT, message);
}

OrtStatus *out_of_memory(OrtApi api) {
  return ORT(api, CreateStatus)(RUNTIME_EXCEPTION, "autoprune: out of memory");
}

OrtStatus *kernel_failed(OrtApi api) {
  return ORT(api, CreateStatus)(RUNTIME_EXCEPTION,
                                "autoprune: a kernel refused its arguments, or out of memory");
}

Weights weights_of(const Inputs *given) {
  Weights made = {given->data[VALUES], given->data[INDEX], given->data[OFFSETS], given->data[BIAS],
                  given->data[SCALES], given->data[SUMS],  given->size[INDEX],
                  given->size[OFFSETS] - 1};
  return made;
}

Weights some_rows(const Weights *w, int64_t rows, int64_t first, int64_t last) {
  Weights part = *w;
  part.offsets += first;
  part.bias += first * rows;
  if (part.scales) part.scales += first * rows, part.sums += first * rows;
  part.block_rows = last - first;
  return part;
}

OrtStatus *output_at(const Inputs *inputs, size_t place, const int64_t *dims, size_t rank,
                     void **y) {
  OrtValue *value;
  OrtStatus *status = ORT(inputs->api, GetOutput)(inputs->context, place, dims, rank, &value);
  return status ? status : ORT(inputs->api, GetTensorMutableData)(value, y);
}

OrtStatus *output(const Inputs *inputs, const int64_t *dims, size_t rank, void **y) {
  return output_at(inputs, 0, dims, rank, y);
}

/* Fewest multiply-adds for which it pays to wake other threads. */
enum { WORTHWHILE = 1 << 16 };

OrtStatus *for_each(const Inputs *inputs, int64_t work, void (*job)(void *, size_t), int64_t jobs,
                    void *data) {
  if (work >= WORTHWHILE)
    return ORT(inputs->api, ParallelFor)(inputs->context, job, (size_t)jobs, 0, data);
  for (int64_t i = 0; i < jobs; i++) job(data, (size_t)i);
  return NULL;
}

static OrtStatus *read_input(const Operator *op, Inputs *inputs, size_t place) {
  OrtApi api = inputs->api;
  const OrtValue *value = NULL;
  OrtTensorInfo *info;
  OrtStatus *status;
  size_t count = 0;
  int64_t shape[RANK];
  int role = op->roles[place];
  if ((status = ORT(api, GetInput)(inputs->context, place, &value)) || !value) return status;
  if ((status = ORT(api, GetTensorMutableData)(value, &inputs->data[role]))) return status;
  if ((status = ORT(api, GetTensorTypeAndShape)(value, &info))) return status;
  status = ORT(api, GetDimensionsCount)(info, &count);
  if (!status && count > RANK) status = refuse(api, "autoprune: more than 8 dimensions");
  if (!status) status = ORT(api, GetDimensions)(info, shape, count);
  ORT(api, ReleaseTensorInfo)(info);
  if (status) return status;
  inputs->size[role] = 1;
  for (size_t d = 0; d < count; d++) inputs->size[role] *= shape[d];
  if (role == X) {
    inputs->rank = count;
    for (size_t d = 0; d < count; d++) inputs->dims[d] = shape[d];
  }
  return NULL;
}

static OrtStatus *compute(void *self, OrtKernelContext *context) {
  const State *state = self;
  Inputs inputs = {.api = state->api, .context = context, .kernel = state->kernel,
                   .depthwise = state->depthwise, .geometry = state->geometry, .gap = state->gap,
                   .x_gap = state->x_gap, .zero = state->zero};
  size_t given;
  OrtStatus *status = ORT(state->api, GetInputCount)(context, &given);
  for (size_t i = 0; !status && i < given && i < state->op->count; i++)
    status = read_input(state->op, &inputs, i);
  if (status) return status;
  const Kernel *kernel = state->kernel;
  if (inputs.data[OFFSETS] && ((inputs.size[OFFSETS] - 1) * kernel->rows != inputs.size[BIAS] ||
                 inputs.size[INDEX] * kernel->rows != inputs.size[VALUES]))
    return refuse(state->api, "autoprune: weights and kernel do not match");
  return state->op->run(&inputs);
}

static OrtStatus *find_kernel(OrtApi api, const OrtKernelInfo *info, const char *name,
                              const Kernel **found) {
  int64_t number;
  OrtStatus *status = ORT(api, GetIntAttribute)(info, name, &number);
  if (status) return status;
  if (number < 0 || number >= kernel_count)
    return refuse(api, "autoprune: the library has no such kernel");
  *found = &kernels[number];
  return NULL;
}

static OrtStatus *read_geometry(OrtApi api, const OrtKernelInfo *info, Geometry *g) {
  const struct {
    const char *name;
    int64_t *to, least;
  } settings[] = {
      {"kernel_h", &g->kernel[0], 1},     {"kernel_w", &g->kernel[1], 1},
      {"stride_h", &g->stride[0], 1},     {"stride_w", &g->stride[1], 1},
      {"dilation_h", &g->dilation[0], 1}, {"dilation_w", &g->dilation[1], 1},
      {"begin_h", &g->begin[0], 0},       {"begin_w", &g->begin[1], 0},
      {"end_h", &g->end[0], 0},           {"end_w", &g->end[1], 0},
  };
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    OrtStatus *status = ORT(api, GetIntAttribute)(info, settings[i].name, settings[i].to);
    if (status) return status;
    if (*settings[i].to < settings[i].least)
      return refuse(api, "autoprune: a kernel, stride, dilation or padding is out of range");
  }
  return NULL;
}

static OrtStatus *create(const OrtCustomOp *self, OrtApi api, const OrtKernelInfo *info,
                         void **made) {
  const Operator *op = (const Operator *)self;
  State state = {.api = api, .op = op};
  OrtStatus *status = NULL;
  if (op->kernel) status = find_kernel(api, info, "kernel", &state.kernel);
  if (!status && op->depthwise) status = find_kernel(api, info, "depthwise", &state.depthwise);
  if (!status && op->geometry) status = read_geometry(api, info, &state.geometry);
  if (!status && op->gap) status = ORT(api, GetIntAttribute)(info, "gap", &state.gap);
  if (!status && op->depthwise) status = ORT(api, GetIntAttribute)(info, "x_gap", &state.x_gap);
  if (!status && op->geometry && op->writes == INT32)
    status = ORT(api, GetIntAttribute)(info, "zero", &state.zero);
  if (!status && (state.gap < 0 || state.x_gap < 0))
    status = refuse(api, "autoprune: a gap is out of range");
  if (status) return status;
  State *kept = malloc(sizeof *kept);
  if (!kept) return out_of_memory(api);
  *kept = state;
  *made = kept;
  return NULL;
}

static const char *name(const OrtCustomOp *op) { return ((const Operator *)op)->name; }
static const char *provider(const OrtCustomOp *op) { return (void)op, (const char *)NULL; }
static size_t input_count(const OrtCustomOp *op) { return ((const Operator *)op)->count; }
static size_t output_count(const OrtCustomOp *op) { return (void)op, (size_t)1; }
static int role(const OrtCustomOp *op, size_t i) { return ((const Operator *)op)->roles[i]; }
static int input_type(const OrtCustomOp *op, size_t i) {
  int is = role(op, i), int8 = ((const Operator *)op)->int8;
  /* Taps are bytes where activations are. */
  if (is == X || is == ADDED || is == TAPS) return ((const Operator *)op)->reads;
  int integer = is == INDEX || is == OFFSETS || is == SUMS || is == ENDS;
  return integer || (is == VALUES && int8) ? INT32 : FLOAT;
}
static int output_type(const OrtCustomOp *op, size_t i) {
  return (void)i, ((const Operator *)op)->writes;
}
static int input_kind(const OrtCustomOp *op, size_t i) {
  return role(op, i) == ADDED || role(op, i) == ENDS ? OPTIONAL : REQUIRED;
}
static int output_kind(const OrtCustomOp *op, size_t i) {
  return (void)i, role(op, input_count(op) - 1) == ENDS ? VARIADIC : REQUIRED;
}
static int memory_type(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, 0; }
static int arity(const OrtCustomOp *op) { return (void)op, 1; }
static int homogeneous(const OrtCustomOp *op) { return (void)op, 1; }
static int start_version(const OrtCustomOp *op) { return (void)op, 1; }
static int end_version(const OrtCustomOp *op) { return (void)op, 2147483647; }

#define INTERFACE                                                                             \
  {API, NULL, name, provider, input_type, input_count, output_type, output_count, NULL, free, \
   input_kind, output_kind, memory_type, arity, homogeneous, arity, homogeneous, create,      \
   compute, NULL, start_version, end_version, NULL, NULL, NULL, NULL}

#define SPARSE VALUES, INDEX, OFFSETS, BIAS

#define FLOATS FLOAT, FLOAT

static const Operator operators[] = {
    {INTERFACE, "SparseConv", run_convolution, 1, 0, 1, 0, 0, FLOATS, 6, {X, SPARSE, ADDED}},
    {INTERFACE, "SparseConvDepthwise", run_depthwise, 1, 1, 1, 1, 0, FLOATS, 7,
     {X, SPARSE, TAPS, SHIFT}},
    {INTERFACE, "SparseConvInt8", run_convolution_int8, 1, 0, 1, 0, 1, FLOATS, 8,
     {X, SPARSE, SCALES, SUMS, ADDED}},
    {INTERFACE, "SparseConvDepthwiseInt8", run_depthwise, 1, 1, 1, 1, 1, FLOATS, 9,
     {X, SPARSE, SCALES, SUMS, TAPS, SHIFT}},
    {INTERFACE, "QuantizedConv", run_quantized, 1, 0, 1, 0, 1, INT32, INT32, 9,
     {X, SPARSE, SCALES, SUMS, NUMBERS, ADDED}},
    {INTERFACE, "QuantizedDepthwise", run_quantized_depthwise, 1, 0, 1, 0, 1, INT32, INT32, 6,
     {X, TAPS, BIAS, SCALES, SUMS, NUMBERS}},
    {INTERFACE, "QuantizedMaxPool", run_max_pool, 1, 0, 1, 0, 1, INT32, INT32, 1, {X}},
    {INTERFACE, "Quantize", run_quantize, 1, 0, 0, 0, 1, FLOAT, INT32, 2, {X, NUMBERS}},
    {INTERFACE, "Dequantize", run_dequantize, 1, 0, 0, 0, 1, INT32, FLOAT, 2, {X, NUMBERS}},
    {INTERFACE, "DepthwiseConv", run_depthwise, 0, 1, 1, 1, 0, FLOATS, 3, {X, TAPS, SHIFT}},
    {INTERFACE, "Widen", run_widen, 0, 0, 0, 1, 0, FLOATS, 1, {X}},
    {INTERFACE, "Narrow", run_narrow, 0, 0, 0, 1, 0, FLOATS, 1, {X}},
    {INTERFACE, "SparseLinear", run_linear, 1, 0, 0, 0, 0, FLOATS, 7,
     {X, SPARSE, ADDED, ENDS}},
    {INTERFACE, "SparseLinearScattered", run_linear_scattered, 1, 0, 0, 0, 0, FLOATS, 6,
     {X, SPARSE, ADDED}},
    {INTERFACE, "SparseLinearInt8", run_linear_int8, 1, 0, 0, 0, 1, FLOATS, 9,
     {X, SPARSE, SCALES, SUMS, ADDED, ENDS}},
#ifdef MORE_OPERATORS /* of kernels that bring their own, by kernels.h */
    MORE_OPERATORS
#endif
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
