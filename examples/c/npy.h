/* Files of numpy's format .npy, little-endian and row-major, as tensors of ONNX Runtime's types. */
#ifndef NPY_H
#define NPY_H

#include <stddef.h>
#include <stdint.h>

enum { RANK = 8 };

typedef struct {
  int type; /* as ONNX Runtime numbers them */
  size_t rank;
  int64_t dims[RANK];
  size_t size; /* of the data, in bytes */
  void *data;
} Array;

/* Returns NULL, or what is wrong. The caller frees `data`. */
const char *read_npy(const char *path, Array *array);
const char *write_npy(const char *path, const Array *array);

/* The size in bytes of what an array of this type and shape holds; 0 for an unknown type. */
size_t element_size(int type);

#endif
