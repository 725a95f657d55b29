"""Layers of which some outputs are nothing but their bias, by an operator in C."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprune.passes.kernels.kernel import Candidate, Code, Kernel
from autoprune.passes.kernels.registry import define
from autoprune.passes.sparsify.registry import parse_format

C = """
#include "operators.h"

OrtStatus *run_outputs(const Inputs *given) {
  const float *x = given->data[X], *values = given->data[VALUES], *bias = given->data[BIAS];
  const int32_t *index = given->data[INDEX];
  int64_t inputs = given->dims[given->rank - 1], outputs = given->size[BIAS], dims[RANK];
  float *y;
  for (size_t d = 0; d < given->rank; d++) dims[d] = given->dims[d];
  dims[given->rank - 1] = outputs;
  OrtStatus *status = output(given, dims, given->rank, (void **)&y);
  for (int64_t m = 0; !status && m < given->size[X] / inputs; m++) {
    for (int64_t o = 0; o < outputs; o++) y[m * outputs + o] = bias[o];
    for (int64_t r = 0; r < given->size[INDEX]; r++)
      for (int64_t k = 0; k < inputs; k++)
        y[m * outputs + index[r]] += values[r * inputs + k] * x[m * inputs + k];
  }
  return status;
}
"""


@define
@dataclass(frozen=True)
class Outputs(Kernel):
    """Some outputs of a linear layer; the others are their bias."""

    name = "outputs"
    operator = "SparseOutputs"
    code = Code("run_outputs", ("X", "VALUES", "INDEX", "BIAS"), C)
    rowwise = True
    rows = 1

    @classmethod
    def matches(cls, product, positions=None):
        if product.rowwise and not product.added and not product.activation:
            stored = float((product.weight != 0).any(1).mean())
            # Denser products than in blocks.
            yield Candidate(cls(), stored, stored / 2)

    def encode(self, product, steps):
        mask = np.repeat((product.weight != 0).any(1)[:, None], product.weight.shape[1], 1)
        arrays = parse_format("outputs").encode(product.weight, mask).arrays
        return {**arrays, "bias": product.bias.astype(np.float32)}
