/* A library of one custom operator, autoprune.Double: y = FACTOR * x. Only what it needs of ONNX
   Runtime's C interface is declared: the table of functions never moves a slot. */
#include <stddef.h>
#include <stdint.h>

#ifndef FACTOR
#define FACTOR 2
#endif

typedef struct { const void *const *(*get_api)(uint32_t); const char *(*version)(void); } ApiBase;
typedef void *Status;

typedef struct {
  uint32_t version;
  void *(*create_kernel)(const void *, const void *, const void *);
  const char *(*name)(const void *);
  const char *(*provider)(const void *);
  int (*input_type)(const void *, size_t);
  size_t (*input_count)(const void *);
  int (*output_type)(const void *, size_t);
  size_t (*output_count)(const void *);
  void (*compute)(void *, void *);
  void (*destroy)(void *);
  int (*input_characteristic)(const void *, size_t);
  int (*output_characteristic)(const void *, size_t);
  int (*input_memory)(const void *, size_t);
  int (*variadic[4])(const void *);
  Status (*create_kernel_v2)(const void *, const void *, const void *, void **);
  Status (*compute_v2)(void *, void *);
  Status (*infer_shape)(const void *, void *);
  int (*start_version)(const void *);
  int (*end_version)(const void *);
  void *optional[4];
} Op;

enum {
  CREATE_DOMAIN = 26, DOMAIN_ADD = 27, ADD_DOMAIN = 28, MUTABLE_DATA = 51, RANK = 61, DIMS = 62,
  TYPE_AND_SHAPE = 65, INPUT = 90, OUTPUT = 91, RELEASE_TYPE = 99
};

static const void *const *api;
#define CALL(slot, ...) ((Status (*)())api[slot])(__VA_ARGS__)

static const char *name(const void *op) { return "Double"; }
static const char *provider(const void *op) { return NULL; }
static int float_type(const void *op, size_t i) { return 1; }
static size_t one(const void *op) { return 1; }
static int zero(const void *op, size_t i) { return 0; }
static int one_int(const void *op) { return 1; }
static int newest(const void *op) { return INT32_MAX; }
static void destroy(void *kernel) {}

static Status create(const void *op, const void *ort, const void *info, void **kernel) {
  static int state;
  *kernel = &state;
  return NULL;
}

static Status compute(void *kernel, void *context) {
  const void *input;
  void *output, *info;
  float *x, *y;
  size_t rank, count = 1;
  int64_t dims[8];
  Status status;
  if ((status = CALL(INPUT, context, (size_t)0, &input))) return status;
  if ((status = CALL(TYPE_AND_SHAPE, input, &info))) return status;
  status = CALL(RANK, info, &rank);
  if (!status) status = CALL(DIMS, info, dims, rank);
  ((void (*)(void *))api[RELEASE_TYPE])(info);
  if (status || (status = CALL(OUTPUT, context, (size_t)0, dims, rank, &output))) return status;
  if ((status = CALL(MUTABLE_DATA, input, &x)) || (status = CALL(MUTABLE_DATA, output, &y)))
    return status;
  for (size_t axis = 0; axis < rank; axis++) count *= dims[axis];
  for (size_t i = 0; i < count; i++) y[i] = FACTOR * x[i];
  return NULL;
}

static const Op op = {
  .version = 18, .name = name, .provider = provider, .input_type = float_type,
  .input_count = one, .output_type = float_type, .output_count = one, .destroy = destroy,
  .input_characteristic = zero, .output_characteristic = zero, .input_memory = zero,
  .create_kernel_v2 = create, .compute_v2 = compute, .start_version = one_int,
  .end_version = newest,
};

Status RegisterCustomOps(void *options, const ApiBase *base) {
  void *domain;
  Status status;
  api = base->get_api(18);
  if ((status = CALL(CREATE_DOMAIN, "autoprune", &domain))) return status;
  if ((status = CALL(DOMAIN_ADD, domain, &op))) return status;
  return CALL(ADD_DOMAIN, options, domain);
}
