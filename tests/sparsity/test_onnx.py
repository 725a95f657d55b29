"""ONNX models become sparse: the same weights as of the same module, and nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import autoprune as ap
from autoprune.passes.sparsify.registry import parse_format
from tests.onnx.build import Builder
from tests.sparsity.networks import Convolutional
from tests.tolerance import ROUNDING_SINGLE


class Mixed(nn.Module):
    """A strided and dilated convolution, and linear layers that become Gemm and MatMul."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(8, 64, 3, stride=2, padding=(1, 0), dilation=(1, 2))
        self.tokens, self.head = nn.Linear(64, 64), nn.Linear(64, 128)

    def forward(self, x):
        x = torch.relu(self.conv(x)).flatten(2).transpose(1, 2)
        return self.head(torch.relu(self.tokens(x)).mean(1))


def exported(model, x, path):
    torch.onnx.export(model.eval(), (x,), dynamo=True, verbose=False).save(str(path))
    return path


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("format", ["block 8x1", "2:4", "auto int8"])
def test_the_same_weights_as_of_the_module(format, calibrated, tmp_path):
    model, x = Mixed(), torch.randn(4, 8, 13, 14, generator=torch.Generator().manual_seed(0))
    batches = [x, 2 * x] if calibrated else None
    expected = ap.sparsify(model, x, format=format, calibration=batches, ignore="tokens")
    path = exported(model, x, tmp_path / "dense.onnx")
    feeds = [batch.numpy() for batch in batches] if calibrated else None
    (tokens,) = (n.name for n in onnx.load(path).graph.node if n.op_type == "MatMul")
    result = ap.sparsify(path, format=format, calibration=feeds, ignore=tokens)
    for module, found in zip(expected.report.rows, result.report.rows, strict=True):
        assert (module.shape, module.format) == (found.shape, found.format)
        assert module.sparsity == pytest.approx(found.sparsity)
        if calibrated:
            assert module.error == pytest.approx(found.error, rel=1e-3)
    assert list(result.report.reasons.values()) == [f"ignore={tokens!r}"]
    run = onnxruntime.InferenceSession(result.save(tmp_path / "sparse.onnx"))
    (got,) = run.run(None, {run.get_inputs()[0].name: x.numpy()})
    wanted = expected.model(x).detach().numpy()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=ROUNDING_SINGLE)


def test_only_the_sparse_tensors_change(tmp_path):
    path = exported(Convolutional(), torch.randn(2, 3, 16, 16), tmp_path / "dense.onnx")
    before, result = onnx.load(path), ap.sparsify(path)
    assert {row.format for row in result.report.rows} == {"block 8x1", "block 32x1"}
    assert "as of an image" in str(result.report)
    again = onnx.ModelProto()
    again.CopyFrom(result.model)
    for old, new in zip(before.graph.initializer, again.graph.initializer, strict=True):
        if new.name in result.masks:
            dense, kept = numpy_helper.to_array(old), result.masks[new.name]
            assert np.array_equal(numpy_helper.to_array(new), np.where(kept, dense, 0))
            new.CopyFrom(old)
    assert again == before


def test_pruned_then_sparse_then_compiled(tmp_path):
    pytest.importorskip("tvm", reason="needs apache-tvm")
    b = Builder()
    x = b.node("Relu", b.linear("a", b.input("x", ("batch", 64)), 64, 256))
    model = b.model(b.linear("z", x, 256, 64))
    small = ap.prune(model, np.zeros((2, 64), np.float32), channels=0.5, multiple_of=32)
    result = ap.sparsify(small, sparsity=0.9)
    assert result.origin == small.plan.graph
    compiled = ap.compile(result, measure=False)
    sizes = [(layer.inputs, layer.outputs, layer.rows) for layer in compiled.layers]
    assert sizes == [(64, 128, 32), (128, 64, 32)]
    assert compiled.contents.provenance["plan"] == small.plan.graph


@pytest.mark.parametrize("constants", [False, True])
def test_which_weights_and_why_not(constants):
    b = Builder(constants=constants)
    x = b.input("x", (4, 32))
    own = b.node("Gemm", x, b.weight("own", 32, 64), transA=0)
    twice = b.weight("twice", 64, 64)
    x = b.node("MatMul", b.node("MatMul", own, twice), twice)
    read = b.weight("read", 64, 64)
    x = b.node("Add", b.node("MatMul", x, read), b.node("ReduceSum", read, keepdims=0))
    both = b.weight("both", 64, 64)
    x = b.node("MatMul", b.node("Gemm", x, both, transB=1), both)
    left = b.node("MatMul", b.weight("left", 8, 4), x)
    result = ap.sparsify(b.model(left), format="block 4x1", sparsity=0.5)
    assert {row.name for row in result.report.rows} == {"own", "twice"}
    assert result.report.reasons == {
        "read": "another operator reads it, too",
        "both": "operators multiply by it in different ways",
    }
    assert result.masks["own"].shape == (32, 64)
    format = parse_format("block 4x1")
    assert format.fits(result.masks["own"].T) is None


def test_weights_in_half_precision(tmp_path):
    b = Builder()
    x = b.node("Cast", b.input("x", (2, 32)), to=onnx.TensorProto.FLOAT16)
    weight = b.tensor("w", b.rng.standard_normal((32, 64)).astype(np.float16))
    model = b.model(b.node("Cast", b.node("MatMul", x, weight), to=onnx.TensorProto.FLOAT))
    x = np.random.default_rng(0).standard_normal((64, 2, 32)).astype(np.float32)
    result = ap.sparsify(model, format="block 8x1", calibration=list(x))
    (tensor,) = result.model.graph.initializer
    assert tensor.data_type == onnx.TensorProto.FLOAT16
    assert np.array_equal(numpy_helper.to_array(tensor) != 0, result.masks["w"])


def test_what_an_integer_model_says():
    b = Builder()
    x = b.input("x", (2, 8), onnx.TensorProto.INT32)
    weight = b.tensor("w", np.ones((8, 8), np.int32))
    model = b.model(b.node("MatMul", x, weight), dtype=onnx.TensorProto.INT32)
    with pytest.raises(ap.FormatError, match=r"no layer for the format 'auto' \(w: it is of int32"):
        ap.sparsify(model)


def network():
    b = Builder()
    return b.model(b.linear("a", b.input("x", (4, 32)), 32, 64))


BAD = [
    ({"rearrange": True}, ap.AutopruneError, "ap.to_torch"),
    ({"ignore": "b"}, ap.AutopruneError, "ignore='b' matches no"),
    ({"format": {"b": "2:4"}}, ap.AutopruneError, "format='b' matches no"),
    ({"format": "3x"}, ap.FormatError, "no sparse format"),
    ({"format": "block 8x1", "calibration": []}, ap.AutopruneError, "data is empty"),
    ({"format": "block 8x1", "calibration": [np.zeros((4, 3))]}, ap.TraceError, "wants"),
    ({"format": "2:4", "sparsity": 0.9}, ap.BudgetError, "says itself"),
    ({"format": "block 8x1", "sparsity": 1.5}, ap.BudgetError, "sparsity"),
    ({"format": "block 8x1", "criterion": "l3"}, ap.BudgetError, "no criterion 'l3'"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_bad_input(settings, error, message):
    model = network()
    before = model.SerializeToString()
    with pytest.raises(error, match=message):
        ap.sparsify(model, **settings)
    assert model.SerializeToString() == before


def test_weights_that_are_not_finite():
    model = network()
    values = numpy_helper.to_array(model.graph.initializer[0]).copy()
    values[2, 3] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "a.weight"))
    with pytest.raises(ap.GraphError, match=r"1 of 2048 weights(.|\n)*a\.weight"):
        ap.sparsify(model, format="block 8x1")
