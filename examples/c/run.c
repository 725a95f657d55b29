/* Runs a network that autoprune compiled, from C, by ONNX Runtime alone.
 *
 *     run [-t THREADS] [-n RUNS] [-o FOLDER] EXTRACTED NAME=ARRAY.npy...
 *
 * EXTRACTED is what `autoprune extract` writes: model.onnx, and operators.so if there is native code.
 * Loading that runs it: extract only artifacts that you trust. Outputs go to output0.npy, ... in
 * FOLDER; the latency is the median of some RUNS. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "npy.h"

enum { MOST = 64, PATH = 4096 };

static OrtApi api;

static void die(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(OrtStatus *status, const char *what) {
  if (status) die(what, ORT(api, GetErrorMessage)(status));
}

static void join(char *path, const char *folder, const char *name) {
  if (snprintf(path, PATH, "%s/%s", folder, name) >= PATH) die(folder, "the path is too long");
}

static int natural(const char *text) {
  char *end;
  long value = strtol(text, &end, 10);
  if (*end || value < 1 || value > 1000000) die(text, "this is no number from 1 to 1000000");
  return (int)value;
}

static OrtSession *open_session(const OrtEnv *env, const char *folder, int threads) {
  OrtSessionOptions *options;
  OrtSession *session;
  char model[PATH], library[PATH];
  void *handle; /* of the library, which stays loaded */
  join(model, folder, "model.onnx");
  join(library, folder, "operators.so");
  check(ORT(api, CreateSessionOptions)(&options), "options");
  if (threads) check(ORT(api, SetIntraOpNumThreads)(options, threads), "threads");
  if (!access(library, F_OK))
    check(ORT(api, RegisterCustomOpsLibrary)(options, library, &handle), library);
  check(ORT(api, CreateSession)(env, model, options, &session), model);
  ORT(api, ReleaseSessionOptions)(options);
  return session;
}

/* A tensor that uses the memory of an array, and the name it is for, of NAME=ARRAY.npy. */
static OrtValue *read_input(char *argument, const char **name, Array *array) {
  OrtMemoryInfo *info;
  OrtValue *value;
  char *equals = strrchr(argument, '=');
  if (!equals) die(argument, "write NAME=ARRAY.npy");
  *equals = 0;
  *name = argument;
  const char *problem = read_npy(equals + 1, array);
  if (problem) die(equals + 1, problem);
  check(ORT(api, CreateCpuMemoryInfo)(0, 0, &info), "memory");
  check(ORT(api, CreateTensorWithData)(info, array->data, array->size, array->dims, array->rank,
                                       array->type, &value),
        argument);
  ORT(api, ReleaseMemoryInfo)(info);
  return value;
}

static void write_output(OrtValue *value, const char *name, const char *folder, size_t number) {
  OrtTensorInfo *info;
  Array array;
  char file[32], path[PATH];
  check(ORT(api, GetTensorTypeAndShape)(value, &info), name);
  check(ORT(api, GetTensorElementType)(info, &array.type), name);
  check(ORT(api, GetDimensionsCount)(info, &array.rank), name);
  array.size = element_size(array.type);
  if (!array.size || array.rank > RANK) die(name, "it has an unknown type, or too many dimensions");
  check(ORT(api, GetDimensions)(info, array.dims, array.rank), name);
  check(ORT(api, GetTensorMutableData)(value, &array.data), name);
  ORT(api, ReleaseTensorInfo)(info);
  for (size_t d = 0; d < array.rank; d++) array.size *= (size_t)array.dims[d];
  snprintf(file, sizeof file, "output%zu.npy", number);
  join(path, folder, file);
  const char *problem = write_npy(path, &array);
  if (problem) die(path, problem);
  printf("%s: %s\n", path, name);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  int threads = 0, runs = 20;
  const char *folder = ".";
  for (int option; (option = getopt(argc, argv, "t:n:o:")) != -1;) {
    if (option == 't') threads = natural(optarg);
    else if (option == 'n') runs = natural(optarg);
    else if (option == 'o') folder = optarg;
    else return 2;
  }
  int given = argc - optind - 1;
  if (given < 0 || given > MOST)
    die("usage", "run [-t THREADS] [-n RUNS] [-o FOLDER] EXTRACTED NAME=ARRAY.npy...");

  setenv("ORT_DISABLE_TELEMETRY", "1", 0);
  const OrtApiBase *base = OrtGetApiBase();
  api = base->GetApi(API);
  if (!api) die("ONNX Runtime is too old", base->GetVersionString());
  OrtEnv *env;
  check(ORT(api, CreateEnv)(3, "run", &env), "ONNX Runtime");
  OrtSession *session = open_session(env, argv[optind], threads);

  size_t wanted, made;
  OrtAllocator *allocator;
  check(ORT(api, GetAllocator)(&allocator), "memory");
  check(ORT(api, SessionGetInputCount)(session, &wanted), "inputs");
  check(ORT(api, SessionGetOutputCount)(session, &made), "outputs");
  if (made > MOST) die("the model", "it has too many outputs");
  for (size_t i = 0; (size_t)given != wanted && i < wanted; i++) {
    char *name;
    check(ORT(api, SessionGetInputName)(session, i, allocator, &name), "inputs");
    fprintf(stderr, "it takes %s\n", name);
    check(ORT(api, AllocatorFree)(allocator, name), "memory");
  }
  if ((size_t)given != wanted) die("inputs", "the model takes another number of them");

  const char *names[MOST];
  char *output_names[MOST];
  Array arrays[MOST];
  OrtValue *inputs[MOST], *outputs[MOST] = {NULL};
  for (int i = 0; i < given; i++)
    inputs[i] = read_input(argv[optind + 1 + i], &names[i], &arrays[i]);
  for (size_t i = 0; i < made; i++)
    check(ORT(api, SessionGetOutputName)(session, i, allocator, &output_names[i]), "outputs");

  double *times = malloc((size_t)runs * sizeof *times);
  if (!times) die("memory", "there is none");
  for (int i = -1; i < runs; i++) { /* the first run warms up */
    for (size_t o = 0; o < made; o++) {
      if (outputs[o]) ORT(api, ReleaseValue)(outputs[o]);
      outputs[o] = NULL;
    }
    double start = now();
    check(ORT(api, Run)(session, NULL, names, (const OrtValue *const *)inputs, wanted,
                        (const char *const *)output_names, made, outputs),
          "run");
    if (i >= 0) times[i] = now() - start;
  }
  qsort(times, (size_t)runs, sizeof *times, ascending);
  printf("median %.3f ms, shortest %.3f ms, of %d runs\n", times[runs / 2], times[0], runs);

  for (size_t i = 0; i < made; i++) {
    write_output(outputs[i], output_names[i], folder, i);
    ORT(api, ReleaseValue)(outputs[i]);
    check(ORT(api, AllocatorFree)(allocator, output_names[i]), "memory");
  }
  for (int i = 0; i < given; i++) {
    ORT(api, ReleaseValue)(inputs[i]);
    free(arrays[i].data);
  }
  free(times);
  ORT(api, ReleaseSession)(session);
  ORT(api, ReleaseEnv)(env);
  return 0;
}
