"""The tensors of an ONNX model: cut, or with units set to zero."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from autoprune.analysis.guarantees import Spared, trained_masks
from autoprune.analysis.typing import TypedGraph
from autoprune.frameworks.onnx.attributes import constant_of, fill_of
from autoprune.frameworks.onnx.large import copied, copy_fields
from autoprune.frameworks.onnx.parameters import QUANTIZED
from autoprune.frameworks.onnx.trace import Owner, TracedOnnx, reads
from autoprune.ir.graph import Argument
from autoprune.ir.positions import Kept, cut_array

Array = NDArray[Any]


def read_tensor(traced: TracedOnnx, name: str) -> Array:
    """A tensor of the model, or a number that is known before it runs."""
    owner, seen = traced.owners.get(name), traced.numbers.seen[name]
    array = seen.array
    if owner is not None and owner.kind == "initializer":
        array = numpy_helper.to_array(traced.model.graph.initializer[owner.position])
    elif owner is not None:
        node = traced.model.graph.node[owner.position]
        filled = owner.kind == "filled"
        array = np.broadcast_to(fill_of(node), seen.shape) if filled else constant_of(node)
    assert array is not None, name
    return array


def weight(traced: TracedOnnx, name: str) -> Array:
    """A trained tensor in floating point."""
    array = read_tensor(traced, name)
    if array.dtype.kind in "iu":
        zero = _zero_point(traced, name, array)
        scale = _of_quantization(traced, name, array, "scale", np.ones((), np.float32))
        return (array.astype(np.float32) - zero) * scale
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def cut_tensors(traced: TracedOnnx, typed: TypedGraph, kept: Kept) -> onnx.ModelProto:
    """A copy of the model in which the tensors are cut, and nothing else.

    Filled tensors are left alone: their shape is an argument like others.
    """
    changed = [
        name
        for name in traced.graph.parameter_of
        if not typed.uids[name].isdisjoint(kept)
        and name in traced.owners
        and traced.owners[name].kind != "filled"
    ]
    return with_tensors(
        traced, changed, lambda name: cut_array(read_tensor(traced, name), typed.types[name], kept)
    )


def with_tensors(
    traced: TracedOnnx, names: Collection[str], new: Callable[[str], Array]
) -> onnx.ModelProto:
    """A copy of the model with other tensors of these names."""
    owners = {name: traced.owners[name] for name in names}
    rewritten = {o.position for o in owners.values() if o.kind == "initializer"}
    model = copied(traced.model, rewritten)
    for name, owner in owners.items():
        write_tensor(model, owner, new(name))
    return model


def zeroed_model(
    traced: TracedOnnx, typed: TypedGraph, kept: Kept, spared: Spared = MappingProxyType({})
) -> onnx.ModelProto:
    """The model with every position that does not stay set to zero in the trained tensors.

    The zero of an integer weight is its zero point.
    """
    changed = {p.value.name: masks for p, masks in trained_masks(typed, kept, spared)}

    def zeroed(name: str) -> Array:
        array = read_tensor(traced, name)
        zero = _zero_point(traced, name, array)
        for mask in changed[name]:
            array = np.where(mask, array, zero)
        return array

    return with_tensors(traced, changed, zeroed)


def _zero_point(traced: TracedOnnx, name: str, array: Array) -> Array:
    """What stands for zero at each position of a tensor, in its shape and dtype."""
    return _of_quantization(traced, name, array, "zero_point", np.zeros((), array.dtype))


def _of_quantization(
    traced: TracedOnnx,
    name: str,
    array: Array,
    which: Literal["scale", "zero_point"],
    default: Array,
) -> Array:
    """Scale or zero point of integers that stand for fractions, at each of their positions."""
    for node in traced.graph.nodes if array.dtype.kind in "iuV" else ():
        if node.name not in traced.positions or all(v.name != name for v in node.inputs):
            continue
        proto = traced.model.graph.node[traced.positions[node.name]]
        for quantized in QUANTIZED.get(proto.op_type, ()):
            if list(proto.input)[quantized.weight : quantized.weight + 1] != [name]:
                continue
            at = getattr(quantized, which)
            if at is not None and len(proto.input) > at and proto.input[at] in traced.owners:
                found = read_tensor(traced, proto.input[at])
                dim = node.arguments.get("dim") if quantized.dim is None else quantized.dim
                return np.broadcast_to(_along(found, array, dim), array.shape)
    return np.broadcast_to(default, array.shape)


def _along(numbers: Array, array: Array, dim: Argument) -> Array:
    """One number in all, one for each position of a dimension, or one for each block of it."""
    if numbers.size == 1:
        return numbers.reshape(())
    if numbers.ndim == 1 and array.ndim and isinstance(dim, int):
        shape = [-1 if i == dim % array.ndim else 1 for i in range(array.ndim)]
        return numbers.reshape(shape)
    for i, (n, m) in enumerate(zip(numbers.shape, array.shape, strict=False)):
        if numbers.ndim == array.ndim and n != m:
            numbers = numbers.repeat(-(-m // n), axis=i).take(range(m), axis=i)
    return numbers


def write_tensor(model: onnx.ModelProto, owner: Owner, array: Array) -> None:
    """Put an array where a tensor was; a filled one becomes a constant."""
    if owner.kind == "initializer":
        tensor = model.graph.initializer[owner.position]
        new = numpy_helper.from_array(array, tensor.name)
        new.data_type, new.doc_string = tensor.data_type, tensor.doc_string
        tensor.Clear()
        copy_fields(tensor, new)
        return
    node = model.graph.node[owner.position]
    if owner.kind == "filled":
        node.op_type = "Constant"
        del node.input[:]
    attribute = helper.make_attribute("value", numpy_helper.from_array(array))
    del node.attribute[:]
    node.attribute.append(attribute)


def readers_of(graph: onnx.GraphProto) -> Iterator[str]:
    """The name of a value for every time it is read, also by subgraphs or as an output."""
    for node in graph.node:
        yield from reads(node)
    yield from (o.name for o in graph.output)


class Additions:
    """Names and constants that a graph gets while it is rewritten.

    Args:
        graph: to which constants are added.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._names = {n for node in graph.node for n in (*node.input, *node.output, node.name)}
        self._names.update(part.name for part in (*graph.initializer, *graph.input))

    def name(self, old: str) -> str:
        """A name derived from another one, which nothing has."""
        number, new = 0, f"{old}.cut"
        while new in self._names:
            number += 1
            new = f"{old}.cut{number}"
        self._names.add(new)
        return new

    def constant(self, old: str, array: Array) -> str:
        """Add a constant; its name is derived from another one."""
        new = self.name(old)
        self._graph.initializer.append(numpy_helper.from_array(array, new))
        return new

    def node(self, op: str, inputs: Sequence[str], old: str, **attributes: Any) -> onnx.NodeProto:
        """A node, still to be put somewhere, whose one output has its name."""
        new = self.name(old)
        return helper.make_node(op, inputs, [new], name=new, **attributes)
