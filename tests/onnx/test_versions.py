"""The same network in every opset, with weights as constants, and with open sizes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import autoprune as ap
from autoprune.frameworks.comparison import difference
from autoprune.frameworks.onnx.run import outputs
from autoprune.frameworks.onnx.trace import trace
from tests.onnx.build import LATEST, Builder
from tests.tolerance import CUT


def network(opset: int, *, constants: bool = False, batch: int | str = 2) -> onnx.ModelProto:
    """Arguments that moved from attributes to inputs: axes, splits, slices, pads and bounds."""
    b = Builder(opset, constants=constants)
    new = opset >= 13

    def moved(op: str, x: str, name: str, *numbers: int, since: int = 13, **more: int) -> str:
        if opset >= since:
            return str(b.node(op, x, b.ints(*numbers), **more))
        return str(b.node(op, x, **{name: numbers}, **more))

    x = b.convolution("a", b.input("x", (batch, 3, 8, 8)), 3, 8)
    x = (
        b.node("Clip", x, b.scalar(-3), b.scalar(3))
        if opset >= 11
        else b.node("Clip", x, min=-3.0, max=3.0)
    )
    if opset >= 10:
        x = b.node("Slice", x, b.ints(1), b.ints(8), b.ints(1), b.ints(1))
    else:
        x = b.node("Slice", x, starts=[1], ends=[8], axes=[1])
    if opset >= 11:
        x = b.node("Pad", x, b.ints(0, 0, 1, 0, 0, 0, 1, 0))
    else:
        x = b.node("Pad", x, pads=[0, 0, 1, 0, 0, 0, 1, 0])
    parts = (
        b.node("Split", x, b.ints(3, 4), axis=1, outputs=2)
        if new
        else b.node("Split", x, split=[3, 4], axis=1, outputs=2)
    )
    x = b.node("Concat", b.node("Relu", parts[1]), parts[0], axis=1)
    x = moved("ReduceSum", x, "axes", 3, keepdims=1)
    x = moved("Squeeze", x, "axes", 3)
    x = moved("Unsqueeze", x, "axes", 2)
    x = moved("ReduceMean", x, "axes", 2, 3, since=18, keepdims=0)
    y = b.linear("z", b.node("Softmax", b.node("Relu", b.linear("h", x, 7, 6)), axis=0), 6, 2)
    return b.model(y)


@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("opset", [9, 10, 11, 13, 17, 18, 21, LATEST])
def test_every_opset(opset, constants):
    result = ap.prune(network(opset, constants=constants), channels=0.5, multiple_of=1)
    rows = {row.name: (row.units, row.kept) for row in result.report.groups}
    assert rows == {"a.weight:0/0": (1, 1)} | rows
    assert sum(kept < units for units, kept in rows.values()) >= (3 if opset >= 13 else 2)
    assert result.report.error < CUT
    assert [o.version for o in result.model.opset_import] == [opset]


def test_open_sizes_stay_open():
    result = ap.prune(network(13, batch="batch"), channels=0.5, multiple_of=1)
    dims = result.model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, 8, 8]
    fixed = ap.apply_plan(network(13, batch=5), result.plan)
    x = {"x": np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)}
    assert difference(outputs(fixed, x), outputs(result.model, x)) < CUT


def merged(batch: int | str) -> onnx.ModelProto:
    """A target of a reshape in which an open size is multiplied with the number of heads."""
    b = Builder()
    x = b.linear("a", b.input("x", (batch, 4, 3)), 3, 6)
    split = b.node("Transpose", b.node("Reshape", x, b.ints(0, 4, 2, 3)), perm=[0, 2, 1, 3])
    rows = b.node("Gather", b.node("Shape", x), b.scalar(0, "int64"))
    rows = b.node("Unsqueeze", b.node("Mul", rows, b.scalar(2, "int64")), b.ints(0))
    folded = b.node("Reshape", split, b.node("Concat", rows, b.ints(4, 3), axis=0))
    back = b.node("Reshape", b.node("Relu", folded), b.ints(-1, 2, 4, 3))
    flat = b.node("Transpose", back, perm=[0, 2, 1, 3])
    return b.model(b.linear("z", b.node("Reshape", flat, b.ints(0, 4, 6)), 6, 2))


@pytest.mark.parametrize("batch", [2, "batch"])
def test_products_of_open_sizes(batch):
    result = ap.prune(merged(batch), channels=0.5, multiple_of=1)
    assert result.report.error < CUT
    assert [row.kept for row in result.report.groups] == [1, 2]
    if batch == "batch":
        plain = ap.apply_plan(merged(5), result.plan)
        x = {"x": np.random.default_rng(0).standard_normal((5, 4, 3)).astype(np.float32)}
        assert difference(outputs(plain, x), outputs(result.model, x)) < CUT


def test_data_dependent_arguments_pin():
    b = Builder()
    x = b.linear("a", b.input("x", (2, 4, 3)), 3, 6)
    count = b.node("Cast", b.node("ReduceSum", b.node("Relu", x), keepdims=0), to=7)
    shape = b.node("Concat", b.ints(2, 4), b.node("Add", b.node("Mul", b.node(
        "Unsqueeze", count, b.ints(0)), b.ints(0)), b.ints(6)), axis=0)  # fmt: skip
    report = ap.inspect(b.model(b.linear("z", b.node("Reshape", x, shape), 6, 2)))
    assert not report.groups
    assert not report.unknown_operators
    assert any("its `shape` depends on data" in row.reason for row in report.pinned)


def test_a_shared_constant_changes_for_one_reader_alone():
    b = Builder()
    shape = b.ints(2, 4, 6, name="shape")
    x = b.node("Reshape", b.linear("a", b.input("x", (2, 4, 3)), 3, 6), shape)
    y = b.node("Reshape", b.input("y", (2, 4, 6)), shape)
    result = ap.prune(
        b.model(b.linear("z", b.node("Relu", x), 6, 2), str(b.node("Neg", y))),
        channels=0.5, multiple_of=1,
    )  # fmt: skip
    assert result.report.error < CUT
    values = {t.name: onnx.numpy_helper.to_array(t) for t in result.model.graph.initializer}
    assert values["shape"].tolist() == [2, 4, 6]
    assert sorted(v.tolist() for n, v in values.items() if n.startswith("shape.")) == [[2, 4, 3]]


def test_numbers_and_nodes_have_names_of_their_own():
    model = network(13)
    traced = trace(model)
    assert len({n.name for n in traced.graph.nodes}) == len(traced.graph.nodes)
    assert helper.printable_graph(traced.model.graph) == helper.printable_graph(model.graph)
