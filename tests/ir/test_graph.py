"""Graph: its invariants, and what its digest tells apart."""

from dataclasses import replace

import pytest

from autoprune.errors import GraphError
from autoprune.ir.graph import Graph, Node, Parameter, Value, format_argument, values_in, verify
from autoprune.ir.text import parse_graph


def value(name: str, *shape: int, dtype: str = "float32") -> Value:
    return Value(name, shape, dtype)


def parameter(name: str, *shape: int, kind="parameter") -> Parameter:
    return Parameter(value(name, *shape), (name,), kind)


TEXT = """\
graph(%x: float32[2,3,8,8]) {
  %conv.weight: float32[8,3,3,3] = parameter
  %bn.running_mean: float32[8] = buffer
  %sym_size: int[](8) = aten.sym_size.int(input=%x, dim=2)
  %crop: float32[2,3,8,8] = aten.slice.Tensor(input=%x, dim=2, end=%sym_size)
  %conv2d: float32[2,8,6,6] = aten.conv2d.default(input=%crop, weight=%conv.weight, \
bias=None, stride=[1, 1], groups=1) in conv at "net.py:3 return self.conv(x)"
  %batch_norm: float32[2,8,6,6] = aten.batch_norm.default(input=%conv2d, \
running_mean=%bn.running_mean, training=False, eps=1e-05)
  %chunk_0: float32[2,4,6,6], %chunk_1: float32[2,4,6,6] = aten.chunk.default(\
input=%batch_norm, chunks=2) as chunk
  %cat: float32[2,8,6,6] = aten.cat.default(tensors=[%chunk_1, %chunk_0], dim=1)
  _ = aten._assert.default(value=%cat, how="same") as check
  mutated %bn.running_mean
  return %cat
}"""
"""A convolution with batch norm, its input cropped to a size computed in the graph."""


def network(batch: int = 2, image: int = 8) -> Graph:
    text = TEXT.replace("[2,", f"[{batch},").replace("8,8]", f"{image},{image}]")
    text = text.replace("](8)", f"]({image})").replace("6,6]", f"{image - 2},{image - 2}]")
    return parse_graph(text)


NETWORK = network()


def with_node(index: int, **changes) -> Graph:
    nodes = list(NETWORK.nodes)
    nodes[index] = replace(nodes[index], **changes)
    return replace(NETWORK, nodes=tuple(nodes))


def with_arguments(index: int, **changes) -> Graph:
    return with_node(index, arguments={**NETWORK.nodes[index].arguments, **changes})


# Arguments.


def test_nested_arguments():
    x, y = value("x", 1), value("y", 1)
    argument = (x, None, (2, (y, "same")), 1.5)
    assert list(values_in(argument)) == [x, y]
    assert format_argument(argument) == '[%x, None, [2, [%y, "same"]], 1.5]'
    assert Node("n", "op", {"a": argument, "b": 3, "c": x}, ()).inputs == (x, y, x)


def test_parameter_of():
    assert NETWORK.parameter_of == {p.value.name: p for p in NETWORK.parameters}


# Invariants.


def test_a_sound_graph_passes():
    verify(NETWORK)
    verify(Graph((), (), (), ()))
    verify(replace(NETWORK, outputs=(*NETWORK.outputs, *NETWORK.inputs, *NETWORK.outputs)))


X, CONV = NETWORK.inputs[0], NETWORK.nodes[2].outputs[0]
WEIGHT, MEAN = NETWORK.parameters

BROKEN = {
    "input named twice": (
        replace(NETWORK, inputs=(X, X)),
        "value %x is defined twice",
        "graph inputs",
    ),
    "input and parameter of one name": (
        replace(NETWORK, parameters=(*NETWORK.parameters, parameter("x", 3))),
        "value %x is defined twice",
        "graph parameters",
    ),
    "node defines an input": (
        with_node(6, outputs=(X,)),
        "value %x is defined twice",
        "aten._assert.default",
    ),
    "two outputs of one name": (
        with_node(4, outputs=NETWORK.nodes[4].outputs[:1] * 2),
        "value %chunk_0 is defined twice",
        "aten.chunk.default",
    ),
    "negative size": (
        replace(NETWORK, inputs=(*NETWORK.inputs, value("y", 2, -1))),
        "value %y has shape (2, -1)",
        "graph inputs",
    ),
    "size that is no integer": (
        with_node(6, outputs=(Value("y", (2.0,), "float32"),)),
        "value %y has shape (2.0,)",
        "aten._assert.default",
    ),
    "parameter without a name": (
        replace(NETWORK, parameters=(replace(WEIGHT, names=()), MEAN)),
        "parameter %conv.weight is not listed under its own name",
        "graph parameters",
    ),
    "parameter under another name first": (
        replace(NETWORK, parameters=(replace(WEIGHT, names=("w", "conv.weight")), MEAN)),
        "parameter %conv.weight is not listed under its own name",
        "graph parameters",
    ),
    "two nodes of one name": (
        with_node(5, name="chunk"),
        "two nodes are called chunk",
        "aten.cat.default",
    ),
    "value never defined": (
        with_arguments(2, bias=value("bias", 8)),
        "%bias is used before it is defined",
        "aten.conv2d.default",
    ),
    "value of a nested argument never defined": (
        with_arguments(5, tensors=(CONV, (value("gone", 1),))),
        "%gone is used before it is defined",
        "aten.cat.default",
    ),
    "nodes out of order": (
        replace(NETWORK, nodes=NETWORK.nodes[::-1]),
        "%cat is used before it is defined",
        "aten._assert.default",
    ),
    "value used with another shape": (
        with_arguments(3, input=replace(CONV, shape=(2, 7, 6, 6))),
        "%conv2d is used before it is defined",
        "aten.batch_norm.default",
    ),
    "output never defined": (
        replace(NETWORK, outputs=(value("gone", 1),)),
        "output %gone is not defined",
        "graph outputs",
    ),
    "output of another dtype": (
        replace(NETWORK, outputs=(replace(CONV, dtype="int64"),)),
        "output %conv2d is not defined",
        "graph outputs",
    ),
    "mutated value never defined": (
        replace(NETWORK, mutated=(value("gone", 1),)),
        "%gone is written to but is no parameter",
        "graph",
    ),
}


@pytest.mark.parametrize(("graph", "what", "where"), BROKEN.values(), ids=BROKEN)
def test_a_broken_graph_is_refused(graph, what, where):
    with pytest.raises(GraphError) as caught:
        verify(graph)
    assert caught.value.what == what
    assert where in caught.value.where


# Digest.


def test_digest_is_stable():
    assert network().digest == NETWORK.digest
    assert len(NETWORK.digest) == 64
    assert int(NETWORK.digest, 16) >= 0


@pytest.mark.parametrize("sizes", [(1, 8), (16, 8), (2, 32)])
def test_digest_ignores_the_size_of_the_inputs(sizes):
    assert network(*sizes).digest == NETWORK.digest


def test_digest_ignores_where_the_code_was():
    assert with_node(2, module=("other",), source="other.py:1").digest == NETWORK.digest


DIFFERENT = {
    "operator": with_node(3, op="aten.instance_norm.default"),
    "input of a node": with_arguments(2, input=X),
    "order of inputs": with_arguments(5, tensors=NETWORK.nodes[4].outputs),
    "one node less": replace(NETWORK, nodes=NETWORK.nodes[:-1]),
    "order of nodes": replace(NETWORK, nodes=(*NETWORK.nodes[:-2], *NETWORK.nodes[:-3:-1])),
    "output": replace(NETWORK, outputs=(CONV,)),
    "parameter shape": replace(
        NETWORK, parameters=(replace(WEIGHT, value=value("conv.weight", 9, 3, 3, 3)), MEAN)
    ),
    "parameter dtype": replace(
        NETWORK,
        parameters=(replace(WEIGHT, value=replace(WEIGHT.value, dtype="float16")), MEAN),
    ),
    "tied names": replace(
        NETWORK, parameters=(replace(WEIGHT, names=("conv.weight", "tied")), MEAN)
    ),
}


@pytest.mark.parametrize("graph", DIFFERENT.values(), ids=DIFFERENT)
def test_digest_tells_architectures_apart(graph):
    assert graph.digest != NETWORK.digest


def clamp(**bound: Value) -> Graph:
    x, y = value("x", 4), value("y", 4)
    out = value("clamp", 4)
    node = Node("clamp", "aten.clamp.Tensor", {"input": x, **bound}, (out,))
    return Graph((x, y), (), (node,), (out,))


def difference(*outputs: Value) -> Graph:
    """`a - b`, where sin defines the first of `outputs` and cos the second."""
    x, a, b, out = (value(name, 4) for name in ("x", "a", "b", "out"))
    nodes = (
        Node("n0", "aten.sin.default", {"input": x}, outputs[:1]),
        Node("n1", "aten.cos.default", {"input": x}, outputs[1:]),
        Node("n2", "aten.sub.Tensor", {"input": a, "other": b}, (out,)),
    )
    return Graph((x,), (), nodes, (out,))


A, B, Y = value("a", 4), value("b", 4), value("y", 4)
SUBTLE = {
    "name of an argument": (clamp(min=Y), clamp(max=Y)),
    "place in a nested argument": (
        with_arguments(5, tensors=(None, CONV)),
        with_arguments(5, tensors=(CONV, None)),
    ),
    "which node defines a value": (difference(A, B), difference(B, A)),
    "order of the graph's inputs": (clamp(min=Y), replace(clamp(min=Y), inputs=(Y, X))),
}


@pytest.mark.parametrize(("one", "other"), SUBTLE.values(), ids=SUBTLE)
def test_digest_tells_wirings_apart(one, other):
    assert one.digest != other.digest
