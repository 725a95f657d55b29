"""The recipes of CONTRIBUTING.md for what compiles: a sparse format with its kernel, a target."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import onnx
import torch
from torch import nn

import autoprune as ap
from autoprune.passes.kernels.registry import define, kernels
from autoprune.passes.kernels.target import TARGETS
from autoprune.passes.lower.relax import compile_relax
from autoprune.passes.sparsify.registry import FAMILIES, parse_format
from autoprune.runtime import Session
from autoprune.testing import check_format
from tests.kernels.test_operators import host
from tests.tolerance import ROUNDING_SINGLE


@pytest.fixture
def outputs(lay):
    """The two files in place."""
    assert lay("format/formats", "autoprune.passes.sparsify.formats", FAMILIES) == {"outputs"}
    assert lay("format/cpu", "autoprune.passes.kernels.cpu", kernels()) == {"outputs"}
    return kernels().find("outputs")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 96), nn.Tanh(), nn.Linear(96, 64)).eval()


def test_a_format_with_a_kernel_from_pruning_to_running(outputs, tmp_path):
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


def test_names_are_taken_once_and_forgotten(outputs):
    with pytest.raises(ap.TargetError, match=r"a kernel 'outputs' already(.|\n)*rowwise"):
        define(outputs)
    kernels().forget("outputs")
    with pytest.raises(ap.TargetError, match=r"no kernel 'outputs'(.|\n)*rowwise"):
        kernels().find("outputs")
    define(outputs)


def test_a_target(run_file, tmp_path):
    host()
    assert run_file("target/sse.py", TARGETS) == {"x86-64-v2"}
    x = torch.randn(40, 64)
    sparse = ap.sparsify(network()[:1], x, format="block 8x1", sparsity=0.75)
    compiled = ap.compile(sparse, target="x86-64-v2", measure=False)
    assert [library.label for library in compiled.contents.libraries] == ["x86-64-v2"]
    session = Session(tmp_path / "a.apz", digest=compiled.save(tmp_path / "a.apz"))
    assert session.backend == "native x86-64-v2"
    (got,) = session.run({session.inputs[0].name: x.numpy()}).values()
    expected = sparse.model(x).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE)
    compiled.save_source(tmp_path / "source")
