"""Replacing nodes by operators of the domain `autoprune`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from autoprune.compiler.onnx_graph import Array
from autoprune.compiler.products import Product
from autoprune.compiler.units import INT8_COLUMNS, Unit, blocks_with_weights, gap_of
from autoprune.passes.sparsify.blocks import Block

DOMAIN = "autoprune"

FamilyOf = Callable[[Unit, Product], int]
"""Where the kernels for a part of a unit are in the library."""


def with_sparse_operators(
    model: onnx.ModelProto, islands: Sequence[Sequence[Unit]], family_of: FamilyOf
) -> onnx.ModelProto:
    """A copy of a model in which every unit is an operator of the domain `autoprune`."""
    units = {unit.output: (unit, gap_of(island)) for island in islands for unit in island}
    gone = {node.output[0] for unit, _ in units.values() for node in unit.nodes}
    rest = [node for node in model.graph.node if not node.output or node.output[0] not in gone]
    flat = {name for node in rest for name in node.input}
    flat |= {value.name for value in model.graph.output}
    flat |= {name for unit, gap in units.values() if not _wide(unit, gap) for name in unit.inputs}
    emitter = _Emitter(family_of, flat)
    for node in model.graph.node:
        name = node.output[0] if node.output else ""
        if name in units:
            emitter.replace(*units[name])
        elif name not in gone:
            emitter.nodes.append(node)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.value_info[:]
    result.graph.node.extend(emitter.nodes)
    result.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in emitter.tensors.items()
    )
    drop_unread(result.graph)
    result.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return result


def _wide(unit: Unit, gap: int) -> bool:
    """Whether its activations have a gap between rows."""
    return bool(gap) and unit.spatial


@dataclass
class _Emitter:
    """Nodes in the order in which they run.

    Attributes:
        family_of: places in the library.
        flat: values that are read without a gap between rows.
        nodes: so far.
        tensors: constants of the operators, by name.
        wide: values that are there with a gap, and its size.
    """

    family_of: FamilyOf
    flat: set[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)
    wide: set[tuple[str, int]] = field(default_factory=set)

    def replace(self, unit: Unit, gap: int) -> None:
        """Append the operator of a unit, and what moves rows apart before it or together after."""
        tensors, settings = _weights(unit, self.family_of)
        self.tensors |= tensors
        inputs, output = unit.inputs, unit.output
        if unit.depthwise is not None:
            # A depthwise convolution alone copies its input anyway.
            as_it_is = unit.product is None and (inputs[0], gap) not in self.wide
            settings |= {"gap": gap, "x_gap": 0 if as_it_is else gap}
        if _wide(unit, gap):
            if settings.get("x_gap") != 0:
                inputs = tuple(self._widened(name, gap) for name in inputs)
            output = f"{output}.wide{gap}"
            self.wide.add((unit.output, gap))
        x, *added = inputs
        self._append(_kind(unit), [x, *tensors, *added], output, unit.parts[-1].name, settings)
        if output != unit.output and unit.output in self.flat:
            self._append("Narrow", [output], unit.output, f"{output}.narrow", {"gap": gap})

    def _widened(self, name: str, gap: int) -> str:
        wide = f"{name}.wide{gap}"
        if (name, gap) not in self.wide:
            self._append("Widen", [name], wide, wide, {"gap": gap})
            self.wide.add((name, gap))
        return wide

    def _append(
        self, kind: str, inputs: Sequence[str], output: str, name: str, settings: Mapping[str, int]
    ) -> None:
        node = helper.make_node(kind, inputs, [output], name=name, domain=DOMAIN)
        node.attribute.extend(helper.make_attribute(n, value) for n, value in settings.items())
        self.nodes.append(node)


def _weights(unit: Unit, family_of: FamilyOf) -> tuple[dict[str, Array], dict[str, int]]:
    """Constants and attributes of the operator of a unit."""
    tensors: dict[str, Array] = {}
    settings: dict[str, int] = {}
    product, depthwise = unit.product, unit.depthwise
    if product is not None:
        settings["kernel"] = family_of(unit, product)
        encode = _integers if unit.int8 else _floats
        tensors |= {f"{product.name}.{n}": a for n, a in encode(product, unit.rows).items()}
    if depthwise is not None:
        settings["depthwise"] = family_of(unit, depthwise)
        tensors[f"{depthwise.name}.taps"] = np.ascontiguousarray(depthwise.weight)
        tensors[f"{depthwise.name}.shift"] = depthwise.bias.astype(np.float32)
    last = unit.parts[-1]
    if not last.rowwise:
        settings |= last.geometry.attributes()
    return tensors, settings


def _kind(unit: Unit) -> str:
    if unit.product is None:
        return "DepthwiseConv"
    kind = "SparseLinear" if unit.product.rowwise else "SparseConv"
    return kind + "Depthwise" * (unit.depthwise is not None) + "Int8" * unit.int8


def _floats(product: Product, rows: int) -> dict[str, Array]:
    mask = blocks_with_weights(product.weight, rows)
    arrays = Block(rows, 1).encode(product.weight, mask).arrays
    return {
        "values": arrays["values"].reshape(-1, rows),
        "index": arrays["columns"],
        "offsets": arrays["offsets"],
        "bias": _by_block(product.bias, rows),
    }


def _integers(product: Product, rows: int) -> dict[str, Array]:
    """Every output's weights are rounded to multiples of a 127th of the largest of them."""
    weight = product.weight.astype(np.float64)
    scales = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-30) / 127
    whole = np.round(weight / scales).astype(np.int8)
    # A block in which everything was rounded to zero is not needed any more.
    mask = blocks_with_weights(whole, rows, INT8_COLUMNS)
    arrays = Block(rows, INT8_COLUMNS).encode(whole, mask).arrays
    quadruples = np.ascontiguousarray(arrays["values"].transpose(0, 2, 1))
    return {
        "values": quadruples.view(np.int32).reshape(-1, rows),
        "index": (arrays["columns"] // INT8_COLUMNS).astype(np.int32),
        "offsets": arrays["offsets"],
        "bias": _by_block(product.bias, rows),
        "scales": _by_block(scales, rows),
        "sums": whole.sum(axis=1, dtype=np.int32).reshape(-1, rows),
    }


def _by_block(numbers: Array, rows: int) -> Array:
    return np.ascontiguousarray(numbers.reshape(-1, rows), np.float32)


def drop_unread(graph: onnx.GraphProto) -> None:
    """Forget nodes and constants that nothing reads any more."""
    read = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if not read.isdisjoint(node.output):
            nodes.append(node)
            read |= {*node.input, *_read_inside(node)}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(reversed(nodes))


def _read_inside(node: onnx.NodeProto) -> set[str]:
    """What the subgraphs of a node read, of it and of themselves."""
    graphs = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    inner = [part for graph in graphs for part in graph.node]
    read = {name for part in inner for name in (*part.input, *_read_inside(part))}
    return read | {value.name for graph in graphs for value in graph.output}
