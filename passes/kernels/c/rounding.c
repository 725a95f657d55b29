/* Between floats and bytes, four channels of which share a plane. */
#include <stdlib.h>

#include "spatial.h"

/* What the jobs of rounding share. A job is a part of the channels of an image. */
typedef struct {
  const Inputs *given;
  const float *x;
  float *most; /* of every part */
  Rounded *made;
  int64_t quads, plane, parts;
  int failed;
} Rounding;

/* The first four channels of a job, counted through all images, and how many of them. */
static int64_t first_quad(const Rounding *r, size_t job, int64_t *count) {
  int64_t part = (int64_t)job % r->parts, image = (int64_t)job / r->parts;
  int64_t first = r->quads * part / r->parts;
  *count = r->quads * (part + 1) / r->parts - first;
  return image * r->quads + first;
}

static void run_largest(void *user, size_t job) {
  Rounding *r = user;
  int64_t quads, first = first_quad(r, job, &quads), count[1] = {4 * quads * r->plane};
  int64_t one[1] = {1};
  Tensor tensors[2] = {
      tensor(r->x + first * 4 * r->plane, CODE_FLOAT, 32, 1, count),
      tensor(r->most + job, CODE_FLOAT, 32, 1, one),
  };
  if (call_packed(r->given->kernel->largest, tensors, 2, NULL, 0)) r->failed = 1;
}

static void run_round(void *user, size_t job) {
  Rounding *r = user;
  int64_t quads, first = first_quad(r, job, &quads);
  float *numbers = r->made->numbers + 2 * ((int64_t)job / r->parts);
  if (round_planes(r->given->kernel, r->x + first * 4 * r->plane, r->made->bytes + first * r->plane,
                   numbers, 4 * quads, r->plane))
    r->failed = 1;
}

static int between(Packed function, const float *x, const Word *bytes, const float *numbers,
                   int64_t channels, int64_t plane) {
  int64_t floats[2] = {channels, plane}, words[2] = {(channels + 3) / 4, plane}, two[1] = {2};
  Tensor tensors[3] = {
      tensor(x, CODE_FLOAT, 32, 2, floats),
      tensor(bytes, CODE_INTEGER, 32, 2, words),
      tensor(numbers, CODE_FLOAT, 32, 1, two),
  };
  return call_packed(function, tensors, 3, NULL, 0);
}

int round_planes(const Kernel *kernel, const float *x, Word *bytes, const float *numbers,
                 int64_t channels, int64_t plane) {
  return between(kernel->quantize, x, bytes, numbers, channels, plane);
}

int unpack_planes(const Kernel *kernel, const Word *bytes, float *x, const float *numbers,
                  int64_t channels, int64_t plane) {
  return between(kernel->unpack, x, bytes, numbers, channels, plane);
}

OrtStatus *round_images(const Inputs *given, const float *x, int64_t images, int64_t channels,
                        int64_t plane, Rounded *made) {
  made->bytes = NULL, made->numbers = NULL;
  int64_t outputs = given->size[BIAS], quads = channels / 4;
  if (!given->kernel->quantize || !given->kernel->largest || channels % 4 || !quads ||
      given->size[SCALES] != outputs || given->size[SUMS] != outputs)
    return refuse(given->api, "autoprune: not prepared for 8 bits");
  int64_t parts = quads < JOBS ? quads : JOBS, jobs = images * parts;
  made->bytes = malloc((size_t)(images * quads * plane + 2 * images + jobs) * sizeof(Word));
  if (!made->bytes) return out_of_memory(given->api);
  made->numbers = (float *)(made->bytes + images * quads * plane);
  Rounding r = {given, x, made->numbers + 2 * images, made, quads, plane, parts, 0};
  OrtStatus *status = for_each(given, images * quads * plane, run_largest, jobs, &r);
  for (int64_t i = 0; i < images; i++) {
    float most = 1e-30f; /* so that zeros have a scale, too */
    for (int64_t p = 0; p < parts; p++)
      if (r.most[i * parts + p] > most) most = r.most[i * parts + p];
    made->numbers[2 * i] = most / 127;
    made->numbers[2 * i + 1] = MIDDLE;
  }
  if (!status) status = for_each(given, images * quads * plane, run_round, jobs, &r);
  return status || !r.failed ? status : kernel_failed(given->api);
}

/* What the jobs between floats and bytes share. A job is a part of the planes of an image. */
typedef struct {
  const Inputs *given;
  void *y;
  int64_t channels, quads, plane, parts;
  int quantize, failed;
} Border;

static void run_part(void *user, size_t job) {
  Border *b = user;
  const Kernel *kernel = b->given->kernel;
  int64_t part = (int64_t)job % b->parts, image = (int64_t)job / b->parts;
  int64_t first = b->quads * part / b->parts, last = b->quads * (part + 1) / b->parts;
  int64_t channels = 4 * last < b->channels ? 4 * (last - first) : b->channels - 4 * first;
  int64_t floats = (image * b->channels + 4 * first) * b->plane;
  int64_t words = (image * b->quads + first) * b->plane;
  const float *numbers = b->given->data[NUMBERS];
  void *x = b->given->data[X];
  int failed = b->quantize ? round_planes(kernel, (float *)x + floats, (Word *)b->y + words, numbers,
                                          channels, b->plane)
                           : unpack_planes(kernel, (Word *)x + words, (float *)b->y + floats,
                                           numbers, channels, b->plane);
  if (failed) b->failed = 1;
}

static OrtStatus *cross(const Inputs *given, int quantize) {
  Border b = {.given = given, .quantize = quantize, .plane = 1};
  if (given->rank < 2 || given->size[NUMBERS] != 2 || !given->kernel->unpack)
    return refuse(given->api, "autoprune: not prepared for 8 bits");
  int64_t dims[RANK], images = given->dims[0];
  for (size_t d = 0; d < given->rank; d++) dims[d] = given->dims[d];
  for (size_t d = 2; d < given->rank; d++) b.plane *= dims[d];
  b.channels = quantize ? dims[1] : 4 * dims[1];
  b.quads = (b.channels + 3) / 4;
  dims[1] = quantize ? b.quads : b.channels;
  OrtStatus *status = output(given, dims, given->rank, &b.y);
  if (status || !images || !b.quads || !b.plane) return status;
  b.parts = b.quads < JOBS ? b.quads : JOBS;
  status = for_each(given, images * b.quads * b.plane, run_part, images * b.parts, &b);
  return status || !b.failed ? status : kernel_failed(given->api);
}

OrtStatus *run_quantize(const Inputs *given) { return cross(given, 1); }
OrtStatus *run_dequantize(const Inputs *given) { return cross(given, 0); }
