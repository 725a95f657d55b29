/* What convolutions share: copying rows, and products along the positions of planes. */
#ifndef AUTOPRUNE_SPATIAL_H
#define AUTOPRUNE_SPATIAL_H

#include "operators.h"

void clear(float *to, int64_t count);

void copy_row(float *to, const float *from, int64_t count);

/* Every `step`-th column of a row goes to a plane of its own, `phase` elements after the one before
 * it; the row begins at column `begin`. */
void split_row(float *to, int64_t phase, const float *from, int64_t width, int64_t begin,
               int64_t step);

/* Where a product reads and writes. */
typedef struct {
  const void *x;        /* floats, or four bytes of four channels in 32 bits */
  const float *x_scale; /* of the bytes; NULL for floats */
  int64_t extent;       /* of x, in elements of 32 bits */
  const float *added;
  float *y;
  int64_t plane; /* elements from one output to the next, in y and added */
} Planes;

/* Block rows `first` to `last` of a product, at some tiles of one size. */
int product(const Kernel *kernel, const Weights *w, const Planes *planes, int64_t first,
            int64_t last, int variant, int64_t start, int64_t tiles);

/* All block rows, at all positions. */
int whole_product(const Kernel *kernel, const Weights *w, const Planes *planes, int64_t positions);

/* Some block rows of a product; values and index stay where they are. */
Weights some_rows(const Weights *w, int64_t rows, int64_t first, int64_t last);

/* Activations of images rounded to 8 bits; all positions of an image have one scale. */
typedef struct {
  int32_t *bytes; /* [images, channels / 4, plane]; NULL if nothing is rounded */
  float *scales;  /* [images] */
} Rounded;

/* Rounds x [images, channels, plane] if the operator has bytes; `bytes` are to be freed, also after
 * an error. */
OrtStatus *round_images(const Inputs *given, const float *x, int64_t images, int64_t channels,
                        int64_t plane, Rounded *made);

#endif
