"""What stands in the attributes of an ONNX node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from autoprune.ir.graph import Argument


def constant_of(node: onnx.NodeProto) -> NDArray[Any] | None:
    """The tensor of a Constant node; None if it is sparse or text."""
    for a in node.attribute:
        if a.name == "value":
            return numpy_helper.to_array(a.t)
        if a.name in ("value_float", "value_floats"):
            return np.array(helper.get_attribute_value(a), dtype=np.float32)
        if a.name in ("value_int", "value_ints"):
            return np.array(helper.get_attribute_value(a), dtype=np.int64)
    return None


def fill_of(node: onnx.NodeProto) -> NDArray[Any]:
    """The number a ConstantOfShape node fills with, shape [1]."""
    for a in node.attribute:
        if a.name == "value":
            return numpy_helper.to_array(a.t).reshape(1)
    return np.zeros(1, dtype=np.float32)


def read_attribute(a: onnx.AttributeProto) -> Any:
    """The value of an attribute: text, numbers, lists of them or an array; None for a graph."""
    if a.type == onnx.AttributeProto.TENSOR:
        return numpy_helper.to_array(a.t)
    if a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        return None
    value = helper.get_attribute_value(a)
    if isinstance(value, list):
        return [_text(v) for v in value]
    return _text(value)


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


PLAIN = {
    onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT, onnx.AttributeProto.STRING,
    onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS, onnx.AttributeProto.STRINGS,
    onnx.AttributeProto.TENSOR,
}  # fmt: skip
"""Kinds of attributes that are arguments."""


def plain(value: Any) -> Argument:
    """Arrays, lists and numpy numbers as plain numbers and tuples."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(plain(v) for v in value)
    return value  # type: ignore[no-any-return]
