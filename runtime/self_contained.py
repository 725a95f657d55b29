"""ONNX models that refer to no other file.

A tensor may name a file, or even an address in memory, where its data is. ONNX Runtime follows some
of these names, which of them differs between versions; an artifact may hold none.
"""

from __future__ import annotations

from typing import Final

from .errors import ArtifactError

# Of onnx.proto: which fields of a message lead to tensors, and to which message.
PATHS: Final = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto",
        22: "SparseTensorProto", 23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}  # fmt: skip
EXTERNAL_DATA, DATA_LOCATION = 13, 14

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_self_contained(model: bytes, where: str) -> None:
    """Check that all tensors of a serialized ONNX model are within it.

    Raises:
        ArtifactError: naming `where`, if one is elsewhere, or the bytes are no such model.
    """
    pending = [("ModelProto", 0, len(model))]
    try:
        while pending:
            message, position, end = pending.pop()
            while position < end:
                key, position = _varint(model, position, end)
                if key >= 2**32:
                    raise ValueError(f"key {key}")  # some parsers drop the bits above
                number, wire = key >> 3, key & 7
                value, position = _skip(model, position, end, wire)
                if message == "TensorProto" and (
                    number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)
                ):
                    raise ArtifactError(
                        "a tensor of the model is outside the artifact",
                        where=where,
                        hint="save the model with its data inside, and compile it again",
                    )
                inner = PATHS[message].get(number)
                if inner and wire == _BYTES:
                    pending.append((inner, position - value, position))
    except ValueError as error:
        raise ArtifactError(f"the member is no ONNX model: {error}", where=where) from error


def _skip(data: bytes, position: int, end: int, wire: int) -> tuple[int, int]:
    """The number of a field, or the length of its bytes, and the position after it."""
    if wire == _VARINT:
        return _varint(data, position, end)
    if wire == _BYTES:
        length, position = _varint(data, position, end)
    elif wire in (_FIXED32, _FIXED64):
        length = 4 if wire == _FIXED32 else 8
    else:
        raise ValueError(f"wire type {wire}")
    if length > end - position:
        raise ValueError("it is truncated")
    return length, position + length


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : min(end, position + 10)]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("it is truncated")
