/* What the operators share: their inputs, and how work goes to the threads of a session. */
#ifndef AUTOPRUNE_OPERATORS_H
#define AUTOPRUNE_OPERATORS_H

#include "ort.h"
#include "tvm.h"

/* What inputs are. TAPS are the weights of a depthwise convolution, one row for each channel, and
 * SHIFT is its bias. ENDS are the block rows up to the end of each output, where there are several. NUMBERS are on activations of 8 bits. */
enum { X, VALUES, INDEX, OFFSETS, BIAS, ADDED, SCALES, SUMS, TAPS, SHIFT, NUMBERS, ENDS, ROLES };

/* Of a convolution in two dimensions; of size 1 for a single one. */
typedef struct {
  int64_t kernel[2], stride[2], dilation[2], begin[2], end[2];
} Geometry;

enum { RANK = 8 };

/* The inputs of one call. */
typedef struct {
  OrtApi api;
  OrtKernelContext *context;
  const Kernel *kernel;    /* of the sparse product, */
  const Kernel *depthwise; /* and of the depthwise convolution */
  Geometry geometry;
  int64_t gap, x_gap; /* elements between rows of y and of x */
  int64_t zero;       /* byte of x that stands for it */
  void *data[ROLES];
  int64_t size[ROLES]; /* in elements */
  int64_t dims[RANK];  /* of x */
  size_t rank;
} Inputs;

OrtStatus *run_linear(const Inputs *inputs);
OrtStatus *run_linear_scattered(const Inputs *inputs);
OrtStatus *run_linear_int8(const Inputs *inputs);
OrtStatus *run_convolution(const Inputs *inputs);
OrtStatus *run_convolution_int8(const Inputs *inputs);
OrtStatus *run_quantized(const Inputs *inputs);
OrtStatus *run_quantized_depthwise(const Inputs *inputs);
OrtStatus *run_max_pool(const Inputs *inputs);
OrtStatus *run_quantize(const Inputs *inputs);
OrtStatus *run_dequantize(const Inputs *inputs);
OrtStatus *run_depthwise(const Inputs *inputs);
OrtStatus *run_widen(const Inputs *inputs);
OrtStatus *run_narrow(const Inputs *inputs);

OrtStatus *refuse(OrtApi api, const char *message);
OrtStatus *out_of_memory(OrtApi api);
OrtStatus *kernel_failed(OrtApi api);

/* The output of an operator, of dimensions `dims`. */
OrtStatus *output(const Inputs *inputs, const int64_t *dims, size_t rank, void **y);

/* One of several outputs. */
OrtStatus *output_at(const Inputs *inputs, size_t place, const int64_t *dims, size_t rank,
                     void **y);

/* Runs jobs, in several threads if `work` multiply-adds are worth waking them. */
OrtStatus *for_each(const Inputs *inputs, int64_t work, void (*job)(void *, size_t), int64_t jobs,
                    void *data);

/* Jobs to make out of something that can be divided: enough to occupy all threads evenly. */
enum { JOBS = 16 };

/* Weights of a sparse product as its functions take them. */
typedef struct {
  const void *values;
  const int32_t *index, *offsets;
  const float *bias;
  const float *scales; /* of 8-bit weights, */
  const int32_t *sums; /* and their sums; NULL for floats */
  int64_t blocks, block_rows;
} Weights;

Weights weights_of(const Inputs *inputs);

/* Some block rows of a product; values and index stay where they are. */
Weights some_rows(const Weights *w, int64_t rows, int64_t first, int64_t last);

#endif
