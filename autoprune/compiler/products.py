"""Products with constant weights in an ONNX graph, together with what follows them elementwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isclose, sqrt

import numpy as np
import onnx

from autoprune.compiler.onnx_graph import Array, Wiring, attributes, is_vector, wiring


@dataclass(frozen=True, eq=False)
class Product:
    """activation(W x + bias + added), as some nodes compute it.

    Attributes:
        nodes: the nodes, in order; the last one makes the output.
        rowwise: whether the inputs run along the last axis of x, rather than the second.
        x: name of the activations.
        weight: shape [outputs, inputs].
        bias: shape [outputs].
        added: name of a value of the output's shape that is added, if any.
        activation: name of what is applied last, or empty.
    """

    nodes: tuple[onnx.NodeProto, ...]
    rowwise: bool
    x: str
    weight: Array
    bias: Array
    added: str | None = None
    activation: str = ""

    @property
    def name(self) -> str:
        """Of the product's own node."""
        return str(self.nodes[0].name or self.nodes[0].output[0])

    @property
    def output(self) -> str:
        """Name of the result."""
        return str(self.nodes[-1].output[0])


def find_products(model: onnx.ModelProto) -> list[Product]:
    """All products with constant float32 weights: 1x1 convolutions and linear layers.

    Batch normalization should have been folded before, which ONNX Runtime does.
    """
    graph = wiring(model)
    return [
        _with_epilogue(product, graph)
        for node in model.graph.node
        if (product := _product(node, graph)) is not None
    ]


def _product(node: onnx.NodeProto, graph: Wiring) -> Product | None:
    """The product that a node alone computes, if it is one."""
    if node.op_type not in ("Conv", "MatMul", "Gemm") or node.domain not in ("", "ai.onnx"):
        return None
    weight = graph.constant(node.input[1])
    if weight is None or weight.dtype != np.float32:
        return None
    if node.op_type == "MatMul":
        if weight.ndim != 2 or len(graph.shapes.get(node.input[0], ())) < 2:
            return None
        bias = np.zeros(weight.shape[1], np.float32)
        return Product((node,), True, node.input[0], weight.T, bias)
    return (_pointwise if node.op_type == "Conv" else _gemm)(node, weight, graph)


def _bias(node: onnx.NodeProto, outputs: int, graph: Wiring) -> Array | None:
    """The third input of a node as one number for each output; None if it is something else."""
    if len(node.input) < 3 or not node.input[2]:
        return np.zeros(outputs, np.float32)
    found = graph.constant(node.input[2])
    return found.reshape(-1) if found is not None and is_vector(found, outputs) else None


def _pointwise(node: onnx.NodeProto, weight: Array, graph: Wiring) -> Product | None:
    settings = attributes(node)
    plain = (
        all(size == 1 for size in weight.shape[2:])
        and settings.get("group", 1) == 1
        and all(stride == 1 for stride in settings.get("strides", ()))
        and not any(settings.get("pads", ()))
        and settings.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    )
    bias = _bias(node, len(weight), graph)
    if not plain or bias is None:
        return None
    return Product((node,), False, node.input[0], weight.reshape(weight.shape[:2]), bias)


def _gemm(node: onnx.NodeProto, weight: Array, graph: Wiring) -> Product | None:
    settings = attributes(node)
    scaled = settings.get("alpha", 1.0) != 1 or settings.get("beta", 1.0) != 1
    if scaled or settings.get("transA", 0):
        return None
    weight = weight if settings.get("transB", 0) else weight.T
    bias = _bias(node, len(weight), graph)
    return None if bias is None else Product((node,), True, node.input[0], weight, bias)


def _with_epilogue(product: Product, graph: Wiring) -> Product:
    """The product with the additions and the activation that follow it alone."""
    while not product.activation:
        longer = next(
            (found for step in _STEPS if (found := step(product, graph)) is not None), None
        )
        if longer is None:
            return product
        product = longer
    return product


def _other(node: onnx.NodeProto, name: str) -> str:
    """The other input of a node with two."""
    return str(node.input[1] if node.input[0] == name else node.input[0])


def _add(product: Product, graph: Wiring) -> Product | None:
    node = graph.only_reader(product.output)
    if node is None or node.op_type != "Add" or node.input[0] == node.input[1]:
        return None
    other = _other(node, product.output)
    constant = graph.constant(other)
    nodes = (*product.nodes, node)
    if constant is not None:
        along_last = product.rowwise and constant.shape[-1:] == (len(product.bias),)
        if product.added or not along_last or not is_vector(constant, len(product.bias)):
            return None
        return replace(product, nodes=nodes, bias=product.bias + constant.reshape(-1))
    shape = graph.shapes.get(product.output)
    # A size that is not known may be one that is broadcast.
    same = shape is not None and None not in shape and graph.shapes.get(other) == shape
    if product.added or not same:
        return None
    return replace(product, nodes=nodes, added=other)


def _unary(product: Product, graph: Wiring) -> Product | None:
    node = graph.only_reader(product.output)
    if node is None:
        return None
    kind = {"Relu": "relu", "Gelu": "gelu"}.get(node.op_type, "")
    if node.op_type == "Gelu" and attributes(node).get("approximate", b"none") != b"none":
        return None
    if node.op_type == "Clip":
        settings = attributes(node)
        bounds = [graph.scalar(name) for name in node.input[1:]]
        bounds = bounds or [settings.get("min"), settings.get("max")]
        kind = "relu6" if bounds == [0.0, 6.0] else ""
    if not kind:
        return None
    return replace(product, nodes=(*product.nodes, node), activation=kind)


def _gated(product: Product, graph: Wiring) -> Product | None:
    """The product times its sigmoid, and times 1 + erf written out."""
    readers = [node for node in graph.readers.get(product.output, []) if node is not None]
    if len(readers) != 2 or len(graph.readers[product.output]) != 2:
        return None
    gate = next((n for n in readers if n.op_type in ("Sigmoid", "Div", "Mul")), None)
    rest = next((n for n in readers if n is not gate), None)
    if gate is None or rest is None or rest.op_type != "Mul":
        return None
    if gate.op_type == "Sigmoid" and _other(rest, product.output) == gate.output[0]:
        nodes = (*product.nodes, gate, rest)
        return replace(product, nodes=nodes, activation="silu")
    return _erf(product, gate, rest, graph)


def _erf(
    product: Product, gate: onnx.NodeProto, rest: onnx.NodeProto, graph: Wiring
) -> Product | None:
    """Gelu as exporters write it: x (1 + erf(x / sqrt 2)) / 2, in several orders."""
    scale = graph.scalar(_other(gate, product.output))
    factor = 0.0 if not scale else scale if gate.op_type == "Mul" else 1 / scale
    if not isclose(factor, sqrt(0.5), rel_tol=1e-5):
        return None
    chain = list(_chain(gate, graph, ("Erf", "Add", "Mul", "Mul")))
    if [n.op_type for n in chain] != ["Erf", "Add", "Mul", "Mul"]:
        return None
    erf, plus, first, second = chain
    factors = [name for node in (first, second) for name in node.input]
    halves = [s for name in factors if (s := graph.scalar(name)) is not None]
    one = graph.scalar(_other(plus, erf.output[0]))
    if one != 1 or halves != [0.5] or product.output not in factors or rest not in (first, second):
        return None
    return replace(product, nodes=(*product.nodes, gate, *chain), activation="gelu")


def _chain(node: onnx.NodeProto, graph: Wiring, kinds: tuple[str, ...]) -> Iterator[onnx.NodeProto]:
    """The nodes that follow one after the other."""
    for kind in kinds:
        follower = graph.only_reader(node.output[0])
        if follower is None or follower.op_type != kind:
            return
        yield follower
        node = follower


_STEPS = (_add, _unary, _gated)
