/* What convolutions share: copying rows, and products along the positions of planes. */
#ifndef AUTOPRUNE_SPATIAL_H
#define AUTOPRUNE_SPATIAL_H

#include "operators.h"

/* An activation: a float, or four bytes of four channels, which share a plane. */
typedef uint32_t Word;

void fill(void *to, Word value, int64_t count);

void copy_row(void *to, const void *from, int64_t count);

/* Every `step`-th column of a row goes to a plane of its own, `phase` words after the one before
 * it; the row begins at column `begin`. */
void split_row(void *to, int64_t phase, const void *from, int64_t width, int64_t begin,
               int64_t step);

/* Where a product reads and writes. */
typedef struct {
  const void *x;
  const float *numbers; /* on activations of 8 bits, as kernels take them; NULL for floats, */
  int64_t count;        /* and how many they are */
  int64_t extent;       /* of x, in words */
  const void *added;
  void *y;
  int64_t plane; /* words from one plane to the next, in y and added */
} Planes;

/* Block rows `first` to `last` of a product, at some tiles of one size. */
int product(const Kernel *kernel, const Weights *w, const Planes *planes, int64_t first,
            int64_t last, int variant, int64_t start, int64_t tiles);

/* All block rows, at all positions. */
int whole_product(const Kernel *kernel, const Weights *w, const Planes *planes, int64_t positions);

/* Planes of y that a block row of a product makes. */
int64_t planes_of_block(const Kernel *kernel);

/* Four bytes that stand for zero, as they are in memory. */
Word zeros(const Kernel *kernel, int64_t zero);

/* Activations of images rounded to 8 bits; all positions of an image have one scale. */
typedef struct {
  Word *bytes;    /* [images, channels / 4, plane]; NULL if nothing is rounded */
  float *numbers; /* scales, and what is zero [images, 2] */
} Rounded;

/* What is zero among bytes that stand for numbers of both signs. */
enum { MIDDLE = 128 };

/* Between floats [channels, plane] and bytes [channels / 4 rounded up, plane], of which the first
 * number is the step, and the second one is zero. */
int round_planes(const Kernel *kernel, const float *x, Word *bytes, const float *numbers,
                 int64_t channels, int64_t plane);
int unpack_planes(const Kernel *kernel, const Word *bytes, float *x, const float *numbers,
                  int64_t channels, int64_t plane);

/* Rounds x [images, channels, plane]; `bytes` are to be freed, also after an error. */
OrtStatus *round_images(const Inputs *given, const float *x, int64_t images, int64_t channels,
                        int64_t plane, Rounded *made);

#endif
