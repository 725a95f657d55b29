"""ONNX models beyond the 2 GB that one protobuf message can be written as.

Such a message may exist in memory, but protobuf also refuses to measure and to copy it as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import prod
from typing import Any, BinaryIO

import onnx
from onnx import TensorProto, helper

PROTOBUF_LIMIT = 2**31 - 2**20
"""Bytes that one protobuf message can hold, with room for what is not counted."""

MAPPED_FROM = 2**25
"""Bytes of tensors from which a session reads them from a file, which takes no memory twice."""

EXTERNAL_FROM = 1024
"""Bytes from which a tensor is moved out of the graph."""


def fits_one_message(model: onnx.ModelProto) -> bool:
    """Whether a model can be serialized."""
    graph = model.graph
    rest = (*graph.node, *graph.value_info, *model.functions, *graph.sparse_initializer)
    return bytes_of_tensors(model) + sum(int(part.ByteSize()) for part in rest) < PROTOBUF_LIMIT


def bytes_of_tensors(model: onnx.ModelProto) -> int:
    """Size of the initializers of a model."""
    return sum(map(_bytes, model.graph.initializer))


def _bytes(tensor: TensorProto) -> int:
    """Size of a tensor without looking at it; twice what it is where a byte holds two numbers."""
    if tensor.data_type in (TensorProto.UNDEFINED, TensorProto.STRING):
        return int(tensor.ByteSize())
    return int(prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def copied(model: onnx.ModelProto, without: Collection[int] = ()) -> onnx.ModelProto:
    """A copy of a model of any size.

    Args:
        model: the model.
        without: positions of initializers that come without their numbers, as others are about to
            be written; protobuf would keep the memory of both.
    """

    def copy_tensor(new: TensorProto, position: int, tensor: TensorProto) -> None:
        if position in without:
            new.name, new.doc_string = tensor.name, tensor.doc_string
            new.data_type = tensor.data_type
        else:
            copy_fields(new, tensor)

    return _copied(model, copy_tensor)


def write_external(model: onnx.ModelProto, graph: BinaryIO, tensors: BinaryIO, data: str) -> None:
    """Write a model whose large tensors go into a file of their own.

    Args:
        model: the model; it is not changed.
        graph: file for the graph, and for small tensors.
        tensors: file for large tensors; nothing is written to it if there are none.
        data: the name that `tensors` will have, in the folder of the graph.
    """

    def move_tensor(new: TensorProto, _: int, tensor: TensorProto) -> None:
        if not tensor.HasField("raw_data") or _bytes(tensor) < EXTERNAL_FROM:
            copy_fields(new, tensor)
            return
        start = tensors.tell()
        place = {"location": data, "offset": start, "length": tensors.write(tensor.raw_data)}
        new.name, new.doc_string = tensor.name, tensor.doc_string
        new.data_type, new.data_location = tensor.data_type, TensorProto.EXTERNAL
        new.dims.extend(tensor.dims)
        for key, value in place.items():
            new.external_data.add(key=key, value=str(value))

    graph.write(_copied(model, move_tensor).SerializeToString())


def _copied(
    model: onnx.ModelProto, copy_tensor: Callable[[TensorProto, int, TensorProto], None]
) -> onnx.ModelProto:
    """A copy made part by part, where a function is given each initializer to fill in."""
    copy = onnx.ModelProto()
    copy_fields(copy, model, apart="graph")
    copy_fields(copy.graph, model.graph, apart="initializer")
    for position, tensor in enumerate(model.graph.initializer):
        copy_tensor(copy.graph.initializer.add(), position, tensor)
    return copy


def copy_fields(target: Any, source: Any, *, apart: str = "") -> None:
    """Copy what is set, one field after the other, but for one field."""
    for field, value in source.ListFields():
        if field.name == apart:
            continue
        if hasattr(value, "ListFields"):
            getattr(target, field.name).CopyFrom(value)
        elif hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        else:
            setattr(target, field.name, value)
