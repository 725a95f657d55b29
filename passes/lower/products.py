"""Products with constant weights in an ONNX graph, with what follows them elementwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isclose, sqrt
from typing import Any

import numpy as np
import onnx

from autoprune.passes.kernels.geometry import Geometry
from autoprune.passes.lower.onnx_graph import Array, Wiring, attributes, is_vector

POINT = Geometry()
"""One tap, as linear layers have."""


@dataclass(frozen=True, eq=False)
class Product:
    """activation(W x + bias + added), as some nodes compute it.

    Attributes:
        nodes: the nodes, in order; the last one makes the output.
        rowwise: whether the inputs run along the last axis of x, rather than the second.
        x: name of the activations.
        weight: shape [outputs, inputs * taps], or [channels, taps] if depthwise.
        bias: shape [outputs].
        added: name of a value of the output's shape that is added, if any.
        activation: name of what is applied last, or empty.
        geometry: of a convolution.
        depthwise: whether it is a convolution of every channel by itself.
        before: a node that only gives x another shape, which the product does not need.
        pool: windows of a max pooling that follows all of that, if any.
    """

    nodes: tuple[onnx.NodeProto, ...]
    rowwise: bool
    x: str
    weight: Array
    bias: Array
    added: str | None = None
    activation: str = ""
    geometry: Geometry = POINT
    depthwise: bool = False
    before: onnx.NodeProto | None = None
    pool: Geometry | None = None

    @property
    def name(self) -> str:
        """Of the product's own node."""
        return str(self.nodes[0].name or self.nodes[0].output[0])

    @property
    def output(self) -> str:
        """Name of the result."""
        return str(self.nodes[-1].output[0])


def find_products(model: onnx.ModelProto, graph: Wiring) -> list[Product]:
    """All products with constant float32 weights: linear layers and convolutions.

    Batch normalization should have been folded before, which ONNX Runtime does.

    Args:
        model: the model.
        graph: its wiring.
    """
    products, taken = [], set[int]()
    for node in model.graph.node:
        product = _product(node, graph)
        if product is not None:
            longer = _with_epilogue(product, graph, taken)
            taken |= {id(part) for part in longer.nodes}
            products.append(longer)
    return products


def with_pool(product: Product, graph: Wiring) -> Product | None:
    """A convolution with the max pooling that follows it alone, if there is one."""
    node = graph.only_reader(product.output)
    if node is None or node.op_type != "MaxPool" or product.rowwise or len(node.output) > 1:
        return None
    settings = attributes(node)
    pool = _geometry(tuple(settings["kernel_shape"]), settings)
    two = len(settings["kernel_shape"]) == 2
    if pool is None or not two or pool.dilation != (1, 1) or settings.get("ceil_mode", 0):
        return None
    return replace(product, nodes=(*product.nodes, node), pool=pool)


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
    return (_convolution if node.op_type == "Conv" else _gemm)(node, weight, graph)


def _bias(node: onnx.NodeProto, outputs: int, graph: Wiring) -> Array | None:
    """The third input of a node as one number for each output; None if it is something else."""
    if len(node.input) < 3 or not node.input[2]:
        return np.zeros(outputs, np.float32)
    found = graph.constant(node.input[2])
    return found.reshape(-1) if found is not None and is_vector(found, outputs) else None


def _convolution(node: onnx.NodeProto, weight: Array, graph: Wiring) -> Product | None:
    settings = attributes(node)
    groups, outputs = settings.get("group", 1), len(weight)
    geometry = _geometry(weight.shape[2:], settings)
    bias = _bias(node, outputs, graph)
    # Of other groups, and of depthwise convolutions in other dimensions, there are no kernels.
    depthwise = groups == outputs > 1 and weight.shape[1] == 1 and weight.ndim == 4
    if geometry is None or bias is None or not (groups == 1 or depthwise):
        return None
    return Product(
        (node,), False, node.input[0], weight.reshape(outputs, -1), bias,
        geometry=geometry, depthwise=depthwise,
    )  # fmt: skip


def _geometry(kernel: tuple[int, ...], settings: dict[str, Any]) -> Geometry | None:
    """Where the taps are; None if that depends on the input, or there are other dimensions."""
    if settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return None
    ndim = len(kernel)
    pads = settings.get("pads") or [0] * (2 * ndim)
    found = {
        "kernel": kernel,
        "stride": settings.get("strides") or (1,) * ndim,
        "dilation": settings.get("dilations") or (1,) * ndim,
        "begin": pads[:ndim],
        "end": pads[ndim:],
    }
    if ndim == 2 and min(pads) >= 0:
        return Geometry(**{name: (int(pair[0]), int(pair[1])) for name, pair in found.items()})
    plain = {*found["kernel"], *found["stride"]} == {1} and not any(pads)
    return Geometry() if plain else None


def _gemm(node: onnx.NodeProto, weight: Array, graph: Wiring) -> Product | None:
    settings = attributes(node)
    scaled = settings.get("alpha", 1.0) != 1 or settings.get("beta", 1.0) != 1
    if scaled or settings.get("transA", 0):
        return None
    weight = weight if settings.get("transB", 0) else weight.T
    bias = _bias(node, len(weight), graph)
    if bias is None:
        return None
    return _unflattened(Product((node,), True, node.input[0], weight, bias), graph)


def _unflattened(product: Product, graph: Wiring) -> Product:
    """The product without the reshapes by which exporters make a matrix of more dimensions."""
    before, after = graph.producers.get(product.x), graph.only_reader(product.output)
    if before is None or after is None or {before.op_type, after.op_type} != {"Reshape"}:
        return product
    given, made = graph.shapes.get(before.input[0], ()), graph.shapes.get(after.output[0], ())
    outputs, inputs = product.weight.shape
    known = None not in given and given[-1:] == (inputs,) and made == (*given[:-1], outputs)
    if not known or after.input[0] != product.output:
        return product
    nodes = (*product.nodes, after)
    return replace(product, nodes=nodes, x=before.input[0], before=before)


def _with_epilogue(product: Product, graph: Wiring, taken: set[int]) -> Product:
    """The product with the additions and the activation that follow it alone.

    Args:
        product: so far.
        graph: the wiring.
        taken: nodes of other products: of two that are added up, the first adds the second.
    """
    while not product.activation:
        longer = next(
            (found for step in _STEPS if (found := step(product, graph)) is not None), None
        )
        if longer is None or taken.intersection(map(id, longer.nodes)):
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
    if product.added or product.depthwise or not same:
        return None
    return replace(product, nodes=nodes, added=other)


def _unary(product: Product, graph: Wiring) -> Product | None:
    node = graph.only_reader(product.output)
    if node is None:
        return None
    kind = {"Relu": "relu", "Gelu": "gelu", "HardSwish": "hardswish"}.get(node.op_type, "")
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
    """The product times its sigmoid, hard or soft, and times 1 + erf written out."""
    readers = [node for node in graph.readers.get(product.output, []) if node is not None]
    if len(readers) != 2 or len(graph.readers[product.output]) != 2:
        return None
    kinds = ("Sigmoid", "HardSigmoid", "Div", "Mul")
    gate = next((n for n in readers if n.op_type in kinds), None)
    rest = next((n for n in readers if n is not gate), None)
    if gate is None or rest is None or rest.op_type != "Mul":
        return None
    if gate.op_type in ("Sigmoid", "HardSigmoid"):
        if _other(rest, product.output) != gate.output[0]:
            return None
        settings = attributes(gate)
        slope = settings.get("alpha", 0.2), settings.get("beta", 0.5)
        hard = gate.op_type == "HardSigmoid"
        if len(graph.readers[gate.output[0]]) != 1 or (
            hard and not np.allclose(slope, (1 / 6, 0.5))
        ):
            return None
        nodes = (*product.nodes, gate, rest)
        return replace(product, nodes=nodes, activation="hardswish" if hard else "silu")
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
