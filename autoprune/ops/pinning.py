"""Operators that mix the positions of an axis in a way no cut can follow: that axis is pinned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autoprune.ir.graph import Value
from autoprune.ops.rule import Operator, any_state
from autoprune.ops.views import Call, Shape, State, Typing, Zeroing

Dims = Callable[[Call], Iterable[int]]


def pin_dims(call: Typing, shape: Shape, dims: Iterable[int], reason: str) -> None:
    """Pin these dimensions of a value."""
    for dim in dims:
        call.pin(shape[dim], reason)


def pin_tensors(call: Typing, reason: str, *tensors: Value | str) -> None:
    """Pin all dimensions of values, or of the arguments of these names that are tensors."""
    for tensor in tensors:
        value = call.value(tensor) if isinstance(tensor, str) else tensor
        if value is not None:
            pin_dims(call, call.axes_of(value), range(len(value.shape)), reason)


def fixed_shape(call: Typing, shape: Sequence[int], reason: str) -> Shape:
    """New axes of these sizes, none of which can be cut."""
    return tuple(call.fixed(n, reason) for n in shape)


def line_up(call: Typing, shape: Shape, other: Shape, dims: Iterable[int], reason: str) -> None:
    """State that two tensors have the same axes, but in `dims` and where one is shorter.

    Those are pinned.
    """
    apart = {d % len(shape) for d in dims} if shape else set[int]()
    for i, (a, b) in enumerate(zip(shape, other, strict=True)):
        if i in apart or a.size != b.size:
            call.pin(a, reason)
            call.pin(b, reason)
        else:
            call.same(a, b)


def mixed_axes(call: Typing, dims: Iterable[int], reason: str, made: str = "") -> list[Shape]:
    """Outputs with the axes of the first tensor, but for those of `dims`, which are mixed.

    Other tensors are pinned.

    Args:
        call: the call.
        dims: the dimensions.
        reason: why they are pinned.
        made: why what becomes of them is, if it is of another size.
    """
    first, *others = call.tensors
    source = call.axes_of(first)
    mixed = {d % len(source) for d in dims} if source else set[int]()
    pin_dims(call, source, mixed, reason)
    pin_tensors(call, reason, *others)
    return [
        tuple(
            call.fixed(n, made or reason) if i in mixed and n != axis.size else axis
            for i, (axis, n) in enumerate(zip(source, value.shape, strict=True))
        )
        for value in call.node.outputs
    ]


def mixing(
    dims: Dims, reason: str, zero: Callable[[Zeroing], State], made: str = "", **traits: Any
) -> Operator:
    """An operator that keeps the rank of its first tensor and mixes the positions of `dims`."""
    return Operator(
        axes=lambda call: mixed_axes(call, dims(call), reason, made), zero=zero, **traits
    )


def pinning(reason: str, zero: Callable[[Zeroing], State] = any_state, **traits: Any) -> Operator:
    """An operator through which no axis can be followed."""

    def axes(call: Typing) -> list[Shape]:
        pin_tensors(call, reason, *call.tensors)
        return [fixed_shape(call, v.shape, reason) for v in call.node.outputs]

    return Operator(axes=axes, zero=zero, **traits)


def one_dim(call: Call) -> tuple[int]:
    """The dimension an argument names, the last one where there is none."""
    return (call.integer("dim", -1),)


def named_dims(call: Call, name: str = "dim") -> tuple[int, ...]:
    """The dimensions an argument names, all of them where it names none."""
    rank = len(call.tensors[0].shape)
    if call.get(name) is None:
        return tuple(range(rank))
    return tuple(d % rank for d in call.integers(name)) if rank else ()
