/* Max pooling of bytes, four channels of which share a plane.
 *
 * Bytes stand for numbers in their order, so that the largest byte is that of the largest number. */
#include <stdlib.h>

#include "operators.h"

typedef uint8_t Byte;

/* What the jobs of one call share. A job is a plane. */
typedef struct {
  const Inputs *given;
  const Byte *x;
  Byte *y;
  int64_t in[2], out[2];
  Byte flip; /* of bytes that have a sign, the highest bit */
  int failed;
} Pooling;

static void larger(Byte *restrict most, const Byte *restrict x, int64_t count, Byte flip) {
  for (int64_t i = 0; i < count; i++) {
    Byte byte = x[i] ^ flip;
    most[i] = byte > most[i] ? byte : most[i];
  }
}

static void run_plane(void *user, size_t job) {
  Pooling *p = user;
  const Geometry *g = &p->given->geometry;
  int64_t row = 4 * p->in[1], padded = row + 4 * (g->begin[1] + g->end[1]);
  const Byte *x = p->x + (int64_t)job * p->in[0] * row;
  Byte *y = p->y + (int64_t)job * p->out[0] * p->out[1] * 4;
  Byte *down = malloc((size_t)(2 * padded)), *along = down + padded;
  if (!down) {
    p->failed = 1;
    return;
  }
  int64_t windows = padded - 4 * (g->kernel[1] - 1);
  for (int64_t h = 0; h < p->out[0]; h++) {
    int64_t first = h * g->stride[0] - g->begin[0], last = first + g->kernel[0];
    if (last > p->in[0]) last = p->in[0];
    /* Padding is the least byte. */
    for (int64_t i = 0; i < padded; i++) down[i] = 0;
    for (int64_t r = first < 0 ? 0 : first; r < last; r++)
      larger(down + 4 * g->begin[1], x + r * row, row, p->flip);
    for (int64_t i = 0; i < windows; i++) along[i] = down[i];
    for (int64_t tap = 1; tap < g->kernel[1]; tap++) larger(along, down + 4 * tap, windows, 0);
    for (int64_t w = 0; w < p->out[1]; w++, y += 4)
      for (int64_t k = 0; k < 4; k++) y[k] = along[4 * w * g->stride[1] + k] ^ p->flip;
  }
  free(down);
}

OrtStatus *run_max_pool(const Inputs *given) {
  const Geometry *g = &given->geometry;
  if (given->rank != 4) return refuse(given->api, "autoprune: x needs 4 dimensions");
  if (g->dilation[0] != 1 || g->dilation[1] != 1)
    return refuse(given->api, "autoprune: pooling has no dilation");
  Pooling p = {.given = given, .x = given->data[X], .flip = given->kernel->offset ? 0 : 0x80};
  for (int d = 0; d < 2; d++) {
    p.in[d] = given->dims[2 + d];
    int64_t room = p.in[d] + g->begin[d] + g->end[d] - g->kernel[d];
    p.out[d] = room < 0 ? 0 : room / g->stride[d] + 1;
  }
  int64_t planes = given->dims[0] * given->dims[1];
  int64_t dims[4] = {given->dims[0], given->dims[1], p.out[0], p.out[1]};
  OrtStatus *status = output(given, dims, 4, (void **)&p.y);
  if (status || !planes || !p.out[0] || !p.out[1]) return status;
  int64_t work = planes * p.out[0] * p.in[1] * (g->kernel[0] + g->kernel[1]);
  status = for_each(given, work, run_plane, planes, &p);
  return status || !p.failed ? status : kernel_failed(given->api);
}
