/* Runs operators of a library, one after another, in the place of ONNX Runtime.
 *
 *     operators LIBRARY CASES RESULTS
 *
 * cases.py writes and reads the files: 64-bit integers and bytes. Memory is stricter than ONNX
 * Runtime's: tensors are aligned to their elements only, and end where memory ends, so that whoever
 * reads or writes one element further is killed. Jobs run from the last to the first. */
#define _GNU_SOURCE
#include "ort.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void die(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

struct OrtStatus {
  char message[200];
};

struct OrtValue {
  int64_t type, ndim, dims[8];
  size_t size; /* in bytes, */
  char *data;  /* the last of `mapped`, after which no access is allowed */
  char *memory;
  size_t mapped;
};

enum { MOST = 16, NAME = 64 };

struct OrtKernelInfo {
  int64_t count, values[MOST];
  char names[MOST][NAME];
};

struct OrtKernelContext {
  size_t count;
  OrtValue inputs[MOST], output;
};

/* Tensors. */

enum { FILL = 0xFF }; /* not a number, in float32 */

static size_t element_size(int64_t type) {
  switch (type) {
    case 1: case 6: return 4;
    case 2: case 3: return 1;
    case 7: return 8;
  }
  die("an element type that this driver does not know");
  return 0;
}

static void allocate(OrtValue *value) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  value->size = element_size(value->type);
  for (int64_t d = 0; d < value->ndim; d++) value->size *= (size_t)value->dims[d];
  value->mapped = (value->size / page + 1) * page;
  value->memory =
      mmap(NULL, value->mapped + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (value->memory == MAP_FAILED || mprotect(value->memory + value->mapped, page, PROT_NONE))
    die("no memory");
  value->data = value->memory + value->mapped - value->size;
  memset(value->memory, FILL, value->mapped);
}

static void release(OrtValue *value) {
  if (!value->memory) return;
  for (char *c = value->memory; c < value->data; c++)
    if (*c != (char)FILL) die("an operator wrote before the beginning of a tensor");
  munmap(value->memory, value->mapped + (size_t)sysconf(_SC_PAGESIZE));
}

/* ONNX Runtime's functions. */

static const OrtCustomOp *known[MOST];
static size_t known_count;
static int open_infos;

static OrtStatus *create_status(int code, const char *message) {
  OrtStatus *status = malloc(sizeof *status);
  if (!code || !status) die("no status");
  snprintf(status->message, sizeof status->message, "%s", message);
  return status;
}

static OrtStatus *create_domain(const char *name, OrtCustomOpDomain **domain) {
  if (strcmp(name, "autoprune")) die("a domain of another name");
  *domain = (OrtCustomOpDomain *)known;
  return NULL;
}

static OrtStatus *add_operator(OrtCustomOpDomain *domain, const void *op) {
  if (domain != (OrtCustomOpDomain *)known || known_count == MOST) die("no room for operators");
  known[known_count++] = op;
  return NULL;
}

static OrtStatus *add_domain(OrtSessionOptions *options, OrtCustomOpDomain *domain) {
  (void)options, (void)domain;
  return NULL;
}

static OrtStatus *get_data(const OrtValue *value, void **data) {
  *data = value->data;
  return NULL;
}

static OrtStatus *get_info(const OrtValue *value, OrtTensorInfo **info) {
  open_infos++;
  *info = (OrtTensorInfo *)value;
  return NULL;
}

static void release_info(OrtTensorInfo *info) { (void)info, open_infos--; }

static OrtStatus *get_dimension_count(const OrtTensorInfo *info, size_t *count) {
  *count = (size_t)((const OrtValue *)info)->ndim;
  return NULL;
}

static OrtStatus *get_dimensions(const OrtTensorInfo *info, int64_t *dims, size_t count) {
  memcpy(dims, ((const OrtValue *)info)->dims, count * sizeof *dims);
  return NULL;
}

static OrtStatus *get_attribute(const OrtKernelInfo *info, const char *name, int64_t *out) {
  for (int64_t i = 0; i < info->count; i++)
    if (!strcmp(info->names[i], name)) return *out = info->values[i], NULL;
  return create_status(INVALID_ARGUMENT, "no such attribute");
}

static OrtStatus *get_input_count(const OrtKernelContext *context, size_t *count) {
  *count = context->count;
  return NULL;
}

static OrtStatus *get_output_count(const OrtKernelContext *context, size_t *count) {
  (void)context;
  *count = 1;
  return NULL;
}

static OrtStatus *get_input(const OrtKernelContext *context, size_t i, const OrtValue **out) {
  if (i >= context->count) die("an input that is not there");
  *out = context->inputs[i].memory ? &context->inputs[i] : NULL;
  return NULL;
}

static OrtStatus *get_output(OrtKernelContext *context, size_t i, const int64_t *dims, size_t count,
                             OrtValue **out) {
  OrtValue *y = &context->output;
  if (i || y->memory || count > 8) die("an output that is not there");
  y->type = FLOAT;
  y->ndim = (int64_t)count;
  memcpy(y->dims, dims, count * sizeof *dims);
  allocate(y);
  *out = y;
  return NULL;
}

static OrtStatus *parallel_for(const OrtKernelContext *context, void (*job)(void *, size_t),
                               size_t jobs, size_t batches, void *data) {
  (void)context, (void)batches;
  while (jobs--) job(data, jobs);
  return NULL;
}

static void absent(void) { die("the library calls a function that this driver does not have"); }

enum { SLOTS = 512 };
static Function table[SLOTS];

static OrtApi get_api(uint32_t version) { return version <= API ? table : NULL; }

static const char *get_version(void) { return "0"; }

static void fill_table(void) {
  for (int i = 0; i < SLOTS; i++) table[i] = absent;
#define SET(name, function)                      \
  do {                                           \
    name##_type typed = function;                \
    table[name##_slot] = (Function)typed;        \
  } while (0)
  SET(CreateStatus, create_status);
  SET(CreateCustomOpDomain, create_domain);
  SET(CustomOpDomain_Add, add_operator);
  SET(AddCustomOpDomain, add_domain);
  SET(GetTensorMutableData, get_data);
  SET(GetDimensionsCount, get_dimension_count);
  SET(GetDimensions, get_dimensions);
  SET(GetTensorTypeAndShape, get_info);
  SET(GetIntAttribute, get_attribute);
  SET(GetInputCount, get_input_count);
  SET(GetOutputCount, get_output_count);
  SET(GetInput, get_input);
  SET(GetOutput, get_output);
  SET(ReleaseTensorInfo, release_info);
  SET(ParallelFor, parallel_for);
#undef SET
}

/* Files. */

static FILE *cases, *results;

static void get(void *data, size_t size) {
  if (fread(data, 1, size, cases) != size) die("the file of cases is truncated");
}

static int64_t get_integer(void) {
  int64_t value;
  get(&value, sizeof value);
  return value;
}

static void get_name(char *name) {
  int64_t size = get_integer();
  if (size >= NAME) die("a name is too long");
  get(name, (size_t)size);
  name[size] = 0;
}

static void put(const void *data, size_t size) {
  if (fwrite(data, 1, size, results) != size) die("the results cannot be written");
}

static void put_integer(int64_t value) { put(&value, sizeof value); }

static void get_inputs(OrtKernelContext *context, const OrtCustomOp *op) {
  context->count = (size_t)get_integer();
  if (context->count > MOST || context->count > op->GetInputTypeCount(op)) die("too many inputs");
  for (size_t i = 0; i < context->count; i++) {
    OrtValue *value = &context->inputs[i];
    value->type = get_integer();
    if (!value->type && op->GetInputCharacteristic(op, i) == OPTIONAL) continue;
    if (value->type != op->GetInputType(op, i)) die("an input has another type");
    value->ndim = get_integer();
    if (value->ndim > 8) die("a tensor has too many dimensions");
    get(value->dims, (size_t)value->ndim * sizeof *value->dims);
    allocate(value);
    get(value->data, value->size);
  }
}

/* A case: an operator's name, integer attributes, inputs. A result: the error message, which is
 * empty if there is none, and then the output. */
static void run_case(void) {
  OrtKernelContext context = {0};
  OrtKernelInfo info = {0};
  char name[NAME];
  get_name(name);
  const OrtCustomOp *op = NULL;
  for (size_t i = 0; i < known_count; i++)
    if (!strcmp(known[i]->GetName(known[i]), name)) op = known[i];
  if (!op) die("the library has no operator of that name");
  info.count = get_integer();
  if (info.count > MOST) die("too many attributes");
  for (int64_t i = 0; i < info.count; i++) {
    get_name(info.names[i]);
    info.values[i] = get_integer();
  }
  get_inputs(&context, op);

  void *kernel = NULL;
  OrtStatus *status = op->CreateKernelV2(op, table, &info, &kernel);
  if (!status) {
    status = op->KernelComputeV2(kernel, &context);
    op->KernelDestroy(kernel);
  }
  if (open_infos) die("an operator did not release what it asked for");
  const char *message = status ? status->message : "";
  put_integer((int64_t)strlen(message));
  put(message, strlen(message));
  if (!status) {
    put_integer(context.output.ndim);
    put(context.output.dims, (size_t)context.output.ndim * sizeof *context.output.dims);
    put(context.output.data, context.output.size);
  }
  free(status);
  for (size_t i = 0; i < context.count; i++) release(&context.inputs[i]);
  release(&context.output);
}

int main(int argc, char **argv) {
  if (argc != 4) die("usage: operators LIBRARY CASES RESULTS");
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) die(dlerror());
  OrtStatus *(*enroll)(OrtSessionOptions *, const OrtApiBase *);
  *(void **)&enroll = dlsym(library, "RegisterCustomOps");
  cases = fopen(argv[2], "rb");
  results = fopen(argv[3], "wb");
  if (!enroll || !cases || !results) die("a file cannot be opened");
  static const OrtApiBase base = {get_api, get_version};
  fill_table();
  if (enroll(NULL, &base)) die("the library refuses this driver");
  for (int64_t count = get_integer(); count > 0; count--) run_case();
  if (fclose(results)) die("the results cannot be written");
  return 0;
}
