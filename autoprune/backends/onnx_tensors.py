"""The tensors of an ONNX model: cut, or with units set to zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from autoprune.analysis.folding import Spared
from autoprune.analysis.typing import TypedGraph
from autoprune.frontends.onnx import Owner, TracedOnnx, constant_of, fill_of, reads
from autoprune.ir.graph import Argument
from autoprune.ir.positions import Kept, cut_array, kept_masks

Array = NDArray[Any]


def read_tensor(model: onnx.ModelProto, owner: Owner, shape: tuple[int, ...]) -> Array:
    """The tensor at a place of a model; `shape` is that of one filled with a number."""
    if owner.kind == "initializer":
        return numpy_helper.to_array(model.graph.initializer[owner.position])
    node = model.graph.node[owner.position]
    if owner.kind == "filled":
        return np.broadcast_to(fill_of(node), shape)
    array = constant_of(node)
    assert array is not None
    return array


def weights(traced: TracedOnnx) -> dict[str, Array]:
    """The trained tensors in floating point, by value name."""
    found: dict[str, Array] = {}
    for parameter in traced.graph.parameters:
        if parameter.kind != "parameter":
            continue
        value = parameter.value
        array = read_tensor(traced.model, traced.owners[value.name], value.shape)
        if array.dtype.kind in "iu":
            zero = _zero_point(traced, value.name, array)
            one = np.ones((), np.float32)
            scale = _of_quantization(traced, value.name, array, _SCALE, one)
            array = (array.astype(np.float32) - zero) * scale
        elif array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float32)
        found[value.name] = array
    return found


def cut_tensors(model: onnx.ModelProto, traced: TracedOnnx, typed: TypedGraph, kept: Kept) -> None:
    """Cut the tensors of `model`, a copy of the traced one, in place.

    Filled tensors are left alone: their shape is an argument like others.
    """
    for parameter in traced.graph.parameters:
        name = parameter.value.name
        axes = typed.types[name]
        owner = traced.owners.get(name)
        untouched = all(axis.uids.isdisjoint(kept) for axis in axes)
        if untouched or owner is None or owner.kind == "filled":
            continue
        array = read_tensor(traced.model, owner, parameter.value.shape)
        write_tensor(model, owner, cut_array(array, axes, kept))


def zeroed_model(
    traced: TracedOnnx, typed: TypedGraph, kept: Kept, spared: Spared = MappingProxyType({})
) -> onnx.ModelProto:
    """The model with every position that does not stay set to zero in the trained tensors.

    The zero of an integer weight is its zero point.
    """
    model = onnx.ModelProto()
    model.CopyFrom(traced.model)
    for parameter in traced.graph.parameters:
        if parameter.kind != "parameter":
            continue
        name, shape = parameter.value.name, parameter.value.shape
        left = spared.get(name, frozenset())
        masks = list(
            kept_masks(typed.types[name], {u: k for u, k in kept.items() if u not in left})
        )
        if masks:
            array = read_tensor(traced.model, traced.owners[name], shape)
            zero = _zero_point(traced, name, array)
            for mask in masks:
                array = np.where(mask, array, zero)
            write_tensor(model, traced.owners[name], array)
    return model


_SCALE, _ZERO_POINT = 1, 2


def _zero_point(traced: TracedOnnx, name: str, array: Array) -> Array:
    """What stands for zero at each position of a tensor, in its shape and dtype."""
    return _of_quantization(traced, name, array, _ZERO_POINT, np.zeros((), array.dtype))


def _of_quantization(
    traced: TracedOnnx, name: str, array: Array, which: int, default: Array
) -> Array:
    """Scale or zero point of a tensor that is dequantized, at each of its positions."""
    found = default
    for node in traced.graph.nodes if array.dtype.kind in "iuV" else ():
        used = node.arguments.get("input")
        if node.op == "onnx.DequantizeLinear" and getattr(used, "name", None) == name:
            inputs = traced.model.graph.node[traced.positions[node.name]].input
            if len(inputs) > which and inputs[which] in traced.owners:
                found = read_tensor(traced.model, traced.owners[inputs[which]], ())
                found = _along(found, array, node.arguments.get("dim"))
            break
    return np.broadcast_to(found, array.shape)


def _along(numbers: Array, array: Array, dim: Argument) -> Array:
    """One number in all, one for each position of a dimension, or one for each block of it."""
    if numbers.ndim == 1 and isinstance(dim, int):
        shape = [-1 if i == dim % array.ndim else 1 for i in range(array.ndim)]
        return numbers.reshape(shape)
    for i, (n, m) in enumerate(zip(numbers.shape, array.shape, strict=False)):
        if numbers.ndim == array.ndim and n != m:
            numbers = numbers.repeat(-(-m // n), axis=i).take(range(m), axis=i)
    return numbers


def write_tensor(model: onnx.ModelProto, owner: Owner, array: Array) -> None:
    """Put an array where a tensor was; a filled one becomes a constant."""
    if owner.kind == "initializer":
        old = model.graph.initializer[owner.position]
        new = numpy_helper.from_array(array, old.name)
        new.data_type = old.data_type
        new.doc_string = old.doc_string
        old.CopyFrom(new)
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


def fresh_names(graph: onnx.GraphProto) -> Callable[[str], str]:
    """A function that gives names derived from others, none of them twice or in the graph."""
    names = {n for node in graph.node for n in (*node.input, *node.output, node.name)}
    names.update(t.name for t in graph.initializer)
    names.update(i.name for i in graph.input)

    def fresh(name: str) -> str:
        number, new = 0, f"{name}.cut"
        while new in names:
            number += 1
            new = f"{name}.cut{number}"
        names.add(new)
        return new

    return fresh
