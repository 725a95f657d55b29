/* How functions that TVM generated are called, and how their work is divided into tiles. */
#ifndef AUTOPRUNE_TVM_H
#define AUTOPRUNE_TVM_H

#include <stdint.h>

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

enum { CODE_INTEGER = 0, CODE_UNSIGNED = 1, CODE_FLOAT = 2 };

typedef int32_t (*Packed)(void *, const Argument *, int32_t, Argument *);

Tensor tensor(const void *data, int code, int bits, int ndim, int64_t *shape);

/* Calls a function with tensors and numbers; 0 if it accepts them. */
int call_packed(Packed function, const Tensor *tensors, int count, const int64_t *numbers, int more);

enum { VARIANTS = 4 };

/* Functions of one product for tiles of falling size; the last size that is not 0 is 1. */
typedef struct {
  int64_t rows; /* outputs of a block */
  int64_t tiles[VARIANTS];
  int64_t heights[VARIANTS]; /* rows of a tile, for depthwise convolutions; otherwise 1 */
  Packed functions[VARIANTS];
  Packed quantize; /* of activations, for 8 bits; otherwise NULL */
  Packed largest;  /* absolute value of activations, where all positions have one scale */
  Packed unpack;   /* bytes that it makes; NULL if it makes floats */
  int64_t offset;  /* of bytes in memory from bytes with a sign */
} Kernel;

/* Positions divided into tiles: `count` of each size from `start` on. A rest is covered by one more
 * tile of the smallest size above 1 that reaches back to `back`, rather than one by one. */
typedef struct {
  int64_t start[VARIANTS], count[VARIANTS];
  int64_t back; /* -1 if there is none */
  int variant;  /* of the tile that reaches back */
  int64_t total;
} Tiling;

Tiling divide(const Kernel *kernel, int64_t positions);

/* Where the tile of a number begins, and the variant for it. */
int64_t find_tile(const Tiling *tiling, const Kernel *kernel, int64_t number, int *variant);

#endif
