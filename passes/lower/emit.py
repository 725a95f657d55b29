"""Replacing nodes by operators of the domain `autoprune`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import onnx
from onnx import helper, numpy_helper

from autoprune.passes.kernels.kernel import Kernel, Steps
from autoprune.passes.lower.fuse import Fusion, Region, gap_of, shared
from autoprune.passes.lower.onnx_graph import Array

DOMAIN = "autoprune"

MOST_OUTPUTS = 8
"""Of one operator, as in linear.c."""

PlaceOf = Callable[[Kernel], int]
"""Where a kernel is in the library."""


def with_sparse_operators(
    model: onnx.ModelProto,
    regions: Sequence[Region],
    place_of: PlaceOf,
    steps: Steps = MappingProxyType({}),
) -> onnx.ModelProto:
    """A copy of a model in which every fusion is an operator of the domain `autoprune`.

    Args:
        model: the model; it is not changed.
        regions: the fusions.
        place_of: where their kernels are.
        steps: what the bytes of the values stand for that fusions read and make in bytes.
    """
    fusions = {fusion.output: (fusion, gap_of(region)) for region in regions for fusion in region}
    gone = {node.output[0] for fusion, _ in fusions.values() for node in fusion.nodes}
    rest = [node for node in model.graph.node if not node.output or node.output[0] not in gone]
    flat = {name for node in rest for name in node.input}
    flat |= {value.name for value in model.graph.output}
    flat |= set(_read_flat(fusions.values()))
    emitter = _Emitter(place_of, steps, flat)
    siblings = _siblings([fusion for fusion, _ in fusions.values()])
    for node in model.graph.node:
        name = node.output[0] if node.output else ""
        if name in siblings:
            emitter.join(siblings[name])
        elif name in fusions:
            emitter.replace(*fusions[name])
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


def _read_flat(fusions: Collection[tuple[Fusion, int]]) -> Iterator[str]:
    """Values that fusions read as they are, or turn into something else."""
    in_bytes = {fusion.output for fusion, _ in fusions if fusion.bytes}
    for fusion, gap in fusions:
        for name in fusion.inputs:
            if fusion.bytes or (gap and fusion.padded):
                # What is turned into bytes, or back.
                if (name in in_bytes) != fusion.bytes:
                    yield name
            else:
                yield name


def _siblings(fusions: Sequence[Fusion]) -> dict[str, list[Fusion]]:
    """Linear layers of one input that run as one operator, by the output of each.

    Their input is read, and rounded, once.
    """
    found: dict[object, list[Fusion]] = {}
    for fusion in fusions:
        if (common := shared(fusion)) is not None:
            found.setdefault(common, []).append(fusion)
    together = (
        group[at : at + MOST_OUTPUTS]
        for group in found.values()
        for at in range(0, len(group), MOST_OUTPUTS)
    )
    return {fusion.output: group for group in together if len(group) > 1 for fusion in group}


@dataclass
class _Emitter:
    """Nodes in the order in which they run.

    Attributes:
        place_of: places in the library.
        steps: what bytes stand for.
        flat: values that are read without a gap between rows.
        nodes: so far.
        tensors: constants of the operators, by name.
        padded: values that are there with a gap, and its size.
        rounded: values that are there in bytes.
        joined: outputs of operators that have several.
    """

    place_of: PlaceOf
    steps: Steps
    flat: set[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)
    padded: set[tuple[str, int]] = field(default_factory=set)
    rounded: set[str] = field(default_factory=set)
    joined: set[str] = field(default_factory=set)

    def join(self, fusions: Sequence[Fusion]) -> None:
        """Append one operator for several linear layers of the same input, if it is not there."""
        outputs = [fusion.output for fusion in fusions]
        if outputs[0] in self.joined:
            return
        self.joined.update(outputs)
        first, products = fusions[0], [fusion.products[0] for fusion in fusions]
        kernel, name = first.kernel, "+".join(product.name for product in products)
        tensors = below_each_other([kernel.encode(p, self.steps) for p in products])
        named = {f"{name}.{key}": array for key, array in tensors.items()}
        ends = np.cumsum([len(product.weight) // kernel.rows for product in products])
        self.tensors |= named | {f"{name}.ends": ends.astype(np.int32)}
        inputs = [first.inputs[0], *named, "", f"{name}.ends"]
        settings = {kernel.slot: self.place_of(kernel)}
        self._append(first.operator, inputs, outputs[0], name, settings, outputs[1:])

    def replace(self, fusion: Fusion, gap: int) -> None:
        """Append the operator of a fusion, and what changes its activations before or after."""
        last = fusion.parts[-1]
        tensors = {
            f"{part.product.name}.{name}": array
            for part in fusion.parts
            for name, array in part.kernel.encode(part.product, self.steps).items()
        }
        self.tensors |= tensors
        settings = {part.kernel.slot: self.place_of(part.kernel) for part in fusion.parts}
        settings |= last.kernel.attributes(last.product, self.steps)
        if fusion.bytes:
            self._replace_bytes(fusion, list(tensors), settings)
            return
        inputs, output = fusion.inputs, fusion.output
        if last.product.depthwise:
            # A depthwise convolution alone copies its input anyway.
            as_it_is = len(fusion.parts) == 1 and (inputs[0], gap) not in self.padded
            settings |= {"gap": gap, "x_gap": 0 if as_it_is else gap}
        if gap and fusion.padded:
            if settings.get("x_gap") != 0:
                inputs = tuple(self._with_gap(name, gap) for name in inputs)
            output = f"{output}.wide{gap}"
            self.padded.add((fusion.output, gap))
        x, *added = inputs
        self._append(fusion.operator, [x, *tensors, *added], output, last.product.name, settings)
        if output != fusion.output and fusion.output in self.flat:
            self._append("Narrow", [output], fusion.output, f"{output}.narrow", {"gap": gap})

    def _replace_bytes(
        self, fusion: Fusion, tensors: Sequence[str], settings: Mapping[str, int]
    ) -> None:
        (part,), output = fusion.parts, f"{fusion.output}.bytes"
        product, place = part.product, self.place_of(part.kernel)
        x, *added = (self._rounded(name, place) for name in fusion.inputs)
        made = output if product.pool is None else f"{product.name}.unpooled"
        self._append(fusion.operator, [x, *tensors, *added], made, product.name, settings)
        if product.pool is not None:
            settings = {**settings, **product.pool.attributes()}
            self._append("QuantizedMaxPool", [made], output, f"{product.name}.pool", settings)
        self.rounded.add(fusion.output)
        if fusion.output in self.flat:
            self._cross("Dequantize", output, fusion.output, fusion.output, place)

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

    def _with_gap(self, name: str, gap: int) -> str:
        """The name of a value with a gap between rows."""
        padded = f"{name}.wide{gap}"
        if (name, gap) not in self.padded:
            self._append("Widen", [name], padded, padded, {"gap": gap})
            self.padded.add((name, gap))
        return padded

    def _append(
        self, kind: str, inputs: Sequence[str], output: str, name: str,
        settings: Mapping[str, int], more_outputs: Sequence[str] = (),
    ) -> None:  # fmt: skip
        outputs = [output, *more_outputs]
        node = helper.make_node(kind, inputs, outputs, name=name, domain=DOMAIN)
        node.attribute.extend(helper.make_attribute(n, value) for n, value in settings.items())
        self.nodes.append(node)


def below_each_other(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The weights of several products as those of one, with more block rows."""
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    lengths = np.concatenate([np.diff(part["offsets"]) for part in parts])
    joined["offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return joined


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
