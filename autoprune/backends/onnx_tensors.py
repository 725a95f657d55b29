"""The tensors of an ONNX model: cut, or with units set to zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from autoprune.analysis.typing import TypedGraph
from autoprune.frontends.onnx import Owner, TracedOnnx, constant_of, fill_of, reads
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
            array = array.astype(np.float32) - _zero_point(traced, value.name, array)
        elif array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float32)
        found[value.name] = array
    return found


def cut_tensors(
    model: onnx.ModelProto, traced: TracedOnnx, typed: TypedGraph, kept: Kept
) -> dict[str, tuple[int, ...]]:
    """Cut the tensors of `model`, a copy of the traced one, in place.

    Filled tensors are left alone: their shape is an argument like others.

    Returns:
        The new shape of each tensor that changed, by name.
    """
    changed: dict[str, tuple[int, ...]] = {}
    for parameter in traced.graph.parameters:
        name = parameter.value.name
        axes = typed.types[name]
        if all(axis.uids.isdisjoint(kept) for axis in axes):
            continue
        owner = traced.owners.get(name)
        if owner is None or owner.kind == "filled":
            continue
        array = cut_array(read_tensor(traced.model, owner, parameter.value.shape), axes, kept)
        write_tensor(model, owner, array)
        changed[name] = array.shape
    return changed


Spared = Mapping[str, frozenset[int]]
"""By tensor, the leaves whose removed positions are not set to zero in it."""


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


def _zero_point(traced: TracedOnnx, name: str, array: Array) -> Array:
    """What stands for zero at each position of a tensor, in its shape and dtype."""
    zero = np.zeros((), array.dtype)
    if array.dtype.kind in "iuV":
        for node in traced.graph.nodes:
            used = node.arguments.get("input")
            if node.op == "onnx.DequantizeLinear" and getattr(used, "name", None) == name:
                position = traced.positions[node.name]
                inputs = traced.model.graph.node[position].input
                if len(inputs) > 2 and inputs[2] in traced.owners:
                    owner = traced.owners[inputs[2]]
                    zero = read_tensor(traced.model, owner, ())
                    dim = node.arguments.get("dim")
                    if zero.ndim == 1 and isinstance(dim, int):
                        zero = zero.reshape(
                            [-1 if i == dim % array.ndim else 1 for i in range(array.ndim)]
                        )
                break
    return np.broadcast_to(zero, array.shape)


def write_tensor(model: onnx.ModelProto, owner: Owner, array: Array) -> None:
    """Put an array where a tensor was; a filled one becomes a constant."""
    if owner.kind == "initializer":
        old = model.graph.initializer[owner.position]
        new = numpy_helper.from_array(np.ascontiguousarray(array), old.name)
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
