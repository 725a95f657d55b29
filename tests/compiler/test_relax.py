"""Networks compiled whole by TVM compute what ONNX Runtime computes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import onnx
import torch
import tvm
from onnx import TensorProto, helper
from torch import nn
from tvm import relax

import autoprune as ap
from autoprune.passes.lower.relax import compile_relax
from tests.compiler.test_compile import sparse_network
from tests.compiler.test_lowering import exported, session
from tests.tolerance import ROUNDING_SINGLE

GENERIC = {"kind": "llvm", "mcpu": "x86-64-v3"}


def calls(network):
    """Names of the sparse kernels that a network calls."""
    names = [variable.name_hint for variable in network.module.functions]
    return sorted(name for name in names if name.startswith(("rowwise_", "spatial_")))


def check(network, model, x):
    (expected,) = session(model).run(None, {network.inputs[0]: x})
    (got,) = network.run({network.inputs[0]: x}).values()
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE * scale)


@pytest.mark.parametrize(
    ("name", "dynamic", "sparse"),
    [
        ("inverted", False, 5), ("inverted", True, 1), ("residual", False, 0),
        ("encoder", False, 5), ("encoder", True, 5),
    ],
)  # fmt: skip
def test_a_network_computes_the_same(name, dynamic, sparse, tmp_path, monkeypatch):
    """Convolutions with taps, and all those of a varying batch, stay dense."""
    monkeypatch.setattr("autoprune.passes.lower.relax.SMALLEST", 64)
    model, x = exported(name, tmp_path, dynamic=dynamic)
    network = compile_relax(model, GENERIC)
    assert network.sparse == sparse
    assert bool(calls(network)) == bool(sparse)
    for batch in (2, 1, 5) if dynamic else (2,):
        check(network, model, np.repeat(x[:1], batch, 0) * np.float32(1.3))


class Conv(nn.Module):
    """A 1x1 convolution and a linear layer, one output of a block apart from a block size."""

    def __init__(self, outputs):
        super().__init__()
        self.conv, self.head = nn.Conv2d(24, outputs, 1), nn.Linear(outputs, 16, bias=False)
        for layer in (self.conv, self.head):
            blocks = torch.rand(-(-len(layer.weight) // 4), layer.weight.shape[1]) < 0.4
            mask = blocks.repeat_interleave(4, 0)[: len(layer.weight)].float()
            layer.weight.data.mul_(mask.reshape(*mask.shape, *layer.weight.shape[2:]))

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 14])
@pytest.mark.parametrize(("outputs", "sparse"), [(32, True), (33, False)])
def test_every_tile(batch, size, outputs, sparse, tmp_path, monkeypatch):
    monkeypatch.setattr("autoprune.passes.lower.relax.SMALLEST", 64)
    torch.manual_seed(0)
    x = torch.randn(batch, 24, size, size)
    program = torch.onnx.export(Conv(outputs).eval(), (x,), dynamo=True, verbose=False)
    session(program.model_proto, optimized=tmp_path / "basic.onnx")
    model = onnx.load(tmp_path / "basic.onnx")
    network = compile_relax(model, GENERIC)
    assert any(name.startswith("spatial_") for name in calls(network)) == sparse
    check(network, model, x.numpy())


@pytest.fixture(scope="module")
def compiled():
    return ap.compile(sparse_network(), torch.randn(4, 64), target="x86-64-v3", measure=False)


def test_what_was_compiled(compiled):
    network = compiled.relax()
    assert network.sparse == 2
    ((feed, expected),) = compiled.contents.examples
    for name, got in network.run(feed).items():
        np.testing.assert_allclose(got, expected[name], rtol=0, atol=ROUNDING_SINGLE)


class Words(nn.Module):
    """Two outputs, of integers."""

    def __init__(self):
        super().__init__()
        self.table, self.up = nn.Embedding(20, 32), nn.Linear(32, 64)
        self.up.weight.data.mul_((torch.rand(4, 32) < 0.3).repeat_interleave(16, 0).float())

    def forward(self, words):
        x = self.up(self.table(words))
        return x.sum(1), torch.tanh(x)


def test_several_outputs_of_integers(monkeypatch):
    monkeypatch.setattr("autoprune.passes.lower.relax.SMALLEST", 64)
    torch.manual_seed(0)
    compiled = ap.compile(Words().eval(), torch.randint(20, (3, 5)), measure=False)
    ((feed, expected),) = compiled.contents.examples
    got = compiled.relax(GENERIC).run(feed)
    assert list(got) == list(expected)
    for name, wanted in expected.items():
        np.testing.assert_allclose(got[name], wanted, rtol=0, atol=ROUNDING_SINGLE)


def test_as_a_library(compiled, tmp_path):
    network = compiled.relax(GENERIC)
    network.save(tmp_path / "network.so")
    loaded = tvm.runtime.load_module(str(tmp_path / "network.so"))
    ((feed, expected),) = compiled.contents.examples
    tensors = [tvm.runtime.tensor(feed[name]) for name in network.inputs]
    got = relax.VirtualMachine(loaded, tvm.cpu())["main"](*tensors)
    (wanted,) = expected.values()
    np.testing.assert_allclose(got.numpy(), wanted, rtol=0, atol=ROUNDING_SINGLE)


def test_what_is_refused(compiled):
    with pytest.raises(ap.TargetError, match="the inputs are x, and y given"):
        compile_relax(product("Relu"), GENERIC).run({"y": np.zeros(3, np.float32)})
    with pytest.raises(ap.TargetError, match="TVM does not take this network"):
        compile_relax(product("Det"), GENERIC)
    with pytest.raises(ap.TargetError, match="TVM does not take this network"):
        compiled.relax({"kind": "abacus"})
    with pytest.raises(ap.TargetError, match=r"call \.relax\(\)"):
        ap.compile(sparse_network(), torch.randn(4, 64), target="relax")


def product(operator):
    """A model of one operator."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3, 3]) for n in "xz"]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["z"])], "g", *([v] for v in values)
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
