"""Products with constant weights in an ONNX graph, with what follows them elementwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import isclose, sqrt
from typing import Any

import numpy as np
import onnx

from autoprune.analysis import products as analysis
from autoprune.analysis.products import products_of
from autoprune.analysis.typing import infer
from autoprune.frameworks.onnx.sessions import Feed
from autoprune.frameworks.onnx.trace import trace
from autoprune.passes.kernels.geometry import POINT, Geometry
from autoprune.passes.kernels.kernel import Product
from autoprune.passes.lower.onnx_graph import Array, Wiring, attributes, is_vector


@dataclass(frozen=True, eq=False)
class OnnxProduct(Product):
    """A product as some nodes compute it.

    Attributes:
        nodes: the nodes, in order; the last one makes the output.
        before: a node that only gives x another shape, which the product does not need.
        pool: windows of a max pooling that follows all of that, if any.
    """

    nodes: tuple[onnx.NodeProto, ...] = field(kw_only=True)
    before: onnx.NodeProto | None = None
    pool: Geometry | None = None

    @property
    def name(self) -> str:
        """Of the product's own node."""
        return str(self.nodes[0].name or self.nodes[0].output[0])

    def followed_by(self, *nodes: onnx.NodeProto, **changes: Any) -> OnnxProduct:
        """The product with nodes after it, the last of which makes the output."""
        made = str(nodes[-1].output[0])
        return replace(self, nodes=(*self.nodes, *nodes), output=made, **changes)


def find_products(
    model: onnx.ModelProto, graph: Wiring, feed: Feed | None = None
) -> list[OnnxProduct]:
    """All products with constant float32 weights that kernels may exist for.

    Batch normalization should have been folded before, which ONNX Runtime does.

    Args:
        model: the model.
        graph: its wiring.
        feed: inputs that it runs on; None to make some up.
    """
    traced = trace(model, feed)
    products, taken = [], set[int]()
    for found in products_of(infer(traced.graph)):
        product = _product(model.graph.node[traced.positions[found.node.name]], found, graph)
        if product is not None:
            longer = _with_epilogue(_unflattened(product, graph), graph, taken)
            taken |= {id(part) for part in longer.nodes}
            products.append(longer)
    return products


def with_pool(product: OnnxProduct, graph: Wiring) -> OnnxProduct | None:
    """A convolution with the max pooling that follows it alone, if there is one."""
    node = graph.only_reader(product.output)
    if node is None or node.op_type != "MaxPool" or product.rowwise or len(node.output) > 1:
        return None
    pool = _pool(attributes(node))
    return None if pool is None else product.followed_by(node, pool=pool)


def _pool(settings: dict[str, Any]) -> Geometry | None:
    """The windows of a max pooling, in two dimensions and with padding that is the same for all."""
    kernel = settings["kernel_shape"]
    pads = settings.get("pads") or [0] * 4
    automatic = settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    dilated = {*(settings.get("dilations") or ())} - {1}
    if len(kernel) != 2 or automatic or dilated or settings.get("ceil_mode", 0) or min(pads) < 0:
        return None
    found = (kernel, settings.get("strides") or (1, 1), (1, 1), pads[:2], pads[2:])
    return Geometry(*((int(h), int(w)) for h, w in found))


def _product(node: onnx.NodeProto, found: analysis.Product, graph: Wiring) -> OnnxProduct | None:
    """The product that a node alone computes, if there are kernels of its kind.

    There are none of other groups than depthwise ones, nor of scaled products.
    """
    contraction, layout = found.contraction, found.layout
    weight = graph.constant(found.weight.name)
    plain = found.exact and contraction.scale == contraction.added_scale == 1
    if weight is None or weight.dtype != np.float32 or not plain or contraction.index:
        return None
    groups, outputs, _ = found.shape
    bias = _bias(found, groups * outputs, graph)
    geometry = _geometry(found)
    x, made = found.dims_of(found.x), contraction.output
    rowwise = not found.windows
    # A linear layer keeps the axes of its rows; a convolution has its channels second.
    lasts = x[-1:] == (found.inputs,) and made == (*x[:-1], found.outputs) and len(x) > 1
    if layout is None or bias is None or geometry is None or (rowwise and not lasts):
        return None
    depthwise = groups > 1
    if depthwise and (outputs, found.size(found.inputs), len(found.windows)) != (1, 1, 2):
        return None
    matrix = layout.gathered(weight, (found.groups + found.outputs, found.inputs + found.taps))
    return OnnxProduct(
        rowwise, found.x.name, str(node.output[0]), matrix, bias,
        geometry=geometry, depthwise=depthwise, nodes=(node,),
    )  # fmt: skip


def _bias(found: analysis.Product, outputs: int, graph: Wiring) -> Array | None:
    """What is added, as one number for each output; None if it is something else."""
    if not found.contraction.added:
        return np.zeros(outputs, np.float32)
    values = None if found.bias is None else graph.constant(found.bias[0].name)
    return values.reshape(-1) if values is not None and is_vector(values, outputs) else None


def _geometry(found: analysis.Product) -> Geometry | None:
    """Where the taps are; None if that depends on the input, or there are other dimensions."""
    windows = found.windows
    if found.transposed or any(w.same and w.stride > 1 for w in windows):
        return None
    sides = {
        "kernel": [found.sizes[w.tap] for w in windows],
        "stride": [w.stride for w in windows],
        "dilation": [w.dilation for w in windows],
        "begin": [w.before for w in windows],
        "end": [w.after for w in windows],
    }
    if len(windows) == 2 and min(*sides["begin"], *sides["end"]) >= 0:
        return Geometry(**{name: (pair[0], pair[1]) for name, pair in sides.items()})
    plain = {*sides["kernel"], *sides["stride"]} <= {1} and not any(sides["begin"] + sides["end"])
    return POINT if plain else None


def _unflattened(product: OnnxProduct, graph: Wiring) -> OnnxProduct:
    """The product without the reshapes by which exporters make a matrix of more dimensions."""
    if not product.rowwise:
        return product
    before, after = graph.producers.get(product.x), graph.only_reader(product.output)
    if before is None or after is None or {before.op_type, after.op_type} != {"Reshape"}:
        return product
    given, made = graph.shapes.get(before.input[0], ()), graph.shapes.get(after.output[0], ())
    outputs, inputs = product.weight.shape
    known = None not in given and given[-1:] == (inputs,) and made == (*given[:-1], outputs)
    if not known or after.input[0] != product.output:
        return product
    return product.followed_by(after, x=before.input[0], before=before)


def _with_epilogue(product: OnnxProduct, graph: Wiring, taken: set[int]) -> OnnxProduct:
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


def _add(product: OnnxProduct, graph: Wiring) -> OnnxProduct | None:
    node = graph.only_reader(product.output)
    if node is None or node.op_type != "Add" or node.input[0] == node.input[1]:
        return None
    other = _other(node, product.output)
    constant = graph.constant(other)
    if constant is not None:
        along_last = product.rowwise and constant.shape[-1:] == (len(product.bias),)
        if product.added or not along_last or not is_vector(constant, len(product.bias)):
            return None
        return product.followed_by(node, bias=product.bias + constant.reshape(-1))
    shape = graph.shapes.get(product.output)
    # A size that is not known may be one that is broadcast.
    same = shape is not None and None not in shape and graph.shapes.get(other) == shape
    if product.added or product.depthwise or not same:
        return None
    return product.followed_by(node, added=other)


def _unary(product: OnnxProduct, graph: Wiring) -> OnnxProduct | None:
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
    return product.followed_by(node, activation=kind) if kind else None


def _gated(product: OnnxProduct, graph: Wiring) -> OnnxProduct | None:
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
        return product.followed_by(gate, rest, activation="hardswish" if hard else "silu")
    return _erf(product, gate, rest, graph)


def _erf(
    product: OnnxProduct, gate: onnx.NodeProto, rest: onnx.NodeProto, graph: Wiring
) -> OnnxProduct | None:
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
    return product.followed_by(gate, *chain, activation="gelu")


def _chain(node: onnx.NodeProto, graph: Wiring, kinds: tuple[str, ...]) -> Iterator[onnx.NodeProto]:
    """The nodes that follow one after the other."""
    for kind in kinds:
        follower = graph.only_reader(node.output[0])
        if follower is None or follower.op_type != kind:
            return
        yield follower
        node = follower


_STEPS = (_add, _unary, _gated)
