"""What stands in the attributes of an ONNX node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from autoprune.ir.graph import Argument

_CONSTANTS = {
    "value": None, "value_float": np.float32, "value_floats": np.float32,
    "value_int": np.int64, "value_ints": np.int64,
}  # fmt: skip
"""Dtypes by the attributes that hold the tensor of a Constant node."""


def constant_of(node: onnx.NodeProto) -> NDArray[Any] | None:
    """The tensor of a Constant node; None if it is sparse or text."""
    found = (
        np.array(value, _CONSTANTS[name])
        for name, value in attributes_of(node).items()
        if name in _CONSTANTS
    )
    return next(found, None)


def fill_of(node: onnx.NodeProto) -> NDArray[Any]:
    """The number a ConstantOfShape node fills with, shape [1]."""
    number: NDArray[Any] = attributes_of(node).get("value", np.zeros(1, dtype=np.float32))
    return number.reshape(1)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node: text, numbers, lists of them or arrays; None for graphs."""
    return {a.name: _read(a) for a in node.attribute}


def _read(a: onnx.AttributeProto) -> Any:
    if a.type == onnx.AttributeProto.TENSOR:
        return numpy_helper.to_array(a.t)
    if a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        return None
    value = helper.get_attribute_value(a)
    return [_text(v) for v in value] if isinstance(value, list) else _text(value)


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
