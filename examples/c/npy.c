#include "npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
  int type;
  const char *name;
} types[] = {
    {1, "<f4"}, {2, "|u1"}, {3, "|i1"},  {4, "<u2"},  {5, "<i2"},  {6, "<i4"},
    {7, "<i8"}, {9, "|b1"}, {10, "<f2"}, {11, "<f8"}, {12, "<u4"}, {13, "<u8"},
};
enum { TYPES = sizeof types / sizeof *types, HEADER = 1 << 16 };

static const char *name_of(int type) {
  for (size_t i = 0; i < TYPES; i++)
    if (types[i].type == type) return types[i].name;
  return NULL;
}

size_t element_size(int type) {
  const char *name = name_of(type);
  return name ? (size_t)(name[2] - '0') : 0;
}

/* The header is the text of a Python dict: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } */
static const char *parse(const char *header, Array *array) {
  const char *descr = strstr(header, "'descr': '"), *shape = strstr(header, "'shape': (");
  if (!descr || !shape) return "it is no array";
  if (!strstr(header, "'fortran_order': False")) return "it is not row-major";
  array->type = 0;
  for (size_t i = 0; i < TYPES; i++) {
    const char *name = descr + strlen("'descr': '");
    if (!strncmp(name, types[i].name, 3) && name[3] == '\'') array->type = types[i].type;
  }
  if (!array->type) return "its elements have an unknown type";
  array->size = element_size(array->type);
  array->rank = 0;
  for (const char *at = shape + strlen("'shape': ("); *at != ')';) {
    char *end;
    long long size = strtoll(at, &end, 10);
    if (end == at || size < 0) return "its shape cannot be read";
    if (array->rank == RANK) return "it has more than 8 dimensions";
    if (size && array->size > SIZE_MAX / 2 / (size_t)size) return "it is too large";
    array->dims[array->rank++] = size;
    array->size *= (size_t)size;
    for (at = end; *at == ',' || *at == ' ';) at++;
  }
  return NULL;
}

static const char *read_open(FILE *file, Array *array) {
  unsigned char start[8], length[4] = {0};
  static char header[HEADER + 1];
  if (fread(start, 1, 8, file) != 8 || memcmp(start, "\x93NUMPY", 6)) return "it is no .npy file";
  size_t digits = start[6] == 1 ? 2 : 4;
  if (fread(length, 1, digits, file) != digits) return "it is truncated";
  size_t size = length[0] | (size_t)length[1] << 8 | (size_t)length[2] << 16 | (size_t)length[3] << 24;
  if (size > HEADER) return "its header is too long";
  if (fread(header, 1, size, file) != size) return "it is truncated";
  header[size] = 0;
  const char *problem = parse(header, array);
  if (problem) return problem;
  array->data = malloc(array->size + 1);
  if (!array->data) return "out of memory";
  if (fread(array->data, 1, array->size, file) == array->size) return NULL;
  free(array->data);
  array->data = NULL;
  return "it is truncated";
}

const char *read_npy(const char *path, Array *array) {
  FILE *file = fopen(path, "rb");
  if (!file) return "it cannot be opened";
  const char *problem = read_open(file, array);
  fclose(file);
  return problem;
}

const char *write_npy(const char *path, const Array *array) {
  char header[512];
  int used = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                      name_of(array->type));
  for (size_t d = 0; d < array->rank; d++)
    used += snprintf(header + used, sizeof header - (size_t)used, "%lld, ", (long long)array->dims[d]);
  used += snprintf(header + used, sizeof header - (size_t)used, "), }");
  /* The data begins at a multiple of 64. */
  int length = (10 + used + 1 + 63) / 64 * 64 - 10;
  unsigned char start[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)length,
                             (unsigned char)(length >> 8)};
  FILE *file = fopen(path, "wb");
  if (!file) return "it cannot be opened";
  int written = fwrite(start, 1, 10, file) == 10 &&
                fprintf(file, "%*s\n", -(length - 1), header) == length &&
                fwrite(array->data, 1, array->size, file) == array->size;
  return fclose(file) || !written ? "it cannot be written" : NULL;
}
