"""A sparse format with a kernel of its own, as anybody would add one: a file for each.

The two files are below; nothing else knows of them. The format keeps whole outputs of a layer, the
kernel stores their numbers and their weights, and its operator is written in C.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import onnx
import torch
from torch import nn

import autoprune as ap
from autoprune.passes.kernels.registry import define, kernels
from autoprune.passes.lower.relax import compile_relax
from autoprune.passes.sparsify.registry import FAMILIES, parse_format
from autoprune.runtime import Session
from autoprune.testing import check_format
from tests.kernels.test_operators import host
from tests.tolerance import ROUNDING_SINGLE

FORMAT = '''
from dataclasses import dataclass

import numpy as np

from autoprune.passes.sparsify.layout import Encoded, as_index, require_fit
from autoprune.passes.sparsify.registry import FAMILIES, Family
from autoprune.passes.sparsify.tiles import highest


@dataclass(frozen=True)
class Outputs:
    """Whole outputs."""

    tile = (1, 1)

    def __str__(self):
        return "outputs"

    def fits(self, mask):
        torn = np.flatnonzero(mask.any(1) != mask.all(1))
        return f"output {torn[0]} is kept in part" if len(torn) else None

    def encode(self, weight, mask):
        require_fit(self, weight, mask)
        kept = np.flatnonzero(mask.any(1))
        return Encoded(self, weight.shape, {"values": weight[kept], "index": as_index(kept)})

    def decode(self, encoded):
        values, index = encoded.arrays.values()
        dense = np.zeros(encoded.shape, values.dtype)
        dense[index] = values
        return dense

    def levels(self, shape):
        return shape[0]

    def gains(self, scores):
        return -np.sort(-scores.sum(1))

    def choose(self, scores, keep=None):
        return np.repeat(highest(scores.sum(1), keep)[:, None], scores.shape[1], 1)


FAMILIES.add("outputs", Family("outputs", "outputs", Outputs))
'''

KERNEL = '''
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
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The two files, imported and, at the end, forgotten."""
    folder = tmp_path / "scratch_format"
    folder.mkdir()
    for name, text in {"__init__": "", "pattern": FORMAT, "kernel": KERNEL}.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    made = [import_module(f"scratch_format.{name}") for name in ("pattern", "kernel")]
    yield made
    FAMILIES.forget("outputs")
    kernels().forget("outputs")
    for name in ("scratch_format", "scratch_format.pattern", "scratch_format.kernel"):
        del sys.modules[name]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 96), nn.Tanh(), nn.Linear(96, 64)).eval()


def test_from_pruning_to_running(package, tmp_path):
    host()
    check_format(parse_format("outputs"))
    x = torch.randn(5, 64)
    sparse = ap.sparsify(network(), x, format="outputs", sparsity=0.75)
    compiled = ap.compile(sparse.model, x, measure=False)
    assert [layer.stored for layer in compiled.layers] == [0.25, 0.25]
    assert b"SparseOutputs" in compiled.contents.model
    session = Session(tmp_path / "a.apz", digest=compiled.save(tmp_path / "a.apz"))
    session.verify()
    assert session.backend.startswith("native")
    (got,) = session.run({session.inputs[0].name: x.numpy()}).values()
    expected = sparse.model(x).detach().numpy()
    assert np.count_nonzero(expected[0] - sparse.model[2].bias.detach().numpy()) == 16
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE)
    compiled.save_source(tmp_path / "source")
    command = ["gcc", "-std=c11", "-Wall", "-Werror", "-fsyntax-only"]
    files = sorted((tmp_path / "source").glob("*.c"))
    assert "run_outputs.c" in [path.name for path in files]
    subprocess.run([*command, *files], check=True)
    # TVM alone has no use for an operator of ONNX Runtime.
    alone = compile_relax(onnx.load_from_string(compiled.contents.dense), {"kind": "llvm"})
    assert alone.sparse == 0


def test_names_are_taken_once_and_forgotten(package):
    _, kernel = package
    assert kernels().find("outputs") is kernel.Outputs
    with pytest.raises(ap.TargetError, match=r"a kernel 'outputs' already(.|\n)*rowwise"):
        define(kernel.Outputs)
    kernels().forget("outputs")
    with pytest.raises(ap.TargetError, match=r"no kernel 'outputs'(.|\n)*rowwise"):
        kernels().find("outputs")
    define(kernel.Outputs)
