"""Graphs that are unusual and valid: pruned, left whole, or refused by an error of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import autoprune as ap
from autoprune.errors import NotEqualError
from autoprune.frameworks.comparison import difference
from autoprune.frameworks.onnx.run import outputs
from autoprune.passes.pruning.given import given
from tests.onnx.build import Builder
from tests.tolerance import CUT

Shapes = dict[str, tuple[int | str, ...]]


def net(
    middle: Callable[[Builder, str], str] | None = None,
    *,
    width: int = 6,
    outputs: Shapes | None = None,
    opset: int = 18,
    batch: int | str = 4,
    ir: int = 10,
) -> onnx.ModelProto:
    """3 -> 6, something in the middle, width -> 2; more of its values may be outputs."""
    b = Builder(opset)
    p = b.node("MatMul", b.input("x", (batch, 3)), b.weight("a", 3, 6))
    q = middle(b, p) if middle else b.node("Relu", p)
    model = b.model(b.node("MatMul", q, b.weight("b", width, 2)))
    model.ir_version = ir
    for name, shape in (outputs or {}).items():
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return model


def one(op: str, *inputs: Any, **attributes: Any) -> Callable[[Builder, str], str]:
    """One operator on the hidden units and constants."""

    def build(b: Builder, x: str) -> str:
        names = [
            given if isinstance(given, str) else b.tensor(f"{op}.{i}", np.asarray(given))
            for i, given in enumerate(inputs)
        ]
        return str(b.node(op, x, *names, **attributes))

    return build


def graph(op: str, made: str, reads: Sequence[str]) -> onnx.GraphProto:
    """A branch of an If."""
    value = helper.make_tensor_value_info(made, TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node(op, reads, [made])], made, [], [value])


def branched(b: Builder, x: str) -> str:
    then, other = graph("Relu", "t", [x]), graph("Sigmoid", "e", [x])
    condition = b.tensor("condition", np.array(True))
    return str(b.node("If", condition, then_branch=then, else_branch=other))


def size_in_a_subgraph(b: Builder, x: str) -> str:
    """The branches read how many hidden units there are."""
    size = b.node("Cast", b.node("Size", x), to=1)
    then, other = graph("Identity", "t", [size]), graph("Neg", "e", [size])
    condition = b.tensor("condition", np.array(True))
    return str(b.node("Mul", x, b.node("If", condition, then_branch=then, else_branch=other)))


def sequence(b: Builder, x: str) -> str:
    both = b.node("SequenceConstruct", x, b.node("Relu", x))
    return str(b.node("SequenceAt", both, b.scalar(1, "int64")))


def weights_in_a_sequence(b: Builder, x: str) -> str:
    both = b.node("SequenceConstruct", b.weight("c", 6, 6), b.weight("d", 6, 6))
    return str(b.node("MatMul", x, b.node("SequenceAt", both, b.scalar(1, "int64"))))


def as_data(b: Builder, x: str) -> str:
    """Divided by the number of hidden units, which a cut must not change."""
    size = b.node("Gather", b.node("Shape", x), b.scalar(1, "int64"))
    return str(b.node("Div", x, b.node("Cast", size, to=1)))


def narrow(kind: int) -> Callable[[Builder, str], str]:
    """There and back to a dtype that numpy lacks."""
    return lambda b, x: str(b.node("Cast", b.node("Cast", x, to=kind), to=1))


def through_narrow_integers(b: Builder, x: str) -> str:
    scale, zero = b.scalar(0.3), b.tensor("zero", np.array(1, ml_dtypes.int4))
    integers = b.node("QuantizeLinear", x, scale, zero)
    return str(b.node("DequantizeLinear", integers, scale, zero))


def everything(b: Builder, x: str) -> str:
    """Negative axes throughout."""
    soft = b.node("Softmax", x, axis=-2)
    turned = b.node("Squeeze", b.node("Unsqueeze", soft, b.ints(-1)), b.ints(-1))
    row = b.node("ReduceMean", turned, b.ints(-2), keepdims=1)
    return str(b.node("Flatten", b.node("Concat", turned, row, axis=-2), axis=-1))


def with_size(op: str) -> onnx.ModelProto:
    """A size is an output, and another group may be cut."""
    b = Builder()
    p = b.node("Relu", b.node("MatMul", b.input("x", ("n", 3)), b.weight("a", 3, 6)))
    q = b.node("Relu", b.node("MatMul", p, b.weight("b", 6, 5)))
    size = b.node(op, p)
    model = b.model(b.node("MatMul", q, b.weight("c", 5, 2)), size)
    shape = (2,) if op == "Shape" else ()
    del model.graph.output[1]
    model.graph.output.append(helper.make_tensor_value_info(size, TensorProto.INT64, shape))
    return model


def repeated_output() -> onnx.ModelProto:
    model = net()
    model.graph.output.append(model.graph.output[0])
    return model


def initializers_as_inputs() -> onnx.ModelProto:
    model = net(opset=9, ir=3)
    for tensor in model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)
    return model


def renamed() -> onnx.ModelProto:
    """Names that are paths, sentences or keywords."""
    model = net()
    names = {"x": "in put/ü", "a": "7.~ ", "b": "class", model.graph.output[0].name: "out:0"}
    for node in model.graph.node:
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                field[i] = names.get(name, name)
        node.name = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = names[value.name]
    return model


def unused() -> onnx.ModelProto:
    """Inputs, tensors and nodes that nothing reads; shapes that are wrong."""
    model = net()
    for name, kind in (("u", TensorProto.FLOAT), ("s", TensorProto.STRING)):
        model.graph.input.append(helper.make_tensor_value_info(name, kind, ["k", 2]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((6, 6), np.float32), "dead"))
    model.graph.node.append(helper.make_node("Sigmoid", [model.graph.node[0].output[0]], ["gone"]))
    model.graph.value_info.append(helper.make_tensor_value_info("ghost", TensorProto.FLOAT, [7]))
    return model


def deep() -> onnx.ModelProto:
    def chain(b: Builder, x: str) -> str:
        for _ in range(500):
            x = b.node("Relu", x)
        return x

    return net(chain)


PRUNED = {
    "opsets": [net(one("LeakyRelu", alpha=0.2), opset=n) for n in (7, 8, 9, 11, 13, 15, 21, 24)],
    "IR versions": [net(opset=9, ir=n) for n in (4, 7, 12)] + [initializers_as_inputs()],
    "an output twice": [repeated_output()],
    "an input is an output": [net(outputs={"x": (4, 3)})],
    "names": [renamed()],
    "unused": [unused()],
    "open sizes": [net(batch="n"), net(as_data, batch="n"), net(as_data)],
    "absent inputs": [
        net(one("Clip", "", np.float32(0.9))), net(one("Clip", "", "")),
        net(one("Dropout", "", "")),
    ],
    "negative axes": [net(everything)],
    "empty parts": [
        net(lambda b, x: str(b.node("Concat", *b.node(
            "Split", x, b.ints(0, 6), axis=1, outputs=2), axis=1))),
        net(lambda b, x: str(b.node("Concat", x, b.node(
            "Slice", x, b.ints(3), b.ints(1), b.ints(1)), axis=1))),
    ],
    "reshapes": [
        net(lambda b, x: str(b.node("Reshape", b.node(
            "Reshape", x, b.ints(2, 2, 6), allowzero=1), b.ints(-1, 6)))),
        net(lambda b, x: str(b.node("Reshape", b.node(
            "Reshape", x, b.ints(0, 2, -1)), b.ints(0, -1)))),
    ],
    "dtypes": [
        net(narrow(TensorProto.BFLOAT16)),
        net(narrow(TensorProto.FLOAT8E4M3FN), opset=19),
        net(through_narrow_integers, opset=21),
    ],
    "a size is an output": [with_size("Shape"), with_size("Size")],
    "long": [deep()],
}  # fmt: skip

WHOLE = {
    "a weight is an output": net(outputs={"a": (3, 6)}),
    "hidden units are an output": net(lambda b, x: x, outputs={"MatMul1": (4, 6)}),
    "If": net(branched),
    "a size in a subgraph": net(size_in_a_subgraph),
    "a sequence": net(sequence),
    "weights in a sequence": net(weights_in_a_sequence),
    "no position": net(one("Gather", np.zeros((0,), np.int64), axis=1), width=0),
    "no position of two dimensions": net(lambda b, x: str(b.node("Add", x, b.node(
        "ReduceSum", b.node("Gather", x, b.tensor("none", np.zeros((0, 2), np.int64)), axis=1))))),
    "backwards": net(one("Slice", [-1], [-100], [1], [-1])),
}  # fmt: skip


@pytest.mark.parametrize("name", PRUNED)
def test_pruned(name):
    for model in PRUNED[name]:
        onnx.checker.check_model(model)
        result = ap.prune(model, channels=0.5, multiple_of=1, criterion="random")
        assert result.report.pruned
        onnx.checker.check_model(result.model)
        again = ap.apply_plan(model, result.plan)
        feed = result.feed(None)
        assert difference(outputs(result.model, feed), outputs(again, feed)) < CUT


@pytest.mark.parametrize("name", WHOLE)
def test_kept_whole(name):
    with pytest.raises(ap.BudgetError):
        ap.prune(WHOLE[name], channels=0.5, multiple_of=1)
    assert not ap.inspect(WHOLE[name]).unknown_operators


def test_a_sequence_of_weights_is_no_weight():
    model = net(weights_in_a_sequence)
    (both,) = (n.output[0] for n in model.graph.node if n.op_type == "SequenceConstruct")
    assert both not in given(model).trace().weights([both])


def test_the_standard_domain_by_its_name():
    """ONNX Runtime knows it; the checker does not."""
    model = net()
    for node in model.graph.node:
        node.domain = "ai.onnx"
    assert ap.prune(model, channels=0.5, multiple_of=1).report.pruned


def test_what_cannot_be_fed_is_named():
    model = net()
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None))
    model.graph.input.append(helper.make_value_info("many", kind))
    with pytest.raises(ap.TraceError, match=r"only tensors can be fed(.|\n)*input many"):
        ap.inspect(model)


def test_two_tensors_of_one_name():
    model = net()
    model.graph.initializer.append(model.graph.initializer[0])
    with pytest.raises(ap.TraceError, match=r"the same name(.|\n)*tensor a"):
        ap.inspect(model)


def test_types_that_torch_lacks_are_named():
    model = net()
    name = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Cast", [name], ["text"], to=TensorProto.STRING))
    model.graph.output.append(helper.make_tensor_value_info("text", TensorProto.STRING, None))
    assert ap.prune(model, channels=0.5, multiple_of=1).report.pruned
    with pytest.raises(ap.TraceError, match="torch has no numbers of the type object"):
        ap.to_torch(model)


@pytest.mark.parametrize("seed", [{}, {"seed": 1.0}])
def test_what_is_random_is_not_called_exact(seed):
    def noisy(b: Builder, p: str) -> str:
        return str(b.node("Add", b.node("Relu", p), b.node("RandomNormal", shape=[4, 1], **seed)))

    with pytest.raises(NotEqualError, match="draws random numbers") as raised:
        ap.prune(net(noisy), channels=0.5, multiple_of=1)
    assert "onnx.RandomNormal" in raised.value.where


def test_what_is_no_number_once_units_are_zero_is_not_called_exact():
    def root(b: Builder, p: str) -> str:
        inside = b.node("Sub", b.node("Abs", p), b.tensor("little", np.float32(1e-9)))
        return str(b.node("Sqrt", inside))

    with pytest.raises(NotEqualError, match="once the removed units are zero"):
        ap.prune(net(root), channels=0.5, multiple_of=1)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_inputs_that_hide_every_mistake_are_refused(number):
    with pytest.raises(ap.TraceError, match="no output is a finite number"):
        ap.prune(net(), np.full((4, 3), number, np.float32), channels=0.5, multiple_of=1)
