"""Replacing nodes by operators of the domain `autoprune`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import onnx
from onnx import helper, numpy_helper

from autoprune.passes.lower.calibration import Steps
from autoprune.passes.lower.onnx_graph import Array
from autoprune.passes.lower.products import Product
from autoprune.passes.lower.quantized import by_block, encoded, quantized_weights, rounded, sums_of
from autoprune.passes.lower.units import Unit, blocks_with_weights, gap_of, quadruples, shared
from autoprune.passes.sparsify.blocks import Block

DOMAIN = "autoprune"

MOST_OUTPUTS = 8
"""Of one operator, as in linear.c."""

FamilyOf = Callable[[Unit, Product], int]
"""Where the kernels for a part of a unit are in the library."""


def with_sparse_operators(
    model: onnx.ModelProto,
    islands: Sequence[Sequence[Unit]],
    family_of: FamilyOf,
    steps: Steps = MappingProxyType({}),
) -> onnx.ModelProto:
    """A copy of a model in which every unit is an operator of the domain `autoprune`.

    Args:
        model: the model; it is not changed.
        islands: the units.
        family_of: where their kernels are.
        steps: what the bytes of the values stand for that quantized units read and make.
    """
    units = {unit.output: (unit, gap_of(island)) for island in islands for unit in island}
    gone = {node.output[0] for unit, _ in units.values() for node in unit.nodes}
    rest = [node for node in model.graph.node if not node.output or node.output[0] not in gone]
    flat = {name for node in rest for name in node.input}
    flat |= {value.name for value in model.graph.output}
    flat |= set(_read_flat(units.values()))
    emitter = _Emitter(family_of, steps, flat)
    siblings = _siblings([unit for unit, _ in units.values()])
    for node in model.graph.node:
        name = node.output[0] if node.output else ""
        if name in siblings:
            emitter.join(siblings[name])
        elif name in units:
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


def _read_flat(units: Collection[tuple[Unit, int]]) -> Iterator[str]:
    """Values that units read as they are, or turn into something else."""
    quantized = {unit.output for unit, _ in units if unit.quantized}
    for unit, gap in units:
        for name in unit.inputs:
            if unit.quantized or _wide(unit, gap):
                # What is turned into bytes, or back.
                if (name in quantized) != unit.quantized:
                    yield name
            else:
                yield name


def _siblings(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    """Linear layers of one input that run as one operator, by the output of each.

    Their input is read, and rounded, once.
    """
    found: dict[object, list[Unit]] = {}
    for unit in units:
        if (common := shared(unit)) is not None:
            found.setdefault(common, []).append(unit)
    together = (
        group[at : at + MOST_OUTPUTS]
        for group in found.values()
        for at in range(0, len(group), MOST_OUTPUTS)
    )
    return {unit.output: group for group in together if len(group) > 1 for unit in group}


def _wide(unit: Unit, gap: int) -> bool:
    """Whether its activations have a gap between rows."""
    return bool(gap) and unit.spatial


@dataclass
class _Emitter:
    """Nodes in the order in which they run.

    Attributes:
        family_of: places in the library.
        steps: what bytes stand for.
        flat: values that are read without a gap between rows.
        nodes: so far.
        tensors: constants of the operators, by name.
        wide: values that are there with a gap, and its size.
        rounded: values that are there in bytes.
        joined: outputs of operators that have several.
    """

    family_of: FamilyOf
    steps: Steps
    flat: set[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)
    wide: set[tuple[str, int]] = field(default_factory=set)
    rounded: set[str] = field(default_factory=set)
    joined: set[str] = field(default_factory=set)

    def join(self, units: Sequence[Unit]) -> None:
        """Append one operator for several linear layers of the same input, if it is not there."""
        outputs = [unit.output for unit in units]
        if outputs[0] in self.joined:
            return
        self.joined.update(outputs)
        first, parts = units[0], [unit.parts[0] for unit in units]
        name = "+".join(part.name for part in parts)
        tensors = below_each_other([_encoded(unit, unit.parts[0]) for unit in units])
        named = {f"{name}.{key}": array for key, array in tensors.items()}
        ends = np.cumsum([len(part.weight) // first.rows for part in parts])
        self.tensors |= named | {f"{name}.ends": ends.astype(np.int32)}
        inputs = [first.inputs[0], *named, "", f"{name}.ends"]
        settings = {"kernel": self.family_of(first, parts[0])}
        self._append(_kind(first), inputs, outputs[0], name, settings, outputs[1:])

    def replace(self, unit: Unit, gap: int) -> None:
        """Append the operator of a unit, and what changes its activations before it or after."""
        if unit.quantized:
            self._replace_quantized(unit)
            return
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

    def _replace_quantized(self, unit: Unit) -> None:
        (part,), output = unit.parts, f"{unit.output}.bytes"
        place = self.family_of(unit, part)
        tensors, zero = quantized_weights(part, self.steps)
        named = {f"{part.name}.{name}": array for name, array in tensors.items()}
        self.tensors |= named
        x, *added = (self._rounded(name, place) for name in unit.inputs)
        settings = {"kernel": place, "zero": zero, **part.geometry.attributes()}
        kind = "QuantizedDepthwise" if part.depthwise else "QuantizedConv"
        made = output if part.pool is None else f"{part.name}.unpooled"
        self._append(kind, [x, *named, *added], made, part.name, settings)
        if part.pool is not None:
            settings = {"kernel": place, "zero": zero, **part.pool.attributes()}
            self._append("QuantizedMaxPool", [made], output, f"{part.name}.pool", settings)
        self.rounded.add(unit.output)
        if unit.output in self.flat:
            self._cross("Dequantize", output, unit.output, unit.output, place)

    def _rounded(self, name: str, place: int) -> str:
        """The name of a value in bytes."""
        if name not in self.rounded:
            self._cross("Quantize", name, f"{name}.bytes", name, place)
            self.rounded.add(name)
        return f"{name}.bytes"

    def _cross(self, kind: str, given: str, made: str, value: str, place: int) -> None:
        """Append what is between floats and bytes of a value."""
        step = self.steps[value]
        numbers = f"{value}.step"
        self.tensors[numbers] = np.array([step.size, step.zero], np.float32)
        self._append(kind, [given, numbers], made, f"{value}.{kind.lower()}", {"kernel": place})

    def _widened(self, name: str, gap: int) -> str:
        wide = f"{name}.wide{gap}"
        if (name, gap) not in self.wide:
            self._append("Widen", [name], wide, wide, {"gap": gap})
            self.wide.add((name, gap))
        return wide

    def _append(
        self, kind: str, inputs: Sequence[str], output: str, name: str,
        settings: Mapping[str, int], more_outputs: Sequence[str] = (),
    ) -> None:  # fmt: skip
        outputs = [output, *more_outputs]
        node = helper.make_node(kind, inputs, outputs, name=name, domain=DOMAIN)
        node.attribute.extend(helper.make_attribute(n, value) for n, value in settings.items())
        self.nodes.append(node)


def _weights(unit: Unit, family_of: FamilyOf) -> tuple[dict[str, Array], dict[str, int]]:
    """Constants and attributes of the operator of a unit."""
    tensors: dict[str, Array] = {}
    settings: dict[str, int] = {}
    product, depthwise = unit.product, unit.depthwise
    if product is not None:
        settings["kernel"] = family_of(unit, product)
        tensors |= {f"{product.name}.{n}": a for n, a in _encoded(unit, product).items()}
    if depthwise is not None:
        settings["depthwise"] = family_of(unit, depthwise)
        tensors[f"{depthwise.name}.taps"] = np.ascontiguousarray(depthwise.weight)
        tensors[f"{depthwise.name}.shift"] = depthwise.bias.astype(np.float32)
    last = unit.parts[-1]
    if not last.rowwise:
        settings |= last.geometry.attributes()
    return tensors, settings


def below_each_other(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The weights of several products as those of one, with more block rows."""
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    lengths = np.concatenate([np.diff(part["offsets"]) for part in parts])
    joined["offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return joined


def _kind(unit: Unit) -> str:
    if unit.product is None:
        return "DepthwiseConv"
    if unit.scattered:
        return "SparseLinearScattered"
    kind = "SparseLinear" if unit.product.rowwise else "SparseConv"
    return kind + "Depthwise" * (unit.depthwise is not None) + "Int8" * unit.int8


def _encoded(unit: Unit, product: Product) -> dict[str, Array]:
    """The weights of a product, in the order in which its operator takes them."""
    return (_integers if unit.int8 else _floats)(product, unit.rows)


def _floats(product: Product, rows: int) -> dict[str, Array]:
    mask = blocks_with_weights(product.weight, rows)
    arrays = Block(rows, 1).encode(product.weight, mask).arrays
    return {
        "values": arrays["values"].reshape(-1, rows),
        "index": arrays["columns"],
        "offsets": arrays["offsets"],
        "bias": by_block(product.bias, rows),
    }


def _integers(product: Product, rows: int) -> dict[str, Array]:
    """Every output's weights are rounded to multiples of a 127th of the largest of them."""
    whole, scales = rounded(quadruples(product))
    return {
        **encoded(whole, rows),
        "bias": by_block(product.bias, rows),
        "scales": by_block(scales, rows),
        "sums": sums_of(whole, rows),
    }


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
