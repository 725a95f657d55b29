"""Arithmetic on sizes: ONNX operators on arrays of Python numbers instead of tensors.

The numbers may be symbolic sizes of torch.export, so arrays hold objects.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from autoprune.frameworks.onnx.to_torch.writer import (
    SIZES,
    OnnxCall,
    dtype_of,
    writes,
    writes_as,
)

Array = NDArray[Any]


def array_of(numbers: Any) -> Array:
    """Numbers as an array of objects."""
    return np.asarray(numbers, dtype=object)


def list_of(numbers: Any) -> list[Any]:
    """Numbers as a flat list; a lone number is a list of one."""
    flat: list[Any] = array_of(numbers).ravel().tolist()
    return flat


def sizes(x: torch.Tensor, start: int, end: int | None) -> Array:
    """Some sizes of a tensor, shape [end - start]."""
    return array_of(tuple(x.shape)[start:end])


def count(x: torch.Tensor) -> Array:
    """How many elements a tensor has, shape []."""
    return array_of(x.numel())


writes_as("Shape", sizes, "x | start=0 end", SIZES)
writes_as("Size", count, "x", SIZES)


def _quotient(a: Any, b: Any) -> Any:
    """That of integers is rounded towards zero."""
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    return a // b if (a >= 0) == (b > 0) else -(-a // b)


_ARITHMETIC: dict[str, Callable[[Array, Array], Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Pow": operator.pow,
    "Div": np.frompyfunc(_quotient, 2, 1),
}  # fmt: skip


def arithmetic(a: Any, kind: str, b: Any) -> Array:
    """What an operator of ONNX makes of two numbers or arrays of them."""
    return array_of(_ARITHMETIC[kind](array_of(a), array_of(b)))


@writes(" ".join(_ARITHMETIC), SIZES)
def _arithmetic(call: OnnxCall) -> fx.Node:
    return call.emit(arithmetic, call.number(0), call.op, call.number(1))


@writes("Sqrt", SIZES)
def _sqrt(call: OnnxCall) -> fx.Node:
    return call.emit(arithmetic, call.number(0), "Pow", 0.5)


def converted(a: Any, to: int) -> Array:
    """The numbers as floats, or as integers rounded towards zero; `to` is of ONNX."""
    convert = float if dtype_of(to).is_floating_point else _truncated
    return array_of(np.frompyfunc(convert, 1, 1)(array_of(a)))


def _truncated(number: Any) -> Any:
    return int(number) if isinstance(number, float | bool) else number


writes_as("Cast", converted, "a! | to", SIZES)


def reshaped(a: Any, shape: tuple[int, ...]) -> Array:
    """The numbers in another shape."""
    return array_of(a).reshape(shape)


@writes("Unsqueeze Squeeze Identity", SIZES)
def _reshaped(call: OnnxCall) -> fx.Node:
    return call.emit(reshaped, call.number(0), call.writer.shape(call.node.output[0]))


def joined(parts: Any, axis: int) -> Array:
    """The parts one after the other."""
    return np.concatenate([array_of(part) for part in parts], axis)


@writes("Concat", SIZES)
def _concat(call: OnnxCall) -> fx.Node:
    parts = tuple(call.number(i) for i in range(len(call.node.input)))
    return call.emit(joined, parts, call.attribute("axis", 0))


def taken(a: Any, index: Any, axis: int) -> Array:
    """The numbers at some positions."""
    return array_of(np.take(array_of(a), np.asarray(index, dtype=np.int64), axis))


writes_as("Gather", taken, "a! index! | axis=0", SIZES)


def sliced(a: Any, starts: Any, ends: Any, axes: Any, steps: Any) -> Array:
    """A slice."""
    array = array_of(a)
    where = list_of(axes) if axes is not None else range(len(list_of(starts)))
    by = list_of(steps) if steps is not None else [1] * len(list_of(starts))
    key: list[slice] = [slice(None)] * array.ndim
    for axis, start, end, step in zip(where, list_of(starts), list_of(ends), by, strict=True):
        key[axis] = slice(start, end, step)
    return array[tuple(key)]


writes_as("Slice", sliced, "a! starts! ends! axes! steps!", SIZES)


def product(a: Any) -> Array:
    """The product of all numbers, shape []."""
    return array_of(np.multiply.reduce(array_of(a).ravel()))


@writes("ReduceProd", SIZES)
def _product(call: OnnxCall) -> fx.Node:
    if call.rank > 1:
        raise call.unsupported("its numbers have more than one dimension")
    whole = call.emit(product, call.number(0))
    return call.emit(reshaped, whole, call.writer.shape(call.node.output[0]))
